/* Showing structures: what is handed over, when it ends, and that no byte in a file can do harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include <vhdx/inspect.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"

#define PARTS (VHDX_INSPECT_FREE + 1)

/* Counts everything, and can end the walk at any row. */
struct tally {
    uint64_t rows, ends_at, findings, missing, free_bytes, live, stale, blocks, sectors, longest_run;
};

static int
count(struct tally *tally)
{
    return ++tally->rows == tally->ends_at;
}

static int
take_finding(void *context, const struct vhdx_error *finding)
{
    struct tally *tally = context;

    assert_true(finding->rule > 0 && finding->message[0] != '\0');
    tally->findings++;
    return count(tally);
}

static int
take_missing(void *context, const struct vhdx_error *why)
{
    struct tally *tally = context;

    assert_true(why->code < 0 && why->message[0] != '\0');
    tally->missing++;
    return count(tally);
}

#define TAKE(name, type)                              \
    static int                                        \
    take_##name(void *context, const struct type *row) \
    {                                                 \
        (void)row;                                    \
        return count(context);                        \
    }
TAKE(identifier, vhdx_inspected_identifier)
TAKE(header, vhdx_inspected_header)
TAKE(region_table, vhdx_inspected_region_table)
TAKE(region, vhdx_inspected_region)
TAKE(metadata_table, vhdx_inspected_metadata_table)
TAKE(locator, vhdx_inspected_locator)
TAKE(log, vhdx_inspected_log)
TAKE(log_descriptor, vhdx_inspected_log_descriptor)
TAKE(bitmap, vhdx_inspected_bitmap)
TAKE(slice, vhdx_inspected_slice)

/* Whoever hands out bytes hands out all of them. */
static int
take_item(void *context, const struct vhdx_inspected_item *row)
{
    volatile uint8_t sum = 0;

    for (size_t i = 0; i < row->byte_count; i++)
        sum = (uint8_t)(sum + row->bytes[i]);
    return count(context);
}

static int
take_pair(void *context, const struct vhdx_inspected_locator_pair *row)
{
    assert_true(row->key == NULL || strlen(row->key) <= 3u * row->key_length / 2);
    assert_true(row->value == NULL || strlen(row->value) <= 3u * row->value_length / 2);
    return count(context);
}

static int
take_entry(void *context, const struct vhdx_inspected_log_entry *row)
{
    struct tally *tally = context;

    assert_true((row->state == VHDX_LOG_BROKEN) == (row->problem != NULL));
    tally->live += row->state == VHDX_LOG_LIVE;
    tally->stale += row->state == VHDX_LOG_STALE;
    return count(tally);
}

static int
take_run(void *context, const struct vhdx_inspected_bat_run *row)
{
    struct tally *tally = context;

    assert_true(row->count > 0 && (row->problem.code == VHDX_OK || row->count == 1));
    if (row->kind == VHDX_BAT_PAYLOAD)
        tally->blocks += row->count;
    if (row->file_offset != 0)
        tally->longest_run = vx_max_u64(tally->longest_run, row->count);
    return count(tally);
}

static int
take_sectors(void *context, const struct vhdx_inspected_sectors *row)
{
    ((struct tally *)context)->sectors += row->count;
    return count(context);
}

static int
take_free(void *context, const struct vhdx_inspected_free *row)
{
    assert_true(row->length > 0);
    ((struct tally *)context)->free_bytes += row->length;
    return count(context);
}

static struct vhdx_inspect_visitor
visitor_of(struct tally *tally)
{
    return (struct vhdx_inspect_visitor){
        tally, take_finding, take_missing, take_identifier, take_header, take_region_table, take_region,
        take_metadata_table, take_item, take_locator, take_pair, take_log, take_entry, take_log_descriptor, take_run,
        take_bitmap, take_slice, take_sectors, take_free,
    };
}

/* All parts, one after the other; ends with the first that does not return 0. */
static int
inspect(struct vhdx_storage *storage, bool replayed, struct tally *tally)
{
    const struct vhdx_inspect_options options = { .replayed = replayed };
    const struct vhdx_inspect_visitor visitor = visitor_of(tally);
    struct vhdx_inspection           *inspection;
    int                               rc = vhdx_inspect_open(&inspection, storage, &options, NULL);

    if (rc < 0)
        return rc;
    for (int part = 0; part < PARTS && rc == VHDX_OK; part++)
        rc = vhdx_inspect(inspection, (enum vhdx_inspect_part)part, NULL, &visitor, NULL);
    vhdx_inspect_close(inspection);
    return rc;
}

/* A child with blocks in parts, and a log that holds them: the writer was killed. */
static void
make_dirty_child(struct vhdx_storage *storages[2])
{
    static const struct chain_shape shape = { 32 * CHAIN_MIB, 1 << 20, 512, VHDX_TYPE_DYNAMIC };
    struct vx_image *image;
    uint8_t          bytes[1024] = { 1 };

    for (int i = 0; i < 2; i++)
        assert_int_equal(vhdx_storage_new_memory(&storages[i], 0, NULL), VHDX_OK);
    chain_make_base(storages[1], &shape);
    chain_make_child(storages[0], storages[1], &shape);
    image = chain_open(storages[0], &(struct vx_image_options){ .is_writable = true });
    for (uint64_t i = 0; i < 4; i++) { /* a session before, with more entries than the next one writes over */
        assert_int_equal(vx_image_write(image, bytes, sizeof bytes, CHAIN_MIB + 2 * i * sizeof bytes, NULL), VHDX_OK);
        assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
    }
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    image = chain_open(storages[0], &(struct vx_image_options){ .is_writable = true });
    for (uint64_t i = 5; i < 9; i++)
        assert_int_equal(vx_image_write(image, bytes, sizeof bytes, i * CHAIN_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
    vx_image_abandon(image);
}

static void
close_both(struct vhdx_storage *storages[2])
{
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

static void
shows_everything(void **state)
{
    struct vhdx_storage *storages[2];
    struct tally         lying = { 0 }, seen = { 0 };

    (void)state;
    make_dirty_child(storages);
    assert_int_equal(inspect(storages[0], false, &lying), VHDX_OK);
    assert_int_equal(lying.missing, 0);
    assert_int_equal(lying.blocks, 32);
    assert_true(lying.live > 0 && lying.stale > 0);
    assert_int_equal(inspect(storages[0], true, &seen), VHDX_OK);
    assert_int_equal(seen.missing, 0);
    assert_int_equal(seen.sectors, 4 * 2 + 4 * 2);
    close_both(storages);
}

static void
ends_at_any_row(void **state)
{
    struct vhdx_storage *storages[2];
    struct tally         all = { 0 };

    (void)state;
    make_dirty_child(storages);
    assert_int_equal(inspect(storages[0], true, &all), VHDX_OK);
    for (uint64_t row = 1; row <= all.rows; row++) {
        struct tally some = { .ends_at = row };

        assert_int_equal(inspect(storages[0], true, &some), VHDX_E_CANCELLED);
        assert_in_range(some.rows, row, row + 40); /* findings of one structure come together */
    }
    close_both(storages);
}

static void
survives_every_lack_of_memory(void **state)
{
    struct vhdx_storage *storages[2];
    size_t               total;

    (void)state;
    make_dirty_child(storages);
    vx_alloc_fail_nth_for_tests(0);
    assert_int_equal(inspect(storages[0], true, &(struct tally){ 0 }), VHDX_OK);
    total = vx_alloc_fail_nth_for_tests(0);
    assert_true(total > 10);
    for (size_t n = 1; n <= total; n++) {
        vx_alloc_fail_nth_for_tests(n);
        assert_int_equal(inspect(storages[0], true, &(struct tally){ 0 }), VHDX_E_NO_MEMORY);
    }
    vx_alloc_fail_nth_for_tests(0);
    close_both(storages);
}

/* Bytes of any kind in every structure, with and without checksums that fit them. */
static void
survives_any_bytes(void **state)
{
    static const uint64_t places[] = { 0, 0x10000, 0x20000, 0x30000, 0x40000, 0x100000, 0x200000, 0x210000, 0x300000,
                                       0x304000 };
    static const uint8_t values[] = { 0x00, 0x01, 0x7f, 0x80, 0xff };
    struct vhdx_storage *storages[2];
    uint32_t             random = 7;

    (void)state;
    make_dirty_child(storages);
    for (unsigned run = 0; run < 400; run++) {
        uint8_t  kept[8], bytes[8];
        uint64_t at = places[run % (sizeof places / sizeof places[0])] + (random >> 8) % (run % 3 == 0 ? 96 : 480);
        int      rc;

        assert_int_equal(vx_storage_read(storages[0], kept, sizeof kept, at, NULL), VHDX_OK);
        memcpy(bytes, kept, sizeof bytes);
        for (size_t i = 0; i < 1 + run % sizeof bytes; i++) {
            random = random * 1103515245u + 12345u;
            bytes[i] = (random >> 20 & 1) != 0 ? values[(random >> 10) % sizeof values] : (uint8_t)(random >> 12);
        }
        assert_int_equal(vx_storage_write(storages[0], bytes, sizeof bytes, at, NULL), VHDX_OK);
        rc = inspect(storages[0], run % 2 == 0, &(struct tally){ 0 });
        if (rc != VHDX_OK)
            fail_msg("run %u, at 0x%llx: %d", run, (unsigned long long)at, rc);
        if (run % 5 != 0) /* some damage stays, and comes together */
            assert_int_equal(vx_storage_write(storages[0], kept, sizeof kept, at, NULL), VHDX_OK);
        if (run % 100 == 99) {
            close_both(storages);
            make_dirty_child(storages);
        }
    }
    close_both(storages);
}

/* The sum of what is in use and what is free is the file. */
static void
tells_free_space(void **state)
{
    static const struct chain_shape shape = { 32 * CHAIN_MIB, 2 << 20, 512, VHDX_TYPE_DYNAMIC };
    struct vhdx_storage *storage;
    struct tally         tally = { 0 };

    (void)state;
    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    chain_make_base(storage, &shape);
    chain_write(storage, 0, (size_t)(6 * CHAIN_MIB), 1);
    assert_int_equal(inspect(storage, false, &tally), VHDX_OK);
    assert_int_equal(tally.free_bytes, 0);
    assert_int_equal(tally.longest_run, 3);
    chain_zero(storage, 2 * CHAIN_MIB, 2 * CHAIN_MIB, true);
    tally = (struct tally){ 0 };
    assert_int_equal(inspect(storage, false, &tally), VHDX_OK);
    assert_int_equal(tally.free_bytes, 2 * CHAIN_MIB);
    assert_int_equal(tally.longest_run, 1);
    vhdx_storage_close(storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shows_everything),
        cmocka_unit_test(ends_at_any_row),
        cmocka_unit_test(survives_every_lack_of_memory),
        cmocka_unit_test(survives_any_bytes),
        cmocka_unit_test(tells_free_space),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
