/*
 * FAT12, FAT16 and FAT32.  Microsoft's "FAT: General Overview of On-Disk Format", 1.03.
 *
 *   reserved sectors | FAT | FAT, the same again | root directory (12, 16) | clusters from number 2
 *
 *   T1  The two copies of the table are equal, byte for byte: an entry that lost its value in one of them is seen.  A
 *       volume with one copy is left alone, there is nothing to hold it against.
 *   T2  No chain leads to a cluster that is free.
 *   T3  FAT32: the boot sector equals its backup.  FAT12 and FAT16 have no backup: every field of the boot sector that
 *       moves the clusters has few values in use, and only those are taken.
 *   T4  Marked dirty, by the boot sector (Linux) or by entry 1 of the table (Windows), is refused.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/utf16.h"
#include "fs/fs.h"

#define CHKDSK "check it in the guest (chkdsk /f, or fsck.fat -a)"
#define STEP   (48 * VX_KIB) /* whole entries of 12 (in pairs), 16 and 32 bits */

struct fat {
    unsigned bits; /* 12, 16, 32; 0: the boot sector is none */
    uint32_t sector_size, cluster_size;
    uint64_t table_at, table_length; /* bytes, of one copy; the second follows */
    uint64_t clusters_at;
    uint64_t cluster_count;
    uint8_t  media;
};

static bool
is_power_of_two_in(uint32_t value, uint32_t least, uint32_t most)
{
    return value >= least && value <= most && (value & (value - 1)) == 0;
}

/* Does the first sector look like one of a FAT at all?  Strict where that costs nothing. */
static bool
looks_like_fat(const uint8_t b[512])
{
    bool is_jump = (b[0] == 0xEB && b[2] == 0x90) || b[0] == 0xE9;

    return is_jump && b[510] == 0x55 && b[511] == 0xAA && is_power_of_two_in(vx_le16(b + 11), 512, 4096)
        && is_power_of_two_in(b[13], 1, 128) && vx_le16(b + 14) != 0 && (b[16] == 1 || b[16] == 2)
        && (b[21] == 0xF0 || b[21] >= 0xF8);
}

/* The numbers of the boot sector.  False with `why` when they contradict each other. */
static bool
decode(struct fat *fat, const uint8_t b[512], uint64_t volume_length, const char **why)
{
    uint64_t root_entries = vx_le16(b + 17), total = vx_le16(b + 19), table_sectors = vx_le16(b + 22), before;
    bool is_fat32 = table_sectors == 0;

    *fat = (struct fat){ .sector_size = vx_le16(b + 11), .media = b[21] };
    fat->cluster_size = fat->sector_size * b[13];
    if (total == 0)
        total = vx_le32(b + 32);
    if (is_fat32)
        table_sectors = vx_le32(b + 36);
    before = vx_le16(b + 14) + 2 * table_sectors + vx_ceil_div(root_entries * 32, fat->sector_size);
    *why = "its boot sector contradicts itself";
    if (before >= total || is_fat32 != (root_entries == 0))
        return false;
    fat->table_at = (uint64_t)vx_le16(b + 14) * fat->sector_size;
    fat->table_length = table_sectors * fat->sector_size;
    fat->clusters_at = before * fat->sector_size;
    fat->cluster_count = (total - before) / b[13];
    fat->bits = is_fat32 ? 32 : fat->cluster_count < 4085 ? 12 : 16;
    if (fat->cluster_count > (is_fat32 ? 0x0FFFFFF4u : 65524u)
        || ((fat->cluster_count + 2) * fat->bits + 7) / 8 > fat->table_length)
        return false;
    *why = "it ends past the end of its volume";
    return total * fat->sector_size <= volume_length;
}

/* T3: the root directory of a disk, and those of floppies; one bit never makes one of them another. */
static bool
has_usual_root(const uint8_t b[512])
{
    uint16_t root_entries = vx_le16(b + 17);

    return root_entries == 512 || root_entries == 224 || root_entries == 112;
}

/* What the tools call the type lies where FAT12 and 16, or FAT32, have it. */
static bool
says_its_type(const struct fat *fat, const uint8_t b[512])
{
    static const char names[3][9] = { "FAT12   ", "FAT16   ", "FAT32   " };

    return memcmp(b + (fat->bits == 32 ? 82 : 54), names[fat->bits == 12 ? 0 : fat->bits == 16 ? 1 : 2], 8) == 0;
}

/* T3.  The byte with the dirty bit and the name may differ: not every tool writes both copies. */
static int
equals_backup(const struct fat *fat, const struct vhdx_volume *volume, const uint8_t b[512], bool *out,
              struct vhdx_error *err)
{
    uint8_t backup[512];
    uint64_t at = (uint64_t)vx_le16(b + 50) * fat->sector_size;
    int rc;

    *out = false;
    if (at == 0 || at + sizeof backup > fat->table_at)
        return VHDX_OK;
    rc = vhdx_volume_read(volume, backup, sizeof backup, at, err);
    if (rc == VHDX_OK)
        *out = memcmp(b, backup, 0x41) == 0 && memcmp(b + 0x42, backup + 0x42, 0x47 - 0x42) == 0
            && memcmp(b + 82, backup + 82, 8) == 0;
    return rc;
}

static uint32_t
entry_at(const uint8_t *table, unsigned bits, uint64_t index)
{
    if (bits == 32)
        return vx_le32(table + 4 * index) & 0x0FFFFFFF;
    if (bits == 16)
        return vx_le16(table + 2 * index);
    return ((uint32_t)vx_le16(table + index * 3 / 2) >> (index % 2 * 4)) & 0xFFF;
}

/* T4, and that entry 0 repeats the media byte: the table is where we think. */
static int
judge_first_entries(const struct fat *fat, struct vhdx_volume *volume, uint8_t state, struct vhdx_error *err)
{
    uint8_t first[8];
    uint32_t entry0, entry1, clean, good, filler = fat->bits == 12 ? 0xF00 : fat->bits == 16 ? 0xFF00 : 0x0FFFFF00;
    int rc = vhdx_volume_read(volume, first, sizeof first, fat->table_at, err);

    if (rc < 0)
        return rc;
    entry0 = entry_at(first, fat->bits, 0);
    entry1 = entry_at(first, fat->bits, 1);
    clean = fat->bits == 32 ? 1u << 27 : 1u << 15;
    good = fat->bits == 32 ? 1u << 26 : 1u << 14;
    if (entry0 != (filler | fat->media))
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "its table does not begin as it has to", CHKDSK);
    else if ((state & 3) != 0 || (fat->bits != 12 && ((entry1 & clean) == 0 || (entry1 & good) == 0)))
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it is marked dirty: it was not unmounted, or reads failed",
                          CHKDSK);
    return rc;
}

static void
take_label(struct vhdx_volume *volume, const uint8_t *name)
{
    char label[12];
    size_t length = 11;

    memcpy(label, name, 11);
    while (length > 0 && label[length - 1] == ' ')
        length--;
    label[length] = '\0';
    if (strcmp(label, "NO NAME") != 0)
        vx_escape_text(volume->label, sizeof volume->label, label);
}

static int
judge_boot_sector(const struct fat *fat, struct vhdx_volume *volume, const uint8_t b[512], struct vhdx_error *err)
{
    bool is_fat32 = fat->bits == 32, is_equal = true;
    int rc = VHDX_OK;

    if (b[16] != 2 || (is_fat32 && (vx_le16(b + 40) & 0x80) != 0)) { /* T1 */
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "its table has one copy, and nothing to hold it against", NULL);
        return rc;
    }
    if (is_fat32)
        rc = equals_backup(fat, volume, b, &is_equal, err);
    if (rc < 0)
        return rc;
    if (!says_its_type(fat, b) || (is_fat32 && vx_le16(b + 42) != 0) || (!is_fat32 && !has_usual_root(b)))
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "its boot sector is not like those of the usual tools", NULL);
    else if (!is_equal)
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "its boot sector differs from the backup", CHKDSK);
    else
        rc = judge_first_entries(fat, volume, b[is_fat32 ? 0x41 : 0x25], err);
    return rc;
}

/* The boot sector, once more for a walk.  0 bits: not FAT. */
static int
read_boot_sector(struct fat *fat, const struct vhdx_volume *volume, uint8_t b[512], const char **why,
                 struct vhdx_error *err)
{
    int rc;

    fat->bits = 0;
    *why = NULL;
    if (volume->length < 512)
        return VHDX_OK;
    rc = vhdx_volume_read(volume, b, 512, 0, err);
    if (rc < 0 || !looks_like_fat(b))
        return rc;
    if (decode(fat, b, volume->length, why))
        *why = NULL;
    return rc;
}

static int
probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    const char *why;
    struct fat fat;
    uint8_t b[512];
    int rc = read_boot_sector(&fat, volume, b, &why, err);

    if (rc < 0 || (fat.bits == 0 && why == NULL))
        return rc;
    snprintf(volume->kind, sizeof volume->kind, fat.bits != 0 ? "FAT%u" : "FAT", fat.bits);
    if (why != NULL) {
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, why, CHKDSK);
        return 1;
    }
    take_label(volume, b + (fat.bits == 32 ? 71 : 43));
    rc = judge_boot_sector(&fat, volume, b, err);
    return rc < 0 ? rc : 1;
}

/* One pass over the table, in steps of whole entries. */
struct pass {
    const struct fat *fat;
    struct vx_bits    used; /* cluster 2 is bit 0 */
    uint8_t          *copies[2]; /* of STEP bytes each */
    uint64_t          linked_to_free; /* a cluster, or 0 */
};

static int
read_step(struct pass *pass, const struct vhdx_volume *volume, uint64_t at, size_t length, struct vhdx_error *err)
{
    const struct fat *fat = pass->fat;
    int rc = vhdx_volume_read(volume, pass->copies[0], length, fat->table_at + at, err);

    if (rc == VHDX_OK)
        rc = vhdx_volume_read(volume, pass->copies[1], length, fat->table_at + fat->table_length + at, err);
    if (rc == VHDX_OK && memcmp(pass->copies[0], pass->copies[1], length) != 0) /* T1 */
        rc = vx_bad_volume(err, "the two copies of its table differ");
    return rc;
}

static void
mark_used(struct pass *pass, uint64_t cluster, uint32_t entry)
{
    if (entry != 0)
        vx_bit_set(&pass->used, cluster - 2);
}

/* T2.  Reserved values, bad clusters and ends lie above the last cluster. */
static void
follow_link(struct pass *pass, uint64_t cluster, uint32_t entry)
{
    if (entry != 0 && entry < pass->fat->cluster_count + 2 && (entry < 2 || !vx_bit(&pass->used, entry - 2)))
        pass->linked_to_free = cluster;
}

static int
run_pass(struct pass *pass, const struct vhdx_volume *volume,
         void (*each)(struct pass *, uint64_t cluster, uint32_t entry), struct vhdx_error *err)
{
    const struct fat *fat = pass->fat;
    uint64_t end = fat->cluster_count + 2, per_step = STEP * 8 / fat->bits;

    for (uint64_t start = 0; start < end; start += per_step) {
        uint64_t count = vx_min_u64(per_step, end - start);
        int rc = read_step(pass, volume, start * fat->bits / 8, (size_t)((count * fat->bits + 7) / 8), err);

        if (rc < 0)
            return rc;
        for (uint64_t i = start == 0 ? 2 : 0; i < count; i++)
            each(pass, start + i, entry_at(pass->copies[0], fat->bits, i));
    }
    return VHDX_OK;
}

static int
run_passes(struct pass *pass, const struct vhdx_volume *volume, struct vhdx_error *err)
{
    int rc = vx_bits_init(&pass->used, pass->fat->cluster_count, err);

    for (size_t i = 0; rc == VHDX_OK && i < 2; i++) {
        pass->copies[i] = vx_alloc(STEP);
        if (pass->copies[i] == NULL)
            rc = vx_fail_memory(err, "a piece of a FAT");
    }
    if (rc == VHDX_OK)
        rc = run_pass(pass, volume, mark_used, err);
    if (rc == VHDX_OK)
        rc = run_pass(pass, volume, follow_link, err);
    if (rc == VHDX_OK && pass->linked_to_free != 0)
        rc = vx_bad_volume(err, "its cluster %llu leads to one that is marked free",
                           (unsigned long long)pass->linked_to_free);
    return rc;
}

static int
walk_free(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    struct fat fat;
    struct pass pass = { .fat = &fat };
    const char *why;
    uint8_t b[512];
    int rc = read_boot_sector(&fat, volume, b, &why, err);

    if (rc < 0)
        return rc;
    if (fat.bits == 0 || why != NULL)
        return vx_bad_volume(err, "its boot sector has changed");
    rc = run_passes(&pass, volume, err);
    if (rc == VHDX_OK)
        rc = vx_bits_walk_clear(&pass.used, volume->guest_offset + fat.clusters_at, fat.cluster_size, each, context);
    vx_bits_free(&pass.used);
    vx_free(pass.copies[0]);
    vx_free(pass.copies[1]);
    return rc;
}

const struct vhdx_fs_reader vx_fat_reader = {
    .version = VHDX_FS_READER_VERSION, .name = "fat", .kinds = "FAT12, FAT16, FAT32", .probe = probe,
    .walk_free = walk_free,
};
