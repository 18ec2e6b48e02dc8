/*
 * Which block lies where nobody claims the space.  Writers give out space from the front to the back, so blocks that were
 * written in order lie in order, and a fixed image is nothing but its disk in one piece.
 *
 *   A *stretch* is space of the file that nothing names and that holds data.  A *point* is a place in it of which the block
 *   is known: the block that the table names right before or behind it, or a sign in the payload.  Between two points that
 *   are as far apart in the file as on the disk lie the blocks between: a *run*.
 *
 *   I1  A run never holds a block that the table knows something about: then the order is another one.
 *   I2  Two signs that name one block, and two runs that share one, are all given up.
 *   I3  A run is a strong guess only when nearly all blocks that the table does name lie in the order of the disk, or
 *       when it names hardly any and the image is fixed, or when nothing is left but the payload and all signs in it,
 *       those of the disk's first and last block among them, are as far apart as on the disk.
 */
#include "ops/salvage.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

#define NO_BLOCK UINT64_MAX

struct point {
    uint64_t file_offset; /* of the block's first byte */
    uint64_t block_index;
};

struct placing {
    struct vhdx_salvage *s;
    struct point        *points; /* by signs, ascending in the file */
    size_t               point_count;
    bool                 is_in_order; /* I3 */
};

/* --- stretches --- */

static int
list_stretches(struct vhdx_salvage *s, struct vhdx_error *err)
{
    uint64_t at = 0;

    s->stretches = vx_alloc_zeroed(VX_SALVAGE_STRETCHES, sizeof *s->stretches);
    if (s->stretches == NULL)
        return vx_fail_memory(err, "space that nothing names");
    while (at < s->file_length && s->stretch_count < VX_SALVAGE_STRETCHES) {
        struct vx_salvage_stretch *stretch = &s->stretches[s->stretch_count];
        uint64_t                   length, start;
        bool                       is_there;
        int                        rc = vx_salvage_next_orphan(s, &at, &length, &is_there, err);

        if (rc < 0)
            return rc;
        if (!is_there)
            break;
        /* Holes and zeros around the data belong to it: a block may begin or end with them. */
        for (start = at; start > VX_MIB && !vx_mib_map_has(&s->known, start - VX_MIB);)
            start -= VX_MIB;
        for (at += length; at < s->file_length && !vx_mib_map_has(&s->known, at);)
            at += VX_MIB;
        *stretch = (struct vx_salvage_stretch){ start, at - start, NO_BLOCK, NO_BLOCK };
        s->stretch_count++;
    }
    return VHDX_OK;
}

/* Does the block at this place lie right before a stretch, or right behind one? */
static void
note_neighbour(struct vhdx_salvage *s, uint64_t block_index, uint64_t place)
{
    uint64_t end = place + s->geometry.block_size;
    size_t   low = 0, high = s->stretch_count;

    while (low < high) { /* the first stretch that ends at or behind the block */
        size_t middle = low + (high - low) / 2;

        if (s->stretches[middle].file_offset + s->stretches[middle].length < place)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < s->stretch_count && s->stretches[low].file_offset + s->stretches[low].length == place)
        s->stretches[low++].right_block = block_index;
    if (low < s->stretch_count && s->stretches[low].file_offset == end)
        s->stretches[low].left_block = block_index;
}

static int
find_neighbours(struct vhdx_salvage *s, struct vhdx_error *err)
{
    uint64_t count = vx_min_u64(s->bat_entries, s->geometry.bat_entry_count), raw[VX_BAT_PAGE_ENTRIES], block_index;

    for (uint64_t i = 0; s->has_bat && i < count; i += VX_BAT_PAGE_ENTRIES) {
        size_t part;
        int    rc = vx_salvage_skip_empty(s, &i, err);

        if (rc == VHDX_OK && i >= count)
            break;
        part = (size_t)vx_min_u64(VX_BAT_PAGE_ENTRIES, count - i);
        if (rc == VHDX_OK)
            rc = vx_salvage_poll(s, i, count, err);
        if (rc == VHDX_OK)
            rc = vx_salvage_read_entries(s, i, part, raw, NULL, err);
        for (size_t k = 0; k < part && rc == VHDX_OK; k++) {
            struct vx_bat_entry entry;

            if (vx_geometry_is_payload_entry(&s->geometry, i + k, &block_index)
                && vx_salvage_judge(s, raw[k], &entry) == VX_ENTRY_PRESENT)
                note_neighbour(s, block_index, entry.file_offset);
        }
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

/* --- points --- */

static int
compare_points(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    return (x->file_offset > y->file_offset) - (x->file_offset < y->file_offset);
}

static int
compare_by_block(const void *a, const void *b)
{
    const struct point *x = a, *y = b;

    if (x->block_index != y->block_index)
        return x->block_index > y->block_index ? 1 : -1;
    return compare_points(a, b);
}

/* I2: of a block that several places claim to be, all are dropped; of signs that agree, one is kept. */
static void
drop_contradictions(struct placing *p)
{
    size_t kept = 0;

    qsort(p->points, p->point_count, sizeof *p->points, compare_by_block);
    for (size_t i = 0; i < p->point_count;) {
        size_t end = i + 1;
        bool   agree = true;

        for (; end < p->point_count && p->points[end].block_index == p->points[i].block_index; end++)
            agree &= p->points[end].file_offset == p->points[i].file_offset;
        if (agree)
            p->points[kept++] = p->points[i];
        i = end;
    }
    p->point_count = kept;
    qsort(p->points, p->point_count, sizeof *p->points, compare_points);
}

static int
collect_points(struct placing *p, struct vhdx_error *err)
{
    struct vhdx_salvage *s = p->s;
    int                  rc = VHDX_OK;

    s->sign_count = 0;
    for (size_t i = 0; i < s->stretch_count && rc == VHDX_OK; i++)
        rc = vx_salvage_collect_signs(s, s->stretches[i].file_offset,
                                      s->stretches[i].file_offset + s->stretches[i].length, err);
    p->points = vx_alloc_zeroed(s->sign_count + 1, sizeof *p->points);
    if (rc == VHDX_OK && p->points == NULL)
        rc = vx_fail_memory(err, "signs in the payload");
    for (size_t i = 0; i < s->sign_count && rc == VHDX_OK; i++) {
        const struct vx_salvage_sign *sign = &s->signs[i];
        uint64_t                      inside = sign->guest_offset % s->geometry.block_size;

        if (sign->guest_offset >= s->geometry.virtual_size || sign->file_offset < VX_MIB + inside
            || !vx_is_aligned(sign->file_offset - inside, VX_MIB))
            continue;
        p->points[p->point_count++] = (struct point){ sign->file_offset - inside,
                                                      sign->guest_offset / s->geometry.block_size };
    }
    if (rc == VHDX_OK)
        drop_contradictions(p);
    return rc;
}

/* --- runs --- */

/* I1 */
static int
is_undecided(struct vhdx_salvage *s, const struct vx_salvage_run *run, bool *out, struct vhdx_error *err)
{
    uint64_t raw[VX_BAT_PAGE_ENTRIES];
    uint64_t at = vx_geometry_payload_bat_index(&s->geometry, run->first_block);
    uint64_t end = vx_geometry_payload_bat_index(&s->geometry, run->first_block + run->block_count - 1) + 1;

    *out = true;
    while (s->has_bat && at < vx_min_u64(end, s->bat_entries) && *out) {
        size_t part = (size_t)vx_min_u64(end - at, VX_BAT_PAGE_ENTRIES - at % VX_BAT_PAGE_ENTRIES);
        int    rc = vx_salvage_read_entries(s, at, part, raw, NULL, err);

        if (rc < 0)
            return rc;
        for (size_t k = 0; k < part; k++) {
            struct vx_bat_entry   entry;
            enum vx_entry_verdict verdict = vx_salvage_judge(s, raw[k], &entry);

            *out &= verdict == VX_ENTRY_NOTHING || verdict == VX_ENTRY_BAD;
        }
        at += part;
    }
    return VHDX_OK;
}

static int
add_run(struct placing *p, const struct vx_salvage_run *run, struct vhdx_error *err)
{
    struct vhdx_salvage *s = p->s;
    bool                 is_free;
    int                  rc;

    if (run->block_count == 0 || run->first_block >= s->geometry.payload_block_count
        || run->block_count > s->geometry.payload_block_count - run->first_block || s->run_count == VX_SALVAGE_RUNS)
        return VHDX_OK;
    rc = is_undecided(s, run, &is_free, err);
    if (rc == VHDX_OK && is_free)
        s->runs[s->run_count++] = *run;
    return rc;
}

static int
add_point(struct placing *p, const struct point *point, struct vhdx_error *err)
{
    return add_run(p, &(struct vx_salvage_run){ point->block_index, 1, point->file_offset, VHDX_SALVAGE_SIGNATURE, true },
                   err);
}

/* I3: a disk in one piece, whose ends are both known. */
static bool
is_whole_disk(const struct placing *p)
{
    const struct vx_geometry *g = &p->s->geometry;

    if (p->s->has_metadata || p->s->has_bat || p->s->stretch_count != 1 || p->point_count < 2
        || p->points[0].block_index != 0 || p->points[p->point_count - 1].block_index + 1 != g->payload_block_count)
        return false;
    for (size_t i = 1; i < p->point_count; i++)
        if (p->points[i].file_offset - p->points[0].file_offset != p->points[i].block_index * g->block_size)
            return false;
    return true;
}

/* What lies between two points, if they are as far apart here as there. */
static int
add_between(struct placing *p, const struct point *left, const struct point *right, struct vhdx_error *err)
{
    const struct vx_geometry *g = &p->s->geometry;
    uint64_t                  apart = right->file_offset - left->file_offset;

    if (right->block_index <= left->block_index || apart % g->block_size != 0
        || apart / g->block_size != right->block_index - left->block_index)
        return VHDX_OK;
    return add_run(p, &(struct vx_salvage_run){ left->block_index + 1, right->block_index - left->block_index - 1,
                                                left->file_offset + g->block_size, VHDX_SALVAGE_ORDER,
                                                p->is_in_order }, err);
}

/* What lies in front of the first point, back to the stretch's beginning. */
static int
add_before(struct placing *p, const struct vx_salvage_stretch *stretch, const struct point *point, struct vhdx_error *err)
{
    uint64_t block_size = p->s->geometry.block_size;
    uint64_t room = (point->file_offset - stretch->file_offset) / block_size;
    uint64_t count = vx_min_u64(room, point->block_index);

    return add_run(p, &(struct vx_salvage_run){ point->block_index - count, count,
                                                point->file_offset - count * block_size, VHDX_SALVAGE_ORDER,
                                                p->is_in_order && room == point->block_index }, err);
}

/* What lies behind the last point, to the stretch's end; at the end of the file a block may be cut off. */
static int
add_behind(struct placing *p, const struct vx_salvage_stretch *stretch, const struct point *point, struct vhdx_error *err)
{
    const struct vx_geometry *g = &p->s->geometry;
    uint64_t                  from = point->file_offset + g->block_size, end = stretch->file_offset + stretch->length;
    uint64_t                  room = from >= end ? 0 : end == p->s->file_length ? vx_ceil_div(end - from, g->block_size)
                                                                                : (end - from) / g->block_size;
    uint64_t                  left = g->payload_block_count - 1 - vx_min_u64(point->block_index, g->payload_block_count - 1);

    return add_run(p, &(struct vx_salvage_run){ point->block_index + 1, vx_min_u64(room, left), from, VHDX_SALVAGE_ORDER,
                                                p->is_in_order && room == left }, err);
}

/* Without a single point: only a fixed image, or one whose every block would be there, says enough. */
static int
add_whole(struct placing *p, const struct vx_salvage_stretch *stretch, struct vhdx_error *err)
{
    const struct vx_geometry *g = &p->s->geometry;
    uint64_t                  room = vx_ceil_div(stretch->length, g->block_size);
    bool                      is_all = stretch->length / g->block_size == g->payload_block_count;

    if (p->s->pairs > 0 || p->s->stretch_count != 1 || !p->s->has_block_size || !(g->is_fixed || is_all))
        return VHDX_OK;
    return add_run(p, &(struct vx_salvage_run){ 0, vx_min_u64(room, g->payload_block_count), stretch->file_offset,
                                                VHDX_SALVAGE_ORDER, g->is_fixed }, err);
}

static int
place_stretch(struct placing *p, const struct vx_salvage_stretch *stretch, struct vhdx_error *err)
{
    uint64_t     block_size = p->s->geometry.block_size, end = stretch->file_offset + stretch->length;
    struct point last = { stretch->file_offset - block_size, stretch->left_block };
    bool         has_last = stretch->left_block != NO_BLOCK;
    int          rc = VHDX_OK;

    for (size_t i = 0; i < p->point_count && rc == VHDX_OK; i++) {
        const struct point *point = &p->points[i];

        if (point->file_offset < stretch->file_offset || point->file_offset >= end)
            continue;
        rc = has_last ? add_between(p, &last, point, err) : add_before(p, stretch, point, err);
        if (rc == VHDX_OK)
            rc = add_point(p, point, err);
        last = *point;
        has_last = true;
    }
    if (rc < 0)
        return rc;
    if (stretch->right_block != NO_BLOCK) {
        const struct point right = { end, stretch->right_block };

        return has_last ? add_between(p, &last, &right, err) : add_before(p, stretch, &right, err);
    }
    return has_last ? add_behind(p, stretch, &last, err) : add_whole(p, stretch, err);
}

static int
compare_runs(const void *a, const void *b)
{
    const struct vx_salvage_run *x = a, *y = b;

    return (x->first_block > y->first_block) - (x->first_block < y->first_block);
}

/* I2.  What the runs name is known from here on. */
static void
settle_runs(struct vhdx_salvage *s)
{
    size_t kept = 0;

    qsort(s->runs, s->run_count, sizeof *s->runs, compare_runs);
    for (size_t i = 0; i < s->run_count;) {
        uint64_t end = s->runs[i].first_block + s->runs[i].block_count;
        size_t   next = i + 1;

        for (; next < s->run_count && s->runs[next].first_block < end; next++)
            end = vx_max_u64(end, s->runs[next].first_block + s->runs[next].block_count);
        if (next == i + 1)
            s->runs[kept++] = s->runs[i];
        i = next;
    }
    s->run_count = kept;
    for (size_t i = 0; i < s->run_count; i++)
        for (uint64_t at = 0; at < s->runs[i].block_count * s->geometry.block_size; at += VX_MIB)
            vx_mib_map_set(&s->known, s->runs[i].file_offset + at);
}

static bool
are_all_strong(const struct vhdx_salvage *s)
{
    for (size_t i = 0; i < s->run_count; i++)
        if (!s->runs[i].is_strong)
            return false;
    return true;
}

int
vx_salvage_place(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct placing p = { .s = s };
    uint64_t       at = 0, length;
    bool           is_there;
    int            rc;

    if (!s->has_orphans)
        return VHDX_OK;
    p.is_in_order = s->pairs < 8 ? s->geometry.is_fixed : s->pairs_in_order * 100 >= s->pairs * 99;
    s->runs = vx_alloc_zeroed(VX_SALVAGE_RUNS, sizeof *s->runs);
    rc = s->runs == NULL ? vx_fail_memory(err, "blocks placed by inference") : list_stretches(s, err);
    if (rc == VHDX_OK)
        rc = find_neighbours(s, err);
    if (rc == VHDX_OK)
        rc = collect_points(&p, err);
    p.is_in_order |= rc == VHDX_OK && is_whole_disk(&p);
    for (size_t i = 0; i < s->stretch_count && rc == VHDX_OK; i++)
        rc = place_stretch(&p, &s->stretches[i], err);
    vx_free(p.points);
    if (rc < 0)
        return rc;
    settle_runs(s);
    rc = vx_salvage_next_orphan(s, &at, &length, &is_there, err);
    s->has_orphans = is_there || !are_all_strong(s);
    return rc;
}
