/*
 * Walking the extents of a disk from its beginning to its end.
 *
 * Extents are asked for in batches and far ahead: emptiness of any size is one step, and a long extent is resolved
 * once, however small the pieces are in which it is then used up.
 */
#ifndef VX_EXTENT_WALK_H
#define VX_EXTENT_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/disk.h>

#define VX_WALK_BATCH 64

struct vx_extent_walk {
    struct vhdx_disk  *disk;
    uint64_t           position; /* guest offset reached */
    uint64_t           size;     /* of the disk */
    size_t             index, count;
    struct vhdx_extent extents[VX_WALK_BATCH];
};

void vx_walk_init(struct vx_extent_walk *walk, struct vhdx_disk *disk);

/* What lies at the position: bytes until the extent ends, and whether they are zeros.  *length is 0 at the end. */
int vx_walk_peek(struct vx_extent_walk *walk, uint64_t *length, bool *is_zero, struct vhdx_error *err);

/* Go on by at most the length peeked. */
void vx_walk_advance(struct vx_extent_walk *walk, uint64_t length);

#endif
