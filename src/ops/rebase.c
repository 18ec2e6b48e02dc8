/* See rebase.h. */
#include "ops/rebase.h"

#include "base/error.h"
#include "ops/copy_up.h"
#include "ops/link.h"
#include "ops/stack.h"
#include "storage/storage.h"

static int
read_parent(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    return vx_disk_read_from(context, 0, buffer, length, guest_offset, err);
}

/* The old parent must be the one the image asks for; the new one must have its sectors. */
static int
judge(const struct vx_rebase *job, struct vx_image *image, struct vhdx_error *err)
{
    const char            *name = vx_storage_name(job->storage);
    const struct vx_layer *top;
    int                    rc;

    if (!vx_image_geometry(image)->is_differencing)
        return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s has no parent", name);
    rc = vx_stack_named(vx_link_change(image, job->changes, job->change_count, false, job->log_length_for_tests, err),
                        job->storage, err);
    if (rc < 0 || job->old_parent == NULL)
        return rc;
    top = &job->new_parent->layers[0];
    if (top->image == NULL || job->old_parent->layers[0].image == NULL)
        return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "a parent of %s is no VHDX image",
                       name);
    if (vx_image_geometry(top->image)->logical_sector_size != vx_image_geometry(image)->logical_sector_size)
        return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "%s has another logical sector size than %s (V123)", top->name, name);
    top = &job->old_parent->layers[0];
    return vx_stack_check_link(image, name, top->image, top->name, err);
}

/* B1 */
static int
rebase_steps(const struct vx_rebase *job, struct vx_image *image, struct vhdx_chain_result *result,
             struct vhdx_error *err)
{
    const struct vx_copy_up up = { .child = image, .parent = job->old_parent, .only_count = job->only_judge,
                                   .progress = job->progress, .result = result };
    int rc = VHDX_OK;

    if (job->old_parent != NULL) {
        vx_image_set_below(image, &(struct vx_below){ .read = read_parent, .context = job->old_parent });
        rc = vx_copy_up_differences(&up, job->new_parent, err);
    }
    if (rc < 0 || job->only_judge)
        return rc;
    rc = vx_image_flush(image, err);
    if (rc == VHDX_OK)
        rc = vx_link_change(image, job->changes, job->change_count, true, job->log_length_for_tests, err);
    return vx_stack_named(rc, job->storage, err);
}

int
vx_rebase(const struct vx_rebase *job, struct vhdx_chain_result *result, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !job->only_judge, .data_guid = VX_DATA_GUID_KEEP,
                                              .log_length_for_tests = job->log_length_for_tests };
    struct vx_image *image;
    int              rc = vx_stack_open_image(&image, job->storage, &options, err);

    if (rc < 0)
        return rc;
    rc = judge(job, image, err);
    if (rc == VHDX_OK)
        rc = rebase_steps(job, image, result, err);
    if (rc < 0) {
        vx_image_close(image, NULL);
        return rc;
    }
    return vx_stack_named(vx_image_close(image, err), job->storage, err);
}
