/*
 * The space of the file: what is used, what may be given out, and how new it is.
 *
 *   S1  One bit per MiB: set when something refers to it, when it was given out and is not referred to yet, or when it was
 *       freed and waits (R1, R2).
 *   S2  Fresh space (R4) lies at or past `fresh_from`: past every length the file may have had on the disk, and never
 *       given out.  `fresh_from` only rises.  All other free space is used space, for good.
 *   S3  Freed space waits until the commit that gathered the change is durable (R1); a former sector bitmap block waits
 *       until the durable tail has passed that commit's entry (R2).  Punching, cutting and giving out all count as reuse.
 *   S4  `holes` marks free MiBs that were punched by this session and not written since: they read as zeros.
 *   S5  The space of an anchor (states 1 and 3 with an offset) is used space until the next open, also when the anchor is
 *       dropped: nobody proved that it overlaps nothing (V139), so it is never given out on the anchor's word.
 *
 * Guarded by META (exclusive).  Offsets and lengths are bytes, multiples of 1 MiB, unless named otherwise.
 */
#ifndef VX_SPACE_H
#define VX_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/storage.h>

struct vx_run {
    uint64_t file_offset, length;
};

struct vx_runs {
    struct vx_run *runs;
    size_t         count, capacity;
};

/* Former sector bitmap blocks: free once the durable tail is past the entry with this sequence number (0: not gathered
 * yet). */
struct vx_waiting_bitmap {
    uint64_t file_offset;
    uint64_t sequence_number;
};

struct vx_space {
    uint64_t                 *used;       /* a bit per MiB */
    uint64_t                 *holes;
    uint64_t                  mib_count;  /* bits in the maps */
    uint64_t                  used_end;   /* end of the highest used MiB, bytes */
    uint64_t                  fresh_from;
    uint64_t                  file_length;
    uint64_t                  flushed_length; /* seen before a flush that completed */
    uint64_t                  free_below; /* free bytes below fresh_from */
    uint64_t                  search_from; /* where the last search ended */
    uint64_t                  too_small_for; /* no free run below fresh_from has this length; 0: not known */
    struct vx_runs            freed;      /* since the last gather */
    struct vx_waiting_bitmap *bitmaps;    /* waiting under R2 */
    size_t                    bitmap_count, bitmap_capacity;
};

void vx_space_init(struct vx_space *space);
void vx_space_destroy(struct vx_space *space);

/* Mark an extent found in the file.  False when a part of it was marked before (V135, V137); *rc is VHDX_OK, or
 * VHDX_E_NO_MEMORY. */
bool vx_space_mark_found(struct vx_space *space, uint64_t file_offset, uint64_t length, int *rc, struct vhdx_error *err);

/* The map is complete and nothing was allocated yet: fresh space begins at `length`. */
void vx_space_begin(struct vx_space *space, uint64_t length);

struct vx_taken {
    uint64_t file_offset;
    bool     is_fresh; /* R4: reads as zeros, also after a power cut */
    bool     is_hole;  /* used space that reads as zeros now */
};

/* Take `length` bytes, used space first, so that the file stays small. */
int vx_space_take(struct vx_space *space, struct vhdx_storage *storage, uint64_t length, struct vx_taken *out,
                  struct vhdx_error *err);

/* Take this very space, which was free before the session began or became free since.  False when some of it is used, waits, or
 * lies past the file's end. */
bool vx_space_take_at(struct vx_space *space, uint64_t file_offset, uint64_t length, struct vx_taken *out);

/* The first free run at or after `at` that lies before something used: [*from, *to).  False when there is none. */
bool vx_space_next_free(const struct vx_space *space, uint64_t at, uint64_t *from, uint64_t *to);

/* Give back what was taken and never named by any entry: free at once, as used space. */
void vx_space_give_back(struct vx_space *space, uint64_t file_offset, uint64_t length);

/* Make room for `count` more calls of vx_space_free_later, so that they cannot fail. */
int  vx_space_reserve_freed(struct vx_space *space, size_t count, struct vhdx_error *err);
/* Space whose mapping was removed: it waits (R1). */
void vx_space_free_later(struct vx_space *space, uint64_t file_offset, uint64_t length);
/* The same for a sector bitmap block (R2). */
int  vx_space_free_bitmap_later(struct vx_space *space, uint64_t file_offset, struct vhdx_error *err);

/* At gather: the list of freed runs moves to the commit. */
void vx_space_gather_freed(struct vx_space *space, struct vx_runs *out);
/* The commit is durable: the runs are free.  were_punched: they read as zeros. */
void vx_space_release(struct vx_space *space, const struct vx_runs *runs, bool were_punched);
/* Which waiting bitmap block may go now, given the sequence number at the durable tail?  Removes it from the list. */
bool vx_space_next_free_bitmap(struct vx_space *space, uint64_t tail_sequence_number, uint64_t *file_offset);

void vx_runs_destroy(struct vx_runs *runs);

#endif
