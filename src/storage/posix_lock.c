/*
 * Keeping others out, in the way of QEMU, so that QEMU and we keep each other out.
 *
 * What a holder does to a file is one of four permissions: b = 0 reads and relies on what it reads, 1 writes, 2
 * writes what is there already, 3 changes the length.  It takes a shared lock on byte 100 + b for each permission
 * it uses, and on byte 200 + b for each that nobody else may use.  Then, after its own locks are taken, it asks for
 * each byte that would be in its way whether somebody holds it: of two that come at once at least one sees the
 * other.
 *
 *               uses        keeps from others
 *   reader      0           1, 3
 *   writer      0, 1, 3     1, 3
 *
 * The locks belong to the open file, not to the process: they outlive no descriptor, and two opens in one process
 * see each other.  Where the system or the file system has no such locks, work goes on without.
 */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "storage/posix.h"

#ifdef F_OFD_SETLK

#define USES_FROM     100
#define KEEPS_FROM    200
#define LOCK_END      300
#define READER_USES   0x1u
#define WRITER_USES   0xBu
#define KEPT          0xAu
#define ALL_THERE_ARE 4

/* Enough for any process table worth searching while somebody waits for an error message. */
#define DESCRIPTORS_LOOKED_AT_MAX 65536

struct search {
    dev_t    device;
    ino_t    inode;
    uint64_t byte; /* whose lock is in the way */
    unsigned looked_at;
};

static bool
means_no_locks_here(int system_errno)
{
    return system_errno == ENOLCK || system_errno == EINVAL || system_errno == ENOSYS || system_errno == ENOTSUP ||
           system_errno == EOPNOTSUPP;
}

static int
call_lock(int descriptor, int command, struct flock *lock)
{
    int rc;

    do
        rc = fcntl(descriptor, command, lock);
    while (rc < 0 && errno == EINTR);
    return rc == 0 ? 0 : errno;
}

static struct flock
lock_of_byte(short type, int byte)
{
    struct flock lock;

    memset(&lock, 0, sizeof lock); /* l_pid must be 0 */
    lock.l_type = type;
    lock.l_whence = SEEK_SET;
    lock.l_start = byte;
    lock.l_len = 1;
    return lock;
}

/* Shared locks on from + b for every b of `set`.  Returns 0 or an errno; *byte is the last one tried. */
static int
take(int descriptor, int from, unsigned set, int *byte)
{
    for (int b = 0; b < ALL_THERE_ARE; b++) {
        struct flock lock = lock_of_byte(F_RDLCK, from + b);
        int system_errno;

        if ((set >> b & 1) == 0)
            continue;
        *byte = from + b;
        system_errno = call_lock(descriptor, F_OFD_SETLK, &lock);
        if (system_errno != 0)
            return system_errno;
    }
    return 0;
}

/* Does anybody else hold from + b, for a b of `set`?  EAGAIN if so, with the byte and the holder if the system
 * knows. */
static int
look(int descriptor, int from, unsigned set, int *byte, pid_t *holder)
{
    for (int b = 0; b < ALL_THERE_ARE; b++) {
        struct flock lock = lock_of_byte(F_WRLCK, from + b);
        int system_errno;

        if ((set >> b & 1) == 0)
            continue;
        *byte = from + b;
        system_errno = call_lock(descriptor, F_OFD_GETLK, &lock);
        if (system_errno != 0)
            return system_errno;
        if (lock.l_type != F_UNLCK) {
            *holder = lock.l_pid; /* known for the locks of processes only */
            return EAGAIN;
        }
    }
    return 0;
}

/* Lines look like this: "lock:\t1: OFDLCK ADVISORY  READ -1 fe:00:10952864 100 101". */
static bool
names_byte(const char *fdinfo, uint64_t byte)
{
    for (const char *line = strstr(fdinfo, "lock:"); line; line = strstr(line + 1, "lock:")) {
        uint64_t first, last;

        if (sscanf(line, "lock: %*d: %*s %*s %*s %*d %*s %" SCNu64 " %" SCNu64, &first, &last) == 2 &&
            byte >= first && byte <= last)
            return true;
    }
    return false;
}

/* The lock line first: it asks nothing of the file system below, which may be one that does not answer. */
static bool
process_holds(struct search *search, int proc, const char *pid)
{
    char path[64], text[4096];
    bool holds = false;
    struct dirent *entry;
    DIR *descriptors;
    int directory;

    snprintf(path, sizeof path, "%.20s/fdinfo", pid);
    directory = openat(proc, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    descriptors = directory >= 0 ? fdopendir(directory) : NULL;
    if (!descriptors) {
        if (directory >= 0)
            close(directory);
        return false;
    }
    while (!holds && search->looked_at < DESCRIPTORS_LOOKED_AT_MAX && (entry = readdir(descriptors)) != NULL) {
        struct stat status;

        search->looked_at++;
        if (entry->d_name[0] == '.' || !vx_posix_read_text(directory, entry->d_name, text, sizeof text) ||
            !names_byte(text, search->byte))
            continue;
        snprintf(path, sizeof path, "%.20s/fd/%.20s", pid, entry->d_name);
        holds = fstatat(proc, path, &status, 0) == 0 && status.st_dev == search->device &&
                status.st_ino == search->inode;
    }
    closedir(descriptors);
    return holds;
}

/* 0 when /proc does not tell, or does not tell us. */
static pid_t
find_holder(int descriptor, int byte)
{
    struct search search = { .byte = (uint64_t)byte };
    struct dirent *entry;
    struct stat status;
    pid_t found = 0;
    DIR *proc;

    if (fstat(descriptor, &status) < 0)
        return 0;
    search.device = status.st_dev;
    search.inode = status.st_ino;
    proc = opendir("/proc");
    if (!proc)
        return 0;
    while (found == 0 && (entry = readdir(proc)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9' &&
            process_holds(&search, dirfd(proc), entry->d_name))
            found = (pid_t)strtol(entry->d_name, NULL, 10);
    closedir(proc);
    return found;
}

static int
fail_in_use(int descriptor, int byte, pid_t holder, struct vhdx_error *err)
{
    char path[64], name[64];

    /* Our own locks are off by now: whoever shows in /proc is the one in the way. */
    if (holder <= 0 && err)
        holder = find_holder(descriptor, byte);
    if (holder <= 0)
        return vx_fail(err, VHDX_E_IN_USE, VHDX_PART_FILE, VHDX_NO_OFFSET, "in use by another process");
    if (holder == getpid())
        return vx_fail(err, VHDX_E_IN_USE, VHDX_PART_FILE, VHDX_NO_OFFSET,
                       "in use by this very process (pid %ld)", (long)holder);
    snprintf(path, sizeof path, "/proc/%ld/comm", (long)holder);
    if (!vx_posix_read_text(AT_FDCWD, path, name, sizeof name))
        return vx_fail(err, VHDX_E_IN_USE, VHDX_PART_FILE, VHDX_NO_OFFSET, "in use by pid %ld", (long)holder);
    name[strcspn(name, "\n")] = '\0';
    return vx_fail(err, VHDX_E_IN_USE, VHDX_PART_FILE, VHDX_NO_OFFSET, "in use by %s (pid %ld)", name,
                   (long)holder);
}

int
vx_posix_lock(int descriptor, bool is_writer, struct vhdx_error *err)
{
    const unsigned uses = is_writer ? WRITER_USES : READER_USES;
    pid_t holder = 0;
    int byte = 0;
    int system_errno = take(descriptor, USES_FROM, uses, &byte);

    if (system_errno == 0)
        system_errno = take(descriptor, KEEPS_FROM, KEPT, &byte);
    if (system_errno == 0)
        system_errno = look(descriptor, KEEPS_FROM, uses, &byte, &holder);
    if (system_errno == 0)
        system_errno = look(descriptor, USES_FROM, KEPT, &byte, &holder);
    if (system_errno == 0)
        return VHDX_OK;

    vx_posix_unlock(descriptor);
    if (means_no_locks_here(system_errno))
        return VHDX_OK;
    if (system_errno == EAGAIN || system_errno == EACCES)
        return fail_in_use(descriptor, byte, holder, err);
    return vx_fail_errno(err, system_errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "locking the file");
}

void
vx_posix_unlock(int descriptor)
{
    struct flock lock = lock_of_byte(F_UNLCK, USES_FROM);

    lock.l_len = LOCK_END - USES_FROM;
    call_lock(descriptor, F_OFD_SETLK, &lock);
}

#else /* no locks that belong to an open file; those of POSIX end with any close, and none at all are better */

int
vx_posix_lock(int descriptor, bool is_writer, struct vhdx_error *err)
{
    (void)descriptor, (void)is_writer, (void)err;
    return VHDX_OK;
}

void
vx_posix_unlock(int descriptor)
{
    (void)descriptor;
}

#endif
