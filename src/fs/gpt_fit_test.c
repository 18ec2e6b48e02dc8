/* GPTs that are made to fit: what is written, what is left alone, and two whole copies at every moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "fs/fs.h"
#include "storage/fault.h"
#include "storage/storage.h"

#define FIRST_END UINT64_C(6144) /* of the last partition, in sectors of 512; the same bytes for 4096 */

static uint32_t sector;

static struct vhdx_disk *
open_disk(struct vx_fault *fault)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE, .format = VHDX_FORMAT_RAW };
    struct vhdx_storage *storage;
    struct vhdx_disk    *disk;

    assert_int_equal(vx_fault_open(&storage, fault, false, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_storage(&disk, storage, &options, NULL), VHDX_OK);
    return disk;
}

static void
put(struct vhdx_disk *disk, uint64_t at, const void *bytes, size_t length)
{
    assert_int_equal(vhdx_disk_write(disk, bytes, length, at, NULL), VHDX_OK);
}

static void
put_copy(struct vhdx_disk *disk, uint64_t at, uint64_t other, uint64_t entries_at, uint64_t last_usable)
{
    static uint8_t entries[128 * 128];
    uint8_t        b[92] = { 0 };

    memset(entries, 0, sizeof entries);
    for (unsigned i = 0; i < 2; i++) {
        entries[128 * i] = 1;
        vx_put_le64(entries + 128 * i + 32, (2048 + 2048 * i) * UINT64_C(512) / sector);
        vx_put_le64(entries + 128 * i + 40, (4096 + 2048 * i) * UINT64_C(512) / sector - 1);
    }
    memcpy(b, "EFI PART\0\0\1\0", 12);
    vx_put_le32(b + 12, sizeof b);
    vx_put_le64(b + 24, at);
    vx_put_le64(b + 32, other);
    vx_put_le64(b + 40, 34);
    vx_put_le64(b + 48, last_usable);
    vx_put_le64(b + 72, entries_at);
    vx_put_le32(b + 80, 128);
    vx_put_le32(b + 84, 128);
    vx_put_le32(b + 88, vx_crc32(0, entries, sizeof entries));
    vx_put_le32(b + 16, vx_crc32(0, b, sizeof b));
    put(disk, at * sector, b, sizeof b);
    put(disk, entries_at * sector, entries, sizeof entries);
}

/* A table for `table_size` bytes on a disk of `size`, two partitions from 1 MiB to 3 MiB. */
static struct vx_fault *
new_disk(uint64_t size, uint64_t table_size)
{
    const struct vx_fault_options options = { .tear_unit = 512, .can_punch = true, .extension_survives_as_zeros = true };
    uint64_t             last = table_size / sector - 1, room = 16384 / sector;
    uint8_t              mbr[66] = { 0 };
    struct vhdx_storage *storage;
    struct vhdx_disk    *disk;
    struct vx_fault     *fault;

    assert_int_equal(vx_fault_new(&fault, &options, NULL), VHDX_OK);
    assert_int_equal(vx_fault_open(&storage, fault, false, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(storage, size, NULL), VHDX_OK);
    vhdx_storage_close(storage);
    disk = open_disk(fault);
    mbr[4] = 0xEE;
    vx_put_le32(mbr + 8, 1);
    vx_put_le32(mbr + 12, (uint32_t)last);
    memcpy(mbr + 64, "\x55\xAA", 2);
    put(disk, 446, mbr, sizeof mbr);
    put_copy(disk, 1, last, 2, last - room - 1);
    put_copy(disk, last, 1, last - room, last - room - 1);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    return fault;
}

/* Two partitions, none refused.  The layout is the caller's to close. */
static struct vhdx_layout_info
look(struct vhdx_disk *disk)
{
    static struct vx_partitions partitions;

    memset(&partitions, 0, sizeof partitions);
    assert_int_equal(vx_gpt_read(&partitions, disk, sector, NULL), VHDX_OK);
    if (partitions.info.verdict == VHDX_VERDICT_REFUSED)
        fail_msg("%s", partitions.info.reason);
    assert_int_equal(partitions.count, 2);
    assert_int_equal(partitions.items[1].guest_offset + partitions.items[1].length, FIRST_END * 512);
    return partitions.info;
}

struct cuts {
    unsigned states;
    bool     do_overlap; /* the places of the second copy: then it is not there all the time */
};

static void
cut_here(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct cuts *cuts = context;

    for (unsigned kind = 0; kind < 8; kind++, cuts->states++) {
        struct vx_fault  *copy;
        struct vhdx_disk *disk;

        assert_int_equal(vx_fault_clone(&copy, fault, NULL), VHDX_OK);
        assert_int_equal(vx_fault_power_cut(copy, (enum vx_fault_keep)(kind % VX_KEEP_COUNT), true,
                                            event->call_number * 8 + kind), VHDX_OK);
        disk = open_disk(copy);
        assert_true(look(disk).backup_is_good || cuts->do_overlap);
        vhdx_disk_close(disk, NULL);
        vx_fault_free(copy);
    }
}

static uint32_t
protective_sectors(struct vhdx_disk *disk)
{
    uint8_t b[4];

    assert_int_equal(vhdx_disk_read(disk, b, sizeof b, 446 + 12, NULL), VHDX_OK);
    return vx_le32(b);
}

static bool
is_zero_at(struct vhdx_disk *disk, uint64_t at, size_t length)
{
    static uint8_t bytes[64 * 1024];

    assert_true(length <= sizeof bytes);
    assert_int_equal(vhdx_disk_read(disk, bytes, length, at, NULL), VHDX_OK);
    return vx_is_zero(bytes, length);
}

/* From a table for `from` to one for `to` on a disk of 16 MiB. */
static void
fit(uint64_t from, uint64_t to)
{
    struct vx_fault        *fault = new_disk(16 * VX_MIB, from);
    struct vhdx_disk       *disk = open_disk(fault);
    struct vhdx_layout_info info;
    struct vhdx_error       err;
    struct cuts             cuts = { .do_overlap = from < to + 16384 + sector && to < from + 16384 + sector };
    uint64_t                calls;
    bool                    is_changed;

    vx_fault_set_hook(fault, cut_here, &cuts);
    if (vhdx_gpt_fit(disk, sector, to, &is_changed, &err) < 0)
        fail_msg("%s", err.message);
    vx_fault_set_hook(fault, NULL, NULL);
    assert_true(is_changed);
    assert_true(cuts.states > 30);
    info = look(disk);
    assert_true(info.backup_is_good);
    assert_int_equal(info.backup_offset, to - 16384 - sector);
    assert_int_equal(info.backup_length, 16384 + sector);
    assert_int_equal(info.backup_is_last, to == 16 * VX_MIB);
    assert_int_equal(info.minimum_size, 16384 + sector);
    assert_int_equal(protective_sectors(disk), to / sector - 1);
    if (from + 16384 + sector < to) /* the old copy is gone */
        assert_true(is_zero_at(disk, from - 16384 - sector, 16384 + sector));
    if (from > to)
        assert_true(is_zero_at(disk, vx_max_u64(to, from - 16384 - sector),
                               (size_t)(from - vx_max_u64(to, from - 16384 - sector))));

    calls = vx_fault_call_count(fault);
    assert_int_equal(vhdx_gpt_fit(disk, sector, to, &is_changed, &err), VHDX_OK);
    assert_false(is_changed); /* G6 */
    assert_int_equal(vx_fault_call_count(fault), calls);
    vhdx_disk_close(disk, NULL);
    vx_fault_free(fault);
}

static void
fits(void **state)
{
    static const uint32_t sizes[] = { 512, 4096 };

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        sector = sizes[i];
        fit(8 * VX_MIB, 16 * VX_MIB);
        fit(16 * VX_MIB, 8 * VX_MIB);
        fit(8 * VX_MIB, 8 * VX_MIB + 8192); /* the copies overlap */
        fit(8 * VX_MIB + 8192, 8 * VX_MIB);
        fit(16 * VX_MIB, FIRST_END * 512 + 16384 + sector); /* no sector to spare */
    }
}

static void
assert_refused(struct vhdx_disk *disk, uint64_t size, int code)
{
    struct vhdx_error err = { .message = "" };
    bool              is_changed;

    assert_int_equal(vhdx_gpt_fit(disk, sector, size, &is_changed, &err), code);
    assert_true(err.message[0] != '\0');
    assert_false(is_changed);
}

static void
refuses(void **state)
{
    struct vx_fault  *fault;
    struct vhdx_disk *disk;

    (void)state;
    sector = 512;
    fault = new_disk(16 * VX_MIB, 8 * VX_MIB);
    disk = open_disk(fault);
    assert_refused(disk, FIRST_END * 512 + 16384, VHDX_E_INVALID); /* a sector too few */
    assert_refused(disk, 16 * VX_MIB + 512, VHDX_E_INVALID);
    assert_refused(disk, 12 * VX_MIB + 1, VHDX_E_INVALID);
    assert_refused(disk, 0, VHDX_E_INVALID);
    put(disk, 512 + 60, "x", 1);
    assert_refused(disk, 12 * VX_MIB, VHDX_E_BAD_VOLUME);
    vhdx_disk_close(disk, NULL);
    vx_fault_free(fault);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fits),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
