/*
 * The bytes of a sparse file as a tree of 4 KiB pages that copies share: taking a copy costs one counter, and a page is
 * copied when somebody writes it.  The crash tests take hundreds of thousands of copies.
 *
 *   T1  A page or node that more than one owner holds is never changed.
 *   T2  A page that is absent reads as zeros and takes no room on the host.
 *
 * The memory comes from malloc and not from base/memory.h: it is the disk's, not the library's, and the tests that let
 * every allocation of the library fail do not mean the disk's.
 */
#ifndef VX_FAULT_TREE_H
#define VX_FAULT_TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define VX_TREE_PAGE 4096u

struct vx_tree_page;

struct vx_tree {
    void    *root; /* a node, or a page when height is 0; NULL: nothing */
    unsigned height;
    uint64_t page_count;
};

/* --- pages --- */

/* A page with these 4096 bytes, one reference, the caller's.  NULL when out of memory. */
struct vx_tree_page *vx_tree_page_new(const uint8_t *bytes);
/* The page of zeros, which takes room on the host; one more reference. */
struct vx_tree_page *vx_tree_page_zero(void);
struct vx_tree_page *vx_tree_page_hold(struct vx_tree_page *page);
void                 vx_tree_page_release(struct vx_tree_page *page); /* NULL is fine */
const uint8_t       *vx_tree_page_bytes(const struct vx_tree_page *page);
bool                 vx_tree_page_is_zero(const struct vx_tree_page *page);

/* --- trees --- */

/* Make *out (not initialised) a copy of `from`. */
void vx_tree_copy(struct vx_tree *out, const struct vx_tree *from);
void vx_tree_clear(struct vx_tree *tree);

/* The page at an index, borrowed, or NULL for a hole. */
struct vx_tree_page *vx_tree_get(const struct vx_tree *tree, uint64_t page_index);

/* Put a page (the tree takes its own reference), or NULL to make a hole.  False when out of memory: nothing changed. */
bool vx_tree_put(struct vx_tree *tree, uint64_t page_index, struct vx_tree_page *page);

/* Make a hole of the pages [first, end).  False when out of memory: part of it may be done. */
bool vx_tree_punch(struct vx_tree *tree, uint64_t first, uint64_t end);

/* The first present page at or after an index, or UINT64_MAX. */
uint64_t vx_tree_next(const struct vx_tree *tree, uint64_t page_index);

/* How many of the pages [first, end) are present. */
uint64_t vx_tree_count(const struct vx_tree *tree, uint64_t first, uint64_t end);

/* A number for the contents: equal for equal bytes, zeros and holes alike. */
uint64_t vx_tree_hash(const struct vx_tree *tree);

#endif
