/*
 * vhdx diff: where two disks differ; and, with --to, a child of the first that reads as the second: an incremental
 * backup.
 *
 * Exit status: 0 the same, or the child was made; 1 different; 2 or more an error, as compare has it.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <vhdx/chain.h>

#include "chain.h"
#include "files.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

#define STATUS_DIFFER 1
#define STATUS_ERROR  2

#define STEP (UINT64_C(2) << 20) /* bytes copied at a time */

enum { OPTION_TO = 256, OPTION_FORCE };

static const struct option_line lines[] = {
    { "second-format", 'F', "FORMAT", "format of B: vhdx or raw (-f is about A)" },
    { "to", OPTION_TO, "FILE", "make a child of A that reads as B, instead of listing the ranges" },
    { "force", OPTION_FORCE, NULL, "with --to: write over a file that exists" },
    { 0 },
};

struct difference {
    const struct shared_options *shared;
    char                       **paths;   /* of A and B */
    const char                  *to;      /* NULL: list */
    const char                  *culprit; /* the file an error is about */
    struct source_format             second_format;
    bool                         may_replace;
    struct vhdx_disk            *a, *b;
    uint64_t                     range_count, byte_count;

    /* listing */
    struct json_list             list;

    /* making a child */
    struct vhdx_disk            *child;
    uint8_t                     *buffer;
    struct vhdx_error            child_error; /* code 0: none */
};

/* --- listing --- */

static void
print_range(struct difference *difference, uint64_t guest_offset, uint64_t length, bool is_zero)
{
    struct json_object *element;

    if (!difference->shared->json) {
        if (difference->range_count == 0)
            printf("%-17s %-17s %s\n", "Offset", "Length", "In B");
        printf("0x%-15" PRIx64 " 0x%-15" PRIx64 " %s\n", guest_offset, length, is_zero ? "zero" : "data");
        return;
    }
    element = need_memory(json_object_new_object());
    json_add_number(element, "start", guest_offset);
    json_add_number(element, "length", length);
    json_add_bool(element, "zero", is_zero);
    json_list_add(&difference->list, element);
}

static int
take_range(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b)
{
    struct difference *difference = context;

    if (!difference->shared->quiet)
        print_range(difference, guest_offset, length, is_zero_in_b);
    difference->range_count++;
    difference->byte_count += length;
    return 0;
}

/* The bar would stand between the ranges when both go to the terminal. */
static bool
shows_progress(const struct difference *difference)
{
    return difference->to != NULL || difference->shared->wants_progress || isatty(STDOUT_FILENO) == 0;
}

static int
walk(struct difference *difference, vhdx_differs take, struct vhdx_error *err)
{
    const struct vhdx_progress *hook;
    struct progress progress;
    int rc;

    progress_begin(&progress, difference->shared);
    hook = shows_progress(difference) ? &progress.hook : NULL;
    rc = vhdx_diff(difference->a, difference->b, take, difference, hook, err);
    progress_end(&progress);
    return rc;
}

static void
print_sum(const struct difference *difference)
{
    char text[SIZE_TEXT_SIZE];

    if (difference->range_count == 0)
        puts("The disks are the same.");
    else
        printf("%" PRIu64 " range%s, %s\n", difference->range_count, difference->range_count == 1 ? "" : "s",
               size_long(text, difference->byte_count));
}

static int
list_ranges(struct difference *difference, struct vhdx_error *err)
{
    const struct shared_options *shared = difference->shared;
    int rc;

    if (shared->json)
        json_list_begin(&difference->list, true, true);
    difference->culprit = NULL; /* the library names the disk where it can be told */
    rc = walk(difference, take_range, err);
    if (shared->json) {
        if (rc < 0) /* what was printed cannot be taken back: the error is the array's last element */
            json_list_add(&difference->list, json_failure(NULL, err));
        json_list_end(&difference->list);
    } else if (rc == 0 && !shared->quiet) {
        print_sum(difference);
    }
    return rc;
}

/* --- a child --- */

static int
copy_range(struct difference *difference, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    for (uint64_t done = 0; done < length;) {
        size_t piece = (size_t)(length - done < STEP ? length - done : STEP);
        int rc = vhdx_disk_read(difference->b, difference->buffer, piece, guest_offset + done, err);

        if (rc == 0)
            rc = vhdx_disk_write(difference->child, difference->buffer, piece, guest_offset + done, err);
        if (rc < 0)
            return rc;
        done += piece;
    }
    return VHDX_OK;
}

static int
put_range(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b)
{
    struct difference *difference = context;
    int rc;

    if (is_zero_in_b)
        rc = vhdx_disk_zero(difference->child, guest_offset, length, 0, &difference->child_error);
    else
        rc = copy_range(difference, guest_offset, length, &difference->child_error);
    difference->range_count++;
    difference->byte_count += length;
    return rc;
}

static int
copy_differences(struct difference *difference, struct vhdx_error *err)
{
    int rc = walk(difference, put_range, err);

    if (rc < 0 && difference->child_error.code != 0) { /* why it was cancelled */
        *err = difference->child_error;
        rc = err->code;
    }
    return rc < 0 ? rc : vhdx_disk_flush(difference->child, err);
}

/* A is handed in: the user named it, --parents is about others. */
static int
open_child(struct difference *difference, const char *path, struct vhdx_parents *parents, int descriptor,
           struct vhdx_error *err)
{
    const struct vhdx_open_options options = {
        .flags = VHDX_OPEN_WRITE, .format = VHDX_FORMAT_VHDX,
        .resolve_parent = vhdx_parents_resolve, .resolve_context = parents,
    };
    int rc = vhdx_parents_add_descriptor(parents, descriptor, difference->paths[0], err);

    return rc < 0 ? rc : vhdx_disk_open_path(&difference->child, path, &options, err);
}

static int
fill_child(struct difference *difference, const char *path, struct vhdx_error *err)
{
    int descriptor = open(difference->paths[0], O_RDONLY | O_CLOEXEC), rc, close_rc;
    struct vhdx_parents *parents = NULL;

    if (descriptor < 0)
        return fail_errno(err, errno, "cannot be opened");
    rc = vhdx_parents_new(&parents, chain_parents_options(), err);
    if (rc == 0)
        rc = open_child(difference, path, parents, descriptor, err);
    if (rc == 0) {
        difference->buffer = need_memory(malloc(STEP));
        rc = copy_differences(difference, err);
        free(difference->buffer);
        close_rc = vhdx_disk_close(difference->child, rc == 0 ? err : NULL);
        rc = rc < 0 ? rc : close_rc;
    }
    vhdx_parents_free(parents);
    close(descriptor);
    return rc;
}

/* How large the child is: as B, in whole sectors of A. */
static int
choose_size(const struct difference *difference, uint64_t *out, struct vhdx_error *err)
{
    uint64_t size = vhdx_disk_size(difference->b), least = vhdx_disk_size(difference->a);
    struct vhdx_info info;
    int rc = vhdx_disk_get_info(difference->a, 0, &info, err);

    if (rc < 0)
        return rc;
    if (info.format != VHDX_FORMAT_VHDX)
        return fail(err, VHDX_E_UNSUPPORTED, "A is a raw disk: only a VHDX can have children");
    if (size < least)
        return fail(err, VHDX_E_UNSUPPORTED, "A has %" PRIu64 " bytes and B %" PRIu64 ": a child cannot be smaller than"
                    " its parent; vhdx convert makes a full copy of B", least, size);
    *out = size + (info.logical_sector_size - size % info.logical_sector_size) % info.logical_sector_size;
    return VHDX_OK;
}

static int
make_target(struct difference *difference, struct target *target, uint64_t size, struct vhdx_error *err)
{
    const struct vhdx_create_options options = { .type = VHDX_TYPE_DIFFERENCING, .virtual_size = size };
    int rc;

    if (target->is_device)
        return fail(err, VHDX_E_UNSUPPORTED, "is a block device: a differencing image is a file");
    rc = vhdx_create_child_path(target->working_path, false, difference->paths[0], &options,
                                chain_parents_options(), err);
    return rc < 0 ? rc : fill_child(difference, target->working_path, err);
}

static int
make_child(struct difference *difference, struct vhdx_error *err)
{
    struct target target;
    uint64_t size = 0;
    int rc;

    difference->culprit = difference->to;
    rc = choose_size(difference, &size, err);
    if (rc == 0)
        rc = target_refuse_layers(difference->to, difference->b, err);
    if (rc == 0)
        rc = target_begin(&target, difference->to, difference->a, difference->may_replace, difference->shared,
                          err);
    if (rc < 0)
        return rc;
    rc = make_target(difference, &target, size, err);
    if (rc == 0)
        rc = target_commit(&target, err);
    if (rc < 0)
        target_abandon(&target);
    return rc;
}

static void
report_child(const struct difference *difference)
{
    char text[SIZE_TEXT_SIZE];
    struct json_object *document;

    if (difference->shared->json) {
        document = json_document();
        json_add_text(document, "filename", difference->to);
        json_add_text(document, "backing-filename", difference->paths[0]);
        json_add_number(document, "ranges", difference->range_count);
        json_add_number(document, "bytes", difference->byte_count);
        json_print(document);
    } else if (!difference->shared->quiet) {
        fputs("Created ", stdout);
        text_print(stdout, difference->to);
        printf(": %" PRIu64 " range%s, %s, a child of ", difference->range_count,
               difference->range_count == 1 ? "" : "s", size_long(text, difference->byte_count));
        text_print(stdout, difference->paths[0]);
        putchar('\n');
    }
}

/* --- the verb --- */

static int
diff(struct difference *difference, struct vhdx_error *err)
{
    const struct shared_options *shared = difference->shared;
    int rc;

    difference->culprit = difference->paths[0];
    rc = file_open_disk(&difference->a, difference->paths[0], shared->format, shared, 0, err);
    if (rc < 0)
        return rc;
    difference->culprit = difference->paths[1];
    rc = file_open_disk(&difference->b, difference->paths[1], difference->second_format, shared, 0, err);
    if (rc == 0) {
        rc = difference->to != NULL ? make_child(difference, err) : list_ranges(difference, err);
        vhdx_disk_close(difference->b, NULL);
    }
    vhdx_disk_close(difference->a, NULL);
    return rc;
}

static int
finish(const struct difference *difference, int rc, const struct vhdx_error *err)
{
    bool was_listed = difference->culprit == NULL; /* then its JSON has the error already */

    if (rc == 0 && difference->to != NULL) {
        report_child(difference);
        return STATUS_GOOD;
    }
    if (rc == 0)
        return difference->range_count == 0 ? STATUS_GOOD : STATUS_DIFFER;
    if (difference->shared->json && !was_listed)
        json_print(json_failure(difference->culprit, err));
    message_error(difference->culprit, err);
    return STATUS_ERROR;
}

static int
run_diff(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct difference difference = { .shared = &shared };
    struct vhdx_error err;
    const char *argument;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == 'F')
            difference.second_format = option_source_format(&reader, argument);
        else if (letter == OPTION_TO)
            difference.to = argument;
        else
            difference.may_replace = true;
    }
    options_operands(&reader, 2, 2, &difference.paths);
    if (difference.to == NULL && difference.may_replace)
        usage_error(&reader, "--force is about the file that --to makes");
    if (difference.to != NULL && (shared.force_share || shared.ignore_log))
        usage_error(&reader, "--to makes a child of A as it is: not with -U, nor with --ignore-log");
    return finish(&difference, diff(&difference, &err), &err);
}

const struct verb diff_verb = {
    .name = "diff",
    .synopsis = "[OPTIONS] A B",
    .summary = "List where two disks differ, or make one a child of the other",
    .details = "Two points of one chain are compared by their tables, which is quick, and reports whole sectors\n"
               "and blocks that were written, be they equal or not; other disks by contents.\n"
               "Exit status: 0 the same (with --to: the child was made), 1 different, 2 or more an error.\n",
    .example = "  vhdx diff monday.avhdx tuesday.avhdx\n"
               "  vhdx diff --to tuesday.vhdx /backup/monday.vhdx /vm/disk.vhdx\n",
    .shared = SHARED_JSON | SHARED_REMOTE | SHARED_FORMAT | SHARED_READ | SHARED_CHAIN | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_ERROR,
    .run = run_diff,
};
