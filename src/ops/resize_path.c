/* Growing and shrinking a file: whom it would break, how long its parent is, then resize.c. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/chain_path.h"
#include "ops/resize.h"
#include "storage/storage.h"

/* Of a disk's first layer alone: what lies below does not matter. */
static uint64_t
size_of(const char *path)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    struct vhdx_disk *disk;
    uint64_t          size;

    if (vhdx_disk_open_path(&disk, path, &options, NULL) < 0)
        return UINT64_MAX;
    size = vhdx_disk_size(disk);
    vhdx_disk_close(disk, NULL);
    return size;
}

/* How far the parent of a differencing image reaches: UINT64_MAX when that is not known. */
static int
find_parent_size(const struct vx_chain_job *job, const char *path, uint64_t *out, struct vhdx_error *err)
{
    struct vhdx_parent_place *place = vx_alloc(sizeof *place);

    *out = UINT64_MAX;
    if (place == NULL)
        return vx_fail_memory(err, "the search for the parent");
    if (job->parents != NULL && vhdx_find_parent(path, 0, job->parents, place, NULL) == VHDX_OK &&
        place->is_differencing)
        *out = size_of(place->path);
    vx_free(place);
    return VHDX_OK;
}

static int
resize_file(const char *path, struct vx_resize *resize, const struct vhdx_resize_options *options,
            const struct vx_chain_job *job, struct vhdx_resize_result *out, struct vhdx_error *err)
{
    int rc = find_parent_size(job, path, &resize->parent_size, err);

    if (rc == VHDX_OK)
        rc = vhdx_storage_open_path(&resize->storage, path, resize->only_judge ? 0 : VHDX_STORAGE_WRITE, err);
    if (rc < 0)
        return rc;
    rc = vx_chain_refuse_children(job, path, options->also, options->also_count, err); /* nobody makes one meanwhile */
    if (rc == VHDX_OK)
        rc = vx_resize(resize, out, err);
    vhdx_storage_close(resize->storage);
    if (rc == VHDX_OK && !resize->only_judge && out->new_size != out->old_size)
        vx_chain_say_tracking(job, path);
    return rc;
}

int
vhdx_resize_path(const char *path, uint64_t new_size, const struct vhdx_resize_options *options, vhdx_say say,
                 void *context, const struct vhdx_progress *progress, struct vhdx_resize_result *out,
                 struct vhdx_error *err)
{
    static const struct vhdx_resize_options defaults = { .also_count = 0 };
    struct vhdx_chain_options chain = { .also_count = 0 };
    struct vhdx_resize_result ours;
    struct vx_resize          resize = { .new_size = new_size, .progress = progress };
    struct vx_chain_job       job;
    int                       rc;

    if (options == NULL)
        options = &defaults;
    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_resize_result){ 0 };
    chain.parents = options->parents;
    resize.only_judge = options->dry_run;
    rc = vx_chain_job_begin(&job, &chain, say, context, progress, err);
    if (rc < 0)
        return rc;
    rc = resize_file(path, &resize, options, &job, out, err);
    vx_chain_job_end(&job);
    return rc;
}
