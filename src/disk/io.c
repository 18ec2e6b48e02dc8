/* Reading and modifying a disk: resolve, then transfer. */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "disk/disk.h"
#include "storage/storage.h"

int
vx_disk_check_range(const struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    uint64_t end;

    if (vx_add_u64(guest_offset, length, &end) && end <= disk->size)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_RANGE, VHDX_PART_NONE, VHDX_NO_OFFSET,
                   "%" PRIu64 " bytes at %" PRIu64 " do not lie inside a disk of %" PRIu64 " bytes", length,
                   guest_offset, disk->size);
}

static int
read_extent(struct vhdx_disk *disk, const struct vhdx_extent *extent, void *buffer, struct vhdx_error *err)
{
    const struct vx_layer *layer = &disk->layers[extent->depth];

    if ((extent->flags & VHDX_EXTENT_DATA) == 0) {
        memset(buffer, 0, (size_t)extent->length);
        return VHDX_OK;
    }
    if (layer->image == NULL)
        return vx_storage_read(layer->storage, buffer, (size_t)extent->length, extent->file_offset, err);
    return vx_image_read_payload(layer->image, buffer, (size_t)extent->length, extent->file_offset, err);
}

int
vx_disk_read_from(struct vhdx_disk *disk, unsigned depth, void *buffer, size_t length, uint64_t guest_offset,
                  struct vhdx_error *err)
{
    uint8_t *bytes = buffer;

    while (length > 0) {
        struct vhdx_extent extent;
        bool               lacks_parent;
        int rc = vx_disk_first_extent(disk, depth, guest_offset, length, &extent, &lacks_parent, err);

        if (rc == VHDX_OK && lacks_parent)
            rc = vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                         "guest offset %" PRIu64 " lies in a parent that is not open", guest_offset);
        if (rc == VHDX_OK)
            rc = read_extent(disk, &extent, bytes, err);
        if (rc < 0)
            return rc;
        bytes += extent.length;
        guest_offset += extent.length;
        length -= (size_t)extent.length;
    }
    return VHDX_OK;
}

/* Nothing moves in an image that is open for reading, and a raw file has no blocks. */
static bool
needs_holding(const struct vhdx_disk *disk)
{
    return disk->is_writable && disk->layers[0].image != NULL;
}

int
vhdx_disk_read(struct vhdx_disk *disk, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    struct vx_held held;
    int            rc = vx_disk_check_range(disk, guest_offset, length, err);

    if (rc < 0 || length == 0)
        return rc;
    if (!needs_holding(disk))
        return vx_disk_read_from(disk, 0, buffer, length, guest_offset, err);
    vx_image_hold(disk->layers[0].image, &held, guest_offset, length, false);
    rc = vx_disk_read_from(disk, 0, buffer, length, guest_offset, err);
    vx_image_release(disk->layers[0].image, &held);
    return rc;
}

/* Common to everything that modifies. */
static int
check_modification(const struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    if (!disk->is_writable)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET, "the disk is open read-only");
    return vx_disk_check_range(disk, guest_offset, length, err);
}

int
vhdx_disk_write(struct vhdx_disk *disk, const void *buffer, size_t length, uint64_t guest_offset,
                struct vhdx_error *err)
{
    int rc = check_modification(disk, guest_offset, length, err);

    if (rc < 0 || length == 0)
        return rc;
    if (disk->layers[0].image == NULL)
        return vx_storage_write(disk->layers[0].storage, buffer, length, guest_offset, err);
    return vx_image_write(disk->layers[0].image, buffer, length, guest_offset, err);
}

int
vhdx_disk_zero(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, unsigned flags, struct vhdx_error *err)
{
    bool only_fast = (flags & VHDX_ZERO_FAST) != 0;
    int  rc = check_modification(disk, guest_offset, length, err);

    if (rc < 0 || length == 0)
        return rc;
    if (disk->layers[0].image == NULL)
        return vx_storage_zero(disk->layers[0].storage, guest_offset, length,
                               only_fast ? VHDX_ZERO_ONLY_FAST : VHDX_ZERO_RELEASE, err);
    return vx_image_zero(disk->layers[0].image, guest_offset, length, only_fast, err);
}

int
vhdx_disk_trim(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_error *err)
{
    struct vhdx_error ignored;
    int               rc = check_modification(disk, guest_offset, length, err);

    if (rc < 0 || length == 0)
        return rc;
    if (disk->layers[0].image != NULL)
        return vx_image_trim(disk->layers[0].image, guest_offset, length, err);
    rc = vx_storage_zero(disk->layers[0].storage, guest_offset, length, VHDX_ZERO_ONLY_FAST, &ignored);
    if (rc == VHDX_E_UNSUPPORTED)
        return VHDX_OK; /* a raw file on a host without holes: a trim is a hint */
    if (rc < 0 && err != NULL)
        *err = ignored;
    return rc;
}

int
vhdx_disk_flush(struct vhdx_disk *disk, struct vhdx_error *err)
{
    if (!disk->is_writable)
        return VHDX_OK;
    if (disk->layers[0].image == NULL)
        return vx_storage_flush(disk->layers[0].storage, err);
    return vx_image_flush(disk->layers[0].image, err);
}
