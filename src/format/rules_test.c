/* The table of rules: every number of the digest, and something to say for each. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include <vhdx/rules.h>

/* The numbers in use, docs/vhdx-format.md 8.1 to 8.9. */
static const struct {
    int first, last;
} ranges[] = {
    { 1, 7 }, { 10, 28 }, { 30, 48 }, { 55, 70 }, { 75, 107 }, { 110, 150 }, { 155, 158 },
};

static bool
is_in_use(int number)
{
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (number >= ranges[i].first && number <= ranges[i].last)
            return true;
    return false;
}

static void
every_rule_has_a_row(void **state)
{
    (void)state;
    for (int number = -1; number <= VHDX_RULE_COUNT; number++) {
        const struct vhdx_rule *rule = vhdx_rule_get(number);

        assert_int_equal(rule != NULL, is_in_use(number));
        if (rule == NULL)
            continue;
        assert_int_equal(rule->number, number);
        assert_true(rule->part > VHDX_PART_NONE && rule->part <= VHDX_PART_CHAIN);
        assert_true(strlen(rule->title) > 10 && rule->title[strlen(rule->title) - 1] != '.');
        assert_true(strlen(rule->meaning) > 20 && rule->meaning[strlen(rule->meaning) - 1] == '.');
        assert_true(rule->remedy >= VHDX_REMEDY_NONE && rule->remedy <= VHDX_REMEDY_REBASE);
    }
}

static void
remedies_have_names(void **state)
{
    (void)state;
    assert_string_equal(vhdx_remedy_name(VHDX_REMEDY_NONE), "none");
    assert_string_equal(vhdx_remedy_name(VHDX_REMEDY_HEADERS), "headers");
    assert_string_equal(vhdx_remedy_name(VHDX_REMEDY_LEAKS), "leaks");
    assert_string_equal(vhdx_remedy_name(VHDX_REMEDY_REBASE), "rebase");
    assert_string_equal(vhdx_remedy_name((enum vhdx_remedy)99), "none");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_rule_has_a_row),
        cmocka_unit_test(remedies_have_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
