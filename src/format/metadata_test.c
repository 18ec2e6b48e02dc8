/* The metadata table: the bytes of appendix A.3 and each rule broken alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/metadata.h"
#include "format/seen_for_tests.h"

#define M      VX_MIB
#define AT     (2 * VX_MIB)
#define SYSTEM 0u
#define USER   VX_ITEM_IS_USER
#define NEEDED VX_ITEM_IS_REQUIRED

/* Large, so not on the stack.  Tests run one after the other. */
static struct vx_metadata_table table, decoded;
static uint8_t bytes[VX_METADATA_TABLE_SIZE], again[VX_METADATA_TABLE_SIZE];

static struct vhdx_guid
foreign_guid(unsigned number)
{
    struct vhdx_guid guid = { { 0xf0, (uint8_t)number, (uint8_t)(number >> 8) } };

    return guid;
}

static struct vx_metadata_entry *
add_entry(struct vhdx_guid item_id, uint32_t offset, uint32_t length, uint32_t flags)
{
    struct vx_metadata_entry *entry = &table.entries[table.entry_count++];

    *entry = (struct vx_metadata_entry){ .item_id = item_id, .offset = offset, .length = length, .flags = flags };
    return entry;
}

/* The table of A.3. */
static void
make_good_table(void)
{
    memset(&table, 0, sizeof table);
    add_entry(vx_guid_item_file_parameters, 0x10000, 8, 4);
    add_entry(vx_guid_item_virtual_disk_size, 0x10008, 8, 6);
    add_entry(vx_guid_item_logical_sector_size, 0x10010, 4, 6);
    add_entry(vx_guid_item_physical_sector_size, 0x10014, 4, 6);
    add_entry(vx_guid_item_virtual_disk_id, 0x10018, 16, 6);
}

static void
judge_bytes(struct seen *seen, uint64_t region_length)
{
    assert_int_equal(vx_metadata_table_decode(&decoded, bytes, AT, NULL), VHDX_OK);
    vx_metadata_table_judge(&decoded, bytes, AT, region_length, seen_start(seen));
}

static void
judge(struct seen *seen, uint64_t region_length)
{
    vx_metadata_table_encode(bytes, &table);
    judge_bytes(seen, region_length);
}

static void
worked_bytes(void **state)
{
    static const uint8_t head[16] = { 'm', 'e', 't', 'a', 'd', 'a', 't', 'a', 0, 0, 5, 0 };
    static const uint8_t slots[160] = {
        0x37, 0x67, 0xa1, 0xca, 0x36, 0xfa, 0x43, 0x4d, 0xb3, 0xb6, 0x33, 0xf0, 0xaa, 0x44, 0xe7, 0x6b,
        0x00, 0x00, 0x01, 0x00, 0x08, 0x00, 0x00, 0x00, 0x04, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x24, 0x42, 0xa5, 0x2f, 0x1b, 0xcd, 0x76, 0x48, 0xb2, 0x11, 0x5d, 0xbe, 0xd8, 0x3b, 0xf4, 0xb8,
        0x08, 0x00, 0x01, 0x00, 0x08, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x1d, 0xbf, 0x41, 0x81, 0x6f, 0xa9, 0x09, 0x47, 0xba, 0x47, 0xf2, 0x33, 0xa8, 0xfa, 0xab, 0x5f,
        0x10, 0x00, 0x01, 0x00, 0x04, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xc7, 0x48, 0xa3, 0xcd, 0x5d, 0x44, 0x71, 0x44, 0x9c, 0xc9, 0xe9, 0x88, 0x52, 0x51, 0xc5, 0x56,
        0x14, 0x00, 0x01, 0x00, 0x04, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xab, 0x12, 0xca, 0xbe, 0xe6, 0xb2, 0x23, 0x45, 0x93, 0xef, 0xc3, 0x09, 0xe0, 0x00, 0xc7, 0x46,
        0x18, 0x00, 0x01, 0x00, 0x10, 0x00, 0x00, 0x00, 0x06, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    };
    struct seen seen;

    (void)state;
    make_good_table();
    judge(&seen, M);
    expect_only(&seen, "A.3", 0, VHDX_SEVERITY_NONE, 0);
    assert_memory_equal(bytes, head, sizeof head);
    assert_true(vx_is_zero(bytes + 16, 16));
    assert_memory_equal(bytes + 32, slots, sizeof slots);
    assert_true(vx_is_zero(bytes + 192, sizeof bytes - 192));
}

/* All GUIDs of 1.4, from their text. */
static void
known_guids(void **state)
{
    static const struct {
        const struct vhdx_guid *guid;
        const char             *text;
    } cases[] = {
        { &vx_guid_item_file_parameters, "CAA16737-FA36-4D43-B3B6-33F0AA44E76B" },
        { &vx_guid_item_virtual_disk_size, "2FA54224-CD1B-4876-B211-5DBED83BF4B8" },
        { &vx_guid_item_virtual_disk_id, "BECA12AB-B2E6-4523-93EF-C309E000C746" },
        { &vx_guid_item_logical_sector_size, "8141BF1D-A96F-4709-BA47-F233A8FAAB5F" },
        { &vx_guid_item_physical_sector_size, "CDA348C7-445D-4471-9CC9-E9885251C556" },
        { &vx_guid_item_parent_locator, "A8D35F2D-B30B-454D-ABF7-D3D84834AB0C" },
        { &vx_guid_item_chs, "DA02D7BC-3D3A-423C-AC88-2A36AB21479B" },
        { &vx_guid_item_incomplete, "71CC85F0-1B69-4E28-9558-C3BF83AE75D3" },
        { &vx_guid_item_pmem_label, "10E1AE8A-4B7E-4169-A40F-CD70DE928393" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_guid parsed;

        assert_true(vhdx_guid_parse(&parsed, cases[i].text));
        assert_memory_equal(parsed.bytes, cases[i].guid->bytes, 16);
    }
}

static void
round_trip(void **state)
{
    uint32_t i;

    (void)state;
    memset(&table, 0, sizeof table);
    for (i = 0; i < VX_MAX_METADATA_ENTRIES; i++)
        add_entry(foreign_guid(i), 0x9E3779B9u * i, 0x7F4A7C15u * i, ~i)->reserved2 = 3 * i;
    vx_metadata_table_encode(bytes, &table);
    assert_int_equal(vx_metadata_table_decode(&decoded, bytes, AT, NULL), VHDX_OK);
    assert_int_equal(decoded.entry_count, VX_MAX_METADATA_ENTRIES);
    for (i = 0; i < VX_MAX_METADATA_ENTRIES; i++)
        assert_memory_equal(&decoded.entries[i], &table.entries[i], sizeof table.entries[i]);
    vx_metadata_table_encode(again, &decoded);
    assert_memory_equal(again, bytes, sizeof bytes);
}

/* V75, V76. */
static void
decoding_failures(void **state)
{
    struct vhdx_error err;

    (void)state;
    make_good_table();
    vx_metadata_table_encode(bytes, &table);
    bytes[0] = 'M';
    assert_int_equal(vx_metadata_table_decode(&decoded, bytes, AT, &err), VHDX_E_BAD_METADATA);
    assert_int_equal(err.rule, 75);
    assert_int_equal(err.severity, VHDX_SEVERITY_REFUSE);
    assert_int_equal(err.code, VHDX_E_BAD_METADATA);
    bytes[0] = 'm';
    vx_put_le16(bytes + 10, 2048);
    assert_int_equal(vx_metadata_table_decode(&decoded, bytes, AT, &err), VHDX_E_BAD_METADATA);
    assert_int_equal(err.rule, 76);
    assert_int_equal(err.severity, VHDX_SEVERITY_REFUSE);
    assert_int_equal(err.file_offset, AT + 10);
    vx_put_le16(bytes + 10, 65535);
    assert_int_equal(vx_metadata_table_decode(&decoded, bytes, AT, NULL), VHDX_E_BAD_METADATA);
}

/* Where in an entry the field lies that a rule is about. */
static uint64_t
field_of(int rule)
{
    switch (rule) {
    case 81:
    case 82:
    case 83:
        return 16;
    case 80:
        return 20;
    case 86:
    case 87:
    case 94:
        return 24;
    default:
        return 0;
    }
}

/* One more entry beside the five of a good table. */
static void
one_entry(void **state)
{
    static const struct {
        const char             *words;
        const struct vhdx_guid *known; /* NULL: one that nobody knows */
        uint32_t                offset, length, flags;
        int                     rule;
        enum vhdx_severity      severity;
        int                     code;
    } cases[] = {
        { "unknown system item", NULL, 0x20000, 100, SYSTEM, 0, VHDX_SEVERITY_NONE, 0 },
        { "unknown user item", NULL, 0x20000, 100, USER, 0, VHDX_SEVERITY_NONE, 0 },
        { "a user's File Parameters", &vx_guid_item_file_parameters, 0x20000, 3, USER, 0, VHDX_SEVERITY_NONE, 0 },
        { "empty item", NULL, 0, 0, SYSTEM, 0, VHDX_SEVERITY_NONE, 0 },
        { "CHS, required", &vx_guid_item_chs, 0x20000, 8, NEEDED, 0, VHDX_SEVERITY_NONE, 0 },
        { "PMEM label, required", &vx_guid_item_pmem_label, 0x20000, 28, NEEDED, 0, VHDX_SEVERITY_NONE, 0 },
        { "locator", &vx_guid_item_parent_locator, 0x20000, 300, NEEDED, 0, VHDX_SEVERITY_NONE, 0 },
        { "up to the region's end", NULL, 0xFFF00, 0x100, SYSTEM, 0, VHDX_SEVERITY_NONE, 0 },

        { "unknown item again", &vx_guid_item_chs, 0x20000, 8, SYSTEM | 0x40000000, 87, VHDX_SEVERITY_WARN,
          VHDX_E_BAD_METADATA },
        { "locator over 1 MiB", &vx_guid_item_parent_locator, 0x20000, 0x100001, NEEDED, 80, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_METADATA },
        { "unknown over 1 MiB", NULL, 0x20000, 0x100001, SYSTEM, 80, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA },
        { "user item over 1 MiB", NULL, 0x20000, 0x100001, USER, 80, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA },
        { "empty with offset", NULL, 0x20000, 0, SYSTEM, 81, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA },
        { "empty inside another item", NULL, 0x10004, 0, SYSTEM, 81, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA },
        { "locator in the table", &vx_guid_item_parent_locator, 0xF000, 100, NEEDED, 82, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_METADATA },
        { "unknown in the table", NULL, 0, 100, SYSTEM, 82, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA },
        { "locator past the end", &vx_guid_item_parent_locator, 0x400000, 100, NEEDED, 82, VHDX_SEVERITY_REFUSE,
          VHDX_E_BAD_METADATA },
        { "unknown a byte past the end", NULL, 0x3FFFFF, 2, SYSTEM, 82, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA },
        { "32 bits would wrap", NULL, UINT32_MAX, 8, SYSTEM, 82, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA },
        { "unknown over known", NULL, 0x10027, 2, SYSTEM, 83, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA },
        { "unknown and required", NULL, 0x20000, 8, NEEDED, 85, VHDX_SEVERITY_REFUSE, VHDX_E_UNSUPPORTED },
        { "user's and required", NULL, 0x20000, 8, USER | NEEDED, 86, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA },
        { "a user's File Parameters, required", &vx_guid_item_file_parameters, 0x20000, 8, USER | NEEDED, 86,
          VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA },
        { "flag bit 3", NULL, 0x20000, 8, 8, 87, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA },
        { "incomplete", &vx_guid_item_incomplete, 0, 0, NEEDED, 88, VHDX_SEVERITY_REFUSE, VHDX_E_INCOMPLETE },
        { "locator of the disk", &vx_guid_item_parent_locator, 0x20000, 300, NEEDED | VX_ITEM_IS_VIRTUAL_DISK, 94,
          VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA },
        { "locator not required", &vx_guid_item_parent_locator, 0x20000, 300, SYSTEM, 94, VHDX_SEVERITY_WARN,
          VHDX_E_BAD_METADATA },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct seen seen;

        make_good_table();
        add_entry(cases[i].known != NULL ? *cases[i].known : foreign_guid(1), cases[i].offset, cases[i].length,
                  cases[i].flags);
        judge(&seen, 4 * M);
        expect_only(&seen, cases[i].words, cases[i].rule, cases[i].severity, cases[i].code);
        expect_at(&seen, cases[i].words, AT + 32 + 5 * 32 + field_of(cases[i].rule));
    }
}

/* V77, V79, V87, V89. */
static void
other_fields(void **state)
{
    static const size_t reserved_at[] = { 8, 9, 12, 31 };
    struct seen seen;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof reserved_at / sizeof reserved_at[0]; i++) {
        make_good_table();
        vx_metadata_table_encode(bytes, &table);
        bytes[reserved_at[i]] = 1;
        judge_bytes(&seen, M);
        expect_only(&seen, "reserved field", 77, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    }
    make_good_table();
    add_entry(foreign_guid(0), 0x20000, 4, SYSTEM)->item_id.bytes[0] = 0;
    judge(&seen, M);
    expect_only(&seen, "zero ItemId", 79, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    make_good_table();
    table.entries[2].reserved2 = 0x80000000;
    judge(&seen, M);
    expect_only(&seen, "Reserved2 of an entry", 87, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
    make_good_table();
    judge(&seen, 128 * M);
    expect_only(&seen, "region of 128 MiB", 0, VHDX_SEVERITY_NONE, 0);
    judge(&seen, 129 * M);
    expect_only(&seen, "region of 129 MiB", 89, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
}

/* V78, V83: entries against each other. */
static void
entries_together(void **state)
{
    struct seen seen;

    (void)state;
    make_good_table();
    add_entry(vx_guid_item_virtual_disk_size, 0x20000, 8, 6);
    judge(&seen, M);
    expect_only(&seen, "two disk sizes", 78, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);
    assert_int_equal(seen.list[0].file_offset, AT + 32 + 5 * 32);

    make_good_table();
    add_entry(foreign_guid(1), 0x20000, 8, USER);
    add_entry(foreign_guid(2), 0x20008, 8, USER);
    add_entry(foreign_guid(1), 0x20010, 8, SYSTEM);
    judge(&seen, M);
    expect_only(&seen, "a user's and a system's alike", 0, VHDX_SEVERITY_NONE, 0);
    add_entry(foreign_guid(1), 0x20018, 8, USER);
    judge(&seen, M);
    expect_only(&seen, "two users' alike", 78, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);

    make_good_table();
    add_entry(foreign_guid(1), 0x20000, 100, USER);
    add_entry(foreign_guid(2), 0x20063, 8, USER);
    judge(&seen, M);
    expect_only(&seen, "two unknown ones overlap", 83, VHDX_SEVERITY_RO, VHDX_E_BAD_METADATA);
    table.entries[6].offset = 0x20064;
    judge(&seen, M);
    expect_only(&seen, "two that touch", 0, VHDX_SEVERITY_NONE, 0);

    make_good_table();
    add_entry(foreign_guid(1), 0x20000, 0x1000, USER);
    add_entry(foreign_guid(2), 0x20800, 0x10, USER);
    add_entry(vx_guid_item_parent_locator, 0x20900, 0x20, NEEDED);
    judge(&seen, M);
    assert_int_equal(seen.count, 2); /* the small ones do not touch each other, but the long one holds both */
    assert_int_equal(seen.list[0].severity, VHDX_SEVERITY_RO);
    assert_int_equal(seen.list[1].severity, VHDX_SEVERITY_REFUSE);

    make_good_table();
    table.entries[4].offset = 0x10010;
    judge(&seen, M);
    assert_true(seen_has(&seen, 83));
    assert_int_equal(vx_findings_severity(&seen.findings), VHDX_SEVERITY_REFUSE);
}

/* V84, V90, V106. */
static void
totals(void **state)
{
    struct seen seen;
    uint32_t i;

    (void)state;
    make_good_table();
    for (i = 0; i < 1024; i++)
        add_entry(foreign_guid(i), 0, 0, USER);
    judge(&seen, M);
    expect_only(&seen, "1024 user items", 0, VHDX_SEVERITY_NONE, 0);
    add_entry(foreign_guid(i), 0, 0, USER);
    judge(&seen, M);
    expect_only(&seen, "1025 user items", 84, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_METADATA);

    make_good_table();
    for (i = 0; i < 1018; i++)
        add_entry(foreign_guid(i), 0, 0, SYSTEM);
    judge(&seen, M);
    expect_only(&seen, "1023 system items", 0, VHDX_SEVERITY_NONE, 0);
    add_entry(foreign_guid(i), 0, 0, SYSTEM);
    judge(&seen, M);
    expect_only(&seen, "1024 system items", 106, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);

    make_good_table();
    for (i = 0; i < 40; i++)
        add_entry(foreign_guid(i), (uint32_t)((i + 1) * M), (uint32_t)M, USER);
    judge(&seen, 64 * M);
    expect_only(&seen, "40 MiB of user items", 0, VHDX_SEVERITY_NONE, 0);
    add_entry(foreign_guid(i), 0x20000, 1, USER);
    judge(&seen, 64 * M);
    expect_only(&seen, "a byte more", 90, VHDX_SEVERITY_WARN, VHDX_E_BAD_METADATA);
}

/* Slots after EntryCount are garbage and not looked at (10.37). */
static void
stale_slots(void **state)
{
    struct seen seen;

    (void)state;
    make_good_table();
    add_entry(vx_guid_item_incomplete, 5, 7, 0xFFFFFFFF);
    vx_metadata_table_encode(bytes, &table);
    vx_put_le16(bytes + 10, 5);
    judge_bytes(&seen, M);
    expect_only(&seen, "stale sixth slot", 0, VHDX_SEVERITY_NONE, 0);
}

static void
finding_items(void **state)
{
    (void)state;
    make_good_table();
    add_entry(vx_guid_item_parent_locator, 0x20000, 5, USER);
    assert_ptr_equal(vx_metadata_find(&table, &vx_guid_item_virtual_disk_id), &table.entries[4]);
    assert_null(vx_metadata_find(&table, &vx_guid_item_parent_locator));
    add_entry(vx_guid_item_parent_locator, 0x20010, 5, NEEDED);
    assert_ptr_equal(vx_metadata_find(&table, &vx_guid_item_parent_locator), &table.entries[6]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_bytes),
        cmocka_unit_test(known_guids),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(decoding_failures),
        cmocka_unit_test(one_entry),
        cmocka_unit_test(other_fields),
        cmocka_unit_test(entries_together),
        cmocka_unit_test(totals),
        cmocka_unit_test(stale_slots),
        cmocka_unit_test(finding_items),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
