/* CRC-32C: the vectors of docs/vhdx-format.md appendix B, and every way to compute it against the definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/crc32c.h"

static uint8_t zeros[65536];

static void
test_vectors(void **state)
{
    uint8_t ones[32], counting[32];
    const struct {
        const char *about;
        const void *bytes;
        size_t      length;
        uint32_t    crc;
    } cases[] = {
        { "empty",            zeros,       0,     UINT32_C(0x00000000) },
        { "123456789",        "123456789", 9,     UINT32_C(0xE3069283) },
        { "32 zeros",         zeros,       32,    UINT32_C(0x8A9136AA) },
        { "32 ones",          ones,        32,    UINT32_C(0x62A8AB43) },
        { "0 to 31",          counting,    32,    UINT32_C(0x46DD794E) },
        { "a page of zeros",  zeros,       4096,  UINT32_C(0x98F94189) },
        { "64 KiB of zeros",  zeros,       65536, UINT32_C(0x72C0C4A4) },
    };
    struct vx_crc32c_path paths[VX_CRC32C_PATHS];
    const size_t path_count = vx_crc32c_paths_for_tests(paths);

    (void)state;
    memset(ones, 0xFF, sizeof ones);
    for (uint8_t i = 0; i < sizeof counting; i++)
        counting[i] = i;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (vx_crc32c(0, cases[i].bytes, cases[i].length) != cases[i].crc)
            fail_msg("%s", cases[i].about);
        for (size_t k = 0; k < path_count; k++)
            if (~paths[k].run(~UINT32_C(0), cases[i].bytes, cases[i].length) != cases[i].crc)
                fail_msg("%s by %s", cases[i].about, paths[k].name);
    }
}

/* Bit by bit, as section 1.3 defines it. */
static uint32_t
run_definition(uint32_t state, const uint8_t *bytes, size_t length)
{
    for (size_t i = 0; i < length; i++) {
        state ^= bytes[i];
        for (int bit = 0; bit < 8; bit++)
            state = (state & 1) != 0 ? state >> 1 ^ UINT32_C(0x82F63B78) : state >> 1;
    }
    return state;
}

/* All lengths about the width of a step, all alignments, all bytes different. */
static void
test_paths_agree(void **state)
{
    struct vx_crc32c_path paths[VX_CRC32C_PATHS];
    const size_t path_count = vx_crc32c_paths_for_tests(paths);
    uint8_t bytes[160];

    (void)state;
    assert_in_range(path_count, 1, VX_CRC32C_PATHS);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 37 + i / 7);
    for (size_t start = 0; start < 16; start++) {
        for (size_t length = 0; length <= 100; length++) {
            const uint32_t seed = UINT32_C(0x12345678) * (uint32_t)(start + 1);
            const uint32_t right = run_definition(seed, bytes + start, length);

            for (size_t k = 0; k < path_count; k++)
                if (paths[k].run(seed, bytes + start, length) != right)
                    fail_msg("%s, %zu bytes from %zu", paths[k].name, length, start);
        }
    }
    for (size_t k = 0; k < path_count; k++)
        print_message("# checked: %s\n", paths[k].name);
}

static void
test_continues(void **state)
{
    uint8_t bytes[100];
    uint32_t whole;

    (void)state;
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i);
    whole = vx_crc32c(0, bytes, sizeof bytes);
    for (size_t cut = 0; cut <= sizeof bytes; cut++)
        assert_int_equal(vx_crc32c(vx_crc32c(0, bytes, cut), bytes + cut, sizeof bytes - cut), whole);
}

static void
test_hole(void **state)
{
    uint8_t bytes[64], with_zeros[64];

    (void)state;
    memset(bytes, 0xA5, sizeof bytes);
    for (size_t hole_at = 0; hole_at <= sizeof bytes - 4; hole_at++) {
        memcpy(with_zeros, bytes, sizeof bytes);
        memset(with_zeros + hole_at, 0, 4);
        assert_int_equal(vx_crc32c_hole(bytes, sizeof bytes, hole_at), vx_crc32c(0, with_zeros, sizeof with_zeros));
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_paths_agree),
        cmocka_unit_test(test_continues),
        cmocka_unit_test(test_hole),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
