/* vhdx replay: write the changes that an image's log holds to their places. */
#include <stdio.h>

#include <vhdx/ops.h>

#include "jobs.h"
#include "json.h"
#include "message.h"
#include "text.h"
#include "verbs.h"

static const struct option_line lines[] = {
    { "dry-run", 'n', NULL, "only tell whether there is something to replay" },
    { 0 },
};

struct result {
    int               rc;
    struct vhdx_error err;
    bool              was_dirty;
};

struct replay_job {
    const struct shared_options *shared;
    bool                         is_dry_run;
    struct json_list             list;
};

/* Opening read-only replays in memory: it shows whether the log can be replayed, and writes nothing. */
static int
look(const char *path, bool *was_dirty, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS };
    struct vhdx_disk *disk;
    struct vhdx_info info;
    int rc;

    rc = vhdx_disk_open_path(&disk, path, &options, err);
    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, &info, err);
    vhdx_disk_close(disk, NULL);
    *was_dirty = rc == 0 && info.is_dirty;
    return rc;
}

static void
work(void *context, const char *path, void *memory)
{
    const struct replay_job *job = context;
    struct result *result = memory;

    if (job->is_dry_run)
        result->rc = look(path, &result->was_dirty, &result->err);
    else
        result->rc = vhdx_replay_path(path, &result->was_dirty, &result->err);
}

static struct json_object *
make_document(const struct replay_job *job, const char *path, const struct result *result)
{
    struct json_object *document;

    if (result->rc < 0)
        return json_failure(path, &result->err);
    document = json_document();
    json_add_text(document, "filename", path);
    json_add_bool(document, "was-dirty", result->was_dirty);
    json_add_bool(document, "replayed", result->was_dirty && !job->is_dry_run);
    return document;
}

static int
report(void *context, const char *path, void *memory)
{
    struct replay_job *job = context;
    const struct result *result = memory;

    if (job->shared->json)
        json_list_add(&job->list, make_document(job, path, result));
    if (result->rc < 0) {
        message_error(path, &result->err);
        return STATUS_FAILED;
    }
    if (job->shared->json || job->shared->quiet)
        return STATUS_GOOD;
    text_print(stdout, path);
    if (!result->was_dirty)
        puts(": clean, there is nothing to replay");
    else
        puts(job->is_dry_run ? ": the log holds changes and can be replayed" : ": the log was replayed");
    return STATUS_GOOD;
}

static int
run_replay(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct replay_job job = { .shared = &shared };
    struct job_kind kind = { sizeof(struct result), work, report, &job };
    const char *argument;
    char **paths;
    int count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while (options_next(&reader, &argument) != OPTION_END)
        job.is_dry_run = true;
    count = options_operands(&reader, 1, argc, &paths);

    if (shared.json)
        json_list_begin(&job.list, count > 1, false);
    status = jobs_run(&kind, paths, count, shared.job_count, NULL);
    if (shared.json)
        json_list_end(&job.list);
    return status;
}

const struct verb replay_verb = {
    .name = "replay",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Write what the log of an image holds to its place",
    .details = "An image that was not closed cleanly holds its last changes in its log.  Reading works without\n"
               "this: every other verb reads it as if replayed.\n",
    .example = "  vhdx replay --dry-run disk.vhdx\n"
               "  vhdx replay disk.vhdx\n",
    .shared = SHARED_JSON | SHARED_QUIET | SHARED_JOBS,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_replay,
};
