/*
 * Moving blocks, and giving the host what nothing refers to: what compacting is made of (docs/vhdx-format.md 9.6).
 *
 *   X1  A block is copied to space that is free, and only then does an edit of its entry show the copy.  That edit asks for two
 *       flushes (R3, "another block's or unknown content"): the copy is durable before the entry that names it.
 *   X2  The old place waits as all freed space does: a payload block's under R1, a sector bitmap block's under R2.  Its
 *       bytes are left alone until then, so a power cut shows one of the two copies, which are equal.
 *   X3  The block (of a sector bitmap: its whole chunk) is held exclusively all the while, so nobody writes to the old place
 *       what the copy does not have.
 *   X4  Nothing a guest reads changes: not for this does DataWriteGuid become another one (5.5).
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "image/internal.h"

/* --- copying --- */

/* What lies in the gaps between data reads as zeros at the new place, too. */
static int
copy_gap(struct vx_image *image, const struct vx_taken *taken, uint64_t offset, uint64_t length,
         struct vhdx_error *err)
{
    if (taken->is_hole)
        return VHDX_OK;
    return vx_fill_zeros(image, taken->file_offset + offset, length, err);
}

static int
copy_data(struct vx_image *image, const struct vx_move *move, uint64_t from, uint64_t to, uint64_t length,
          struct vhdx_error *err)
{
    int rc = VHDX_OK;

    while (length > 0 && rc == VHDX_OK) {
        size_t n = (size_t)vx_min_u64(length, move->buffer_size);

        rc = vx_image_read_payload(image, move->buffer, n, from, err);
        if (rc == VHDX_OK)
            rc = vx_write_payload(image, move->buffer, n, to, err);
        from += n;
        to += n;
        length -= n;
    }
    return rc;
}

/* A payload block by its data extents: holes of the host's file stay holes. */
static int
copy_payload(struct vx_image *image, const struct vx_move *move, uint64_t from, const struct vx_taken *taken,
             struct vhdx_error *err)
{
    uint64_t length = image->geometry.block_size, at = 0;
    int      rc = VHDX_OK;

    while (at < length && rc == VHDX_OK) {
        uint64_t start, end;

        rc = vx_storage_next_data(image->storage, from + at, &start, &end, err);
        if (rc < 0)
            break;
        start = start >= end ? length : vx_min_u64(vx_max_u64(start, from + at) - from, length);
        end = start == length ? length : vx_min_u64(end - from, length);
        if (start > at)
            rc = copy_gap(image, taken, at, start - at, err);
        if (rc == VHDX_OK)
            rc = copy_data(image, move, from + start, taken->file_offset + start, end - start, err);
        at = end;
    }
    return rc;
}

/* A sector bitmap block, as the pages in memory have it: what they say is newer than the file.  All of it gets host space,
 * as in write.c. */
static int
copy_bitmap(struct vx_image *image, const struct vx_move *move, uint64_t from, const struct vx_taken *taken,
            struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (uint64_t at = 0; at < VX_SECTOR_BITMAP_SIZE && rc == VHDX_OK;) {
        size_t n = (size_t)vx_min_u64(move->buffer_size, VX_SECTOR_BITMAP_SIZE - at);

        rc = vx_image_read_structure(image, move->buffer, n, from + at, err);
        if (rc == VHDX_OK && vx_is_zero(move->buffer, n))
            rc = copy_gap(image, taken, at, n, err);
        else if (rc == VHDX_OK)
            rc = vx_write_payload(image, move->buffer, n, taken->file_offset + at, err);
        at += n;
    }
    if (rc == VHDX_OK)
        rc = vx_storage_allocate(image->storage, taken->file_offset, VX_SECTOR_BITMAP_SIZE, err);
    return rc;
}

/* --- one move --- */

struct moving {
    const struct vx_move *move;
    uint64_t              bat_index;
    uint64_t              length;
    struct vx_bat_entry   entry; /* before */
    struct vx_taken       taken;
};

static int
get_entry_locked(struct vx_image *image, const struct vx_move *move, struct vx_bat_entry *out, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    return move->is_bitmap ? vx_map_get_bitmap_locked(image, move->index, out, err)
                           : vx_map_get_locked(image, move->index, out, err);
}

/* Is the block where the caller believes it, and is its new place free?  Then the place is taken. */
static int
take_place(struct vx_image *image, struct moving *moving, bool *is_taken, struct vhdx_error *err)
{
    int rc;

    *is_taken = false;
    vx_rwlock_lock(&image->meta_lock);
    rc = get_entry_locked(image, moving->move, &moving->entry, err);
    if (rc == VHDX_OK && moving->entry.state >= VX_BLOCK_FULLY_PRESENT && moving->entry.file_offset == moving->move->from)
        *is_taken = vx_space_take_at(&image->space, moving->move->to, moving->length, &moving->taken);
    if (*is_taken && moving->move->is_bitmap)
        vx_pages_forget(&image->pages, moving->move->to, moving->length);
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

static int
publish_locked(struct vx_image *image, const struct moving *moving, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    struct vx_bat_entry same;
    bool                is_bitmap = moving->move->is_bitmap;
    int                 rc = vx_image_may_write(image, err);

    if (rc == VHDX_OK) /* the page may have left memory meanwhile: from here on its edit cannot fail */
        rc = get_entry_locked(image, moving->move, &same, err);
    if (rc == VHDX_OK && !is_bitmap)
        rc = vx_space_reserve_freed(&image->space, 1, err);
    if (rc == VHDX_OK && is_bitmap)
        rc = vx_space_free_bitmap_later(&image->space, moving->entry.file_offset, err); /* X2 */
    if (rc == VHDX_OK)
        rc = vx_map_set_locked(image, moving->bat_index, moving->entry.state, moving->taken.file_offset, err);
    if (rc < 0)
        return rc;
    if (!is_bitmap)
        vx_space_free_later(&image->space, moving->entry.file_offset, moving->length);
    if (!VX_BROKEN(ONE_FLUSH_ON_USED))
        image->needs_two_flushes = true; /* X1 */
    return VHDX_OK;
}

/* Room is reserved, the block is held. */
static int
carry_out(struct vx_image *image, struct moving *moving, bool *is_moved, struct vhdx_error *err)
{
    const struct vx_move *move = moving->move;
    bool                  is_taken = false;
    int                   rc = vx_map_prepare(image, vx_map_entry_offset(image, moving->bat_index), err);

    if (rc == VHDX_OK)
        rc = take_place(image, moving, &is_taken, err);
    if (rc < 0 || !is_taken)
        return rc;
    rc = move->is_bitmap ? copy_bitmap(image, move, move->from, &moving->taken, err)
                         : copy_payload(image, move, move->from, &moving->taken, err);
    vx_rwlock_lock(&image->meta_lock);
    if (rc == VHDX_OK)
        rc = publish_locked(image, moving, err);
    if (rc < 0)
        vx_space_give_back(&image->space, moving->taken.file_offset, moving->length);
    vx_rwlock_unlock(&image->meta_lock);
    *is_moved = rc == VHDX_OK;
    return rc;
}

int
vx_image_move(struct vx_image *image, const struct vx_move *move, bool *is_moved, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    struct moving  moving = { .move = move };
    uint64_t       first_block = move->is_bitmap ? move->index << g->chunk_shift : move->index;
    uint64_t       end_block = vx_min_u64(first_block + (move->is_bitmap ? g->chunk_ratio : 1), g->payload_block_count);
    struct vx_held held;
    int            rc = vx_session_begin(image, err);

    *is_moved = false;
    if (rc < 0)
        return rc;
    moving.bat_index = move->is_bitmap ? vx_geometry_bitmap_bat_index(g, move->index)
                                       : vx_geometry_payload_bat_index(g, move->index);
    moving.length = move->is_bitmap ? VX_SECTOR_BITMAP_SIZE : g->block_size;
    vx_image_hold(image, &held, first_block * g->block_size, (end_block - first_block) * g->block_size, true);
    rc = vx_room_reserve(image, 1, err);
    if (rc == VHDX_OK) {
        rc = carry_out(image, &moving, is_moved, err);
        vx_room_release(image, 1);
    }
    vx_image_release(image, &held);
    return rc;
}

/* --- what nothing refers to --- */

/* Punch free space that has data.  It is taken meanwhile, so that no writer gets it. */
static int
punch_data(struct vx_image *image, const struct vx_run *run, uint64_t *punched, struct vhdx_error *err)
{
    struct vx_run   own = *run;
    struct vx_taken taken;
    bool            is_taken;
    int             rc = vx_session_begin(image, err);

    if (rc < 0)
        return rc;
    vx_rwlock_lock(&image->meta_lock);
    is_taken = vx_space_take_at(&image->space, run->file_offset, run->length, &taken);
    vx_rwlock_unlock(&image->meta_lock);
    if (!is_taken)
        return VHDX_OK;
    rc = vx_storage_zero(image->storage, run->file_offset, run->length, VHDX_ZERO_ONLY_FAST, err);
    atomic_fetch_add(&image->writes_done, 1);
    vx_rwlock_lock(&image->meta_lock);
    vx_space_release(&image->space, &(struct vx_runs){ .runs = &own, .count = 1 }, rc == VHDX_OK);
    vx_rwlock_unlock(&image->meta_lock);
    if (rc == VHDX_OK)
        *punched += run->length;
    return rc;
}

static int
punch_run(struct vx_image *image, uint64_t from, uint64_t to, uint64_t *punched, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    while (from < to && rc == VHDX_OK) {
        struct vx_run run = { .file_offset = from };
        uint64_t      start, end;

        rc = vx_storage_next_data(image->storage, from, &start, &end, err);
        if (rc < 0 || start >= end || start >= to)
            return rc;
        run.file_offset = vx_max_u64(from, vx_round_down(start, VX_MIB));
        from = vx_min_u64(to, vx_round_up(end, VX_MIB));
        run.length = from - run.file_offset;
        rc = punch_data(image, &run, punched, err);
    }
    return rc;
}

int
vx_image_punch_free(struct vx_image *image, uint64_t *punched, struct vhdx_error *err)
{
    uint64_t from, to = 0;
    bool     is_found;
    int      rc = vx_image_may_write(image, err);

    *punched = 0;
    if (rc < 0 || !image->storage->traits.can_punch)
        return rc;
    do {
        vx_rwlock_lock_shared(&image->meta_lock);
        is_found = vx_space_next_free(&image->space, to, &from, &to);
        vx_rwlock_unlock_shared(&image->meta_lock);
        if (is_found)
            rc = punch_run(image, from, to, punched, err);
    } while (is_found && rc == VHDX_OK);
    return rc;
}

int
vx_image_cut_at_close(struct vx_image *image, struct vhdx_error *err)
{
    bool is_longer;
    int  rc = vx_image_may_write(image, err);

    if (rc < 0)
        return rc;
    vx_rwlock_lock_shared(&image->meta_lock);
    is_longer = image->space.used_end < image->space.file_length;
    vx_rwlock_unlock_shared(&image->meta_lock);
    return is_longer ? vx_session_begin(image, err) : VHDX_OK;
}

/* --- the map, entry by entry --- */

static int
take_entry(struct vx_image *image, uint64_t bat_index, vx_take_entry take, void *context, struct vhdx_error *err)
{
    struct vx_map_item item;
    int                rc;

    item.is_bitmap = !vx_geometry_is_payload_entry(&image->geometry, bat_index, &item.index);
    if (!item.is_bitmap && item.index >= image->geometry.payload_block_count)
        return VHDX_OK; /* padding */
    vx_rwlock_lock(&image->meta_lock);
    rc = item.is_bitmap ? vx_map_get_bitmap_locked(image, item.index, &item.entry, err)
                        : vx_map_get_locked(image, item.index, &item.entry, err);
    vx_rwlock_unlock(&image->meta_lock);
    return rc == VHDX_OK ? take(context, &item, err) : rc;
}

/* The entries in one page.  They are read anew one by one: `take` may have changed some. */
static int
take_page(struct vx_image *image, uint64_t at, vx_take_entry take, void *context, struct vhdx_error *err)
{
    uint64_t bat = image->regions.bat.file_offset;
    uint64_t entry_end = image->geometry.bat_entry_count;
    uint8_t  page[VX_PAGE];
    int      rc = vx_image_read_structure(image, page, sizeof page, at, err);

    for (size_t i = 0; i < VX_PAGE && (at - bat + i) / 8 < entry_end && rc == VHDX_OK; i += 8) {
        if (vx_le64(page + i) != 0)
            rc = take_entry(image, (at - bat + i) / 8, take, context, err);
    }
    return rc;
}

int
vx_image_each_entry(struct vx_image *image, vx_take_entry take, void *context, struct vhdx_error *err)
{
    uint64_t at = image->regions.bat.file_offset;
    uint64_t end = at + image->geometry.bat_entry_count * 8;
    int      rc = VHDX_OK;

    while (at < end && rc == VHDX_OK) {
        uint64_t start, stop;

        rc = vx_storage_next_data(image->view, at, &start, &stop, err);
        if (rc < 0 || start >= stop)
            break;
        at = vx_max_u64(at, vx_round_down(start, VX_PAGE));
        for (; at < vx_min_u64(stop, end) && rc == VHDX_OK; at += VX_PAGE)
            rc = take_page(image, at, take, context, err);
    }
    return rc;
}

const struct vx_reserved_range *
vx_image_reserved(const struct vx_image *image, size_t *count)
{
    *count = image->reserved_count;
    return image->reserved;
}
