/* See compact_plan.h. */
#include "ops/compact_plan.h"

#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "format/layout.h"

#define BITS 64u

void
vx_plan_init(struct vx_compact_plan *plan, uint32_t block_size)
{
    *plan = (struct vx_compact_plan){ .block_size = block_size };
}

void
vx_plan_destroy(struct vx_compact_plan *plan)
{
    vx_free(plan->used);
    vx_free(plan->moves);
    vx_plan_init(plan, 0);
}

/* --- the map --- */

static bool
get_bit(const struct vx_compact_plan *plan, uint64_t mib)
{
    return mib < plan->mib_count && (plan->used[mib / BITS] >> (mib % BITS) & 1) != 0;
}

static void
put_bits(struct vx_compact_plan *plan, uint64_t first, uint64_t count, bool value)
{
    for (uint64_t mib = first; mib < first + count; mib++) {
        if (value)
            plan->used[mib / BITS] |= UINT64_C(1) << (mib % BITS);
        else
            plan->used[mib / BITS] &= ~(UINT64_C(1) << (mib % BITS));
    }
}

static int
extend(struct vx_compact_plan *plan, uint64_t mib_count, struct vhdx_error *err)
{
    uint64_t  wanted = vx_round_up(vx_max_u64(mib_count, plan->mib_count + plan->mib_count / 4), 1024);
    uint64_t *used;

    if (mib_count <= plan->mib_count)
        return VHDX_OK;
    used = vx_realloc_array(plan->used, (size_t)(wanted / BITS), sizeof *used);
    if (used == NULL)
        return vx_fail_memory(err, "the map of used space");
    plan->used = used;
    for (uint64_t i = plan->mib_count / BITS; i < wanted / BITS; i++)
        used[i] = 0;
    plan->mib_count = wanted;
    return VHDX_OK;
}

int
vx_plan_mark(struct vx_compact_plan *plan, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    uint64_t first = file_offset / VX_MIB, count = vx_ceil_div(length, VX_MIB);
    int      rc = extend(plan, first + count, err);

    if (rc < 0)
        return rc;
    for (uint64_t mib = first; mib < first + count; mib++)
        plan->used_mibs += !get_bit(plan, mib);
    put_bits(plan, first, count, true);
    return VHDX_OK;
}

int
vx_plan_mark_fixed(struct vx_compact_plan *plan, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    plan->fixed_end = vx_max_u64(plan->fixed_end, vx_round_up(file_offset + length, VX_MIB));
    return vx_plan_mark(plan, file_offset, length, err);
}

bool
vx_plan_is_marked(const struct vx_compact_plan *plan, uint64_t file_offset)
{
    return get_bit(plan, file_offset / VX_MIB);
}

uint64_t
vx_plan_floor(const struct vx_compact_plan *plan)
{
    return vx_max_u64(plan->fixed_end, plan->used_mibs * VX_MIB);
}

/* --- the moves --- */

static uint64_t
length_of(const struct vx_compact_plan *plan, bool is_bitmap)
{
    return is_bitmap ? VX_SECTOR_BITMAP_SIZE : plan->block_size;
}

int
vx_plan_offer(struct vx_compact_plan *plan, bool is_bitmap, uint64_t index, uint64_t file_offset,
              struct vhdx_error *err)
{
    if (file_offset + length_of(plan, is_bitmap) <= vx_plan_floor(plan))
        return VHDX_OK;
    if (plan->count == plan->capacity) {
        size_t                  wanted = plan->capacity + plan->capacity / 2 + 64;
        struct vx_planned_move *moves = vx_realloc_array(plan->moves, wanted, sizeof *moves);

        if (moves == NULL)
            return vx_fail_memory(err, "the list of moves");
        plan->moves = moves;
        plan->capacity = wanted;
    }
    plan->moves[plan->count++] =
        (struct vx_planned_move){ .is_bitmap = is_bitmap, .index = index, .from = file_offset };
    return VHDX_OK;
}

/* J1: payload blocks before sector bitmap blocks, the last of the file first. */
static int
compare_moves(const void *a, const void *b)
{
    const struct vx_planned_move *x = a, *y = b;

    if (x->is_bitmap != y->is_bitmap)
        return x->is_bitmap ? 1 : -1;
    return (x->from < y->from) - (x->from > y->from);
}

/* The first free run of `count` MiB at or after `at` that ends at `end` or before; UINT64_MAX when there is none. */
static uint64_t
find_run(const struct vx_compact_plan *plan, uint64_t at, uint64_t count, uint64_t end)
{
    uint64_t length = 0;

    for (; at < end && length < count; at++) {
        if (at % BITS == 0 && plan->used[at / BITS] == UINT64_MAX) {
            at += BITS - 1; /* a word full of used ones */
            length = 0;
        } else {
            length = get_bit(plan, at) ? 0 : length + 1;
        }
    }
    return length == count ? at - count : UINT64_MAX;
}

/* Find a place for one kind of block; `to` of those that stay is 0.  `limit` is where the file cannot end before; it rises when
 * a block finds none (J2). */
static void
place_all(struct vx_compact_plan *plan, bool is_bitmap, uint64_t *limit)
{
    uint64_t length = length_of(plan, is_bitmap), search_from = 0;

    for (size_t i = 0; i < plan->count; i++) {
        struct vx_planned_move *move = &plan->moves[i];
        uint64_t                found;

        if (move->is_bitmap != is_bitmap || move->from + length <= *limit)
            continue;
        found = find_run(plan, search_from, length / VX_MIB, move->from / VX_MIB);
        if (found == UINT64_MAX) {
            *limit = move->from + length;
            continue;
        }
        put_bits(plan, found, length / VX_MIB, true);
        search_from = found + length / VX_MIB;
        move->to = found * VX_MIB;
    }
}

/* One round: what moves, then the places it leaves.  Returns how many move. */
static size_t
solve_round(struct vx_compact_plan *plan)
{
    uint64_t limit = vx_plan_floor(plan);
    size_t   count = 0;

    if (plan->count > 0)
        qsort(plan->moves, plan->count, sizeof *plan->moves, compare_moves);
    for (size_t i = 0; i < plan->count; i++)
        plan->moves[i].to = 0;
    place_all(plan, false, &limit);
    place_all(plan, true, &limit);
    for (size_t i = 0; i < plan->count; i++) {
        uint64_t length = length_of(plan, plan->moves[i].is_bitmap);

        if (plan->moves[i].to == 0)
            continue;
        put_bits(plan, plan->moves[i].from / VX_MIB, length / VX_MIB, false);
        plan->bytes += length;
        count++;
    }
    return count;
}

static void
find_end(struct vx_compact_plan *plan)
{
    uint64_t mib = plan->mib_count;

    while (mib > 0 && !get_bit(plan, mib - 1))
        mib--;
    plan->end = mib * VX_MIB;
}

void
vx_plan_solve(struct vx_compact_plan *plan)
{
    size_t kept = 0;

    solve_round(plan);
    for (size_t i = 0; i < plan->count; i++) {
        if (plan->moves[i].to != 0)
            plan->moves[kept++] = plan->moves[i];
    }
    plan->count = kept;
    find_end(plan);
}

size_t
vx_plan_count_rounds(struct vx_compact_plan *plan)
{
    size_t total = 0, count;

    do {
        count = solve_round(plan);
        for (size_t i = 0; i < plan->count; i++) {
            if (plan->moves[i].to != 0)
                plan->moves[i].from = plan->moves[i].to;
        }
        total += count;
    } while (count > 0);
    find_end(plan);
    return total;
}
