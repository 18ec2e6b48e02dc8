/*
 * The map of used space: bits in words of 64, a word at a time where a word is whole.
 */
#include "ops/check_space.h"

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/layout.h"

int
vx_used_map_init(struct vx_used_map *map, uint64_t file_length, struct vhdx_error *err)
{
    uint64_t mib_count = vx_ceil_div(vx_min_u64(file_length, VX_MAX_FILE_SIZE), VX_MIB);
    size_t word_count = (size_t)(mib_count / 64 + 1);

    map->mib_count = mib_count;
    map->used = vx_alloc_zeroed(word_count, sizeof *map->used);
    map->starts = vx_alloc_zeroed(word_count, sizeof *map->starts);
    if (map->used == NULL || map->starts == NULL)
        return vx_fail_memory(err, "the map of used space");
    return VHDX_OK;
}

void
vx_used_map_free(struct vx_used_map *map)
{
    vx_free(map->used);
    vx_free(map->starts);
}

/* Bits `first` to `end` - 1 of the word they begin in. */
static uint64_t
word_mask(uint64_t first, uint64_t end)
{
    uint64_t mask = UINT64_MAX << (first % 64);

    if (end - vx_round_down(first, 64) < 64)
        mask &= ~(UINT64_MAX << (end % 64));
    return mask;
}

enum vx_used_conflict
vx_used_mark(struct vx_used_map *map, uint64_t file_offset, uint64_t length)
{
    uint64_t first = file_offset / VX_MIB;
    uint64_t end = vx_min_u64(vx_ceil_div(file_offset + length, VX_MIB), map->mib_count);
    bool was_used = false;

    while (first < end) {
        uint64_t mask = word_mask(first, end);
        uint64_t *word = &map->used[first / 64];

        was_used |= (*word & mask) != 0;
        *word |= mask;
        first = vx_round_down(first, 64) + 64;
    }
    return was_used ? VX_USED_OVERLAP : VX_USED_FREE;
}

enum vx_used_conflict
vx_used_mark_block(struct vx_used_map *map, uint64_t file_offset, uint64_t length)
{
    uint64_t first = file_offset / VX_MIB;
    enum vx_used_conflict conflict = vx_used_mark(map, file_offset, length);

    if (first >= map->mib_count)
        return conflict;
    if ((map->starts[first / 64] >> (first % 64) & 1) != 0)
        return VX_USED_DOUBLE;
    map->starts[first / 64] |= UINT64_C(1) << (first % 64);
    return conflict;
}

/* The first MiB from `mib` on whose bit is `wanted`, or mib_count. */
static uint64_t
next_mib(const struct vx_used_map *map, uint64_t mib, bool wanted)
{
    while (mib < map->mib_count) {
        uint64_t word = map->used[mib / 64];
        uint64_t hits = (wanted ? word : ~word) & (UINT64_MAX << (mib % 64));

        if (hits != 0) {
            mib = vx_round_down(mib, 64);
            while ((hits & 1) == 0) {
                hits >>= 1;
                mib++;
            }
            return vx_min_u64(mib, map->mib_count);
        }
        mib = vx_round_down(mib, 64) + 64;
    }
    return map->mib_count;
}

bool
vx_used_next_gap(const struct vx_used_map *map, uint64_t file_offset, uint64_t *gap_offset, uint64_t *length)
{
    uint64_t gap = next_mib(map, vx_ceil_div(file_offset, VX_MIB), false);

    if (gap >= map->mib_count)
        return false;
    *gap_offset = gap * VX_MIB;
    *length = (next_mib(map, gap, true) - gap) * VX_MIB;
    return true;
}

void
vx_used_find_leaks(const struct vx_used_map *map, struct vx_used_leaks *out)
{
    uint64_t gap = next_mib(map, 0, false);

    *out = (struct vx_used_leaks){ .inner_bytes = 0 };
    while (gap < map->mib_count) {
        uint64_t end = next_mib(map, gap, true);

        if (end == map->mib_count) {
            out->tail_offset = gap * VX_MIB;
            out->tail_bytes = (end - gap) * VX_MIB;
            return;
        }
        if (out->inner_gaps++ == 0)
            out->first_gap_offset = gap * VX_MIB;
        out->inner_bytes += (end - gap) * VX_MIB;
        gap = next_mib(map, end, false);
    }
    out->tail_offset = map->mib_count * VX_MIB;
}
