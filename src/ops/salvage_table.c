/*
 * The block allocation table: where a sound region table says, else wherever a MiB of the file reads like one.
 *
 *   The table has no signature and no checksum.  It has a shape: little-endian numbers whose low bits are one of six states,
 *   whose next seventeen are zero, and whose upper bits are places in this file, each once.  Eight bytes of anything else
 *   pass this by chance about once in 2^40, so a few dozen entries that all do are a table; whether it is this image's
 *   or that of an image the guest keeps in a file is decided by how many blocks it names.
 */
#include "ops/salvage.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

#define PROBES        65536u                  /* MiB boundaries of data that are looked at */
#define LARGEST_TABLE (UINT64_C(513) * VX_MIB) /* of any disk */

/* --- reading entries --- */

static void
decode_entries(uint64_t *out, const uint8_t *bytes, size_t count)
{
    for (size_t i = 0; i < count; i++)
        out[i] = vx_le64(bytes + 8 * i);
}

int
vx_salvage_read_entries(struct vhdx_salvage *s, uint64_t bat_index, size_t count, uint64_t *raw, uint64_t *images,
                        struct vhdx_error *err)
{
    uint8_t  bytes[VX_PAGE];
    uint64_t at = s->bat_offset + 8 * bat_index, bad, bad_end;
    size_t   there = bat_index < s->bat_entries ? (size_t)vx_min_u64(count, s->bat_entries - bat_index) : 0, got;
    int      rc = VHDX_OK;

    for (size_t i = 0; i < count; i++) {
        raw[i] = VX_SALVAGE_UNREADABLE;
        if (images != NULL)
            images[i] = 0;
    }
    if (!s->has_bat || there == 0)
        return VHDX_OK;
    rc = vx_storage_read_prefix(s->base, bytes, 8 * there, at, &got, err);
    if (rc < 0)
        return rc;
    decode_entries(raw, bytes, there);
    if (!vx_patient_is_whole(s->patient, at, 8 * there, &bad, &bad_end)) {
        for (size_t i = 0; i < there; i++)
            if (vx_ranges_overlap(at + 8 * i, 8, bad, at + 8 * there - bad))
                raw[i] = VX_SALVAGE_UNREADABLE;
    }
    if (images == NULL || s->images == NULL)
        return VHDX_OK;
    rc = vx_storage_read_prefix(s->images, bytes, 8 * there, at, &got, err);
    if (rc == VHDX_OK)
        decode_entries(images, bytes, there);
    return rc;
}

int
vx_salvage_skip_empty(struct vhdx_salvage *s, uint64_t *bat_index, struct vhdx_error *err)
{
    struct vhdx_storage *from = s->images != NULL ? s->images : s->base; /* a hole there is one in both */
    uint64_t             at = s->bat_offset + 8 * *bat_index, start, end;
    int                  rc = vx_storage_next_data(from, at, &start, &end, err);

    if (rc == VHDX_OK && start == end)
        *bat_index = UINT64_MAX;
    else if (rc == VHDX_OK && start > at)
        *bat_index = (vx_round_down(start, VX_PAGE) - s->bat_offset) / 8;
    return rc;
}

/* --- the shape --- */

struct shape {
    uint64_t offset, length;  /* of the region, whole MiB */
    uint64_t present, bad;    /* entries */
    uint64_t lowest;          /* place that any entry names */
};

static bool
is_plausible(const struct vhdx_salvage *s, uint64_t raw)
{
    struct vx_bat_entry entry = vx_bat_entry_decode(raw);

    if (entry.reserved != 0 || entry.state == 4 || entry.state == 5)
        return false;
    if (entry.state < VX_BLOCK_FULLY_PRESENT)
        return entry.file_offset < s->file_length;
    return entry.file_offset >= VX_MIB && entry.file_offset < s->file_length;
}

static void
add_entry(struct shape *shape, const struct vhdx_salvage *s, struct vx_mib_map *seen, uint64_t raw)
{
    uint64_t place = vx_bat_entry_decode(raw).file_offset;

    if (raw == 0)
        return;
    if (!is_plausible(s, raw)) {
        shape->bad++;
    } else if (vx_bat_entry_decode(raw).state >= VX_BLOCK_FULLY_PRESENT) {
        if (vx_mib_map_has(seen, place) || place == shape->offset)
            shape->bad++;
        else
            shape->present++;
        vx_mib_map_set(seen, place);
        shape->lowest = vx_min_u64(shape->lowest, place > shape->offset ? place : UINT64_MAX);
    }
}

static bool
is_hopeless(const struct shape *shape)
{
    return shape->bad > 4 && shape->bad * 8 > shape->present;
}

/* Read a MiB of what may be a table. */
static int
add_mib(struct shape *shape, struct vhdx_salvage *s, struct vx_mib_map *seen, uint64_t at, struct vhdx_error *err)
{
    uint8_t page[VX_PAGE];

    for (uint64_t end = at + VX_MIB; at < end && !is_hopeless(shape); at += VX_PAGE) {
        uint64_t start, data_end;
        size_t   got;
        int      rc = vx_storage_next_data(s->base, at, &start, &data_end, err);

        if (rc < 0)
            return rc;
        if (start == data_end || start >= end)
            return VHDX_OK;
        at = vx_max_u64(at, vx_round_down(start, VX_PAGE));
        rc = vx_storage_read_prefix(s->base, page, sizeof page, at, &got, err);
        if (rc < 0)
            return rc;
        for (size_t i = 0; i < VX_BAT_PAGE_ENTRIES; i++)
            add_entry(shape, s, seen, vx_le64(page + 8 * i));
    }
    return VHDX_OK;
}

/* How far does it go on being one?  No further than a disk's table can, than a place it names, than the file. */
static int
measure_shape(struct shape *shape, struct vhdx_salvage *s, uint64_t at, struct vhdx_error *err)
{
    uint64_t          longest = s->has_metadata ? vx_geometry_bat_region_length(&s->geometry) : LARGEST_TABLE;
    struct vx_mib_map seen = { 0 };
    int               rc = VHDX_OK;

    *shape = (struct shape){ .offset = at, .lowest = UINT64_MAX };
    if (!vx_mib_map_init(&seen, s->file_length))
        return vx_fail_memory(err, "a table's shape");
    while (shape->length < longest && at + shape->length < vx_min_u64(shape->lowest, s->file_length)) {
        struct shape longer = *shape;

        rc = add_mib(&longer, s, &seen, at + shape->length, err);
        if (rc < 0 || is_hopeless(&longer) || (longer.bad > shape->bad && longer.present == shape->present))
            break;
        *shape = longer;
        shape->length += VX_MIB;
    }
    vx_free(seen.bits);
    return rc;
}

/* A glance at the first page that is not all zeros: payload is turned down here. */
static int
looks_like_table(struct vhdx_salvage *s, uint64_t at, bool *out, struct vhdx_error *err)
{
    uint8_t  page[VX_PAGE];
    uint64_t end = at + VX_MIB;

    *out = false;
    for (; at < end; at += VX_PAGE) {
        size_t got, plausible = 0, odd = 0;
        int    rc = vx_storage_read_prefix(s->base, page, sizeof page, at, &got, err);

        if (rc < 0)
            return rc;
        if (vx_is_zero(page, sizeof page))
            continue;
        for (size_t i = 0; i < VX_BAT_PAGE_ENTRIES; i++) {
            uint64_t raw = vx_le64(page + 8 * i);

            plausible += raw != 0 && is_plausible(s, raw);
            odd += raw != 0 && !is_plausible(s, raw);
        }
        *out = plausible > 0 && odd * 8 <= plausible;
        return VHDX_OK;
    }
    return VHDX_OK;
}

static void
use(struct vhdx_salvage *s, uint64_t at, uint64_t length)
{
    uint64_t there = s->source_length > at ? s->source_length - at : 0;

    s->has_bat = there >= 8;
    s->bat_offset = at;
    s->bat_entries = vx_min_u64(length, there) / 8;
}

static int
search(struct vhdx_salvage *s, struct vhdx_error *err)
{
    uint64_t     limit = vx_min_u64(s->file_length, VX_SALVAGE_SEARCH), start, end, second = 0;
    struct shape best = { 0 };
    int          rc = VHDX_OK;

    for (uint64_t at = VX_HEADER_SECTION_SIZE, probes = 0; at < limit && probes < PROBES; at += VX_MIB, probes++) {
        struct shape shape;
        bool         is_worth_it;

        rc = vx_salvage_poll(s, at, limit, err);
        if (rc == VHDX_OK)
            rc = vx_storage_next_data(s->base, at, &start, &end, err);
        if (rc < 0)
            return rc;
        if (start == end)
            break;
        at = vx_max_u64(at, vx_round_down(start, VX_MIB));
        if ((s->has_metadata && at == s->metadata_region.file_offset)
            || vx_ranges_overlap(at, VX_MIB, s->log.offset, s->log.length))
            continue;
        rc = looks_like_table(s, at, &is_worth_it, err);
        if (rc == VHDX_OK && is_worth_it)
            rc = measure_shape(&shape, s, at, err);
        if (rc < 0)
            return rc;
        if (!is_worth_it || shape.length == 0 || shape.present == 0)
            continue;
        if (shape.present > best.present) {
            second = best.present;
            best = shape;
        } else {
            second = vx_max_u64(second, shape.present);
        }
        at += shape.length - VX_MIB;
    }
    if (best.present == 0)
        return VHDX_OK;
    use(s, best.offset, best.length);
    vx_salvage_doubt(s, VHDX_SALVAGE_TABLE_FOUND, second * 4 <= best.present);
    vx_salvage_note(s, VHDX_PART_BAT, VHDX_SALVAGE_IS_INFERRED, best.offset,
                    "found by its shape: %" PRIu64 " blocks are named%s", best.present,
                    second > 0 ? "; something smaller looks like a table, too" : "");
    return VHDX_OK;
}

/* What an unsound region table names is held against the shape; a sound one is believed. */
static int
judge_named(struct vhdx_salvage *s, bool *is_good, struct vhdx_error *err)
{
    struct shape shape;
    int          rc;

    *is_good = s->regions_are_sound;
    if (*is_good)
        return VHDX_OK;
    rc = measure_shape(&shape, s, s->bat_region.file_offset, err);
    *is_good = rc == VHDX_OK && shape.present > 0;
    return rc;
}

int
vx_salvage_find_table(struct vhdx_salvage *s, struct vhdx_error *err)
{
    bool is_good = false;
    int  rc = VHDX_OK;

    if (s->has_bat_region)
        rc = judge_named(s, &is_good, err);
    if (rc == VHDX_OK && is_good) {
        use(s, s->bat_region.file_offset, s->bat_region.length);
        if (s->has_bat)
            vx_salvage_note(s, VHDX_PART_BAT, VHDX_SALVAGE_IS_SOUND, s->bat_offset, "block table");
    } else if (rc == VHDX_OK) {
        rc = search(s, err);
    }
    if (rc == VHDX_OK && !s->has_bat)
        vx_salvage_note(s, VHDX_PART_BAT, VHDX_SALVAGE_IS_MISSING, VHDX_NO_OFFSET, "no block table was found");
    return rc;
}
