/* The check of region tables, metadata and parent locator: V55 to V121, on the replayed view. */
#include "base/error.h"
#include "base/memory.h"
#include "format/locator.h"
#include "ops/check.h"
#include "storage/storage.h"

/* --- regions --- */

/* Whatever else the rules say of it: can its bytes be read and its entries be counted? */
static bool
is_readable(const struct vx_check *check, const struct vx_region *region)
{
    uint64_t end;

    return region->length > 0 && region->file_offset >= VX_HEADER_SECTION_SIZE &&
           vx_is_aligned(region->file_offset, VX_MIB) && vx_is_aligned(region->length, VX_MIB) &&
           vx_add_u64(region->file_offset, region->length, &end) && end <= check->file_length;
}

static void
judge_regions(struct vx_check *check, const uint8_t *tables)
{
    const uint8_t *copies[2] = { tables, tables + VX_REGION_TABLE_SIZE };
    int used_index;

    if (vx_region_table_choose(check->table, &used_index, copies[0], copies[1], &check->findings) < 0)
        return;
    vx_region_table_judge(check->table, copies[used_index], VX_REGION_TABLE_OFFSET(used_index), &check->header,
                          check->file_length, &check->regions, &check->findings);
    check->has_bat_region = is_readable(check, &check->regions.bat);
    check->has_metadata_region = is_readable(check, &check->regions.metadata);
}

int
vx_check_regions(struct vx_check *check, struct vhdx_error *err)
{
    uint8_t *tables = vx_alloc(2 * VX_REGION_TABLE_SIZE);
    int rc;

    if (tables == NULL)
        return vx_fail_memory(err, "the region tables");
    rc = vx_storage_read(check->view, tables, 2 * VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(0), err);
    if (rc == VHDX_OK)
        judge_regions(check, tables);
    if (!check->has_bat_region || !check->has_metadata_region)
        check->summary->is_complete = false;
    vx_free(tables);
    return rc;
}

/* --- metadata --- */

/* The table and the room to read items into. */
struct metadata_bytes {
    struct vx_metadata_table table;
    uint8_t                  raw[VX_METADATA_TABLE_SIZE];
    uint8_t                  item[VX_MAX_ITEM_LENGTH];
};

static bool
is_item_readable(const struct vx_check *check, const struct vx_metadata_entry *entry)
{
    return entry->length > 0 && entry->length <= VX_MAX_ITEM_LENGTH && entry->offset >= VX_METADATA_TABLE_SIZE &&
           (uint64_t)entry->offset + entry->length <= check->regions.metadata.length;
}

/* An item that is there and cannot be read is left out: V80 to V82 spoke of it. */
static int
take_item(struct vx_check *check, struct metadata_bytes *bytes, const struct vhdx_guid *item_id,
          struct vhdx_error *err)
{
    const struct vx_metadata_entry *entry = vx_metadata_find(&bytes->table, item_id);
    int rc;

    if (entry == NULL || !is_item_readable(check, entry))
        return VHDX_OK;
    rc = vx_storage_read(check->view, bytes->item, entry->length,
                         check->regions.metadata.file_offset + entry->offset, err);
    if (rc == VHDX_OK)
        vx_metadata_take_item(&check->metadata, entry, bytes->item);
    return rc;
}

static int
take_items(struct vx_check *check, struct metadata_bytes *bytes, struct vhdx_error *err)
{
    static const struct vhdx_guid *const ids[] = {
        &vx_guid_item_file_parameters,      &vx_guid_item_virtual_disk_size, &vx_guid_item_logical_sector_size,
        &vx_guid_item_physical_sector_size, &vx_guid_item_virtual_disk_id,
    };

    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        int rc = take_item(check, bytes, ids[i], err);

        if (rc < 0)
            return rc;
    }
    check->metadata.has_locator = vx_metadata_find(&bytes->table, &vx_guid_item_parent_locator) != NULL;
    return VHDX_OK;
}

/* The values that all index arithmetic rests on. */
static void
set_geometry(struct vx_check *check)
{
    static const int rules[] = { 91, 92, 93, 95, 97, 99 };
    const struct vx_metadata *metadata = &check->metadata;

    if (vx_check_report_has(&check->report, rules, sizeof rules / sizeof rules[0])) {
        check->summary->is_complete = false;
        return;
    }
    vx_geometry_init(&check->geometry, metadata->virtual_size, metadata->block_size, metadata->logical_sector_size,
                     metadata->has_parent, metadata->leave_blocks_allocated);
    check->has_geometry = true;
    check->summary->virtual_size = check->geometry.virtual_size;
    check->summary->total_blocks = check->geometry.payload_block_count;
}

/* A locator without HasParent (V102) is nobody's. */
static int
judge_locator(struct vx_check *check, struct metadata_bytes *bytes, struct vhdx_error *err)
{
    const struct vx_metadata_entry *entry = vx_metadata_find(&bytes->table, &vx_guid_item_parent_locator);
    struct vx_locator locator;
    uint64_t at;
    int rc;

    if (!check->metadata.has_parent || entry == NULL)
        return VHDX_OK;
    at = check->regions.metadata.file_offset + entry->offset;
    if (entry->length > 0 && !is_item_readable(check, entry)) {
        check->summary->is_complete = false;
        return VHDX_OK;
    }
    if (entry->length > 0) {
        rc = vx_storage_read(check->view, bytes->item, entry->length, at, err);
        if (rc < 0)
            return rc;
    }
    vx_locator_decode(&locator, bytes->item, entry->length, at, &check->findings);
    return VHDX_OK;
}

static int
judge_metadata(struct vx_check *check, struct metadata_bytes *bytes, struct vhdx_error *err)
{
    const struct vx_region *region = &check->regions.metadata;
    struct vhdx_error error;
    int rc;

    if (vx_metadata_table_decode(&bytes->table, bytes->raw, region->file_offset, &error) < 0) {
        vx_find_again(&check->findings, &error); /* V75, V76 */
        check->summary->is_complete = false;
        return VHDX_OK;
    }
    vx_metadata_table_judge(&bytes->table, bytes->raw, region->file_offset, region->length, &check->findings);
    rc = take_items(check, bytes, err);
    if (rc < 0)
        return rc;
    vx_metadata_judge(&check->metadata, region->file_offset, &check->findings);
    set_geometry(check);
    return judge_locator(check, bytes, err);
}

int
vx_check_metadata(struct vx_check *check, struct vhdx_error *err)
{
    struct metadata_bytes *bytes;
    int rc;

    if (!check->has_metadata_region)
        return VHDX_OK;
    bytes = vx_alloc_zeroed(1, sizeof *bytes);
    if (bytes == NULL)
        return vx_fail_memory(err, "the metadata");
    rc = vx_storage_read(check->view, bytes->raw, VX_METADATA_TABLE_SIZE, check->regions.metadata.file_offset, err);
    if (rc == VHDX_OK)
        rc = judge_metadata(check, bytes, err);
    vx_free(bytes);
    return rc;
}
