/*
 * Inside of the fault disk: shared by fault.c (the storage), fault_disk.c (the disk) and
 * fault_cut.c (what survives).
 *
 *   D1  readable = what the system's cache shows; durable = what the disk holds.
 *   D2  `changes` are the unflushed changes in the order they were made.  A flush applies those it covers to durable.
 *   D3  Without `has_lost`, durable plus all changes is readable.  A failed flush takes sectors out of the changes and
 *       leaves them readable: then the two differ until a power cut.
 *   D4  A change holds the bytes its sectors had after it, so keeping a later change of a sector and losing an earlier
 *       one gives the later bytes.
 */
#ifndef VX_FAULT_DISK_H
#define VX_FAULT_DISK_H

#include <stdatomic.h>

#include "base/lock.h"
#include "storage/fault.h"
#include "storage/fault_tree.h"

enum vx_change_kind { VX_CHANGE_DATA, VX_CHANGE_HOLE, VX_CHANGE_ROOM, VX_CHANGE_SIZE };

/* Shared by the clones of a disk; never changed once it is in a list. */
struct vx_change {
    atomic_uint          references;
    enum vx_change_kind  kind;
    uint64_t             call_number;  /* of the call that made it: calls are kept or lost as a whole, or torn */
    uint64_t             number;       /* of the change: what a flush covers */
    uint64_t             file_offset;  /* DATA: in units of tearing; HOLE, ROOM: in pages */
    uint64_t             length;
    uint64_t             size;         /* SIZE: the new length of the file */
    uint8_t             *lost;         /* DATA: a bit per unit that a failed flush gave up; NULL: none */
    size_t               page_count;
    struct vx_tree_page *pages[];      /* DATA: the pages as they were after the change */
};

struct vx_change *vx_change_new(enum vx_change_kind kind, uint64_t file_offset, uint64_t length, size_t page_count);
struct vx_change *vx_change_hold(struct vx_change *change);
void              vx_change_release(struct vx_change *change);

/* Which units of a change survive. */
struct vx_tear {
    enum { VX_TEAR_NOT, VX_TEAR_COINS, VX_TEAR_PREFIX, VX_TEAR_SUFFIX, VX_TEAR_ALL_BUT_ONE } style;
    uint64_t seed;
};

struct vx_fault {
    struct vx_mutex          lock; /* rank STORAGE: guards all below */
    struct vx_fault_options  options;
    struct vx_tree           readable, durable;
    struct vx_tree           punched; /* a page for each MiB in which a hole was punched: see is_new_space */
    uint64_t                 size, durable_size;
    struct vx_change       **changes;
    size_t                   change_count, change_room;
    uint64_t                 last_change; /* number of the newest change ever made */
    bool                     has_lost;

    uint64_t      call_count;
    vx_fault_hook hook;
    void         *hook_context;

    bool     is_stopped;
    uint64_t stop_in; /* calls until the stop; 0: none armed */

    uint64_t           fail_in; /* calls of a kind in the mask until the failure; 0: none armed */
    uint32_t           fail_mask;
    int                fail_errno;
    uint64_t           fail_seed;
    bool               has_failed;
    enum vx_fault_call failed_call;
};

/* A sequence of numbers from a seed. */
uint64_t vx_fault_next(uint64_t *state);

/* Apply what of a change survives.  False when out of memory. */
bool vx_fault_apply(struct vx_tree *tree, const struct vx_change *change, uint32_t unit, struct vx_tear tear);

/* Make a tree zero from `size` on. */
bool vx_fault_truncate(struct vx_tree *tree, uint64_t size);

/* The changes up to `last` become durable and leave the list (D2). */
bool vx_fault_settle(struct vx_fault *fault, uint64_t last);

/* A failed flush gives up some sectors of the data up to change `last` (D3). */
bool vx_fault_give_up(struct vx_fault *fault, uint64_t last, uint64_t seed);

#endif
