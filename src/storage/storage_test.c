/* What works on any storage, with one that can do little. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "storage/storage.h"

static const char contents[] = "0123456789";

static int
read_contents(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
              struct vhdx_error *err)
{
    (void)storage;
    assert_int_equal(vector_count, 1);
    if (file_offset + vector->iov_len > 10)
        return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, 10, "the end");
    memcpy(vector->iov_base, contents + file_offset, vector->iov_len);
    return VHDX_OK;
}

static int
get_ten(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)storage, (void)err;
    *out = 10;
    return VHDX_OK;
}

static int
fail_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)storage, (void)out;
    return vx_fail(err, VHDX_E_IO, VHDX_PART_FILE, VHDX_NO_OFFSET, "broken");
}

static const struct vhdx_storage_methods small_methods = { .readv = read_contents, .get_size = get_ten };
static const struct vhdx_storage_methods broken_methods = { .readv = read_contents, .get_size = fail_size };

static void
test_everything_is_data(void **state)
{
    struct vhdx_storage storage = { .methods = &small_methods };
    static const struct {
        uint64_t from, start;
    } cases[] = { { 0, 0 }, { 3, 3 }, { 10, 10 }, { 11, 10 }, { UINT64_MAX, 10 } };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t start = 77, end = 77;

        assert_int_equal(vx_storage_next_data(&storage, cases[i].from, &start, &end, NULL), VHDX_OK);
        assert_true(start == cases[i].start && end == 10);
    }
}

static void
test_read_prefix(void **state)
{
    struct vhdx_storage storage = { .methods = &small_methods };
    static const struct {
        uint64_t    from;
        size_t      length, got;
        const char *bytes;
    } cases[] = {
        { 0, 4, 4, "0123" },          { 6, 4, 4, "6789" }, { 8, 6, 2, "89\0\0\0\0" }, { 10, 2, 0, "\0\0" },
        { UINT64_MAX, 2, 0, "\0\0" }, { 5, 0, 0, "" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char buffer[8];
        size_t got = 99;

        memset(buffer, '#', sizeof buffer);
        assert_int_equal(vx_storage_read_prefix(&storage, buffer, cases[i].length, cases[i].from, &got, NULL),
                         VHDX_OK);
        assert_int_equal(got, cases[i].got);
        assert_memory_equal(buffer, cases[i].bytes, cases[i].length);
        assert_int_equal(buffer[cases[i].length], '#');
    }
}

static void
test_failures_are_passed_on(void **state)
{
    struct vhdx_storage storage = { .methods = &broken_methods };
    struct vhdx_error err;
    uint64_t start, end;
    char buffer[4];
    size_t got;

    (void)state;
    assert_int_equal(vx_storage_next_data(&storage, 0, &start, &end, &err), VHDX_E_IO);
    assert_int_equal(vx_storage_read_prefix(&storage, buffer, 4, 0, &got, &err), VHDX_E_IO);
    assert_string_equal(err.message, "broken");
}

static void
test_close_and_name(void **state)
{
    struct vhdx_storage storage = { .methods = &small_methods };

    (void)state;
    vhdx_storage_close(NULL);
    vhdx_storage_close(&storage); /* which has no close of its own */
    assert_string_equal(vx_storage_name(&storage), "image");
    storage.name = "disk.vhdx";
    assert_string_equal(vx_storage_name(&storage), "disk.vhdx");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everything_is_data),
        cmocka_unit_test(test_read_prefix),
        cmocka_unit_test(test_failures_are_passed_on),
        cmocka_unit_test(test_close_and_name),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
