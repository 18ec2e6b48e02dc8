/* Jobs about the space an image takes: giving back what is not needed. */
#ifndef VHDX_SPACE_H
#define VHDX_SPACE_H

#include <vhdx/chain.h>
#include <vhdx/fs.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Who knows what is free in a disk.
 *
 *   find      hand each free range of the disk to `take`, in any order.  The disk is open for reading, with its parents, and
 *             nothing is written before find has returned 0; a code ends the job with nothing changed
 *   context   handed to find
 */
struct vhdx_free_ranges {
    int (*find)(void *context, struct vhdx_disk *disk, vhdx_free_range take, void *take_context,
                struct vhdx_error *err);
    void *context;
};

/*
 * What the file systems in a disk call free (vhdx/fs.h), as a vhdx_free_ranges: its find is vhdx_find_free_ranges, its context
 * one of these.  A volume or table that is refused ends the search with VHDX_E_BAD_VOLUME, before the first range.
 *
 *   layout    readers beside the library's own; NULL: none
 *   judge     sees what lies in the disk before any of that; a code ends the search with it.  NULL: nobody asks
 *   context   handed to judge
 */
struct vhdx_free_search {
    const struct vhdx_layout_options *layout;
    int (*judge)(void *context, const struct vhdx_layout *layout, struct vhdx_error *err);
    void *context;
};
int vhdx_find_free_ranges(void *search, struct vhdx_disk *disk, vhdx_free_range take, void *take_context,
                          struct vhdx_error *err);

struct vhdx_compact_options {
    const struct vhdx_free_ranges     *free_ranges; /* NULL: nobody knows what is free in the disk */
    const struct vhdx_parents_options *parents;     /* how find reads through a differencing image; NULL: it cannot */
    bool                               zeroes;      /* read everything: what is zero needs no space */
    bool                               sparse;      /* make holes also in the file of a fixed image, and where a hole
                                                           sets NTFS's sparse flag (VHDX_STORAGE_MAKE_HOLES) */
    bool                               free_only;   /* step (a) alone: what free_ranges tells is given up, nothing moves */
    bool                               dry_run;     /* only tell what would be gained: nothing is written */
    const char *const                 *also;        /* more folders to search for children, with free_ranges */
    size_t                             also_count;
    bool                               orphan_children; /* go on although children of the image break, with free_ranges */
};

struct vhdx_compact_result {
    uint64_t file_size_before, file_size_after; /* lengths of the file */
    uint64_t bytes_released;    /* the host's own space that was given back: holes, and data of blocks that went */
    uint64_t blocks_freed;      /* payload blocks that gave up their space */
    uint64_t blocks_moved, bytes_moved;
    uint64_t guest_bytes_free;  /* what free_ranges told */
    bool     is_fixed;          /* of type fixed: its blocks keep their places, and without `sparse` their space */
    bool     is_dirty;          /* the image was not closed cleanly; its log is replayed first, unless dry_run */
};

/*
 * Make an image's file smaller, in place (docs/vhdx-format.md 9.6), in steps that each may be cut and run again:
 *
 *   (a) with free_ranges: blocks that are free as a whole become state ZERO and give up their space, of partly free ones what
 *       is free becomes holes in the host's file.  This a guest could notice: DataWriteGuid changes, which breaks children
 *   (b) with zeroes: the same for what is zero, which no guest can notice.  Always: sector bitmaps nobody needs go, and
 *       the space that states 1 and 3 may keep (anchors)
 *   (c) the last blocks of the file move to free space further ahead
 *   (d) the file is cut after the last thing in use; free space that is left becomes holes
 *
 * Steps (b) to (d) keep DataWriteGuid: children of the image stay valid.  A fixed image keeps its blocks where they are.
 * The cost of (c) grows with what moves.  Nobody may have the image open, for reading neither.
 *
 *   options, say, progress   each may be NULL.  progress is told bytes of the disk during (a) and (b), then bytes moved
 *   out       what was done, or with dry_run would be; filled as far as it got also on failure.  May be NULL
 *   returns   0; VHDX_E_CANCELLED at a consistent point: what was done so far is durable, calling again goes on
 *   errors    VHDX_E_IN_USE, _HAS_CHILDREN (with free_ranges), _NEEDS_REPAIR, _NO_SPACE, _UNSUPPORTED, _IO, ...
 *   threads   any number, for different files
 */
int vhdx_compact_path(const char *path, const struct vhdx_compact_options *options, vhdx_say say, void *context,
                      const struct vhdx_progress *progress, struct vhdx_compact_result *out, struct vhdx_error *err);

struct vhdx_resize_options {
    const struct vhdx_parents_options *parents; /* how the parent of a differencing image is found; NULL: it is not */
    const char *const                 *also;    /* more folders to search for children */
    size_t                             also_count;
    bool                               dry_run; /* only judge: nothing is written */
};

struct vhdx_resize_result {
    uint64_t old_size, new_size; /* of the disk; after a failure new_size is what it has now */
    uint64_t file_size_before, file_size_after;
    bool     table_moved;        /* the block allocation table moved to where a larger one has room; or with dry_run would */
    bool     is_dirty;           /* the image was not closed cleanly; its log is replayed first, unless dry_run */
};

/*
 * Make the disk in an image larger or smaller (docs/vhdx-format.md 9.4, 9.5), whatever its type.  One entry of the log
 * makes the change: after a crash the disk has one size or the other, and below the smaller of both nothing has changed.
 *
 *   new_size  bytes, a multiple of the logical sector size, at most 64 TiB.  Equal to the size it has: only the end of the
 *             file is cut where an interrupted call left it
 *   growing   the new part reads as zeros, also where a parent is longer than the disk was.  Of a fixed image its space is taken.
 *             A parent that is not found may be longer: then the new part is marked as zeros as a whole
 *   shrinking what lies past the new end is gone, without a question: who calls knows that nobody needs it.  Its space is given
 *             back; blocks are not moved (vhdx_compact_path)
 *
 * DataWriteGuid changes, so an image that is the parent of others is refused.  Nobody may have the image open, for reading
 * neither.
 *
 *   options, say, progress   each may be NULL.  progress is told bytes of space taken for a fixed image
 *   out       may be NULL
 *   errors    do not name the file.  VHDX_E_INVALID (the size), _IN_USE, _HAS_CHILDREN, _NEEDS_REPAIR, _NO_SPACE, _CANCELLED, _IO, ...
 *   threads   any number, for different files
 */
int vhdx_resize_path(const char *path, uint64_t new_size, const struct vhdx_resize_options *options, vhdx_say say,
                     void *context, const struct vhdx_progress *progress, struct vhdx_resize_result *out,
                     struct vhdx_error *err);

/*
 * Change the type of an image, in place (docs/vhdx-format.md 9.7).  What a guest reads, DataWriteGuid and so the image's
 * children stay as they are; whoever is interrupted calls again, and the image is of the old type until all is done.
 *
 *   type           VHDX_TYPE_DYNAMIC: the space stays until the image is compacted
 *                  VHDX_TYPE_FIXED: every block gets space in the file, and the host's
 *                  An image with a parent is flattened first (vhdx_flatten_path)
 *   preallocation  to FIXED: how the host's space is taken; DEFAULT is FALLOC.  FULL writes zeros to blocks that get
 *                  space and is FALLOC for the holes of others.  To DYNAMIC: not looked at
 *   options        parents and dry_run; may be NULL
 *   out            bytes_copied from parents; blocks_changed: blocks that got space, or of a flatten alone what it says
 *   errors         VHDX_E_INVALID, _IN_USE, _NEEDS_REPAIR, _NO_SPACE, _NO_PARENT, _CANCELLED, _IO, ...
 */
int vhdx_retype_path(const char *path, enum vhdx_image_type type, enum vhdx_preallocation preallocation,
                     const struct vhdx_chain_options *options, vhdx_say say, void *context,
                     const struct vhdx_progress *progress, struct vhdx_chain_result *out, struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
