/*
 * Writing: bytes first, map second (docs/vhdx-format.md 4.4, 4.6; docs/durability.md).
 *
 *   D1  Present sectors are overwritten in place, under a shared hold of their blocks.
 *   D2  A block changes its state under an exclusive hold: room, space, fill, payload, then the map edit that makes it
 *       visible.  What a failed write touched is never mapped, and its space counts as used (R4).
 *   D3  The edit asks for two flushes unless it shows fresh space where zeros were visible before (R3).
 *   D4  In a differencing image a partial write covers whole sectors: the rest of a sector is read through first (B3).
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "format/block_state.h"
#include "image/internal.h"

int
vx_write_payload(struct vx_image *image, const void *buffer, size_t length, uint64_t file_offset,
                 struct vhdx_error *err)
{
    int rc = vx_storage_write(image->storage, buffer, length, file_offset, err);

    atomic_fetch_add(&image->writes_done, 1); /* also a failed one may have written something */
    return rc;
}

int
vx_fill_zeros(struct vx_image *image, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (length > 0 && !VX_BROKEN(NO_FILL))
        rc = vx_storage_zero(image->storage, file_offset, length, VHDX_ZERO_RELEASE, err);
    atomic_fetch_add(&image->writes_done, 1);
    return rc;
}

/* --- one change of a block's state --- */

/* A write to one block, as it goes into the file. */
struct change {
    uint64_t             block_index;
    uint64_t             guest_offset; /* D4: sector-aligned where bits are set */
    uint64_t             length;
    struct iovec         vector[3];    /* edge, middle, edge */
    int                  vector_count;
    struct vx_bat_entry  entry;        /* before */
    struct vx_write_step step;
    size_t               page_count;   /* reserved */
    struct vx_taken      taken;        /* the block's space; when step.allocate */
    uint64_t             bitmap_offset; /* of the chunk's sector bitmap block, once known; when step.set_bits */
    uint64_t             own_bitmap;   /* a bitmap block taken by this change and not in the map; 0: none */
};

/* The sector at guest_offset as a guest reads it now. */
static int
read_sector(struct vx_image *image, uint8_t *sector, uint64_t guest_offset, struct vhdx_error *err)
{
    uint32_t               length = image->geometry.logical_sector_size;
    struct vx_layer_extent extent;
    int                    rc = vx_image_resolve(image, guest_offset, length, &extent, err);

    if (rc < 0)
        return rc;
    switch (extent.source) {
    case VX_LAYER_DATA:
        return vx_image_read_payload(image, sector, length, extent.file_offset, err);
    case VX_LAYER_BELOW:
        if (image->below.read == NULL)
            return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                           "part of a sector is written and the rest lies in a parent that is not open");
        return image->below.read(image->below.context, sector, length, guest_offset, err);
    case VX_LAYER_ZERO:
    case VX_LAYER_UNSET:
        break;
    }
    memset(sector, 0, length);
    return VHDX_OK;
}

static void
add_piece(struct change *change, const void *bytes, size_t length)
{
    if (length > 0)
        change->vector[change->vector_count++] =
            (struct iovec){ .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
}

/* D4: widen the write to whole sectors.  `head` and `tail` are sector buffers. */
static int
widen_to_sectors(struct vx_image *image, struct change *change, const uint8_t *buffer, uint8_t *head, uint8_t *tail,
                 struct vhdx_error *err)
{
    uint32_t sector = image->geometry.logical_sector_size;
    uint64_t from = change->guest_offset, to = from + change->length;
    uint64_t first = vx_round_down(from, sector), last = vx_round_up(to, sector);
    uint64_t middle_from = vx_round_up(from, sector), middle_to = vx_round_down(to, sector);
    int      rc;

    if (first != from) {
        uint64_t n = vx_min_u64(to, middle_from) - from;

        rc = read_sector(image, head, first, err);
        if (rc < 0)
            return rc;
        memcpy(head + (from - first), buffer, (size_t)n);
        add_piece(change, head, sector);
    }
    if (middle_from < middle_to)
        add_piece(change, buffer + (middle_from - from), (size_t)(middle_to - middle_from));
    if (last != to && (first == from || middle_to >= middle_from)) {
        rc = read_sector(image, tail, middle_to, err);
        if (rc < 0)
            return rc;
        memcpy(tail, buffer + (middle_to - from), (size_t)(to - middle_to));
        add_piece(change, tail, sector);
    }
    change->guest_offset = first;
    change->length = last - first;
    return VHDX_OK;
}

/* Load and secure on the host every page the change will edit, before any payload is written. */
static int
prepare_pages(struct vx_image *image, struct change *change, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t chunk_index = vx_geometry_chunk_of(g, change->block_index);
    int      rc;

    rc = vx_map_prepare(image, vx_map_entry_offset(image, vx_geometry_payload_bat_index(g, change->block_index)), err);
    if (rc < 0 || !change->step.set_bits)
        return rc;
    rc = vx_map_prepare(image, vx_map_entry_offset(image, vx_geometry_bitmap_bat_index(g, chunk_index)), err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < vx_bitmap_page_count(image); i++) {
        uint64_t at = change->bitmap_offset + vx_geometry_slice_offset(g, change->block_index) + i * VX_PAGE;

        rc = vx_map_prepare(image, at, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

/* The chunk's sector bitmap block: the one there is, or new space filled with zeros. */
static int
find_or_take_bitmap(struct vx_image *image, struct change *change, struct vhdx_error *err)
{
    uint64_t            chunk_index = vx_geometry_chunk_of(&image->geometry, change->block_index);
    struct vx_bat_entry bitmap;
    struct vx_taken     taken;
    int                 rc;

    vx_rwlock_lock(&image->meta_lock);
    rc = vx_map_get_bitmap_locked(image, chunk_index, &bitmap, err);
    if (rc == VHDX_OK && bitmap.state == VX_BLOCK_FULLY_PRESENT) {
        change->bitmap_offset = bitmap.file_offset;
    } else if (rc == VHDX_OK) {
        rc = vx_space_take(&image->space, image->storage, VX_SECTOR_BITMAP_SIZE, &taken, err);
        if (rc == VHDX_OK) {
            change->bitmap_offset = change->own_bitmap = taken.file_offset;
            vx_pages_forget(&image->pages, taken.file_offset, VX_SECTOR_BITMAP_SIZE);
        }
    }
    vx_rwlock_unlock(&image->meta_lock);
    if (rc < 0 || change->own_bitmap == 0)
        return rc;
    if (!taken.is_fresh && !taken.is_hole)
        rc = vx_fill_zeros(image, taken.file_offset, VX_SECTOR_BITMAP_SIZE, err);
    if (rc == VHDX_OK) /* all of it: other blocks of the chunk edit other pages */
        rc = vx_storage_allocate(image->storage, taken.file_offset, VX_SECTOR_BITMAP_SIZE, err);
    return rc;
}

static int
take_space(struct vx_image *image, struct change *change, struct vhdx_error *err)
{
    int rc;

    vx_rwlock_lock(&image->meta_lock);
    rc = vx_space_take(&image->space, image->storage, image->geometry.block_size, &change->taken, err);
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

/* Used space gets zeros where the write leaves something out (R5). */
static int
fill_around(struct vx_image *image, const struct change *change, struct vhdx_error *err)
{
    uint64_t from = vx_geometry_offset_in_block(&image->geometry, change->guest_offset);
    uint64_t to = from + change->length;
    uint64_t at = change->taken.file_offset;
    int      rc;

    if (change->taken.is_fresh || change->taken.is_hole)
        return VHDX_OK;
    if (image->storage->traits.can_punch) /* one call for the whole block is cheaper than two for its edges */
        return from == 0 && to == image->geometry.block_size
                   ? VHDX_OK : vx_fill_zeros(image, at, image->geometry.block_size, err);
    rc = vx_fill_zeros(image, at, from, err);
    if (rc == VHDX_OK)
        rc = vx_fill_zeros(image, at + to, image->geometry.block_size - to, err);
    return rc;
}

static int
write_change(struct vx_image *image, struct change *change, struct vhdx_error *err)
{
    uint64_t at = change->step.allocate ? change->taken.file_offset : change->entry.file_offset;
    int      rc;

    at += vx_geometry_offset_in_block(&image->geometry, change->guest_offset);
    rc = image->storage->methods->writev(image->storage, change->vector, change->vector_count, at, err);
    atomic_fetch_add(&image->writes_done, 1);
    return rc;
}

/* Bits of a partial write, and the bitmap block's own entry when it is new. */
static int
publish_bits_locked(struct vx_image *image, struct change *change, uint8_t *new_state, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    uint64_t            chunk_index = vx_geometry_chunk_of(&image->geometry, change->block_index);
    struct vx_bat_entry bitmap;
    bool                is_full;
    int                 rc = vx_map_get_bitmap_locked(image, chunk_index, &bitmap, err);

    if (rc < 0)
        return rc;
    if (bitmap.state == VX_BLOCK_FULLY_PRESENT)
        change->bitmap_offset = bitmap.file_offset; /* another block of the chunk may have brought it meanwhile */
    rc = vx_bitmap_set_locked(image, change->bitmap_offset, change->guest_offset, change->length,
                              change->step.clear_slice, &is_full, err);
    if (rc == VHDX_OK && bitmap.state != VX_BLOCK_FULLY_PRESENT) {
        rc = vx_map_set_locked(image, vx_geometry_bitmap_bat_index(&image->geometry, chunk_index),
                               VX_BLOCK_FULLY_PRESENT, change->bitmap_offset, err);
        if (rc == VHDX_OK)
            change->own_bitmap = 0; /* it belongs to the map now */
    }
    if (rc == VHDX_OK && is_full)
        *new_state = VX_BLOCK_FULLY_PRESENT; /* B5 */
    return rc;
}

/* The map edit that makes the payload visible: one moment under META. */
static int
publish_locked(struct vx_image *image, struct change *change, struct vhdx_error *err) VX_REQUIRES(image->meta_lock)
{
    uint64_t bat_index = vx_geometry_payload_bat_index(&image->geometry, change->block_index);
    uint64_t file_offset = change->step.allocate ? change->taken.file_offset : change->entry.file_offset;
    uint8_t  new_state = change->step.new_state;
    bool     shows_only_zeros;
    int      rc = VHDX_OK;

    if (change->step.set_bits)
        rc = publish_bits_locked(image, change, &new_state, err);
    if (rc == VHDX_OK && (new_state != change->entry.state || file_offset != change->entry.file_offset))
        rc = vx_map_set_locked(image, bat_index, new_state, file_offset, err);
    if (rc < 0)
        return rc;

    shows_only_zeros = change->step.allocate && (change->taken.is_fresh || VX_BROKEN(ONE_FLUSH_ON_USED)) &&
                       !change->step.uncovers_parent_if_torn &&
                       image->storage->traits.extension_survives_as_zeros;
    if (!shows_only_zeros)
        image->needs_two_flushes = true; /* D3 */
    return VHDX_OK;
}

/* What was taken and is not in the map goes back, as used space: all after a failure; after success a bitmap block when
 * another block of the chunk brought one meanwhile. */
static void
undo_takes(struct vx_image *image, const struct change *change, bool is_published)
{
    if (is_published && change->own_bitmap == 0)
        return;
    vx_rwlock_lock(&image->meta_lock);
    if (!is_published && change->step.allocate && change->taken.file_offset != 0)
        vx_space_give_back(&image->space, change->taken.file_offset, image->geometry.block_size);
    if (change->own_bitmap != 0) {
        vx_pages_forget(&image->pages, change->own_bitmap, VX_SECTOR_BITMAP_SIZE);
        vx_space_give_back(&image->space, change->own_bitmap, VX_SECTOR_BITMAP_SIZE);
    }
    vx_rwlock_unlock(&image->meta_lock);
}

/* D2, in order; room is reserved. */
static int
carry_out(struct vx_image *image, struct change *change, struct vhdx_error *err)
{
    bool is_published = false;
    int  rc = VHDX_OK;

    if (change->step.set_bits)
        rc = find_or_take_bitmap(image, change, err);
    if (rc == VHDX_OK)
        rc = prepare_pages(image, change, err);
    if (rc == VHDX_OK && change->step.allocate)
        rc = take_space(image, change, err);
    if (rc == VHDX_OK && change->step.allocate)
        rc = fill_around(image, change, err);
    if (rc == VHDX_OK)
        rc = write_change(image, change, err);
    if (rc == VHDX_OK) {
        vx_rwlock_lock(&image->meta_lock);
        rc = vx_image_may_write(image, err);
        if (rc == VHDX_OK)
            rc = publish_locked(image, change, err);
        vx_rwlock_unlock(&image->meta_lock);
        is_published = rc == VHDX_OK;
    }
    undo_takes(image, change, is_published);
    return rc;
}

static int
write_held_block(struct vx_image *image, const uint8_t *buffer, struct change *change, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    bool    is_whole = change->length == vx_geometry_block_length(g, change->block_index);
    uint8_t head[VX_PAGE], tail[VX_PAGE];
    int     rc = vx_map_get(image, change->block_index, &change->entry, err);

    if (rc < 0)
        return rc;
    change->step = vx_block_write_step(change->entry.state, g->is_differencing, is_whole);
    if (change->step.is_error)
        return vx_fail(err, VHDX_E_BAD_BAT, VHDX_PART_BAT, VHDX_NO_OFFSET, "block %" PRIu64 " has a reserved state",
                       change->block_index);
    if (change->step.set_bits) {
        rc = widen_to_sectors(image, change, buffer, head, tail, err);
        if (rc < 0)
            return rc;
    } else {
        add_piece(change, buffer, (size_t)change->length);
    }
    if (!change->step.allocate && !change->step.set_bits && change->step.new_state == change->entry.state)
        return write_change(image, change, err); /* another writer was first: D1 */

    change->page_count = change->step.set_bits ? 2 + vx_bitmap_page_count(image) : 1;
    rc = vx_room_reserve(image, change->page_count, err);
    if (rc < 0)
        return rc;
    rc = carry_out(image, change, err);
    vx_room_release(image, change->page_count);
    return rc;
}

/* The part of a write that lies in one block whose state may change. */
static int
write_block(struct vx_image *image, const uint8_t *buffer, size_t length, uint64_t guest_offset, size_t *done,
            struct vhdx_error *err)
{
    uint64_t       to_block_end = image->geometry.block_size - vx_geometry_offset_in_block(&image->geometry,
                                                                                            guest_offset);
    struct change  change = { .block_index = vx_geometry_block_of(&image->geometry, guest_offset),
                              .guest_offset = guest_offset, .length = vx_min_u64(length, to_block_end) };
    struct vx_held held;
    int            rc;

    *done = (size_t)change.length;
    vx_image_hold(image, &held, guest_offset, change.length, true);
    rc = write_held_block(image, buffer, &change, err);
    vx_image_release(image, &held);
    return rc;
}

/* The beginning of a write as far as its sectors are present (D1). */
static int
write_present(struct vx_image *image, const uint8_t *buffer, size_t length, uint64_t guest_offset, size_t *done,
              struct vhdx_error *err)
{
    struct vx_layer_extent extent;
    struct vx_held         held;
    int                    rc = VHDX_OK;

    *done = 0;
    vx_image_hold(image, &held, guest_offset, length, false);
    while (*done < length) {
        rc = vx_image_resolve(image, guest_offset + *done, length - *done, &extent, err);
        if (rc < 0 || extent.source != VX_LAYER_DATA)
            break;
        rc = vx_write_payload(image, buffer + *done, (size_t)extent.length, extent.file_offset, err);
        if (rc < 0)
            break;
        *done += (size_t)extent.length;
    }
    vx_image_release(image, &held);
    return rc;
}

int
vx_image_write(struct vx_image *image, const void *buffer, size_t length, uint64_t guest_offset,
               struct vhdx_error *err)
{
    const uint8_t *bytes = buffer;
    size_t         done;
    int            rc = length > 0 ? vx_session_begin(image, err) : VHDX_OK;

    while (rc == VHDX_OK && length > 0) {
        rc = write_present(image, bytes, length, guest_offset, &done, err);
        if (rc == VHDX_OK && done == 0)
            rc = write_block(image, bytes, length, guest_offset, &done, err);
        bytes += done;
        length -= done;
        guest_offset += done;
    }
    return rc;
}

int
vx_image_copy_from(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_storage *from,
                   uint64_t from_offset, bool only_share, struct vhdx_error *err)
{
    struct vx_held held;
    int            rc = vx_session_begin(image, err);

    if (rc < 0)
        return rc;
    vx_image_hold(image, &held, guest_offset, length, false);
    while (length > 0 && rc == VHDX_OK) { /* D1 */
        struct vx_layer_extent extent;

        rc = vx_image_resolve(image, guest_offset, length, &extent, err);
        if (rc == VHDX_OK && extent.source != VX_LAYER_DATA)
            rc = VHDX_E_UNSUPPORTED;
        if (rc < 0)
            break;
        rc = vx_storage_copy_from(image->storage, extent.file_offset, from, from_offset, extent.length, only_share, err);
        atomic_fetch_add(&image->writes_done, 1);
        guest_offset += extent.length;
        from_offset += extent.length;
        length -= extent.length;
    }
    vx_image_release(image, &held);
    return rc;
}
