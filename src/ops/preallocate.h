/* Taking the host's space for a file before it is needed. */
#ifndef VX_PREALLOCATE_H
#define VX_PREALLOCATE_H

#include <vhdx/ops.h>

/*
 * The range [from, to) of a file.  FALLOC: it lies inside the file.  FULL writes zeros, past the end too, so that the file grows
 * without ever having a hole: everywhere in the range, which reads as zeros as the caller knows; or with `only_holes` where
 * the host tells of holes.
 */
struct vx_preallocation {
    uint64_t                    from, to;
    enum vhdx_preallocation     how;
    bool                        only_holes;
    const struct vhdx_progress *progress;
};
int vx_preallocate(struct vhdx_storage *storage, const struct vx_preallocation *range, struct vhdx_error *err);

#endif
