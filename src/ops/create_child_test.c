/* New children: what they take from their parents, what their locators say, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vhdx/vhdx.h>

#include "base/checked.h"
#include "base/memory.h"
#include "disk/disk.h"
#include "ops/create.h"
#include "ops/layout_new.h"
#include "ops/parent_keys.h"
#include "storage/storage.h"

static char              top[128]; /* canonical */
static struct vhdx_error err;

static const char *
at(const char *name)
{
    static char     paths[64][256]; /* as many as one test asks for */
    static unsigned next;
    char           *path = paths[next++ % 64];

    snprintf(path, sizeof paths[0], "%s/%s", top, name);
    return path;
}

static int
set_up(void **state)
{
    char name[] = "/tmp/vhdx-create-child-test-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(name));
    assert_non_null(realpath(name, top));
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(mkdir(at((const char *[]){ "vm", "img", "img/deep" }[i]), 0777), 0);
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

static void
create_parent(const char *name, uint64_t size, uint32_t sector_size)
{
    const struct vhdx_create_options options = { .virtual_size = size, .logical_sector_size = sector_size,
                                                 .physical_sector_size = 4096 };

    if (vhdx_create_path(at(name), false, &options, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void
get_info(const char *name, struct vhdx_info *info)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS };
    struct vhdx_disk              *disk;

    if (vhdx_disk_open_path(&disk, at(name), &options, &err) < 0)
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(vhdx_disk_get_info(disk, 0, info, &err), VHDX_OK);
    vhdx_disk_close(disk, NULL);
}

static void
expect_no_finding(void *context, const struct vhdx_error *finding)
{
    (void)context;
    fail_msg("V%d: %s", finding->rule, finding->message);
}

static void
check_image(const char *name)
{
    struct vhdx_check_summary summary;
    struct vhdx_storage      *storage;

    assert_int_equal(vhdx_storage_open_path(&storage, at(name), 0, &err), VHDX_OK);
    assert_int_equal(vhdx_check_storage(storage, NULL, expect_no_finding, NULL, NULL, &summary, &err), VHDX_OK);
    assert_true(summary.is_complete);
    vhdx_storage_close(storage);
}

static struct vhdx_disk *
open_chain(const char *name, unsigned flags)
{
    const struct vhdx_parents_options policy = { .mode = VHDX_PARENTS_ANY };
    struct vhdx_open_options          options = { .flags = flags, .resolve_parent = vhdx_parents_resolve };
    struct vhdx_parents              *parents;
    struct vhdx_disk                 *disk;

    assert_int_equal(vhdx_parents_new(&parents, &policy, &err), VHDX_OK);
    options.resolve_context = parents;
    if (vhdx_disk_open_path(&disk, at(name), &options, &err) < 0)
        fail_msg("%s: %s", name, err.message);
    vhdx_parents_free(parents);
    return disk;
}

/* --- what a child is --- */

static void
facts(void **state)
{
    static const uint32_t sector_sizes[] = { 512, 4096 };

    (void)state;
    for (int i = 0; i < 2; i++) {
        struct vhdx_info parent, child;

        create_parent("vm/base.vhdx", 11 << 20, sector_sizes[i]);
        assert_int_equal(vhdx_create_child_path(at("vm/child.avhdx"), false, at("vm/base.vhdx"), NULL, NULL, &err),
                         VHDX_OK);
        get_info("vm/base.vhdx", &parent);
        get_info("vm/child.avhdx", &child);
        assert_int_equal(child.type, VHDX_TYPE_DIFFERENCING);
        assert_int_equal(child.virtual_size, 11 << 20);
        assert_int_equal(child.block_size, 2 << 20);
        assert_int_equal(child.logical_sector_size, sector_sizes[i]);
        assert_int_equal(child.physical_sector_size, 4096);
        assert_true(vhdx_guid_equal(&child.disk_id, &parent.disk_id));
        assert_true(vhdx_guid_equal(&child.parent_linkage, &parent.data_write_guid));
        assert_true(vhdx_guid_is_zero(&child.parent_linkage2));
        assert_false(vhdx_guid_equal(&child.data_write_guid, &parent.data_write_guid));
        assert_string_equal(child.parent_relative_path, ".\\base.vhdx");
        assert_int_equal(strncmp(child.parent_absolute_path, "\\\\?\\C:\\", 7), 0);
        assert_string_equal(child.parent_volume_path, "");
        check_image("vm/child.avhdx");
        assert_int_equal(unlink(at("vm/child.avhdx")), 0);
        assert_int_equal(unlink(at("vm/base.vhdx")), 0);
    }
}

static void
larger_than_its_parent(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = 40 << 20, .block_size = 1 << 20,
                                                 .physical_sector_size = 512 };
    uint8_t           bytes[4096];
    struct vhdx_disk *disk;

    (void)state;
    create_parent("vm/base.vhdx", 11 << 20, 512);
    disk = open_chain("vm/base.vhdx", VHDX_OPEN_WRITE);
    memset(bytes, 0xA5, sizeof bytes);
    assert_int_equal(vhdx_disk_write(disk, bytes, sizeof bytes, (11 << 20) - 4096, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_close(disk, &err), VHDX_OK);
    assert_int_equal(vhdx_create_child_path(at("vm/child.avhdx"), false, at("vm/base.vhdx"), &options, NULL, &err),
                     VHDX_OK);
    disk = open_chain("vm/child.avhdx", 0);
    assert_int_equal(vhdx_disk_size(disk), 40 << 20);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, (11 << 20) - 2048, &err), VHDX_OK);
    assert_int_equal(bytes[2047], 0xA5);
    assert_int_equal(bytes[2048], 0);
    vhdx_disk_close(disk, NULL);
    check_image("vm/child.avhdx");
}

static void
what_is_refused(void **state)
{
    static const struct {
        const char *about, *path, *parent;
        struct vhdx_create_options options;
        int         code;
    } cases[] = {
        { "smaller", "vm/c.vhdx", "vm/base.vhdx", { .virtual_size = 10 << 20 }, VHDX_E_INVALID },
        { "other sectors", "vm/c.vhdx", "vm/base.vhdx", { .logical_sector_size = 4096 }, VHDX_E_INVALID },
        { "another disk id", "vm/c.vhdx", "vm/base.vhdx", { .disk_id = { { 1 } } }, VHDX_E_INVALID },
        { "odd block size", "vm/c.vhdx", "vm/base.vhdx", { .block_size = 3 << 20 }, VHDX_E_INVALID },
        { "no parent", "vm/c.vhdx", "vm/nothing.vhdx", { 0 }, VHDX_E_NOT_FOUND },
        { "no folder", "nowhere/c.vhdx", "vm/base.vhdx", { 0 }, VHDX_E_NOT_FOUND },
        { "no VHDX", "vm/c.vhdx", "vm/raw", { 0 }, VHDX_E_NOT_VHDX },
        { "a colon in the parent's name", "vm/c.vhdx", "vm/a:b.vhdx", { 0 }, VHDX_E_INVALID },
        { "no UTF-8 in the parent's name", "vm/c.vhdx", "vm/\xff.vhdx", { 0 }, VHDX_E_INVALID },
        { "there already", "vm/base.vhdx", "img/base.vhdx", { 0 }, VHDX_E_EXISTS },
    };

    (void)state;
    create_parent("vm/base.vhdx", 11 << 20, 512);
    create_parent("img/base.vhdx", 11 << 20, 512);
    create_parent("vm/a:b.vhdx", 11 << 20, 512);
    create_parent("vm/\xff.vhdx", 11 << 20, 512);
    fclose(fopen(at("vm/raw"), "w"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int rc = vhdx_create_child_path(at(cases[i].path), false, at(cases[i].parent), &cases[i].options, NULL,
                                        &err);

        if (rc != cases[i].code)
            fail_msg("%s: %d", cases[i].about, rc);
        assert_int_equal(access(at("vm/c.vhdx"), F_OK), -1); /* nothing was made */
    }
}

/* C3, also through the parent's own chain. */
static void
never_over_a_parent(void **state)
{
    const struct vhdx_parents_options policy = { .mode = VHDX_PARENTS_SAME_DIR };
    struct vhdx_info before, after;

    (void)state;
    create_parent("vm/base.vhdx", 11 << 20, 512);
    assert_int_equal(vhdx_create_child_path(at("vm/a.vhdx"), false, at("vm/base.vhdx"), NULL, NULL, &err), VHDX_OK);
    assert_int_equal(link(at("vm/base.vhdx"), at("img/base.vhdx")), 0);
    get_info("vm/base.vhdx", &before);
    assert_int_equal(vhdx_create_child_path(at("vm/a.vhdx"), true, at("vm/a.vhdx"), NULL, NULL, &err),
                     VHDX_E_INVALID);
    assert_int_equal(vhdx_create_child_path(at("img/base.vhdx"), true, at("vm/a.vhdx"), NULL, &policy, &err),
                     VHDX_E_INVALID);
    get_info("vm/base.vhdx", &after);
    assert_true(vhdx_guid_equal(&before.data_write_guid, &after.data_write_guid));

    create_parent("vm/other.vhdx", 11 << 20, 512);
    assert_int_equal(vhdx_create_child_path(at("vm/other.vhdx"), true, at("vm/a.vhdx"), NULL, &policy, &err),
                     VHDX_OK);
    get_info("vm/other.vhdx", &after);
    assert_int_equal(after.type, VHDX_TYPE_DIFFERENCING);
}

/* A parent that is being written is none; one whose own parent is missing only when nobody looks. */
static void
state_of_the_parent(void **state)
{
    const struct vhdx_parents_options policy = { .mode = VHDX_PARENTS_SAME_DIR };
    struct vhdx_disk *writer;

    (void)state;
    create_parent("vm/base.vhdx", 11 << 20, 512);
    writer = open_chain("vm/base.vhdx", VHDX_OPEN_WRITE);
    assert_int_equal(vhdx_create_child_path(at("vm/a.vhdx"), false, at("vm/base.vhdx"), NULL, NULL, &err),
                     VHDX_E_IN_USE);
    vhdx_disk_close(writer, NULL);
    assert_int_equal(vhdx_create_child_path(at("vm/a.vhdx"), false, at("vm/base.vhdx"), NULL, NULL, &err), VHDX_OK);
    assert_int_equal(unlink(at("vm/base.vhdx")), 0);
    assert_int_equal(vhdx_create_child_path(at("vm/b.vhdx"), false, at("vm/a.vhdx"), NULL, &policy, &err),
                     VHDX_E_NO_PARENT);
    assert_int_equal(vhdx_create_child_path(at("vm/b.vhdx"), false, at("vm/a.vhdx"), NULL, NULL, &err), VHDX_OK);
}

/* --- items of the parent --- */

static struct vx_new_item
item(uint8_t id, uint32_t flags, const char *text)
{
    return (struct vx_new_item){ .item_id = { { id } }, .flags = flags, .length = (uint32_t)strlen(text),
                                 .bytes = (const uint8_t *)text };
}

/* What a parent's item with this id says in the child; NULL when it has none. */
static char *
find_item(const char *name, uint8_t id, bool is_user)
{
    struct vhdx_disk         *disk = open_chain(name, 0);
    struct vx_image          *image = disk->layers[0].image;
    struct vx_metadata_table *table = vx_alloc(sizeof *table);
    uint64_t                  region = vx_image_metadata_region(image).file_offset;
    uint8_t                  *bytes = vx_alloc(VX_METADATA_TABLE_SIZE);
    char                     *text = NULL;

    assert_int_equal(vx_image_read_structure(image, bytes, VX_METADATA_TABLE_SIZE, region, &err), VHDX_OK);
    assert_int_equal(vx_metadata_table_decode(table, bytes, region, &err), VHDX_OK);
    for (uint32_t i = 0; i < table->entry_count; i++) {
        const struct vx_metadata_entry *entry = &table->entries[i];

        if (entry->item_id.bytes[0] != id || ((entry->flags & VX_ITEM_IS_USER) != 0) != is_user)
            continue;
        text = vx_alloc_zeroed(entry->length + 1, 1);
        if (entry->length > 0)
            assert_int_equal(vx_image_read_structure(image, text, entry->length, region + entry->offset, &err),
                             VHDX_OK);
    }
    vx_free(bytes);
    vx_free(table);
    vhdx_disk_close(disk, NULL);
    return text;
}

static void
items_of_the_disk(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = 3 << 20 };
    const struct vx_new_item         items[] = {
        item(1, VX_ITEM_IS_VIRTUAL_DISK, "a system item nobody knows"),
        item(2, 0, "of the file"),
        item(3, VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK, "of the user, and of the disk"),
        item(4, VX_ITEM_IS_USER, "of the user"),
        item(5, VX_ITEM_IS_VIRTUAL_DISK, ""),
    };
    static const char *const expected[] = {
        "a system item nobody knows", NULL, "of the user, and of the disk", NULL, "",
    };
    struct vx_new_layout layout;

    (void)state;
    assert_int_equal(vx_new_layout_init(&layout, &options, NULL, &err), VHDX_OK);
    vx_new_layout_add_items(&layout, items, sizeof items / sizeof items[0]);
    assert_int_equal(vx_create_path(at("vm/base.vhdx"), false, &layout, NULL, &err), VHDX_OK);
    check_image("vm/base.vhdx");
    assert_int_equal(vhdx_create_child_path(at("vm/a.avhdx"), false, at("vm/base.vhdx"), NULL, NULL, &err),
                     VHDX_OK);
    assert_int_equal(vhdx_create_child_path(at("vm/b.avhdx"), false, at("vm/a.avhdx"), NULL, NULL, &err), VHDX_OK);
    check_image("vm/b.avhdx");
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        char *text = find_item("vm/b.avhdx", (uint8_t)(i + 1), (items[i].flags & VX_ITEM_IS_USER) != 0);

        if ((text == NULL) != (expected[i] == NULL) || (text != NULL && strcmp(text, expected[i]) != 0))
            fail_msg("item %zu: %s", i + 1, text != NULL ? text : "not there");
        vx_free(text);
    }
}

/* Long ones make the region, and what lies behind it, move. */
static void
long_items(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = 3 << 20 };
    struct vx_new_item   items[17];
    struct vx_new_layout layout;
    uint8_t             *bytes = vx_alloc_zeroed(1, VX_MIB);

    (void)state;
    assert_non_null(bytes);
    for (uint8_t i = 0; i < 17; i++)
        items[i] = (struct vx_new_item){ .item_id = { { (uint8_t)(i + 1) } }, .flags = VX_ITEM_IS_VIRTUAL_DISK,
                                         .length = VX_MIB, .bytes = bytes };
    for (size_t count = 16; count <= 17; count++) {
        assert_int_equal(vx_new_layout_init(&layout, &options, NULL, &err), VHDX_OK);
        vx_new_layout_add_items(&layout, items, count);
        assert_int_equal(vx_create_path(at("vm/base.vhdx"), true, &layout, NULL, &err), VHDX_OK);
        check_image("vm/base.vhdx");
        assert_int_equal(vhdx_create_child_path(at("vm/a.avhdx"), true, at("vm/base.vhdx"), NULL, NULL, &err),
                         count == 16 ? VHDX_OK : VHDX_E_LIMIT);
        if (count == 16)
            check_image("vm/a.avhdx");
    }
    vx_free(bytes);
}

/* --- paths --- */

static void
keys(void **state)
{
    const char *const vm = at("vm"), *const img = at("img"), *const deep = at("img/deep");
    const struct vhdx_path_map maps[] = {
        { "V:", vm }, { "I:\\Images", img }, { "\\\\server\\share", deep },
        { "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", img },
    };
    const struct vhdx_parents_options policy = { .maps = maps, .map_count = 4 };
    static const struct {
        const char *parent, *relative, *absolute, *volume;
    } cases[] = {
        { "vm/base.vhdx", ".\\base.vhdx", "\\\\?\\V:\\base.vhdx", "" },
        { "img/base.vhdx", "..\\img\\base.vhdx", "\\\\?\\I:\\Images\\base.vhdx",
          "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\base.vhdx" },
        { "img/deep/base.vhdx", "..\\img\\deep\\base.vhdx", "\\\\?\\UNC\\server\\share\\base.vhdx",
          "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\deep\\base.vhdx" },
    };
    struct vhdx_parents *parents;

    (void)state;
    assert_int_equal(vhdx_parents_new(&parents, &policy, &err), VHDX_OK);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_parent_keys made;

        create_parent(cases[i].parent, 3 << 20, 512);
        assert_int_equal(vx_parent_keys_make(&made, at("vm/new.avhdx"), at(cases[i].parent), parents, &err),
                         VHDX_OK);
        assert_string_equal(made.relative_path, cases[i].relative);
        assert_string_equal(made.absolute_win32_path, cases[i].absolute);
        assert_string_equal(made.volume_path, cases[i].volume);
    }
    vhdx_parents_free(parents);
}

/* By whichever key is left the parent is found, also from another folder. */
static void
paths_lead_back(void **state)
{
    const char *const img = at("img"), *const vm = at("vm");
    const struct vhdx_path_map maps[] = { { "I:", img } };
    const char *const directories[] = { img, vm };
    const struct vhdx_parents_options policies[] = {
        { .mode = VHDX_PARENTS_ANY },
        { .mode = VHDX_PARENTS_ANY, .maps = maps, .map_count = 1 },
        { .mode = VHDX_PARENTS_DIRECTORIES, .directories = directories, .directory_count = 2 },
    };

    (void)state;
    create_parent("img/base \xf0\x9f\x92\xbe.vhdx", 3 << 20, 512);
    for (size_t i = 0; i < sizeof policies / sizeof policies[0]; i++) {
        struct vhdx_open_options options = { .resolve_parent = vhdx_parents_resolve };
        struct vhdx_parents     *parents;
        struct vhdx_disk        *disk;

        assert_int_equal(vhdx_create_child_path(at("vm/a.avhdx"), true, at("img/base \xf0\x9f\x92\xbe.vhdx"), NULL,
                                                &policies[i], &err), VHDX_OK);
        assert_int_equal(rename(at("vm/a.avhdx"), at("img/deep/a.avhdx")), 0); /* relative_path is wrong now */
        assert_int_equal(vhdx_parents_new(&parents, &policies[i], &err), VHDX_OK);
        options.resolve_context = parents;
        if (vhdx_disk_open_path(&disk, at("img/deep/a.avhdx"), &options, &err) < 0)
            fail_msg("%zu: %s", i, err.message);
        assert_int_equal(vhdx_disk_layer_count(disk), 2);
        assert_string_equal(vhdx_disk_layer_name(disk, 1), at("img/base \xf0\x9f\x92\xbe.vhdx"));
        vhdx_disk_close(disk, NULL);
        vhdx_parents_free(parents);
    }
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(facts),
        TEST(larger_than_its_parent),
        TEST(what_is_refused),
        TEST(never_over_a_parent),
        TEST(state_of_the_parent),
        TEST(items_of_the_disk),
        TEST(long_items),
        TEST(keys),
        TEST(paths_lead_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
