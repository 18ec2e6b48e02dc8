/*
 * Changing the items of a metadata region (docs/vhdx-format.md 2.8, 9.9): first everything is computed in memory, then
 * it is done in one log entry.
 *
 *   E1  Nothing is changed before vx_metadata_edit_commit, and that changes all or nothing (L6).
 *   E2  An item that fits its old place stays there; another one goes to the first gap of the region that holds it.
 *   E3  With vx_metadata_edit_allow_move: where there is no gap, or more pages change than one entry carries (L14), a new
 *       region is written as a whole to space that nothing names, and the entry of E1 names it in both region tables (9.10).
 *       The session is closed then: an open image believes its region where it was.
 */
#ifndef VX_METADATA_EDIT_H
#define VX_METADATA_EDIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/metadata.h"
#include "image/image.h"

/* --- the computing; no I/O --- */

/* The first place of at least `length` bytes that no entry but number `except` (UINT32_MAX: none) uses; 0: none. */
uint32_t vx_metadata_find_gap(const struct vx_metadata_table *table, uint32_t region_length, uint32_t length,
                              uint32_t except);

/* Entry of an item by id and kind, or UINT32_MAX. */
uint32_t vx_metadata_index_of(const struct vx_metadata_table *table, const struct vhdx_guid *item_id, bool is_user);

/* Take an entry out and close the gap, the others keep their order. */
void vx_metadata_remove_entry(struct vx_metadata_table *table, uint32_t index);

/* --- the edit of one image --- */

/* A page of the region as it will be. */
struct vx_metadata_page {
    uint64_t file_offset;
    uint8_t  bytes[VX_PAGE];
};

struct vx_metadata_edit {
    struct vx_image         *image;
    struct vx_region         region;
    struct vx_metadata_table table;      /* as it will be */
    uint8_t                  old_table[VX_METADATA_TABLE_SIZE];
    uint8_t                  new_table[VX_METADATA_TABLE_SIZE];
    struct vx_edit          *edits;      /* owned: of items; the bytes are the caller's until commit */
    size_t                   edit_count, edit_capacity;
    struct vx_metadata_page *pages;      /* owned: those that change, after vx_metadata_edit_prepare */
    size_t                   page_count, page_capacity;
    bool                     may_move;   /* E3 */
    size_t                   page_limit; /* with may_move: what one entry carries */
    uint32_t                 new_length; /* of the region; more than it has when it grows */
};

/* Read the table as it is now.  Free with vx_metadata_edit_free, which takes NULL. */
int  vx_metadata_edit_new(struct vx_metadata_edit **out, struct vx_image *image, struct vhdx_error *err);
void vx_metadata_edit_free(struct vx_metadata_edit *edit);

/* E3.  `page_limit` is vx_link_page_limit of the image. */
void vx_metadata_edit_allow_move(struct vx_metadata_edit *edit, size_t page_limit);
/* After prepare: does the region move? */
bool vx_metadata_edit_moves(const struct vx_metadata_edit *edit);

/* Give an item new bytes, or make it.  `flags` are VX_ITEM_*; `bytes` are borrowed until the commit.
 * VHDX_E_LIMIT when the region or the table has no room. */
int vx_metadata_edit_set(struct vx_metadata_edit *edit, const struct vhdx_guid *item_id, uint32_t flags,
                         const uint8_t *bytes, uint32_t length, struct vhdx_error *err);

/* An item that is not there is gone already. */
void vx_metadata_edit_remove(struct vx_metadata_edit *edit, const struct vhdx_guid *item_id, bool is_user);

/* Compute the pages that change; none: the image holds all of it already.  VHDX_E_LIMIT when one entry of the log cannot
 * carry them. */
int vx_metadata_edit_prepare(struct vx_metadata_edit *edit, size_t page_limit, struct vhdx_error *err);

/* Do it, in one log entry, durable after the next flush. */
int vx_metadata_edit_commit(struct vx_metadata_edit *edit, struct vhdx_error *err);

#endif
