/* Repairing a file: a plan first, whom it would break, the undo file, then repair.c. */
#include <string.h>

#include "base/error.h"
#include "ops/chain_path.h"
#include "ops/repair.h"
#include "storage/storage.h"
#include "storage/undo.h"

#define FILE_WRITE_GUID_AT 16u /* in a header: new with every session that writes, and what tells files from each other */

static const struct vx_undo_tags tags = {
    { VX_HEADER_OFFSET(0) + FILE_WRITE_GUID_AT, VX_HEADER_OFFSET(1) + FILE_WRITE_GUID_AT },
};

struct path_job {
    const char                            *path;
    const struct vhdx_repair_path_options *options;
    void (*tell)(void *context, const struct vhdx_repair_step *step);
    void                                  *context;
    const struct vhdx_progress            *progress;
    struct vhdx_repair_result             *result;
    struct vhdx_storage                   *storage;
};

/* --- the undo file --- */

static int
open_undo_file(const struct path_job *job, struct vhdx_storage **out, struct vhdx_error *err)
{
    const struct vhdx_repair_path_options *options = job->options;
    int rc = vhdx_storage_open_path(out, options->undo_path, VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE, err);

    if (rc == VHDX_E_EXISTS && options->overwrite_undo) {
        rc = vhdx_storage_open_path(out, options->undo_path, VHDX_STORAGE_WRITE, err);
        if (rc == VHDX_OK)
            rc = vx_storage_set_size(*out, 0, err);
    }
    if (rc < 0)
        vx_error_prefix(err, options->undo_path);
    return rc;
}

static int
carry_out(const struct path_job *job, struct vhdx_storage *storage, struct vhdx_error *err)
{
    const struct vhdx_repair_options options = { .classes = job->options->classes };

    return vhdx_repair_storage(storage, &options, job->tell, job->context, job->progress, job->result, err);
}

static int
carry_out_with_undo(const struct path_job *job, struct vhdx_error *err)
{
    struct vhdx_storage *file, *undo;
    int                  rc = open_undo_file(job, &file, err);

    if (rc < 0)
        return rc;
    rc = vx_undo_new(&undo, job->storage, file, &tags, err);
    if (rc == VHDX_OK) {
        rc = carry_out(job, undo, err);
        if (rc == VHDX_OK)
            rc = vx_undo_finish(undo, err);
        vhdx_storage_close(undo);
    }
    vhdx_storage_close(file);
    return rc;
}

/* --- the plan --- */

static int
plan(const struct path_job *job, bool is_all, struct vhdx_repair_result *result, struct vhdx_error *err)
{
    const struct vhdx_repair_options options = { .classes = job->options->classes, .dry_run = true };

    return vhdx_repair_storage(job->storage, &options, is_all ? job->tell : NULL, job->context, job->progress, result, err);
}

/* Only contents that change break children; the rest they cannot see. */
static int
refuse_children(const struct path_job *job, struct vhdx_error *err)
{
    struct vhdx_repair_result planned;
    int                       rc = plan(job, false, &planned, err);

    if (rc < 0 || !planned.changes_contents || job->options->orphan_children)
        return rc;
    rc = vhdx_refuse_children(job->path, NULL, err);
    return rc == VHDX_E_HAS_CHILDREN ? rc : VHDX_OK;
}

static int
run(const struct path_job *job, struct vhdx_error *err)
{
    int rc;

    if (job->options->dry_run)
        return plan(job, true, job->result, err);
    rc = refuse_children(job, err);
    if (rc < 0)
        return rc;
    return job->options->undo_path != NULL ? carry_out_with_undo(job, err) : carry_out(job, job->storage, err);
}

int
vhdx_repair_path(const char *path, const struct vhdx_repair_path_options *options,
                 void (*tell)(void *context, const struct vhdx_repair_step *step), void *context,
                 const struct vhdx_progress *progress, struct vhdx_repair_result *out, struct vhdx_error *err)
{
    struct vhdx_repair_result ours;
    struct path_job job = { .path = path, .options = options, .tell = tell, .context = context, .progress = progress,
                            .result = out != NULL ? out : &ours };
    int rc;

    memset(job.result, 0, sizeof *job.result);
    rc = vhdx_storage_open_path(&job.storage, path, options->dry_run ? 0 : VHDX_STORAGE_WRITE, err);
    if (rc < 0)
        return rc;
    rc = run(&job, err);
    vhdx_storage_close(job.storage);
    return rc;
}

int
vhdx_repair_undo_path(const char *undo_path, const char *path, struct vhdx_error *err)
{
    struct vhdx_storage *file, *storage;
    int                  rc = vhdx_storage_open_path(&file, undo_path, 0, err);

    if (rc < 0) {
        vx_error_prefix(err, undo_path);
        return rc;
    }
    rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, err);
    if (rc == VHDX_OK) {
        rc = vx_undo_apply(file, storage, &tags, err);
        vhdx_storage_close(storage);
    }
    vhdx_storage_close(file);
    return rc;
}
