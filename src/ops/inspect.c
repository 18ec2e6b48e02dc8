/* See inspect.h: what is known of the file, headers and region tables. */
#include "ops/inspect.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/utf16.h"
#include "format/identifier.h"
#include "storage/storage.h"

/* --- finding out, silently --- */

static const uint8_t *
header_bytes(const struct vhdx_inspection *in, int index)
{
    return in->head + VX_HEADER_OFFSET(index);
}

static const uint8_t *
table_bytes(const struct vhdx_inspection *in, int index)
{
    return in->tables + (size_t)index * VX_REGION_TABLE_SIZE;
}

static int
read_head(struct vhdx_inspection *in, struct vhdx_error *err)
{
    size_t got;
    int    rc = vx_storage_get_size(in->storage, &in->file_length, err);

    if (rc == VHDX_OK)
        rc = vx_storage_read_prefix(in->storage, in->head, VX_INSPECT_HEAD, 0, &got, err);
    if (rc < 0)
        return rc;
    in->view_length = in->file_length;
    in->has_header = vx_header_choose(&in->header, &in->header_index, header_bytes(in, 0), header_bytes(in, 1), NULL)
                     == VHDX_OK;
    if (!in->has_header)
        in->header = (struct vx_header){ .version = 1 };
    return VHDX_OK;
}

/* Why the log cannot be laid over the file, or VHDX_OK with in->replayed. */
static int
replay(struct vhdx_inspection *in, struct vhdx_error *err)
{
    struct vx_log_scan scan = { .places = NULL };
    struct vx_findings findings;
    int                rc;

    vx_findings_init(&findings, NULL, NULL);
    vx_header_judge(&in->header, VX_HEADER_OFFSET(in->header_index), in->file_length, &findings);
    if (vx_findings_severity(&findings) == VHDX_SEVERITY_REFUSE) {
        *err = findings.worst;
        return err->code;
    }
    rc = vx_log_scan(&scan, in->storage, &in->header, in->header.log_length, in->file_length, &findings, err);
    if (rc == VHDX_OK && vx_findings_severity(&findings) == VHDX_SEVERITY_REFUSE) {
        *err = findings.worst;
        rc = err->code;
    }
    if (rc == VHDX_OK)
        rc = vx_replay_view(&in->replayed, in->storage, &scan, in->file_length, err);
    vx_log_scan_free(&scan);
    return rc;
}

static int
choose_view(struct vhdx_inspection *in, bool is_replayed, struct vhdx_error *err)
{
    if (!is_replayed || !in->has_header || vhdx_guid_is_zero(&in->header.log_guid))
        return VHDX_OK;
    if (replay(in, &in->replay_problem) < 0) {
        if (in->replay_problem.code == VHDX_E_NO_MEMORY && err != NULL)
            *err = in->replay_problem;
        return in->replay_problem.code == VHDX_E_NO_MEMORY ? VHDX_E_NO_MEMORY : VHDX_OK;
    }
    in->view = in->replayed;
    return vx_storage_get_size(in->view, &in->view_length, err);
}

/* Neither copy is valid: one that at least begins like a table (N2). */
static bool
follow_bad_table(struct vhdx_inspection *in)
{
    for (int i = 0; i < 2; i++) {
        if (memcmp(table_bytes(in, i), "regi", 4) != 0)
            continue;
        vx_region_table_load(in->table, table_bytes(in, i));
        in->table_index = i;
        return true;
    }
    return false;
}

static bool
begins_inside(const struct vhdx_inspection *in, const struct vx_region *region)
{
    return region->length > 0 && region->file_offset >= VX_HEADER_SECTION_SIZE && region->file_offset < in->view_length;
}

static int
read_regions(struct vhdx_inspection *in, struct vhdx_error *err)
{
    size_t got;
    int    rc = vx_storage_read_prefix(in->view, in->tables, 2 * (size_t)VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(0),
                                       &got, err);

    if (rc < 0)
        return rc;
    in->has_table = vx_region_table_choose(in->table, &in->table_index, table_bytes(in, 0), table_bytes(in, 1), NULL)
                    == VHDX_OK || follow_bad_table(in);
    if (!in->has_table)
        return VHDX_OK;
    vx_region_table_judge(in->table, table_bytes(in, in->table_index), VX_REGION_TABLE_OFFSET(in->table_index),
                          &in->header, in->view_length, &in->regions, NULL);
    in->has_bat = begins_inside(in, &in->regions.bat);
    in->has_metadata = begins_inside(in, &in->regions.metadata);
    in->reserved = vx_alloc_zeroed((size_t)in->table->region_count + 2, sizeof *in->reserved);
    if (in->reserved == NULL)
        return vx_fail_memory(err, "the list of regions");
    in->reserved_count = vx_reserved_ranges(in->reserved, &in->header, in->table);
    return VHDX_OK;
}

uint32_t
vx_inspect_item_length(const struct vhdx_inspection *in, const struct vx_metadata_entry *entry)
{
    uint64_t room = vx_min_u64(in->regions.metadata.length, in->view_length - in->regions.metadata.file_offset);

    if (entry->offset < VX_METADATA_TABLE_SIZE || entry->offset >= room)
        return 0;
    return (uint32_t)vx_min_u64(vx_min_u64(entry->length, room - entry->offset), VX_MAX_ITEM_LENGTH);
}

/* The values without which nothing is known about blocks. */
static void
note_shape_rule(void *context, const struct vhdx_error *finding)
{
    static const int rules[] = { 91, 92, 93, 95, 97, 99 };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (finding->rule == rules[i])
            *(bool *)context = false;
    }
}

static int
take_items(struct vhdx_inspection *in, struct vhdx_error *err)
{
    for (uint32_t i = 0; i < in->metadata_table->entry_count; i++) {
        const struct vx_metadata_entry *entry = &in->metadata_table->entries[i];
        uint8_t                         bytes[64];
        int                             rc = VHDX_OK;

        if ((entry->flags & VX_ITEM_IS_USER) != 0)
            continue;
        if (entry->length <= sizeof bytes && vx_inspect_item_length(in, entry) != entry->length)
            continue;
        if (entry->length > 0 && entry->length <= sizeof bytes)
            rc = vx_storage_read(in->view, bytes, entry->length, in->regions.metadata.file_offset + entry->offset, err);
        if (rc < 0)
            return rc;
        vx_metadata_take_item(&in->metadata, entry, bytes); /* of a longer one only that it is there */
    }
    return VHDX_OK;
}

static int
read_metadata(struct vhdx_inspection *in, struct vhdx_error *err)
{
    uint64_t           at = in->regions.metadata.file_offset;
    struct vx_findings findings;
    size_t             got;
    int                rc;

    in->metadata_problem.code = VHDX_E_BAD_REGION;
    if (!in->has_metadata)
        return VHDX_OK;
    rc = vx_storage_read_prefix(in->view, in->metadata_bytes, VX_METADATA_TABLE_SIZE, at, &got, err);
    if (rc < 0)
        return rc;
    in->metadata_problem.code = VHDX_OK;
    if (vx_metadata_table_decode(in->metadata_table, in->metadata_bytes, at, &in->metadata_problem) < 0)
        return VHDX_OK;
    rc = take_items(in, err);
    in->has_geometry = true;
    vx_findings_init(&findings, note_shape_rule, &in->has_geometry);
    vx_metadata_judge(&in->metadata, at, &findings);
    if (in->has_geometry)
        vx_geometry_init(&in->geometry, in->metadata.virtual_size, in->metadata.block_size,
                         in->metadata.logical_sector_size, in->metadata.has_parent,
                         in->metadata.leave_blocks_allocated && !in->metadata.has_parent);
    return rc;
}

static int
demand_something(const struct vhdx_inspection *in, struct vhdx_error *err)
{
    if (vx_identifier_has_signature(in->head) || in->has_header || in->has_table)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 0,
                   "the file has no identifier, no valid header and no region table");
}

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct vhdx_inspection *in = context;

    if (in->visitor != NULL && VX_TELL(in, finding, finding) < 0)
        in->is_cancelled = true;
}

static int
look(struct vhdx_inspection *in, const struct vhdx_inspect_options *options, struct vhdx_error *err)
{
    int rc;

    in->head = vx_alloc((size_t)VX_INSPECT_HEAD);
    in->tables = vx_alloc(2 * (size_t)VX_REGION_TABLE_SIZE);
    in->table = vx_alloc_zeroed(1, sizeof *in->table);
    in->metadata_bytes = vx_alloc(VX_METADATA_TABLE_SIZE);
    in->metadata_table = vx_alloc_zeroed(1, sizeof *in->metadata_table);
    if (in->head == NULL || in->tables == NULL || in->table == NULL || in->metadata_bytes == NULL ||
        in->metadata_table == NULL)
        return vx_fail_memory(err, "an inspection");
    rc = read_head(in, err);
    if (rc == VHDX_OK)
        rc = choose_view(in, options != NULL && options->replayed, err);
    if (rc == VHDX_OK)
        rc = read_regions(in, err);
    if (rc == VHDX_OK)
        rc = demand_something(in, err);
    return rc == VHDX_OK ? read_metadata(in, err) : rc;
}

int
vhdx_inspect_open(struct vhdx_inspection **out, struct vhdx_storage *storage, const struct vhdx_inspect_options *options,
                  struct vhdx_error *err)
{
    struct vhdx_inspection *in = vx_alloc_zeroed(1, sizeof *in);
    int                     rc;

    if (in == NULL)
        return vx_fail_memory(err, "an inspection");
    in->storage = in->view = storage;
    vx_findings_init(&in->findings, take_finding, in);
    rc = look(in, options, err);
    if (rc < 0) {
        vhdx_inspect_close(in);
        return rc;
    }
    *out = in;
    return VHDX_OK;
}

void
vhdx_inspect_close(struct vhdx_inspection *inspection)
{
    if (inspection == NULL)
        return;
    vhdx_storage_close(inspection->replayed);
    vx_free(inspection->head);
    vx_free(inspection->tables);
    vx_free(inspection->table);
    vx_free(inspection->metadata_bytes);
    vx_free(inspection->metadata_table);
    vx_free(inspection->reserved);
    vx_free(inspection->bitmaps);
    vx_free(inspection);
}

void
vhdx_inspect_file(const struct vhdx_inspection *inspection, struct vhdx_inspected_file *out)
{
    *out = (struct vhdx_inspected_file){
        .file_size = inspection->file_length,
        .is_dirty = inspection->has_header && !vhdx_guid_is_zero(&inspection->header.log_guid),
        .is_replayed = inspection->replayed != NULL,
        .replay_problem = inspection->replay_problem,
        .has_shape = inspection->has_geometry,
    };
    if (!inspection->has_geometry)
        return;
    out->virtual_size = inspection->geometry.virtual_size;
    out->block_size = inspection->geometry.block_size;
    out->payload_block_count = inspection->geometry.payload_block_count;
    out->chunk_count = inspection->geometry.bitmap_block_count;
    out->is_differencing = inspection->geometry.is_differencing;
}

/* --- telling --- */

int
vx_inspect_missing(struct vhdx_inspection *in, int code, enum vhdx_part part, uint64_t file_offset, const char *format, ...)
{
    struct vhdx_error why;
    char              text[sizeof why.message];
    va_list           arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    vx_fail(&why, code, part, file_offset, "%s", text);
    why.severity = VHDX_SEVERITY_NONE;
    why.rule = 0;
    why.system_errno = 0;
    return VX_TELL(in, missing, &why);
}

struct vx_bat_limits
vx_inspect_limits(const struct vhdx_inspection *in)
{
    return (struct vx_bat_limits){
        .geometry        = &in->geometry,
        .file_length     = in->view_length,
        .reserved        = in->reserved,
        .reserved_count  = in->reserved_count,
        .bat_file_offset = in->regions.bat.file_offset,
    };
}

static int
show_identifier(struct vhdx_inspection *in)
{
    struct vhdx_inspected_identifier row = { .has_signature = vx_identifier_has_signature(in->head) };

    vx_utf16_to_utf8_lenient(row.creator, sizeof row.creator, in->head + 8, VX_CREATOR_BYTES);
    vx_file_length_judge(in->file_length, &in->findings);
    vx_identifier_judge(in->head, VX_IDENTIFIER_SIZE, &in->findings);
    return VX_TELL(in, identifier, &row);
}

static int
show_header(struct vhdx_inspection *in, int index)
{
    struct vhdx_inspected_header row = { .copy = index + 1, .file_offset = VX_HEADER_OFFSET(index) };
    struct vx_header             header;

    row.is_valid = vx_header_decode(&header, header_bytes(in, index), row.file_offset, &row.problem) == VHDX_OK;
    if (row.is_valid) {
        row.problem = (struct vhdx_error){ .code = VHDX_OK };
        vx_header_judge_reserved(header_bytes(in, index), VX_HEADER_SLOT_SIZE, row.file_offset, &in->findings);
    }
    vx_header_load(&header, header_bytes(in, index));
    row.is_current = in->has_header && in->header_index == index;
    row.sequence_number = header.sequence_number;
    row.file_write_guid = header.file_write_guid;
    row.data_write_guid = header.data_write_guid;
    row.log_guid = header.log_guid;
    row.log_version = header.log_version;
    row.version = header.version;
    row.log_length = header.log_length;
    row.log_offset = header.log_offset;
    return VX_TELL(in, header, &row);
}

static int
show_headers(struct vhdx_inspection *in)
{
    struct vx_header chosen;
    int              index, rc = show_identifier(in);

    for (int i = 0; i < 2 && rc == VHDX_OK; i++)
        rc = show_header(in, i);
    vx_header_choose(&chosen, &index, header_bytes(in, 0), header_bytes(in, 1), &in->findings);
    if (in->has_header)
        vx_header_judge(&in->header, VX_HEADER_OFFSET(in->header_index), in->file_length, &in->findings);
    if (rc == VHDX_OK && !in->has_header)
        rc = vx_inspect_missing(in, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, VX_HEADER_OFFSET(0),
                                "there is no current header");
    return rc;
}

static const char *
region_name(const struct vhdx_guid *guid)
{
    if (vhdx_guid_equal(guid, &vx_guid_region_bat))
        return "BAT";
    return vhdx_guid_equal(guid, &vx_guid_region_metadata) ? "metadata" : NULL;
}

/* `table` is scratch. */
static int
show_table(struct vhdx_inspection *in, int index, struct vx_region_table *table)
{
    struct vhdx_inspected_region_table row = { .copy = index + 1, .file_offset = VX_REGION_TABLE_OFFSET(index) };
    int                                rc;

    row.is_valid = vx_region_table_decode(table, table_bytes(in, index), row.file_offset, &row.problem) == VHDX_OK;
    if (row.is_valid)
        row.problem = (struct vhdx_error){ .code = VHDX_OK };
    row.is_used = in->has_table && in->table_index == index;
    if (row.is_valid || memcmp(table_bytes(in, index), "regi", 4) == 0)
        vx_region_table_load(table, table_bytes(in, index));
    else
        table->region_count = 0;
    row.entry_count = table->region_count;
    rc = VX_TELL(in, region_table, &row);
    for (uint32_t i = 0; i < table->region_count && rc == VHDX_OK; i++) {
        const struct vx_region       *region = &table->regions[i];
        struct vhdx_inspected_region  entry = { .copy = index + 1, .index = i, .guid = region->guid,
                                                .name = region_name(&region->guid),
                                                .file_offset = region->file_offset, .length = region->length,
                                                .flags = region->flags };

        rc = VX_TELL(in, region, &entry);
    }
    return rc;
}

static int
show_regions(struct vhdx_inspection *in, struct vhdx_error *err)
{
    struct vx_region_table *table = vx_alloc(sizeof *table);
    struct vx_regions       regions;
    int                     index, rc = VHDX_OK;

    if (table == NULL)
        return vx_fail_memory(err, "a region table");
    for (int i = 0; i < 2 && rc == VHDX_OK; i++)
        rc = show_table(in, i, table);
    vx_region_table_choose(table, &index, table_bytes(in, 0), table_bytes(in, 1), &in->findings);
    if (in->has_table)
        vx_region_table_judge(in->table, table_bytes(in, in->table_index), VX_REGION_TABLE_OFFSET(in->table_index),
                              &in->header, in->view_length, &regions, &in->findings);
    else if (rc == VHDX_OK)
        rc = vx_inspect_missing(in, VHDX_E_BAD_REGION, VHDX_PART_REGION_TABLE, VX_REGION_TABLE_OFFSET(0),
                                "neither copy is a region table: BAT and metadata cannot be found");
    vx_free(table);
    return rc;
}

static int
show(struct vhdx_inspection *in, enum vhdx_inspect_part part, const struct vhdx_inspect_range *range,
     struct vhdx_error *err)
{
    switch (part) {
    case VHDX_INSPECT_HEADERS:
        return show_headers(in);
    case VHDX_INSPECT_REGIONS:
        return show_regions(in, err);
    case VHDX_INSPECT_METADATA:
        return vx_inspect_metadata(in, err);
    case VHDX_INSPECT_LOCATOR:
        return vx_inspect_locator(in, err);
    case VHDX_INSPECT_LOG:
        return vx_inspect_log(in, err);
    case VHDX_INSPECT_BAT:
        return vx_inspect_bat(in, range, err);
    case VHDX_INSPECT_BITMAP:
        return vx_inspect_bitmaps(in, range, err);
    case VHDX_INSPECT_FREE:
        return vx_inspect_free(in, err);
    }
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "there is no part %d", (int)part);
}

int
vhdx_inspect(struct vhdx_inspection *inspection, enum vhdx_inspect_part part, const struct vhdx_inspect_range *range,
             const struct vhdx_inspect_visitor *visitor, struct vhdx_error *err)
{
    int rc;

    inspection->visitor = visitor;
    inspection->is_cancelled = false;
    rc = show(inspection, part, range, err);
    inspection->visitor = NULL;
    if (rc == VHDX_E_CANCELLED || (rc == VHDX_OK && inspection->is_cancelled))
        return vx_fail(err, VHDX_E_CANCELLED, VHDX_PART_NONE, VHDX_NO_OFFSET, "the caller has seen enough");
    return rc;
}
