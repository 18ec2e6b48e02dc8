/* Growing: what the new disk needs, then the one entry that makes it the disk (resize.h U1 to U3; 9.4). */
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/geometry.h"
#include "ops/job.h"
#include "ops/link.h"
#include "ops/resize.h"
#include "ops/resize_entries.h"
#include "storage/storage.h"

#define WINDOW ((size_t)256 * 1024) /* of the BAT, when it is written anew */

struct growing {
    const struct vx_resize   *job;
    struct vx_image          *image;
    const struct vx_geometry *old;
    struct vx_geometry        new;
    uint64_t                  bat, bat_length; /* the region as it is */
    uint64_t                  hidden_end;      /* new blocks below it hide the parent (U2) */

    /* What the entries say that change: */
    uint64_t *blocks;    /* owned; of a fixed image, where each new block lies */
    uint64_t  block_count;
    uint64_t  last_at;   /* the block of the old end gets space, and bits; 0: it keeps its entry */
    uint64_t  bitmap_at; /* its chunk gets a sector bitmap block; 0: it has one, or needs none */

    uint64_t  new_bat, new_bat_length; /* U3; 0: the region stays */
    uint8_t  *bytes;     /* owned; of BAT pages or region tables, for the edits */
    uint8_t  *slice;     /* owned; bits of the block of the old end */
    struct vx_edits edits; /* all but the size */
};

static uint64_t
last_block(const struct growing *g)
{
    return g->old->payload_block_count - 1;
}

static uint64_t
block_offset_in_file(const struct growing *g, uint64_t block_index)
{
    return g->blocks[block_index - g->old->payload_block_count];
}

/* The entry as it will be. */
static uint64_t
wanted_entry(const struct growing *g, uint64_t bat_index, uint64_t raw)
{
    uint64_t index;

    if (!vx_geometry_is_payload_entry(&g->new, bat_index, &index)) {
        if (index == vx_geometry_chunk_of(g->old, last_block(g)) && g->bitmap_at != 0)
            return vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, g->bitmap_at);
        return bat_index < g->old->bat_entry_count ? raw : 0;
    }
    if (index == last_block(g) && g->last_at != 0)
        return vx_bat_entry_encode(VX_BLOCK_PARTIALLY_PRESENT, g->last_at);
    if (index < g->old->payload_block_count)
        return raw;
    if (index >= g->new.payload_block_count)
        return 0;
    if (g->new.is_fixed)
        return vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, block_offset_in_file(g, index));
    return index < g->hidden_end ? vx_bat_entry_encode(VX_BLOCK_ZERO, 0) : 0;
}

/* Entries that may change to something else than 0: [*from, *end).  Empty when there are none. */
static void
changing_entries(const struct growing *g, uint64_t *from, uint64_t *end)
{
    uint64_t end_block = g->new.is_fixed ? g->new.payload_block_count : g->hidden_end;

    *from = vx_geometry_payload_bat_index(&g->new, last_block(g));
    *end = end_block > g->old->payload_block_count ? vx_geometry_payload_bat_index(&g->new, end_block - 1) + 1 : *from;
    if (g->last_at != 0)
        *end = vx_max_u64(*end, *from + 1);
    if (g->bitmap_at != 0)
        *end = vx_max_u64(*end, vx_geometry_bitmap_bat_index(&g->new, vx_geometry_chunk_of(g->old, last_block(g))) + 1);
}

/* --- the block of the old end (9.4 step 2) --- */

static int
read_entry(const struct growing *g, uint64_t bat_index, struct vx_bat_entry *out, struct vhdx_error *err)
{
    uint8_t bytes[8];
    int     rc = vx_image_read_structure(g->image, bytes, sizeof bytes, g->bat + bat_index * 8, err);

    *out = vx_bat_entry_decode(rc == VHDX_OK ? vx_le64(bytes) : 0);
    return rc;
}

static void
put_bit(uint8_t *bytes, uint64_t bit, bool value)
{
    uint8_t mask = (uint8_t)(1u << (bit % 8));

    bytes[bit / 8] = (uint8_t)(value ? bytes[bit / 8] | mask : bytes[bit / 8] & ~mask);
}

/* Bits of the sectors that appear: clear, or where the parent must not show (U2) set, over bytes that are zeros.  Of a block
 * that enters state 7 the others are cleared (B1). */
static int
edit_bits(struct growing *g, uint64_t bitmap_offset, bool is_new_slice, bool hides, struct vhdx_error *err)
{
    uint64_t start = last_block(g) * g->old->block_size;
    uint64_t from = (g->old->virtual_size - start) >> g->old->sector_shift;
    uint64_t to = (vx_min_u64(g->new.virtual_size, start + g->old->block_size) - start) >> g->old->sector_shift;
    uint64_t at = bitmap_offset + vx_geometry_slice_offset(g->old, last_block(g));
    uint64_t first_byte = is_new_slice ? 0 : from / 8;
    int      rc = VHDX_OK;

    g->slice = vx_alloc_zeroed(g->old->bitmap_slice, 1);
    if (g->slice == NULL)
        return vx_fail_memory(err, "the bits of a block");
    if (!is_new_slice)
        rc = vx_image_read_structure(g->image, g->slice, g->old->bitmap_slice, at, err);
    for (uint64_t bit = from; bit < g->old->sectors_per_block; bit++)
        put_bit(g->slice, bit, hides && bit < to);
    if (rc == VHDX_OK)
        rc = vx_edits_add(&g->edits, at + first_byte, g->slice + first_byte, g->old->bitmap_slice - first_byte, err);
    return rc;
}

/* State 0 over a parent that is longer: the block gets space of zeros and becomes a 7 that shows the new sectors. */
static int
hide_in_new_block(struct growing *g, struct vhdx_error *err)
{
    uint64_t            chunk = vx_geometry_chunk_of(g->old, last_block(g));
    struct vx_bat_entry bitmap;
    int                 rc = read_entry(g, vx_geometry_bitmap_bat_index(g->old, chunk), &bitmap, err);

    if (rc == VHDX_OK && bitmap.state != VX_BLOCK_FULLY_PRESENT) {
        rc = vx_image_take_space(g->image, VX_SECTOR_BITMAP_SIZE, true, &g->bitmap_at, err);
        bitmap.file_offset = g->bitmap_at;
    }
    if (rc == VHDX_OK)
        rc = vx_image_take_space(g->image, g->old->block_size, false, &g->last_at, err);
    return rc == VHDX_OK ? edit_bits(g, bitmap.file_offset, true, true, err) : rc;
}

static int
settle_last_block(struct growing *g, struct vhdx_error *err)
{
    uint64_t               size = g->old->virtual_size, in_block = size - last_block(g) * g->old->block_size;
    bool                   hides = g->old->is_differencing && g->job->parent_size > size;
    struct vx_layer_extent extent;
    struct vx_bat_entry    entry, bitmap = { .state = 0 };
    int                    rc;

    if (in_block == g->old->block_size)
        return VHDX_OK;
    rc = vx_image_resolve(g->image, size - 1, 1, &extent, err); /* judges the entries that are used below */
    if (rc == VHDX_OK)
        rc = read_entry(g, vx_geometry_payload_bat_index(g->old, last_block(g)), &entry, err);
    if (rc < 0)
        return rc;
    if (entry.state == VX_BLOCK_NOT_PRESENT && hides)
        return hide_in_new_block(g, err);
    if (entry.state < VX_BLOCK_FULLY_PRESENT)
        return VHDX_OK;
    rc = vx_image_zero_space(g->image, entry.file_offset + in_block, g->old->block_size - in_block, err);
    if (rc < 0 || entry.state == VX_BLOCK_FULLY_PRESENT || !g->old->is_differencing)
        return rc;
    rc = read_entry(g, vx_geometry_bitmap_bat_index(g->old, vx_geometry_chunk_of(g->old, last_block(g))), &bitmap, err);
    return rc == VHDX_OK ? edit_bits(g, bitmap.file_offset, false, hides, err) : rc;
}

/* --- fixed images hold every block --- */

static int
take_blocks(struct growing *g, struct vhdx_error *err)
{
    uint64_t count = g->new.payload_block_count - g->old->payload_block_count;
    int      rc = VHDX_OK;

    if (!g->new.is_fixed || count == 0)
        return VHDX_OK;
    if (count > SIZE_MAX / sizeof *g->blocks)
        return vx_fail_memory(err, "the blocks of a fixed image");
    g->blocks = vx_alloc_zeroed((size_t)count, sizeof *g->blocks);
    if (g->blocks == NULL)
        return vx_fail_memory(err, "the blocks of a fixed image");
    while (g->block_count < count && rc == VHDX_OK) {
        rc = vx_job_report(g->job->progress, g->block_count * g->new.block_size, count * g->new.block_size, err);
        if (rc == VHDX_OK)
            rc = vx_image_take_space(g->image, g->new.block_size, true, &g->blocks[g->block_count], err);
        if (rc == VHDX_OK)
            g->block_count++;
    }
    return rc;
}

/* --- the BAT where it is --- */

static int
edit_entries(struct growing *g, struct vhdx_error *err)
{
    uint64_t from, end, at;
    int      rc = vx_resize_clear_padding(g->image, g->new.virtual_size, err);

    changing_entries(g, &from, &end);
    if (rc < 0 || from == end)
        return rc;
    at = vx_round_down(from * 8, VX_PAGE);
    end = vx_round_up(end * 8, VX_PAGE);
    g->bytes = vx_alloc((size_t)(end - at));
    if (g->bytes == NULL)
        return vx_fail_memory(err, "pages of the BAT");
    for (uint8_t *page = g->bytes; at < end && rc == VHDX_OK; page += VX_PAGE, at += VX_PAGE) {
        rc = vx_image_read_structure(g->image, page, VX_PAGE, g->bat + at, err);
        for (size_t i = 0; i < VX_PAGE && rc == VHDX_OK; i += 8) {
            if ((at + i) / 8 < g->new.bat_entry_count)
                vx_put_le64(page + i, wanted_entry(g, (at + i) / 8, vx_le64(page + i)));
        }
        if (rc == VHDX_OK)
            rc = vx_edits_add(&g->edits, g->bat + at, page, VX_PAGE, err);
    }
    return rc;
}

/* --- the BAT anew (U3) --- */

static int
has_old_data(const struct growing *g, uint64_t at, uint64_t end, bool *out, struct vhdx_error *err)
{
    uint64_t start, stop, old_end = g->old->bat_entry_count * 8;
    int      rc;

    *out = false;
    if (at >= old_end)
        return VHDX_OK;
    rc = vx_storage_next_data(vx_image_storage(g->image), g->bat + at, &start, &stop, err);
    *out = rc == VHDX_OK && start < stop && start < g->bat + vx_min_u64(end, old_end);
    return rc;
}

/* [at, at + length) of the new table.  Nothing is written where all of it is 0: the space reads so. */
static int
write_window(const struct growing *g, uint8_t *window, uint64_t at, size_t length, struct vhdx_error *err)
{
    uint64_t from, end, old_end = g->old->bat_entry_count * 8;
    bool     is_old;
    int      rc = has_old_data(g, at, at + length, &is_old, err);

    changing_entries(g, &from, &end);
    if (rc < 0 || (!is_old && (at >= end * 8 || at + length <= from * 8)))
        return rc;
    memset(window, 0, length);
    if (is_old)
        rc = vx_image_read_structure(g->image, window, (size_t)vx_min_u64(length, old_end - at), g->bat + at, err);
    for (size_t i = 0; i < length; i += 8)
        vx_put_le64(window + i, wanted_entry(g, (at + i) / 8, vx_le64(window + i)));
    if (rc == VHDX_OK && !vx_is_zero(window, length))
        rc = vx_image_write_space(g->image, window, length, g->new_bat + at, err);
    return rc;
}

static int
write_entries(struct growing *g, struct vhdx_error *err)
{
    uint64_t length = g->new.bat_entry_count * 8;
    uint8_t *window = vx_alloc(WINDOW);
    int      rc = VHDX_OK;

    if (window == NULL)
        return vx_fail_memory(err, "the block allocation table");
    for (uint64_t at = 0; at < length && rc == VHDX_OK; at += WINDOW)
        rc = write_window(g, window, at, (size_t)vx_min_u64(WINDOW, length - at), err);
    vx_free(window);
    return rc;
}

static int
move_bat(struct growing *g, struct vhdx_error *err)
{
    int rc = vx_image_flush(g->image, err); /* no page of the old table waits when it is copied */

    g->new_bat_length = vx_geometry_bat_region_length(&g->new);
    if (rc == VHDX_OK)
        rc = vx_image_take_space(g->image, g->new_bat_length, false, &g->new_bat, err);
    if (rc == VHDX_OK)
        rc = write_entries(g, err);
    g->bytes = rc == VHDX_OK ? vx_alloc(2 * (size_t)VX_REGION_TABLE_SIZE) : NULL;
    if (rc == VHDX_OK && g->bytes == NULL)
        rc = vx_fail_memory(err, "region tables");
    if (rc == VHDX_OK)
        rc = vx_edits_move_region(&g->edits, g->image, &vx_guid_region_bat, g->new_bat, (uint32_t)g->new_bat_length,
                                  g->bytes, err);
    return rc;
}

static bool
moves(const struct growing *g)
{
    uint64_t from, end, pages;
    uint64_t others = 2 + vx_ceil_div(g->old->bitmap_slice, VX_PAGE) + 1; /* of the size's item, and of bits */

    changing_entries(g, &from, &end);
    pages = from == end ? 0 : end * 8 / VX_PAGE - from * 8 / VX_PAGE + 1;
    if (!g->old->is_differencing)
        others = 2;
    return g->job->moves_bat_for_tests || g->new.bat_entry_count * 8 > g->bat_length ||
           (pages > 0 && pages + others > vx_link_page_limit(g->image, g->job->log_length_for_tests));
}

/* --- all of it --- */

static void
begin(struct growing *g, const struct vx_resize *job, struct vx_image *image)
{
    const struct vx_geometry *old = vx_image_geometry(image);
    struct vhdx_info          info;

    *g = (struct growing){ .job = job, .image = image, .old = old };
    vx_image_fill_info(image, &info);
    g->bat = info.bat_offset;
    g->bat_length = info.bat_length;
    vx_geometry_init(&g->new, job->new_size, old->block_size, old->logical_sector_size, old->is_differencing,
                     old->is_fixed);
    if (old->is_differencing && job->parent_size > old->virtual_size)
        g->hidden_end = vx_ceil_div(vx_min_u64(job->parent_size, job->new_size), old->block_size);
}

static void
give_back(struct growing *g, uint64_t file_offset, uint64_t length)
{
    if (file_offset != 0)
        vx_image_give_back_space(g->image, file_offset, length);
}

static void
undo(struct growing *g)
{
    while (g->block_count > 0)
        give_back(g, g->blocks[--g->block_count], g->new.block_size);
    give_back(g, g->last_at, g->new.block_size);
    give_back(g, g->bitmap_at, VX_SECTOR_BITMAP_SIZE);
    give_back(g, g->new_bat, g->new_bat_length);
}

bool
vx_resize_moves_bat(const struct vx_resize *job, struct vx_image *image)
{
    struct growing g;

    begin(&g, job, image);
    return moves(&g);
}

int
vx_resize_grow(const struct vx_resize *job, struct vx_image *image, struct vhdx_resize_result *result,
               struct vhdx_error *err)
{
    struct growing g;
    int            rc;

    begin(&g, job, image);
    rc = settle_last_block(&g, err);
    if (rc == VHDX_OK)
        rc = take_blocks(&g, err);
    if (rc == VHDX_OK)
        rc = moves(&g) ? move_bat(&g, err) : edit_entries(&g, err);
    if (rc == VHDX_OK)
        rc = vx_resize_set_size(image, job->new_size, &g.edits, err);
    if (rc < 0)
        undo(&g);
    else if (g.new_bat != 0)
        vx_image_let_go_structure(image, g.bat, g.bat_length);
    result->table_moved = rc == VHDX_OK && g.new_bat != 0;
    vx_free(g.blocks);
    vx_free(g.bytes);
    vx_free(g.slice);
    vx_free(g.edits.items);
    return rc;
}
