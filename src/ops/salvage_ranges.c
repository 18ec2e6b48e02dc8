/*
 * The report: every range of the disk, in order.  What a block is was decided where its entry is shown (salvage_decide.c);
 * here it is taken apart where the file ends, where the host could not read, and where a parent takes over.
 */
#include "ops/salvage.h"

#include "base/error.h"
#include "storage/storage.h"

struct reporting {
    struct vhdx_salvage      *s;
    int                     (*each)(void *context, const struct vhdx_salvage_range *range);
    void                     *context;
    struct vhdx_salvage_range last; /* not told yet: the next one may go on like it */
};

static bool
goes_on(const struct vhdx_salvage_range *a, const struct vhdx_salvage_range *b)
{
    return a->kind == b->kind && a->reason == b->reason && a->is_zero == b->is_zero && a->has_guess == b->has_guess
           && (a->file_offset == VHDX_NO_OFFSET ? b->file_offset == VHDX_NO_OFFSET
                                                : a->file_offset + a->length == b->file_offset);
}

static int
add(struct reporting *r, const struct vhdx_salvage_range *range)
{
    int rc = 0;

    if (range->length == 0)
        return 0;
    if (r->last.length > 0 && goes_on(&r->last, range)) {
        r->last.length += range->length;
        return 0;
    }
    if (r->last.length > 0)
        rc = r->each(r->context, &r->last);
    r->last = *range;
    return rc;
}

static int
add_lost(struct reporting *r, uint64_t guest_offset, uint64_t length, enum vhdx_salvage_reason reason)
{
    return add(r, &(struct vhdx_salvage_range){ guest_offset, length, VHDX_SALVAGE_LOST, reason, true, false,
                                                VHDX_NO_OFFSET });
}

/* Bytes in the file, taken apart where they are not. */
static int
add_data(struct reporting *r, const struct vx_salvage_decision *decision, uint64_t guest_offset, uint64_t length,
         uint64_t file_offset)
{
    struct vhdx_salvage *s = r->s;
    uint64_t             there = file_offset < s->source_length ? vx_min_u64(length, s->source_length - file_offset) : 0;
    uint64_t             done = 0;
    int                  rc = 0;

    while (done < there && rc == 0) {
        uint64_t bad = file_offset + there, bad_end = bad, good;

        vx_patient_is_whole(s->patient, file_offset + done, there - done, &bad, &bad_end);
        good = bad - file_offset - done;
        rc = add(r, &(struct vhdx_salvage_range){ guest_offset + done, good, decision->kind, decision->reason, false,
                                                  decision->has_guess, file_offset + done });
        if (rc == 0)
            rc = add_lost(r, guest_offset + done + good, bad_end - bad, VHDX_SALVAGE_UNREADABLE);
        done += good + (bad_end - bad);
    }
    return rc == 0 ? add_lost(r, guest_offset + there, length - there, VHDX_SALVAGE_PAST_END) : rc;
}

static int
add_zeros(struct reporting *r, const struct vx_salvage_decision *decision, uint64_t guest_offset, uint64_t length)
{
    return add(r, &(struct vhdx_salvage_range){ guest_offset, length, decision->kind, decision->reason, true,
                                                decision->has_guess, VHDX_NO_OFFSET });
}

/* What the parents show. */
static int
add_parents(struct reporting *r, const struct vx_salvage_decision *decision, const struct vhdx_extent *extent)
{
    struct vhdx_salvage_range range = { extent->guest_offset, extent->length, decision->kind, decision->reason,
                                        (extent->flags & VHDX_EXTENT_ZERO) != 0, false, VHDX_NO_OFFSET };

    if (r->s->parent_is_missing)
        return add_lost(r, extent->guest_offset, extent->length, VHDX_SALVAGE_IN_PARENT);
    if (r->s->parent_is_unproven && range.kind == VHDX_SALVAGE_RECOVERED) {
        range.kind = VHDX_SALVAGE_GUESSED;
        range.reason = VHDX_SALVAGE_PARENT_UNPROVEN;
    }
    return add(r, &range);
}

/* A block of a child that is not wholly its own: the layers are asked. */
static int
add_layered(struct reporting *r, const struct vx_salvage_decision *decision, uint64_t guest_offset, uint64_t length,
            struct vhdx_error *err)
{
    uint64_t end = guest_offset + length;

    while (guest_offset < end) {
        struct vhdx_extent extents[64];
        size_t             count;
        int                rc = vhdx_disk_resolve(r->s->disk, guest_offset, end - guest_offset, extents, 64, &count, err);

        for (size_t i = 0; i < count && rc == 0; i++) {
            const struct vhdx_extent *extent = &extents[i];

            if (extent->depth > 0 || (extent->flags & VHDX_EXTENT_PRESENT) == 0)
                rc = add_parents(r, decision, extent);
            else if ((extent->flags & VHDX_EXTENT_DATA) != 0)
                rc = add_data(r, decision, extent->guest_offset, extent->length, extent->file_offset);
            else
                rc = add_zeros(r, decision, extent->guest_offset, extent->length);
        }
        if (rc != 0)
            return rc;
        guest_offset = extents[count - 1].guest_offset + extents[count - 1].length;
    }
    return 0;
}

static int
add_block(struct reporting *r, uint64_t block_index, const struct vx_salvage_decision *decision, struct vhdx_error *err)
{
    const struct vx_geometry *g = &r->s->geometry;
    struct vx_bat_entry       entry = vx_bat_entry_decode(decision->raw);
    uint64_t                  guest_offset = block_index * g->block_size;
    uint64_t                  length = vx_geometry_block_length(g, block_index);

    if (decision->kind == VHDX_SALVAGE_LOST)
        return add_zeros(r, decision, guest_offset, length);
    if (entry.state == VX_BLOCK_FULLY_PRESENT)
        return add_data(r, decision, guest_offset, length, entry.file_offset);
    if (g->is_differencing)
        return add_layered(r, decision, guest_offset, length, err);
    return add_zeros(r, decision, guest_offset, length);
}

/* --- the whole disk --- */

/* The blocks whose entries lie before this one. */
static uint64_t
blocks_before(const struct vx_geometry *g, uint64_t bat_index)
{
    return vx_min_u64(bat_index - bat_index / ((uint64_t)g->chunk_ratio + 1), g->payload_block_count);
}

/* Where the entries end that are all like the one at bat_index: the table is a hole there, or there is none.  A large disk
 * that is nearly empty is told of in one step. */
static int
find_end_of_same(struct vhdx_salvage *s, uint64_t bat_index, uint64_t *end, struct vhdx_error *err)
{
    uint64_t there = s->has_bat ? vx_min_u64(s->bat_entries, s->geometry.bat_entry_count) : 0;
    int      rc = VHDX_OK;

    *end = bat_index;
    if (s->run_count > 0 || s->doubtful_count > 0 || s->doubts_all_pages)
        return VHDX_OK;
    if (bat_index < there)
        rc = vx_salvage_skip_empty(s, end, err);
    *end = bat_index < there ? vx_min_u64(*end, there) : s->geometry.bat_entry_count;
    return rc;
}

static int
add_same(struct reporting *r, uint64_t bat_index, uint64_t end, struct vhdx_error *err)
{
    const struct vx_geometry  *g = &r->s->geometry;
    uint64_t                   from = blocks_before(g, bat_index) * g->block_size;
    uint64_t                   to = vx_min_u64(blocks_before(g, end) * g->block_size, g->virtual_size);
    struct vx_salvage_decision decision;
    uint64_t                   index;
    int                        rc;

    if (!vx_geometry_is_payload_entry(g, bat_index, &index))
        bat_index++; /* a bitmap entry: the next one speaks for the blocks */
    rc = vx_salvage_decide(r->s, bat_index, 1, &decision, err);
    if (rc < 0 || from >= to)
        return rc;
    if (decision.kind != VHDX_SALVAGE_LOST && g->is_differencing)
        return add_layered(r, &decision, from, to - from, err);
    return add_zeros(r, &decision, from, to - from);
}

static int
add_page(struct reporting *r, uint64_t bat_index, size_t count, struct vhdx_error *err)
{
    const struct vx_geometry  *g = &r->s->geometry;
    struct vx_salvage_decision decisions[VX_BAT_PAGE_ENTRIES];
    int                        rc = vx_salvage_decide(r->s, bat_index, count, decisions, err);

    for (size_t i = 0; i < count && rc == 0; i++) {
        uint64_t block_index;

        if (vx_geometry_is_payload_entry(g, bat_index + i, &block_index) && block_index < g->payload_block_count)
            rc = add_block(r, block_index, &decisions[i], err);
    }
    return rc;
}

int
vhdx_salvage_ranges(struct vhdx_salvage *s, int (*each)(void *context, const struct vhdx_salvage_range *range),
                    void *context, struct vhdx_error *err)
{
    struct reporting r = { s, each, context, { 0 } };
    uint64_t         end;

    for (uint64_t i = 0; i < s->geometry.bat_entry_count; i = end) {
        uint64_t page_end = vx_min_u64(vx_round_down(i, VX_BAT_PAGE_ENTRIES) + VX_BAT_PAGE_ENTRIES,
                                       s->geometry.bat_entry_count);
        int      rc = find_end_of_same(s, i, &end, err);

        if (rc == 0 && end > page_end) {
            rc = add_same(&r, i, end, err);
        } else if (rc == 0) {
            end = page_end;
            rc = add_page(&r, i, (size_t)(end - i), err);
        }
        if (rc != 0)
            return rc;
    }
    return r.last.length > 0 ? each(context, &r.last) : VHDX_OK;
}
