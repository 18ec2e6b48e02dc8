/* Headers and region tables: either copy will do, and a table of regions is read without its checksum before it is given
 * up: what it names is looked at anyway. */
#include "ops/salvage.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/identifier.h"
#include "storage/storage.h"

/* --- headers --- */

static void
note_copies(struct vhdx_salvage *s, const struct vhdx_error errors[2])
{
    for (int i = 0; i < 2; i++) {
        if (s->copy_is_good[i])
            vx_salvage_note(s, VHDX_PART_HEADER, VHDX_SALVAGE_IS_SOUND, VX_HEADER_OFFSET(i),
                            "header %d, sequence number %" PRIu64, i + 1, s->copies[i].sequence_number);
        else
            vx_salvage_note(s, VHDX_PART_HEADER, VHDX_SALVAGE_IS_DAMAGED, VX_HEADER_OFFSET(i), "header %d: %s", i + 1,
                            errors[i].message);
    }
}

/* Two good headers that both claim to be the newest (V13): one is taken, and nothing it says of the log is certain. */
static void
choose_header(struct vhdx_salvage *s, const uint8_t *bytes)
{
    int index;

    if (!s->copy_is_good[0] && !s->copy_is_good[1])
        return;
    s->has_header = true;
    if (vx_header_choose(&s->header, &index, bytes, bytes + VX_HEADER_SIZE, NULL) < 0) {
        s->header = s->copies[0];
        vx_salvage_doubt(s, VHDX_SALVAGE_LOG_UNCONFIRMED, true);
        vx_salvage_note(s, VHDX_PART_HEADER, VHDX_SALVAGE_IS_DAMAGED, VHDX_NO_OFFSET,
                        "both headers have one sequence number: which is the newer cannot be told");
    }
}

int
vx_salvage_read_headers(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vhdx_error errors[2];
    uint8_t           identifier[8];
    uint8_t          *bytes = vx_alloc(2 * VX_HEADER_SIZE);
    size_t            got;
    int               rc = VHDX_OK;

    if (bytes == NULL)
        return vx_fail_memory(err, "the headers");
    vx_storage_read_prefix(s->patient, identifier, sizeof identifier, 0, &got, NULL);
    if (!vx_identifier_has_signature(identifier))
        vx_salvage_note(s, VHDX_PART_IDENTIFIER, VHDX_SALVAGE_IS_DAMAGED, 0, "the file does not begin with \"vhdxfile\"");
    for (int i = 0; i < 2 && rc == VHDX_OK; i++) {
        uint8_t *copy = bytes + (size_t)i * VX_HEADER_SIZE;

        rc = vx_storage_read_prefix(s->patient, copy, VX_HEADER_SIZE, VX_HEADER_OFFSET(i), &got, err);
        s->copy_is_good[i] = rc == VHDX_OK
                             && vx_header_decode(&s->copies[i], copy, VX_HEADER_OFFSET(i), &errors[i]) == VHDX_OK;
    }
    if (rc == VHDX_OK) {
        note_copies(s, errors);
        choose_header(s, bytes);
    }
    vx_free(bytes);
    return rc;
}

/* --- region tables --- */

static bool
is_a_place(const struct vhdx_salvage *s, const struct vx_region *region)
{
    return region->file_offset >= VX_HEADER_SECTION_SIZE && vx_is_aligned(region->file_offset, VX_MIB)
           && region->length > 0 && region->file_offset < s->file_length;
}

static void
take_region(struct vhdx_salvage *s, const struct vx_region *region)
{
    if (!is_a_place(s, region))
        return;
    if (vhdx_guid_equal(&region->guid, &vx_guid_region_bat)) {
        s->bat_region = *region;
        s->has_bat_region = true;
    } else if (vhdx_guid_equal(&region->guid, &vx_guid_region_metadata)) {
        s->metadata_region = *region;
        s->has_metadata_region = true;
    } else if (s->other_region_count < VX_SALVAGE_REGIONS) {
        s->other_regions[s->other_region_count++] = (struct vx_reserved_range){ region->file_offset, region->length };
    }
}

static void
take_regions(struct vhdx_salvage *s, const struct vx_region_table *table)
{
    for (uint32_t i = 0; i < table->region_count; i++)
        take_region(s, &table->regions[i]);
}

/* The entries of a copy whose signature or checksum is bad: a place that is none, or that holds something else, shows
 * when it is read. */
static bool
take_unchecked(struct vhdx_salvage *s, const uint8_t *copy)
{
    for (size_t at = 16; at + 32 <= VX_REGION_TABLE_SIZE && at < 16 + 32 * 64; at += 32) {
        struct vx_region region = { .guid = vx_guid_load(copy + at), .file_offset = vx_le64(copy + at + 16),
                                    .length = vx_le32(copy + at + 24) };

        if (vhdx_guid_equal(&region.guid, &vx_guid_region_bat) || vhdx_guid_equal(&region.guid, &vx_guid_region_metadata))
            take_region(s, &region);
    }
    return s->has_bat_region || s->has_metadata_region;
}

static void
judge_regions(struct vhdx_salvage *s, const uint8_t *copies, struct vx_region_table *table, bool is_final)
{
    const uint8_t    *copy[2] = { copies, copies + VX_REGION_TABLE_SIZE };
    struct vx_findings findings;
    int               used;

    vx_findings_init(&findings, NULL, NULL);
    s->has_bat_region = s->has_metadata_region = s->regions_are_sound = false;
    s->other_region_count = 0;
    if (vx_region_table_choose(table, &used, copy[0], copy[1], &findings) == VHDX_OK) {
        take_regions(s, table);
        s->regions_are_sound = true;
        if (is_final)
            vx_salvage_note(s, VHDX_PART_REGION_TABLE,
                            findings.count == 0 ? VHDX_SALVAGE_IS_SOUND : VHDX_SALVAGE_IS_DAMAGED,
                            VX_REGION_TABLE_OFFSET(used), "region table %d is used%s%s", used + 1,
                            findings.count == 0 ? "" : ": ", findings.count == 0 ? "" : findings.worst.message);
        /* Two good copies that differ: no number tells which is the newer (V57). */
        if (is_final && vx_findings_severity(&findings) >= VHDX_SEVERITY_RO)
            vx_salvage_doubt(s, VHDX_SALVAGE_TABLE_FOUND, true);
        return;
    }
    if (!is_final) {
        if (!take_unchecked(s, copy[0]))
            take_unchecked(s, copy[1]);
        return;
    }
    vx_salvage_doubt(s, VHDX_SALVAGE_TABLE_FOUND, true);
    if (take_unchecked(s, copy[0]) || take_unchecked(s, copy[1]))
        vx_salvage_note(s, VHDX_PART_REGION_TABLE, VHDX_SALVAGE_IS_DAMAGED, VX_REGION_TABLE_OFFSET(0),
                        "both region tables are damaged; what is left of them is tried");
    else
        vx_salvage_note(s, VHDX_PART_REGION_TABLE, VHDX_SALVAGE_IS_MISSING, VX_REGION_TABLE_OFFSET(0),
                        "both region tables are gone");
}

int
vx_salvage_read_regions(struct vhdx_salvage *s, struct vhdx_storage *from, bool is_final, struct vhdx_error *err)
{
    uint8_t                *copies = vx_alloc(2 * VX_REGION_TABLE_SIZE);
    struct vx_region_table *table = vx_alloc(sizeof *table);
    size_t                  got;
    int                     rc = VHDX_OK;

    if (copies == NULL || table == NULL)
        rc = vx_fail_memory(err, "the region tables");
    for (size_t i = 0; i < 2 && rc == VHDX_OK; i++)
        rc = vx_storage_read_prefix(from, copies + i * VX_REGION_TABLE_SIZE, VX_REGION_TABLE_SIZE,
                                    VX_REGION_TABLE_OFFSET(i), &got, err);
    if (rc == VHDX_OK)
        judge_regions(s, copies, table, is_final);
    vx_free(copies);
    vx_free(table);
    return rc;
}
