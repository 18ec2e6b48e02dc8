/*
 * The metadata items that describe the disk: their values and what they may be.  docs/vhdx-format.md 2.9, 8.6.
 */
#include "format/metadata.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/guid.h"

#define FILE_LEAVE_ALLOCATED 1u
#define FILE_HAS_PARENT      2u
#define MIN_WINDOWS_SIZE     (3 * VX_MIB)

/* Where a fresh region's items lie, one after the other as Hyper-V writes them. */
#define FILE_PARAMETERS_AT      VX_METADATA_TABLE_SIZE
#define VIRTUAL_SIZE_AT         (FILE_PARAMETERS_AT + 8)
#define LOGICAL_SECTOR_SIZE_AT  (VIRTUAL_SIZE_AT + 8)
#define PHYSICAL_SECTOR_SIZE_AT (LOGICAL_SECTOR_SIZE_AT + 4)
#define DISK_ID_AT              (PHYSICAL_SECTOR_SIZE_AT + 4)
#define LOCATOR_AT              (DISK_ID_AT + 16)

static bool
is_item(const struct vx_metadata_entry *entry, const struct vhdx_guid *item_id, uint32_t length)
{
    return (entry->flags & VX_ITEM_IS_USER) == 0 && entry->length == length &&
           vhdx_guid_equal(&entry->item_id, item_id);
}

void
vx_metadata_take_item(struct vx_metadata *metadata, const struct vx_metadata_entry *entry, const uint8_t *bytes)
{
    if (is_item(entry, &vx_guid_item_file_parameters, 8)) {
        metadata->block_size = vx_le32(bytes);
        metadata->file_parameter_flags = vx_le32(bytes + 4);
        metadata->leave_blocks_allocated = (metadata->file_parameter_flags & FILE_LEAVE_ALLOCATED) != 0;
        metadata->has_parent = (metadata->file_parameter_flags & FILE_HAS_PARENT) != 0;
        metadata->has_file_parameters = true;
    } else if (is_item(entry, &vx_guid_item_virtual_disk_size, 8)) {
        metadata->virtual_size = vx_le64(bytes);
        metadata->has_virtual_size = true;
    } else if (is_item(entry, &vx_guid_item_logical_sector_size, 4)) {
        metadata->logical_sector_size = vx_le32(bytes);
        metadata->has_logical_sector_size = true;
    } else if (is_item(entry, &vx_guid_item_physical_sector_size, 4)) {
        metadata->physical_sector_size = vx_le32(bytes);
        metadata->has_physical_sector_size = true;
    } else if (is_item(entry, &vx_guid_item_virtual_disk_id, 16)) {
        metadata->disk_id = vx_guid_load(bytes);
        metadata->has_disk_id = true;
    } else if (is_item(entry, &vx_guid_item_parent_locator, entry->length)) {
        metadata->has_locator = true;
    }
}

static bool
is_sector_size(uint32_t size)
{
    return size == 512 || size == 4096;
}

/* V91, V95, V96, V101 to V103. */
static void
judge_file_parameters(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings)
{
    uint32_t reserved = metadata->file_parameter_flags & ~(FILE_LEAVE_ALLOCATED | FILE_HAS_PARENT);

    if (!metadata->has_file_parameters) {
        vx_find(findings, VHDX_SEVERITY_REFUSE, 91, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: no File Parameters of 8 bytes, expected one");
        return;
    }
    if (metadata->block_size < VX_MIN_BLOCK_SIZE || metadata->block_size > VX_MAX_BLOCK_SIZE ||
        (metadata->block_size & (metadata->block_size - 1)) != 0)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 95, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "File Parameters: BlockSize %" PRIu32 ", expected a power of two from 1 MiB to 256 MiB",
                metadata->block_size);
    if (reserved != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 96, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "File Parameters: reserved bits are 0x%08" PRIx32 ", expected 0", reserved);
    if (metadata->has_parent && !metadata->has_locator)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 101, VHDX_E_BAD_LOCATOR, VHDX_PART_METADATA, at,
                "File Parameters: HasParent 1 but no Parent Locator, expected one");
    if (!metadata->has_parent && metadata->has_locator)
        vx_find(findings, VHDX_SEVERITY_WARN, 102, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "File Parameters: HasParent 0 but a Parent Locator, expected none");
    if (metadata->has_parent && metadata->leave_blocks_allocated)
        vx_find(findings, VHDX_SEVERITY_WARN, 103, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "File Parameters: HasParent 1 and LeaveBlocksAllocated 1, expected one of them at most");
}

/* V93, V97, V98, V105. */
static void
judge_sector_sizes(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings)
{
    uint32_t logical = metadata->logical_sector_size, physical = metadata->physical_sector_size;

    if (!metadata->has_logical_sector_size)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 93, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: no Logical Sector Size of 4 bytes, expected one");
    else if (!is_sector_size(logical))
        vx_find(findings, VHDX_SEVERITY_REFUSE, 97, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Logical Sector Size %" PRIu32 ", expected 512 or 4096", logical);
    if (!metadata->has_physical_sector_size)
        vx_find(findings, VHDX_SEVERITY_RO, 98, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: no Physical Sector Size of 4 bytes, expected one");
    else if (!is_sector_size(physical))
        vx_find(findings, VHDX_SEVERITY_RO, 98, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Physical Sector Size %" PRIu32 ", expected 512 or 4096", physical);
    else if (is_sector_size(logical) && physical < logical)
        vx_find(findings, VHDX_SEVERITY_WARN, 105, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Physical Sector Size %" PRIu32 ", expected the logical one, %" PRIu32 ", or more",
                physical, logical);
}

/* V92, V99, V107. */
static void
judge_virtual_size(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings)
{
    uint32_t unit = is_sector_size(metadata->logical_sector_size) ? metadata->logical_sector_size : 512;
    uint64_t size = metadata->virtual_size;

    if (!metadata->has_virtual_size)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 92, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: no Virtual Disk Size of 8 bytes, expected one");
    else if (size == 0 || size > VX_MAX_VIRTUAL_SIZE || !vx_is_aligned(size, unit))
        vx_find(findings, VHDX_SEVERITY_REFUSE, 99, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Virtual Disk Size %" PRIu64 ", expected a multiple of %" PRIu32 " up to 64 TiB, not 0",
                size, unit);
    else if (size < MIN_WINDOWS_SIZE)
        vx_find(findings, VHDX_SEVERITY_WARN, 107, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Virtual Disk Size %" PRIu64 ", expected 3 MiB or more: Windows tools make no smaller "
                "disks", size);
}

/* V100, V104. */
static void
judge_disk_id(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings)
{
    if (!metadata->has_disk_id)
        vx_find(findings, VHDX_SEVERITY_RO, 100, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: no Virtual Disk ID of 16 bytes, expected one");
    else if (vhdx_guid_is_zero(&metadata->disk_id))
        vx_find(findings, VHDX_SEVERITY_WARN, 104, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, at,
                "metadata: Virtual Disk ID is zero, expected a GUID");
}

void
vx_metadata_judge(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings)
{
    judge_file_parameters(metadata, at, findings);
    judge_virtual_size(metadata, at, findings);
    judge_sector_sizes(metadata, at, findings);
    judge_disk_id(metadata, at, findings);
}

void
vx_metadata_settle(struct vx_metadata *metadata)
{
    if (!metadata->has_physical_sector_size || !is_sector_size(metadata->physical_sector_size))
        metadata->physical_sector_size = metadata->logical_sector_size;
    if (!metadata->has_disk_id)
        memset(&metadata->disk_id, 0, sizeof metadata->disk_id);
}

static void
append_item(uint8_t *out, const struct vhdx_guid *item_id, uint32_t at, uint32_t length, uint32_t flags)
{
    struct vx_metadata_entry entry = { .item_id = *item_id, .offset = at, .length = length, .flags = flags };

    vx_metadata_table_append(out, &entry);
}

void
vx_metadata_encode_new(uint8_t *out, size_t *length, const struct vx_metadata *metadata, const uint8_t *locator,
                       uint32_t locator_length)
{
    const uint32_t of_file = VX_ITEM_IS_REQUIRED, of_disk = VX_ITEM_IS_REQUIRED | VX_ITEM_IS_VIRTUAL_DISK;

    vx_metadata_table_begin(out);
    append_item(out, &vx_guid_item_file_parameters, FILE_PARAMETERS_AT, 8, of_file);
    append_item(out, &vx_guid_item_virtual_disk_size, VIRTUAL_SIZE_AT, 8, of_disk);
    append_item(out, &vx_guid_item_logical_sector_size, LOGICAL_SECTOR_SIZE_AT, 4, of_disk);
    append_item(out, &vx_guid_item_physical_sector_size, PHYSICAL_SECTOR_SIZE_AT, 4, of_disk);
    append_item(out, &vx_guid_item_virtual_disk_id, DISK_ID_AT, 16, of_disk);

    vx_put_le32(out + FILE_PARAMETERS_AT, metadata->block_size);
    vx_put_le32(out + FILE_PARAMETERS_AT + 4, (metadata->leave_blocks_allocated ? FILE_LEAVE_ALLOCATED : 0) |
                                                  (metadata->has_parent ? FILE_HAS_PARENT : 0));
    vx_put_le64(out + VIRTUAL_SIZE_AT, metadata->virtual_size);
    vx_put_le32(out + LOGICAL_SECTOR_SIZE_AT, metadata->logical_sector_size);
    vx_put_le32(out + PHYSICAL_SECTOR_SIZE_AT, metadata->physical_sector_size);
    vx_guid_store(out + DISK_ID_AT, &metadata->disk_id);
    *length = LOCATOR_AT;

    if (locator != NULL) {
        append_item(out, &vx_guid_item_parent_locator, LOCATOR_AT, locator_length, of_file);
        memcpy(out + LOCATOR_AT, locator, locator_length);
        *length += locator_length;
    }
}
