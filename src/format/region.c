/*
 * Region tables: two copies that say where BAT and metadata lie.  docs/vhdx-format.md 2.3, 8.4.
 *
 * Both copies change together, in one log entry, so they differ through damage only.  There is no number that tells
 * the newer one: the first good copy is used (10.10).  Reserved bytes are checked, and ignored.
 */
#include "format/region.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/guid.h"
#include "format/sort.h"
#include "format/zeros.h"

#define HEADER_SIZE   16u
#define ENTRY_SIZE    32u
#define FLAG_REQUIRED 1u

const struct vhdx_guid vx_guid_region_bat = { /* 2DC27766-F623-4200-9D64-115E9BFD4A08 */
    { 0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08 }
};
const struct vhdx_guid vx_guid_region_metadata = { /* 8B7CA206-4790-4B9A-B8FE-575F050F886E */
    { 0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e }
};

static const uint8_t signature[4] = { 'r', 'e', 'g', 'i' };

/* Can this copy be used?  Signature, then checksum, then the count. */
static int
check_copy(const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at, struct vhdx_error *err)
{
    uint32_t checksum;

    if (memcmp(b, signature, sizeof signature) != 0)
        return vx_fail(err, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at,
                       "region table: signature is 0x%08" PRIx32 ", expected \"regi\"", vx_le32(b));
    checksum = vx_crc32c_hole(b, VX_REGION_TABLE_SIZE, 4);
    if (vx_le32(b + 4) != checksum)
        return vx_fail(err, VHDX_E_BAD_CHECKSUM, VHDX_PART_REGION_TABLE, at,
                       "region table: checksum is 0x%08" PRIx32 ", expected 0x%08" PRIx32, vx_le32(b + 4),
                       checksum);
    if (vx_le32(b + 8) > VX_MAX_REGIONS)
        return vx_fail(err, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 8,
                       "region table: EntryCount %" PRIu32 ", expected at most 2047", vx_le32(b + 8));
    return VHDX_OK;
}

static struct vx_region
load_region(const uint8_t *p)
{
    return (struct vx_region){
        .guid        = vx_guid_load(p),
        .file_offset = vx_le64(p + 16),
        .length      = vx_le32(p + 24),
        .flags       = vx_le32(p + 28),
    };
}

void
vx_region_table_load(struct vx_region_table *out, const uint8_t b[VX_REGION_TABLE_SIZE])
{
    uint32_t i;

    out->region_count = vx_le32(b + 8) < VX_MAX_REGIONS ? vx_le32(b + 8) : VX_MAX_REGIONS;
    for (i = 0; i < out->region_count; i++)
        out->regions[i] = load_region(b + HEADER_SIZE + ENTRY_SIZE * i);
}

int
vx_region_table_decode(struct vx_region_table *out, const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at,
                       struct vhdx_error *err)
{
    int rc = check_copy(b, at, err);

    if (rc == VHDX_OK)
        vx_region_table_load(out, b);
    return rc;
}

void
vx_region_table_encode(uint8_t b[VX_REGION_TABLE_SIZE], const struct vx_region_table *table)
{
    uint32_t i;

    memset(b, 0, VX_REGION_TABLE_SIZE);
    memcpy(b, signature, sizeof signature);
    vx_put_le32(b + 8, table->region_count);
    for (i = 0; i < table->region_count; i++) {
        uint8_t *p = b + HEADER_SIZE + ENTRY_SIZE * i;

        vx_guid_store(p, &table->regions[i].guid);
        vx_put_le64(p + 16, table->regions[i].file_offset);
        vx_put_le32(p + 24, table->regions[i].length);
        vx_put_le32(p + 28, table->regions[i].flags);
    }
    vx_put_le32(b + 4, vx_crc32c_hole(b, VX_REGION_TABLE_SIZE, 4));
}

bool
vx_region_table_move(uint8_t b[VX_REGION_TABLE_SIZE], const struct vhdx_guid *guid, uint64_t file_offset,
                     uint32_t length, uint64_t *changed_at)
{
    uint32_t count = vx_le32(b + 8);

    for (uint32_t i = 0; i < count && i < VX_MAX_REGIONS; i++) {
        uint8_t         *p = b + HEADER_SIZE + ENTRY_SIZE * i;
        struct vhdx_guid found = vx_guid_load(p);

        if (!vhdx_guid_equal(&found, guid))
            continue;
        vx_put_le64(p + 16, file_offset);
        vx_put_le32(p + 24, length);
        vx_put_le32(b + 4, vx_crc32c_hole(b, VX_REGION_TABLE_SIZE, 4));
        *changed_at = HEADER_SIZE + (uint64_t)ENTRY_SIZE * i + 16;
        return true;
    }
    return false;
}

/* Was the copy well but for its count?  Then V58 is broken, else V55 or V56. */
static bool
is_bad_count(const struct vhdx_error *error, int copy_index)
{
    return error->file_offset == VX_REGION_TABLE_OFFSET(copy_index) + 8;
}

static int
refuse_both(const struct vhdx_error errors[2], struct vx_findings *findings)
{
    int i;

    for (i = 0; i < 2; i++) {
        if (is_bad_count(&errors[i], i))
            return vx_find(findings, VHDX_SEVERITY_REFUSE, 58, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE,
                           errors[i].file_offset, "copy %d of %s, and the other copy cannot be used", i + 1,
                           errors[i].message);
    }
    return vx_find(findings, VHDX_SEVERITY_REFUSE, 55, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE,
                   VX_REGION_TABLE_OFFSET(0), "no valid region table, copy 1: %.80s, copy 2: %.80s",
                   errors[0].message, errors[1].message);
}

int
vx_region_table_choose(struct vx_region_table *out, int *used_index, const uint8_t copy0[VX_REGION_TABLE_SIZE],
                       const uint8_t copy1[VX_REGION_TABLE_SIZE], struct vx_findings *findings)
{
    const uint8_t *const copies[2] = { copy0, copy1 };
    struct vhdx_error errors[2];
    int rc[2], good, bad;

    memset(errors, 0, sizeof errors);
    rc[0] = check_copy(copy0, VX_REGION_TABLE_OFFSET(0), &errors[0]);
    rc[1] = check_copy(copy1, VX_REGION_TABLE_OFFSET(1), &errors[1]);
    if (rc[0] < 0 && rc[1] < 0)
        return refuse_both(errors, findings);

    good = rc[0] < 0;
    bad = !good;
    if (rc[bad] < 0)
        vx_find(findings, VHDX_SEVERITY_REPAIR, is_bad_count(&errors[bad], bad) ? 58 : 56, rc[bad],
                VHDX_PART_REGION_TABLE, errors[bad].file_offset, "copy %d (copy %d is used) of %s", bad + 1,
                good + 1, errors[bad].message);
    else if (memcmp(copy0, copy1, VX_REGION_TABLE_SIZE) != 0)
        vx_find(findings, VHDX_SEVERITY_RO, 57, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE,
                VX_REGION_TABLE_OFFSET(1),
                "region tables: both copies are valid but differ, expected equal ones (copy 1 is used)");
    *used_index = good;
    return vx_region_table_decode(out, copies[good], VX_REGION_TABLE_OFFSET(good), NULL);
}

static uint64_t
entry_at(uint64_t at, uint32_t index)
{
    return at + HEADER_SIZE + (uint64_t)ENTRY_SIZE * index;
}

static bool
is_known(const struct vx_region *region)
{
    return vhdx_guid_equal(&region->guid, &vx_guid_region_bat) ||
           vhdx_guid_equal(&region->guid, &vx_guid_region_metadata);
}

/* Indexes into the table, to be sorted; the index region_count stands for the log. */
struct order {
    const struct vx_region_table *table;
    const struct vx_header       *header;
    uint16_t                      indexes[VX_MAX_REGIONS + 1];
};

static void
swap_indexes(void *context, size_t a, size_t b)
{
    struct order *order = context;
    uint16_t kept = order->indexes[a];

    order->indexes[a] = order->indexes[b];
    order->indexes[b] = kept;
}

static bool
guid_is_less(const void *context, size_t a, size_t b)
{
    const struct order *order = context;
    const struct vx_region *regions = order->table->regions;
    int difference = memcmp(regions[order->indexes[a]].guid.bytes, regions[order->indexes[b]].guid.bytes, 16);

    return difference != 0 ? difference < 0 : order->indexes[a] < order->indexes[b];
}

/* V60. */
static void
judge_unique(struct order *order, uint64_t at, struct vx_findings *findings)
{
    static const struct vx_sort_order by_guid = { guid_is_less, swap_indexes };
    const struct vx_region *regions = order->table->regions;
    uint32_t i;

    for (i = 0; i < order->table->region_count; i++)
        order->indexes[i] = (uint16_t)i;
    vx_sort(order, order->table->region_count, &by_guid);
    for (i = 1; i < order->table->region_count; i++) {
        uint16_t before = order->indexes[i - 1], index = order->indexes[i];

        if (vhdx_guid_equal(&regions[before].guid, &regions[index].guid))
            vx_find(findings, VHDX_SEVERITY_REFUSE, 60, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE,
                    entry_at(at, index), "region table: entry %u has the Guid of entry %u, expected different ones",
                    index, before);
    }
}

struct place {
    uint64_t begin, end; /* file offsets; the end is cut where it would wrap */
};

static struct place
place_of(const struct order *order, uint16_t index)
{
    struct place place;
    uint64_t length;

    if (index == order->table->region_count) {
        place.begin = order->header->log_offset;
        length = order->header->log_length;
    } else {
        place.begin = order->table->regions[index].file_offset;
        length = order->table->regions[index].length;
    }
    if (!vx_add_u64(place.begin, length, &place.end))
        place.end = UINT64_MAX;
    return place;
}

static bool
begin_is_less(const void *context, size_t a, size_t b)
{
    const struct order *order = context;
    uint64_t begin_a = place_of(order, order->indexes[a]).begin;
    uint64_t begin_b = place_of(order, order->indexes[b]).begin;

    return begin_a != begin_b ? begin_a < begin_b : order->indexes[a] < order->indexes[b];
}

static void
report_overlap(const struct order *order, uint16_t index, struct place place, struct place other, uint64_t at,
               struct vx_findings *findings)
{
    bool is_log = index == order->table->region_count;

    vx_find(findings, VHDX_SEVERITY_REFUSE, 63, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE,
            is_log ? at : entry_at(at, index),
            "region table: %s at 0x%" PRIx64 " to 0x%" PRIx64 " overlaps what lies at 0x%" PRIx64 " to 0x%" PRIx64
            ", expected places of their own", is_log ? "the log" : "the region", place.begin, place.end,
            other.begin, other.end);
}

/* V63, the header section apart (V61): in rising order, each must begin after all before it have ended. */
static void
judge_overlap(struct order *order, uint64_t at, struct vx_findings *findings)
{
    static const struct vx_sort_order by_begin = { begin_is_less, swap_indexes };
    struct place furthest = { 0, 0 };
    size_t count = 0, i;

    for (i = 0; i <= order->table->region_count; i++) {
        struct place place = place_of(order, (uint16_t)i);

        if (place.begin < place.end)
            order->indexes[count++] = (uint16_t)i;
    }
    vx_sort(order, count, &by_begin);
    for (i = 0; i < count; i++) {
        struct place place = place_of(order, order->indexes[i]);

        if (place.begin < furthest.end)
            report_overlap(order, order->indexes[i], place, furthest, at, findings);
        if (place.end > furthest.end)
            furthest = place;
    }
}

/* V61, V62, V64: where one region lies. */
static void
judge_place(const struct vx_region *region, uint64_t at, uint64_t file_length, struct vx_findings *findings)
{
    uint64_t end;

    if (!vx_is_aligned(region->file_offset, VX_MIB) || region->file_offset < VX_HEADER_SECTION_SIZE)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 61, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 16,
                "region table: FileOffset 0x%" PRIx64 ", expected a multiple of 1 MiB from 1 MiB on",
                region->file_offset);
    if (!vx_is_aligned(region->length, VX_MIB) || region->length == 0)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 62, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 24,
                "region table: Length 0x%" PRIx32 ", expected a multiple of 1 MiB and not 0", region->length);
    if (!vx_add_u64(region->file_offset, region->length, &end) || end > file_length)
        vx_find(findings, is_known(region) ? VHDX_SEVERITY_REFUSE : VHDX_SEVERITY_RO, 64, VHDX_E_TRUNCATED,
                VHDX_PART_REGION_TABLE, at + 16, "region table: region at 0x%" PRIx64 " of 0x%" PRIx32
                " bytes, expected to end within the file of 0x%" PRIx64 " bytes", region->file_offset,
                region->length, file_length);
}

/* V65, V66, V69. */
static void
judge_flags(const struct vx_region *region, uint64_t at, struct vx_findings *findings)
{
    bool is_required = (region->flags & FLAG_REQUIRED) != 0;
    char text[VHDX_GUID_TEXT_SIZE];

    if (is_required && !is_known(region)) {
        vhdx_guid_format(text, &region->guid);
        vx_find(findings, VHDX_SEVERITY_REFUSE, 65, VHDX_E_UNSUPPORTED, VHDX_PART_REGION_TABLE, at,
                "region table: region %s is required but not known", text);
    }
    if ((region->flags & ~FLAG_REQUIRED) != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 66, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 28,
                "region table: Required 0x%" PRIx32 ", expected 0 or 1", region->flags);
    if (!is_required && is_known(region))
        vx_find(findings, VHDX_SEVERITY_WARN, 69, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 28,
                "region table: Required 0 for BAT or metadata, expected 1");
}

/* V67, V68.  The first of each kind is taken; a second one is V60. */
static void
find_known_regions(struct vx_regions *out, const struct vx_region_table *table, uint64_t at,
                   struct vx_findings *findings)
{
    bool has_bat = false, has_metadata = false;
    uint32_t i;

    memset(out, 0, sizeof *out);
    for (i = 0; i < table->region_count; i++) {
        const struct vx_region *region = &table->regions[i];

        if (!has_bat && vhdx_guid_equal(&region->guid, &vx_guid_region_bat)) {
            out->bat = *region;
            has_bat = true;
        }
        if (!has_metadata && vhdx_guid_equal(&region->guid, &vx_guid_region_metadata)) {
            out->metadata = *region;
            has_metadata = true;
        }
    }
    if (!has_bat)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 67, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at,
                "region table: no BAT region, expected one");
    if (!has_metadata)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 68, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at,
                "region table: no metadata region, expected one");
}

/* V59, V70. */
static void
judge_reserved(const struct vx_region_table *table, const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at,
               struct vx_findings *findings)
{
    size_t used = HEADER_SIZE + ENTRY_SIZE * table->region_count;
    size_t i;

    if (vx_le32(b + 12) != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 59, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + 12,
                "region table: Reserved is 0x%08" PRIx32 ", expected 0", vx_le32(b + 12));
    i = used + vx_first_nonzero(b + used, VX_REGION_TABLE_SIZE - used);
    if (i < VX_REGION_TABLE_SIZE)
        vx_find(findings, VHDX_SEVERITY_WARN, 70, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, at + i,
                "region table: byte %zu, after the last entry, is 0x%02x, expected 0", i, b[i]);
}

void
vx_region_table_judge(const struct vx_region_table *table, const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at,
                      const struct vx_header *header, uint64_t file_length, struct vx_regions *out,
                      struct vx_findings *findings)
{
    struct order order = { .table = table, .header = header };
    uint32_t i;

    judge_reserved(table, b, at, findings);
    for (i = 0; i < table->region_count; i++) {
        judge_place(&table->regions[i], entry_at(at, i), file_length, findings);
        judge_flags(&table->regions[i], entry_at(at, i), findings);
    }
    judge_unique(&order, at, findings);
    judge_overlap(&order, at, findings);
    find_known_regions(out, table, at, findings);
}
