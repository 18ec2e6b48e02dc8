/* How long a file system says it is: what a disk without partitions must not be shorter than. */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "fs/fs.h"

#define BTRFS_AT 65536u

static uint64_t
product(uint64_t a, uint64_t b)
{
    uint64_t out;

    return vx_mul_u64(a, b, &out) ? out : 0;
}

static uint64_t
be(const uint8_t *b, unsigned length)
{
    uint64_t value = 0;

    for (unsigned i = 0; i < length; i++)
        value = value << 8 | b[i];
    return value;
}

/* Each from the volume's first 2 KiB; 0: it does not tell. */

static uint64_t
of_ext(const uint8_t *b)
{
    uint64_t blocks = vx_le32(b + 1024 + 4);
    uint32_t shift = vx_le32(b + 1024 + 24);

    if ((vx_le32(b + 1024 + 96) & 0x80) != 0) /* 64bit */
        blocks |= (uint64_t)vx_le32(b + 1024 + 336) << 32;
    return shift <= 6 ? product(blocks, UINT64_C(1024) << shift) : 0;
}

static uint64_t
of_ntfs(const uint8_t *b)
{
    return product(vx_le64(b + 40) + 1, vx_le16(b + 11)); /* the boot sector's copy follows the last sector it counts */
}

static uint64_t
of_fat(const uint8_t *b)
{
    uint32_t sectors = vx_le16(b + 19) != 0 ? vx_le16(b + 19) : vx_le32(b + 32);

    return product(sectors, vx_le16(b + 11));
}

static uint64_t
of_exfat(const uint8_t *b)
{
    return b[108] < 32 ? product(vx_le64(b + 72), UINT64_C(1) << b[108]) : 0;
}

static uint64_t
of_xfs(const uint8_t *b)
{
    return product(be(b + 8, 8), be(b + 4, 4));
}

static const struct {
    const char *kind; /* begins so */
    uint64_t (*length)(const uint8_t *b);
} kinds[] = {
    { "ext", of_ext }, { "NTFS", of_ntfs }, { "FAT", of_fat }, { "exFAT", of_exfat }, { "XFS", of_xfs },
};

/* btrfs's superblock is further in: the device's bytes in its dev_item. */
static int
of_btrfs(const struct vhdx_volume *volume, uint64_t *out, struct vhdx_error *err)
{
    uint8_t b[8];
    int rc = vhdx_volume_read(volume, b, sizeof b, BTRFS_AT + 0xC9 + 8, err);

    if (rc == VHDX_OK)
        *out = vx_le64(b);
    return rc;
}

int
vx_volume_own_length(const struct vhdx_volume *volume, uint64_t *out, struct vhdx_error *err)
{
    uint8_t b[2048];
    int rc = VHDX_OK;

    *out = volume->length;
    if (volume->length >= BTRFS_AT + VX_PAGE && strcmp(volume->kind, "btrfs") == 0) {
        rc = of_btrfs(volume, out, err);
    } else if (volume->length >= sizeof b) {
        rc = vhdx_volume_read(volume, b, sizeof b, 0, err);
        for (size_t i = 0; rc == VHDX_OK && i < sizeof kinds / sizeof kinds[0]; i++)
            if (strncmp(volume->kind, kinds[i].kind, strlen(kinds[i].kind)) == 0)
                *out = kinds[i].length(b);
    }
    if (*out == 0 || *out > volume->length) /* it does not tell, or was cut: all of the volume is its */
        *out = volume->length;
    return rc;
}
