/* BAT entries against all kinds of files; the quick test and the slow one must agree. */
#include "fuzz.h"

#include "format/bat.h"
#include "format/block_state.h"

static void
judge_payload(uint64_t raw, uint64_t block_index, const struct vx_bat_limits *limits)
{
    struct vx_findings findings;
    struct vx_bat_entry entry;
    uint64_t usable_length = vx_round_up(limits->file_length, VX_MIB);
    uint32_t block_length = vx_geometry_block_length(limits->geometry, block_index);
    int rc = vx_bat_judge_payload(&entry, raw, block_index, limits, fuzz_findings(&findings));

    MUST(vx_bat_payload_is_clean(raw, block_index, limits) == (findings.count == 0));
    if (rc < 0) {
        MUST(vx_findings_severity(&findings) == VHDX_SEVERITY_BLOCK);
        return;
    }
    MUST(vx_block_read_source(entry.state, limits->geometry->is_differencing) != VX_READ_ERROR);
    if (entry.state >= VX_BLOCK_FULLY_PRESENT) /* what a read relies on */
        MUST(entry.file_offset >= VX_MIB && entry.file_offset + block_length <= usable_length);
    else if (entry.file_offset != 0) /* what a write into an anchor relies on */
        MUST(entry.file_offset + limits->geometry->block_size <= usable_length);
}

static void
judge_bitmap(uint64_t raw, uint64_t chunk_index, const struct vx_bat_limits *limits)
{
    struct vx_findings findings;
    struct vx_bat_entry entry;

    if (vx_bat_judge_bitmap(&entry, raw, chunk_index, limits, fuzz_findings(&findings)) < 0)
        return;
    MUST(entry.state == VX_BLOCK_NOT_PRESENT || entry.state == VX_BLOCK_FULLY_PRESENT);
    if (entry.state == VX_BLOCK_FULLY_PRESENT)
        MUST(entry.file_offset + VX_SECTOR_BITMAP_SIZE <= vx_round_up(limits->file_length, VX_MIB));
    else
        MUST(entry.file_offset == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vx_reserved_range reserved[] = { { 0, 4 * VX_MIB }, { 20 * VX_MIB, 3 * VX_MIB } };
    struct fuzz_input input = { data, size };
    struct vx_geometry geometry;
    struct vx_bat_limits limits = { .geometry = &geometry, .reserved = reserved, .bat_file_offset = 3 * VX_MIB };
    uint64_t flags = fuzz_take(&input, 1);

    vx_geometry_init(&geometry, 512 + 512 * fuzz_take(&input, 3), UINT32_C(1) << (20 + (flags & 3)),
                     flags & 4 ? 4096 : 512, (flags & 8) != 0, false);
    limits.reserved_count = flags >> 4 & 1 ? 2 : flags >> 5 & 1;
    limits.file_length = fuzz_number(&input);
    while (input.left > 0) {
        uint64_t block_index = fuzz_take(&input, 1) % geometry.payload_block_count;
        uint64_t raw = fuzz_number(&input) | (fuzz_take(&input, 1) & 7);

        judge_payload(raw, block_index, &limits);
        judge_bitmap(raw, vx_geometry_chunk_of(&geometry, block_index), &limits);
    }
    return 0;
}
