/*
 * What is known of the file system or the device below a file.  A trait is true only where that is known: whoever
 * guesses here loses data.
 *
 * extension_survives_as_zeros asks what a power cut may leave in the unwritten part of a file that has just grown
 * (docs/vhdx-format.md, 10.40).  XFS and btrfs write data before they attach it to the file.  ext4 does so in
 * data=ordered, since Linux 4.7 also under delayed allocation, and data=journal; not in data=writeback and not without
 * a journal, where metadata reaches the disk in any order.  tmpfs survives no power cut at all.
 */
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#ifdef __linux__
#include <linux/falloc.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#endif

#include "storage/posix.h"

#ifdef __linux__

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

static bool
read_small_file(const char *path, char *text, size_t size)
{
    FILE *file = fopen(path, "re");
    size_t n;

    if (!file)
        return false;
    n = fread(text, 1, size - 1, file);
    fclose(file);
    text[n] = '\0';
    return n > 0;
}

static bool
kernel_is_4_7_or_later(void)
{
    struct utsname name;
    unsigned major, minor;

    if (uname(&name) < 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
        return false;
    return major > 4 || (major == 4 && minor >= 7);
}

/*
 * ext2, ext3 and ext4 share one magic number; only a file system that the ext4 driver has mounted shows its options
 * here, and only with a journal in use do they name a data mode.
 */
static bool
is_ordered_ext4(dev_t device)
{
    char link[64], target[256], path[320], options[4096];
    const char *name;
    ssize_t n;

    snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(device), minor(device));
    n = readlink(link, target, sizeof target - 1);
    if (n <= 0)
        return false;
    target[n] = '\0';
    name = strrchr(target, '/');
    if (!name)
        return false;
    snprintf(path, sizeof path, "/proc/fs/ext4%s/options", name);
    if (!read_small_file(path, options, sizeof options))
        return false;
    return strstr(options, "data=ordered\n") || strstr(options, "data=journal\n");
}

static bool
growth_survives_as_zeros(long magic, dev_t device)
{
    switch (magic) {
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
        return true;
    case EXT4_SUPER_MAGIC:
        return kernel_is_4_7_or_later() && is_ordered_ext4(device);
    default:
        return false;
    }
}

/* Where nobody knows, a hole is punched where the file has nothing: past its end, which stays where it is. */
static bool
file_can_punch(long magic, int descriptor, off_t size, bool is_read_only)
{
    switch (magic) {
    case XFS_SUPER_MAGIC:
    case BTRFS_SUPER_MAGIC:
    case TMPFS_MAGIC:
    case EXT4_SUPER_MAGIC:
        return true;
    default:
        return !is_read_only && size < INT64_MAX / 2 &&
               fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (size | 0xFFFF) + 1, 4096) == 0;
    }
}

/* A partition has no queue of its own; its disk, one directory up, has. */
static bool
device_can_punch(dev_t device)
{
    char path[96], text[32];

    snprintf(path, sizeof path, "/sys/dev/block/%u:%u/queue/write_zeroes_max_bytes", major(device), minor(device));
    if (!read_small_file(path, text, sizeof text)) {
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/../queue/write_zeroes_max_bytes", major(device),
                 minor(device));
        if (!read_small_file(path, text, sizeof text))
            return false;
    }
    return text[0] != '0';
}

void
vx_posix_find_traits(struct vhdx_storage_traits *traits, int descriptor, const struct stat *status,
                     bool is_read_only)
{
    struct statfs host;
    unsigned physical_size;

    *traits = (struct vhdx_storage_traits){ .is_read_only = is_read_only, .atomic_unit = 512 };
    if (S_ISBLK(status->st_mode)) {
        traits->can_punch = device_can_punch(status->st_rdev);
        if (ioctl(descriptor, BLKPBSZGET, &physical_size) == 0 && physical_size >= 4096)
            traits->atomic_unit = 4096;
        return;
    }
    if (fstatfs(descriptor, &host) < 0)
        return;
    traits->can_punch = file_can_punch((long)host.f_type, descriptor, status->st_size, is_read_only);
    traits->extension_survives_as_zeros = growth_survives_as_zeros((long)host.f_type, status->st_dev);
}

#else

void
vx_posix_find_traits(struct vhdx_storage_traits *traits, int descriptor, const struct stat *status,
                     bool is_read_only)
{
    (void)descriptor, (void)status;
    *traits = (struct vhdx_storage_traits){ .is_read_only = is_read_only, .atomic_unit = 512 };
}

#endif
