/* Trees of images: who is whose parent, whatever files say; and from real folders. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "ops/tree.h"

#define NONE VHDX_TREE_NONE
static struct vhdx_error err;

/* --- matching --- */

/* An image in short: its GUID, the GUID of its parent (0: it stands alone), where the locator leads (index + 1). */
struct sketch {
    const char *path;
    uint8_t     guid, linkage, linkage2;
    bool        was_looked_for;
    size_t      led_to, lies_there;
};

struct expected {
    const char *path, *parent, *twin; /* by path; NULL: none */
    unsigned    depth, troubles;
    bool        is_last;
};

static struct vhdx_tree
tree_of(const struct sketch *sketches, struct vhdx_info *infos, size_t count)
{
    struct vhdx_tree tree = { .nodes = vx_alloc_zeroed(count, sizeof *tree.nodes), .count = count };

    assert_non_null(tree.nodes);
    memset(infos, 0, count * sizeof *infos);
    for (size_t i = 0; i < count; i++) {
        const struct sketch *s = &sketches[i];

        infos[i].type = s->linkage != 0 ? VHDX_TYPE_DIFFERENCING : VHDX_TYPE_DYNAMIC;
        infos[i].data_write_guid.bytes[3] = s->guid;
        infos[i].parent_linkage.bytes[3] = s->linkage;
        infos[i].parent_linkage2.bytes[3] = s->linkage2;
        tree.nodes[i] = (struct vx_tree_node){
            .image = { .path = s->path, .info = s->guid != 0 ? &infos[i] : NULL },
            .was_looked_for = s->was_looked_for,
            .led_to = s->led_to != 0 ? s->led_to - 1 : NONE,
            .lies_there = s->lies_there != 0 ? s->lies_there - 1 : NONE,
        };
    }
    return tree;
}

static const char *
path_at(const struct vhdx_tree *tree, size_t index)
{
    return index == NONE ? "" : vhdx_tree_get(tree, index)->path;
}

static void
assert_tree(const struct sketch *sketches, const struct expected *expected, size_t count)
{
    struct vhdx_info infos[8];
    struct vhdx_tree tree = tree_of(sketches, infos, count);

    assert_true(count <= 8);
    assert_int_equal(vx_tree_match(&tree, &err), VHDX_OK);
    for (size_t i = 0; i < count; i++) {
        const struct vhdx_tree_image *image = vhdx_tree_get(&tree, i);
        const struct expected        *e = &expected[i];

        if (strcmp(image->path, e->path) != 0 || image->depth != e->depth || image->troubles != e->troubles ||
            image->is_last != e->is_last ||
            strcmp(path_at(&tree, image->parent), e->parent ? e->parent : "") != 0 ||
            strcmp(path_at(&tree, image->twin), e->twin ? e->twin : "") != 0)
            fail_msg("place %zu: %s below '%s', twin '%s', depth %u, troubles %u, last %d", i, image->path,
                     path_at(&tree, image->parent), path_at(&tree, image->twin), image->depth, image->troubles,
                     image->is_last);
    }
    assert_null(vhdx_tree_get(&tree, count));
    vx_free(tree.nodes);
}

static void
forest(void **state)
{
    static const struct sketch images[] = {
        { "z", 1, 0, 0, false, 0, 0 }, { "c", 4, 3, 0, false, 0, 0 }, { "b", 3, 1, 0, false, 0, 0 },
        { "a", 2, 1, 0, false, 0, 0 }, { "y", 7, 9, 2, false, 0, 0 }, { "k", 6, 0, 0, false, 0, 0 },
        { "broken", 0, 0, 0, false, 0, 0 },
    };
    static const struct expected there[] = {
        { "broken", NULL, NULL, 0, VHDX_TREE_UNREADABLE, false }, { "k", NULL, NULL, 0, 0, false },
        { "z", NULL, NULL, 0, 0, true }, { "a", "z", NULL, 1, 0, false }, { "y", "a", NULL, 2, 0, true },
        { "b", "z", NULL, 1, 0, true }, { "c", "b", NULL, 2, 0, true },
    };

    (void)state;
    assert_tree(images, there, 7);
}

/* T1: the locator before the first with the GUID, that before what merely lies there. */
static void
choices(void **state)
{
    static const struct sketch images[] = {
        { "base", 1, 0, 0, false, 0, 0 },  { "copy", 1, 0, 0, false, 0, 0 },  { "by place", 2, 1, 0, true, 2, 0 },
        { "moved", 3, 1, 0, true, 0, 2 },  { "stale", 4, 8, 0, true, 0, 1 },  { "lost", 5, 9, 0, true, 0, 0 },
        { "unsought", 6, 1, 0, false, 0, 0 },
    };
    static const struct expected there[] = {
        { "base", NULL, "copy", 0, VHDX_TREE_DUPLICATE, false },
        { "moved", "base", NULL, 1, VHDX_TREE_MOVED, false },
        { "stale", "base", NULL, 1, VHDX_TREE_CHANGED, false },
        { "unsought", "base", NULL, 1, 0, true },
        { "copy", NULL, "base", 0, VHDX_TREE_DUPLICATE, false },
        { "by place", "copy", NULL, 1, 0, true },
        { "lost", NULL, NULL, 0, VHDX_TREE_ORPHAN, true },
    };

    (void)state;
    assert_tree(images, there, 7);
}

/* T2 */
static void
loops(void **state)
{
    static const struct sketch images[] = {
        { "self", 1, 1, 0, true, 0, 0 }, { "q", 2, 4, 0, false, 0, 0 }, { "r", 3, 2, 0, false, 0, 0 },
        { "s", 4, 3, 0, false, 0, 0 },   { "tail", 5, 3, 0, false, 0, 0 },
    };
    static const struct expected there[] = {
        { "q", NULL, NULL, 0, VHDX_TREE_LOOP, false },   { "r", "q", NULL, 1, VHDX_TREE_LOOP, true },
        { "s", "r", NULL, 2, VHDX_TREE_LOOP, false },    { "tail", "r", NULL, 2, 0, true },
        { "self", NULL, NULL, 0, VHDX_TREE_LOOP, true },
    };
    static const struct sketch twins[] = { /* a copy of what names itself: they name each other */
        { "x", 1, 1, 0, false, 0, 0 }, { "x2", 1, 1, 0, false, 0, 0 },
    };
    static const struct expected twins_there[] = {
        { "x", NULL, "x2", 0, VHDX_TREE_LOOP | VHDX_TREE_DUPLICATE, true },
        { "x2", "x", "x", 1, VHDX_TREE_LOOP | VHDX_TREE_DUPLICATE, true },
    };

    (void)state;
    assert_tree(images, there, 5);
    assert_tree(twins, twins_there, 2);
}

static void
nothing(void **state)
{
    struct vhdx_tree tree = { .count = 0 };

    (void)state;
    assert_int_equal(vx_tree_match(&tree, &err), VHDX_OK);
    assert_null(vhdx_tree_get(&tree, 0));
    vx_free(tree.nodes);
}

/* --- reading --- */

static char top[128];

static const char *
at(const char *name)
{
    static char     paths[16][256];
    static unsigned next;
    char           *path = paths[next++ % 16];

    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static void
create(const char *name, const char *parent)
{
    const struct vhdx_create_options options = { .virtual_size = 3 << 20 };
    int rc = parent == NULL ? vhdx_create_path(at(name), false, &options, NULL, &err)
                            : vhdx_create_child_path(at(name), false, at(parent), NULL, NULL, &err);

    if (rc < 0)
        fail_msg("%s", err.message);
}

static void
change(const char *name)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE | VHDX_OPEN_NO_PARENTS };
    struct vhdx_disk *disk;
    uint8_t           bytes[512] = { 1 };

    assert_int_equal(vhdx_disk_open_path(&disk, at(name), &options, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_write(disk, bytes, sizeof bytes, 0, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_close(disk, &err), VHDX_OK);
}

static int
set_up(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "/tmp/vhdx-tree-test-XXXXXX");
    assert_non_null(mkdtemp(top));
    assert_int_equal(mkdir(at("vm"), 0777), 0);
    assert_int_equal(mkdir(at("bases"), 0777), 0);
    create("bases/root.vhdx", NULL);
    create("bases/base.vhdx", "bases/root.vhdx");
    create("vm/a.avhdx", "bases/base.vhdx");
    create("vm/b.avhdx", "vm/a.avhdx");
    return 0;
}

static int
tear_down(void **state)
{
    char command[160];

    (void)state;
    snprintf(command, sizeof command, "rm -rf '%s'", top);
    return system(command);
}

/* The names of a tree, each after its depth, with "+" when it lies elsewhere, and its troubles. */
static void
assert_read(const char *const *folders, size_t count, enum vhdx_parents_mode mode, const char *expected)
{
    const struct vhdx_parents_options parents = { .mode = mode };
    struct vhdx_tree *tree;
    char              text[512] = "";

    if (vhdx_tree_read(&tree, folders, count, 0, &parents, &err) < 0)
        fail_msg("%s", err.message);
    for (size_t i = 0; i < vhdx_tree_count(tree); i++) {
        const struct vhdx_tree_image *image = vhdx_tree_get(tree, i);

        snprintf(text + strlen(text), sizeof text - strlen(text), "%u%s %s %u; ", image->depth,
                 image->is_elsewhere ? "+" : "", strrchr(image->path, '/') + 1, image->troubles);
    }
    assert_string_equal(text, expected);
    assert_true(vhdx_tree_is_complete(tree));
    vhdx_tree_free(tree);
}

static void
folders(void **state)
{
    const char *const vm[] = { at("vm") }, *const both[] = { at("vm"), at("bases"), at("vm/../vm") };
    const char *const nowhere[] = { at("nowhere") };
    struct vhdx_tree *tree;

    (void)state;
    assert_read(vm, 1, VHDX_PARENTS_ANY, "0+ root.vhdx 0; 1+ base.vhdx 0; 2 a.avhdx 0; 3 b.avhdx 0; ");
    assert_read(both, 3, VHDX_PARENTS_ANY, "0 root.vhdx 0; 1 base.vhdx 0; 2 a.avhdx 0; 3 b.avhdx 0; ");
    assert_read(vm, 1, VHDX_PARENTS_NONE, "0 a.avhdx 2; 1 b.avhdx 0; ");
    assert_read(vm, 1, VHDX_PARENTS_SAME_DIR, "0 a.avhdx 2; 1 b.avhdx 0; ");

    assert_int_equal(vhdx_tree_read(&tree, vm, 1, 1, NULL, &err), VHDX_OK);
    assert_false(vhdx_tree_is_complete(tree));
    vhdx_tree_free(tree);
    vhdx_tree_free(NULL);
    assert_int_equal(vhdx_tree_read(&tree, nowhere, 1, 0, NULL, &err), VHDX_E_NOT_FOUND);
}

static void
troubles(void **state)
{
    const char *const vm[] = { at("vm") }, *const both[] = { at("bases"), at("vm") };

    (void)state;
    change("bases/base.vhdx");
    assert_read(vm, 1, VHDX_PARENTS_ANY, "0+ root.vhdx 0; 1+ base.vhdx 0; 2 a.avhdx 4; 3 b.avhdx 0; ");
    assert_int_equal(rename(at("bases/root.vhdx"), at("vm/renamed.vhdx")), 0);
    assert_read(both, 2, VHDX_PARENTS_ANY, "0 renamed.vhdx 0; 1 base.vhdx 8; 2 a.avhdx 4; 3 b.avhdx 0; ");
    assert_int_equal(link(at("vm/b.avhdx"), at("vm/b2.avhdx")), 0);
    assert_int_equal(unlink(at("vm/a.avhdx")), 0);
    assert_read(vm, 1, VHDX_PARENTS_ANY, "0 b.avhdx 2; 0 renamed.vhdx 0; ");
}

static void
one_parent(void **state)
{
    const struct vhdx_parents_options any = { .mode = VHDX_PARENTS_ANY };
    struct vhdx_parent_place place;
    struct vhdx_parents     *parents;

    (void)state;
    assert_int_equal(vhdx_parents_new(&parents, &any, &err), VHDX_OK);
    assert_int_equal(vhdx_find_parent(at("vm/a.avhdx"), 0, parents, &place, &err), VHDX_OK);
    assert_true(place.is_differencing);
    assert_string_equal(place.path, at("bases/base.vhdx"));
    assert_string_equal(place.mismatch, "");

    assert_int_equal(vhdx_find_parent(at("bases/root.vhdx"), 0, parents, &place, &err), VHDX_OK);
    assert_false(place.is_differencing);
    assert_string_equal(place.path, "");
    assert_int_equal(vhdx_find_parent(at("none"), 0, parents, &place, &err), VHDX_E_NOT_FOUND);
    assert_false(place.is_differencing);

    change("bases/base.vhdx");
    assert_int_equal(vhdx_find_parent(at("vm/a.avhdx"), 0, parents, &place, &err), VHDX_E_BAD_PARENT);
    assert_true(place.is_differencing);
    assert_string_equal(place.path, "");
    assert_string_equal(place.mismatch, at("bases/base.vhdx"));
    vhdx_parents_free(parents);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forest), cmocka_unit_test(choices), cmocka_unit_test(loops), cmocka_unit_test(nothing),
        TEST(folders), TEST(troubles), TEST(one_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
