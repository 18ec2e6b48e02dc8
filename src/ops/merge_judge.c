/* What speaks against a merge, and what it would do (merge.h).  Nothing is written here. */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "ops/link.h"
#include "ops/merge.h"
#include "ops/metadata_edit.h"
#include "ops/pieces.h"
#include "ops/resize_entries.h"
#include "storage/storage.h"

/* All layers open for reading. */
struct judging {
    const struct vx_merge *merge;
    struct vx_merge_plan  *plan;
    struct vx_stack       *stack;
    struct vhdx_disk       above;  /* without the target: what is to be copied */
    struct vx_image       *image, *bottom, *target; /* the image itself, the layer above the target, the target */
    uint64_t               counted_block; /* blocks of the target below this one are counted */
    uint8_t               *bytes, *other; /* VX_PIECE_MOST each */
};

static int
judge_writable(const struct vx_merge *merge, unsigned layer, struct vhdx_error *err)
{
    struct vhdx_storage *storage = merge->storages[layer];

    if (merge->only_judge || !storage->traits.is_read_only)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET, "%s is open read-only",
                   vx_storage_name(storage));
}

/* G: the one an interrupted merge chose (G1), or a new one. */
static int
choose_guid(struct judging *j, struct vhdx_error *err)
{
    const struct vx_locator *locator = vx_image_locator(j->bottom);
    struct vhdx_guid         target_guid = vx_image_data_write_guid(j->target);

    j->plan->guid = locator->linkage2;
    j->plan->has_begun = vx_stack_link(j->bottom, &target_guid) == VX_LINK_SECOND ||
                         (!vhdx_guid_is_zero(&locator->linkage2) &&
                          !vhdx_guid_equal(&locator->linkage2, &target_guid));
    return j->plan->has_begun ? VHDX_OK : vx_guid_random(&j->plan->guid, err);
}

/* The target must be able to take size, items and link before anything is begun. */
static int
judge_metadata(struct judging *j, bool *is_change, struct vhdx_error *err)
{
    const struct vx_merge *merge = j->merge;
    struct vhdx_storage   *target = merge->storages[merge->count - 1];
    struct vx_merge_items  items;
    char                   braced[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text change = { "parent_linkage2", braced };
    int                    rc = VHDX_OK;

    vx_link_braced(braced, &j->plan->guid);
    rc = vx_link_change(j->bottom, &change, 1, false, merge->log_length_for_tests, err);
    if (rc < 0)
        return vx_stack_named(rc, merge->storages[merge->count - 2], err);
    if (j->plan->new_size > j->plan->old_size)
        rc = vx_resize_check_room(j->target, j->plan->new_size, err);
    if (rc == VHDX_OK)
        rc = vx_merge_items_plan(&items, j->image, j->target,
                                 vx_link_page_limit(j->target, merge->log_length_for_tests), err);
    if (rc == VHDX_OK) {
        *is_change = items.edit->page_count > 0;
        vx_merge_items_free(&items);
    }
    return vx_stack_named(rc, target, err);
}

static int
count_piece(void *context, const struct vx_piece *piece, struct vhdx_error *err)
{
    struct judging *j = context;
    uint32_t        block_size = vx_image_geometry(j->target)->block_size;
    uint64_t        first = vx_max_u64(piece->guest_offset / block_size, j->counted_block);
    uint64_t        end = vx_ceil_div(piece->guest_offset + piece->length, block_size);

    (void)err;
    if (!piece->is_zero)
        j->plan->bytes_to_copy += piece->length;
    if (end > first) {
        j->plan->blocks_to_change += end - first;
        j->counted_block = end;
    }
    return VHDX_OK;
}

/* 1 ends the walk: the target holds something else here. */
static int
compare_piece(void *context, const struct vx_piece *piece, struct vhdx_error *err)
{
    struct judging *j = context;
    unsigned        target_depth = j->merge->count - 1;
    uint64_t        at = piece->guest_offset, end = at + piece->length;

    while (at < end) {
        struct vhdx_extent extent;
        bool               lacks_parent;
        size_t             n;
        int rc = vx_disk_first_extent(&j->stack->disk, target_depth, at, end - at, &extent, &lacks_parent, err);

        if (rc < 0)
            return rc;
        if (lacks_parent)
            return 1; /* the target shows what lies below it */
        n = (size_t)vx_min_u64(extent.length, VX_PIECE_MOST);
        if ((extent.flags & VHDX_EXTENT_DATA) == 0 && piece->is_zero) {
            at += extent.length;
            continue;
        }
        rc = vx_disk_read_from(&j->stack->disk, target_depth, j->other, n, at, err);
        if (rc == VHDX_OK && !piece->is_zero)
            rc = vx_disk_read_from(&j->above, 0, j->bytes, n, at, err);
        if (rc < 0)
            return rc;
        if (piece->is_zero ? !vx_is_zero(j->other, n) : memcmp(j->bytes, j->other, n) != 0)
            return 1;
        at += n;
    }
    return VHDX_OK;
}

/* G5: is there nothing that the target lacks? */
static int
is_done(struct judging *j, bool items_change, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (j->plan->has_begun || items_change || j->plan->new_size != j->plan->old_size)
        return VHDX_OK;
    j->bytes = vx_alloc(VX_PIECE_MOST);
    j->other = vx_alloc(VX_PIECE_MOST);
    if (j->bytes == NULL || j->other == NULL)
        rc = vx_fail_memory(err, "the buffers of a comparison");
    if (rc == VHDX_OK)
        rc = vx_pieces_each(&j->above, NULL, compare_piece, j, err);
    vx_free(j->bytes);
    vx_free(j->other);
    j->plan->is_done = rc == VHDX_OK;
    if (j->plan->is_done)
        j->plan->guid = vx_image_data_write_guid(j->target);
    return rc < 0 ? rc : VHDX_OK;
}

static int
judge_open(struct judging *j, struct vhdx_error *err)
{
    unsigned count = j->merge->count;
    bool     items_change = false;
    int      rc;

    j->image = j->stack->disk.layers[0].image;
    j->bottom = j->stack->disk.layers[count - 2].image;
    j->target = j->stack->disk.layers[count - 1].image;
    j->above = j->stack->disk;
    j->above.layer_count = count - 1;
    j->plan->old_size = vx_image_geometry(j->target)->virtual_size;
    j->plan->new_size = vx_image_geometry(j->image)->virtual_size;
    j->plan->child_guid = vx_image_data_write_guid(j->image);
    rc = choose_guid(j, err);
    if (rc == VHDX_OK)
        rc = judge_metadata(j, &items_change, err);
    if (rc == VHDX_OK)
        rc = is_done(j, items_change, err);
    if (rc == VHDX_OK && !j->plan->is_done)
        rc = vx_pieces_each(&j->above, NULL, count_piece, j, err);
    return rc;
}

int
vx_merge_judge(const struct vx_merge *merge, struct vx_merge_plan *out, struct vhdx_error *err)
{
    struct judging j = { .merge = merge, .plan = out };
    int            rc;

    *out = (struct vx_merge_plan){ .is_done = false };
    rc = judge_writable(merge, 0, err);
    if (rc == VHDX_OK)
        rc = judge_writable(merge, merge->count - 2, err);
    if (rc == VHDX_OK)
        rc = judge_writable(merge, merge->count - 1, err);
    if (rc == VHDX_OK)
        rc = vx_stack_open(&j.stack, merge->storages, merge->count, NULL, merge->log_length_for_tests, err);
    if (rc < 0)
        return rc;
    rc = judge_open(&j, err);
    vx_stack_close(j.stack, NULL);
    return rc;
}
