/* Partition tables right and wrong, volumes, and what a walk promises whatever a reader does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/memory.h"
#include "fs/fs.h"

#define DISK_SIZE (8 * VX_MIB)
#define SECTORS   (DISK_SIZE / 512)

static struct vhdx_disk *disk;

/* A writable raw disk of zeros. */
static struct vhdx_disk *
new_raw(uint64_t size)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE, .format = VHDX_FORMAT_RAW };
    struct vhdx_storage *storage;
    struct vhdx_disk *made;

    assert_int_equal(vhdx_storage_new_memory(&storage, size, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_storage(&made, storage, &options, NULL), VHDX_OK);
    return made;
}

static void
close_disk(struct vhdx_disk *closed)
{
    assert_int_equal(vhdx_disk_close(closed, NULL), VHDX_OK);
}

static void
put(uint64_t guest_offset, const void *bytes, size_t length)
{
    assert_int_equal(vhdx_disk_write(disk, bytes, length, guest_offset, NULL), VHDX_OK);
}

/* --- MBR --- */

static void
put_entry(uint64_t sector, unsigned index, uint8_t type, uint32_t first, uint32_t count)
{
    uint8_t b[16] = { 0 };

    b[4] = type;
    vx_put_le32(b + 8, first);
    vx_put_le32(b + 12, count);
    put(sector * 512 + 446 + 16 * index, b, sizeof b);
    put(sector * 512 + 510, "\x55\xAA", 2);
}

/* --- GPT --- */

struct gpt_entry {
    uint64_t first, last;
};

/* One copy, its entries in the 32 sectors from entries_sector on. */
static void
put_gpt(uint64_t sector, uint64_t other, uint64_t entries_sector, const struct gpt_entry *entries, size_t count)
{
    static uint8_t table[128 * 128];
    uint8_t b[92] = { 0 };

    memset(table, 0, sizeof table);
    for (size_t i = 0; i < count; i++) {
        table[128 * i] = 1;
        vx_put_le64(table + 128 * i + 32, entries[i].first);
        vx_put_le64(table + 128 * i + 40, entries[i].last);
    }
    memcpy(b, "EFI PART\0\0\1\0", 12);
    vx_put_le32(b + 12, sizeof b);
    vx_put_le64(b + 24, sector);
    vx_put_le64(b + 32, other);
    vx_put_le64(b + 40, 34);
    vx_put_le64(b + 48, SECTORS - 34);
    vx_put_le64(b + 72, entries_sector);
    vx_put_le32(b + 80, 128);
    vx_put_le32(b + 84, 128);
    vx_put_le32(b + 88, vx_crc32(0, table, sizeof table));
    vx_put_le32(b + 16, vx_crc32(0, b, sizeof b));
    put(sector * 512, b, sizeof b);
    put(entries_sector * 512, table, sizeof table);
}

static void
put_both(const struct gpt_entry *entries, size_t count)
{
    put_entry(0, 0, 0xEE, 1, SECTORS - 1);
    put_gpt(1, SECTORS - 1, 2, entries, count);
    put_gpt(SECTORS - 1, 1, SECTORS - 33, entries, count);
}

static const struct gpt_entry two[] = { { 2048, 4095 }, { 4096, 8191 } };

static void
put_two(void)
{
    put_both(two, 2);
}

static void
put_two_first_damaged(void)
{
    put_two();
    put(512 + 60, "x", 1);
}

static void
put_two_first_entries_damaged(void)
{
    put_two();
    put(1024 + 40, "x", 1);
}

static void
put_two_both_damaged(void)
{
    put_two_first_damaged();
    put(DISK_SIZE - 512 + 60, "x", 1);
}

static void
put_two_second_lost(void)
{
    put_two();
    put(DISK_SIZE - 512, "x", 1);
}

static void
put_two_that_differ(void)
{
    put_two();
    put_gpt(SECTORS - 1, 1, SECTORS - 33, two, 1);
}

static void
put_overlap(void)
{
    put_both((const struct gpt_entry[]){ { 4096, 8191 }, { 2048, 4096 } }, 2);
}

static void
put_outside(void)
{
    put_both((const struct gpt_entry[]){ { 2048, SECTORS } }, 1);
}

static void
put_backwards(void)
{
    put_both((const struct gpt_entry[]){ { 4096, 2048 } }, 1);
}

static void
put_gpt_without_mbr(void)
{
    put_two();
    put(446, (const uint8_t[66]){ 0 }, 66);
}

static void
put_mbr_two(void)
{
    put_entry(0, 0, 0x83, 2048, 2048);
    put_entry(0, 2, 0x07, 4096, 4096);
}

static void
put_mbr_logical(void)
{
    put_entry(0, 0, 0x83, 2048, 2048);
    put_entry(0, 1, 0x05, 4096, 8192);
    put_entry(4096, 0, 0x83, 64, 1000); /* relative to this record */
    put_entry(4096, 1, 0x05, 2048, 2048); /* relative to the first */
    put_entry(4096 + 2048, 0, 0x83, 64, 1000);
}

static void
put_mbr_loop(void)
{
    put_entry(0, 1, 0x05, 4096, 8192);
    put_entry(4096, 0, 0, 0, 0);
    put_entry(4096, 1, 0x05, 0, 2048);
    put(4096 * 512 + 446 + 16 + 12, "\1", 1);
}

static void
put_mbr_chain_leaves(void)
{
    put_entry(0, 1, 0x05, 4096, 8192);
    put_entry(4096, 1, 0x05, 8192, 2048);
}

static void
put_mbr_logical_ends_outside(void)
{
    put_entry(0, 1, 0x05, 4096, 1000);
    put_entry(4096, 0, 0x83, 64, 1000);
}

static void
put_mbr_past_the_end(void)
{
    put_entry(0, 0, 0x83, 2048, SECTORS);
}

static void
put_boot_code(void)
{
    uint8_t code[64];

    memset(code, 0xF4, sizeof code);
    put(446, code, sizeof code);
    put(510, "\x55\xAA", 2);
}

static void
put_nothing(void)
{
}

struct table_case {
    const char *about;
    void (*make)(void);
    enum vhdx_partition_table table;
    enum vhdx_verdict verdict;
    size_t   volume_count;
    uint64_t second_at, second_length; /* sectors, of the second volume */
    bool     backup_is_good;
};

static const struct table_case table_cases[] = {
    { "two partitions", put_two, VHDX_TABLE_GPT, VHDX_VERDICT_READABLE, 2, 4096, 4096, true },
    { "first header damaged", put_two_first_damaged, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 2, 4096, 4096, false },
    { "first entries damaged", put_two_first_entries_damaged, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 2, 4096, 4096,
      false },
    { "both headers damaged", put_two_both_damaged, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 0, 0, 0, false },
    { "second copy lost", put_two_second_lost, VHDX_TABLE_GPT, VHDX_VERDICT_READABLE, 2, 4096, 4096, false },
    { "two good copies differ", put_two_that_differ, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 2, 4096, 4096, false },
    { "overlap, in disorder", put_overlap, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 2, 4096, 4096, true },
    { "past the usable sectors", put_outside, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 0, 0, 0, true },
    { "ends before it begins", put_backwards, VHDX_TABLE_GPT, VHDX_VERDICT_REFUSED, 0, 0, 0, true },
    { "no protective MBR", put_gpt_without_mbr, VHDX_TABLE_NONE, VHDX_VERDICT_REFUSED, 1, 0, 0, false },
    { "MBR, two primary", put_mbr_two, VHDX_TABLE_MBR, VHDX_VERDICT_READABLE, 2, 4096, 4096, false },
    { "MBR, logical", put_mbr_logical, VHDX_TABLE_MBR, VHDX_VERDICT_READABLE, 3, 4160, 1000, false },
    { "MBR, loop", put_mbr_loop, VHDX_TABLE_MBR, VHDX_VERDICT_REFUSED, 0, 0, 0, false },
    { "MBR, chain leaves", put_mbr_chain_leaves, VHDX_TABLE_MBR, VHDX_VERDICT_REFUSED, 0, 0, 0, false },
    { "MBR, logical too long", put_mbr_logical_ends_outside, VHDX_TABLE_MBR, VHDX_VERDICT_REFUSED, 0, 0, 0, false },
    { "MBR, past the end", put_mbr_past_the_end, VHDX_TABLE_MBR, VHDX_VERDICT_REFUSED, 0, 0, 0, false },
    { "boot code, no table", put_boot_code, VHDX_TABLE_NONE, VHDX_VERDICT_READABLE, 1, 0, 0, false },
    { "nothing", put_nothing, VHDX_TABLE_NONE, VHDX_VERDICT_READABLE, 1, 0, 0, false },
};

static void
check_case(const struct table_case *at)
{
    const struct vhdx_layout_info *info;
    struct vhdx_layout *layout;

    disk = new_raw(DISK_SIZE);
    at->make();
    assert_int_equal(vhdx_layout_open(&layout, disk, NULL, NULL), VHDX_OK);
    info = vhdx_layout_get_info(layout);
    if (info->table != at->table || info->verdict != at->verdict || info->backup_is_good != at->backup_is_good
        || vhdx_layout_volume_count(layout) != at->volume_count)
        fail_msg("%s: table %d, verdict %d (%s), backup %d, %zu volumes", at->about, (int)info->table,
                 (int)info->verdict, info->reason, info->backup_is_good, vhdx_layout_volume_count(layout));
    if (at->volume_count > 1) {
        assert_int_equal(vhdx_layout_volume(layout, 1)->guest_offset, at->second_at * 512);
        assert_int_equal(vhdx_layout_volume(layout, 1)->length, at->second_length * 512);
    }
    assert_int_equal(vhdx_layout_refusal(layout, NULL),
                     at->verdict == VHDX_VERDICT_REFUSED ? VHDX_E_BAD_VOLUME : VHDX_OK);
    vhdx_layout_close(layout);
    close_disk(disk);
}

static void
tables(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof table_cases / sizeof table_cases[0]; i++)
        check_case(&table_cases[i]);
}

static void
crc_of_the_standard(void **state)
{
    (void)state;
    assert_int_equal(vx_crc32(0, "123456789", 9), UINT32_C(0xCBF43926));
    assert_int_equal(vx_crc32(vx_crc32(0, "1234", 4), "56789", 5), UINT32_C(0xCBF43926));
}

/* --- a reader that does what the case says --- */

struct range {
    uint64_t guest_offset, length;
};
static struct range told[4], got[4];
static size_t told_count, got_count;

static int
fake_probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    (void)err;
    snprintf(volume->kind, sizeof volume->kind, "fake");
    return 1;
}

static int
fake_walk(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    uint8_t byte;
    int rc = VHDX_OK;

    assert_int_equal(vhdx_volume_read(volume, &byte, 1, volume->length, NULL), VHDX_E_RANGE);
    assert_int_equal(vhdx_volume_read(volume, &byte, 1, UINT64_MAX, NULL), VHDX_E_RANGE);
    (void)err;
    for (size_t i = 0; rc == VHDX_OK && i < told_count; i++)
        rc = each(context, told[i].guest_offset, told[i].length);
    return rc;
}

static int
collect(void *context, uint64_t guest_offset, uint64_t length)
{
    (void)context;
    assert_true(got_count < 4);
    got[got_count++] = (struct range){ guest_offset, length };
    return VHDX_OK;
}

static int
stop(void *context, uint64_t guest_offset, uint64_t length)
{
    (void)context, (void)guest_offset, (void)length;
    return 7;
}

#define S VX_MIB /* the size of the disk of these cases, which is one volume */
static const struct guard_case {
    const char  *about;
    struct range told[3];
    enum vhdx_verdict verdict;
    size_t       got_count;
    struct range got[2];
} guard_cases[] = {
    { "two apart", { { 0, 10 }, { 20, 10 } }, VHDX_VERDICT_READABLE, 2, { { 0, 10 }, { 20, 10 } } },
    { "two that touch", { { 5, 10 }, { 15, 10 } }, VHDX_VERDICT_READABLE, 1, { { 5, 20 } } },
    { "up to the end", { { 0, S } }, VHDX_VERDICT_READABLE, 1, { { 0, S } } },
    { "behind its end", { { S + 1, 1 } }, VHDX_VERDICT_REFUSED, 0, { { 0, 0 } } },
    { "past its end", { { 1, S } }, VHDX_VERDICT_REFUSED, 0, { { 0, 0 } } },
    { "a length that wraps", { { 1, UINT64_MAX } }, VHDX_VERDICT_REFUSED, 0, { { 0, 0 } } },
    { "overlap", { { 0, 10 }, { 9, 10 } }, VHDX_VERDICT_REFUSED, 0, { { 0, 0 } } },
    { "out of order", { { 100, 10 }, { 20, 10 } }, VHDX_VERDICT_REFUSED, 0, { { 0, 0 } } },
};

static const struct vhdx_fs_reader fake = { .version = VHDX_FS_READER_VERSION, .name = "fake", .kinds = "fake",
                                            .probe = fake_probe, .walk_free = fake_walk };
static const struct vhdx_fs_reader *const fake_readers[] = { &fake, &fake };

static void
check_guard(const struct guard_case *at, const struct vhdx_layout_options *options)
{
    struct vhdx_layout *layout;
    const struct vhdx_volume *volume;

    memcpy(told, at->told, sizeof at->told);
    for (told_count = 0; told_count < 3 && told[told_count].length > 0; told_count++)
        continue;
    got_count = 0;
    assert_int_equal(vhdx_layout_open(&layout, disk, options, NULL), VHDX_OK);
    volume = vhdx_layout_volume(layout, 0);
    if (volume->verdict != at->verdict)
        fail_msg("%s: %d, %s", at->about, (int)volume->verdict, volume->reason);
    assert_int_equal(vhdx_layout_walk_free(layout, 0, collect, NULL, NULL), VHDX_OK);
    assert_int_equal(got_count, at->got_count);
    assert_memory_equal(got, at->got, got_count * sizeof got[0]);
    assert_int_equal(vhdx_layout_walk_free(layout, 0, stop, NULL, NULL), got_count > 0 ? 7 : VHDX_OK);
    assert_int_equal(vhdx_layout_walk_free(layout, 1, stop, NULL, NULL), VHDX_E_INVALID);
    vhdx_layout_close(layout);
}

static void
readers_are_held_to_their_word(void **state)
{
    const struct vhdx_layout_options options = { .readers = fake_readers, .reader_count = 1 };

    (void)state;
    disk = new_raw(S);
    for (size_t i = 0; i < sizeof guard_cases / sizeof guard_cases[0]; i++)
        check_guard(&guard_cases[i], &options);
    close_disk(disk);
}

static void
two_readers_of_one_volume(void **state)
{
    const struct vhdx_layout_options options = { .readers = fake_readers, .reader_count = 2 };
    struct vhdx_layout *layout;

    (void)state;
    disk = new_raw(DISK_SIZE);
    assert_int_equal(vhdx_layout_open(&layout, disk, &options, NULL), VHDX_OK);
    assert_int_equal(vhdx_layout_volume(layout, 0)->verdict, VHDX_VERDICT_REFUSED);
    vhdx_layout_close(layout);
    close_disk(disk);
}

static void
a_reader_of_another_version(void **state)
{
    const struct vhdx_fs_reader other = { .version = VHDX_FS_READER_VERSION + 1 };
    const struct vhdx_fs_reader *readers[] = { &other };
    const struct vhdx_layout_options options = { .readers = readers, .reader_count = 1 };
    struct vhdx_layout *layout;

    (void)state;
    disk = new_raw(DISK_SIZE);
    assert_int_equal(vhdx_layout_open(&layout, disk, &options, NULL), VHDX_E_INVALID);
    close_disk(disk);
}

static void
every_allocation_fails_once(void **state)
{
    struct vhdx_layout *layout;
    int rc = VHDX_E_NO_MEMORY;

    (void)state;
    disk = new_raw(DISK_SIZE);
    put_two();
    for (size_t n = 1; rc != VHDX_OK; n++) {
        vx_alloc_fail_nth_for_tests(n);
        rc = vhdx_layout_open(&layout, disk, NULL, NULL);
        assert_true(rc == VHDX_OK || rc == VHDX_E_NO_MEMORY);
        assert_true(n < 100);
    }
    vx_alloc_fail_nth_for_tests(0);
    vhdx_layout_close(layout);
    close_disk(disk);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables),
        cmocka_unit_test(crc_of_the_standard),
        cmocka_unit_test(readers_are_held_to_their_word),
        cmocka_unit_test(two_readers_of_one_volume),
        cmocka_unit_test(a_reader_of_another_version),
        cmocka_unit_test(every_allocation_fails_once),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
