/* vhdx measure: how large the results of convert and compact would be. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/space.h>

#include "chain.h"
#include "confine.h"
#include "conversion.h"
#include "files.h"
#include "free_space.h"
#include "info_document.h"
#include "jobs.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "remote.h"
#include "sizes.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_NO_ZERO_DETECT = 256 };

static const struct option_line lines[] = {
    { "no-zero-detect", OPTION_NO_ZERO_DETECT, NULL, "as of convert: runs of zeros are data" },
    { 0 },
};

/* Compacting in three ways.  What the file systems say decides what the last one is. */
enum { AS_IS, FILE_SYSTEMS, ZEROES, WAY_COUNT };

struct way {
    const char                *command;
    bool                       knows_fs;
    int                        rc;
    struct vhdx_error          err;
    struct vhdx_compact_result result;
};

struct result {
    int                        rc;
    struct vhdx_error          err;
    enum vhdx_format           format;
    uint64_t                   file_size;
    struct vhdx_measure_result sizes;
    bool                       has_ways; /* of a VHDX that lies in a file: */
    struct way                 ways[WAY_COUNT];
};

struct measure_job {
    const struct shared_options *shared;
    struct conversion            conversion;
    bool                         detects_zeros;
    struct json_list             list;
    bool                         was_stopped;
};

static int
ask_to_stop(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return stop_is_asked() ? 1 : 0;
}

/* --- convert --- */

static int
measure_copies(const struct measure_job *job, const char *path, struct vhdx_progress *progress, struct result *result)
{
    struct vhdx_create_options create;
    struct vhdx_disk *disk;
    struct vhdx_info info;
    int rc = file_open_disk(&disk, path, job->shared->format, job->shared, 0, &result->err);

    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, &info, &result->err);
    if (rc == 0)
        rc = conversion_shape(&create, &job->conversion, disk, &result->err);
    if (rc == 0) {
        result->format = info.format;
        result->file_size = info.file_size;
        rc = vhdx_measure(disk, &create, job->detects_zeros, progress, &result->sizes, &result->err);
    }
    vhdx_disk_close(disk, NULL);
    return rc;
}

/* --- compact --- */

/* What says that a way is not open for this image, and not that measuring failed. */
static bool
is_refusal(int code)
{
    return code == VHDX_E_BAD_VOLUME || code == VHDX_E_UNSUPPORTED || code == VHDX_E_HAS_CHILDREN || code == VHDX_E_NO_PARENT
           || code == VHDX_E_NEEDS_REPAIR;
}

static void
measure_way(struct way *way, const char *path, bool zeroes, struct vhdx_progress *progress)
{
    struct vhdx_compact_options options = { .zeroes = zeroes, .dry_run = true, .parents = chain_parents_options() };
    struct free_space space;

    free_space_begin(&space);
    options.free_ranges = way->knows_fs ? &space.ranges : NULL;
    way->rc = vhdx_compact_path(path, &options, NULL, NULL, progress, &way->result, &way->err);
    free_space_end(&space);
}

static int
measure_compact(const char *path, struct vhdx_progress *progress, struct result *result)
{
    struct way *ways = result->ways;

    ways[AS_IS] = (struct way){ .command = "compact --no-fs" };
    measure_way(&ways[AS_IS], path, false, progress);
    ways[FILE_SYSTEMS] = (struct way){ .command = "compact", .knows_fs = true };
    measure_way(&ways[FILE_SYSTEMS], path, false, progress);
    ways[ZEROES].knows_fs = ways[FILE_SYSTEMS].rc == VHDX_OK;
    ways[ZEROES].command = ways[ZEROES].knows_fs ? "compact --zeroes" : "compact --no-fs --zeroes";
    measure_way(&ways[ZEROES], path, true, progress);
    for (unsigned i = 0; i < WAY_COUNT; i++) {
        if (ways[i].rc < 0 && !is_refusal(ways[i].rc)) {
            result->err = ways[i].err;
            return ways[i].rc;
        }
    }
    return VHDX_OK;
}

/* --- a file --- */

static void
work(void *context, const char *path, void *memory)
{
    struct vhdx_progress unseen = { .report = ask_to_stop };
    const struct measure_job *job = context;
    struct result *result = memory;
    struct progress progress;
    struct vhdx_progress *hook = &unseen;

    if (stop_is_asked()) {
        result->rc = fail(&result->err, VHDX_E_CANCELLED, "not begun");
        return;
    }
    progress_begin(&progress, job->shared);
    if (job->shared->job_count == 1)
        hook = &progress.hook;
    result->rc = measure_copies(job, path, hook, result);
    result->has_ways = result->format == VHDX_FORMAT_VHDX && !remote_is(path);
    if (result->rc == 0 && result->has_ways)
        result->rc = measure_compact(path, hook, result);
    progress_end(&progress);
}

static struct json_object *
make_compact(const struct way *ways)
{
    struct json_object *array = need_memory(json_object_new_array());

    for (unsigned i = 0; i < WAY_COUNT; i++) {
        struct json_object *row = need_memory(json_object_new_object());

        json_add_text(row, "command", ways[i].command);
        if (ways[i].rc < 0)
            json_object_object_add(row, "error", json_error(&ways[i].err));
        else
            json_add_number(row, "file-size", ways[i].result.file_size_after);
        json_object_array_add(array, row);
    }
    return array;
}

static struct json_object *
make_document(const char *path, const struct result *result)
{
    struct json_object *document, *convert;

    if (result->rc < 0)
        return json_failure(path, &result->err);
    document = json_document();
    json_add_text(document, "filename", path);
    json_add_text(document, "format", format_name(result->format));
    json_add_number(document, "virtual-size", result->sizes.virtual_size);
    json_add_number(document, "file-size", result->file_size);
    json_add_number(document, "data-size", result->sizes.data_bytes);
    convert = need_memory(json_object_new_object());
    json_add_number(convert, "dynamic", result->sizes.dynamic_file_size);
    json_add_number(convert, "fixed", result->sizes.fixed_file_size);
    json_add_number(convert, "raw", result->sizes.raw_file_size);
    if (result->sizes.vhd_file_size != 0)
        json_add_number(convert, "vhd", result->sizes.vhd_file_size);
    json_object_object_add(document, "convert", convert);
    if (result->has_ways)
        json_object_object_add(document, "compact", make_compact(result->ways));
    return document;
}

static void
print_size(const char *what, uint64_t size)
{
    char text[SIZE_TEXT_SIZE];

    printf("  %-28s %s\n", what, size_long(text, size));
}

static void
print_human(const char *path, const struct result *result)
{
    char file[SIZE_TEXT_SIZE], disk[SIZE_TEXT_SIZE], data[SIZE_TEXT_SIZE];

    text_print(stdout, path);
    printf(": %s, a disk of %s with %s of data\n", size_long(file, result->file_size),
           size_short(disk, result->sizes.virtual_size), size_short(data, result->sizes.data_bytes));
    print_size("convert --type=dynamic", result->sizes.dynamic_file_size);
    print_size("convert --type=fixed", result->sizes.fixed_file_size);
    print_size("convert -O raw", result->sizes.raw_file_size);
    if (result->sizes.vhd_file_size != 0)
        print_size("convert -O vhd", result->sizes.vhd_file_size);
    for (unsigned i = 0; i < WAY_COUNT && result->has_ways; i++) {
        if (result->ways[i].rc == VHDX_OK) {
            print_size(result->ways[i].command, result->ways[i].result.file_size_after);
        } else {
            printf("  %-28s refused: ", result->ways[i].command);
            text_print(stdout, result->ways[i].err.message);
            putchar('\n');
        }
    }
}

static int
report(void *context, const char *path, void *memory)
{
    struct measure_job *job = context;
    const struct result *result = memory;

    if (job->shared->json)
        json_list_add(&job->list, make_document(path, result));
    else if (result->rc == VHDX_OK)
        print_human(path, result);
    if (result->rc < 0)
        message_error(path, &result->err);
    job->was_stopped = job->was_stopped || result->rc == VHDX_E_CANCELLED;
    return result->rc < 0 ? STATUS_FAILED : STATUS_GOOD;
}

static int
run_measure(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct measure_job job = { .shared = &shared, .conversion = { .shared = &shared }, .detects_zeros = true };
    const struct job_kind kind = { sizeof(struct result), work, report, &job };
    const char *argument;
    char **paths;
    int count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while (options_next(&reader, &argument) != OPTION_END)
        job.detects_zeros = false;
    count = options_operands(&reader, 1, argc, &paths);
    if (shared.has_type || shared.create.preallocation != VHDX_PREALLOCATE_DEFAULT)
        usage_error(&reader, "every type is measured, and --preallocate does not change the length of a file");
    for (int i = 0; i < count; i++) {
        if (strcmp(paths[i], "-") == 0)
            usage_error(&reader, "'-': what is measured is a file");
    }

    free_space_load();
    for (int i = 0; i < count; i++)
        confine_source(&shared, paths[i]);
    confine_begin(&shared, STATUS_FAILED);
    stop_watch();
    if (shared.json)
        json_list_begin(&job.list, count > 1, false);
    status = jobs_run(&kind, paths, count, shared.job_count, NULL);
    if (shared.json)
        json_list_end(&job.list);
    if (job.was_stopped)
        stop_obey();
    return status;
}

const struct verb measure_verb = {
    .name = "measure",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Tell how large the results of convert and compact would be",
    .details = "Nothing is written; all data is read, to find zeros as convert and compact --zeroes do.  The sizes are\n"
               "exactly those of the files that these verbs then leave, given the same options.  FILE is an image or a\n"
               "raw disk; parents are read through for convert.  What compact would refuse is told with the reason.\n",
    .example = "  vhdx measure ext4.vhdx\n"
               "  vhdx measure -f raw --block-size 1M disk.raw\n"
               "  vhdx measure --json --jobs 4 *.vhdx | jq '.[] | [.filename, .convert.dynamic]'\n",
    .shared = SHARED_FORMAT | SHARED_REMOTE | SHARED_CREATE | SHARED_CHAIN | SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET |
              SHARED_JOBS | SHARED_SANDBOX,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_measure,
};
