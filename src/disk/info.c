/* What a caller may know of an open disk, and pins. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/disk.h"
#include "storage/storage.h"

uint64_t
vhdx_disk_size(const struct vhdx_disk *disk)
{
    return disk->size;
}

unsigned
vhdx_disk_layer_count(const struct vhdx_disk *disk)
{
    return disk->layer_count;
}

const char *
vhdx_disk_layer_name(const struct vhdx_disk *disk, unsigned depth)
{
    return depth < disk->layer_count ? disk->layers[depth].name : NULL;
}

static void
fill_raw_info(const struct vx_layer *layer, struct vhdx_info *out)
{
    memset(out, 0, sizeof *out);
    out->format = VHDX_FORMAT_RAW;
    out->type = VHDX_TYPE_FIXED;
    out->virtual_size = layer->size;
    out->logical_sector_size = out->physical_sector_size = 512;
}

int
vhdx_disk_get_info(struct vhdx_disk *disk, unsigned depth, struct vhdx_info *out, struct vhdx_error *err)
{
    struct vx_layer *layer;

    if (depth >= disk->layer_count)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "the disk has %u layers",
                       disk->layer_count);
    layer = &disk->layers[depth];
    if (layer->image != NULL)
        vx_image_fill_info(layer->image, out);
    else if (layer->vhd != NULL)
        vx_vhd_fill_info(layer->vhd, out);
    else
        fill_raw_info(layer, out);
    out->is_writable = disk->is_writable && depth == 0;
    return vx_storage_get_size(layer->storage, &out->file_size, err);
}

int
vhdx_disk_pin(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_pin *pin,
              struct vhdx_error *err)
{
    int rc = vx_disk_check_range(disk, guest_offset, length, err);

    pin->held = NULL;
    if (rc < 0 || disk->layers[0].image == NULL || !disk->is_writable)
        return rc; /* nothing moves */
    pin->held = vx_alloc(sizeof(struct vx_held));
    if (pin->held == NULL)
        return vx_fail_memory(err, "a pin");
    vx_image_pin(disk->layers[0].image, pin->held, guest_offset, length);
    return VHDX_OK;
}

void
vhdx_disk_unpin(struct vhdx_disk *disk, struct vhdx_pin *pin)
{
    if (pin->held != NULL)
        vx_image_release(disk->layers[0].image, pin->held);
    vx_free(pin->held);
    pin->held = NULL;
}
