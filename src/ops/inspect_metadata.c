/* Showing the metadata table, its items with their bytes, and the parent locator (inspect.h). */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "base/utf16.h"
#include "format/locator.h"
#include "ops/inspect.h"
#include "storage/storage.h"

#define LOCATOR_HEADER 20u /* 2.11 */
#define SLOT_SIZE      32u
#define TEXT_SIZE      ((size_t)UINT16_MAX / 2 * 3 + 4) /* the longest string as UTF-8 */

/* --- items --- */

static struct vhdx_inspected_item
row_of(const struct vhdx_inspection *in, uint32_t index, const struct vx_metadata_entry *entry)
{
    return (struct vhdx_inspected_item){
        .index = index,
        .item_id = entry->item_id,
        .name = vx_metadata_item_name(entry),
        .flags = entry->flags,
        .offset = entry->offset,
        .length = entry->length,
        .file_offset = in->regions.metadata.file_offset + entry->offset,
    };
}

/* What the bytes of a known item say. */
static void
decode_item(struct vhdx_inspected_item *row, const struct vx_metadata_entry *entry, const uint8_t *bytes)
{
    struct vx_metadata values = { .block_size = 0 };

    if (row->byte_count < row->length)
        return;
    vx_metadata_take_item(&values, entry, bytes);
    if (values.has_file_parameters) {
        row->value = VHDX_ITEM_FILE_PARAMETERS;
        row->block_size = values.block_size;
        row->file_flags = values.file_parameter_flags;
    } else if (values.has_disk_id) {
        row->value = VHDX_ITEM_GUID;
        row->guid = values.disk_id;
    } else if (values.has_virtual_size || values.has_logical_sector_size || values.has_physical_sector_size) {
        row->value = VHDX_ITEM_SIZE; /* one of them is set, the others are 0 */
        row->size = values.virtual_size + values.logical_sector_size + values.physical_sector_size;
    }
}

/* `left` bytes are still to be shown: items that lie over each other would make a small region say much. */
static int
show_item(struct vhdx_inspection *in, uint32_t index, uint8_t *buffer, uint64_t *left, struct vhdx_error *err)
{
    const struct vx_metadata_entry *entry = &in->metadata_table->entries[index];
    struct vhdx_inspected_item      row = row_of(in, index, entry);
    int                             rc = VHDX_OK;

    row.bytes = buffer;
    row.byte_count = (size_t)vx_min_u64(vx_inspect_item_length(in, entry), *left);
    *left -= row.byte_count;
    if (row.byte_count > 0)
        rc = vx_storage_read(in->view, buffer, row.byte_count, row.file_offset, err);
    if (rc < 0)
        return rc;
    decode_item(&row, entry, buffer);
    rc = VX_TELL(in, item, &row);
    if (rc == VHDX_OK && row.byte_count < row.length)
        rc = vx_inspect_missing(in, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, row.file_offset,
                                "item %" PRIu32 ": %" PRIu32 " bytes at 0x%" PRIx32 " of the region, of which %zu can be"
                                " shown: no more are inside of region, file and 1 MiB, or items overlap", index, row.length, row.offset,
                                row.byte_count);
    return rc;
}

/* Slots that no entry count reaches. */
static int
show_stale(struct vhdx_inspection *in, uint32_t from)
{
    int rc = VHDX_OK;

    for (uint32_t i = from; i < VX_MAX_METADATA_ENTRIES && rc == VHDX_OK; i++) {
        struct vx_metadata_entry   entry;
        struct vhdx_inspected_item row;

        if (vx_is_zero(in->metadata_bytes + SLOT_SIZE * ((size_t)i + 1), SLOT_SIZE))
            continue;
        entry = vx_metadata_slot_load(in->metadata_bytes, i);
        row = row_of(in, i, &entry);
        row.is_stale = true;
        rc = VX_TELL(in, item, &row);
    }
    return rc;
}

static int
has_no_metadata(struct vhdx_inspection *in)
{
    return vx_inspect_missing(in, VHDX_E_BAD_REGION, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                              in->has_table ? "no region table entry leads to a metadata region inside of the file"
                                            : "without a region table the metadata cannot be found");
}

int
vx_inspect_metadata(struct vhdx_inspection *in, struct vhdx_error *err)
{
    const struct vx_region              *region = &in->regions.metadata;
    struct vhdx_inspected_metadata_table row = { .file_offset = region->file_offset, .region_length = region->length,
                                                 .entry_count = in->metadata_table->entry_count,
                                                 .problem = in->metadata_problem };
    uint64_t left = region->length;
    uint8_t *buffer;
    int      rc;

    if (!in->has_metadata)
        return has_no_metadata(in);
    buffer = vx_alloc(VX_MAX_ITEM_LENGTH);
    if (buffer == NULL)
        return vx_fail_memory(err, "a metadata item");
    rc = VX_TELL(in, metadata_table, &row);
    for (uint32_t i = 0; i < in->metadata_table->entry_count && rc == VHDX_OK; i++)
        rc = show_item(in, i, buffer, &left, err);
    vx_free(buffer);
    if (rc == VHDX_OK)
        rc = show_stale(in, in->metadata_table->entry_count);
    if (rc < 0)
        return rc;
    if (in->metadata_problem.code < 0)
        return vx_inspect_missing(in, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, region->file_offset,
                                  "the metadata table cannot be read: %s", in->metadata_problem.message);
    vx_metadata_table_judge(in->metadata_table, in->metadata_bytes, region->file_offset, region->length, &in->findings);
    vx_metadata_judge(&in->metadata, region->file_offset, &in->findings);
    return VHDX_OK;
}

/* --- the parent locator --- */

/* A string of the item as UTF-8, or NULL when it lies outside. */
static const char *
get_string(char *out, size_t out_size, const uint8_t *item, uint32_t item_length, uint32_t offset, uint32_t length)
{
    if ((uint64_t)offset + length > item_length)
        return NULL;
    vx_utf16_to_utf8_lenient(out, out_size, item + offset, length);
    return out;
}

/* `left` bytes of strings are still to be shown: strings that lie over each other would make a small item say much. */
static int
show_pair(struct vhdx_inspection *in, const uint8_t *item, uint32_t length, uint32_t index, char *texts, uint64_t *left)
{
    struct vhdx_inspected_locator_pair row = { .index = index };
    struct vx_locator_pair             pair = { .key_offset = 0 };
    uint64_t                           size;

    if (!vx_locator_pair_at(&pair, item, length, index) && LOCATOR_HEADER + 12 * ((uint64_t)index + 1) > length)
        return vx_inspect_missing(in, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, VHDX_NO_OFFSET,
                                  "pair %" PRIu32 " of the locator lies outside of its item", index);
    row.key_offset = pair.key_offset;
    row.key_length = pair.key_length;
    row.value_offset = pair.value_offset;
    row.value_length = pair.value_length;
    size = (uint64_t)pair.key_length + pair.value_length;
    if (size <= *left) {
        *left -= size;
        row.key = get_string(texts, TEXT_SIZE, item, length, pair.key_offset, pair.key_length);
        row.value = get_string(texts + TEXT_SIZE, TEXT_SIZE, item, length, pair.value_offset, pair.value_length);
    }
    return VX_TELL(in, locator_pair, &row);
}

static int
show_locator(struct vhdx_inspection *in, const uint8_t *item, uint32_t length, uint64_t at, struct vhdx_error *err)
{
    struct vhdx_inspected_locator row = { .file_offset = at, .length = length };
    struct vx_locator             locator;
    uint64_t                      left = 2 * (uint64_t)length;
    char                         *texts;
    int                           rc;

    if (length < LOCATOR_HEADER)
        return vx_inspect_missing(in, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, at,
                                  "the parent locator has %" PRIu32 " bytes, less than its header", length);
    row.type = vx_guid_load(item);
    row.pair_count = vx_le16(item + 18);
    texts = vx_alloc(2 * TEXT_SIZE);
    if (texts == NULL)
        return vx_fail_memory(err, "the parent locator");
    rc = VX_TELL(in, locator, &row);
    for (uint32_t i = 0; i < row.pair_count && rc == VHDX_OK; i++) {
        rc = show_pair(in, item, length, i, texts, &left);
        if (LOCATOR_HEADER + 12 * ((uint64_t)i + 1) > length)
            break; /* one line says that there are no more */
    }
    vx_free(texts);
    vx_locator_decode(&locator, item, length, at, &in->findings);
    return rc;
}

int
vx_inspect_locator(struct vhdx_inspection *in, struct vhdx_error *err)
{
    const struct vx_metadata_entry *entry;
    uint64_t                        at;
    uint32_t                        length;
    uint8_t                        *item;
    int                             rc;

    if (!in->has_metadata)
        return has_no_metadata(in);
    entry = vx_metadata_find(in->metadata_table, &vx_guid_item_parent_locator);
    if (entry == NULL && in->metadata_problem.code == VHDX_OK && !in->metadata.has_parent)
        return VHDX_OK;
    if (entry == NULL)
        return vx_inspect_missing(in, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, in->regions.metadata.file_offset,
                                  "the metadata table names no parent locator");
    length = vx_inspect_item_length(in, entry);
    at = in->regions.metadata.file_offset + entry->offset;
    item = vx_alloc(length > 0 ? length : 1);
    if (item == NULL)
        return vx_fail_memory(err, "the parent locator");
    rc = length > 0 ? vx_storage_read(in->view, item, length, at, err) : VHDX_OK;
    if (rc == VHDX_OK)
        rc = show_locator(in, item, length, at, err);
    vx_free(item);
    return rc;
}
