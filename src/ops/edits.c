/* See edits.h. */
#include "ops/edits.h"

#include "base/error.h"
#include "base/memory.h"

int
vx_edits_add(struct vx_edits *edits, uint64_t file_offset, const void *bytes, uint64_t length, struct vhdx_error *err)
{
    if (edits->count == edits->capacity) {
        size_t          wanted = edits->capacity * 2 + 8;
        struct vx_edit *items = vx_realloc_array(edits->items, wanted, sizeof *items);

        if (items == NULL)
            return vx_fail_memory(err, "a list of edits");
        edits->items = items;
        edits->capacity = wanted;
    }
    edits->items[edits->count++] = (struct vx_edit){ .file_offset = file_offset, .length = length, .bytes = bytes };
    return VHDX_OK;
}

/* The page with the checksum, and that of the entry, of one copy. */
static int
move_in_table(struct vx_edits *edits, struct vx_image *image, int copy, const struct vx_region *region, uint8_t *table,
              struct vhdx_error *err)
{
    uint64_t at = VX_REGION_TABLE_OFFSET(copy);
    uint64_t changed_at;
    int      rc = vx_image_read_structure(image, table, VX_REGION_TABLE_SIZE, at, err);

    if (rc < 0)
        return rc;
    if (!vx_region_table_move(table, &region->guid, region->file_offset, region->length, &changed_at))
        return vx_fail(err, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at,
                       "region table: the entry of a region that moves is gone");
    rc = vx_edits_add(edits, at, table, VX_PAGE, err);
    changed_at = vx_round_down(changed_at, VX_PAGE);
    if (rc == VHDX_OK && changed_at != 0) /* in a table of 128 entries and more */
        rc = vx_edits_add(edits, at + changed_at, table + changed_at, VX_PAGE, err);
    return rc;
}

int
vx_edits_move_region(struct vx_edits *edits, struct vx_image *image, const struct vhdx_guid *guid, uint64_t file_offset,
                     uint32_t length, uint8_t *tables, struct vhdx_error *err)
{
    const struct vx_region region = { .guid = *guid, .file_offset = file_offset, .length = length };
    int                    rc = VHDX_OK;

    for (int copy = 0; copy < 2 && rc == VHDX_OK; copy++)
        rc = move_in_table(edits, image, copy, &region, tables + (size_t)copy * VX_REGION_TABLE_SIZE, err);
    return rc;
}
