/*
 * A VHD as a layer: see vhd.h, and format/vhd.h for the format.
 *
 *   K1  The footer at the end of the file counts.  Where that is damaged or cut off, the copy at the front of a dynamic VHD
 *       does.
 *   K2  The table of blocks is held whole, 16 MiB at most, and never longer than the file; bitmaps are read when they are
 *       asked for, a sector of them at a time.
 *   K3  A sector whose bit is clear was never written and reads as zeros, as the specification and VirtualBox have it.
 */
#include "disk/vhd.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/vhd.h"
#include "storage/storage.h"

struct vx_vhd {
    struct vhdx_storage *storage;
    uint64_t             file_size;
    struct vx_vhd_footer footer;
    struct vx_vhd_header header; /* of a dynamic VHD, as is: */
    uint8_t             *table;  /* big-endian, owned; NULL in a fixed one */
};

/* --- opening --- */

/* The last 512 bytes of the file; of a shorter one, zeros. */
static int
read_end(struct vhdx_storage *storage, uint64_t file_size, uint8_t bytes[VX_VHD_FOOTER_SIZE], struct vhdx_error *err)
{
    memset(bytes, 0, VX_VHD_FOOTER_SIZE);
    if (file_size < VX_VHD_FOOTER_SIZE)
        return VHDX_OK;
    return vx_storage_read(storage, bytes, VX_VHD_FOOTER_SIZE, file_size - VX_VHD_FOOTER_SIZE, err);
}

int
vx_vhd_is_there(struct vhdx_storage *storage, bool *out, struct vhdx_error *err)
{
    uint8_t  bytes[VX_VHD_FOOTER_SIZE];
    uint64_t file_size;
    size_t   got;
    int      rc = vx_storage_get_size(storage, &file_size, err);

    *out = false;
    if (rc == VHDX_OK)
        rc = read_end(storage, file_size, bytes, err);
    if (rc == VHDX_OK && !vx_vhd_has_cookie(bytes))
        rc = vx_storage_read_prefix(storage, bytes, sizeof bytes, 0, &got, err);
    if (rc == VHDX_OK)
        *out = vx_vhd_has_cookie(bytes);
    return rc;
}

/* K1 */
static int
read_footer(struct vx_vhd *vhd, struct vhdx_error *err)
{
    uint8_t              bytes[VX_VHD_FOOTER_SIZE];
    struct vx_vhd_footer copy;
    size_t               got;
    uint64_t             at = vhd->file_size - vx_min_u64(vhd->file_size, VX_VHD_FOOTER_SIZE);
    int                  rc = read_end(vhd->storage, vhd->file_size, bytes, err);

    if (rc < 0)
        return rc;
    rc = vx_vhd_footer_decode(&vhd->footer, bytes, at, err);
    if (rc == VHDX_OK)
        return VHDX_OK;
    if (vx_storage_read_prefix(vhd->storage, bytes, sizeof bytes, 0, &got, NULL) < 0
        || vx_vhd_footer_decode(&copy, bytes, 0, NULL) < 0 || copy.type == VX_VHD_FIXED)
        return rc; /* what is wrong with the footer itself is the better message */
    vhd->footer = copy;
    return VHDX_OK;
}

static int
read_table(struct vx_vhd *vhd, struct vhdx_error *err)
{
    size_t size = (size_t)vhd->header.entry_count * 4;

    vhd->table = vx_alloc(size);
    if (vhd->table == NULL)
        return vx_fail_memory(err, "the block table of a VHD");
    return vx_storage_read(vhd->storage, vhd->table, size, vhd->header.table_offset, err);
}

static int
open_dynamic(struct vx_vhd *vhd, struct vhdx_error *err)
{
    uint8_t  bytes[VX_VHD_HEADER_SIZE];
    uint64_t end;
    int      rc;

    if (!vx_add_u64(vhd->footer.data_offset, sizeof bytes, &end) || end > vhd->file_size)
        return vx_fail(err, VHDX_E_BAD_VHD, VHDX_PART_HEADER, VHDX_NO_OFFSET, "VHD footer: the header's offset, which leads"
                       " out of the file, is %" PRIu64, vhd->footer.data_offset);
    rc = vx_storage_read(vhd->storage, bytes, sizeof bytes, vhd->footer.data_offset, err);
    if (rc == VHDX_OK)
        rc = vx_vhd_header_decode(&vhd->header, bytes, &vhd->footer, vhd->file_size, err);
    return rc == VHDX_OK ? read_table(vhd, err) : rc;
}

static int
open_steps(struct vx_vhd *vhd, bool is_writable, struct vhdx_error *err)
{
    int rc = vx_storage_get_size(vhd->storage, &vhd->file_size, err);

    if (rc == VHDX_OK)
        rc = read_footer(vhd, err);
    if (rc < 0)
        return rc;
    if (vhd->footer.type == VX_VHD_DIFFERENCING)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_NONE, VHDX_NO_OFFSET, "a differencing VHD, whose parent is not"
                       " looked for here: Convert-VHD of Hyper-V makes a whole VHDX of it and its parents");
    if (vhd->footer.type == VX_VHD_DYNAMIC && is_writable)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_NONE, VHDX_NO_OFFSET, "a dynamic VHD, which is read here and not"
                       " written: convert it to a VHDX or to a fixed VHD");
    if (vhd->footer.type == VX_VHD_DYNAMIC)
        return open_dynamic(vhd, err);
    if (vhd->footer.disk_size > vhd->file_size - VX_VHD_FOOTER_SIZE) /* which was read, so it is as long */
        return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, vhd->file_size, "a fixed VHD of %" PRIu64
                       " bytes in a file of %" PRIu64, vhd->footer.disk_size, vhd->file_size);
    return VHDX_OK;
}

int
vx_vhd_open(struct vx_vhd **out, struct vhdx_storage *storage, bool is_writable, struct vhdx_error *err)
{
    struct vx_vhd *vhd = vx_alloc_zeroed(1, sizeof *vhd);
    int            rc;

    if (vhd == NULL)
        return vx_fail_memory(err, "a VHD");
    vhd->storage = storage;
    rc = open_steps(vhd, is_writable, err);
    if (rc < 0) {
        vx_vhd_close(vhd);
        return rc;
    }
    *out = vhd;
    return VHDX_OK;
}

void
vx_vhd_close(struct vx_vhd *vhd)
{
    if (vhd == NULL)
        return;
    vx_free(vhd->table);
    vx_free(vhd);
}

/* --- what it holds --- */

uint64_t
vx_vhd_size(const struct vx_vhd *vhd)
{
    return vhd->footer.disk_size;
}

void
vx_vhd_fill_info(const struct vx_vhd *vhd, struct vhdx_info *out)
{
    memset(out, 0, sizeof *out);
    out->format = VHDX_FORMAT_VHD;
    out->type = vhd->table != NULL ? VHDX_TYPE_DYNAMIC : VHDX_TYPE_FIXED;
    out->virtual_size = vhd->footer.disk_size;
    out->block_size = vhd->header.block_size;
    out->payload_block_count = vhd->header.entry_count;
    out->bat_offset = vhd->header.table_offset;
    out->bat_length = (uint64_t)vhd->header.entry_count * 4;
    out->logical_sector_size = out->physical_sector_size = VX_VHD_SECTOR;
    out->disk_id = vhd->footer.disk_id;
    snprintf(out->creator, sizeof out->creator, "%s", vhd->footer.creator);
}

static uint32_t
entry_of(const struct vx_vhd *vhd, uint32_t block_index)
{
    const uint8_t *p = vhd->table + (size_t)block_index * 4;

    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | (uint32_t)p[3];
}

static bool
bit_is_set(const uint8_t *bitmap, uint64_t index)
{
    return (bitmap[index / 8] >> (7 - index % 8) & 1) != 0; /* the first sector's is the highest bit */
}

/* K3: how far do sectors go whose bits are as that of the first?  `out->length` is what is asked for. */
static int
look_at_bitmap(const struct vx_vhd *vhd, uint64_t bitmap_offset, uint64_t offset_in_block, struct vx_layer_extent *out,
               struct vhdx_error *err)
{
    uint8_t  window[VX_VHD_SECTOR];
    uint64_t sector = offset_in_block / VX_VHD_SECTOR, first = vx_round_down(sector, sizeof window * 8), end = sector;
    uint64_t last = (offset_in_block + out->length - 1) / VX_VHD_SECTOR;
    uint64_t limit = vx_min_u64(last + 1, first + sizeof window * 8);
    int      rc = vx_storage_read(vhd->storage, window, sizeof window, bitmap_offset + first / 8, err);

    if (rc < 0)
        return rc;
    while (end < limit && bit_is_set(window, end - first) == bit_is_set(window, sector - first))
        end++;
    out->source = bit_is_set(window, sector - first) ? VX_LAYER_DATA : VX_LAYER_ZERO;
    out->length = vx_min_u64(out->length, end * VX_VHD_SECTOR - offset_in_block);
    return VHDX_OK;
}

int
vx_vhd_resolve(const struct vx_vhd *vhd, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
               struct vhdx_error *err)
{
    uint32_t block_index;
    uint64_t offset_in_block, bitmap_offset;
    int      rc;

    *out = (struct vx_layer_extent){ .source = VX_LAYER_DATA, .length = length, .file_offset = guest_offset };
    if (vhd->table == NULL)
        return VHDX_OK;
    block_index = (uint32_t)(guest_offset / vhd->header.block_size);
    offset_in_block = guest_offset % vhd->header.block_size;
    out->length = vx_min_u64(length, vhd->header.block_size - offset_in_block);
    if (entry_of(vhd, block_index) == VX_VHD_NO_BLOCK) {
        out->source = VX_LAYER_UNSET;
        return VHDX_OK;
    }
    rc = vx_vhd_locate_block(&bitmap_offset, &vhd->header, vhd->footer.disk_size, block_index,
                             entry_of(vhd, block_index), vhd->file_size, err);
    if (rc < 0)
        return rc;
    out->file_offset = bitmap_offset + vhd->header.bitmap_size + offset_in_block;
    return look_at_bitmap(vhd, bitmap_offset, offset_in_block, out, err);
}
