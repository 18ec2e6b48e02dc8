/* vhdx map: where the bytes of the disk lie, through the chain; with --parents=none in its own file alone. */
#include <inttypes.h>
#include <stdio.h>

#include <vhdx/disk.h>

#include "json.h"
#include "message.h"
#include "text.h"
#include "verbs.h"

#define EXTENTS_AT_ONCE 512

static struct json_object *
make_element(const struct vhdx_extent *extent)
{
    struct json_object *element = need_memory(json_object_new_object());
    bool is_data = (extent->flags & VHDX_EXTENT_DATA) != 0;

    json_add_number(element, "start", extent->guest_offset);
    json_add_number(element, "length", extent->length);
    json_add_number(element, "depth", extent->depth);
    json_add_bool(element, "present", (extent->flags & VHDX_EXTENT_PRESENT) != 0);
    json_add_bool(element, "zero", (extent->flags & VHDX_EXTENT_ZERO) != 0);
    json_add_bool(element, "data", is_data);
    if (is_data)
        json_add_number(element, "offset", extent->file_offset);
    return element;
}

/* Where extents go, in order; pieces that the library had to cut because its array was full are joined again. */
struct printer {
    struct vhdx_disk  *disk;
    bool               is_json;
    struct json_list   list;
    struct vhdx_extent pending;
};

static const char *
kind_name(const struct vhdx_extent *extent)
{
    if ((extent->flags & VHDX_EXTENT_DATA) != 0)
        return "data";
    if ((extent->flags & VHDX_EXTENT_PRESENT) != 0)
        return "zero";
    return (extent->flags & VHDX_EXTENT_ZERO) != 0 ? "unallocated" : "parent";
}

static void
print_row(const struct printer *printer, const struct vhdx_extent *extent)
{
    printf("0x%-15" PRIx64 " 0x%-15" PRIx64 " %-12s", extent->guest_offset, extent->length, kind_name(extent));
    if ((extent->flags & VHDX_EXTENT_DATA) != 0) {
        printf(" 0x%-15" PRIx64 " ", extent->file_offset);
        text_print(stdout, vhdx_disk_layer_name(printer->disk, extent->depth));
    }
    putchar('\n');
}

static void
print_pending(struct printer *printer)
{
    if (printer->pending.length == 0)
        return;
    if (printer->is_json)
        json_list_add(&printer->list, make_element(&printer->pending));
    else
        print_row(printer, &printer->pending);
}

static bool
continues(const struct vhdx_extent *first, const struct vhdx_extent *second)
{
    if (first->depth != second->depth || first->flags != second->flags)
        return false;
    return (first->flags & VHDX_EXTENT_DATA) == 0 || first->file_offset + first->length == second->file_offset;
}

static void
take_extent(struct printer *printer, const struct vhdx_extent *extent)
{
    if (printer->pending.length > 0 && continues(&printer->pending, extent)) {
        printer->pending.length += extent->length;
        return;
    }
    print_pending(printer);
    printer->pending = *extent;
}

/* A VHDX shows how its blocks lie; a raw file has no blocks, so there the host's holes are shown. */
static int
walk(struct printer *printer, bool is_raw, struct vhdx_error *err)
{
    struct vhdx_extent extents[EXTENTS_AT_ONCE];
    uint64_t size = vhdx_disk_size(printer->disk), guest_offset = 0;
    int (*resolve)(struct vhdx_disk *, uint64_t, uint64_t, struct vhdx_extent *, size_t, size_t *,
                   struct vhdx_error *) = is_raw ? vhdx_disk_resolve_sparse : vhdx_disk_resolve;

    while (guest_offset < size) {
        size_t count;
        int rc;

        rc = resolve(printer->disk, guest_offset, size - guest_offset, extents, EXTENTS_AT_ONCE, &count, err);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++)
            take_extent(printer, &extents[i]);
        guest_offset = extents[count - 1].guest_offset + extents[count - 1].length;
    }
    print_pending(printer);
    return VHDX_OK;
}

static int
print_map(struct printer *printer, bool is_raw, const char *path, struct vhdx_error *err)
{
    int rc;

    if (printer->is_json)
        json_list_begin(&printer->list, true, true);
    else
        printf("%-17s %-17s %-12s %-17s %s\n", "Offset", "Length", "Kind", "Mapped to", "File");
    rc = walk(printer, is_raw, err);
    if (!printer->is_json)
        return rc;
    if (rc < 0) /* what was printed cannot be taken back: the error is the array's last element */
        json_list_add(&printer->list, json_failure(path, err));
    json_list_end(&printer->list);
    return rc;
}

static int
run_map(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_open_options open_options;
    struct printer printer = { 0 };
    struct vhdx_error err;
    const char *argument;
    char **operands;
    int rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while (options_next(&reader, &argument) != OPTION_END)
        ; /* there are shared options only */
    options_operands(&reader, 1, 1, &operands);
    open_options = options_for_reading(&shared);
    open_options.flags |= shared.no_parents ? VHDX_OPEN_NO_PARENTS : 0;

    printer.is_json = shared.json;
    rc = vhdx_disk_open_path(&printer.disk, operands[0], &open_options, &err);
    if (rc == 0) {
        rc = print_map(&printer, open_options.format == VHDX_FORMAT_RAW, operands[0], &err);
        vhdx_disk_close(printer.disk, NULL);
    } else if (shared.json) {
        json_print(json_failure(operands[0], &err));
    }
    if (rc == 0)
        return STATUS_GOOD;
    message_error(operands[0], &err);
    return STATUS_FAILED;
}

const struct verb map_verb = {
    .name = "map",
    .synopsis = "[OPTIONS] FILE",
    .summary = "Show where the bytes of a disk lie",
    .example = "  vhdx map disk.vhdx\n"
               "  vhdx map --json disk.vhdx | jq '[.[] | select(.data) | .length] | add'\n",
    .shared = SHARED_JSON | SHARED_FORMAT | SHARED_READ | SHARED_CHAIN,
    .usage_status = STATUS_USAGE,
    .run = run_map,
};
