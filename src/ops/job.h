/* Small things all jobs share: telling progress, and stopping when asked to. */
#ifndef VX_JOB_H
#define VX_JOB_H

#include <vhdx/ops.h>

/* VHDX_E_CANCELLED when the caller wants the job to stop.  `progress` may be NULL. */
int vx_job_report(const struct vhdx_progress *progress, uint64_t done, uint64_t total, struct vhdx_error *err);

#endif
