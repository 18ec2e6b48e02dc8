/*
 * The pages of BAT and sector bitmaps that are held in memory: a bounded cache of 4 KiB pages, by file offset.
 *
 *   P1  A page is authoritative in memory from its first edit until it was applied (L10): it is neither evicted nor read
 *       again nor written in place before that.
 *   P2  An edited page is `dirty` until a commit gathers it, then `committing` until its copy is written in place.  It may
 *       be both.
 *
 * Guarded by META: finding under the shared lock, everything else under the exclusive one.  A page that is missing is read
 * while META is held: one page maps 512 blocks, so this is rare enough to keep simple.
 */
#ifndef VX_PAGES_H
#define VX_PAGES_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/storage.h>

#include "base/checked.h"

struct vx_page {
    uint64_t        file_offset;
    struct vx_page *next_in_bucket;
    bool            is_used;
    bool            is_dirty;
    bool            is_committing;
    bool            is_allocated; /* the host has space for it: applying cannot fail with ENOSPC */
    atomic_bool     is_recent;    /* clock bit, set by readers under the shared lock */
    uint8_t         bytes[VX_PAGE];
};

struct vx_pages {
    struct vx_page  *slots; /* `capacity` of them; untouched ones take no memory */
    struct vx_page **buckets;
    size_t           capacity, bucket_mask, used_count, clock_hand;
    struct vx_page **dirty; /* the dirty ones, dirty_count of dirty_capacity */
    size_t           dirty_count, dirty_capacity;
};

#define VX_PAGES_MINIMUM 64u

/* dirty_limit: how many may be dirty at once; the cache holds at least four times as many. */
int  vx_pages_init(struct vx_pages *pages, uint64_t cache_bytes, size_t dirty_limit, struct vhdx_error *err);
void vx_pages_destroy(struct vx_pages *pages);

/* The page at a file offset (a multiple of 4096), or NULL when it is not in memory. */
struct vx_page *vx_pages_find(const struct vx_pages *pages, uint64_t file_offset);

/* Find it or read it from `from`; past the end of the file it is zeros. */
int vx_pages_load(struct vx_pages *pages, struct vhdx_storage *from, uint64_t file_offset, struct vx_page **out,
                  struct vhdx_error *err);

/* The page was edited.  False when it was dirty before. */
bool vx_pages_make_dirty(struct vx_pages *pages, struct vx_page *page);

/* Take all dirty pages: they become committing and clean (P2).  `out` has room for dirty_limit.  Returns how many. */
size_t vx_pages_gather(struct vx_pages *pages, struct vx_page **out);

/* Forget clean pages of a range whose space gets a new life. */
void vx_pages_forget(struct vx_pages *pages, uint64_t file_offset, uint64_t length);

#endif
