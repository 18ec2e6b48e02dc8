/*
 * The tree of pages.  A table counts its places in use and goes when the last of them does, so the memory follows
 * the pages.  The functions that call themselves go down one level each time, and there are at most nine.
 */
#include "base/checked.h"
#include "base/memory.h"
#include "storage/page_tree.h"

#define PLACE_BITS  6u
#define PLACE_COUNT (1u << PLACE_BITS)

struct vx_page_node {
    void    *place[PLACE_COUNT]; /* tables, or pages in the lowest tables */
    unsigned used;
};

/* The number of pages below one place of a table `level` levels above the lowest. */
static uint64_t
pages_per_place(unsigned level)
{
    return UINT64_C(1) << (PLACE_BITS * level);
}

static uint64_t
pages_below(const struct vx_page_tree *tree)
{
    return tree->height > 0 ? UINT64_C(1) << (PLACE_BITS * tree->height) : 0;
}

static unsigned
place_of(uint64_t page_index, unsigned level)
{
    return (unsigned)(page_index >> (PLACE_BITS * level)) & (PLACE_COUNT - 1);
}

uint8_t *
vx_page_find(const struct vx_page_tree *tree, uint64_t page_index)
{
    const struct vx_page_node *node = tree->root;
    unsigned level = tree->height;

    if (page_index >= pages_below(tree))
        return NULL;
    while (--level > 0) {
        node = node->place[place_of(page_index, level)];
        if (!node)
            return NULL;
    }
    return node->place[place_of(page_index, 0)];
}

/* Until page_index has a place: the old root becomes the first place of a new one. */
static bool
grow(struct vx_page_tree *tree, uint64_t page_index)
{
    while (page_index >= pages_below(tree)) {
        struct vx_page_node *root = vx_alloc_zeroed(1, sizeof *root);

        if (!root)
            return false;
        root->place[0] = tree->root;
        root->used = tree->root ? 1 : 0;
        tree->root = root;
        tree->height++;
    }
    return true;
}

uint8_t *
vx_page_make(struct vx_page_tree *tree, uint64_t page_index)
{
    struct vx_page_node *node;

    if (!grow(tree, page_index))
        return NULL;
    node = tree->root;
    for (unsigned level = tree->height; level-- > 0;) {
        void **place = &node->place[place_of(page_index, level)];

        if (!*place) {
            *place = vx_alloc_zeroed(1, level > 0 ? sizeof *node : VX_PAGE);
            if (!*place)
                return NULL; /* empty tables above may stay: they are found and used or freed later */
            node->used++;
        }
        if (level == 0)
            return *place;
        node = *place;
    }
    return NULL;
}

static bool
next_below(const struct vx_page_node *node, unsigned level, uint64_t base, uint64_t from, uint64_t *found)
{
    unsigned place = from > base ? (unsigned)((from - base) / pages_per_place(level)) : 0;

    for (; place < PLACE_COUNT; place++) {
        const uint64_t first = base + place * pages_per_place(level);

        if (!node->place[place])
            continue;
        if (level == 0) {
            *found = first;
            return true;
        }
        if (next_below(node->place[place], level - 1, first, from, found))
            return true;
    }
    return false;
}

bool
vx_page_next(const struct vx_page_tree *tree, uint64_t page_index, uint64_t *found)
{
    return page_index < pages_below(tree) && next_below(tree->root, tree->height - 1, 0, page_index, found);
}

/* Returns true when the table is empty, and freed. */
static bool
free_below(struct vx_page_node *node, unsigned level, uint64_t base, uint64_t first, uint64_t end)
{
    unsigned place = first > base ? (unsigned)((first - base) / pages_per_place(level)) : 0;

    for (; place < PLACE_COUNT; place++) {
        const uint64_t place_first = base + place * pages_per_place(level);

        if (place_first >= end)
            break;
        if (!node->place[place])
            continue;
        if (level == 0)
            vx_free(node->place[place]);
        else if (!free_below(node->place[place], level - 1, place_first, first, end))
            continue;
        node->place[place] = NULL;
        node->used--;
    }
    if (node->used > 0)
        return false;
    vx_free(node);
    return true;
}

void
vx_page_free_range(struct vx_page_tree *tree, uint64_t first, uint64_t end)
{
    if (first >= end || first >= pages_below(tree))
        return;
    if (free_below(tree->root, tree->height - 1, 0, first, end)) {
        tree->root = NULL;
        tree->height = 0;
    }
}
