/*
 * Where the bytes of a file live.  libvhdx brings storages for POSIX files and for memory; others can implement this
 * interface: embed struct vhdx_storage as the first member of a struct of your own and fill in `methods` and `traits`.
 *
 * Contract of every method: it may be called from several threads at once; it does all of its work or returns a
 * negative VHDX_E_* and fills *err (which may be NULL).  Offsets and lengths are bytes in the file.
 */
#ifndef VHDX_STORAGE_H
#define VHDX_STORAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include <vhdx/error.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vhdx_storage;

/* What a storage promises.  Set before the storage is handed over, never changed after. */
struct vhdx_storage_traits {
    bool is_read_only;              /* writev, set_size, zero, allocate and flush are never called */
    bool can_punch;                 /* zero() gives the space back to the host instead of writing zeros */
    bool extension_survives_as_zeros; /* unwritten parts of a grown file read as zeros also after a power cut
                                       * (docs/vhdx-format.md, 10.40); false when not known */
    uint32_t atomic_unit;           /* bytes written together or not at all: 512 or 4096 */
};

enum vhdx_zero_mode {
    VHDX_ZERO_RELEASE,        /* give the space back to the host where possible */
    VHDX_ZERO_KEEP_ALLOCATED, /* keep the host's space */
    VHDX_ZERO_ONLY_FAST       /* release; VHDX_E_UNSUPPORTED rather than write zeros */
};

struct vhdx_storage_methods {
    /* Fill all of the vector from file_offset on.  Reading past the end of the file is VHDX_E_TRUNCATED. */
    int (*readv)(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
                 struct vhdx_error *err);

    /* Write all of the vector; past the end the file grows.  Nothing is durable before the next flush. */
    int (*writev)(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
                  struct vhdx_error *err);

    /* Make everything written so far durable, a changed length included.  After a failure nothing is known. */
    int (*flush)(struct vhdx_storage *storage, struct vhdx_error *err);

    int (*get_size)(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err);

    /* Cut, or grow with zeros. */
    int (*set_size)(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err);

    /* Make a range inside the file read as zeros; the length of the file stays. */
    int (*zero)(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
                struct vhdx_error *err);

    /* Take host space for a range inside the file, so that a later write of it cannot fail for want of space.  No
     * byte and no length changes.  A storage that cannot tell does nothing and succeeds. */
    int (*allocate)(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err);

    /* The first range at or after file_offset that may hold something other than zeros: [*start, *end).  None before
     * the end of the file: *start = *end = the file's length.  May be NULL: everything is data. */
    int (*next_data)(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
                     struct vhdx_error *err);

    /* Copy bytes from another storage inside of the host, without a way through memory here.  Both ranges lie inside their
     * files; what the source is told to hold there later does not show.  VHDX_E_UNSUPPORTED, without a message, where that
     * cannot be: the range may then hold anything until the caller writes it.
     *   only_share  let both files hold the same space of the host, or say VHDX_E_UNSUPPORTED
     * May be NULL: never. */
    int (*copy_from)(struct vhdx_storage *storage, uint64_t file_offset, struct vhdx_storage *from, uint64_t from_offset,
                     uint64_t length, bool only_share, struct vhdx_error *err);

    /* Forget what the system caches of the file, as far as it was written back, so that reads tell what is stored.  Called
     * when a dirty image is opened: after a failed flush the cache may show what the disk does not hold.  Best effort;
     * may be NULL. */
    void (*forget_cached)(struct vhdx_storage *storage);

    /* Free the storage.  Called once, after every other call has returned.  May be NULL. */
    void (*close)(struct vhdx_storage *storage);
};

/* Which file the bytes lie in, whatever its names are: of two storages with equal identities one file is behind both. */
struct vhdx_storage_identity {
    bool     is_known; /* false where nobody can tell: in memory, for one */
    uint64_t device;
    uint64_t file_number;
};

struct vhdx_storage {
    const struct vhdx_storage_methods *methods;
    struct vhdx_storage_traits         traits;
    const char                        *name; /* for messages; owned by the storage, may be NULL */
    struct vhdx_storage_identity       identity; /* set before the storage is handed over */
};

#define VHDX_STORAGE_WRITE       1u /* open for reading and writing */
#define VHDX_STORAGE_FORCE_SHARE 2u /* take no locks (read-only storages only) */
#define VHDX_STORAGE_CREATE      4u /* make a new file: O_EXCL, never through a symbolic link */
#define VHDX_STORAGE_MAKE_HOLES  8u /* also where a hole sets NTFS's sparse flag, and Windows refuses such images */

/*
 * Open a regular file or a block device, never anything else, and lock it the way QEMU does: open-file-description
 * locks, so that QEMU and libvhdx keep each other out.  A holder of a conflicting lock is named where /proc tells.
 *
 *   errors  VHDX_E_NOT_FOUND, _PERMISSION, _IN_USE, _EXISTS, _UNSUPPORTED (neither file nor block device), _IO
 */
int vhdx_storage_open_path(struct vhdx_storage **out, const char *path, unsigned flags, struct vhdx_error *err);

/* The same over a descriptor, which the storage owns from success on; on failure it stays the caller's. */
int vhdx_storage_open_descriptor(struct vhdx_storage **out, int descriptor, const char *name, unsigned flags,
                                 struct vhdx_error *err);

/* A file in memory, of `size` zero bytes at first; sparse: only 4 KiB pages that were written take room. */
int vhdx_storage_new_memory(struct vhdx_storage **out, uint64_t size, struct vhdx_error *err);

/* NULL is fine. */
void vhdx_storage_close(struct vhdx_storage *storage);

#ifdef __cplusplus
}
#endif
#endif
