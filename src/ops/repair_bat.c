/*
 * Repair of the block allocation table: V131 to V145, in three passes.
 *
 *   B1  First what an entry says by itself (no map of the file is needed): impossible states and places, stray
 *       bits, padding.  A block whose bytes lie past the end of the file has none: it becomes ZERO, not NOT_PRESENT, which would uncover the
 *       parent's bytes.  This is durable before the file grows, since then such a place would seem to hold zeros.
 *   B2  Then the file grows to hold blocks that its end has cut.  What was cut off is lost; what is there stays.
 *   B3  Then every block gets a place of its own: of two that share bytes the later one gets a copy, so that every byte of the
 *       disk reads as before.  One of them was wrong already, and nothing tells which.  Anchors give way at last.
 *   B4  Which sectors of a partial block are the image's own is known from its bitmap alone.  Where that is lost the entries
 *       stay: no bits would show bytes of the parent that were written over since, all bits show what was never written.
 *
 * Every change is one entry of 8 bytes, and stands by itself (P5): a page that is torn is half old, half new.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/job.h"
#include "ops/repair.h"
#include "storage/storage.h"

#define PIECE_SIZE (64 * 1024u)
#define COPY_SIZE  ((size_t)VX_MIB)

struct pass {
    struct vx_repair         *repair;
    const struct vx_check    *check;
    const struct vx_geometry *geometry;
    struct vx_bat_limits      limits;
    struct vx_reserved_range *reserved; /* owned */
    uint8_t                  *buffer;   /* PIECE_SIZE of the table */
    uint8_t                  *copy;     /* COPY_SIZE */
    uint64_t                  extend_to;      /* B2: 0 or the end of the last block that is cut */
    bool                      changes_contents; /* of what is not written yet */
    uint64_t                  chunk_index, partial_count; /* of the chunk the entries are in: blocks in state 7 */
    struct vx_used_map        used;           /* B3 */
    uint64_t                  fresh_at;       /* the end of the file, where copies go */
    bool                      has_copied;     /* since the last flush */
};

/* What becomes of an entry; the same when nothing does. */
typedef int (*decide_entry)(struct pass *pass, uint64_t bat_index, uint64_t raw, uint64_t *out, struct vhdx_error *err);

/* --- a pass --- */

static int
write_pages(struct pass *pass, uint64_t file_offset, size_t length, uint64_t changed, struct vhdx_error *err)
{
    int rc = vx_repair_begin(pass->repair, pass->changes_contents, err);

    if (rc == VHDX_OK && pass->has_copied)
        rc = vx_storage_flush(pass->repair->storage, err);
    pass->has_copied = pass->changes_contents = false;
    for (size_t at = 0; at < length && rc == VHDX_OK; at += VX_PAGE) {
        if ((changed >> (at / VX_PAGE) & 1) != 0)
            rc = vx_storage_write(pass->repair->storage, pass->buffer + at, (size_t)vx_min_u64(VX_PAGE, length - at),
                                  file_offset + at, err);
    }
    return rc;
}

static int
pass_piece(struct pass *pass, uint64_t file_offset, size_t length, decide_entry decide, struct vhdx_error *err)
{
    uint64_t bat_index = (file_offset - pass->limits.bat_file_offset) / 8, changed = 0;
    int      rc = vx_storage_read(pass->repair->storage, pass->buffer, length, file_offset, err);

    for (size_t at = 0; at < length && rc == VHDX_OK; at += 8, bat_index++) {
        uint64_t raw = vx_le64(pass->buffer + at), next = raw;

        if (raw != 0)
            rc = decide(pass, bat_index, raw, &next, err);
        if (rc == VHDX_OK && next != raw) {
            vx_put_le64(pass->buffer + at, next);
            changed |= UINT64_C(1) << (at / VX_PAGE);
        }
    }
    return rc == VHDX_OK && changed != 0 ? write_pages(pass, file_offset, length, changed, err) : rc;
}

static int
run_pass(struct pass *pass, decide_entry decide, struct vhdx_error *err)
{
    const struct vx_region *bat = &pass->check->regions.bat;
    uint64_t at = bat->file_offset, end = bat->file_offset + bat->length;

    while (at < end) {
        uint64_t data_start, data_end;
        int      rc = vx_storage_next_data(pass->repair->storage, at, &data_start, &data_end, err);

        if (rc < 0)
            return rc;
        at = vx_max_u64(at, vx_round_down(data_start, PIECE_SIZE));
        if (data_start == data_end || at >= end)
            break;
        rc = pass_piece(pass, at, PIECE_SIZE, decide, err);
        if (rc == VHDX_OK)
            rc = vx_job_report(pass->repair->progress, at - bat->file_offset, bat->length, err);
        if (rc < 0)
            return rc;
        at += PIECE_SIZE;
    }
    return vx_storage_flush(pass->repair->storage, err);
}

/* --- telling --- */

static struct vx_step
step_of(const struct pass *pass, int rule, uint64_t bat_index)
{
    return (struct vx_step){ .rule = rule, .file_offset = pass->limits.bat_file_offset + 8 * bat_index };
}

/* The whole block is lost. */
static void
tell_loss(struct pass *pass, int rule, uint64_t bat_index, uint64_t block_index, const char *why)
{
    struct vx_step step = step_of(pass, rule, bat_index);

    step.is_loss = true;
    step.guest_offset = block_index << pass->geometry->block_shift;
    step.guest_length = vx_geometry_block_length(pass->geometry, block_index);
    vx_repair_tell(pass->repair, &step, "block %" PRIu64 " becomes zeros: %s", block_index, why);
    pass->changes_contents = true;
}

/* --- B1 --- */

/* A block that the end of the file cuts: what is there stays (B2). */
static void
note_cut(struct pass *pass, uint64_t bat_index, uint64_t block_index, uint64_t file_offset, int rule)
{
    struct vx_step step = step_of(pass, rule, bat_index);
    uint64_t       there = vx_round_up(pass->limits.file_length, VX_MIB) - file_offset;
    uint64_t       on_disk = vx_geometry_block_length(pass->geometry, block_index);

    pass->extend_to = vx_max_u64(pass->extend_to, file_offset + pass->geometry->block_size);
    if (rule == 134) {
        step.is_loss = true;
        step.guest_offset = (block_index << pass->geometry->block_shift) + there;
        step.guest_length = on_disk - there;
    }
    vx_repair_tell(pass->repair, &step, "the file grows to hold block %" PRIu64 " as a whole%s", block_index,
                   rule == 134 ? ": what its end cut off becomes zeros" : "; nothing of the disk was cut off");
}

static void
decide_present(struct pass *pass, uint64_t bat_index, uint64_t block_index, struct vx_bat_entry *entry)
{
    struct vx_findings findings;
    struct vx_step     step = step_of(pass, 133, bat_index);
    uint64_t           usable = vx_round_up(pass->limits.file_length, VX_MIB);
    struct vx_bat_entry judged;
    int                rc;

    vx_findings_init(&findings, NULL, NULL);
    rc = vx_bat_judge_payload(&judged, vx_bat_entry_encode(entry->state, entry->file_offset), block_index, &pass->limits,
                              &findings);
    if (judged.state != entry->state && rc == VHDX_OK) {
        vx_repair_tell(pass->repair, &step, "block %" PRIu64 " gets state 6: there is no parent that could complete it",
                       block_index);
        entry->state = judged.state;
    }
    if (rc == VHDX_OK && entry->file_offset + pass->geometry->block_size > usable) {
        note_cut(pass, bat_index, block_index, entry->file_offset, 136);
    } else if (rc < 0 && (entry->file_offset < VX_MIB || entry->file_offset >> 63 != 0)) {
        tell_loss(pass, 132, bat_index, block_index, "its entry names no place that could hold it");
        *entry = (struct vx_bat_entry){ .state = VX_BLOCK_ZERO };
    } else if (rc < 0 && entry->file_offset >= usable) {
        tell_loss(pass, 134, bat_index, block_index, "it lay behind the end of the file");
        *entry = (struct vx_bat_entry){ .state = VX_BLOCK_ZERO };
    } else if (rc < 0) {
        note_cut(pass, bat_index, block_index, entry->file_offset, 134);
        pass->changes_contents = true;
        entry->state = judged.state;
    }
}

/* States 0 to 5 hold no bytes. */
static void
decide_absent(struct pass *pass, uint64_t bat_index, uint64_t block_index, struct vx_bat_entry *entry)
{
    struct vx_step step = step_of(pass, 131, bat_index);
    struct vx_bat_entry judged;
    int            rule;

    if (entry->state == 4) {
        tell_loss(pass, 131, bat_index, block_index, "its state means nothing");
        *entry = (struct vx_bat_entry){ .state = VX_BLOCK_ZERO };
    } else if (entry->state == 5) {
        vx_repair_tell(pass->repair, &step, "block %" PRIu64 " gets state 3: 5 was used for it before the format was final",
                       block_index);
        pass->changes_contents = true;
        *entry = (struct vx_bat_entry){ .state = VX_BLOCK_UNMAPPED };
    }
    vx_bat_judge_payload(&judged, vx_bat_entry_encode(entry->state, entry->file_offset), block_index, &pass->limits, NULL);
    if (judged.file_offset == entry->file_offset)
        return;
    rule = entry->state == VX_BLOCK_NOT_PRESENT || entry->state == VX_BLOCK_ZERO ? 138 : 139;
    step = step_of(pass, rule, bat_index);
    vx_repair_tell(pass->repair, &step, "block %" PRIu64 ", which holds nothing, loses its place", block_index);
    entry->file_offset = 0;
}

static void
tell_reserved_bits(struct pass *pass, uint64_t bat_index, const struct vx_bat_entry *entry)
{
    struct vx_step step = step_of(pass, 140, bat_index);

    if (entry->reserved != 0)
        vx_repair_tell(pass->repair, &step, "reserved bits of BAT entry %" PRIu64 " become 0", bat_index);
}

static void
enter_chunk(struct pass *pass, uint64_t chunk_index)
{
    if (pass->chunk_index == chunk_index)
        return;
    pass->chunk_index = chunk_index;
    pass->partial_count = 0;
}

/* The bitmap itself cannot be had from this entry.  B4. */
static void
decide_bad_bitmap(struct pass *pass, uint64_t bat_index, uint64_t chunk_index, int rule, struct vx_bat_entry *entry)
{
    struct vx_step step = step_of(pass, rule, bat_index);

    step.is_left = pass->partial_count > 0 && (rule == 141 || entry->file_offset < pass->limits.file_length);
    if (pass->partial_count > 0 && !step.is_left) { /* the file may grow, and then zeros would pass for it */
        vx_repair_tell(pass->repair, &step, "chunk %" PRIu64 " loses a sector bitmap that lies where no file is",
                       chunk_index);
        *entry = (struct vx_bat_entry){ .state = VX_BLOCK_NOT_PRESENT };
        step.rule = 143;
        step.is_left = true;
    }
    if (step.is_left) {
        vx_repair_tell(pass->repair, &step, "the sector bitmap of chunk %" PRIu64 " is lost, and with it which sectors of %"
                       PRIu64 " blocks are this image's own: any answer would be a guess", chunk_index,
                       pass->partial_count);
        return;
    }
    vx_repair_tell(pass->repair, &step, "chunk %" PRIu64 " loses its sector bitmap, which no block of it needs", chunk_index);
    *entry = (struct vx_bat_entry){ .state = VX_BLOCK_NOT_PRESENT };
}

static void
decide_bitmap(struct pass *pass, uint64_t bat_index, uint64_t chunk_index, struct vx_bat_entry *entry)
{
    struct vx_step step = step_of(pass, 141, bat_index);
    struct vx_bat_entry judged;

    enter_chunk(pass, chunk_index);
    if (entry->state == VX_BLOCK_NOT_PRESENT) {
        step.rule = 138;
        if (entry->file_offset != 0)
            vx_repair_tell(pass->repair, &step, "chunk %" PRIu64 ", which has no sector bitmap, loses a place for one",
                           chunk_index);
        entry->file_offset = 0;
        return;
    }
    if (entry->state != VX_BLOCK_FULLY_PRESENT && entry->state != VX_BLOCK_PARTIALLY_PRESENT) {
        decide_bad_bitmap(pass, bat_index, chunk_index, 141, entry);
        return;
    }
    if (vx_bat_judge_bitmap(&judged, vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, entry->file_offset), chunk_index,
                            &pass->limits, NULL) < 0) {
        decide_bad_bitmap(pass, bat_index, chunk_index, 144, entry);
        return;
    }
    if (entry->state == VX_BLOCK_PARTIALLY_PRESENT)
        vx_repair_tell(pass->repair, &step, "the sector bitmap of chunk %" PRIu64 " gets state 6, as which 7 is read",
                       chunk_index);
    entry->state = VX_BLOCK_FULLY_PRESENT;
}

static int
decide_by_itself(struct pass *pass, uint64_t bat_index, uint64_t raw, uint64_t *out, struct vhdx_error *err)
{
    const struct vx_geometry *geometry = pass->geometry;
    struct vx_bat_entry       entry = vx_bat_entry_decode(raw);
    struct vx_step            step;
    uint64_t                  index;
    bool                      is_payload = vx_geometry_is_payload_entry(geometry, bat_index, &index);

    (void)err;
    if (bat_index >= geometry->bat_entry_count || (is_payload && index >= geometry->payload_block_count) ||
        (!is_payload && !geometry->is_differencing)) {
        bool is_bitmap = bat_index < geometry->bat_entry_count && !is_payload;

        step = step_of(pass, is_bitmap ? 142 : 145, bat_index);
        vx_repair_tell(pass->repair, &step, "BAT entry %" PRIu64 ", which stands for nothing, becomes 0", bat_index);
        *out = 0;
        return VHDX_OK;
    }
    tell_reserved_bits(pass, bat_index, &entry);
    entry.reserved = 0;
    if (!is_payload) {
        decide_bitmap(pass, bat_index, index, &entry);
    } else {
        enter_chunk(pass, vx_geometry_chunk_of(geometry, index));
        if (entry.state >= VX_BLOCK_FULLY_PRESENT)
            decide_present(pass, bat_index, index, &entry);
        else
            decide_absent(pass, bat_index, index, &entry);
        pass->partial_count += entry.state == VX_BLOCK_PARTIALLY_PRESENT;
    }
    *out = vx_bat_entry_encode(entry.state, entry.file_offset);
    return VHDX_OK;
}

/* --- B2 --- */

static int
extend(struct pass *pass, struct vhdx_error *err)
{
    uint64_t length = vx_round_up(vx_max_u64(pass->extend_to, pass->limits.file_length), VX_MIB);
    int      rc = VHDX_OK;

    if (pass->extend_to > 0) {
        rc = vx_repair_begin(pass->repair, pass->changes_contents, err);
        pass->changes_contents = false;
        if (rc == VHDX_OK)
            rc = vx_storage_set_size(pass->repair->storage, length, err);
        if (rc == VHDX_OK)
            rc = vx_storage_flush(pass->repair->storage, err);
        pass->limits.file_length = length;
    }
    pass->fresh_at = length;
    return rc;
}

/* --- B3 --- */

/* A piece of zeros needs no writing: the file has grown by zeros. */
static int
copy_piece(struct pass *pass, uint64_t from, uint64_t to, size_t length, struct vhdx_error *err)
{
    size_t got;
    int    rc = vx_storage_read_prefix(pass->repair->storage, pass->copy, length, from, &got, err);

    if (rc < 0 || vx_is_zero(pass->copy, length))
        return rc;
    return vx_storage_write(pass->repair->storage, pass->copy, length, to, err);
}

/* A copy at the end of the file.  Of a plan only the place counts; bitmaps are looked at later, so they are copied. */
static int
copy_extent(struct pass *pass, uint64_t from, uint64_t length, bool is_bitmap, uint64_t *to, struct vhdx_error *err)
{
    int rc = vx_repair_begin(pass->repair, pass->changes_contents, err);

    *to = pass->fresh_at;
    if (rc == VHDX_OK)
        rc = vx_storage_set_size(pass->repair->storage, *to + length, err);
    for (uint64_t done = 0; done < length && rc == VHDX_OK && (is_bitmap || !pass->repair->is_plan); done += COPY_SIZE) {
        rc = copy_piece(pass, from + done, *to + done, COPY_SIZE, err);
        if (rc == VHDX_OK)
            rc = vx_job_report(pass->repair->progress, 0, 0, err);
    }
    pass->fresh_at += length;
    pass->has_copied = true;
    return rc;
}

/* The part of an extent that lies on headers, log or regions. */
static bool
find_overlap(const struct pass *pass, uint64_t file_offset, uint64_t length, uint64_t *start, uint64_t *end)
{
    *start = UINT64_MAX;
    *end = 0;
    for (size_t i = 0; i < pass->limits.reserved_count; i++) {
        const struct vx_reserved_range *range = &pass->reserved[i];

        if (!vx_ranges_overlap(range->file_offset, range->length, file_offset, length))
            continue;
        *start = vx_min_u64(*start, vx_max_u64(range->file_offset, file_offset));
        *end = vx_max_u64(*end, vx_min_u64(range->file_offset + range->length, file_offset + length));
    }
    return *start < *end;
}

static int
separate_block(struct pass *pass, uint64_t bat_index, uint64_t block_index, struct vx_bat_entry *entry,
               enum vx_used_conflict conflict, struct vhdx_error *err)
{
    struct vx_step step = step_of(pass, conflict == VX_USED_DOUBLE ? 137 : 135, bat_index);
    uint32_t       block_size = pass->geometry->block_size, on_disk = vx_geometry_block_length(pass->geometry, block_index);
    uint64_t       start, end;

    step.guest_offset = block_index << pass->geometry->block_shift;
    step.guest_length = on_disk;
    if (find_overlap(pass, entry->file_offset, block_size, &start, &end)) {
        step.is_loss = start - entry->file_offset < on_disk;
        step.guest_offset += start - entry->file_offset;
        step.guest_length = step.is_loss ? vx_min_u64(end - start, on_disk - (start - entry->file_offset)) : 0;
        vx_repair_tell(pass->repair, &step, "block %" PRIu64 " gets a copy of its own: headers, log or regions were written "
                       "over a part of it, which stays as it reads now", block_index);
    } else {
        vx_repair_tell(pass->repair, &step, "block %" PRIu64 " gets a copy of its own: it shares bytes with another "
                       "one, and one of the two is wrong", block_index);
    }
    return copy_extent(pass, entry->file_offset, block_size, false, &entry->file_offset, err);
}

static int
separate_bitmap(struct pass *pass, uint64_t bat_index, uint64_t chunk_index, struct vx_bat_entry *entry,
                enum vx_used_conflict conflict, struct vhdx_error *err)
{
    struct vx_step step = step_of(pass, conflict == VX_USED_DOUBLE ? 137 : 144, bat_index);

    vx_repair_tell(pass->repair, &step, "the sector bitmap of chunk %" PRIu64 " gets a copy of its own: it shares "
                   "bytes with a block, and one of the two is wrong", chunk_index);
    return copy_extent(pass, entry->file_offset, VX_SECTOR_BITMAP_SIZE, true, &entry->file_offset, err);
}

/* What decide_by_itself left behind holds bytes inside the file, or nothing; but a bitmap that stays as it is (B4) may lie
 * anywhere. */
static int
decide_by_map(struct pass *pass, uint64_t bat_index, uint64_t raw, uint64_t *out, struct vhdx_error *err)
{
    struct vx_bat_entry   entry = vx_bat_entry_decode(raw);
    enum vx_used_conflict conflict;
    uint64_t              index;
    bool                  is_payload = vx_geometry_is_payload_entry(pass->geometry, bat_index, &index);
    int                   rc = VHDX_OK;

    if (entry.state < VX_BLOCK_FULLY_PRESENT || entry.file_offset < VX_MIB ||
        entry.file_offset >= pass->limits.file_length || (!is_payload && entry.state != VX_BLOCK_FULLY_PRESENT))
        return VHDX_OK;
    if (!is_payload && vx_bat_judge_bitmap(&entry, raw, index, &pass->limits, NULL) < 0)
        return VHDX_OK;
    conflict = vx_used_mark_block(&pass->used, entry.file_offset,
                                  is_payload ? pass->geometry->block_size : VX_SECTOR_BITMAP_SIZE);
    if (conflict == VX_USED_FREE)
        return VHDX_OK;
    rc = is_payload ? separate_block(pass, bat_index, index, &entry, conflict, err)
                    : separate_bitmap(pass, bat_index, index, &entry, conflict, err);
    *out = vx_bat_entry_encode(entry.state, entry.file_offset);
    return rc;
}

static int
decide_anchors(struct pass *pass, uint64_t bat_index, uint64_t raw, uint64_t *out, struct vhdx_error *err)
{
    struct vx_bat_entry entry = vx_bat_entry_decode(raw);
    struct vx_step      step = step_of(pass, 139, bat_index);
    uint64_t            index;

    (void)err;
    if ((entry.state != VX_BLOCK_UNDEFINED && entry.state != VX_BLOCK_UNMAPPED) || entry.file_offset == 0 ||
        !vx_geometry_is_payload_entry(pass->geometry, bat_index, &index))
        return VHDX_OK;
    if (vx_used_mark(&pass->used, entry.file_offset, pass->geometry->block_size) == VX_USED_FREE)
        return VHDX_OK;
    vx_repair_tell(pass->repair, &step, "block %" PRIu64 ", which holds nothing, loses its place to the one that lies there",
                   index);
    *out = entry.state;
    return VHDX_OK;
}

static int
separate(struct pass *pass, struct vhdx_error *err)
{
    int rc = vx_used_map_init(&pass->used, pass->limits.file_length, err);

    for (size_t i = 0; i < pass->limits.reserved_count && rc == VHDX_OK; i++)
        vx_used_mark(&pass->used, pass->reserved[i].file_offset, pass->reserved[i].length);
    if (rc == VHDX_OK)
        rc = run_pass(pass, decide_by_map, err);
    return rc == VHDX_OK ? run_pass(pass, decide_anchors, err) : rc;
}

/* --- all of it --- */

static int
run_passes(struct pass *pass, struct vhdx_error *err)
{
    int rc = run_pass(pass, decide_by_itself, err);

    if (rc == VHDX_OK)
        rc = extend(pass, err);
    return rc == VHDX_OK ? separate(pass, err) : rc;
}

static int
init_pass(struct pass *pass, struct vx_repair *repair, const struct vx_look *look, struct vhdx_error *err)
{
    const struct vx_check *check = look->check;

    *pass = (struct pass){ .repair = repair, .check = check, .geometry = &check->geometry, .chunk_index = UINT64_MAX };
    pass->reserved = vx_alloc_zeroed((size_t)check->table->region_count + 2, sizeof *pass->reserved);
    pass->buffer = vx_alloc(PIECE_SIZE);
    pass->copy = vx_alloc(COPY_SIZE);
    if (pass->reserved == NULL || pass->buffer == NULL || pass->copy == NULL)
        return vx_fail_memory(err, "a repair of the block allocation table");
    pass->limits = (struct vx_bat_limits){
        .geometry        = &check->geometry,
        .file_length     = look->summary.file_size,
        .reserved        = pass->reserved,
        .reserved_count  = vx_reserved_ranges(pass->reserved, &check->header, check->table),
        .bat_file_offset = check->regions.bat.file_offset,
    };
    return VHDX_OK;
}

static void
tell_lost_bitmaps(struct vx_repair *repair, const struct vx_look *look)
{
    const struct vx_step left = { .rule = 143, .is_left = true, .file_offset = look->check->regions.bat.file_offset };

    if (vx_look_has(look, 143))
        vx_repair_tell(repair, &left, "%" PRIu64 " partial blocks have no sector bitmap: which of their sectors are this "
                       "image's own is lost, and any answer would be a guess",
                       vx_check_report_count(&look->check->report, 143));
}

int
vx_repair_bat(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    struct vx_step left = { .remedy = VHDX_REMEDY_BAT, .is_left = true,
                            .file_offset = look->check->regions.bat.file_offset };
    struct pass    pass;
    bool           is_broken = false;
    int            rc;

    for (int rule = 131; rule <= 145; rule++)
        is_broken |= vx_look_has(look, rule) && rule != 143;
    tell_lost_bitmaps(repair, look);
    if (is_broken && vx_look_has(look, 64)) {
        left.rule = 64;
        vx_repair_tell(repair, &left, "the block table stays: a region is cut by the end of the file, which may not grow");
        return VHDX_OK;
    }
    if (!is_broken || !look->check->has_geometry || !look->check->has_bat_region || vx_look_has(look, 130) ||
        !vx_repair_may_write(look))
        return VHDX_OK;
    rc = init_pass(&pass, repair, look, err);
    if (rc == VHDX_OK)
        rc = run_passes(&pass, err);
    vx_used_map_free(&pass.used);
    vx_free(pass.copy);
    vx_free(pass.buffer);
    vx_free(pass.reserved);
    return rc;
}
