/*
 * VHD, the format before VHDX: "Virtual Hard Disk Image Format Specification" of Microsoft, version 1.0.
 *
 * A footer of 512 bytes ends the file.  In a fixed VHD the disk lies before it as it is.  A dynamic one begins with a copy
 * of the footer, which leads to a header and a table of blocks; a block has a bitmap of its sectors, then its sectors.
 */
#ifndef VX_VHD_H
#define VX_VHD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>
#include <vhdx/guid.h>

#define VX_VHD_SECTOR      512u
#define VX_VHD_FOOTER_SIZE 512u
#define VX_VHD_HEADER_SIZE 1024u
#define VX_VHD_MAX_BLOCK   (UINT32_C(256) << 20)
#define VX_VHD_MAX_ENTRIES (UINT32_C(1) << 22)    /* 2040 GiB in blocks of 512 KiB: the table takes 16 MiB */
#define VX_VHD_MAX_SIZE    (UINT64_C(2040) << 30) /* what Hyper-V makes */
#define VX_VHD_NO_BLOCK    UINT32_C(0xffffffff)   /* a table's entry of a block that is not in the file */

enum vx_vhd_type { VX_VHD_FIXED = 2, VX_VHD_DYNAMIC = 3, VX_VHD_DIFFERENCING = 4 };

/* What a BIOS is told of a disk.  Nothing else goes by it today; QEMU believes it rather than the size of some writers. */
struct vx_vhd_geometry {
    uint16_t cylinders;
    uint8_t  heads;
    uint8_t  sectors; /* of a track */
};

struct vx_vhd_footer {
    uint64_t               data_offset; /* of the header; all ones in a fixed VHD */
    uint32_t               timestamp;   /* seconds since 2000-01-01 UTC */
    char                   creator[5];  /* four characters, those that cannot be printed as '?' */
    uint64_t               disk_size;   /* bytes, whole sectors */
    struct vx_vhd_geometry geometry;
    enum vx_vhd_type       type;
    struct vhdx_guid       disk_id;
};

struct vx_vhd_header {
    uint64_t table_offset;
    uint32_t entry_count; /* of those that the disk needs */
    uint32_t block_size;
    uint32_t bitmap_size; /* bytes before the sectors of a block */
};

/* Do 8 bytes say "conectix"? */
bool vx_vhd_has_cookie(const uint8_t bytes[8]);

/* `at` is where the bytes came from, for the message.  VHDX_E_NOT_VHDX without the cookie; VHDX_E_BAD_VHD. */
int vx_vhd_footer_decode(struct vx_vhd_footer *out, const uint8_t bytes[VX_VHD_FOOTER_SIZE], uint64_t at,
                         struct vhdx_error *err);

/* The footer of a new VHD. */
void vx_vhd_footer_encode(uint8_t bytes[VX_VHD_FOOTER_SIZE], const struct vx_vhd_footer *footer);

/* The header of a dynamic VHD, which lies at footer->data_offset of a file of this size: its table lies in the file. */
int vx_vhd_header_decode(struct vx_vhd_header *out, const uint8_t bytes[VX_VHD_HEADER_SIZE],
                         const struct vx_vhd_footer *footer, uint64_t file_size, struct vhdx_error *err);

/* Where the bitmap of a block lies, and that what the disk shows of the block lies inside of the file.  `entry` is the
 * table's for the block, and not VX_VHD_NO_BLOCK. */
int vx_vhd_locate_block(uint64_t *bitmap_offset, const struct vx_vhd_header *header, uint64_t disk_size,
                        uint32_t block_index, uint32_t entry, uint64_t file_size, struct vhdx_error *err);

/* As the appendix of the specification computes it. */
struct vx_vhd_geometry vx_vhd_compute_geometry(uint64_t disk_size);

#endif
