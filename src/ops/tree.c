/*
 * See tree.h.
 *
 *   T1  A parent is, in this order: what the locator leads to with the right GUID; the first other image with that
 *       GUID; what lies where the locator says with another GUID; none.
 *   T2  GUIDs are what files say and files may lie: an image can name itself, or images each other.  One link of each
 *       such loop is left out, that of its first image, and all of the loop are marked.
 */
#include "ops/tree.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* --- by GUID --- */

struct by_guid {
    struct vhdx_guid guid;
    size_t           index;
};

static int
compare_guids(const void *a, const void *b)
{
    const struct by_guid *x = a, *y = b;
    int                   order = memcmp(&x->guid, &y->guid, sizeof x->guid);

    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/* Where the images with this GUID begin in the sorted list, or would. */
static size_t
find_guid(const struct by_guid *list, size_t count, const struct vhdx_guid *guid)
{
    size_t low = 0, high = count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (memcmp(&list[middle].guid, guid, sizeof *guid) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static size_t
list_guids(const struct vhdx_tree *tree, struct by_guid *list)
{
    size_t count = 0;

    for (size_t i = 0; i < tree->count; i++) {
        const struct vhdx_info *info = tree->nodes[i].image.info;

        if (info != NULL && !vhdx_guid_is_zero(&info->data_write_guid))
            list[count++] = (struct by_guid){ info->data_write_guid, i };
    }
    qsort(list, count, sizeof *list, compare_guids);
    return count;
}

static void
mark_twins(struct vhdx_tree *tree, const struct by_guid *list, size_t count)
{
    for (size_t i = 1; i < count; i++) {
        struct vhdx_tree_image *first = &tree->nodes[list[i - 1].index].image;
        struct vhdx_tree_image *second = &tree->nodes[list[i].index].image;

        if (!vhdx_guid_equal(&list[i - 1].guid, &list[i].guid))
            continue;
        if (first->twin == VHDX_TREE_NONE)
            first->twin = list[i].index;
        second->twin = list[i - 1].index;
        first->troubles |= VHDX_TREE_DUPLICATE;
        second->troubles |= VHDX_TREE_DUPLICATE;
    }
}

/* The first image with this GUID; the child itself only when there is no other. */
static size_t
find_by_guid(const struct by_guid *list, size_t count, const struct vhdx_guid *guid, size_t child)
{
    size_t at = find_guid(list, count, guid);

    if (vhdx_guid_is_zero(guid) || at == count || !vhdx_guid_equal(&list[at].guid, guid))
        return VHDX_TREE_NONE;
    if (list[at].index == child && at + 1 < count && vhdx_guid_equal(&list[at + 1].guid, guid))
        at++;
    return list[at].index;
}

/* --- parents --- */

/* T1 */
static void
choose_parent(struct vhdx_tree *tree, size_t child, const struct by_guid *list, size_t count)
{
    struct vx_tree_node    *node = &tree->nodes[child];
    const struct vhdx_info *info = node->image.info;

    if (info == NULL)
        node->image.troubles |= VHDX_TREE_UNREADABLE;
    if (info == NULL || info->type != VHDX_TYPE_DIFFERENCING)
        return;
    node->image.parent = node->led_to;
    if (node->image.parent != VHDX_TREE_NONE)
        return;
    node->image.parent = find_by_guid(list, count, &info->parent_linkage, child);
    if (node->image.parent == VHDX_TREE_NONE)
        node->image.parent = find_by_guid(list, count, &info->parent_linkage2, child);
    if (node->image.parent != VHDX_TREE_NONE) {
        node->image.troubles |= node->was_looked_for ? VHDX_TREE_MOVED : 0;
        return;
    }
    node->image.parent = node->lies_there;
    node->image.troubles |= node->image.parent != VHDX_TREE_NONE ? VHDX_TREE_CHANGED : VHDX_TREE_ORPHAN;
}

/* T2.  `cut` is on a loop, and no image before it is. */
static void
mark_loop(struct vhdx_tree *tree, size_t cut)
{
    size_t at = cut;

    do {
        tree->nodes[at].image.troubles &= ~VHDX_TREE_MOVED; /* an opening passes over what is in the chain */
        tree->nodes[at].image.troubles |= VHDX_TREE_LOOP;
        at = tree->nodes[at].image.parent;
    } while (at != cut);
    tree->nodes[cut].image.parent = VHDX_TREE_NONE;
}

/* T2.  marks[i] is the number of the walk that came through image i first, counted from 1. */
static void
cut_loops(struct vhdx_tree *tree, size_t *marks)
{
    for (size_t i = 0; i < tree->count; i++) {
        size_t at = i, first;

        while (at != VHDX_TREE_NONE && marks[at] == 0) {
            marks[at] = i + 1;
            at = tree->nodes[at].image.parent;
        }
        if (at == VHDX_TREE_NONE || marks[at] != i + 1)
            continue;
        first = at;
        for (size_t other = tree->nodes[at].image.parent; other != at; other = tree->nodes[other].image.parent)
            first = other < first ? other : first;
        mark_loop(tree, first);
    }
}

/* --- order --- */

struct family {
    size_t first_child, next_sibling; /* VHDX_TREE_NONE ends a list */
};

struct sorted_path {
    const char *path;
    size_t      index;
};

static int
compare_paths(const void *a, const void *b)
{
    const struct sorted_path *x = a, *y = b;
    int                       order = strcmp(x->path, y->path);

    return order != 0 ? order : (x->index > y->index) - (x->index < y->index);
}

/* families[count] is the family of the roots. */
static void
gather_families(const struct vhdx_tree *tree, struct family *families, struct sorted_path *paths)
{
    for (size_t i = 0; i <= tree->count; i++)
        families[i] = (struct family){ VHDX_TREE_NONE, VHDX_TREE_NONE };
    for (size_t i = 0; i < tree->count; i++)
        paths[i] = (struct sorted_path){ tree->nodes[i].image.path, i };
    qsort(paths, tree->count, sizeof *paths, compare_paths);
    for (size_t i = tree->count; i-- > 0;) { /* each goes before those that come later */
        size_t child = paths[i].index, parent = tree->nodes[child].image.parent;
        size_t family = parent == VHDX_TREE_NONE ? tree->count : parent;

        families[child].next_sibling = families[family].first_child;
        families[family].first_child = child;
    }
}

/* Old indices in their new order; places[old] is the new index. */
static void
walk_families(const struct vhdx_tree *tree, const struct family *families, size_t *order, size_t *places)
{
    size_t at = families[tree->count].first_child;

    for (size_t count = 0; count < tree->count; count++) {
        order[count] = at;
        places[at] = count;
        if (families[at].first_child != VHDX_TREE_NONE) {
            at = families[at].first_child;
            continue;
        }
        while (at != VHDX_TREE_NONE && families[at].next_sibling == VHDX_TREE_NONE)
            at = tree->nodes[at].image.parent;
        if (at != VHDX_TREE_NONE)
            at = families[at].next_sibling;
    }
}

static size_t
new_place(const size_t *places, size_t index)
{
    return index == VHDX_TREE_NONE ? VHDX_TREE_NONE : places[index];
}

static void
put_into_order(struct vhdx_tree *tree, struct vx_tree_node *ordered, const struct family *families,
               const size_t *order, const size_t *places)
{
    for (size_t i = 0; i < tree->count; i++) {
        struct vhdx_tree_image *image = &ordered[i].image;

        ordered[i] = tree->nodes[order[i]];
        image->parent = new_place(places, image->parent);
        image->twin = new_place(places, image->twin);
        image->is_last = families[order[i]].next_sibling == VHDX_TREE_NONE;
        image->child_count = 0;
        image->depth = 0;
        if (image->parent == VHDX_TREE_NONE)
            continue;
        image->depth = ordered[image->parent].image.depth + 1; /* a parent comes before its children */
        ordered[image->parent].image.child_count++;
    }
    vx_free(tree->nodes);
    tree->nodes = ordered;
    tree->capacity = tree->count;
}

static void
match_parents(struct vhdx_tree *tree, struct by_guid *list, size_t *marks)
{
    size_t guid_count = list_guids(tree, list);

    for (size_t i = 0; i < tree->count; i++) {
        tree->nodes[i].image.troubles = 0;
        tree->nodes[i].image.parent = tree->nodes[i].image.twin = VHDX_TREE_NONE;
    }
    mark_twins(tree, list, guid_count);
    for (size_t i = 0; i < tree->count; i++)
        choose_parent(tree, i, list, guid_count);
    cut_loops(tree, marks);
}

int
vx_tree_match(struct vhdx_tree *tree, struct vhdx_error *err)
{
    size_t               count = tree->count + 1;
    struct by_guid      *list = vx_alloc_zeroed(count, sizeof *list);
    struct sorted_path  *paths = vx_alloc_zeroed(count, sizeof *paths);
    struct family       *families = vx_alloc_zeroed(count, sizeof *families);
    struct vx_tree_node *ordered = vx_alloc_zeroed(count, sizeof *ordered);
    size_t              *marks = vx_alloc_zeroed(count, sizeof *marks);
    size_t              *order = vx_alloc_zeroed(count, sizeof *order);
    int                  rc = VHDX_OK;

    if (list == NULL || paths == NULL || families == NULL || ordered == NULL || marks == NULL || order == NULL) {
        rc = vx_fail_memory(err, "the tree of images");
        vx_free(ordered);
    } else {
        match_parents(tree, list, marks);
        gather_families(tree, families, paths);
        walk_families(tree, families, order, marks);
        put_into_order(tree, ordered, families, order, marks);
    }
    vx_free(list);
    vx_free(paths);
    vx_free(families);
    vx_free(marks);
    vx_free(order);
    return rc;
}
