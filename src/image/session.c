/*
 * A session: what a writable open does to the headers between its first modification and its close
 * (docs/vhdx-format.md 5.2, 5.4, 5.6).
 *
 *   W1  Both headers carry this session's FileWriteGuid and DataWriteGuid, durable, before any other byte changes.
 *   W6  The headers carry a LogGuid only when an entry with that LogGuid is durable in the log (L1, 10.38).
 *   W7  The headers lose the LogGuid only when every page of every entry is durable in place.
 *   W8  Space is given out only after the first flush of the session: it makes durable the length the file had, and
 *       whatever cut or punch the session before left unflushed (R4).
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "image/internal.h"

#define HEADERS_OF_A_SESSION 10u /* replay 4, first modification 2, log start 2, close 2 */

int
vx_image_fail(struct vx_image *image, int rc)
{
    atomic_store(&image->has_failed, true);
    return rc;
}

int
vx_image_may_write(struct vx_image *image, struct vhdx_error *err)
{
    if (!image->is_writable)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET, "the image is open read-only");
    if (atomic_load_explicit(&image->has_failed, memory_order_acquire))
        return vx_fail(err, VHDX_E_FAILED, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "an earlier write of metadata or flush failed: close the image and open it again");
    return VHDX_OK;
}

int
vx_session_check_numbers(struct vx_image *image, struct vhdx_error *err)
{
    if (image->header.sequence_number <= UINT64_MAX - HEADERS_OF_A_SESSION)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_HEADER, VX_HEADER_OFFSET(image->header_index),
                   "the header's sequence number %" PRIu64 " leaves no room for another session (V24)",
                   image->header.sequence_number);
}

static int
write_header(struct vx_image *image, const struct vx_header *header, int index, struct vhdx_error *err)
{
    uint8_t bytes[VX_HEADER_SIZE];

    vx_header_encode(bytes, header);
    return vx_storage_write(image->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(index), err);
}

int
vx_session_rewrite_header(struct vx_image *image, struct vhdx_error *err)
{
    uint8_t bytes[VX_HEADER_SIZE];
    int     rc = vx_storage_read(image->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(image->header_index), err);

    if (rc == VHDX_OK)
        rc = vx_storage_write(image->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(image->header_index), err);
    return rc;
}

int
vx_session_put_headers(struct vx_image *image, const struct vx_header *next, struct vhdx_error *err)
{
    struct vx_header header = *next;
    int              rc;

    for (int copy = 0; copy < 2; copy++) {
        header.sequence_number = image->header.sequence_number + 1;
        rc = write_header(image, &header, 1 - image->header_index, err); /* H2: never the current copy */
        if (rc < 0)
            return rc;
        if (copy == 1 || !VX_BROKEN(HEADERS_ONE_FLUSH)) {
            rc = vx_storage_flush(image->storage, err);                  /* H3: now it is the current one */
            if (rc < 0)
                return rc;
        }
        image->header = header;
        image->header_index = 1 - image->header_index;
    }
    return VHDX_OK;
}

/* A file without a log gets one (V28): 1 MiB, named by the same header update that begins the session. */
static int
make_log(struct vx_image *image, struct vx_header *next, struct vhdx_error *err)
{
    struct vx_taken taken;
    int             rc;

    vx_rwlock_lock(&image->meta_lock);
    rc = vx_space_take(&image->space, image->storage, VX_MIB, &taken, err);
    vx_rwlock_unlock(&image->meta_lock);
    if (rc == VHDX_OK) {
        next->log_offset = taken.file_offset;
        next->log_length = (uint32_t)VX_MIB;
    }
    return rc;
}

/* From here on space may be given out (W8). */
static int
begin_space(struct vx_image *image, uint64_t length, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    vx_rwlock_lock(&image->meta_lock);
    image->space.file_length = length;
    image->space.flushed_length = length;
    vx_space_begin(&image->space, length);
    if (!vx_is_aligned(length, VX_MIB)) { /* V5 */
        rc = vx_storage_set_size(image->storage, vx_round_up(length, VX_MIB), err);
        if (rc == VHDX_OK)
            image->space.file_length = vx_round_up(length, VX_MIB);
    }
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

static int
begin_locked(struct vx_image *image, struct vhdx_error *err) VX_REQUIRES(image->session_lock)
{
    struct vx_header next = image->header;
    uint64_t         length = 0;
    int              rc;

    rc = vx_session_check_numbers(image, err);
    if (rc == VHDX_OK)
        rc = vx_storage_get_size(image->storage, &length, err);
    if (rc < 0)
        return rc;
    rc = vx_session_rewrite_header(image, err); /* H6 */
    if (rc == VHDX_OK)
        rc = vx_storage_flush(image->storage, err);
    if (rc < 0)
        return vx_image_fail(image, rc);

    rc = begin_space(image, length, err);
    if (rc == VHDX_OK && next.log_length == 0)
        rc = make_log(image, &next, err);
    if (rc == VHDX_OK) /* a full disk must fail this write, not the log's first round */
        rc = vx_storage_allocate(image->storage, next.log_offset, next.log_length, err);
    if (rc == VHDX_OK && !image->has_new_file_write_guid)
        rc = vx_guid_random(&next.file_write_guid, err);
    if (rc == VHDX_OK && image->data_guid == VX_DATA_GUID_NEW)
        rc = vx_guid_random(&next.data_write_guid, err);
    if (image->data_guid == VX_DATA_GUID_GIVEN)
        next.data_write_guid = image->given_data_guid;
    if (rc < 0)
        return rc;

    rc = vx_session_put_headers(image, &next, err);
    if (rc < 0)
        return vx_image_fail(image, rc);
    image->has_new_file_write_guid = true;
    return VHDX_OK;
}

/* One page of a region table copy, from the good one. */
static int
mend_region_page(struct vx_image *image, uint64_t at, const uint8_t *good, struct vhdx_error *err)
{
    struct vx_page *page;
    int             rc = vx_room_reserve(image, 1, err);

    if (rc < 0)
        return rc;
    rc = vx_map_prepare(image, at, err);
    if (rc == VHDX_OK) {
        vx_rwlock_lock(&image->meta_lock);
        rc = vx_pages_load(&image->pages, image->view, at, &page, err);
        if (rc == VHDX_OK && memcmp(page->bytes, good, VX_PAGE) != 0) {
            memcpy(page->bytes, good, VX_PAGE);
            vx_map_page_edited_locked(image, page);
        }
        vx_rwlock_unlock(&image->meta_lock);
    }
    vx_room_release(image, 1);
    return rc;
}

/* V56: a damaged region table copy is rewritten from the good one, through the log.  It need not happen at one stroke:
 * until its last page is right the copy's checksum is wrong, and readers take the other. */
static int
mend_region_table(struct vx_image *image, struct vhdx_error *err)
{
    uint8_t good[VX_PAGE];
    int     rc = VHDX_OK;

    for (uint64_t at = 0; at < VX_REGION_TABLE_SIZE && rc == VHDX_OK; at += VX_PAGE) {
        rc = vx_storage_read(image->view, good, sizeof good,
                             VX_REGION_TABLE_OFFSET(1 - image->broken_region_copy) + at, err);
        if (rc == VHDX_OK)
            rc = mend_region_page(image, VX_REGION_TABLE_OFFSET(image->broken_region_copy) + at, good, err);
    }
    return rc;
}

int
vx_session_begin(struct vx_image *image, struct vhdx_error *err)
{
    bool is_first = false;
    int  rc = vx_image_may_write(image, err);

    if (rc < 0 || atomic_load_explicit(&image->has_begun, memory_order_acquire))
        return rc;
    vx_mutex_lock(&image->session_lock);
    rc = vx_image_may_write(image, err);
    if (rc == VHDX_OK && !atomic_load(&image->has_begun)) {
        rc = begin_locked(image, err);
        is_first = rc == VHDX_OK;
        if (is_first)
            atomic_store_explicit(&image->has_begun, true, memory_order_release);
    }
    vx_mutex_unlock(&image->session_lock);
    if (is_first && image->broken_region_copy >= 0)
        rc = mend_region_table(image, err);
    return rc;
}

static struct vx_log_lengths
current_lengths(struct vx_image *image)
{
    struct vx_log_lengths lengths;

    vx_rwlock_lock_shared(&image->meta_lock);
    lengths.last_file_offset = image->space.used_end;
    lengths.flushed_file_offset = vx_min_u64(image->space.flushed_length, image->space.used_end);
    vx_rwlock_unlock_shared(&image->meta_lock);
    lengths.flushed_file_offset = vx_round_down(lengths.flushed_file_offset, VX_MIB);
    return lengths;
}

/* W6: the entry first, durable, then the LogGuid that asks for it. */
static int
start_log_locked(struct vx_image *image, struct vhdx_error *err) VX_REQUIRES(image->session_lock)
{
    struct vx_log_lengths lengths = current_lengths(image);
    struct vx_header      next = image->header;
    int                   rc;

    rc = vx_log_start(&image->log, image->storage, next.log_offset, image->log.length != 0 ? image->log.length :
                      next.log_length, &lengths, err);
    if (rc < 0)
        return rc;
    next.log_guid = image->log.guid;
    if (VX_BROKEN(LOG_GUID_FIRST)) {
        /* The published order: header before the entry is durable. */
    } else {
        rc = vx_storage_flush(image->storage, err);
        if (rc < 0)
            return rc;
    }
    rc = vx_session_put_headers(image, &next, err);
    if (rc < 0)
        return rc;
    vx_log_commit_entry(&image->log);
    image->log.is_started = true;
    return VHDX_OK;
}

int
vx_session_start_log(struct vx_image *image, struct vhdx_error *err)
{
    int rc;

    vx_mutex_lock(&image->session_lock);
    rc = start_log_locked(image, err);
    vx_mutex_unlock(&image->session_lock);
    return rc;
}

/* R2 is over when no log is active: former sector bitmap blocks are free, and those at the end are cut. */
static void
release_bitmaps(struct vx_image *image)
{
    uint64_t file_offset;

    vx_rwlock_lock(&image->meta_lock);
    while (vx_space_next_free_bitmap(&image->space, UINT64_MAX, &file_offset))
        vx_space_give_back(&image->space, file_offset, VX_SECTOR_BITMAP_SIZE);
    vx_rwlock_unlock(&image->meta_lock);
}

/* Cut the sparse tail.  After LogGuid 0 no entry speaks of lengths any more; the cut itself needs no flush, the next
 * session's first one covers it (W8). */
static int
cut_tail(struct vx_image *image, struct vhdx_error *err)
{
    uint64_t end, length;
    int      rc = VHDX_OK;

    vx_rwlock_lock(&image->meta_lock);
    end = image->space.used_end;
    length = image->space.file_length;
    if (end < length) {
        rc = vx_storage_set_size(image->storage, end, err);
        if (rc == VHDX_E_UNSUPPORTED)
            rc = VHDX_OK; /* a block device keeps its length */
        image->space.file_length = end;
    }
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

int
vx_session_end(struct vx_image *image, struct vhdx_error *err)
{
    struct vx_header next;
    int              rc;

    if (!image->is_writable)
        return VHDX_OK;
    rc = vx_image_may_write(image, err);
    if (rc == VHDX_OK && !atomic_load(&image->has_begun))
        return VHDX_OK;
    if (rc == VHDX_OK)
        rc = vx_commit(image, err);
    if (rc < 0 && !VX_BROKEN(CLOSE_AFTER_FAILURE))
        return rc; /* L11: FAILED, nothing is written any more; the next open replays */

    if (image->log.is_started) {
        if (!VX_BROKEN(CLOSE_NO_FLUSH)) {
            rc = vx_storage_flush(image->storage, err); /* W7: the applied pages */
            if (rc < 0)
                return vx_image_fail(image, rc);
        }
        vx_mutex_lock(&image->session_lock);
        next = image->header;
        next.log_guid = (struct vhdx_guid){ .bytes = { 0 } };
        rc = vx_session_put_headers(image, &next, err);
        vx_mutex_unlock(&image->session_lock);
        if (rc < 0)
            return vx_image_fail(image, rc);
        release_bitmaps(image);
    }
    return cut_tail(image, err);
}
