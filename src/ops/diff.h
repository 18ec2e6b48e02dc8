/*
 * Where two disks differ (vhdx_diff), for jobs.
 *
 *   F1  Two layers hold the same when they are one file, or carry one DataWriteGuid: then everything that both disks leave to
 *       those layers is equal, and only the tables above them are looked at.
 *   F2  Without such layers the contents are compared.
 *   F3  The shorter disk counts as followed by zeros.
 */
#ifndef VX_DIFF_H
#define VX_DIFF_H

#include <vhdx/chain.h>

/* A range; ends the walk with anything but 0, which is then the result. */
typedef int (*vx_take_difference)(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b,
                                  struct vhdx_error *err);

int vx_diff_each(struct vhdx_disk *a, struct vhdx_disk *b, vx_take_difference take, void *context,
                 const struct vhdx_progress *progress, struct vhdx_error *err);

#endif
