/*
 * What of the unflushed changes survives: a flush (all of what it covers), a failed flush (some), a power cut (any).
 *
 * Choices are made per call first, then per sector within some calls: coin flips per sector alone hardly ever build the
 * cases that matter, such as "the whole entry kept, all of the payload lost".
 */
#include "storage/fault_disk.h"

#include <stdlib.h>
#include <string.h>

#include "base/checked.h"

uint64_t
vx_fault_next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static uint64_t
below(uint64_t *state, uint64_t bound)
{
    return vx_fault_next(state) % bound;
}

/* --- changes --- */

struct vx_change *
vx_change_new(enum vx_change_kind kind, uint64_t file_offset, uint64_t length, size_t page_count)
{
    struct vx_change *change = calloc(1, sizeof *change + page_count * sizeof change->pages[0]);

    if (change == NULL)
        return NULL;
    atomic_init(&change->references, 1);
    change->kind = kind;
    change->file_offset = file_offset;
    change->length = length;
    change->page_count = page_count;
    return change;
}

struct vx_change *
vx_change_hold(struct vx_change *change)
{
    atomic_fetch_add_explicit(&change->references, 1, memory_order_relaxed);
    return change;
}

void
vx_change_release(struct vx_change *change)
{
    size_t i;

    if (change == NULL || atomic_fetch_sub_explicit(&change->references, 1, memory_order_acq_rel) != 1)
        return;
    for (i = 0; i < change->page_count; i++)
        vx_tree_page_release(change->pages[i]);
    free(change->lost);
    free(change);
}

/* A copy with room for lost units, those already lost marked. */
static struct vx_change *
copy_to_lose(const struct vx_change *from, uint64_t unit_count)
{
    struct vx_change *copy = vx_change_new(from->kind, from->file_offset, from->length, from->page_count);
    size_t i;

    if (copy == NULL)
        return NULL;
    copy->call_number = from->call_number;
    copy->number = from->number;
    for (i = 0; i < from->page_count; i++)
        copy->pages[i] = vx_tree_page_hold(from->pages[i]);
    copy->lost = calloc(1, (size_t)(unit_count / 8 + 1));
    if (copy->lost == NULL) {
        vx_change_release(copy);
        return NULL;
    }
    if (from->lost != NULL)
        memcpy(copy->lost, from->lost, (size_t)(unit_count / 8 + 1));
    return copy;
}

/* --- applying --- */

static bool
tear_keeps(struct vx_tear tear, uint64_t unit_index, uint64_t unit_count)
{
    uint64_t state = tear.seed, pivot;

    if (tear.style == VX_TEAR_NOT)
        return true;
    if (tear.style == VX_TEAR_COINS) {
        state += unit_index * 77;
        return (vx_fault_next(&state) & 1) != 0;
    }
    pivot = below(&state, unit_count);
    if (tear.style == VX_TEAR_PREFIX)
        return unit_index < pivot;
    if (tear.style == VX_TEAR_SUFFIX)
        return unit_index >= pivot;
    return unit_index != pivot;
}

static bool
survives(const struct vx_change *change, struct vx_tear tear, uint64_t unit_index, uint64_t unit_count)
{
    if (change->lost != NULL && (change->lost[unit_index / 8] >> (unit_index % 8) & 1) != 0)
        return false;
    return tear_keeps(tear, unit_index, unit_count);
}

/*
 * Merge the surviving units of one page of a change: from the page's bytes, or zeros when `source` is NULL.
 * *all tells whether the page is the source's alone now.
 */
static bool
merge_page(uint8_t bytes[VX_TREE_PAGE], const struct vx_change *change, const uint8_t *source, uint64_t page_index,
           uint32_t unit, struct vx_tear tear, bool *all)
{
    uint64_t unit_count = change->length / unit;
    bool any = false;
    uint32_t at;

    *all = true;
    for (at = 0; at < VX_TREE_PAGE; at += unit) {
        uint64_t place = page_index * VX_TREE_PAGE + at;

        if (place < change->file_offset || place - change->file_offset >= change->length ||
            !survives(change, tear, (place - change->file_offset) / unit, unit_count)) {
            *all = false;
            continue;
        }
        any = true;
        if (source != NULL)
            memcpy(bytes + at, source + at, unit);
        else
            memset(bytes + at, 0, unit);
    }
    return any;
}

/* Put the surviving part of page `page_index` into the tree.  `whole` is what the page is when all of it survives. */
static bool
apply_page(struct vx_tree *tree, const struct vx_change *change, struct vx_tree_page *whole, uint64_t page_index,
           uint32_t unit, struct vx_tear tear)
{
    struct vx_tree_page *old = vx_tree_get(tree, page_index), *page;
    uint8_t bytes[VX_TREE_PAGE] = { 0 };
    bool all, is_done;

    if (old != NULL)
        memcpy(bytes, vx_tree_page_bytes(old), VX_TREE_PAGE);
    if (!merge_page(bytes, change, whole == NULL ? NULL : vx_tree_page_bytes(whole), page_index, unit, tear, &all))
        return true;
    if (all)
        return vx_tree_put(tree, page_index, whole);
    page = vx_tree_page_new(bytes);
    is_done = page != NULL && vx_tree_put(tree, page_index, page);
    vx_tree_page_release(page);
    return is_done;
}

static bool
apply_data(struct vx_tree *tree, const struct vx_change *change, uint32_t unit, struct vx_tear tear)
{
    uint64_t first = change->file_offset / VX_TREE_PAGE;
    bool is_plain = tear.style == VX_TEAR_NOT && change->lost == NULL;
    size_t i;

    for (i = 0; i < change->page_count; i++) {
        uint64_t start = (first + i) * VX_TREE_PAGE;
        bool is_whole = start >= change->file_offset &&
                        start + VX_TREE_PAGE <= change->file_offset + change->length;

        if (is_plain && is_whole ? !vx_tree_put(tree, first + i, change->pages[i])
                                 : !apply_page(tree, change, change->pages[i], first + i, unit, tear))
            return false;
    }
    return true;
}

static bool
apply_hole(struct vx_tree *tree, const struct vx_change *change, uint32_t unit, struct vx_tear tear)
{
    uint64_t first = change->file_offset / VX_TREE_PAGE, end = first + change->length / VX_TREE_PAGE, index;

    if (tear.style == VX_TEAR_NOT)
        return vx_tree_punch(tree, first, end);
    for (index = vx_tree_next(tree, first); index < end; index = vx_tree_next(tree, index + 1))
        if (!apply_page(tree, change, NULL, index, unit, tear))
            return false;
    return true;
}

/* Room taken on the host: absent pages become pages of zeros. */
static bool
apply_room(struct vx_tree *tree, const struct vx_change *change)
{
    uint64_t index = change->file_offset / VX_TREE_PAGE, end = index + change->length / VX_TREE_PAGE;
    struct vx_tree_page *zero = vx_tree_page_zero();
    bool is_done = true;

    for (; is_done && index < end; index++)
        if (vx_tree_get(tree, index) == NULL)
            is_done = vx_tree_put(tree, index, zero);
    vx_tree_page_release(zero);
    return is_done;
}

bool
vx_fault_apply(struct vx_tree *tree, const struct vx_change *change, uint32_t unit, struct vx_tear tear)
{
    switch (change->kind) {
    case VX_CHANGE_DATA: return apply_data(tree, change, unit, tear);
    case VX_CHANGE_HOLE: return apply_hole(tree, change, unit, tear);
    case VX_CHANGE_ROOM: return apply_room(tree, change);
    case VX_CHANGE_SIZE: break;
    }
    return true;
}

bool
vx_fault_truncate(struct vx_tree *tree, uint64_t size)
{
    uint64_t end = vx_ceil_div(size, VX_TREE_PAGE);
    uint32_t rest = (uint32_t)(size % VX_TREE_PAGE);
    struct vx_tree_page *page;
    uint8_t bytes[VX_TREE_PAGE] = { 0 };
    bool is_done;

    if (!vx_tree_punch(tree, end, UINT64_MAX))
        return false;
    page = rest == 0 ? NULL : vx_tree_get(tree, end - 1);
    if (page == NULL)
        return true;
    memcpy(bytes, vx_tree_page_bytes(page), rest);
    page = vx_tree_page_new(bytes);
    is_done = page != NULL && vx_tree_put(tree, end - 1, page);
    vx_tree_page_release(page);
    return is_done;
}

/* --- flush --- */

static void
forget_changes(struct vx_fault *fault, size_t count)
{
    size_t i;

    for (i = 0; i < count; i++)
        vx_change_release(fault->changes[i]);
    fault->change_count -= count;
    memmove(fault->changes, fault->changes + count, fault->change_count * sizeof fault->changes[0]);
}

static size_t
count_up_to(const struct vx_fault *fault, uint64_t last)
{
    size_t count = 0;

    while (count < fault->change_count && fault->changes[count]->number <= last)
        count++;
    return count;
}

/* Remember where the first `count` changes punched holes, as far as the file goes at each. */
static bool
note_holes(struct vx_fault *fault, size_t count)
{
    struct vx_tree_page *mark = vx_tree_page_zero();
    bool is_done = mark != NULL;
    size_t i;

    for (i = 0; is_done && i < count; i++) {
        const struct vx_change *change = fault->changes[i];
        uint64_t mib = change->file_offset / VX_MIB, end = vx_ceil_div(change->file_offset + change->length, VX_MIB);

        if (change->kind == VX_CHANGE_SIZE)
            is_done = vx_tree_punch(&fault->punched, vx_ceil_div(change->size, VX_MIB), UINT64_MAX);
        for (; is_done && change->kind == VX_CHANGE_HOLE && mib < end; mib++)
            is_done = vx_tree_put(&fault->punched, mib, mark);
    }
    vx_tree_page_release(mark);
    return is_done;
}

bool
vx_fault_settle(struct vx_fault *fault, uint64_t last)
{
    size_t count = count_up_to(fault, last), i;

    if (count == 0)
        return true;
    if (!note_holes(fault, count))
        return false;
    if (count == fault->change_count && !fault->has_lost) { /* D3: the common case costs nothing */
        vx_tree_clear(&fault->durable);
        vx_tree_copy(&fault->durable, &fault->readable);
    } else {
        for (i = 0; i < count; i++)
            if (!vx_fault_apply(&fault->durable, fault->changes[i], fault->options.tear_unit,
                                (struct vx_tear){ VX_TEAR_NOT, 0 }))
                return false;
    }
    for (i = 0; i < count; i++)
        if (fault->changes[i]->kind == VX_CHANGE_SIZE)
            fault->durable_size = fault->changes[i]->size;
    forget_changes(fault, count);
    return true;
}

/* Units given up by a failed flush: all, none, or some by coins. */
static void
lose_units(struct vx_change *change, uint64_t unit_count, uint64_t seed)
{
    uint64_t state = seed, style = below(&state, 3), i;

    for (i = 0; i < unit_count; i++)
        if (style == 0 || (style == 1 && (vx_fault_next(&state) & 1) != 0))
            change->lost[i / 8] |= (uint8_t)(1u << (i % 8));
}

/*
 * What the failed flush did write is left in the list, not made durable: a power cut may then lose it again, which is
 * one more subset; a later flush makes it durable.  What it gave up no later flush writes.
 */
bool
vx_fault_give_up(struct vx_fault *fault, uint64_t last, uint64_t seed)
{
    size_t count = count_up_to(fault, last), i;

    for (i = 0; i < count; i++) {
        struct vx_change *old = fault->changes[i], *change;
        uint64_t unit_count = old->length / fault->options.tear_unit;

        if (old->kind != VX_CHANGE_DATA)
            continue;
        change = copy_to_lose(old, unit_count);
        if (change == NULL)
            return false;
        lose_units(change, unit_count, seed ^ old->call_number * UINT64_C(0x9e3779b97f4a7c15));
        fault->changes[i] = change;
        vx_change_release(old);
        fault->has_lost = true;
    }
    return true;
}

int
vx_fault_drop_cache(struct vx_fault *fault)
{
    struct vx_tree stored;
    size_t i;
    bool is_done = true;

    if (!fault->has_lost)
        return VHDX_OK;
    vx_tree_copy(&stored, &fault->durable);
    for (i = 0; is_done && i < fault->change_count; i++)
        is_done = vx_fault_apply(&stored, fault->changes[i], fault->options.tear_unit,
                                 (struct vx_tear){ VX_TEAR_NOT, 0 });
    if (!is_done) {
        vx_tree_clear(&stored);
        return VHDX_E_NO_MEMORY;
    }
    vx_tree_clear(&fault->readable);
    fault->readable = stored;
    fault->has_lost = false;
    return VHDX_OK;
}

/* --- power cut --- */

/* The choice for a power cut: from the calls that wrote or punched, numbered 0 .. count - 1 in order. */
struct choice {
    enum vx_fault_keep keep;
    bool               may_tear;
    uint64_t           seed;
    uint64_t           count;
    uint64_t           pivot;   /* PREFIX: calls kept; ALL_BUT_ONE, ONLY_ONE: the one */
    uint64_t           quarter; /* RANDOM: kept in so many of four cases */
};

static uint64_t
count_calls(const struct vx_fault *fault)
{
    uint64_t count = 0, previous = UINT64_MAX;
    size_t i;

    for (i = 0; i < fault->change_count; i++) {
        if (fault->changes[i]->kind == VX_CHANGE_SIZE || fault->changes[i]->call_number == previous)
            continue;
        previous = fault->changes[i]->call_number;
        count++;
    }
    return count;
}

static struct choice
make_choice(const struct vx_fault *fault, enum vx_fault_keep keep, bool may_tear, uint64_t seed)
{
    struct choice choice = { .keep = keep, .may_tear = may_tear, .seed = seed, .count = count_calls(fault) };
    uint64_t state = seed ^ UINT64_C(0x5851f42d4c957f2d);

    choice.quarter = 1 + below(&state, 3);
    choice.pivot = keep == VX_KEEP_PREFIX ? below(&state, choice.count + 1)
                                          : below(&state, vx_max_u64(choice.count, 1));
    return choice;
}

static bool
keeps_call(const struct choice *choice, uint64_t index)
{
    uint64_t state = choice->seed + index * 31;

    switch (choice->keep) {
    case VX_KEEP_ALL:         return true;
    case VX_KEEP_PREFIX:      return index < choice->pivot;
    case VX_KEEP_ALL_BUT_ONE: return index != choice->pivot;
    case VX_KEEP_ONLY_ONE:    return index == choice->pivot;
    case VX_KEEP_RANDOM:      return below(&state, 4) < choice->quarter;
    case VX_KEEP_NONE:
    case VX_KEEP_COUNT:       break;
    }
    return false;
}

/* A quarter of the kept calls is torn; of PREFIX, also the first call that is not kept may have begun. */
static void
tear_call(const struct choice *choice, uint64_t index, struct vx_tear *tear, bool *is_kept)
{
    uint64_t state = choice->seed ^ (index + 1) * UINT64_C(0xd1342543de82ef95);
    bool is_next = choice->keep == VX_KEEP_PREFIX && index == choice->pivot;

    *tear = (struct vx_tear){ VX_TEAR_NOT, 0 };
    if (!choice->may_tear || (!*is_kept && !is_next) || below(&state, is_next ? 2 : 4) != 0)
        return;
    tear->style = VX_TEAR_COINS + (unsigned)below(&state, 4);
    tear->seed = vx_fault_next(&state);
    *is_kept = true;
}

static uint64_t
choose_size(const struct vx_fault *fault, const struct choice *choice)
{
    uint64_t state = choice->seed ^ UINT64_C(0x2545f4914f6cdd1d), wanted, size = fault->durable_size;
    size_t i;

    if (choice->seed == 0 || below(&state, 2) == 0) {
        if (choice->keep == VX_KEEP_NONE)
            return fault->durable_size;
        if (choice->keep == VX_KEEP_ALL)
            return fault->size;
    }
    wanted = below(&state, fault->change_count + 1);
    for (i = 0; i < wanted; i++)
        if (fault->changes[i]->kind == VX_CHANGE_SIZE)
            size = fault->changes[i]->size;
    return size;
}

/* Has the MiB around a page no durable page, and had none since the file grew over it? */
static bool
is_new_space(const struct vx_fault *fault, uint64_t page_index)
{
    uint64_t pages = VX_MIB / VX_TREE_PAGE, first = vx_round_down(page_index, pages);

    return vx_tree_next(&fault->durable, first) >= first + pages && vx_tree_get(&fault->punched, first / pages) == NULL;
}

/* New space whose write was lost: the host may have attached it, with what lay there before.  It is taken to do so by the
 * MiB: holes in space that is or was in use, also in all of a MiB, read as zeros (docs/durability.md, 6). */
static bool
leave_garbage(const struct vx_fault *fault, struct vx_tree *survivor, uint64_t seed)
{
    struct vx_tree_page *garbage;
    uint8_t bytes[VX_TREE_PAGE];
    uint64_t state = seed;
    bool is_done = true;
    size_t i, k;

    memset(bytes, 0xdb, sizeof bytes);
    garbage = vx_tree_page_new(bytes);
    for (i = 0; is_done && garbage != NULL && i < fault->change_count; i++) {
        const struct vx_change *change = fault->changes[i];

        for (k = 0; is_done && k < change->page_count; k++) {
            uint64_t index = change->file_offset / VX_TREE_PAGE + k;

            if (vx_tree_get(survivor, index) == NULL && is_new_space(fault, index) && below(&state, 2) == 0)
                is_done = vx_tree_put(survivor, index, garbage);
        }
    }
    is_done = is_done && garbage != NULL;
    vx_tree_page_release(garbage);
    return is_done;
}

static bool
apply_survivors(const struct vx_fault *fault, struct vx_tree *survivor, const struct choice *choice)
{
    uint64_t index = UINT64_MAX, previous = UINT64_MAX;
    struct vx_tear tear = { VX_TEAR_NOT, 0 };
    bool is_kept = false;
    size_t i;

    for (i = 0; i < fault->change_count; i++) {
        const struct vx_change *change = fault->changes[i];

        if (change->kind == VX_CHANGE_SIZE)
            continue;
        if (change->call_number != previous) {
            previous = change->call_number;
            index++; /* from UINT64_MAX to 0 first */
            is_kept = keeps_call(choice, index);
            tear_call(choice, index, &tear, &is_kept);
        }
        if (is_kept && !vx_fault_apply(survivor, change, fault->options.tear_unit, tear))
            return false;
    }
    return true;
}

int
vx_fault_power_cut(struct vx_fault *fault, enum vx_fault_keep keep, bool may_tear, uint64_t seed)
{
    struct choice choice = make_choice(fault, keep, may_tear, seed);
    uint64_t size = choose_size(fault, &choice);
    struct vx_tree survivor;

    vx_tree_copy(&survivor, &fault->durable);
    if (!note_holes(fault, fault->change_count) || !apply_survivors(fault, &survivor, &choice) ||
        (!fault->options.extension_survives_as_zeros && !leave_garbage(fault, &survivor, seed)) ||
        !vx_fault_truncate(&survivor, size)) {
        vx_tree_clear(&survivor);
        return VHDX_E_NO_MEMORY;
    }

    vx_tree_clear(&fault->durable);
    vx_tree_clear(&fault->readable);
    fault->durable = survivor;
    vx_tree_copy(&fault->readable, &survivor);
    fault->size = fault->durable_size = size;
    forget_changes(fault, fault->change_count);
    fault->has_lost = false;
    vx_fault_kill(fault);
    return VHDX_OK;
}
