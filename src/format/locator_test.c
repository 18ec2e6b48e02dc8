/* Parent locators: the bytes of appendix A.6, each rule broken alone, and what hostile ones may cost. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/utf16.h"
#include "format/locator.h"
#include "format/metadata.h"
#include "format/seen_for_tests.h"

#define AT      (2 * VX_MIB + 0x10028)
#define LINKAGE "{01234567-89ab-4cde-8f01-23456789abcd}"
#define ZERO_ID "{00000000-0000-0000-0000-000000000000}"

static uint8_t item[VX_MAX_ITEM_LENGTH];
static uint32_t item_length;

static void
make_item(const struct vx_locator_text *pairs, size_t pair_count)
{
    memset(item, 0xEE, sizeof item);
    assert_true(vx_locator_encode(item, sizeof item, &item_length, pairs, pair_count));
}

static void
decode(struct vx_locator *out, struct seen *seen)
{
    vx_locator_decode(out, item, item_length, AT, seen_start(seen));
}

/* A.6, and a second path so that one may be broken alone. */
static void
make_good_item(void)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", LINKAGE },
        { "relative_path", ".\\p.vhdx" },
        { "absolute_win32_path", "\\\\?\\d:\\p.vhdx" },
        { "x_key", "x_value" },
    };

    make_item(pairs, 4);
}

static bool
range_is(uint32_t offset, uint16_t length, const char *text)
{
    char utf8[1000];

    return vx_utf16_to_utf8(utf8, sizeof utf8, item + offset, length) && strcmp(utf8, text) == 0;
}

static void
worked_bytes(void **state)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", LINKAGE },
        { "relative_path", ".\\p.vhdx" },
    };
    static const uint8_t head[44] = {
        0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13,
        0x00, 0x00, 0x02, 0x00, 0x2c, 0x00, 0x00, 0x00, 0x48, 0x00, 0x00, 0x00, 0x1c, 0x00, 0x4c, 0x00,
        0x94, 0x00, 0x00, 0x00, 0xae, 0x00, 0x00, 0x00, 0x1a, 0x00, 0x10, 0x00,
    };
    static const uint8_t end[16] = { 0x2e, 0, 0x5c, 0, 0x70, 0, 0x2e, 0, 0x76, 0, 0x68, 0, 0x64, 0, 0x78, 0 };
    struct vhdx_guid linkage;
    struct vx_locator locator;
    struct seen seen;

    (void)state;
    make_item(pairs, 2);
    assert_int_equal(item_length, 190);
    assert_memory_equal(item, head, sizeof head);
    assert_true(range_is(0x2c, 28, "parent_linkage"));
    assert_true(range_is(0x48, 76, LINKAGE));
    assert_true(range_is(0x94, 26, "relative_path"));
    assert_memory_equal(item + 0xae, end, sizeof end);

    decode(&locator, &seen);
    expect_only(&seen, "A.6", 0, VHDX_SEVERITY_NONE, 0);
    assert_int_equal(locator.pair_count, 2);
    assert_true(vhdx_guid_parse(&linkage, LINKAGE));
    assert_true(locator.has_linkage && !locator.has_linkage2);
    assert_true(vhdx_guid_equal(&locator.linkage, &linkage));
    assert_true(range_is(locator.relative_path.value_offset, locator.relative_path.value_length, ".\\p.vhdx"));
    assert_int_equal(locator.volume_path.value_length, 0);
    assert_int_equal(locator.absolute_win32_path.value_length, 0);
}

/* The five keys of a child by Hyper-V, in its order. */
static void
all_keys(void **state)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", "{01234567-89AB-4CDE-8F01-23456789ABCD}" },
        { "absolute_win32_path", "\\\\?\\C:\\vm\\p.vhdx" },
        { "relative_path", ".\\p.vhdx" },
        { "volume_path", "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\vm\\p.vhdx" },
        { "parent_linkage2", ZERO_ID },
    };
    struct vx_locator locator;
    struct vx_locator_pair pair;
    struct seen seen;
    uint32_t i;

    (void)state;
    make_item(pairs, 5);
    decode(&locator, &seen);
    expect_only(&seen, "five keys", 0, VHDX_SEVERITY_NONE, 0);
    assert_true(locator.has_linkage && locator.has_linkage2);
    assert_true(vhdx_guid_is_zero(&locator.linkage2) && !vhdx_guid_is_zero(&locator.linkage));
    for (i = 0; i < 5; i++) {
        assert_true(vx_locator_pair_at(&pair, item, item_length, i));
        assert_true(range_is(pair.key_offset, pair.key_length, pairs[i].key));
        assert_true(range_is(pair.value_offset, pair.value_length, pairs[i].value));
    }
    assert_false(vx_locator_pair_at(&pair, item, item_length, 5));
    assert_false(vx_locator_pair_at(&pair, item, item_length, UINT32_MAX));
    assert_false(vx_locator_pair_at(&pair, item, item_length - 1, 4));
    assert_false(vx_locator_pair_at(&pair, item, 19, 0));
}

/* V110 to V113: the header. */
static void
headers(void **state)
{
    struct vx_locator locator;
    struct seen seen;

    (void)state;
    make_good_item();
    item_length = 19;
    decode(&locator, &seen);
    expect_only(&seen, "19 bytes", 110, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    item_length = 0;
    decode(&locator, &seen);
    expect_only(&seen, "no bytes", 110, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    item_length = 20;
    decode(&locator, &seen);
    expect_only(&seen, "a header alone", 113, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    expect_at(&seen, "a header alone", AT + 18);
    make_good_item();
    item[0] ^= 1;
    decode(&locator, &seen);
    expect_only(&seen, "another type", 111, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED);
    make_good_item();
    item[16] = 1;
    decode(&locator, &seen);
    expect_only(&seen, "Reserved", 112, VHDX_SEVERITY_WARN, VHDX_E_BAD_LOCATOR);
    assert_true(locator.has_linkage);
    make_good_item();
    vx_put_le16(item + 18, 0);
    decode(&locator, &seen);
    expect_only(&seen, "no pairs", 113, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    vx_put_le16(item + 18, 65535);
    decode(&locator, &seen);
    expect_only(&seen, "65535 pairs in a small item", 113, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    assert_int_equal(locator.pair_count, 0);
}

/* V114, V115: fields of the pairs 1 (relative_path) and 3 (unknown) of the good item are changed. */
static void
strings(void **state)
{
    static const struct {
        const char        *words;
        unsigned           pair;
        size_t             field; /* 0 key offset, 4 value offset, 8 key length, 10 value length */
        uint32_t           value;
        int                rule;
        enum vhdx_severity severity;
    } cases[] = {
        { "known value in the entries", 1, 4, 20, 114, VHDX_SEVERITY_REFUSE },
        { "known value at 0", 1, 4, 0, 114, VHDX_SEVERITY_REFUSE },
        { "known value past the end", 1, 4, 0x10000, 114, VHDX_SEVERITY_REFUSE },
        { "known value would wrap", 1, 4, UINT32_MAX - 1, 114, VHDX_SEVERITY_REFUSE },
        { "known value too long", 1, 10, 65534, 114, VHDX_SEVERITY_REFUSE },
        { "known value of 0 bytes", 1, 10, 0, 114, VHDX_SEVERITY_REFUSE },
        { "known value of 15 bytes", 1, 10, 15, 115, VHDX_SEVERITY_REFUSE },
        { "known key past the end", 1, 0, 0x10000, 114, VHDX_SEVERITY_WARN },
        { "known key too short", 1, 8, 24, 0, VHDX_SEVERITY_NONE },
        { "known key of 25 bytes", 1, 8, 25, 115, VHDX_SEVERITY_WARN },
        { "known key longer than the item", 1, 8, 65534, 114, VHDX_SEVERITY_WARN },
        { "unknown value in the entries", 3, 4, 67, 114, VHDX_SEVERITY_WARN },
        { "unknown value right after them", 3, 4, 68, 0, VHDX_SEVERITY_NONE },
        { "unknown value past the end", 3, 4, 0x10000, 114, VHDX_SEVERITY_WARN },
        { "unknown key past the end", 3, 0, UINT32_MAX, 114, VHDX_SEVERITY_WARN },
        { "unknown key of 0 bytes", 3, 8, 0, 114, VHDX_SEVERITY_WARN },
        { "unknown key of 3 bytes", 3, 8, 3, 115, VHDX_SEVERITY_WARN },
        { "unknown value of 3 bytes", 3, 10, 3, 115, VHDX_SEVERITY_WARN },
        { "unknown key longer than the item", 3, 8, 65534, 114, VHDX_SEVERITY_WARN },
        { "unknown value longer than the item", 3, 10, 65534, 114, VHDX_SEVERITY_WARN },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint8_t *field = item + 20 + 12 * cases[i].pair + cases[i].field;
        struct vx_locator locator;
        struct seen seen;

        make_good_item();
        if (cases[i].field < 8)
            vx_put_le32(field, cases[i].value);
        else
            vx_put_le16(field, (uint16_t)cases[i].value);
        decode(&locator, &seen);
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, VHDX_E_BAD_LOCATOR);
        if (cases[i].rule == 114)
            expect_at(&seen, cases[i].words, AT + 20 + 12 * cases[i].pair);
        if (cases[i].rule == 115)
            expect_at(&seen, cases[i].words, AT + vx_le32(item + 20 + 12 * cases[i].pair + cases[i].field - 8 +
                                                          (cases[i].field == 10 ? 2 : 0)));
        if (cases[i].pair == 1)
            assert_int_equal(locator.relative_path.value_length, 0);
        assert_true(locator.has_linkage && locator.absolute_win32_path.value_length > 0);
    }
}

static void
bad_characters(void **state)
{
    struct vx_locator locator;
    struct vx_locator_pair pair;
    struct seen seen;

    (void)state;
    make_good_item();
    assert_true(vx_locator_pair_at(&pair, item, item_length, 1));
    vx_put_le16(item + pair.value_offset + 2, 0xDC00);
    decode(&locator, &seen);
    expect_only(&seen, "lone surrogate in a path", 115, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    make_good_item();
    vx_put_le16(item + pair.value_offset + 14, 0);
    decode(&locator, &seen);
    expect_only(&seen, "NUL at the end of a path", 115, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
}

/* V116 to V121: which keys there are and what they say. */
static void
keys(void **state)
{
    static const struct {
        const char             *words;
        struct vx_locator_text  pairs[5];
        int                     rule;
        enum vhdx_severity      severity;
    } cases[] = {
        { "linkage and one path", { { "parent_linkage", LINKAGE }, { "relative_path", "p" } }, 0,
          VHDX_SEVERITY_NONE },
        { "two linkages", { { "parent_linkage", LINKAGE }, { "parent_linkage", LINKAGE }, { "relative_path",
          "p" } },
          116, VHDX_SEVERITY_REFUSE },
        { "two unknown keys alike", { { "parent_linkage", LINKAGE }, { "relative_path", "p" }, { "k", "1" },
          { "k", "2" } }, 116, VHDX_SEVERITY_WARN },
        { "later unknown keys alike", { { "parent_linkage", LINKAGE }, { "relative_path", "p" }, { "a", "1" },
          { "b", "2" }, { "b", "3" } }, 116, VHDX_SEVERITY_WARN },
        { "unknown keys that differ in case", { { "parent_linkage", LINKAGE }, { "relative_path", "p" },
          { "k", "1" }, { "K", "2" } }, 0, VHDX_SEVERITY_NONE },
        { "no linkage", { { "relative_path", "p" } }, 117, VHDX_SEVERITY_REFUSE },
        { "linkage in wrong case", { { "Parent_Linkage", LINKAGE }, { "relative_path", "p" } }, 117,
          VHDX_SEVERITY_REFUSE },
        { "linkage without braces", { { "parent_linkage", "01234567-89ab-4cde-8f01-23456789abcd" },
          { "relative_path", "p" } }, 117, VHDX_SEVERITY_REFUSE },
        { "linkage is no GUID", { { "parent_linkage", "{g1234567-89ab-4cde-8f01-23456789abcd}" },
          { "relative_path", "p" } }, 117, VHDX_SEVERITY_REFUSE },
        { "linkage with a character more", { { "parent_linkage", LINKAGE "x" }, { "relative_path", "p" } }, 117,
          VHDX_SEVERITY_REFUSE },
        { "linkage not ASCII", { { "parent_linkage", "{\xc3\xa9" "1234567-89ab-4cde-8f01-23456789abcd}" },
          { "relative_path", "p" } }, 117, VHDX_SEVERITY_REFUSE },
        { "linkage2 is no GUID", { { "parent_linkage", LINKAGE }, { "parent_linkage2", "none" },
          { "relative_path", "p" } }, 118, VHDX_SEVERITY_WARN },
        { "no path", { { "parent_linkage", LINKAGE } }, 119, VHDX_SEVERITY_WARN },
        { "path in wrong case", { { "parent_linkage", LINKAGE }, { "Relative_Path", "p" } }, 119,
          VHDX_SEVERITY_WARN },
        { "absolute path as Hyper-V writes it", { { "parent_linkage", LINKAGE },
          { "absolute_win32_path", "C:\\p.vhdx" } }, 120, VHDX_SEVERITY_WARN },
        { "absolute path too short", { { "parent_linkage", LINKAGE }, { "absolute_win32_path", "\\\\?" } }, 120,
          VHDX_SEVERITY_WARN },
        { "volume path without volume", { { "parent_linkage", LINKAGE }, { "volume_path", "\\\\?\\C:\\p" } }, 121,
          VHDX_SEVERITY_WARN },
        { "volume path of another kind", { { "parent_linkage", LINKAGE },
          { "volume_path", "\\\\?\\Wolume{26a21bda}\\p" } }, 121, VHDX_SEVERITY_WARN },
        { "absolute path of a device", { { "parent_linkage", LINKAGE },
          { "absolute_win32_path", "\\\\.\\D:\\p.vhdx" } }, 120, VHDX_SEVERITY_WARN },
        { "volume path in other case", { { "parent_linkage", LINKAGE }, { "volume_path", "\\\\?\\VOLUME{1}\\p" } },
          0, VHDX_SEVERITY_NONE },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_locator locator;
        struct seen seen;
        size_t count = 0;

        while (count < 5 && cases[i].pairs[count].key != NULL)
            count++;
        make_item(cases[i].pairs, count);
        decode(&locator, &seen);
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, VHDX_E_BAD_LOCATOR);
    }
}

/* Of a key that comes twice the first value is taken. */
static void
first_value_counts(void **state)
{
    static const struct vx_locator_text pairs[] = {
        { "relative_path", "first" }, { "parent_linkage", LINKAGE }, { "parent_linkage", ZERO_ID },
        { "relative_path", "second" }, { "relative_path", "third" },
    };
    struct vx_locator locator;
    struct seen seen;

    (void)state;
    make_item(pairs, 5);
    decode(&locator, &seen);
    assert_int_equal(seen.count, 2); /* once for each key */
    assert_int_equal(seen.list[0].file_offset, AT + 20 + 12 * 2);
    assert_int_equal(seen.list[1].file_offset, AT + 20 + 12 * 3);
    assert_false(vhdx_guid_is_zero(&locator.linkage));
    assert_true(range_is(locator.relative_path.value_offset, locator.relative_path.value_length, "first"));
}

static void
pairs_outside(void **state)
{
    struct vx_locator_pair pair;

    (void)state;
    memset(item, 0, sizeof item);
    vx_put_le16(item + 18, 1);
    assert_true(vx_locator_pair_at(&pair, item, 32, 0));
    assert_false(vx_locator_pair_at(&pair, item, 31, 0));
    assert_false(vx_locator_pair_at(&pair, item, 1000, 1)); /* there is room, but one pair only */
    vx_put_le32(item + 20, UINT32_MAX);
    vx_put_le16(item + 28, 1);
    assert_false(vx_locator_pair_at(&pair, item, 1000, 0));
}

static void
what_is_not_encoded(void **state)
{
    static const struct vx_locator_text good = { "k", "v" };
    static const struct vx_locator_text bad[] = { { "", "v" }, { "k", "" }, { "k", "\xff" }, { "\xc0\x80", "v" } };
    struct vx_locator_text long_value = { "k", NULL };
    char *text = malloc(40000);
    uint32_t length;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_false(vx_locator_encode(item, sizeof item, &length, &bad[i], 1));
    assert_false(vx_locator_encode(item, sizeof item, &length, &good, 0));
    assert_false(vx_locator_encode(item, 35, &length, &good, 1));
    assert_true(vx_locator_encode(item, 36, &length, &good, 1));
    assert_int_equal(length, 36);

    assert_non_null(text);
    memset(text, 'a', 32767);
    text[32767] = '\0';
    long_value.value = text;
    assert_true(vx_locator_encode(item, sizeof item, &length, &long_value, 1));
    assert_int_equal(length, 32 + 2 + 65534);
    text[32767] = 'a';
    text[32768] = '\0';
    assert_false(vx_locator_encode(item, sizeof item, &length, &long_value, 1));
    free(text);
}

/* 65535 pairs that all name the same long strings: told in time that does not grow with their product. */
static void
hostile_overlap(void **state)
{
    struct vx_locator locator;
    struct seen seen;
    uint32_t i;

    (void)state;
    memset(item, 'a', sizeof item);
    memcpy(item, vx_guid_locator_vhdx.bytes, 16);
    vx_put_le16(item + 16, 0);
    vx_put_le16(item + 18, 65535);
    for (i = 0; i < 65535; i++) {
        uint8_t *p = item + 20 + 12 * i;

        vx_put_le32(p, 20 + 12 * 65535 + i % 1000 * 2);
        vx_put_le32(p + 4, 20 + 12 * 65535);
        vx_put_le16(p + 8, 65534);
        vx_put_le16(p + 10, 65534);
    }
    vx_locator_decode(&locator, item, sizeof item, AT, seen_start(&seen));
    assert_true(seen_has(&seen, 115) && seen_has(&seen, 117));
    assert_true(seen.findings.count < 20);
    assert_int_equal(locator.pair_count, 65535);
}

/* 65535 pairs with every field wrong: no flood of findings. */
static void
hostile_pairs(void **state)
{
    struct vx_locator locator;
    struct seen seen;
    uint32_t i;

    (void)state;
    memset(item, 0xFF, sizeof item);
    memcpy(item, vx_guid_locator_vhdx.bytes, 16);
    vx_put_le16(item + 16, 0);
    vx_put_le16(item + 18, 65535);
    for (i = 0; i < 65535; i++)
        vx_put_le32(item + 20 + 12 * i + 8, 0);
    vx_locator_decode(&locator, item, sizeof item, AT, seen_start(&seen));
    assert_true(seen.findings.count < 5000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(all_keys),
        cmocka_unit_test(headers),
        cmocka_unit_test(strings),
        cmocka_unit_test(bad_characters),
        cmocka_unit_test(keys),
        cmocka_unit_test(first_value_counts),
        cmocka_unit_test(pairs_outside),
        cmocka_unit_test(what_is_not_encoded),
        cmocka_unit_test(hostile_overlap),
        cmocka_unit_test(hostile_pairs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
