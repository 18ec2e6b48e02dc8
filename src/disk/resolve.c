/*
 * Resolve: which layer decides a guest range, and where its bytes lie.  Top layer first; "ask the parent" narrows the
 * range for the next layer: a loop, no recursion (docs/vhdx-format.md 4.3).
 */
#include "base/checked.h"
#include "base/error.h"
#include "disk/disk.h"
#include "storage/storage.h"

/* What one layer says; *below: the next one is to be asked. */
static int
ask_layer(const struct vx_layer *layer, uint64_t guest_offset, struct vhdx_extent *extent, bool *below,
          struct vhdx_error *err)
{
    struct vx_layer_extent found;
    int                    rc;

    *below = false;
    extent->flags = VHDX_EXTENT_ZERO;
    if (guest_offset >= layer->size)
        return VHDX_OK; /* past the end of a smaller parent */
    extent->length = vx_min_u64(extent->length, layer->size - guest_offset);
    if (layer->image == NULL && layer->vhd == NULL) {
        extent->flags = VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT;
        extent->file_offset = guest_offset;
        return VHDX_OK;
    }

    if (layer->vhd != NULL)
        rc = vx_vhd_resolve(layer->vhd, guest_offset, extent->length, &found, err);
    else
        rc = vx_image_resolve(layer->image, guest_offset, extent->length, &found, err);
    if (rc < 0)
        return rc;
    extent->length = found.length;
    switch (found.source) {
    case VX_LAYER_DATA:
        extent->flags = VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT;
        extent->file_offset = found.file_offset;
        break;
    case VX_LAYER_ZERO:
        extent->flags = VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT;
        break;
    case VX_LAYER_UNSET:
        break;
    case VX_LAYER_BELOW:
        *below = true;
        break;
    }
    return VHDX_OK;
}

int
vx_disk_first_extent(struct vhdx_disk *disk, unsigned depth, uint64_t guest_offset, uint64_t length,
                     struct vhdx_extent *out, bool *lacks_parent, struct vhdx_error *err)
{
    bool below = true;

    *out = (struct vhdx_extent){ .guest_offset = guest_offset, .length = length, .flags = VHDX_EXTENT_ZERO };
    *lacks_parent = false;
    for (; below && depth < disk->layer_count; depth++) {
        int rc = ask_layer(&disk->layers[depth], guest_offset, out, &below, err);

        if (rc < 0)
            return rc;
        out->depth = depth;
    }
    if (below) {
        *lacks_parent = true;
        out->depth = disk->layer_count;
        out->flags = 0;
    }
    return VHDX_OK;
}

/* A DATA extent that begins in a hole of the host's file becomes ZERO as far as the hole goes, else it ends there. */
static int
split_at_hole(struct vhdx_disk *disk, struct vhdx_extent *extent, struct vhdx_error *err)
{
    struct vx_layer     *layer = &disk->layers[extent->depth];
    struct vhdx_storage *storage = layer->image != NULL ? vx_image_storage(layer->image) : layer->storage;
    uint64_t             start, end;
    int                  rc;

    rc = vx_storage_next_data(storage, extent->file_offset, &start, &end, err);
    if (rc < 0)
        return rc;
    if (start > extent->file_offset || start == end) {
        if (start > extent->file_offset)
            extent->length = vx_min_u64(extent->length, start - extent->file_offset);
        extent->flags = VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT;
        extent->file_offset = 0;
    } else {
        extent->length = vx_min_u64(extent->length, end - extent->file_offset);
    }
    return VHDX_OK;
}

static bool
continues(const struct vhdx_extent *last, const struct vhdx_extent *next)
{
    return last->flags == next->flags && last->depth == next->depth &&
           ((next->flags & VHDX_EXTENT_DATA) == 0 || last->file_offset + last->length == next->file_offset);
}

static int
resolve(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_extent *extents, size_t capacity,
        size_t *count, bool split_holes, struct vhdx_error *err)
{
    uint64_t end = guest_offset + length;
    int      rc = vx_disk_check_range(disk, guest_offset, length, err);

    *count = 0;
    while (rc == VHDX_OK && guest_offset < end) {
        struct vhdx_extent next;
        bool               lacks_parent;

        rc = vx_disk_first_extent(disk, 0, guest_offset, end - guest_offset, &next, &lacks_parent, err);
        if (rc == VHDX_OK && split_holes && (next.flags & VHDX_EXTENT_DATA) != 0)
            rc = split_at_hole(disk, &next, err);
        if (rc < 0)
            break;
        if (*count > 0 && continues(&extents[*count - 1], &next)) {
            extents[*count - 1].length += next.length;
        } else if (*count == capacity) {
            break;
        } else {
            extents[(*count)++] = next;
        }
        guest_offset += next.length;
    }
    /* A damaged block ends what can be told; it is the error of the range that begins with it. */
    return rc < 0 && *count > 0 ? VHDX_OK : rc;
}

int
vhdx_disk_resolve(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_extent *extents,
                  size_t capacity, size_t *count, struct vhdx_error *err)
{
    return resolve(disk, guest_offset, length, extents, capacity, count, false, err);
}

int
vhdx_disk_resolve_sparse(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_extent *extents,
                         size_t capacity, size_t *count, struct vhdx_error *err)
{
    return resolve(disk, guest_offset, length, extents, capacity, count, true, err);
}
