/* The check of sector bitmaps: V155 to V157.  Bits of blocks in other states than 7 mean nothing. */
#include <inttypes.h>

#include "base/bytes.h"
#include "ops/check.h"
#include "storage/storage.h"

/* What the bits of one block's sectors say together. */
struct slice_sum {
    bool has_set, has_clear; /* among the block's sectors that lie on the disk */
    bool has_stray;          /* set past the end of the disk */
};

static struct slice_sum
sum_slice(const uint8_t *slice, uint32_t slice_length, uint32_t sector_count)
{
    uint32_t whole = sector_count / 8, rest = sector_count % 8;
    struct slice_sum sum = { .has_set = !vx_is_zero(slice, whole) };

    for (uint32_t i = 0; i < whole && !sum.has_clear; i++)
        sum.has_clear = slice[i] != 0xff;
    if (rest > 0) {
        uint8_t mask = (uint8_t)((1u << rest) - 1);

        sum.has_set |= (slice[whole] & mask) != 0;
        sum.has_clear |= (slice[whole] & mask) != mask;
        sum.has_stray = (slice[whole] & ~mask) != 0;
        whole++;
    }
    sum.has_stray |= !vx_is_zero(slice + whole, slice_length - whole);
    return sum;
}

static void
judge_slice(struct vx_check *check, uint64_t block_index, uint64_t slice_at, const uint8_t *slice)
{
    const struct vx_geometry *geometry = &check->geometry;
    uint32_t sector_count = vx_geometry_block_length(geometry, block_index) >> geometry->sector_shift;
    struct slice_sum sum = sum_slice(slice, geometry->bitmap_slice, sector_count);

    if (sum.has_stray)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 155, VHDX_E_BAD_BITMAP, VHDX_PART_SECTOR_BITMAP, slice_at,
                "sector bitmap of block %" PRIu64 ": bits past the end of the disk are set, expected 0",
                block_index);
    if (!sum.has_clear)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 156, VHDX_E_BAD_BITMAP, VHDX_PART_SECTOR_BITMAP, slice_at,
                "sector bitmap of block %" PRIu64 ": all bits are set, the block could be in state 6", block_index);
    if (!sum.has_set)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 157, VHDX_E_BAD_BITMAP, VHDX_PART_SECTOR_BITMAP, slice_at,
                "sector bitmap of block %" PRIu64 ": no bit is set, the block could be in state 0", block_index);
}

static bool
is_partial(const uint8_t *partial, uint32_t index)
{
    return (partial[index / 8] >> (index % 8) & 1) != 0;
}

int
vx_check_bitmap(struct vx_check *check, uint64_t chunk_index, uint64_t bitmap_offset, const uint8_t *partial,
                uint8_t *buffer, struct vhdx_error *err)
{
    const struct vx_geometry *geometry = &check->geometry;
    uint64_t first_block = chunk_index << geometry->chunk_shift;
    uint32_t first = 0, end = geometry->chunk_ratio;
    uint64_t read_at;
    size_t got;
    int rc;

    while (first < end && !is_partial(partial, first))
        first++;
    while (end > first && !is_partial(partial, end - 1))
        end--;
    if (first == end)
        return VHDX_OK;

    /* Only the slices from the first such block to the last. */
    read_at = bitmap_offset + vx_geometry_slice_offset(geometry, first_block + first);
    rc = vx_storage_read_prefix(check->view, buffer, (size_t)(end - first) * geometry->bitmap_slice, read_at, &got,
                                err);
    if (rc < 0)
        return rc;
    for (uint32_t i = first; i < end; i++) {
        size_t at = (size_t)(i - first) * geometry->bitmap_slice;

        if (is_partial(partial, i))
            judge_slice(check, first_block + i, read_at + at, buffer + at);
    }
    return VHDX_OK;
}
