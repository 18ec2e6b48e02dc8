/*
 * Undo: a storage over another one that saves, in a file of its own, every byte that is about to be overwritten or cut, so
 * that all of it can be taken back.
 *
 *   N1  What is overwritten is durable in the undo file before it changes below.
 *   N2  Every byte is saved once, as it was when the undo began; so records can be put back in any order, and again.
 *   N3  An undo file belongs to one file: it knows the tags (some bytes at fixed places) that file had and has been given.
 *   N4  Nothing is put back before the whole undo file has been read and found sound.
 */
#ifndef VX_UNDO_H
#define VX_UNDO_H

#include <vhdx/storage.h>

#define VX_UNDO_TAG_SIZE  16u
#define VX_UNDO_TAG_COUNT 2u

/* Where a file of this kind carries what tells it from others and changes whenever it is written. */
struct vx_undo_tags {
    uint64_t file_offsets[VX_UNDO_TAG_COUNT];
};

/* Begin.  `file` is an empty storage; neither is owned.  Not for several threads. */
int vx_undo_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_storage *file,
                const struct vx_undo_tags *tags, struct vhdx_error *err);

/* All was written: from now on an undo file that was cut is known for it. */
int vx_undo_finish(struct vhdx_storage *undo, struct vhdx_error *err);

/* Put everything back.  VHDX_E_INVALID when `file` is no sound undo file, or not of this one as it is now. */
int vx_undo_apply(struct vhdx_storage *file, struct vhdx_storage *base, const struct vx_undo_tags *tags,
                  struct vhdx_error *err);

#endif
