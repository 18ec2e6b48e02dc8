/* Replaying a path: an image whose writer died is clean afterwards, and holds what was flushed. */
#include <stdlib.h>

#include "image/image.h"
#include "ops/disk_fixture.h"

#define M(n) (UINT64_C(n) << 20)

/* An image on disk, of 20 MiB, made by streaming an empty disk. */
static void
make_image(char *path)
{
    struct vhdx_disk *from = new_raw(M(20));
    struct vhdx_error err;
    int descriptor;

    strcpy(path, "/tmp/replay_path_test.XXXXXX");
    descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    if (vhdx_write_vhdx_stream(from, descriptor, NULL, NULL, &err) < 0)
        fail_msg("%s", err.message);
    close(descriptor);
    close_disk(from);
}

/* Write and flush, then go without a word, as after SIGKILL. */
static void
write_and_die(const char *path)
{
    const struct vx_image_options options = { .is_writable = true };
    struct vhdx_storage *storage;
    struct vx_image *image;

    assert_int_equal(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, NULL), VHDX_OK);
    assert_int_equal(vx_image_open(&image, storage, &options, NULL), VHDX_OK);
    assert_int_equal(vx_image_write(image, "flushed", 7, M(5), NULL), VHDX_OK);
    assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
    vx_image_abandon(image);
    vhdx_storage_close(storage);
}

/* Whatever the writer had set aside when it died may be there still (V149): nothing worse. */
static void
check_path(const char *path, struct vhdx_check_summary *summary)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_open_path(&storage, path, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_check_storage(storage, NULL, NULL, NULL, NULL, summary, NULL), VHDX_OK);
    for (int severity = VHDX_SEVERITY_REPAIR; severity <= VHDX_SEVERITY_REFUSE; severity++)
        assert_int_equal(summary->finding_count[severity], 0);
    assert_true(summary->is_complete);
    assert_int_equal(summary->allocated_blocks, 1);
    vhdx_storage_close(storage);
}

static void
replays_what_was_flushed(void **state)
{
    char path[64], text[7];
    struct vhdx_check_summary summary;
    struct vhdx_disk *disk;
    struct vhdx_error err;
    bool was_dirty;

    (void)state;
    make_image(path);
    write_and_die(path);
    check_path(path, &summary);
    assert_true(summary.is_dirty);

    if (vhdx_replay_path(path, &was_dirty, &err) < 0)
        fail_msg("%s", err.message);
    assert_true(was_dirty);
    check_path(path, &summary);
    assert_false(summary.is_dirty);

    assert_int_equal(vhdx_disk_open_path(&disk, path, NULL, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, text, sizeof text, M(5), NULL), VHDX_OK);
    assert_memory_equal(text, "flushed", sizeof text);
    close_disk(disk);
    unlink(path);
}

/* The bytes of a file, for comparing. */
static uint64_t
sum_of(const char *path)
{
    FILE *file = fopen(path, "rb");
    uint64_t sum = 0;
    int byte;

    assert_non_null(file);
    while ((byte = getc(file)) != EOF)
        sum = sum * 31 + (uint64_t)byte + 1;
    fclose(file);
    return sum;
}

static void
leaves_a_clean_image_alone(void **state)
{
    char path[64];
    bool was_dirty = true;
    uint64_t before;

    (void)state;
    make_image(path);
    before = sum_of(path);
    assert_int_equal(vhdx_replay_path(path, &was_dirty, NULL), VHDX_OK);
    assert_false(was_dirty);
    assert_true(sum_of(path) == before);
    unlink(path);
}

static void
refuses_other_files(void **state)
{
    char path[64] = "/tmp/replay_path_test.XXXXXX";
    int descriptor = mkstemp(path);
    bool was_dirty;

    (void)state;
    assert_int_equal(write(descriptor, "nothing", 7), 7);
    close(descriptor);
    assert_int_equal(vhdx_replay_path(path, &was_dirty, NULL), VHDX_E_NOT_VHDX);
    unlink(path);
    assert_int_equal(vhdx_replay_path(path, &was_dirty, NULL), VHDX_E_NOT_FOUND);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(replays_what_was_flushed),
        cmocka_unit_test(leaves_a_clean_image_alone),
        cmocka_unit_test(refuses_other_files),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
