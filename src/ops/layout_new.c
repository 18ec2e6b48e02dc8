/*
 * The layout of a fresh image: options judged, defaults filled in, places computed, fixed structures encoded.
 *
 *   N1  Everything starts and ends on 1 MiB, in the order of layout_new.h, without gaps: no byte is leaked (V148).
 *   N2  The image breaks no rule of section 8, not even a WARN, unless an option asks for it (a tiny disk, V107).
 *   N3  LogGuid is zero: a fresh image never asks for a replay.
 */
#include "ops/layout_new.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/identifier.h"
#include "format/region.h"

#define DEFAULT_BLOCK_SIZE       ((uint32_t)(2 * VX_MIB))
#define DEFAULT_LARGE_BLOCK_SIZE ((uint32_t)(32 * VX_MIB)) /* keeps the BAT of a 64 TiB disk at 17 MiB */
#define LARGE_DISK               (UINT64_C(8) * VX_TIB)

#define METADATA_ITEM_BYTES 40u /* the five items of section 11, packed */

/* Any small number serves; 1 leaves 0 to whoever wants to see an older copy. */
#define FIRST_SEQUENCE_NUMBER 1

static bool
is_sector_size(uint32_t size)
{
    return size == 512 || size == 4096;
}

static int
judge_sectors(const struct vx_metadata *metadata, struct vhdx_error *err)
{
    if (!is_sector_size(metadata->logical_sector_size))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the logical sector size is %" PRIu32 " bytes; it can be 512 or 4096",
                       metadata->logical_sector_size);
    if (!is_sector_size(metadata->physical_sector_size))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the physical sector size is %" PRIu32 " bytes; it can be 512 or 4096",
                       metadata->physical_sector_size);
    if (metadata->physical_sector_size < metadata->logical_sector_size)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the physical sector size, %" PRIu32 " bytes, is smaller than the logical one, %" PRIu32,
                       metadata->physical_sector_size, metadata->logical_sector_size);
    return VHDX_OK;
}

static int
judge_size(const struct vx_metadata *metadata, struct vhdx_error *err)
{
    if (metadata->virtual_size == 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "a disk of 0 bytes cannot be made");
    if (metadata->virtual_size > VX_MAX_VIRTUAL_SIZE)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the disk size, %" PRIu64 " bytes, is above the limit of the format, 64 TiB",
                       metadata->virtual_size);
    if (metadata->virtual_size % metadata->logical_sector_size != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the disk size, %" PRIu64 " bytes, is not a multiple of the logical sector size, %" PRIu32,
                       metadata->virtual_size, metadata->logical_sector_size);
    return VHDX_OK;
}

static int
judge_block_size(uint32_t block_size, struct vhdx_error *err)
{
    if (block_size < VX_MIN_BLOCK_SIZE || block_size > VX_MAX_BLOCK_SIZE || (block_size & (block_size - 1)) != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the block size is %" PRIu32 " bytes; it can be a power of two from 1 MiB to 256 MiB",
                       block_size);
    return VHDX_OK;
}

static int
judge_log_size(uint64_t log_size, struct vhdx_error *err)
{
    if (log_size == 0 || log_size > VX_MAX_LOG_LENGTH || !vx_is_aligned(log_size, VX_MIB))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the log size is %" PRIu64 " bytes; it can be a multiple of 1 MiB up to 1 GiB", log_size);
    return VHDX_OK;
}

/* The field holds 255 characters and a NUL.  ASCII only, as section 11 asks. */
static int
judge_creator(const char *creator, struct vhdx_error *err)
{
    size_t length = strlen(creator);

    if (length >= VX_CREATOR_BYTES / 2)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the creator string has %zu characters; it can have 255", length);
    for (size_t i = 0; i < length; i++) {
        if (creator[i] < ' ' || creator[i] > '~')
            return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                           "the creator string can hold printable ASCII only");
    }
    return VHDX_OK;
}

/* A locator is there exactly for children, and fits a metadata item (V80). */
static int
judge_locator(enum vhdx_image_type type, const struct vx_new_locator *locator, struct vhdx_error *err)
{
    bool has_locator = locator != NULL && locator->length > 0;

    if (type != VHDX_TYPE_DYNAMIC && type != VHDX_TYPE_FIXED && type != VHDX_TYPE_DIFFERENCING)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "there is no image type %d", (int)type);
    if (has_locator != (type == VHDX_TYPE_DIFFERENCING))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "%s",
                       has_locator ? "only a differencing image has a parent"
                                   : "a differencing image needs a parent");
    if (has_locator && locator->length > VX_MAX_ITEM_LENGTH)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the parent locator has %" PRIu32 " bytes; it can have 1 MiB", locator->length);
    return VHDX_OK;
}

static uint32_t
default_block_size(uint64_t virtual_size)
{
    return virtual_size > LARGE_DISK ? DEFAULT_LARGE_BLOCK_SIZE : DEFAULT_BLOCK_SIZE;
}

/* A fixed image is asked for by those who want its space to be theirs. */
static enum vhdx_preallocation
choose_preallocation(const struct vhdx_create_options *options)
{
    if (options->preallocation != VHDX_PREALLOCATE_DEFAULT)
        return options->preallocation;
    return options->type == VHDX_TYPE_FIXED ? VHDX_PREALLOCATE_FALLOC : VHDX_PREALLOCATE_OFF;
}

/* The options with their defaults, as the metadata items say them. */
static void
fill_metadata(struct vx_new_layout *out, const struct vhdx_create_options *options)
{
    bool is_fixed = options->type == VHDX_TYPE_FIXED;
    bool has_parent = options->type == VHDX_TYPE_DIFFERENCING;

    out->metadata = (struct vx_metadata){
        .block_size              = options->block_size,
        .file_parameter_flags    = (is_fixed ? 1u : 0u) | (has_parent ? 2u : 0u),
        .leave_blocks_allocated  = is_fixed,
        .has_parent              = has_parent,
        .virtual_size            = options->virtual_size,
        .logical_sector_size     = options->logical_sector_size,
        .physical_sector_size    = options->physical_sector_size,
        .disk_id                 = options->disk_id,
        .has_file_parameters     = true,
        .has_virtual_size        = true,
        .has_logical_sector_size = true,
        .has_physical_sector_size = true,
        .has_disk_id             = true,
        .has_locator             = has_parent,
    };
    if (out->metadata.block_size == 0)
        out->metadata.block_size = default_block_size(options->virtual_size);
    if (out->metadata.logical_sector_size == 0)
        out->metadata.logical_sector_size = 512;
    if (out->metadata.physical_sector_size == 0)
        out->metadata.physical_sector_size = 4096;
}

static int
judge_options(const struct vx_new_layout *layout, struct vhdx_error *err)
{
    int rc = judge_sectors(&layout->metadata, err);

    if (rc == VHDX_OK)
        rc = judge_size(&layout->metadata, err);
    if (rc == VHDX_OK)
        rc = judge_block_size(layout->metadata.block_size, err);
    if (rc == VHDX_OK)
        rc = judge_log_size(layout->log_length, err);
    if (rc == VHDX_OK)
        rc = judge_creator(layout->creator, err);
    return rc;
}

/* N1: one after the other. */
static void
place_structures(struct vx_new_layout *layout)
{
    const struct vx_geometry *geometry = &layout->geometry;

    layout->log_offset = VX_HEADER_SECTION_SIZE;
    layout->metadata_offset = layout->log_offset + layout->log_length;
    layout->metadata_length = vx_round_up(vx_new_layout_metadata_length(layout), VX_MIB);
    layout->bat_offset = layout->metadata_offset + layout->metadata_length;
    layout->bat_length = vx_geometry_bat_region_length(geometry);
    layout->first_block_offset = layout->bat_offset + layout->bat_length;
    layout->file_length = layout->first_block_offset;
    if (layout->type == VHDX_TYPE_FIXED)
        layout->file_length = vx_new_layout_block_offset(layout, geometry->payload_block_count);
}

static int
fill_header(struct vx_new_layout *layout, struct vhdx_error *err)
{
    int rc;

    layout->header = (struct vx_header){
        .sequence_number = FIRST_SEQUENCE_NUMBER,
        .version         = 1,
        .log_length      = (uint32_t)layout->log_length, /* at most 1 GiB */
        .log_offset      = layout->log_offset,
    };
    rc = vx_guid_random(&layout->header.file_write_guid, err);
    if (rc == VHDX_OK)
        rc = vx_guid_random(&layout->header.data_write_guid, err);
    if (rc == VHDX_OK && vhdx_guid_is_zero(&layout->metadata.disk_id))
        rc = vx_guid_random(&layout->metadata.disk_id, err);
    return rc;
}

int
vx_new_layout_init(struct vx_new_layout *out, const struct vhdx_create_options *options,
                   const struct vx_new_locator *locator, struct vhdx_error *err)
{
    int rc = judge_locator(options->type, locator, err);

    if (rc < 0)
        return rc;
    *out = (struct vx_new_layout){
        .type       = options->type,
        .preallocation = choose_preallocation(options),
        .creator    = options->creator != NULL ? options->creator : "libvhdx " VHDX_VERSION,
        .log_length = options->log_size != 0 ? options->log_size : VX_MIB,
    };
    if (locator != NULL)
        out->locator = *locator;
    fill_metadata(out, options);
    rc = judge_options(out, err);
    if (rc < 0)
        return rc;
    vx_geometry_init(&out->geometry, out->metadata.virtual_size, out->metadata.block_size,
                     out->metadata.logical_sector_size, out->metadata.has_parent,
                     out->metadata.leave_blocks_allocated);
    place_structures(out);
    return fill_header(out, err);
}

void
vx_new_layout_add_items(struct vx_new_layout *layout, const struct vx_new_item *items, size_t item_count)
{
    layout->items = items;
    layout->item_count = item_count;
    place_structures(layout);
}

void
vx_new_layout_identifier(const struct vx_new_layout *layout, uint8_t slot[VX_IDENTIFIER_SIZE])
{
    vx_identifier_encode(slot, layout->creator);
}

void
vx_new_layout_header(const struct vx_new_layout *layout, int copy, uint8_t b[VX_HEADER_SIZE])
{
    struct vx_header header = layout->header;

    header.sequence_number += (uint64_t)copy;
    vx_header_encode(b, &header);
}

int
vx_new_layout_region_table(const struct vx_new_layout *layout, uint8_t b[VX_REGION_TABLE_SIZE],
                           struct vhdx_error *err)
{
    /* Room for 2047 regions is too much for a small stack. */
    struct vx_region_table *table = vx_alloc_zeroed(1, sizeof *table);

    if (table == NULL)
        return vx_fail_memory(err, "a region table");
    table->region_count = 2;
    table->regions[0] = (struct vx_region){
        .guid        = vx_guid_region_bat,
        .file_offset = layout->bat_offset,
        .length      = (uint32_t)layout->bat_length, /* at most 513 MiB */
        .flags       = 1,
    };
    table->regions[1] = (struct vx_region){
        .guid        = vx_guid_region_metadata,
        .file_offset = layout->metadata_offset,
        .length      = (uint32_t)layout->metadata_length, /* below 4 GiB */
        .flags       = 1,
    };
    vx_region_table_encode(b, table);
    vx_free(table);
    return VHDX_OK;
}

size_t
vx_new_layout_metadata_length(const struct vx_new_layout *layout)
{
    size_t length = VX_METADATA_TABLE_SIZE + METADATA_ITEM_BYTES + layout->locator.length;

    for (size_t i = 0; i < layout->item_count; i++)
        length += layout->items[i].length;
    return length;
}

void
vx_new_layout_metadata(const struct vx_new_layout *layout, uint8_t *out)
{
    size_t length;

    vx_metadata_encode_new(out, &length, &layout->metadata, layout->locator.item, layout->locator.length);
    for (size_t i = 0; i < layout->item_count; i++) {
        const struct vx_new_item      *item = &layout->items[i];
        const struct vx_metadata_entry entry = {
            .item_id = item->item_id,
            .offset  = item->length > 0 ? (uint32_t)length : 0, /* V81: an empty item lies nowhere */
            .length  = item->length,
            .flags   = item->flags,
        };

        vx_metadata_table_append(out, &entry);
        if (item->length > 0)
            memcpy(out + length, item->bytes, item->length);
        length += item->length;
    }
}

uint64_t
vx_new_layout_block_offset(const struct vx_new_layout *layout, uint64_t place)
{
    return layout->first_block_offset + place * layout->geometry.block_size;
}
