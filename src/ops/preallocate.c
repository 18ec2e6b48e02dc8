/* See preallocate.h. */
#include "ops/preallocate.h"

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/job.h"
#include "storage/storage.h"

#define FALLOC_STEP (UINT64_C(256) * VX_MIB) /* between two looks at progress */
#define FULL_STEP   (UINT64_C(4) * VX_MIB)

static int
write_zeros(struct vhdx_storage *storage, const uint8_t *zeros, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    return from < to ? vx_storage_write(storage, zeros, (size_t)(to - from), from, err) : VHDX_OK;
}

/* At most FULL_STEP bytes. */
static int
fill_holes(struct vhdx_storage *storage, const uint8_t *zeros, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    while (from < to) {
        uint64_t start, end;
        int      rc = vx_storage_next_data(storage, from, &start, &end, err);

        if (rc < 0)
            return rc;
        if (start >= end || start > to) /* nothing but a hole */
            start = end = to;
        rc = write_zeros(storage, zeros, from, start, err);
        if (rc < 0)
            return rc;
        from = end;
    }
    return VHDX_OK;
}

int
vx_preallocate(struct vhdx_storage *storage, const struct vx_preallocation *range, struct vhdx_error *err)
{
    uint64_t step = range->how == VHDX_PREALLOCATE_FULL ? FULL_STEP : FALLOC_STEP;
    uint8_t *zeros = NULL;
    int      rc = VHDX_OK;

    if (range->how == VHDX_PREALLOCATE_DEFAULT || range->how == VHDX_PREALLOCATE_OFF)
        return VHDX_OK;
    if (range->how == VHDX_PREALLOCATE_FULL) {
        zeros = vx_alloc_zeroed((size_t)FULL_STEP, 1);
        if (zeros == NULL)
            return vx_fail_memory(err, "a buffer of zeros");
    }
    for (uint64_t at = range->from; at < range->to && rc == VHDX_OK;) {
        uint64_t end = vx_min_u64(at + step, range->to);

        if (zeros == NULL)
            rc = vx_storage_allocate(storage, at, end - at, err);
        else if (range->only_holes)
            rc = fill_holes(storage, zeros, at, end, err);
        else
            rc = write_zeros(storage, zeros, at, end, err);
        if (rc == VHDX_OK)
            rc = vx_job_report(range->progress, end - range->from, range->to - range->from, err);
        at = end;
    }
    vx_free(zeros);
    return rc;
}

/* What is there keeps its bytes, what comes is zeros. */
static int
preallocate_storage(struct vhdx_storage *storage, uint64_t size, struct vx_preallocation *range, struct vhdx_error *err)
{
    uint64_t old_size;
    int      rc = vx_storage_get_size(storage, &old_size, err);

    range->to = old_size;
    range->only_holes = true;
    if (rc == VHDX_OK)
        rc = vx_preallocate(storage, range, err);
    if (rc < 0 || old_size >= size)
        return rc;
    range->from = old_size;
    range->to = size;
    range->only_holes = false;
    if (range->how == VHDX_PREALLOCATE_FALLOC)
        rc = vx_storage_set_size(storage, size, err);
    return rc == VHDX_OK ? vx_preallocate(storage, range, err) : rc;
}

int
vhdx_preallocate_path(const char *path, uint64_t size, enum vhdx_preallocation how,
                      const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vx_preallocation range = { .how = how, .progress = progress };
    struct vhdx_storage    *storage;
    int                     rc;

    if (how == VHDX_PREALLOCATE_DEFAULT || how == VHDX_PREALLOCATE_OFF)
        return VHDX_OK;
    rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, err);
    if (rc < 0)
        return rc;
    rc = preallocate_storage(storage, size, &range, err);
    if (rc == VHDX_OK)
        rc = vx_storage_flush(storage, err);
    vhdx_storage_close(storage);
    return rc;
}
