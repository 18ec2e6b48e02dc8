/*
 * What the targets that open whole files share: a file that tells whether it was written to and fails when asked, what a
 * check says, and windows through which a disk is looked at.
 */
#ifndef FUZZ_DISK_H
#define FUZZ_DISK_H

#include <vhdx/ops.h>

#include "disk/disk.h"
#include "fuzz.h"
#include "wrapped.h"

/* --- a guarded file --- */

struct fuzz_guard {
    struct vhdx_storage *memory;       /* the file; owned */
    struct vhdx_storage *storage;      /* what the library gets; owned */
    bool                 may_write;    /* MUST hold when it is written to */
    uint64_t             write_count;  /* calls that change something */
    unsigned             fail_in;      /* the n-th call from now on fails, once; 0: none */
    unsigned             dead_in;      /* from the n-th call that changes something on all calls fail; 0: never */
};

/* Takes `memory`; on a file that cannot tell holes nor punch them when `is_plain`. */
void fuzz_guard_init(struct fuzz_guard *guard, struct vhdx_storage *memory, bool is_plain);
void fuzz_guard_destroy(struct fuzz_guard *guard);

/* A chain as one disk, by what users call: flags as of vhdx_disk_open_storage, the files stay the caller's.  With one file of
 * a chain the disk lacks its parent.  NULL when it is refused. */
int fuzz_open_disk(struct vhdx_disk **out, struct vhdx_storage *const *storages, unsigned count, unsigned flags,
                   struct vhdx_error *err);
struct vx_image *fuzz_top_image(struct vhdx_disk *disk);

/* --- checks --- */

struct fuzz_verdict {
    int                       rc;
    struct vhdx_check_summary summary;
    enum vhdx_severity        worst;
    uint8_t                   rules[160]; /* 1: broken */
};

void fuzz_check(struct fuzz_verdict *out, struct vhdx_storage *storage, bool ignore_log);

/* After a session of ours: nothing is broken that was not before, but for what giving space back leaves behind. */
void fuzz_check_is_no_worse(const struct fuzz_verdict *before, struct vhdx_storage *storage);

/* --- windows --- */

#define FUZZ_WINDOW  ((size_t)6144)
#define FUZZ_WINDOWS 4u

struct fuzz_view {
    unsigned count;
    struct {
        uint64_t guest_offset;
        size_t   length;
    } windows[FUZZ_WINDOWS]; /* apart from each other */
    size_t total;            /* bytes of all */
};

/* Where to look at a disk: its ends, and places an input chooses. */
void fuzz_view_init(struct fuzz_view *view, struct fuzz_input *input, uint64_t disk_size, uint32_t block_size);

/* Read all windows, one after the other.  Returns the first failure; what could not be read is 0xEE. */
int fuzz_view_read(const struct fuzz_view *view, struct vhdx_disk *disk, uint8_t bytes[FUZZ_WINDOWS * FUZZ_WINDOW]);

/* Extents around the windows: in order, without gaps. */
void fuzz_view_resolve(const struct fuzz_view *view, struct vhdx_disk *disk);

#endif
