/*
 * Compacting (docs/vhdx-format.md 9.6) over an image's storage.
 *
 *   K1  Each step is a session of its own, opened and closed: freeing what a file system has freed (a), freeing zeros and what
 *       only the format keeps (b), moving (c), cutting (d).  A session that was cut short is replayed by the next one, and
 *       a step that runs again goes on where the last one ended.
 *   K2  Nothing is freed, moved or cut but through the image's own commits: their rules keep every cut of it safe
 *       (docs/durability.md).
 *   K3  Only step (a) changes what a guest reads, and only there DataWriteGuid changes.
 */
#ifndef VX_COMPACT_H
#define VX_COMPACT_H

#include <vhdx/space.h>

#include "image/image.h"
#include "ops/compact_plan.h"
#include "ops/free_list.h"

#define VX_COMPACT_BATCH (UINT64_C(64) * VX_MIB) /* moved between two commits: what a kill loses, and what the host needs twice */

struct vx_compact {
    struct vhdx_storage        *storage; /* open for writing unless only_count; the caller's */
    const struct vx_free_list  *free;    /* settled; NULL: nothing is known */
    bool                        zeroes, sparse, free_only, only_count;
    uint32_t                    log_length_for_tests;
    uint64_t                    batch_for_tests; /* 0: VX_COMPACT_BATCH */
    const struct vhdx_progress *progress;
};
static inline uint64_t
vx_compact_batch(const struct vx_compact *job)
{
    return job->batch_for_tests > 0 ? job->batch_for_tests : VX_COMPACT_BATCH;
}

int vx_compact(const struct vx_compact *job, struct vhdx_compact_result *result, struct vhdx_error *err);

/* --- compact_blocks.c: steps (a) and (b) in one pass over the blocks --- */

struct vx_compact_blocks {
    const struct vx_compact    *job;
    struct vx_image            *image;
    bool                        takes_free; /* (a): job->free is there */
    bool                        tidies;     /* (b) */
    struct vx_compact_plan     *kept;       /* marked with what keeps its space; NULL: nobody asks */
    struct vhdx_compact_result *result;
};
int vx_compact_blocks(const struct vx_compact_blocks *blocks, struct vhdx_error *err);

#endif
