/* See compact.h. */
#include "ops/compact.h"

#include "base/error.h"
#include "base/memory.h"
#include "ops/job.h"
#include "ops/stack.h"
#include "storage/storage.h"

#define BUFFER_SIZE ((size_t)VX_MIB)

/* Each step opens and closes the image (K1). */
struct step {
    const struct vx_compact    *job;
    struct vx_image            *image;
    struct vhdx_compact_result *result;
    bool                        is_again; /* of moving: something moved, so there may be more */
};

static int
run_step(const struct vx_compact *job, enum vx_data_guid data_guid, int (*carry_out)(struct step *, struct vhdx_error *),
         struct step *step, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !job->only_count, .data_guid = data_guid,
                                              .log_length_for_tests = job->log_length_for_tests };
    int rc = vx_stack_open_image(&step->image, job->storage, &options, err), closed;

    if (rc < 0)
        return rc;
    rc = carry_out(step, err);
    closed = vx_image_close(step->image, rc < 0 ? NULL : err); /* what was done so far becomes durable, also when cancelled */
    return vx_stack_named(rc < 0 ? rc : closed, job->storage, err);
}

/* --- (a) and (b) --- */

static bool
knows_free(const struct vx_compact *job)
{
    return job->free != NULL && job->free->count > 0;
}

static int
free_what_is_free(struct step *step, struct vhdx_error *err)
{
    const struct vx_compact_blocks blocks = { .job = step->job, .image = step->image, .takes_free = true,
                                              .result = step->result };

    return vx_compact_blocks(&blocks, err);
}

static int
tidy(struct step *step, struct vhdx_error *err)
{
    const struct vx_compact_blocks blocks = { .job = step->job, .image = step->image, .tidies = true,
                                              .result = step->result };

    return vx_compact_blocks(&blocks, err);
}

/* --- (c) and (d) --- */

struct offering {
    struct vx_compact_plan   *plan;
    const struct vx_geometry *geometry;
};

static int
mark_item(void *context, const struct vx_map_item *item, struct vhdx_error *err)
{
    const struct offering *o = context;

    if (item->entry.file_offset == 0)
        return VHDX_OK;
    return vx_plan_mark(o->plan, item->entry.file_offset, item->is_bitmap ? VX_SECTOR_BITMAP_SIZE : o->geometry->block_size,
                        err);
}

/* Blocks that gave up their space, of a dry run, are not marked. */
static int
offer_item(void *context, const struct vx_map_item *item, struct vhdx_error *err)
{
    const struct offering *o = context;

    if (item->entry.state < VX_BLOCK_FULLY_PRESENT || !vx_plan_is_marked(o->plan, item->entry.file_offset))
        return VHDX_OK;
    return vx_plan_offer(o->plan, item->is_bitmap, item->index, item->entry.file_offset, err);
}

static int
mark_reserved(struct vx_compact_plan *plan, struct vx_image *image, struct vhdx_error *err)
{
    size_t                          count;
    const struct vx_reserved_range *ranges = vx_image_reserved(image, &count);
    int                             rc = VHDX_OK;

    for (size_t i = 0; i < count && rc == VHDX_OK; i++)
        rc = vx_plan_mark_fixed(plan, ranges[i].file_offset, ranges[i].length, err);
    return rc;
}

/* The map is marked: what may move?  Nothing, in a fixed image: its blocks lie in order. */
static int
offer_blocks(struct vx_compact_plan *plan, struct vx_image *image, struct vhdx_error *err)
{
    struct offering offering = { .plan = plan, .geometry = vx_image_geometry(image) };

    return offering.geometry->is_fixed ? VHDX_OK : vx_image_each_entry(image, offer_item, &offering, err);
}

static int
make_plan(struct vx_compact_plan *plan, struct vx_image *image, struct vhdx_error *err)
{
    struct offering offering = { .plan = plan, .geometry = vx_image_geometry(image) };
    int             rc;

    vx_plan_init(plan, offering.geometry->block_size);
    rc = mark_reserved(plan, image, err);
    if (rc == VHDX_OK)
        rc = vx_image_each_entry(image, mark_item, &offering, err);
    if (rc == VHDX_OK)
        rc = offer_blocks(plan, image, err);
    if (rc == VHDX_OK)
        vx_plan_solve(plan);
    return rc;
}

/* Commits let go of the old places; the host's disk holds what moved since the last one twice. */
static int
move_all(struct step *step, const struct vx_compact_plan *plan, uint8_t *buffer, struct vhdx_error *err)
{
    uint64_t done = 0, since_commit = 0, batch = vx_compact_batch(step->job);
    int      rc = VHDX_OK;

    for (size_t i = 0; i < plan->count && rc == VHDX_OK; i++) {
        const struct vx_planned_move *planned = &plan->moves[i];
        const struct vx_move move = { .is_bitmap = planned->is_bitmap, .index = planned->index, .from = planned->from,
                                      .to = planned->to, .buffer = buffer, .buffer_size = BUFFER_SIZE };
        uint64_t length = planned->is_bitmap ? VX_SECTOR_BITMAP_SIZE : plan->block_size;
        bool     is_moved;

        rc = vx_job_report(step->job->progress, done, plan->bytes, err);
        if (rc == VHDX_OK)
            rc = vx_image_move(step->image, &move, &is_moved, err);
        if (rc < 0)
            return rc;
        done += length;
        if (!is_moved)
            continue;
        step->is_again = true;
        step->result->blocks_moved++;
        step->result->bytes_moved += length;
        since_commit += length;
        if (since_commit >= batch) {
            rc = vx_image_flush(step->image, err);
            since_commit = 0;
        }
    }
    return rc == VHDX_OK ? vx_job_report(step->job->progress, plan->bytes, plan->bytes, err) : rc;
}

static int
carry_out_plan(struct step *step, const struct vx_compact_plan *plan, struct vhdx_error *err)
{
    uint8_t *buffer = vx_alloc(BUFFER_SIZE);
    int      rc = buffer != NULL ? move_all(step, plan, buffer, err) : vx_fail_memory(err, "moving blocks");

    vx_free(buffer);
    return rc == VHDX_OK ? vx_image_flush(step->image, err) : rc;
}

static int
move_and_cut(struct step *step, struct vhdx_error *err)
{
    struct vx_compact_plan plan;
    uint64_t               punched;
    int                    rc = make_plan(&plan, step->image, err);

    step->is_again = false;
    if (rc == VHDX_OK && plan.count > 0)
        rc = carry_out_plan(step, &plan, err);
    vx_plan_destroy(&plan);
    if (rc < 0)
        return rc;
    if (!vx_image_geometry(step->image)->is_fixed) { /* what else is in such a file was put there by somebody */
        rc = vx_image_punch_free(step->image, &punched, err);
        step->result->bytes_released += rc == VHDX_OK ? punched : 0;
    }
    return rc == VHDX_OK ? vx_image_cut_at_close(step->image, err) : rc;
}

/* --- all of it --- */

/* What the steps would do, seen through the log as it would be replayed. */
static int
count_all(struct step *step, struct vhdx_error *err)
{
    struct vx_compact_plan   plan;
    struct vx_compact_blocks blocks = { .job = step->job, .image = step->image, .takes_free = knows_free(step->job),
                                        .tidies = !step->job->free_only, .kept = &plan, .result = step->result };
    int                      rc;

    vx_plan_init(&plan, vx_image_geometry(step->image)->block_size);
    rc = mark_reserved(&plan, step->image, err);
    if (rc == VHDX_OK)
        rc = vx_compact_blocks(&blocks, err);
    if (rc == VHDX_OK && !step->job->free_only)
        rc = offer_blocks(&plan, step->image, err);
    if (rc == VHDX_OK) /* with nothing offered too: what is free at the end of the file is cut whenever an image is closed */
        step->result->blocks_moved = vx_plan_count_rounds(&plan);
    step->result->bytes_moved = plan.bytes;
    if (!step->job->free_only || step->result->bytes_released > 0)
        step->result->file_size_after = vx_min_u64(plan.end, vx_round_up(step->result->file_size_before, VX_MIB));
    vx_plan_destroy(&plan);
    return rc;
}

static int
look(struct step *step, struct vhdx_error *err)
{
    struct vhdx_info info;

    (void)err;
    vx_image_fill_info(step->image, &info);
    step->result->is_dirty = info.is_dirty;
    step->result->is_fixed = info.type == VHDX_TYPE_FIXED;
    return VHDX_OK;
}

static int
run_steps(const struct vx_compact *job, struct step *step, struct vhdx_error *err)
{
    int rc = run_step(job, VX_DATA_GUID_KEEP, look, step, err); /* replays, if there is anything to replay */

    if (rc == VHDX_OK && knows_free(job))
        rc = run_step(job, VX_DATA_GUID_NEW, free_what_is_free, step, err);
    if (rc < 0 || job->free_only)
        return rc;
    rc = run_step(job, VX_DATA_GUID_KEEP, tidy, step, err);
    do {
        if (rc == VHDX_OK)
            rc = run_step(job, VX_DATA_GUID_KEEP, move_and_cut, step, err);
    } while (rc == VHDX_OK && step->is_again); /* what waited for a commit or for the log is free now */
    return rc;
}

/* Close cuts the file without a flush, and a freed block's hole comes after its commit: no promise of the image's, but of ours
 * that what was told is so. */
static int
settle(const struct vx_compact *job, int rc, struct vhdx_error *err)
{
    int flushed = VHDX_OK;

    if (rc == VHDX_OK || rc == VHDX_E_CANCELLED)
        flushed = vx_storage_flush(job->storage, rc < 0 ? NULL : err);
    return rc < 0 ? rc : flushed;
}

int
vx_compact(const struct vx_compact *job, struct vhdx_compact_result *result, struct vhdx_error *err)
{
    struct step step = { .job = job, .result = result };
    int         rc = vx_storage_get_size(job->storage, &result->file_size_before, err), after;

    result->file_size_after = result->file_size_before;
    if (job->free != NULL)
        result->guest_bytes_free = vx_free_list_bytes(job->free);
    if (rc == VHDX_OK && job->only_count) {
        rc = run_step(job, VX_DATA_GUID_KEEP, look, &step, err);
        return rc == VHDX_OK ? run_step(job, VX_DATA_GUID_KEEP, count_all, &step, err) : rc;
    }
    if (rc == VHDX_OK)
        rc = settle(job, run_steps(job, &step, err), err);
    after = vx_storage_get_size(job->storage, &result->file_size_after, rc < 0 ? NULL : err);
    return rc < 0 ? rc : after;
}
