/*
 * Index arithmetic.  docs/vhdx-format.md section 3.
 *
 * The BAT interleaves: after the ChunkRatio payload entries of a chunk comes the entry of its sector bitmap block,
 * in files without parent too (10.4).  A chunk is always 2^23 sectors, so all but the disk's size is a power of
 * two.
 */
#include "format/geometry.h"

#include <string.h>

static uint32_t
log2_of(uint64_t power_of_two)
{
    uint32_t shift = 0;

    while (shift < 63 && UINT64_C(1) << shift < power_of_two)
        shift++;
    return shift;
}

static uint64_t
differencing_entry_count(const struct vx_geometry *g)
{
    return g->bitmap_block_count * ((uint64_t)g->chunk_ratio + 1);
}

void
vx_geometry_init(struct vx_geometry *out, uint64_t virtual_size, uint32_t block_size, uint32_t logical_sector_size,
                 bool is_differencing, bool is_fixed)
{
    memset(out, 0, sizeof *out);
    out->virtual_size = virtual_size;
    out->block_size = block_size;
    out->block_shift = log2_of(block_size);
    out->logical_sector_size = logical_sector_size;
    out->sector_shift = log2_of(logical_sector_size);
    out->is_differencing = is_differencing;
    out->is_fixed = is_fixed && !is_differencing;

    out->chunk_ratio = (uint32_t)(VX_SECTORS_PER_CHUNK * logical_sector_size / block_size);
    out->chunk_shift = log2_of(out->chunk_ratio);
    out->sectors_per_block = block_size / logical_sector_size;
    out->bitmap_slice = out->sectors_per_block / 8;

    out->payload_block_count = vx_ceil_div(virtual_size, block_size);
    out->bitmap_block_count = vx_ceil_div(out->payload_block_count, out->chunk_ratio);
    if (is_differencing)
        out->bat_entry_count = differencing_entry_count(out);
    else if (out->payload_block_count > 0)
        out->bat_entry_count = vx_geometry_payload_bat_index(out, out->payload_block_count - 1) + 1;
}

uint64_t
vx_geometry_block_of(const struct vx_geometry *g, uint64_t guest_offset)
{
    return guest_offset >> g->block_shift;
}

uint32_t
vx_geometry_offset_in_block(const struct vx_geometry *g, uint64_t guest_offset)
{
    return (uint32_t)(guest_offset & (g->block_size - 1));
}

uint32_t
vx_geometry_block_length(const struct vx_geometry *g, uint64_t block_index)
{
    if (block_index >= g->payload_block_count)
        return 0;
    return (uint32_t)vx_min_u64(g->block_size, g->virtual_size - (block_index << g->block_shift));
}

uint64_t
vx_geometry_chunk_of(const struct vx_geometry *g, uint64_t block_index)
{
    return block_index >> g->chunk_shift;
}

uint64_t
vx_geometry_payload_bat_index(const struct vx_geometry *g, uint64_t block_index)
{
    return block_index + vx_geometry_chunk_of(g, block_index);
}

uint64_t
vx_geometry_bitmap_bat_index(const struct vx_geometry *g, uint64_t chunk_index)
{
    return chunk_index * ((uint64_t)g->chunk_ratio + 1) + g->chunk_ratio;
}

bool
vx_geometry_is_payload_entry(const struct vx_geometry *g, uint64_t bat_index, uint64_t *index)
{
    uint64_t chunk_index = bat_index / ((uint64_t)g->chunk_ratio + 1);
    uint64_t index_in_chunk = bat_index % ((uint64_t)g->chunk_ratio + 1);

    if (index_in_chunk == g->chunk_ratio) {
        *index = chunk_index;
        return false;
    }
    *index = (chunk_index << g->chunk_shift) + index_in_chunk;
    return true;
}

uint32_t
vx_geometry_slice_offset(const struct vx_geometry *g, uint64_t block_index)
{
    return (uint32_t)(block_index & (g->chunk_ratio - 1)) * g->bitmap_slice;
}

uint32_t
vx_geometry_bitmap_byte(const struct vx_geometry *g, uint64_t guest_offset, uint8_t *mask)
{
    uint32_t bit = (uint32_t)((guest_offset >> g->sector_shift) & (VX_SECTORS_PER_CHUNK - 1));

    *mask = (uint8_t)(1u << (bit & 7));
    return bit >> 3;
}

uint64_t
vx_geometry_bat_region_length(const struct vx_geometry *g)
{
    return vx_round_up(8 * differencing_entry_count(g), VX_MIB);
}
