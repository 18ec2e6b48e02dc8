/* Copying between disks: what arrives, what is skipped, how it ends early. */
#include <errno.h>

#include "ops/disk_fixture.h"
#include "storage/fault.h"
#include "storage/trace.h"

#define M(n) (UINT64_C(n) << 20)

/* Data at both ends, across a chunk's border, in crumbs, and a stretch of written zeros. */
static void
fill_source(struct vhdx_disk *disk)
{
    uint8_t *zeros = vx_alloc_zeroed(1, M(3));
    uint64_t size = vhdx_disk_size(disk);

    assert_non_null(zeros);
    write_pattern(disk, 0, 5000);
    write_pattern(disk, M(4) - 100, 200);
    write_pattern(disk, M(6), M(9));
    for (uint64_t i = 0; i < 200; i++)
        write_pattern(disk, M(20) + i * 16384, 512);
    assert_int_equal(vhdx_disk_write(disk, zeros, M(3), M(30), NULL), VHDX_OK);
    write_pattern(disk, M(31), 4096);
    write_pattern(disk, size - 3, 3);
    vx_free(zeros);
}

struct copy_case {
    const char              *about;
    struct vhdx_copy_options options;
    uint64_t                 target_size;
};

static const struct copy_case cases[] = {
    { "one thread", { .thread_count = 1 }, M(40) },
    { "one thread, zeros detected", { .thread_count = 1, .detect_zeros = true }, M(40) },
    { "four threads", { .thread_count = 4 }, M(40) },
    { "four threads, zeros detected", { .thread_count = 4, .detect_zeros = true }, M(40) },
    { "more threads than chunks", { .thread_count = 1000, .detect_zeros = true }, M(40) },
    { "threads as they come", { .thread_count = 0 }, M(40) },
    { "a larger target", { .detect_zeros = true }, M(57) },
};

static void
copies_raw_to_raw(void **state)
{
    struct vhdx_disk *from = new_raw(M(40));

    (void)state;
    fill_source(from);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_disk *to = new_raw(cases[i].target_size);
        struct vhdx_error err;

        if (vhdx_copy(from, to, &cases[i].options, NULL, &err) < 0)
            fail_msg("%s: %s", cases[i].about, err.message);
        assert_same_contents(from, to, cases[i].about);
        close_disk(to);
    }
    close_disk(from);
}

static void
copies_into_vhdx_and_back(void **state)
{
    static const struct vhdx_copy_options options = { .thread_count = 3, .detect_zeros = true };
    struct vhdx_disk *from = new_raw(M(40)), *empty = new_raw(M(40)), *back = new_raw(M(40)), *image;
    struct vhdx_storage *storage = stream_to_storage(empty, NULL);
    struct vhdx_error err;

    (void)state;
    fill_source(from);
    image = open_fixture(storage, VHDX_FORMAT_VHDX, VHDX_OPEN_WRITE);
    if (vhdx_copy(from, image, &options, NULL, &err) < 0 || vhdx_copy(image, back, &options, NULL, &err) < 0)
        fail_msg("%s", err.message);
    assert_same_contents(from, image, "raw to VHDX");
    assert_same_contents(from, back, "VHDX to raw");
    close_disk(image);
    close_disk(back);
    close_disk(empty);
    close_disk(from);
}

/* What is known to be zeros is neither read nor written. */
static void
skips_zeros(void **state)
{
    static const struct vhdx_copy_options blind = { .thread_count = 1 };
    static const struct vhdx_copy_options seeing = { .thread_count = 1, .detect_zeros = true };
    const struct vhdx_copy_options *options[] = { &blind, &seeing };
    static const uint64_t written[] = { 12 * 4096, 2 * 4096 };
    struct vhdx_disk *from = new_raw(M(40));
    uint8_t zeros[10 * 4096] = { 0 };

    (void)state;
    write_pattern(from, M(8), 4096);
    assert_int_equal(vhdx_disk_write(from, zeros, sizeof zeros, M(8) + 4096, NULL), VHDX_OK);
    write_pattern(from, M(8) + 11 * 4096, 4096);
    for (int i = 0; i < 2; i++) {
        struct vhdx_storage *memory, *trace;
        struct vhdx_disk *to;

        assert_int_equal(vhdx_storage_new_memory(&memory, M(40), NULL), VHDX_OK);
        assert_int_equal(vx_trace_new(&trace, memory, NULL), VHDX_OK);
        to = open_fixture(trace, VHDX_FORMAT_RAW, VHDX_OPEN_WRITE);
        assert_int_equal(vhdx_copy(from, to, options[i], NULL, NULL), VHDX_OK);
        assert_int_equal(vx_trace_bytes(trace, VX_TRACE_WRITE), written[i]);
        assert_true(vx_trace_count(trace, VX_TRACE_FLUSH) >= 1);
        close_disk(to);
    }
    close_disk(from);
}

/* 60 TiB with a few bytes at the end. */
static void
jumps_over_emptiness(void **state)
{
    const uint64_t size = UINT64_C(60) << 40;
    struct vhdx_disk *from = new_raw(size), *to = new_raw(size);

    (void)state;
    write_pattern(from, size - 4096, 4096);
    assert_int_equal(vhdx_copy(from, to, NULL, NULL, NULL), VHDX_OK);
    assert_same_contents(from, to, "the last page");
    close_disk(to);
    close_disk(from);
}

struct watch {
    uint64_t last, total, calls;
    uint64_t stop_at; /* call number, 0: never */
};

static int
look(void *context, uint64_t done, uint64_t total)
{
    struct watch *watch = context;

    assert_true(done >= watch->last && done <= total);
    watch->last = done;
    watch->total = total;
    return ++watch->calls == watch->stop_at;
}

static void
tells_progress(void **state)
{
    struct watch watch = { .stop_at = 0 };
    const struct vhdx_progress progress = { .report = look, .context = &watch };
    struct vhdx_disk *from = new_raw(M(40)), *to = new_raw(M(40));

    (void)state;
    fill_source(from);
    assert_int_equal(vhdx_copy(from, to, NULL, &progress, NULL), VHDX_OK);
    assert_true(watch.last == M(40) && watch.total == M(40));
    close_disk(to);
    close_disk(from);
}

static void
can_be_cancelled(void **state)
{
    struct watch watch = { .stop_at = 3 };
    const struct vhdx_progress progress = { .report = look, .context = &watch };
    static const struct vhdx_copy_options options = { .thread_count = 4 };
    struct vhdx_disk *from = new_raw(M(40)), *to = new_raw(M(40));
    struct vhdx_error err;

    (void)state;
    write_pattern(from, 0, M(40));
    assert_int_equal(vhdx_copy(from, to, &options, &progress, &err), VHDX_E_CANCELLED);
    assert_int_equal(err.code, VHDX_E_CANCELLED);
    assert_int_equal(watch.calls, 3);
    close_disk(to);
    close_disk(from);
}

static void
refuses_a_smaller_target(void **state)
{
    struct vhdx_disk *from = new_raw(M(2)), *to = new_raw(M(1));
    struct vhdx_error err;

    (void)state;
    assert_int_equal(vhdx_copy(from, to, NULL, NULL, &err), VHDX_E_INVALID);
    close_disk(to);
    close_disk(from);
}

/* Each write of the target fails in turn, and its flush: the job ends with that error. */
static void
ends_with_the_first_error(void **state)
{
    static const struct vx_fault_options fault_options = { .tear_unit = 512 };
    static const struct vhdx_copy_options options = { .thread_count = 3 };
    struct vhdx_disk *from = new_raw(M(40));

    (void)state;
    write_pattern(from, 0, M(40));
    for (uint64_t n = 1; n <= 10; n++) {
        struct vhdx_storage *storage;
        struct vhdx_disk *to;
        struct vx_fault *fault;
        struct vhdx_error err;
        uint32_t mask = n == 10 ? 1u << VX_CALL_FLUSH : 1u << VX_CALL_WRITE;

        assert_int_equal(vx_fault_new(&fault, &fault_options, NULL), VHDX_OK);
        assert_int_equal(vx_fault_open(&storage, fault, false, NULL), VHDX_OK);
        assert_int_equal(vx_storage_set_size(storage, M(40), NULL), VHDX_OK);
        to = open_fixture(storage, VHDX_FORMAT_RAW, VHDX_OPEN_WRITE);
        vx_fault_fail_nth(fault, n == 10 ? 1 : n, mask, n % 2 ? EIO : ENOSPC, n);
        assert_int_equal(vhdx_copy(from, to, &options, NULL, &err), n % 2 ? VHDX_E_IO : VHDX_E_NO_SPACE);
        assert_true(vx_fault_has_failed(fault, NULL));
        vhdx_disk_close(to, NULL);
        vx_fault_free(fault);
    }
    close_disk(from);
}

static void
survives_lack_of_memory(void **state)
{
    static const struct vhdx_copy_options options = { .thread_count = 2 };
    struct vhdx_disk *from = new_raw(M(9)), *to = new_raw(M(9));
    int rc;

    (void)state;
    write_pattern(from, 0, M(9));
    vx_alloc_fail_nth_for_tests(1);
    rc = vhdx_copy(from, to, &options, NULL, NULL);
    assert_int_equal(rc, VHDX_E_NO_MEMORY);
    vx_alloc_fail_nth_for_tests(0);
    close_disk(to);
    close_disk(from);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(copies_raw_to_raw),
        cmocka_unit_test(copies_into_vhdx_and_back),
        cmocka_unit_test(skips_zeros),
        cmocka_unit_test(jumps_over_emptiness),
        cmocka_unit_test(tells_progress),
        cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test(refuses_a_smaller_target),
        cmocka_unit_test(ends_with_the_first_error),
        cmocka_unit_test(survives_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
