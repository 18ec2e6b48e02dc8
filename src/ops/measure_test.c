/* Measuring: the numbers are those of real copies, for disks of every kind and images of every shape. */
#include <stdlib.h>

#include "ops/disk_fixture.h"

#define M(n) (UINT64_C(n) << 20)

static const struct vhdx_create_options shapes[] = {
    { .virtual_size = 0 },
    { .block_size = 1 << 20, .logical_sector_size = 4096 },
    { .block_size = 32 << 20, .log_size = 3 << 20 },
};

/* The length of an image in memory that the disk was copied to. */
static uint64_t
length_of_copy(struct vhdx_disk *from, struct vhdx_create_options options, enum vhdx_image_type type, bool detect_zeros)
{
    const struct vhdx_copy_options copy = { .thread_count = 3, .detect_zeros = detect_zeros };
    const struct vhdx_open_options writing = { .flags = VHDX_OPEN_WRITE, .format = VHDX_FORMAT_VHDX };
    char                           path[] = "/tmp/measure_test.XXXXXX";
    int                            descriptor = mkstemp(path);
    struct vhdx_disk              *to;
    struct vhdx_error              err;
    uint64_t                       length;

    options.type = type;
    options.virtual_size = vx_round_up(vhdx_disk_size(from), options.logical_sector_size == 4096 ? 4096 : 512);
    options.preallocation = VHDX_PREALLOCATE_OFF;
    if (descriptor < 0 || vhdx_create_path(path, true, &options, NULL, &err) < 0 ||
        vhdx_disk_open_path(&to, path, &writing, &err) < 0 || vhdx_copy(from, to, &copy, NULL, &err) < 0 ||
        vhdx_disk_close(to, &err) < 0)
        fail_msg("%s", err.message);
    length = (uint64_t)lseek(descriptor, 0, SEEK_END);
    close(descriptor);
    unlink(path);
    return length;
}

static void
measure_like_copies(struct vhdx_disk *from)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        for (int detect_zeros = 0; detect_zeros < 2; detect_zeros++) {
            struct vhdx_measure_result result;

            assert_int_equal(vhdx_measure(from, &shapes[i], detect_zeros != 0, NULL, &result, NULL), VHDX_OK);
            assert_int_equal(result.virtual_size, vhdx_disk_size(from));
            assert_int_equal(result.raw_file_size, vhdx_disk_size(from));
            assert_int_equal(result.dynamic_file_size,
                             length_of_copy(from, shapes[i], VHDX_TYPE_DYNAMIC, detect_zeros != 0));
            assert_int_equal(result.fixed_file_size, length_of_copy(from, shapes[i], VHDX_TYPE_FIXED, detect_zeros != 0));
        }
    }
}

static void
test_like_copies(void **state)
{
    static const uint8_t zeros[8192];
    struct vhdx_disk    *disk = new_raw(M(70) + 512 * 3);
    struct vhdx_error    err;

    (void)state;
    measure_like_copies(disk);
    write_pattern(disk, M(2) - 512, 1024);          /* over the border of blocks */
    write_pattern(disk, M(9), (size_t)M(3));
    write_pattern(disk, M(70) + 1024, 512);         /* the last sector */
    assert_int_equal(vhdx_disk_write(disk, zeros, sizeof zeros, M(20), &err), VHDX_OK); /* zeros that are stored */
    measure_like_copies(disk);
    close_disk(disk);
}

static void
test_data(void **state)
{
    struct vhdx_disk          *disk = new_raw(M(8));
    struct vhdx_measure_result result;

    (void)state;
    write_pattern(disk, 4096 * 5, 4096 * 2);
    write_pattern(disk, M(5), 4096);
    assert_int_equal(vhdx_measure(disk, NULL, true, NULL, &result, NULL), VHDX_OK);
    assert_int_equal(result.data_bytes, 4096 * 3);
    close_disk(disk);
}

static int
stop(void *context, uint64_t done, uint64_t total)
{
    (void)context, (void)done, (void)total;
    return 1;
}

static void
test_errors(void **state)
{
    const struct vhdx_create_options bad = { .block_size = 3 << 20 };
    const struct vhdx_progress       progress = { .report = stop };
    struct vhdx_disk                *disk = new_raw(M(8));
    struct vhdx_measure_result       result;

    (void)state;
    assert_int_equal(vhdx_measure(disk, &bad, true, NULL, &result, NULL), VHDX_E_INVALID);
    assert_int_equal(vhdx_measure(disk, NULL, true, &progress, &result, NULL), VHDX_E_CANCELLED);
    vx_alloc_fail_nth_for_tests(1);
    assert_int_equal(vhdx_measure(disk, NULL, true, NULL, &result, NULL), VHDX_E_NO_MEMORY);
    vx_alloc_fail_nth_for_tests(0);
    close_disk(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_like_copies),
        cmocka_unit_test(test_data),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
