/* Log entries: the bytes of appendix A.5, the sizes, E1 to E14 each broken alone, and hostile counts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/log_entry.h"

#define M          VX_MIB
#define LOG_OFFSET VX_MIB
#define LOG_LENGTH VX_MIB
#define SEQUENCE   UINT64_C(0x1122334455667788)

static const struct vhdx_guid guid = {
    { 0xef, 0xbe, 0xad, 0xde, 0xfe, 0xca, 0xad, 0x4b, 0x8f, 0x00, 0xd0, 0x0d, 0xfe, 0xed, 0xfa, 0xce }
};

static const uint8_t worked_empty[64] = {
    0x6c, 0x6f, 0x67, 0x65, 0x68, 0xa7, 0x98, 0x1d, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xef, 0xbe, 0xad, 0xde, 0xfe, 0xca, 0xad, 0x4b, 0x8f, 0x00, 0xd0, 0x0d, 0xfe, 0xed, 0xfa, 0xce,
    0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
};
static const uint8_t worked_entry[128] = {
    0x6c, 0x6f, 0x67, 0x65, 0x8f, 0x66, 0xd6, 0xa8, 0x00, 0x20, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00,
    0x89, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0xef, 0xbe, 0xad, 0xde, 0xfe, 0xca, 0xad, 0x4b, 0x8f, 0x00, 0xd0, 0x0d, 0xfe, 0xed, 0xfa, 0xce,
    0x00, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x40, 0x02, 0x00, 0x00, 0x00, 0x00,
    0x64, 0x65, 0x73, 0x63, 0x00, 0x00, 0x00, 0x00, 0x06, 0x00, 0x40, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x89, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
    0x7a, 0x65, 0x72, 0x6f, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x50, 0x00, 0x00, 0x00, 0x00, 0x00, 0x89, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11,
};
static const uint8_t worked_data_start[8] = { 0x64, 0x61, 0x74, 0x61, 0x44, 0x33, 0x22, 0x11 };
static const uint8_t worked_data_end[16] = {
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x89, 0x77, 0x66, 0x55,
};

static uint8_t entry[300 * VX_LOG_SECTOR];
static uint8_t page[VX_PAGE];

static void
make_empty_entry(void)
{
    struct vx_log_entry_header header = {
        .entry_length        = VX_LOG_SECTOR,
        .sequence_number     = SEQUENCE,
        .log_guid            = guid,
        .flushed_file_offset = 4 * M,
        .last_file_offset    = 4 * M,
    };

    memset(entry, 0, sizeof entry);
    vx_log_entry_header_encode(entry, &header);
    vx_log_entry_seal(entry, header.entry_length);
}

/* A.5, entry 2: a page of the BAT and a zeroed MiB. */
static void
make_worked_entry(void)
{
    struct vx_log_entry_header header = {
        .entry_length        = 2 * VX_LOG_SECTOR,
        .tail                = 0x1000,
        .sequence_number     = SEQUENCE + 1,
        .descriptor_count    = 2,
        .log_guid            = guid,
        .flushed_file_offset = 4 * M,
        .last_file_offset    = 36 * M,
    };
    struct vx_log_descriptor zero = {
        .is_zero = true, .file_offset = 5 * M, .zero_length = M, .sequence_number = SEQUENCE + 1,
    };

    memset(entry, 0, sizeof entry);
    memset(page, 0, sizeof page);
    vx_put_le64(page, 0x400006);
    vx_put_le64(page + 8 * 511, 2);
    vx_log_entry_header_encode(entry, &header);
    vx_log_page_encode(entry, 2, 0, 0, page, 3 * M, SEQUENCE + 1);
    vx_log_descriptor_encode(entry, 1, &zero);
    vx_log_entry_seal(entry, header.entry_length);
}

/* Feed an entry until the check has decided; *fed is how many sectors it wanted. */
static enum vx_log_verdict
check_sectors(struct vx_log_entry_check *check, uint64_t log_length, size_t *fed)
{
    enum vx_log_verdict verdict = vx_log_entry_check_begin(check, entry, &guid, LOG_OFFSET, log_length);
    size_t i;

    for (i = 1; verdict == VX_LOG_MORE && i < sizeof entry / VX_LOG_SECTOR; i++)
        verdict = vx_log_entry_check_feed(check, entry + i * VX_LOG_SECTOR);
    *fed = i;
    return verdict;
}

static enum vx_log_verdict
check_entry(void)
{
    struct vx_log_entry_check check;
    size_t fed;

    return check_sectors(&check, LOG_LENGTH, &fed);
}

static void
area_sizes(void **state)
{
    static const struct {
        uint32_t count;
        uint64_t size;
    } cases[] = {
        { 0, 4096 },   { 1, 4096 },   { 126, 4096 },  { 127, 8192 },
        { 254, 8192 }, { 255, 12288 }, { 382, 12288 }, { 383, 16384 },
        { UINT32_MAX, UINT64_C(0x2000001000) },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(vx_log_descriptor_area_size(cases[i].count), cases[i].size);
    assert_int_equal(vx_log_descriptor_offset(0), 64);
    assert_int_equal(vx_log_descriptor_offset(VX_LOG_FIRST_DESCRIPTORS), 4096);
    assert_int_equal(vx_log_descriptor_offset(VX_LOG_FIRST_DESCRIPTORS + VX_LOG_NEXT_DESCRIPTORS), 8192);
}

static void
worked_bytes(void **state)
{
    struct vx_log_entry_check check;
    struct vx_log_descriptor descriptor;
    uint8_t rebuilt[VX_PAGE];
    size_t fed;

    (void)state;
    make_empty_entry();
    assert_memory_equal(entry, worked_empty, sizeof worked_empty);
    assert_true(vx_is_zero(entry + 64, sizeof entry - 64));
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
    assert_int_equal(fed, 1);
    assert_int_equal(check.highest_target_end, 0);

    make_worked_entry();
    assert_memory_equal(entry, worked_entry, sizeof worked_entry);
    assert_true(vx_is_zero(entry + 128, 4096 - 128));
    assert_memory_equal(entry + 4096, worked_data_start, sizeof worked_data_start);
    assert_memory_equal(entry + 8192 - 16, worked_data_end, sizeof worked_data_end);
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
    assert_int_equal(fed, 2);
    assert_int_equal(check.highest_target_end, 6 * M);
    assert_int_equal(check.header.tail, 0x1000);
    assert_int_equal(check.header.sequence_number, SEQUENCE + 1);
    assert_int_equal(check.header.flushed_file_offset, 4 * M);
    assert_int_equal(check.header.last_file_offset, 36 * M);
    assert_false(check.has_stray_bits);

    assert_true(vx_log_descriptor_decode(&descriptor, entry + 64));
    assert_false(descriptor.is_zero);
    assert_int_equal(descriptor.file_offset, 3 * M);
    vx_log_page_decode(rebuilt, &descriptor, entry + 4096);
    assert_memory_equal(rebuilt, page, sizeof page);
    assert_true(vx_log_descriptor_decode(&descriptor, entry + 96));
    assert_true(descriptor.is_zero);
    assert_int_equal(descriptor.zero_length, M);
    assert_int_equal(descriptor.file_offset, 5 * M);
}

/* A page with every byte different from its neighbours comes back whole. */
static void
page_round_trip(void **state)
{
    struct vx_log_descriptor descriptor;
    uint8_t rebuilt[VX_PAGE];
    size_t i;

    (void)state;
    make_worked_entry();
    for (i = 0; i < sizeof page; i++)
        page[i] = (uint8_t)(i * 7 + i / 256);
    vx_log_page_encode(entry, 2, 0, 0, page, 3 * M, SEQUENCE + 1);
    assert_true(vx_log_descriptor_decode(&descriptor, entry + 64));
    vx_log_page_decode(rebuilt, &descriptor, entry + 4096);
    assert_memory_equal(rebuilt, page, sizeof page);
    assert_memory_equal(entry + 4096, "data", 4);
}

/* Whatever byte is damaged, the entry is none any more. */
static void
every_byte_counts(void **state)
{
    size_t i;

    (void)state;
    make_worked_entry();
    assert_int_equal(check_entry(), VX_LOG_VALID);
    for (i = 0; i < 2 * VX_LOG_SECTOR; i++) {
        entry[i] ^= 0x04;
        if (check_entry() != VX_LOG_INVALID)
            fail_msg("byte %zu may change", i);
        entry[i] ^= 0x04;
    }
}

/* E1 to E13: one field is changed and the checksum is made right again.  E1 has no rule: it is no entry then. */
static void
each_condition(void **state)
{
    enum { NO_ENTRY = -1 };
    static const struct {
        const char *words;
        size_t      at;
        uint8_t     width; /* bytes changed */
        uint64_t    value;
        int         rule; /* V32 to V42 */
    } cases[] = {
        { "unchanged",                       8,    4, 0x2000,                    0 },
        { "E1 signature",                    0,    4, 0x65676f6d,                NO_ENTRY },
        { "E2 other LogGuid",                47,   1, 0xcf,                      35 },
        { "E3 sequence 0",                   16,   8, 0,                         34 },
        { "E4 length 0",                     8,    4, 0,                         32 },
        { "E4 length 4097",                  8,    4, 4097,                      32 },
        { "E4 length above the log's",       8,    4, LOG_LENGTH + 4096,         32 },
        { "E4 length 0xFFFFF000",            8,    4, 0xFFFFF000,                32 },
        { "E5 tail 100",                     12,   4, 100,                       33 },
        { "E5 tail at the log's end",        12,   4, LOG_LENGTH,                33 },
        { "E5 tail in the last sector",      12,   4, LOG_LENGTH - 4096,         0 },
        { "E6 count 0xFFFFFFFF",             24,   4, UINT32_MAX,                36 },
        { "E6 count 0x08000000",             24,   4, 0x08000000,                36 },
        { "E6 count 255",                    24,   4, 255,                       36 },
        { "E7 count 3: empty slot",          24,   4, 3,                         38 },
        { "E7 descriptor signature",         64,   1, 'D',                       38 },
        { "E7 \"data\" as descriptor",       64,   4, 0x61746164,                38 },
        { "E7 descriptor's sequence",        88,   8, SEQUENCE,                  38 },
        { "E7 zero descriptor's sequence",   120,  8, SEQUENCE + 2,              38 },
        { "E8 offset 512 bytes astray",      80,   8, 3 * M + 512,               39 },
        { "E8 data at 2^64 - 4096",          80,   8, UINT64_MAX - 4095,         39 },
        { "E8 zero length 4097",             104,  8, 4097,                      39 },
        { "E8 zero range wraps",             104,  8, UINT64_MAX - 4095,         39 },
        { "E8 zero range ends at 2^64",      104,  8, UINT64_MAX - 5 * M + 1,    39 },
        { "E8 zero length 0",                104,  8, 0,                         0 },
        { "E9 count 1: a data sector only",  24,   4, 1,                         0 },
        { "E9 count 0: a sector too many",   24,   4, 0,                         36 },
        { "E9 length one sector too long",   8,    4, 0x3000,                    36 },
        { "E9 length one sector too short",  8,    4, 0x1000,                    36 },
        { "E10 data signature",              4096, 1, 'D',                       40 },
        { "E10 sequence high",               4100, 4, 0x11223345,                40 },
        { "E10 sequence low",                8188, 4, 0x5566778A,                40 },
        { "E12 identifier",                  80,   8, 0,                         41 },
        { "E12 header 1",                    80,   8, 0x10000,                   41 },
        { "E12 last page of header 2",       80,   8, 0x2F000,                   41 },
        { "E12 region table 1 is fine",      80,   8, 0x30000,                   0 },
        { "E12 zero range into headers",     112,  8, 0x2F000,                   41 },
        { "E13 log's first page",            80,   8, LOG_OFFSET,                42 },
        { "E13 log's last page",             80,   8, LOG_OFFSET + LOG_LENGTH - 4096, 42 },
        { "E13 page before the log is fine", 80,   8, LOG_OFFSET - 4096,         0 },
        { "E13 page after the log is fine",  80,   8, LOG_OFFSET + LOG_LENGTH,   0 },
        { "E13 zero range over the log",     112,  8, LOG_OFFSET - 4096,         42 },
    };
    struct vx_log_entry_check check;
    enum vx_log_verdict verdict;
    size_t fed, i, j;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t length;

        make_worked_entry();
        for (j = 0; j < cases[i].width; j++)
            entry[cases[i].at + j] = (uint8_t)(cases[i].value >> (8 * j));
        length = vx_le32(entry + 8);
        vx_log_entry_seal(entry, length > 0 && length <= sizeof entry ? length : 2 * VX_LOG_SECTOR);
        verdict = check_sectors(&check, LOG_LENGTH, &fed);
        if (verdict != (cases[i].rule == 0 ? VX_LOG_VALID : VX_LOG_INVALID))
            fail_msg("%s: expected %s", cases[i].words, cases[i].rule == 0 ? "valid" : "invalid");
        if (cases[i].rule != NO_ENTRY && check.broken_rule != cases[i].rule)
            fail_msg("%s: V%d, expected V%d", cases[i].words, check.broken_rule, cases[i].rule);
    }
}

/* E3 where no descriptor carries a sequence number that would tell. */
static void
empty_entry_of_sequence_0(void **state)
{
    (void)state;
    make_empty_entry();
    vx_put_le64(entry + 16, 0);
    vx_log_entry_seal(entry, VX_LOG_SECTOR);
    assert_int_equal(check_entry(), VX_LOG_INVALID);
}

/* E12, E13: a range without bytes targets nothing, wherever it is. */
static void
zero_length_targets_nothing(void **state)
{
    struct vx_log_entry_check check;
    size_t fed;

    (void)state;
    make_worked_entry();
    vx_put_le64(entry + 104, 0);
    vx_put_le64(entry + 112, LOG_OFFSET);
    vx_log_entry_seal(entry, 8192);
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
    assert_int_equal(check.highest_target_end, 3 * M + 4096);
}

/* An entry of so many data descriptors, or zero descriptors, each of a page. */
static uint32_t
make_long_entry(uint32_t data_count, uint32_t zero_count)
{
    uint32_t count = data_count + zero_count, i;
    struct vx_log_entry_header header = {
        .sequence_number = 5, .descriptor_count = count, .log_guid = guid,
    };

    header.entry_length = (uint32_t)vx_log_descriptor_area_size(count) + VX_LOG_SECTOR * data_count;
    memset(entry, 0, sizeof entry);
    vx_log_entry_header_encode(entry, &header);
    for (i = 0; i < data_count; i++) {
        memset(page, (int)i, sizeof page);
        vx_log_page_encode(entry, count, i, i, page, 4 * M + 4096 * (uint64_t)i, 5);
    }
    for (; i < count; i++) {
        struct vx_log_descriptor zero = {
            .is_zero = true, .file_offset = 8 * M + 4096 * (uint64_t)i, .zero_length = 4096, .sequence_number = 5,
        };

        vx_log_descriptor_encode(entry, i, &zero);
    }
    vx_log_entry_seal(entry, header.entry_length);
    return header.entry_length;
}

static void
many_descriptors(void **state)
{
    static const struct {
        uint32_t data_count, zero_count;
        size_t   sectors;
    } cases[] = {
        { 126, 0, 127 }, { 127, 0, 129 }, { 252, 0, 254 }, { 0, 126, 1 }, { 0, 127, 2 },
        { 0, 254, 2 },   { 0, 255, 3 },   { 100, 155, 103 }, { 1, 254, 4 },
    };
    struct vx_log_entry_check check;
    size_t fed, i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t length = make_long_entry(cases[i].data_count, cases[i].zero_count);

        assert_int_equal(length, cases[i].sectors * VX_LOG_SECTOR);
        assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
        assert_int_equal(fed, cases[i].sectors);
        assert_int_equal(check.data_count, cases[i].data_count);
        assert_false(check.has_stray_bits);
        entry[length - 2048] ^= 1;
        assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_INVALID);
    }
}

/* What cannot be valid is told before the next sector is read. */
static void
early_refusal(void **state)
{
    struct vx_log_entry_check check;
    size_t fed;

    (void)state;
    make_long_entry(200, 0); /* too many data sectors announced by the first 126 descriptors alone */
    vx_put_le32(entry + 8, 100 * VX_LOG_SECTOR);
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_INVALID);
    assert_int_equal(fed, 1);

    make_long_entry(200, 0);
    vx_put_le32(entry + 8, 250 * VX_LOG_SECTOR); /* too few: known after the last descriptor */
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_INVALID);
    assert_int_equal(fed, 2);

    make_long_entry(100, 0);
    entry[50 * VX_LOG_SECTOR] = 'x';
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_INVALID);
    assert_int_equal(fed, 51);
    assert_int_equal(vx_log_entry_check_feed(&check, entry), VX_LOG_INVALID); /* and it stays so */

    make_worked_entry();
    assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
    assert_int_equal(vx_log_entry_check_feed(&check, entry + VX_LOG_SECTOR), VX_LOG_INVALID); /* one too many */
}

/* E14, V46: noticed, not refused. */
static void
stray_bits(void **state)
{
    static const struct {
        const char *words;
        size_t      at;
        bool        is_stray;
    } cases[] = {
        { "header's Reserved",           28,   true },  { "zero descriptor's Reserved", 100, true },
        { "first unused slot",           128,  true },  { "last unused slot",           4095, true },
        { "a data descriptor's trailer", 68,   false }, { "a data byte",                4104, false },
    };
    struct vx_log_entry_check check;
    size_t fed, i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_worked_entry();
        entry[cases[i].at] = 1;
        vx_log_entry_seal(entry, 8192);
        assert_int_equal(check_sectors(&check, LOG_LENGTH, &fed), VX_LOG_VALID);
        if (check.has_stray_bits != cases[i].is_stray)
            fail_msg("%s", cases[i].words);
    }
}

/* An entry may fill the log exactly, and not a sector more. */
static void
as_long_as_the_log(void **state)
{
    struct vx_log_entry_check check;
    uint32_t length = make_long_entry(30, 0);
    size_t fed;

    (void)state;
    assert_int_equal(check_sectors(&check, length, &fed), VX_LOG_VALID);
    assert_int_equal(check_sectors(&check, length - VX_LOG_SECTOR, &fed), VX_LOG_INVALID);
    assert_int_equal(check_sectors(&check, 0, &fed), VX_LOG_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(area_sizes),
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(page_round_trip),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(each_condition),
        cmocka_unit_test(empty_entry_of_sequence_0),
        cmocka_unit_test(zero_length_targets_nothing),
        cmocka_unit_test(many_descriptors),
        cmocka_unit_test(early_refusal),
        cmocka_unit_test(stray_bits),
        cmocka_unit_test(as_long_as_the_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
