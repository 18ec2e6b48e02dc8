/* See space_job.h. */
#include "space_job.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/space.h>

#include "chain.h"
#include "free_space.h"
#include "jobs.h"
#include "json.h"
#include "message.h"
#include "options.h"
#include "progress.h"
#include "stop.h"
#include "text.h"

#define LINE_LIMIT 8 /* the library says fewer */

struct space_job {
    const struct shared_options *shared;
    struct vhdx_compact_options  options;
    bool                         knows_fs; /* look what the file systems call free */
    bool                         was_stopped;
    struct json_list             list;
};

struct result {
    int                        rc;
    struct vhdx_error          err;
    struct vhdx_compact_result done;
    struct free_space          space;
    char                      *lines[LINE_LIMIT];
    size_t                     line_count;
};

/* What the library says is kept until the file's turn to be reported. */
static void
keep_line(void *context, const char *line)
{
    struct result *result = context;

    if (result->line_count < LINE_LIMIT)
        result->lines[result->line_count++] = need_memory(strdup(line));
}

static int
ask_to_stop(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return stop_is_asked() ? 1 : 0;
}

static void
work(void *context, const char *path, void *memory)
{
    static const struct vhdx_progress unseen = { .report = ask_to_stop };
    const struct space_job *job = context;
    struct vhdx_compact_options options = job->options;
    struct result *result = memory;
    struct progress progress;

    if (stop_is_asked()) {
        result->rc = fail(&result->err, VHDX_E_CANCELLED, "not begun");
        return;
    }
    free_space_begin(&result->space);
    options.free_ranges = job->knows_fs ? &result->space.ranges : NULL;
    progress_begin(&progress, job->shared);
    result->rc = vhdx_compact_path(path, &options, keep_line, result,
                                   job->shared->job_count == 1 ? &progress.hook : &unseen, &result->done,
                                   &result->err);
    progress_end(&progress);
}

static struct json_object *
make_document(const struct space_job *job, const char *path, const struct result *result)
{
    const struct vhdx_compact_result *done = &result->done;
    struct json_object *document = json_document(), *messages = need_memory(json_object_new_array());

    json_add_text(document, "filename", path);
    json_add_bool(document, "dry-run", job->options.dry_run);
    free_space_add_json(&result->space, document);
    if (result->rc == VHDX_OK) {
        json_add_number(document, "file-size-before", done->file_size_before);
        json_add_number(document, "file-size-after", done->file_size_after);
        json_add_number(document, "bytes-released", done->bytes_released);
        json_add_number(document, "blocks-freed", done->blocks_freed);
        json_add_number(document, "blocks-moved", done->blocks_moved);
        json_add_number(document, "bytes-moved", done->bytes_moved);
        json_add_number(document, "guest-bytes-free", done->guest_bytes_free);
        json_add_bool(document, "was-dirty", done->is_dirty);
    } else {
        json_object_object_add(document, "error", json_error(&result->err));
    }
    for (size_t i = 0; i < result->line_count; i++)
        json_object_array_add(messages, json_text(result->lines[i]));
    json_object_object_add(document, "messages", messages);
    return document;
}

static void
print_human(const struct space_job *job, const char *path, const struct result *result)
{
    if (result->space.volume_count > 0) {
        text_print(stdout, path);
        puts(":");
        free_space_print(&result->space);
    }
    for (size_t i = 0; i < result->line_count; i++) {
        text_print(stdout, result->lines[i]);
        putchar('\n');
    }
    if (result->done.is_fixed && !job->options.sparse)
        puts("  A fixed image keeps its space; --sparse makes holes in its file.");
    if (job->options.dry_run)
        puts("  Nothing was written: this was a dry run.");
}

/* The library names the file in most of its errors; message_error does so in all. */
static void
tell_error(const char *path, const struct vhdx_error *err)
{
    struct vhdx_error plain = *err;
    size_t length = strlen(path);

    if (strncmp(plain.message, path, length) == 0 && strncmp(plain.message + length, ": ", 2) == 0)
        memmove(plain.message, err->message + length + 2, strlen(err->message + length + 2) + 1);
    message_error(path, &plain);
}

static int
report(void *context, const char *path, void *memory)
{
    struct space_job *job = context;
    struct result *result = memory;
    int rc = result->rc;

    if (job->shared->json)
        json_list_add(&job->list, make_document(job, path, result));
    else if (rc == VHDX_OK && !job->shared->quiet)
        print_human(job, path, result);
    if (rc < 0)
        tell_error(path, &result->err);
    job->was_stopped = job->was_stopped || rc == VHDX_E_CANCELLED;
    for (size_t i = 0; i < result->line_count; i++)
        free(result->lines[i]);
    free_space_end(&result->space);
    return rc < 0 ? STATUS_FAILED : STATUS_GOOD;
}

static int
run_job(struct space_job *job, char **paths, int count)
{
    const struct job_kind kind = { sizeof(struct result), work, report, job };
    int status;

    job->options.parents = chain_parents_options();
    job->options.orphan_children = job->shared->orphan_children;
    if (job->knows_fs)
        free_space_load();
    stop_watch();
    if (job->shared->json)
        json_list_begin(&job->list, count > 1, false);
    status = jobs_run(&kind, paths, count, job->shared->job_count, NULL);
    if (job->shared->json)
        json_list_end(&job->list);
    if (job->was_stopped)
        stop_obey();
    return status;
}

int
space_job_run(const struct verb *verb, int argc, char **argv, bool free_only)
{
    struct option_reader reader;
    struct shared_options shared;
    struct space_job job = { .shared = &shared, .knows_fs = true, .options = { .free_only = free_only } };
    const char **also = need_memory(calloc((size_t)argc, sizeof(*also)));
    const char *argument;
    char **paths;
    int letter, count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == SPACE_NO_FS)
            job.knows_fs = false;
        else if (letter == SPACE_ZEROES)
            job.options.zeroes = true;
        else if (letter == SPACE_SPARSE)
            job.options.sparse = true;
        else if (letter == SPACE_ALSO)
            also[job.options.also_count++] = argument;
        else
            job.options.dry_run = true;
    }
    count = options_operands(&reader, 1, argc, &paths);
    job.options.also = also;
    status = run_job(&job, paths, count);
    free(also);
    return status;
}
