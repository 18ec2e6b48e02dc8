/*
 * Opening and creating files.
 *
 *   O1  Only regular files and block devices; nothing else is even opened, since opening alone can do things (a
 *       tape winds, a watchdog starts) or wait for ever (a FIFO).
 *   O2  A new file is really new, and nobody's symbolic link decides where it lies.  If its opening fails, it is
 *       gone.
 *   O3  A block device is opened for writing only when nothing of the system's (a mount, a volume) stands on it.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "storage/posix.h"

#define KNOWN_FLAGS (VHDX_STORAGE_WRITE | VHDX_STORAGE_FORCE_SHARE | VHDX_STORAGE_CREATE | \
                     VHDX_STORAGE_MAKE_HOLES)

static int
check_flags(unsigned flags, struct vhdx_error *err)
{
    if ((flags & ~KNOWN_FLAGS) != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "unknown flags 0x%x", flags);
    if ((flags & VHDX_STORAGE_FORCE_SHARE) != 0 && (flags & ~VHDX_STORAGE_FORCE_SHARE) != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "only a file that is not written can be opened without locks");
    return VHDX_OK;
}

static const char *
kind_name(mode_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR:  return "a directory";
    case S_IFIFO:  return "a pipe";
    case S_IFCHR:  return "a character device";
    case S_IFSOCK: return "a socket";
    default:       return "something else";
    }
}

static int
check_kind(const struct stat *status, struct vhdx_error *err)
{
    if (S_ISREG(status->st_mode) || S_ISBLK(status->st_mode))
        return VHDX_OK;
    return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_FILE, VHDX_NO_OFFSET,
                   "%s, neither a file nor a block device", kind_name(status->st_mode));
}

static int
check_access(int descriptor, bool is_writer, struct vhdx_error *err)
{
    int flags = fcntl(descriptor, F_GETFL);
    int forbidden = O_APPEND; /* which would send every write to the end */

#ifdef O_DIRECT
    forbidden |= O_DIRECT; /* which would want aligned memory of our callers */
#endif
    if (flags < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "looking at descriptor %d", descriptor);
    if ((flags & forbidden) != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_FILE, VHDX_NO_OFFSET,
                       "descriptor %d was opened for appending or direct I/O", descriptor);
    if ((flags & O_ACCMODE) == O_RDWR || ((flags & O_ACCMODE) == O_RDONLY && !is_writer))
        return VHDX_OK;
    return vx_fail(err, VHDX_E_PERMISSION, VHDX_PART_FILE, VHDX_NO_OFFSET, "descriptor %d is not open for %s",
                   descriptor, is_writer ? "reading and writing" : "reading");
}

/* A device has many nodes and is one. */
static struct vhdx_storage_identity
identify(const struct stat *status)
{
    const bool is_device = S_ISBLK(status->st_mode);

    return (struct vhdx_storage_identity){
        .is_known = true,
        .device = (uint64_t)(is_device ? status->st_rdev : status->st_dev),
        .file_number = is_device ? 0 : (uint64_t)status->st_ino, /* no file has the number 0 */
    };
}

static int
make_storage(struct vhdx_storage **out, int descriptor, const struct stat *status, const char *name, unsigned flags,
             struct vhdx_error *err)
{
    struct vx_posix *posix = vx_alloc_zeroed(1, sizeof *posix);
    char *copy = name ? vx_strdup(name) : NULL;

    if (!posix || (name && !copy)) {
        vx_free(posix);
        vx_free(copy);
        return vx_fail_memory(err, "a storage");
    }
    posix->storage.methods = &vx_posix_methods;
    posix->storage.name = posix->name = copy;
    posix->storage.identity = identify(status);
    posix->descriptor = descriptor;
    posix->is_block_device = S_ISBLK(status->st_mode);
    vx_posix_find_traits(posix, status, flags);
    vx_posix_first_safe(posix, posix->is_block_device ? UINT64_MAX : (uint64_t)status->st_size);
    *out = &posix->storage;
    return VHDX_OK;
}

int
vhdx_storage_open_descriptor(struct vhdx_storage **out, int descriptor, const char *name, unsigned flags,
                             struct vhdx_error *err)
{
    const bool is_writer = (flags & (VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE)) != 0;
    struct stat status;
    int rc = check_flags(flags, err);

    if (rc < 0)
        return rc;
    if (fstat(descriptor, &status) < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "looking at descriptor %d", descriptor);
    rc = check_kind(&status, err);
    if (rc < 0)
        return rc;
    rc = check_access(descriptor, is_writer, err);
    if (rc < 0)
        return rc;
    if ((flags & VHDX_STORAGE_FORCE_SHARE) == 0) {
        rc = vx_posix_lock(descriptor, is_writer, err);
        if (rc < 0)
            return rc;
    }
    rc = make_storage(out, descriptor, &status, name, flags, err);
    if (rc < 0)
        vx_posix_unlock(descriptor); /* the descriptor goes back as it came */
    return rc;
}

/* The entry in the directory must be as durable as the file will be.  Some directories cannot be read: so be it. */
static int
flush_directory_of(const char *path, struct vhdx_error *err)
{
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) + 1 : 1;
    char *directory = vx_alloc(length + 1);
    int descriptor, rc = VHDX_OK;

    if (!directory)
        return vx_fail_memory(err, "a path");
    memcpy(directory, slash ? path : ".", length);
    directory[length] = '\0';
    descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    vx_free(directory);
    if (descriptor < 0)
        return VHDX_OK;
    if (fsync(descriptor) < 0 && errno == EIO)
        rc = vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "flushing the directory of the new file");
    close(descriptor);
    return rc;
}

/* O2: only if the path still leads to what we made. */
static void
remove_new_file(const char *path, int descriptor)
{
    struct stat ours, theirs;

    if (fstat(descriptor, &ours) == 0 && lstat(path, &theirs) == 0 && ours.st_dev == theirs.st_dev &&
        ours.st_ino == theirs.st_ino)
        unlink(path);
}

static int
create_path(struct vhdx_storage **out, const char *path, unsigned flags, struct vhdx_error *err)
{
    int descriptor, rc;

    do
        descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC | O_NOCTTY, 0666);
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "cannot create");

    rc = flush_directory_of(path, err);
    if (rc == VHDX_OK)
        rc = vhdx_storage_open_descriptor(out, descriptor, path, flags, err);
    if (rc < 0) {
        remove_new_file(path, descriptor);
        close(descriptor);
    }
    return rc;
}

static int
open_flags(const struct stat *status, bool is_writer)
{
    /* Between stat and open a FIFO may take the file's place: it must not hold us up (O1). */
    int flags = (is_writer ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY | O_NONBLOCK;

#ifdef __linux__
    if (is_writer && S_ISBLK(status->st_mode))
        flags |= O_EXCL; /* O3: without O_CREAT this is what it means */
#else
    (void)status;
#endif
    return flags;
}

static int
open_existing(struct vhdx_storage **out, const char *path, unsigned flags, struct vhdx_error *err)
{
    const bool is_writer = (flags & VHDX_STORAGE_WRITE) != 0;
    struct stat status;
    int descriptor, rc;

    if (stat(path, &status) < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "cannot open");
    rc = check_kind(&status, err);
    if (rc < 0)
        return rc;
    do
        descriptor = open(path, open_flags(&status, is_writer));
    while (descriptor < 0 && errno == EINTR);
    if (descriptor < 0 && errno == EBUSY)
        return vx_fail(err, VHDX_E_IN_USE, VHDX_PART_FILE, VHDX_NO_OFFSET,
                       "the device is mounted or otherwise in use");
    if (descriptor < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "cannot open for %s",
                             is_writer ? "writing" : "reading");

    rc = vhdx_storage_open_descriptor(out, descriptor, path, flags, err);
    if (rc < 0)
        close(descriptor);
    return rc;
}

int
vhdx_storage_open_path(struct vhdx_storage **out, const char *path, unsigned flags, struct vhdx_error *err)
{
    int rc = check_flags(flags, err);

    if (rc < 0)
        return rc;
    return (flags & VHDX_STORAGE_CREATE) != 0 ? create_path(out, path, flags, err)
                                              : open_existing(out, path, flags, err);
}
