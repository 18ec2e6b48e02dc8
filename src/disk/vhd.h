/* A VHD as a layer of a disk: the last one, for differencing VHDs are refused. */
#ifndef VX_DISK_VHD_H
#define VX_DISK_VHD_H

#include <vhdx/disk.h>

#include "image/image.h"

struct vx_vhd;

/* Does the file end, or begin, with the cookie of a VHD? */
int vx_vhd_is_there(struct vhdx_storage *storage, bool *out, struct vhdx_error *err);

/*
 *   storage  borrowed, must outlive the VHD
 *   errors   VHDX_E_BAD_VHD, _TRUNCATED, _UNSUPPORTED (differencing; or dynamic and to be written), _NOT_VHDX, _LIMIT, _IO
 */
int vx_vhd_open(struct vx_vhd **out, struct vhdx_storage *storage, bool is_writable, struct vhdx_error *err);
void vx_vhd_close(struct vx_vhd *vhd);

uint64_t vx_vhd_size(const struct vx_vhd *vhd);
void vx_vhd_fill_info(const struct vx_vhd *vhd, struct vhdx_info *out);

/* The beginning of a range of the disk, as vx_image_resolve has it; any number of threads. */
int vx_vhd_resolve(const struct vx_vhd *vhd, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
                   struct vhdx_error *err);

#endif
