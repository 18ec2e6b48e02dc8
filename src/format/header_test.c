/* Headers: the bytes of appendix A.1, the choice of the current copy, and each rule broken alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/header.h"
#include "format/seen_for_tests.h"

#define AT        VX_HEADER_OFFSET(0)
#define FILE_SIZE (8 * VX_MIB)

static const uint8_t clean_bytes[80] = {
    0x68, 0x65, 0x61, 0x64, 0x03, 0x4f, 0x02, 0x45, 0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x46, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    0x67, 0x45, 0x23, 0x01, 0xab, 0x89, 0xde, 0x4c, 0x8f, 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00,
};
static const uint8_t dirty_start[16] = {
    0x68, 0x65, 0x61, 0x64, 0x39, 0xfb, 0x0e, 0xdb, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
};
static const uint8_t dirty_guid[16] = {
    0xef, 0xbe, 0xad, 0xde, 0xfe, 0xca, 0xad, 0x4b, 0x8f, 0x00, 0xd0, 0x0d, 0xfe, 0xed, 0xfa, 0xce,
};

static struct vx_header
clean_header(void)
{
    struct vx_header header = {
        .sequence_number = 7,
        .version         = 1,
        .log_length      = 1024 * 1024,
        .log_offset      = 1024 * 1024,
    };

    memcpy(header.file_write_guid.bytes, clean_bytes + 16, 16);
    memcpy(header.data_write_guid.bytes, clean_bytes + 32, 16);
    return header;
}

static struct vx_header
dirty_header(void)
{
    struct vx_header header = clean_header();

    header.sequence_number = 8;
    memcpy(header.log_guid.bytes, dirty_guid, 16);
    return header;
}

/* Where in a header the field lies that a rule is about. */
static uint64_t
field_of(int rule)
{
    switch (rule) {
    case 14:
        return 66;
    case 15:
    case 16:
        return 64;
    case 17:
    case 20:
        return 72;
    case 12:
    case 13:
    case 24:
    case 26:
        return 8;
    case 10:
    case 11:
        return 0;
    default:
        return 68;
    }
}

static void
worked_bytes(void **state)
{
    struct vx_header clean = clean_header(), dirty = dirty_header(), decoded;
    uint8_t b[VX_HEADER_SIZE];

    (void)state;
    vx_header_encode(b, &clean);
    assert_memory_equal(b, clean_bytes, sizeof clean_bytes);
    assert_true(vx_is_zero(b + 80, sizeof b - 80));
    assert_int_equal(vx_header_decode(&decoded, b, AT, NULL), VHDX_OK);
    assert_int_equal(decoded.sequence_number, 7);
    assert_int_equal(decoded.version, 1);
    assert_int_equal(decoded.log_version, 0);
    assert_int_equal(decoded.log_length, VX_MIB);
    assert_int_equal(decoded.log_offset, VX_MIB);
    assert_true(vhdx_guid_is_zero(&decoded.log_guid));

    vx_header_encode(b, &dirty);
    assert_memory_equal(b, dirty_start, sizeof dirty_start);
    assert_memory_equal(b + 16, clean_bytes + 16, 32);
    assert_memory_equal(b + 48, dirty_guid, sizeof dirty_guid);
}

static void
round_trip(void **state)
{
    struct vx_header header, decoded;
    uint8_t b[VX_HEADER_SIZE], again[VX_HEADER_SIZE];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof header; i++)
        ((uint8_t *)&header)[i] = (uint8_t)(3 * i + 1);
    vx_header_encode(b, &header);
    assert_int_equal(vx_header_decode(&decoded, b, AT, NULL), VHDX_OK);
    assert_int_equal(decoded.log_version, header.log_version);
    assert_int_equal(decoded.version, header.version);
    assert_int_equal(decoded.sequence_number, header.sequence_number);
    vx_header_encode(again, &decoded);
    assert_memory_equal(again, b, sizeof b);
}

/* Whatever byte of the 4 KiB is damaged, the copy is not valid any more. */
static void
every_byte_counts(void **state)
{
    struct vx_header header = clean_header(), decoded;
    uint8_t b[VX_HEADER_SIZE];
    struct vhdx_error err;
    size_t i;

    (void)state;
    vx_header_encode(b, &header);
    for (i = 0; i < sizeof b; i++) {
        b[i] ^= 0x10;
        assert_int_equal(vx_header_decode(&decoded, b, AT, &err), i < 4 ? VHDX_E_BAD_HEADER : VHDX_E_BAD_CHECKSUM);
        assert_int_equal(err.part, VHDX_PART_HEADER);
        assert_int_equal(err.file_offset, AT);
        b[i] ^= 0x10;
    }
}

static void
seal(uint8_t b[VX_HEADER_SIZE])
{
    vx_put_le32(b + 4, vx_crc32c_hole(b, VX_HEADER_SIZE, 4));
}

/* What becomes of the copies, which start as sequence 7 and 8. */
enum pair_change {
    NOTHING, SWAPPED, FIRST_BAD, SECOND_BAD, BOTH_BAD, IDENTICAL, EQUAL_BUT_DIFFERENT, NEWER_UNSUPPORTED, OTHER_LOG,
    FAR_APART, LARGEST
};

static const struct choose_case {
    const char        *words;
    enum pair_change   change;
    int                index; /* -1: none */
    int                rule;
    enum vhdx_severity severity;
    int                code;
    int                at_copy; /* where the finding points to */
} choose_cases[] = {
    { "7 and 8", NOTHING, 1, 0, VHDX_SEVERITY_NONE, 0, 0 },
    { "8 and 7", SWAPPED, 0, 0, VHDX_SEVERITY_NONE, 0, 0 },
    { "first copy has a bad checksum", FIRST_BAD, 1, 11, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_CHECKSUM, 0 },
    { "second copy has no signature", SECOND_BAD, 0, 11, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_HEADER, 1 },
    { "both are bad", BOTH_BAD, -1, 10, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_HEADER, 0 },
    { "identical copies (Disk2vhd)", IDENTICAL, 0, 12, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER, 1 },
    { "equal numbers, different content", EQUAL_BUT_DIFFERENT, -1, 13, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_HEADER, 1 },
    { "newer copy of version 2 is chosen", NEWER_UNSUPPORTED, 1, 0, VHDX_SEVERITY_NONE, 0, 0 },
    { "older copy has another log", OTHER_LOG, 1, 25, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER, 0 },
    { "7 and 10", FAR_APART, 1, 26, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER, 0 },
    { "2^64 - 1 and 2^64 - 2", LARGEST, 0, 0, VHDX_SEVERITY_NONE, 0, 0 },
};

static void
make_copies(uint8_t copies[2][VX_HEADER_SIZE], enum pair_change change)
{
    struct vx_header first = clean_header(), second = dirty_header();

    switch (change) {
    case SWAPPED:
        first.sequence_number = 8;
        second.sequence_number = 7;
        break;
    case IDENTICAL:
        second = first;
        break;
    case EQUAL_BUT_DIFFERENT:
        second.sequence_number = 7;
        break;
    case NEWER_UNSUPPORTED:
        second.version = 2;
        break;
    case OTHER_LOG:
        first.log_offset = 2 * VX_MIB;
        break;
    case FAR_APART:
        second.sequence_number = 10;
        break;
    case LARGEST:
        first.sequence_number = UINT64_MAX;
        second.sequence_number = UINT64_MAX - 1;
        break;
    default:
        break;
    }
    vx_header_encode(copies[0], &first);
    vx_header_encode(copies[1], &second);
    if (change == FIRST_BAD || change == BOTH_BAD)
        copies[0][100] ^= 1;
    if (change == SECOND_BAD || change == BOTH_BAD)
        copies[1][0] ^= 1;
}

static void
choosing(void **state)
{
    static uint8_t copies[2][VX_HEADER_SIZE];
    size_t i;

    (void)state;
    for (i = 0; i < sizeof choose_cases / sizeof choose_cases[0]; i++) {
        const struct choose_case *c = &choose_cases[i];
        struct vx_header current;
        struct seen seen;
        int index = -1, rc;

        make_copies(copies, c->change);
        rc = vx_header_choose(&current, &index, copies[0], copies[1], seen_start(&seen));
        expect_only(&seen, c->words, c->rule, c->severity, c->code);
        expect_at(&seen, c->words, VX_HEADER_OFFSET(c->at_copy) + field_of(c->rule));
        assert_int_equal(rc, c->index < 0 ? c->code : VHDX_OK);
        if (c->index >= 0) {
            assert_int_equal(index, c->index);
            assert_int_equal(current.sequence_number, vx_le64(copies[index] + 8));
        }
    }
}

static void
break_log(struct vx_header *header, bool is_dirty, uint64_t log_offset, uint32_t log_length)
{
    *header = is_dirty ? dirty_header() : clean_header();
    header->log_offset = log_offset;
    header->log_length = log_length;
}

/* V17 to V22, V28: each alone, with a log in use and without. */
static void
log_place(void **state)
{
    static const struct {
        const char        *words;
        bool               is_dirty;
        uint64_t           log_offset, log_length, file_length;
        int                rule;
        enum vhdx_severity severity;
        int                code;
    } cases[] = {
        { "good", true, VX_MIB, VX_MIB, FILE_SIZE, 0, VHDX_SEVERITY_NONE, 0 },
        { "good to the last byte", true, 7 * VX_MIB, VX_MIB, FILE_SIZE, 0, VHDX_SEVERITY_NONE, 0 },
        { "1 GiB", true, VX_MIB, VX_GIB, 2 * VX_GIB, 0, VHDX_SEVERITY_NONE, 0 },
        { "offset 4 KiB astray", true, VX_MIB + 4096, VX_MIB, FILE_SIZE, 17, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_HEADER },
        { "offset 4 KiB astray", false, VX_MIB + 4096, VX_MIB, FILE_SIZE, 17, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER },
        { "length 1 byte astray", true, VX_MIB, VX_MIB + 1, FILE_SIZE, 18, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_HEADER },
        { "length 1 byte astray", false, VX_MIB, VX_MIB + 1, FILE_SIZE, 18, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER },
        { "length 512 KiB", false, VX_MIB, VX_MIB / 2, FILE_SIZE, 18, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER },
        { "length 0", true, VX_MIB, 0, FILE_SIZE, 19, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_HEADER },
        { "length 0", false, VX_MIB, 0, FILE_SIZE, 28, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_HEADER },
        { "nothing at 0", false, 0, 0, FILE_SIZE, 28, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_HEADER },
        { "over the headers", true, 0, VX_MIB, FILE_SIZE, 20, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_HEADER },
        { "over the headers", false, 0, VX_MIB, FILE_SIZE, 20, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER },
        { "past the end", true, 7 * VX_MIB, 2 * VX_MIB, FILE_SIZE, 21, VHDX_SEVERITY_REFUSE, VHDX_E_TRUNCATED },
        { "past the end", false, 7 * VX_MIB, 2 * VX_MIB, FILE_SIZE, 21, VHDX_SEVERITY_RO, VHDX_E_TRUNCATED },
        { "end wraps to 0", true, UINT64_MAX - VX_MIB + 1, VX_MIB, FILE_SIZE, 21, VHDX_SEVERITY_REFUSE,
          VHDX_E_TRUNCATED },
        { "end wraps to 1 MiB", false, UINT64_MAX - VX_MIB + 1, 2 * VX_MIB, FILE_SIZE, 21, VHDX_SEVERITY_RO,
          VHDX_E_TRUNCATED },
        { "1 GiB and 1 MiB", true, VX_MIB, VX_GIB + VX_MIB, 2 * VX_GIB, 22, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_HEADER },
        { "4095 MiB", false, VX_MIB, 0xFFF00000, 8 * VX_GIB, 22, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_header header;
        struct seen seen;

        break_log(&header, cases[i].is_dirty, cases[i].log_offset, (uint32_t)cases[i].log_length);
        vx_header_judge(&header, AT, cases[i].file_length, seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, cases[i].code);
        expect_at(&seen, cases[i].words, AT + field_of(cases[i].rule));
    }
}

/* V14 to V16, V24, V27. */
static void
other_fields(void **state)
{
    struct vx_header header;
    struct seen seen;

    (void)state;
    header = clean_header();
    header.version = 2;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "version 2", 14, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED);
    expect_at(&seen, "version 2", AT + field_of(14));
    header.version = 0;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "version 0", 14, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED);
    expect_at(&seen, "version 0", AT + field_of(14));

    header = dirty_header();
    header.log_version = 1;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "log version 1 in use", 15, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED);
    expect_at(&seen, "log version 1 in use", AT + field_of(15));
    header = clean_header();
    header.log_version = 1;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "log version 1 not in use", 16, VHDX_SEVERITY_WARN, VHDX_E_UNSUPPORTED);
    expect_at(&seen, "log version 1 not in use", AT + field_of(16));

    header = clean_header();
    header.sequence_number = UINT64_MAX - 3;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "sequence 2^64 - 4", 0, VHDX_SEVERITY_NONE, 0);
    header.sequence_number++;
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "sequence 2^64 - 3", 24, VHDX_SEVERITY_RO, VHDX_E_BAD_HEADER);
    expect_at(&seen, "sequence 2^64 - 3", AT + field_of(24));

    header = clean_header();
    memset(&header.file_write_guid, 0, sizeof header.file_write_guid);
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "no FileWriteGuid", 27, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER);
    expect_at(&seen, "no FileWriteGuid", AT + 16);
    header = clean_header();
    memset(&header.data_write_guid, 0, sizeof header.data_write_guid);
    vx_header_judge(&header, AT, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "no DataWriteGuid", 27, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER);
    expect_at(&seen, "no DataWriteGuid", AT + 32);
}

/* V7, V23. */
static void
reserved_bytes(void **state)
{
    static const struct {
        const char *words;
        size_t      at, length;
        int         rule;
    } cases[] = {
        { "last field",             79,    65536, 0 },  { "first reserved byte",     80,    65536, 23 },
        { "last of the header",     4095,  65536, 23 }, { "first after the header",  4096,  65536, 7 },
        { "last of the slot",       65535, 65536, 7 },  { "not read",                5000,  4096,  0 },
        { "last of a short read",   4095,  4096,  23 }, { "after the slot",          65536, 65537, 0 },
        { "nothing reserved read",  80,    80,    0 },  { "not even the fields",     10,    40,    0 },
    };
    static uint8_t slot[65537];
    struct vx_header header = clean_header();
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;

        memset(slot, 0, sizeof slot);
        vx_header_encode(slot, &header);
        slot[cases[i].at] = 0xA5;
        seal(slot);
        vx_header_judge_reserved(slot, cases[i].length, AT, seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, VHDX_SEVERITY_WARN, VHDX_E_BAD_HEADER);
        if (cases[i].rule != 0)
            assert_int_equal(seen.list[0].file_offset, AT + cases[i].at);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(every_byte_counts),
        cmocka_unit_test(choosing),
        cmocka_unit_test(log_place),
        cmocka_unit_test(other_fields),
        cmocka_unit_test(reserved_bytes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
