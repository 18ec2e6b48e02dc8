/* Showing sector bitmaps: for each chunk that has one, the slices that say something, and the sectors in runs (inspect.h). */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/inspect.h"
#include "storage/storage.h"

struct showing {
    struct vhdx_inspection *in;
    struct vx_bat_limits    limits;
    uint8_t                *bits;    /* owned; of a chunk */
    uint8_t                *entries; /* owned; of the chunk's payload blocks */
};

static bool
is_set(const uint8_t *slice, uint32_t sector)
{
    return (slice[sector / 8] >> (sector % 8) & 1) != 0;
}

/* The first sector from `sector` on whose bit is `wanted`, or `count`. */
static uint32_t
find_bit(const uint8_t *slice, uint32_t sector, uint32_t count, bool wanted)
{
    const uint8_t dull = wanted ? 0x00 : 0xff;

    while (sector < count) {
        if (sector % 8 == 0 && slice[sector / 8] == dull)
            sector += 8;
        else if (is_set(slice, sector) == wanted)
            return sector;
        else
            sector++;
    }
    return count;
}

static uint32_t
count_bits(const uint8_t *slice, uint32_t count)
{
    uint32_t present = 0;

    for (uint32_t from = find_bit(slice, 0, count, true); from < count;) {
        uint32_t end = find_bit(slice, from, count, false);

        present += end - from;
        from = find_bit(slice, end, count, true);
    }
    return present;
}

static int
show_slice(struct showing *s, uint64_t block, uint64_t bitmap_offset)
{
    const struct vx_geometry   *g = &s->in->geometry;
    const uint8_t              *slice = s->bits + vx_geometry_slice_offset(g, block);
    uint64_t                    in_chunk = block & (g->chunk_ratio - 1);
    struct vhdx_inspected_slice row = { .chunk_index = vx_geometry_chunk_of(g, block), .block_index = block,
                                        .file_offset = bitmap_offset + vx_geometry_slice_offset(g, block),
                                        .sector_count = g->sectors_per_block };
    int                         rc;

    row.block_state = vx_bat_entry_decode(vx_le64(s->entries + in_chunk * 8)).state;
    if (row.block_state != VX_BLOCK_PARTIALLY_PRESENT && vx_is_zero(slice, g->bitmap_slice))
        return VHDX_OK;
    row.present_count = count_bits(slice, g->sectors_per_block);
    rc = VX_TELL(s->in, slice, &row);
    for (uint32_t from = find_bit(slice, 0, g->sectors_per_block, true); from < g->sectors_per_block && rc == VHDX_OK;) {
        uint32_t                      end = find_bit(slice, from, g->sectors_per_block, false);
        struct vhdx_inspected_sectors sectors = { .block_index = block, .sector = from, .count = end - from };

        rc = VX_TELL(s->in, sectors, &sectors);
        from = find_bit(slice, end, g->sectors_per_block, true);
    }
    return rc;
}

static int
show_slices(struct showing *s, uint64_t chunk, uint64_t bitmap_offset, struct vhdx_error *err)
{
    const struct vx_geometry *g = &s->in->geometry;
    uint64_t                  first = chunk << g->chunk_shift;
    uint64_t                  end = vx_min_u64(first + g->chunk_ratio, g->payload_block_count);
    size_t                    got;
    int                       rc;

    if (bitmap_offset >= s->in->view_length || s->in->view_length - bitmap_offset < VX_SECTOR_BITMAP_SIZE)
        return vx_inspect_missing(s->in, VHDX_E_TRUNCATED, VHDX_PART_SECTOR_BITMAP, bitmap_offset,
                                  "the sector bitmap of chunk %" PRIu64 " reaches past the end of the file", chunk);
    rc = vx_storage_read(s->in->view, s->bits, VX_SECTOR_BITMAP_SIZE, bitmap_offset, err);
    if (rc == VHDX_OK)
        rc = vx_storage_read_prefix(s->in->view, s->entries, (size_t)(end - first) * 8,
                                    s->limits.bat_file_offset + vx_geometry_payload_bat_index(g, first) * 8, &got, err);
    for (uint64_t block = first; block < end && rc == VHDX_OK; block++)
        rc = show_slice(s, block, bitmap_offset);
    return rc;
}

/* A chunk without a bitmap is told when it was asked for by number. */
static int
show_chunk(struct showing *s, uint64_t chunk, bool is_asked_for, struct vhdx_error *err)
{
    uint64_t                     at = vx_geometry_bitmap_bat_index(&s->in->geometry, chunk) * 8;
    struct vhdx_inspected_bitmap row = { .chunk_index = chunk };
    struct vx_bat_entry          entry;
    uint8_t                      raw[8];
    size_t                       got;
    int                          rc;

    if (at + 8 > s->in->regions.bat.length)
        return VHDX_OK; /* told by the BAT: it does not hold the entries of the disk */
    rc = vx_storage_read_prefix(s->in->view, raw, sizeof raw, s->limits.bat_file_offset + at, &got, err);
    if (rc < 0)
        return rc;
    entry = vx_bat_entry_decode(vx_le64(raw));
    row.state = entry.state;
    row.file_offset = entry.file_offset;
    if (vx_bat_judge_bitmap(&entry, vx_le64(raw), chunk, &s->limits, &s->in->findings) == VHDX_OK &&
        entry.state != VX_BLOCK_FULLY_PRESENT && !is_asked_for)
        return VHDX_OK;
    rc = VX_TELL(s->in, bitmap, &row);
    if (rc == VHDX_OK && row.state == VX_BLOCK_FULLY_PRESENT)
        rc = show_slices(s, chunk, row.file_offset, err);
    return rc;
}

static int
show_all(struct showing *s, const struct vhdx_inspect_range *range, struct vhdx_error *err)
{
    uint64_t first = range != NULL ? range->first : 0, end = s->in->geometry.bitmap_block_count;
    int      rc = VHDX_OK;

    if (range != NULL)
        end = vx_min_u64(end, range->end);
    for (uint64_t chunk = first; chunk < end && rc == VHDX_OK; chunk++)
        rc = show_chunk(s, chunk, range != NULL, err);
    return rc;
}

int
vx_inspect_bitmaps(struct vhdx_inspection *in, const struct vhdx_inspect_range *range, struct vhdx_error *err)
{
    struct showing s = { .in = in, .limits = vx_inspect_limits(in) };
    int            rc;

    if (!in->has_geometry || !in->has_bat)
        return vx_inspect_missing(in, in->has_bat ? VHDX_E_BAD_METADATA : VHDX_E_BAD_REGION, VHDX_PART_SECTOR_BITMAP,
                                  VHDX_NO_OFFSET, "sector bitmaps cannot be found: %s",
                                  in->has_bat ? "the shape of the disk is not known" : "there is no BAT");
    if (!in->geometry.is_differencing)
        return VHDX_OK;
    s.bits = vx_alloc(VX_SECTOR_BITMAP_SIZE);
    s.entries = vx_alloc_zeroed(in->geometry.chunk_ratio, 8);
    if (s.bits == NULL || s.entries == NULL)
        rc = vx_fail_memory(err, "a sector bitmap");
    else
        rc = show_all(&s, range, err);
    vx_free(s.bits);
    vx_free(s.entries);
    return rc;
}
