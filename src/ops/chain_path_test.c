/* Jobs over chains of files: who is found, who is asked, who is relinked, what is refused before anything is written. */
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

#include "base/memory.h"
#include "ops/chain_path.h"

#define SIZE ((uint64_t)8 << 20)
#define MIB  ((uint64_t)1 << 20)

static char folder[64];
static const struct vhdx_parents_options any_parents = { .mode = VHDX_PARENTS_ANY };
static const struct vhdx_chain_options   plain = { .parents = &any_parents };

static const char *
path_of(const char *name)
{
    static char paths[8][128];
    static int  next;

    next = (next + 1) % 8;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static bool
exists(const char *name)
{
    return access(path_of(name), F_OK) == 0;
}

static int
make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/vhdx-chain-XXXXXX");
    return mkdtemp(folder) != NULL && mkdir(path_of("sub"), 0700) == 0 ? 0 : -1;
}

static int
remove_folder(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof command, "rm -r %s", folder);
    return system(command);
}

static struct vhdx_disk *
open_disk(const char *name, unsigned flags)
{
    struct vhdx_parents     *parents;
    struct vhdx_open_options options = { .flags = flags, .resolve_parent = vhdx_parents_resolve };
    struct vhdx_disk        *disk;
    struct vhdx_error        err;

    assert_int_equal(vhdx_parents_new(&parents, &any_parents, NULL), VHDX_OK);
    options.resolve_context = parents;
    if (vhdx_disk_open_path(&disk, path_of(name), &options, &err) < 0)
        fail_msg("%s: %s", name, err.message);
    vhdx_parents_free(parents);
    return disk;
}

static void
write_byte(const char *name, uint64_t guest_offset, uint64_t length, uint8_t value)
{
    struct vhdx_disk *disk = open_disk(name, VHDX_OPEN_WRITE);
    uint8_t          *bytes = vx_alloc((size_t)length);

    assert_non_null(bytes);
    memset(bytes, value, (size_t)length);
    assert_int_equal(vhdx_disk_write(disk, bytes, (size_t)length, guest_offset, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    vx_free(bytes);
}

static uint8_t
byte_at(const char *name, uint64_t guest_offset)
{
    struct vhdx_disk *disk = open_disk(name, 0);
    uint8_t           value;

    assert_int_equal(vhdx_disk_read(disk, &value, 1, guest_offset, NULL), VHDX_OK);
    vhdx_disk_close(disk, NULL);
    return value;
}

static void
assert_parent(const char *child, const char *parent)
{
    struct vhdx_disk *disk = open_disk(child, 0);
    char              expected[4096];

    assert_true(vhdx_disk_layer_count(disk) > 1);
    assert_non_null(realpath(path_of(parent), expected));
    assert_string_equal(vhdx_disk_layer_name(disk, 1), expected);
    vhdx_disk_close(disk, NULL);
}

static void
make_base(const char *name)
{
    const struct vhdx_create_options options = { .virtual_size = SIZE, .block_size = 1 << 20 };

    assert_int_equal(vhdx_create_path(path_of(name), true, &options, NULL, NULL), VHDX_OK);
    write_byte(name, 0, 4 * MIB, 1);
}

static void
make_child(const char *name, const char *parent, uint64_t guest_offset, uint8_t value)
{
    struct vhdx_error err;

    if (vhdx_create_child_path(path_of(name), true, path_of(parent), NULL, &any_parents, &err) < 0)
        fail_msg("%s", err.message);
    if (value != 0)
        write_byte(name, guest_offset, 4096, value);
}

struct heard {
    char text[4096];
};

static void
hear(void *context, const char *line)
{
    struct heard *heard = context;
    size_t        used = strlen(heard->text);

    snprintf(heard->text + used, sizeof heard->text - used, "%s\n", line);
}

static void
must_merge(const char *name, const char *into, const struct vhdx_chain_options *options,
           struct vhdx_chain_result *result)
{
    struct vhdx_error err;

    if (vhdx_merge_path(path_of(name), into != NULL ? path_of(into) : NULL, options, NULL, NULL, NULL, result,
                        &err) < 0)
        fail_msg("%s", err.message);
}

/* base <- middle <- top, and top has two children; everything merged at once. */
static void
merges_and_relinks(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_chain_result  planned, result;
    struct heard              heard = { "" };
    char                      sub[128];
    const char               *also[] = { sub };

    (void)state;
    snprintf(sub, sizeof sub, "%s", path_of("sub"));
    make_base("base.vhdx");
    make_child("middle.avhdx", "base.vhdx", MIB, 2);
    make_child("top.avhdx", "middle.avhdx", 2 * MIB, 3);
    make_child("heir.avhdx", "top.avhdx", 3 * MIB, 4);
    make_child("sub/heir.avhdx", "top.avhdx", 5 * MIB, 5);
    options.also = also;
    options.also_count = 1;
    options.delete_merged = true;

    options.dry_run = true;
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), path_of("base.vhdx"), &options, hear, &heard, NULL, &planned,
                                     NULL), VHDX_OK);
    assert_int_equal(planned.bytes_copied, 2 * 4096);
    assert_int_equal(planned.images_relinked, 2);
    assert_non_null(strstr(heard.text, "copies 8 KiB"));
    assert_non_null(strstr(heard.text, "deletes"));
    assert_parent("heir.avhdx", "top.avhdx");

    options.dry_run = false;
    must_merge("top.avhdx", "base.vhdx", &options, &result);
    assert_int_equal(result.bytes_copied, planned.bytes_copied);
    assert_int_equal(result.blocks_changed, planned.blocks_changed);
    assert_int_equal(result.images_relinked, 2);
    assert_false(exists("top.avhdx") || exists("middle.avhdx"));
    assert_parent("heir.avhdx", "base.vhdx");
    assert_parent("sub/heir.avhdx", "base.vhdx");
    assert_int_equal(byte_at("base.vhdx", MIB), 2);
    assert_int_equal(byte_at("base.vhdx", 2 * MIB), 3);
    assert_int_equal(byte_at("heir.avhdx", 3 * MIB), 4);
    assert_int_equal(byte_at("heir.avhdx", MIB), 2);
    assert_int_equal(byte_at("sub/heir.avhdx", 5 * MIB), 5);
}

/* Without --delete the files stay; a second call finds it done and only deletes. */
static void
merges_and_deletes_later(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_chain_result  result;

    (void)state;
    make_base("base.vhdx");
    make_child("top.avhdx", "base.vhdx", 2 * MIB, 3);
    make_child("heir.avhdx", "top.avhdx", 3 * MIB, 4);
    must_merge("top.avhdx", NULL, &options, &result);
    assert_int_equal(result.images_relinked, 1);
    assert_parent("heir.avhdx", "base.vhdx");
    assert_parent("top.avhdx", "base.vhdx");
    options.delete_merged = true;
    must_merge("top.avhdx", NULL, &options, &result);
    assert_int_equal(result.bytes_copied, 0);
    assert_false(exists("top.avhdx"));
    assert_int_equal(byte_at("heir.avhdx", 2 * MIB), 3);
}

static void
names_siblings(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_chain_result  result;
    struct vhdx_error         err;
    struct heard              heard = { "" };

    (void)state;
    make_base("base.vhdx");
    make_child("one.avhdx", "base.vhdx", 2 * MIB, 3);
    make_child("two.avhdx", "base.vhdx", 3 * MIB, 4);
    make_child("three.avhdx", "base.vhdx", 3 * MIB, 4);
    assert_int_equal(vhdx_merge_path(path_of("one.avhdx"), NULL, &options, hear, &heard, NULL, NULL, &err),
                     VHDX_E_HAS_CHILDREN);
    assert_non_null(strstr(err.message, "three.avhdx, "));
    assert_non_null(strstr(err.message, "two.avhdx are children of "));
    assert_non_null(strstr(heard.text, "two.avhdx is a child of "));
    assert_non_null(strstr(heard.text, "three.avhdx is a child of "));
    assert_int_equal(byte_at("two.avhdx", 3 * MIB), 4); /* nothing was done */
    assert_int_equal(byte_at("base.vhdx", 2 * MIB), 1);

    options.orphan_siblings = true;
    must_merge("one.avhdx", NULL, &options, &result);
    assert_int_equal(byte_at("base.vhdx", 2 * MIB), 3);
    unlink(path_of("one.avhdx"));
    unlink(path_of("two.avhdx"));
    unlink(path_of("three.avhdx"));
}

/* M2: a branch between the image and the target would read wrong data. */
static void
never_merges_under_a_branch(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_error         err;

    (void)state;
    make_base("base.vhdx");
    make_child("middle.avhdx", "base.vhdx", MIB, 2);
    make_child("top.avhdx", "middle.avhdx", 2 * MIB, 3);
    make_child("branch.avhdx", "middle.avhdx", 3 * MIB, 4);
    options.orphan_siblings = true;
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), path_of("base.vhdx"), &options, NULL, NULL, NULL, NULL, &err),
                     VHDX_E_HAS_CHILDREN);
    assert_non_null(strstr(err.message, "branch.avhdx is a child of "));
    assert_int_equal(vhdx_merge_path(path_of("base.vhdx"), NULL, &options, NULL, NULL, NULL, NULL, &err),
                     VHDX_E_INVALID);
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), path_of("branch.avhdx"), &options, NULL, NULL, NULL, NULL,
                                     &err), VHDX_E_INVALID);
    unlink(path_of("branch.avhdx"));
    unlink(path_of("top.avhdx"));
    unlink(path_of("middle.avhdx"));
}

/* The parent moves; then somebody writes to it. */
static void
relinks_with_proof(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_chain_result  result;
    struct vhdx_error         err;

    (void)state;
    make_base("base.vhdx");
    make_child("top.avhdx", "base.vhdx", 2 * MIB, 3);
    assert_int_equal(rename(path_of("base.vhdx"), path_of("sub/moved.vhdx")), 0);
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("sub/moved.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_OK);
    assert_int_equal(result.images_relinked, 1);
    assert_parent("top.avhdx", "sub/moved.vhdx");

    make_child("leaf.avhdx", "top.avhdx", 3 * MIB, 4);
    write_byte("sub/moved.vhdx", 5 * MIB, 512, 9);
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("sub/moved.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_E_BAD_PARENT);
    assert_non_null(strstr(err.message, "V122"));
    options.force = true; /* R3: the leaf would show the change, too */
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("sub/moved.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_E_HAS_CHILDREN);
    assert_non_null(strstr(err.message, "leaf.avhdx depends on it"));
    options.orphan_children = true;
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("sub/moved.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_OK);
    assert_int_equal(byte_at("top.avhdx", 5 * MIB), 9);
    unlink(path_of("leaf.avhdx"));

    options.force = false; /* a copy with a GUID of its own: the contents are the proof */
    make_base("a.vhdx");
    make_base("b.vhdx");
    make_child("top.avhdx", "a.vhdx", 2 * MIB, 3);
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("b.vhdx"), &options, NULL, NULL, NULL, &result, &err),
                     VHDX_OK);
    assert_parent("top.avhdx", "b.vhdx");
    write_byte("a.vhdx", 0, 512, 7);
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("a.vhdx"), &options, NULL, NULL, NULL, &result, &err),
                     VHDX_E_BAD_PARENT);
    assert_int_equal(vhdx_relink_path(path_of("b.vhdx"), path_of("a.vhdx"), &options, NULL, NULL, NULL, &result, &err),
                     VHDX_E_INVALID);
}

static void
rebases(void **state)
{
    struct vhdx_chain_options options = plain;
    struct vhdx_chain_result  result;
    struct vhdx_error         err;

    (void)state;
    make_base("base.vhdx");
    make_child("middle.avhdx", "base.vhdx", MIB, 2);
    make_child("top.avhdx", "middle.avhdx", 2 * MIB, 3);
    options.dry_run = true;
    assert_int_equal(vhdx_rebase_path(path_of("top.avhdx"), path_of("base.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_OK);
    assert_int_equal(result.bytes_copied, 4096);
    assert_parent("top.avhdx", "middle.avhdx");
    options.dry_run = false;
    assert_int_equal(vhdx_rebase_path(path_of("top.avhdx"), path_of("base.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_OK);
    assert_int_equal(result.bytes_copied, 4096);
    assert_parent("top.avhdx", "base.vhdx");
    assert_int_equal(byte_at("top.avhdx", MIB), 2);
    assert_int_equal(vhdx_rebase_path(path_of("top.avhdx"), path_of("base.vhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_OK);
    assert_int_equal(result.bytes_copied, 0);

    /* R2 */
    make_child("leaf.avhdx", "top.avhdx", 3 * MIB, 4);
    assert_int_equal(vhdx_rebase_path(path_of("top.avhdx"), path_of("leaf.avhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_E_BAD_PARENT);
    assert_int_equal(vhdx_relink_path(path_of("top.avhdx"), path_of("top.avhdx"), &options, NULL, NULL, NULL, &result,
                                      &err), VHDX_E_BAD_PARENT);
    unlink(path_of("leaf.avhdx"));
}

static void
flattens(void **state)
{
    struct vhdx_chain_result result;
    struct vhdx_disk        *disk;
    struct vhdx_error        err;

    (void)state;
    make_base("base.vhdx");
    make_child("middle.avhdx", "base.vhdx", MIB, 2);
    make_child("top.avhdx", "middle.avhdx", 2 * MIB, 3);
    if (vhdx_flatten_path(path_of("top.avhdx"), &plain, NULL, NULL, NULL, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_in_range(result.bytes_copied, 3 * MIB, 4 * MIB);
    disk = open_disk("top.avhdx", 0);
    assert_int_equal(vhdx_disk_layer_count(disk), 1);
    vhdx_disk_close(disk, NULL);
    assert_int_equal(byte_at("top.avhdx", MIB), 2);
    assert_int_equal(byte_at("top.avhdx", 2 * MIB), 3);
    assert_int_equal(byte_at("top.avhdx", 3 * MIB), 1);
    assert_int_equal(vhdx_flatten_path(path_of("top.avhdx"), &plain, NULL, NULL, NULL, &result, &err), VHDX_OK);
    assert_int_equal(result.bytes_copied, 0);
}

/* Locks of others are met before anything is written. */
static void
leaves_open_files_alone(void **state)
{
    struct vhdx_disk *reader, *heir;
    struct vhdx_error err;

    (void)state;
    make_base("base.vhdx");
    make_child("top.avhdx", "base.vhdx", 2 * MIB, 3);
    make_child("heir.avhdx", "top.avhdx", 3 * MIB, 4);
    reader = open_disk("base.vhdx", 0);
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), NULL, &plain, NULL, NULL, NULL, NULL, &err), VHDX_E_IN_USE);
    vhdx_disk_close(reader, NULL);
    heir = open_disk("heir.avhdx", 0); /* and with it its parents */
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), NULL, &plain, NULL, NULL, NULL, NULL, &err), VHDX_E_IN_USE);
    vhdx_disk_close(heir, NULL);
    assert_int_equal(vhdx_merge_path(path_of("top.avhdx"), NULL, NULL, NULL, NULL, NULL, NULL, &err), VHDX_E_NO_PARENT);
    assert_int_equal(byte_at("base.vhdx", 2 * MIB), 1);
}

static void
sizes_for_people(void **state)
{
    char text[VX_SIZE_TEXT];

    (void)state;
    assert_string_equal(vx_chain_size(text, 0), "0 bytes");
    assert_string_equal(vx_chain_size(text, 1023), "1023 bytes");
    assert_string_equal(vx_chain_size(text, 1536), "1.5 KiB");
    assert_string_equal(vx_chain_size(text, 12 * MIB), "12 MiB");
    assert_string_equal(vx_chain_size(text, UINT64_MAX), "16777215.9 TiB");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(merges_and_relinks, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(merges_and_deletes_later, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(names_siblings, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(never_merges_under_a_branch, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(relinks_with_proof, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rebases, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(flattens, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(leaves_open_files_alone, make_folder, remove_folder),
        cmocka_unit_test(sizes_for_people),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
