/* Folders full of images and of other things: what is told, in which order, and what is not even opened. */
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

static char              top[128];
static struct vhdx_error err;

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
create_base(const char *name)
{
    const struct vhdx_create_options options = { .virtual_size = 3 << 20 };

    assert_int_equal(vhdx_create_path(at(name), false, &options, NULL, &err), VHDX_OK);
}

static void
create_child(const char *name, const char *parent)
{
    if (vhdx_create_child_path(at(name), false, at(parent), NULL, NULL, &err) < 0)
        fail_msg("%s", err.message);
}

static void
create_file(const char *name, const char *text)
{
    FILE *file = fopen(at(name), "w");

    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int
set_up(void **state)
{
    (void)state;
    snprintf(top, sizeof top, "/tmp/vhdx-folder-test-XXXXXX");
    assert_non_null(mkdtemp(top));
    assert_int_equal(mkdir(at("more"), 0777), 0);
    create_base("base.vhdx");
    create_child("b.avhdx", "base.vhdx");
    create_child("a.avhdx", "base.vhdx");
    create_child("grandchild.avhdx", "a.avhdx");
    create_child("no extension", "base.vhdx");
    create_child("more/far.VHDX", "base.vhdx");
    create_file("broken.vhdx", "vhdxfile");
    create_file("notes.txt", "vhdx");
    create_file("base.rct", "");
    assert_int_equal(symlink("base.vhdx", at("linked.vhdx")), 0);
    assert_int_equal(mkfifo(at("pipe.vhdx"), 0666), 0);
    assert_int_equal(mkdir(at("folder.vhdx"), 0777), 0);
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

/* --- what was told --- */

struct told {
    char     names[512]; /* below `top`, each with a blank after it; an image nobody can read in brackets */
    unsigned stop_after; /* 0: never */
    unsigned count;
};

static int
tell(void *context, const struct vhdx_found_image *image)
{
    struct told *told = context;
    size_t       length = strlen(told->names);
    bool         is_good = image->info != NULL && image->error->code == VHDX_OK;

    assert_int_equal(strncmp(image->path, top, strlen(top)), 0);
    snprintf(told->names + length, sizeof told->names - length, is_good ? "%s " : "[%s] ",
             image->path + strlen(top) + 1);
    assert_true(image->info != NULL || image->error->code != VHDX_OK);
    return ++told->count == told->stop_after ? 42 : 0;
}

static void
all_of_a_folder(void **state)
{
    struct told told = { .names = "" };
    bool        was_cut = true;

    (void)state;
    assert_int_equal(vhdx_scan_folder(top, 0, tell, &told, &was_cut, &err), VHDX_OK);
    assert_string_equal(told.names, "a.avhdx b.avhdx base.vhdx [broken.vhdx] grandchild.avhdx no extension ");
    assert_false(was_cut);
}

/* With a slash at the end of the folder's name paths have no second one. */
static void
slash_and_stop(void **state)
{
    struct told told = { .stop_after = 2 };
    char        folder[160];

    (void)state;
    snprintf(folder, sizeof folder, "%s/", top);
    assert_int_equal(vhdx_scan_folder(folder, 0, tell, &told, NULL, &err), 42);
    assert_string_equal(told.names, "a.avhdx b.avhdx ");
    assert_int_equal(vhdx_scan_folder(at("nowhere"), 0, tell, &told, NULL, &err), VHDX_E_NOT_FOUND);
    assert_true(vhdx_scan_folder(at("base.vhdx"), 0, tell, &told, NULL, &err) < 0);
}

static void
bounded(void **state)
{
    struct told told = { .names = "" };
    bool        was_cut = false;

    (void)state;
    assert_int_equal(vhdx_scan_folder(top, 3, tell, &told, &was_cut, &err), VHDX_OK);
    assert_int_equal(told.count, 3);
    assert_true(was_cut);
    told = (struct told){ .names = "" };
    assert_int_equal(vhdx_scan_folder(top, 6, tell, &told, &was_cut, &err), VHDX_OK);
    assert_int_equal(told.count, 6);
    assert_false(was_cut);
}

static void
children(void **state)
{
    const char *const also[] = { at("more"), at("."), at("more/../more") };
    struct told told = { .names = "" };
    bool        was_cut = true;

    (void)state;
    assert_int_equal(vhdx_find_children(at("base.vhdx"), NULL, 0, tell, &told, &was_cut, &err), VHDX_OK);
    assert_string_equal(told.names, "a.avhdx b.avhdx no extension ");
    assert_false(was_cut);

    told = (struct told){ .names = "" };
    assert_int_equal(vhdx_find_children(at("base.vhdx"), also, 3, tell, &told, NULL, &err), VHDX_OK);
    assert_string_equal(told.names, "a.avhdx b.avhdx no extension more/far.VHDX ");

    told = (struct told){ .names = "" };
    assert_int_equal(vhdx_find_children(at("b.avhdx"), also, 1, tell, &told, NULL, &err), VHDX_OK);
    assert_string_equal(told.names, "");
    assert_int_equal(vhdx_find_children(at("broken.vhdx"), NULL, 0, tell, &told, NULL, &err), VHDX_E_TRUNCATED);
    assert_int_equal(vhdx_find_children(at("nothing.vhdx"), NULL, 0, tell, &told, NULL, &err), VHDX_E_NOT_FOUND);
}

/* A name without a folder means the current one. */
static void
current_folder(void **state)
{
    char        old[256], expected[] = "a.avhdx ";
    struct told told = { .stop_after = 1 };

    (void)state;
    assert_non_null(getcwd(old, sizeof old));
    assert_int_equal(chdir(top), 0);
    snprintf(top, sizeof top, "."); /* what paths begin with now */
    assert_int_equal(vhdx_find_children("base.vhdx", NULL, 0, tell, &told, NULL, &err), 42);
    assert_string_equal(told.names, expected);
    assert_non_null(getcwd(top, sizeof top));
    assert_int_equal(chdir(old), 0);
}

/* Beside a machine that runs: locks do not matter, and a log that is just being written is left aside. */
static void
beside_a_writer(void **state)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE | VHDX_OPEN_NO_PARENTS };
    const uint8_t       byte = 1;
    struct vhdx_disk   *disk;
    struct told         told = { .names = "" };
    uint8_t             zeros[4096] = { 0 };
    int                 descriptor;

    (void)state;
    assert_int_equal(vhdx_disk_open_path(&disk, at("b.avhdx"), &options, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_zero(disk, 0, 2 << 20, 0, &err), VHDX_OK);
    assert_int_equal(vhdx_disk_flush(disk, &err), VHDX_OK); /* LogGuid is set */
    assert_int_equal(vhdx_find_children(at("base.vhdx"), NULL, 0, tell, &told, NULL, &err), VHDX_OK);
    assert_string_equal(told.names, "a.avhdx b.avhdx no extension ");

    descriptor = open(at("b.avhdx"), O_RDWR);
    for (off_t offset = 1 << 20; offset < 2 << 20; offset += 4096)
        assert_int_equal(pwrite(descriptor, zeros, sizeof zeros, offset), 4096);
    told = (struct told){ .names = "" };
    assert_int_equal(vhdx_find_children(at("base.vhdx"), NULL, 0, tell, &told, NULL, &err), VHDX_OK);
    assert_string_equal(told.names, "a.avhdx [b.avhdx] no extension ");
    assert_int_equal(vhdx_find_children(at("b.avhdx"), NULL, 0, tell, &told, NULL, &err), VHDX_OK);
    close(descriptor);
    assert_int_equal(vhdx_disk_write(disk, &byte, 1, 0, &err), VHDX_OK); /* it was only looked at */
    vhdx_disk_close(disk, NULL);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(all_of_a_folder), TEST(slash_and_stop), TEST(bounded),         TEST(children),
        TEST(current_folder),  TEST(beside_a_writer),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
