/* Compacting files: what is refused before anything is written, whom it asks, what it tells. */
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
#include "image/image.h"
#include "storage/storage.h"

#define MIB  ((uint64_t)1 << 20)
#define SIZE (8 * MIB)

static char folder[64];
static const struct vhdx_parents_options any_parents = { .mode = VHDX_PARENTS_ANY };

static const char *
path_of(const char *name)
{
    static char paths[8][128];
    static int  next;

    next = (next + 1) % 8;
    snprintf(paths[next], sizeof paths[next], "%s/%s", folder, name);
    return paths[next];
}

static int
make_folder(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/vhdx-compact-XXXXXX");
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

/* --- files --- */

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

static uint8_t *
content_of(const char *name)
{
    struct vhdx_disk *disk = open_disk(name, 0);
    uint8_t          *bytes = vx_alloc((size_t)SIZE);

    assert_non_null(bytes);
    assert_int_equal(vhdx_disk_size(disk), SIZE);
    assert_int_equal(vhdx_disk_read(disk, bytes, (size_t)SIZE, 0, NULL), VHDX_OK);
    vhdx_disk_close(disk, NULL);
    return bytes;
}

static uint64_t
length_of(const char *name)
{
    struct stat status;

    assert_int_equal(stat(path_of(name), &status), 0);
    return (uint64_t)status.st_size;
}

/* The file itself, byte for byte. */
static uint8_t *
bytes_of(const char *name, uint64_t *length)
{
    FILE    *file = fopen(path_of(name), "r");
    uint8_t *bytes;

    *length = length_of(name);
    bytes = vx_alloc((size_t)*length);
    assert_non_null(file);
    assert_int_equal(fread(bytes, 1, (size_t)*length, file), *length);
    fclose(file);
    return bytes;
}

static void
assert_untouched(const char *name, uint8_t *before, uint64_t length)
{
    uint64_t now;
    uint8_t *bytes = bytes_of(name, &now);

    assert_int_equal(now, length);
    assert_memory_equal(bytes, before, (size_t)length);
    vx_free(bytes);
    vx_free(before);
}

/* Six blocks of data, the second is trimmed. */
static void
make_base(const char *name)
{
    const struct vhdx_create_options options = { .virtual_size = SIZE, .block_size = 1 << 20 };
    struct vhdx_disk                *disk;

    assert_int_equal(vhdx_create_path(path_of(name), true, &options, NULL, NULL), VHDX_OK);
    write_byte(name, 0, 6 * MIB, 1);
    disk = open_disk(name, VHDX_OPEN_WRITE);
    assert_int_equal(vhdx_disk_trim(disk, MIB, MIB, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

static void
make_child(const char *name, const char *parent)
{
    struct vhdx_error err;

    if (vhdx_create_child_path(path_of(name), true, path_of(parent), NULL, &any_parents, &err) < 0)
        fail_msg("%s", err.message);
    write_byte(name, 3 * MIB + 512, 4096, 3);
}

/* --- who knows what is free --- */

struct finder {
    uint64_t from, length; /* is free */
    uint64_t at;           /* a byte it looks at ... */
    uint8_t  value;        /* ... and what it must be */
    int      rc;           /* what it answers */
    unsigned calls;
};

static int
find(void *context, struct vhdx_disk *disk, vhdx_free_range take, void *take_context, struct vhdx_error *err)
{
    struct finder *finder = context;
    uint8_t        byte;
    int            rc = vhdx_disk_read(disk, &byte, 1, finder->at, err);

    finder->calls++;
    if (rc == VHDX_OK)
        assert_int_equal(byte, finder->value);
    if (rc == VHDX_OK)
        rc = take(take_context, finder->from, finder->length);
    return rc == VHDX_OK ? finder->rc : rc;
}

static const struct finder third_is_free = { .from = 2 * MIB, .length = MIB, .at = 0, .value = 1 };

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
must_compact(const char *name, const struct vhdx_compact_options *options, struct vhdx_compact_result *result)
{
    struct vhdx_error err;

    if (vhdx_compact_path(path_of(name), options, NULL, NULL, NULL, result, &err) < 0)
        fail_msg("%s", err.message);
}

static void
assert_refused(const char *name, const struct vhdx_compact_options *options, int code, const char *text)
{
    uint64_t          length;
    uint8_t          *before = bytes_of(name, &length);
    struct vhdx_error err = { .message = "" };

    assert_int_equal(vhdx_compact_path(path_of(name), options, NULL, NULL, NULL, NULL, &err), code);
    assert_non_null(strstr(err.message, text));
    assert_untouched(name, before, length);
}

/* --- the tests --- */

static void
tells_and_does(void **state)
{
    struct finder                 finder = third_is_free;
    const struct vhdx_free_ranges ranges = { .find = find, .context = &finder };
    struct vhdx_compact_options   options = { .free_ranges = &ranges, .dry_run = true };
    struct vhdx_compact_result    told, done;
    struct heard                  heard = { "" };
    uint64_t                      length;
    uint8_t                      *before, *content;

    (void)state;
    make_base("a.vhdx");
    fclose(fopen(path_of("a.vhdx.rct"), "w"));
    before = bytes_of("a.vhdx", &length);
    content = content_of("a.vhdx");
    assert_int_equal(vhdx_compact_path(path_of("a.vhdx"), &options, hear, &heard, NULL, &told, NULL), VHDX_OK);
    assert_untouched("a.vhdx", before, length);
    assert_non_null(strstr(heard.text, "would shrink from"));
    assert_null(strstr(heard.text, "stale"));

    options.dry_run = false;
    assert_int_equal(vhdx_compact_path(path_of("a.vhdx"), &options, hear, &heard, NULL, &done, NULL), VHDX_OK);
    assert_memory_equal(&told, &done, sizeof told);
    assert_int_equal(done.file_size_after, length_of("a.vhdx"));
    assert_int_equal(done.file_size_before, done.file_size_after + 2 * MIB);
    assert_int_equal(done.guest_bytes_free, MIB);
    assert_int_equal(done.blocks_freed, 1);
    assert_int_equal(done.blocks_moved, 2);
    assert_false(done.is_dirty);
    assert_int_equal(finder.calls, 2);
    assert_non_null(strstr(heard.text, "shrank from"));
    assert_non_null(strstr(heard.text, "a.vhdx.rct is stale"));

    memset(content + 2 * MIB, 0, (size_t)MIB);
    before = content_of("a.vhdx");
    assert_memory_equal(before, content, (size_t)SIZE);
    vx_free(before);
    vx_free(content);
}

/* Who knows what is free sees the disk with its parents; what it refuses is not begun. */
static void
asks_who_knows(void **state)
{
    struct finder                 finder = { .from = MIB, .length = MIB, .at = 3 * MIB, .value = 1 };
    const struct vhdx_free_ranges ranges = { .find = find, .context = &finder };
    struct vhdx_compact_options   options = { .free_ranges = &ranges, .parents = &any_parents };

    (void)state;
    make_base("base.vhdx");
    make_child("top.avhdx", "base.vhdx");
    must_compact("top.avhdx", &options, NULL);
    assert_int_equal(finder.calls, 1);
    finder.rc = VHDX_E_UNSUPPORTED;
    assert_refused("top.avhdx", &options, VHDX_E_UNSUPPORTED, "");
    options.parents = NULL; /* a child alone is no disk */
    assert_refused("top.avhdx", &options, VHDX_E_NO_PARENT, "");
    assert_int_equal(finder.calls, 2);
    options.free_ranges = NULL;
    must_compact("top.avhdx", &options, NULL);
}

static void
leaves_open_files_alone(void **state)
{
    struct finder                     finder = third_is_free;
    const struct vhdx_free_ranges     ranges = { .find = find, .context = &finder };
    const struct vhdx_compact_options free_ranges = { .free_ranges = &ranges }, dry_run = { .dry_run = true };
    struct vhdx_disk                 *disk;
    uint64_t                          length;

    (void)state;
    make_base("a.vhdx");
    length = length_of("a.vhdx");
    disk = open_disk("a.vhdx", 0);
    assert_refused("a.vhdx", NULL, VHDX_E_IN_USE, "a.vhdx");
    assert_refused("a.vhdx", &free_ranges, VHDX_E_IN_USE, "a.vhdx");
    must_compact("a.vhdx", &dry_run, NULL); /* reads only */
    vhdx_disk_close(disk, NULL);
    disk = open_disk("a.vhdx", VHDX_OPEN_WRITE);
    assert_refused("a.vhdx", NULL, VHDX_E_IN_USE, "a.vhdx");
    assert_refused("a.vhdx", &dry_run, VHDX_E_IN_USE, "a.vhdx");
    vhdx_disk_close(disk, NULL);
    assert_int_equal(finder.calls, 0);
    assert_int_equal(length_of("a.vhdx"), length);
}

static void
spares_children(void **state)
{
    struct finder                 finder = third_is_free;
    const struct vhdx_free_ranges ranges = { .find = find, .context = &finder };
    struct vhdx_compact_options   options = { .free_ranges = &ranges };
    char                          sub[128];
    const char                   *also[] = { sub };
    uint8_t                      *before, *after;
    struct vhdx_compact_result    result;

    (void)state;
    snprintf(sub, sizeof sub, "%s", path_of("sub"));
    make_base("base.vhdx");
    make_child("sub/far.avhdx", "base.vhdx");
    options.also = also;
    options.also_count = 1;
    assert_refused("base.vhdx", &options, VHDX_E_HAS_CHILDREN, "far.avhdx");
    make_child("near.avhdx", "base.vhdx");
    options.also_count = 0;
    assert_refused("base.vhdx", &options, VHDX_E_HAS_CHILDREN, "near.avhdx");
    options.dry_run = true; /* says the same as the run would */
    assert_refused("base.vhdx", &options, VHDX_E_HAS_CHILDREN, "near.avhdx");
    options.dry_run = false;
    assert_int_equal(finder.calls, 0);

    options.free_ranges = NULL; /* a child cannot tell */
    before = content_of("near.avhdx");
    must_compact("base.vhdx", &options, &result);
    assert_true(result.blocks_moved > 0);
    after = content_of("near.avhdx");
    assert_memory_equal(before, after, (size_t)SIZE);
    vx_free(before);
    vx_free(after);

    options.free_ranges = &ranges;
    options.orphan_children = true;
    must_compact("base.vhdx", &options, &result);
    assert_int_equal(result.blocks_freed, 1);
    options.orphan_children = false; /* now it has none */
    must_compact("base.vhdx", &options, &result);
    assert_int_equal(finder.calls, 2);
}

/* Write and flush, then go without a word, as after SIGKILL. */
static void
write_and_die(const char *name)
{
    const struct vx_image_options options = { .is_writable = true };
    struct vhdx_storage          *storage;
    struct vx_image              *image;

    assert_int_equal(vhdx_storage_open_path(&storage, path_of(name), VHDX_STORAGE_WRITE, NULL), VHDX_OK);
    assert_int_equal(vx_image_open(&image, storage, &options, NULL), VHDX_OK);
    assert_int_equal(vx_image_trim(image, 3 * MIB, MIB, NULL), VHDX_OK);
    assert_int_equal(vx_image_write(image, "flushed", 7, 6 * MIB, NULL), VHDX_OK);
    assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
    vx_image_abandon(image);
    vhdx_storage_close(storage);
}

static void
replays_first(void **state)
{
    struct vhdx_compact_options options = { .dry_run = true };
    struct vhdx_compact_result  told, done;
    uint64_t                    length;
    uint8_t                    *before, *after;

    (void)state;
    make_base("a.vhdx");
    write_and_die("a.vhdx");
    before = bytes_of("a.vhdx", &length);
    must_compact("a.vhdx", &options, &told);
    assert_untouched("a.vhdx", before, length);
    assert_true(told.is_dirty);

    before = content_of("a.vhdx");
    must_compact("a.vhdx", NULL, &done);
    assert_memory_equal(&told, &done, sizeof told);
    assert_int_equal(done.file_size_after, length_of("a.vhdx"));
    after = content_of("a.vhdx");
    assert_memory_equal(before, after, (size_t)SIZE);
    assert_memory_equal(after + 6 * MIB, "flushed", 7);
    vx_free(before);
    vx_free(after);
    must_compact("a.vhdx", NULL, &done);
    assert_false(done.is_dirty);
}

struct stopper {
    unsigned calls_left, calls;
};

static int
stop(void *context, uint64_t done, uint64_t total)
{
    struct stopper *stopper = context;

    assert_true(done <= total);
    stopper->calls++;
    return stopper->calls_left-- == 0;
}

static void
is_cancelled_and_goes_on(void **state)
{
    struct finder                     finder = third_is_free;
    const struct vhdx_free_ranges     ranges = { .find = find, .context = &finder };
    const struct vhdx_compact_options options = { .free_ranges = &ranges, .zeroes = true };
    struct vhdx_compact_result        result;
    unsigned                          cancelled = 0;
    uint64_t                          length;
    uint8_t                          *before, *after;
    int                               rc;

    (void)state;
    make_base("a.vhdx");
    length = length_of("a.vhdx");
    before = content_of("a.vhdx");
    do {
        struct stopper             stopper = { .calls_left = cancelled };
        const struct vhdx_progress progress = { .report = stop, .context = &stopper };

        rc = vhdx_compact_path(path_of("a.vhdx"), &options, NULL, NULL, &progress, &result, NULL);
        cancelled += rc == VHDX_E_CANCELLED;
        assert_int_equal(result.file_size_after, length_of("a.vhdx"));
        after = content_of("a.vhdx");
        if (result.blocks_freed > 0)
            memset(before + 2 * MIB, 0, (size_t)MIB);
        assert_memory_equal(before, after, (size_t)SIZE);
        vx_free(after);
    } while (rc == VHDX_E_CANCELLED);
    assert_int_equal(rc, VHDX_OK);
    assert_true(cancelled > 6);
    assert_int_equal(length_of("a.vhdx"), length - 2 * MIB);
    vx_free(before);
}

static void
refuses_what_is_no_image(void **state)
{
    struct vhdx_error err;
    FILE             *file;

    (void)state;
    assert_int_equal(vhdx_compact_path(path_of("nothing"), NULL, NULL, NULL, NULL, NULL, &err), VHDX_E_NOT_FOUND);
    file = fopen(path_of("raw"), "w");
    for (int i = 0; i < 1 << 20; i++)
        fputc('x', file);
    fclose(file);
    assert_refused("raw", NULL, VHDX_E_NOT_VHDX, "raw");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(tells_and_does, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(asks_who_knows, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(leaves_open_files_alone, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(spares_children, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(replays_first, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(is_cancelled_and_goes_on, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(refuses_what_is_no_image, make_folder, remove_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
