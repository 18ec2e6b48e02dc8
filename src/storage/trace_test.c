/* The trace: what was called, how often, with how much. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "storage/storage.h"
#include "storage/trace.h"

static struct vhdx_error err;

static struct vhdx_storage *
new_trace(void)
{
    struct vhdx_storage *base = NULL, *trace = NULL;

    assert_int_equal(vhdx_storage_new_memory(&base, 10000, &err), VHDX_OK);
    assert_int_equal(vx_trace_new(&trace, base, &err), VHDX_OK);
    return trace;
}

static void
test_counts_and_events(void **state)
{
    static const struct vx_trace_event expected[] = {
        { VX_TRACE_WRITE, 5, 4 },       { VX_TRACE_READ, 6, 2 },         { VX_TRACE_FLUSH, 0, 0 },
        { VX_TRACE_GET_SIZE, 0, 0 },    { VX_TRACE_SET_SIZE, 20000, 0 }, { VX_TRACE_ZERO, 100, 50 },
        { VX_TRACE_ALLOCATE, 200, 60 }, { VX_TRACE_NEXT_DATA, 8192, 0 }, { VX_TRACE_READ, 30000, 1 },
    };
    const size_t count = sizeof expected / sizeof expected[0];
    struct vx_trace_event events[16];
    struct vhdx_storage *trace = new_trace();
    uint64_t size, start, end;
    char bytes[4];

    (void)state;
    assert_int_equal(vx_storage_write(trace, "abcd", 4, 5, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(trace, bytes, 2, 6, &err), VHDX_OK);
    assert_memory_equal(bytes, "bc", 2);
    assert_int_equal(vx_storage_flush(trace, &err), VHDX_OK);
    assert_int_equal(vx_storage_get_size(trace, &size, &err), VHDX_OK);
    assert_true(size == 10000);
    assert_int_equal(vx_storage_set_size(trace, 20000, &err), VHDX_OK);
    assert_int_equal(vx_storage_zero(trace, 100, 50, VHDX_ZERO_RELEASE, &err), VHDX_OK);
    assert_int_equal(vx_storage_allocate(trace, 200, 60, &err), VHDX_OK);
    assert_int_equal(vx_storage_next_data(trace, 8192, &start, &end, &err), VHDX_OK);
    assert_true(start == 20000);
    assert_int_equal(vx_storage_read(trace, bytes, 1, 30000, &err), VHDX_E_TRUNCATED); /* a call all the same */

    assert_int_equal(vx_trace_events(trace, events, 16), count);
    for (size_t i = 0; i < count; i++) {
        assert_int_equal(events[i].kind, expected[i].kind);
        assert_true(events[i].file_offset == expected[i].file_offset && events[i].length == expected[i].length);
    }
    assert_int_equal(vx_trace_events(trace, events, 2), 2); /* the last two */
    assert_int_equal(events[0].kind, VX_TRACE_NEXT_DATA);
    assert_int_equal(events[1].kind, VX_TRACE_READ);
    assert_true(vx_trace_count(trace, VX_TRACE_READ) == 2 && vx_trace_bytes(trace, VX_TRACE_READ) == 3);
    assert_true(vx_trace_count(trace, VX_TRACE_WRITE) == 1 && vx_trace_bytes(trace, VX_TRACE_WRITE) == 4);

    vx_trace_reset(trace);
    assert_true(vx_trace_count(trace, VX_TRACE_READ) == 0 && vx_trace_bytes(trace, VX_TRACE_READ) == 0);
    assert_int_equal(vx_trace_events(trace, events, 16), 0);
    vhdx_storage_close(trace); /* and the base with it */
}

static void
test_keeps_the_latest(void **state)
{
    static struct vx_trace_event events[5000];
    struct vhdx_storage *trace = new_trace();
    char byte;

    (void)state;
    for (uint64_t i = 0; i < 6000; i++)
        assert_int_equal(vx_storage_read(trace, &byte, 1, i, &err), VHDX_OK);
    assert_true(vx_trace_count(trace, VX_TRACE_READ) == 6000);
    assert_int_equal(vx_trace_events(trace, events, 5000), 4096);
    for (uint64_t i = 0; i < 4096; i++)
        assert_true(events[i].file_offset == 6000 - 4096 + i);
    vhdx_storage_close(trace);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_and_events),
        cmocka_unit_test(test_keeps_the_latest),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
