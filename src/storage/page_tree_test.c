/* The tree of pages: far apart, removed in ranges, gone when empty, unharmed when memory is short. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>


#include "base/memory.h"
#include "storage/page_tree.h"

#define FAR_AWAY ((UINT64_C(1) << 51) - 1) /* the last page of the longest file */

static void
test_make_and_find(void **state)
{
    static const uint64_t places[] = { 0, 63, 64, 4095, 4096, UINT64_C(1) << 34, FAR_AWAY };
    struct vx_page_tree tree = { 0 };

    (void)state;
    assert_null(vx_page_find(&tree, 0));
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        uint8_t *page = vx_page_make(&tree, places[i]);

        assert_non_null(page);
        assert_int_equal(page[4095], 0);
        page[17] = (uint8_t)(i + 1);
    }
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        assert_int_equal(vx_page_find(&tree, places[i])[17], i + 1);
        assert_ptr_equal(vx_page_make(&tree, places[i]), vx_page_find(&tree, places[i]));
    }
    assert_null(vx_page_find(&tree, 1));
    assert_null(vx_page_find(&tree, FAR_AWAY - 1));
    assert_null(vx_page_find(&tree, UINT64_MAX));
    vx_page_free_range(&tree, 0, UINT64_MAX);
    assert_null(tree.root);
}

static void
test_next(void **state)
{
    static const struct {
        uint64_t from, found; /* UINT64_MAX: none */
    } cases[] = {
        { 0, 5 }, { 5, 5 }, { 6, 64 * 64 + 3 }, { 64 * 64 + 3, 64 * 64 + 3 }, { 64 * 64 + 4, UINT64_C(1) << 40 },
        { (UINT64_C(1) << 40) + 1, UINT64_MAX }, { UINT64_MAX, UINT64_MAX },
    };
    struct vx_page_tree tree = { 0 };
    uint64_t found;

    (void)state;
    assert_false(vx_page_next(&tree, 0, &found));
    vx_page_make(&tree, UINT64_C(1) << 40);
    vx_page_make(&tree, 64 * 64 + 3);
    vx_page_make(&tree, 5);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const bool is_found = vx_page_next(&tree, cases[i].from, &found);

        assert_int_equal(is_found, cases[i].found != UINT64_MAX);
        assert_true(!is_found || found == cases[i].found);
    }
    vx_page_free_range(&tree, 0, UINT64_MAX);
}

/* Every range over a few hundred pages. */
static void
test_free_range(void **state)
{
    (void)state;
    for (uint64_t first = 0; first < 140; first += 7) {
        for (uint64_t end = first; end < 300; end += 31) {
            struct vx_page_tree tree = { 0 };

            for (uint64_t i = 0; i < 280; i++)
                assert_non_null(vx_page_make(&tree, i));
            vx_page_free_range(&tree, first, end);
            for (uint64_t i = 0; i < 280; i++)
                assert_int_equal(vx_page_find(&tree, i) != NULL, i < first || i >= end);
            vx_page_free_range(&tree, 0, 1000);
            assert_null(tree.root);
        }
    }
}

static void
test_out_of_memory(void **state)
{
    struct vx_page_tree tree = { 0 };
    uint8_t *page = NULL;
    size_t n;

    (void)state;
    assert_non_null(vx_page_make(&tree, 3));
    for (n = 1; !page; n++) {
        vx_alloc_fail_nth_for_tests(n);
        page = vx_page_make(&tree, UINT64_C(1) << 33);
        vx_alloc_fail_nth_for_tests(0);
        assert_non_null(vx_page_find(&tree, 3));
        vx_page_free_range(&tree, 10, UINT64_MAX); /* also what was made half */
        assert_non_null(vx_page_find(&tree, 3));
    }
    assert_in_range(n, 5, 20);
    vx_page_free_range(&tree, 0, UINT64_MAX);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_make_and_find),
        cmocka_unit_test(test_next),
        cmocka_unit_test(test_free_range),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
