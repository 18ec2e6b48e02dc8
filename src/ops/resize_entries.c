/* See resize_entries.h. */
#include "ops/resize_entries.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "format/geometry.h"

/* The same image with a disk of another size. */
static struct vx_geometry
resized(const struct vx_geometry *g, uint64_t size)
{
    struct vx_geometry out;

    vx_geometry_init(&out, size, g->block_size, g->logical_sector_size, g->is_differencing, g->is_fixed);
    return out;
}

static uint64_t
bat_offset(struct vx_image *image)
{
    struct vhdx_info info;

    vx_image_fill_info(image, &info);
    return info.bat_offset;
}

int
vx_resize_check_room(struct vx_image *image, uint64_t new_size, struct vhdx_error *err)
{
    struct vx_geometry g = resized(vx_image_geometry(image), new_size);
    struct vhdx_info   info;

    vx_image_fill_info(image, &info);
    if (g.bat_entry_count * 8 <= info.bat_length)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_BAT, info.bat_offset,
                   "a disk of %" PRIu64 " bytes needs %" PRIu64 " bytes of block allocation table and the image has room "
                   "for %" PRIu64 ": a larger table cannot be made", new_size, g.bat_entry_count * 8,
                   info.bat_length);
}

/* Does an entry belong to a block, or to a sector bitmap, of the larger disk that the smaller one has not? */
static bool
is_beyond(const struct vx_geometry *smaller, const struct vx_geometry *larger, uint64_t bat_index)
{
    uint64_t index;

    if (vx_geometry_is_payload_entry(larger, bat_index, &index))
        return index >= smaller->payload_block_count;
    return index >= smaller->bitmap_block_count;
}

/* Make those entries 0, a page of the BAT at a time: readers ignore them, or show nothing there. */
static int
clear_entries(struct vx_image *image, const struct vx_geometry *smaller, const struct vx_geometry *larger,
              struct vhdx_error *err)
{
    uint64_t from = vx_geometry_payload_bat_index(smaller, smaller->payload_block_count - 1) + 1;
    uint64_t bat = bat_offset(image);
    int      rc = VHDX_OK;

    for (uint64_t at = vx_round_down(from * 8, VX_PAGE); at < larger->bat_entry_count * 8 && rc == VHDX_OK;
         at += VX_PAGE) {
        uint8_t        page[VX_PAGE];
        struct vx_edit edit = { .file_offset = bat + at, .length = VX_PAGE, .bytes = page };
        bool           is_change = false;

        rc = vx_image_read_structure(image, page, sizeof page, bat + at, err);
        for (size_t i = 0; i < VX_PAGE && rc == VHDX_OK; i += 8) {
            uint64_t bat_index = (at + i) / 8;

            if (bat_index < from || bat_index >= larger->bat_entry_count || vx_le64(page + i) == 0 ||
                !is_beyond(smaller, larger, bat_index))
                continue;
            vx_put_le64(page + i, 0);
            is_change = true;
        }
        if (rc == VHDX_OK && is_change)
            rc = vx_image_edit(image, &edit, 1, err);
    }
    return rc;
}

int
vx_resize_clear_padding(struct vx_image *image, uint64_t new_size, struct vhdx_error *err)
{
    const struct vx_geometry *old = vx_image_geometry(image);
    struct vx_geometry        new = resized(old, new_size);

    return clear_entries(image, old, &new, err);
}

/* V155: the bits past the new end, when the block that holds it is partially present. */
static int
clear_bits(struct vx_image *image, const struct vx_geometry *new, struct vhdx_error *err)
{
    uint64_t last_block = new->payload_block_count - 1, bat = bat_offset(image), bitmap, first, end;
    uint8_t  entry[8], bytes[64 * 1024], mask;
    int      rc;

    rc = vx_image_read_structure(image, entry, sizeof entry,
                                 bat + vx_geometry_payload_bat_index(new, last_block) * 8, err);
    if (rc < 0 || vx_bat_entry_decode(vx_le64(entry)).state != VX_BLOCK_PARTIALLY_PRESENT ||
        new->virtual_size % new->block_size == 0)
        return rc;
    rc = vx_image_read_structure(image, entry, sizeof entry,
                                 bat + vx_geometry_bitmap_bat_index(new, vx_geometry_chunk_of(new, last_block)) * 8,
                                 err);
    if (rc < 0)
        return rc;
    bitmap = vx_bat_entry_decode(vx_le64(entry)).file_offset;
    first = vx_geometry_bitmap_byte(new, new->virtual_size, &mask);
    end = vx_geometry_slice_offset(new, last_block) + new->bitmap_slice; /* 64 KiB at most */
    memset(bytes, 0, sizeof bytes);
    rc = vx_image_read_structure(image, bytes, 1, bitmap + first, err);
    if (rc < 0)
        return rc;
    bytes[0] &= (uint8_t)(mask - 1); /* the lower bits of the byte stay */
    return vx_image_edit(image, &(struct vx_edit){ .file_offset = bitmap + first, .length = end - first,
                                                   .bytes = bytes }, 1, err);
}

/* The bytes and blocks past the new end.  A fixed image keeps its space until the next session counts it. */
static int
give_up_end(struct vx_image *image, const struct vx_geometry *old, const struct vx_geometry *new,
            struct vhdx_error *err)
{
    uint64_t block_end = vx_min_u64(vx_round_up(new->virtual_size, new->block_size), old->virtual_size);
    bool     is_freed;
    int      rc;

    if (old->is_fixed)
        return vx_image_zero(image, new->virtual_size, block_end - new->virtual_size, false, err);
    rc = vx_image_trim(image, new->virtual_size, old->virtual_size - new->virtual_size, err);
    for (uint64_t chunk = new->bitmap_block_count; old->is_differencing && chunk < old->bitmap_block_count &&
                                                   rc == VHDX_OK; chunk++)
        rc = vx_image_drop_bitmap(image, chunk, &is_freed, err);
    return rc;
}

int
vx_resize_drop_end(struct vx_image *image, uint64_t new_size, struct vhdx_error *err)
{
    const struct vx_geometry *old = vx_image_geometry(image);
    struct vx_geometry        new = resized(old, new_size);
    int                       rc = give_up_end(image, old, &new, err);

    if (rc == VHDX_OK)
        rc = clear_entries(image, &new, old, err);
    if (rc == VHDX_OK && old->is_differencing)
        rc = clear_bits(image, &new, err);
    return rc;
}

int
vx_resize_fill_fixed(struct vx_image *image, uint64_t old_size, struct vhdx_error *err)
{
    static const uint8_t      zeros[VX_PAGE];
    const struct vx_geometry *g = vx_image_geometry(image);
    int                       rc = VHDX_OK;

    for (uint64_t at = vx_round_down(old_size, g->block_size); at < g->virtual_size && rc == VHDX_OK;
         at += g->block_size) {
        struct vx_layer_extent extent;

        rc = vx_image_resolve(image, at, 1, &extent, err);
        if (rc == VHDX_OK && extent.source != VX_LAYER_DATA)
            rc = vx_image_write(image, zeros, g->logical_sector_size, at, err);
    }
    return rc;
}
