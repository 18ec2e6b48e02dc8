/*
 * What is known of the file system or the device below a file.  A trait is true only where that is known: whoever
 * guesses here loses data.
 *
 * extension_survives_as_zeros asks what a power cut may leave in the unwritten part of a file that has just grown
 * (docs/vhdx-format.md, 10.40).  XFS and btrfs write data before they attach it to the file.  ext4 does so in
 * data=ordered, since Linux 4.7 also under delayed allocation, and data=journal; not in data=writeback and not
 * without a journal, where metadata reaches the disk in any order.  tmpfs survives no power cut at all.
 *
 * keeps_whole: Windows refuses to attach an image whose file has NTFS's sparse flag, and a hole is what sets it: on SMB the
 * kernel asks the server for the flag before it punches, on the others a hole is possible only in a file that has it.  So
 * none is made where a file may lie on NTFS, unless VHDX_STORAGE_MAKE_HOLES asks for it; the drives of Windows under WSL are
 * 9p or virtiofs.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#endif

#include "storage/posix.h"

bool
vx_posix_read_text(int directory, const char *path, char *text, size_t size)
{
    int descriptor = openat(directory, path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (descriptor < 0)
        return false;
    n = read(descriptor, text, size - 1);
    close(descriptor);
    text[n > 0 ? n : 0] = '\0';
    return n > 0;
}

#ifdef __linux__

/* As the kernel numbers them; its headers are not everywhere. */
#define MAGIC_EXT   0xEF53 /* ext2, ext3 and ext4 */
#define MAGIC_XFS   0x58465342
#define MAGIC_BTRFS 0x9123683E
#define MAGIC_TMPFS 0x01021994
#define MAGIC_NTFS  0x5346544E /* the driver before ntfs3 */
#define MAGIC_NTFS3 0x7366746E
#define MAGIC_CIFS  0xFF534D42
#define MAGIC_SMB2  0xFE534D42
#define MAGIC_SMB   0x517B
#define MAGIC_9P    0x01021997
#define MAGIC_FUSE  0x65735546

static bool
kernel_is_of_wsl(void)
{
    struct utsname name;

    return uname(&name) == 0 && (strstr(name.release, "microsoft") || strstr(name.release, "Microsoft"));
}

static bool
may_be_ntfs(unsigned long magic)
{
    switch (magic) {
    case MAGIC_NTFS:
    case MAGIC_NTFS3:
    case MAGIC_CIFS:
    case MAGIC_SMB2:
    case MAGIC_SMB:
    case MAGIC_9P:
        return true;
    case MAGIC_FUSE:
        return kernel_is_of_wsl();
    default:
        return false;
    }
}

unsigned long
vx_posix_file_system(int descriptor)
{
    struct statfs host;

    return fstatfs(descriptor, &host) == 0 ? (uint32_t)host.f_type : 0; /* signed on some hosts, and spread over 64 bits */
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
    if (!vx_posix_read_text(AT_FDCWD, path, options, sizeof options))
        return false;
    return strstr(options, "data=ordered\n") || strstr(options, "data=journal\n");
}

static bool
growth_survives_as_zeros(unsigned long magic, dev_t device)
{
    switch (magic) {
    case MAGIC_XFS:
    case MAGIC_BTRFS:
    case MAGIC_TMPFS:
        return true;
    case MAGIC_EXT:
        return kernel_is_4_7_or_later() && is_ordered_ext4(device);
    default:
        return false;
    }
}

/* Where nobody knows, a hole is punched where the file has nothing: past its end, which stays where it is. */
static bool
file_can_punch(unsigned long magic, int descriptor, off_t size, bool is_read_only)
{
    switch (magic) {
    case MAGIC_XFS:
    case MAGIC_BTRFS:
    case MAGIC_TMPFS:
    case MAGIC_EXT:
        return true;
    default:
        return !is_read_only && size < INT64_MAX / 2 &&
               fallocate(descriptor, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (size | 0xFFFF) + 1, 4096) == 0;
    }
}

/* What the kernel says of a device's queue, as a number.  A partition has no queue of its own; its disk, one
 * directory up, has.  0 when it is not told. */
static unsigned long long
queue_number(dev_t device, const char *attribute)
{
    static const char *const places[] = { "queue", "../queue" };
    char path[128], text[32];

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, sizeof path, "/sys/dev/block/%u:%u/%s/%s", major(device), minor(device), places[i],
                 attribute);
        if (vx_posix_read_text(AT_FDCWD, path, text, sizeof text))
            return strtoull(text, NULL, 10);
    }
    return 0;
}

void
vx_posix_find_traits(struct vx_posix *posix, const struct stat *status, unsigned flags)
{
    const bool is_read_only = (flags & (VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE)) == 0;
    struct vhdx_storage_traits *traits = &posix->storage.traits;
    unsigned long               magic;

    *traits = (struct vhdx_storage_traits){ .is_read_only = is_read_only, .atomic_unit = 512 };
    if (S_ISBLK(status->st_mode)) {
        traits->can_punch = queue_number(status->st_rdev, "write_zeroes_max_bytes") > 0;
        if (queue_number(status->st_rdev, "physical_block_size") >= 4096)
            traits->atomic_unit = 4096;
        return;
    }
    magic = vx_posix_calls.file_system(posix->descriptor);
    if (magic == 0)
        return;
    posix->keeps_whole = may_be_ntfs(magic) && (flags & VHDX_STORAGE_MAKE_HOLES) == 0;
    traits->can_punch = !posix->keeps_whole && file_can_punch(magic, posix->descriptor, status->st_size, is_read_only);
    traits->extension_survives_as_zeros = growth_survives_as_zeros(magic, status->st_dev);
}

#else

unsigned long
vx_posix_file_system(int descriptor)
{
    (void)descriptor;
    return 0;
}

void
vx_posix_find_traits(struct vx_posix *posix, const struct stat *status, unsigned flags)
{
    const bool is_read_only = (flags & (VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE)) == 0;

    (void)status;
    posix->storage.traits = (struct vhdx_storage_traits){ .is_read_only = is_read_only, .atomic_unit = 512 };
}

#endif
