/*
 * Changing logged structures by bytes: metadata items and table, region tables.  All edits of a call are made in one
 * moment under META, so that one gather takes them all and one log entry carries them (L6).
 */
#include <string.h>

#include "base/error.h"
#include "image/internal.h"

/* The pages an edit touches: [first, end) in units of pages. */
static uint64_t
first_page(const struct vx_edit *edit)
{
    return edit->file_offset / VX_PAGE;
}

static uint64_t
end_page(const struct vx_edit *edit)
{
    return vx_ceil_div(edit->file_offset + edit->length, VX_PAGE);
}

static int
prepare_all(struct vx_image *image, const struct vx_edit *edits, size_t edit_count, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (size_t i = 0; i < edit_count; i++) {
        for (uint64_t page = first_page(&edits[i]); page < end_page(&edits[i]) && rc == VHDX_OK; page++)
            rc = vx_map_prepare(image, page * VX_PAGE, err);
    }
    return rc;
}

/* All pages in memory, so that nothing can fail once the first byte is changed.  There are at most room.limit, and the
 * cache holds four times as many. */
static int
load_all_locked(struct vx_image *image, const struct vx_edit *edits, size_t edit_count, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    struct vx_page *loaded;
    int             rc = VHDX_OK;

    for (size_t i = 0; i < edit_count; i++) {
        for (uint64_t page = first_page(&edits[i]); page < end_page(&edits[i]) && rc == VHDX_OK; page++)
            rc = vx_pages_load(&image->pages, image->view, page * VX_PAGE, &loaded, err);
    }
    return rc;
}

static int
edit_page_locked(struct vx_image *image, const struct vx_edit *edit, uint64_t page_index, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    uint64_t        from = vx_max_u64(edit->file_offset, page_index * VX_PAGE);
    uint64_t        to = vx_min_u64(edit->file_offset + edit->length, (page_index + 1) * VX_PAGE);
    const uint8_t  *bytes = (const uint8_t *)edit->bytes + (from - edit->file_offset);
    struct vx_page *page;
    int             rc = vx_pages_load(&image->pages, image->view, page_index * VX_PAGE, &page, err);

    if (rc < 0 || memcmp(page->bytes + from % VX_PAGE, bytes, (size_t)(to - from)) == 0)
        return rc;
    memcpy(page->bytes + from % VX_PAGE, bytes, (size_t)(to - from));
    vx_map_page_edited_locked(image, page);
    return VHDX_OK;
}

static int
edit_all_locked(struct vx_image *image, const struct vx_edit *edits, size_t edit_count, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    int rc = vx_image_may_write(image, err);

    if (rc == VHDX_OK)
        rc = load_all_locked(image, edits, edit_count, err);
    for (size_t i = 0; i < edit_count; i++) {
        for (uint64_t page = first_page(&edits[i]); page < end_page(&edits[i]) && rc == VHDX_OK; page++)
            rc = edit_page_locked(image, &edits[i], page, err);
    }
    if (rc == VHDX_OK && !VX_BROKEN(ONE_FLUSH_ON_USED))
        image->needs_two_flushes = true; /* whatever was written in place before is durable before this shows it */
    return rc;
}

int
vx_image_edit(struct vx_image *image, const struct vx_edit *edits, size_t edit_count, struct vhdx_error *err)
{
    size_t page_count = 0;
    int    rc = vx_session_begin(image, err);

    for (size_t i = 0; i < edit_count; i++)
        page_count += (size_t)(end_page(&edits[i]) - first_page(&edits[i]));
    if (rc == VHDX_OK)
        rc = vx_room_reserve(image, page_count, err);
    if (rc < 0)
        return rc;
    rc = prepare_all(image, edits, edit_count, err);
    if (rc == VHDX_OK) {
        vx_rwlock_lock(&image->meta_lock);
        rc = edit_all_locked(image, edits, edit_count, err);
        vx_rwlock_unlock(&image->meta_lock);
    }
    vx_room_release(image, page_count);
    return rc;
}

int
vx_image_read_structure(struct vx_image *image, void *buffer, size_t length, uint64_t file_offset,
                        struct vhdx_error *err)
{
    uint8_t *out = buffer;
    int      rc = VHDX_OK;

    vx_rwlock_lock(&image->meta_lock);
    while (length > 0 && rc == VHDX_OK) {
        size_t          n = (size_t)vx_min_u64(length, VX_PAGE - file_offset % VX_PAGE);
        struct vx_page *page;

        rc = vx_pages_load(&image->pages, image->view, vx_round_down(file_offset, VX_PAGE), &page, err);
        if (rc == VHDX_OK)
            memcpy(out, page->bytes + file_offset % VX_PAGE, n);
        out += n;
        file_offset += n;
        length -= n;
    }
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}
