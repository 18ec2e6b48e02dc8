/*
 * What is inside an open image.  Fields are grouped by the lock that guards them, and the locks stand in the order they
 * may be taken: BLOCK, SESSION, COMMIT, META, ROOM (docs/concurrency.md).
 */
#ifndef VX_IMAGE_INTERNAL_H
#define VX_IMAGE_INTERNAL_H

#include <stdatomic.h>

#include "base/breakage.h"
#include "base/lock.h"
#include "format/bat.h"
#include "image/block_locks.h"
#include "image/image.h"
#include "image/log.h"
#include "image/pages.h"
#include "image/space.h"
#include "storage/storage.h"

/* How many page edits may wait for the next commit (L14).  An edit is reserved before its payload is written. */
struct vx_room {
    struct vx_mutex     lock; /* rank ROOM, the last */
    struct vx_condition changed;
    size_t              limit;    /* pages one entry may carry */
    size_t              reserved; /* pages promised to writers that have not published yet */
    size_t              dirty;    /* pages edited since the last gather */
};

struct vx_image {
    /* Set by open, never changed: read freely. */
    struct vhdx_storage      *storage; /* the file; borrowed */
    struct vhdx_storage      *view;    /* what is read: `storage`, or the replayed overlay over it (then owned) */
    bool                      is_writable;
    bool                      is_dirty;        /* the log had entries to replay at open */
    bool                      log_was_ignored;
    uint64_t                  log_entry_count; /* of the entries to replay; the numbers of the first and the last of them */
    uint64_t                  log_first_number, log_last_number;
    enum vx_data_guid         data_guid;       /* what the first modification does to DataWriteGuid */
    struct vhdx_guid          given_data_guid;
    struct vx_geometry        geometry;
    struct vx_metadata        metadata;
    struct vx_locator         locator;
    uint8_t                  *locator_item; /* owned; NULL without a parent */
    uint32_t                  locator_length;
    struct vx_regions         regions;
    struct vx_reserved_range *reserved; /* owned */
    size_t                    reserved_count;
    struct vx_findings        findings;
    int                       broken_region_copy; /* V56: 0 or 1 is to be rewritten through the log; -1: none */
    struct vx_below           below;
    char                      creator[256 * 3 + 1];

    atomic_bool               has_failed;     /* FAILED: nothing is written any more */
    atomic_bool               has_begun;      /* the session's first modification is done */
    _Atomic(uint64_t)         writes_done;    /* payload writes and zeroings so far: does a flush have anything to do? */

    struct vx_block_locks     block_locks;    /* rank BLOCK: guest ranges in flight */

    struct vx_mutex           session_lock;   /* rank SESSION: guards these three */
    struct vx_header          header;
    int                       header_index; /* the current copy */
    bool                      has_new_file_write_guid;

    struct vx_mutex           commit_lock;    /* rank COMMIT: guards the next four: who commits and who waits */
    struct vx_condition       commit_changed;
    bool                      commit_runs;
    uint64_t                  flushes_asked;
    uint64_t                  flushes_answered;

    struct vx_log             log;            /* touched by the running commit alone */
    uint64_t                  writes_flushed; /* by the running commit alone, as are the buffers of one commit: */
    struct vx_page          **commit_pages;   /* room.limit of each; owned */
    struct vx_log_page       *commit_copies;
    uint8_t                  *commit_bytes;

    struct vx_rwlock          meta_lock;      /* rank META: guards all below */
    struct vx_pages           pages;
    struct vx_space           space;
    bool                      needs_two_flushes; /* R3, since the last gather */

    struct vx_room            room;           /* rank ROOM */
};

/* --- session.c: headers, first modification, log start, close --- */

/* W1: before the first changed byte.  Cheap when it was done before. */
int vx_session_begin(struct vx_image *image, struct vhdx_error *err);
/* First use of the log (5.4 step 5).  By the running commit. */
int vx_session_start_log(struct vx_image *image, struct vhdx_error *err);
int vx_session_end(struct vx_image *image, struct vhdx_error *err);
/* Are there sequence numbers left for a whole session (V24)? */
int vx_session_check_numbers(struct vx_image *image, struct vhdx_error *err) VX_REQUIRES(image->session_lock);
/* Header update H1 to H4: two copies, a flush after each. */
int vx_session_put_headers(struct vx_image *image, const struct vx_header *next, struct vhdx_error *err)
    VX_REQUIRES(image->session_lock);
/* H6: the current copy rewritten as it was read.  The caller flushes. */
int vx_session_rewrite_header(struct vx_image *image, struct vhdx_error *err) VX_REQUIRES(image->session_lock);

/* The image takes no more writes: `rc` is passed on. */
int vx_image_fail(struct vx_image *image, int rc);
/* 0, or VHDX_E_FAILED / VHDX_E_READ_ONLY. */
int vx_image_may_write(struct vx_image *image, struct vhdx_error *err);

/* --- replay.c --- */
struct vx_log_scan;
int vx_replay_write(struct vx_image *image, const struct vx_log_scan *scan, uint64_t file_length,
                    struct vhdx_error *err);

/* --- space_build.c --- */
int vx_space_build(struct vx_image *image, struct vhdx_error *err);

/* --- commit.c --- */
int  vx_room_reserve(struct vx_image *image, size_t page_count, struct vhdx_error *err);
void vx_room_release(struct vx_image *image, size_t page_count);
int  vx_commit(struct vx_image *image, struct vhdx_error *err);

/* --- block_map.c --- */
struct vx_bat_limits vx_map_limits_locked(struct vx_image *image) VX_REQUIRES_SHARED(image->meta_lock);
/* The judged entry of a block, or of a chunk's sector bitmap.  A code when the entry is unusable (V131 to V144). */
int vx_map_get(struct vx_image *image, uint64_t block_index, struct vx_bat_entry *out, struct vhdx_error *err);
int vx_map_get_locked(struct vx_image *image, uint64_t block_index, struct vx_bat_entry *out, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock);
int vx_map_get_bitmap_locked(struct vx_image *image, uint64_t chunk_index, struct vx_bat_entry *out,
                             struct vhdx_error *err) VX_REQUIRES(image->meta_lock);
/* Load the page that holds a BAT entry (or a bitmap byte) for editing and take host space for it, so that applying it
 * cannot fail for want of room. */
int vx_map_prepare(struct vx_image *image, uint64_t file_offset, struct vhdx_error *err);
/* The page's bytes were changed; it was reserved. */
void vx_map_page_edited_locked(struct vx_image *image, struct vx_page *page) VX_REQUIRES(image->meta_lock);
/* Edit an entry; its page was reserved. */
int vx_map_set_locked(struct vx_image *image, uint64_t bat_index, uint8_t state, uint64_t file_offset,
                      struct vhdx_error *err) VX_REQUIRES(image->meta_lock);
uint64_t vx_map_entry_offset(const struct vx_image *image, uint64_t bat_index);

/* --- bitmap.c --- */
/* Length of the run of sectors from guest_offset (sector-aligned down) that are alike, at most `length` bytes and never
 * past the block.  VX_MAP_MISSING with *missing set when a page must be loaded first. */
int vx_bitmap_run(struct vx_image *image, uint64_t guest_offset, uint64_t length, uint64_t bitmap_offset,
                  bool *is_present, uint64_t *run_length, uint64_t *missing) VX_REQUIRES_SHARED(image->meta_lock);
/* Pages of metadata that a partial write to the block may touch. */
size_t vx_bitmap_page_count(const struct vx_image *image);
int vx_bitmap_set_locked(struct vx_image *image, uint64_t bitmap_offset, uint64_t guest_offset, uint64_t length,
                         bool clear_slice, bool *is_full, struct vhdx_error *err) VX_REQUIRES(image->meta_lock);
#define VX_MAP_MISSING 1

/* --- write.c --- */
/* Payload in place; counts for the next flush. */
int vx_write_payload(struct vx_image *image, const void *buffer, size_t length, uint64_t file_offset,
                     struct vhdx_error *err);
/* Make unreferenced space read as zeros, by a hole where possible (R5). */
int vx_fill_zeros(struct vx_image *image, uint64_t file_offset, uint64_t length, struct vhdx_error *err);

#endif
