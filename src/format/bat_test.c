/* BAT entries: the values of appendix A.4, each rule broken alone, and the quick test against the slow one. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/bat.h"
#include "format/seen_for_tests.h"

#define M VX_MIB

/* A.7 in spirit: 10 MiB less a sector, blocks of 2 MiB; headers, log, metadata, BAT in the first 4 MiB. */
static const struct vx_reserved_range reserved[] = { { 0, 4 * M }, { 40 * M, 2 * M } };

static struct vx_geometry geometry;
static struct vx_bat_limits limits;

static void
set_up_disk(bool is_differencing, uint64_t file_length)
{
    vx_geometry_init(&geometry, 10 * M - 512, (uint32_t)(2 * M), 512, is_differencing, false);
    limits.geometry = &geometry;
    limits.file_length = file_length;
    limits.reserved = reserved;
    limits.reserved_count = 2;
    limits.bat_file_offset = 3 * M;
}

static void
worked_values(void **state)
{
    static const struct {
        uint8_t  bytes[8];
        uint8_t  entry_state;
        uint32_t reserved_bits;
        uint64_t file_offset;
    } cases[] = {
        { { 0x06, 0x00, 0x40, 0x00 },                               6, 0, 4 * M },
        { { 0x07, 0x00, 0x50, 0x34, 0x12 },                         7, 0, UINT64_C(0x1234500000) },
        { { 0x02 },                                                 2, 0, 0 },
        { { 0x03 },                                                 3, 0, 0 },
        { { 0x03, 0x00, 0x40, 0x02 },                               3, 0, 36 * M },
        { { 0x00 },                                                 0, 0, 0 },
        { { 0x06, 0x00, 0x50, 0x00 },                               6, 0, 5 * M },
        { { 0x0e, 0x00, 0x40, 0x00 },                               6, 1, 4 * M },
        { { 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },       7, 0x1ffff, UINT64_C(0xFFFFFFFFFFF00000) },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint64_t raw = vx_le64(cases[i].bytes);
        struct vx_bat_entry entry = vx_bat_entry_decode(raw);

        assert_int_equal(entry.state, cases[i].entry_state);
        assert_int_equal(entry.reserved, cases[i].reserved_bits);
        assert_int_equal(entry.file_offset, cases[i].file_offset);
        if (cases[i].reserved_bits == 0)
            assert_int_equal(vx_bat_entry_encode(entry.state, entry.file_offset), raw);
    }
}

static const struct payload_case {
    const char        *words;
    bool               is_differencing;
    uint64_t           raw, block_index, file_length;
    int                rule;
    enum vhdx_severity severity;
    int                code;
    int                rc;         /* 0, or code */
    uint8_t            state;      /* what *entry says, when rc is 0 */
    uint64_t           file_offset;
} payload_cases[] = {
#define NOTHING 0, VHDX_SEVERITY_NONE, 0, 0
    { "not present",             false, 0,                  0, 64 * M, NOTHING, 0, 0 },
    { "undefined",               false, 1,                  0, 64 * M, NOTHING, 1, 0 },
    { "zero",                    true,  2,                  0, 64 * M, NOTHING, 2, 0 },
    { "unmapped",                true,  3,                  0, 64 * M, NOTHING, 3, 0 },
    { "present",                 false, 4 * M | 6,          0, 64 * M, NOTHING, 6, 4 * M },
    { "present at the end",      false, 62 * M | 6,         0, 64 * M, NOTHING, 6, 62 * M },
    { "partially present",       true,  8 * M | 7,          0, 64 * M, NOTHING, 7, 8 * M },
    { "between the ranges",      false, 38 * M | 6,         0, 64 * M, NOTHING, 6, 38 * M },
    { "after the last range",    false, 42 * M | 6,         0, 64 * M, NOTHING, 6, 42 * M },
    { "undefined with anchor",   false, 36 * M | 1,         0, 64 * M, NOTHING, 1, 36 * M },
    { "unmapped with anchor",    false, 36 * M | 3,         0, 64 * M, NOTHING, 3, 36 * M },
    { "file ends within a MiB",  false, 62 * M | 6,         0, 63 * M + 512, NOTHING, 6, 62 * M },

    { "state 4",                 false, 4 * M | 4, 0, 64 * M, 131, VHDX_SEVERITY_BLOCK, VHDX_E_BAD_BAT, 1, 4, 0 },
    { "state 5",                 true,  5,         0, 64 * M, 131, VHDX_SEVERITY_BLOCK, VHDX_E_BAD_BAT, 1, 5, 0 },
    { "present at 0",            false, 6,         0, 64 * M, 132, VHDX_SEVERITY_BLOCK, VHDX_E_BAD_BAT, 1, 6, 0 },
    { "partial at 0",            true,  7,         0, 64 * M, 132, VHDX_SEVERITY_BLOCK, VHDX_E_BAD_BAT, 1, 7, 0 },
    { "at 2^63",                 false, UINT64_C(0x8000000000000006), 0, 64 * M, 132, VHDX_SEVERITY_BLOCK,
      VHDX_E_BAD_BAT, 1, 6, 0 },
    { "at 2^64 - 1 MiB",         false, UINT64_C(0xFFFFFFFFFFF00006), 0, 64 * M, 132, VHDX_SEVERITY_BLOCK,
      VHDX_E_BAD_BAT, 1, 6, 0 },
    { "partial without parent",  false, 8 * M | 7, 0, 64 * M, 133, VHDX_SEVERITY_RO, VHDX_E_BAD_BAT, 0, 6, 8 * M },
    { "half past the end",       false, 63 * M | 6, 0, 64 * M, 134, VHDX_SEVERITY_BLOCK, VHDX_E_TRUNCATED, 1, 6,
      0 },
    { "far past the end",        false, UINT64_C(1) << 62 | 6, 0, 64 * M, 134, VHDX_SEVERITY_BLOCK,
      VHDX_E_TRUNCATED, 1, 6, 0 },
    { "cut by a MiB",            false, 62 * M | 6, 3, 63 * M, 134, VHDX_SEVERITY_BLOCK, VHDX_E_TRUNCATED, 1, 6,
      0 },
    { "last block, cut by half", false, 62 * M | 6, 4, 63 * M, 134, VHDX_SEVERITY_BLOCK, VHDX_E_TRUNCATED, 1, 6,
      0 },
    { "over the headers",        false, 1 * M | 6, 0, 64 * M, 135, VHDX_SEVERITY_RO, VHDX_E_BAD_BAT, 0, 6, 1 * M },
    { "into the second range",   false, 39 * M | 6, 0, 64 * M, 135, VHDX_SEVERITY_RO, VHDX_E_BAD_BAT, 0, 6,
      39 * M },
    { "at the range's end",      true,  41 * M | 7, 0, 64 * M, 135, VHDX_SEVERITY_RO, VHDX_E_BAD_BAT, 0, 7,
      41 * M },
    { "not present with offset", false, 3 * M | 0, 0, 64 * M, 138, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
    { "zero with offset",        true,  9 * M | 2, 0, 64 * M, 138, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 2, 0 },
    { "anchor past the end",     false, 63 * M | 3, 0, 64 * M, 139, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_BAT, 0, 3, 0 },
    { "anchor over the BAT",     false, 3 * M | 1, 0, 64 * M, 139, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_BAT, 0, 1, 0 },
    { "anchor at 2^64 - 1 MiB",  true,  UINT64_C(0xFFFFFFFFFFF00003), 0, 64 * M, 139, VHDX_SEVERITY_REPAIR,
      VHDX_E_BAD_BAT, 0, 3, 0 },
    { "reserved bit 3",          false, 4 * M | 0xE, 0, 64 * M, 140, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 6,
      4 * M },
    { "reserved bit 19",         false, 0x80000, 0, 64 * M, 140, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
#undef NOTHING
};

static void
payload_entries(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < sizeof payload_cases / sizeof payload_cases[0]; i++) {
        const struct payload_case *c = &payload_cases[i];
        struct vx_bat_entry entry;
        struct seen seen;
        int rc;

        set_up_disk(c->is_differencing, c->file_length);
        rc = vx_bat_judge_payload(&entry, c->raw, c->block_index, &limits, seen_start(&seen));
        expect_only(&seen, c->words, c->rule, c->severity, c->code);
        if (rc != (c->rc ? c->code : VHDX_OK))
            fail_msg("%s: returned %d", c->words, rc);
        if (rc == VHDX_OK && (entry.state != c->state || entry.file_offset != c->file_offset))
            fail_msg("%s: state %u at 0x%llx", c->words, entry.state, (unsigned long long)entry.file_offset);
        if (vx_bat_payload_is_clean(c->raw, c->block_index, &limits) != (c->rule == 0))
            fail_msg("%s: the quick test disagrees", c->words);
        if (c->rule != 0)
            assert_int_equal(seen.list[0].file_offset, 3 * M + 8 * c->block_index);
    }
}

/* V136: a last block that ends where the disk ends, as qemu writes it. */
static void
cut_last_block(void **state)
{
    struct vx_bat_entry entry;
    struct seen seen;

    (void)state;
    vx_geometry_init(&geometry, 9 * M, (uint32_t)(2 * M), 512, false, false); /* 1 MiB in the last of 5 blocks */
    limits.geometry = &geometry;
    limits.file_length = 63 * M;
    assert_int_equal(vx_bat_judge_payload(&entry, 62 * M | 6, 4, &limits, seen_start(&seen)), VHDX_OK);
    expect_only(&seen, "cut after the disk's end", 136, VHDX_SEVERITY_WARN, VHDX_E_TRUNCATED);
    assert_int_equal(entry.file_offset, 62 * M);
    assert_false(vx_bat_payload_is_clean(62 * M | 6, 4, &limits));

    assert_int_equal(vx_bat_judge_payload(&entry, 62 * M | 6, 3, &limits, seen_start(&seen)), VHDX_E_TRUNCATED);
    expect_only(&seen, "another block so", 134, VHDX_SEVERITY_BLOCK, VHDX_E_TRUNCATED);

    limits.file_length = 62 * M + 512; /* the rest of this MiB reads as zeros */
    assert_int_equal(vx_bat_judge_payload(&entry, 62 * M | 6, 4, &limits, seen_start(&seen)), VHDX_OK);
    expect_only(&seen, "cut within the MiB", 136, VHDX_SEVERITY_WARN, VHDX_E_TRUNCATED);
    limits.file_length = 62 * M;
    assert_int_equal(vx_bat_judge_payload(&entry, 62 * M | 6, 4, &limits, seen_start(&seen)), VHDX_E_TRUNCATED);
    expect_only(&seen, "cut before the disk's end", 134, VHDX_SEVERITY_BLOCK, VHDX_E_TRUNCATED);
}

static void
bitmap_entries(void **state)
{
    static const struct {
        const char        *words;
        bool               is_differencing;
        uint64_t           raw;
        int                rule;
        enum vhdx_severity severity;
        int                code, rc;
        uint8_t            state;
        uint64_t           file_offset;
    } cases[] = {
        { "none", false, 0, 0, VHDX_SEVERITY_NONE, 0, 0, 0, 0 },
        { "none in a child", true, 0, 0, VHDX_SEVERITY_NONE, 0, 0, 0, 0 },
        { "present", true, 4 * M | 6, 0, VHDX_SEVERITY_NONE, 0, 0, 6, 4 * M },
        { "present at the end", true, 63 * M | 6, 0, VHDX_SEVERITY_NONE, 0, 0, 6, 63 * M },
        { "zero with offset", true, 9 * M, 138, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
        { "reserved bit", true, 4 * M | 0xE, 140, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 6, 4 * M },
        { "state 7", true, 4 * M | 7, 141, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 7, 0 },
        { "state 2", true, 2, 141, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 2, 0 },
        { "present without parent", false, 4 * M | 6, 142, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
        { "state 7 without parent", false, 7, 142, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
        { "garbage without parent", false, UINT64_MAX, 142, VHDX_SEVERITY_WARN, VHDX_E_BAD_BAT, 0, 0, 0 },
        { "at 0", true, 6, 144, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 6, 0 },
        { "past the end", true, 64 * M | 6, 144, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 6, 0 },
        { "at 2^64 - 1 MiB", true, UINT64_C(0xFFFFFFFFFFF00006), 144, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 6,
          0 },
        { "over the BAT", true, 3 * M | 6, 144, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 6, 0 },
        { "before the second range", true, 39 * M | 6, 0, VHDX_SEVERITY_NONE, 0, 0, 6, 39 * M },
        { "in the second range", true, 40 * M | 6, 144, VHDX_SEVERITY_RO, VHDX_E_BAD_BITMAP, 1, 6, 0 },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_bat_entry entry;
        struct seen seen;
        int rc;

        set_up_disk(cases[i].is_differencing, 64 * M);
        rc = vx_bat_judge_bitmap(&entry, cases[i].raw, 0, &limits, seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, cases[i].code);
        assert_int_equal(rc, cases[i].rc ? cases[i].code : VHDX_OK);
        if (rc == VHDX_OK) {
            assert_int_equal(entry.state, cases[i].state);
            assert_int_equal(entry.file_offset, cases[i].file_offset);
        }
        if (cases[i].rule != 0)
            assert_int_equal(seen.list[0].file_offset, 3 * M + 8 * 2048);
    }
}

/* I1: the quick test says yes exactly when the slow one finds nothing. */
static void
quick_and_slow_agree(void **state)
{
    uint64_t random = 88172645463325252u;
    uint32_t i, agreed[2] = { 0, 0 };

    (void)state;
    for (i = 0; i < 200000; i++) {
        struct vx_bat_entry entry;
        struct vx_findings findings;
        uint64_t raw;
        bool is_clean;

        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        set_up_disk((random & 0x10000000) != 0, (random >> 50) * 4096 + (random & 0x20000000 ? 128 * M : 0));
        raw = (random & 7) | (random & 0x40000000 ? (random >> 8 & 127) * M : 0);
        if ((random >> 16 & 15) == 0)
            raw |= (random >> 20 & 0x1FFFF) << 3;
        if ((random >> 24 & 15) == 0)
            raw |= random & UINT64_C(0xFF00000000000000);
        vx_findings_init(&findings, NULL, NULL);
        vx_bat_judge_payload(&entry, raw, random >> 40 & 3, &limits, &findings);
        is_clean = vx_bat_payload_is_clean(raw, random >> 40 & 3, &limits);
        if (is_clean != (findings.count == 0))
            fail_msg("raw 0x%llx, file length 0x%llx", (unsigned long long)raw,
                     (unsigned long long)limits.file_length);
        agreed[is_clean]++;
    }
    assert_true(agreed[0] > 20000 && agreed[1] > 20000);
}

static void
reserved_ranges(void **state)
{
    static struct vx_region_table table;
    struct vx_header header = { .log_offset = 8 * M, .log_length = 1024 * 1024 };
    struct vx_reserved_range out[8];
    size_t count;

    (void)state;
    table.region_count = 4;
    table.regions[0] = (struct vx_region){ .file_offset = 20 * M, .length = 3 * 1024 * 1024 };
    table.regions[1] = (struct vx_region){ .file_offset = 4 * M, .length = 1024 * 1024 };
    table.regions[2] = (struct vx_region){ .file_offset = 0, .length = 0 };
    table.regions[3] = (struct vx_region){ .file_offset = 9 * M, .length = 2 * 1024 * 1024 };
    count = vx_reserved_ranges(out, &header, &table);
    assert_int_equal(count, 4);
    assert_int_equal(out[0].file_offset, 0);
    assert_int_equal(out[0].length, M);
    assert_int_equal(out[1].file_offset, 4 * M);
    assert_int_equal(out[2].file_offset, 8 * M); /* the log and the region behind it are one */
    assert_int_equal(out[2].length, 3 * M);
    assert_int_equal(out[3].file_offset, 20 * M);
    assert_int_equal(out[3].length, 3 * M);

    /* A file that is not opened: overlapping, and past all ends. */
    table.regions[0] = (struct vx_region){ .file_offset = M / 2, .length = UINT32_MAX };
    table.regions[1] = (struct vx_region){ .file_offset = UINT64_MAX - 5, .length = 4096 };
    header.log_length = 0;
    count = vx_reserved_ranges(out, &header, &table);
    assert_int_equal(count, 2);
    assert_int_equal(out[0].length, M / 2 + UINT32_MAX);
    assert_int_equal(out[1].file_offset, UINT64_MAX - 5);
    assert_int_equal(out[1].length, 5);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_values),
        cmocka_unit_test(payload_entries),
        cmocka_unit_test(cut_last_block),
        cmocka_unit_test(bitmap_entries),
        cmocka_unit_test(quick_and_slow_agree),
        cmocka_unit_test(reserved_ranges),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
