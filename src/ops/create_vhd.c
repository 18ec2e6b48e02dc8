/*
 * Making fixed VHDs: the disk, then the footer.
 *
 *   The footer is written last, after a flush of what lies before it: an interrupted creation is no VHD.  What is
 *   written over loses its old footer first, since the file is cut.
 */
#include <inttypes.h>
#include <time.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/guid.h"
#include "format/vhd.h"
#include "ops/create_vhd.h"
#include "ops/preallocate.h"
#include "storage/storage.h"

#define EPOCH_2000 946684800 /* 2000-01-01 UTC, in seconds of Unix */

static uint32_t
now(void)
{
    return (uint32_t)((uint64_t)time(NULL) - EPOCH_2000);
}

int
vx_new_vhd_footer(uint8_t bytes[VX_VHD_FOOTER_SIZE], const struct vhdx_create_options *options, struct vhdx_error *err)
{
    /* QEMU believes the geometry, which is rounded down, rather than the size, but for creators like Windows. */
    struct vx_vhd_footer footer = {
        .data_offset = UINT64_MAX, .timestamp = now(), .creator = "win ", .disk_size = options->virtual_size,
        .geometry = vx_vhd_compute_geometry(options->virtual_size), .type = VX_VHD_FIXED, .disk_id = options->disk_id,
    };
    int rc = VHDX_OK;

    if (options->logical_sector_size > VX_VHD_SECTOR)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "the disk has sectors of %" PRIu32 " bytes, and"
                       " those of a VHD have 512: a guest would not find its partitions", options->logical_sector_size);
    if (options->virtual_size % VX_VHD_SECTOR != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "a VHD has whole sectors of 512 bytes");
    if (options->virtual_size == 0 || options->virtual_size > VX_VHD_MAX_SIZE)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "a disk of %" PRIu64
                       " bytes does not go into a VHD, which has 512 bytes to 2040 GiB", options->virtual_size);
    if (vhdx_guid_is_zero(&footer.disk_id))
        rc = vx_guid_random(&footer.disk_id, err);
    if (rc == VHDX_OK)
        vx_vhd_footer_encode(bytes, &footer);
    return rc;
}

static int
write_file(struct vhdx_storage *storage, const struct vhdx_create_options *options,
           const uint8_t footer[VX_VHD_FOOTER_SIZE], const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vx_preallocation range = {
        .to = options->virtual_size, .progress = progress,
        .how = options->preallocation == VHDX_PREALLOCATE_DEFAULT ? VHDX_PREALLOCATE_FALLOC : options->preallocation,
    };
    int rc = vx_storage_set_size(storage, 0, err);

    if (rc == VHDX_OK && range.how != VHDX_PREALLOCATE_FULL)
        rc = vx_storage_set_size(storage, options->virtual_size, err);
    if (rc == VHDX_OK)
        rc = vx_preallocate(storage, &range, err);
    if (rc == VHDX_OK)
        rc = vx_storage_flush(storage, err);
    if (rc == VHDX_OK)
        rc = vx_storage_write(storage, footer, VX_VHD_FOOTER_SIZE, options->virtual_size, err);
    return rc == VHDX_OK ? vx_storage_flush(storage, err) : rc;
}

int
vhdx_create_vhd_path(const char *path, bool overwrite, const struct vhdx_create_options *options,
                     const struct vhdx_progress *progress, struct vhdx_error *err)
{
    uint8_t              footer[VX_VHD_FOOTER_SIZE];
    struct vhdx_storage *storage;
    bool                 is_new = true;
    int                  rc = vx_new_vhd_footer(footer, options, err); /* bad options touch nothing */

    if (rc < 0)
        return rc;
    rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE, err);
    if (rc == VHDX_E_EXISTS && overwrite) {
        is_new = false;
        rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, err);
    }
    if (rc < 0)
        return rc;
    rc = write_file(storage, options, footer, progress, err);
    if (rc < 0 && is_new)
        unlink(path);
    vhdx_storage_close(storage);
    return rc;
}
