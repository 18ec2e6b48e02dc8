/*
 * The metadata items that belong to the virtual disk (docs/vhdx-format.md 2.8): on a merge the target loses its own and gets
 * the image's, in one log entry.
 */
#include "base/error.h"
#include "base/memory.h"
#include "ops/merge.h"
#include "ops/metadata_edit.h"

#define FLAGS_MASK (VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_REQUIRED)

static bool
travels(const struct vx_metadata_entry *entry)
{
    return (entry->flags & VX_ITEM_IS_VIRTUAL_DISK) != 0;
}

/* Those of the target that the image has not. */
static void
remove_lost(struct vx_metadata_edit *edit, const struct vx_metadata_table *from)
{
    for (uint32_t i = edit->table.entry_count; i-- > 0;) {
        const struct vx_metadata_entry *entry = &edit->table.entries[i];
        bool     is_user = (entry->flags & VX_ITEM_IS_USER) != 0;
        uint32_t index = vx_metadata_index_of(from, &entry->item_id, is_user);

        if (travels(entry) && (index == UINT32_MAX || !travels(&from->entries[index])))
            vx_metadata_remove_entry(&edit->table, i);
    }
}

/* All the items' bytes, one after the other. */
static int
read_items(struct vx_merge_items *items, const struct vx_metadata_edit *from, uint64_t most, struct vhdx_error *err)
{
    uint64_t total = 0;
    uint8_t *p;
    int      rc = VHDX_OK;

    for (uint32_t i = 0; i < from->table.entry_count; i++) {
        const struct vx_metadata_entry *entry = &from->table.entries[i];

        if (travels(entry) && (uint64_t)entry->offset + entry->length > from->region.length)
            return vx_fail(err, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, from->region.file_offset,
                           "an item of the disk lies outside of the metadata region (V82)");
        total += travels(entry) ? entry->length : 0;
    }
    if (total > most)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, VHDX_NO_OFFSET,
                       "the log is too small: the items of the disk have %llu bytes and one entry of the target's log "
                       "holds %llu (L14)", (unsigned long long)total, (unsigned long long)most);
    p = items->bytes = vx_alloc((size_t)total + 1);
    if (p == NULL)
        return vx_fail_memory(err, "the items of the disk");
    for (uint32_t i = 0; i < from->table.entry_count && rc == VHDX_OK; i++) {
        const struct vx_metadata_entry *entry = &from->table.entries[i];

        if (!travels(entry) || entry->length == 0)
            continue;
        rc = vx_image_read_structure(from->image, p, entry->length, from->region.file_offset + entry->offset, err);
        p += entry->length;
    }
    return rc;
}

static int
set_items(struct vx_merge_items *items, const struct vx_metadata_table *from, struct vhdx_error *err)
{
    const uint8_t *p = items->bytes;
    int            rc = VHDX_OK;

    for (uint32_t i = 0; i < from->entry_count && rc == VHDX_OK; i++) {
        const struct vx_metadata_entry *entry = &from->entries[i];

        if (!travels(entry))
            continue;
        rc = vx_metadata_edit_set(items->edit, &entry->item_id, entry->flags & FLAGS_MASK, p, entry->length, err);
        p += entry->length;
    }
    return rc;
}

int
vx_merge_items_plan(struct vx_merge_items *out, struct vx_image *from, struct vx_image *target, size_t page_limit,
                    struct vhdx_error *err)
{
    struct vx_metadata_edit *source = NULL;
    int                      rc;

    *out = (struct vx_merge_items){ .edit = NULL };
    rc = vx_metadata_edit_new(&source, from, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_new(&out->edit, target, err);
    if (rc == VHDX_OK)
        rc = read_items(out, source, (uint64_t)page_limit * VX_PAGE, err);
    if (rc == VHDX_OK) {
        remove_lost(out->edit, &source->table);
        rc = set_items(out, &source->table, err);
    }
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_prepare(out->edit, page_limit, err);
    vx_metadata_edit_free(source);
    if (rc < 0)
        vx_merge_items_free(out);
    return rc;
}

void
vx_merge_items_free(struct vx_merge_items *items)
{
    vx_metadata_edit_free(items->edit);
    vx_free(items->bytes);
    *items = (struct vx_merge_items){ .edit = NULL };
}
