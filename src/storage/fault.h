/*
 * Fault: a file in memory that can lose power, be killed, fail and run out of space, as docs/durability.md section 2
 * asks.  It keeps apart what is *durable* (survives a power cut) and what is *readable* (the system's cache shows it), and
 * a list of the changes between.
 *
 * The unit of tearing is a sector of 512 or 4096 bytes.  After a power cut each sector independently holds its last
 * durable value or any later unflushed one; the length likewise; what lies past it is gone.  A cut of the file writes
 * zeros past the new end, a punch writes zeros, sector by sector, unflushed both.  A flush covers the calls that had
 * returned before it was called, and no other.
 *
 * Threads: the storages and the hook may be used by any number of threads; everything else is for one thread while no
 * storage call runs, but for vx_fault_clone, vx_fault_stop_at_call and the questions, which are for any.
 */
#ifndef VX_FAULT_H
#define VX_FAULT_H

#include <vhdx/storage.h>

struct vx_fault; /* the disk under the storage: it outlives the storages opened on it */

struct vx_fault_options {
    uint32_t tear_unit; /* 512 or 4096 */
    uint64_t capacity;  /* bytes the host can hold (allocated 4 KiB pages); 0: no limit.  Past it: ENOSPC */
    bool     can_punch;
    bool     extension_survives_as_zeros; /* false: after a power cut, new space whose write was lost may hold garbage */
};

int  vx_fault_new(struct vx_fault **out, const struct vx_fault_options *options, struct vhdx_error *err);
void vx_fault_free(struct vx_fault *fault);

/* Open the file as a storage (any number one after the other: a reopen in the same boot). */
int vx_fault_open(struct vhdx_storage **out, struct vx_fault *fault, bool is_read_only, struct vhdx_error *err);

/* Copy, for trying several crashes from one state.  Cheap: the bytes are shared until written.  The copy has no hook, no
 * stop, no failure, and counts from 0. */
int vx_fault_clone(struct vx_fault **out, const struct vx_fault *fault, struct vhdx_error *err);

/* How many modifying calls (write, set_size, zero, allocate, flush) have been made, failed ones included. */
uint64_t vx_fault_call_count(const struct vx_fault *fault);

enum vx_fault_call {
    VX_CALL_READ, VX_CALL_WRITE, VX_CALL_FLUSH, VX_CALL_SET_SIZE, VX_CALL_ZERO, VX_CALL_ALLOCATE, VX_CALL_GET_SIZE,
    VX_CALL_NEXT_DATA
};

/* A modifying call, for the hook. */
struct vx_fault_event {
    enum vx_fault_call kind;
    uint64_t           call_number; /* as vx_fault_call_count counts */
    uint64_t           file_offset, length;
    bool               is_done;     /* the hook is called before and after */
};
/* Called before and after each modifying call, outside of any lock of the storage's; from there clones may be taken and
 * crashes tried.  NULL: none. */
typedef void (*vx_fault_hook)(void *context, struct vx_fault *fault, const struct vx_fault_event *event);
void vx_fault_set_hook(struct vx_fault *fault, vx_fault_hook hook, void *context);

/* --- ways to stop --- */

/* From the n-th call on (1 = the next; counting all methods, reads included) every call fails with EIO and nothing
 * reaches the file: the process is as good as dead.  0: off. */
void vx_fault_stop_at_call(struct vx_fault *fault, uint64_t n);

/* How the unflushed writes are kept by a power cut, chosen per write call. */
enum vx_fault_keep {
    VX_KEEP_NONE, VX_KEEP_ALL, VX_KEEP_PREFIX, VX_KEEP_ALL_BUT_ONE, VX_KEEP_ONLY_ONE, VX_KEEP_RANDOM, VX_KEEP_COUNT
};
/* Cut the power: from now on readable = durable = what survived.  `seed` decides which writes, which are torn (when
 * may_tear) and what the length becomes; the same seed on the same state gives the same file.  With NONE and ALL the
 * length goes with the writes half of the time, else it is one of its values since the last flush.
 *   returns  0, or VHDX_E_NO_MEMORY with the disk in no state to go on from */
int vx_fault_power_cut(struct vx_fault *fault, enum vx_fault_keep keep, bool may_tear, uint64_t seed);

/* Kill: all writes stay readable, none becomes durable by it.  (Only ends vx_fault_stop_at_call; pending writes stay
 * pending.) */
void vx_fault_kill(struct vx_fault *fault);

/* The system forgets the pages of the file that it holds for clean: what a failed flush left readable but not durable
 * reads as it is stored from now on.  Returns 0 or VHDX_E_NO_MEMORY. */
int vx_fault_drop_cache(struct vx_fault *fault);

/* --- failures --- */

/* The n-th call from now on (1 = the next; all methods, reads included, or only those in kind_mask: 1 << enum
 * vx_fault_call) fails once with this errno (EIO, ENOSPC, EINTR is the posix storage's affair).  A failed write may have
 * written any part of its sectors (seeded); a failed flush makes any subset of the data durable while the rest stays
 * readable and is never written any more by a later flush (lengths and holes stay pending).  n = 0: none. */
void vx_fault_fail_nth(struct vx_fault *fault, uint64_t n, uint32_t kind_mask, int system_errno, uint64_t seed);

/* Did the armed failure happen?  Then `*what` is the call it hit (may be NULL). */
bool vx_fault_has_failed(const struct vx_fault *fault, enum vx_fault_call *what);

/* Change the host's room: below what is used now, every growth fails. */
void vx_fault_set_capacity(struct vx_fault *fault, uint64_t capacity);

/* Number of changes (writes, holes, lengths) not yet covered by a flush. */
uint64_t vx_fault_unflushed_count(const struct vx_fault *fault);

/* Bytes of the host's room in use, as vx_fault_options.capacity counts them. */
uint64_t vx_fault_allocated(const struct vx_fault *fault);

/* A number for the readable bytes and the length: equal for equal files.  Cheap: what is shared is computed once. */
uint64_t vx_fault_hash(const struct vx_fault *fault);

/* Change the contents, for tests that damage a file by hand.  Durable at once. */
int vx_fault_poke(struct vx_fault *fault, uint64_t file_offset, const void *bytes, size_t length);

#endif
