/*
 * Flattening (docs/vhdx-format.md 9.7, differencing to dynamic) over an image and a parent that are open already.
 *
 *   T1  First every block is copied up that the parent shows, then the sector bitmaps go, then one log entry clears HasParent
 *       and removes the locator.  Interrupted anywhere before that entry, the image is a child that reads as it did.
 *   T2  What a guest reads changes at no moment: DataWriteGuid stays, and so do the image's own children.
 */
#ifndef VX_FLATTEN_H
#define VX_FLATTEN_H

#include <vhdx/chain.h>

struct vx_flatten {
    struct vhdx_storage        *storage; /* of the image, open for writing unless only_count; the caller's */
    struct vhdx_disk           *parent;
    bool                        only_count; /* judge and count, write nothing */
    uint32_t                    log_length_for_tests;
    const struct vhdx_progress *progress;
};
int vx_flatten(const struct vx_flatten *job, struct vhdx_chain_result *result, struct vhdx_error *err);

#endif
