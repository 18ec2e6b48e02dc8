/* Locators made from others: what changes, what goes, what must stay. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/utf16.h"
#include "format/locator.h"
#include "format/metadata.h"
#include "format/seen_for_tests.h"

#define LINKAGE  "{01234567-89ab-4cde-8f01-23456789abcd}"
#define OTHER_ID "{89abcdef-0123-4567-89ab-cdef01234567}"

static uint8_t  old_item[4096], new_item[VX_MAX_ITEM_LENGTH];
static uint32_t old_length, new_length;

static void
make_old(void)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", LINKAGE },
        { "strange_key", "kept" },
        { "relative_path", ".\\old.vhdx" },
        { "volume_path", "\\\\?\\Volume{x}\\old.vhdx" },
    };

    assert_true(vx_locator_encode(old_item, sizeof old_item, &old_length, pairs, 4));
}

/* Every pair of the new item as "key=value;". */
static void
describe(char *out, size_t out_size)
{
    struct vx_locator_pair pair;

    out[0] = '\0';
    for (uint32_t i = 0; vx_locator_pair_at(&pair, new_item, new_length, i); i++) {
        size_t used = strlen(out);

        assert_true(vx_utf16_to_utf8(out + used, out_size - used, new_item + pair.key_offset, pair.key_length));
        strcat(out, "=");
        used = strlen(out);
        assert_true(vx_utf16_to_utf8(out + used, out_size - used, new_item + pair.value_offset, pair.value_length));
        strcat(out, ";");
    }
}

struct rewrite_case {
    const char            *about;
    struct vx_locator_text changes[3];
    size_t                 change_count;
    const char            *expected;
};

static const struct rewrite_case cases[] = {
    { "nothing", { { 0 } }, 0,
      "parent_linkage=" LINKAGE ";strange_key=kept;relative_path=.\\old.vhdx;"
      "volume_path=\\\\?\\Volume{x}\\old.vhdx;" },
    { "a value of the same length", { { "parent_linkage", OTHER_ID } }, 1,
      "parent_linkage=" OTHER_ID ";strange_key=kept;relative_path=.\\old.vhdx;"
      "volume_path=\\\\?\\Volume{x}\\old.vhdx;" },
    { "a longer value and a key that goes", { { "relative_path", "..\\there\\new.vhdx" }, { "volume_path", NULL } }, 2,
      "parent_linkage=" LINKAGE ";strange_key=kept;relative_path=..\\there\\new.vhdx;" },
    { "a key that was not there", { { "parent_linkage2", OTHER_ID }, { "volume_path", NULL } }, 2,
      "parent_linkage=" LINKAGE ";strange_key=kept;relative_path=.\\old.vhdx;parent_linkage2=" OTHER_ID ";" },
    { "a key goes that was not there", { { "parent_linkage2", NULL }, { "volume_path", NULL } }, 2,
      "parent_linkage=" LINKAGE ";strange_key=kept;relative_path=.\\old.vhdx;" },
};

static void
changes_what_is_named(void **state)
{
    (void)state;
    make_old();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_locator locator;
        struct seen       seen;
        char              text[1024];

        if (!vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, cases[i].changes,
                                cases[i].change_count))
            fail_msg("%s: refused", cases[i].about);
        vx_locator_decode(&locator, new_item, new_length, 0, seen_start(&seen));
        expect_only(&seen, cases[i].about, 0, VHDX_SEVERITY_NONE, 0);
        describe(text, sizeof text);
        assert_string_equal(text, cases[i].expected);
    }
}

static void
same_length_stays_in_place(void **state)
{
    static const struct vx_locator_text change = { "parent_linkage", OTHER_ID };

    (void)state;
    make_old();
    assert_true(vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, &change, 1));
    assert_int_equal(new_length, old_length);
}

/* The text of keys that we do not know need not be well-formed. */
static void
keeps_what_nobody_can_read(void **state)
{
    static const struct vx_locator_text change = { "volume_path", NULL };
    struct vx_locator_pair pair;

    (void)state;
    make_old();
    assert_true(vx_locator_pair_at(&pair, old_item, old_length, 1));
    vx_put_le16(old_item + pair.value_offset, 0xD800); /* half a surrogate pair */
    vx_put_le16(old_item + 20 + 12 + 10, 3);           /* and an odd length */
    assert_true(vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, &change, 1));
    assert_true(vx_locator_pair_at(&pair, new_item, new_length, 1));
    assert_int_equal(pair.value_length, 3);
    assert_int_equal(vx_le16(new_item + pair.value_offset), 0xD800);
}

static void
refuses(void **state)
{
    static const struct vx_locator_text empty = { "relative_path", "" }, malformed = { "relative_path", "\xff" };
    static const struct vx_locator_text all_go[] = {
        { "parent_linkage", NULL }, { "strange_key", NULL }, { "relative_path", NULL }, { "volume_path", NULL },
    };

    (void)state;
    make_old();
    assert_false(vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, &empty, 1));
    assert_false(vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, &malformed, 1));
    assert_false(vx_locator_rewrite(new_item, sizeof new_item, &new_length, old_item, old_length, all_go, 4));
    assert_false(vx_locator_rewrite(new_item, old_length - 1, &new_length, old_item, old_length, NULL, 0));
    assert_true(vx_locator_rewrite(new_item, old_length, &new_length, old_item, old_length, NULL, 0));
}

/* 65535 pairs that name one long string: the result would have 4 GiB. */
static void
overlapping_strings(void **state)
{
    static uint8_t hostile[20 + 12 * 65535 + 65534];
    uint32_t       strings = 20 + 12 * 65535;

    (void)state;
    memset(hostile, 'a', sizeof hostile);
    vx_put_le16(hostile + 18, 65535);
    for (uint32_t i = 0; i < 65535; i++) {
        vx_put_le32(hostile + 20 + 12 * i, strings);
        vx_put_le32(hostile + 24 + 12 * i, strings);
        vx_put_le16(hostile + 28 + 12 * i, 65534);
        vx_put_le16(hostile + 30 + 12 * i, 65534);
    }
    assert_false(vx_locator_rewrite(new_item, sizeof new_item, &new_length, hostile, sizeof hostile, NULL, 0));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_what_is_named),
        cmocka_unit_test(same_length_stays_in_place),
        cmocka_unit_test(keeps_what_nobody_can_read),
        cmocka_unit_test(refuses),
        cmocka_unit_test(overlapping_strings),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
