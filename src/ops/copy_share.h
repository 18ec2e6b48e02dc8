/* Copying ranges between disks inside of the host, for copy.c. */
#ifndef VX_COPY_SHARE_H
#define VX_COPY_SHARE_H

#include <stdatomic.h>
#include <stdbool.h>

#include <vhdx/disk.h>

struct vx_share {
    struct vhdx_disk *from, *to;
    atomic_bool       is_over; /* the host said no once: it is not asked again */
};

/* May it be tried at all? */
void vx_share_begin(struct vx_share *share, struct vhdx_disk *from, struct vhdx_disk *to);

/*
 * Copy a range of `from`.  The target's blocks are made present by writing their first sectors, from `bytes`, which are the range's,
 * or which are read first when it is NULL (and then the kernel may copy what it cannot share).
 *
 *   returns  VHDX_E_UNSUPPORTED, without a message: the range is to be written
 */
int vx_share_range(struct vx_share *share, const uint8_t *bytes, uint64_t guest_offset, uint64_t length,
                   struct vhdx_error *err);

#endif
