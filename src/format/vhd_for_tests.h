/* Parts of VHDs for tests: big-endian numbers put anywhere, checksums made right again. */
#ifndef VX_VHD_FOR_TESTS_H
#define VX_VHD_FOR_TESTS_H

#include <string.h>

#include "format/vhd.h"

static inline void
vhd_put(uint8_t *p, uint64_t value, size_t width)
{
    for (size_t i = width; i-- > 0; value >>= 8)
        p[i] = (uint8_t)value;
}

/* The checksum is at 64 in a footer, at 36 in a header. */
static inline void
vhd_seal(uint8_t *bytes, size_t size)
{
    size_t   sum_at = size == VX_VHD_FOOTER_SIZE ? 64 : 36;
    uint32_t sum = 0;

    memset(bytes + sum_at, 0, 4);
    for (size_t i = 0; i < size; i++)
        sum += bytes[i];
    vhd_put(bytes + sum_at, ~sum, 4);
}

static inline void
vhd_make_footer(uint8_t bytes[VX_VHD_FOOTER_SIZE], enum vx_vhd_type type, uint64_t disk_size)
{
    struct vx_vhd_footer footer = {
        .data_offset = type == VX_VHD_FIXED ? UINT64_MAX : VX_VHD_FOOTER_SIZE, .timestamp = 5, .creator = "test",
        .disk_size = disk_size, .geometry = vx_vhd_compute_geometry(disk_size), .type = type,
    };

    for (size_t i = 0; i < 16; i++)
        footer.disk_id.bytes[i] = (uint8_t)(i + 1);
    vx_vhd_footer_encode(bytes, &footer);
}

static inline void
vhd_make_header(uint8_t bytes[VX_VHD_HEADER_SIZE], uint64_t table_offset, uint32_t entry_count, uint32_t block_size)
{
    memset(bytes, 0, VX_VHD_HEADER_SIZE);
    memcpy(bytes, "cxsparse", 8);
    vhd_put(bytes + 8, UINT64_MAX, 8);
    vhd_put(bytes + 16, table_offset, 8);
    vhd_put(bytes + 24, 0x00010000, 4);
    vhd_put(bytes + 28, entry_count, 4);
    vhd_put(bytes + 32, block_size, 4);
    vhd_seal(bytes, VX_VHD_HEADER_SIZE);
}

#endif
