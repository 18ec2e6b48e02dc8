/* See space.h. */
#include "image/space.h"

#include <string.h>

#include "base/breakage.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/layout.h"
#include "storage/storage.h"

#define BITS 64u
#define GROWTH_STEP (UINT64_C(32) * VX_MIB) /* the tail is sparse, and short enough that V149 says nothing of a killed writer */

static bool
get_bit(const uint64_t *map, uint64_t index)
{
    return (map[index / BITS] >> (index % BITS) & 1) != 0;
}

static void
put_bits(uint64_t *map, uint64_t first, uint64_t count, bool value)
{
    while (count > 0) {
        uint64_t shift = first % BITS;
        uint64_t n = vx_min_u64(count, BITS - shift);
        uint64_t mask = (n == BITS ? UINT64_MAX : (UINT64_C(1) << n) - 1) << shift;

        if (value)
            map[first / BITS] |= mask;
        else
            map[first / BITS] &= ~mask;
        first += n;
        count -= n;
    }
}

/* First bit at or after `from` (below `end`) that has the value; `end` when there is none. */
static uint64_t
find_bit(const uint64_t *map, uint64_t from, uint64_t end, bool value)
{
    while (from < end) {
        uint64_t word = value ? map[from / BITS] : ~map[from / BITS];

        word &= UINT64_MAX << (from % BITS);
        if (word != 0)
            return vx_min_u64(from / BITS * BITS + (uint64_t)__builtin_ctzll(word), end);
        from = (from / BITS + 1) * BITS;
    }
    return end;
}

void
vx_space_init(struct vx_space *space)
{
    *space = (struct vx_space){ 0 };
}

void
vx_runs_destroy(struct vx_runs *runs)
{
    vx_free(runs->runs);
    *runs = (struct vx_runs){ 0 };
}

void
vx_space_destroy(struct vx_space *space)
{
    vx_free(space->used);
    vx_free(space->holes);
    vx_free(space->bitmaps);
    vx_runs_destroy(&space->freed);
    vx_space_init(space);
}

/* Bits for the first `mib_count` MiB. */
static int
extend_maps(struct vx_space *space, uint64_t mib_count, struct vhdx_error *err)
{
    uint64_t  new_count = vx_round_up(vx_max_u64(mib_count, space->mib_count + space->mib_count / 4), 1024);
    uint64_t *used, *holes;

    if (mib_count <= space->mib_count)
        return VHDX_OK;
    used = vx_realloc_array(space->used, (size_t)(new_count / BITS), sizeof *used);
    if (used == NULL)
        return vx_fail_memory(err, "the map of used space");
    space->used = used;
    holes = vx_realloc_array(space->holes, (size_t)(new_count / BITS), sizeof *holes);
    if (holes == NULL)
        return vx_fail_memory(err, "the map of used space");
    space->holes = holes;
    put_bits(used, space->mib_count, new_count - space->mib_count, false);
    put_bits(holes, space->mib_count, new_count - space->mib_count, false);
    space->mib_count = new_count;
    return VHDX_OK;
}

bool
vx_space_mark_found(struct vx_space *space, uint64_t file_offset, uint64_t length, int *rc, struct vhdx_error *err)
{
    uint64_t first = file_offset / VX_MIB, count = vx_ceil_div(length, VX_MIB);
    bool     is_new;

    *rc = extend_maps(space, first + count, err);
    if (*rc < 0)
        return false;
    is_new = find_bit(space->used, first, first + count, true) == first + count;
    put_bits(space->used, first, count, true);
    space->used_end = vx_max_u64(space->used_end, (first + count) * VX_MIB);
    return is_new;
}

void
vx_space_begin(struct vx_space *space, uint64_t length)
{
    uint64_t used_mibs = 0;

    if (VX_BROKEN(TAIL_AT_OPEN_IS_FRESH))
        length = space->used_end;
    space->fresh_from = vx_max_u64(vx_round_up(length, VX_MIB), space->used_end);
    for (uint64_t i = 0; i < space->mib_count / BITS; i++)
        used_mibs += (uint64_t)__builtin_popcountll(space->used[i]);
    space->free_below = space->fresh_from - used_mibs * VX_MIB;
    space->search_from = 0;
    space->too_small_for = 0;
}

/* A free run below fresh_from, next fit: from where the last search ended, then once around. */
static bool
find_run(struct vx_space *space, uint64_t count, uint64_t *found)
{
    uint64_t end = vx_min_u64(space->fresh_from / VX_MIB, space->mib_count);
    uint64_t start = space->search_from < end ? space->search_from : 0;

    for (int round = 0; round < 2; round++) {
        uint64_t at = round == 0 ? start : 0;

        while (at < end) {
            uint64_t first = find_bit(space->used, at, end, false);
            uint64_t stop = find_bit(space->used, first, vx_min_u64(first + count, end), true);

            if (stop - first >= count) {
                *found = first;
                return true;
            }
            at = stop + 1;
        }
        if (start == 0)
            break;
    }
    return false;
}

/* Make the file reach `end`: by a whole step where that fits, else by what is needed. */
static int
grow_to(struct vx_space *space, struct vhdx_storage *storage, uint64_t end, struct vhdx_error *err)
{
    uint64_t stepped = vx_round_up(end, GROWTH_STEP);
    int      rc;

    if (end <= space->file_length)
        return VHDX_OK;
    if (end > VX_MAX_FILE_SIZE)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_FILE, end, "the image would outgrow 256 TiB");
    rc = vx_storage_set_size(storage, stepped, NULL);
    if (rc < 0) {
        stepped = end;
        rc = vx_storage_set_size(storage, end, err);
    }
    if (rc == VHDX_OK)
        space->file_length = stepped;
    return rc;
}

static void
take_used(struct vx_space *space, uint64_t first, uint64_t count, struct vx_taken *out)
{
    *out = (struct vx_taken){
        .file_offset = first * VX_MIB,
        .is_hole = find_bit(space->holes, first, first + count, false) == first + count,
        .is_fresh = (VX_BROKEN(PUNCHED_IS_FRESH) && get_bit(space->holes, first)),
    };
    put_bits(space->holes, first, count, false);
    space->free_below -= count * VX_MIB;
    space->search_from = first + count;
}

static int
take_fresh(struct vx_space *space, struct vhdx_storage *storage, uint64_t length, struct vx_taken *out,
           struct vhdx_error *err)
{
    uint64_t end = space->fresh_from + length;
    int      rc = grow_to(space, storage, end, err);

    if (rc < 0)
        return rc;
    *out = (struct vx_taken){ .file_offset = space->fresh_from, .is_fresh = true };
    space->fresh_from = end;
    return VHDX_OK;
}

int
vx_space_take(struct vx_space *space, struct vhdx_storage *storage, uint64_t length, struct vx_taken *out,
              struct vhdx_error *err)
{
    uint64_t count = length / VX_MIB;
    uint64_t first;
    int      rc;

    rc = extend_maps(space, (space->fresh_from + length) / VX_MIB, err);
    if (rc < 0)
        return rc;
    if (VX_BROKEN(TAKE_BACK_IN_QUARANTINE) && space->freed.count > 0) {
        const struct vx_run *run = &space->freed.runs[space->freed.count - 1];

        *out = (struct vx_taken){ .file_offset = run->file_offset + run->length - length };
        return VHDX_OK;
    }
    if (space->free_below >= length && (space->too_small_for == 0 || length < space->too_small_for)) {
        if (find_run(space, count, &first)) {
            /* The file may have been opened shorter than the space that is free in it. */
            rc = grow_to(space, storage, (first + count) * VX_MIB, err);
            if (rc == VHDX_OK)
                take_used(space, first, count, out);
        } else {
            space->too_small_for = length;
            rc = take_fresh(space, storage, length, out, err);
        }
    } else {
        rc = take_fresh(space, storage, length, out, err);
    }
    if (rc < 0)
        return rc;
    put_bits(space->used, out->file_offset / VX_MIB, count, true);
    space->used_end = vx_max_u64(space->used_end, out->file_offset + length);
    return VHDX_OK;
}

bool
vx_space_take_at(struct vx_space *space, uint64_t file_offset, uint64_t length, struct vx_taken *out)
{
    uint64_t first = file_offset / VX_MIB, count = length / VX_MIB;
    uint64_t end = vx_min_u64(space->file_length, vx_min_u64(space->fresh_from, space->mib_count * VX_MIB));

    if (file_offset + length > end || find_bit(space->used, first, first + count, true) != first + count)
        return false;
    take_used(space, first, count, out);
    put_bits(space->used, first, count, true);
    space->used_end = vx_max_u64(space->used_end, file_offset + length);
    return true;
}

bool
vx_space_next_free(const struct vx_space *space, uint64_t at, uint64_t *from, uint64_t *to)
{
    uint64_t end = space->used_end / VX_MIB;

    *from = find_bit(space->used, at / VX_MIB, end, false) * VX_MIB;
    *to = find_bit(space->used, *from / VX_MIB, end, true) * VX_MIB;
    return *from < space->used_end;
}

/* The end of the highest used MiB, after bits below it were cleared. */
static void
lower_used_end(struct vx_space *space)
{
    uint64_t index = space->used_end / VX_MIB;

    while (index > 0 && !get_bit(space->used, index - 1)) {
        if (index % BITS == 0 && space->used[index / BITS - 1] == 0)
            index -= BITS;
        else
            index--;
    }
    space->used_end = index * VX_MIB;
}

static void
clear(struct vx_space *space, uint64_t file_offset, uint64_t length, bool is_hole)
{
    uint64_t first = file_offset / VX_MIB, count = length / VX_MIB;

    put_bits(space->used, first, count, false);
    put_bits(space->holes, first, count, is_hole);
    space->free_below += length;
    space->too_small_for = 0;
    if (file_offset + length == space->used_end)
        lower_used_end(space);
}

void
vx_space_give_back(struct vx_space *space, uint64_t file_offset, uint64_t length)
{
    clear(space, file_offset, length, false);
}

int
vx_space_reserve_freed(struct vx_space *space, size_t count, struct vhdx_error *err)
{
    struct vx_runs *freed = &space->freed;
    size_t          wanted = freed->count + count;
    struct vx_run  *runs;

    if (wanted <= freed->capacity)
        return VHDX_OK;
    wanted += wanted / 2 + 16;
    runs = vx_realloc_array(freed->runs, wanted, sizeof *runs);
    if (runs == NULL)
        return vx_fail_memory(err, "the list of freed space");
    freed->runs = runs;
    freed->capacity = wanted;
    return VHDX_OK;
}

void
vx_space_free_later(struct vx_space *space, uint64_t file_offset, uint64_t length)
{
    struct vx_runs *freed = &space->freed;
    struct vx_run  *last = freed->count > 0 ? &freed->runs[freed->count - 1] : NULL;

    if (VX_BROKEN(FREE_AT_ONCE)) {
        clear(space, file_offset, length, false);
        return;
    }
    if (last != NULL && last->file_offset + last->length == file_offset)
        last->length += length;
    else
        freed->runs[freed->count++] = (struct vx_run){ .file_offset = file_offset, .length = length };
}

int
vx_space_free_bitmap_later(struct vx_space *space, uint64_t file_offset, struct vhdx_error *err)
{
    if (space->bitmap_count == space->bitmap_capacity) {
        size_t                    wanted = space->bitmap_capacity * 2 + 8;
        struct vx_waiting_bitmap *bitmaps = vx_realloc_array(space->bitmaps, wanted, sizeof *bitmaps);

        if (bitmaps == NULL)
            return vx_fail_memory(err, "the list of freed space");
        space->bitmaps = bitmaps;
        space->bitmap_capacity = wanted;
    }
    space->bitmaps[space->bitmap_count++] = (struct vx_waiting_bitmap){ .file_offset = file_offset };
    return VHDX_OK;
}

void
vx_space_gather_freed(struct vx_space *space, struct vx_runs *out)
{
    *out = space->freed;
    space->freed = (struct vx_runs){ 0 };
}

void
vx_space_release(struct vx_space *space, const struct vx_runs *runs, bool were_punched)
{
    for (size_t i = 0; i < runs->count; i++)
        clear(space, runs->runs[i].file_offset, runs->runs[i].length, were_punched);
}

bool
vx_space_next_free_bitmap(struct vx_space *space, uint64_t tail_sequence_number, uint64_t *file_offset)
{
    for (size_t i = 0; i < space->bitmap_count; i++) {
        struct vx_waiting_bitmap *waiting = &space->bitmaps[i];

        if (waiting->sequence_number == 0 || waiting->sequence_number >= tail_sequence_number)
            continue;
        *file_offset = waiting->file_offset;
        *waiting = space->bitmaps[--space->bitmap_count];
        return true;
    }
    return false;
}
