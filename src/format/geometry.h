/* All index arithmetic of the format (docs/vhdx-format.md section 3).  Nowhere else. */
#ifndef VX_GEOMETRY_H
#define VX_GEOMETRY_H

#include <stdbool.h>
#include <stdint.h>

#include "format/layout.h"

struct vx_geometry {
    uint64_t virtual_size;        /* bytes */
    uint32_t block_size;          /* bytes, a power of two */
    uint32_t block_shift;
    uint32_t logical_sector_size; /* 512 or 4096 */
    uint32_t sector_shift;
    bool     is_differencing;
    bool     is_fixed;
    uint32_t chunk_ratio;         /* payload blocks per chunk */
    uint32_t chunk_shift;         /* log2 of chunk_ratio */
    uint32_t sectors_per_block;
    uint32_t bitmap_slice;        /* bytes of a sector bitmap block that describe one payload block */
    uint64_t payload_block_count;
    uint64_t bitmap_block_count;
    uint64_t bat_entry_count;     /* TotalBatEntries of 3.3 */
};

/* Values already judged (V95, V97, V99).  */
void vx_geometry_init(struct vx_geometry *out, uint64_t virtual_size, uint32_t block_size,
                      uint32_t logical_sector_size, bool is_differencing, bool is_fixed);

uint64_t vx_geometry_block_of(const struct vx_geometry *g, uint64_t guest_offset);
uint32_t vx_geometry_offset_in_block(const struct vx_geometry *g, uint64_t guest_offset);
/* Bytes of the disk that lie in a block: block_size, less for the last. */
uint32_t vx_geometry_block_length(const struct vx_geometry *g, uint64_t block_index);
uint64_t vx_geometry_chunk_of(const struct vx_geometry *g, uint64_t block_index);

uint64_t vx_geometry_payload_bat_index(const struct vx_geometry *g, uint64_t block_index);
uint64_t vx_geometry_bitmap_bat_index(const struct vx_geometry *g, uint64_t chunk_index);
/* Inverse: true for a payload entry with *index the block (maybe >= payload_block_count: padding), false for a
 * bitmap entry with *index the chunk. */
bool vx_geometry_is_payload_entry(const struct vx_geometry *g, uint64_t bat_index, uint64_t *index);

/* First byte and first bit of a block's slice in its chunk's sector bitmap block. */
uint32_t vx_geometry_slice_offset(const struct vx_geometry *g, uint64_t block_index);
/* Byte in the chunk's sector bitmap block, and mask, of the sector at a guest offset. */
uint32_t vx_geometry_bitmap_byte(const struct vx_geometry *g, uint64_t guest_offset, uint8_t *mask);

/* Length of the BAT region for a disk that may become differencing: differencing formula, rounded up to 1 MiB. */
uint64_t vx_geometry_bat_region_length(const struct vx_geometry *g);

#endif
