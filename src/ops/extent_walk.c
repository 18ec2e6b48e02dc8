/*
 * Walking the extents of a disk.
 *
 *   X1  The extents not yet used begin at or before the position and continue each other.
 *   X2  One resolve looks at no more than WINDOW bytes: a cancelled job ends soon, also on a disk of 64 TiB.
 */
#include "ops/extent_walk.h"

#include "base/checked.h"

#define WINDOW VX_TIB

void
vx_walk_init(struct vx_extent_walk *walk, struct vhdx_disk *disk)
{
    walk->disk = disk;
    walk->position = 0;
    walk->size = vhdx_disk_size(disk);
    walk->index = walk->count = 0;
}

static int
resolve_batch(struct vx_extent_walk *walk, struct vhdx_error *err)
{
    uint64_t length = vx_min_u64(walk->size - walk->position, WINDOW);
    int rc;

    walk->index = walk->count = 0;
    rc = vhdx_disk_resolve_sparse(walk->disk, walk->position, length, walk->extents, VX_WALK_BATCH, &walk->count,
                                  err);
    if (rc < 0)
        walk->count = 0;
    return rc;
}

int
vx_walk_peek(struct vx_extent_walk *walk, uint64_t *length, bool *is_zero, struct vhdx_error *err)
{
    const struct vhdx_extent *extent;
    int rc;

    *length = 0;
    *is_zero = true;
    if (walk->position == walk->size)
        return VHDX_OK;
    if (walk->index == walk->count) {
        rc = resolve_batch(walk, err);
        if (rc < 0)
            return rc;
    }
    extent = &walk->extents[walk->index];
    *length = extent->guest_offset + extent->length - walk->position;
    *is_zero = (extent->flags & VHDX_EXTENT_ZERO) != 0;
    return VHDX_OK;
}

void
vx_walk_advance(struct vx_extent_walk *walk, uint64_t length)
{
    walk->position += length;
    while (walk->index < walk->count &&
           walk->position >= walk->extents[walk->index].guest_offset + walk->extents[walk->index].length)
        walk->index++;
}
