/* Free guest ranges: merged whatever their order, and what they cover. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/free_list.h"

static void
merges(void **state)
{
    static const struct vx_free_run given[] = {
        { 5000, 6000 }, { 6000, 7000 }, { 100, 200 }, { 150, 300 }, { 300, 301 }, { 9000, UINT64_MAX }, { 400, 400 },
        { 10000, 20000 }, { 120, 130 },
    };
    static const struct vx_free_run expected[] = { { 100, 301 }, { 5000, 7000 }, { 9000, 10000 } };
    struct vx_free_list list;

    (void)state;
    vx_free_list_init(&list, 10000);
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++)
        assert_int_equal(vx_free_list_take(&list, given[i].from, given[i].to - given[i].from), 0);
    vx_free_list_settle(&list);
    assert_int_equal(list.count, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(list.runs[i].from, expected[i].from);
        assert_int_equal(list.runs[i].to, expected[i].to);
    }
    assert_int_equal(vx_free_list_bytes(&list), 201 + 2000 + 1000);
    vx_free_list_destroy(&list);
}

struct cover_case {
    uint64_t from, to;
    bool     is_covered;
    size_t   found;
};

static void
covers(void **state)
{
    static const struct cover_case cases[] = {
        { 0, 10, false, 0 }, { 99, 101, false, 0 }, { 100, 200, true, 0 }, { 150, 160, true, 0 }, { 199, 201, false, 0 },
        { 200, 210, false, 1 }, { 200, 300, false, 1 }, { 300, 400, true, 1 }, { 399, 400, true, 1 },
        { 400, 401, false, 2 }, { 100, 400, false, 0 },
    };
    struct vx_free_list list;

    (void)state;
    vx_free_list_init(&list, 1000);
    assert_false(vx_free_list_covers(&list, 0, 1));
    vx_free_list_take(&list, 300, 100);
    vx_free_list_take(&list, 100, 100);
    vx_free_list_settle(&list);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(vx_free_list_covers(&list, cases[i].from, cases[i].to), cases[i].is_covered);
        assert_int_equal(vx_free_list_find(&list, cases[i].from), cases[i].found);
    }
    vx_free_list_destroy(&list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(merges),
        cmocka_unit_test(covers),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
