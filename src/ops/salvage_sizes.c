/*
 * Block size, sector size and disk size when the metadata do not tell.  In this order: what the caller says, single items
 * that survived, the shape of the block table, what the payload tells.
 *
 *   The block size is the largest for which no two blocks of the table overlap.  A smaller one would leave a gap behind
 *   every block; that most blocks are followed by the next one without a gap is what makes it a strong guess.
 *
 *   Where the sector bitmap entries lie in the table depends on both sizes (the chunk ratio); in files without a parent
 *   they are zero, and a wrong ratio puts blocks there.
 */
#include "ops/salvage.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

/* What the table, and where that is zeros, the log's pages of it, look like with a block size and a chunk ratio. */
struct fit {
    uint32_t block_size, sector_size;
    uint64_t present, overlapping, adjacent, past_end, in_bitmap_slots;
    uint64_t last_block;  /* number of the last block that is not in state 0, plus 1 */
    bool     has_bitmaps; /* something of a differencing image is there */
};

/* --- the table's shape --- */

static void
take_entry(struct fit *fit, const struct vhdx_salvage *s, struct vx_mib_map *starts, uint64_t bat_index, uint64_t raw)
{
    uint64_t              ratio = VX_SECTORS_PER_CHUNK * fit->sector_size / fit->block_size;
    struct vx_bat_entry   entry;
    enum vx_entry_verdict verdict = vx_salvage_judge(s, raw, &entry);
    bool is_present = verdict == VX_ENTRY_PRESENT || verdict == VX_ENTRY_ODD || verdict == VX_ENTRY_PAST_END;

    if (raw == 0)
        return;
    if (bat_index % (ratio + 1) == ratio) {
        fit->in_bitmap_slots++;
        return;
    }
    fit->last_block = bat_index - bat_index / (ratio + 1) + 1;
    fit->has_bitmaps |= is_present && entry.state == VX_BLOCK_PARTIALLY_PRESENT;
    if (!is_present)
        return;
    fit->present++;
    fit->past_end += entry.file_offset + fit->block_size > s->file_length;
    vx_mib_map_set(starts, entry.file_offset);
}

/* Distances between the beginnings of blocks, in the order of the file.  The end of the file follows the last one. */
static void
measure_distances(struct fit *fit, const struct vhdx_salvage *s, const struct vx_mib_map *starts)
{
    uint64_t last = 0;

    for (uint64_t at = VX_MIB; at <= s->file_length; at += VX_MIB) {
        if (at < s->file_length && !vx_mib_map_has(starts, at))
            continue;
        if (last != 0) {
            fit->overlapping += at - last < fit->block_size && at < s->file_length;
            fit->adjacent += at - last == fit->block_size;
        }
        last = at;
    }
}

static int
try_fit(struct fit *fit, struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vx_mib_map starts = { 0 };
    uint64_t          raw[VX_BAT_PAGE_ENTRIES], images[VX_BAT_PAGE_ENTRIES];
    int               rc = VHDX_OK;

    if (!vx_mib_map_init(&starts, s->file_length))
        return vx_fail_memory(err, "the shape of the block table");
    for (uint64_t i = 0; i < s->bat_entries && rc == VHDX_OK; i += VX_BAT_PAGE_ENTRIES) {
        size_t part;

        rc = vx_salvage_skip_empty(s, &i, err);
        if (rc < 0 || i >= s->bat_entries)
            break;
        part = (size_t)vx_min_u64(VX_BAT_PAGE_ENTRIES, s->bat_entries - i);
        rc = vx_salvage_poll(s, i, s->bat_entries, err);
        if (rc == VHDX_OK)
            rc = vx_salvage_read_entries(s, i, part, raw, images, err);
        for (size_t k = 0; k < part && rc == VHDX_OK; k++)
            take_entry(fit, s, &starts, i + k, raw[k] != 0 ? raw[k] : images[k]);
    }
    measure_distances(fit, s, &starts);
    vx_free(starts.bits);
    return rc;
}

static bool
is_possible(const struct fit *fit)
{
    uint64_t odd = fit->overlapping + fit->past_end;

    return fit->present > 0 && odd * 50 <= fit->present && (fit->in_bitmap_slots == 0 || fit->has_bitmaps);
}

/* The largest block size that fits, with either sector size where both are possible. */
static int
fit_table(struct fit *out, struct vhdx_salvage *s, uint32_t block_size, uint32_t sector_size, struct vhdx_error *err)
{
    static const uint32_t sector_sizes[] = { 512, 4096 };
    uint32_t              largest = block_size != 0 ? block_size : VX_MAX_BLOCK_SIZE;
    uint32_t              smallest = block_size != 0 ? block_size : VX_MIN_BLOCK_SIZE;

    *out = (struct fit){ 0 };
    for (uint32_t size = largest; size >= smallest; size /= 2) {
        for (size_t i = 0; i < 2; i++) {
            struct fit fit = { .block_size = size, .sector_size = sector_sizes[i] };
            int        rc;

            if (sector_size != 0 && sector_size != fit.sector_size)
                continue;
            rc = try_fit(&fit, s, err);
            if (rc < 0)
                return rc;
            if (is_possible(&fit) || (block_size != 0 && i == 0)) {
                *out = fit;
                return VHDX_OK;
            }
        }
    }
    return VHDX_OK;
}

/* --- what survived --- */

static bool
is_block_size(uint32_t size)
{
    return size >= VX_MIN_BLOCK_SIZE && size <= VX_MAX_BLOCK_SIZE && (size & (size - 1)) == 0;
}

/* Items that break a rule are as good as missing. */
static void
drop_bad_items(struct vx_metadata *metadata)
{
    metadata->has_file_parameters &= is_block_size(metadata->block_size);
    metadata->has_logical_sector_size &= metadata->logical_sector_size == 512 || metadata->logical_sector_size == 4096;
    metadata->has_virtual_size &= metadata->virtual_size > 0 && metadata->virtual_size <= VX_MAX_VIRTUAL_SIZE;
    if (!metadata->has_file_parameters)
        metadata->block_size = 0, metadata->has_parent = metadata->leave_blocks_allocated = false;
    if (!metadata->has_logical_sector_size)
        metadata->logical_sector_size = 0;
    if (!metadata->has_virtual_size)
        metadata->virtual_size = 0;
}

/* --- what payload tells --- */

/* Signs of the first block and of the last two that are there: partition tables lie at both ends of a disk. */
static int
look_at_ends(struct vhdx_salvage *s, const struct fit *fit, struct vhdx_error *err)
{
    uint64_t ratio = VX_SECTORS_PER_CHUNK * fit->sector_size / fit->block_size;
    uint64_t blocks[] = { 0, fit->last_block > 0 ? fit->last_block - 1 : 0, fit->last_block > 1 ? fit->last_block - 2 : 0 };
    int      rc = VHDX_OK;

    for (size_t i = 0; i < 3 && rc == VHDX_OK; i++) {
        struct vx_bat_entry entry;
        uint64_t            raw, image;

        if (i > 0 && blocks[i] == 0)
            continue;
        rc = vx_salvage_read_entries(s, blocks[i] + blocks[i] / ratio, 1, &raw, &image, err);
        if (rc == VHDX_OK && vx_salvage_judge(s, raw != 0 ? raw : image, &entry) == VX_ENTRY_PRESENT)
            rc = vx_salvage_collect_signs(s, entry.file_offset,
                                          vx_min_u64(entry.file_offset + fit->block_size, s->file_length), err);
    }
    return rc;
}

/* The size that signs give, and the least one that they allow. */
static uint64_t
size_by_signs(const struct vhdx_salvage *s, uint64_t *least, uint32_t *sector_size)
{
    uint64_t size = 0;

    for (size_t i = 0; i < s->sign_count; i++) {
        const struct vx_salvage_sign *sign = &s->signs[i];

        if (size == 0)
            size = sign->disk_size;
        *least = vx_max_u64(*least, sign->least_size);
        if (*sector_size == 0)
            *sector_size = sign->sector_size;
    }
    return size;
}

static int
infer(struct vhdx_salvage *s, struct vx_metadata *metadata, struct vhdx_error *err)
{
    struct fit fit = { 0 };
    uint64_t   least = 0, by_signs;
    uint32_t   sector_size = 0;
    bool       is_strong;
    int        rc = VHDX_OK;

    if (s->has_bat)
        rc = fit_table(&fit, s, metadata->block_size, metadata->logical_sector_size, err);
    if (rc == VHDX_OK && fit.block_size != 0)
        rc = look_at_ends(s, &fit, err);
    else if (rc == VHDX_OK)
        rc = vx_salvage_collect_signs(s, VX_HEADER_SECTION_SIZE, s->file_length, err);
    if (rc < 0)
        return rc;
    by_signs = size_by_signs(s, &least, &sector_size);
    is_strong = metadata->block_size != 0 || (fit.adjacent > 0 && fit.adjacent * 2 >= fit.present);
    if (metadata->block_size == 0)
        metadata->block_size = fit.block_size;
    if (metadata->logical_sector_size == 0)
        metadata->logical_sector_size = fit.block_size != 0 && fit.last_block > VX_SECTORS_PER_CHUNK * 512 / fit.block_size
                                            ? fit.sector_size : sector_size != 0 ? sector_size : 512;
    metadata->has_parent |= fit.has_bitmaps;
    least = vx_max_u64(least, fit.last_block * fit.block_size);
    if (metadata->virtual_size == 0)
        metadata->virtual_size = by_signs != 0 && by_signs + fit.block_size > fit.last_block * fit.block_size ? by_signs : least;
    s->has_block_size = metadata->block_size != 0;
    /* Without a table nothing hangs on the block size. */
    vx_salvage_doubt(s, VHDX_SALVAGE_SIZES_INFERRED, is_strong || fit.present == 0);
    return VHDX_OK;
}

/* --- all together --- */

static void
take_given(const struct vhdx_salvage *s, struct vx_metadata *metadata)
{
    if (s->options.block_size != 0)
        metadata->block_size = s->options.block_size;
    if (s->options.logical_sector_size != 0)
        metadata->logical_sector_size = s->options.logical_sector_size;
    if (s->options.virtual_size != 0)
        metadata->virtual_size = s->options.virtual_size;
}

static int
check_sizes(struct vx_metadata *metadata, struct vhdx_error *err)
{
    if (metadata->virtual_size == 0)
        return vx_fail(err, VHDX_E_NOT_VHDX, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "nothing tells how large the disk is: no metadata, no block table, no partition table was found");
    if (metadata->block_size == 0)
        metadata->block_size = (uint32_t)VX_MIB;
    if (metadata->logical_sector_size == 0)
        metadata->logical_sector_size = 512;
    metadata->virtual_size = vx_round_up(metadata->virtual_size, metadata->logical_sector_size);
    if (metadata->virtual_size > VX_MAX_VIRTUAL_SIZE || !is_block_size(metadata->block_size)
        || (metadata->logical_sector_size != 512 && metadata->logical_sector_size != 4096))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "a disk of %" PRIu64 " bytes with blocks of %" PRIu32 " and sectors of %" PRIu32
                       " bytes cannot be in a VHDX", metadata->virtual_size, metadata->block_size,
                       metadata->logical_sector_size);
    return VHDX_OK;
}

static void
note_sizes(struct vhdx_salvage *s, bool is_sound)
{
    const struct vx_geometry *g = &s->geometry;

    vx_salvage_note(s, VHDX_PART_METADATA, is_sound ? VHDX_SALVAGE_IS_SOUND : VHDX_SALVAGE_IS_INFERRED, VHDX_NO_OFFSET,
                    "%s disk of %" PRIu64 " bytes, sectors of %" PRIu32 ", blocks of %" PRIu32 " MiB%s%s",
                    g->is_differencing ? "differencing" : g->is_fixed ? "fixed" : "dynamic", g->virtual_size,
                    g->logical_sector_size, g->block_size / (uint32_t)VX_MIB,
                    s->has_block_size ? "" : " (the file's own block size is not known)",
                    is_sound ? "" : "; the disk may have been larger");
}

int
vx_salvage_settle_sizes(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vx_metadata *metadata = &s->metadata;
    bool is_given = s->options.block_size != 0 || s->options.logical_sector_size != 0 || s->options.virtual_size != 0;
    bool is_sound = s->has_metadata && !is_given;
    int  rc = VHDX_OK;

    s->has_block_size = true;
    if (!s->has_metadata)
        drop_bad_items(metadata);
    take_given(s, metadata);
    if (is_given)
        vx_salvage_doubt(s, VHDX_SALVAGE_SIZES_GIVEN, true);
    if (metadata->block_size == 0 || metadata->virtual_size == 0 || metadata->logical_sector_size == 0)
        rc = infer(s, metadata, err);
    else if (!s->has_metadata && !is_given)
        vx_salvage_doubt(s, VHDX_SALVAGE_SIZES_INFERRED, true);
    if (rc == VHDX_OK)
        rc = check_sizes(metadata, err);
    if (rc < 0)
        return rc;
    if (metadata->physical_sector_size != 512 || metadata->logical_sector_size != 512)
        metadata->physical_sector_size = 4096;
    vx_geometry_init(&s->geometry, metadata->virtual_size, metadata->block_size, metadata->logical_sector_size,
                     metadata->has_parent, metadata->leave_blocks_allocated && !metadata->has_parent);
    note_sizes(s, is_sound);
    return VHDX_OK;
}
