/* See retype.h. */
#include "ops/retype.h"

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/job.h"
#include "ops/metadata_edit.h"
#include "ops/preallocate.h"
#include "ops/stack.h"
#include "storage/storage.h"

#define BUFFER_SIZE ((size_t)VX_MIB)

struct step {
    const struct vx_retype   *job;
    uint8_t                  *zeros; /* BUFFER_SIZE */
    struct vx_image          *image;
    struct vhdx_chain_result *result;
};

static int
run_step(struct step *step, int (*carry_out)(struct step *, struct vhdx_error *), struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !step->job->only_count, .data_guid = VX_DATA_GUID_KEEP,
                                              .log_length_for_tests = step->job->log_length_for_tests };
    int rc = vx_stack_open_image(&step->image, step->job->storage, &options, err), closed;

    if (rc < 0)
        return rc;
    rc = carry_out(step, err);
    closed = vx_image_close(step->image, rc < 0 ? NULL : err); /* what was done so far becomes durable, also when cancelled */
    return vx_stack_named(rc < 0 ? rc : closed, step->job->storage, err);
}

/* --- a block for everything --- */

/* What an anchor names is free when the image is opened the next time (S5), and so the file stays small. */
static int
drop_anchors(struct step *step, struct vhdx_error *err)
{
    if (step->job->only_count)
        return VHDX_OK;
    return vx_image_discard_blocks(step->image, 0, vx_image_geometry(step->image)->payload_block_count,
                                   VX_DISCARD_DROP_ANCHOR, err);
}

/* A block gets space by a write of zeros where zeros are read: of a sector, or of all of it (U4). */
static int
fill_block(struct step *step, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (step->job->how != VHDX_PREALLOCATE_FULL)
        length = vx_image_geometry(step->image)->logical_sector_size;
    for (uint64_t done = 0; done < length && rc == VHDX_OK; done += BUFFER_SIZE)
        rc = vx_image_write(step->image, step->zeros, (size_t)vx_min_u64(BUFFER_SIZE, length - done), guest_offset + done,
                            err);
    return rc;
}

static int
fill_blocks(struct step *step, struct vhdx_error *err)
{
    const struct vx_geometry *g = vx_image_geometry(step->image);
    int                       rc = VHDX_OK;

    for (uint64_t at = 0; at < g->virtual_size && rc == VHDX_OK;) {
        struct vx_layer_extent extent;

        rc = vx_image_resolve(step->image, at, g->virtual_size - at, &extent, err);
        if (rc < 0)
            return rc;
        if (extent.source != VX_LAYER_DATA) {
            extent.length = vx_min_u64(g->block_size, g->virtual_size - at);
            step->result->blocks_changed++;
            if (!step->job->only_count)
                rc = fill_block(step, at, extent.length, err);
        }
        at += extent.length;
        if (rc == VHDX_OK)
            rc = vx_job_report(step->job->progress, at, g->virtual_size, err);
    }
    return rc;
}

/* The host's space for all of the file, while no session is open: nothing that is read changes. */
static int
take_host_space(struct step *step, struct vhdx_error *err)
{
    struct vx_preallocation range = { .how = VHDX_PREALLOCATE_FALLOC, .progress = step->job->progress };
    int                     rc;

    if (step->job->only_count || step->job->how == VHDX_PREALLOCATE_OFF)
        return VHDX_OK;
    rc = vx_storage_get_size(step->job->storage, &range.to, err);
    if (rc == VHDX_OK)
        rc = vx_preallocate(step->job->storage, &range, err);
    if (rc == VHDX_OK)
        rc = vx_storage_flush(step->job->storage, err);
    return vx_stack_named(rc, step->job->storage, err);
}

/* --- the flag --- */

static int
set_flag(struct step *step, struct vhdx_error *err)
{
    const struct vx_metadata *metadata = vx_image_metadata(step->image);
    uint32_t                  flags = metadata->file_parameter_flags & ~1u;
    struct vx_metadata_edit  *edit;
    uint8_t                   parameters[8];
    int                       rc;

    flags |= step->job->type == VHDX_TYPE_FIXED ? 1u : 0u;
    if (step->job->only_count || flags == metadata->file_parameter_flags)
        return VHDX_OK;
    rc = vx_metadata_edit_new(&edit, step->image, err);
    if (rc < 0)
        return rc;
    vx_put_le32(parameters, metadata->block_size);
    vx_put_le32(parameters + 4, flags);
    rc = vx_metadata_edit_set(edit, &vx_guid_item_file_parameters, VX_ITEM_IS_REQUIRED, parameters, sizeof parameters,
                              err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    return rc;
}

static int
judge(struct step *step, struct vhdx_error *err)
{
    if (step->job->type != VHDX_TYPE_DYNAMIC && step->job->type != VHDX_TYPE_FIXED)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "an image becomes dynamic or fixed");
    if (vx_image_geometry(step->image)->is_differencing)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "the image has a parent");
    return VHDX_OK;
}

/* U1 */
static int
make_whole(struct step *step, struct vhdx_error *err)
{
    int rc;

    step->zeros = vx_alloc_zeroed(BUFFER_SIZE, 1);
    if (step->zeros == NULL)
        return vx_fail_memory(err, "a buffer of zeros");
    rc = run_step(step, drop_anchors, err);
    if (rc == VHDX_OK)
        rc = run_step(step, fill_blocks, err);
    vx_free(step->zeros);
    return rc == VHDX_OK ? take_host_space(step, err) : rc;
}

int
vx_retype(const struct vx_retype *job, struct vhdx_chain_result *result, struct vhdx_error *err)
{
    struct step step = { .job = job, .result = result };
    int         rc = run_step(&step, judge, err);

    if (rc == VHDX_OK && job->type == VHDX_TYPE_FIXED)
        rc = make_whole(&step, err);
    return rc == VHDX_OK ? run_step(&step, set_flag, err) : rc;
}
