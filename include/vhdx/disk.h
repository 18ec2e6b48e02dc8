/*
 * A disk as a guest sees it: a VHDX image (with its chain of parents), a raw file, or a VHD, the older format: fixed VHDs are
 * read and written, dynamic ones read.
 *
 * Threads: every call on an open disk may be made by any number of threads at once; vhdx_disk_close by one, last.
 */
#ifndef VHDX_DISK_H
#define VHDX_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>
#include <vhdx/guid.h>
#include <vhdx/storage.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vhdx_disk;

enum vhdx_format {
    VHDX_FORMAT_AUTO, /* VHDX by its signature, VHD by its cookie, else refused: a stranger's raw disk is never guessed */
    VHDX_FORMAT_VHDX,
    VHDX_FORMAT_RAW,
    VHDX_FORMAT_VHD
};

#define VHDX_OPEN_WRITE       1u /* for reading and writing; a dirty log is replayed into the file */
#define VHDX_OPEN_IGNORE_LOG  2u /* read the file as it lies, log not replayed; read-only */
#define VHDX_OPEN_FORCE_SHARE 4u /* take no locks; read-only */
#define VHDX_OPEN_NO_PARENTS  8u /* do not open the chain of a differencing image: what it lacks cannot be read */

/*
 * Finds the parent of a differencing image.  The library opens no parent by itself: without a resolver a child opens
 * with VHDX_OPEN_NO_PARENTS only.
 *
 *   locator keys   NULL-terminated UTF-8 strings, in lookup order relative_path, volume_path, absolute_win32_path;
 *                  each may be NULL.  Hostile input.  Borrowed for the call.
 *   chain          which files are open already, depth + 1 of them: none of them can be the parent (V125)
 *   returns        0 with *out a storage the library then owns, or a code; VHDX_E_NO_PARENT when there is none
 */
struct vhdx_parent_query {
    const char             *child_name;
    const struct vhdx_guid *linkage;  /* the parent's DataWriteGuid */
    const struct vhdx_guid *linkage2; /* an alternative, all zero when unused */
    const char             *relative_path;
    const char             *volume_path;
    const char             *absolute_win32_path;
    unsigned                depth; /* of the child: 0 is the disk itself */
    unsigned                flags; /* VHDX_OPEN_* the disk is opened with; of them FORCE_SHARE is for parents too */
    const struct vhdx_storage_identity *chain;
};
typedef int (*vhdx_parent_resolver)(void *context, const struct vhdx_parent_query *query,
                                    struct vhdx_storage **out, struct vhdx_error *err);

struct vhdx_open_options {
    unsigned             flags; /* VHDX_OPEN_* */
    enum vhdx_format     format;
    uint64_t             metadata_cache_bytes; /* 0: 32 MiB.  Bounds the pages of BAT and bitmaps held in memory; each
                                                * parent may hold a sixteenth of it as well */
    vhdx_parent_resolver resolve_parent;       /* NULL: none */
    void                *resolve_context;
};

/*
 * Open a disk.  NULL options: read-only, format AUTO.
 *
 *   out      the disk; the caller closes it with vhdx_disk_close
 *   storage  vhdx_disk_open_storage: owned by the disk from success on; on failure it stays the caller's
 *   descriptor  vhdx_disk_open_descriptor: the library's from the call on; it is closed when the call fails
 *   errors   VHDX_E_NOT_VHDX, _BAD_HEADER, _BAD_LOG, _BAD_REGION, _BAD_METADATA, _BAD_LOCATOR, _NO_PARENT, _IN_USE,
 *            _NEEDS_REPAIR (opened for writing and a rule of severity RO or BLOCK is broken), _IO, _NO_MEMORY, _BAD_VHD,
 *            _UNSUPPORTED (a differencing VHD, or a dynamic one to be written), ...
 *   writes   read-only: not one byte.  For writing: nothing before the first modification, but for the replay of a
 *            dirty log
 *   spec     docs/vhdx-format.md 5.3, 5.4
 */
int vhdx_disk_open_path(struct vhdx_disk **out, const char *path, const struct vhdx_open_options *options,
                        struct vhdx_error *err);
int vhdx_disk_open_descriptor(struct vhdx_disk **out, int descriptor, const char *name,
                              const struct vhdx_open_options *options, struct vhdx_error *err);
int vhdx_disk_open_storage(struct vhdx_disk **out, struct vhdx_storage *storage,
                           const struct vhdx_open_options *options, struct vhdx_error *err);

/*
 * Close and free the disk, whatever is returned.  Everything written is made durable first; an error says that this
 * failed (or had failed before): then the next open replays the log and finds all that was flushed.
 */
int vhdx_disk_close(struct vhdx_disk *disk, struct vhdx_error *err);

/* Bytes a guest sees.  Never changes while the disk is open. */
uint64_t vhdx_disk_size(const struct vhdx_disk *disk);

/*
 * Read guest data.  Sectors that no layer of the chain holds read as zeros.
 *
 *   guest_offset, length   bytes, any alignment; the range must lie inside the disk
 *   returns                0 with all of buffer filled, or a code with buffer unspecified
 *   errors                 VHDX_E_RANGE, _IO, _BAD_BAT, _BAD_BITMAP, _TRUNCATED, _NO_PARENT
 *   threads                any number at once, also beside writers
 *   spec                   docs/vhdx-format.md 4.3
 */
int vhdx_disk_read(struct vhdx_disk *disk, void *buffer, size_t length, uint64_t guest_offset,
                   struct vhdx_error *err);

/*
 * Write guest data.  Durable after the next vhdx_disk_flush that is called after this returned.
 *
 *   guest_offset, length   bytes, any alignment; the range must lie inside the disk
 *   errors                 VHDX_E_RANGE, _READ_ONLY, _IO, _NO_SPACE, _FAILED, ...; after an error the range holds old or
 *                          new bytes, sector by sector
 *   threads                any number at once; overlapping writes end in either order, sector by sector
 *   spec                   docs/vhdx-format.md 4.4
 */
int vhdx_disk_write(struct vhdx_disk *disk, const void *buffer, size_t length, uint64_t guest_offset,
                    struct vhdx_error *err);

#define VHDX_ZERO_FAST 1u /* VHDX_E_UNSUPPORTED rather than write zeros byte by byte */

/* Make a range read as zeros.  Whole blocks of a dynamic image become state ZERO and give their space back. */
int vhdx_disk_zero(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, unsigned flags,
                   struct vhdx_error *err);

/*
 * Tell that a range is no longer needed.  On a dynamic image it reads as zeros afterwards, and so does what a differencing
 * image holds itself of the range (what only a parent holds stays visible); whole blocks become state UNMAPPED and give
 * their space back.  On a fixed image, and on a raw file whose host cannot punch holes, nothing happens.
 */
int vhdx_disk_trim(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_error *err);

/*
 * Make durable everything that was written, zeroed or trimmed before this call.
 *
 *   errors   VHDX_E_IO, _FAILED, ...: what was written since the last good flush may be lost, the image takes no more
 *            writes until it is reopened
 *   threads  any number; flushes that arrive together share the work
 */
int vhdx_disk_flush(struct vhdx_disk *disk, struct vhdx_error *err);

/* Where a range of the disk lies. */
struct vhdx_extent {
    uint64_t guest_offset;
    uint64_t length;
    uint64_t file_offset; /* in the layer's file; valid when VHDX_EXTENT_DATA is set */
    uint32_t depth;       /* layer: 0 is the disk itself, 1 its parent, ... */
    uint32_t flags;       /* VHDX_EXTENT_* */
};
#define VHDX_EXTENT_DATA    1u /* the bytes lie in the layer's file at file_offset */
#define VHDX_EXTENT_ZERO    2u /* reads as zeros */
#define VHDX_EXTENT_PRESENT 4u /* some layer decides this range (QEMU's "present") */

/*
 * Resolve a guest range into extents, in order, without gaps, adjacent equal ones merged.
 *
 *   extents, capacity   the caller's array; *count is how many were filled.  They cover the range from guest_offset on;
 *                       when capacity does not suffice, or a damaged block follows, they cover less: go on at the end
 *                       of the last one.  A damaged block is the error of the range that begins with it
 *   threads             any number.  A file_offset is good while the range is pinned (vhdx_disk_pin): a trim or a move
 *                       may give the space to others afterwards
 */
int vhdx_disk_resolve(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_extent *extents,
                      size_t capacity, size_t *count, struct vhdx_error *err);

/* As vhdx_disk_resolve, and DATA extents of sparse host files are split where the host file has holes (those become
 * ZERO).  Slower; for copying and for block status. */
int vhdx_disk_resolve_sparse(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length,
                             struct vhdx_extent *extents, size_t capacity, size_t *count, struct vhdx_error *err);

/*
 * Hold a guest range: until vhdx_disk_unpin nothing moves, frees or newly allocates it.  Reads and in-place writes go on.
 * The pinning thread itself must not write, zero or trim the range: it would wait for itself.
 */
struct vhdx_pin {
    void *held; /* the library's; NULL where nothing needs holding */
};
int vhdx_disk_pin(struct vhdx_disk *disk, uint64_t guest_offset, uint64_t length, struct vhdx_pin *pin,
                  struct vhdx_error *err);
void vhdx_disk_unpin(struct vhdx_disk *disk, struct vhdx_pin *pin);

enum vhdx_image_type { VHDX_TYPE_DYNAMIC, VHDX_TYPE_FIXED, VHDX_TYPE_DIFFERENCING };

/* Facts about one layer. */
struct vhdx_info {
    enum vhdx_format     format;
    enum vhdx_image_type type;
    uint64_t             virtual_size;  /* bytes */
    uint64_t             file_size;     /* bytes, length of the host file */
    uint32_t             block_size;    /* bytes; 0 for raw and for a fixed VHD */
    uint32_t             logical_sector_size;
    uint32_t             physical_sector_size;
    bool                 is_writable;
    bool                 is_dirty;      /* the file's log held entries to replay when it was opened */
    bool                 log_was_ignored;
    struct vhdx_guid     disk_id;
    struct vhdx_guid     file_write_guid;
    struct vhdx_guid     data_write_guid;
    struct vhdx_guid     log_guid;
    uint64_t             header_sequence_number;
    uint64_t             log_offset, log_length;
    uint64_t             log_entry_count; /* that were to be replayed when the file was opened; with the next two */
    uint64_t             log_first_sequence_number, log_last_sequence_number;
    uint64_t             bat_offset, bat_length;
    uint64_t             metadata_offset, metadata_length;
    uint64_t             payload_block_count;
    uint64_t             finding_count; /* rules broken, as far as open noticed */
    struct vhdx_error    worst_finding; /* valid when finding_count > 0 */
    char                 creator[256 * 3 + 1]; /* UTF-8, control characters escaped */
    /* Parent locator of a differencing image; empty strings where a key is missing.  Hostile text, escaped. */
    struct vhdx_guid     parent_linkage, parent_linkage2;
    char                 parent_relative_path[1024];
    char                 parent_volume_path[1024];
    char                 parent_absolute_path[1024];
};

/* How many layers the disk has: 1 without a parent. */
unsigned vhdx_disk_layer_count(const struct vhdx_disk *disk);

/* Facts about layer `depth`. */
int vhdx_disk_get_info(struct vhdx_disk *disk, unsigned depth, struct vhdx_info *out, struct vhdx_error *err);

/* File name of layer `depth`, as it was opened.  Lives as long as the disk. */
const char *vhdx_disk_layer_name(const struct vhdx_disk *disk, unsigned depth);

/*
 * The disk as its parent at `depth` shows it: what a guest saw when the layers above were not there yet.  Read-only;
 * layer 0 of what comes out is layer `depth` of the disk.
 *
 *   out      borrows everything from `disk`: the caller closes it with vhdx_disk_close, before the disk
 *   depth    from 1, the parent, to vhdx_disk_layer_count - 1, the base
 *   errors   VHDX_E_INVALID (no such parent), _NO_MEMORY
 *   threads  any number, also beside writers of the disk: parents do not change
 */
int vhdx_disk_open_layer(struct vhdx_disk **out, const struct vhdx_disk *disk, unsigned depth, struct vhdx_error *err);

/* The version of the library that runs, "0.1.0". */
const char *vhdx_version(void);

#ifdef __cplusplus
}
#endif
#endif
