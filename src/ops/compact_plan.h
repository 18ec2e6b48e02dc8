/*
 * Which blocks of a file move where, so that its end can be cut (docs/vhdx-format.md 9.6, step 4).  Pure: a map of MiBs and a
 * list; nothing is read or written.
 *
 *   J1  Payload blocks go first, from the end of the file on, each to the first free run that holds it; then sector bitmap blocks
 *       fill what gaps there are.  A move ends before the place it begins from, and the places the moves leave are not given to
 *       others: the order of the moves does not matter, and each one alone is right.
 *   J2  Nothing moves in vain: the first block from the end that finds no place ends the matter for all that lie before it.
 *   J3  Header section, log and regions stay where they are; what lies before the last of them stays, too.
 *
 * Memory: a bit for each MiB of the file, and 32 bytes for each block that may move.
 */
#ifndef VX_COMPACT_PLAN_H
#define VX_COMPACT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>

struct vx_planned_move {
    uint64_t from, to; /* file offsets */
    uint64_t index;    /* of the block, or of the chunk */
    bool     is_bitmap;
};

struct vx_compact_plan {
    uint32_t                block_size;
    uint64_t               *used;     /* a bit for each MiB; owned */
    uint64_t                mib_count;
    uint64_t                used_mibs;
    uint64_t                fixed_end;
    struct vx_planned_move *moves;    /* candidates at first; owned */
    size_t                  count, capacity;
    uint64_t                bytes;    /* to be moved */
    uint64_t                end;      /* of the file when all is done */
};

void vx_plan_init(struct vx_compact_plan *plan, uint32_t block_size);
void vx_plan_destroy(struct vx_compact_plan *plan);

/* First everything in use is marked ... */
int vx_plan_mark(struct vx_compact_plan *plan, uint64_t file_offset, uint64_t length, struct vhdx_error *err);
int vx_plan_mark_fixed(struct vx_compact_plan *plan, uint64_t file_offset, uint64_t length, struct vhdx_error *err);
bool vx_plan_is_marked(const struct vx_compact_plan *plan, uint64_t file_offset);

/* ... then the blocks are offered that lie past where the file could end at best ... */
uint64_t vx_plan_floor(const struct vx_compact_plan *plan);
int vx_plan_offer(struct vx_compact_plan *plan, bool is_bitmap, uint64_t index, uint64_t file_offset,
                  struct vhdx_error *err);

/* ... then places are found. */
void vx_plan_solve(struct vx_compact_plan *plan);

/* Or they are found round by round, each from where the last one left things, until nothing moves: `bytes` and `end` are those
 * of all rounds, `moves` says nothing.  Returns how many blocks move. */
size_t vx_plan_count_rounds(struct vx_compact_plan *plan);

#endif
