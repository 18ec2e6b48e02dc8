/* The footer of a fixed VHD that is made. */
#ifndef VX_CREATE_VHD_H
#define VX_CREATE_VHD_H

#include <vhdx/ops.h>

#include "format/vhd.h"

/* VHDX_E_INVALID when the options do not go with a VHD. */
int vx_new_vhd_footer(uint8_t bytes[VX_VHD_FOOTER_SIZE], const struct vhdx_create_options *options, struct vhdx_error *err);

#endif
