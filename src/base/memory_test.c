/* Allocation: sizes at the edges, and failing on demand. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/memory.h"

static void
test_sizes(void **state)
{
    uint8_t *p;

    (void)state;
    p = vx_alloc(0);
    assert_non_null(p); /* NULL always means out of memory */
    vx_free(p);
    p = vx_alloc_zeroed(0, 16);
    assert_non_null(p);
    vx_free(p);
    p = vx_alloc_zeroed(3, 5);
    assert_non_null(p);
    assert_memory_equal(p, "\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 15);
    vx_free(p);
    vx_free(NULL);
}

static void
test_no_wrap(void **state)
{
    volatile size_t many = SIZE_MAX / 2 + 2; /* volatile: compilers warn of what they can foresee */
    char *p = vx_strdup("kept"), *same;

    (void)state;
    assert_non_null(p);
    assert_null(vx_alloc_zeroed(many, 2));
    assert_null(vx_realloc_array(p, many, 2));
    assert_string_equal(p, "kept");
    same = vx_realloc_array(p, 0, 8);
    assert_non_null(same);
    vx_free(same);
}

static void
test_fails_on_demand(void **state)
{
    char *p;
    void *q;

    (void)state;
    vx_alloc_fail_nth_for_tests(2);
    p = vx_strdup("first");
    assert_non_null(p);
    assert_null(vx_alloc_zeroed(1, 1));
    q = vx_alloc(1); /* once only */
    assert_non_null(q);
    vx_free(q);
    assert_int_equal(vx_alloc_fail_nth_for_tests(1), 3);
    assert_null(vx_realloc_array(p, 2, 100));
    assert_string_equal(p, "first");
    assert_int_equal(vx_alloc_fail_nth_for_tests(0), 1);
    q = vx_alloc(1);
    assert_non_null(q);
    vx_free(q);
    vx_free(p);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_no_wrap),
        cmocka_unit_test(test_fails_on_demand),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
