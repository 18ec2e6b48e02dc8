/*
 * Space that a job fills by itself before one edit names it: the larger BAT and the new blocks of a disk that grows
 * (docs/vhdx-format.md 9.4).
 *
 *   T1  What was taken and is named by no edit is unreferenced: a crash leaves it lost, no more, and whoever took it gives it
 *       back at once (R1 asks nothing of space that no entry ever named).
 *   T2  What the job writes counts for the next flush, and vx_image_edit asks for a flush before its entry: all of it is durable
 *       before it is named.
 *   T3  What held a logged structure is let go under R2.
 */
#include <string.h>

#include "base/error.h"
#include "image/internal.h"

static void
give_back(struct vx_image *image, uint64_t file_offset, uint64_t length)
{
    vx_rwlock_lock(&image->meta_lock);
    vx_pages_forget(&image->pages, file_offset, length);
    vx_space_give_back(&image->space, file_offset, length);
    vx_rwlock_unlock(&image->meta_lock);
}

int
vx_image_take_space(struct vx_image *image, uint64_t length, bool takes_host_space, uint64_t *file_offset,
                    struct vhdx_error *err)
{
    struct vx_taken taken;
    int             rc = vx_session_begin(image, err);

    if (rc < 0)
        return rc;
    vx_rwlock_lock(&image->meta_lock);
    rc = vx_space_take(&image->space, image->storage, length, &taken, err);
    if (rc == VHDX_OK)
        vx_pages_forget(&image->pages, taken.file_offset, length);
    vx_rwlock_unlock(&image->meta_lock);
    if (rc < 0)
        return rc;
    if (!taken.is_fresh && !taken.is_hole)
        rc = vx_fill_zeros(image, taken.file_offset, length, err);
    if (rc == VHDX_OK && takes_host_space)
        rc = vx_storage_allocate(image->storage, taken.file_offset, length, err);
    if (rc < 0) {
        give_back(image, taken.file_offset, length);
        return rc;
    }
    *file_offset = taken.file_offset;
    return VHDX_OK;
}

void
vx_image_give_back_space(struct vx_image *image, uint64_t file_offset, uint64_t length)
{
    give_back(image, file_offset, length);
}

int
vx_image_write_space(struct vx_image *image, const void *buffer, size_t length, uint64_t file_offset,
                     struct vhdx_error *err)
{
    int rc = vx_session_begin(image, err);

    return rc == VHDX_OK ? vx_write_payload(image, buffer, length, file_offset, err) : rc;
}

/* The file may end inside of the last block (V136): then it is made longer, and the new part reads as zeros. */
static int
reach(struct vx_image *image, uint64_t end, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    vx_rwlock_lock(&image->meta_lock);
    end = vx_round_up(end, VX_MIB);
    if (image->space.file_length < end) {
        rc = vx_storage_set_size(image->storage, end, err);
        if (rc == VHDX_OK)
            image->space.file_length = end;
    }
    vx_rwlock_unlock(&image->meta_lock);
    return rc;
}

int
vx_image_zero_space(struct vx_image *image, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    enum vhdx_zero_mode mode = image->geometry.is_fixed ? VHDX_ZERO_KEEP_ALLOCATED : VHDX_ZERO_RELEASE;
    int                 rc = vx_session_begin(image, err);

    if (rc == VHDX_OK)
        rc = reach(image, file_offset + length, err);
    if (rc == VHDX_OK) {
        rc = vx_storage_zero(image->storage, file_offset, length, mode, err);
        atomic_fetch_add(&image->writes_done, 1);
    }
    return rc;
}

void
vx_image_let_go_structure(struct vx_image *image, uint64_t file_offset, uint64_t length)
{
    vx_rwlock_lock(&image->meta_lock);
    for (uint64_t at = file_offset; at < file_offset + length; at += VX_SECTOR_BITMAP_SIZE) {
        if (vx_space_free_bitmap_later(&image->space, at, NULL) < 0)
            break; /* without memory for the list it stays used until the next open counts */
    }
    vx_rwlock_unlock(&image->meta_lock);
}
