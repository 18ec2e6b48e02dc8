/*
 * Another parent for an image (docs/vhdx-format.md 9.9), over an image and parents that are open already.
 *
 *   B1  What the new parent shows differently is copied up first, read from the old one; then one log entry changes the
 *       locator.  Interrupted before that entry, the image is a child of the old parent that reads as it did; called again,
 *       it finds what was copied in place.
 *   B2  What a guest reads changes at no moment: DataWriteGuid stays, and so do the image's own children.
 */
#ifndef VX_REBASE_H
#define VX_REBASE_H

#include <vhdx/chain.h>

#include "format/locator.h"

struct vx_rebase {
    struct vhdx_storage          *storage; /* of the image, open for writing unless only_judge; the caller's */
    struct vhdx_disk             *old_parent; /* NULL: nothing is copied (relinking) */
    struct vhdx_disk             *new_parent; /* only with an old one */
    const struct vx_locator_text *changes;    /* of the locator */
    size_t                        change_count;
    bool                          only_judge; /* judge and count, write nothing */
    uint32_t                      log_length_for_tests;
    const struct vhdx_progress   *progress;
};
int vx_rebase(const struct vx_rebase *job, struct vhdx_chain_result *result, struct vhdx_error *err);

#endif
