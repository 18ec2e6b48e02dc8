/* The pieces of the POSIX storage; nobody outside of posix*.c includes this. */
#ifndef VX_POSIX_H
#define VX_POSIX_H

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/types.h>

#include <vhdx/storage.h>

/* Lengths and offsets that the system takes: off_t is 64 bits wide in every build of ours. */
#define VX_POSIX_OFFSET_MAX ((uint64_t)INT64_MAX)

struct vx_posix {
    struct vhdx_storage storage;
    int                 descriptor;
    bool                is_block_device;
    bool                keeps_whole; /* no hole is made in it: see posix_traits.c */
    atomic_uint         safe_mib; /* MiBs at the front that exist already and lie below RLIMIT_FSIZE */
    char               *name;     /* owned */
};

extern const struct vhdx_storage_methods vx_posix_methods;

/* posix_lock.c: keep others out, as QEMU does.  Taken locks end with vx_posix_unlock or the descriptor. */
int  vx_posix_lock(int descriptor, bool is_writer, struct vhdx_error *err);
void vx_posix_unlock(int descriptor);

/* posix_traits.c: what is known of the file system or device below. */
void vx_posix_find_traits(struct vx_posix *posix, const struct stat *status, unsigned flags);

/* The kernel's number of the file system a descriptor lies on; 0 when it is not told. */
unsigned long vx_posix_file_system(int descriptor);

/* posix_copy.c: the method, and the system's calls behind it. */
int vx_posix_copy_from(struct vhdx_storage *storage, uint64_t file_offset, struct vhdx_storage *from, uint64_t from_offset,
                       uint64_t length, bool only_share, struct vhdx_error *err);
int     vx_posix_clone(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length);
ssize_t vx_posix_copy_range(int to, uint64_t to_offset, int from, uint64_t from_offset, size_t length);

/* The start of a small file of /proc or /sys, as text.  False when there is nothing to read. */
bool vx_posix_read_text(int directory, const char *path, char *text, size_t size);

/*
 * posix_limit.c: a write past RLIMIT_FSIZE must be an error, not the death of the process.  Enter before a call
 * that may meet the limit, leave after it with its errno (0 on success).
 */
struct vx_posix_limit {
    sigset_t old_mask;
    bool     was_pending;
};
void vx_posix_limit_enter(struct vx_posix_limit *limit);
void vx_posix_limit_leave(const struct vx_posix_limit *limit, int system_errno);

/* Is every byte before `end` known to exist and to be within the limit?  And now it is. */
bool vx_posix_is_safe(const struct vx_posix *posix, uint64_t end);
void vx_posix_now_safe(struct vx_posix *posix, uint64_t end);
void vx_posix_was_cut(struct vx_posix *posix, uint64_t size);
void vx_posix_first_safe(struct vx_posix *posix, uint64_t size);

/* The system's calls, so that tests can put short transfers, EINTR and missing features in their place. */
struct vx_posix_calls {
    ssize_t (*preadv)(int descriptor, const struct iovec *vector, int count, off_t offset);
    ssize_t (*pwritev)(int descriptor, const struct iovec *vector, int count, off_t offset);
    int (*fdatasync)(int descriptor);
    int (*ftruncate)(int descriptor, off_t size);
    int (*fallocate)(int descriptor, int mode, off_t offset, off_t length);
    off_t (*lseek)(int descriptor, off_t offset, int whence);
    unsigned long (*file_system)(int descriptor);
    int (*clone)(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length);
    ssize_t (*copy_range)(int to, uint64_t to_offset, int from, uint64_t from_offset, size_t length);
};
#ifdef VHDX_TEST_HOOKS
extern struct vx_posix_calls vx_posix_calls;
#else
extern const struct vx_posix_calls vx_posix_calls;
#endif

#endif
