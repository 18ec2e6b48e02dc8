/*
 * vhdx dump: the structures of a file as they lie, sound or not.
 *
 * Exit status: 0 everything asked for was shown, whatever is wrong with it; 1 something could not be.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/inspect.h>

#include "confine.h"
#include "message.h"
#include "rows.h"
#include "sizes.h"
#include "verbs.h"

enum {
    OPTION_PART = 256, /* plus enum vhdx_inspect_part */
    OPTION_ALL = 300,
    OPTION_REPLAYED
};

static const struct option_line lines[] = {
    { "headers", OPTION_PART + VHDX_INSPECT_HEADERS, NULL, "the identifier and both headers" },
    { "regions", OPTION_PART + VHDX_INSPECT_REGIONS, NULL, "both region tables" },
    { "metadata", OPTION_PART + VHDX_INSPECT_METADATA, NULL, "the metadata table, and its items with their bytes" },
    { "locator", OPTION_PART + VHDX_INSPECT_LOCATOR, NULL, "the parent locator" },
    { "log", OPTION_PART + VHDX_INSPECT_LOG, NULL, "the log's entries, live and stale, and where each page goes" },
    { "bat", OPTION_PART + VHDX_INSPECT_BAT, "[RANGE]", "the block allocation table; of blocks N, N-M or N-" },
    { "bitmap", OPTION_PART + VHDX_INSPECT_BITMAP, "[RANGE]", "sector bitmaps; of chunks N, N-M or N-" },
    { "free", OPTION_PART + VHDX_INSPECT_FREE, NULL, "what of the file belongs to nothing" },
    { "all", OPTION_ALL, NULL, "all of these (without any: all but --bitmap and --free)" },
    { "replayed", OPTION_REPLAYED, NULL, "as a reader sees it: through the log, where it can be replayed" },
    { 0 },
};

/* Sections in the order in which they are printed: that of enum vhdx_inspect_part. */
static const struct section {
    const char *key, *heading;
    bool        is_default;
} sections[] = {
    [VHDX_INSPECT_HEADERS] = { "headers", "Headers", true },
    [VHDX_INSPECT_REGIONS] = { "regions", "Region tables", true },
    [VHDX_INSPECT_METADATA] = { "metadata", "Metadata", true },
    [VHDX_INSPECT_LOCATOR] = { "locator", "Parent locator", true },
    [VHDX_INSPECT_LOG] = { "log", "Log", true },
    [VHDX_INSPECT_BAT] = { "bat", "Block allocation table", true },
    [VHDX_INSPECT_BITMAP] = { "bitmap", "Sector bitmaps", false },
    [VHDX_INSPECT_FREE] = { "free", "Free space", false },
};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

struct dump {
    struct rows               rows;
    bool                      is_wanted[SECTION_COUNT];
    bool                      has_range[SECTION_COUNT];
    struct vhdx_inspect_range ranges[SECTION_COUNT];
    bool                      is_replayed; /* asked for */
    uint64_t                  missing;
    uint64_t                  entry_sequence; /* of the log entry whose descriptors follow */
};

/* --- what is wrong --- */

static int
take_finding(void *context, const struct vhdx_error *finding)
{
    struct dump *dump = context;

    row_of_error(&dump->rows, "finding", vhdx_severity_name(finding->severity), finding);
    return 0;
}

static int
take_missing(void *context, const struct vhdx_error *why)
{
    struct dump *dump = context;

    dump->missing++;
    row_of_error(&dump->rows, "missing", "not shown", why);
    return 0;
}

/* --- headers and region tables --- */

static int
take_identifier(void *context, const struct vhdx_inspected_identifier *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "identifier", "identifier at 0x%" PRIx64 ": %s", row->file_offset,
              row->has_signature ? "\"vhdxfile\"" : "not that of a VHDX");
    row_bool(rows, "valid", row->has_signature);
    row_details(rows);
    row_text(rows, "creator", row->creator);
    row_end(rows);
    return 0;
}

static int
take_header(void *context, const struct vhdx_inspected_header *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "header", "header %d at 0x%" PRIx64 ": %s", row->copy, row->file_offset,
              row->is_current ? "valid, current" : row->is_valid ? "valid" : "not valid; what its bytes say:");
    row_number(rows, "copy", (uint64_t)row->copy);
    row_place(rows, "offset", row->file_offset);
    row_bool(rows, "valid", row->is_valid);
    row_bool(rows, "current", row->is_current);
    row_details(rows);
    row_error(rows, "problem", &row->problem);
    row_number(rows, "sequence-number", row->sequence_number);
    row_guid(rows, "file-write-guid", &row->file_write_guid);
    row_guid(rows, "data-write-guid", &row->data_write_guid);
    row_guid(rows, "log-guid", &row->log_guid);
    row_number(rows, "log-version", row->log_version);
    row_number(rows, "version", row->version);
    row_place(rows, "log-offset", row->log_offset);
    row_place(rows, "log-length", row->log_length);
    row_end(rows);
    return 0;
}

static int
take_region_table(void *context, const struct vhdx_inspected_region_table *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "region-table", "table %d at 0x%" PRIx64 ": %s%s, %" PRIu32 " entries%s%s", row->copy,
              row->file_offset, row->is_valid ? "valid" : "not valid", row->is_used ? ", followed" : "", row->entry_count,
              row->is_valid ? "" : "; ", row->is_valid ? "" : row->problem.message);
    row_number(rows, "copy", (uint64_t)row->copy);
    row_place(rows, "offset", row->file_offset);
    row_bool(rows, "valid", row->is_valid);
    row_bool(rows, "used", row->is_used);
    row_number(rows, "entry-count", row->entry_count);
    row_error(rows, "problem", &row->problem);
    row_end(rows);
    return 0;
}

static int
take_region(void *context, const struct vhdx_inspected_region *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    char guid[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(guid, &row->guid);
    row_begin(rows, "region", "  %" PRIu32 ": %s %s at 0x%" PRIx64 ", length 0x%" PRIx32 ", required 0x%" PRIx32,
              row->index, guid, row->name != NULL ? row->name : "(not known)", row->file_offset, row->length, row->flags);
    row_number(rows, "copy", (uint64_t)row->copy);
    row_number(rows, "index", row->index);
    row_guid(rows, "guid", &row->guid);
    row_text(rows, "name", row->name);
    row_place(rows, "offset", row->file_offset);
    row_place(rows, "length", row->length);
    row_number(rows, "required", row->flags);
    row_end(rows);
    return 0;
}

/* --- metadata --- */

static int
take_metadata_table(void *context, const struct vhdx_inspected_metadata_table *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "table", "table at 0x%" PRIx64 ": %" PRIu32 " entries, region of 0x%" PRIx64 " bytes",
              row->file_offset, row->entry_count, row->region_length);
    row_place(rows, "offset", row->file_offset);
    row_place(rows, "region-length", row->region_length);
    row_number(rows, "entry-count", row->entry_count);
    row_error(rows, "problem", &row->problem);
    row_end(rows);
    return 0;
}

static void
add_value(struct rows *rows, const struct vhdx_inspected_item *row)
{
    switch (row->value) {
    case VHDX_ITEM_FILE_PARAMETERS:
        row_number(rows, "block-size", row->block_size);
        row_bool(rows, "leave-blocks-allocated", (row->file_flags & 1) != 0);
        row_bool(rows, "has-parent", (row->file_flags & 2) != 0);
        break;
    case VHDX_ITEM_SIZE:
        row_number(rows, "value", row->size);
        break;
    case VHDX_ITEM_GUID:
        row_guid(rows, "value", &row->guid);
        break;
    case VHDX_ITEM_OPAQUE:
        break;
    }
}

static int
take_item(void *context, const struct vhdx_inspected_item *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    char guid[VHDX_GUID_TEXT_SIZE];
    const char *name = row->name != NULL ? row->name : (row->flags & VHDX_ITEM_IS_USER) != 0 ? "user item" : "not known";

    vhdx_guid_format(guid, &row->item_id);
    row_begin(rows, row->is_stale ? "stale-slot" : "item",
              "%s %" PRIu32 ": %s (%s), flags 0x%" PRIx32 ", %" PRIu32 " bytes at 0x%" PRIx32 " of the region",
              row->is_stale ? "slot past the last entry" : "item", row->index, guid, name, row->flags, row->length,
              row->offset);
    row_number(rows, "index", row->index);
    row_guid(rows, "id", &row->item_id);
    row_text(rows, "name", row->name);
    row_bool(rows, "is-user", (row->flags & VHDX_ITEM_IS_USER) != 0);
    row_bool(rows, "is-virtual-disk", (row->flags & VHDX_ITEM_IS_VIRTUAL_DISK) != 0);
    row_bool(rows, "is-required", (row->flags & VHDX_ITEM_IS_REQUIRED) != 0);
    row_place(rows, "flags", row->flags);
    row_place(rows, "region-offset", row->offset);
    row_place(rows, "offset", row->file_offset);
    row_number(rows, "length", row->length);
    row_details(rows);
    if (!row->is_stale) {
        add_value(rows, row);
        row_bytes(rows, "bytes", row->bytes, row->byte_count);
    }
    row_end(rows);
    return 0;
}

static int
take_locator(void *context, const struct vhdx_inspected_locator *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    char guid[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(guid, &row->type);
    row_begin(rows, "locator", "locator at 0x%" PRIx64 ": type %s, %" PRIu32 " bytes, %" PRIu32 " pairs",
              row->file_offset, guid, row->length, row->pair_count);
    row_place(rows, "offset", row->file_offset);
    row_number(rows, "length", row->length);
    row_guid(rows, "type", &row->type);
    row_number(rows, "pair-count", row->pair_count);
    row_end(rows);
    return 0;
}

static int
take_pair(void *context, const struct vhdx_inspected_locator_pair *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "pair", "pair %" PRIu32 ": key of %u bytes at 0x%" PRIx32 ", value of %u at 0x%" PRIx32,
              row->index, row->key_length, row->key_offset, row->value_length, row->value_offset);
    row_number(rows, "index", row->index);
    row_place(rows, "key-offset", row->key_offset);
    row_number(rows, "key-length", row->key_length);
    row_place(rows, "value-offset", row->value_offset);
    row_number(rows, "value-length", row->value_length);
    row_details(rows);
    row_text(rows, "key", row->key);
    row_text(rows, "value", row->value);
    row_end(rows);
    return 0;
}

/* --- the log --- */

static int
take_log(void *context, const struct vhdx_inspected_log *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    bool is_empty = vhdx_guid_is_zero(&row->guid);

    row_begin(rows, "log", "log at 0x%" PRIx64 ", length 0x%" PRIx32 ": %s", row->file_offset, row->length,
              is_empty ? "empty; what lies in it is left from before"
              : row->has_active ? "to be replayed" : "to be replayed, but no valid sequence is in it");
    row_place(rows, "offset", row->file_offset);
    row_place(rows, "length", row->length);
    row_details(rows);
    row_guid(rows, "guid", &row->guid);
    row_bool(rows, "active", row->has_active);
    if (row->has_active) {
        row_place(rows, "tail", row->tail);
        row_place(rows, "head", row->head);
        row_number(rows, "first-sequence-number", row->first_sequence_number);
        row_number(rows, "last-sequence-number", row->last_sequence_number);
    }
    row_end(rows);
    return 0;
}

static int
take_entry(void *context, const struct vhdx_inspected_log_entry *row)
{
    static const char *const states[] = { [VHDX_LOG_LIVE] = "live", [VHDX_LOG_APPLIED] = "applied",
                                          [VHDX_LOG_STALE] = "stale", [VHDX_LOG_BROKEN] = "broken" };
    struct dump *dump = context;
    struct rows *rows = &dump->rows;

    dump->entry_sequence = row->sequence_number;
    row_begin(rows, "entry", "entry at 0x%" PRIx32 " of the log: %s", row->position, states[row->state]);
    row_place(rows, "position", row->position);
    row_place(rows, "offset", row->file_offset);
    row_text(rows, "state", states[row->state]);
    row_details(rows);
    row_text(rows, "problem", row->problem);
    if (row->state == VHDX_LOG_BROKEN)
        row_place(rows, "length-seen", row->length_seen);
    row_number(rows, "sequence-number", row->sequence_number);
    row_place(rows, "length", row->length);
    row_place(rows, "tail", row->tail);
    row_guid(rows, "log-guid", &row->log_guid);
    row_place(rows, "flushed-file-offset", row->flushed_file_offset);
    row_place(rows, "last-file-offset", row->last_file_offset);
    row_number(rows, "descriptor-count", row->descriptor_count);
    row_end(rows);
    return 0;
}

#define PLACE_TEXT_SIZE 96

/* Where a page belongs. */
static void
place_text(char text[PLACE_TEXT_SIZE], const struct vhdx_inspected_log_descriptor *row)
{
    switch (row->place) {
    case VHDX_PLACE_UNKNOWN:
        snprintf(text, PLACE_TEXT_SIZE, "a block, or space of nothing");
        return;
    case VHDX_PLACE_HEADERS:
        snprintf(text, PLACE_TEXT_SIZE, "identifier or headers, which no entry may change");
        return;
    case VHDX_PLACE_REGION_TABLE:
        snprintf(text, PLACE_TEXT_SIZE, "region table %" PRIu64, row->place_number);
        return;
    case VHDX_PLACE_LOG:
        snprintf(text, PLACE_TEXT_SIZE, "the log itself, which no entry may change");
        return;
    case VHDX_PLACE_BAT:
        snprintf(text, PLACE_TEXT_SIZE, "BAT, entries %" PRIu64 "..%" PRIu64, row->place_number,
                 row->place_number + (row->place_count > 0 ? row->place_count - 1 : 0));
        return;
    case VHDX_PLACE_METADATA:
        snprintf(text, PLACE_TEXT_SIZE, "metadata, at 0x%" PRIx64 " of the region", row->place_number);
        return;
    case VHDX_PLACE_SECTOR_BITMAP:
        snprintf(text, PLACE_TEXT_SIZE, "sector bitmap of chunk %" PRIu64, row->place_number);
        return;
    case VHDX_PLACE_OTHER_REGION:
        snprintf(text, PLACE_TEXT_SIZE, "a region that is not known");
        return;
    }
}

static int
take_descriptor(void *context, const struct vhdx_inspected_log_descriptor *row)
{
    struct dump *dump = context;
    struct rows *rows = &dump->rows;
    char place[PLACE_TEXT_SIZE];

    place_text(place, row);
    row_begin(rows, "descriptor", "  %s %" PRIu32 ": 0x%" PRIx64 " bytes to 0x%" PRIx64 ": %s",
              row->is_zero ? "zeros" : "page", row->index, row->length, row->file_offset, place);
    row_number(rows, "entry-sequence-number", dump->entry_sequence);
    row_number(rows, "index", row->index);
    row_bool(rows, "zero", row->is_zero);
    row_place(rows, "offset", row->file_offset);
    row_place(rows, "length", row->length);
    if (!row->is_zero)
        row_place(rows, "data-offset", row->data_offset);
    row_text(rows, "place", place);
    row_end(rows);
    return 0;
}

/* --- blocks --- */

static int
take_run(void *context, const struct vhdx_inspected_bat_run *row)
{
    static const char *const kinds[] = { [VHDX_BAT_PAYLOAD] = "blocks", [VHDX_BAT_BITMAP] = "bitmaps",
                                         [VHDX_BAT_PADDING] = "padding", [VHDX_BAT_UNKNOWN] = "entries" };
    static const char *const words[] = { [VHDX_BAT_PAYLOAD] = "block", [VHDX_BAT_BITMAP] = "sector bitmap of chunk",
                                         [VHDX_BAT_PADDING] = "padding, entry", [VHDX_BAT_UNKNOWN] = "entry" };
    struct rows *rows = &((struct dump *)context)->rows;
    const char *state = vhdx_block_state_name(row->kind, row->state);
    char range[64], place[64] = "", raw[32] = "";

    snprintf(range, sizeof(range), row->count > 1 ? "%" PRIu64 "..%" PRIu64 : "%" PRIu64, row->index,
             row->index + row->count - 1);
    if (row->file_offset != 0)
        snprintf(place, sizeof(place), " at 0x%" PRIx64 "%s", row->file_offset, row->count > 1 ? ", consecutive" : "");
    if (row->problem.code != VHDX_OK)
        snprintf(raw, sizeof(raw), ", raw 0x%016" PRIx64, row->raw);
    row_begin(rows, kinds[row->kind], "%s%s %s: %s%s%s", words[row->kind], row->count > 1 ? "s" : "", range, state,
              place, raw);
    row_number(rows, "first", row->index);
    row_number(rows, "count", row->count);
    row_number(rows, "state", row->state);
    row_text(rows, "state-name", state);
    if (row->file_offset != 0)
        row_place(rows, "offset", row->file_offset);
    row_place(rows, "entry-offset", row->entry_offset);
    if (row->problem.code != VHDX_OK)
        row_place(rows, "raw", row->raw);
    row_error(rows, "problem", &row->problem);
    row_end(rows);
    if (!rows->is_json && row->problem.code != VHDX_OK)
        row_of_error(rows, "finding", vhdx_severity_name(row->problem.severity), &row->problem);
    return 0;
}

static int
take_bitmap(void *context, const struct vhdx_inspected_bitmap *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    const char *state = vhdx_block_state_name(VHDX_BAT_BITMAP, row->state);
    char place[32] = "";

    if (row->file_offset != 0)
        snprintf(place, sizeof(place), " at 0x%" PRIx64, row->file_offset);
    row_begin(rows, "bitmap", "chunk %" PRIu64 ": %s%s", row->chunk_index, state, place);
    row_number(rows, "chunk", row->chunk_index);
    row_number(rows, "state", row->state);
    row_text(rows, "state-name", state);
    row_place(rows, "offset", row->file_offset);
    row_end(rows);
    return 0;
}

static int
take_slice(void *context, const struct vhdx_inspected_slice *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    const char *state = vhdx_block_state_name(VHDX_BAT_PAYLOAD, row->block_state);

    row_begin(rows, "slice", "block %" PRIu64 ", %s: %" PRIu32 " of %" PRIu32 " sectors have their bit set",
              row->block_index, state, row->present_count, row->sector_count);
    row_number(rows, "chunk", row->chunk_index);
    row_number(rows, "block", row->block_index);
    row_text(rows, "state-name", state);
    row_place(rows, "offset", row->file_offset);
    row_number(rows, "sector-count", row->sector_count);
    row_number(rows, "present-count", row->present_count);
    row_end(rows);
    return 0;
}

static int
take_sectors(void *context, const struct vhdx_inspected_sectors *row)
{
    struct rows *rows = &((struct dump *)context)->rows;

    row_begin(rows, "sectors", "  sectors %" PRIu32 "..%" PRIu32, row->sector, row->sector + row->count - 1);
    row_number(rows, "block", row->block_index);
    row_number(rows, "first", row->sector);
    row_number(rows, "count", row->count);
    row_end(rows);
    return 0;
}

static int
take_free(void *context, const struct vhdx_inspected_free *row)
{
    struct rows *rows = &((struct dump *)context)->rows;
    char text[SIZE_TEXT_SIZE];

    row_begin(rows, "free", "0x%" PRIx64 ", length 0x%" PRIx64 " (%s)", row->file_offset, row->length,
              size_short(text, row->length));
    row_place(rows, "offset", row->file_offset);
    row_place(rows, "length", row->length);
    row_end(rows);
    return 0;
}

/* --- the whole --- */

/* Where is what follows seen: the file as it lies, or through its log? */
static void
tell_view(struct dump *dump, const struct vhdx_inspection *inspection)
{
    struct vhdx_inspected_file file;
    struct rows *rows = &dump->rows;

    vhdx_inspect_file(inspection, &file);
    rows_member(rows, "file-size", json_object_new_uint64(file.file_size));
    rows_member(rows, "dirty-flag", json_object_new_boolean(file.is_dirty));
    rows_member(rows, "replayed", json_object_new_boolean(file.is_replayed));
    if (file.replay_problem.code != VHDX_OK) {
        dump->missing++;
        rows_member(rows, "replay-problem", json_error(&file.replay_problem));
    }
    if (rows->is_json)
        return;
    if (file.is_replayed)
        puts("What follows is seen through the log, as a reader sees it; headers and log as they lie.\n");
    else if (file.replay_problem.code != VHDX_OK)
        puts("The log cannot be replayed: what follows is the file as it lies.\n");
    else if (file.is_dirty)
        puts("The image was not closed: what follows is the file as it lies; --replayed shows it through its log.\n");
}

static int
dump_parts(struct dump *dump, struct vhdx_inspection *inspection, struct vhdx_error *err)
{
    const struct vhdx_inspect_visitor visitor = {
        .context = dump,
        .finding = take_finding, .missing = take_missing,
        .identifier = take_identifier, .header = take_header,
        .region_table = take_region_table, .region = take_region,
        .metadata_table = take_metadata_table, .item = take_item,
        .locator = take_locator, .locator_pair = take_pair,
        .log = take_log, .log_entry = take_entry, .log_descriptor = take_descriptor,
        .bat_run = take_run, .bitmap = take_bitmap, .slice = take_slice, .sectors = take_sectors,
        .free_space = take_free,
    };
    int rc = VHDX_OK;

    for (size_t i = 0; i < SECTION_COUNT && rc == VHDX_OK; i++) {
        if (!dump->is_wanted[i])
            continue;
        rows_section(&dump->rows, sections[i].key, sections[i].heading);
        rc = vhdx_inspect(inspection, (enum vhdx_inspect_part)i, dump->has_range[i] ? &dump->ranges[i] : NULL, &visitor,
                          err);
        rows_end_section(&dump->rows);
    }
    return rc;
}

static int
dump_file(struct dump *dump, const char *path, const struct shared_options *shared)
{
    const struct vhdx_inspect_options options = { .replayed = dump->is_replayed };
    struct vhdx_storage *storage;
    struct vhdx_inspection *inspection = NULL;
    struct vhdx_error err;
    int rc = vhdx_storage_open_path(&storage, path, shared->force_share ? VHDX_STORAGE_FORCE_SHARE : 0, &err);

    if (rc == VHDX_OK) {
        rc = vhdx_inspect_open(&inspection, storage, &options, &err);
        if (rc < 0)
            vhdx_storage_close(storage);
    }
    if (rc < 0) {
        if (shared->json)
            json_print(json_failure(path, &err));
        message_error(path, &err);
        return STATUS_FAILED;
    }
    rows_begin(&dump->rows, shared->json, path);
    tell_view(dump, inspection);
    rc = dump_parts(dump, inspection, &err);
    if (rc < 0)
        rows_member(&dump->rows, "error", json_error(&err));
    rows_member(&dump->rows, "complete", json_object_new_boolean(rc == VHDX_OK && dump->missing == 0));
    rows_end(&dump->rows);
    vhdx_inspect_close(inspection);
    vhdx_storage_close(storage);
    if (rc < 0)
        message_error(path, &err);
    else if (dump->missing > 0)
        message_print("%s: %" PRIu64 " things could not be shown, see 'not shown' above", path, dump->missing);
    return rc == VHDX_OK && dump->missing == 0 ? STATUS_GOOD : STATUS_FAILED;
}

/* N, N-M or N-. */
static void
take_range(const struct option_reader *reader, struct dump *dump, size_t part, const char *text)
{
    struct vhdx_inspect_range *range = &dump->ranges[part];
    const char *dash;
    char first[24];

    if (text == NULL)
        return;
    dash = strchr(text, '-');
    snprintf(first, sizeof(first), "%.*s", dash == NULL ? 23 : (int)(dash - text < 23 ? dash - text : 23), text);
    dump->has_range[part] = true;
    range->first = option_number(reader, "range", first, 0, UINT32_MAX);
    range->end = UINT64_MAX;
    if (dash == NULL)
        range->end = range->first + 1;
    else if (dash[1] != '\0')
        range->end = option_number(reader, "range", dash + 1, range->first, UINT32_MAX) + 1;
}

static int
run_dump(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct dump dump = { .missing = 0 };
    const char *argument;
    bool is_all = false, is_chosen = false;
    char **operands;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_REPLAYED) {
            dump.is_replayed = true;
            continue;
        }
        is_chosen = true;
        if (letter == OPTION_ALL) {
            is_all = true;
            continue;
        }
        dump.is_wanted[letter - OPTION_PART] = true;
        take_range(&reader, &dump, (size_t)(letter - OPTION_PART), argument);
    }
    options_operands(&reader, 1, 1, &operands);
    if (shared.ignore_log && dump.is_replayed)
        usage_error(&reader, "--ignore-log and --replayed contradict each other");
    for (size_t i = 0; i < SECTION_COUNT; i++)
        dump.is_wanted[i] |= is_all || (!is_chosen && sections[i].is_default);
    confine_source(&shared, operands[0]);
    confine_begin(&shared, STATUS_FAILED);
    return dump_file(&dump, operands[0], &shared);
}

const struct verb dump_verb = {
    .name = "dump",
    .synopsis = "[OPTIONS] FILE",
    .summary = "Show the structures of an image, sound or damaged",
    .details = "The file is shown as it lies, not through its log, unless --replayed is given.  Nothing is written.\n"
               "Exit status: 0 all that was asked for was shown, whatever is wrong with it; 1 something could not be.\n",
    .example = "  vhdx dump damaged.vhdx\n"
               "  vhdx dump --bat=0-99 disk.vhdx\n"
               "  vhdx dump --log --json disk.vhdx | jq '.log[] | select(.state == \"live\")'\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_READ | SHARED_SANDBOX,
    .usage_status = STATUS_USAGE,
    .run = run_dump,
};
