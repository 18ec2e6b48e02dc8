/* The items' values: a fresh region as in appendix A.3, taking values back, and each rule broken alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/metadata.h"
#include "format/seen_for_tests.h"

#define M  VX_MIB
#define AT (2 * VX_MIB)

static uint8_t region[VX_METADATA_TABLE_SIZE + 40 + 190];
static struct vx_metadata_table table;

/* A.3: 10 GiB, 32 MiB blocks, 512/4096, dynamic. */
static struct vx_metadata
good_metadata(void)
{
    struct vx_metadata metadata = {
        .block_size               = 32 * 1024 * 1024,
        .virtual_size             = 10 * VX_GIB,
        .logical_sector_size      = 512,
        .physical_sector_size     = 4096,
        .disk_id                  = { { 0x3c, 0x2d, 0x1e, 0x0f, 0x5a, 0x4b, 0x97, 0x46,
                                        0x88, 0x79, 0x6a, 0x5b, 0x4c, 0x3d, 0x2e, 0x1f } },
        .has_file_parameters      = true,
        .has_virtual_size         = true,
        .has_logical_sector_size  = true,
        .has_physical_sector_size = true,
        .has_disk_id              = true,
    };

    return metadata;
}

static void
take_all(struct vx_metadata *out)
{
    uint32_t i;

    memset(out, 0, sizeof *out);
    assert_int_equal(vx_metadata_table_decode(&table, region, AT, NULL), VHDX_OK);
    for (i = 0; i < table.entry_count; i++)
        vx_metadata_take_item(out, &table.entries[i], region + table.entries[i].offset);
}

/* How many of the five items every file has were taken. */
static int
count_taken(const struct vx_metadata *m)
{
    return m->has_file_parameters + m->has_virtual_size + m->has_logical_sector_size + m->has_physical_sector_size +
           m->has_disk_id;
}

static void
worked_bytes(void **state)
{
    static const uint8_t items[40] = {
        0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x80, 0x02, 0x00, 0x00, 0x00,
        0x00, 0x02, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x3c, 0x2d, 0x1e, 0x0f, 0x5a, 0x4b, 0x97, 0x46,
        0x88, 0x79, 0x6a, 0x5b, 0x4c, 0x3d, 0x2e, 0x1f,
    };
    struct vx_metadata metadata = good_metadata(), taken;
    struct seen seen;
    size_t length;

    (void)state;
    memset(region, 0xFF, sizeof region);
    vx_metadata_encode_new(region, &length, &metadata, NULL, 0);
    assert_int_equal(length, 0x10028);
    assert_memory_equal(region + 0x10000, items, sizeof items);
    take_all(&taken);
    assert_int_equal(table.entry_count, 5);
    assert_int_equal(taken.block_size, metadata.block_size);
    assert_int_equal(taken.file_parameter_flags, 0);
    assert_int_equal(taken.virtual_size, metadata.virtual_size);
    assert_int_equal(taken.logical_sector_size, 512);
    assert_int_equal(taken.physical_sector_size, 4096);
    assert_true(vhdx_guid_equal(&taken.disk_id, &metadata.disk_id));
    assert_int_equal(count_taken(&taken), 5);
    assert_false(taken.has_locator || taken.has_parent || taken.leave_blocks_allocated);
    vx_metadata_table_judge(&table, region, AT, M, seen_start(&seen));
    vx_metadata_judge(&taken, AT, &seen.findings);
    expect_only(&seen, "A.3", 0, VHDX_SEVERITY_NONE, 0);
}

static void
with_locator(void **state)
{
    struct vx_metadata metadata = good_metadata(), taken;
    uint8_t locator[190];
    struct seen seen;
    size_t length;

    (void)state;
    memset(locator, 0x5A, sizeof locator);
    metadata.has_parent = true;
    vx_metadata_encode_new(region, &length, &metadata, locator, sizeof locator);
    assert_int_equal(length, 0x10028 + sizeof locator);
    assert_memory_equal(region + 0x10028, locator, sizeof locator);
    take_all(&taken);
    assert_int_equal(table.entry_count, 6);
    assert_true(taken.has_parent && taken.has_locator && !taken.leave_blocks_allocated);
    assert_int_equal(taken.file_parameter_flags, 2);
    assert_int_equal(vx_metadata_find(&table, &vx_guid_item_parent_locator)->offset, 0x10028);
    vx_metadata_table_judge(&table, region, AT, M, seen_start(&seen));
    vx_metadata_judge(&taken, AT, &seen.findings);
    expect_only(&seen, "a child", 0, VHDX_SEVERITY_NONE, 0);
}

static void
fixed_flag(void **state)
{
    struct vx_metadata metadata = good_metadata(), taken;
    size_t length;

    (void)state;
    metadata.leave_blocks_allocated = true;
    vx_metadata_encode_new(region, &length, &metadata, NULL, 0);
    take_all(&taken);
    assert_true(taken.leave_blocks_allocated && !taken.has_parent);
    assert_int_equal(taken.file_parameter_flags, 1);
}

/* An item of the wrong length, or a user's, is not there. */
static void
wrong_items_are_not_taken(void **state)
{
    static const struct {
        const struct vhdx_guid *item_id;
        uint32_t                length;
    } items[] = {
        { &vx_guid_item_file_parameters, 8 },      { &vx_guid_item_virtual_disk_size, 8 },
        { &vx_guid_item_logical_sector_size, 4 },  { &vx_guid_item_physical_sector_size, 4 },
        { &vx_guid_item_virtual_disk_id, 16 },
    };
    static const uint8_t bytes[32] = { 1, 2, 3, 4, 5, 6, 7, 8, 9 };
    struct vx_metadata taken;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof items / sizeof items[0]; i++) {
        struct vx_metadata_entry entry = { .item_id = *items[i].item_id, .length = items[i].length, .flags = 6 };

        memset(&taken, 0, sizeof taken);
        entry.length--;
        vx_metadata_take_item(&taken, &entry, bytes);
        entry.length += 2;
        vx_metadata_take_item(&taken, &entry, bytes);
        entry.length--;
        entry.flags |= VX_ITEM_IS_USER;
        vx_metadata_take_item(&taken, &entry, bytes);
        assert_int_equal(count_taken(&taken), 0);
        entry.flags = 0;
        vx_metadata_take_item(&taken, &entry, bytes);
        assert_int_equal(count_taken(&taken), 1);
    }
}

/* Which item is missing, and what then is found. */
static void
missing_items(void **state)
{
    struct vx_metadata metadata;
    struct seen seen;

    (void)state;
    metadata = good_metadata();
    metadata.has_file_parameters = false;
    metadata.block_size = 0;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "no File Parameters", 91, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_virtual_size = false;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "no Virtual Disk Size", 92, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_logical_sector_size = false;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "no Logical Sector Size", 93, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_physical_sector_size = false;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "no Physical Sector Size", 98, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_disk_id = false;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "no Virtual Disk ID", 100, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA);
}

/* V95, V97 to V99, V105, V107. */
static void
values(void **state)
{
    static const struct {
        const char        *words;
        uint32_t           block_size, logical, physical;
        uint64_t           size;
        int                rule;
        enum vhdx_severity severity;
    } cases[] = {
        { "1 MiB blocks", 0x100000, 512, 512, 3 * M, 0, VHDX_SEVERITY_NONE },
        { "256 MiB blocks", 0x10000000, 4096, 4096, 64 * VX_TIB, 0, VHDX_SEVERITY_NONE },
        { "block size 0", 0, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 1", 1, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 512 KiB", 0x80000, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 1 MiB - 1", 0xFFFFF, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 3 MiB", 0x300000, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 512 MiB", 0x20000000, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "block size 2^32 - 1", UINT32_MAX, 512, 512, 3 * M, 95, VHDX_SEVERITY_REFUSE },
        { "logical 0", 0x100000, 0, 512, 3 * M, 97, VHDX_SEVERITY_REFUSE },
        { "logical 1", 0x100000, 1, 512, 3 * M, 97, VHDX_SEVERITY_REFUSE },
        { "logical 511", 0x100000, 511, 512, 3 * M, 97, VHDX_SEVERITY_REFUSE },
        { "logical 1024", 0x100000, 1024, 512, 3 * M, 97, VHDX_SEVERITY_REFUSE },
        { "logical 8192", 0x100000, 8192, 512, 3 * M, 97, VHDX_SEVERITY_REFUSE },
        { "physical 0", 0x100000, 512, 0, 3 * M, 98, VHDX_SEVERITY_RO },
        { "physical 1024", 0x100000, 512, 1024, 3 * M, 98, VHDX_SEVERITY_RO },
        { "physical below logical", 0x100000, 4096, 512, 3 * M, 105, VHDX_SEVERITY_WARN },
        { "size 0", 0x100000, 512, 512, 0, 99, VHDX_SEVERITY_REFUSE },
        { "size 3 MiB + 1", 0x100000, 512, 512, 3 * M + 1, 99, VHDX_SEVERITY_REFUSE },
        { "512 bytes astray at 4096", 0x100000, 4096, 4096, 3 * M + 512, 99, VHDX_SEVERITY_REFUSE },
        { "512 bytes astray at 512", 0x100000, 512, 4096, 3 * M + 512, 0, VHDX_SEVERITY_NONE },
        { "64 TiB and a sector", 0x100000, 512, 512, 64 * VX_TIB + 512, 99, VHDX_SEVERITY_REFUSE },
        { "size 2^63", 0x100000, 512, 512, UINT64_C(1) << 63, 99, VHDX_SEVERITY_REFUSE },
        { "size 2^64 - 512", 0x100000, 512, 512, UINT64_MAX - 511, 99, VHDX_SEVERITY_REFUSE },
        { "one sector", 0x100000, 512, 512, 512, 107, VHDX_SEVERITY_WARN },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vx_metadata metadata = good_metadata();
        struct seen seen;

        metadata.block_size = cases[i].block_size;
        metadata.logical_sector_size = cases[i].logical;
        metadata.physical_sector_size = cases[i].physical;
        metadata.virtual_size = cases[i].size;
        vx_metadata_judge(&metadata, AT, seen_start(&seen));
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, VHDX_E_BAD_METADATA);
    }
}

/* V96, V101 to V104. */
static void
flags_and_id(void **state)
{
    struct vx_metadata metadata;
    struct seen seen;

    (void)state;
    metadata = good_metadata();
    metadata.file_parameter_flags = 4;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "flag bit 2", 96, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_parent = true;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "parent without locator", 101, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOCATOR);
    metadata.has_locator = true;
    metadata.leave_blocks_allocated = true;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "parent and fixed", 103, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    metadata.has_locator = true;
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "locator without parent", 102, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    metadata = good_metadata();
    memset(&metadata.disk_id, 0, sizeof metadata.disk_id);
    vx_metadata_judge(&metadata, AT, seen_start(&seen));
    expect_only(&seen, "zero disk id", 104, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
}

static void
stand_ins(void **state)
{
    struct vx_metadata metadata = good_metadata();

    (void)state;
    vx_metadata_settle(&metadata);
    assert_int_equal(metadata.physical_sector_size, 4096);
    assert_false(vhdx_guid_is_zero(&metadata.disk_id));
    metadata.physical_sector_size = 1024;
    metadata.has_disk_id = false;
    vx_metadata_settle(&metadata);
    assert_int_equal(metadata.physical_sector_size, 512);
    assert_true(vhdx_guid_is_zero(&metadata.disk_id));
    metadata.physical_sector_size = 4096;
    metadata.has_physical_sector_size = false;
    vx_metadata_settle(&metadata);
    assert_int_equal(metadata.physical_sector_size, 512);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(with_locator),
        cmocka_unit_test(fixed_flag),
        cmocka_unit_test(wrong_items_are_not_taken),
        cmocka_unit_test(missing_items),
        cmocka_unit_test(values),
        cmocka_unit_test(flags_and_id),
        cmocka_unit_test(stand_ins),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
