/* Sorting: every order of a few elements, many elements, elements that are equal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/sort.h"

static bool
is_less(const void *context, size_t a, size_t b)
{
    const uint32_t *numbers = context;

    return numbers[a] < numbers[b];
}

static void
swap(void *context, size_t a, size_t b)
{
    uint32_t *numbers = context;
    uint32_t kept = numbers[a];

    numbers[a] = numbers[b];
    numbers[b] = kept;
}

static const struct vx_sort_order rising = { is_less, swap };

/* Every list of up to six digits below six. */
static void
all_short_lists(void **state)
{
    uint32_t numbers[6], code, sum;
    size_t count, i;

    (void)state;
    for (count = 0; count <= 6; count++) {
        for (code = 0; code < 46656; code++) { /* 6^6 */
            uint32_t rest = code;

            for (sum = 0, i = 0; i < count; i++, rest /= 6)
                sum += UINT32_C(1) << (4 * (numbers[i] = rest % 6));
            vx_sort(numbers, count, &rising);
            for (i = 0; i < count; i++)
                sum -= UINT32_C(1) << (4 * numbers[i]);
            assert_int_equal(sum, 0); /* the same digits, each as often as before */
            for (i = 1; i < count; i++)
                assert_true(numbers[i - 1] <= numbers[i]);
        }
    }
}

static void
long_lists(void **state)
{
    static uint32_t numbers[20000];
    const size_t count = sizeof numbers / sizeof numbers[0];
    uint32_t random = 1;
    size_t i;
    int pattern;

    (void)state;
    for (pattern = 0; pattern < 4; pattern++) {
        for (i = 0; i < count; i++) {
            random = random * 1664525 + 1013904223;
            numbers[i] = pattern == 0   ? random
                         : pattern == 1 ? (uint32_t)i
                         : pattern == 2 ? (uint32_t)(count - i)
                                        : 7;
        }
        vx_sort(numbers, count, &rising);
        for (i = 1; i < count; i++)
            assert_true(numbers[i - 1] <= numbers[i]);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_short_lists),
        cmocka_unit_test(long_lists),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
