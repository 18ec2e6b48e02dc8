/*
 * The map of used space, built by every writable open before anything is edited: the BAT is read once, by its data
 * extents, so that an empty table of 512 MiB costs nothing.  Proves V135 and V137 on the way.
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "image/internal.h"

#define WINDOW_SIZE ((size_t)256 * 1024)
#define NO_BLOCK    UINT64_MAX

/* The two passes over the BAT: blocks and bitmaps first, then anchors, which give way (V139). */
struct builder {
    struct vx_image *image;
    uint8_t         *window; /* WINDOW_SIZE bytes */
    bool             marks_anchors;
    bool             has_anchors;
    uint64_t         waiting_block; /* the first of its chunk in state 7: the chunk's bitmap must follow; or NO_BLOCK */
};

static void
report_overlap(struct vx_image *image, uint64_t bat_index, uint64_t file_offset, bool is_anchor)
    VX_REQUIRES(image->meta_lock)
{
    vx_find(&image->findings, is_anchor ? VHDX_SEVERITY_REPAIR : VHDX_SEVERITY_RO, is_anchor ? 139 : 135,
            VHDX_E_BAD_BAT, VHDX_PART_BAT, vx_map_entry_offset(image, bat_index),
            "BAT entry %" PRIu64 ": %s at file offset 0x%" PRIx64 " overlaps another extent (%s)", bat_index,
            is_anchor ? "the anchor" : "the extent", file_offset, is_anchor ? "V139" : "V135, V137");
}

/* The judged entry of a payload block or bitmap; file_offset 0 when it holds nothing. */
static struct vx_bat_entry
judged_entry(struct vx_image *image, uint64_t index, bool is_payload, uint64_t raw,
             const struct vx_bat_limits *limits) VX_REQUIRES(image->meta_lock)
{
    struct vx_bat_entry entry;
    int                 rc;

    if (is_payload && vx_bat_payload_is_clean(raw, index, limits))
        return vx_bat_entry_decode(raw);
    if (is_payload)
        rc = vx_bat_judge_payload(&entry, raw, index, limits, &image->findings);
    else
        rc = vx_bat_judge_bitmap(&entry, raw, index, limits, &image->findings);
    if (rc < 0) /* a damaged entry is a finding, not an error of this pass */
        entry = (struct vx_bat_entry){ .state = VX_BLOCK_NOT_PRESENT };
    return entry;
}

/* V143: the chunk is over, or its bitmap entry says that there is none. */
static void
report_missing_bitmap(struct builder *b) VX_REQUIRES(b->image->meta_lock)
{
    const struct vx_geometry *g = &b->image->geometry;

    vx_find(&b->image->findings, VHDX_SEVERITY_BLOCK, 143, VHDX_E_BAD_BITMAP, VHDX_PART_BAT,
            vx_map_entry_offset(b->image, vx_geometry_payload_bat_index(g, b->waiting_block)),
            "block %" PRIu64 " is partially present and its sector bitmap is missing (V143)", b->waiting_block);
    b->waiting_block = NO_BLOCK;
}

/* A chunk's bitmap entry comes after those of its blocks, and entries of 0 are never seen. */
static void
match_bitmap(struct builder *b, uint64_t index, bool is_payload, const struct vx_bat_entry *entry)
    VX_REQUIRES(b->image->meta_lock)
{
    const struct vx_geometry *g = &b->image->geometry;
    uint64_t                  chunk = is_payload ? vx_geometry_chunk_of(g, index) : index;

    if (b->waiting_block != NO_BLOCK && vx_geometry_chunk_of(g, b->waiting_block) != chunk)
        report_missing_bitmap(b);
    if (is_payload && entry->state == VX_BLOCK_PARTIALLY_PRESENT && b->waiting_block == NO_BLOCK)
        b->waiting_block = index;
    if (!is_payload && entry->state == VX_BLOCK_FULLY_PRESENT)
        b->waiting_block = NO_BLOCK;
}

static int
mark_entry(struct builder *b, uint64_t bat_index, uint64_t raw, const struct vx_bat_limits *limits,
           struct vhdx_error *err) VX_REQUIRES(b->image->meta_lock)
{
    const struct vx_geometry *g = &b->image->geometry;
    struct vx_bat_entry       entry;
    uint64_t                  index;
    bool                      is_payload = vx_geometry_is_payload_entry(g, bat_index, &index);
    bool                      is_anchor;
    int                       rc;

    if (is_payload && index >= g->payload_block_count)
        return VHDX_OK; /* padding */
    entry = judged_entry(b->image, index, is_payload, raw, limits);
    if (!b->marks_anchors)
        match_bitmap(b, index, is_payload, &entry);
    is_anchor = entry.state < VX_BLOCK_FULLY_PRESENT;
    if (entry.file_offset == 0)
        return VHDX_OK;
    b->has_anchors |= is_anchor;
    if (is_anchor != b->marks_anchors)
        return VHDX_OK;
    if (!vx_space_mark_found(&b->image->space, entry.file_offset, is_payload ? g->block_size : VX_SECTOR_BITMAP_SIZE,
                             &rc, err) && rc == VHDX_OK)
        report_overlap(b->image, bat_index, entry.file_offset, is_anchor);
    return rc;
}

static int
mark_reserved(struct vx_image *image, struct vhdx_error *err) VX_REQUIRES(image->meta_lock)
{
    int rc = VHDX_OK;

    for (size_t i = 0; i < image->reserved_count && rc == VHDX_OK; i++)
        (void)vx_space_mark_found(&image->space, image->reserved[i].file_offset, image->reserved[i].length, &rc, err);
    return rc;
}

/* Entries that lie in [start, end) of the file. */
static int
mark_entries(struct builder *b, uint64_t start, uint64_t end, struct vhdx_error *err)
    VX_REQUIRES(b->image->meta_lock)
{
    uint64_t             bat = b->image->regions.bat.file_offset;
    struct vx_bat_limits limits = vx_map_limits_locked(b->image);

    while (start < end) {
        size_t n = (size_t)vx_min_u64(WINDOW_SIZE, end - start), got;
        int    rc = vx_storage_read_prefix(b->image->view, b->window, n, start, &got, err);

        for (size_t i = 0; i < n && rc == VHDX_OK; i += 8) {
            uint64_t raw = vx_le64(b->window + i);

            if (raw != 0)
                rc = mark_entry(b, (start + i - bat) / 8, raw, &limits, err);
        }
        if (rc < 0)
            return rc;
        start += n;
    }
    return VHDX_OK;
}

/* The BAT by its data extents. */
static int
mark_bat(struct builder *b, struct vhdx_error *err) VX_REQUIRES(b->image->meta_lock)
{
    uint64_t at = b->image->regions.bat.file_offset;
    uint64_t bat_end = at + b->image->geometry.bat_entry_count * 8;
    int      rc = VHDX_OK;

    while (rc == VHDX_OK && at < bat_end) {
        uint64_t start, end;

        rc = vx_storage_next_data(b->image->view, at, &start, &end, err);
        if (rc < 0 || start >= bat_end || start == end)
            break;
        start = vx_max_u64(at, vx_round_down(start, 8));
        at = vx_min_u64(vx_round_up(end, 8), bat_end);
        rc = mark_entries(b, start, at, err);
    }
    return rc;
}

static int
build_locked(struct builder *b, struct vhdx_error *err) VX_REQUIRES(b->image->meta_lock)
{
    int rc = mark_reserved(b->image, err);

    if (rc == VHDX_OK)
        rc = mark_bat(b, err);
    if (rc == VHDX_OK && b->waiting_block != NO_BLOCK)
        report_missing_bitmap(b);
    if (rc == VHDX_OK && b->has_anchors) {
        b->marks_anchors = true;
        rc = mark_bat(b, err);
    }
    return rc;
}

int
vx_space_build(struct vx_image *image, struct vhdx_error *err)
{
    struct builder b = { .image = image, .window = vx_alloc(WINDOW_SIZE), .waiting_block = NO_BLOCK };
    int            rc;

    if (b.window == NULL)
        return vx_fail_memory(err, "reading the BAT");
    vx_rwlock_lock(&b.image->meta_lock);
    rc = build_locked(&b, err);
    vx_rwlock_unlock(&b.image->meta_lock);
    vx_free(b.window);
    return rc;
}
