/*
 * Compacting, the blocks: which of them need no space any more, and which parts of the others are only zeros or free.
 *
 *   Z1  A block is looked at by pages of 4 KiB, the least a host's hole can have: a page is a hole already, or data, or may go.
 *       What lies in part of a page stays.
 *   Z2  A block goes as a whole when all of it is free, or, in state 6, when no page of it is data.  It becomes ZERO, never
 *       NOT_PRESENT: in a differencing image that would uncover the parent (4.5).
 *   Z3  Of a block in state 7 with no bit set nothing is shown: it becomes NOT_PRESENT.  With all bits set it is a 6 (B5).
 *   Z4  A fixed image keeps every block (D8); with `sparse` its pages may go.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/compact.h"
#include "ops/job.h"
#include "storage/storage.h"

#define PAGE        4096u
#define BUFFER_SIZE ((size_t)VX_MIB)

enum page_kind { PAGE_HOLE, PAGE_DATA, PAGE_GOES };

struct walk {
    const struct vx_compact_blocks *blocks;
    const struct vx_geometry       *geometry;
    uint64_t                        bat_offset;
    bool                            makes_holes;
    uint8_t                        *kinds;  /* an enum page_kind for each page of a block; owned */
    uint8_t                        *buffer; /* BUFFER_SIZE; owned */
    uint64_t                        partial_chunk; /* the last chunk with a block in state 7; UINT64_MAX: none yet */
    uint64_t                        freed;  /* bytes since the last commit */
};

/* The block that is looked at. */
struct block {
    uint64_t            index, guest_offset;
    uint32_t            length; /* of the disk */
    struct vx_bat_entry entry;
    uint64_t            pages;
    bool                is_seen; /* some sector is the image's own */
    bool                asks_parent;
};

/* --- pages (Z1) --- */

/* Data extents of the host's file in [from, to) of the block. */
static int
mark_data(struct walk *w, const struct block *block, uint64_t from, uint64_t to, struct vhdx_error *err)
{
    struct vhdx_storage *storage = vx_image_storage(w->blocks->image);
    uint64_t             base = block->entry.file_offset;

    while (from < to) {
        uint64_t start, end;
        int      rc = vx_storage_next_data(storage, base + from, &start, &end, err);

        if (rc < 0)
            return rc;
        if (start >= end || start >= base + to)
            return VHDX_OK;
        start = vx_max_u64(start, base + from) - base;
        end = vx_min_u64(end - base, to);
        memset(w->kinds + start / PAGE, PAGE_DATA, (size_t)(vx_ceil_div(end, PAGE) - start / PAGE));
        from = end;
    }
    return VHDX_OK;
}

/* Which sectors are the image's own, and where the host has data for them. */
static int
look_at_block(struct walk *w, struct block *block, struct vhdx_error *err)
{
    memset(w->kinds, PAGE_HOLE, (size_t)block->pages);
    for (uint64_t at = 0; at < block->length;) {
        struct vx_layer_extent extent;
        int rc = vx_image_resolve(w->blocks->image, block->guest_offset + at, block->length - at, &extent, err);

        if (rc == VHDX_OK && extent.source == VX_LAYER_DATA) {
            block->is_seen = true;
            rc = mark_data(w, block, at, at + extent.length, err);
        } else {
            block->asks_parent = true;
        }
        if (rc < 0)
            return rc;
        at += extent.length;
    }
    return VHDX_OK;
}

static void
give_up_free_pages(struct walk *w, const struct block *block)
{
    const struct vx_free_list *list = w->blocks->job->free;
    uint64_t                   start = block->guest_offset, end = start + block->length;

    for (size_t i = vx_free_list_find(list, start); i < list->count && list->runs[i].from < end; i++) {
        uint64_t from = vx_ceil_div(vx_max_u64(list->runs[i].from, start) - start, PAGE);
        uint64_t to = vx_min_u64(list->runs[i].to, end) - start;

        to = to == block->length ? block->pages : to / PAGE; /* nothing follows the end of the disk in its page */
        for (uint64_t page = from; page < to; page++) {
            if (w->kinds[page] == PAGE_DATA)
                w->kinds[page] = PAGE_GOES;
        }
    }
}

static uint64_t
run_of(const struct walk *w, uint64_t page, uint64_t end, uint8_t kind)
{
    uint64_t at = page;

    while (at < end && w->kinds[at] == kind)
        at++;
    return at - page;
}

static int
give_up_zero_pages(struct walk *w, const struct block *block, struct vhdx_error *err)
{
    uint64_t n;

    for (uint64_t page = 0; page < block->pages; page += n) {
        int rc;

        n = run_of(w, page, vx_min_u64(block->pages, page + BUFFER_SIZE / PAGE), PAGE_DATA);
        if (n == 0) {
            n = 1;
            continue;
        }
        rc = vx_image_read_payload(w->blocks->image, w->buffer, (size_t)n * PAGE,
                                   block->entry.file_offset + page * PAGE, err);
        if (rc < 0)
            return rc;
        for (uint64_t i = 0; i < n; i++) {
            if (vx_is_zero(w->buffer + i * PAGE, PAGE))
                w->kinds[page + i] = PAGE_GOES;
        }
    }
    return VHDX_OK;
}

static uint64_t
count_pages(const struct walk *w, const struct block *block, uint8_t kind)
{
    uint64_t count = 0;

    for (uint64_t page = 0; page < block->pages; page++)
        count += w->kinds[page] == kind;
    return count;
}

/* --- what is done --- */

/* Space is given back by commits: often enough that a kill loses little. */
static int
settle(struct walk *w, uint64_t bytes, struct vhdx_error *err)
{
    w->freed += bytes;
    if (w->blocks->job->only_count || w->freed < 16 * vx_compact_batch(w->blocks->job))
        return VHDX_OK;
    w->freed = 0;
    return vx_image_flush(w->blocks->image, err);
}

static int
give_up_block(struct walk *w, const struct block *block, enum vx_discard_intent intent, struct vhdx_error *err)
{
    struct vhdx_compact_result *result = w->blocks->result;
    int                         rc = VHDX_OK;

    if (!w->blocks->job->only_count)
        rc = vx_image_discard_blocks(w->blocks->image, block->index, block->index + 1, intent, err);
    if (rc < 0)
        return rc;
    result->blocks_freed++;
    result->bytes_released += (count_pages(w, block, PAGE_DATA) + count_pages(w, block, PAGE_GOES)) * PAGE;
    return settle(w, w->geometry->block_size, err);
}

static int
punch_pages(struct walk *w, const struct block *block, struct vhdx_error *err)
{
    uint64_t n;
    int      rc = VHDX_OK;

    for (uint64_t page = 0; page < block->pages && rc == VHDX_OK; page += n > 0 ? n : 1) {
        n = run_of(w, page, block->pages, PAGE_GOES);
        if (n == 0)
            continue;
        if (!w->blocks->job->only_count)
            rc = vx_image_punch(w->blocks->image, block->guest_offset + page * PAGE,
                                vx_min_u64(n * PAGE, block->length - page * PAGE), err);
        if (rc == VHDX_OK)
            w->blocks->result->bytes_released += n * PAGE;
    }
    return rc;
}

/* What a fixed image has set aside and never written reads as zeros, as a hole does; the host tells them apart, we cannot. */
static int
release_unwritten(struct walk *w, const struct block *block, struct vhdx_error *err)
{
    uint64_t n;
    int      rc = VHDX_OK;

    for (uint64_t page = 0; page < block->pages && rc == VHDX_OK; page += n > 0 ? n : 1) {
        n = run_of(w, page, block->pages, PAGE_HOLE);
        if (n > 0)
            rc = vx_storage_zero(vx_image_storage(w->blocks->image), block->entry.file_offset + page * PAGE, n * PAGE,
                                 VHDX_ZERO_ONLY_FAST, err);
    }
    return rc;
}

/* Z3, all bits set: one byte of the entry changes. */
static int
promote(struct walk *w, struct block *block, struct vhdx_error *err)
{
    uint8_t        raw[8];
    struct vx_edit edit = { .length = sizeof raw, .bytes = raw };

    block->entry.state = VX_BLOCK_FULLY_PRESENT;
    if (w->blocks->job->only_count)
        return VHDX_OK;
    vx_put_le64(raw, vx_bat_entry_encode(block->entry.state, block->entry.file_offset));
    edit.file_offset = w->bat_offset + 8 * vx_geometry_payload_bat_index(w->geometry, block->index);
    return vx_image_edit(w->blocks->image, &edit, 1, err);
}

/* --- decisions --- */

/* The pages that may go, and whether the whole block does (Z2). */
static int
judge_pages(struct walk *w, const struct block *block, bool *goes, struct vhdx_error *err)
{
    const struct vx_compact *job = w->blocks->job;
    int                      rc = VHDX_OK;

    *goes = w->blocks->takes_free && vx_free_list_covers(job->free, block->guest_offset, block->guest_offset + block->length);
    if (w->blocks->takes_free)
        give_up_free_pages(w, block);
    if (!*goes && w->blocks->tidies && job->zeroes)
        rc = give_up_zero_pages(w, block, err);
    if (block->entry.state == VX_BLOCK_FULLY_PRESENT && count_pages(w, block, PAGE_DATA) == 0)
        *goes = true;
    *goes = *goes && !w->geometry->is_fixed; /* Z4 */
    return rc;
}

/* A block in state 6 or 7.  *keeps: its space. */
static int
take_present(struct walk *w, struct block *block, bool *keeps, struct vhdx_error *err)
{
    bool is_partial = block->entry.state == VX_BLOCK_PARTIALLY_PRESENT, goes = false;
    int  rc = VHDX_OK;

    *keeps = true;
    if (!is_partial && !w->blocks->takes_free && !w->blocks->job->zeroes)
        return VHDX_OK; /* nothing is asked about it: its page in the BAT is all that is read */
    rc = look_at_block(w, block, err);
    if (rc < 0)
        return rc;
    if (is_partial && w->blocks->tidies && !block->is_seen) {
        *keeps = false;
        return give_up_block(w, block, VX_DISCARD_TRANSPARENT, err);
    }
    if (is_partial && w->blocks->tidies && !block->asks_parent)
        rc = promote(w, block, err);
    if (rc == VHDX_OK)
        rc = judge_pages(w, block, &goes, err);
    if (rc < 0)
        return rc;
    *keeps = !goes;
    if (goes)
        return give_up_block(w, block, VX_DISCARD_ZERO, err);
    if (w->makes_holes)
        rc = punch_pages(w, block, err);
    if (rc == VHDX_OK && w->makes_holes && w->geometry->is_fixed && !w->blocks->job->only_count)
        rc = release_unwritten(w, block, err);
    return rc;
}

static int
take_block(struct walk *w, const struct vx_map_item *item, struct vhdx_error *err)
{
    struct block block = {
        .index = item->index, .guest_offset = item->index << w->geometry->block_shift, .entry = item->entry,
        .length = vx_geometry_block_length(w->geometry, item->index),
    };
    bool keeps = item->entry.file_offset != 0;
    int  rc = VHDX_OK;

    block.pages = vx_ceil_div(block.length, PAGE);
    if (item->entry.state >= VX_BLOCK_FULLY_PRESENT) {
        rc = take_present(w, &block, &keeps, err);
    } else if (keeps && w->blocks->tidies && !w->geometry->is_fixed) { /* an anchor */
        if (!w->blocks->job->only_count)
            rc = vx_image_discard_blocks(w->blocks->image, block.index, block.index + 1, VX_DISCARD_DROP_ANCHOR, err);
        keeps = false;
    }
    if (keeps && block.entry.state == VX_BLOCK_PARTIALLY_PRESENT)
        w->partial_chunk = vx_geometry_chunk_of(w->geometry, block.index);
    if (rc == VHDX_OK && keeps && w->blocks->kept != NULL)
        rc = vx_plan_mark(w->blocks->kept, item->entry.file_offset, w->geometry->block_size, err);
    return rc;
}

/* Its blocks came before it. */
static int
take_bitmap(struct walk *w, const struct vx_map_item *item, struct vhdx_error *err)
{
    bool is_needed = w->partial_chunk == item->index, is_freed;

    if (item->entry.file_offset == 0)
        return VHDX_OK;
    if (!is_needed && w->blocks->tidies && !w->blocks->job->only_count)
        return vx_image_drop_bitmap(w->blocks->image, item->index, &is_freed, err);
    if (w->blocks->kept != NULL && (is_needed || !w->blocks->tidies))
        return vx_plan_mark(w->blocks->kept, item->entry.file_offset, VX_SECTOR_BITMAP_SIZE, err);
    return VHDX_OK;
}

static int
take_item(void *context, const struct vx_map_item *item, struct vhdx_error *err)
{
    struct walk *w = context;
    int          rc = item->is_bitmap ? take_bitmap(w, item, err) : take_block(w, item, err);

    if (rc < 0 || item->is_bitmap)
        return rc;
    return vx_job_report(w->blocks->job->progress, item->index << w->geometry->block_shift, w->geometry->virtual_size,
                         err);
}

int
vx_compact_blocks(const struct vx_compact_blocks *blocks, struct vhdx_error *err)
{
    const struct vx_geometry *g = vx_image_geometry(blocks->image);
    struct walk               w = { .blocks = blocks, .geometry = g, .partial_chunk = UINT64_MAX };
    struct vhdx_info          info;
    int                       rc = VHDX_OK;

    vx_image_fill_info(blocks->image, &info);
    w.bat_offset = info.bat_offset;
    w.makes_holes = blocks->job->storage->traits.can_punch && (!g->is_fixed || blocks->job->sparse);
    w.kinds = vx_alloc(g->block_size / PAGE);
    w.buffer = vx_alloc(BUFFER_SIZE);
    if (w.kinds == NULL || w.buffer == NULL)
        rc = vx_fail_memory(err, "looking at blocks");
    if (rc == VHDX_OK)
        rc = vx_image_each_entry(blocks->image, take_item, &w, err);
    vx_free(w.kinds);
    vx_free(w.buffer);
    return rc;
}
