/*
 * GUID partition tables.  UEFI 2.10, 5.3.
 *
 *   sector 0     protective MBR
 *   sector 1     header: signature, CRC of itself, its own place, the other copy's, CRC of the entries
 *   sector 2..   entries, 128 bytes each
 *   ...
 *   last sector  the other header, its entries before it
 *
 *   G1  A header is believed when signature, CRC, its own place and the CRC of its entries agree.
 *   G2  With the first copy damaged nothing is freed: whoever wrote there may have written more.  The second copy then
 *       still tells where partitions are.
 *   G3  Two good copies that say different things are refused.  One good first copy is enough: a disk that has grown has
 *       its second copy somewhere in the middle, or lost.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/fs.h"

#define HEADER_SIZE     92u
#define MAX_HEADER_SIZE 512u
#define ENTRY_SIZE      128u
#define MAX_ENTRIES     1024u
#define MENDING         "repair the table in the guest (gdisk: v, then w)"

struct gpt {
    bool     is_good;
    uint64_t alternate_sector;
    uint64_t first_usable_sector, last_usable_sector;
    uint8_t  disk_guid[16];
    uint32_t entry_count;
    uint32_t entries_crc;
    uint64_t entries_sector;
    uint8_t *entries; /* owned; of entry_count * ENTRY_SIZE bytes when is_good */
};

uint32_t
vx_crc32(uint32_t crc, const void *buffer, size_t length)
{
    const uint8_t *bytes = buffer;

    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= bytes[i];
        for (unsigned bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (UINT32_C(0xEDB88320) & (0u - (crc & 1)));
    }
    return ~crc;
}

int
vx_gpt_is_there(struct vhdx_disk *disk, uint32_t sector_size, bool *out, struct vhdx_error *err)
{
    char bytes[8];
    int rc;

    *out = false;
    if (vhdx_disk_size(disk) < 2 * (uint64_t)sector_size)
        return VHDX_OK;
    rc = vhdx_disk_read(disk, bytes, sizeof bytes, sector_size, err);
    if (rc == VHDX_OK)
        *out = memcmp(bytes, "EFI PART", 8) == 0;
    return rc;
}

/* The numbers of a header whose own CRC and place are right (G1).  False when they are not. */
static bool
decode_header(struct gpt *gpt, uint8_t b[MAX_HEADER_SIZE], uint64_t sector, uint64_t sector_count)
{
    uint32_t size = vx_le32(b + 12), crc = vx_le32(b + 16);

    if (memcmp(b, "EFI PART", 8) != 0 || size < HEADER_SIZE || size > MAX_HEADER_SIZE)
        return false;
    vx_put_le32(b + 16, 0);
    if (vx_crc32(0, b, size) != crc || vx_le64(b + 24) != sector)
        return false;
    gpt->alternate_sector = vx_le64(b + 32);
    gpt->first_usable_sector = vx_le64(b + 40);
    gpt->last_usable_sector = vx_le64(b + 48);
    memcpy(gpt->disk_guid, b + 56, 16);
    gpt->entries_sector = vx_le64(b + 72);
    gpt->entry_count = vx_le32(b + 80);
    gpt->entries_crc = vx_le32(b + 88);
    return vx_le32(b + 84) == ENTRY_SIZE && gpt->entry_count > 0 && gpt->entry_count <= MAX_ENTRIES
        && gpt->entries_sector < sector_count && gpt->first_usable_sector <= gpt->last_usable_sector
        && gpt->last_usable_sector < sector_count;
}

/* One copy.  A copy that cannot be believed is no error: is_good stays false. */
static int
read_copy(struct gpt *gpt, struct vhdx_disk *disk, uint32_t sector_size, uint64_t sector, struct vhdx_error *err)
{
    uint64_t size = vhdx_disk_size(disk), sector_count = size / sector_size;
    uint8_t header[MAX_HEADER_SIZE];
    size_t length;
    int rc;

    *gpt = (struct gpt){ .is_good = false };
    if (sector >= sector_count)
        return VHDX_OK;
    rc = vhdx_disk_read(disk, header, sizeof header, sector * sector_size, err);
    if (rc < 0 || !decode_header(gpt, header, sector, sector_count))
        return rc;
    length = (size_t)gpt->entry_count * ENTRY_SIZE;
    if (length > size - gpt->entries_sector * sector_size)
        return VHDX_OK;
    gpt->entries = vx_alloc(length);
    if (gpt->entries == NULL)
        return vx_fail_memory(err, "the entries of a GPT");
    rc = vhdx_disk_read(disk, gpt->entries, length, gpt->entries_sector * sector_size, err);
    if (rc == VHDX_OK)
        gpt->is_good = vx_crc32(0, gpt->entries, length) == gpt->entries_crc;
    return rc;
}

/* Types whose contents are no file system of one volume: the bytes of the GUID as they lie on disk. */
struct known_type {
    uint8_t     guid[16];
    const char *kind;
    const char *reason;
};
static const struct known_type known_types[] = {
    { { 0x8f, 0xaf, 0x5c, 0xe7, 0x80, 0xf6, 0xee, 0x4c, 0xaf, 0xa3, 0xb0, 0x01, 0xe5, 0x6e, 0xfc, 0x2d },
      "Storage Spaces", "what a pool of Storage Spaces holds is not read" },
    { { 0xaa, 0xc8, 0x08, 0x58, 0x8f, 0x7e, 0xe0, 0x42, 0x85, 0xd2, 0xe1, 0xe9, 0x04, 0x34, 0xcf, 0xb3 },
      "Windows LDM", "what a dynamic disk of Windows holds is not read" },
    { { 0xa0, 0x60, 0x9b, 0xaf, 0x31, 0x14, 0x62, 0x4f, 0xbc, 0x68, 0x33, 0x11, 0x71, 0x4a, 0x69, 0xad },
      "Windows LDM", "what a dynamic disk of Windows holds is not read" },
    { { 0x16, 0xe3, 0xc9, 0xe3, 0x5c, 0x0b, 0xb8, 0x4d, 0x81, 0x7d, 0xf9, 0x2d, 0xf0, 0x02, 0x15, 0xae },
      "Windows reserved", "it holds no file system" },
    { { 0x48, 0x61, 0x68, 0x21, 0x49, 0x64, 0x6f, 0x6e, 0x74, 0x4e, 0x65, 0x65, 0x64, 0x45, 0x46, 0x49 },
      "BIOS boot", "it holds a boot loader" },
};

static void
add_entry(struct vx_partitions *partitions, const struct gpt *gpt, unsigned index, uint64_t disk_size)
{
    const uint8_t *b = gpt->entries + (size_t)index * ENTRY_SIZE;
    uint64_t first = vx_le64(b + 32), last = vx_le64(b + 40), sector_size = partitions->info.sector_size;
    struct vx_partition partition = { .number = index + 1 };

    if (vx_is_zero(b, 16)) /* an unused entry */
        return;
    if (first < gpt->first_usable_sector || last > gpt->last_usable_sector || last < first) {
        vx_partitions_refuse(partitions, "a GPT entry puts its partition outside the usable sectors", MENDING);
        return;
    }
    for (size_t i = 0; i < sizeof known_types / sizeof known_types[0]; i++)
        if (memcmp(b, known_types[i].guid, 16) == 0) {
            partition.kind = known_types[i].kind;
            partition.reason = known_types[i].reason;
        }
    partition.guest_offset = first * sector_size; /* below the disk's size: last_usable_sector is */
    partition.length = (last - first + 1) * sector_size;
    vx_partitions_add(partitions, disk_size, &partition);
}

static bool
say_the_same(const struct gpt *a, const struct gpt *b)
{
    return a->entry_count == b->entry_count && memcmp(a->disk_guid, b->disk_guid, 16) == 0
        && memcmp(a->entries, b->entries, (size_t)a->entry_count * ENTRY_SIZE) == 0;
}

/* Both copies, wherever the second one is. */
static int
read_both(struct gpt copies[2], struct vhdx_disk *disk, uint32_t sector_size, uint64_t *second_at,
          struct vhdx_error *err)
{
    uint64_t last_sector = vhdx_disk_size(disk) / sector_size - 1;
    int rc = read_copy(&copies[0], disk, sector_size, 1, err);

    if (rc < 0)
        return rc;
    *second_at = copies[0].is_good ? copies[0].alternate_sector : last_sector;
    return *second_at == 1 ? VHDX_OK : read_copy(&copies[1], disk, sector_size, *second_at, err);
}

/* G2, G3 */
static const struct gpt *
choose(struct vx_partitions *partitions, const struct gpt copies[2])
{
    if (copies[0].is_good && copies[1].is_good && !say_the_same(&copies[0], &copies[1]))
        vx_partitions_refuse(partitions, "the two copies of the GPT differ", MENDING);
    if (copies[0].is_good)
        return &copies[0];
    if (copies[1].is_good) {
        vx_partitions_refuse(partitions, "the first copy of the GPT is damaged", MENDING);
        return &copies[1];
    }
    vx_partitions_refuse(partitions, "both copies of the GPT are damaged", MENDING);
    return NULL;
}

static uint64_t
entry_sectors(const struct gpt *gpt, uint32_t sector_size)
{
    return vx_ceil_div((uint64_t)gpt->entry_count * ENTRY_SIZE, sector_size);
}

/* Its entries lie right before its header, but for some that other tools have made. */
static void
find_backup(struct vhdx_layout_info *info, const struct gpt *backup, uint64_t sector)
{
    uint64_t from = backup->entries_sector, count = entry_sectors(backup, info->sector_size);

    if (from + count != sector)
        from = sector;
    info->backup_offset = from * info->sector_size;
    info->backup_length = (sector + 1 - from) * info->sector_size;
}

int
vx_gpt_read(struct vx_partitions *partitions, struct vhdx_disk *disk, uint32_t sector_size, struct vhdx_error *err)
{
    struct vhdx_layout_info *info = &partitions->info;
    struct gpt copies[2] = { { .is_good = false }, { .is_good = false } };
    const struct gpt *gpt;
    uint64_t second_at = 0;
    int rc;

    info->table = VHDX_TABLE_GPT;
    info->sector_size = sector_size;
    rc = read_both(copies, disk, sector_size, &second_at, err);
    if (rc < 0)
        goto out;
    gpt = choose(partitions, copies);
    info->backup_is_good = copies[1].is_good && copies[0].is_good && say_the_same(&copies[0], &copies[1]);
    info->backup_is_last = copies[1].is_good && second_at == vhdx_disk_size(disk) / sector_size - 1;
    if (info->backup_is_good)
        find_backup(info, &copies[1], second_at);
    if (gpt != NULL) /* what the second copy takes at the end; the partitions come to it */
        info->minimum_size = (entry_sectors(gpt, sector_size) + 1) * sector_size;
    for (unsigned i = 0; gpt != NULL && i < gpt->entry_count; i++)
        add_entry(partitions, gpt, i, vhdx_disk_size(disk));
    vx_partitions_settle(partitions);
out:
    vx_free(copies[0].entries);
    vx_free(copies[1].entries);
    return rc;
}
