/* Comparing disks: where they differ first, what counts as zeros. */
#include "ops/disk_fixture.h"

#define M(n) (UINT64_C(n) << 20)

struct range {
    uint64_t guest_offset;
    size_t   length; /* 0: none */
};

struct compare_case {
    const char  *about;
    uint64_t     size_a, size_b;
    struct range in_a, in_b;
    bool         is_equal;
    uint64_t     first_difference;
};

static const struct compare_case cases[] = {
    { "two empty disks", M(10), M(10), { 0, 0 }, { 0, 0 }, true, 0 },
    { "nothing and nothing", 0, 0, { 0, 0 }, { 0, 0 }, true, 0 },
    { "an empty tail counts as zeros", M(10), M(3), { 0, 0 }, { 0, 0 }, true, 0 },
    { "the same data", M(10), M(10), { M(3), 70000 }, { M(3), 70000 }, true, 0 },
    { "the same data, one disk longer", M(10), M(20), { M(3), 70000 }, { M(3), 70000 }, true, 0 },
    { "data against a hole", M(10), M(10), { M(3) + 5, 70000 }, { 0, 0 }, false, M(3) + 5 },
    { "a hole against data", M(10), M(10), { 0, 0 }, { M(3) + 5, 70000 }, false, M(3) + 5 },
    { "the last byte", M(10), M(10), { M(10) - 1, 1 }, { 0, 0 }, false, M(10) - 1 },
    { "the first byte", M(10), M(10), { 0, 1 }, { 0, 0 }, false, 0 },
    { "one ends earlier", M(10), M(10), { M(1), M(5) }, { M(1), M(5) - 1 }, false, M(6) - 1 },
    { "data past the end of the other", M(10), M(3), { M(7) + 1, 2 }, { 0, 0 }, false, M(7) + 1 },
    { "the other way round", M(3), M(10), { 0, 0 }, { M(7) + 1, 2 }, false, M(7) + 1 },
    { "odd sizes", M(3) + 7, M(3) + 1, { M(3), 1 }, { M(3), 1 }, true, 0 },
    { "difference in the second step", M(10), M(10), { 0, M(5) }, { 0, M(4) + 77 }, false, M(4) + 77 },
};

static void
finds_the_first_difference(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct compare_case *c = &cases[i];
        struct vhdx_disk *a = new_raw(c->size_a), *b = new_raw(c->size_b);
        uint64_t first_difference = 0;
        bool is_equal;

        if (c->in_a.length > 0)
            write_pattern(a, c->in_a.guest_offset, c->in_a.length);
        if (c->in_b.length > 0)
            write_pattern(b, c->in_b.guest_offset, c->in_b.length);
        assert_int_equal(vhdx_compare(a, b, NULL, &is_equal, &first_difference, NULL), VHDX_OK);
        if (is_equal != c->is_equal || (!is_equal && first_difference != c->first_difference))
            fail_msg("%s: %s, at %llu", c->about, is_equal ? "equal" : "different",
                     (unsigned long long)first_difference);
        close_disk(a);
        close_disk(b);
    }
}

/* 32 TiB of nothing on both sides, and a byte at the end. */
static void
does_not_read_emptiness(void **state)
{
    struct vhdx_disk *a = new_raw(UINT64_C(32) << 40), *b = new_raw(UINT64_C(32) << 40);
    uint64_t first_difference;
    bool is_equal;

    (void)state;
    write_pattern(a, (UINT64_C(32) << 40) - 3, 1);
    assert_int_equal(vhdx_compare(a, b, NULL, &is_equal, &first_difference, NULL), VHDX_OK);
    assert_false(is_equal);
    assert_true(first_difference == (UINT64_C(32) << 40) - 3);
    close_disk(a);
    close_disk(b);
}

static int
stop(void *context, uint64_t done, uint64_t total)
{
    uint64_t *calls = context;

    assert_true(done <= total);
    return ++*calls == 2;
}

static void
can_be_cancelled(void **state)
{
    uint64_t calls = 0;
    const struct vhdx_progress progress = { .report = stop, .context = &calls };
    struct vhdx_disk *a = new_raw(M(10)), *b = new_raw(M(10));
    uint64_t first_difference;
    bool is_equal;

    (void)state;
    write_pattern(a, 0, M(10));
    write_pattern(b, 0, M(10));
    assert_int_equal(vhdx_compare(a, b, &progress, &is_equal, &first_difference, NULL), VHDX_E_CANCELLED);
    assert_int_equal(calls, 2);
    close_disk(a);
    close_disk(b);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_the_first_difference),
        cmocka_unit_test(does_not_read_emptiness),
        cmocka_unit_test(can_be_cancelled),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
