/* GUIDs: text in Windows binary form and back, randomness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/guid.h"

static const uint8_t sample[16] = {
    0x92, 0x4d, 0x8d, 0xf8, 0xcc, 0x6f, 0x8d, 0x40, 0x9b, 0xef, 0x9b, 0x7c, 0x89, 0xf1, 0x5c, 0x89
};

static void
test_format(void **state)
{
    struct vhdx_guid guid = vx_guid_load(sample);
    char text[VHDX_GUID_TEXT_SIZE];
    uint8_t bytes[16];

    (void)state;
    vhdx_guid_format(text, &guid);
    assert_string_equal(text, "f88d4d92-6fcc-408d-9bef-9b7c89f15c89");
    vx_guid_store(bytes, &guid);
    assert_memory_equal(bytes, sample, 16);
}

static void
test_parse(void **state)
{
    static const struct {
        const char *about, *text;
        bool        is_good;
    } cases[] = {
        { "plain",                     "f88d4d92-6fcc-408d-9bef-9b7c89f15c89",   true },
        { "upper case",                "F88D4D92-6FCC-408D-9BEF-9B7C89F15C89",   true },
        { "braces",                    "{f88d4d92-6fcc-408d-9bef-9b7c89f15c89}", true },
        { "empty",                     "",                                       false },
        { "one brace",                 "{f88d4d92-6fcc-408d-9bef-9b7c89f15c89",  false },
        { "the other brace",           "f88d4d92-6fcc-408d-9bef-9b7c89f15c89}",  false },
        { "a brace alone",             "{",                                      false },
        { "too short",                 "f88d4d92-6fcc-408d-9bef-9b7c89f15c8",    false },
        { "too long",                  "f88d4d92-6fcc-408d-9bef-9b7c89f15c890",  false },
        { "hyphen in the wrong place", "f88d4d926-fcc-408d-9bef-9b7c89f15c89",   false },
        { "no hyphens",                "f88d4d926fcc408d9bef9b7c89f15c89",       false },
        { "not a digit",               "g88d4d92-6fcc-408d-9bef-9b7c89f15c89",   false },
        { "a sign",                    "+88d4d92-6fcc-408d-9bef-9b7c89f15c89",   false },
        { "a space at the end",        "f88d4d92-6fcc-408d-9bef-9b7c89f15c89 ",  false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_guid guid = { { 0 } };

        if (vhdx_guid_parse(&guid, cases[i].text) != cases[i].is_good)
            fail_msg("%s", cases[i].about);
        if (cases[i].is_good)
            assert_memory_equal(guid.bytes, sample, 16);
        else
            assert_true(vhdx_guid_is_zero(&guid)); /* untouched */
    }
}

static void
test_compare(void **state)
{
    struct vhdx_guid a = vx_guid_load(sample), b = a;

    (void)state;
    assert_true(vhdx_guid_equal(&a, &b));
    b.bytes[15] ^= 1;
    assert_false(vhdx_guid_equal(&a, &b));
    assert_false(vhdx_guid_is_zero(&a));
}

static void
test_random(void **state)
{
    struct vhdx_guid a, b;
    uint8_t long_buffer[1000] = { 0 };
    bool has_late_bytes = false;

    (void)state;
    assert_int_equal(vx_guid_random(&a, NULL), VHDX_OK);
    assert_int_equal(vx_guid_random(&b, NULL), VHDX_OK);
    assert_false(vhdx_guid_equal(&a, &b));
    assert_int_equal(a.bytes[7] & 0xF0, 0x40);
    assert_int_equal(a.bytes[8] & 0xC0, 0x80);

    assert_int_equal(vx_random_bytes(long_buffer, sizeof long_buffer, NULL), VHDX_OK); /* in several calls */
    for (size_t i = 900; i < sizeof long_buffer; i++)
        has_late_bytes |= long_buffer[i] != 0;
    assert_true(has_late_bytes);
}

static void
test_seeded(void **state)
{
    struct vhdx_guid a, b, other;

    (void)state;
    vx_random_seed_for_tests(7);
    assert_int_equal(vx_guid_random(&a, NULL), VHDX_OK);
    vx_random_seed_for_tests(8);
    assert_int_equal(vx_guid_random(&other, NULL), VHDX_OK);
    vx_random_seed_for_tests(7);
    assert_int_equal(vx_guid_random(&b, NULL), VHDX_OK);
    assert_true(vhdx_guid_equal(&a, &b));
    assert_false(vhdx_guid_equal(&a, &other));
    assert_int_equal(vx_guid_random(&b, NULL), VHDX_OK);
    assert_false(vhdx_guid_equal(&a, &b));
    vx_random_seed_for_tests(0);
    assert_int_equal(vx_guid_random(&other, NULL), VHDX_OK);
    assert_false(vhdx_guid_equal(&b, &other));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_format),
        cmocka_unit_test(test_parse),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_seeded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
