/* Findings: counting, the worst one, messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/seen_for_tests.h"

static void
nothing_found(void **state)
{
    struct vx_findings findings;

    (void)state;
    vx_findings_init(&findings, NULL, NULL);
    assert_int_equal(findings.count, 0);
    assert_int_equal(vx_findings_severity(&findings), VHDX_SEVERITY_NONE);
}

static void
all_fields_arrive(void **state)
{
    struct seen seen;
    int rc;

    (void)state;
    rc = vx_find(seen_start(&seen), VHDX_SEVERITY_RO, 24, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, 65544, "number %d",
                 7);
    assert_int_equal(rc, VHDX_E_BAD_HEADER);
    assert_int_equal(seen.count, 1);
    assert_int_equal(seen.list[0].code, VHDX_E_BAD_HEADER);
    assert_int_equal(seen.list[0].system_errno, 0);
    assert_int_equal(seen.list[0].part, VHDX_PART_HEADER);
    assert_int_equal(seen.list[0].severity, VHDX_SEVERITY_RO);
    assert_int_equal(seen.list[0].rule, 24);
    assert_int_equal(seen.list[0].file_offset, 65544);
    assert_string_equal(seen.list[0].message, "number 7");
}

static void
worst_is_the_first_of_the_highest(void **state)
{
    struct seen seen;
    struct vx_findings *findings = seen_start(&seen);

    (void)state;
    vx_find(findings, VHDX_SEVERITY_WARN, 3, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 8, "first");
    assert_int_equal(findings->worst.rule, 3);
    vx_find(findings, VHDX_SEVERITY_RO, 17, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, 0, "second");
    vx_find(findings, VHDX_SEVERITY_RO, 18, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, 0, "third");
    vx_find(findings, VHDX_SEVERITY_REPAIR, 28, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, 0, "fourth");
    assert_int_equal(findings->count, 4);
    assert_int_equal(findings->worst.rule, 17);
    assert_int_equal(vx_findings_severity(findings), VHDX_SEVERITY_RO);
    assert_string_equal(findings->worst.message, "second");
}

static void
found_again_is_the_same(void **state)
{
    struct seen first, second;

    (void)state;
    vx_find(seen_start(&first), VHDX_SEVERITY_BLOCK, 131, VHDX_E_BAD_BAT, VHDX_PART_BAT, 3145728, "state %d", 4);
    vx_find_again(seen_start(&second), &first.list[0]);
    assert_memory_equal(&second.list[0], &first.list[0], sizeof first.list[0]);
    assert_int_equal(vx_findings_severity(&second.findings), VHDX_SEVERITY_BLOCK);
}

static void
messages_are_one_line_and_fit(void **state)
{
    struct seen seen;
    char text[1000];

    (void)state;
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    vx_find(seen_start(&seen), VHDX_SEVERITY_WARN, 3, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 8, "%s", text);
    assert_true(strlen(seen.list[0].message) > 200);
    assert_true(strlen(seen.list[0].message) < sizeof seen.list[0].message);
    vx_find(seen_start(&seen), VHDX_SEVERITY_WARN, 3, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 8, "a\nb\033c");
    assert_null(strchr(seen.list[0].message, '\n'));
    assert_null(strchr(seen.list[0].message, '\033'));
}

static void
nobody_listens(void **state)
{
    (void)state;
    assert_int_equal(vx_find(NULL, VHDX_SEVERITY_WARN, 3, VHDX_E_BAD_LOG, VHDX_PART_LOG, 0, "x"), VHDX_E_BAD_LOG);
    vx_find_again(NULL, NULL);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(nothing_found),
        cmocka_unit_test(all_fields_arrive),
        cmocka_unit_test(worst_is_the_first_of_the_highest),
        cmocka_unit_test(found_again_is_the_same),
        cmocka_unit_test(messages_are_one_line_and_fit),
        cmocka_unit_test(nobody_listens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
