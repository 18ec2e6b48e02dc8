/* Errors: names from the list, messages that are one line, valid and never too long. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "base/error.h"

static void
test_names(void **state)
{
    (void)state;
    assert_string_equal(vhdx_code_name(VHDX_OK), "OK");
    assert_string_equal(vhdx_code_name(VHDX_E_BAD_BAT), "BAD_BAT");
    assert_string_equal(vhdx_code_text(VHDX_E_NO_SPACE), "no space left on the host");
    assert_int_equal(vhdx_code_errno(VHDX_OK), 0);
    assert_int_equal(vhdx_code_errno(VHDX_E_NO_SPACE), ENOSPC);
    assert_string_equal(vhdx_code_name(-9999), "UNKNOWN");
    assert_int_equal(vhdx_code_errno(-9999), EIO);
    assert_string_equal(vhdx_part_name(VHDX_PART_REGION_TABLE), "region table");
    assert_string_equal(vhdx_severity_name(VHDX_SEVERITY_REFUSE), "refuse");
    for (int part = VHDX_PART_NONE; part <= VHDX_PART_CHAIN; part++)
        assert_true(strcmp(vhdx_part_name((enum vhdx_part)part), "unknown") != 0);
}

static void
test_fail(void **state)
{
    struct vhdx_error err;

    (void)state;
    memset(&err, 0xEE, sizeof err);
    assert_int_equal(vx_fail(&err, VHDX_E_BAD_BAT, VHDX_PART_BAT, 4096, "entry %d", 17), VHDX_E_BAD_BAT);
    assert_int_equal(err.code, VHDX_E_BAD_BAT);
    assert_int_equal(err.part, VHDX_PART_BAT);
    assert_int_equal(err.severity, VHDX_SEVERITY_NONE);
    assert_int_equal(err.system_errno, 0);
    assert_int_equal(err.rule, 0);
    assert_true(err.file_offset == 4096);
    assert_string_equal(err.message, "entry 17");
    assert_int_equal(vx_fail(NULL, VHDX_E_IO, VHDX_PART_NONE, 0, "nobody cares"), VHDX_E_IO);

    vx_fail(&err, VHDX_E_IO, VHDX_PART_NONE, 0, "again: %s", err.message); /* its own message as an argument */
    assert_string_equal(err.message, "again: entry 17");
    vx_fail(&err, VHDX_E_IO, VHDX_PART_NONE, 0, "%s", "two\nlines, \x1b[31mred");
    assert_string_equal(err.message, "two\\x0alines, \\x1b[31mred");
    assert_int_equal(vx_fail_memory(&err, "the map"), VHDX_E_NO_MEMORY);
    assert_string_equal(err.message, "out of memory for the map");
}

static void
test_errno(void **state)
{
    static const struct {
        int system_errno, code;
    } cases[] = {
        { ENOSPC, VHDX_E_NO_SPACE }, { EDQUOT, VHDX_E_NO_SPACE }, { EFBIG, VHDX_E_NO_SPACE },
        { ENOENT, VHDX_E_NOT_FOUND }, { EACCES, VHDX_E_PERMISSION }, { EPERM, VHDX_E_PERMISSION },
        { EEXIST, VHDX_E_EXISTS }, { EROFS, VHDX_E_READ_ONLY }, { ENOMEM, VHDX_E_NO_MEMORY }, { EIO, VHDX_E_IO },
        { EBADF, VHDX_E_IO },
    };
    struct vhdx_error err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(vx_fail_errno(&err, cases[i].system_errno, VHDX_PART_FILE, 9, "reading"), cases[i].code);
        assert_int_equal(err.code, cases[i].code);
        assert_int_equal(err.system_errno, cases[i].system_errno);
        assert_int_equal(vx_fail_errno(NULL, cases[i].system_errno, VHDX_PART_FILE, 9, "reading"), cases[i].code);
    }
    assert_true(strncmp(err.message, "reading: ", 9) == 0 && strlen(err.message) > 9);
}

/* A text of two-byte characters and every length about the end: the cut never leaves half of one. */
static void
assert_is_utf8(const char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text == 0xC3) {
            assert_int_equal((unsigned char)text[1], 0xA9);
            text++;
        }
}

static void
test_long_messages(void **state)
{
    struct vhdx_error err;
    char text[700];

    (void)state;
    for (size_t lead = 0; lead < 4; lead++) {
        memset(text, 'x', lead);
        for (size_t i = lead; i + 2 < sizeof text; i += 2)
            memcpy(text + i, "\xC3\xA9", 3);

        vx_fail(&err, VHDX_E_IO, VHDX_PART_NONE, 0, "%s", text);
        assert_in_range(strlen(err.message), sizeof err.message - 3, sizeof err.message - 1);
        assert_is_utf8(err.message);

        vx_fail_errno(&err, EIO, VHDX_PART_NONE, 0, "%s", text); /* the reason is what is kept */
        assert_in_range(strlen(err.message), sizeof err.message - 3, sizeof err.message - 1);
        assert_true(strstr(err.message, "\xA9: ") != NULL || strstr(err.message, "x: ") != NULL);
        assert_is_utf8(err.message);

        vx_error_prefix(&err, text);
        assert_in_range(strlen(err.message), sizeof err.message - 3, sizeof err.message - 1);
        assert_is_utf8(err.message);
        assert_true(strncmp(err.message, "...\xC3\xA9", 5) == 0);
    }
}

static void
test_prefix(void **state)
{
    struct vhdx_error err;

    (void)state;
    vx_fail(&err, VHDX_E_BAD_LOG, VHDX_PART_LOG, 4096, "entry at %d", 5);
    vx_error_prefix(&err, "parent a\tb.vhdx");
    assert_string_equal(err.message, "parent a\\x09b.vhdx: entry at 5");
    assert_int_equal(err.code, VHDX_E_BAD_LOG);
    assert_true(err.file_offset == 4096);
    vx_error_prefix(NULL, "nobody cares");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_fail),
        cmocka_unit_test(test_errno),
        cmocka_unit_test(test_long_messages),
        cmocka_unit_test(test_prefix),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
