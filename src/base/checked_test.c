/* Integer arithmetic at its edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/checked.h"

static void
test_add_and_multiply(void **state)
{
    static const struct {
        const char *about;
        uint64_t    a, b;
        bool        sum_fits, product_fits;
    } cases[] = {
        { "nothing",                  0,                    0,                     true,  true },
        { "the greatest and nothing", UINT64_MAX,           0,                     true,  true },
        { "the greatest and one",     UINT64_MAX,           1,                     false, true },
        { "one and the greatest",     1,                    UINT64_MAX,            false, true },
        { "halves",                   UINT64_MAX / 2,       UINT64_MAX / 2 + 1,    true,  false },
        { "halves and one",           UINT64_MAX / 2 + 1,   UINT64_MAX / 2 + 1,    false, false },
        { "roots",                    UINT64_C(1) << 32,    UINT64_C(1) << 32,     true,  false },
        { "just below the roots",     UINT64_C(1) << 32,    (UINT64_C(1) << 32) - 1, true, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t sum = 42, product = 42;

        if (vx_add_u64(cases[i].a, cases[i].b, &sum) != cases[i].sum_fits ||
            vx_mul_u64(cases[i].a, cases[i].b, &product) != cases[i].product_fits)
            fail_msg("%s", cases[i].about);
        assert_true(sum == (cases[i].sum_fits ? cases[i].a + cases[i].b : 42));
        assert_true(product == (cases[i].product_fits ? cases[i].a * cases[i].b : 42));
    }
}

static void
test_rounding(void **state)
{
    (void)state;
    assert_true(vx_round_down(0, VX_MIB) == 0);
    assert_true(vx_round_down(VX_MIB - 1, VX_MIB) == 0);
    assert_true(vx_round_down(VX_MIB, VX_MIB) == VX_MIB);
    assert_true(vx_round_up(0, VX_MIB) == 0);
    assert_true(vx_round_up(1, VX_MIB) == VX_MIB);
    assert_true(vx_round_up(VX_MIB, VX_MIB) == VX_MIB);
    assert_true(vx_round_up(UINT64_MAX, VX_MIB) == UINT64_MAX - VX_MIB + 1); /* saturates, never wraps */
    assert_true(vx_round_up(UINT64_MAX - VX_MIB + 1, VX_MIB) == UINT64_MAX - VX_MIB + 1);
    assert_true(vx_is_aligned(0, 512) && vx_is_aligned(1024, 512) && !vx_is_aligned(1025, 512));
    assert_true(vx_ceil_div(0, 8) == 0 && vx_ceil_div(1, 8) == 1 && vx_ceil_div(8, 8) == 1);
    assert_true(vx_ceil_div(UINT64_MAX, 2) == UINT64_C(1) << 63);
    assert_true(vx_min_u64(1, 2) == 1 && vx_min_u64(2, 1) == 1 && vx_max_u64(1, 2) == 2 && vx_max_u64(2, 1) == 2);
}

static void
test_overlap(void **state)
{
    static const struct {
        const char *about;
        uint64_t    a, a_length, b, b_length;
        bool        overlap;
    } cases[] = {
        { "neighbours",              0, 10, 10, 10, false },
        { "one byte shared",         0, 11, 10, 10, true },
        { "the same",                5, 5,  5,  5,  true },
        { "one inside the other",    0, 100, 50, 1, true },
        { "empty inside",            0, 100, 50, 0, false },
        { "up to the last byte",     UINT64_MAX - 10, 10, UINT64_MAX - 1, 1, true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (vx_ranges_overlap(cases[i].a, cases[i].a_length, cases[i].b, cases[i].b_length) != cases[i].overlap ||
            vx_ranges_overlap(cases[i].b, cases[i].b_length, cases[i].a, cases[i].a_length) != cases[i].overlap)
            fail_msg("%s", cases[i].about);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_add_and_multiply),
        cmocka_unit_test(test_rounding),
        cmocka_unit_test(test_overlap),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
