/*
 * Repair of the metadata.  In place: values that decide about the disk (V91, V93, V95, V97) where the rest of the file proves
 * them, V98 and V100 by their stand-ins, V80, V82 and V86 of items nobody here needs.  Through the log: V77, V79, V81,
 * V87, V94, V96, V102, V103.
 *
 *   M1  A value is proven when, of all it could be, it is the only one with which the block table is free of faults and all
 *       space of the file belongs to something.
 *   M2  In place an item is written where nothing lies; its entry, 32 bytes of one sector, follows when it is durable; the
 *       count of entries after that.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "image/image.h"
#include "ops/metadata_edit.h"
#include "ops/repair.h"
#include "storage/scratch.h"
#include "storage/storage.h"

#define ENTRY_SIZE 32u
#define NO_ENTRY   UINT32_MAX

#define FILE_ITEM (VX_ITEM_IS_REQUIRED)
#define DISK_ITEM (VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK)

/* The table as it is, and where it lies. */
struct metadata_at {
    struct vx_region         region;
    struct vx_metadata_table table;
};

static int
read_table(struct vhdx_storage *storage, const struct vx_look *look, struct metadata_at **out, struct vhdx_error *err)
{
    struct metadata_at *at = vx_alloc(sizeof *at);
    uint8_t            *bytes = vx_alloc(VX_METADATA_TABLE_SIZE);
    int                 rc = VHDX_OK;

    if (at == NULL || bytes == NULL)
        rc = vx_fail_memory(err, "the metadata");
    if (rc == VHDX_OK) {
        at->region = look->check->regions.metadata;
        rc = vx_storage_read(storage, bytes, VX_METADATA_TABLE_SIZE, at->region.file_offset, err);
    }
    if (rc == VHDX_OK)
        rc = vx_metadata_table_decode(&at->table, bytes, at->region.file_offset, err);
    vx_free(bytes);
    if (rc < 0)
        vx_free(at);
    else
        *out = at;
    return rc;
}

/* --- M2 --- */

static int
write_entry(struct vhdx_storage *storage, const struct metadata_at *at, uint32_t index,
            const struct vx_metadata_entry *entry, struct vhdx_error *err)
{
    uint8_t bytes[ENTRY_SIZE] = { 0 };
    int     rc;

    vx_guid_store(bytes, &entry->item_id);
    vx_put_le32(bytes + 16, entry->offset);
    vx_put_le32(bytes + 20, entry->length);
    vx_put_le32(bytes + 24, entry->flags);
    rc = vx_storage_write(storage, bytes, sizeof bytes, at->region.file_offset + ENTRY_SIZE * ((uint64_t)index + 1), err);
    return rc == VHDX_OK ? vx_storage_flush(storage, err) : rc;
}

static int
write_count(struct vhdx_storage *storage, const struct metadata_at *at, uint32_t count, struct vhdx_error *err)
{
    uint8_t bytes[2];
    int     rc;

    vx_put_le16(bytes, (uint16_t)count);
    rc = vx_storage_write(storage, bytes, sizeof bytes, at->region.file_offset + 10, err);
    return rc == VHDX_OK ? vx_storage_flush(storage, err) : rc;
}

static bool
is_readable(const struct metadata_at *at, const struct vx_metadata_entry *entry)
{
    return entry->offset >= VX_METADATA_TABLE_SIZE && (uint64_t)entry->offset + entry->length <= at->region.length;
}

static int
write_item(struct vhdx_storage *storage, const struct metadata_at *at, uint32_t offset, const uint8_t *bytes,
           uint32_t length, struct vhdx_error *err)
{
    int rc = vx_storage_write(storage, bytes, length, at->region.file_offset + offset, err);

    return rc == VHDX_OK ? vx_storage_flush(storage, err) : rc;
}

/* Give a system item its value: over the old one where that has the right length, else in a gap. */
static int
set_item(struct vhdx_storage *storage, struct metadata_at *at, const struct vhdx_guid *item_id, uint32_t flags,
         const uint8_t *bytes, uint32_t length, struct vhdx_error *err)
{
    uint32_t                 index = vx_metadata_index_of(&at->table, item_id, false), count = at->table.entry_count;
    struct vx_metadata_entry entry = { .item_id = *item_id, .length = length, .flags = flags };
    int                      rc;

    if (index != NO_ENTRY && at->table.entries[index].length == length && is_readable(at, &at->table.entries[index]))
        return write_item(storage, at, at->table.entries[index].offset, bytes, length, err);
    entry.offset = vx_metadata_find_gap(&at->table, at->region.length, length, index);
    if (entry.offset == 0 || (index == NO_ENTRY && count == VX_MAX_METADATA_ENTRIES))
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, at->region.file_offset, "the metadata region has no room");
    rc = write_item(storage, at, entry.offset, bytes, length, err);
    if (rc == VHDX_OK)
        rc = write_entry(storage, at, index != NO_ENTRY ? index : count, &entry, err);
    if (rc < 0)
        return rc;
    at->table.entries[index != NO_ENTRY ? index : count] = entry;
    if (index != NO_ENTRY)
        return VHDX_OK;
    at->table.entry_count++;
    return write_count(storage, at, count + 1, err);
}

/* --- M1 --- */

struct shape {
    uint32_t block_size, flags, logical_sector_size;
    bool     sets_parameters, sets_sector;
};

static int
set_shape(struct vhdx_storage *storage, struct metadata_at *at, const struct shape *shape, struct vhdx_error *err)
{
    uint8_t parameters[8], sector[4];
    int     rc = VHDX_OK;

    vx_put_le32(parameters, shape->block_size);
    vx_put_le32(parameters + 4, shape->flags);
    vx_put_le32(sector, shape->logical_sector_size);
    if (shape->sets_parameters)
        rc = set_item(storage, at, &vx_guid_item_file_parameters, FILE_ITEM, parameters, sizeof parameters, err);
    if (rc == VHDX_OK && shape->sets_sector)
        rc = set_item(storage, at, &vx_guid_item_logical_sector_size, DISK_ITEM, sector, sizeof sector, err);
    return rc;
}

/* No fault in the table with this shape, and nothing in the file that belongs to nobody? */
static bool
is_free_of_faults(const struct vx_look *look)
{
    static const int of_items[] = { 91, 92, 93, 95, 97, 99, 148, 149 };

    for (size_t i = 0; i < sizeof of_items / sizeof of_items[0]; i++) {
        if (vx_look_has(look, of_items[i]))
            return false;
    }
    for (int rule = 130; rule <= 145; rule++) {
        if (vx_look_has(look, rule))
            return false;
    }
    return look->summary.is_complete && look->summary.allocated_blocks > 0;
}

static int
try_shape(struct vx_repair *repair, const struct vx_look *look, const struct shape *shape, bool *fits,
          struct vhdx_error *err)
{
    struct vx_repair    trial = *repair;
    struct metadata_at *at;
    struct vx_look      then;
    int                 rc = vx_scratch_new(&trial.storage, repair->storage, err);

    *fits = false;
    if (rc < 0)
        return rc;
    rc = read_table(trial.storage, look, &at, err);
    if (rc == VHDX_OK) {
        rc = set_shape(trial.storage, at, shape, err);
        vx_free(at);
    }
    if (rc == VHDX_OK)
        rc = vx_repair_look(&trial, false, &then, err);
    if (rc == VHDX_OK) {
        *fits = is_free_of_faults(&then);
        vx_repair_look_away(&then);
    }
    vhdx_storage_close(trial.storage);
    return rc == VHDX_E_LIMIT ? VHDX_OK : rc;
}

/* Every shape that is possible, given what is known. */
static int
prove(struct vx_repair *repair, const struct vx_look *look, const struct shape *known, struct shape *found,
      unsigned *found_count, struct vhdx_error *err)
{
    static const uint32_t sectors[] = { 512, 4096 };
    struct shape          shape = *known;

    *found_count = 0;
    for (uint64_t size = VX_MIN_BLOCK_SIZE; size <= VX_MAX_BLOCK_SIZE; size *= 2) {
        for (size_t i = 0; i < sizeof sectors / sizeof sectors[0]; i++) {
            bool fits;
            int  rc;

            if ((known->block_size != 0 && known->block_size != size) ||
                (known->logical_sector_size != 0 && known->logical_sector_size != sectors[i]))
                continue;
            shape.block_size = (uint32_t)size;
            shape.logical_sector_size = sectors[i];
            rc = try_shape(repair, look, &shape, &fits, err);
            if (rc < 0)
                return rc;
            if (fits && (*found_count)++ == 0)
                *found = shape;
        }
    }
    return VHDX_OK;
}

static int
shape_rule(const struct vx_look *look)
{
    static const int rules[] = { 91, 95, 93, 97 };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (vx_look_has(look, rules[i]))
            return rules[i];
    }
    return 0;
}

/* What the values are that are not in doubt. */
static struct shape
known_shape(const struct vx_look *look)
{
    const struct vx_metadata *metadata = &look->check->metadata;
    struct shape shape = {
        .sets_parameters = vx_look_has(look, 91) || vx_look_has(look, 95),
        .sets_sector = vx_look_has(look, 93) || vx_look_has(look, 97),
        .flags = metadata->has_file_parameters ? metadata->file_parameter_flags & 3 : metadata->has_locator ? 2 : 0,
    };

    if (!shape.sets_parameters)
        shape.block_size = metadata->block_size;
    if (!shape.sets_sector)
        shape.logical_sector_size = metadata->logical_sector_size;
    return shape;
}

static int
mend_shape(struct vx_repair *repair, const struct vx_look *look, struct metadata_at *at, struct vhdx_error *err)
{
    struct vx_step step = { .rule = shape_rule(look), .file_offset = at->region.file_offset };
    struct shape   known = known_shape(look), found;
    unsigned       count;
    int            rc;

    if (step.rule == 0)
        return VHDX_OK;
    rc = prove(repair, look, &known, &found, &count, err);
    if (rc < 0)
        return rc;
    step.is_left = count != 1;
    if (count == 0)
        vx_repair_tell(repair, &step, "no block and sector size fits the block table and the space of the file");
    else if (count > 1)
        vx_repair_tell(repair, &step, "%u block and sector sizes fit the block table: nothing proves which is right", count);
    if (step.is_left)
        return VHDX_OK;
    vx_repair_tell(repair, &step, "blocks have %" PRIu32 " bytes and sectors %" PRIu32 ": only that fits the block table and "
                   "the space of the file", found.block_size, found.logical_sector_size);
    rc = vx_repair_begin(repair, false, err);
    return rc == VHDX_OK ? set_shape(repair->storage, at, &found, err) : rc;
}

/* --- stand-ins --- */

static int
mend_physical_size(struct vx_repair *repair, const struct vx_look *look, struct metadata_at *at, struct vhdx_error *err)
{
    const struct vx_step step = { .rule = 98, .file_offset = at->region.file_offset };
    uint32_t             size = look->check->metadata.logical_sector_size;
    uint8_t              bytes[4];
    int                  rc;

    if (!vx_look_has(look, 98) || !look->check->has_geometry)
        return VHDX_OK;
    vx_repair_tell(repair, &step, "the physical sector size becomes %" PRIu32 ", the logical one, as readers say already",
                   size);
    vx_put_le32(bytes, size);
    rc = vx_repair_begin(repair, false, err);
    return rc == VHDX_OK ? set_item(repair->storage, at, &vx_guid_item_physical_sector_size, DISK_ITEM, bytes,
                                    sizeof bytes, err) : rc;
}

static int
mend_disk_id(struct vx_repair *repair, const struct vx_look *look, struct metadata_at *at, struct vhdx_error *err)
{
    const struct vx_step step = { .rule = 100, .is_loss = true, .file_offset = at->region.file_offset };
    struct vhdx_guid     id;
    uint8_t              bytes[16];
    int                  rc;

    if (!vx_look_has(look, 100))
        return VHDX_OK;
    vx_repair_tell(repair, &step, "the disk gets a new id: guests that knew the old one may take it for another disk");
    rc = vx_guid_random(&id, err);
    if (rc == VHDX_OK)
        rc = vx_repair_begin(repair, true, err);
    if (rc < 0)
        return rc;
    vx_guid_store(bytes, &id);
    return set_item(repair->storage, at, &vx_guid_item_virtual_disk_id, DISK_ITEM, bytes, sizeof bytes, err);
}

/* --- items nobody here needs --- */

static bool
is_known_item(const struct vx_metadata_entry *entry)
{
    static const struct vhdx_guid *const ids[] = {
        &vx_guid_item_file_parameters,      &vx_guid_item_virtual_disk_size, &vx_guid_item_logical_sector_size,
        &vx_guid_item_physical_sector_size, &vx_guid_item_virtual_disk_id,   &vx_guid_item_parent_locator,
        &vx_guid_item_incomplete,
    };

    if ((entry->flags & VX_ITEM_IS_USER) != 0)
        return false;
    for (size_t i = 0; i < sizeof ids / sizeof ids[0]; i++) {
        if (vhdx_guid_equal(&entry->item_id, ids[i]))
            return true;
    }
    return false;
}

static int
mend_entry(struct vx_repair *repair, struct metadata_at *at, uint32_t index, struct vhdx_error *err)
{
    struct vx_metadata_entry entry = at->table.entries[index];
    struct vx_step step = { .file_offset = at->region.file_offset + ENTRY_SIZE * ((uint64_t)index + 1) };
    char           id[VHDX_GUID_TEXT_SIZE];
    int            rc;

    if (is_known_item(&entry))
        return VHDX_OK;
    vhdx_guid_format(id, &entry.item_id);
    if (entry.length > VX_MAX_ITEM_LENGTH || (entry.length > 0 && !is_readable(at, &entry))) {
        step.rule = entry.length > VX_MAX_ITEM_LENGTH ? 80 : 82;
        step.is_loss = true;
        vx_repair_tell(repair, &step, "item %s becomes empty: it says that it lies where no item can", id);
        entry.offset = entry.length = 0;
    }
    if ((entry.flags & VX_ITEM_IS_USER) != 0 && (entry.flags & VX_ITEM_IS_REQUIRED) != 0) {
        step.rule = 86;
        step.is_loss = false;
        vx_repair_tell(repair, &step, "user item %s is no longer required", id);
        entry.flags &= ~VX_ITEM_IS_REQUIRED;
    }
    if (step.rule == 0)
        return VHDX_OK;
    rc = vx_repair_begin(repair, false, err);
    at->table.entries[index] = entry;
    return rc == VHDX_OK ? write_entry(repair->storage, at, index, &entry, err) : rc;
}

/* --- in place --- */

static int
mend_in_place(struct vx_repair *repair, const struct vx_look *look, struct metadata_at *at, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (uint32_t i = 0; i < at->table.entry_count && rc == VHDX_OK; i++)
        rc = mend_entry(repair, at, i, err);
    if (rc == VHDX_OK)
        rc = mend_physical_size(repair, look, at, err);
    return rc == VHDX_OK ? mend_disk_id(repair, look, at, err) : rc;
}

static bool
needs_in_place(const struct vx_look *look)
{
    static const int rules[] = { 80, 82, 86, 91, 93, 95, 97, 98, 100 };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (vx_look_has(look, rules[i]))
            return vx_repair_may_write(look) && look->check->has_metadata_region && !vx_look_has(look, 75) &&
                   !vx_look_has(look, 76) && !vx_look_has(look, 78);
    }
    return false;
}

/* The values that decide about the disk first: what stands in for others may follow from them. */
int
vx_repair_metadata(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    struct metadata_at *at;
    struct vx_look      then;
    int                 rc;

    if (!needs_in_place(look))
        return VHDX_OK;
    rc = read_table(repair->storage, look, &at, err);
    if (rc < 0)
        return rc;
    rc = mend_shape(repair, look, at, err);
    if (rc == VHDX_OK)
        rc = vx_repair_look(repair, false, &then, err);
    if (rc == VHDX_OK) {
        rc = mend_in_place(repair, &then, at, err);
        vx_repair_look_away(&then);
    }
    vx_free(at);
    return rc == VHDX_E_LIMIT ? VHDX_OK : rc;
}

/* --- through the log --- */

static const struct {
    int         rule;
    const char *text;
} table_rules[] = {
    { 77, "reserved fields of the metadata table become 0" },
    { 79, "items without an id go" },
    { 81, "empty items lose their place" },
    { 87, "reserved bits of the items become 0" },
    { 94, "the known items get their usual flags" },
    { 96, "reserved bits of File Parameters become 0" },
    { 102, "the parent locator goes: every block is here, so no parent is asked" },
    { 103, "LeaveBlocksAllocated goes: an image with a parent is never fixed" },
};

static uint32_t
usual_flags(const struct vx_metadata_entry *entry)
{
    if (!is_known_item(entry) || vhdx_guid_equal(&entry->item_id, &vx_guid_item_incomplete))
        return entry->flags & (VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_REQUIRED);
    if (vhdx_guid_equal(&entry->item_id, &vx_guid_item_file_parameters) ||
        vhdx_guid_equal(&entry->item_id, &vx_guid_item_parent_locator))
        return FILE_ITEM;
    return DISK_ITEM;
}

static void
tidy_entries(struct vx_metadata_edit *edit, bool drops_locator)
{
    memset(edit->old_table + 12, 0, ENTRY_SIZE - 12); /* V77: what the edit would keep */
    for (uint32_t i = 0; i < edit->table.entry_count;) {
        struct vx_metadata_entry *entry = &edit->table.entries[i];

        if (vhdx_guid_is_zero(&entry->item_id)) {
            vx_metadata_remove_entry(&edit->table, i);
            continue;
        }
        entry->flags = usual_flags(entry);
        entry->reserved2 = 0;
        if (entry->length == 0)
            entry->offset = 0;
        i++;
    }
    if (drops_locator)
        vx_metadata_edit_remove(edit, &vx_guid_item_parent_locator, false);
}

/* V96, V103: HasParent wins. */
static int
tidy_parameters(struct vx_metadata_edit *edit, uint8_t bytes[8], struct vhdx_error *err)
{
    uint32_t index = vx_metadata_index_of(&edit->table, &vx_guid_item_file_parameters, false), flags;
    int      rc;

    if (index == NO_ENTRY)
        return VHDX_OK;
    rc = vx_image_read_structure(edit->image, bytes, 8, edit->region.file_offset + edit->table.entries[index].offset, err);
    if (rc < 0)
        return rc;
    flags = vx_le32(bytes + 4) & 3;
    vx_put_le32(bytes + 4, (flags & 2) != 0 ? 2 : flags);
    return vx_metadata_edit_set(edit, &vx_guid_item_file_parameters, FILE_ITEM, bytes, 8, err);
}

static int
tidy(struct vx_image *image, bool drops_locator, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit;
    uint8_t                  parameters[8];
    int                      rc = vx_metadata_edit_new(&edit, image, err);

    if (rc < 0)
        return rc;
    tidy_entries(edit, drops_locator);
    rc = tidy_parameters(edit, parameters, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    return rc == VHDX_OK ? vx_image_flush(image, err) : rc;
}

/* V102: was the mark of a differencing image lost, or is the locator left over?  When no block asks a parent, it is the
 * same. */
static bool
may_drop_locator(const struct vx_look *look)
{
    return vx_look_has(look, 102) && look->check->has_geometry &&
           look->summary.allocated_blocks == look->summary.total_blocks;
}

int
vx_repair_metadata_table(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    bool             drops_locator = may_drop_locator(look), has_some = false;
    struct vx_image *image;
    int              rc, closed;

    for (size_t i = 0; i < sizeof table_rules / sizeof table_rules[0]; i++)
        has_some |= vx_look_has(look, table_rules[i].rule) && (table_rules[i].rule != 102 || drops_locator);
    if (vx_look_has(look, 102) && !drops_locator) {
        const struct vx_step left = { .rule = 102, .is_left = true, .file_offset = look->check->regions.metadata.file_offset };

        vx_repair_tell(repair, &left, "the parent locator stays: blocks that are not here may be meant to come from a parent, "
                       "and the mark that says so may be lost");
    }
    if (!has_some)
        return VHDX_OK;
    rc = vx_repair_open_image(repair, false, &image, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof table_rules / sizeof table_rules[0]; i++) {
        const struct vx_step step = { .rule = table_rules[i].rule, .is_left = image == NULL,
                                      .file_offset = look->check->regions.metadata.file_offset };

        if (vx_look_has(look, step.rule) && (step.rule != 102 || drops_locator))
            vx_repair_tell(repair, &step, "%s%s", table_rules[i].text,
                           image != NULL ? "" : ": not before the rest is mended");
    }
    if (image == NULL)
        return VHDX_OK;
    rc = tidy(image, drops_locator, err);
    closed = vx_image_close(image, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}
