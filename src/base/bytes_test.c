/* Loads and stores of little-endian numbers; the search for zeros. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"

static void
test_loads_and_stores(void **state)
{
    static const uint8_t bytes[] = { 0xFF, 0x01, 0x82, 0x03, 0x84, 0x05, 0x86, 0x07, 0x88 };
    uint8_t out[10];

    (void)state;
    assert_true(vx_le16(bytes + 1) == 0x8201); /* odd addresses are as good as even ones */
    assert_true(vx_le32(bytes + 1) == UINT32_C(0x84038201));
    assert_true(vx_le64(bytes + 1) == UINT64_C(0x8807860584038201));

    memset(out, 0xEE, sizeof out);
    vx_put_le64(out + 1, UINT64_C(0x8807860584038201));
    assert_memory_equal(out + 1, bytes + 1, 8);
    assert_int_equal(out[0], 0xEE);
    assert_int_equal(out[9], 0xEE);
    vx_put_le32(out + 3, UINT32_C(0xDDCCBBAA));
    vx_put_le16(out + 3, 0x2211);
    assert_memory_equal(out + 1, "\x01\x82\x11\x22\xCC\xDD\x07\x88", 8);
}

/* Every length around the unit of the search, every place of the one byte that is not zero, odd addresses too. */
static void
test_is_zero(void **state)
{
    uint8_t buffer[300] = { 0 };

    (void)state;
    assert_true(vx_is_zero(NULL, 0));
    for (size_t start = 0; start < 9; start++) {
        for (size_t length = 0; length <= 200; length++) {
            if (start > 0)
                buffer[start - 1] = 1; /* neighbours do not count */
            buffer[start + length] = 1;
            assert_true(vx_is_zero(buffer + start, length));
            for (size_t i = 0; i < length; i++) {
                buffer[start + i] = 0x80;
                assert_false(vx_is_zero(buffer + start, length));
                buffer[start + i] = 0;
            }
            memset(buffer, 0, sizeof buffer);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loads_and_stores),
        cmocka_unit_test(test_is_zero),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
