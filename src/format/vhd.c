/*
 * VHD: see vhd.h.  All numbers are big-endian.  Only what a reader goes by is judged: the disk's size is the footer's
 * "current size", as Hyper-V, Azure and VirtualBox have it, and the geometry is not looked at.
 */
#include "format/vhd.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/guid.h"

#define FEATURES_RESERVED 2u /* a bit that is always set */
#define VERSION_1         UINT32_C(0x00010000)

#define SUM_OF_FOOTER_AT  64u
#define SUM_OF_HEADER_AT  36u

static const uint8_t footer_cookie[8] = { 'c', 'o', 'n', 'e', 'c', 't', 'i', 'x' };
static const uint8_t header_cookie[8] = { 'c', 'x', 's', 'p', 'a', 'r', 's', 'e' };

static uint16_t
be16(const uint8_t *p)
{
    return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t
be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static uint64_t
be64(const uint8_t *p)
{
    return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static void
put_be16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void
put_be32(uint8_t *p, uint32_t v)
{
    put_be16(p, (uint16_t)(v >> 16));
    put_be16(p + 2, (uint16_t)v);
}

static void
put_be64(uint8_t *p, uint64_t v)
{
    put_be32(p, (uint32_t)(v >> 32));
    put_be32(p + 4, (uint32_t)v);
}

/* The sum of all bytes but the four of the checksum itself, inverted. */
static uint32_t
checksum(const uint8_t *bytes, size_t size, size_t sum_at)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < size; i++)
        if (i < sum_at || i >= sum_at + 4)
            sum += bytes[i];
    return ~sum;
}

/* The first three groups of a GUID are numbers: big-endian here, little-endian in Windows' binary form and so in ours. */
static void
swap_guid(uint8_t out[16], const uint8_t in[16])
{
    static const uint8_t order[16] = { 3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15 };

    for (size_t i = 0; i < sizeof order; i++)
        out[i] = in[order[i]];
}

static int
fail_footer(struct vhdx_error *err, uint64_t at, const char *what, uint64_t value)
{
    return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, at, "VHD footer: %s is %" PRIu64, what, value);
}

/* --- footer --- */

bool
vx_vhd_has_cookie(const uint8_t bytes[8])
{
    return memcmp(bytes, footer_cookie, sizeof footer_cookie) == 0;
}

static int
judge_footer(const struct vx_vhd_footer *footer, uint32_t version, uint64_t at, struct vhdx_error *err)
{
    if (version >> 16 != VERSION_1 >> 16)
        return fail_footer(err, at + 12, "the version, which should be 1,", version >> 16);
    if (footer->type != VX_VHD_FIXED && footer->type != VX_VHD_DYNAMIC && footer->type != VX_VHD_DIFFERENCING)
        return fail_footer(err, at + 60, "the type, which should be 2, 3 or 4,", (uint64_t)footer->type);
    if (footer->disk_size == 0 || footer->disk_size % VX_VHD_SECTOR != 0)
        return fail_footer(err, at + 48, "the disk's size, which should be whole sectors,", footer->disk_size);
    return VHDX_OK;
}

int
vx_vhd_footer_decode(struct vx_vhd_footer *out, const uint8_t b[VX_VHD_FOOTER_SIZE], uint64_t at, struct vhdx_error *err)
{
    uint8_t id[16];

    if (!vx_vhd_has_cookie(b))
        return vx_fail(err, VHDX_E_NOT_VHDX, VHDX_PART_HEADER, at, "VHD footer: no \"conectix\"");
    if (be32(b + SUM_OF_FOOTER_AT) != checksum(b, VX_VHD_FOOTER_SIZE, SUM_OF_FOOTER_AT))
        return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, at, "VHD footer: checksum is 0x%08" PRIx32
                       ", expected 0x%08" PRIx32, be32(b + SUM_OF_FOOTER_AT),
                       checksum(b, VX_VHD_FOOTER_SIZE, SUM_OF_FOOTER_AT));
    *out = (struct vx_vhd_footer){
        .data_offset = be64(b + 16),
        .timestamp = be32(b + 24),
        .disk_size = be64(b + 48),
        .geometry = { .cylinders = be16(b + 56), .heads = b[58], .sectors = b[59] },
        .type = (enum vx_vhd_type)be32(b + 60),
    };
    for (size_t i = 0; i < 4; i++)
        out->creator[i] = b[28 + i] >= 0x20 && b[28 + i] < 0x7f ? (char)b[28 + i] : '?';
    swap_guid(id, b + 68);
    out->disk_id = vx_guid_load(id);
    return judge_footer(out, be32(b + 12), at, err);
}

void
vx_vhd_footer_encode(uint8_t b[VX_VHD_FOOTER_SIZE], const struct vx_vhd_footer *footer)
{
    uint8_t id[16];

    memset(b, 0, VX_VHD_FOOTER_SIZE);
    memcpy(b, footer_cookie, sizeof footer_cookie);
    put_be32(b + 8, FEATURES_RESERVED);
    put_be32(b + 12, VERSION_1);
    put_be64(b + 16, footer->data_offset);
    put_be32(b + 24, footer->timestamp);
    memcpy(b + 28, footer->creator, 4);
    put_be32(b + 32, UINT32_C(0x00060001)); /* the creator's version and system: those of Windows */
    memcpy(b + 36, "Wi2k", 4);
    put_be64(b + 40, footer->disk_size); /* the size it was made with */
    put_be64(b + 48, footer->disk_size);
    put_be16(b + 56, footer->geometry.cylinders);
    b[58] = footer->geometry.heads;
    b[59] = footer->geometry.sectors;
    put_be32(b + 60, (uint32_t)footer->type);
    vx_guid_store(id, &footer->disk_id);
    swap_guid(b + 68, id);
    put_be32(b + SUM_OF_FOOTER_AT, checksum(b, VX_VHD_FOOTER_SIZE, SUM_OF_FOOTER_AT));
}

/* --- header and blocks of a dynamic VHD --- */

static int
fail_header(struct vhdx_error *err, uint64_t at, const char *what, uint64_t value)
{
    return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, at, "VHD header: %s is %" PRIu64, what, value);
}

static int
judge_table(const struct vx_vhd_header *header, uint64_t entries_needed, uint32_t entries_there, uint64_t at,
            uint64_t file_size, struct vhdx_error *err)
{
    uint64_t end;

    if (entries_needed > entries_there)
        return fail_header(err, at + 28, "the number of blocks, too few for the disk,", entries_there);
    if (entries_needed > VX_VHD_MAX_ENTRIES)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_HEADER, at + 28, "VHD header: the disk has %" PRIu64
                       " blocks, more than the limit of %" PRIu32, entries_needed, VX_VHD_MAX_ENTRIES);
    if (!vx_add_u64(header->table_offset, entries_needed * 4, &end) || end > file_size)
        return fail_header(err, at + 16, "the table's offset, which leads out of the file,", header->table_offset);
    return VHDX_OK;
}

int
vx_vhd_header_decode(struct vx_vhd_header *out, const uint8_t b[VX_VHD_HEADER_SIZE], const struct vx_vhd_footer *footer,
                     uint64_t file_size, struct vhdx_error *err)
{
    uint64_t at = footer->data_offset, entries_needed;

    if (memcmp(b, header_cookie, sizeof header_cookie) != 0)
        return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, at, "VHD header: no \"cxsparse\"");
    if (be32(b + SUM_OF_HEADER_AT) != checksum(b, VX_VHD_HEADER_SIZE, SUM_OF_HEADER_AT))
        return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, at, "VHD header: checksum is 0x%08" PRIx32
                       ", expected 0x%08" PRIx32, be32(b + SUM_OF_HEADER_AT),
                       checksum(b, VX_VHD_HEADER_SIZE, SUM_OF_HEADER_AT));
    *out = (struct vx_vhd_header){ .table_offset = be64(b + 16), .block_size = be32(b + 32) };
    if (be32(b + 24) >> 16 != VERSION_1 >> 16)
        return fail_header(err, at + 24, "the version, which should be 1,", be32(b + 24) >> 16);
    if (out->block_size < VX_VHD_SECTOR || out->block_size > VX_VHD_MAX_BLOCK
        || (out->block_size & (out->block_size - 1)) != 0)
        return fail_header(err, at + 32, "the block size, which should be a power of two up to 256 MiB,",
                           out->block_size);
    entries_needed = vx_ceil_div(footer->disk_size, out->block_size);
    out->bitmap_size = (uint32_t)vx_round_up(vx_ceil_div(out->block_size / VX_VHD_SECTOR, 8), VX_VHD_SECTOR);
    out->entry_count = (uint32_t)vx_min_u64(entries_needed, VX_VHD_MAX_ENTRIES);
    return judge_table(out, entries_needed, be32(b + 28), at, file_size, err);
}

int
vx_vhd_locate_block(uint64_t *bitmap_offset, const struct vx_vhd_header *header, uint64_t disk_size, uint32_t block_index,
                    uint32_t entry, uint64_t file_size, struct vhdx_error *err)
{
    uint64_t guest_offset = (uint64_t)block_index * header->block_size;
    uint64_t shown = vx_min_u64(header->block_size, disk_size - guest_offset); /* of the last block a part may do */

    *bitmap_offset = (uint64_t)entry * VX_VHD_SECTOR;
    if (*bitmap_offset + header->bitmap_size + shown > file_size)
        return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_BAT, header->table_offset + (uint64_t)block_index * 4,
                       "VHD: block %" PRIu32 " at offset %" PRIu64 " reaches past the end of the file, %" PRIu64,
                       block_index, *bitmap_offset, file_size);
    return VHDX_OK;
}

/* --- geometry --- */

struct vx_vhd_geometry
vx_vhd_compute_geometry(uint64_t disk_size)
{
    uint64_t total = vx_min_u64(disk_size / VX_VHD_SECTOR, UINT64_C(65535) * 16 * 255);
    uint64_t sectors = 17, heads, tracks; /* of all cylinders together */

    if (total >= UINT64_C(65535) * 16 * 63) {
        sectors = 255;
        heads = 16;
        tracks = total / sectors;
    } else {
        tracks = total / sectors;
        heads = vx_max_u64(4, (tracks + 1023) / 1024);
        if (tracks >= heads * 1024 || heads > 16) {
            sectors = 31;
            heads = 16;
            tracks = total / sectors;
        }
        if (tracks >= heads * 1024) {
            sectors = 63;
            heads = 16;
            tracks = total / sectors;
        }
    }
    return (struct vx_vhd_geometry){ .cylinders = (uint16_t)(tracks / heads), .heads = (uint8_t)heads,
                                     .sectors = (uint8_t)sectors };
}
