/*
 * Zero and trim (docs/vhdx-format.md 4.5).
 *
 *   D5  Whole blocks change state, many under one hold and one page edit; their space waits (R1).  A range that reaches the
 *       end of the disk covers the last, shorter block fully.
 *   D6  Parts of blocks become zeros in place: holes in the host file where it can punch them.
 *   D7  Nothing of a parent is ever uncovered: a zeroed part that the parent shows is written; a trimmed one stays.
 *   D8  Fixed images keep their space: zeroing keeps it allocated, trimming does nothing.
 */
#include <string.h>

#include "base/error.h"
#include "format/block_state.h"
#include "image/internal.h"

/* --- parts of blocks --- */

static const uint8_t zero_bytes[64 * 1024];

static int
write_zeros(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    while (length > 0) {
        size_t n = (size_t)vx_min_u64(length, sizeof zero_bytes);
        int    rc = vx_image_write(image, zero_bytes, n, guest_offset, err);

        if (rc < 0)
            return rc;
        guest_offset += n;
        length -= n;
    }
    return VHDX_OK;
}

/* The beginning of a range that is alike: zeros in place where the file holds it.  *below: the parent shows it. */
static int
zero_present(struct vx_image *image, uint64_t guest_offset, uint64_t length, enum vhdx_zero_mode mode,
             uint64_t *done, bool *below, struct vhdx_error *err)
{
    struct vx_layer_extent extent;
    struct vx_held         held;
    int                    rc;

    vx_image_hold(image, &held, guest_offset, length, false);
    rc = vx_image_resolve(image, guest_offset, length, &extent, err);
    if (rc == VHDX_OK) {
        *done = extent.length;
        *below = extent.source == VX_LAYER_BELOW;
    }
    if (rc == VHDX_OK && extent.source == VX_LAYER_DATA) {
        rc = vx_session_begin(image, err);
        if (rc == VHDX_OK) {
            rc = vx_storage_zero(image->storage, extent.file_offset, extent.length, mode, err);
            atomic_fetch_add(&image->writes_done, 1);
        }
    }
    vx_image_release(image, &held);
    return rc;
}

static int
zero_parts(struct vx_image *image, uint64_t guest_offset, uint64_t length, enum vx_discard_intent intent,
           enum vhdx_zero_mode mode, struct vhdx_error *err)
{
    uint64_t done = 0;
    bool     below = false;
    int      rc = VHDX_OK;

    while (length > 0 && rc == VHDX_OK) {
        rc = zero_present(image, guest_offset, length, mode, &done, &below, err);
        if (rc < 0)
            return rc;
        if (below && intent == VX_DISCARD_ZERO) {
            if (mode == VHDX_ZERO_ONLY_FAST)
                return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_NONE, VHDX_NO_OFFSET,
                               "zeros over a parent's data must be written");
            rc = write_zeros(image, guest_offset, done, err);
        }
        guest_offset += done;
        length -= done;
    }
    return rc;
}

/* --- whole blocks (D5) --- */

struct batch {
    uint64_t               first_block, end_block; /* their entries lie in one page of the BAT, in one chunk */
    enum vx_discard_intent intent;
};

static uint64_t
entry_page(const struct vx_image *image, uint64_t block_index)
{
    return vx_round_down(vx_map_entry_offset(image, vx_geometry_payload_bat_index(&image->geometry, block_index)),
                         VX_PAGE);
}

/* The end of the run of blocks from first_block whose entries share its page. */
static uint64_t
batch_end(const struct vx_image *image, uint64_t first_block, uint64_t end_block)
{
    uint64_t page = entry_page(image, first_block);
    uint64_t end = vx_min_u64(end_block, first_block + VX_PAGE / 8);

    while (end - 1 > first_block && entry_page(image, end - 1) != page)
        end--;
    return end;
}

static int
change_block_locked(struct vx_image *image, uint64_t block_index, enum vx_discard_intent intent, bool *is_change,
                    bool do_it, struct vhdx_error *err) VX_REQUIRES(image->meta_lock)
{
    struct vx_bat_entry    entry;
    struct vx_discard_step step;
    int                    rc = vx_map_get_locked(image, block_index, &entry, err);

    if (rc < 0)
        return rc;
    step = vx_block_discard_step(entry.state, intent);
    if (step.is_error || !step.is_change)
        return VHDX_OK;
    *is_change = true;
    if (!do_it)
        return VHDX_OK;
    rc = vx_map_set_locked(image, vx_geometry_payload_bat_index(&image->geometry, block_index), step.new_state,
                           step.free_space ? 0 : entry.file_offset, err);
    if (rc == VHDX_OK && step.free_space && entry.state >= VX_BLOCK_FULLY_PRESENT) /* S5: anchors are not */
        vx_space_free_later(&image->space, entry.file_offset, image->geometry.block_size);
    return rc;
}

/* All blocks of the batch in one moment; or, with do_it false, whether any would change. */
static int
change_batch(struct vx_image *image, const struct batch *batch, bool do_it, bool *is_change, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    vx_rwlock_lock(&image->meta_lock);
    if (do_it) {
        rc = vx_image_may_write(image, err);
        if (rc == VHDX_OK)
            rc = vx_space_reserve_freed(&image->space, (size_t)(batch->end_block - batch->first_block), err);
    }
    for (uint64_t b = batch->first_block; b < batch->end_block && rc == VHDX_OK && (do_it || !*is_change); b++)
        rc = change_block_locked(image, b, batch->intent, is_change, do_it, err);
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

static int
discard_batch(struct vx_image *image, const struct batch *batch, struct vhdx_error *err)
{
    bool is_change = false;
    int  rc = change_batch(image, batch, false, &is_change, err);

    if (rc < 0 || !is_change)
        return rc;
    rc = vx_session_begin(image, err);
    if (rc == VHDX_OK)
        rc = vx_room_reserve(image, 1, err);
    if (rc < 0)
        return rc;
    rc = vx_map_prepare(image, entry_page(image, batch->first_block), err);
    if (rc == VHDX_OK)
        rc = change_batch(image, batch, true, &is_change, err);
    vx_room_release(image, 1);
    return rc;
}

int
vx_image_discard_blocks(struct vx_image *image, uint64_t first_block, uint64_t end_block,
                        enum vx_discard_intent intent, struct vhdx_error *err)
{
    uint64_t block_size = image->geometry.block_size;
    int      rc = VHDX_OK;

    while (first_block < end_block && rc == VHDX_OK) {
        struct batch   batch = { .first_block = first_block, .end_block = batch_end(image, first_block, end_block),
                                 .intent = intent };
        struct vx_held held;

        vx_image_hold(image, &held, first_block * block_size, (batch.end_block - first_block) * block_size, true);
        rc = discard_batch(image, &batch, err);
        vx_image_release(image, &held);
        first_block = batch.end_block;
    }
    return rc;
}

/* --- the two requests --- */

static int
discard(struct vx_image *image, uint64_t guest_offset, uint64_t length, enum vx_discard_intent intent,
        enum vhdx_zero_mode mode, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t end = guest_offset + length;
    uint64_t first_block = vx_ceil_div(guest_offset, g->block_size);
    uint64_t end_block = end == g->virtual_size ? g->payload_block_count : end / g->block_size;
    uint64_t whole_from = first_block * g->block_size;
    uint64_t whole_to = vx_min_u64(end_block * g->block_size, g->virtual_size);
    int      rc;

    if (first_block >= end_block)
        return zero_parts(image, guest_offset, length, intent, mode, err);
    rc = zero_parts(image, guest_offset, whole_from - guest_offset, intent, mode, err);
    if (rc == VHDX_OK)
        rc = vx_image_discard_blocks(image, first_block, end_block, intent, err);
    if (rc == VHDX_OK)
        rc = zero_parts(image, whole_to, end - whole_to, intent, mode, err);
    return rc;
}

int
vx_image_zero(struct vx_image *image, uint64_t guest_offset, uint64_t length, bool only_fast, struct vhdx_error *err)
{
    int rc = vx_image_may_write(image, err);

    if (rc < 0 || length == 0)
        return rc;
    if (!image->geometry.is_fixed)
        return discard(image, guest_offset, length, VX_DISCARD_ZERO,
                       only_fast ? VHDX_ZERO_ONLY_FAST : VHDX_ZERO_RELEASE, err);
    if (only_fast)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "a fixed image keeps its space: zeros may have to be written");
    return zero_parts(image, guest_offset, length, VX_DISCARD_ZERO, VHDX_ZERO_KEEP_ALLOCATED, err);
}

int
vx_image_trim(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    int rc = vx_image_may_write(image, err);

    if (rc < 0 || length == 0 || image->geometry.is_fixed) /* D8 */
        return rc;
    return discard(image, guest_offset, length, VX_DISCARD_UNMAP, VHDX_ZERO_RELEASE, err);
}

int
vx_image_punch(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    int rc = vx_image_may_write(image, err);

    return rc == VHDX_OK ? zero_parts(image, guest_offset, length, VX_DISCARD_UNMAP, VHDX_ZERO_ONLY_FAST, err) : rc;
}

int
vx_image_drop_bitmap(struct vx_image *image, uint64_t chunk_index, bool *is_freed, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t            first_block = chunk_index << g->chunk_shift;
    uint64_t            end_block = vx_min_u64(first_block + g->chunk_ratio, g->payload_block_count);
    uint64_t            bat_index = vx_geometry_bitmap_bat_index(g, chunk_index);
    struct vx_bat_entry entry;
    struct vx_held      held;
    bool                is_needed = false;
    int                 rc = vx_session_begin(image, err);

    *is_freed = false;
    if (rc < 0)
        return rc;
    vx_image_hold(image, &held, first_block * g->block_size, (end_block - first_block) * g->block_size, true);
    rc = vx_room_reserve(image, 1, err);
    if (rc < 0)
        goto out_hold;
    rc = vx_map_prepare(image, vx_map_entry_offset(image, bat_index), err);
    if (rc < 0)
        goto out_room;

    vx_rwlock_lock(&image->meta_lock);
    rc = vx_image_may_write(image, err);
    for (uint64_t b = first_block; b < end_block && rc == VHDX_OK && !is_needed; b++) {
        rc = vx_map_get_locked(image, b, &entry, err);
        is_needed = rc == VHDX_OK && entry.state == VX_BLOCK_PARTIALLY_PRESENT;
    }
    if (rc == VHDX_OK && !is_needed)
        rc = vx_map_get_bitmap_locked(image, chunk_index, &entry, err);
    if (rc == VHDX_OK && !is_needed && entry.state == VX_BLOCK_FULLY_PRESENT) {
        rc = vx_space_free_bitmap_later(&image->space, entry.file_offset, err); /* R2 */
        if (rc == VHDX_OK)
            rc = vx_map_set_locked(image, bat_index, VX_BLOCK_NOT_PRESENT, 0, err);
        *is_freed = rc == VHDX_OK;
    }
    vx_rwlock_unlock(&image->meta_lock);
out_room:
    vx_room_release(image, 1);
out_hold:
    vx_image_release(image, &held);
    return rc;
}
