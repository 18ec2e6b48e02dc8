/* Carrying out a merge: the steps of docs/vhdx-format.md 9.8, in their order (merge.h). */
#include "ops/merge.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/metadata.h"
#include "ops/job.h"
#include "ops/link.h"
#include "ops/metadata_edit.h"
#include "ops/pieces.h"
#include "ops/resize_entries.h"
#include "storage/storage.h"

struct merging {
    const struct vx_merge      *merge;
    const struct vx_merge_plan *plan;
    struct vhdx_chain_result   *result;
    struct vhdx_storage        *bottom_storage, *target_storage;
    struct vx_image            *target; /* open for writing, or NULL */
    struct vx_stack            *above;  /* what is copied; read-only */
    uint8_t                    *buffer; /* VX_PIECE_MOST */
    uint64_t                    counted_block;
};

static struct vx_image_options
writable(const struct merging *m, enum vx_data_guid data_guid)
{
    return (struct vx_image_options){ .is_writable = true, .data_guid = data_guid, .given_data_guid = m->plan->guid,
                                      .log_length_for_tests = m->merge->log_length_for_tests };
}

/* --- step 2: G above the target --- */

/* G3: what the chain lacks past the target's end reads as zeros; the image says so itself before the target grows. */
static int
show_zeros_past_end(struct merging *m, struct vx_stack *stack, struct vhdx_error *err)
{
    uint64_t at = m->plan->old_size, size = m->plan->new_size;
    int      rc = VHDX_OK;

    while (at < size && rc == VHDX_OK) {
        struct vhdx_extent extent;
        bool               lacks_parent;

        rc = vx_disk_first_extent(&stack->disk, 0, at, size - at, &extent, &lacks_parent, err);
        if (rc == VHDX_OK && lacks_parent)
            rc = vx_image_zero(stack->disk.layers[0].image, at, extent.length, false, err);
        at += extent.length;
    }
    return rc;
}

static int
cover_growth(struct merging *m, struct vhdx_error *err)
{
    const struct vx_image_options top = writable(m, VX_DATA_GUID_KEEP); /* no guest sees a difference */
    struct vx_stack *stack;
    int              rc;

    if (m->plan->new_size <= m->plan->old_size)
        return VHDX_OK;
    rc = vx_stack_open(&stack, m->merge->storages, m->merge->count - 1, &top, m->merge->log_length_for_tests, err);
    if (rc < 0)
        return rc;
    rc = show_zeros_past_end(m, stack, err);
    if (rc < 0) {
        vx_stack_close(stack, NULL);
        return vx_stack_named(rc, m->merge->storages[0], err);
    }
    return vx_stack_close(stack, err);
}

/* Change keys of the layer above the target; durable when it returns. */
static int
change_link(struct merging *m, const struct vx_locator_text *changes, size_t change_count, struct vhdx_error *err)
{
    const struct vx_image_options options = writable(m, VX_DATA_GUID_KEEP);
    struct vx_image *bottom;
    int              rc = vx_stack_open_image(&bottom, m->bottom_storage, &options, err);

    if (rc < 0)
        return rc;
    rc = vx_link_change(bottom, changes, change_count, true, m->merge->log_length_for_tests, err);
    if (rc < 0)
        vx_image_close(bottom, NULL);
    else
        rc = vx_image_close(bottom, err);
    return vx_stack_named(rc, m->bottom_storage, err);
}

static int
announce(struct merging *m, struct vhdx_error *err)
{
    char                         braced[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text change = { "parent_linkage2", braced };

    vx_link_braced(braced, &m->plan->guid);
    return change_link(m, &change, 1, err);
}

/* --- step 3: the target is G's, and large enough --- */

static int
open_target(struct merging *m, struct vhdx_error *err)
{
    const struct vx_image_options options = writable(m, VX_DATA_GUID_GIVEN);

    return vx_stack_open_image(&m->target, m->target_storage, &options, err);
}

static int
close_target(struct merging *m, struct vhdx_error *err)
{
    int rc = vx_image_close(m->target, err);

    m->target = NULL;
    return vx_stack_named(rc, m->target_storage, err);
}

static int
set_size(struct merging *m, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit;
    uint8_t                  bytes[8];
    int                      rc = vx_metadata_edit_new(&edit, m->target, err);

    if (rc < 0)
        return rc;
    vx_put_le64(bytes, m->plan->new_size);
    rc = vx_metadata_edit_set(edit, &vx_guid_item_virtual_disk_size,
                              VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_REQUIRED, bytes, sizeof bytes, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    return rc;
}

/* 9.4.  The image hides what appears past the old end (G3), and the copying replaces it. */
static int
grow(struct merging *m, struct vhdx_error *err)
{
    int rc;

    if (m->plan->new_size <= m->plan->old_size)
        return VHDX_OK;
    rc = vx_resize_clear_padding(m->target, m->plan->new_size, err);
    if (rc == VHDX_OK)
        rc = set_size(m, err);
    if (rc < 0)
        return vx_stack_named(rc, m->target_storage, err);
    rc = close_target(m, err);
    if (rc == VHDX_OK)
        rc = open_target(m, err);
    return rc;
}

/* --- step 4: the content --- */

static void
count_blocks(struct merging *m, const struct vx_piece *piece)
{
    uint32_t block_size = vx_image_geometry(m->target)->block_size;
    uint64_t first = vx_max_u64(piece->guest_offset / block_size, m->counted_block);
    uint64_t end = vx_ceil_div(piece->guest_offset + piece->length, block_size);

    if (end > first) {
        m->result->blocks_changed += end - first;
        m->counted_block = end;
    }
}

static int
copy_piece(void *context, const struct vx_piece *piece, struct vhdx_error *err)
{
    struct merging *m = context;
    size_t          length = (size_t)piece->length;
    int             rc;

    count_blocks(m, piece);
    if (piece->is_zero)
        return vx_stack_named(vx_image_zero(m->target, piece->guest_offset, piece->length, false, err),
                              m->target_storage, err);
    rc = vx_disk_read_from(&m->above->disk, 0, m->buffer, length, piece->guest_offset, err);
    if (rc < 0)
        return rc;
    m->result->bytes_copied += length;
    return vx_stack_named(vx_image_write(m->target, m->buffer, length, piece->guest_offset, err), m->target_storage,
                          err);
}

static int
copy_all(struct merging *m, struct vhdx_error *err)
{
    int rc = vx_stack_open(&m->above, m->merge->storages, m->merge->count - 1, NULL, m->merge->log_length_for_tests,
                           err);

    if (rc < 0)
        return rc;
    m->buffer = vx_alloc(VX_PIECE_MOST);
    if (m->buffer == NULL)
        rc = vx_fail_memory(err, "the buffer of a merge");
    if (rc == VHDX_OK)
        rc = vx_pieces_each(&m->above->disk, m->merge->progress, copy_piece, m, err);
    if (rc == VHDX_OK && vx_image_geometry(m->target)->is_fixed && m->plan->new_size > m->plan->old_size)
        rc = vx_stack_named(vx_resize_fill_fixed(m->target, m->plan->old_size, err), m->target_storage, err);
    return rc;
}

/* --- step 5: size and items --- */

static int
replace_items(struct merging *m, struct vhdx_error *err)
{
    struct vx_merge_items items;
    int                   rc = VHDX_OK;

    if (m->plan->new_size < m->plan->old_size)
        rc = vx_resize_drop_end(m->target, m->plan->new_size, err);
    if (rc == VHDX_OK)
        rc = vx_merge_items_plan(&items, m->above->disk.layers[0].image, m->target,
                                 vx_link_page_limit(m->target, m->merge->log_length_for_tests), err);
    if (rc == VHDX_OK) {
        rc = vx_metadata_edit_commit(items.edit, err);
        vx_merge_items_free(&items);
    }
    return vx_stack_named(rc, m->target_storage, err);
}

/* A fixed image that was cut gives its end back in a session that knows the new size. */
static int
cut_fixed(struct merging *m, struct vhdx_error *err)
{
    bool is_fixed = vx_image_geometry(m->target)->is_fixed;
    int  rc = close_target(m, err);

    if (rc < 0 || !is_fixed || m->plan->new_size >= m->plan->old_size)
        return rc;
    rc = open_target(m, err);
    if (rc == VHDX_OK)
        rc = vx_stack_named(vx_image_edit(m->target, NULL, 0, err), m->target_storage, err);
    return rc == VHDX_OK ? close_target(m, err) : rc;
}

/* --- step 6 --- */

static int
conclude(struct merging *m, struct vhdx_error *err)
{
    char linkage[VX_BRACED_GUID_SIZE], none[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text changes[] = { { "parent_linkage", linkage }, { "parent_linkage2", none } };

    vx_link_braced(linkage, &m->plan->guid);
    vx_link_braced(none, &(struct vhdx_guid){ .bytes = { 0 } });
    return change_link(m, changes, 2, err);
}

static int
merge_steps(struct merging *m, struct vhdx_error *err)
{
    int rc = open_target(m, err);      /* judged with all its space before anything is begun */

    if (rc == VHDX_OK)
        rc = cover_growth(m, err);
    if (rc == VHDX_OK)
        rc = announce(m, err);         /* G1: durable first, */
    if (rc == VHDX_OK)                 /* then the target's header */
        rc = vx_stack_named(vx_image_edit(m->target, NULL, 0, err), m->target_storage, err);
    if (rc == VHDX_OK)
        rc = grow(m, err);
    if (rc == VHDX_OK)
        rc = copy_all(m, err);
    if (rc == VHDX_OK)
        rc = replace_items(m, err);
    if (rc == VHDX_OK)
        rc = cut_fixed(m, err);        /* durable and closed, */
    if (rc == VHDX_OK)
        rc = conclude(m, err);         /* G5: then the link says so */
    return rc;
}

int
vx_merge_carry_out(const struct vx_merge *merge, const struct vx_merge_plan *plan, struct vhdx_chain_result *result,
                   struct vhdx_error *err)
{
    struct merging m = {
        .merge = merge, .plan = plan, .result = result,
        .bottom_storage = merge->storages[merge->count - 2], .target_storage = merge->storages[merge->count - 1],
    };
    int rc;

    if (plan->is_done)
        return VHDX_OK;
    rc = merge_steps(&m, err);
    vx_stack_close(m.above, NULL);
    if (m.target != NULL)
        vx_image_close(m.target, NULL);
    vx_free(m.buffer);
    return rc;
}
