/* See pages.h. */
#include "image/pages.h"

#include <assert.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

int
vx_pages_init(struct vx_pages *pages, uint64_t cache_bytes, size_t dirty_limit, struct vhdx_error *err)
{
    uint64_t capacity = vx_max_u64(cache_bytes / sizeof(struct vx_page), vx_max_u64(VX_PAGES_MINIMUM, dirty_limit * 4));
    size_t   bucket_count = 1;

    if (capacity > SIZE_MAX / sizeof(struct vx_page) / 2)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "metadata cache size is too large");
    while (bucket_count < capacity)
        bucket_count *= 2;

    *pages = (struct vx_pages){ .capacity = (size_t)capacity, .bucket_mask = bucket_count - 1,
                                .dirty_capacity = dirty_limit };
    pages->slots = vx_alloc_zeroed(pages->capacity, sizeof *pages->slots);
    pages->buckets = vx_alloc_zeroed(bucket_count, sizeof *pages->buckets);
    pages->dirty = vx_alloc_zeroed(dirty_limit + 1, sizeof *pages->dirty);
    if (pages->slots == NULL || pages->buckets == NULL || pages->dirty == NULL) {
        vx_pages_destroy(pages);
        return vx_fail_memory(err, "metadata pages");
    }
    return VHDX_OK;
}

void
vx_pages_destroy(struct vx_pages *pages)
{
    vx_free(pages->slots);
    vx_free(pages->buckets);
    vx_free(pages->dirty);
    *pages = (struct vx_pages){ 0 };
}

static struct vx_page **
bucket_of(const struct vx_pages *pages, uint64_t file_offset)
{
    uint64_t hash = (file_offset / VX_PAGE) * UINT64_C(0x9E3779B97F4A7C15);

    return &pages->buckets[(size_t)(hash >> 32) & pages->bucket_mask];
}

struct vx_page *
vx_pages_find(const struct vx_pages *pages, uint64_t file_offset)
{
    for (struct vx_page *page = *bucket_of(pages, file_offset); page != NULL; page = page->next_in_bucket) {
        if (page->file_offset != file_offset)
            continue;
        if (!atomic_load_explicit(&page->is_recent, memory_order_relaxed))
            atomic_store_explicit(&page->is_recent, true, memory_order_relaxed);
        return page;
    }
    return NULL;
}

static void
remove_page(struct vx_pages *pages, struct vx_page *page)
{
    struct vx_page **link = bucket_of(pages, page->file_offset);

    while (*link != page)
        link = &(*link)->next_in_bucket;
    *link = page->next_in_bucket;
    page->is_used = false;
    pages->used_count--;
}

/* A slot for a new page: an unused one, or that of a clean page not used lately (P1).  There always is one: dirty and
 * committing pages together fill at most half of the slots. */
static struct vx_page *
take_slot(struct vx_pages *pages)
{
    for (;;) {
        struct vx_page *page = &pages->slots[pages->clock_hand];

        pages->clock_hand = (pages->clock_hand + 1) % pages->capacity;
        if (!page->is_used)
            return page;
        if (page->is_dirty || page->is_committing)
            continue;
        if (atomic_exchange_explicit(&page->is_recent, false, memory_order_relaxed))
            continue;
        remove_page(pages, page);
        return page;
    }
}

int
vx_pages_load(struct vx_pages *pages, struct vhdx_storage *from, uint64_t file_offset, struct vx_page **out,
              struct vhdx_error *err)
{
    struct vx_page  *page = vx_pages_find(pages, file_offset);
    struct vx_page **bucket;
    size_t           got;
    int              rc;

    if (page == NULL) {
        page = take_slot(pages);
        rc = vx_storage_read_prefix(from, page->bytes, VX_PAGE, file_offset, &got, err);
        if (rc < 0)
            return rc;
        bucket = bucket_of(pages, file_offset);
        page->file_offset = file_offset;
        page->is_used = true;
        page->is_dirty = page->is_committing = false;
        page->is_allocated = !vx_is_zero(page->bytes, VX_PAGE);
        page->next_in_bucket = *bucket;
        *bucket = page;
        pages->used_count++;
        atomic_store_explicit(&page->is_recent, true, memory_order_relaxed);
    }
    *out = page;
    return VHDX_OK;
}

bool
vx_pages_make_dirty(struct vx_pages *pages, struct vx_page *page)
{
    if (page->is_dirty)
        return false;
    assert(pages->dirty_count < pages->dirty_capacity); /* L14: every edit was reserved */
    page->is_dirty = true;
    pages->dirty[pages->dirty_count++] = page;
    return true;
}

size_t
vx_pages_gather(struct vx_pages *pages, struct vx_page **out)
{
    size_t count = pages->dirty_count;

    for (size_t i = 0; i < count; i++) {
        out[i] = pages->dirty[i];
        out[i]->is_dirty = false;
        out[i]->is_committing = true;
    }
    pages->dirty_count = 0;
    return count;
}

void
vx_pages_forget(struct vx_pages *pages, uint64_t file_offset, uint64_t length)
{
    for (uint64_t at = file_offset; at < file_offset + length; at += VX_PAGE) {
        struct vx_page *page = vx_pages_find(pages, at);

        if (page != NULL && !page->is_dirty && !page->is_committing)
            remove_page(pages, page);
    }
}
