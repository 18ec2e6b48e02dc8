/* File type identifier and the header section's reserved bytes: V1 to V6. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/identifier.h"
#include "format/seen_for_tests.h"

static uint8_t slot[VX_IDENTIFIER_SIZE];

static void
written_slot(void **state)
{
    struct seen seen;

    (void)state;
    memset(slot, 0xFF, sizeof slot);
    vx_identifier_encode(slot, "me");
    assert_memory_equal(slot, "vhdxfilem\0e\0\0", 14);
    assert_true(vx_is_zero(slot + 12, sizeof slot - 12));
    assert_true(vx_identifier_has_signature(slot));
    vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
    expect_only(&seen, "as written", 0, VHDX_SEVERITY_NONE, 0);
}

static void
long_and_foreign_creators(void **state)
{
    char creator[400];
    struct seen seen;

    (void)state;
    memset(creator, 'c', sizeof creator);
    creator[sizeof creator - 1] = '\0';
    vx_identifier_encode(slot, creator);
    assert_int_equal(vx_le16(slot + 8 + 2 * 254), 'c');
    assert_int_equal(vx_le16(slot + 8 + 2 * 255), 0);
    vx_identifier_encode(slot, "\xc3\xa9");
    assert_int_equal(vx_le16(slot + 8), '?');
    vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
    expect_only(&seen, "not ASCII", 0, VHDX_SEVERITY_NONE, 0);
}

static void
signatures(void **state)
{
    static const char *const bad[] = { "VHDXFILE", "vhdxfilf", "conectix", "QFI\xfb____" };
    struct seen seen;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        vx_identifier_encode(slot, "x");
        memcpy(slot, bad[i], 8);
        vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
        expect_only(&seen, bad[i], 2, VHDX_SEVERITY_REFUSE, VHDX_E_NOT_VHDX);
    }
    vx_identifier_encode(slot, "x");
    vx_identifier_judge(slot, 7, seen_start(&seen));
    expect_only(&seen, "7 bytes", 2, VHDX_SEVERITY_REFUSE, VHDX_E_NOT_VHDX);
    vx_identifier_judge(slot, 0, seen_start(&seen));
    expect_only(&seen, "no bytes", 2, VHDX_SEVERITY_REFUSE, VHDX_E_NOT_VHDX);
}

static void
creators(void **state)
{
    struct seen seen;
    size_t i;

    (void)state;
    vx_identifier_encode(slot, "abc");
    vx_put_le16(slot + 8 + 2, 0xD800);
    vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
    expect_only(&seen, "lone surrogate", 3, VHDX_SEVERITY_WARN, VHDX_E_NOT_VHDX);

    vx_identifier_encode(slot, "abc");
    vx_put_le16(slot + 8 + 8, 0xD800);
    vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
    expect_only(&seen, "surrogate after the NUL", 0, VHDX_SEVERITY_NONE, 0);

    for (i = 0; i < 256; i++)
        vx_put_le16(slot + 8 + 2 * i, 'q');
    vx_identifier_judge(slot, sizeof slot, seen_start(&seen));
    expect_only(&seen, "256 characters and no NUL", 0, VHDX_SEVERITY_NONE, 0);
}

static void
reserved_bytes(void **state)
{
    static const struct {
        size_t at, length;
        int    rule;
    } cases[] = { { 520, 65536, 4 }, { 65535, 65536, 4 }, { 600, 520, 0 }, { 519, 65536, 0 }, { 600, 100000, 4 } };
    struct seen seen;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vx_identifier_encode(slot, "abc");
        slot[cases[i].at] = 1;
        vx_identifier_judge(slot, cases[i].length, seen_start(&seen));
        expect_only(&seen, "reserved byte", cases[i].rule, VHDX_SEVERITY_WARN, VHDX_E_NOT_VHDX);
    }
}

static void
file_lengths(void **state)
{
    static const struct {
        uint64_t           length;
        int                rule;
        enum vhdx_severity severity;
    } cases[] = {
        { 0, 1, VHDX_SEVERITY_REFUSE },          { 1, 1, VHDX_SEVERITY_REFUSE },
        { VX_MIB - 1, 1, VHDX_SEVERITY_REFUSE }, { VX_MIB, 0, VHDX_SEVERITY_NONE },
        { VX_MIB + 512, 5, VHDX_SEVERITY_WARN }, { 4 * VX_MIB, 0, VHDX_SEVERITY_NONE },
        { UINT64_MAX, 5, VHDX_SEVERITY_WARN },
    };
    struct seen seen;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vx_file_length_judge(cases[i].length, seen_start(&seen));
        expect_only(&seen, "file length", cases[i].rule, cases[i].severity, VHDX_E_TRUNCATED);
    }
}

/* V6, fed in pieces of 64 KiB, and at odd places. */
static void
header_section(void **state)
{
    static const struct {
        const char *words;
        uint64_t    piece_at;
        size_t      length, byte_at;
        int         rule;
    } cases[] = {
        { "last byte of region table 2",   0x40000,  0x10000, 0xFFFF,  0 },
        { "first reserved byte",           0x50000,  0x10000, 0,       6 },
        { "in a piece across the border",  0x40000,  0x20000, 0x10000, 6 },
        { "before it in such a piece",     0x40000,  0x20000, 0x0FFFF, 0 },
        { "last reserved byte",            0xF0000,  0x10000, 0xFFFF,  6 },
        { "first byte after the section",  0x100000, 0x10000, 0,       0 },
        { "after it in a piece across",    0xF0000,  0x20000, 0x10000, 0 },
        { "far away",                      UINT64_MAX - 0x10000, 0x10000, 5, 0 },
    };
    static uint8_t piece[0x20000];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;

        memset(piece, 0, sizeof piece);
        piece[cases[i].byte_at] = 0x80;
        vx_header_section_judge_reserved(piece, cases[i].length, cases[i].piece_at, seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, VHDX_SEVERITY_WARN, VHDX_E_NOT_VHDX);
        if (cases[i].rule != 0)
            assert_int_equal(seen.list[0].file_offset, cases[i].piece_at + cases[i].byte_at);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_slot),
        cmocka_unit_test(long_and_foreign_creators),
        cmocka_unit_test(signatures),
        cmocka_unit_test(creators),
        cmocka_unit_test(reserved_bytes),
        cmocka_unit_test(file_lengths),
        cmocka_unit_test(header_section),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
