/* UTF-16LE to UTF-8 and back, and text made safe for a terminal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/utf16.h"

struct text_case {
    const char *about;
    const char *utf16; /* bytes */
    size_t      length;
    const char *utf8;  /* NULL: malformed */
    const char *lenient;
};

static const struct text_case cases[] = {
    { "empty",                        "",                                 0,  "",                 "" },
    { "ASCII",                        "a\0b\0",                         4,  "ab",               "ab" },
    { "two bytes",                    "\xE9\0",                         2,  "\xC3\xA9",       "\xC3\xA9" },
    { "the last of two bytes",        "\xFF\x07",                       2,  "\xDF\xBF",       "\xDF\xBF" },
    { "the first of three bytes",     "\x00\x08",                       2,  "\xE0\xA0\x80",  "\xE0\xA0\x80" },
    { "just below the surrogates",    "\xFF\xD7",                       2,  "\xED\x9F\xBF",  "\xED\x9F\xBF" },
    { "just above the surrogates",    "\x00\xE0",                       2,  "\xEE\x80\x80",  "\xEE\x80\x80" },
    { "the first pair",               "\x00\xD8\x00\xDC",             4,  "\xF0\x90\x80\x80",
                                                                              "\xF0\x90\x80\x80" },
    { "the last pair",                "\xFF\xDB\xFF\xDF",             4,  "\xF4\x8F\xBF\xBF",
                                                                              "\xF4\x8F\xBF\xBF" },
    { "odd length",                   "a\0b",                            3,  NULL,               "a\xEF\xBF\xBD" },
    { "a NUL inside",                 "a\0\0\0b\0",                   6,  NULL,               "a" },
    { "high surrogate at the end",    "a\0\x00\xD8",                   4,  NULL,               "a\xEF\xBF\xBD" },
    { "high surrogate, then a",       "\x00\xD8" "a\0",                4,  NULL,               "\xEF\xBF\xBD" "a" },
    { "low surrogate first",          "\x00\xDC" "a\0",                4,  NULL,               "\xEF\xBF\xBD" "a" },
    { "two high ones, then a low",    "\x00\xD8\x00\xD8\x00\xDC",   6,  NULL,
                                                             "\xEF\xBF\xBD\xF0\x90\x80\x80" },
};

static void
test_both_ways(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct text_case *c = &cases[i];
        const uint8_t *utf16 = (const uint8_t *)c->utf16;
        char utf8[64];
        uint8_t back[64];
        size_t back_length;

        if (vx_utf16_to_utf8(utf8, sizeof utf8, utf16, c->length) != (c->utf8 != NULL) ||
            vx_utf16_is_valid(utf16, c->length) != (c->utf8 != NULL))
            fail_msg("%s", c->about);
        assert_string_equal(utf8, c->utf8 ? c->utf8 : "");
        vx_utf16_to_utf8_lenient(utf8, sizeof utf8, utf16, c->length);
        if (strcmp(utf8, c->lenient) != 0)
            fail_msg("%s, leniently", c->about);
        if (!c->utf8)
            continue;
        assert_true(vx_utf8_to_utf16(back, sizeof back, &back_length, c->utf8));
        assert_int_equal(back_length, c->length);
        assert_memory_equal(back, utf16, c->length);
    }
}

static void
test_malformed_utf8(void **state)
{
    static const struct {
        const char *about, *text;
    } bad[] = {
        { "a continuation alone",       "\x80" },
        { "cut after the first byte",   "\xC3" },
        { "cut after two of three",     "\xE2\x82" },
        { "cut by an ASCII letter",     "\xE2\x82" "a" },
        { "overlong slash, two bytes",  "\xC0\xAF" },
        { "overlong, three bytes",      "\xE0\x80\xAF" },
        { "overlong, four bytes",       "\xF0\x80\x80\xAF" },
        { "a surrogate",                "\xED\xA0\x80" },
        { "past the last character",    "\xF4\x90\x80\x80" },
        { "a byte that never is",       "\xFF" },
    };
    uint8_t out[16];
    size_t length;

    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (vx_utf8_to_utf16(out, sizeof out, &length, bad[i].text))
            fail_msg("%s", bad[i].about);
}

/* Every size of the room: it fits or it does not, and nothing is written past it. */
static void
test_room(void **state)
{
    static const uint8_t utf16[] = { 'a', 0, 0xAC, 0x20, 'b', 0 }; /* a, euro, b: 1 + 3 + 1 bytes */
    char out[16];
    uint8_t back[16];
    size_t length;

    (void)state;
    for (size_t size = 0; size < 10; size++) {
        memset(out, '#', sizeof out);
        assert_int_equal(vx_utf16_to_utf8(out, size, utf16, sizeof utf16), size >= 6);
        assert_int_equal(out[size], '#');
        memset(out, '#', sizeof out);
        vx_utf16_to_utf8_lenient(out, size, utf16, sizeof utf16);
        assert_int_equal(out[size], '#');
        if (size > 0)
            assert_int_equal(strlen(out), size < 2 ? 0 : size < 5 ? 1 : size < 6 ? 4 : 5);
        memset(back, '#', sizeof back);
        assert_int_equal(vx_utf8_to_utf16(back, size, &length, "a\xE2\x82\xAC" "b"), size >= 6);
        assert_int_equal(back[size], '#');
    }
}

static void
test_escape(void **state)
{
    static const struct {
        const char *about, *text, *escaped;
    } texts[] = {
        { "plain",                 "a b\\c.vhdx",              "a b\\c.vhdx" },
        { "other scripts",         "\xC3\xA9\xE6\x97\xA5",  "\xC3\xA9\xE6\x97\xA5" },
        { "controls",              "\a\t\x1b\x7f",           "\\x07\\x09\\x1b\\x7f" },
        { "C1, as a character",    "\xC2\x9B" "1m",            "\\u{009b}1m" },
        { "C1, as a byte",         "\x9B" "1m",                 "\\x9b1m" },
        { "right to left",         "a\xE2\x80\xAE" "b",       "a\\u{202e}b" },
        { "isolate",               "\xE2\x81\xA6",            "\\u{2066}" },
        { "Arabic letter mark",    "\xD8\x9C",                 "\\u{061c}" },
        { "line separator",        "\xE2\x80\xA8",            "\\u{2028}" },
        { "cut character",         "a\xE2\x80",                "a\\xe2\\x80" },
        { "overlong newline",      "\xC0\x8A",                 "\\xc0\\x8a" },
    };
    char out[64];

    (void)state;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        vx_escape_text(out, sizeof out, texts[i].text);
        if (strcmp(out, texts[i].escaped) != 0)
            fail_msg("%s: %s", texts[i].about, out);
    }
    for (size_t size = 0; size < 10; size++) { /* never cut inside an escape */
        memset(out, '#', sizeof out);
        vx_escape_text(out, size, "x\ny");
        assert_int_equal(out[size], '#');
        if (size > 0)
            assert_int_equal(strlen(out), size < 2 ? 0 : size < 6 ? 1 : size < 7 ? 5 : 6);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_both_ways),
        cmocka_unit_test(test_malformed_utf8),
        cmocka_unit_test(test_room),
        cmocka_unit_test(test_escape),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
