/* VHDs as disks: what a dynamic one shows, block by block and bit by bit; which footer counts; fixed ones are written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <vhdx/disk.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "format/vhd_for_tests.h"
#include "storage/storage.h"

#define BLOCK     (4 * VX_MIB) /* with a bitmap of two sectors */
#define DISK_SIZE (3 * BLOCK + 1024)
#define BITMAP    1024u
#define FIRST     2048u /* where block 1 has its bitmap */
#define LAST      (FIRST + BITMAP + BLOCK)

static void
put(struct vhdx_storage *storage, const void *bytes, size_t length, uint64_t at)
{
    assert_int_equal(vx_storage_write(storage, bytes, length, at, NULL), VHDX_OK);
}

/*
 * Four blocks: 0 is not there, 1 has the sectors 0 to 4099 and 5000, 2 is not there, and 3, of which two sectors belong to
 * the disk, has its second.  What has no bit is 0xEE all the same.
 */
static struct vhdx_storage *
make_dynamic(void)
{
    static uint8_t       block[BLOCK];
    struct vhdx_storage *storage;
    uint8_t              footer[VX_VHD_FOOTER_SIZE], header[VX_VHD_HEADER_SIZE], table[512], bitmap[BITMAP] = { 0 };

    assert_int_equal(vhdx_storage_new_memory(&storage, LAST + BITMAP + 1024 + 512, NULL), VHDX_OK);
    vhd_make_footer(footer, VX_VHD_DYNAMIC, DISK_SIZE);
    put(storage, footer, sizeof footer, 0);
    vhd_make_header(header, 1536, 4, BLOCK);
    put(storage, header, sizeof header, 512);
    memset(table, 0xff, sizeof table);
    vhd_put(table + 4, FIRST / 512, 4);
    vhd_put(table + 12, LAST / 512, 4);
    put(storage, table, sizeof table, 1536);

    memset(bitmap, 0xff, 512);
    bitmap[512] = 0xf0;
    bitmap[5000 / 8] = 0x80;
    put(storage, bitmap, sizeof bitmap, FIRST);
    memset(block, 0xee, sizeof block);
    memset(block, 0x11, (size_t)4100 * 512);
    memset(block + (size_t)5000 * 512, 0x22, 512);
    put(storage, block, sizeof block, FIRST + BITMAP);

    memset(bitmap, 0, sizeof bitmap);
    bitmap[0] = 0x40;
    put(storage, bitmap, sizeof bitmap, LAST);
    memset(block, 0x33, 512);
    put(storage, block + 512, 512, LAST + BITMAP);
    put(storage, block, 512, LAST + BITMAP + 512);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    return storage;
}

static struct vhdx_disk *
open_read(struct vhdx_storage *storage, enum vhdx_format format)
{
    const struct vhdx_open_options options = { .format = format };
    struct vhdx_disk              *disk;

    assert_int_equal(vhdx_disk_open_storage(&disk, storage, &options, NULL), VHDX_OK);
    return disk;
}

static int
try_open(struct vhdx_storage *storage, unsigned flags)
{
    const struct vhdx_open_options options = { .flags = flags, .format = VHDX_FORMAT_VHD };
    struct vhdx_disk              *disk;
    int                            rc = vhdx_disk_open_storage(&disk, storage, &options, NULL);

    if (rc == VHDX_OK)
        assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK); /* and the storage with it */
    return rc;
}

static void
dynamic_shows_its_sectors(void **state)
{
    static uint8_t    bytes[DISK_SIZE];
    struct vhdx_disk *disk = open_read(make_dynamic(), VHDX_FORMAT_AUTO);

    (void)state;
    assert_true(vhdx_disk_size(disk) == DISK_SIZE);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 0, NULL), VHDX_OK);
    for (size_t i = 0; i < sizeof bytes; i++) {
        size_t  sector = i / 512;
        uint8_t expected = 0;

        if (sector >= 8192 && sector < 8192 + 4100)
            expected = 0x11;
        else if (sector == 8192 + 5000)
            expected = 0x22;
        else if (sector == 3 * 8192 + 1)
            expected = 0x33;
        if (bytes[i] != expected)
            fail_msg("byte %zu: 0x%02x", i, bytes[i]);
    }
    assert_int_equal(vhdx_disk_read(disk, bytes, 700, BLOCK + 5000 * 512 - 100, NULL), VHDX_OK); /* across both borders */
    assert_true(bytes[99] == 0 && bytes[100] == 0x22 && bytes[611] == 0x22 && bytes[612] == 0);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

static void
dynamic_is_mapped(void **state)
{
    static const struct vhdx_extent expected[] = {
        { 0, BLOCK, 0, 0, VHDX_EXTENT_ZERO },
        { BLOCK, 4100 * 512, FIRST + BITMAP, 0, VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT },
        { BLOCK + 4100 * 512, 900 * 512, 0, 0, VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT },
        { BLOCK + 5000 * 512, 512, FIRST + BITMAP + 5000 * 512, 0, VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT },
        { BLOCK + 5001 * 512, 3191 * 512, 0, 0, VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT },
        { 2 * BLOCK, BLOCK, 0, 0, VHDX_EXTENT_ZERO },
        { 3 * BLOCK, 512, 0, 0, VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT },
        { 3 * BLOCK + 512, 512, LAST + BITMAP + 512, 0, VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT },
    };
    struct vhdx_disk  *disk = open_read(make_dynamic(), VHDX_FORMAT_AUTO);
    struct vhdx_extent extents[20];
    struct vhdx_info   info;
    size_t             count;

    (void)state;
    assert_int_equal(vhdx_disk_resolve(disk, 0, DISK_SIZE, extents, 20, &count, NULL), VHDX_OK);
    assert_int_equal(count, sizeof expected / sizeof expected[0]);
    for (size_t i = 0; i < count; i++) {
        assert_true(extents[i].guest_offset == expected[i].guest_offset && extents[i].length == expected[i].length);
        assert_int_equal(extents[i].flags, expected[i].flags);
        if ((extents[i].flags & VHDX_EXTENT_DATA) != 0)
            assert_true(extents[i].file_offset == expected[i].file_offset);
    }
    assert_int_equal(vhdx_disk_get_info(disk, 0, &info, NULL), VHDX_OK);
    assert_int_equal(info.format, VHDX_FORMAT_VHD);
    assert_int_equal(info.type, VHDX_TYPE_DYNAMIC);
    assert_int_equal(info.block_size, BLOCK);
    assert_string_equal(info.creator, "test");
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

/* K1: a file that was cut, or whose last sector was hit, has its copy at the front. */
static void
the_copy_of_the_footer_helps(void **state)
{
    struct vhdx_storage *storage = make_dynamic();
    const uint8_t        garbage = 9;
    uint8_t              bytes[512];
    uint64_t             size;
    struct vhdx_disk    *disk;

    (void)state;
    assert_int_equal(vx_storage_get_size(storage, &size, NULL), VHDX_OK);
    put(storage, &garbage, 1, size - 100); /* its checksum is wrong */
    disk = open_read(storage, VHDX_FORMAT_AUTO);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);

    storage = make_dynamic();
    assert_int_equal(vx_storage_set_size(storage, LAST + 100, NULL), VHDX_OK);
    disk = open_read(storage, VHDX_FORMAT_AUTO);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, BLOCK, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 3 * BLOCK, NULL), VHDX_E_BAD_VHD); /* what was cut off */
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);

    storage = make_dynamic();
    put(storage, &garbage, 1, size - 100);
    put(storage, &garbage, 1, 100);
    assert_int_equal(try_open(storage, 0), VHDX_E_BAD_VHD);
    vhdx_storage_close(storage);
}

static void
what_is_refused(void **state)
{
    uint8_t              footer[VX_VHD_FOOTER_SIZE];
    struct vhdx_storage *storage = make_dynamic();

    (void)state;
    assert_int_equal(try_open(storage, VHDX_OPEN_WRITE), VHDX_E_UNSUPPORTED);
    vhd_make_footer(footer, VX_VHD_DIFFERENCING, DISK_SIZE);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    assert_int_equal(try_open(storage, 0), VHDX_E_UNSUPPORTED);

    vhd_make_footer(footer, VX_VHD_DYNAMIC, DISK_SIZE);
    vhd_put(footer + 16, LAST + BITMAP + 1024 + 512 - 1023, 8); /* a header of which a byte is missing */
    vhd_seal(footer, sizeof footer);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    assert_int_equal(try_open(storage, 0), VHDX_E_BAD_VHD);
    vhd_put(footer + 16, UINT64_MAX - 100, 8);
    vhd_seal(footer, sizeof footer);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    assert_int_equal(try_open(storage, 0), VHDX_E_BAD_VHD);

    vhd_make_footer(footer, VX_VHD_FIXED, LAST + BITMAP + 1024 + 512);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    assert_int_equal(try_open(storage, 0), VHDX_E_TRUNCATED);
    vhd_make_footer(footer, VX_VHD_FIXED, LAST + BITMAP + 1024);
    put(storage, footer, sizeof footer, LAST + BITMAP + 1024);
    assert_int_equal(try_open(storage, 0), VHDX_OK);

    for (uint64_t size = 0; size <= 1024; size += 511) {
        assert_int_equal(vhdx_storage_new_memory(&storage, size, NULL), VHDX_OK);
        assert_int_equal(try_open(storage, 0), VHDX_E_NOT_VHDX);
        vhdx_storage_close(storage);
    }
}

/* A fixed VHD is a raw disk but for its end, which no write reaches. */
static void
fixed_is_read_and_written(void **state)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE };
    uint8_t                        footer[VX_VHD_FOOTER_SIZE], bytes[512];
    struct vhdx_storage           *storage;
    struct vhdx_disk              *disk;

    (void)state;
    assert_int_equal(vhdx_storage_new_memory(&storage, VX_MIB + 512, NULL), VHDX_OK);
    vhd_make_footer(footer, VX_VHD_FIXED, VX_MIB);
    put(storage, footer, sizeof footer, VX_MIB);
    assert_int_equal(vhdx_disk_open_storage(&disk, storage, &options, NULL), VHDX_OK);
    assert_true(vhdx_disk_size(disk) == VX_MIB);
    assert_int_equal(vhdx_disk_write(disk, "at the end", 10, VX_MIB - 10, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_write(disk, "at the end", 10, VX_MIB - 9, NULL), VHDX_E_RANGE);
    assert_int_equal(vhdx_disk_zero(disk, VX_MIB - 512, 503, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_trim(disk, 0, VX_MIB - 512, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, VX_MIB - 512, NULL), VHDX_OK);
    assert_memory_equal(bytes + 503, "t the end", 9);
    assert_int_equal(vx_storage_read(storage, bytes, sizeof bytes, VX_MIB, NULL), VHDX_OK);
    assert_memory_equal(bytes, footer, sizeof footer);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(dynamic_shows_its_sectors),    cmocka_unit_test(dynamic_is_mapped),
        cmocka_unit_test(the_copy_of_the_footer_helps), cmocka_unit_test(what_is_refused),
        cmocka_unit_test(fixed_is_read_and_written),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
