/*
 * Which image is the parent of which (vhdx_tree_read): tree_read.c finds the images, tree.c matches them and puts them
 * into order, from what was found alone.
 */
#ifndef VX_TREE_H
#define VX_TREE_H

#include <vhdx/chain.h>

struct vx_tree_node {
    struct vhdx_tree_image       image; /* points to the three below */
    char                        *path;  /* owned, as these are */
    struct vhdx_info            *info;
    struct vhdx_error           *error;
    struct vhdx_storage_identity identity;
    bool                         was_looked_for; /* its parent, by the paths of its locator; what was found: */
    size_t                       led_to;         /* an image with the right GUID, or VHDX_TREE_NONE */
    size_t                       lies_there;     /* an image with another GUID, or VHDX_TREE_NONE */
};

struct vhdx_tree {
    struct vx_tree_node *nodes; /* owned */
    size_t               count, capacity;
    bool                 was_cut;
};

/*
 * Fill `troubles`, `parent`, `twin`, `child_count`, `depth` and `is_last` of every image and put the images into the
 * order of vhdx_tree_get.  The images may come in any order; whatever their GUIDs say, the result is a forest.
 */
int vx_tree_match(struct vhdx_tree *tree, struct vhdx_error *err);

#endif
