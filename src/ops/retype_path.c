/* Changing the type of a file in place (docs/vhdx-format.md 9.7): away from its parent, if it has one, then retype.c. */
#include <inttypes.h>

#include "base/error.h"
#include "ops/chain_path.h"
#include "ops/retype.h"
#include "ops/stack.h"
#include "storage/storage.h"

static int
look(const char *path, enum vhdx_image_type *type, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = false };
    struct vhdx_storage *storage;
    struct vx_image     *image;
    struct vhdx_info     info;
    int                  rc = vx_chain_open_file(&storage, path, false, err);

    if (rc < 0)
        return rc;
    rc = vx_stack_open_image(&image, storage, &options, err);
    if (rc == VHDX_OK) {
        vx_image_fill_info(image, &info);
        *type = info.type;
        vx_image_close(image, NULL);
    }
    vhdx_storage_close(storage);
    return rc;
}

static void
say_result(const struct vx_chain_job *job, const char *path, const struct vx_retype *retype, enum vhdx_image_type old_type,
           const struct vhdx_chain_result *out)
{
    const char *name = retype->type == VHDX_TYPE_FIXED ? "fixed" : "dynamic";

    if (old_type == retype->type && out->blocks_changed == 0)
        vx_chain_say(job, "%s is %s already", path, name);
    else if (retype->type == VHDX_TYPE_FIXED)
        vx_chain_say(job, "%s %s fixed: %" PRIu64 " blocks %s space", path, retype->only_count ? "becomes" : "is",
                     out->blocks_changed, retype->only_count ? "get" : "got");
    else
        vx_chain_say(job, "%s %s dynamic; compacting it gives back what it does not need", path,
                     retype->only_count ? "becomes" : "is");
}

static int
retype_file(const struct vx_chain_job *job, const char *path, struct vx_retype *retype, enum vhdx_image_type old_type,
            struct vhdx_chain_result *out, struct vhdx_error *err)
{
    int rc = vx_chain_open_file(&retype->storage, path, !retype->only_count, err);

    if (rc < 0)
        return rc;
    out->blocks_changed = 0; /* of copying a parent up: that was told */
    rc = vx_retype(retype, out, err);
    vhdx_storage_close(retype->storage);
    if (rc == VHDX_OK)
        say_result(job, path, retype, old_type, out);
    return rc;
}

int
vhdx_retype_path(const char *path, enum vhdx_image_type type, enum vhdx_preallocation preallocation,
                 const struct vhdx_chain_options *options, vhdx_say say, void *context,
                 const struct vhdx_progress *progress, struct vhdx_chain_result *out, struct vhdx_error *err)
{
    struct vx_retype         retype = { .type = type, .how = preallocation, .progress = progress };
    enum vhdx_image_type     old_type = VHDX_TYPE_DYNAMIC;
    struct vhdx_chain_result ours;
    struct vx_chain_job      job;
    int                      rc;

    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_chain_result){ 0 };
    if (type != VHDX_TYPE_DYNAMIC && type != VHDX_TYPE_FIXED)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "an image becomes dynamic or fixed");
    rc = look(path, &old_type, err);
    if (rc == VHDX_OK && old_type == VHDX_TYPE_DIFFERENCING) {
        rc = vhdx_flatten_path(path, options, say, context, progress, out, err);
        if (rc < 0 || type == VHDX_TYPE_DYNAMIC || (options != NULL && options->dry_run))
            return rc;
    }
    if (rc == VHDX_OK)
        rc = vx_chain_job_begin(&job, options, say, context, progress, err);
    if (rc < 0)
        return rc;
    retype.only_count = job.options->dry_run;
    rc = retype_file(&job, path, &retype, old_type, out, err);
    vx_chain_job_end(&job);
    return rc;
}
