/*
 * Showing the block allocation table: entries that say the same become one row (inspect.h); and what of the file no entry and
 * no region names.
 *
 * Payload entries and those of sector bitmaps lie between each other; each kind has a run of its own that grows until an entry
 * does not go on with it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/check_space.h"
#include "ops/inspect.h"
#include "storage/storage.h"

#define PIECE_SIZE ((size_t)256 * 1024)

/* --- the walk --- */

static int
walk_piece(struct vhdx_inspection *in, uint8_t *piece, uint64_t bat_index, uint64_t count, const struct vx_bat_walk *walk,
           struct vhdx_error *err)
{
    size_t got;
    int    rc = vx_storage_read_prefix(in->view, piece, (size_t)count * 8, in->regions.bat.file_offset + bat_index * 8, &got,
                                       err);

    for (uint64_t i = 0; i < count && rc == VHDX_OK; i++)
        rc = walk->entry(walk->context, bat_index + i, vx_le64(piece + i * 8), err);
    return rc;
}

static int
walk_zeros(uint64_t from, uint64_t end, const struct vx_bat_walk *walk, struct vhdx_error *err)
{
    return from < end && walk->zeros != NULL ? walk->zeros(walk->context, from, end - from, err) : VHDX_OK;
}

/* Entries that the next data extent at or after `from` may hold: [*start, *stop), both `end` when there are none. */
static int
next_entries(struct vhdx_inspection *in, uint64_t from, uint64_t end, uint64_t *start, uint64_t *stop,
             struct vhdx_error *err)
{
    uint64_t bat = in->regions.bat.file_offset, data_start, data_end;
    int      rc = vx_storage_next_data(in->view, bat + from * 8, &data_start, &data_end, err);

    if (rc < 0)
        return rc;
    if (data_start == data_end)
        data_start = data_end = UINT64_MAX;
    *start = vx_min_u64(end, vx_max_u64(from, (vx_max_u64(data_start, bat) - bat) / 8));
    *stop = vx_min_u64(end, vx_ceil_div(vx_max_u64(data_end, bat) - bat, 8));
    return VHDX_OK;
}

int
vx_inspect_walk_bat(struct vhdx_inspection *in, uint64_t from, uint64_t end, const struct vx_bat_walk *walk,
                    struct vhdx_error *err)
{
    uint8_t *piece = vx_alloc(PIECE_SIZE);
    int      rc = VHDX_OK;

    if (piece == NULL)
        return vx_fail_memory(err, "a pass over the block allocation table");
    end = vx_min_u64(end, in->regions.bat.length / 8);
    while (from < end && rc == VHDX_OK) {
        uint64_t start = end, stop = end;

        rc = next_entries(in, from, end, &start, &stop, err);
        if (rc == VHDX_OK)
            rc = walk_zeros(from, start, walk, err);
        for (from = start; from < stop && rc == VHDX_OK;) {
            uint64_t count = vx_min_u64(stop - from, PIECE_SIZE / 8);

            rc = walk_piece(in, piece, from, count, walk, err);
            from += count;
        }
    }
    vx_free(piece);
    return rc;
}

/* --- runs --- */

struct run {
    struct vhdx_inspected_bat_run row;    /* count 0: none yet */
    uint64_t                      stride; /* bytes between two blocks; 0: not known yet */
};

struct showing {
    struct vhdx_inspection   *in;
    struct vhdx_inspect_range blocks;
    struct vx_bat_limits      limits;
    struct run                runs[2]; /* payload (or entries of an unknown shape), sector bitmaps */
};

static int
end_run(struct showing *s, struct run *run)
{
    int rc = run->row.count > 0 ? VX_TELL(s->in, bat_run, &run->row) : VHDX_OK;

    run->row.count = 0;
    return rc;
}

static bool
goes_on(struct run *run, const struct vhdx_inspected_bat_run *next)
{
    const struct vhdx_inspected_bat_run *row = &run->row;

    if (row->count == 0 || row->kind != next->kind || row->index + row->count != next->index || row->state != next->state)
        return false;
    if (row->file_offset == 0 || next->file_offset == 0)
        return row->file_offset == next->file_offset;
    if (run->stride == 0 && next->file_offset > row->file_offset && row->count == 1)
        run->stride = next->file_offset - row->file_offset; /* the shape is not known: two of them show it */
    return run->stride != 0 && next->file_offset == row->file_offset + row->count * run->stride;
}

static uint64_t
stride_of(const struct showing *s, enum vhdx_bat_kind kind)
{
    if (kind == VHDX_BAT_PAYLOAD)
        return s->in->geometry.block_size;
    return kind == VHDX_BAT_BITMAP ? VX_SECTOR_BITMAP_SIZE : 0;
}

/* `next` stands for next->count entries; more than one only where nothing has an offset. */
static int
add(struct showing *s, struct run *run, const struct vhdx_inspected_bat_run *next)
{
    int rc;

    if (next->problem.code == VHDX_OK && goes_on(run, next)) {
        run->row.count += next->count;
        return VHDX_OK;
    }
    rc = end_run(s, run);
    if (rc == VHDX_OK && next->problem.code != VHDX_OK)
        return VX_TELL(s->in, bat_run, next);
    run->row = *next;
    run->stride = stride_of(s, next->kind);
    return rc;
}

static bool
is_asked_for(const struct showing *s, const struct vhdx_inspected_bat_run *row)
{
    uint64_t chunk_end;

    if (row->kind != VHDX_BAT_BITMAP)
        return row->index >= s->blocks.first && row->index < s->blocks.end;
    chunk_end = vx_min_u64((row->index + 1) << s->in->geometry.chunk_shift, s->in->geometry.payload_block_count);
    return row->index >= vx_geometry_chunk_of(&s->in->geometry, s->blocks.first) && s->blocks.end > 0 &&
           (chunk_end <= s->blocks.end || vx_geometry_chunk_of(&s->in->geometry, s->blocks.end - 1) >= row->index);
}

/* What the entry is about, and what the rules say of it. */
static void
judge(const struct showing *s, struct vhdx_inspected_bat_run *row)
{
    const struct vx_geometry *g = &s->in->geometry;
    struct vx_bat_entry       entry;
    struct vx_findings        findings;

    if (row->kind == VHDX_BAT_PAYLOAD && vx_bat_payload_is_clean(row->raw, row->index, &s->limits))
        return;
    vx_findings_init(&findings, NULL, NULL);
    if (row->kind == VHDX_BAT_PAYLOAD)
        vx_bat_judge_payload(&entry, row->raw, row->index, &s->limits, &findings);
    else if (row->kind == VHDX_BAT_BITMAP)
        vx_bat_judge_bitmap(&entry, row->raw, row->index, &s->limits, &findings);
    if (row->kind == VHDX_BAT_PADDING)
        vx_find(&findings, VHDX_SEVERITY_WARN, 145, VHDX_E_BAD_BAT, VHDX_PART_BAT, row->entry_offset,
                "BAT entry %" PRIu64 " lies past the last one, %" PRIu64 ", expected 0", row->index,
                g->bat_entry_count - 1);
    if (findings.count > 0)
        row->problem = findings.worst;
}

static int
take_entry(void *context, uint64_t bat_index, uint64_t raw, struct vhdx_error *err)
{
    struct showing               *s = context;
    const struct vx_geometry     *g = &s->in->geometry;
    struct vx_bat_entry           entry = vx_bat_entry_decode(raw);
    struct vhdx_inspected_bat_run row = { .kind = VHDX_BAT_UNKNOWN, .index = bat_index, .count = 1, .raw = raw,
                                          .entry_offset = s->limits.bat_file_offset + bat_index * 8,
                                          .state = entry.state, .file_offset = entry.file_offset };

    (void)err;
    if (s->in->has_geometry) {
        bool     is_payload = vx_geometry_is_payload_entry(g, bat_index, &row.index);
        uint64_t count = is_payload ? g->payload_block_count : g->bitmap_block_count;

        row.kind = is_payload ? VHDX_BAT_PAYLOAD : VHDX_BAT_BITMAP;
        if (row.index >= count || bat_index >= g->bat_entry_count) {
            row.kind = VHDX_BAT_PADDING;
            row.index = bat_index;
            if (raw == 0)
                return VHDX_OK;
        }
    }
    if (row.kind != VHDX_BAT_PADDING && !is_asked_for(s, &row))
        return VHDX_OK;
    if (row.kind == VHDX_BAT_PADDING && s->blocks.end < g->payload_block_count)
        return VHDX_OK;
    judge(s, &row);
    return add(s, &s->runs[row.kind == VHDX_BAT_BITMAP], &row);
}

/* A hole: whole stretches of a chunk at once. */
static int
take_zeros(void *context, uint64_t bat_index, uint64_t count, struct vhdx_error *err)
{
    struct showing           *s = context;
    const struct vx_geometry *g = &s->in->geometry;
    int                       rc = VHDX_OK;

    while (count > 0 && rc == VHDX_OK) {
        struct vhdx_inspected_bat_run row = { .kind = VHDX_BAT_UNKNOWN, .index = bat_index,
                                              .entry_offset = s->limits.bat_file_offset + bat_index * 8 };
        uint64_t                      end, stretch = count;

        if (s->in->has_geometry && bat_index >= g->bat_entry_count)
            return VHDX_OK;
        if (s->in->has_geometry && !vx_geometry_is_payload_entry(g, bat_index, &row.index)) {
            rc = take_entry(s, bat_index, 0, err);
            bat_index++, count--;
            continue;
        }
        if (s->in->has_geometry) {
            row.kind = VHDX_BAT_PAYLOAD;
            stretch = vx_min_u64(count, g->chunk_ratio - (row.index & (g->chunk_ratio - 1)));
            end = vx_min_u64(row.index + stretch, g->payload_block_count);
        } else {
            end = bat_index + stretch;
        }
        row.index = vx_max_u64(row.index, s->blocks.first);
        end = vx_min_u64(end, s->blocks.end);
        row.count = end > row.index ? end - row.index : 0;
        if (row.count > 0)
            rc = add(s, &s->runs[0], &row);
        bat_index += stretch;
        count -= stretch;
    }
    return rc;
}

/* The entries that hold a range of blocks. */
static void
find_entries(const struct showing *s, uint64_t *from, uint64_t *end)
{
    const struct vx_geometry *g = &s->in->geometry;

    *from = s->blocks.first;
    *end = s->blocks.end;
    if (!s->in->has_geometry)
        return;
    *from = vx_geometry_payload_bat_index(g, vx_min_u64(s->blocks.first, g->payload_block_count));
    *end = UINT64_MAX; /* padding, too */
    if (s->blocks.end > 0 && s->blocks.end < g->payload_block_count)
        *end = vx_geometry_bitmap_bat_index(g, vx_geometry_chunk_of(g, s->blocks.end - 1)) + 1;
}

static int
has_no_bat(struct vhdx_inspection *in)
{
    return vx_inspect_missing(in, VHDX_E_BAD_REGION, VHDX_PART_BAT, VHDX_NO_OFFSET,
                              in->has_table ? "no region table entry leads to a BAT region inside of the file"
                                            : "without a region table the BAT cannot be found");
}

static int
tell_what_is_cut(struct vhdx_inspection *in)
{
    const struct vx_region *bat = &in->regions.bat;

    if (in->view_length - bat->file_offset < bat->length)
        return vx_inspect_missing(in, VHDX_E_TRUNCATED, VHDX_PART_BAT, in->view_length,
                                  "the file ends inside of the BAT region; what is lost of it is shown as zeros");
    if (in->has_geometry && in->geometry.bat_entry_count * 8 > bat->length)
        return vx_inspect_missing(in, VHDX_E_BAD_BAT, VHDX_PART_BAT, bat->file_offset,
                                  "the BAT region of %" PRIu32 " bytes does not hold the %" PRIu64 " entries of the disk",
                                  bat->length, in->geometry.bat_entry_count);
    return VHDX_OK;
}

int
vx_inspect_bat(struct vhdx_inspection *in, const struct vhdx_inspect_range *range, struct vhdx_error *err)
{
    struct showing           s = { .in = in, .blocks = { 0, UINT64_MAX }, .limits = vx_inspect_limits(in) };
    const struct vx_bat_walk walk = { &s, take_entry, take_zeros };
    uint64_t                 from, end;
    int                      rc;

    if (!in->has_bat)
        return has_no_bat(in);
    if (range != NULL)
        s.blocks = *range;
    rc = tell_what_is_cut(in);
    if (rc == VHDX_OK && !in->has_geometry)
        rc = vx_inspect_missing(in, VHDX_E_BAD_METADATA, VHDX_PART_BAT, in->regions.bat.file_offset,
                                "the shape of the disk is not known: entries are counted, not blocks");
    find_entries(&s, &from, &end);
    if (rc == VHDX_OK && s.blocks.first < s.blocks.end)
        rc = vx_inspect_walk_bat(in, from, end, &walk, err);
    for (int i = 0; i < 2 && rc == VHDX_OK; i++)
        rc = end_run(&s, &s.runs[i]);
    return rc;
}

const char *
vhdx_block_state_name(enum vhdx_bat_kind kind, uint8_t state)
{
    static const char *const payload[] = { "NOT_PRESENT", "UNDEFINED", "ZERO", "UNMAPPED", "state 4", "state 5",
                                           "FULLY_PRESENT", "PARTIALLY_PRESENT" };
    static const char *const bitmap[] = { "NOT_PRESENT", "state 1", "state 2", "state 3", "state 4", "state 5", "PRESENT",
                                          "state 7" };

    return kind == VHDX_BAT_BITMAP ? bitmap[state & 7] : payload[state & 7];
}

/* --- free space --- */

struct marking {
    struct vhdx_inspection *in;
    struct vx_bat_limits    limits;
    struct vx_used_map      used;
    uint64_t                bad_count;
};

/* Anchors (4.5) hold their space as well as blocks do. */
static int
mark_entry(void *context, uint64_t bat_index, uint64_t raw, struct vhdx_error *err)
{
    struct marking           *m = context;
    const struct vx_geometry *g = &m->in->geometry;
    struct vx_findings        findings;
    struct vx_bat_entry       entry;
    uint64_t                  index;
    bool                      is_payload = vx_geometry_is_payload_entry(g, bat_index, &index);
    int                       rc;

    (void)err;
    if (raw == 0 || bat_index >= g->bat_entry_count || (is_payload && index >= g->payload_block_count))
        return VHDX_OK;
    vx_findings_init(&findings, NULL, NULL);
    if (is_payload)
        rc = vx_bat_judge_payload(&entry, raw, index, &m->limits, &findings);
    else
        rc = vx_bat_judge_bitmap(&entry, raw, index, &m->limits, &findings);
    m->bad_count += rc < 0;
    if (rc == VHDX_OK && entry.file_offset != 0)
        vx_used_mark(&m->used, entry.file_offset, is_payload ? g->block_size : VX_SECTOR_BITMAP_SIZE);
    return VHDX_OK;
}

static int
show_gaps(struct marking *m)
{
    struct vhdx_inspected_free row = { .file_offset = 0 };
    int                        rc = VHDX_OK;

    while (rc == VHDX_OK && vx_used_next_gap(&m->used, row.file_offset + row.length, &row.file_offset, &row.length))
        rc = VX_TELL(m->in, free_space, &row);
    return rc;
}

static int
mark_all(struct marking *m, struct vhdx_error *err)
{
    const struct vx_bat_walk walk = { m, mark_entry, NULL };
    int                      rc = vx_used_map_init(&m->used, m->in->view_length, err);

    for (size_t i = 0; i < m->in->reserved_count && rc == VHDX_OK; i++)
        vx_used_mark(&m->used, m->in->reserved[i].file_offset,
                     vx_min_u64(m->in->reserved[i].length, UINT64_MAX - VX_MIB - m->in->reserved[i].file_offset));
    return rc == VHDX_OK ? vx_inspect_walk_bat(m->in, 0, m->in->geometry.bat_entry_count, &walk, err) : rc;
}

int
vx_inspect_free(struct vhdx_inspection *in, struct vhdx_error *err)
{
    struct marking m = { .in = in, .limits = vx_inspect_limits(in) };
    int            rc;

    if (!in->has_bat)
        return has_no_bat(in);
    if (!in->has_geometry || !in->has_header)
        return vx_inspect_missing(in, in->has_header ? VHDX_E_BAD_METADATA : VHDX_E_BAD_HEADER, VHDX_PART_FILE, VHDX_NO_OFFSET,
                                  "what is free cannot be told: %s", in->has_header ? "the shape of the disk is not known"
                                  : "where the log lies is not known");
    rc = tell_what_is_cut(in);
    if (rc == VHDX_OK)
        rc = mark_all(&m, err);
    if (rc == VHDX_OK && m.bad_count > 0)
        rc = vx_inspect_missing(in, VHDX_E_BAD_BAT, VHDX_PART_BAT, in->regions.bat.file_offset,
                                "%" PRIu64 " entries of the BAT cannot be used: what is free below may belong to them",
                                m.bad_count);
    if (rc == VHDX_OK)
        rc = show_gaps(&m);
    vx_used_map_free(&m.used);
    return rc;
}
