/*
 * Replay: the active sequence laid over the file, or written into it (docs/vhdx-format.md 5.4 step 2, 6.5).
 *
 *   Y1  What is replayed is the part from the head's Tail to the head, never older entries (R2).
 *   Y2  Before the first page is written, the entries and the current header are rewritten as read and flushed: after a
 *       kill or a failed flush they may exist in the system's cache only.
 *   Y3  Both headers carry a new FileWriteGuid before the first page; DataWriteGuid stays.
 *   Y4  Pages and length are durable before the headers lose the LogGuid.
 */
#include "image/replay.h"

#include "base/error.h"
#include "base/guid.h"
#include "format/log_entry.h"
#include "image/internal.h"
#include "storage/overlay.h"

/* --- walking the descriptors --- */

int
vx_log_each_descriptor(struct vhdx_storage *storage, const struct vx_log_scan *scan, const struct vx_log_place *place,
                       vx_take_log_descriptor take, void *context, struct vhdx_error *err)
{
    uint64_t data_at = vx_log_descriptor_area_size(place->descriptor_count);
    uint8_t  sector[VX_LOG_SECTOR];
    uint64_t sector_at = UINT64_MAX;

    for (uint32_t i = 0; i < place->descriptor_count; i++) {
        uint64_t                 at = vx_log_descriptor_offset(i);
        uint64_t                 ring_at = (place->position + vx_round_down(at, VX_LOG_SECTOR)) % scan->log_length;
        struct vx_log_descriptor descriptor;
        int                      rc;

        if (ring_at != sector_at) {
            rc = vx_storage_read(storage, sector, sizeof sector, scan->log_offset + ring_at, err);
            if (rc < 0)
                return rc;
            sector_at = ring_at;
        }
        if (!vx_log_descriptor_decode(&descriptor, sector + at % VX_LOG_SECTOR))
            return vx_fail(err, VHDX_E_BAD_LOG, VHDX_PART_LOG, scan->log_offset + ring_at,
                           "the log changed while it was read");
        rc = take(context, &descriptor, scan->log_offset + (place->position + data_at) % scan->log_length, err);
        if (rc < 0)
            return rc;
        if (!descriptor.is_zero)
            data_at += VX_LOG_SECTOR;
    }
    return VHDX_OK;
}

static uint32_t
first_to_replay(const struct vx_log_scan *scan)
{
    uint32_t index = scan->tail_index;

    if (VX_BROKEN(REPLAY_FROM_OLDEST)) {
        while (scan->places[index].previous != UINT32_MAX)
            index = scan->places[index].previous;
    }
    return index;
}

static int
walk(struct vhdx_storage *storage, const struct vx_log_scan *scan, vx_take_log_descriptor take, void *context,
     struct vhdx_error *err)
{
    uint32_t index = first_to_replay(scan);
    int      rc;

    for (;;) {
        rc = vx_log_each_descriptor(storage, scan, &scan->places[index], take, context, err);
        if (rc < 0 || index == scan->head_index)
            return rc;
        index = scan->places[index].next;
    }
}

/* The length of the file after replay, in whole MiB. */
static uint64_t
length_after(const struct vx_log_scan *scan, uint64_t file_length)
{
    uint64_t length = file_length;

    if (!VX_BROKEN(REPLAY_NO_EXTEND))
        length = vx_max_u64(length, scan->places[scan->head_index].last_file_offset);
    for (uint32_t i = scan->tail_index;; i = scan->places[i].next) {
        length = vx_max_u64(length, scan->places[i].highest_target_end);
        if (i == scan->head_index)
            return vx_round_up(length, VX_MIB);
    }
}

/* --- over the file --- */

int
vx_log_add_to_overlay(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset,
                      struct vhdx_error *err)
{
    struct vx_overlay_page page = { .file_offset = descriptor->file_offset, .data_offset = data_offset + 8 };

    if (descriptor->is_zero)
        return vx_overlay_builder_add_zeros(context, descriptor->file_offset, descriptor->zero_length, err);
    for (size_t i = 0; i < sizeof page.leading; i++)
        page.leading[i] = descriptor->leading[i];
    for (size_t i = 0; i < sizeof page.trailing; i++)
        page.trailing[i] = descriptor->trailing[i];
    return vx_overlay_builder_add_page(context, &page, err);
}

int
vx_replay_view(struct vhdx_storage **out, struct vhdx_storage *storage, const struct vx_log_scan *scan,
               uint64_t file_length, struct vhdx_error *err)
{
    struct vx_overlay_builder *builder;
    int                        rc = vx_overlay_builder_new(&builder, err);

    if (rc < 0)
        return rc;
    rc = walk(storage, scan, vx_log_add_to_overlay, builder, err);
    if (rc == VHDX_OK)
        rc = vx_overlay_new(out, storage, builder, length_after(scan, file_length), err);
    vx_overlay_builder_free(builder);
    return rc;
}

/* --- into the file --- */

/* Where the pages go; what would lie past `limit` is left out. */
struct target {
    struct vhdx_storage *storage;
    uint64_t             limit;
};

static int
zero_target(const struct target *target, const struct vx_log_descriptor *descriptor, struct vhdx_error *err)
{
    uint64_t length = descriptor->zero_length;

    if (descriptor->file_offset >= target->limit)
        return VHDX_OK;
    length = vx_min_u64(length, target->limit - descriptor->file_offset);
    return length == 0 ? VHDX_OK
                       : vx_storage_zero(target->storage, descriptor->file_offset, length, VHDX_ZERO_RELEASE, err);
}

static int
write_target(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset, struct vhdx_error *err)
{
    const struct target *target = context;
    uint8_t              sector[VX_LOG_SECTOR], page[VX_PAGE];
    int                  rc;

    if (descriptor->is_zero)
        return zero_target(target, descriptor, err);
    if (target->limit < VX_PAGE || descriptor->file_offset > target->limit - VX_PAGE)
        return VHDX_OK;
    rc = vx_storage_read(target->storage, sector, sizeof sector, data_offset, err);
    if (rc < 0)
        return rc;
    vx_log_page_decode(page, descriptor, sector);
    return vx_storage_write(target->storage, page, sizeof page, descriptor->file_offset, err);
}

/* Y2 for one entry: its bytes as they are, sector by sector around the ring's end. */
static int
rewrite_entry(struct vhdx_storage *storage, const struct vx_log_scan *scan, const struct vx_log_place *place,
              struct vhdx_error *err)
{
    uint8_t sector[VX_LOG_SECTOR];

    for (uint64_t seen = 0; seen < place->entry_length; seen += VX_LOG_SECTOR) {
        uint64_t at = scan->log_offset + (place->position + seen) % scan->log_length;
        int      rc = vx_storage_read(storage, sector, sizeof sector, at, err);

        if (rc == VHDX_OK)
            rc = vx_storage_write(storage, sector, sizeof sector, at, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

int
vx_replay_secure(struct vhdx_storage *storage, const struct vx_log_scan *scan, struct vhdx_error *err)
{
    int rc;

    for (uint32_t i = scan->tail_index;; i = scan->places[i].next) {
        rc = rewrite_entry(storage, scan, &scan->places[i], err);
        if (rc < 0 || i == scan->head_index)
            return rc;
    }
}

int
vx_replay_apply(struct vhdx_storage *storage, const struct vx_log_scan *scan, uint64_t file_length, bool within,
                struct vhdx_error *err)
{
    struct target target = { .storage = storage, .limit = within ? file_length : UINT64_MAX };
    uint64_t      length = length_after(scan, file_length);
    int           rc = VHDX_OK;

    if (!within && length > file_length)
        rc = vx_storage_set_size(storage, length, err);
    if (rc == VHDX_OK)
        rc = walk(storage, scan, write_target, &target, err);
    if (rc == VHDX_OK && !VX_BROKEN(REPLAY_NO_FLUSH))
        rc = vx_storage_flush(storage, err);     /* Y4 */
    return rc;
}

static int
rewrite_what_is_trusted(struct vx_image *image, const struct vx_log_scan *scan, struct vhdx_error *err)
    VX_REQUIRES(image->session_lock)
{
    int rc = vx_replay_secure(image->storage, scan, err);

    if (rc == VHDX_OK)
        rc = vx_session_rewrite_header(image, err);
    if (rc == VHDX_OK && !VX_BROKEN(REPLAY_NO_FIRST_FLUSH))
        rc = vx_storage_flush(image->storage, err);
    return rc;
}

static int
replay_locked(struct vx_image *image, const struct vx_log_scan *scan, uint64_t file_length, struct vhdx_error *err)
    VX_REQUIRES(image->session_lock)
{
    struct vx_header next = image->header;
    int              rc = vx_session_check_numbers(image, err);

    if (rc == VHDX_OK)
        rc = rewrite_what_is_trusted(image, scan, err);
    if (rc < 0)
        return rc;
    rc = vx_guid_random(&next.file_write_guid, err);
    if (rc == VHDX_OK && !VX_BROKEN(REPLAY_NO_FIRST_FLUSH))
        rc = vx_session_put_headers(image, &next, err); /* Y3 */
    if (rc == VHDX_OK)
        rc = vx_replay_apply(image->storage, scan, file_length, false, err);
    if (rc < 0)
        return rc;
    next.log_guid = (struct vhdx_guid){ .bytes = { 0 } };
    rc = vx_session_put_headers(image, &next, err);
    if (rc == VHDX_OK)
        image->has_new_file_write_guid = true;
    return rc;
}

int
vx_replay_write(struct vx_image *image, const struct vx_log_scan *scan, uint64_t file_length, struct vhdx_error *err)
{
    int rc;

    vx_mutex_lock(&image->session_lock);
    rc = replay_locked(image, scan, file_length, err);
    vx_mutex_unlock(&image->session_lock);
    return rc;
}
