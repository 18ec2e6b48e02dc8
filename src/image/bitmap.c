/*
 * Sector bitmaps of differencing images (docs/vhdx-format.md 3.2, 6.7), through the metadata pages.
 *
 *   M3  Bits say something for blocks in state 7 only (B7).  Bits are added while the block is in state 7; a block that
 *       enters state 7 has its slice cleared in the same commit (B1).
 */
#include <string.h>

#include "base/error.h"
#include "image/internal.h"

#define SECTORS_PER_PAGE ((uint64_t)VX_PAGE * 8)

/* Where a range of a block lies in the chunk's bitmap block, in bits (sectors of the chunk). */
static uint64_t
first_bit(const struct vx_image *image, uint64_t guest_offset)
{
    return (guest_offset >> image->geometry.sector_shift) % VX_SECTORS_PER_CHUNK;
}

/* Length of the run of equal bits from `bit` on, at most up to `end`, inside one page's bytes. */
static uint64_t
run_in_page(const uint8_t *bytes, uint64_t bit, uint64_t end, bool value)
{
    const uint8_t whole = value ? 0xFF : 0x00;
    uint64_t      at = bit;

    while (at < end) {
        if (at % 8 == 0 && end - at >= 8 && bytes[at / 8] == whole)
            at += 8;
        else if (((bytes[at / 8] >> (at % 8)) & 1) == value)
            at++;
        else
            break;
    }
    return at - bit;
}

int
vx_bitmap_run(struct vx_image *image, uint64_t guest_offset, uint64_t length, uint64_t bitmap_offset,
              bool *is_present, uint64_t *run_length, uint64_t *missing)
{
    uint32_t sector_shift = image->geometry.sector_shift;
    uint64_t first = first_bit(image, guest_offset);
    uint64_t in_sector = guest_offset & ((UINT64_C(1) << sector_shift) - 1);
    uint64_t end = first + ((in_sector + length - 1) >> sector_shift) + 1;
    uint64_t bit = first;

    while (bit < end) {
        uint64_t        page_offset = bitmap_offset + bit / SECTORS_PER_PAGE * VX_PAGE;
        struct vx_page *page = vx_pages_find(&image->pages, page_offset);
        uint64_t        in_page = bit % SECTORS_PER_PAGE;
        uint64_t        page_end = vx_min_u64(end - bit, SECTORS_PER_PAGE - in_page) + in_page;
        uint64_t        run;

        if (page == NULL && bit > first)
            break; /* what is known makes an extent */
        *missing = page_offset;
        if (page == NULL)
            return VX_MAP_MISSING;
        if (bit == first)
            *is_present = ((page->bytes[in_page / 8] >> (in_page % 8)) & 1) != 0;
        run = run_in_page(page->bytes, in_page, page_end, *is_present);
        bit += run;
        if (in_page + run < page_end)
            break;
    }
    *run_length = vx_min_u64(length, ((bit - first) << sector_shift) - in_sector);
    return VHDX_OK;
}

size_t
vx_bitmap_page_count(const struct vx_image *image)
{
    return (size_t)vx_ceil_div(image->geometry.bitmap_slice, VX_PAGE);
}

/* Clear and set bits [from, to) of the chunk that lie in one page; edited only when a bit changes. */
static void
edit_page_locked(struct vx_image *image, struct vx_page *page, uint64_t page_first, uint64_t clear_from,
                 uint64_t clear_to, uint64_t set_from, uint64_t set_to) VX_REQUIRES(image->meta_lock)
{
    uint8_t before[VX_PAGE];

    memcpy(before, page->bytes, VX_PAGE);
    for (uint64_t bit = vx_max_u64(clear_from, page_first); bit < vx_min_u64(clear_to, page_first + SECTORS_PER_PAGE);
         bit++)
        page->bytes[(bit - page_first) / 8] &= (uint8_t)~(1u << (bit % 8));
    for (uint64_t bit = vx_max_u64(set_from, page_first); bit < vx_min_u64(set_to, page_first + SECTORS_PER_PAGE);
         bit++)
        page->bytes[(bit - page_first) / 8] |= (uint8_t)(1u << (bit % 8));
    if (memcmp(before, page->bytes, VX_PAGE) != 0)
        vx_map_page_edited_locked(image, page);
}

int
vx_bitmap_set_locked(struct vx_image *image, uint64_t bitmap_offset, uint64_t guest_offset, uint64_t length,
                     bool clear_slice, bool *is_full, struct vhdx_error *err)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t block_index = vx_geometry_block_of(g, guest_offset);
    uint64_t slice_from = (uint64_t)vx_geometry_slice_offset(g, block_index) * 8;
    uint64_t slice_to = slice_from + (vx_geometry_block_length(g, block_index) >> g->sector_shift);
    uint64_t set_from = first_bit(image, guest_offset);
    uint64_t set_to = set_from + (length >> g->sector_shift);
    uint64_t clear_to = clear_slice ? slice_from + g->sectors_per_block : slice_from;
    struct vx_page *page;

    /* Load all first: nothing is edited when one cannot be read. */
    for (uint64_t bit = slice_from; bit < slice_from + g->sectors_per_block; bit += SECTORS_PER_PAGE) {
        int rc = vx_pages_load(&image->pages, image->view, bitmap_offset + bit / SECTORS_PER_PAGE * VX_PAGE, &page,
                               err);

        if (rc < 0)
            return rc;
    }
    *is_full = true;
    for (uint64_t bit = slice_from; bit < slice_from + g->sectors_per_block; bit += SECTORS_PER_PAGE) {
        uint64_t page_first = bit / SECTORS_PER_PAGE * SECTORS_PER_PAGE;
        uint64_t end = vx_min_u64(slice_to, page_first + SECTORS_PER_PAGE);
        int      rc = vx_pages_load(&image->pages, image->view, bitmap_offset + page_first / 8, &page, err);

        if (rc < 0)
            return rc;
        edit_page_locked(image, page, page_first, slice_from, clear_to, set_from, set_to);
        if (end > bit && run_in_page(page->bytes, bit - page_first, end - page_first, true) < end - bit)
            *is_full = false;
    }
    return VHDX_OK;
}
