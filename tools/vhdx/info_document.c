/* The document of `vhdx info --json`, which a mounted image holds as info.json. */
#include "info_document.h"

#include "json.h"
#include "message.h"

const char *
format_name(enum vhdx_format format)
{
    switch (format) {
    case VHDX_FORMAT_VHD:
        return "vhd";
    case VHDX_FORMAT_RAW:
        return "raw";
    default:
        return "vhdx";
    }
}

const char *
info_type_name(enum vhdx_image_type type)
{
    static const char *const names[] = {
        [VHDX_TYPE_DYNAMIC] = "dynamic",
        [VHDX_TYPE_FIXED] = "fixed",
        [VHDX_TYPE_DIFFERENCING] = "differencing",
    };

    return names[type];
}

static struct json_object *
add_object(struct json_object *parent, const char *key)
{
    struct json_object *object = need_memory(json_object_new_object());

    json_object_object_add(parent, key, object);
    return object;
}

static void
add_region(struct json_object *document, const char *key, uint64_t file_offset, uint64_t length)
{
    struct json_object *region = add_object(document, key);

    json_add_number(region, "offset", file_offset);
    json_add_number(region, "length", length);
}

static void
add_parent(struct json_object *document, const struct vhdx_info *info)
{
    struct json_object *locator = add_object(document, "parent-locator");

    json_add_guid(locator, "parent-linkage", &info->parent_linkage);
    json_add_guid(locator, "parent-linkage2", &info->parent_linkage2);
    json_add_text(locator, "relative-path", info->parent_relative_path);
    json_add_text(locator, "volume-path", info->parent_volume_path);
    json_add_text(locator, "absolute-win32-path", info->parent_absolute_path);
}

/* Where the parent was found, in qemu-img's words, or why not. */
static void
add_place(struct json_object *document, const struct info_facts *facts)
{
    if (facts->parent.path[0] != '\0') {
        json_add_text(document, "backing-filename", facts->parent.path);
        json_add_text(document, "full-backing-filename", facts->parent.path);
        json_add_text(document, "backing-filename-format", "vhdx");
    } else if (facts->parent_error.code != 0) {
        json_object_object_add(document, "parent-error", json_error(&facts->parent_error));
    }
}

/* What only a VHDX has. */
static void
add_vhdx(struct json_object *document, const struct vhdx_info *info)
{
    struct json_object *log;

    json_add_number(document, "cluster-size", info->block_size);
    json_add_bool(document, "dirty-flag", info->is_dirty);
    json_add_text(document, "type", info_type_name(info->type));
    json_add_number(document, "block-count", info->payload_block_count);
    json_add_guid(document, "disk-id", &info->disk_id);
    json_add_guid(document, "file-write-guid", &info->file_write_guid);
    json_add_guid(document, "data-write-guid", &info->data_write_guid);
    json_add_number(document, "header-sequence-number", info->header_sequence_number);
    json_add_text(document, "creator", info->creator);

    log = add_object(document, "log");
    json_add_guid(log, "guid", &info->log_guid);
    json_add_number(log, "offset", info->log_offset);
    json_add_number(log, "length", info->log_length);
    json_add_bool(log, "ignored", info->log_was_ignored);
    if (info->log_entry_count > 0) {
        json_add_number(log, "entry-count", info->log_entry_count);
        json_add_number(log, "first-sequence-number", info->log_first_sequence_number);
        json_add_number(log, "last-sequence-number", info->log_last_sequence_number);
    }
    add_region(document, "bat", info->bat_offset, info->bat_length);
    add_region(document, "metadata", info->metadata_offset, info->metadata_length);
    if (info->type == VHDX_TYPE_DIFFERENCING)
        add_parent(document, info);
}

static void
add_vhd(struct json_object *document, const struct vhdx_info *info)
{
    json_add_text(document, "type", info_type_name(info->type));
    if (info->type == VHDX_TYPE_DYNAMIC) {
        json_add_number(document, "cluster-size", info->block_size);
        json_add_number(document, "block-count", info->payload_block_count);
        add_region(document, "bat", info->bat_offset, info->bat_length);
    }
    json_add_guid(document, "disk-id", &info->disk_id);
    json_add_text(document, "creator", info->creator);
}

struct json_object *
info_document(const char *path, const struct info_facts *facts)
{
    const struct vhdx_info *info = &facts->info;
    struct json_object *document, *findings;

    document = json_document();
    json_add_number(document, "virtual-size", info->virtual_size);
    json_add_text(document, "filename", path);
    json_add_text(document, "format", format_name(info->format));
    if (!facts->is_served)
        json_add_number(document, "actual-size", facts->allocated_size);
    json_add_number(document, "file-size", info->file_size);
    json_add_number(document, "logical-sector-size", info->logical_sector_size);
    json_add_number(document, "physical-sector-size", info->physical_sector_size);
    if (info->format == VHDX_FORMAT_VHD)
        add_vhd(document, info);
    if (info->format != VHDX_FORMAT_VHDX)
        return document;

    add_vhdx(document, info);
    add_place(document, facts);
    findings = add_object(document, "findings");
    json_add_number(findings, "count", info->finding_count);
    if (info->finding_count > 0)
        json_object_object_add(findings, "worst", json_error(&info->worst_finding));
    return document;
}
