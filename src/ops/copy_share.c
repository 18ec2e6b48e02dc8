/*
 * See copy_share.h.
 *
 *   H1  The source's extents are pinned while they are copied: a file offset is good for so long.
 *   H2  Of the target only sectors that are present are copied over, in place: the write before made them so.
 *   H3  An image that was opened with a dirty log is read through an overlay: its file alone does not say what it holds.
 */
#include "ops/copy_share.h"

#include "base/checked.h"
#include "disk/disk.h"
#include "image/image.h"
#include "storage/storage.h"

#define GRAIN        4096u
#define LEAST        (UINT64_C(64) << 10) /* less is not worth the calls */
#define EXTENT_COUNT 16

static struct vhdx_storage *
storage_of(const struct vx_layer *layer)
{
    return layer->image != NULL ? vx_image_storage(layer->image) : layer->storage;
}

static bool
has_overlay(const struct vx_layer *layer)
{
    struct vhdx_info info = { .is_dirty = false };

    if (layer->image != NULL)
        vx_image_fill_info(layer->image, &info);
    return info.is_dirty && !info.is_writable; /* H3 */
}

void
vx_share_begin(struct vx_share *share, struct vhdx_disk *from, struct vhdx_disk *to)
{
    bool is_possible = storage_of(&to->layers[0])->methods->copy_from != NULL;

    for (unsigned depth = 0; depth < from->layer_count && is_possible; depth++)
        is_possible = !has_overlay(&from->layers[depth]);
    share->from = from;
    share->to = to;
    atomic_init(&share->is_over, !is_possible);
}

/* H2: a sector of each block that the range touches. */
static int
make_present(struct vx_share *share, const uint8_t *bytes, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    struct vx_image *image = share->to->layers[0].image;
    uint64_t         end = guest_offset + length, block_size;
    int              rc = VHDX_OK;

    if (image == NULL)
        return VHDX_OK;
    block_size = vx_image_geometry(image)->block_size;
    for (uint64_t at = guest_offset; at < end && rc == VHDX_OK; at = vx_round_down(at, block_size) + block_size) {
        uint8_t        grain[GRAIN];
        const uint8_t *source = grain;

        if (bytes != NULL)
            source = bytes + (at - guest_offset);
        else
            rc = vhdx_disk_read(share->from, grain, sizeof grain, at, err);
        if (rc == VHDX_OK)
            rc = vhdx_disk_write(share->to, source, GRAIN, at, err);
    }
    return rc;
}

static int
copy_extent(struct vx_share *share, const struct vhdx_extent *extent, bool only_share, struct vhdx_error *err)
{
    const struct vx_layer *target = &share->to->layers[0];
    struct vhdx_storage   *source = storage_of(&share->from->layers[extent->depth]);

    if ((extent->flags & VHDX_EXTENT_DATA) == 0)
        return VHDX_E_UNSUPPORTED;
    if (target->image != NULL)
        return vx_image_copy_from(target->image, extent->guest_offset, extent->length, source, extent->file_offset,
                                  only_share, err);
    return vx_storage_copy_from(target->storage, extent->guest_offset, source, extent->file_offset, extent->length,
                                only_share, err);
}

static int
copy_pinned(struct vx_share *share, uint64_t guest_offset, uint64_t length, bool only_share, struct vhdx_error *err)
{
    struct vhdx_extent extents[EXTENT_COUNT];
    size_t             count = 0;
    int                rc = VHDX_OK;

    for (uint64_t end = guest_offset + length; guest_offset < end && rc == VHDX_OK;) {
        rc = vhdx_disk_resolve(share->from, guest_offset, end - guest_offset, extents, EXTENT_COUNT, &count, err);
        for (size_t i = 0; i < count && rc == VHDX_OK; i++) {
            rc = copy_extent(share, &extents[i], only_share, err);
            guest_offset = extents[i].guest_offset + extents[i].length;
        }
    }
    return rc;
}

int
vx_share_range(struct vx_share *share, const uint8_t *bytes, uint64_t guest_offset, uint64_t length,
               struct vhdx_error *err)
{
    struct vhdx_pin pin; /* H1 */
    int             rc;

    if (atomic_load(&share->is_over) || length < LEAST || ((guest_offset | length) & (GRAIN - 1)) != 0)
        return VHDX_E_UNSUPPORTED;
    rc = make_present(share, bytes, guest_offset, length, err);
    if (rc == VHDX_OK)
        rc = vhdx_disk_pin(share->from, guest_offset, length, &pin, err);
    if (rc < 0)
        return rc;
    rc = copy_pinned(share, guest_offset, length, bytes != NULL, err);
    vhdx_disk_unpin(share->from, &pin);
    if (rc == VHDX_E_UNSUPPORTED)
        atomic_store(&share->is_over, true);
    return rc;
}
