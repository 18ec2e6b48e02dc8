/*
 * Who claims which MiB of the file.  One pass over the block table marks what each entry names; a MiB that is named twice
 * is contested.  A second pass does the same for what only pages of the log name (salvage_log.c): their claims never take
 * anything from the table's.  What is left is claimed by nobody: if there is data in it, the table has lost entries.
 */
#include "ops/salvage.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

/* --- maps --- */

bool
vx_mib_map_init(struct vx_mib_map *map, uint64_t file_length)
{
    map->count = vx_ceil_div(file_length, VX_MIB);
    map->bits = vx_alloc_zeroed((size_t)(map->count / 8 + 1), 1);
    return map->bits != NULL;
}

bool
vx_mib_map_has(const struct vx_mib_map *map, uint64_t file_offset)
{
    uint64_t index = file_offset / VX_MIB;

    return index < map->count && (map->bits[index / 8] >> (index % 8) & 1) != 0;
}

void
vx_mib_map_set(struct vx_mib_map *map, uint64_t file_offset)
{
    uint64_t index = file_offset / VX_MIB;

    if (index < map->count)
        map->bits[index / 8] = (uint8_t)(map->bits[index / 8] | 1u << (index % 8));
}

bool
vx_mib_map_touches(const struct vx_mib_map *map, uint64_t file_offset, uint64_t length)
{
    for (uint64_t at = 0; at < length && file_offset + at < map->count * VX_MIB; at += VX_MIB)
        if (vx_mib_map_has(map, file_offset + at))
            return true;
    return false;
}

static void
set_range(struct vx_mib_map *map, uint64_t file_offset, uint64_t length)
{
    for (uint64_t at = vx_round_down(file_offset, VX_MIB);
         at < vx_min_u64(file_offset + length, map->count * VX_MIB); at += VX_MIB)
        vx_mib_map_set(map, at);
}

static void
claim(struct vx_mib_map *claimed, struct vx_mib_map *contested, uint64_t file_offset, uint64_t length)
{
    for (uint64_t at = 0; at < length; at += VX_MIB) {
        if (vx_mib_map_has(claimed, file_offset + at))
            vx_mib_map_set(contested, file_offset + at);
        vx_mib_map_set(claimed, file_offset + at);
    }
}

/* --- one entry by itself --- */

enum vx_entry_verdict
vx_salvage_judge(const struct vhdx_salvage *s, uint64_t raw, struct vx_bat_entry *entry)
{
    *entry = vx_bat_entry_decode(raw);
    switch (entry->state) {
    case VX_BLOCK_NOT_PRESENT:
        return raw == 0 ? VX_ENTRY_NOTHING : VX_ENTRY_BAD;
    case VX_BLOCK_UNDEFINED:
    case VX_BLOCK_ZERO:
    case VX_BLOCK_UNMAPPED:
        return entry->reserved == 0 ? VX_ENTRY_ZERO : VX_ENTRY_BAD;
    case VX_BLOCK_FULLY_PRESENT:
    case VX_BLOCK_PARTIALLY_PRESENT:
        break;
    default:
        return VX_ENTRY_BAD;
    }
    if (entry->file_offset < VX_MIB || entry->file_offset >= VX_SALVAGE_FILE_LIMIT)
        return VX_ENTRY_BAD;
    if (entry->file_offset >= s->source_length)
        return entry->reserved == 0 ? VX_ENTRY_PAST_END : VX_ENTRY_BAD;
    if (entry->reserved != 0 || (entry->state == VX_BLOCK_PARTIALLY_PRESENT && !s->geometry.is_differencing))
        return VX_ENTRY_ODD;
    return VX_ENTRY_PRESENT;
}

/* --- the passes --- */

struct pass {
    struct vhdx_salvage *s;
    uint64_t             last_block, last_place; /* of the last present entry: are blocks in order? */
    uint64_t             nonzero;                /* entries */
};

static void
count_order(struct pass *pass, uint64_t block_index, uint64_t place)
{
    struct vhdx_salvage *s = pass->s;

    if (pass->last_place != 0 && pass->last_block + 1 == block_index) {
        s->pairs++;
        s->pairs_in_order += pass->last_place + s->geometry.block_size == place;
    }
    pass->last_block = block_index;
    pass->last_place = place;
}

/* A sector bitmap that cannot be read has to be known before the first of its bits is asked for: they would all say that the
 * parent has the sector. */
static void
try_bitmap(struct vhdx_salvage *s, uint64_t file_offset)
{
    uint8_t bytes[4 * VX_PAGE];

    for (uint64_t at = 0; at < VX_SECTOR_BITMAP_SIZE; at += sizeof bytes)
        vx_storage_read(s->patient, bytes, sizeof bytes, file_offset + at, NULL);
}

static void
take_entry(struct pass *pass, uint64_t bat_index, uint64_t raw)
{
    struct vhdx_salvage  *s = pass->s;
    struct vx_bat_entry   entry;
    enum vx_entry_verdict verdict = vx_salvage_judge(s, raw, &entry);
    uint64_t              index, length = VX_SECTOR_BITMAP_SIZE;
    bool                  is_payload = vx_geometry_is_payload_entry(&s->geometry, bat_index, &index);

    pass->nonzero += raw != 0;
    if (is_payload)
        length = s->geometry.block_size;
    if (verdict == VX_ENTRY_ZERO && entry.file_offset != 0) /* an anchor: old data of a block that was given up */
        set_range(&s->known, entry.file_offset, length);
    if (verdict != VX_ENTRY_PRESENT && verdict != VX_ENTRY_ODD)
        return;
    claim(&s->claimed, &s->contested, entry.file_offset, length);
    set_range(&s->known, entry.file_offset, length);
    if (!is_payload && s->geometry.is_differencing)
        try_bitmap(s, entry.file_offset);
    if (is_payload && verdict == VX_ENTRY_PRESENT)
        count_order(pass, index, entry.file_offset);
}

/* An entry that the table has lost, as a page of the log has it. */
static void
take_image(struct pass *pass, uint64_t bat_index, uint64_t raw, uint64_t image)
{
    struct vhdx_salvage  *s = pass->s;
    struct vx_bat_entry   entry, of_image;
    enum vx_entry_verdict verdict = vx_salvage_judge(s, raw, &entry);
    uint64_t              index;

    if (verdict != VX_ENTRY_BAD && !(verdict == VX_ENTRY_NOTHING && s->table_lost_entries))
        return;
    if (!vx_geometry_is_payload_entry(&s->geometry, bat_index, &index)
        || vx_salvage_judge(s, image, &of_image) != VX_ENTRY_PRESENT
        || vx_mib_map_touches(&s->claimed, of_image.file_offset, s->geometry.block_size))
        return;
    claim(&s->image_claimed, &s->image_contested, of_image.file_offset, s->geometry.block_size);
    set_range(&s->known, of_image.file_offset, s->geometry.block_size);
    s->has_image_claims = true;
}

static int
walk(struct pass *pass, bool is_about_images, struct vhdx_error *err)
{
    struct vhdx_salvage *s = pass->s;
    uint64_t             count = vx_min_u64(s->bat_entries, s->geometry.bat_entry_count);
    uint64_t             raw[VX_BAT_PAGE_ENTRIES], images[VX_BAT_PAGE_ENTRIES];

    for (uint64_t i = 0; s->has_bat && i < count; i += VX_BAT_PAGE_ENTRIES) {
        size_t part;
        int    rc = vx_salvage_skip_empty(s, &i, err);

        if (rc == VHDX_OK && i >= count)
            break;
        part = (size_t)vx_min_u64(VX_BAT_PAGE_ENTRIES, count - i);
        if (rc == VHDX_OK)
            rc = vx_salvage_poll(s, i, count, err);
        if (rc == VHDX_OK)
            rc = vx_salvage_read_entries(s, i, part, raw, is_about_images ? images : NULL, err);
        if (rc < 0)
            return rc;
        for (size_t k = 0; k < part; k++) {
            if (is_about_images)
                take_image(pass, i + k, raw[k], images[k]);
            else
                take_entry(pass, i + k, raw[k]);
        }
    }
    return VHDX_OK;
}

static void
claim_structures(struct vhdx_salvage *s)
{
    const struct vx_reserved_range structures[] = {
        { 0, VX_HEADER_SECTION_SIZE },
        { s->log.offset, s->log.length },
        { s->bat_offset, s->has_bat ? vx_round_up(8 * s->bat_entries, VX_MIB) : 0 },
        { s->bat_region.file_offset, s->has_bat_region && s->regions_are_sound ? s->bat_region.length : 0 },
        { s->metadata_region.file_offset,
          s->has_metadata || (s->has_metadata_region && s->regions_are_sound) ? s->metadata_region.length : 0 },
    };

    for (size_t i = 0; i < sizeof structures / sizeof structures[0]; i++) {
        set_range(&s->claimed, structures[i].file_offset, structures[i].length);
        set_range(&s->known, structures[i].file_offset, structures[i].length);
    }
    for (size_t i = 0; i < s->other_region_count; i++)
        set_range(&s->known, s->other_regions[i].file_offset, s->other_regions[i].length);
}

int
vx_salvage_claim(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct pass pass = { .s = s };
    uint64_t    at = 0, length;
    int         rc;

    if (!vx_mib_map_init(&s->claimed, s->file_length) || !vx_mib_map_init(&s->contested, s->file_length)
        || !vx_mib_map_init(&s->known, s->file_length))
        return vx_fail_memory(err, "the map of the file");
    if (s->images != NULL
        && (!vx_mib_map_init(&s->image_claimed, s->file_length) || !vx_mib_map_init(&s->image_contested, s->file_length)))
        return vx_fail_memory(err, "the map of the file");
    claim_structures(s);
    rc = walk(&pass, false, err);
    if (s->options.generation != 0) /* in an earlier state most of the file's data were not named yet */
        return rc;
    if (rc == VHDX_OK)
        rc = vx_salvage_next_orphan(s, &at, &length, &s->table_lost_entries, err);
    if (rc == VHDX_OK && s->images != NULL)
        rc = walk(&pass, true, err);
    at = 0;
    if (rc == VHDX_OK)
        rc = vx_salvage_next_orphan(s, &at, &length, &s->has_orphans, err);
    if (rc == VHDX_OK && s->has_bat && pass.nonzero == 0 && s->has_orphans && !s->has_image_claims) {
        vx_salvage_note(s, VHDX_PART_BAT, VHDX_SALVAGE_IS_MISSING, s->bat_offset,
                        "the block table is all zeros, and the file holds data: it was wiped");
        s->has_bat = false;
    }
    return rc;
}

/* --- what nobody claims --- */

static int
has_bytes(struct vhdx_salvage *s, uint8_t *buffer, uint64_t file_offset, uint64_t length, bool *out,
          struct vhdx_error *err)
{
    int rc = vx_storage_read(s->base, buffer, (size_t)length, file_offset, err);

    *out = rc == VHDX_OK && !vx_is_zero(buffer, (size_t)length);
    return rc;
}

/* The next MiB that nobody knows and that does not lie in a hole of the host's file. */
static int
next_unknown(struct vhdx_salvage *s, uint64_t *at, struct vhdx_error *err)
{
    uint64_t start, end;
    int      rc;

    for (;;) {
        while (*at < s->file_length && vx_mib_map_has(&s->known, *at))
            *at += VX_MIB;
        if (*at >= s->file_length)
            return VHDX_OK;
        rc = vx_storage_next_data(s->base, *at, &start, &end, err);
        if (rc < 0)
            return rc;
        if (start == end || start >= s->file_length)
            *at = s->file_length;
        else if (start < *at + VX_MIB)
            return VHDX_OK;
        else
            *at = vx_round_down(start, VX_MIB);
    }
}

/* Only its beginning is read: what follows is taken for data as far as the host stores it and nobody knows it. */
int
vx_salvage_next_orphan(struct vhdx_salvage *s, uint64_t *file_offset, uint64_t *length, bool *is_there,
                       struct vhdx_error *err)
{
    uint8_t *buffer = vx_alloc(VX_MIB);
    uint64_t at = vx_round_down(*file_offset, VX_MIB), next;
    int      rc = buffer == NULL ? vx_fail_memory(err, "looking for data that nothing names") : VHDX_OK;

    *length = 0;
    *is_there = false;
    for (; rc == VHDX_OK && !*is_there; at += *is_there ? 0 : VX_MIB) {
        rc = next_unknown(s, &at, err);
        if (rc < 0 || at >= s->file_length)
            break;
        rc = vx_salvage_poll(s, at, s->file_length, err);
        if (rc == VHDX_OK)
            rc = has_bytes(s, buffer, at, VX_MIB, is_there, err);
    }
    vx_free(buffer);
    if (rc < 0 || !*is_there)
        return rc;
    *file_offset = at;
    for (next = at; rc == VHDX_OK && next == at + *length && next < s->file_length;) {
        *length += VX_MIB;
        next += VX_MIB;
        rc = next_unknown(s, &next, err);
    }
    return rc;
}
