/*
 * What payload tells about its own place on the disk.  Partition tables and some file systems write down where they lie:
 * a GPT header its own sector, the boot sector of a Windows volume how many sectors lie before it.  A block that holds one
 * at the right place inside itself has said which block it is.
 *
 *   Partitions begin and end on whole MiB nearly everywhere since 2007, and so do disks; blocks of an image always do.  So
 *   the 8 KiB behind each MiB boundary of the file and the 4 KiB before it are where signs can be.
 *
 *   A sign can lie: a guest that keeps images of disks in files has more than one.  Two signs that say the same of two
 *   places are both given up (salvage_place.c), and what stands on one sign is always called a guess.
 */
#include "ops/salvage.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/fs.h"
#include "storage/storage.h"

#define BOUNDARY VX_SIGNS_BEFORE /* in `around` */

/* --- GPT --- */

/* A header whose checksum is right.  The first one lies in sector 1, the other says so of itself. */
static void
look_for_gpt(const uint8_t *around, size_t at, uint32_t sector_size, vx_sign_receiver receive, void *context)
{
    uint8_t  header[512];
    uint32_t size = vx_le32(around + at + 12);
    uint64_t sector = vx_le64(around + at + 24), other = vx_le64(around + at + 32), last;

    if (memcmp(around + at, "EFI PART", 8) != 0 || size < 92 || size > sizeof header)
        return;
    memcpy(header, around + at, sizeof header);
    vx_put_le32(header + 16, 0);
    if (vx_crc32(0, header, size) != vx_le32(around + at + 16))
        return;
    last = vx_max_u64(sector, other);
    if (vx_min_u64(sector, other) != 1 || last < 3 || last >= VX_MAX_VIRTUAL_SIZE / sector_size)
        return;
    receive(context, &(struct vx_salvage_sign){
                         .file_offset = at, .guest_offset = sector * sector_size, .disk_size = (last + 1) * sector_size,
                         .least_size = (last + 1) * sector_size, .sector_size = sector_size,
                         .name = sector == 1 ? "GPT" : "backup GPT" });
}

/* --- MBR --- */

static bool
is_partition(const uint8_t *entry)
{
    return (entry[0] == 0 || entry[0] == 0x80) && entry[4] != 0 && vx_le32(entry + 8) != 0 && vx_le32(entry + 12) != 0;
}

/* A sector with a partition table in it is the first one of a disk; boot sectors of volumes carry the same last bytes,
 * and are excluded by what the caller found first. */
static void
look_for_mbr(const uint8_t *around, size_t at, vx_sign_receiver receive, void *context)
{
    const uint8_t         *b = around + at;
    struct vx_salvage_sign sign = { .file_offset = at, .name = "MBR" };

    if (b[510] != 0x55 || b[511] != 0xaa)
        return;
    for (size_t i = 0; i < 4; i++) {
        const uint8_t *entry = b + 446 + 16 * i;

        if (is_partition(entry) && entry[4] != 0xee)
            sign.least_size = vx_max_u64(sign.least_size, ((uint64_t)vx_le32(entry + 8) + vx_le32(entry + 12)) * 512);
        else if (is_partition(entry))
            sign.least_size = vx_max_u64(sign.least_size, 512);
        else if (!vx_is_zero(entry, 16))
            return;
    }
    if (sign.least_size > 0)
        receive(context, &sign);
}

/* --- boot sectors of volumes --- */

/* One kind of boot sector: where its name is, and where it says what. */
struct volume_kind {
    const char *name;
    size_t      name_at;
    size_t      start_at, start_size;   /* sectors before the volume */
    size_t      count_at, count_size;   /* sectors of the volume */
    bool        count_lacks_last;       /* NTFS does not count the sector of its backup */
    bool        has_backup_at_end;      /* and keeps it there */
};

static const struct volume_kind volume_kinds[] = {
    { "NTFS    ", 3, 28, 4, 40, 8, true, true },
    { "EXFAT   ", 3, 64, 8, 72, 8, false, false },
    { "FAT32   ", 82, 28, 4, 32, 4, false, false },
};

static uint64_t
load(const uint8_t *b, size_t size)
{
    return size == 4 ? vx_le32(b) : vx_le64(b);
}

static uint32_t
sector_size_of(const uint8_t *b, const struct volume_kind *kind)
{
    if (memcmp(kind->name, "EXFAT   ", 8) == 0)
        return b[108] == 9 ? 512 : b[108] == 12 ? 4096 : 0;
    return vx_le16(b + 11) == 512 || vx_le16(b + 11) == 4096 ? vx_le16(b + 11) : 0;
}

/* True: it is a boot sector of a known kind, whether it tells its place or not. */
static bool
look_for_volume(const uint8_t *around, size_t at, bool is_at_end, vx_sign_receiver receive, void *context)
{
    const uint8_t *b = around + at;

    for (size_t i = 0; i < sizeof volume_kinds / sizeof volume_kinds[0]; i++) {
        const struct volume_kind *kind = &volume_kinds[i];
        uint32_t sector_size = sector_size_of(b, kind);
        uint64_t start, end, sector_limit;

        if (memcmp(b + kind->name_at, kind->name, 8) != 0 || b[510] != 0x55 || b[511] != 0xaa)
            continue;
        if (sector_size == 0 || (is_at_end && !kind->has_backup_at_end))
            return true;
        start = load(b + kind->start_at, kind->start_size);
        end = load(b + kind->count_at, kind->count_size) + kind->count_lacks_last;
        sector_limit = VX_MAX_VIRTUAL_SIZE / sector_size;
        if (start == 0 || end == 0 || start >= sector_limit || end > sector_limit - start)
            return true; /* a volume in a file of the guest says 0 as well */
        end += start;
        receive(context, &(struct vx_salvage_sign){
                             .file_offset = at, .guest_offset = (is_at_end ? end - 1 : start) * sector_size,
                             .least_size = end * sector_size, .sector_size = sector_size,
                             .name = is_at_end ? "backup boot sector" : "boot sector" });
        return true;
    }
    return false;
}

/* --- all of them --- */

void
vx_salvage_look_for_signs(const uint8_t around[VX_SIGNS_BEFORE + VX_SIGNS_AFTER], vx_sign_receiver receive, void *context)
{
    static const uint32_t sector_sizes[] = { 512, 4096 };

    for (size_t i = 0; i < 2; i++) {
        look_for_gpt(around, BOUNDARY - sector_sizes[i], sector_sizes[i], receive, context);
        look_for_gpt(around, BOUNDARY + sector_sizes[i], sector_sizes[i], receive, context);
        look_for_volume(around, BOUNDARY - sector_sizes[i], true, receive, context);
    }
    if (!look_for_volume(around, BOUNDARY, false, receive, context))
        look_for_mbr(around, BOUNDARY, receive, context);
}

struct collecting {
    struct vhdx_salvage *s;
    uint64_t             around_at;    /* where `around` lies in the file */
    uint64_t             start, end;   /* signs outside are other blocks' */
};

static void
collect(void *context, const struct vx_salvage_sign *sign)
{
    struct collecting   *collecting = context;
    struct vhdx_salvage *s = collecting->s;
    uint64_t             file_offset = collecting->around_at + sign->file_offset;

    if (s->sign_count == VX_SALVAGE_SIGNS || file_offset < collecting->start || file_offset >= collecting->end)
        return;
    s->signs[s->sign_count] = *sign;
    s->signs[s->sign_count++].file_offset = file_offset;
}

int
vx_salvage_collect_signs(struct vhdx_salvage *s, uint64_t file_offset, uint64_t end, struct vhdx_error *err)
{
    uint8_t around[VX_SIGNS_BEFORE + VX_SIGNS_AFTER];

    if (s->signs == NULL)
        s->signs = vx_alloc_zeroed(VX_SALVAGE_SIGNS, sizeof *s->signs);
    if (s->signs == NULL)
        return vx_fail_memory(err, "signs in the payload");
    for (uint64_t at = file_offset; at <= end; at += VX_MIB) {
        struct collecting collecting = { s, at - VX_SIGNS_BEFORE, file_offset, end };
        uint64_t          data_start, data_end;
        size_t            got;
        int               rc = vx_salvage_poll(s, at, end, err);

        if (rc == VHDX_OK) /* a hole tells nothing; what it ends with may */
            rc = vx_storage_next_data(s->base, at - VX_SIGNS_BEFORE, &data_start, &data_end, err);
        if (rc < 0)
            return rc;
        if (data_start == data_end || data_start > end)
            return VHDX_OK;
        if (data_start >= at + VX_SIGNS_AFTER) { /* on to the first boundary that has data around it */
            at = vx_round_down(data_start - VX_SIGNS_AFTER, VX_MIB);
            continue;
        }
        rc = vx_storage_read_prefix(s->base, around, sizeof around, at - VX_SIGNS_BEFORE, &got, err);
        if (rc < 0)
            return rc;
        vx_salvage_look_for_signs(around, collect, &collecting);
    }
    return VHDX_OK;
}
