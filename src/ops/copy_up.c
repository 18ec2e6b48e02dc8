/*
 * See copy_up.h.
 *
 *   U1  Only ranges that the child leaves to its parent are written: what the child holds is never touched.
 *   U2  Blocks of up to BUFFER bytes are written whole, so that they go to state 6 at once and need no sector bitmap.
 */
#include "ops/copy_up.h"

#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/diff.h"
#include "ops/job.h"
#include "ops/stack.h"

#define BUFFER (8 * VX_MIB)
#define WINDOW VX_TIB
#define GRAIN  4096u

struct copying {
    const struct vx_copy_up  *job;
    const struct vx_geometry *geometry; /* of the child */
    struct vhdx_disk         *other;    /* the other parent, or NULL */
    uint8_t                  *buffer, *other_buffer; /* BUFFER each; the second only with another parent */
    uint64_t                  counted_block;
};

static int
named(const struct copying *c, int rc, struct vhdx_error *err)
{
    return vx_stack_named(rc, vx_image_storage(c->job->child), err);
}

/* A disk as a child sees it: zeros past its end. */
static int
read_padded(struct vhdx_disk *disk, uint8_t *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    uint64_t size = vhdx_disk_size(disk);
    size_t   inside = guest_offset >= size ? 0 : (size_t)vx_min_u64(length, size - guest_offset);

    memset(buffer + inside, 0, length - inside);
    return vhdx_disk_read(disk, buffer, inside, vx_min_u64(guest_offset, size), err);
}

static void
count(struct copying *c, uint64_t guest_offset, uint64_t length, bool is_data)
{
    uint64_t first = vx_max_u64(guest_offset / c->geometry->block_size, c->counted_block);
    uint64_t end = vx_ceil_div(guest_offset + length, c->geometry->block_size);

    if (is_data)
        c->job->result->bytes_copied += length;
    if (end > first) {
        c->job->result->blocks_changed += end - first;
        c->counted_block = end;
    }
}

static int
put_zeros(struct copying *c, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    count(c, guest_offset, length, false);
    if (c->job->only_count)
        return VHDX_OK;
    return named(c, vx_image_zero(c->job->child, guest_offset, length, false, err), err);
}

static int
put_data(struct copying *c, const uint8_t *bytes, uint64_t guest_offset, size_t length, struct vhdx_error *err)
{
    if (vx_is_zero(bytes, length))
        return put_zeros(c, guest_offset, length, err);
    count(c, guest_offset, length, true);
    if (c->job->only_count)
        return VHDX_OK;
    return named(c, vx_image_write(c->job->child, bytes, length, guest_offset, err), err);
}

/* Hand over the parts of a range that the child leaves to its parent (U1). */
typedef int (*take_run)(struct copying *c, uint64_t from, uint64_t to, struct vhdx_error *err);

static int
each_run(struct copying *c, uint64_t from, uint64_t to, take_run take, bool tells_progress, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    while (from < to && rc == VHDX_OK) {
        struct vx_layer_extent extent;

        rc = vx_image_resolve(c->job->child, from, vx_min_u64(to - from, WINDOW), &extent, err);
        if (rc < 0)
            return named(c, rc, err);
        if (extent.source == VX_LAYER_BELOW)
            rc = take(c, from, from + extent.length, err);
        from += extent.length;
        if (rc == VHDX_OK && tells_progress)
            rc = vx_job_report(c->job->progress, from, to, err);
    }
    return rc;
}

/* --- everything --- */

/* How far the parent is known to read as zeros. */
static int
zeros_from(struct vhdx_disk *parent, uint64_t from, uint64_t to, uint64_t *zeros_to, struct vhdx_error *err)
{
    uint64_t size = vx_min_u64(vhdx_disk_size(parent), to);

    *zeros_to = from;
    while (*zeros_to < size) {
        struct vhdx_extent extent;
        size_t             extent_count;
        int rc = vhdx_disk_resolve_sparse(parent, *zeros_to, size - *zeros_to, &extent, 1, &extent_count, err);

        if (rc < 0)
            return rc;
        if ((extent.flags & VHDX_EXTENT_ZERO) == 0)
            return VHDX_OK;
        *zeros_to += extent.length;
    }
    *zeros_to = to;
    return VHDX_OK;
}

static int
copy_run(struct copying *c, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    uint32_t block_size = c->geometry->block_size;
    int      rc = VHDX_OK;

    while (from < to && rc == VHDX_OK) {
        uint64_t block_end = vx_min_u64(vx_round_down(from, block_size) + block_size, to);
        uint64_t zeros_to;
        size_t   n = (size_t)vx_min_u64(block_end - from, BUFFER);

        rc = zeros_from(c->job->parent, from, to, &zeros_to, err);
        if (rc < 0)
            return rc;
        if (zeros_to >= block_end) {
            zeros_to = zeros_to == to ? to : vx_round_down(zeros_to, block_size);
            rc = put_zeros(c, from, zeros_to - from, err);
            from = zeros_to;
            continue;
        }
        rc = read_padded(c->job->parent, c->buffer, n, from, err);
        if (rc == VHDX_OK)
            rc = put_data(c, c->buffer, from, n, err);
        from += n;
        if (rc == VHDX_OK)
            rc = vx_job_report(c->job->progress, from, c->geometry->virtual_size, err);
    }
    return rc;
}

/* --- differences --- */

/* Copy what differs of a range, in runs of grains. */
static int
copy_differing(struct copying *c, uint64_t from, size_t length, struct vhdx_error *err)
{
    int rc = read_padded(c->job->parent, c->buffer, length, from, err);

    if (rc == VHDX_OK)
        rc = read_padded(c->other, c->other_buffer, length, from, err);
    for (size_t at = 0, end; at < length && rc == VHDX_OK; at = end) {
        bool differs = false;

        for (end = at; end < length;) {
            size_t n = (size_t)vx_min_u64(length - end, GRAIN - (from + end) % GRAIN);
            bool   is_other = memcmp(c->buffer + end, c->other_buffer + end, n) != 0;

            if (end > at && is_other != differs)
                break;
            differs = is_other;
            end += n;
        }
        if (differs)
            rc = put_data(c, c->buffer + at, from + at, end - at, err);
    }
    return rc;
}

static int
copy_differing_run(struct copying *c, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    while (from < to && rc == VHDX_OK) {
        size_t n = (size_t)vx_min_u64(to - from, BUFFER - from % BUFFER);

        rc = copy_differing(c, from, n, err);
        from += n;
    }
    return rc;
}

/* The parent reads as zeros here: whole blocks need no look at the other one. */
static int
zero_run(struct copying *c, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    uint64_t size = c->geometry->virtual_size, block_size = c->geometry->block_size;
    uint64_t first = vx_round_up(from, block_size), last = to == size ? size : vx_round_down(to, block_size);
    int      rc;

    if (first >= last)
        return copy_differing_run(c, from, to, err);
    rc = copy_differing_run(c, from, first, err);
    if (rc == VHDX_OK)
        rc = put_zeros(c, first, last - first, err);
    return rc == VHDX_OK ? copy_differing_run(c, last, to, err) : rc;
}

/* A range where the two parents may differ; `b` is the one the child lies over now. */
static int
take_difference(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b, struct vhdx_error *err)
{
    struct copying *c = context;
    uint64_t        end = vx_min_u64(guest_offset + length, c->geometry->virtual_size);

    return each_run(c, guest_offset, end, is_zero_in_b ? zero_run : copy_differing_run, false, err);
}

/* --- the jobs --- */

static int
begin(struct copying *c, const struct vx_copy_up *job, struct vhdx_disk *other, struct vhdx_error *err)
{
    *c = (struct copying){ .job = job, .geometry = vx_image_geometry(job->child), .other = other,
                           .buffer = vx_alloc(BUFFER) };
    if (other != NULL)
        c->other_buffer = vx_alloc(BUFFER);
    if (c->buffer == NULL || (other != NULL && c->other_buffer == NULL))
        return vx_fail_memory(err, "the buffers of a copy");
    return VHDX_OK;
}

static void
end_copying(struct copying *c)
{
    vx_free(c->buffer);
    vx_free(c->other_buffer);
}

int
vx_copy_up_all(const struct vx_copy_up *job, struct vhdx_error *err)
{
    struct copying c;
    int            rc = begin(&c, job, NULL, err);

    if (rc == VHDX_OK)
        rc = each_run(&c, 0, c.geometry->virtual_size, copy_run, true, err);
    end_copying(&c);
    return rc;
}

int
vx_copy_up_differences(const struct vx_copy_up *job, struct vhdx_disk *other, struct vhdx_error *err)
{
    struct copying c;
    int            rc = begin(&c, job, other, err);

    if (rc == VHDX_OK)
        rc = vx_diff_each(other, job->parent, take_difference, &c, job->progress, err);
    end_copying(&c);
    return rc;
}
