/* Inside of a disk: its layers, top first.  src/ops may look at the images behind a disk through here. */
#ifndef VX_DISK_H
#define VX_DISK_H

#include <vhdx/disk.h>

#include "disk/vhd.h"
#include "image/image.h"

#define VX_MAX_LAYERS 257u /* the disk itself and 256 parents */

struct vx_layer {
    struct vhdx_storage *storage; /* owned */
    struct vx_image     *image;   /* owned; NULL for a raw file and a VHD */
    struct vx_vhd       *vhd;     /* owned; NULL for all but a VHD.  A fixed one is written as a raw file is */
    uint64_t             size;    /* bytes a guest sees of this layer */
    char                *name;    /* owned */
};

struct vhdx_disk {
    /* Set by open, never changed. */
    struct vx_layer *layers; /* owned, unless borrows_layers */
    unsigned         layer_count;
    unsigned         layer_capacity;
    uint64_t         size;
    bool             is_writable;
    bool             borrows_layers; /* a view of another disk's parents */
    bool             lacks_parent; /* opened with NO_PARENTS: the last layer asks for one that is not there */
};

/* The beginning of a guest range: the first extent as the layers from `depth` on decide it, at least 1 byte long.
 * VHDX_E_NO_PARENT is not an error here: *lacks_parent tells that the parent that would know is not open. */
int vx_disk_first_extent(struct vhdx_disk *disk, unsigned depth, uint64_t guest_offset, uint64_t length,
                         struct vhdx_extent *out, bool *lacks_parent, struct vhdx_error *err);

/* Read as the layers from `depth` on show it.  The caller holds the range of layer 0, or is below it. */
int vx_disk_read_from(struct vhdx_disk *disk, unsigned depth, void *buffer, size_t length, uint64_t guest_offset,
                      struct vhdx_error *err);

/* VHDX_E_RANGE unless the range lies inside the disk. */
int vx_disk_check_range(const struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length,
                        struct vhdx_error *err);

#endif
