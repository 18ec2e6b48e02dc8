/* VHD: footers and headers, each field broken alone; where blocks lie; the geometry. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/vhd_for_tests.h"

#define MIB       ((uint64_t)1 << 20)
#define DISK_SIZE (5 * MIB + 512)
#define FILE_SIZE (4 * MIB)

static void
a_footer_comes_back(void **state)
{
    uint8_t              bytes[VX_VHD_FOOTER_SIZE];
    struct vx_vhd_footer footer;

    (void)state;
    vhd_make_footer(bytes, VX_VHD_FIXED, DISK_SIZE);
    assert_true(vx_vhd_has_cookie(bytes));
    assert_int_equal(vx_vhd_footer_decode(&footer, bytes, 0, NULL), VHDX_OK);
    assert_true(footer.disk_size == DISK_SIZE && footer.data_offset == UINT64_MAX && footer.type == VX_VHD_FIXED);
    assert_true(footer.timestamp == 5 && footer.disk_id.bytes[0] == 1 && footer.disk_id.bytes[15] == 16);
    assert_string_equal(footer.creator, "test");
    assert_int_equal(footer.geometry.sectors, 17);
    assert_int_equal(bytes[68], 4); /* the GUID's first group is a number: 04030201 */
    bytes[30] = 7;
    vhd_seal(bytes, sizeof bytes);
    assert_int_equal(vx_vhd_footer_decode(&footer, bytes, 0, NULL), VHDX_OK);
    assert_string_equal(footer.creator, "te?t");
}

struct breakage {
    const char *about;
    size_t      at, width;
    uint64_t    value;
    bool        keeps_sum;
    int         code;
};

static const struct breakage footer_cases[] = {
    { "cookie", 0, 1, 'C', false, VHDX_E_NOT_VHDX },
    { "checksum", 64, 4, 1, true, VHDX_E_BAD_VHD },
    { "a byte of the reserved", 500, 1, 1, true, VHDX_E_BAD_VHD },
    { "the same, in the checksum", 500, 1, 1, false, VHDX_OK },
    { "version 2", 12, 2, 2, false, VHDX_E_BAD_VHD },
    { "version 1.7", 14, 2, 7, false, VHDX_OK },
    { "type 0", 60, 4, 0, false, VHDX_E_BAD_VHD },
    { "type 5", 60, 4, 5, false, VHDX_E_BAD_VHD },
    { "type 4", 60, 4, 4, false, VHDX_OK },
    { "no size", 48, 8, 0, false, VHDX_E_BAD_VHD },
    { "half a sector", 48, 8, 1000, false, VHDX_E_BAD_VHD },
    { "the largest size", 48, 8, UINT64_MAX - 511, false, VHDX_OK }, /* whoever opens the file knows better */
};

static void
a_footer_is_judged(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof footer_cases / sizeof footer_cases[0]; i++) {
        const struct breakage *c = &footer_cases[i];
        uint8_t                bytes[VX_VHD_FOOTER_SIZE];
        struct vx_vhd_footer   footer;
        struct vhdx_error      err;
        int                    rc;

        vhd_make_footer(bytes, VX_VHD_DYNAMIC, DISK_SIZE);
        vhd_put(bytes + c->at, c->value, c->width);
        if (!c->keeps_sum)
            vhd_seal(bytes, sizeof bytes);
        rc = vx_vhd_footer_decode(&footer, bytes, FILE_SIZE - 512, &err);
        if (rc != c->code)
            fail_msg("%s: %d", c->about, rc);
        if (rc < 0)
            assert_true(err.file_offset >= FILE_SIZE - 512 && err.file_offset < FILE_SIZE);
    }
}

static const struct breakage header_cases[] = {
    { "as it is", 0, 1, 'c', false, VHDX_OK },
    { "cookie", 0, 1, 'C', false, VHDX_E_BAD_VHD },
    { "checksum", 36, 4, 1, true, VHDX_E_BAD_VHD },
    { "version 0", 24, 2, 0, false, VHDX_E_BAD_VHD },
    { "version 2", 24, 2, 2, false, VHDX_E_BAD_VHD },
    { "too few blocks", 28, 4, 5, false, VHDX_E_BAD_VHD },
    { "more than enough", 28, 4, UINT32_MAX, false, VHDX_OK },
    { "no block size", 32, 4, 0, false, VHDX_E_BAD_VHD },
    { "less than a sector", 32, 4, 256, false, VHDX_E_BAD_VHD },
    { "no power of two", 32, 4, 3 * MIB, false, VHDX_E_BAD_VHD },
    { "512 MiB", 32, 4, 512 * MIB, false, VHDX_E_BAD_VHD },
    { "256 MiB", 32, 4, 256 * MIB, false, VHDX_OK },
    { "the last place of a table", 16, 8, FILE_SIZE - 6 * 4, false, VHDX_OK },
    { "a table past the end", 16, 8, FILE_SIZE - 5 * 4, false, VHDX_E_BAD_VHD },
    { "a table that wraps", 16, 8, UINT64_MAX - 8, false, VHDX_E_BAD_VHD },
};

static void
a_header_is_judged(void **state)
{
    struct vx_vhd_footer footer;
    uint8_t              bytes[VX_VHD_HEADER_SIZE];

    (void)state;
    vhd_make_footer(bytes, VX_VHD_DYNAMIC, DISK_SIZE);
    assert_int_equal(vx_vhd_footer_decode(&footer, bytes, 0, NULL), VHDX_OK);
    for (size_t i = 0; i < sizeof header_cases / sizeof header_cases[0]; i++) {
        const struct breakage *c = &header_cases[i];
        struct vx_vhd_header   header;
        int                    rc;

        vhd_make_header(bytes, 1536, 6, MIB);
        vhd_put(bytes + c->at, c->value, c->width);
        if (!c->keeps_sum)
            vhd_seal(bytes, sizeof bytes);
        rc = vx_vhd_header_decode(&header, bytes, &footer, FILE_SIZE, NULL);
        if (rc != c->code)
            fail_msg("%s: %d", c->about, rc);
    }
}

static void
a_table_has_a_limit(void **state)
{
    struct vx_vhd_footer footer = { .data_offset = 512 };
    struct vx_vhd_header header;
    uint8_t              bytes[VX_VHD_HEADER_SIZE];

    (void)state;
    vhd_make_header(bytes, 1536, UINT32_MAX, 512);
    footer.disk_size = (uint64_t)VX_VHD_MAX_ENTRIES * 512;
    assert_int_equal(vx_vhd_header_decode(&header, bytes, &footer, 64 * MIB, NULL), VHDX_OK);
    assert_int_equal(header.entry_count, VX_VHD_MAX_ENTRIES);
    assert_int_equal(header.bitmap_size, 512);
    footer.disk_size += 512;
    assert_int_equal(vx_vhd_header_decode(&header, bytes, &footer, 64 * MIB, NULL), VHDX_E_LIMIT);
    footer.disk_size = UINT64_MAX - 511;
    assert_int_equal(vx_vhd_header_decode(&header, bytes, &footer, 64 * MIB, NULL), VHDX_E_BAD_VHD);
}

static void
a_block_lies_in_the_file(void **state)
{
    const struct vx_vhd_header header = { .table_offset = 1536, .entry_count = 6, .block_size = MIB, .bitmap_size = 512 };
    uint64_t                   at;

    (void)state;
    assert_int_equal(vx_vhd_locate_block(&at, &header, DISK_SIZE, 0, 4, 2048 + 512 + MIB, NULL), VHDX_OK);
    assert_int_equal(at, 2048);
    assert_int_equal(vx_vhd_locate_block(&at, &header, DISK_SIZE, 0, 4, 2048 + 511 + MIB, NULL), VHDX_E_BAD_VHD);
    assert_int_equal(vx_vhd_locate_block(&at, &header, DISK_SIZE, 5, 4, 2048 + 1024, NULL), VHDX_OK); /* the part shown */
    assert_int_equal(vx_vhd_locate_block(&at, &header, DISK_SIZE, 5, 4, 2048 + 1023, NULL), VHDX_E_BAD_VHD);
    assert_int_equal(vx_vhd_locate_block(&at, &header, DISK_SIZE, 0, UINT32_MAX - 1, FILE_SIZE, NULL), VHDX_E_BAD_VHD);
}

/* Sizes at both sides of each step of the computation. */
static void
the_geometry_is_as_specified(void **state)
{
    static const struct {
        uint64_t sectors;
        unsigned cylinders, heads, in_track;
    } cases[] = {
        { 20480, 301, 4, 17 },          { 69631, 1023, 4, 17 },        { 69632, 140, 16, 31 },
        { 278527, 1023, 16, 17 },       { 278528, 561, 16, 31 },       { 507903, 1023, 16, 31 },
        { 507904, 503, 16, 63 },        { 2097152, 2080, 16, 63 },     { 66059279, 65534, 16, 63 },
        { 66059280, 16191, 16, 255 },   { 266338304, 65278, 16, 255 }, { 267382800, 65535, 16, 255 },
        { 4278190080, 65535, 16, 255 }, { 1, 0, 4, 17 },               { 71399, 839, 5, 17 },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_vhd_geometry g = vx_vhd_compute_geometry(cases[i].sectors * 512);

        if (g.cylinders != cases[i].cylinders || g.heads != cases[i].heads || g.sectors != cases[i].in_track)
            fail_msg("%lu sectors: %u/%u/%u", (unsigned long)cases[i].sectors, g.cylinders, g.heads, g.sectors);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_footer_comes_back),      cmocka_unit_test(a_footer_is_judged),
        cmocka_unit_test(a_header_is_judged),       cmocka_unit_test(a_table_has_a_limit),
        cmocka_unit_test(a_block_lies_in_the_file), cmocka_unit_test(the_geometry_is_as_specified),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
