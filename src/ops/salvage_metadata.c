/*
 * Metadata: where the region table says, else where a MiB begins with their signature.  A table that breaks a rule for
 * which an image is refused is not used as a whole, but single items that are sound still count (salvage_sizes.c).
 */
#include "ops/salvage.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

#define PROBES 65536u /* MiB boundaries of data that are looked at */

/* Room to read a metadata region with. */
struct reading {
    struct vx_metadata_table table;
    uint8_t                  raw[VX_METADATA_TABLE_SIZE];
    uint8_t                  item[VX_MAX_ITEM_LENGTH];
};

struct result {
    struct vx_metadata metadata;
    uint8_t           *locator; /* owned */
    uint32_t           locator_length;
    bool               is_sound;
    struct vhdx_error  worst; /* why not */
};

static bool
is_readable(const struct vx_metadata_entry *entry, uint64_t region_length)
{
    return entry->length > 0 && entry->length <= VX_MAX_ITEM_LENGTH && entry->offset >= VX_METADATA_TABLE_SIZE
           && (uint64_t)entry->offset + entry->length <= region_length;
}

static int
keep_locator(struct result *result, const struct reading *reading, uint32_t length, struct vhdx_error *err)
{
    result->locator = vx_alloc(length);
    if (result->locator == NULL)
        return vx_fail_memory(err, "the parent locator");
    memcpy(result->locator, reading->item, length);
    result->locator_length = length;
    return VHDX_OK;
}

static int
take_items(struct result *result, struct reading *reading, struct vhdx_storage *from, uint64_t at, uint64_t region_length,
           struct vhdx_error *err)
{
    for (uint32_t i = 0; i < reading->table.entry_count; i++) {
        const struct vx_metadata_entry *entry = &reading->table.entries[i];
        bool   is_locator = vhdx_guid_equal(&entry->item_id, &vx_guid_item_parent_locator);
        size_t got;
        int    rc;

        if ((entry->flags & VX_ITEM_IS_USER) != 0 || !is_readable(entry, region_length)
            || (entry->length > 64 && !is_locator))
            continue;
        rc = vx_storage_read_prefix(from, reading->item, entry->length, at + entry->offset, &got, err);
        if (rc == VHDX_OK && is_locator && result->locator == NULL)
            rc = keep_locator(result, reading, entry->length, err);
        if (rc < 0)
            return rc;
        vx_metadata_take_item(&result->metadata, entry, reading->item);
    }
    return VHDX_OK;
}

/* What is at `at`; result->worst.code is VHDX_E_BAD_METADATA or the like unless it is sound. */
static int
read_region(struct result *result, struct vhdx_storage *from, uint64_t at, uint64_t region_length, struct vhdx_error *err)
{
    struct reading    *reading = vx_alloc_zeroed(1, sizeof *reading);
    struct vx_findings findings;
    size_t             got;
    int                rc;

    *result = (struct result){ .is_sound = false };
    if (reading == NULL)
        return vx_fail_memory(err, "the metadata");
    vx_findings_init(&findings, NULL, NULL);
    rc = vx_storage_read_prefix(from, reading->raw, sizeof reading->raw, at, &got, err);
    if (rc == VHDX_OK && vx_metadata_table_decode(&reading->table, reading->raw, at, &result->worst) == VHDX_OK) {
        vx_metadata_table_judge(&reading->table, reading->raw, at, region_length, &findings);
        rc = take_items(result, reading, from, at, region_length, err);
        vx_metadata_judge(&result->metadata, at, &findings);
        result->is_sound = vx_findings_severity(&findings) < VHDX_SEVERITY_REFUSE;
        if (!result->is_sound)
            result->worst = findings.worst;
    }
    vx_free(reading);
    return rc;
}

/* Keep what was read; of an unsound region its single items. */
static void
keep(struct vhdx_salvage *s, struct result *result, uint64_t at)
{
    vx_free(s->locator);
    s->metadata = result->metadata;
    s->locator = result->locator;
    s->locator_length = result->locator_length;
    s->has_metadata = result->is_sound;
    s->metadata_region.file_offset = at;
    result->locator = NULL;
    if (s->has_metadata)
        vx_metadata_settle(&s->metadata);
}

/* Everything that the doubt about pages or unreadable sectors means for the metadata. */
static void
doubt_region(struct vhdx_salvage *s, uint64_t at)
{
    uint64_t bad, bad_end;

    if (vx_salvage_range_is_doubtful(s, at, VX_MIB))
        vx_salvage_doubt(s, VHDX_SALVAGE_LOG_UNCONFIRMED, true);
    if (!vx_patient_is_whole(s->patient, at, VX_METADATA_TABLE_SIZE + VX_PAGE, &bad, &bad_end))
        vx_salvage_doubt(s, VHDX_SALVAGE_UNREADABLE, true);
}

/* --- by signature --- */

static bool
has_signature(struct vhdx_salvage *s, uint64_t at)
{
    uint8_t bytes[8];
    size_t  got;

    return vx_storage_read_prefix(s->base, bytes, sizeof bytes, at, &got, NULL) == VHDX_OK
           && memcmp(bytes, "metadata", sizeof bytes) == 0;
}

/* The first sound one counts: those of images that the guest keeps in files lie in blocks, behind it. */
static int
search(struct vhdx_salvage *s, struct vhdx_error *err)
{
    uint64_t limit = vx_min_u64(s->file_length, VX_SALVAGE_SEARCH), start, end;

    for (uint64_t at = VX_HEADER_SECTION_SIZE, probes = 0; at < limit && probes < PROBES; at += VX_MIB, probes++) {
        struct result result;
        int           rc = vx_salvage_poll(s, at, limit, err);

        if (rc == VHDX_OK)
            rc = vx_storage_next_data(s->base, at, &start, &end, err);
        if (rc < 0)
            return rc;
        if (start == end)
            return VHDX_OK;
        at = vx_max_u64(at, vx_round_down(start, VX_MIB));
        if (!has_signature(s, at))
            continue;
        rc = read_region(&result, s->base, at, vx_min_u64(2 * VX_MIB, s->file_length - at), err);
        if (rc < 0)
            return rc;
        if (result.is_sound) {
            keep(s, &result, at);
            s->metadata_region.length = (uint32_t)VX_MIB;
            vx_salvage_doubt(s, VHDX_SALVAGE_METADATA_FOUND, true);
            vx_salvage_note(s, VHDX_PART_METADATA, VHDX_SALVAGE_IS_INFERRED, at, "sound metadata found by their signature");
            return VHDX_OK;
        }
        vx_free(result.locator);
    }
    return VHDX_OK;
}

/* --- where they should be --- */

static int
try_named(struct vhdx_salvage *s, struct vhdx_storage *from, bool is_image, struct vhdx_error *err)
{
    struct result  result;
    uint64_t       at = s->metadata_region.file_offset;
    int            rc = read_region(&result, from, at, s->metadata_region.length, err);

    if (rc < 0)
        return rc;
    if (result.is_sound || !is_image)
        keep(s, &result, at);
    if (s->has_metadata && is_image) {
        vx_salvage_doubt(s, VHDX_SALVAGE_METADATA_FOUND, true);
        vx_salvage_note(s, VHDX_PART_METADATA, VHDX_SALVAGE_IS_INFERRED, at, "metadata as pages in the log have them");
    } else if (s->has_metadata) {
        doubt_region(s, at);
        vx_salvage_note(s, VHDX_PART_METADATA, VHDX_SALVAGE_IS_SOUND, at, "metadata");
    } else if (!is_image) {
        vx_salvage_note(s, VHDX_PART_METADATA, VHDX_SALVAGE_IS_DAMAGED, at, "%s", result.worst.message);
    }
    vx_free(result.locator);
    return VHDX_OK;
}

int
vx_salvage_read_metadata(struct vhdx_salvage *s, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (s->has_metadata_region) {
        rc = try_named(s, s->base, false, err);
        if (rc == VHDX_OK && !s->has_metadata && s->images != NULL)
            rc = try_named(s, s->images, true, err);
    }
    if (rc == VHDX_OK && !s->has_metadata)
        rc = search(s, err);
    if (rc == VHDX_OK && !s->has_metadata)
        vx_salvage_note(s, VHDX_PART_METADATA, VHDX_SALVAGE_IS_MISSING, VHDX_NO_OFFSET, "no sound metadata anywhere");
    return rc;
}
