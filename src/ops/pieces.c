/* See pieces.h. */
#include "ops/pieces.h"

#include "base/checked.h"
#include "disk/disk.h"
#include "ops/job.h"
#include "storage/storage.h"

#define GRID   4096u  /* holes of the host are rounded to it: no sector is larger */
#define WINDOW VX_TIB /* a cancelled job ends soon, also on a disk of 64 TiB */

/* How far the beginning of a data extent is a hole of the host's file, or else is none. */
static int
split_at_hole(struct vhdx_disk *disk, const struct vhdx_extent *extent, struct vx_piece *piece,
              struct vhdx_error *err)
{
    const struct vx_layer *layer = &disk->layers[extent->depth];
    struct vhdx_storage   *storage = layer->image != NULL ? vx_image_storage(layer->image) : layer->storage;
    uint64_t               start, end, to;
    int                    rc = vx_storage_next_data(storage, extent->file_offset, &start, &end, err);

    if (rc < 0)
        return rc;
    if (start >= end) /* nothing but a hole up to the file's end */
        start = end = extent->file_offset + extent->length;
    to = vx_round_down(piece->guest_offset + vx_min_u64(start - extent->file_offset, extent->length), GRID);
    if (start >= extent->file_offset + extent->length)
        to = piece->guest_offset + extent->length;
    piece->is_zero = to > piece->guest_offset;
    if (!piece->is_zero)
        to = vx_round_up(piece->guest_offset + (end - extent->file_offset), GRID);
    piece->length = vx_min_u64(to - piece->guest_offset, extent->length);
    return VHDX_OK;
}

/* The piece at the beginning of an extent that is not lacking. */
static int
first_piece(struct vhdx_disk *disk, const struct vhdx_extent *extent, struct vx_piece *piece, struct vhdx_error *err)
{
    uint64_t border = vx_round_down(extent->guest_offset, VX_PIECE_MOST) + VX_PIECE_MOST;
    int      rc = VHDX_OK;

    *piece = (struct vx_piece){ .guest_offset = extent->guest_offset, .length = extent->length, .is_zero = true };
    if ((extent->flags & VHDX_EXTENT_DATA) != 0)
        rc = split_at_hole(disk, extent, piece, err);
    if (rc == VHDX_OK && !piece->is_zero)
        piece->length = vx_min_u64(piece->length, border - piece->guest_offset);
    return rc;
}

int
vx_pieces_each(struct vhdx_disk *disk, const struct vhdx_progress *progress, vx_take_piece take, void *context,
               struct vhdx_error *err)
{
    uint64_t size = vhdx_disk_size(disk), at = 0;
    int      rc = VHDX_OK;

    while (at < size && rc == VHDX_OK) {
        struct vhdx_extent extent;
        struct vx_piece    piece;
        bool               lacks_parent;

        rc = vx_disk_first_extent(disk, 0, at, vx_min_u64(size - at, WINDOW), &extent, &lacks_parent, err);
        if (rc == VHDX_OK && lacks_parent) {
            at += extent.length;
        } else if (rc == VHDX_OK) {
            rc = first_piece(disk, &extent, &piece, err);
            if (rc == VHDX_OK)
                rc = take(context, &piece, err);
            at += piece.length;
        }
        if (rc == VHDX_OK)
            rc = vx_job_report(progress, at, size, err);
    }
    return rc;
}
