/* Flattening a file in place (docs/vhdx-format.md 9.7): finding its parent, then flatten.c. */
#include "base/error.h"
#include "ops/chain_path.h"
#include "ops/flatten.h"
#include "storage/storage.h"

static int
flatten_file(const struct vx_chain_job *job, const struct vx_chain_files *files, struct vhdx_chain_result *out,
             struct vhdx_error *err)
{
    struct vx_flatten flatten = { .progress = job->progress, .only_count = job->options->dry_run };
    char              size[VX_SIZE_TEXT];
    int               rc = vx_chain_open_disk(&flatten.parent, job, files->names[1], err);

    if (rc < 0)
        return rc;
    rc = vx_chain_open_file(&flatten.storage, files->names[0], !flatten.only_count, err);
    if (rc == VHDX_OK) {
        rc = vx_flatten(&flatten, out, err);
        vhdx_storage_close(flatten.storage);
    }
    vhdx_disk_close(flatten.parent, NULL);
    if (rc == VHDX_OK)
        vx_chain_say(job, "%s %s into %s%s", flatten.only_count ? "copies" : "copied",
                     vx_chain_size(size, out->bytes_copied), files->names[0],
                     flatten.only_count ? ", which then needs no parent" : ", which needs no parent any more");
    if (rc == VHDX_OK && !flatten.only_count)
        vx_chain_say_tracking(job, files->names[0]);
    return rc;
}

int
vhdx_flatten_path(const char *path, const struct vhdx_chain_options *options, vhdx_say say, void *context,
                  const struct vhdx_progress *progress, struct vhdx_chain_result *out, struct vhdx_error *err)
{
    struct vhdx_chain_result ours;
    struct vx_chain_job      job;
    struct vx_chain_files    files = { .count = 0 };
    int                      rc;

    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_chain_result){ 0 };
    rc = vx_chain_job_begin(&job, options, say, context, progress, err);
    if (rc == VHDX_OK)
        rc = vx_chain_find(&files, &job, path, err);
    if (rc == VHDX_OK && files.count < 2)
        vx_chain_say(&job, "%s has no parent: nothing to do", path);
    else if (rc == VHDX_OK)
        rc = flatten_file(&job, &files, out, err);
    vx_chain_files_free(&files);
    vx_chain_job_end(&job);
    return rc;
}
