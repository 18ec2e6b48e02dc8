/* See diff.h. */
#include "ops/diff.h"

#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "disk/disk.h"
#include "ops/extent_walk.h"
#include "ops/job.h"
#include "storage/storage.h"

#define STEP   (2 * VX_MIB)
#define WINDOW VX_TIB
#define GRAIN  4096u

/* Ranges on their way to the taker: what continues the last one is joined to it. */
struct telling {
    vx_take_difference          take;
    void                       *context;
    const struct vhdx_progress *progress;
    uint64_t                    total; /* bytes of the longer disk */
    uint64_t                    guest_offset, length; /* waiting; length 0: nothing */
    bool                        is_zero_in_b;
};

static int
tell_waiting(struct telling *t, struct vhdx_error *err)
{
    uint64_t length = t->length;

    t->length = 0;
    return length > 0 ? t->take(t->context, t->guest_offset, length, t->is_zero_in_b, err) : VHDX_OK;
}

static int
tell(struct telling *t, uint64_t guest_offset, uint64_t length, bool is_zero_in_b, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (t->length > 0 && t->guest_offset + t->length == guest_offset && t->is_zero_in_b == is_zero_in_b) {
        t->length += length;
        return VHDX_OK;
    }
    rc = tell_waiting(t, err);
    t->guest_offset = guest_offset;
    t->length = length;
    t->is_zero_in_b = is_zero_in_b;
    return rc;
}

/* --- by tables --- */

struct table_side {
    struct vhdx_disk *disk;
    struct vhdx_disk  above;   /* the layers above the shared one; maybe none */
    bool              is_shared, is_zero; /* at the position: */
    uint64_t          length;
};

static bool
holds_the_same(const struct vx_layer *a, const struct vx_layer *b)
{
    struct vhdx_guid a_guid, b_guid;

    if (vx_identity_equal(&a->storage->identity, &b->storage->identity))
        return true;
    if (a->image == NULL || b->image == NULL)
        return false;
    a_guid = vx_image_data_write_guid(a->image);
    b_guid = vx_image_data_write_guid(b->image);
    return !vhdx_guid_is_zero(&a_guid) && vhdx_guid_equal(&a_guid, &b_guid);
}

/* The topmost pair of layers that hold the same (F1). */
static bool
find_shared(struct table_side *a, struct table_side *b)
{
    for (unsigned i = 0; i < a->disk->layer_count; i++) {
        for (unsigned k = 0; k < b->disk->layer_count; k++) {
            if (!holds_the_same(&a->disk->layers[i], &b->disk->layers[k]))
                continue;
            a->above = *a->disk;
            a->above.layer_count = i;
            b->above = *b->disk;
            b->above.layer_count = k;
            return true;
        }
    }
    return false;
}

/* What the layers above the shared one say. */
static int
look_above(struct table_side *side, uint64_t at, uint64_t length, struct vhdx_error *err)
{
    struct vhdx_extent extent;
    int                rc;

    side->is_shared = false;
    side->is_zero = true;
    side->length = length;
    if (at >= side->disk->size)
        return VHDX_OK; /* F3 */
    side->length = vx_min_u64(length, side->disk->size - at);
    rc = vx_disk_first_extent(&side->above, 0, at, side->length, &extent, &side->is_shared, err);
    if (rc < 0)
        return rc;
    side->length = extent.length;
    side->is_zero = (extent.flags & VHDX_EXTENT_ZERO) != 0;
    return VHDX_OK;
}

/* Where one disk leaves a range to the shared layer and the other does not, the shared layer's extents are looked at. */
static int
look_below(struct table_side *side, uint64_t at, struct vhdx_error *err)
{
    struct vhdx_extent extent;
    bool               lacks_parent;
    int                rc;

    if (!side->is_shared)
        return VHDX_OK;
    rc = vx_disk_first_extent(side->disk, side->above.layer_count, at, side->length, &extent, &lacks_parent, err);
    if (rc < 0)
        return rc;
    side->length = extent.length;
    side->is_zero = (extent.flags & VHDX_EXTENT_ZERO) != 0;
    return VHDX_OK;
}

static int
diff_tables(struct table_side *a, struct table_side *b, struct telling *t, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (uint64_t at = 0; at < t->total && rc == VHDX_OK;) {
        uint64_t length = vx_min_u64(t->total - at, WINDOW);

        rc = look_above(a, at, length, err);
        if (rc == VHDX_OK)
            rc = look_above(b, at, length, err);
        if (rc == VHDX_OK && a->is_shared != b->is_shared)
            rc = look_below(a->is_shared ? a : b, at, err);
        if (rc < 0)
            return rc;
        length = vx_min_u64(a->length, b->length);
        if (!(a->is_shared && b->is_shared) && !(a->is_zero && b->is_zero))
            rc = tell(t, at, length, b->is_zero, err);
        at += length;
        if (rc == VHDX_OK)
            rc = vx_job_report(t->progress, at, t->total, err);
    }
    return rc;
}

/* --- by content --- */

struct content_side {
    struct vx_extent_walk walk;
    uint8_t              *buffer; /* STEP */
    uint64_t              length;
    bool                  is_zero;
};

static int
peek(struct content_side *side, struct vhdx_error *err)
{
    int rc = vx_walk_peek(&side->walk, &side->length, &side->is_zero, err);

    if (rc == VHDX_OK && side->length == 0) /* F3 */
        side->length = UINT64_MAX;
    return rc;
}

static int
fill(struct content_side *side, size_t length, struct vhdx_error *err)
{
    if (side->is_zero) {
        memset(side->buffer, 0, length);
        return VHDX_OK;
    }
    return vhdx_disk_read(side->walk.disk, side->buffer, length, side->walk.position, err);
}

static void
advance(struct content_side *side, uint64_t length)
{
    if (side->length != UINT64_MAX)
        vx_walk_advance(&side->walk, length);
}

static int
compare_step(struct content_side *a, struct content_side *b, struct telling *t, uint64_t at, size_t length,
             struct vhdx_error *err)
{
    int rc = fill(a, length, err);

    if (rc == VHDX_OK)
        rc = fill(b, length, err);
    for (size_t i = 0, n; i < length && rc == VHDX_OK; i += n) {
        n = (size_t)vx_min_u64(length - i, GRAIN - (at + i) % GRAIN);
        if (memcmp(a->buffer + i, b->buffer + i, n) != 0)
            rc = tell(t, at + i, n, vx_is_zero(b->buffer + i, n), err);
    }
    return rc;
}

static int
diff_contents(struct content_side *a, struct content_side *b, struct telling *t, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (uint64_t at = 0; at < t->total && rc == VHDX_OK;) {
        uint64_t length;

        rc = peek(a, err);
        if (rc == VHDX_OK)
            rc = peek(b, err);
        if (rc < 0)
            return rc;
        length = vx_min_u64(vx_min_u64(a->length, b->length), t->total - at);
        if (!a->is_zero || !b->is_zero) {
            length = vx_min_u64(length, STEP - at % STEP);
            rc = compare_step(a, b, t, at, (size_t)length, err);
        }
        advance(a, length);
        advance(b, length);
        at += length;
        if (rc == VHDX_OK)
            rc = vx_job_report(t->progress, at, t->total, err);
    }
    return rc;
}

static int
start_contents(struct vhdx_disk *a, struct vhdx_disk *b, struct telling *t, struct vhdx_error *err)
{
    struct content_side sides[2] = { { .buffer = vx_alloc(STEP) }, { .buffer = vx_alloc(STEP) } };
    int                 rc;

    vx_walk_init(&sides[0].walk, a);
    vx_walk_init(&sides[1].walk, b);
    if (sides[0].buffer == NULL || sides[1].buffer == NULL)
        rc = vx_fail_memory(err, "the buffers of a comparison");
    else
        rc = diff_contents(&sides[0], &sides[1], t, err);
    vx_free(sides[0].buffer);
    vx_free(sides[1].buffer);
    return rc;
}

int
vx_diff_each(struct vhdx_disk *a, struct vhdx_disk *b, vx_take_difference take, void *context,
             const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct telling    t = { .take = take, .context = context, .progress = progress,
                            .total = vx_max_u64(a->size, b->size) };
    struct table_side sides[2] = { { .disk = a }, { .disk = b } };
    int               rc;

    if (find_shared(&sides[0], &sides[1]))
        rc = diff_tables(&sides[0], &sides[1], &t, err);
    else
        rc = start_contents(a, b, &t, err);
    return rc == VHDX_OK ? tell_waiting(&t, err) : rc;
}

/* --- for callers outside --- */

struct listener {
    vhdx_differs each;
    void        *context;
};

static int
pass_on(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b, struct vhdx_error *err)
{
    const struct listener *listener = context;

    if (listener->each(listener->context, guest_offset, length, is_zero_in_b) == 0)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_CANCELLED, VHDX_PART_NONE, VHDX_NO_OFFSET, "cancelled");
}

int
vhdx_diff(struct vhdx_disk *a, struct vhdx_disk *b, vhdx_differs each, void *context,
          const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct listener listener = { .each = each, .context = context };

    return vx_diff_each(a, b, pass_on, &listener, progress, err);
}
