/*
 * Group commit: how what was written becomes durable, for all writers together (docs/durability.md).
 *
 *   C1  One commit runs at a time.  Its five steps: gather, flush the payload (when R3 asks for it), write the entry, flush
 *       (the commit point: waiters are answered), write the pages in place.
 *   C2  Gather is one moment under META, before the first flush (L13): the copies of all dirty pages, the one-or-two
 *       flag, the list of freed space, the lengths.  An edit made later belongs to the next commit.
 *   C3  A flush is answered by a commit that gathered after the flush was asked for, and by no other.
 *   C4  The pages in place are written from the copies, never from the live cache.
 *   C5  Room for a page edit is reserved before its payload is written; the dirty set never outgrows one entry (L14).
 *   C6  After a failure the image is FAILED: every waiter gets the error, nothing is written any more (L11).
 */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/internal.h"

/* --- room (C5) --- */

int
vx_room_reserve(struct vx_image *image, size_t page_count, struct vhdx_error *err)
{
    struct vx_room *room = &image->room;
    int             rc;

    if (page_count > room->limit)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, VHDX_NO_OFFSET,
                       "the log is too small: one change needs %zu pages and an entry holds %zu (L14)", page_count,
                       room->limit);
    vx_mutex_lock(&room->lock);
    while (room->reserved + room->dirty + page_count > room->limit) {
        if (room->dirty == 0) {
            vx_condition_wait(&room->changed, &room->lock); /* others hold it all: they publish or release soon */
            continue;
        }
        vx_mutex_unlock(&room->lock);
        rc = vx_commit(image, err);
        if (rc < 0)
            return rc;
        vx_mutex_lock(&room->lock);
    }
    room->reserved += page_count;
    vx_mutex_unlock(&room->lock);
    return VHDX_OK;
}

void
vx_room_release(struct vx_image *image, size_t page_count)
{
    vx_mutex_lock(&image->room.lock);
    image->room.reserved -= page_count;
    vx_condition_wake_all(&image->room.changed);
    vx_mutex_unlock(&image->room.lock);
}

/* --- one commit --- */

struct commit {
    uint64_t              flushes_covered; /* asked for before the gather (C3) */
    uint64_t              writes_covered;
    size_t                page_count;
    struct vx_page      **pages;           /* the live ones, to be told when they are applied */
    struct vx_log_page   *copies;          /* sorted by file offset, bytes contiguous in that order */
    uint8_t              *bytes;
    bool                  needs_two_flushes;
    struct vx_runs        freed;
    uint64_t              file_length;
    struct vx_log_lengths lengths;
};

static int
compare_pages(const void *a, const void *b)
{
    const struct vx_page *const *x = a, *const *y = b;

    return ((*x)->file_offset > (*y)->file_offset) - ((*x)->file_offset < (*y)->file_offset);
}

static void
copy_pages_locked(struct vx_image *image, struct commit *commit) VX_REQUIRES(image->meta_lock)
{
    commit->page_count = vx_pages_gather(&image->pages, commit->pages);
    qsort(commit->pages, commit->page_count, sizeof *commit->pages, compare_pages);
    for (size_t i = 0; i < commit->page_count; i++) {
        struct vx_page *page = commit->pages[i];
        uint8_t        *copy = commit->bytes + i * VX_PAGE;

        memcpy(copy, page->bytes, VX_PAGE);
        commit->copies[i] = (struct vx_log_page){ .file_offset = page->file_offset, .bytes = copy };
    }
}

/* Space of former bitmap blocks that this commit lets go: R2 counts from its entry. */
static void
stamp_freed_bitmaps_locked(struct vx_image *image) VX_REQUIRES(image->meta_lock)
{
    for (size_t i = 0; i < image->space.bitmap_count; i++) {
        if (image->space.bitmaps[i].sequence_number == 0)
            image->space.bitmaps[i].sequence_number = image->log.next_sequence_number;
    }
}

static void
gather_lengths_locked(struct vx_image *image, struct commit *commit) VX_REQUIRES(image->meta_lock)
{
    uint64_t flushed = VX_BROKEN(FLUSHED_IS_CURRENT) ? image->space.file_length : image->space.flushed_length;

    commit->file_length = image->space.file_length;
    commit->lengths.last_file_offset = image->space.used_end;
    commit->lengths.flushed_file_offset = vx_round_down(flushed, VX_MIB);
    if (!VX_BROKEN(FLUSHED_IS_CURRENT) && commit->lengths.flushed_file_offset > commit->lengths.last_file_offset)
        commit->lengths.flushed_file_offset = commit->lengths.last_file_offset;
}

/* C2: one moment.  False, and nothing taken, when there are pages to log and no log to take them: numbers and lengths are
 * asked of a log that was started. */
static bool
gather(struct vx_image *image, struct commit *commit)
{
    vx_mutex_lock(&image->commit_lock);
    commit->flushes_covered = image->flushes_asked;
    vx_mutex_unlock(&image->commit_lock);
    commit->writes_covered = atomic_load(&image->writes_done);

    vx_rwlock_lock(&image->meta_lock);
    if (image->pages.dirty_count > 0 && !image->log.is_started) {
        vx_rwlock_unlock(&image->meta_lock);
        return false;
    }
    vx_mutex_lock(&image->room.lock);
    image->room.dirty = 0;
    vx_condition_wake_all(&image->room.changed);
    vx_mutex_unlock(&image->room.lock);

    copy_pages_locked(image, commit);
    if (commit->page_count > 0) {
        commit->needs_two_flushes = image->needs_two_flushes;
        if (!VX_BROKEN(FLAG_RESET_LATE))
            image->needs_two_flushes = false;
        vx_space_gather_freed(&image->space, &commit->freed);
        stamp_freed_bitmaps_locked(image);
    }
    gather_lengths_locked(image, commit);
    vx_rwlock_unlock(&image->meta_lock);
    return true;
}

/* A flush that began when the file was `length` long; everything applied before is stable by it. */
static int
flush_storage(struct vx_image *image, uint64_t length, struct vhdx_error *err)
{
    int rc = vx_storage_flush(image->storage, err);

    if (rc < 0 && !VX_BROKEN(FLUSH_ERROR_IGNORED))
        return rc;
    vx_log_note_flush(&image->log);
    vx_rwlock_lock(&image->meta_lock);
    image->space.flushed_length = length;
    vx_rwlock_unlock(&image->meta_lock);
    return VHDX_OK;
}

static void
answer(struct vx_image *image, const struct commit *commit)
{
    vx_mutex_lock(&image->commit_lock);
    image->flushes_answered = VX_BROKEN(LATE_FOLLOWER) ? image->flushes_asked : commit->flushes_covered;
    vx_condition_wake_all(&image->commit_changed);
    vx_mutex_unlock(&image->commit_lock);
}

/* Step five (C4): pages that lie side by side go in one write. */
static int
apply_pages(struct vx_image *image, struct commit *commit, struct vhdx_error *err)
{
    int rc;

    for (size_t first = 0, end; first < commit->page_count; first = end) {
        end = first + 1;
        while (end < commit->page_count &&
               commit->copies[end].file_offset == commit->copies[end - 1].file_offset + VX_PAGE)
            end++;
        if (VX_BROKEN(APPLY_LIVE)) {
            vx_rwlock_lock(&image->meta_lock);
            for (size_t i = first; i < end; i++)
                memcpy(commit->bytes + i * VX_PAGE, commit->pages[i]->bytes, VX_PAGE);
            vx_rwlock_unlock(&image->meta_lock);
        }
        rc = vx_storage_write(image->storage, commit->copies[first].bytes, (end - first) * VX_PAGE,
                              commit->copies[first].file_offset, err);
        if (rc < 0)
            return rc;
    }

    vx_rwlock_lock(&image->meta_lock);
    for (size_t i = 0; i < commit->page_count; i++)
        commit->pages[i]->is_committing = false;
    vx_rwlock_unlock(&image->meta_lock);
    return VHDX_OK;
}

/* The commit is durable: what it freed becomes holes in the host file, then free (R1).  A punch that fails costs nothing
 * but the hole. */
static void
release_freed(struct vx_image *image, struct commit *commit)
{
    bool     were_punched = image->storage->traits.can_punch && commit->freed.count > 0;
    uint64_t bitmap_offset;

    for (size_t i = 0; were_punched && i < commit->freed.count; i++) {
        const struct vx_run *run = &commit->freed.runs[i];

        if (vx_storage_zero(image->storage, run->file_offset, run->length, VHDX_ZERO_ONLY_FAST, NULL) < 0)
            were_punched = false;
    }
    vx_rwlock_lock(&image->meta_lock);
    vx_space_release(&image->space, &commit->freed, were_punched);
    while (vx_space_next_free_bitmap(&image->space,
                                     VX_BROKEN(BITMAP_REUSE_EARLY) ? UINT64_MAX
                                                                   : image->log.durable_tail_sequence_number,
                                     &bitmap_offset)) {
        vx_pages_forget(&image->pages, bitmap_offset, VX_SECTOR_BITMAP_SIZE);
        vx_space_give_back(&image->space, bitmap_offset, VX_SECTOR_BITMAP_SIZE);
    }
    if (VX_BROKEN(REGROWN_IS_FRESH) && image->space.used_end < image->space.fresh_from &&
        vx_storage_set_size(image->storage, image->space.used_end, NULL) == VHDX_OK) {
        image->space.file_length = image->space.used_end;
        vx_space_begin(&image->space, image->space.used_end);
    }
    vx_rwlock_unlock(&image->meta_lock);
    vx_runs_destroy(&commit->freed);
}

/* Steps three and four for some of the gathered pages: the entry, then the commit point. */
static int
log_pages(struct vx_image *image, struct commit *commit, size_t first, size_t count, struct vhdx_error *err)
{
    int rc = vx_log_append(&image->log, commit->copies + first, count, &commit->lengths, err);

    if (rc < 0)
        return rc;
    if (VX_BROKEN(EARLY_ANSWER))
        answer(image, commit);
    if (VX_BROKEN(APPLY_EARLY)) {
        rc = apply_pages(image, commit, err);
        if (rc < 0)
            return rc;
    }
    rc = vx_storage_flush(image->storage, err);
    if (rc < 0 && !VX_BROKEN(FLUSH_ERROR_IGNORED))
        return rc;
    vx_log_commit_entry(&image->log);
    return VHDX_OK;
}

/* Nothing to log: what was written in place still wants one flush, if there was anything. */
static int
commit_nothing(struct vx_image *image, struct commit *commit, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (commit->writes_covered != image->writes_flushed)
        rc = flush_storage(image, commit->file_length, err);
    if (rc < 0)
        return rc;
    image->writes_flushed = commit->writes_covered;
    answer(image, commit);
    return VHDX_OK;
}

static int
commit_pages(struct vx_image *image, struct commit *commit, struct vhdx_error *err)
{
    size_t piece = VX_BROKEN(COMMIT_IN_PIECES) ? 1 : commit->page_count;
    int    rc;

    if (commit->needs_two_flushes && !VX_BROKEN(FLUSH_BEFORE_GATHER)) {
        rc = flush_storage(image, commit->file_length, err);     /* W2: payload is durable first */
        if (rc < 0)
            return rc;
        commit->lengths.flushed_file_offset =
            vx_min_u64(vx_round_down(commit->file_length, VX_MIB), commit->lengths.last_file_offset);
    }
    for (size_t first = 0; first < commit->page_count; first += piece) {
        rc = log_pages(image, commit, first, piece, err);        /* W3: then the entry */
        if (rc < 0)
            return rc;
    }
    image->writes_flushed = commit->writes_covered;
    vx_rwlock_lock(&image->meta_lock);
    image->space.flushed_length = commit->file_length;
    if (VX_BROKEN(FLAG_RESET_LATE))
        image->needs_two_flushes = false;
    vx_rwlock_unlock(&image->meta_lock);

    answer(image, commit);                                       /* the commit point was passed: waiters may go */
    rc = apply_pages(image, commit, err);
    if (rc == VHDX_OK)
        release_freed(image, commit);
    return rc;
}

/* Steps one to five. */
static int
commit_steps(struct vx_image *image, struct commit *commit, struct vhdx_error *err)
{
    int rc;

    if (VX_BROKEN(FLUSH_BEFORE_GATHER)) {
        rc = vx_storage_flush(image->storage, err);
        if (rc < 0)
            return rc;
    }
    while (!gather(image, commit)) {
        rc = vx_session_start_log(image, err);
        if (rc < 0)
            return rc;
    }
    if (commit->page_count == 0)
        return commit_nothing(image, commit, err);
    if (VX_BROKEN(FREE_AT_GATHER))
        release_freed(image, commit);
    return commit_pages(image, commit, err);
}

static int
run_commit(struct vx_image *image, struct vhdx_error *err)
{
    struct commit commit = { .pages = image->commit_pages, .copies = image->commit_copies,
                             .bytes = image->commit_bytes };
    int           rc = commit_steps(image, &commit, err);

    vx_runs_destroy(&commit.freed);
    return rc;
}

/* --- who commits --- */

int
vx_commit(struct vx_image *image, struct vhdx_error *err)
{
    uint64_t ticket;
    int      rc = VHDX_OK;

    vx_mutex_lock(&image->commit_lock);
    ticket = ++image->flushes_asked;
    while (rc == VHDX_OK && image->flushes_answered < ticket) {
        if (image->commit_runs) {
            vx_condition_wait(&image->commit_changed, &image->commit_lock);
            continue;
        }
        rc = vx_image_may_write(image, err);
        if (rc < 0)
            break;
        image->commit_runs = true;
        vx_mutex_unlock(&image->commit_lock);
        rc = run_commit(image, err);
        if (rc < 0)
            vx_image_fail(image, rc);
        vx_mutex_lock(&image->commit_lock);
        image->commit_runs = false;
        vx_condition_wake_all(&image->commit_changed);
    }
    vx_mutex_unlock(&image->commit_lock);
    return rc;
}

int
vx_image_flush(struct vx_image *image, struct vhdx_error *err)
{
    int rc;

    if (!image->is_writable)
        return VHDX_OK;
    rc = vx_image_may_write(image, err);
    if (rc < 0 || !atomic_load_explicit(&image->has_begun, memory_order_acquire))
        return rc;
    return vx_commit(image, err);
}
