/* Preallocation: how much of the host's space files take from the beginning, and that no byte of them is another for it. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ops/disk_fixture.h"
#include "ops/preallocate.h"

#define M(n) (UINT64_C(n) << 20)

static char folder[64], path[96];

static int
set_up(void **state)
{
    (void)state;
    strcpy(folder, "/dev/shm/vhdx-preallocate-XXXXXX");
    if (mkdtemp(folder) == NULL) {
        strcpy(folder, "/tmp/vhdx-preallocate-XXXXXX");
        assert_non_null(mkdtemp(folder));
    }
    snprintf(path, sizeof path, "%s/file", folder);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static uint64_t
taken(uint64_t *length)
{
    struct stat status;

    assert_int_equal(stat(path, &status), 0);
    *length = (uint64_t)status.st_size;
    return (uint64_t)status.st_blocks * 512;
}

/* Of a fresh file: does this file system set space aside? */
static bool
host_allocates(void)
{
    int  descriptor = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    bool allocates = descriptor >= 0 && posix_fallocate(descriptor, 0, (off_t)M(1)) == 0;

    close(descriptor);
    unlink(path);
    return allocates;
}

struct shape {
    const char             *about;
    enum vhdx_image_type    type;
    enum vhdx_preallocation how;
    bool                    takes_all;
};
static const struct shape shapes[] = {
    { "dynamic, as it comes", VHDX_TYPE_DYNAMIC, VHDX_PREALLOCATE_DEFAULT, false },
    { "dynamic off",          VHDX_TYPE_DYNAMIC, VHDX_PREALLOCATE_OFF,     false },
    { "dynamic falloc",       VHDX_TYPE_DYNAMIC, VHDX_PREALLOCATE_FALLOC,  true },
    { "dynamic full",         VHDX_TYPE_DYNAMIC, VHDX_PREALLOCATE_FULL,    true },
    { "fixed, as it comes",   VHDX_TYPE_FIXED,   VHDX_PREALLOCATE_DEFAULT, true },
    { "fixed off",            VHDX_TYPE_FIXED,   VHDX_PREALLOCATE_OFF,     false },
    { "fixed falloc",         VHDX_TYPE_FIXED,   VHDX_PREALLOCATE_FALLOC,  true },
    { "fixed full",           VHDX_TYPE_FIXED,   VHDX_PREALLOCATE_FULL,    true },
};

static void
check_image(const struct shape *shape)
{
    struct vhdx_check_summary summary;
    struct vhdx_storage      *storage;

    assert_int_equal(vhdx_storage_open_path(&storage, path, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_check_storage(storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    for (int severity = VHDX_SEVERITY_WARN; severity <= VHDX_SEVERITY_REFUSE; severity++)
        assert_int_equal(summary.finding_count[severity], 0);
    assert_int_equal(summary.allocated_blocks, shape->type == VHDX_TYPE_FIXED ? 4 : 0);
    vhdx_storage_close(storage);
}

static void
test_shapes(void **state)
{
    bool allocates = host_allocates();

    (void)state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        const struct vhdx_create_options options = { .type = shapes[i].type, .virtual_size = M(7) + 512,
                                                     .preallocation = shapes[i].how };
        uint64_t length, room;

        assert_int_equal(vhdx_create_path(path, false, &options, NULL, NULL), VHDX_OK);
        room = taken(&length);
        assert_int_equal(length, shapes[i].type == VHDX_TYPE_FIXED ? M(12) : M(4));
        if (shapes[i].how == VHDX_PREALLOCATE_FULL || allocates) {
            if ((room >= length) != shapes[i].takes_all)
                fail_msg("%s: %u of %u bytes are taken", shapes[i].about, (unsigned)room, (unsigned)length);
        }
        check_image(&shapes[i]);
        unlink(path);
    }
}

/* A file with data in the middle grows. */
static void
grow_and_fill(enum vhdx_preallocation how)
{
    static uint8_t bytes[4096], expected[4096];
    int            descriptor = open(path, O_RDWR | O_CREAT | O_EXCL, 0600);
    bool           allocates;
    uint64_t       length;

    memset(expected, 7, sizeof expected);
    assert_int_equal(ftruncate(descriptor, (off_t)M(9)), 0);
    assert_int_equal(pwrite(descriptor, expected, sizeof expected, (off_t)M(5)), sizeof expected);
    assert_int_equal(vhdx_preallocate_path(path, M(11), how, NULL, NULL), VHDX_OK);
    assert_true(taken(&length) >= M(11));
    assert_int_equal(length, M(11));
    allocates = vhdx_preallocate_path(path, M(1), how, NULL, NULL) == VHDX_OK; /* never shorter */
    assert_true(allocates && taken(&length) >= M(11) && length == M(11));
    for (uint64_t at = 0; at < M(11); at += sizeof bytes) {
        assert_int_equal(pread(descriptor, bytes, sizeof bytes, (off_t)at), sizeof bytes);
        memset(expected, at == M(5) ? 7 : 0, sizeof expected);
        assert_memory_equal(bytes, expected, sizeof bytes);
    }
    close(descriptor);
    unlink(path);
}

static void
test_whole_file(void **state)
{
    (void)state;
    if (host_allocates())
        grow_and_fill(VHDX_PREALLOCATE_FALLOC);
    grow_and_fill(VHDX_PREALLOCATE_FULL);
    assert_int_equal(vhdx_preallocate_path(path, M(1), VHDX_PREALLOCATE_FULL, NULL, NULL), VHDX_E_NOT_FOUND);
}

/* Asked to stop before the end, and left without an image. */
static int
stop_at_once(void *context, uint64_t done, uint64_t total)
{
    assert_true(done <= total);
    return ++*(int *)context == 2;
}

static void
test_cancel(void **state)
{
    const struct vhdx_create_options options = { .type = VHDX_TYPE_FIXED, .virtual_size = M(64),
                                                 .preallocation = VHDX_PREALLOCATE_FULL };
    int                        count = 0;
    const struct vhdx_progress progress = { stop_at_once, &count };

    (void)state;
    assert_int_equal(vhdx_create_path(path, false, &options, &progress, NULL), VHDX_E_CANCELLED);
    assert_int_equal(access(path, F_OK), -1);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shapes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_whole_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cancel, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
