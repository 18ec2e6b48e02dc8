/*
 * Making a GPT fit a disk of another size: its second copy goes to the end, the first one says so.  UEFI 2.10, 5.3.
 *
 *   G4  At every moment both copies are whole: the second is written to its new place and durable before the first names it,
 *       and the old one is wiped when that is durable.  Where both places overlap, the first copy is whole all the while.
 *   G5  Only a table that is believed is changed (G1 to G3), and only when every partition lies before the new second copy.
 *   G6  A table that fits already is not touched: no byte is written.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/fs.h"

#define ENTRY_SIZE   128u
#define MAX_SECTOR   4096u
#define MBR_ENTRIES  446u
#define GPT_TYPE     0xEEu

struct fitting {
    struct vhdx_disk     *disk;
    uint32_t              sector_size;
    uint64_t              last_sector; /* of the disk as it will be */
    uint64_t              entry_sectors;
    size_t                entries_length;
    uint8_t              *entries; /* owned */
    uint8_t               header[MAX_SECTOR], mbr[512];
    struct vx_partitions  partitions;
};

static int
read_table(struct fitting *f, struct vhdx_error *err)
{
    uint64_t entries_at;
    int rc = vx_gpt_read(&f->partitions, f->disk, f->sector_size, err);

    if (rc == VHDX_OK && f->partitions.info.verdict == VHDX_VERDICT_REFUSED) /* G5 */
        return vx_bad_volume(err, "%s", f->partitions.info.reason);
    if (rc == VHDX_OK)
        rc = vhdx_disk_read(f->disk, f->mbr, sizeof f->mbr, 0, err);
    if (rc == VHDX_OK)
        rc = vhdx_disk_read(f->disk, f->header, f->sector_size, f->sector_size, err);
    if (rc < 0)
        return rc;
    f->entries_length = (size_t)vx_le32(f->header + 80) * ENTRY_SIZE;
    f->entry_sectors = vx_ceil_div(f->entries_length, f->sector_size);
    entries_at = vx_le64(f->header + 72) * f->sector_size;
    f->entries = vx_alloc_zeroed((size_t)f->entry_sectors, f->sector_size);
    if (f->entries == NULL)
        return vx_fail_memory(err, "the entries of a GPT");
    return vhdx_disk_read(f->disk, f->entries, f->entries_length, entries_at, err);
}

/* G5 */
static int
judge(const struct fitting *f, uint64_t disk_size, struct vhdx_error *err)
{
    uint64_t room = (f->entry_sectors + 1) * f->sector_size, end = vx_le64(f->header + 40) * f->sector_size;
    unsigned number = 0;

    for (unsigned i = 0; i < f->partitions.count; i++) {
        const struct vx_partition *partition = &f->partitions.items[i];

        if (partition->guest_offset + partition->length > end) {
            end = partition->guest_offset + partition->length;
            number = partition->number;
        }
    }
    if (disk_size % f->sector_size == 0 && disk_size <= vhdx_disk_size(f->disk) && disk_size >= room &&
        end <= disk_size - room)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                   "the GPT does not fit: partition %u ends at %llu, and its second copy needs the last %llu bytes of %llu",
                   number, (unsigned long long)end, (unsigned long long)room, (unsigned long long)disk_size);
}

/* --- the copies as they will be --- */

static void
seal(uint8_t *header)
{
    vx_put_le32(header + 16, 0);
    vx_put_le32(header + 16, vx_crc32(0, header, vx_le32(header + 12)));
}

static void
set_first(struct fitting *f)
{
    vx_put_le64(f->header + 32, f->last_sector);
    vx_put_le64(f->header + 48, f->last_sector - f->entry_sectors - 1); /* the last one a partition may use */
    seal(f->header);
}

static void
make_second(const struct fitting *f, uint8_t *header)
{
    memcpy(header, f->header, f->sector_size);
    vx_put_le64(header + 24, f->last_sector);
    vx_put_le64(header + 32, 1);
    vx_put_le64(header + 72, f->last_sector - f->entry_sectors);
    seal(header);
}

/* The protective entry covers the disk; one of a hybrid table, which has others beside it, is somebody's own affair. */
static void
set_protective_size(struct fitting *f)
{
    uint8_t *entry = f->mbr + MBR_ENTRIES;
    uint32_t count = (uint32_t)vx_min_u64(f->last_sector, UINT32_MAX);

    if (entry[4] != GPT_TYPE || vx_le32(entry + 8) != 1 || !vx_is_zero(entry + 16, 3 * 16))
        return;
    vx_put_le32(entry + 12, count);
}

static bool
fits_already(const struct fitting *f, const uint8_t *header, const uint8_t *mbr)
{
    return f->partitions.info.backup_is_good && memcmp(f->header, header, f->sector_size) == 0 &&
           memcmp(f->mbr, mbr, sizeof f->mbr) == 0;
}

/* --- writing --- */

static int
write_second(const struct fitting *f, struct vhdx_error *err)
{
    uint8_t header[MAX_SECTOR];
    int rc;

    make_second(f, header);
    rc = vhdx_disk_write(f->disk, f->entries, (size_t)(f->entry_sectors * f->sector_size),
                         (f->last_sector - f->entry_sectors) * f->sector_size, err);
    if (rc == VHDX_OK)
        rc = vhdx_disk_write(f->disk, header, f->sector_size, f->last_sector * f->sector_size, err);
    return rc == VHDX_OK ? vhdx_disk_flush(f->disk, err) : rc;
}

static int
write_first(const struct fitting *f, struct vhdx_error *err)
{
    int rc = vhdx_disk_write(f->disk, f->header, f->sector_size, f->sector_size, err);

    if (rc == VHDX_OK)
        rc = vhdx_disk_write(f->disk, f->mbr, sizeof f->mbr, 0, err);
    return rc == VHDX_OK ? vhdx_disk_flush(f->disk, err) : rc;
}

/* What of the old second copy lies neither in a partition nor in the new one.  Left where it is it would look like data
 * outside of any partition. */
static int
wipe_old_second(const struct fitting *f, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = &f->partitions.info;
    uint64_t from = info->backup_offset, to = from + info->backup_length;
    uint64_t new_from = (f->last_sector - f->entry_sectors) * f->sector_size;
    uint64_t new_to = (f->last_sector + 1) * f->sector_size;

    if (info->backup_length == 0 || !info->backup_is_good)
        return VHDX_OK;
    if (from < new_to && to > new_from) { /* they overlap: one end of the old one sticks out */
        if (from < new_from)
            to = new_from;
        else
            from = vx_min_u64(new_to, to);
    }
    for (unsigned i = 0; i < f->partitions.count; i++) {
        const struct vx_partition *partition = &f->partitions.items[i];

        if (partition->guest_offset < to && partition->guest_offset + partition->length > from)
            return VHDX_OK;
    }
    return from < to ? vhdx_disk_zero(f->disk, from, to - from, 0, err) : VHDX_OK;
}

static int
fit(struct fitting *f, uint64_t disk_size, bool *is_changed, struct vhdx_error *err)
{
    uint8_t header[MAX_SECTOR], mbr[512];
    int rc = read_table(f, err);

    if (rc == VHDX_OK)
        rc = judge(f, disk_size, err);
    if (rc < 0)
        return rc;
    memcpy(header, f->header, sizeof header);
    memcpy(mbr, f->mbr, sizeof mbr);
    f->last_sector = disk_size / f->sector_size - 1;
    set_first(f);
    set_protective_size(f);
    if (fits_already(f, header, mbr)) /* G6 */
        return VHDX_OK;
    *is_changed = true;
    rc = write_second(f, err); /* G4 */
    if (rc == VHDX_OK)
        rc = write_first(f, err);
    if (rc == VHDX_OK)
        rc = wipe_old_second(f, err);
    return rc == VHDX_OK ? vhdx_disk_flush(f->disk, err) : rc;
}

int
vhdx_gpt_fit(struct vhdx_disk *disk, uint32_t sector_size, uint64_t disk_size, bool *is_changed, struct vhdx_error *err)
{
    struct fitting *f;
    int rc;

    *is_changed = false;
    if (sector_size != 512 && sector_size != MAX_SECTOR)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "sectors of %u bytes", sector_size);
    f = vx_alloc_zeroed(1, sizeof *f);
    if (f == NULL)
        return vx_fail_memory(err, "a GPT");
    f->disk = disk;
    f->sector_size = sector_size;
    rc = fit(f, disk_size, is_changed, err);
    vx_free(f->entries);
    vx_free(f);
    return rc;
}
