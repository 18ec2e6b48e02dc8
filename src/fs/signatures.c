/* What is recognised by a few bytes and not read by the library itself. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "fs/fs.h"

#define TRIM_IN_GUEST "trim it in the guest (fstrim), or mount it through `vhdx serve` and run fstrim there"

struct signature {
    uint64_t    offset;
    size_t      length;
    const char *bytes;
    const char *kind;
    const char *reason;
    const char *cure;
};

#define NO_READER(what) "no reader for " what " is installed"
static const struct signature signatures[] = {
    { 1024 + 56, 2, "\x53\xef", "ext", NO_READER("ext2, ext3 and ext4"),
      "install libvhdx's module for them (it needs Debian's libext2fs2)" },
    { 3, 8, "NTFS    ", "NTFS", NO_READER("NTFS"), "install libvhdx's module for it (it needs Debian's libntfs-3g89)" },
    { 0, 4, "XFSB", "XFS", "XFS is not read", TRIM_IN_GUEST },
    { 65536 + 64, 8, "_BHRfS_M", "btrfs", "btrfs is not read", TRIM_IN_GUEST },
    { 512, 8, "LABELONE", "LVM", "what an LVM volume group holds is not read", TRIM_IN_GUEST },
    { 0, 8, "LABELONE", "LVM", "what an LVM volume group holds is not read", TRIM_IN_GUEST },
    { 0, 6, "LUKS\xba\xbe", "LUKS", "it is encrypted", TRIM_IN_GUEST },
    { 3, 8, "-FVE-FS-", "BitLocker", "it is encrypted", "let Windows trim it: Optimize-Volume -ReTrim" },
    { 424, 16, "\x3b\xd6\x67\x49\x29\x2e\xd8\x4a\x83\x99\xf6\xa3\x39\xe3\xd0\x01", "BitLocker", "it is encrypted",
      "let Windows trim it: Optimize-Volume -ReTrim" }, /* "To Go": inside what looks like FAT32 */
    { 3, 8, "ReFS\0\0\0\0", "ReFS", "ReFS is not read", "let Windows trim it: Optimize-Volume -ReTrim" },
    { 4096, 4, "\xfc\x4e\x2b\xa9", "MD RAID", "members of a RAID are not read", TRIM_IN_GUEST },
    { 0, 4, "\xfc\x4e\x2b\xa9", "MD RAID", "members of a RAID are not read", TRIM_IN_GUEST },
    { 0, 4, "hsqs", "squashfs", "it has no free space", NULL },
    { 32769, 5, "CD001", "ISO 9660", "it has no free space", NULL },
    { 1024, 4, "\x10\x20\xf5\xf2", "F2FS", "F2FS is not read", TRIM_IN_GUEST },
};

static int
matches(const struct vhdx_volume *volume, const struct signature *signature, bool *out, struct vhdx_error *err)
{
    char bytes[16];
    int rc;

    *out = false;
    if (signature->offset + signature->length > volume->length)
        return VHDX_OK;
    rc = vhdx_volume_read(volume, bytes, signature->length, signature->offset, err);
    if (rc == VHDX_OK)
        *out = memcmp(bytes, signature->bytes, signature->length) == 0;
    return rc;
}

int
vx_signatures_probe(struct vhdx_volume *volume, const char *except, unsigned *out, struct vhdx_error *err)
{
    *out = 0;
    snprintf(volume->kind, sizeof volume->kind, "unknown");
    vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "nobody here knows what it holds", NULL);
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const struct signature *signature = &signatures[i];
        bool is_there;
        int rc = matches(volume, signature, &is_there, err);

        if (rc < 0)
            return rc;
        if (!is_there || strncmp(except, signature->kind, strlen(signature->kind)) == 0)
            continue;
        if (++*out == 1) {
            snprintf(volume->kind, sizeof volume->kind, "%s", signature->kind);
            vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, signature->reason, signature->cure);
        }
    }
    return VHDX_OK;
}
