/* BAT entries (docs/vhdx-format.md 2.7, 4.1, 4.2; V130..V150 as far as one entry is concerned). */
#ifndef VX_BAT_H
#define VX_BAT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/findings.h"
#include "format/geometry.h"
#include "format/region.h"

enum vx_block_state {
    VX_BLOCK_NOT_PRESENT       = 0,
    VX_BLOCK_UNDEFINED         = 1,
    VX_BLOCK_ZERO              = 2,
    VX_BLOCK_UNMAPPED          = 3,
    VX_BLOCK_FULLY_PRESENT     = 6, /* also a sector bitmap block that is present */
    VX_BLOCK_PARTIALLY_PRESENT = 7
};

struct vx_bat_entry {
    uint8_t  state;       /* 0..7 */
    uint32_t reserved;    /* bits 3..19 as stored, shifted down */
    uint64_t file_offset; /* bytes, a multiple of 1 MiB */
};

struct vx_bat_entry vx_bat_entry_decode(uint64_t raw);
uint64_t vx_bat_entry_encode(uint8_t state, uint64_t file_offset);

/* The places no block may lie in, sorted by offset: header section, log, every region. */
struct vx_reserved_range {
    uint64_t file_offset, length;
};

/* What an entry is judged against. */
struct vx_bat_limits {
    const struct vx_geometry       *geometry;
    uint64_t                        file_length;
    const struct vx_reserved_range *reserved; /* sorted, not overlapping */
    size_t                          reserved_count;
    uint64_t                        bat_file_offset; /* for messages: where the BAT region lies */
};

/* Fill `out` (capacity at least region_count + 2) with the sorted reserved ranges.  Returns how many. */
size_t vx_reserved_ranges(struct vx_reserved_range *out, const struct vx_header *header,
                          const struct vx_region_table *table);

/*
 * Judge the entry of payload block `block_index`: V131 to V136, V138, V139, V140 (V137 and overlaps between blocks
 * need all entries: src/image/space.c and the check).
 *   returns  0 when the entry can be used as `*entry` says, or a code: the block's reads fail.  Stray offsets
 *            (states 0 and 2) and bad anchors are cleared from *entry, a good anchor (states 1 and 3) stays; state
 *            7 in a file without parent is given as 6
 */
int vx_bat_judge_payload(struct vx_bat_entry *entry, uint64_t raw, uint64_t block_index,
                         const struct vx_bat_limits *limits, struct vx_findings *findings);

/* The same for the sector bitmap entry of a chunk: V138, V140 to V142, V144.  In files without parent *entry
 * becomes 0. */
int vx_bat_judge_bitmap(struct vx_bat_entry *entry, uint64_t raw, uint64_t chunk_index,
                        const struct vx_bat_limits *limits, struct vx_findings *findings);

/* The fast path of every lookup: true when the raw entry of a payload block breaks no rule at all, WARNs
 * included. */
bool vx_bat_payload_is_clean(uint64_t raw, uint64_t block_index, const struct vx_bat_limits *limits);

#endif
