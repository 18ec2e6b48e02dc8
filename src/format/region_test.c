/* Region tables: the bytes of appendix A.2, the choice of a copy, and each rule broken alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/region.h"
#include "format/seen_for_tests.h"

#define M         VX_MIB
#define AT        VX_REGION_TABLE_OFFSET(0)
#define FILE_SIZE (64 * VX_MIB)

static const uint8_t worked[80] = {
    0x72, 0x65, 0x67, 0x69, 0xae, 0x8c, 0x6b, 0xc6, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x66, 0x77, 0xc2, 0x2d, 0x23, 0xf6, 0x00, 0x42, 0x9d, 0x64, 0x11, 0x5e, 0x9b, 0xfd, 0x4a, 0x08,
    0x00, 0x00, 0x30, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x00,
    0x06, 0xa2, 0x7c, 0x8b, 0x90, 0x47, 0x9a, 0x4b, 0xb8, 0xfe, 0x57, 0x5f, 0x05, 0x0f, 0x88, 0x6e,
    0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x01, 0x00, 0x00, 0x00,
};

/* Large, so not on the stack.  Tests run one after the other. */
static struct vx_region_table table, decoded;
static uint8_t bytes[2][VX_REGION_TABLE_SIZE];

static const struct vx_header log_at_1_mib = { .log_offset = 1024 * 1024, .log_length = 1024 * 1024 };

static void
add_region(struct vhdx_guid guid, uint64_t file_offset, uint64_t length, uint32_t flags)
{
    struct vx_region *region = &table.regions[table.region_count++];

    region->guid = guid;
    region->file_offset = file_offset;
    region->length = (uint32_t)length;
    region->flags = flags;
}

static struct vhdx_guid
foreign_guid(unsigned number)
{
    struct vhdx_guid guid = { { 0xf0, (uint8_t)number, (uint8_t)(number >> 8) } };

    return guid;
}

/* The table of A.2: BAT at 3 MiB, metadata at 2 MiB. */
static void
make_good_table(void)
{
    memset(&table, 0, sizeof table);
    add_region(vx_guid_region_bat, 3 * M, M, 1);
    add_region(vx_guid_region_metadata, 2 * M, M, 1);
}

static void
seal(uint8_t *b)
{
    vx_put_le32(b + 4, vx_crc32c_hole(b, VX_REGION_TABLE_SIZE, 4));
}

/* Judge what `bytes[0]` holds, as open would. */
static void
judge(struct seen *seen, struct vx_regions *regions)
{
    struct vx_regions ignored;

    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, NULL), VHDX_OK);
    vx_region_table_judge(&decoded, bytes[0], AT, &log_at_1_mib, FILE_SIZE, regions != NULL ? regions : &ignored,
                          seen_start(seen));
}

static void
judge_table(struct seen *seen, struct vx_regions *regions)
{
    vx_region_table_encode(bytes[0], &table);
    judge(seen, regions);
}

static void
worked_bytes(void **state)
{
    struct vx_regions regions;
    struct seen seen;

    (void)state;
    make_good_table();
    judge_table(&seen, &regions);
    assert_memory_equal(bytes[0], worked, sizeof worked);
    assert_true(vx_is_zero(bytes[0] + sizeof worked, VX_REGION_TABLE_SIZE - sizeof worked));
    expect_only(&seen, "A.2", 0, VHDX_SEVERITY_NONE, 0);
    assert_int_equal(regions.bat.file_offset, 3 * M);
    assert_int_equal(regions.bat.length, M);
    assert_int_equal(regions.metadata.file_offset, 2 * M);
    assert_int_equal(regions.metadata.flags, 1);
}

static void
round_trip(void **state)
{
    uint32_t i;

    (void)state;
    memset(&table, 0, sizeof table);
    for (i = 0; i < VX_MAX_REGIONS; i++)
        add_region(foreign_guid(i), UINT64_C(0x123456789ABC) * (i + 1), 0x9ABCDEFu * (uint64_t)(i + 1) % UINT32_MAX,
                   ~i);
    vx_region_table_encode(bytes[0], &table);
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, NULL), VHDX_OK);
    assert_int_equal(decoded.region_count, VX_MAX_REGIONS);
    for (i = 0; i < VX_MAX_REGIONS; i++) {
        assert_true(vhdx_guid_equal(&decoded.regions[i].guid, &table.regions[i].guid));
        assert_int_equal(decoded.regions[i].file_offset, table.regions[i].file_offset);
        assert_int_equal(decoded.regions[i].length, table.regions[i].length);
        assert_int_equal(decoded.regions[i].flags, table.regions[i].flags);
    }
    vx_region_table_encode(bytes[1], &decoded);
    assert_memory_equal(bytes[0], bytes[1], VX_REGION_TABLE_SIZE);
}

static void
decoding_failures(void **state)
{
    struct vhdx_error err;

    (void)state;
    make_good_table();
    vx_region_table_encode(bytes[0], &table);
    bytes[0][VX_REGION_TABLE_SIZE - 1] = 1;
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, &err), VHDX_E_BAD_CHECKSUM);
    bytes[0][0] = 'R';
    seal(bytes[0]);
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, &err), VHDX_E_BAD_REGION);
    assert_int_equal(err.part, VHDX_PART_REGION_TABLE);
    bytes[0][0] = 'r';
    vx_put_le32(bytes[0] + 8, 2048);
    seal(bytes[0]);
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, &err), VHDX_E_BAD_REGION);
    vx_put_le32(bytes[0] + 8, UINT32_MAX);
    seal(bytes[0]);
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, NULL), VHDX_E_BAD_REGION);
}

/* What is done to a copy. */
enum damage { GOOD, TORN, NO_SIGNATURE, BAD_COUNT, OTHER_CONTENT };

static void
make_copy(uint8_t *b, enum damage damage)
{
    vx_region_table_encode(b, &table);
    if (damage == TORN)
        b[5000] = 1;
    if (damage == NO_SIGNATURE)
        b[0] = 0;
    if (damage == BAD_COUNT)
        vx_put_le32(b + 8, 2048);
    if (damage == OTHER_CONTENT)
        vx_put_le64(b + 32, 9 * M);
    if (damage == BAD_COUNT || damage == OTHER_CONTENT)
        seal(b);
}

static void
choosing(void **state)
{
    static const struct {
        const char        *words;
        enum damage        first, second;
        int                index, rule; /* index -1: none */
        enum vhdx_severity severity;
        int                code;
    } cases[] = {
        { "both good", GOOD, GOOD, 0, 0, VHDX_SEVERITY_NONE, 0 },
        { "first torn", TORN, GOOD, 1, 56, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_CHECKSUM },
        { "second torn", GOOD, TORN, 0, 56, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_CHECKSUM },
        { "first without signature", NO_SIGNATURE, GOOD, 1, 56, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_REGION },
        { "second has another BAT", GOOD, OTHER_CONTENT, 0, 57, VHDX_SEVERITY_RO, VHDX_E_BAD_REGION },
        { "first has another BAT", OTHER_CONTENT, GOOD, 0, 57, VHDX_SEVERITY_RO, VHDX_E_BAD_REGION },
        { "first has 2048 entries", BAD_COUNT, GOOD, 1, 58, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_REGION },
        { "second has 2048 entries", GOOD, BAD_COUNT, 0, 58, VHDX_SEVERITY_REPAIR, VHDX_E_BAD_REGION },
        { "both torn", TORN, NO_SIGNATURE, -1, 55, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "both have 2048 entries", BAD_COUNT, BAD_COUNT, -1, 58, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "torn and 2048 entries", TORN, BAD_COUNT, -1, 58, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
    };
    size_t i;

    (void)state;
    make_good_table();
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;
        int index = -1, rc;

        make_copy(bytes[0], cases[i].first);
        make_copy(bytes[1], cases[i].second);
        rc = vx_region_table_choose(&decoded, &index, bytes[0], bytes[1], seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, cases[i].code);
        assert_int_equal(rc, cases[i].index < 0 ? cases[i].code : VHDX_OK);
        assert_int_equal(index, cases[i].index);
        if (index >= 0)
            assert_int_equal(decoded.regions[0].file_offset, vx_le64(bytes[index] + 32));
    }
}

/* Where in an entry the field lies that a rule is about. */
static uint64_t
field_of(int rule)
{
    return rule == 61 || rule == 64 ? 16 : rule == 62 ? 24 : rule == 65 ? 0 : 28;
}

/* V61 to V66 and V69, of the BAT (known) and of another region (unknown). */
static void
one_region(void **state)
{
    static const struct {
        const char        *words;
        bool               is_known;
        uint64_t           file_offset, length;
        uint32_t           flags;
        int                rule;
        enum vhdx_severity severity;
        int                code;
    } cases[] = {
        { "good BAT", true, 5 * M, M, 1, 0, VHDX_SEVERITY_NONE, 0 },
        { "BAT up to the end", true, 60 * M, 4 * M, 1, 0, VHDX_SEVERITY_NONE, 0 },
        { "good unknown region", false, 5 * M, M, 0, 0, VHDX_SEVERITY_NONE, 0 },
        { "BAT 512 bytes astray", true, 5 * M + 512, M, 1, 61, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT at 0", true, 0, M, 1, 61, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "unknown at 0", false, 0, M, 0, 61, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT 1 byte short", true, 5 * M, M - 1, 1, 62, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT of 0 bytes", true, 5 * M, 0, 1, 62, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "unknown of 0 bytes", false, 5 * M, 0, 0, 62, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT over the log", true, M, M, 1, 63, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT over the metadata", true, 2 * M, M, 1, 63, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "unknown over log", false, M, M, 0, 63, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION },
        { "BAT past the end", true, 60 * M, 5 * M, 1, 64, VHDX_SEVERITY_REFUSE, VHDX_E_TRUNCATED },
        { "BAT wraps", true, UINT64_MAX - M + 1, 2 * M, 1, 64, VHDX_SEVERITY_REFUSE, VHDX_E_TRUNCATED },
        { "unknown past the end", false, 64 * M, M, 0, 64, VHDX_SEVERITY_RO, VHDX_E_TRUNCATED },
        { "unknown wraps to 0", false, UINT64_MAX - M + 1, M, 0, 64, VHDX_SEVERITY_RO, VHDX_E_TRUNCATED },
        { "unknown and required", false, 5 * M, M, 1, 65, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED },
        { "BAT with flag bit 31", true, 5 * M, M, 0x80000001, 66, VHDX_SEVERITY_WARN, VHDX_E_BAD_REGION },
        { "unknown with flag bit 1", false, 5 * M, M, 2, 66, VHDX_SEVERITY_WARN, VHDX_E_BAD_REGION },
        { "BAT not required (qemu)", true, 5 * M, M, 0, 69, VHDX_SEVERITY_WARN, VHDX_E_BAD_REGION },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;

        memset(&table, 0, sizeof table);
        add_region(vx_guid_region_metadata, 2 * M, M, 1);
        if (!cases[i].is_known)
            add_region(vx_guid_region_bat, 3 * M, M, 1);
        add_region(cases[i].is_known ? vx_guid_region_bat : foreign_guid(1), cases[i].file_offset, cases[i].length,
                   cases[i].flags);
        judge_table(&seen, NULL);
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, cases[i].code);
        if (cases[i].rule != 63) /* of two that overlap either may be named */
            expect_at(&seen, cases[i].words, AT + 16 + 32 * (table.region_count - 1) + field_of(cases[i].rule));
    }
}

/* V60, V67, V68. */
static void
which_regions(void **state)
{
    struct vx_regions regions;
    struct seen seen;

    (void)state;
    make_good_table();
    add_region(vx_guid_region_bat, 8 * M, M, 1);
    judge_table(&seen, &regions);
    expect_only(&seen, "two BATs", 60, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION);
    assert_int_equal(regions.bat.file_offset, 3 * M);

    make_good_table();
    add_region(foreign_guid(7), 8 * M, M, 0);
    add_region(foreign_guid(3), 9 * M, M, 0);
    add_region(foreign_guid(7), 10 * M, M, 0);
    judge_table(&seen, NULL);
    expect_only(&seen, "two unknown ones alike", 60, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION);
    assert_int_equal(seen.list[0].file_offset, AT + 16 + 4 * 32);

    make_good_table();
    table.regions[0].guid = foreign_guid(0);
    table.regions[0].flags = 0;
    judge_table(&seen, &regions);
    expect_only(&seen, "no BAT", 67, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION);
    assert_int_equal(regions.bat.length, 0);

    make_good_table();
    table.region_count = 1;
    judge_table(&seen, &regions);
    expect_only(&seen, "no metadata", 68, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION);

    table.region_count = 0;
    judge_table(&seen, &regions);
    assert_int_equal(seen.count, 2);
}

/* V63 where sorting matters: a long region swallows several that do not touch each other. */
static void
overlaps(void **state)
{
    struct seen seen;

    (void)state;
    make_good_table();
    add_region(foreign_guid(1), 20 * M, M, 0);
    add_region(foreign_guid(2), 24 * M, M, 0);
    add_region(foreign_guid(3), 10 * M, 14 * M, 0); /* up to where 2 begins */
    judge_table(&seen, NULL);
    expect_only(&seen, "one inside another", 63, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_REGION);

    table.regions[4].length = (uint32_t)(15 * M);
    judge_table(&seen, NULL);
    assert_int_equal(seen.count, 2);
    assert_int_equal(seen.list[0].rule, 63);
    assert_int_equal(seen.list[1].rule, 63);
}

/* V59, V70. */
static void
reserved_bytes(void **state)
{
    static const struct {
        size_t at;
        int    rule;
    } cases[] = { { 12, 59 }, { 15, 59 }, { 80, 70 }, { 65535, 70 }, { 65520, 70 } };
    struct seen seen;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        make_good_table();
        vx_region_table_encode(bytes[0], &table);
        bytes[0][cases[i].at] = 1;
        seal(bytes[0]);
        judge(&seen, NULL);
        expect_only(&seen, "reserved byte", cases[i].rule, VHDX_SEVERITY_WARN, VHDX_E_BAD_REGION);
    }
}

/* 2045 unknown regions beside the two, in falling order: good, and no cost to speak of. */
static void
full_table(void **state)
{
    struct vx_regions regions;
    struct seen seen;
    uint32_t i;

    (void)state;
    make_good_table();
    for (i = 0; table.region_count < VX_MAX_REGIONS; i++)
        add_region(foreign_guid(i), (5000 - i) * M, M, 0);
    vx_region_table_encode(bytes[0], &table);
    assert_int_equal(vx_region_table_decode(&decoded, bytes[0], AT, NULL), VHDX_OK);
    vx_region_table_judge(&decoded, bytes[0], AT, &log_at_1_mib, 8 * VX_GIB, &regions, seen_start(&seen));
    expect_only(&seen, "2047 regions", 0, VHDX_SEVERITY_NONE, 0);
}

/* One entry says something else, in a table so long that it lies in the second page. */
static void
moves_a_region(void **state)
{
    uint64_t changed_at;

    (void)state;
    memset(&table, 0, sizeof table);
    for (unsigned i = 0; i < 127; i++)
        add_region(foreign_guid(i), 10 * M, M, 0);
    add_region(vx_guid_region_bat, 3 * M, M, 1);
    add_region(vx_guid_region_metadata, 2 * M, M, 1);
    vx_region_table_encode(bytes[0], &table);
    table.regions[127].file_offset = 20 * M;
    table.regions[127].length = (uint32_t)(2 * M);
    vx_region_table_encode(bytes[1], &table);

    assert_true(vx_region_table_move(bytes[0], &vx_guid_region_bat, 20 * M, (uint32_t)(2 * M), &changed_at));
    assert_memory_equal(bytes[0], bytes[1], VX_REGION_TABLE_SIZE);
    assert_int_equal(changed_at, 4096);
    assert_false(vx_region_table_move(bytes[0], &(struct vhdx_guid){ .bytes = { 1 } }, 0, 0, &changed_at));
    assert_memory_equal(bytes[0], bytes[1], VX_REGION_TABLE_SIZE);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(decoding_failures),
        cmocka_unit_test(choosing),
        cmocka_unit_test(one_region),
        cmocka_unit_test(which_regions),
        cmocka_unit_test(overlaps),
        cmocka_unit_test(reserved_bytes),
        cmocka_unit_test(full_table),
        cmocka_unit_test(moves_a_region),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
