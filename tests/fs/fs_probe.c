/*
 * What the library finds in a disk, for the tests of tests/fs.
 *
 *   fs_probe FILE              the layout, as JSON
 *   fs_probe --ranges FILE     and every free range
 *   fs_probe --junk FILE       and writes bytes of no meaning over every free range of every volume
 *   fs_probe --own ...         with the library's own readers only
 */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/vhdx.h>

#include "../../tools/vhdx/readers.h"

struct run {
    struct vhdx_disk *disk;
    bool              shows_ranges, writes_junk;
    bool              is_first;
    unsigned char     junk[1 << 20];
};

static void
print_text(const char *name, const char *text)
{
    printf("\"%s\": \"", name);
    for (; *text != '\0'; text++)
        printf(*text == '"' || *text == '\\' ? "\\%c" : "%c", *text);
    printf("\", ");
}

static int
take_range(void *context, uint64_t guest_offset, uint64_t length)
{
    struct run *run = context;

    if (run->shows_ranges)
        printf("%s[%" PRIu64 ", %" PRIu64 "]", run->is_first ? "" : ", ", guest_offset, length);
    run->is_first = false;
    while (run->writes_junk && length > 0) {
        size_t step = length < sizeof run->junk ? (size_t)length : sizeof run->junk;

        if (vhdx_disk_write(run->disk, run->junk, step, guest_offset, NULL) < 0)
            return -1;
        guest_offset += step;
        length -= step;
    }
    return 0;
}

static int
print_volume(struct run *run, struct vhdx_layout *layout, size_t index, struct vhdx_error *err)
{
    const struct vhdx_volume *volume = vhdx_layout_volume(layout, index);
    int rc;

    printf("%s{\"number\": %u, \"offset\": %" PRIu64 ", \"length\": %" PRIu64 ", \"free\": %" PRIu64 ", ",
           index == 0 ? "" : ", ", volume->number, volume->guest_offset, volume->length, volume->free_bytes);
    print_text("kind", volume->kind);
    print_text("label", volume->label);
    print_text("verdict", vhdx_verdict_name(volume->verdict));
    print_text("reason", volume->reason);
    print_text("cure", volume->cure);
    printf("\"ranges\": [");
    run->is_first = true;
    rc = vhdx_layout_walk_free(layout, index, take_range, run, err);
    printf("]}");
    return rc;
}

static int
print_layout(struct run *run, struct vhdx_layout *layout, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = vhdx_layout_get_info(layout);
    struct vhdx_error refusal = { .message = "" };
    int rc = 0;

    printf("{");
    print_text("table", vhdx_partition_table_name(info->table));
    print_text("verdict", vhdx_verdict_name(info->verdict));
    print_text("reason", info->reason);
    print_text("cure", info->cure);
    vhdx_layout_refusal(layout, &refusal);
    print_text("refusal", refusal.message);
    printf("\"backup-is-good\": %s, \"backup-is-last\": %s, \"minimum-size\": %" PRIu64 ", \"sector-size\": %u, \"volumes\": [",
           info->backup_is_good ? "true" : "false", info->backup_is_last ? "true" : "false", info->minimum_size,
           (unsigned)info->sector_size);
    for (size_t i = 0; rc == 0 && i < vhdx_layout_volume_count(layout); i++)
        rc = print_volume(run, layout, i, err);
    printf("]}\n");
    return rc;
}

static int
probe_disk(struct run *run, const struct vhdx_layout_options *options, struct vhdx_error *err)
{
    struct vhdx_layout *layout;
    int rc = vhdx_layout_open(&layout, run->disk, options, err);

    if (rc < 0)
        return rc;
    rc = print_layout(run, layout, err);
    vhdx_layout_close(layout);
    return rc;
}

/* A file that is no VHDX is taken as a raw disk. */
static int
open_disk(struct vhdx_disk **out, const char *path, bool for_writing, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .flags = for_writing ? VHDX_OPEN_WRITE : 0 };
    int rc = vhdx_disk_open_path(out, path, &options, err);

    if (rc != VHDX_E_NOT_VHDX)
        return rc;
    options.format = VHDX_FORMAT_RAW;
    return vhdx_disk_open_path(out, path, &options, err);
}

int
main(int argc, char **argv)
{
    static struct run run;
    const struct vhdx_fs_reader *readers[MAX_READERS];
    struct vhdx_layout_options options = { .readers = readers };
    struct vhdx_error err = { .message = "" };
    bool own_only = false;
    int rc, at = 1;

    for (; at < argc - 1; at++) {
        run.shows_ranges = run.shows_ranges || strcmp(argv[at], "--ranges") == 0;
        run.writes_junk = run.writes_junk || strcmp(argv[at], "--junk") == 0;
        own_only = own_only || strcmp(argv[at], "--own") == 0;
    }
    if (at >= argc)
        return 2;
    for (size_t i = 0; i < sizeof run.junk; i++)
        run.junk[i] = (unsigned char)(1 + i * 2654435761u % 255);
    options.reader_count = own_only ? 0 : load_readers(readers);
    rc = open_disk(&run.disk, argv[at], run.writes_junk, &err);
    if (rc == 0) {
        rc = probe_disk(&run, &options, &err);
        if (vhdx_disk_close(run.disk, NULL) < 0)
            rc = -1;
    }
    if (rc != 0)
        fprintf(stderr, "%s\n", err.message);
    return rc == 0 ? 0 : 1;
}
