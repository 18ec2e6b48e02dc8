/*
 * The check of the block allocation table: V130 to V150, V158, in one pass over the region.
 *
 * Only what holds data is read: an entry in a hole is NOT_PRESENT.  The entries of a chunk come before the entry of
 * its sector bitmap, so what concerns both waits for the end of the chunk.  Anchors (4.5) take the place of nobody:
 * they are laid into the map after everything else, in a second pass that most files do not need.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/check.h"
#include "ops/job.h"
#include "storage/storage.h"

#define PIECE_SIZE       (256 * 1024u)
#define MAX_CHUNK_RATIO  32768u
#define MAX_BAT_LENGTH   (513 * VX_MIB)
#define TAIL_ALLOWANCE   (32 * VX_MIB) /* V149: what a writer may hold in advance, beside one block */

struct bat_pass {
    struct vx_check          *check;
    struct vx_bat_limits      limits;
    struct vx_reserved_range *reserved;
    uint8_t                  *buffer;        /* of PIECE_SIZE */
    uint8_t                  *bitmap_buffer; /* of VX_SECTOR_BITMAP_SIZE; differencing images only */
    uint64_t                  full_count;    /* payload blocks in state 6 */
    bool                      has_anchors;

    /* The chunk the entries are in. */
    bool     has_chunk;
    uint64_t chunk_index;
    uint64_t bitmap_raw;    /* its bitmap entry, 0 until seen */
    uint64_t partial_count; /* its payload blocks in state 7 */
    uint8_t  partial[MAX_CHUNK_RATIO / 8];
};

typedef int (*entry_visitor)(struct bat_pass *pass, uint64_t bat_index, uint64_t raw, struct vhdx_error *err);

/* --- the pass --- */

static int
visit_piece(struct bat_pass *pass, uint64_t file_offset, size_t length, entry_visitor visit, struct vhdx_error *err)
{
    uint64_t bat_index = (file_offset - pass->limits.bat_file_offset) / 8;
    int rc = vx_storage_read(pass->check->view, pass->buffer, length, file_offset, err);

    for (size_t at = 0; at < length && rc == VHDX_OK; at += 8, bat_index++) {
        uint64_t raw = vx_le64(pass->buffer + at);

        if (raw != 0)
            rc = visit(pass, bat_index, raw, err);
    }
    return rc;
}

/* Visit every entry that is not 0, padding too. */
static int
visit_entries(struct bat_pass *pass, entry_visitor visit, struct vhdx_error *err)
{
    const struct vx_region *bat = &pass->check->regions.bat;
    uint64_t at = bat->file_offset, end = bat->file_offset + bat->length;

    while (at < end) {
        uint64_t data_start, data_end;
        int rc = vx_storage_next_data(pass->check->view, at, &data_start, &data_end, err);

        if (rc < 0)
            return rc;
        at = vx_max_u64(at, vx_round_down(data_start, 8));
        data_end = vx_min_u64(vx_round_up(data_end, 8), end);
        if (data_start >= data_end)
            break;
        for (; at < data_end; at += PIECE_SIZE) {
            rc = visit_piece(pass, at, (size_t)vx_min_u64(data_end - at, PIECE_SIZE), visit, err);
            if (rc == VHDX_OK)
                rc = vx_job_report(pass->check->progress, at - bat->file_offset, bat->length, err);
            if (rc < 0)
                return rc;
        }
        at = data_end;
    }
    return vx_job_report(pass->check->progress, bat->length, bat->length, err);
}

static uint64_t
entry_at(const struct bat_pass *pass, uint64_t bat_index)
{
    return pass->limits.bat_file_offset + 8 * bat_index;
}

/* --- chunks --- */

/* V143, for each block of the chunk that waits for a bitmap. */
static void
find_missing_bitmap(struct bat_pass *pass)
{
    const struct vx_geometry *geometry = &pass->check->geometry;
    uint64_t first_block = pass->chunk_index << geometry->chunk_shift;

    for (uint32_t i = 0; i < geometry->chunk_ratio; i++) {
        if ((pass->partial[i / 8] >> (i % 8) & 1) == 0)
            continue;
        vx_find(&pass->check->findings, VHDX_SEVERITY_BLOCK, 143, VHDX_E_BAD_BITMAP, VHDX_PART_BAT,
                entry_at(pass, vx_geometry_payload_bat_index(geometry, first_block + i)),
                "BAT entry of block %" PRIu64 ": state 7, but chunk %" PRIu64 " has no sector bitmap, expected one",
                first_block + i, pass->chunk_index);
    }
}

/* V137, V144: the bitmap's place against everyone else's. */
static void
mark_bitmap(struct bat_pass *pass, uint64_t bitmap_offset)
{
    uint64_t at = entry_at(pass, vx_geometry_bitmap_bat_index(&pass->check->geometry, pass->chunk_index));

    switch (vx_used_mark_block(&pass->check->used, bitmap_offset, VX_SECTOR_BITMAP_SIZE)) {
    case VX_USED_DOUBLE:
        vx_find(&pass->check->findings, VHDX_SEVERITY_RO, 137, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry of chunk %" PRIu64 "'s sector bitmap: another entry has the offset 0x%" PRIx64
                " too, expected a place of its own", pass->chunk_index, bitmap_offset);
        break;
    case VX_USED_OVERLAP:
        vx_find(&pass->check->findings, VHDX_SEVERITY_RO, 144, VHDX_E_BAD_BITMAP, VHDX_PART_BAT, at,
                "BAT entry of chunk %" PRIu64 "'s sector bitmap: the bitmap at 0x%" PRIx64
                " overlaps a block, expected a place of its own", pass->chunk_index, bitmap_offset);
        break;
    case VX_USED_FREE:
        break;
    }
}

/* All entries of the chunk were seen: what its bitmap entry says, and the bitmap. */
static int
finish_chunk(struct bat_pass *pass, struct vhdx_error *err)
{
    struct vx_check *check = pass->check;
    struct vx_bat_entry entry;
    bool is_usable;

    if (!pass->has_chunk)
        return VHDX_OK;
    pass->has_chunk = false;
    is_usable = vx_bat_judge_bitmap(&entry, pass->bitmap_raw, pass->chunk_index, &pass->limits,
                                    &check->findings) == VHDX_OK;
    if (!is_usable || !check->geometry.is_differencing)
        return VHDX_OK;
    if (entry.state == VX_BLOCK_NOT_PRESENT) {
        find_missing_bitmap(pass);
        return VHDX_OK;
    }
    mark_bitmap(pass, entry.file_offset);
    if (pass->partial_count == 0) {
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 158, VHDX_E_BAD_BITMAP, VHDX_PART_SECTOR_BITMAP,
                entry.file_offset, "sector bitmap of chunk %" PRIu64 ": no block of the chunk is in state 7",
                pass->chunk_index);
        return VHDX_OK;
    }
    return vx_check_bitmap(check, pass->chunk_index, entry.file_offset, pass->partial, pass->bitmap_buffer, err);
}

static int
enter_chunk(struct bat_pass *pass, uint64_t chunk_index, struct vhdx_error *err)
{
    int rc;

    if (pass->has_chunk && pass->chunk_index == chunk_index)
        return VHDX_OK;
    rc = finish_chunk(pass, err);
    if (rc < 0)
        return rc;
    pass->has_chunk = true;
    pass->chunk_index = chunk_index;
    pass->bitmap_raw = 0;
    if (pass->partial_count > 0)
        memset(pass->partial, 0, sizeof pass->partial);
    pass->partial_count = 0;
    return VHDX_OK;
}

/* --- payload entries --- */

/* V135, V137: the block's place against everyone else's.  The judge looked at the reserved places already. */
static void
mark_payload(struct bat_pass *pass, uint64_t bat_index, uint64_t block_index, uint64_t block_offset,
             bool is_overlap_known)
{
    struct vx_check *check = pass->check;
    uint64_t at = entry_at(pass, bat_index);
    enum vx_used_conflict conflict = vx_used_mark_block(&check->used, block_offset, check->geometry.block_size);

    if (conflict == VX_USED_DOUBLE)
        vx_find(&check->findings, VHDX_SEVERITY_RO, 137, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry of block %" PRIu64 ": another entry has the offset 0x%" PRIx64
                " too, expected a place of its own", block_index, block_offset);
    else if (conflict == VX_USED_OVERLAP && !is_overlap_known)
        vx_find(&check->findings, VHDX_SEVERITY_RO, 135, VHDX_E_BAD_BAT, VHDX_PART_BAT, at,
                "BAT entry of block %" PRIu64 ": the block at 0x%" PRIx64
                " overlaps another block, expected a place of its own", block_index, block_offset);
}

static void
note_partial(struct bat_pass *pass, uint64_t block_index)
{
    uint64_t i = block_index & (pass->check->geometry.chunk_ratio - 1);

    pass->partial[i / 8] |= (uint8_t)(1u << (i % 8));
    pass->partial_count++;
}

static void
take_payload(struct bat_pass *pass, uint64_t bat_index, uint64_t block_index, uint64_t raw)
{
    struct vx_check *check = pass->check;
    uint64_t overlaps_before = vx_check_report_count(&check->report, 135);
    struct vx_bat_entry entry;

    if (vx_bat_payload_is_clean(raw, block_index, &pass->limits))
        entry = vx_bat_entry_decode(raw);
    else if (vx_bat_judge_payload(&entry, raw, block_index, &pass->limits, &check->findings) < 0)
        return;

    if (entry.state == VX_BLOCK_FULLY_PRESENT || entry.state == VX_BLOCK_PARTIALLY_PRESENT) {
        check->summary->allocated_blocks++;
        mark_payload(pass, bat_index, block_index, entry.file_offset,
                     vx_check_report_count(&check->report, 135) > overlaps_before);
        if (entry.state == VX_BLOCK_PARTIALLY_PRESENT)
            note_partial(pass, block_index);
        else
            pass->full_count++;
    } else if (entry.file_offset != 0) {
        pass->has_anchors = true;
    }
}

/* V145.  A region can hold millions of them: those that are only counted need no words. */
static void
find_padding(struct bat_pass *pass, uint64_t bat_index, uint64_t raw)
{
    static const struct vhdx_error counted = {
        .code = VHDX_E_BAD_BAT, .severity = VHDX_SEVERITY_WARN, .rule = 145, .part = VHDX_PART_BAT,
    };
    struct vx_check *check = pass->check;

    if (vx_check_report_count(&check->report, 145) >= VX_CHECK_TOLD_MAX)
        vx_find_again(&check->findings, &counted);
    else
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 145, VHDX_E_BAD_BAT, VHDX_PART_BAT, entry_at(pass, bat_index),
                "BAT entry %" PRIu64 " lies past the end of the disk: 0x%016" PRIx64 ", expected 0", bat_index, raw);
}

static int
visit_entry(struct bat_pass *pass, uint64_t bat_index, uint64_t raw, struct vhdx_error *err)
{
    const struct vx_geometry *geometry = &pass->check->geometry;
    uint64_t index;
    bool is_payload = vx_geometry_is_payload_entry(geometry, bat_index, &index);
    int rc;

    if (bat_index >= geometry->bat_entry_count || (is_payload && index >= geometry->payload_block_count)) {
        find_padding(pass, bat_index, raw);
        return VHDX_OK;
    }
    rc = enter_chunk(pass, is_payload ? vx_geometry_chunk_of(geometry, index) : index, err);
    if (rc < 0)
        return rc;
    if (is_payload)
        take_payload(pass, bat_index, index, raw);
    else
        pass->bitmap_raw = raw;
    return VHDX_OK;
}

/* --- anchors --- */

/* V139 against blocks; the first pass told of anchors that are bad by themselves. */
static int
visit_anchor(struct bat_pass *pass, uint64_t bat_index, uint64_t raw, struct vhdx_error *err)
{
    struct vx_check *check = pass->check;
    struct vx_findings quiet;
    struct vx_bat_entry entry = vx_bat_entry_decode(raw);
    uint64_t index;

    (void)err;
    if (entry.state != VX_BLOCK_UNDEFINED && entry.state != VX_BLOCK_UNMAPPED)
        return VHDX_OK;
    if (!vx_geometry_is_payload_entry(&check->geometry, bat_index, &index) ||
        index >= check->geometry.payload_block_count)
        return VHDX_OK;
    vx_findings_init(&quiet, NULL, NULL);
    if (vx_bat_judge_payload(&entry, raw, index, &pass->limits, &quiet) < 0 || entry.file_offset == 0)
        return VHDX_OK;
    if (vx_used_mark(&check->used, entry.file_offset, check->geometry.block_size) != VX_USED_FREE)
        vx_find(&check->findings, VHDX_SEVERITY_REPAIR, 139, VHDX_E_BAD_BAT, VHDX_PART_BAT,
                entry_at(pass, bat_index), "BAT entry of block %" PRIu64 ": state %u anchored at 0x%" PRIx64
                ", which is in use, expected a place of its own", index, entry.state, entry.file_offset);
    return VHDX_OK;
}

/* --- the whole --- */

/* V130, V150. */
static void
judge_region_length(struct vx_check *check)
{
    const struct vx_region *bat = &check->regions.bat;

    if (8 * check->geometry.bat_entry_count > bat->length) {
        vx_find(&check->findings, VHDX_SEVERITY_REFUSE, 130, VHDX_E_BAD_BAT, VHDX_PART_BAT, bat->file_offset,
                "BAT: the region has 0x%" PRIx32 " bytes, expected at least 0x%" PRIx64 " for %" PRIu64 " entries",
                bat->length, 8 * check->geometry.bat_entry_count, check->geometry.bat_entry_count);
        check->summary->is_complete = false;
    }
    if (bat->length > MAX_BAT_LENGTH)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 150, VHDX_E_BAD_BAT, VHDX_PART_BAT, bat->file_offset,
                "BAT: the region has 0x%" PRIx32 " bytes, expected at most 513 MiB", bat->length);
}

/* V146, V147. */
static void
judge_fixed(struct bat_pass *pass)
{
    struct vx_check *check = pass->check;
    const struct vx_geometry *geometry = &check->geometry;
    uint64_t needed = geometry->payload_block_count * geometry->block_size;

    if (!geometry->is_fixed)
        return;
    if (pass->full_count < geometry->payload_block_count)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 146, VHDX_E_BAD_BAT, VHDX_PART_BAT,
                check->regions.bat.file_offset, "BAT: %" PRIu64 " of %" PRIu64
                " blocks of a fixed image are allocated, expected all", pass->full_count,
                geometry->payload_block_count);
    for (size_t i = 0; i < pass->limits.reserved_count; i++)
        needed += pass->limits.reserved[i].length;
    if (vx_round_up(check->file_length, VX_MIB) < needed)
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 147, VHDX_E_TRUNCATED, VHDX_PART_FILE, check->file_length,
                "file: length %" PRIu64 " of a fixed image, expected at least %" PRIu64, check->file_length,
                needed);
}

static int
run_passes(struct bat_pass *pass, struct vhdx_error *err)
{
    int rc;

    for (size_t i = 0; i < pass->limits.reserved_count; i++)
        vx_used_mark(&pass->check->used, pass->reserved[i].file_offset, pass->reserved[i].length);
    rc = visit_entries(pass, visit_entry, err);
    if (rc == VHDX_OK)
        rc = finish_chunk(pass, err);
    if (rc == VHDX_OK && pass->has_anchors)
        rc = visit_entries(pass, visit_anchor, err);
    if (rc == VHDX_OK)
        judge_fixed(pass);
    return rc;
}

static int
init_pass(struct bat_pass *pass, struct vx_check *check, struct vhdx_error *err)
{
    pass->check = check;
    pass->reserved = vx_alloc_zeroed((size_t)check->table->region_count + 2, sizeof *pass->reserved);
    pass->buffer = vx_alloc(PIECE_SIZE);
    if (check->geometry.is_differencing)
        pass->bitmap_buffer = vx_alloc(VX_SECTOR_BITMAP_SIZE);
    if (pass->reserved == NULL || pass->buffer == NULL ||
        (pass->bitmap_buffer == NULL && check->geometry.is_differencing))
        return vx_fail_memory(err, "a pass over the block allocation table");
    pass->limits = (struct vx_bat_limits){
        .geometry        = &check->geometry,
        .file_length     = check->file_length,
        .reserved        = pass->reserved,
        .reserved_count  = vx_reserved_ranges(pass->reserved, &check->header, check->table),
        .bat_file_offset = check->regions.bat.file_offset,
    };
    return vx_used_map_init(&check->used, check->file_length, err);
}

int
vx_check_bat(struct vx_check *check, struct vhdx_error *err)
{
    struct bat_pass *pass;
    int rc;

    if (!check->has_geometry || !check->has_bat_region)
        return VHDX_OK;
    pass = vx_alloc_zeroed(1, sizeof *pass);
    if (pass == NULL)
        return vx_fail_memory(err, "a pass over the block allocation table");
    judge_region_length(check);
    rc = init_pass(pass, check, err);
    if (rc == VHDX_OK)
        rc = run_passes(pass, err);
    vx_free(pass->bitmap_buffer);
    vx_free(pass->buffer);
    vx_free(pass->reserved);
    vx_free(pass);
    return rc;
}

/* The MiBs of a gap that the host keeps data of: a hole in its file is no lost space. */
static int
count_gap(struct vx_check *check, struct vx_used_leaks *leaks, uint64_t at, uint64_t gap_end, struct vhdx_error *err)
{
    uint64_t run_end = 0; /* of the MiBs counted last */

    while (at < gap_end) {
        uint64_t start, end;
        int rc = vx_storage_next_data(check->view, at, &start, &end, err);

        if (rc < 0 || start >= gap_end || start == end)
            return rc;
        start = vx_round_down(start, VX_MIB);
        end = vx_min_u64(vx_round_up(end, VX_MIB), gap_end);
        if (leaks->inner_bytes == 0)
            leaks->first_gap_offset = start;
        leaks->inner_gaps += start != run_end;
        leaks->inner_bytes += end - start;
        at = run_end = end;
    }
    return VHDX_OK;
}

static int
count_gaps(struct vx_check *check, struct vx_used_leaks *leaks, struct vhdx_error *err)
{
    uint64_t at = 0, length;
    int rc = VHDX_OK;

    leaks->inner_bytes = leaks->inner_gaps = 0;
    while (rc == VHDX_OK && vx_used_next_gap(&check->used, at, &at, &length) && at < leaks->tail_offset) {
        rc = count_gap(check, leaks, at, at + length, err);
        at += length;
    }
    return rc;
}

/* V148, V149.  When not everything that refers to space could be looked at, nothing can be called lost. */
int
vx_check_leaks(struct vx_check *check, struct vhdx_error *err)
{
    struct vx_used_leaks leaks;
    int rc = VHDX_OK;

    if (!check->summary->is_complete)
        return VHDX_OK;
    vx_used_find_leaks(&check->used, &leaks);
    if (leaks.inner_bytes > 0)
        rc = count_gaps(check, &leaks, err);
    if (rc < 0)
        return rc;
    if (leaks.inner_bytes > 0) {
        check->summary->leaked_bytes += leaks.inner_bytes;
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 148, VHDX_E_BAD_BAT, VHDX_PART_FILE, leaks.first_gap_offset,
                "file: %" PRIu64 " bytes in %" PRIu64 " places belong to nothing, the first at 0x%" PRIx64
                ", expected none or holes", leaks.inner_bytes, leaks.inner_gaps, leaks.first_gap_offset);
    }
    if (leaks.tail_bytes > check->geometry.block_size + TAIL_ALLOWANCE) {
        check->summary->leaked_bytes += leaks.tail_bytes;
        vx_find(&check->findings, VHDX_SEVERITY_WARN, 149, VHDX_E_BAD_BAT, VHDX_PART_FILE, leaks.tail_offset,
                "file: %" PRIu64 " bytes at the end, from 0x%" PRIx64 " on, belong to nothing, expected the end of the file "
                "there", leaks.tail_bytes, leaks.tail_offset);
    }
    return VHDX_OK;
}
