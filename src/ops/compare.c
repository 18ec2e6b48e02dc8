/*
 * Comparing the contents of two disks.
 *
 * Both are walked by extents side by side; where both are zeros nothing is read, where one is, only the other is.
 * The shorter disk counts as followed by zeros for ever.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/extent_walk.h"
#include "ops/job.h"

#define STEP (2 * VX_MIB)

struct side {
    struct vx_extent_walk walk;
    uint8_t              *buffer; /* of STEP */
    uint64_t              length; /* what the walk says about the position */
    bool                  is_zero;
};

static int
peek(struct side *side, struct vhdx_error *err)
{
    int rc = vx_walk_peek(&side->walk, &side->length, &side->is_zero, err);

    if (rc == VHDX_OK && side->length == 0) /* the end: zeros from here on */
        side->length = UINT64_MAX;
    return rc;
}

static void
advance(struct side *side, uint64_t length)
{
    if (side->length != UINT64_MAX)
        vx_walk_advance(&side->walk, length);
}

static int
fill(struct side *side, size_t length, struct vhdx_error *err)
{
    if (side->is_zero)
        return VHDX_OK;
    return vhdx_disk_read(side->walk.disk, side->buffer, length, side->walk.position, err);
}

/* Index of the first byte that differs, or `length`.  Whole pages first: they nearly always agree. */
static size_t
first_difference_in(const uint8_t *a, const uint8_t *b, size_t length)
{
    size_t at = 0;

    while (length - at >= VX_PAGE && memcmp(a + at, b + at, VX_PAGE) == 0)
        at += VX_PAGE;
    while (at < length && a[at] == b[at])
        at++;
    return at;
}

static size_t
first_byte_set_in(const uint8_t *a, size_t length)
{
    size_t at = 0;

    while (length - at >= VX_PAGE && vx_is_zero(a + at, VX_PAGE))
        at += VX_PAGE;
    while (at < length && a[at] == 0)
        at++;
    return at;
}

/* Compare `length` bytes at the position, of which one side at least is not known to be zeros. */
static int
compare_step(struct side *a, struct side *b, size_t length, size_t *same_length, struct vhdx_error *err)
{
    int rc = fill(a, length, err);

    if (rc == VHDX_OK)
        rc = fill(b, length, err);
    if (rc < 0)
        return rc;
    if (a->is_zero)
        *same_length = first_byte_set_in(b->buffer, length);
    else if (b->is_zero)
        *same_length = first_byte_set_in(a->buffer, length);
    else
        *same_length = first_difference_in(a->buffer, b->buffer, length);
    return VHDX_OK;
}

/* Walk both to the end of the longer, or to the first difference. */
static int
compare_sides(struct side *a, struct side *b, const struct vhdx_progress *progress, uint64_t *same_length,
              struct vhdx_error *err)
{
    uint64_t total = vx_max_u64(a->walk.size, b->walk.size);
    uint64_t *at = same_length;
    int rc = VHDX_OK;

    for (*at = 0; *at < total;) {
        uint64_t length;

        rc = peek(a, err);
        if (rc == VHDX_OK)
            rc = peek(b, err);
        if (rc < 0)
            return rc;
        length = vx_min_u64(vx_min_u64(a->length, b->length), total - *at);
        if (!a->is_zero || !b->is_zero) {
            size_t same;

            length = vx_min_u64(length, STEP);
            rc = compare_step(a, b, (size_t)length, &same, err);
            if (rc < 0)
                return rc;
            if (same < length) {
                *at += same;
                return VHDX_OK;
            }
        }
        advance(a, length);
        advance(b, length);
        *at += length;
        rc = vx_job_report(progress, *at, total, err);
        if (rc < 0)
            return rc;
    }
    return rc;
}

int
vhdx_compare(struct vhdx_disk *a, struct vhdx_disk *b, const struct vhdx_progress *progress, bool *is_equal,
             uint64_t *first_difference, struct vhdx_error *err)
{
    struct side sides[2] = { { .buffer = vx_alloc(STEP) }, { .buffer = vx_alloc(STEP) } };
    uint64_t same_length = 0;
    int rc;

    vx_walk_init(&sides[0].walk, a);
    vx_walk_init(&sides[1].walk, b);
    if (sides[0].buffer == NULL || sides[1].buffer == NULL)
        rc = vx_fail_memory(err, "the buffers of a comparison");
    else
        rc = compare_sides(&sides[0], &sides[1], progress, &same_length, err);
    if (rc == VHDX_OK) {
        *is_equal = same_length == vx_max_u64(sides[0].walk.size, sides[1].walk.size);
        if (!*is_equal && first_difference != NULL)
            *first_difference = same_length;
    }
    vx_free(sides[0].buffer);
    vx_free(sides[1].buffer);
    return rc;
}
