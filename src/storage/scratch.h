/* Scratch: a storage that is written to in memory while the file below stays as it is.  For plans: what would this job do? */
#ifndef VX_SCRATCH_H
#define VX_SCRATCH_H

#include <vhdx/storage.h>

/* The view does not own the base, which is only read.  Every 4 KiB page that is written takes memory.  Not for several threads. */
int vx_scratch_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_error *err);

#endif
