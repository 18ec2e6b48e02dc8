/*
 * What a disk holds, piece by piece, in order: data to be read, and zeros.  Holes of the host's file are zeros; what only a
 * parent that is not open could tell is left out.
 */
#ifndef VX_PIECES_H
#define VX_PIECES_H

#include <vhdx/ops.h>

#define VX_PIECE_MOST ((uint64_t)4 << 20) /* bytes of a piece of data; it ends at a multiple of this */

struct vx_piece {
    uint64_t guest_offset, length;
    bool     is_zero;
};
typedef int (*vx_take_piece)(void *context, const struct vx_piece *piece, struct vhdx_error *err);

/* Hand over each piece.  Borders lie on whole sectors, also where the host's holes do not.  Ends with the first error of
 * `take`, and with VHDX_E_CANCELLED when progress says so. */
int vx_pieces_each(struct vhdx_disk *disk, const struct vhdx_progress *progress, vx_take_piece take, void *context,
                   struct vhdx_error *err);

#endif
