/* Small things all jobs share. */
#include "ops/job.h"

#include "base/error.h"

int
vx_job_report(const struct vhdx_progress *progress, uint64_t done, uint64_t total, struct vhdx_error *err)
{
    if (progress == NULL || progress->report == NULL || progress->report(progress->context, done, total) == 0)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_CANCELLED, VHDX_PART_NONE, VHDX_NO_OFFSET, "cancelled");
}
