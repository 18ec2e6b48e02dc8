/*
 * Finding parents: what each policy lets a locator open, in a folder full of traps.  All images there are one file
 * under many names, so that every one of them would match; "stale.vhdx" alone is another.
 */
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

#include <vhdx/vhdx.h>

#include "base/memory.h"
#include "disk/parents.h"

static char              top[128]; /* canonical */
static struct vhdx_guid  guid;     /* of the images but one */
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

static struct vhdx_guid
create_image(const char *name)
{
    const struct vhdx_create_options options = { .virtual_size = 3 << 20 };
    struct vhdx_info                 info;
    struct vhdx_disk                *disk;

    assert_int_equal(vhdx_create_path(at(name), false, &options, NULL, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_open_path(&disk, at(name), NULL, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_get_info(disk, 0, &info, &err), VHDX_OK);
    vhdx_disk_close(disk, NULL);
    return info.data_write_guid;
}

static void
create_file(const char *name, const char *bytes, off_t length)
{
    int descriptor = open(at(name), O_WRONLY | O_CREAT | O_EXCL, 0666);

    assert_true(descriptor >= 0);
    assert_int_equal(write(descriptor, bytes, strlen(bytes)), (ssize_t)strlen(bytes));
    assert_int_equal(ftruncate(descriptor, length), 0);
    assert_int_equal(close(descriptor), 0);
}

static void
create_traps(void)
{
    static const char *const names[] = {
        "vm/Case Name.VHDX", "vm/only.avhdx", "vm/sub/deep.vhdx", "img/base.vhdx", "out/base.vhdx", "out/vhdx",
        "vm/\xc3\x9c.vhdx", "vm/two.vhdx", "vm/TWO.vhdx",
    };
    static const struct {
        const char *name, *target;
    } links[] = {
        { "vm/in.vhdx", "sub/deep.vhdx" },     { "vm/up.vhdx", "sub/../base.vhdx" },
        { "vm/out.vhdx", "../out/base.vhdx" }, { "vm/there-and-back.vhdx", "../vm/base.vhdx" },
        { "vm/loop.vhdx", "loop.vhdx" },       { "vm/gone.vhdx", "nothing.vhdx" },
        { "vm/elsewhere", "../out" },
    };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_int_equal(link(at("vm/base.vhdx"), at(names[i])), 0);
    for (size_t i = 0; i < sizeof links / sizeof links[0]; i++)
        assert_int_equal(symlink(links[i].target, at(links[i].name)), 0);
    assert_int_equal(symlink(at("vm/base.vhdx"), at("vm/absolute.vhdx")), 0);
    create_image("vm/stale.vhdx");
    create_file("vm/raw.vhdx", "no signature", 4 << 20);
    create_file("vm/headless.vhdx", "vhdxfile", 4 << 20);
    create_file("vm/short.vhdx", "vhdxfile", (1 << 20) - 1);
    assert_int_equal(mkdir(at("vm/folder.vhdx"), 0777), 0);
    assert_int_equal(mkfifo(at("vm/pipe.vhdx"), 0666), 0);
}

static int
set_up(void **state)
{
    char name[] = "/tmp/vhdx-parents-test-XXXXXX";

    (void)state;
    assert_non_null(mkdtemp(name));
    assert_non_null(realpath(name, top));
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(mkdir(at((const char *[]){ "vm", "vm/sub", "img", "out" }[i]), 0777), 0);
    guid = create_image("vm/base.vhdx");
    create_traps();
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

/* --- one search --- */

struct row {
    const char *about;
    enum vhdx_parents_mode mode; /* DIRECTORIES: vm and img */
    const char *relative, *absolute;
    const char *found;   /* below `top`, or NULL */
    const char *message; /* a part of it, when not found */
};

static struct vhdx_parents *
new_policy(enum vhdx_parents_mode mode)
{
    const char *const directories[] = { at("img"), at("vm") };
    const struct vhdx_path_map maps[] = {
        { "v:", at("vm") }, { "v:\\Deep Down", at("vm/sub") }, { "\\\\Server\\Share", at("vm") },
        { "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", at("img") }, { "O:\\", at("out") },
    };
    const struct vhdx_parents_options options = {
        .mode = mode, .directories = directories, .directory_count = 2,
        .maps = maps, .map_count = sizeof maps / sizeof maps[0],
    };
    struct vhdx_parents *parents;

    if (vhdx_parents_new(&parents, &options, &err) < 0)
        fail_msg("%s", err.message);
    return parents;
}

static void
search(const struct row *row)
{
    static const struct vhdx_guid  zero;
    const struct vhdx_parent_query query = {
        .child_name = at("vm/child.avhdx"), .linkage = &guid, .linkage2 = &zero, .relative_path = row->relative,
        .absolute_win32_path = row->absolute,
    };
    struct vhdx_parents *parents = new_policy(row->mode);
    struct vhdx_storage *storage = NULL;
    int                  rc;

    err = (struct vhdx_error){ .message = "" };
    rc = vhdx_parents_resolve(parents, &query, &storage, &err);
    vhdx_parents_free(parents);
    if (rc == VHDX_OK) {
        if (row->found == NULL || strcmp(storage->name, at(row->found)) != 0)
            fail_msg("%s: found %s", row->about, storage->name);
        assert_true(storage->traits.is_read_only && storage->identity.is_known);
        vhdx_storage_close(storage);
        return;
    }
    if (row->found != NULL || strstr(err.message, row->message) == NULL)
        fail_msg("%s: %s", row->about, err.message);
    assert_int_equal(rc, strstr(err.message, "V122") != NULL ? VHDX_E_BAD_PARENT : VHDX_E_NO_PARENT);
    assert_int_equal(err.part, VHDX_PART_CHAIN);
}

static void
search_all(const struct row *rows, size_t count)
{
    for (size_t i = 0; i < count; i++)
        search(&rows[i]);
}

#define NONE VHDX_PARENTS_NONE
#define SAME VHDX_PARENTS_SAME_DIR
#define DIRS VHDX_PARENTS_DIRECTORIES
#define ANY  VHDX_PARENTS_ANY

static void
what_is_allowed(void **state)
{
    static const struct row rows[] = {
        { "nothing", NONE, ".\\base.vhdx", NULL, NULL, "may not be looked for" },
        { "beside the child", SAME, ".\\base.vhdx", NULL, "vm/base.vhdx", NULL },
        { "round about", SAME, "sub\\..\\base.vhdx", NULL, "vm/base.vhdx", NULL },
        { "a folder below", SAME, "sub\\deep.vhdx", NULL, NULL, "not in the folder of the child" },
        { "a folder beside", SAME, "..\\img\\base.vhdx", NULL, NULL, "outside of the folder of the child" },
        { "an absolute path to the same folder", SAME, NULL, "V:\\base.vhdx", "vm/base.vhdx", NULL },
        { "an absolute path elsewhere", SAME, NULL, "O:\\base.vhdx", NULL, "outside of the folder of the child" },
        { "below", DIRS, "sub\\deep.vhdx", NULL, "vm/sub/deep.vhdx", NULL },
        { "up, and down into another allowed one", DIRS, "..\\img\\base.vhdx", NULL, "img/base.vhdx", NULL },
        { "up, and down elsewhere", DIRS, "..\\out\\base.vhdx", NULL, NULL, "outside of the allowed folders" },
        { "above all", DIRS, "..\\..\\..\\..\\..\\etc\\passwd", NULL, NULL, "above the root" },
        { "elsewhere by an absolute path", DIRS, NULL, "O:\\base.vhdx", NULL, "outside of the allowed folders" },
        { "any", ANY, "..\\out\\base.vhdx", NULL, "out/base.vhdx", NULL },
        { "any by an absolute path", ANY, NULL, "O:\\base.vhdx", "out/base.vhdx", NULL },
        { "no regular file", ANY, NULL, "C:\\dev\\zero", NULL, "device" },
        { "no VHDX", ANY, NULL, "C:\\etc\\passwd", NULL, "too short" },
        { "of no length", ANY, NULL, "C:\\proc\\self\\mem", NULL, "too short" },
        { "above the root", ANY, NULL, "\\\\?\\C:\\..\\..\\etc\\passwd", NULL, "above the root" },
    };

    (void)state;
    search_all(rows, sizeof rows / sizeof rows[0]);
}

static void
links_and_other_traps(void **state)
{
    static const struct row rows[] = {
        { "a link inside", DIRS, "in.vhdx", NULL, "vm/sub/deep.vhdx", NULL },
        { "a link down and up again", DIRS, "up.vhdx", NULL, "vm/base.vhdx", NULL },
        { "a link to a folder below, from the folder alone", SAME, "in.vhdx", NULL, NULL, "not in the folder" },
        { "a link out", DIRS, "out.vhdx", NULL, NULL, "leads out of the allowed folder" },
        { "a link out and in again", DIRS, "there-and-back.vhdx", NULL, NULL, "leads out" },
        { "an absolute link, though it leads inside", DIRS, "absolute.vhdx", NULL, NULL, "leads out" },
        { "through a linked folder", DIRS, "elsewhere\\base.vhdx", NULL, NULL, "leads out" },
        { "links where everything is allowed", ANY, "out.vhdx", NULL, "out/base.vhdx", NULL },
        { "an absolute link where everything is allowed", ANY, "absolute.vhdx", NULL, "vm/base.vhdx", NULL },
        { "a linked folder where everything is allowed", ANY, "elsewhere\\base.vhdx", NULL, "out/base.vhdx", NULL },
        { "a link to itself", DIRS, "loop.vhdx", NULL, NULL, "too many symbolic links" },
        { "a link to nothing", DIRS, "gone.vhdx", NULL, NULL, "not found" },
        { "a folder", DIRS, "folder.vhdx", NULL, NULL, "it is a folder" },
        { "a pipe", DIRS, "pipe.vhdx", NULL, NULL, "a pipe" },
        { "too short", DIRS, "short.vhdx", NULL, NULL, "too short" },
        { "no signature", DIRS, "raw.vhdx", NULL, NULL, "no VHDX file" },
        { "no header", DIRS, "headless.vhdx", NULL, NULL, "no valid header" },
        { "a file for a folder", DIRS, "base.vhdx\\base.vhdx", NULL, NULL, "no folder" },
        { "a protocol", ANY, "nbd://127.0.0.1:1/x", NULL, NULL, "drive or a protocol" },
        { "another protocol", ANY, "json:{\"driver\":\"file\"}", NULL, NULL, "drive or a protocol" },
        { "a share", ANY, NULL, "\\\\attacker\\share\\x.vhdx", NULL, "no map says" },
        { "a volume", ANY, NULL, "\\\\?\\Volume{00000000-a627-11d7-9931-806e6f6e6963}\\x", NULL, "no map says" },
        { "a drive of nobody", DIRS, NULL, "Q:\\base.vhdx", NULL, "outside of the allowed folders" },
    };
    static char long_name[32001];
    const struct row too_long[] = {
        { "a name of 32000 bytes", ANY, long_name, NULL, NULL, "too long" },
        { "a name of 300 bytes", ANY, long_name + sizeof long_name - 301, NULL, NULL, "too long" },
    };

    (void)state;
    search_all(rows, sizeof rows / sizeof rows[0]);
    memset(long_name, 'x', sizeof long_name - 1);
    search_all(too_long, 2);
}

static void
names_and_maps(void **state)
{
    static const struct row rows[] = {
        { "another case", SAME, ".\\cASE nAME.vhdx", NULL, "vm/Case Name.VHDX", NULL },
        { "another case of a folder", DIRS, "SUB\\DEEP.VHDX", NULL, "vm/sub/deep.vhdx", NULL },
        { "of two that match the first in order", SAME, "tWO.vhdx", NULL, "vm/TWO.vhdx", NULL },
        { "of two that match the exact one", SAME, "two.vhdx", NULL, "vm/two.vhdx", NULL },
        { "the other extension", SAME, "only.vhdx", NULL, "vm/only.avhdx", NULL },
        { "the other extension, another case", SAME, "BASE.AVHDX", NULL, "vm/base.vhdx", NULL },
        { "no extension is made up", ANY, "..\\out\\nothing", NULL, NULL, "not found" },
        { "a drive", DIRS, NULL, "\\\\?\\V:\\base.vhdx", "vm/base.vhdx", NULL },
        { "a folder of a drive", DIRS, NULL, "v:\\deep down\\deep.vhdx", "vm/sub/deep.vhdx", NULL },
        { "a share", DIRS, NULL, "\\\\?\\UNC\\sERVER\\sHARE\\base.vhdx", "vm/base.vhdx", NULL },
        { "a volume", DIRS, NULL, "\\\\?\\Volume{26A21BDA-a627-11d7-9931-806e6f6e6963}\\base.vhdx",
          "img/base.vhdx", NULL },
        { "not there", DIRS, NULL, "V:\\nothing.vhdx", NULL, "/vm/nothing.vhdx: not found" },
        { "the first does not match, the second does", DIRS, "stale.vhdx", "V:\\base.vhdx", "vm/base.vhdx", NULL },
        { "none matches", DIRS, "stale.vhdx", "V:\\nothing.vhdx", NULL, "vhdx rebase --relink" },
        { "all that was wrong is told", DIRS, "gone.vhdx", "V:\\raw.vhdx", NULL, "raw.vhdx: it is no VHDX file" },
        { "no path", DIRS, NULL, NULL, NULL, "names no path" },
    };

    (void)state;
    search_all(rows, sizeof rows / sizeof rows[0]);
}

/* With a locale also letters beyond ASCII. */
static void
umlaut(void **state)
{
    static const struct row row = { "u umlaut", SAME, "\xc3\xbc.vhdx", NULL, "vm/\xc3\x9c.vhdx", NULL };
    locale_t                locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

    (void)state;
    if (locale == (locale_t)0)
        skip();
    freelocale(locale);
    search(&row);
}

/* The path of our own children when no map is given: "/" as C:. */
static void
own_absolute_path(void **state)
{
    static char windows[256];
    struct row  row = { "as this library writes it", DIRS, NULL, windows, "vm/base.vhdx", NULL };

    (void)state;
    snprintf(windows, sizeof windows, "\\\\?\\C:%s", at("vm/base.vhdx"));
    for (char *c = windows; *c != '\0'; c++)
        if (*c == '/')
            *c = '\\';
    search(&row);
}

/* --- more than a path --- */

static int
resolve(struct vhdx_parents *parents, const struct vhdx_guid *linkage2, const char *relative, unsigned flags,
        const struct vhdx_storage_identity *chain, struct vhdx_storage **out)
{
    static const struct vhdx_guid  other = { { 1 } };
    const struct vhdx_parent_query query = {
        .child_name = at("vm/child.avhdx"), .linkage = &other, .linkage2 = linkage2, .relative_path = relative,
        .flags = flags, .chain = chain,
    };

    return vhdx_parents_resolve(parents, &query, out, &err);
}

static void
linkage2(void **state)
{
    static const struct vhdx_guid zero;
    struct vhdx_parents *parents = new_policy(SAME);
    struct vhdx_storage *storage;

    (void)state;
    assert_int_equal(resolve(parents, &guid, "base.vhdx", 0, NULL, &storage), VHDX_OK);
    vhdx_storage_close(storage);
    assert_int_equal(resolve(parents, &zero, "base.vhdx", 0, NULL, &storage), VHDX_E_BAD_PARENT);
    assert_int_equal(err.rule, 122);
    assert_int_equal(err.severity, VHDX_SEVERITY_REFUSE);
    assert_int_equal(resolve(parents, NULL, "base.vhdx", 0, NULL, &storage), VHDX_E_BAD_PARENT);
    vhdx_parents_free(parents);
}

/* Whoever writes to the parent keeps it; a reader does not. */
static void
locks(void **state)
{
    struct vhdx_parents *parents = new_policy(SAME);
    struct vhdx_storage *writer, *storage;

    (void)state;
    assert_int_equal(vhdx_storage_open_path(&writer, at("vm/base.vhdx"), VHDX_STORAGE_WRITE, &err), VHDX_OK);
    assert_int_equal(resolve(parents, &guid, "base.vhdx", 0, NULL, &storage), VHDX_E_IN_USE);
    assert_non_null(strstr(err.message, "base.vhdx: in use"));
    assert_int_equal(resolve(parents, &guid, "base.vhdx", VHDX_OPEN_FORCE_SHARE, NULL, &storage), VHDX_OK);
    vhdx_storage_close(storage);
    vhdx_storage_close(writer);
    assert_int_equal(resolve(parents, &guid, "base.vhdx", 0, NULL, &storage), VHDX_OK);
    assert_int_equal(vhdx_storage_open_path(&writer, at("vm/base.vhdx"), VHDX_STORAGE_WRITE, &err), VHDX_E_IN_USE);
    vhdx_storage_close(storage);
    vhdx_parents_free(parents);
}

/* V125: a circle is told, not taken for a lock of somebody else's. */
static void
circle(void **state)
{
    struct vhdx_parents *parents = new_policy(DIRS);
    struct vhdx_storage *writer, *storage;

    (void)state;
    assert_int_equal(vhdx_storage_open_path(&writer, at("vm/base.vhdx"), VHDX_STORAGE_WRITE, &err), VHDX_OK);
    assert_int_equal(resolve(parents, &guid, "in.vhdx", 0, &writer->identity, &storage), VHDX_E_BAD_PARENT);
    assert_non_null(strstr(err.message, "circle"));
    assert_int_equal(err.rule, 125);
    vhdx_storage_close(writer);
    vhdx_parents_free(parents);
}

static void
handed_in(void **state)
{
    struct vhdx_parents *parents = new_policy(NONE);
    int                  stale = open(at("vm/stale.vhdx"), O_RDONLY), good = open(at("out/vhdx"), O_RDONLY);
    int                  pipe = open(at("vm/pipe.vhdx"), O_RDONLY | O_NONBLOCK);
    struct vhdx_storage *storage;

    (void)state;
    assert_int_equal(vhdx_parents_add_descriptor(parents, pipe, "pipe", &err), VHDX_E_UNSUPPORTED);
    assert_true(vhdx_parents_add_descriptor(parents, -1, "none", &err) < 0);
    assert_int_equal(vhdx_parents_add_descriptor(parents, stale, NULL, &err), VHDX_OK);
    assert_int_equal(resolve(parents, &guid, "base.vhdx", 0, NULL, &storage), VHDX_E_BAD_PARENT);
    assert_int_equal(vhdx_parents_add_descriptor(parents, good, "given", &err), VHDX_OK);
    for (int i = 0; i < 2; i++) { /* it stays ours, and can be taken again */
        assert_int_equal(resolve(parents, &guid, "base.vhdx", 0, NULL, &storage), VHDX_OK);
        assert_string_equal(storage->name, "given");
        vhdx_storage_close(storage);
    }
    vhdx_parents_free(parents);
    assert_int_equal(close(stale), 0);
    assert_int_equal(close(good), 0);
    assert_int_equal(close(pipe), 0);
}

/* Relative paths begin in the folder of the file, whatever links lead there; of a file that is gone, in the folder of
 * its name. */
static void
folder_of_the_child(void **state)
{
    static const struct {
        const char *child, *found;
    } rows[] = {
        { "vm/not-there-yet.avhdx", "vm/base.vhdx" },
        { "vm/sub/../child.avhdx", "vm/base.vhdx" },
        { "vm/elsewhere/child.avhdx", "out/base.vhdx" },
        { "vm/out.vhdx", "out/base.vhdx" },
        { "nowhere/child.avhdx", NULL },
    };
    struct vhdx_parents *parents = new_policy(SAME);

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const struct vhdx_parent_query query = { .child_name = at(rows[i].child), .linkage = &guid,
                                                 .relative_path = ".\\base.vhdx" };
        struct vhdx_storage *storage;
        int                  rc = vhdx_parents_resolve(parents, &query, &storage, &err);

        if (rc != (rows[i].found != NULL ? VHDX_OK : VHDX_E_NO_PARENT))
            fail_msg("%s: %s", rows[i].child, err.message);
        if (rc < 0)
            continue;
        assert_string_equal(storage->name, at(rows[i].found));
        vhdx_storage_close(storage);
    }
    vhdx_parents_free(parents);
}

static void
bad_policies(void **state)
{
    const char *const folder = at("vm"), *const file = at("vm/base.vhdx"), *const nothing = at("nothing");
    const struct {
        const char          *about, *directory;
        struct vhdx_path_map map;
        int                  code;
    } cases[] = {
        { "a folder that is not there", nothing, { "C:", folder }, VHDX_E_NOT_FOUND },
        { "a file for a folder", file, { "C:", folder }, VHDX_E_INVALID },
        { "a map of nothing Windows knows", folder, { "/mnt", folder }, VHDX_E_INVALID },
        { "a map to nowhere", folder, { "C:", nothing }, VHDX_E_NOT_FOUND },
        { "a map to a file", folder, { "C:", file }, VHDX_E_INVALID },
        { "all is well", folder, { "C:", folder }, VHDX_OK },
    };
    const struct vhdx_parents_options no_folder = { .mode = DIRS };
    struct vhdx_parents *parents;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct vhdx_parents_options options = { .mode = DIRS, .directories = &cases[i].directory,
                                                      .directory_count = 1, .maps = &cases[i].map, .map_count = 1 };
        int rc = vhdx_parents_new(&parents, &options, &err);

        if (rc != cases[i].code)
            fail_msg("%s: %d", cases[i].about, rc);
        if (rc == VHDX_OK)
            vhdx_parents_free(parents);
    }
    assert_int_equal(vhdx_parents_new(&parents, &no_folder, &err), VHDX_E_INVALID);
    assert_int_equal(vhdx_parents_new(&parents, NULL, &err), VHDX_OK);
    vhdx_parents_free(parents);
    vhdx_parents_free(NULL);
}

/* Whichever allocation fails, it is told, and nothing is lost or left open. */
static void
no_memory(void **state)
{
    int  rc = VHDX_E_NO_MEMORY;
    bool was_told = false;

    (void)state;
    for (size_t n = 1; rc != VHDX_OK; n++) {
        const char *const                 directory = at("vm");
        const struct vhdx_path_map        map = { "V:", directory };
        const struct vhdx_parents_options options = { .mode = DIRS, .directories = &directory, .directory_count = 1,
                                                      .maps = &map, .map_count = 1 };
        struct vhdx_parents *parents = NULL;
        struct vhdx_storage *storage;

        vx_alloc_fail_nth_for_tests(n);
        rc = vhdx_parents_new(&parents, &options, &err);
        if (rc == VHDX_OK)
            rc = resolve(parents, &guid, "base.vhdx", 0, NULL, &storage);
        vx_alloc_fail_nth_for_tests(0);
        vhdx_parents_free(parents);
        if (rc == VHDX_OK)
            vhdx_storage_close(storage);
        else if (strstr(err.message, "out of memory") == NULL)
            fail_msg("allocation %zu: %s", n, err.message);
        else
            was_told = true;
    }
    assert_true(was_told);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(what_is_allowed),
        TEST(links_and_other_traps),
        TEST(names_and_maps),
        TEST(umlaut),
        TEST(own_absolute_path),
        TEST(linkage2),
        TEST(locks),
        TEST(circle),
        TEST(handed_in),
        TEST(folder_of_the_child),
        TEST(bad_policies),
        TEST(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
