/*
 * Merging (docs/vhdx-format.md 9.8) over storages that are open already; merge_path.c finds them, their siblings and
 * their children.
 *
 *   G1  G is the target's DataWriteGuid from its first change on.  Before that it is durable in the parent_linkage2 of the
 *       layer above the target: that layer matches the target whichever of the two updates survives a crash.
 *   G2  What is copied into the target lies under what the layers above it hold: read through the image nothing changes, at
 *       no moment.  So a merge can be interrupted anywhere, and called again it begins with the same G and copies again.
 *   G3  Before the target grows, the image itself shows zeros past the target's old end, as the chain did.
 *   G4  Size and IsVirtualDisk items change in one log entry, after all content.
 *   G5  Only when the target is durable and closed does the layer above it get parent_linkage = G, and no second one.
 *       From then on the target holds everything: a further call finds no difference and changes nothing.
 */
#ifndef VX_MERGE_H
#define VX_MERGE_H

#include <vhdx/chain.h>

#include "ops/stack.h"

struct vx_merge {
    struct vhdx_storage *const *storages; /* the image, what lies between, the target last.  The first and the last two
                                           * open for writing.  The caller's */
    unsigned                    count;    /* 2 or more */
    bool                        only_judge; /* the storages need not be open for writing */
    uint32_t                    log_length_for_tests;
    const struct vhdx_progress *progress; /* told of the copying */
};

struct vx_merge_plan {
    bool             is_done;    /* the target holds everything already */
    bool             has_begun;  /* an interrupted merge goes on */
    struct vhdx_guid guid;       /* G; when done, the target's DataWriteGuid */
    struct vhdx_guid child_guid; /* DataWriteGuid of the image: its children ask for it */
    uint64_t         old_size, new_size; /* of the target's disk */
    uint64_t         bytes_to_copy, blocks_to_change;
};

/* Everything that speaks against the merge, and what it would do.  Not one byte is written. */
int vx_merge_judge(const struct vx_merge *merge, struct vx_merge_plan *out, struct vhdx_error *err);

/* Do it.  After an error, a cancel or a crash: judge again and carry out again. */
int vx_merge_carry_out(const struct vx_merge *merge, const struct vx_merge_plan *plan, struct vhdx_chain_result *result,
                       struct vhdx_error *err);

/* --- merge_items.c: what travels besides the content (2.8) --- */

struct vx_metadata_edit;

/* The items of the image's disk replace those of the target's, its size included.  Items' bytes are kept in `out` until
 * vx_merge_items_free. */
struct vx_merge_items {
    struct vx_metadata_edit *edit;  /* of the target; owned */
    uint8_t                 *bytes; /* owned */
};
int  vx_merge_items_plan(struct vx_merge_items *out, struct vx_image *from, struct vx_image *target,
                         size_t page_limit, struct vhdx_error *err);
void vx_merge_items_free(struct vx_merge_items *items);

#endif
