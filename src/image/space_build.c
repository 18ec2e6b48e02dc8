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

static int
mark(struct vx_image *image, uint64_t file_offset, uint64_t length, uint64_t bat_index, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    int rc;

    if (!vx_space_mark_found(&image->space, file_offset, length, &rc, err) && rc == VHDX_OK)
        vx_find(&image->findings, VHDX_SEVERITY_RO, 135, VHDX_E_BAD_BAT, VHDX_PART_BAT,
                vx_map_entry_offset(image, bat_index),
                "BAT entry %" PRIu64 ": the extent at file offset 0x%" PRIx64 " overlaps another one (V135, V137)",
                bat_index, file_offset);
    return rc;
}

static int
mark_entry(struct vx_image *image, uint64_t bat_index, uint64_t raw, const struct vx_bat_limits *limits,
           struct vhdx_error *err) VX_REQUIRES(image->meta_lock)
{
    struct vx_bat_entry entry;
    uint64_t            index;
    bool                is_payload = vx_geometry_is_payload_entry(&image->geometry, bat_index, &index);
    uint64_t            length = is_payload ? image->geometry.block_size : VX_SECTOR_BITMAP_SIZE;
    int                 rc;

    if (is_payload && index >= image->geometry.payload_block_count)
        return VHDX_OK; /* padding */
    if (is_payload && vx_bat_payload_is_clean(raw, index, limits)) {
        entry = vx_bat_entry_decode(raw);
        rc = VHDX_OK;
    } else if (is_payload) {
        rc = vx_bat_judge_payload(&entry, raw, index, limits, &image->findings);
    } else {
        rc = vx_bat_judge_bitmap(&entry, raw, index, limits, &image->findings);
    }
    if (rc < 0 || entry.file_offset == 0)
        return VHDX_OK; /* a damaged entry is a finding, not an error of this pass */
    return mark(image, entry.file_offset, length, bat_index, err);
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
mark_entries(struct vx_image *image, uint64_t start, uint64_t end, uint8_t *window, struct vhdx_error *err)
    VX_REQUIRES(image->meta_lock)
{
    uint64_t             bat = image->regions.bat.file_offset;
    struct vx_bat_limits limits = vx_map_limits_locked(image);

    while (start < end) {
        size_t n = (size_t)vx_min_u64(WINDOW_SIZE, end - start), got;
        int    rc = vx_storage_read_prefix(image->view, window, n, start, &got, err);

        for (size_t i = 0; i < n && rc == VHDX_OK; i += 8) {
            uint64_t raw = vx_le64(window + i);

            if (raw != 0)
                rc = mark_entry(image, (start + i - bat) / 8, raw, &limits, err);
        }
        if (rc < 0)
            return rc;
        start += n;
    }
    return VHDX_OK;
}

static int
build_locked(struct vx_image *image, uint8_t *window, struct vhdx_error *err) VX_REQUIRES(image->meta_lock)
{
    uint64_t at = image->regions.bat.file_offset;
    uint64_t bat_end = at + image->geometry.bat_entry_count * 8;
    int      rc = mark_reserved(image, err);

    while (rc == VHDX_OK && at < bat_end) {
        uint64_t start, end;

        rc = vx_storage_next_data(image->view, at, &start, &end, err);
        if (rc < 0 || start >= bat_end || start == end)
            break;
        start = vx_max_u64(at, vx_round_down(start, 8));
        at = vx_min_u64(vx_round_up(end, 8), bat_end);
        rc = mark_entries(image, start, at, window, err);
    }
    return rc;
}

int
vx_space_build(struct vx_image *image, struct vhdx_error *err)
{
    uint8_t *window = vx_alloc(WINDOW_SIZE);
    int      rc;

    if (window == NULL)
        return vx_fail_memory(err, "reading the BAT");
    vx_rwlock_lock(&image->meta_lock);
    rc = build_locked(image, window, err);
    vx_rwlock_unlock(&image->meta_lock);
    vx_free(window);
    return rc;
}
