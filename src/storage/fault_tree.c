/*
 * The shared tree of pages under the fault disk.  32 children a node: a file of 128 MiB has three levels.
 */
#include "storage/fault_tree.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define FANOUT     32u
#define FANOUT_LOG 5u
#define MAX_HEIGHT 10u /* 32^10 pages: more than any file length has */

/* `hash` remembers vx_tree_hash of what lies below, 0 when it is not known. */
struct vx_tree_page {
    atomic_uint          references;
    atomic_uint_fast64_t hash;
    uint8_t              bytes[VX_TREE_PAGE];
};

struct node {
    atomic_uint          references;
    atomic_uint_fast64_t hash;
    void                *children[FANOUT]; /* pages when the node's height is 1, else nodes */
};

/* One page of zeros for everybody; its first reference is nobody's, so it is never freed. */
static struct vx_tree_page zero_page = { .references = 1 };

/* --- pages --- */

struct vx_tree_page *
vx_tree_page_new(const uint8_t *bytes)
{
    struct vx_tree_page *page = malloc(sizeof *page);

    if (page == NULL)
        return NULL;
    atomic_init(&page->references, 1);
    atomic_init(&page->hash, 0);
    memcpy(page->bytes, bytes, VX_TREE_PAGE);
    return page;
}

struct vx_tree_page *
vx_tree_page_zero(void)
{
    return vx_tree_page_hold(&zero_page);
}

struct vx_tree_page *
vx_tree_page_hold(struct vx_tree_page *page)
{
    atomic_fetch_add_explicit(&page->references, 1, memory_order_relaxed);
    return page;
}

void
vx_tree_page_release(struct vx_tree_page *page)
{
    if (page != NULL && atomic_fetch_sub_explicit(&page->references, 1, memory_order_acq_rel) == 1)
        free(page);
}

const uint8_t *
vx_tree_page_bytes(const struct vx_tree_page *page)
{
    return page->bytes;
}

bool
vx_tree_page_is_zero(const struct vx_tree_page *page)
{
    return page == &zero_page;
}

/* --- nodes --- */

/* Take or give back a reference on what hangs below a node of this height (a page at height 0). */
static void
hold_child(void *child, unsigned height)
{
    if (child == NULL)
        return;
    if (height == 0)
        vx_tree_page_hold(child);
    else
        atomic_fetch_add_explicit(&((struct node *)child)->references, 1, memory_order_relaxed);
}

static void
release_child(void *child, unsigned height)
{
    struct node *node = child;
    unsigned i;

    if (child == NULL)
        return;
    if (height == 0) {
        vx_tree_page_release(child);
        return;
    }
    if (atomic_fetch_sub_explicit(&node->references, 1, memory_order_acq_rel) != 1)
        return;
    for (i = 0; i < FANOUT; i++)
        release_child(node->children[i], height - 1);
    free(node);
}

static struct node *
new_node(void)
{
    struct node *node = calloc(1, sizeof *node);

    if (node != NULL)
        atomic_init(&node->references, 1);
    return node;
}

/* Make *slot a node that only this tree holds (T1). */
static struct node *
own_node(void **slot, unsigned height)
{
    struct node *old = *slot, *copy;
    unsigned i;

    if (old != NULL && atomic_load_explicit(&old->references, memory_order_acquire) == 1)
        return old;
    copy = new_node();
    if (copy == NULL || old == NULL) {
        if (copy != NULL)
            *slot = copy;
        return copy;
    }
    for (i = 0; i < FANOUT; i++) {
        copy->children[i] = old->children[i];
        hold_child(copy->children[i], height - 1);
    }
    *slot = copy;
    release_child(old, height);
    return copy;
}

static unsigned
child_index(uint64_t page_index, unsigned height)
{
    return (unsigned)(page_index >> ((height - 1) * FANOUT_LOG)) & (FANOUT - 1);
}

/* Pages below one node of this height; height is at most MAX_HEIGHT, so this does not wrap. */
static uint64_t
span_of(unsigned height)
{
    return UINT64_C(1) << (height * FANOUT_LOG);
}

/* --- trees --- */

void
vx_tree_copy(struct vx_tree *out, const struct vx_tree *from)
{
    *out = *from;
    hold_child(out->root, out->height);
}

void
vx_tree_clear(struct vx_tree *tree)
{
    release_child(tree->root, tree->height);
    *tree = (struct vx_tree){ 0 };
}

struct vx_tree_page *
vx_tree_get(const struct vx_tree *tree, uint64_t page_index)
{
    void *at = tree->root;
    unsigned height;

    if (page_index >= span_of(tree->height))
        return NULL;
    for (height = tree->height; at != NULL && height > 0; height--)
        at = ((struct node *)at)->children[child_index(page_index, height)];
    return at;
}

static bool
grow_to_hold(struct vx_tree *tree, uint64_t page_index)
{
    struct node *top;

    while (page_index >= span_of(tree->height)) {
        if (tree->height == MAX_HEIGHT)
            return false;
        if (tree->root != NULL) {
            top = new_node();
            if (top == NULL)
                return false;
            top->children[0] = tree->root;
            tree->root = top;
        }
        tree->height++;
    }
    return true;
}

bool
vx_tree_put(struct vx_tree *tree, uint64_t page_index, struct vx_tree_page *page)
{
    const struct vx_tree_page *old = vx_tree_get(tree, page_index);
    void **slot = &tree->root;
    unsigned height;

    if (old == page)
        return true;
    if (!grow_to_hold(tree, page_index))
        return false;
    for (height = tree->height; height > 0; height--) {
        struct node *node = own_node(slot, height);

        if (node == NULL)
            return false;
        atomic_store_explicit(&node->hash, 0, memory_order_relaxed);
        slot = &node->children[child_index(page_index, height)];
    }
    release_child(*slot, 0);
    *slot = page == NULL ? NULL : vx_tree_page_hold(page);
    tree->page_count += (page != NULL) - (uint64_t)(old != NULL);
    return true;
}

bool
vx_tree_punch(struct vx_tree *tree, uint64_t first, uint64_t end)
{
    uint64_t index;

    for (index = vx_tree_next(tree, first); index < end; index = vx_tree_next(tree, index + 1))
        if (!vx_tree_put(tree, index, NULL))
            return false;
    return true;
}

/* The first present page at or after `wanted` below `child`, whose first page is `base`. */
static uint64_t
next_below(void *child, unsigned height, uint64_t base, uint64_t wanted)
{
    const struct node *node = child;
    unsigned i;

    if (child == NULL)
        return UINT64_MAX;
    if (height == 0)
        return base;
    for (i = wanted > base ? child_index(wanted, height) : 0; i < FANOUT; i++) {
        uint64_t found = next_below(node->children[i], height - 1, base + i * span_of(height - 1), wanted);

        if (found != UINT64_MAX)
            return found;
    }
    return UINT64_MAX;
}

uint64_t
vx_tree_next(const struct vx_tree *tree, uint64_t page_index)
{
    if (page_index >= span_of(tree->height))
        return UINT64_MAX;
    return next_below(tree->root, tree->height, 0, page_index);
}

uint64_t
vx_tree_count(const struct vx_tree *tree, uint64_t first, uint64_t end)
{
    uint64_t count = 0, index;

    for (index = vx_tree_next(tree, first); index < end; index = vx_tree_next(tree, index + 1))
        count++;
    return count;
}

/* --- contents as a number --- */

static uint64_t
mix(uint64_t x)
{
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* 0 for zeros. */
static uint64_t
hash_page(struct vx_tree_page *page)
{
    uint64_t hash = atomic_load_explicit(&page->hash, memory_order_relaxed);
    size_t i;

    if (hash != 0 || page == &zero_page || vx_is_zero(page->bytes, VX_TREE_PAGE))
        return hash;
    for (i = 0; i < VX_TREE_PAGE; i += 8)
        hash = (hash ^ vx_le64(page->bytes + i)) * UINT64_C(0x9e3779b97f4a7c15) + (hash >> 29);
    hash |= 1;
    atomic_store_explicit(&page->hash, hash, memory_order_relaxed);
    return hash;
}

/* A sum over the pages, so that the shape of the tree does not matter. */
static uint64_t
hash_below(void *child, unsigned height, uint64_t base)
{
    struct node *node = child;
    uint64_t hash;
    unsigned i;

    if (child == NULL)
        return 0;
    if (height == 0) {
        hash = hash_page(child);
        return hash == 0 ? 0 : mix(hash + mix(base + 1));
    }
    hash = atomic_load_explicit(&node->hash, memory_order_relaxed);
    if (hash != 0)
        return hash;
    for (i = 0; i < FANOUT; i++)
        hash += hash_below(node->children[i], height - 1, base + i * span_of(height - 1));
    atomic_store_explicit(&node->hash, hash, memory_order_relaxed);
    return hash;
}

uint64_t
vx_tree_hash(const struct vx_tree *tree)
{
    return hash_below(tree->root, tree->height, 0);
}
