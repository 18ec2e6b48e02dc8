/*
 * BAT entries: what one entry says, and whether it may be believed.  docs/vhdx-format.md 2.7, 4.1, 4.2, 8.8.
 *
 * An entry is judged against the file's length and the places no block may lie in.  What only all entries together
 * can tell (two blocks at one place) is the business of those who see them all.
 *
 *   I1  vx_bat_payload_is_clean is true exactly when vx_bat_judge_payload would find nothing.
 */
#include "format/bat.h"

#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "format/sort.h"

#define STATE_MASK    UINT64_C(7)
#define RESERVED_MASK UINT64_C(0xffff8)
#define OFFSET_MASK   (~(VX_MIB - 1))
#define MAX_OFFSET    (UINT64_C(1) << 63) /* FileOffsetMB < 2^43: file offsets are signed on every host */

struct vx_bat_entry
vx_bat_entry_decode(uint64_t raw)
{
    return (struct vx_bat_entry){
        .state       = (uint8_t)(raw & STATE_MASK),
        .reserved    = (uint32_t)((raw & RESERVED_MASK) >> 3),
        .file_offset = raw & OFFSET_MASK,
    };
}

uint64_t
vx_bat_entry_encode(uint8_t state, uint64_t file_offset)
{
    return (file_offset & OFFSET_MASK) | (state & STATE_MASK);
}

static bool
range_is_less(const void *context, size_t a, size_t b)
{
    const struct vx_reserved_range *ranges = context;

    return ranges[a].file_offset < ranges[b].file_offset;
}

static void
swap_ranges(void *context, size_t a, size_t b)
{
    struct vx_reserved_range *ranges = context;
    struct vx_reserved_range kept = ranges[a];

    ranges[a] = ranges[b];
    ranges[b] = kept;
}

/* Append a range, cut where it would wrap: a region of an unopened file may say anything. */
static size_t
add_range(struct vx_reserved_range *out, size_t count, uint64_t file_offset, uint64_t length)
{
    if (length == 0)
        return count;
    out[count].file_offset = file_offset;
    out[count].length = vx_min_u64(length, UINT64_MAX - file_offset);
    return count + 1;
}

/* Make sorted ranges disjoint, so that they can be searched. */
static size_t
join_ranges(struct vx_reserved_range *ranges, size_t count)
{
    size_t joined = 0, i;

    for (i = 1; i < count; i++) {
        struct vx_reserved_range *last = &ranges[joined];
        uint64_t last_end = last->file_offset + last->length;
        uint64_t end = ranges[i].file_offset + ranges[i].length;

        if (ranges[i].file_offset > last_end)
            ranges[++joined] = ranges[i];
        else
            last->length = vx_max_u64(end, last_end) - last->file_offset;
    }
    return count > 0 ? joined + 1 : 0;
}

size_t
vx_reserved_ranges(struct vx_reserved_range *out, const struct vx_header *header,
                   const struct vx_region_table *table)
{
    static const struct vx_sort_order by_offset = { range_is_less, swap_ranges };
    size_t count = 0;
    uint32_t i;

    count = add_range(out, count, 0, VX_HEADER_SECTION_SIZE);
    count = add_range(out, count, header->log_offset, header->log_length);
    for (i = 0; i < table->region_count; i++)
        count = add_range(out, count, table->regions[i].file_offset, table->regions[i].length);
    vx_sort(out, count, &by_offset);
    return join_ranges(out, count);
}

/* Does [file_offset, file_offset + length) touch a reserved range?  It does not wrap. */
static bool
touches_reserved(const struct vx_bat_limits *limits, uint64_t file_offset, uint64_t length)
{
    const struct vx_reserved_range *reserved = limits->reserved;
    size_t low = 0, high = limits->reserved_count;

    /* The usual case first: blocks lie after the log and the regions. */
    if (high == 0 || file_offset >= reserved[high - 1].file_offset + reserved[high - 1].length)
        return false;
    while (low < high) { /* the first range that ends after file_offset */
        size_t middle = low + (high - low) / 2;

        if (reserved[middle].file_offset + reserved[middle].length <= file_offset)
            low = middle + 1;
        else
            high = middle;
    }
    return reserved[low].file_offset < file_offset + length;
}

static uint64_t
usable_file_length(const struct vx_bat_limits *limits)
{
    return vx_round_up(limits->file_length, VX_MIB);
}

/* V132 and its like: is it an offset at all? */
static bool
is_offset(uint64_t file_offset)
{
    return file_offset >= VX_MIB && file_offset < MAX_OFFSET;
}

bool
vx_bat_payload_is_clean(uint64_t raw, uint64_t block_index, const struct vx_bat_limits *limits)
{
    uint64_t file_offset = raw & OFFSET_MASK;
    uint32_t block_size = limits->geometry->block_size;
    uint8_t state = (uint8_t)(raw & STATE_MASK);

    (void)block_index; /* V136, the only rule that looks at it, is a finding itself */
    if (state < VX_BLOCK_FULLY_PRESENT && raw == state)
        return state <= VX_BLOCK_UNMAPPED;
    if ((raw & RESERVED_MASK) != 0 || state == 4 || state == 5)
        return false;
    if (state == VX_BLOCK_NOT_PRESENT || state == VX_BLOCK_ZERO)
        return false; /* with an offset */
    if (state == VX_BLOCK_PARTIALLY_PRESENT && !limits->geometry->is_differencing)
        return false;
    return is_offset(file_offset) && file_offset + block_size <= usable_file_length(limits) &&
           !touches_reserved(limits, file_offset, block_size);
}

/* Where an entry lies in the file, for messages. */
static uint64_t
entry_at(const struct vx_bat_limits *limits, uint64_t bat_index)
{
    return limits->bat_file_offset + 8 * bat_index;
}

static void
judge_reserved_bits(const struct vx_bat_entry *entry, uint64_t raw, uint64_t at, struct vx_findings *findings)
{
    if (entry->reserved != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 140, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry 0x%016" PRIx64 ": reserved bits are 0x%" PRIx32 ", expected 0", raw, entry->reserved);
}

/* V138: states 0 and 2 have no offset. */
static void
clear_stray_offset(struct vx_bat_entry *entry, uint64_t at, struct vx_findings *findings)
{
    if (entry->file_offset == 0)
        return;
    vx_find(findings, VHDX_SEVERITY_WARN, 138, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
            "BAT entry: state %u with offset 0x%" PRIx64 ", expected offset 0", entry->state, entry->file_offset);
    entry->file_offset = 0;
}

/* V139: an anchor is kept only where a block could lie. */
static void
clear_bad_anchor(struct vx_bat_entry *entry, uint64_t at, const struct vx_bat_limits *limits,
                 struct vx_findings *findings)
{
    uint64_t block_size = limits->geometry->block_size;

    if (entry->file_offset == 0)
        return;
    if (is_offset(entry->file_offset) && entry->file_offset + block_size <= usable_file_length(limits) &&
        !touches_reserved(limits, entry->file_offset, block_size))
        return;
    vx_find(findings, VHDX_SEVERITY_REPAIR, 139, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
            "BAT entry: state %u anchored at 0x%" PRIx64 ", expected a place inside the file and outside of log "
            "and regions", entry->state, entry->file_offset);
    entry->file_offset = 0;
}

/* V132 to V136: a block that holds bytes. */
static int
judge_present(struct vx_bat_entry *entry, uint64_t at, uint64_t block_index, const struct vx_bat_limits *limits,
              struct vx_findings *findings)
{
    const struct vx_geometry *geometry = limits->geometry;
    uint64_t usable_length = usable_file_length(limits);

    if (entry->state == VX_BLOCK_PARTIALLY_PRESENT && !geometry->is_differencing) {
        vx_find(findings, VHDX_SEVERITY_RO, 133, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry of block %" PRIu64 ": state 7 in a file without parent, expected 6", block_index);
        entry->state = VX_BLOCK_FULLY_PRESENT;
    }
    if (!is_offset(entry->file_offset))
        return vx_find(findings, VHDX_SEVERITY_BLOCK, 132, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                       "BAT entry of block %" PRIu64 ": state %u at 0x%" PRIx64
                       ", expected 1 MiB or more and below 2^63", block_index, entry->state, entry->file_offset);
    if (touches_reserved(limits, entry->file_offset, geometry->block_size))
        vx_find(findings, VHDX_SEVERITY_RO, 135, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry of block %" PRIu64 ": the block at 0x%" PRIx64 " overlaps headers, log or a region, "
                "expected a place of its own", block_index, entry->file_offset);
    if (entry->file_offset + geometry->block_size <= usable_length)
        return VHDX_OK;

    if (block_index + 1 == geometry->payload_block_count &&
        entry->file_offset + vx_geometry_block_length(geometry, block_index) <= usable_length) {
        vx_find(findings, VHDX_SEVERITY_WARN, 136, VHDX_E_TRUNCATED, VHDX_PART_BAT, at,
                "BAT entry of block %" PRIu64 " (the last): the block at 0x%" PRIx64 " is cut after the disk's end "
                "by the file's end at 0x%" PRIx64, block_index, entry->file_offset, limits->file_length);
        return VHDX_OK;
    }
    return vx_find(findings, VHDX_SEVERITY_BLOCK, 134, VHDX_E_TRUNCATED, VHDX_PART_BAT, at,
                   "BAT entry of block %" PRIu64 ": the block at 0x%" PRIx64 " of 0x%" PRIx32
                   " bytes, expected to end within the file of 0x%" PRIx64 " bytes", block_index,
                   entry->file_offset, geometry->block_size, limits->file_length);
}

int
vx_bat_judge_payload(struct vx_bat_entry *entry, uint64_t raw, uint64_t block_index,
                     const struct vx_bat_limits *limits, struct vx_findings *findings)
{
    uint64_t at = entry_at(limits, vx_geometry_payload_bat_index(limits->geometry, block_index));

    *entry = vx_bat_entry_decode(raw);
    judge_reserved_bits(entry, raw, at, findings);
    switch (entry->state) {
    case VX_BLOCK_NOT_PRESENT:
    case VX_BLOCK_ZERO:
        clear_stray_offset(entry, at, findings);
        return VHDX_OK;
    case VX_BLOCK_UNDEFINED:
    case VX_BLOCK_UNMAPPED:
        clear_bad_anchor(entry, at, limits, findings);
        return VHDX_OK;
    case VX_BLOCK_FULLY_PRESENT:
    case VX_BLOCK_PARTIALLY_PRESENT:
        return judge_present(entry, at, block_index, limits, findings);
    default:
        return vx_find(findings, VHDX_SEVERITY_BLOCK, 131, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                       "BAT entry of block %" PRIu64 ": state %u, expected 0, 1, 2, 3, 6 or 7", block_index,
                       entry->state);
    }
}

/* V144: the place of a sector bitmap block. */
static int
judge_bitmap_place(const struct vx_bat_entry *entry, uint64_t at, uint64_t chunk_index,
                   const struct vx_bat_limits *limits, struct vx_findings *findings)
{
    const char *problem;

    if (!is_offset(entry->file_offset))
        problem = "1 MiB or more and below 2^63";
    else if (entry->file_offset + VX_SECTOR_BITMAP_SIZE > usable_file_length(limits))
        problem = "to end within the file";
    else if (touches_reserved(limits, entry->file_offset, VX_SECTOR_BITMAP_SIZE))
        problem = "no overlap with headers, log or regions";
    else
        return VHDX_OK;
    return vx_find(findings, VHDX_SEVERITY_RO, 144, VHDX_E_BAD_BITMAP, VHDX_PART_BAT, at,
                   "BAT entry of chunk %" PRIu64 "'s sector bitmap: offset 0x%" PRIx64 ", expected %s", chunk_index,
                   entry->file_offset, problem);
}

int
vx_bat_judge_bitmap(struct vx_bat_entry *entry, uint64_t raw, uint64_t chunk_index,
                    const struct vx_bat_limits *limits, struct vx_findings *findings)
{
    uint64_t at = entry_at(limits, vx_geometry_bitmap_bat_index(limits->geometry, chunk_index));

    *entry = vx_bat_entry_decode(raw);
    if (!limits->geometry->is_differencing) {
        if (raw != 0)
            vx_find(findings, VHDX_SEVERITY_WARN, 142, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                    "BAT entry of chunk %" PRIu64 "'s sector bitmap: 0x%016" PRIx64
                    " in a file without parent, expected 0", chunk_index, raw);
        memset(entry, 0, sizeof *entry);
        return VHDX_OK;
    }
    judge_reserved_bits(entry, raw, at, findings);
    switch (entry->state) {
    case VX_BLOCK_NOT_PRESENT:
        clear_stray_offset(entry, at, findings);
        return VHDX_OK;
    case VX_BLOCK_FULLY_PRESENT:
        return judge_bitmap_place(entry, at, chunk_index, limits, findings);
    default:
        return vx_find(findings, VHDX_SEVERITY_RO, 141, VHDX_E_BAD_BITMAP, VHDX_PART_BAT, at,
                       "BAT entry of chunk %" PRIu64 "'s sector bitmap: state %u, expected 0 or 6", chunk_index,
                       entry->state);
    }
}
