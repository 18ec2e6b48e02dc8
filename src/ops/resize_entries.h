/*
 * What growing and cutting a disk do to its BAT and bitmaps (docs/vhdx-format.md 9.4, 9.5), before the one edit that changes
 * its size.  The image is open for writing; its geometry is the old one.
 */
#ifndef VX_RESIZE_ENTRIES_H
#define VX_RESIZE_ENTRIES_H

#include "image/image.h"

/* Does the BAT region hold a disk of this size?  VHDX_E_UNSUPPORTED when a larger region would have to be made. */
int vx_resize_check_room(struct vx_image *image, uint64_t new_size, struct vhdx_error *err);

/* 9.4 step 3: the entries that become those of new blocks are 0.  What the last block shows past the old end is the
 * caller's affair (9.4 step 2). */
int vx_resize_clear_padding(struct vx_image *image, uint64_t new_size, struct vhdx_error *err);

/* 9.5 steps 2 to 4 but for the size itself: blocks past the new end are given up and their entries are 0, what the last
 * block holds past it is zeros, its bits are clear. */
int vx_resize_drop_end(struct vx_image *image, uint64_t new_size, struct vhdx_error *err);

/* A fixed image holds every block: the ones from `old_size` on that nothing was written to. */
int vx_resize_fill_fixed(struct vx_image *image, uint64_t old_size, struct vhdx_error *err);

#endif
