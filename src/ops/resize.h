/*
 * Growing and shrinking a disk (docs/vhdx-format.md 9.4, 9.5) over an image's storage.
 *
 *   U1  One entry of the log changes the size, and with it everything without which the new size would be wrong.  Before it
 *       the file is the old disk, after it the new one.  The session is closed then: the geometry of an open image is fixed.
 *   U2  What appears past the old end reads as zeros.  Bytes that lie there already are zeroed first; where a parent is longer
 *       than the disk was, it is hidden by blocks in state ZERO and, in the block that the old end lies in, by bits.
 *   U3  When the BAT region is too small, or more of its pages change than one entry carries, a new region is written as a whole
 *       to space that nothing names, and the entry of U1 names it in both region tables.
 *   U4  What is cut off goes first, in as many commits as it takes; it was given up by the caller (9.5).
 *   U5  Called again it finishes what was begun.
 */
#ifndef VX_RESIZE_H
#define VX_RESIZE_H

#include <vhdx/space.h>

#include "image/image.h"
#include "ops/edits.h"

struct vx_resize {
    struct vhdx_storage        *storage;     /* open for writing unless only_judge; the caller's */
    uint64_t                    new_size;
    uint64_t                    parent_size; /* of a differencing image's parent; UINT64_MAX: not known */
    bool                        only_judge;
    const struct vhdx_progress *progress;
    bool                        moves_bat_for_tests; /* as if the region were too small */
    uint32_t                    log_length_for_tests;
};
int vx_resize(const struct vx_resize *job, struct vhdx_resize_result *result, struct vhdx_error *err);

/* Change the size, in the image's metadata, together with `more`: one entry of the log. */
int vx_resize_set_size(struct vx_image *image, uint64_t new_size, const struct vx_edits *more, struct vhdx_error *err);

/* --- resize_grow.c: an image that is open for writing, up to the entry of U1, which is not flushed yet --- */
int vx_resize_grow(const struct vx_resize *job, struct vx_image *image, struct vhdx_resize_result *result,
                   struct vhdx_error *err);
/* Would U3 move the BAT region? */
bool vx_resize_moves_bat(const struct vx_resize *job, struct vx_image *image);

#endif
