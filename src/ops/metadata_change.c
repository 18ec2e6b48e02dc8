/* See metadata_change.h. */
#include "ops/metadata_change.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "ops/link.h"
#include "ops/metadata_edit.h"
#include "storage/storage.h"

#define NO_ENTRY   UINT32_MAX
#define FLAGS_MASK (VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_REQUIRED)

/* --- user items --- */

static int
not_there(const struct vhdx_guid *id, struct vhdx_error *err)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, id);
    return vx_fail(err, VHDX_E_NOT_FOUND, VHDX_PART_METADATA, VHDX_NO_OFFSET, "there is no user item %s", text);
}

/* V84, V90: what there would be with an item of `length` bytes instead of number `index`. */
static int
judge_totals(const struct vx_metadata_edit *edit, uint32_t index, size_t length, struct vhdx_error *err)
{
    uint32_t count = 1;
    uint64_t total = length;

    for (uint32_t i = 0; i < edit->table.entry_count; i++) {
        if (i == index || (edit->table.entries[i].flags & VX_ITEM_IS_USER) == 0)
            continue;
        count++;
        total += edit->table.entries[i].length;
    }
    if (count > VHDX_METADATA_COUNT_MOST)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, edit->region.file_offset,
                       "an image holds at most %d user items (V84)", VHDX_METADATA_COUNT_MOST);
    if (total > VHDX_METADATA_TOTAL_MOST)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, edit->region.file_offset,
                       "user items would have %" PRIu64 " bytes together, and an image holds at most 40 MiB of them (V90)",
                       total);
    return VHDX_OK;
}

static int
set_item(struct vx_metadata_edit *edit, const struct vhdx_metadata_change *change, const struct vhdx_guid *id,
         struct vhdx_error *err)
{
    uint32_t index = vx_metadata_index_of(&edit->table, id, true);
    uint32_t flags = VX_ITEM_IS_USER | (change->is_virtual_disk ? VX_ITEM_IS_VIRTUAL_DISK : 0);
    int      rc;

    if (change->length > VHDX_METADATA_ITEM_MOST)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, edit->region.file_offset,
                       "an item holds at most 1 MiB, not %zu bytes (V80)", change->length);
    if (change->keeps_kind && index != NO_ENTRY)
        flags = edit->table.entries[index].flags & FLAGS_MASK;
    else if (change->keeps_kind)
        flags = VX_ITEM_IS_USER;
    rc = judge_totals(edit, index, change->length, err);
    return rc == VHDX_OK ? vx_metadata_edit_set(edit, id, flags, change->bytes, (uint32_t)change->length, err) : rc;
}

static int
remove_item(struct vx_metadata_edit *edit, const struct vhdx_guid *id, struct vhdx_error *err)
{
    if (vx_metadata_index_of(&edit->table, id, true) == NO_ENTRY)
        return not_there(id, err);
    vx_metadata_edit_remove(edit, id, true);
    return VHDX_OK;
}

/* --- items of the format: other bytes, everything else as it is --- */

static int
set_known(struct vx_metadata_edit *edit, const struct vhdx_guid *item_id, const uint8_t *bytes, uint32_t length,
          struct vhdx_error *err)
{
    uint32_t index = vx_metadata_index_of(&edit->table, item_id, false);
    uint32_t flags = VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK;

    if (index != NO_ENTRY)
        flags = edit->table.entries[index].flags & FLAGS_MASK;
    return vx_metadata_edit_set(edit, item_id, flags, bytes, length, err);
}

static int
set_sector_size(struct vx_metadata_edit *edit, uint32_t size, uint8_t bytes[4], struct vhdx_error *err)
{
    uint32_t logical = vx_image_geometry(edit->image)->logical_sector_size;

    if (size != 512 && size != 4096)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "a physical sector has 512 or 4096 bytes, not %" PRIu32, size);
    if (size < logical)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "a physical sector of %" PRIu32 " bytes is smaller than the disk's logical ones of %" PRIu32
                       " (V105)", size, logical);
    vx_put_le32(bytes, size);
    return set_known(edit, &vx_guid_item_physical_sector_size, bytes, 4, err);
}

/* --- the whole --- */

/* `scratch` holds the bytes of known items until the commit. */
static int
plan(struct vx_metadata_edit *edit, const struct vhdx_metadata_change *change, const struct vhdx_guid *id, uint8_t scratch[16],
     struct vhdx_error *err)
{
    switch (change->what) {
    case VHDX_METADATA_SET:
        return set_item(edit, change, id, err);
    case VHDX_METADATA_REMOVE:
        return remove_item(edit, id, err);
    case VHDX_METADATA_DISK_ID:
        vx_guid_store(scratch, id);
        return set_known(edit, &vx_guid_item_virtual_disk_id, scratch, 16, err);
    case VHDX_METADATA_PHYSICAL_SECTOR:
        return set_sector_size(edit, change->sector_size, scratch, err);
    }
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET, "there is no change %d", (int)change->what);
}

static int
carry_out(const struct vx_metadata_change *job, struct vx_image *image, struct vhdx_metadata_result *result,
          struct vhdx_error *err)
{
    size_t                   limit = vx_link_page_limit(image, job->log_length_for_tests);
    struct vx_metadata_edit *edit;
    uint8_t                  scratch[16];
    int                      rc = vx_metadata_edit_new(&edit, image, err);

    if (rc < 0)
        return rc;
    vx_metadata_edit_allow_move(edit, limit);
    rc = plan(edit, job->change, &result->id, scratch, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_prepare(edit, SIZE_MAX, err);
    if (rc == VHDX_OK) {
        result->is_changed = edit->page_count > 0;
        result->region_moved = vx_metadata_edit_moves(edit);
    }
    if (rc == VHDX_OK && result->is_changed && !job->only_judge)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    if (rc == VHDX_OK && result->is_changed && !job->only_judge)
        rc = vx_image_flush(image, err);
    return rc;
}

static int
draw_id(const struct vhdx_metadata_change *change, struct vhdx_guid *out, struct vhdx_error *err)
{
    *out = change->id;
    if (!vhdx_guid_is_zero(out) || change->what == VHDX_METADATA_REMOVE || change->what == VHDX_METADATA_PHYSICAL_SECTOR)
        return VHDX_OK;
    return vx_guid_random(out, err);
}

int
vx_metadata_change(const struct vx_metadata_change *job, struct vhdx_metadata_result *result, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !job->only_judge, .data_guid = VX_DATA_GUID_NEW,
                                              .log_length_for_tests = job->log_length_for_tests };
    struct vx_image *image;
    struct vhdx_info info;
    int              closed, rc = draw_id(job->change, &result->id, err);

    if (rc == VHDX_OK)
        rc = vx_image_open(&image, job->storage, &options, err);
    if (rc < 0)
        return rc;
    vx_image_fill_info(image, &info);
    result->is_dirty = info.is_dirty;
    rc = carry_out(job, image, result, err);
    closed = vx_image_close(image, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}
