/*
 * Changing the type of an image in place (docs/vhdx-format.md 9.7) over its storage.
 *
 *   U1  To fixed: first every block gets space, then the host's, and when all of that is durable one log entry sets
 *       LeaveBlocksAllocated.  Cut anywhere before that entry the image is dynamic and some of its blocks hold zeros.
 *   U2  To dynamic: one log entry clears the flag.
 *   U3  Each step is a session of its own, and does nothing where there is nothing to do: called again it goes on.
 *   U4  FULL writes zeros before a block is in the map, never into holes of blocks that are: a host that attaches space before it
 *       writes it could show old bytes there after a power cut (docs/durability.md 6).  Those holes are set aside, as by FALLOC.
 *   U5  No guest can tell: LeaveBlocksAllocated belongs to the file (5.4), zeros take the place of zeros.  DataWriteGuid
 *       stays, and children of the image stay valid.
 */
#ifndef VX_RETYPE_H
#define VX_RETYPE_H

#include <vhdx/space.h>

struct vx_retype {
    struct vhdx_storage        *storage; /* of an image without parent, open for writing unless only_count; the caller's */
    enum vhdx_image_type        type;    /* DYNAMIC or FIXED */
    enum vhdx_preallocation     how;     /* FIXED: how the host's space is taken; DEFAULT is FALLOC */
    bool                        only_count;
    uint32_t                    log_length_for_tests;
    const struct vhdx_progress *progress;
};
int vx_retype(const struct vx_retype *job, struct vhdx_chain_result *result, struct vhdx_error *err);

#endif
