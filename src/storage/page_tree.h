/*
 * A sparse array of 4 KiB pages, as a tree of tables of 64 places, no higher than its highest page needs.  Pages
 * that were never made take no room; so do tables without pages.  The caller locks.
 */
#ifndef VX_PAGE_TREE_H
#define VX_PAGE_TREE_H

#include <stdbool.h>
#include <stdint.h>

struct vx_page_node;
struct vx_page_tree {
    struct vx_page_node *root;
    unsigned             height; /* levels of tables: pages below 64^height have a place; 0: no page at all */
};

/* The page's 4096 bytes, or NULL where there is none. */
uint8_t *vx_page_find(const struct vx_page_tree *tree, uint64_t page_index);

/* The page, made of zeros if need be; NULL when memory is short.  page_index < 2^52. */
uint8_t *vx_page_make(struct vx_page_tree *tree, uint64_t page_index);

/* The first page at or after page_index.  False when there is none. */
bool vx_page_next(const struct vx_page_tree *tree, uint64_t page_index, uint64_t *found);

/* Free all pages of [first, end). */
void vx_page_free_range(struct vx_page_tree *tree, uint64_t first, uint64_t end);

#endif
