/*
 * Which parts of a range are data.  What only the host's file lacks (the holes of a fixed image) is no data either.
 *
 * stat(2) wants a number, and counting takes as long as the table of blocks is, so it is kept until the disk changes;
 * and where counting takes long, ten times as long after that: a tenth of the time at most goes into it.
 */
#include <time.h>

#include "tree.h"

#define EXTENTS_AT_ONCE 128
/* Scattered as it may be, a range is looked at for a second or so; the rest of it then counts as data. */
#define EXTENTS_MOST    (512u * 1024u)
#define QUICK_MS        50

static int
next_extents(const struct node *node, uint64_t offset, struct vhdx_extent *extents, size_t *count,
             struct vhdx_error *err)
{
    return vhdx_disk_resolve_sparse(node->disk, node->guest_offset + offset, node->length - offset, extents,
                                    EXTENTS_AT_ONCE, count, err);
}

int
tree_seek(const struct node *node, uint64_t offset, bool wants_hole, uint64_t *found, struct vhdx_error *err)
{
    struct vhdx_extent extents[EXTENTS_AT_ONCE];
    size_t count;

    while (offset < node->length) {
        int rc = next_extents(node, offset, extents, &count, err);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++) {
            if (((extents[i].flags & VHDX_EXTENT_DATA) == 0) == wants_hole) {
                *found = offset;
                return VHDX_OK;
            }
            offset += extents[i].length;
        }
    }
    *found = node->length;
    return VHDX_OK;
}

static uint64_t
count_data(const struct node *node)
{
    struct vhdx_extent extents[EXTENTS_AT_ONCE];
    uint64_t offset = 0, data = 0;
    size_t count;

    for (size_t looked_at = 0; offset < node->length; looked_at += count) {
        if (looked_at >= EXTENTS_MOST || next_extents(node, offset, extents, &count, NULL) < 0)
            return data + node->length - offset;
        for (size_t i = 0; i < count; i++) {
            offset += extents[i].length;
            if ((extents[i].flags & VHDX_EXTENT_DATA) != 0)
                data += extents[i].length;
        }
    }
    return data;
}

static int64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

uint64_t
tree_data_size(struct tree *tree, struct node *node)
{
    struct data_size *size = &node->data_size;
    uint64_t bytes;

    pthread_mutex_lock(&tree->count_lock);
    if (!size->is_known || (size->changes != atomic_load(&tree->changes) && now_ms() >= size->good_until)) {
        int64_t began = now_ms(), took;

        size->changes = atomic_load(&tree->changes); /* before: what changes meanwhile counts as a change */
        size->bytes = count_data(node);
        size->is_known = true;
        took = now_ms() - began;
        size->good_until = took < QUICK_MS ? 0 : now_ms() + 10 * took;
    }
    bytes = size->bytes;
    pthread_mutex_unlock(&tree->count_lock);
    return bytes;
}
