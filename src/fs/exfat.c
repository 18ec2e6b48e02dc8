/*
 * exFAT.  Microsoft's "exFAT file system specification", 1.00.
 *
 *   12 sectors of boot region, the last of them its checksum; the same again | FAT | clusters from number 2
 *
 *   E1  The boot region's checksum covers every number used here.
 *   E2  VolumeDirty and MediaFailure are refused; a second FAT (TexFAT) is left alone.
 *   E3  The allocation bitmap has no checksum: it is held against every directory (exfat_walk.c).
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/exfat.h"

#define CHKDSK "check it in the guest (chkdsk /f, or fsck.exfat)"
#define REGION_SECTORS 12u

/* E1 */
static uint32_t
region_checksum(const uint8_t *region, size_t length)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < length; i++)
        if (i != 106 && i != 107 && i != 112) /* VolumeFlags and PercentInUse change while it is mounted */
            sum = (sum << 31 | sum >> 1) + region[i];
    return sum;
}

static bool
has_checksum(const uint8_t *region, uint32_t sector_size)
{
    uint32_t sum = region_checksum(region, 11 * (size_t)sector_size);

    for (uint32_t at = 0; at < sector_size; at += 4)
        if (vx_le32(region + 11 * (size_t)sector_size + at) != sum)
            return false;
    return true;
}

/* The numbers of the boot sector.  False when they contradict each other or the volume. */
static bool
decode(struct vx_exfat *exfat, const uint8_t *b, uint64_t volume_length)
{
    unsigned sector_shift = b[108], cluster_shift = b[109];
    uint64_t heap_sector = vx_le32(b + 88), fat_end, heap_length;

    if (sector_shift < 9 || sector_shift > 12 || cluster_shift > 25 - sector_shift)
        return false;
    exfat->sector_size = 1u << sector_shift;
    exfat->cluster_size = (uint64_t)exfat->sector_size << cluster_shift;
    exfat->fat_at = (uint64_t)vx_le32(b + 80) << sector_shift;
    exfat->clusters_at = heap_sector << sector_shift;
    exfat->cluster_count = vx_le32(b + 92);
    exfat->root_cluster = vx_le32(b + 96);
    fat_end = exfat->fat_at + ((uint64_t)vx_le32(b + 84) << sector_shift);
    heap_length = exfat->cluster_count * exfat->cluster_size; /* below 2^58 */
    return exfat->cluster_count > 0 && exfat->cluster_count <= 0xFFFFFFF5u && fat_end <= exfat->clusters_at
        && exfat->fat_at >= 2 * REGION_SECTORS * exfat->sector_size
        && ((uint64_t)exfat->cluster_count + 2) * 4 <= fat_end - exfat->fat_at
        && exfat->clusters_at <= volume_length && heap_length <= volume_length - exfat->clusters_at;
}

static void
judge(struct vhdx_volume *volume, const uint8_t *region)
{
    unsigned flags = vx_le16(region + 106);

    if (region[105] != 1 || region[110] != 1)
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "its revision, or its second FAT, is not read", NULL);
    else if ((flags & ~4u) != 0) /* E2; bit 2 means nothing */
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it is marked dirty: it was not unmounted, or reads failed",
                          CHKDSK);
}

/* 0: none; 1 with the verdict. */
static int
read_boot_region(struct vx_exfat *exfat, struct vhdx_volume *volume, struct vhdx_error *err)
{
    uint8_t first[512], *region;
    size_t length;
    int rc;

    if (volume->length < sizeof first)
        return 0;
    rc = vhdx_volume_read(volume, first, sizeof first, 0, err);
    if (rc < 0 || memcmp(first + 3, "EXFAT   ", 8) != 0 || first[510] != 0x55 || first[511] != 0xAA)
        return rc;
    snprintf(volume->kind, sizeof volume->kind, "exFAT");
    vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "its boot region is damaged", CHKDSK);
    if (!decode(exfat, first, volume->length))
        return 1;
    length = REGION_SECTORS * (size_t)exfat->sector_size;
    region = vx_alloc(length);
    if (region == NULL)
        return vx_fail_memory(err, "the boot region of exFAT");
    rc = vhdx_volume_read(volume, region, length, 0, err);
    if (rc == VHDX_OK && has_checksum(region, exfat->sector_size)) {
        vhdx_volume_judge(volume, VHDX_VERDICT_READABLE, NULL, NULL);
        judge(volume, region);
    }
    vx_free(region);
    return rc < 0 ? rc : 1;
}

static int
probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    struct vx_exfat exfat;

    return read_boot_region(&exfat, volume, err);
}

static int
walk_free(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    struct vhdx_volume copy = *volume;
    struct vx_exfat_walk walk;
    struct vx_exfat exfat;
    int rc = read_boot_region(&exfat, &copy, err);

    if (rc < 0)
        return rc;
    if (rc == 0 || copy.verdict != VHDX_VERDICT_READABLE)
        return vx_bad_volume(err, "its boot region has changed");
    rc = vx_exfat_walk_init(&walk, volume, &exfat, err);
    if (rc == VHDX_OK)
        rc = vx_exfat_walk_run(&walk, err);
    if (rc == VHDX_OK)
        rc = vx_bits_walk_clear(&walk.used, volume->guest_offset + exfat.clusters_at, exfat.cluster_size, each, context);
    vx_exfat_walk_free(&walk);
    return rc;
}

const struct vhdx_fs_reader vx_exfat_reader = {
    .version = VHDX_FS_READER_VERSION, .name = "exfat", .kinds = "exFAT", .probe = probe, .walk_free = walk_free,
};
