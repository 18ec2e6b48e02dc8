/* An open image's facts, and holding ranges of it. */
#include "image/image.h"

#include <string.h>

#include "base/utf16.h"
#include "image/internal.h"

const struct vx_geometry *
vx_image_geometry(const struct vx_image *image)
{
    return &image->geometry;
}

const struct vx_metadata *
vx_image_metadata(const struct vx_image *image)
{
    return &image->metadata;
}

const struct vx_findings *
vx_image_findings(const struct vx_image *image)
{
    return &image->findings;
}

bool
vx_image_is_writable(const struct vx_image *image)
{
    return image->is_writable;
}

struct vhdx_storage *
vx_image_storage(struct vx_image *image)
{
    return image->view;
}

const struct vx_locator *
vx_image_locator(const struct vx_image *image)
{
    return &image->locator;
}

const uint8_t *
vx_image_locator_item(const struct vx_image *image)
{
    return image->locator_item;
}

struct vx_region
vx_image_metadata_region(const struct vx_image *image)
{
    return image->regions.metadata;
}

struct vhdx_guid
vx_image_data_write_guid(struct vx_image *image)
{
    struct vhdx_guid guid;

    vx_mutex_lock(&image->session_lock);
    guid = image->header.data_write_guid;
    vx_mutex_unlock(&image->session_lock);
    return guid;
}

void
vx_image_set_below(struct vx_image *image, const struct vx_below *below)
{
    image->below = *below;
}

static void
hold(struct vx_image *image, struct vx_held *held, uint64_t guest_offset, uint64_t length)
{
    held->first_block = vx_geometry_block_of(&image->geometry, guest_offset);
    held->last_block = length == 0 ? held->first_block
                                   : vx_geometry_block_of(&image->geometry, guest_offset + length - 1);
    vx_block_locks_take(&image->block_locks, held);
}

void
vx_image_hold(struct vx_image *image, struct vx_held *held, uint64_t guest_offset, uint64_t length,
              bool is_exclusive)
{
    *held = (struct vx_held){ .is_exclusive = is_exclusive };
    hold(image, held, guest_offset, length);
}

void
vx_image_pin(struct vx_image *image, struct vx_held *held, uint64_t guest_offset, uint64_t length)
{
    *held = (struct vx_held){ .is_pin = true };
    hold(image, held, guest_offset, length);
}

void
vx_image_release(struct vx_image *image, struct vx_held *held)
{
    vx_block_locks_give_back(&image->block_locks, held);
}

/* A value of the locator as text that is safe to show. */
static void
copy_locator_text(const struct vx_image *image, const struct vx_locator_pair *pair, char *out, size_t out_size)
{
    char text[1024];

    out[0] = '\0';
    if (image->locator_item == NULL || pair->value_length == 0)
        return;
    vx_utf16_to_utf8_lenient(text, sizeof text, image->locator_item + pair->value_offset, pair->value_length);
    vx_escape_text(out, out_size, text);
}

static void
fill_from_header(struct vx_image *image, struct vhdx_info *out)
{
    vx_mutex_lock(&image->session_lock);
    out->file_write_guid = image->header.file_write_guid;
    out->data_write_guid = image->header.data_write_guid;
    out->log_guid = image->header.log_guid;
    out->header_sequence_number = image->header.sequence_number;
    out->log_offset = image->header.log_offset;
    out->log_length = image->header.log_length;
    vx_mutex_unlock(&image->session_lock);
}

void
vx_image_fill_info(struct vx_image *image, struct vhdx_info *out)
{
    const struct vx_geometry *g = &image->geometry;

    memset(out, 0, sizeof *out);
    out->format = VHDX_FORMAT_VHDX;
    out->type = g->is_differencing ? VHDX_TYPE_DIFFERENCING : g->is_fixed ? VHDX_TYPE_FIXED : VHDX_TYPE_DYNAMIC;
    out->virtual_size = g->virtual_size;
    out->block_size = g->block_size;
    out->logical_sector_size = g->logical_sector_size;
    out->physical_sector_size = image->metadata.physical_sector_size;
    out->is_writable = image->is_writable;
    out->is_dirty = image->is_dirty;
    out->log_was_ignored = image->log_was_ignored;
    out->log_entry_count = image->log_entry_count;
    out->log_first_sequence_number = image->log_first_number;
    out->log_last_sequence_number = image->log_last_number;
    out->disk_id = image->metadata.disk_id;
    fill_from_header(image, out);
    out->bat_offset = image->regions.bat.file_offset;
    out->bat_length = image->regions.bat.length;
    out->metadata_offset = image->regions.metadata.file_offset;
    out->metadata_length = image->regions.metadata.length;
    out->payload_block_count = g->payload_block_count;
    out->finding_count = image->findings.count;
    if (image->findings.count > 0)
        out->worst_finding = image->findings.worst;
    memcpy(out->creator, image->creator, sizeof out->creator);
    out->parent_linkage = image->locator.linkage;
    out->parent_linkage2 = image->locator.linkage2;
    copy_locator_text(image, &image->locator.relative_path, out->parent_relative_path,
                      sizeof out->parent_relative_path);
    copy_locator_text(image, &image->locator.volume_path, out->parent_volume_path, sizeof out->parent_volume_path);
    copy_locator_text(image, &image->locator.absolute_win32_path, out->parent_absolute_path,
                      sizeof out->parent_absolute_path);
}
