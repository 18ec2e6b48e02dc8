/*
 * The block map: BAT entries through the metadata pages, and what they say about a guest range.
 *
 *   M1  An entry is judged whenever it is read (V131 to V144): a damaged one fails the reads of its block, no other.
 *   M2  Lookups of pages in memory take META shared.  A missing page is read under META exclusive.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "format/block_state.h"
#include "image/internal.h"

struct vx_bat_limits
vx_map_limits_locked(struct vx_image *image)
{
    return (struct vx_bat_limits){
        .geometry = &image->geometry,
        .file_length = image->space.file_length,
        .reserved = image->reserved,
        .reserved_count = image->reserved_count,
        .bat_file_offset = image->regions.bat.file_offset,
    };
}

uint64_t
vx_map_entry_offset(const struct vx_image *image, uint64_t bat_index)
{
    return image->regions.bat.file_offset + bat_index * 8;
}

/* --- entries --- */

/* The raw entry when its page is in memory. */
static bool
peek(struct vx_image *image, uint64_t bat_index, uint64_t *raw) VX_REQUIRES_SHARED(image->meta_lock)
{
    uint64_t        at = vx_map_entry_offset(image, bat_index);
    struct vx_page *page = vx_pages_find(&image->pages, vx_round_down(at, VX_PAGE));

    if (page == NULL)
        return false;
    *raw = vx_le64(page->bytes + at % VX_PAGE);
    return true;
}

static int
judge(struct vx_image *image, uint64_t block_index, uint64_t raw, struct vx_bat_entry *out, struct vhdx_error *err)
    VX_REQUIRES_SHARED(image->meta_lock)
{
    struct vx_bat_limits limits = vx_map_limits_locked(image);
    struct vx_findings   findings;
    int                  rc;

    if (vx_bat_payload_is_clean(raw, block_index, &limits)) {
        *out = vx_bat_entry_decode(raw);
        return VHDX_OK;
    }
    vx_findings_init(&findings, NULL, NULL);
    rc = vx_bat_judge_payload(out, raw, block_index, &limits, &findings);
    if (rc < 0 && err != NULL)
        *err = findings.worst;
    return rc;
}

static int
load_page(struct vx_image *image, uint64_t file_offset, struct vx_page **page, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    return vx_pages_load(&image->pages, image->view, vx_round_down(file_offset, VX_PAGE), page, err);
}

int
vx_map_get_locked(struct vx_image *image, uint64_t block_index, struct vx_bat_entry *out, struct vhdx_error *err)
{
    uint64_t        at = vx_map_entry_offset(image, vx_geometry_payload_bat_index(&image->geometry, block_index));
    struct vx_page *page;
    int             rc = load_page(image, at, &page, err);

    if (rc < 0)
        return rc;
    return judge(image, block_index, vx_le64(page->bytes + at % VX_PAGE), out, err);
}

int
vx_map_get(struct vx_image *image, uint64_t block_index, struct vx_bat_entry *out, struct vhdx_error *err)
{
    uint64_t raw;
    int      rc = VX_MAP_MISSING;

    vx_rwlock_lock_shared(&image->meta_lock);
    if (peek(image, vx_geometry_payload_bat_index(&image->geometry, block_index), &raw))
        rc = judge(image, block_index, raw, out, err);
    vx_rwlock_unlock_shared(&image->meta_lock);
    if (rc != VX_MAP_MISSING)
        return rc;

    vx_rwlock_lock(&image->meta_lock);
    rc = vx_map_get_locked(image, block_index, out, err);
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

static int
judge_bitmap(struct vx_image *image, uint64_t chunk_index, uint64_t raw, struct vx_bat_entry *out,
             struct vhdx_error *err) VX_REQUIRES_SHARED(image->meta_lock)
{
    struct vx_bat_limits limits = vx_map_limits_locked(image);
    struct vx_findings   findings;
    int                  rc;

    vx_findings_init(&findings, NULL, NULL);
    rc = vx_bat_judge_bitmap(out, raw, chunk_index, &limits, &findings);
    if (rc < 0 && err != NULL)
        *err = findings.worst;
    return rc;
}

int
vx_map_get_bitmap_locked(struct vx_image *image, uint64_t chunk_index, struct vx_bat_entry *out,
                         struct vhdx_error *err)
{
    uint64_t        at = vx_map_entry_offset(image, vx_geometry_bitmap_bat_index(&image->geometry, chunk_index));
    struct vx_page *page;
    int             rc = load_page(image, at, &page, err);

    if (rc < 0)
        return rc;
    return judge_bitmap(image, chunk_index, vx_le64(page->bytes + at % VX_PAGE), out, err);
}

int
vx_map_prepare(struct vx_image *image, uint64_t file_offset, struct vhdx_error *err)
{
    struct vx_page *page;
    int             rc;

    vx_rwlock_lock(&image->meta_lock);
    rc = load_page(image, file_offset, &page, err);
    if (rc == VHDX_OK && !page->is_allocated) {
        rc = vx_storage_allocate(image->storage, page->file_offset, VX_PAGE, err);
        if (rc == VHDX_OK)
            page->is_allocated = true;
    }
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

void
vx_map_page_edited_locked(struct vx_image *image, struct vx_page *page)
{
    if (!vx_pages_make_dirty(&image->pages, page))
        return;
    vx_mutex_lock(&image->room.lock);
    image->room.dirty++;
    vx_condition_wake_all(&image->room.changed);
    vx_mutex_unlock(&image->room.lock);
}

int
vx_map_set_locked(struct vx_image *image, uint64_t bat_index, uint8_t state, uint64_t file_offset,
                  struct vhdx_error *err)
{
    uint64_t        at = vx_map_entry_offset(image, bat_index);
    struct vx_page *page;
    int             rc = load_page(image, at, &page, err);

    if (rc < 0)
        return rc;
    vx_put_le64(page->bytes + at % VX_PAGE, vx_bat_entry_encode(state, file_offset));
    vx_map_page_edited_locked(image, page);
    return VHDX_OK;
}

/* --- ranges --- */

/* How many blocks from block_index on have the same raw entry, as far as its page and its chunk go: empty stretches of
 * large disks are passed over a page at a time. */
static uint64_t
equal_run(struct vx_image *image, uint64_t block_index, uint64_t raw) VX_REQUIRES_SHARED(image->meta_lock)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t        at = vx_map_entry_offset(image, vx_geometry_payload_bat_index(g, block_index));
    struct vx_page *page = vx_pages_find(&image->pages, vx_round_down(at, VX_PAGE));
    const uint8_t  *entry = page->bytes + at % VX_PAGE;
    uint64_t        most = vx_min_u64((VX_PAGE - at % VX_PAGE) / 8, g->chunk_ratio - block_index % g->chunk_ratio);
    uint64_t        count = 1;

    while (count < most && vx_le64(entry + count * 8) == raw)
        count++;
    return count;
}

/* What the block at guest_offset says about the range, to the block's end at most; further where the next blocks hold
 * nothing either.  VX_MAP_MISSING with *missing a page to be loaded first. */
static int
resolve_in_block(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
                 uint64_t *missing, struct vhdx_error *err) VX_REQUIRES_SHARED(image->meta_lock)
{
    const struct vx_geometry *g = &image->geometry;
    uint64_t                  block_index = vx_geometry_block_of(g, guest_offset);
    uint64_t                  bat_index = vx_geometry_payload_bat_index(g, block_index);
    uint64_t                  to_block_end = g->block_size - vx_geometry_offset_in_block(g, guest_offset);
    uint64_t                  raw;
    struct vx_bat_entry       entry, bitmap;
    bool                      is_present;
    int                       rc;

    *missing = vx_map_entry_offset(image, bat_index);
    if (!peek(image, bat_index, &raw))
        return VX_MAP_MISSING;
    rc = judge(image, block_index, raw, &entry, err);
    if (rc < 0)
        return rc;

    if (raw <= VX_BLOCK_UNMAPPED && length > to_block_end)
        to_block_end += (equal_run(image, block_index, raw) - 1) * g->block_size;
    length = vx_min_u64(length, to_block_end);
    *out = (struct vx_layer_extent){ .length = length };
    switch (vx_block_read_source(entry.state, g->is_differencing)) {
    case VX_READ_ZEROS:
        out->source = entry.state == VX_BLOCK_NOT_PRESENT ? VX_LAYER_UNSET : VX_LAYER_ZERO;
        return VHDX_OK;
    case VX_READ_PARENT:
        out->source = VX_LAYER_BELOW;
        return VHDX_OK;
    case VX_READ_FILE:
        out->source = VX_LAYER_DATA;
        out->file_offset = entry.file_offset + vx_geometry_offset_in_block(g, guest_offset);
        return VHDX_OK;
    case VX_READ_BY_BITMAP:
        break;
    case VX_READ_ERROR:
        return vx_fail(err, VHDX_E_BAD_BAT, VHDX_PART_BAT, *missing, "block %" PRIu64 " has a reserved state",
                       block_index);
    }

    bat_index = vx_geometry_bitmap_bat_index(g, vx_geometry_chunk_of(g, block_index));
    *missing = vx_map_entry_offset(image, bat_index);
    if (!peek(image, bat_index, &raw))
        return VX_MAP_MISSING;
    rc = judge_bitmap(image, vx_geometry_chunk_of(g, block_index), raw, &bitmap, err);
    if (rc < 0)
        return rc;
    if (bitmap.state != VX_BLOCK_FULLY_PRESENT)
        return vx_fail(err, VHDX_E_BAD_BITMAP, VHDX_PART_BAT, *missing,
                       "block %" PRIu64 " is partially present and its sector bitmap is missing (V143)", block_index);
    rc = vx_bitmap_run(image, guest_offset, length, bitmap.file_offset, &is_present, &out->length, missing);
    if (rc != VHDX_OK)
        return rc;
    out->source = is_present ? VX_LAYER_DATA : VX_LAYER_BELOW;
    if (is_present)
        out->file_offset = entry.file_offset + vx_geometry_offset_in_block(g, guest_offset);
    return VHDX_OK;
}

static bool
continues(const struct vx_layer_extent *extent, const struct vx_layer_extent *next)
{
    return extent->source == next->source &&
           (extent->source != VX_LAYER_DATA || extent->file_offset + extent->length == next->file_offset);
}

/* The first extent, merged with what continues it as far as the pages at hand tell. */
static int
resolve_locked(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
               uint64_t *missing, struct vhdx_error *err) VX_REQUIRES_SHARED(image->meta_lock)
{
    uint64_t done = 0;

    while (done < length) {
        struct vx_layer_extent next;
        int rc = resolve_in_block(image, guest_offset + done, length - done, &next, missing, done == 0 ? err : NULL);

        if (rc != VHDX_OK)
            return done == 0 ? rc : VHDX_OK; /* a missing page or a damaged block begins the caller's next range */
        if (done == 0)
            *out = next;
        else if (continues(out, &next))
            out->length += next.length;
        else
            break;
        done += next.length;
    }
    return VHDX_OK;
}

int
vx_image_resolve(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
                 struct vhdx_error *err)
{
    struct vx_page *page;
    uint64_t        missing;
    int             rc;

    for (;;) {
        vx_rwlock_lock_shared(&image->meta_lock);
        rc = resolve_locked(image, guest_offset, length, out, &missing, err);
        vx_rwlock_unlock_shared(&image->meta_lock);
        if (rc != VX_MAP_MISSING)
            return rc;

        vx_rwlock_lock(&image->meta_lock);
        rc = load_page(image, missing, &page, err);
        vx_rwlock_unlock(&image->meta_lock);
        if (rc < 0)
            return rc;
    }
}

int
vx_image_read_payload(struct vx_image *image, void *buffer, size_t length, uint64_t file_offset,
                      struct vhdx_error *err)
{
    struct vhdx_error first;
    uint64_t          file_length;
    size_t            got;
    int               rc = vx_storage_read(image->view, buffer, length, file_offset, &first);

    if (rc == VHDX_E_TRUNCATED && vx_storage_get_size(image->view, &file_length, NULL) == VHDX_OK &&
        file_offset + length <= vx_round_up(file_length, VX_MIB)) /* 4.3: zeros up to the next MiB */
        rc = vx_storage_read_prefix(image->view, buffer, length, file_offset, &got, &first);
    if (rc < 0 && err != NULL)
        *err = first;
    return rc;
}
