/*
 * Copying into a child what it only shows of its parent.  What the child reads as changes at no moment, so its
 * DataWriteGuid stays (docs/vhdx-format.md 5.4), and its own children stay its children.
 */
#ifndef VX_COPY_UP_H
#define VX_COPY_UP_H

#include <vhdx/chain.h>

#include "image/image.h"

struct vx_copy_up {
    struct vx_image            *child;   /* open for writing, or for reading when only_count */
    struct vhdx_disk           *parent;  /* what the child lies over now, with all its parents */
    bool                        only_count;
    const struct vhdx_progress *progress;
    struct vhdx_chain_result   *result;
};

/* Everything: afterwards no block of the child asks its parent.  What the parent reads as zeros becomes state 2 where whole
 * blocks allow it. */
int vx_copy_up_all(const struct vx_copy_up *job, struct vhdx_error *err);

/* What another parent would show differently: afterwards the child reads the same over either. */
int vx_copy_up_differences(const struct vx_copy_up *job, struct vhdx_disk *other, struct vhdx_error *err);

#endif
