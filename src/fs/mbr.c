/*
 * The partition table of the PC: four entries in the first sector, and a chain of extended boot records.
 *
 *   M1  A boot sector of a file system has the same signature.  Its code lies where the entries would: unless every entry
 *       is plausible, it is no table.
 *   M2  Extended boot records are followed inside the extended partition only, and not more often than there can be
 *       partitions.
 */
#include "base/bytes.h"
#include "base/checked.h"
#include "fs/fs.h"

#define ENTRIES_AT 446u
#define VERIFY     "look at the table in the guest with sfdisk --verify"

struct entry {
    uint8_t  status, type;
    uint32_t first_sector, sector_count;
};

static struct entry
load_entry(const uint8_t sector[512], unsigned index)
{
    const uint8_t *b = sector + ENTRIES_AT + 16 * index;

    return (struct entry){ b[0], b[4], vx_le32(b + 8), vx_le32(b + 12) };
}

static bool
has_signature(const uint8_t sector[512])
{
    return sector[510] == 0x55 && sector[511] == 0xAA;
}

static bool
is_empty(const struct entry *entry)
{
    return entry->type == 0 || entry->sector_count == 0;
}

static bool
is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0F || type == 0x85;
}

enum vx_mbr_kind
vx_mbr_judge(const uint8_t sector[512], uint64_t disk_size, uint32_t sector_size)
{
    uint64_t disk_sectors = disk_size / sector_size;
    enum vx_mbr_kind kind = VX_MBR_EMPTY;

    if (!has_signature(sector))
        return VX_MBR_NONE;
    for (unsigned i = 0; i < 4; i++) {
        struct entry entry = load_entry(sector, i);

        if ((entry.status & 0x7F) != 0) /* M1 */
            return VX_MBR_NONE;
        if (entry.type == 0xEE)
            return VX_MBR_PROTECTIVE;
        if (is_empty(&entry))
            continue;
        if (entry.first_sector >= disk_sectors) /* M1 */
            return VX_MBR_NONE;
        if (entry.first_sector > 0)
            kind = VX_MBR_PARTITIONS;
        else if (kind == VX_MBR_EMPTY)
            kind = VX_MBR_WHOLE_DISK;
    }
    return kind;
}

static void
add(struct vx_partitions *partitions, uint64_t disk_size, const struct entry *entry, uint64_t base_sector,
    unsigned number)
{
    uint64_t sector_size = partitions->info.sector_size;
    struct vx_partition partition = { /* 2^33 sectors at most: nothing wraps */
        .guest_offset = (base_sector + entry->first_sector) * sector_size,
        .length = entry->sector_count * sector_size,
        .number = number,
    };

    if (entry->type == 0x42) {
        partition.kind = "Windows LDM";
        partition.reason = "what a dynamic disk of Windows holds is not read";
    }
    vx_partitions_add(partitions, disk_size, &partition);
}

/* M2.  Each record has one partition, relative to itself, and the place of the next, relative to the first. */
static int
follow_extended(struct vx_partitions *partitions, struct vhdx_disk *disk, const struct entry *extended,
                struct vhdx_error *err)
{
    uint64_t size = vhdx_disk_size(disk), sector_size = partitions->info.sector_size;
    uint64_t end = (uint64_t)extended->first_sector + extended->sector_count, at = extended->first_sector;
    unsigned number = 5;

    for (unsigned steps = 0; steps < VX_MAX_PARTITIONS; steps++) {
        struct entry partition, next;
        uint8_t sector[512];
        int rc;

        if (at >= end || at * sector_size > size || size - at * sector_size < sizeof sector) {
            vx_partitions_refuse(partitions, "an extended partition points outside itself", VERIFY);
            return VHDX_OK;
        }
        rc = vhdx_disk_read(disk, sector, sizeof sector, at * sector_size, err);
        if (rc < 0)
            return rc;
        if (!has_signature(sector)) {
            vx_partitions_refuse(partitions, "an extended boot record has no signature", VERIFY);
            return VHDX_OK;
        }
        partition = load_entry(sector, 0);
        next = load_entry(sector, 1);
        if (!is_empty(&partition)) {
            if (at + partition.first_sector + partition.sector_count > end) {
                vx_partitions_refuse(partitions, "a logical partition ends outside the extended one", VERIFY);
                return VHDX_OK;
            }
            add(partitions, size, &partition, at, number++);
        }
        if (is_empty(&next))
            return VHDX_OK;
        at = (uint64_t)extended->first_sector + next.first_sector;
    }
    vx_partitions_refuse(partitions, "the extended boot records are too many, or a loop", VERIFY);
    return VHDX_OK;
}

int
vx_mbr_read(struct vx_partitions *partitions, struct vhdx_disk *disk, uint32_t sector_size, struct vhdx_error *err)
{
    struct vhdx_layout_info *info = &partitions->info;
    uint8_t sector[512];
    int rc = vhdx_disk_read(disk, sector, sizeof sector, 0, err);

    if (rc < 0)
        return rc;
    info->table = VHDX_TABLE_MBR;
    info->sector_size = sector_size;
    for (unsigned i = 0; i < 4; i++) {
        struct entry entry = load_entry(sector, i);

        if (is_empty(&entry))
            continue;
        if (!is_extended(entry.type)) {
            add(partitions, vhdx_disk_size(disk), &entry, 0, i + 1);
            continue;
        }
        rc = follow_extended(partitions, disk, &entry, err);
        if (rc < 0)
            return rc;
    }
    vx_partitions_settle(partitions);
    return VHDX_OK;
}
