/*
 * The metadata table: which items there are and where they lie.  docs/vhdx-format.md 2.8 to 2.10, 8.5.
 *
 * Nothing here has a checksum, so every number is checked for itself.  An item is system or user metadata by its
 * IsUser bit; a user item that carries a known id has no meaning.  Slots after EntryCount are garbage and never
 * looked at (10.37).
 */
#include "format/metadata.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "format/sort.h"
#include "format/zeros.h"

#define HEADER_SIZE          32u
#define ENTRY_SIZE           32u
#define FLAGS_MASK           7u
#define MAX_USER_ENTRIES     1024u
#define MAX_SYSTEM_ENTRIES   1023u
#define MAX_REGION_LENGTH    (128 * VX_MIB)
#define MAX_CATEGORY_LENGTH  (40 * VX_MIB)

const struct vhdx_guid vx_guid_item_file_parameters = { /* CAA16737-FA36-4D43-B3B6-33F0AA44E76B */
    { 0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b }
};
const struct vhdx_guid vx_guid_item_virtual_disk_size = { /* 2FA54224-CD1B-4876-B211-5DBED83BF4B8 */
    { 0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8 }
};
const struct vhdx_guid vx_guid_item_virtual_disk_id = { /* BECA12AB-B2E6-4523-93EF-C309E000C746 */
    { 0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46 }
};
const struct vhdx_guid vx_guid_item_logical_sector_size = { /* 8141BF1D-A96F-4709-BA47-F233A8FAAB5F */
    { 0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f }
};
const struct vhdx_guid vx_guid_item_physical_sector_size = { /* CDA348C7-445D-4471-9CC9-E9885251C556 */
    { 0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56 }
};
const struct vhdx_guid vx_guid_item_parent_locator = { /* A8D35F2D-B30B-454D-ABF7-D3D84834AB0C */
    { 0x2d, 0x5f, 0xd3, 0xa8, 0x0b, 0xb3, 0x4d, 0x45, 0xab, 0xf7, 0xd3, 0xd8, 0x48, 0x34, 0xab, 0x0c }
};
const struct vhdx_guid vx_guid_item_incomplete = { /* 71CC85F0-1B69-4E28-9558-C3BF83AE75D3 */
    { 0xf0, 0x85, 0xcc, 0x71, 0x69, 0x1b, 0x28, 0x4e, 0x95, 0x58, 0xc3, 0xbf, 0x83, 0xae, 0x75, 0xd3 }
};
const struct vhdx_guid vx_guid_item_chs = { /* DA02D7BC-3D3A-423C-AC88-2A36AB21479B */
    { 0xbc, 0xd7, 0x02, 0xda, 0x3a, 0x3d, 0x3c, 0x42, 0xac, 0x88, 0x2a, 0x36, 0xab, 0x21, 0x47, 0x9b }
};
const struct vhdx_guid vx_guid_item_pmem_label = { /* 10E1AE8A-4B7E-4169-A40F-CD70DE928393 */
    { 0x8a, 0xae, 0xe1, 0x10, 0x7e, 0x4b, 0x69, 0x41, 0xa4, 0x0f, 0xcd, 0x70, 0xde, 0x92, 0x83, 0x93 }
};

/* The items of 2.9 and the flags they carry. */
struct known_item {
    const struct vhdx_guid *item_id;
    const char             *name;
    uint32_t                flags;
};
static const struct known_item known_items[] = {
    { &vx_guid_item_file_parameters,      "File Parameters",      VX_ITEM_IS_REQUIRED },
    { &vx_guid_item_virtual_disk_size,    "Virtual Disk Size",    VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK },
    { &vx_guid_item_logical_sector_size,  "Logical Sector Size",  VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK },
    { &vx_guid_item_physical_sector_size, "Physical Sector Size", VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK },
    { &vx_guid_item_virtual_disk_id,      "Virtual Disk ID",      VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK },
    { &vx_guid_item_parent_locator,       "Parent Locator",       VX_ITEM_IS_REQUIRED },
};
#define KNOWN_COUNT (sizeof known_items / sizeof known_items[0])

static bool
is_user(const struct vx_metadata_entry *entry)
{
    return (entry->flags & VX_ITEM_IS_USER) != 0;
}

static bool
is_system_item(const struct vx_metadata_entry *entry, const struct vhdx_guid *item_id)
{
    return !is_user(entry) && vhdx_guid_equal(&entry->item_id, item_id);
}

static const struct known_item *
find_known(const struct vx_metadata_entry *entry)
{
    size_t i;

    for (i = 0; i < KNOWN_COUNT; i++) {
        if (is_system_item(entry, known_items[i].item_id))
            return &known_items[i];
    }
    return NULL;
}

/* Where damage refuses the file for an item we need, and only forbids writing for one we keep for others. */
static enum vhdx_severity
severity_for(const struct vx_metadata_entry *entry)
{
    return find_known(entry) != NULL ? VHDX_SEVERITY_REFUSE : VHDX_SEVERITY_RO;
}

static struct vx_metadata_entry
load_entry(const uint8_t *p)
{
    return (struct vx_metadata_entry){
        .item_id   = vx_guid_load(p),
        .offset    = vx_le32(p + 16),
        .length    = vx_le32(p + 20),
        .flags     = vx_le32(p + 24),
        .reserved2 = vx_le32(p + 28),
    };
}

struct vx_metadata_entry
vx_metadata_slot_load(const uint8_t b[VX_METADATA_TABLE_SIZE], uint32_t index)
{
    return load_entry(b + HEADER_SIZE + (size_t)ENTRY_SIZE * index);
}

const char *
vx_metadata_item_name(const struct vx_metadata_entry *entry)
{
    const struct known_item *known = find_known(entry);

    if (known != NULL)
        return known->name;
    if (is_system_item(entry, &vx_guid_item_incomplete))
        return "incomplete-file marker";
    if (is_system_item(entry, &vx_guid_item_chs))
        return "CHS parameters";
    return is_system_item(entry, &vx_guid_item_pmem_label) ? "PMEM label storage area" : NULL;
}

/* The one copy there is: what is wrong with it is a broken rule at once. */
static int
refuse_table(struct vhdx_error *err, int rule)
{
    if (err != NULL) {
        err->severity = VHDX_SEVERITY_REFUSE;
        err->rule = rule;
    }
    return VHDX_E_BAD_METADATA;
}

int
vx_metadata_table_decode(struct vx_metadata_table *out, const uint8_t b[VX_METADATA_TABLE_SIZE], uint64_t at,
                         struct vhdx_error *err)
{
    uint32_t i;

    if (memcmp(b, "metadata", 8) != 0) {
        vx_fail(err, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata table: signature is 0x%016" PRIx64 ", expected \"metadata\"", vx_le64(b));
        return refuse_table(err, 75);
    }
    if (vx_le16(b + 10) > VX_MAX_METADATA_ENTRIES) {
        vx_fail(err, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 10,
                "metadata table: EntryCount %u, expected at most 2047", vx_le16(b + 10));
        return refuse_table(err, 76);
    }

    out->entry_count = vx_le16(b + 10);
    for (i = 0; i < out->entry_count; i++)
        out->entries[i] = load_entry(b + HEADER_SIZE + ENTRY_SIZE * i);
    return VHDX_OK;
}

void
vx_metadata_table_begin(uint8_t b[VX_METADATA_TABLE_SIZE])
{
    memset(b, 0, VX_METADATA_TABLE_SIZE);
    memcpy(b, "metadata", 8);
}

void
vx_metadata_table_append(uint8_t b[VX_METADATA_TABLE_SIZE], const struct vx_metadata_entry *entry)
{
    uint16_t index = vx_le16(b + 10);
    uint8_t *p = b + HEADER_SIZE + (size_t)ENTRY_SIZE * index;

    vx_guid_store(p, &entry->item_id);
    vx_put_le32(p + 16, entry->offset);
    vx_put_le32(p + 20, entry->length);
    vx_put_le32(p + 24, entry->flags);
    vx_put_le32(p + 28, entry->reserved2);
    vx_put_le16(b + 10, (uint16_t)(index + 1));
}

void
vx_metadata_table_encode(uint8_t b[VX_METADATA_TABLE_SIZE], const struct vx_metadata_table *table)
{
    uint32_t i;

    vx_metadata_table_begin(b);
    for (i = 0; i < table->entry_count; i++)
        vx_metadata_table_append(b, &table->entries[i]);
}

static uint64_t
entry_at(uint64_t at, uint32_t index)
{
    return at + HEADER_SIZE + (uint64_t)ENTRY_SIZE * index;
}

/* V80 to V82: where one item lies. */
static void
judge_place(const struct vx_metadata_entry *entry, uint64_t at, uint64_t region_length,
            struct vx_findings *findings)
{
    if (entry->length > VX_MAX_ITEM_LENGTH)
        vx_find(findings, severity_for(entry), 80, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 20,
                "metadata table: item Length %" PRIu32 ", expected at most 1 MiB", entry->length);
    if (entry->length == 0 && entry->offset != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 81, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 16,
                "metadata table: empty item with Offset 0x%" PRIx32 ", expected 0", entry->offset);
    if (entry->length > 0 && (entry->offset < VX_METADATA_TABLE_SIZE ||
                              (uint64_t)entry->offset + entry->length > region_length))
        vx_find(findings, severity_for(entry), 82, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 16,
                "metadata table: item at 0x%" PRIx32 " of 0x%" PRIx32 " bytes, expected between 0x10000 and the "
                "region's end at 0x%" PRIx64, entry->offset, entry->length, region_length);
}

/* V85, V86, V88: may we pass over this item? */
static void
judge_required(const struct vx_metadata_entry *entry, uint64_t at, struct vx_findings *findings)
{
    bool is_required = (entry->flags & VX_ITEM_IS_REQUIRED) != 0;
    char text[VHDX_GUID_TEXT_SIZE];

    if (is_system_item(entry, &vx_guid_item_incomplete)) {
        vx_find(findings, VHDX_SEVERITY_REFUSE, 88, VHDX_E_INCOMPLETE, VHDX_PART_METADATA, at,
                "metadata table: the incomplete-file marker is present, expected none: creation was interrupted");
        return;
    }
    if (is_required && is_user(entry))
        vx_find(findings, VHDX_SEVERITY_REFUSE, 86, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 24,
                "metadata table: a user item has IsRequired 1, expected 0");
    if (is_required && !is_user(entry) && find_known(entry) == NULL &&
        !is_system_item(entry, &vx_guid_item_chs) && !is_system_item(entry, &vx_guid_item_pmem_label)) {
        vhdx_guid_format(text, &entry->item_id);
        vx_find(findings, VHDX_SEVERITY_REFUSE, 85, VHDX_E_UNSUPPORTED, VHDX_PART_METADATA, at,
                "metadata table: item %s is required but not known", text);
    }
}

/* V79, V87, V94. */
static void
judge_identity(const struct vx_metadata_entry *entry, uint64_t at, struct vx_findings *findings)
{
    const struct known_item *known = find_known(entry);

    if (vhdx_guid_is_zero(&entry->item_id))
        vx_find(findings, VHDX_SEVERITY_WARN, 79, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata table: ItemId is zero, expected a GUID");
    if ((entry->flags & ~FLAGS_MASK) != 0 || entry->reserved2 != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 87, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 24,
                "metadata table: reserved bits of an entry are 0x%" PRIx32 " and 0x%" PRIx32 ", expected 0",
                entry->flags & ~FLAGS_MASK, entry->reserved2);
    if (known != NULL && (entry->flags & FLAGS_MASK) != known->flags)
        vx_find(findings, VHDX_SEVERITY_WARN, 94, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 24,
                "metadata table: flags of %s are 0x%" PRIx32 ", expected 0x%" PRIx32, known->name,
                entry->flags & FLAGS_MASK, known->flags);
}

/* Indexes into the table, to be sorted. */
struct order {
    const struct vx_metadata_table *table;
    uint16_t                        indexes[VX_MAX_METADATA_ENTRIES];
};

static const struct vx_metadata_entry *
entry_of(const struct order *order, size_t i)
{
    return &order->table->entries[order->indexes[i]];
}

static void
swap_indexes(void *context, size_t a, size_t b)
{
    struct order *order = context;
    uint16_t kept = order->indexes[a];

    order->indexes[a] = order->indexes[b];
    order->indexes[b] = kept;
}

/* By ItemId, then IsUser, then place in the table. */
static bool
id_is_less(const void *context, size_t a, size_t b)
{
    const struct order *order = context;
    const struct vx_metadata_entry *entry_a = entry_of(order, a), *entry_b = entry_of(order, b);
    int difference = memcmp(entry_a->item_id.bytes, entry_b->item_id.bytes, sizeof entry_a->item_id.bytes);

    if (difference != 0)
        return difference < 0;
    if (is_user(entry_a) != is_user(entry_b))
        return is_user(entry_b);
    return order->indexes[a] < order->indexes[b];
}

static bool
offset_is_less(const void *context, size_t a, size_t b)
{
    const struct order *order = context;
    const struct vx_metadata_entry *entry_a = entry_of(order, a), *entry_b = entry_of(order, b);

    if (entry_a->offset != entry_b->offset)
        return entry_a->offset < entry_b->offset;
    return order->indexes[a] < order->indexes[b];
}

/* V78. */
static void
judge_unique(struct order *order, uint64_t at, struct vx_findings *findings)
{
    static const struct vx_sort_order by_id = { id_is_less, swap_indexes };
    uint32_t i;

    for (i = 0; i < order->table->entry_count; i++)
        order->indexes[i] = (uint16_t)i;
    vx_sort(order, order->table->entry_count, &by_id);
    for (i = 1; i < order->table->entry_count; i++) {
        const struct vx_metadata_entry *before = entry_of(order, i - 1), *entry = entry_of(order, i);

        if (vhdx_guid_equal(&before->item_id, &entry->item_id) && is_user(before) == is_user(entry))
            vx_find(findings, VHDX_SEVERITY_REFUSE, 78, VHDX_E_BAD_METADATA, VHDX_PART_METADATA,
                    entry_at(at, order->indexes[i]),
                    "metadata table: entry %u has the ItemId of entry %u, expected different ones",
                    order->indexes[i], order->indexes[i - 1]);
    }
}

/* V83: in rising order, each must begin after all before it have ended. */
static void
judge_overlap(struct order *order, uint64_t at, struct vx_findings *findings)
{
    static const struct vx_sort_order by_offset = { offset_is_less, swap_indexes };
    const struct vx_metadata_entry *furthest = NULL;
    uint64_t furthest_end = 0;
    size_t count = 0, i;

    for (i = 0; i < order->table->entry_count; i++) {
        if (order->table->entries[i].length > 0)
            order->indexes[count++] = (uint16_t)i;
    }
    vx_sort(order, count, &by_offset);
    for (i = 0; i < count; i++) {
        const struct vx_metadata_entry *entry = entry_of(order, i);
        uint64_t end = (uint64_t)entry->offset + entry->length;

        if (furthest != NULL && entry->offset < furthest_end)
            vx_find(findings, find_known(furthest) != NULL ? VHDX_SEVERITY_REFUSE : severity_for(entry), 83,
                    VHDX_E_BAD_METADATA, VHDX_PART_METADATA, entry_at(at, order->indexes[i]) + 16,
                    "metadata table: item at 0x%" PRIx32 " of 0x%" PRIx32 " bytes overlaps the item at 0x%" PRIx32
                    " that ends at 0x%" PRIx64, entry->offset, entry->length, furthest->offset, furthest_end);
        if (end > furthest_end) {
            furthest = entry;
            furthest_end = end;
        }
    }
}

/* V84, V90, V106: counts and sums, user items [1], system items [0]. */
static void
judge_totals(const struct vx_metadata_table *table, uint64_t at, struct vx_findings *findings)
{
    uint32_t counts[2] = { 0, 0 }, i;
    uint64_t lengths[2] = { 0, 0 };

    for (i = 0; i < table->entry_count; i++) {
        counts[is_user(&table->entries[i])]++;
        lengths[is_user(&table->entries[i])] += table->entries[i].length;
    }
    if (counts[1] > MAX_USER_ENTRIES)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 84, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 10,
                "metadata table: %" PRIu32 " user items, expected at most 1024", counts[1]);
    if (counts[0] > MAX_SYSTEM_ENTRIES)
        vx_find(findings, VHDX_SEVERITY_WARN, 106, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 10,
                "metadata table: %" PRIu32 " system items, expected at most 1023", counts[0]);
    if (lengths[0] > MAX_CATEGORY_LENGTH || lengths[1] > MAX_CATEGORY_LENGTH)
        vx_find(findings, VHDX_SEVERITY_WARN, 90, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata table: %" PRIu64 " bytes of system items and %" PRIu64
                " bytes of user items, expected at most 40 MiB of each", lengths[0], lengths[1]);
}

void
vx_metadata_table_judge(const struct vx_metadata_table *table, const uint8_t b[VX_METADATA_TABLE_SIZE], uint64_t at,
                        uint64_t region_length, struct vx_findings *findings)
{
    struct order order = { .table = table };
    uint32_t i;

    if (vx_le16(b + 8) != 0 || !vx_is_zero(b + 12, 20))
        vx_find(findings, VHDX_SEVERITY_WARN, 77, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at + 8,
                "metadata table: a reserved field of its header is not zero");
    if (region_length > MAX_REGION_LENGTH)
        vx_find(findings, VHDX_SEVERITY_WARN, 89, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata region: length 0x%" PRIx64 ", expected at most 128 MiB", region_length);
    for (i = 0; i < table->entry_count; i++) {
        judge_identity(&table->entries[i], entry_at(at, i), findings);
        judge_place(&table->entries[i], entry_at(at, i), region_length, findings);
        judge_required(&table->entries[i], entry_at(at, i), findings);
    }
    judge_totals(table, at, findings);
    judge_unique(&order, at, findings);
    judge_overlap(&order, at, findings);
}

const struct vx_metadata_entry *
vx_metadata_find(const struct vx_metadata_table *table, const struct vhdx_guid *item_id)
{
    uint32_t i;

    for (i = 0; i < table->entry_count; i++) {
        if (is_system_item(&table->entries[i], item_id))
            return &table->entries[i];
    }
    return NULL;
}
