/*
 * A stand-in for the few calls of cmocka that our tests use, for hosts where no cmocka is to be had: cross-compiled
 * static programs under qemu-user, musl.  The tests are the same sources; the output is TAP.
 *
 *   - One group per program, so that the output has one plan.
 *   - An assert that fails prints where and what, and leaves the test by longjmp; the group goes on with the
 *     next test.
 *   - Integers are compared as cmocka compares them: converted to the widest unsigned type.
 */
#ifndef UNIT_SHIM_CMOCKA_H
#define UNIT_SHIM_CMOCKA_H

#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);

struct CMUnitTest {
    const char        *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction  setup_func;
    CMFixtureFunction  teardown_func;
    void              *initial_state;
};

enum shim_outcome { SHIM_RUNNING, SHIM_FAILED, SHIM_SKIPPED };

/* One program is one translation unit with one group, so static state is the whole program's state. */
static jmp_buf shim_leave_test;
static void   *shim_state;

__attribute__((noreturn, unused)) static void
shim_fail(const char *file, int line)
{
    printf("#   at %s:%d\n", file, line);
    longjmp(shim_leave_test, SHIM_FAILED);
}

__attribute__((noreturn, unused)) static void
shim_skip(void)
{
    longjmp(shim_leave_test, SHIM_SKIPPED);
}

__attribute__((format(printf, 1, 2), unused)) static void
print_message(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
}

__attribute__((format(printf, 3, 4), noreturn, unused)) static void
shim_fail_message(const char *file, int line, const char *format, ...)
{
    va_list arguments;

    printf("# ");
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n");
    shim_fail(file, line);
}

__attribute__((unused)) static void
shim_check_int(uintmax_t a, uintmax_t b, int want_equal, const char *text, const char *file, int line)
{
    if ((a == b) != want_equal)
        shim_fail_message(file, line, "%s: 0x%" PRIxMAX " and 0x%" PRIxMAX, text, a, b);
}

__attribute__((unused)) static void
shim_check_range(uintmax_t value, uintmax_t minimum, uintmax_t maximum, const char *text, const char *file,
                 int line)
{
    if (value < minimum || value > maximum)
        shim_fail_message(file, line, "%s: %" PRIuMAX " is not in %" PRIuMAX "..%" PRIuMAX, text, value, minimum,
                          maximum);
}

__attribute__((unused)) static void
shim_check_string(const char *a, const char *b, const char *file, int line)
{
    if (strcmp(a, b) != 0)
        shim_fail_message(file, line, "\"%s\" != \"%s\"", a, b);
}

__attribute__((unused)) static void
shim_check_memory(const void *a, const void *b, size_t size, const char *file, int line)
{
    const unsigned char *left = (const unsigned char *)a;
    const unsigned char *right = (const unsigned char *)b;
    size_t i;

    for (i = 0; i < size; i++)
        if (left[i] != right[i])
            shim_fail_message(file, line, "memory differs at %zu of %zu: 0x%02x != 0x%02x", i, size, left[i],
                              right[i]);
}

/* An integer or a pointer, of any sign, as cmocka's own cast does it. */
#define SHIM_INTEGER(value) ((uintmax_t)(value))

#define assert_true(condition) \
    ((condition) ? (void)0 : shim_fail_message(__FILE__, __LINE__, "not true: %s", #condition))
#define assert_false(condition) \
    ((condition) ? shim_fail_message(__FILE__, __LINE__, "true: %s", #condition) : (void)0)
#define assert_int_equal(a, b) \
    shim_check_int(SHIM_INTEGER(a), SHIM_INTEGER(b), 1, #a " == " #b, __FILE__, __LINE__)
#define assert_int_not_equal(a, b) \
    shim_check_int(SHIM_INTEGER(a), SHIM_INTEGER(b), 0, #a " != " #b, __FILE__, __LINE__)
#define assert_non_null(pointer) assert_true((pointer) != NULL)
#define assert_null(pointer) assert_true((pointer) == NULL)
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b) shim_check_string((a), (b), __FILE__, __LINE__)
#define assert_memory_equal(a, b, size) shim_check_memory((a), (b), (size), __FILE__, __LINE__)
#define assert_in_range(value, minimum, maximum) \
    shim_check_range(SHIM_INTEGER(value), SHIM_INTEGER(minimum), SHIM_INTEGER(maximum), #value, __FILE__, __LINE__)
#define fail_msg(...) shim_fail_message(__FILE__, __LINE__, __VA_ARGS__)
#define skip() shim_skip()

#define cmocka_unit_test(function) { #function, function, NULL, NULL, NULL }
#define cmocka_unit_test_setup_teardown(function, setup, teardown) { #function, function, setup, teardown, NULL }

/* Run one test and print its TAP line.  The teardown runs whatever happened, as cmocka's does. */
static int
shim_run_test(const struct CMUnitTest *test, size_t number)
{
    volatile int outcome;

    shim_state = test->initial_state;
    outcome = setjmp(shim_leave_test);
    if (outcome == SHIM_RUNNING) {
        if (test->setup_func != NULL && test->setup_func(&shim_state) != 0)
            shim_fail_message(__FILE__, __LINE__, "the setup failed");
        test->test_func(&shim_state);
    }
    if (test->teardown_func != NULL && setjmp(shim_leave_test) == 0 && test->teardown_func(&shim_state) != 0)
        outcome = SHIM_FAILED;

    printf("%s %zu - %s%s\n", outcome == SHIM_FAILED ? "not ok" : "ok", number, test->name,
           outcome == SHIM_SKIPPED ? " # SKIP" : "");
    fflush(stdout);
    return outcome == SHIM_FAILED;
}

static int
shim_run_group(const struct CMUnitTest *tests, size_t count, CMFixtureFunction setup, CMFixtureFunction teardown)
{
    void *state = NULL;
    int failed = 0;
    size_t i;

    printf("1..%zu\n", count);
    fflush(stdout);
    if (setup != NULL && setup(&state) != 0) {
        printf("Bail out! the setup of the group failed\n");
        return 1;
    }
    for (i = 0; i < count; i++) {
        struct CMUnitTest test = tests[i];

        if (test.initial_state == NULL)
            test.initial_state = state;
        failed += shim_run_test(&test, i + 1);
    }
    if (teardown != NULL && teardown(&state) != 0) {
        printf("Bail out! the teardown of the group failed\n");
        return 1;
    }
    return failed;
}

#define cmocka_run_group_tests(tests, setup, teardown) \
    shim_run_group((tests), sizeof(tests) / sizeof((tests)[0]), (setup), (teardown))

#endif
