/* See flatten.h. */
#include "ops/flatten.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/error.h"
#include "ops/copy_up.h"
#include "ops/metadata_edit.h"
#include "ops/stack.h"
#include "storage/storage.h"

static int
read_parent(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    return vx_disk_read_from(context, 0, buffer, length, guest_offset, err);
}

/* --- no block in state 7 any more --- */

/* A block that holds all its sectors, though its bitmap says so and not its state (V156). */
static int
promote(struct vx_image *image, uint64_t block_index, uint8_t entry[8], struct vhdx_error *err)
{
    const struct vx_geometry *g = vx_image_geometry(image);
    struct vx_layer_extent    extent;
    int rc = vx_image_resolve(image, block_index << g->block_shift, vx_geometry_block_length(g, block_index), &extent,
                              err);

    if (rc < 0)
        return rc;
    if (extent.source != VX_LAYER_DATA || extent.length < vx_geometry_block_length(g, block_index))
        return vx_fail(err, VHDX_E_BAD_BITMAP, VHDX_PART_SECTOR_BITMAP, VHDX_NO_OFFSET,
                       "block %" PRIu64 " still asks the parent", block_index);
    vx_put_le64(entry, (vx_le64(entry) & ~UINT64_C(7)) | VX_BLOCK_FULLY_PRESENT);
    return VHDX_OK;
}

static int
promote_in_page(struct vx_image *image, uint64_t bat_offset, uint64_t at, struct vhdx_error *err)
{
    const struct vx_geometry *g = vx_image_geometry(image);
    uint8_t                   page[VX_PAGE];
    bool                      is_change = false;
    int                       rc = vx_image_read_structure(image, page, sizeof page, bat_offset + at, err);

    for (size_t i = 0; i < VX_PAGE && rc == VHDX_OK; i += 8) {
        uint64_t index;

        if (!vx_geometry_is_payload_entry(g, (at + i) / 8, &index) || index >= g->payload_block_count ||
            (vx_le64(page + i) & 7) != VX_BLOCK_PARTIALLY_PRESENT)
            continue;
        rc = promote(image, index, page + i, err);
        is_change = true;
    }
    if (rc < 0 || !is_change)
        return rc;
    return vx_image_edit(image, &(struct vx_edit){ .file_offset = bat_offset + at, .length = VX_PAGE, .bytes = page },
                         1, err);
}

static int
promote_all(struct vx_image *image, struct vhdx_error *err)
{
    struct vhdx_info info;
    int              rc = VHDX_OK;

    vx_image_fill_info(image, &info);
    for (uint64_t at = 0; at < vx_image_geometry(image)->bat_entry_count * 8 && rc == VHDX_OK; at += VX_PAGE)
        rc = promote_in_page(image, info.bat_offset, at, err);
    return rc;
}

static int
drop_bitmaps(struct vx_image *image, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (uint64_t chunk = 0; chunk < vx_image_geometry(image)->bitmap_block_count && rc == VHDX_OK; chunk++) {
        bool is_freed;

        rc = vx_image_drop_bitmap(image, chunk, &is_freed, err);
    }
    return rc;
}

/* --- the last entry --- */

/* LeaveBlocksAllocated says nothing in a child and would make a fixed image of what is none: it goes too. */
static int
become_dynamic(struct vx_image *image, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit;
    uint8_t                  parameters[8];
    int                      rc = vx_metadata_edit_new(&edit, image, err);

    if (rc < 0)
        return rc;
    vx_put_le32(parameters, vx_image_metadata(image)->block_size);
    vx_put_le32(parameters + 4, 0);
    vx_metadata_edit_remove(edit, &vx_guid_item_parent_locator, false);
    rc = vx_metadata_edit_set(edit, &vx_guid_item_file_parameters, VX_ITEM_IS_REQUIRED, parameters,
                              sizeof parameters, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    return rc;
}

/* T1 */
static int
flatten_steps(const struct vx_flatten *job, struct vx_image *image, struct vhdx_chain_result *result,
              struct vhdx_error *err)
{
    const struct vx_copy_up up = { .child = image, .parent = job->parent, .only_count = job->only_count,
                                   .progress = job->progress, .result = result };
    int rc;

    vx_image_set_below(image, &(struct vx_below){ .read = read_parent, .context = job->parent });
    rc = vx_copy_up_all(&up, err);
    if (rc < 0 || job->only_count)
        return rc;
    rc = promote_all(image, err);
    if (rc == VHDX_OK)
        rc = vx_image_flush(image, err);
    if (rc == VHDX_OK)
        rc = drop_bitmaps(image, err);
    if (rc == VHDX_OK)
        rc = vx_image_flush(image, err);
    if (rc == VHDX_OK)
        rc = become_dynamic(image, err);
    return vx_stack_named(rc, job->storage, err);
}

/* The parent must be the one the image asks for. */
static int
judge(const struct vx_flatten *job, struct vx_image *image, struct vhdx_error *err)
{
    const struct vx_layer *top = &job->parent->layers[0];

    if (top->image == NULL)
        return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s is no VHDX image", top->name);
    return vx_stack_check_link(image, vx_storage_name(job->storage), top->image, top->name, err);
}

int
vx_flatten(const struct vx_flatten *job, struct vhdx_chain_result *result, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !job->only_count, .data_guid = VX_DATA_GUID_KEEP,
                                              .log_length_for_tests = job->log_length_for_tests };
    struct vx_image *image;
    int              rc = vx_stack_open_image(&image, job->storage, &options, err);

    if (rc < 0)
        return rc;
    rc = judge(job, image, err);
    if (rc == VHDX_OK)
        rc = flatten_steps(job, image, result, err);
    if (rc < 0) {
        vx_image_close(image, NULL);
        return rc;
    }
    return vx_stack_named(vx_image_close(image, err), job->storage, err);
}
