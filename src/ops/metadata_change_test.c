/* One change of an image's metadata: what it changes, what it leaves, what it refuses. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"
#include "ops/metadata_change.h"
#include "ops/metadata_edit.h"

static const struct vhdx_guid ids[] = { { { 1 } }, { { 2 } }, { { 3 } } };
static uint8_t big[VHDX_METADATA_ITEM_MOST + 1];

static struct vhdx_storage *
new_image(uint32_t sector_size)
{
    const struct chain_shape shape = { 64 * CHAIN_MIB, 1 << 20, sector_size, VHDX_TYPE_DYNAMIC };
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    chain_make_base(storage, &shape);
    chain_write(storage, 0, 4096, 1);
    return storage;
}

static int
change(struct vhdx_storage *storage, const struct vhdx_metadata_change *wanted, struct vhdx_metadata_result *result)
{
    const struct vx_metadata_change job = { .storage = storage, .change = wanted };

    *result = (struct vhdx_metadata_result){ .is_changed = false };
    return vx_metadata_change(&job, result, NULL);
}

static int
set(struct vhdx_storage *storage, unsigned i, const void *bytes, size_t length, struct vhdx_metadata_result *result)
{
    const struct vhdx_metadata_change wanted = { .what = VHDX_METADATA_SET, .id = ids[i], .bytes = bytes, .length = length,
                                                 .keeps_kind = true };

    return change(storage, &wanted, result);
}

static struct vhdx_info
info_of(struct vhdx_storage *storage)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vhdx_info info;

    vx_image_fill_info(image, &info);
    vx_image_close(image, NULL);
    return info;
}

/* Whether item number i has these bytes; length SIZE_MAX: is not there. */
static bool
holds(struct vhdx_storage *storage, unsigned i, const void *bytes, size_t length, uint32_t flags)
{
    static uint8_t           got[VHDX_METADATA_ITEM_MOST];
    struct vx_image         *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vx_metadata_edit *edit;
    uint32_t                 index;
    bool                     is_so = false;

    assert_int_equal(vx_metadata_edit_new(&edit, image, NULL), VHDX_OK);
    index = vx_metadata_index_of(&edit->table, &ids[i], true);
    if (index == UINT32_MAX || length == SIZE_MAX) {
        is_so = index == UINT32_MAX && length == SIZE_MAX;
    } else if (edit->table.entries[index].length == length && edit->table.entries[index].flags == flags) {
        assert_int_equal(vx_image_read_structure(image, got, length, edit->region.file_offset +
                                                 edit->table.entries[index].offset, NULL), VHDX_OK);
        is_so = memcmp(got, bytes, length) == 0;
    }
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    return is_so;
}

static void
sets_replaces_and_removes(void **state)
{
    struct vhdx_storage        *storage = new_image(512);
    struct vhdx_info            before = info_of(storage), after;
    struct vhdx_metadata_result result;
    struct vhdx_metadata_change wanted = { .what = VHDX_METADATA_SET, .id = ids[0], .bytes = "abc", .length = 3,
                                           .is_virtual_disk = true };

    (void)state;
    assert_int_equal(change(storage, &wanted, &result), VHDX_OK);
    assert_true(result.is_changed && !result.region_moved);
    after = info_of(storage);
    assert_false(vhdx_guid_equal(&before.data_write_guid, &after.data_write_guid)); /* 5.4: a guest may notice */
    assert_true(holds(storage, 0, "abc", 3, VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK));
    assert_int_equal(set(storage, 0, "longer", 6, &result), VHDX_OK); /* it stays the disk's */
    assert_true(holds(storage, 0, "longer", 6, VX_ITEM_IS_USER | VX_ITEM_IS_VIRTUAL_DISK));
    assert_int_equal(set(storage, 1, "", 0, &result), VHDX_OK);
    assert_true(holds(storage, 1, "", 0, VX_ITEM_IS_USER));

    before = info_of(storage); /* what it holds already is no change */
    assert_int_equal(set(storage, 0, "longer", 6, &result), VHDX_OK);
    after = info_of(storage);
    assert_false(result.is_changed);
    assert_true(vhdx_guid_equal(&before.data_write_guid, &after.data_write_guid));
    assert_int_equal(before.header_sequence_number, after.header_sequence_number);

    wanted = (struct vhdx_metadata_change){ .what = VHDX_METADATA_REMOVE, .id = ids[0] };
    assert_int_equal(change(storage, &wanted, &result), VHDX_OK);
    assert_true(holds(storage, 0, NULL, SIZE_MAX, 0) && holds(storage, 1, "", 0, VX_ITEM_IS_USER));
    assert_int_equal(change(storage, &wanted, &result), VHDX_E_NOT_FOUND);
    assert_true(chain_is_clean(storage));
    vhdx_storage_close(storage);
}

static void
gives_another_identity(void **state)
{
    struct vhdx_storage        *storage = new_image(512);
    struct vhdx_info            before = info_of(storage), after;
    struct vhdx_metadata_result result;
    struct vhdx_metadata_change wanted = { .what = VHDX_METADATA_DISK_ID, .id = ids[2] };

    (void)state;
    assert_int_equal(change(storage, &wanted, &result), VHDX_OK);
    after = info_of(storage);
    assert_true(vhdx_guid_equal(&after.disk_id, &ids[2]) && vhdx_guid_equal(&result.id, &ids[2]));
    assert_false(vhdx_guid_equal(&before.data_write_guid, &after.data_write_guid));
    wanted.id = (struct vhdx_guid){ { 0 } };
    assert_int_equal(change(storage, &wanted, &result), VHDX_OK);
    after = info_of(storage);
    assert_true(vhdx_guid_equal(&after.disk_id, &result.id) && !vhdx_guid_is_zero(&after.disk_id));
    assert_false(vhdx_guid_equal(&after.disk_id, &ids[2]));

    wanted = (struct vhdx_metadata_change){ .what = VHDX_METADATA_PHYSICAL_SECTOR, .sector_size = 512 };
    assert_int_equal(change(storage, &wanted, &result), VHDX_OK);
    assert_int_equal(info_of(storage).physical_sector_size, 512);
    wanted.sector_size = 1024;
    assert_int_equal(change(storage, &wanted, &result), VHDX_E_INVALID);
    assert_true(chain_is_clean(storage));
    vhdx_storage_close(storage);
    storage = new_image(4096);
    wanted.sector_size = 512;
    assert_int_equal(change(storage, &wanted, &result), VHDX_E_INVALID);
    vhdx_storage_close(storage);
}

/* E3: an item that one log entry does not carry, and one that the region does not hold. */
static void
moves_the_region(void **state)
{
    struct vhdx_storage        *storage = new_image(512);
    struct vhdx_info            before = info_of(storage), moved, grown;
    struct vhdx_metadata_result result;

    (void)state;
    for (size_t i = 0; i < sizeof big; i++)
        big[i] = (uint8_t)(i ^ i >> 9);
    assert_int_equal(set(storage, 0, "small", 5, &result), VHDX_OK);
    assert_int_equal(set(storage, 1, big, 400000, &result), VHDX_OK);
    assert_true(result.region_moved);
    moved = info_of(storage);
    assert_true(moved.metadata_offset != before.metadata_offset);
    assert_int_equal(moved.metadata_length, before.metadata_length);
    assert_true(chain_is_clean(storage));

    assert_int_equal(set(storage, 2, big, VHDX_METADATA_ITEM_MOST, &result), VHDX_OK);
    assert_true(result.region_moved);
    grown = info_of(storage);
    assert_int_equal(grown.metadata_length, 2 * CHAIN_MIB);
    assert_true(holds(storage, 0, "small", 5, VX_ITEM_IS_USER) && holds(storage, 1, big, 400000, VX_ITEM_IS_USER) &&
                holds(storage, 2, big, VHDX_METADATA_ITEM_MOST, VX_ITEM_IS_USER));
    assert_true(vhdx_guid_equal(&grown.disk_id, &before.disk_id));
    assert_int_equal(grown.virtual_size, before.virtual_size);
    assert_true(chain_is_clean(storage));
    assert_int_equal(set(storage, 0, "tiny", 4, &result), VHDX_OK); /* and on it goes, in place */
    assert_false(result.region_moved);
    assert_true(holds(storage, 0, "tiny", 4, VX_ITEM_IS_USER));
    vhdx_storage_close(storage);
}

/* A table with `count` more user items of `length` bytes, in a region that is long enough; the bytes are never read. */
static void
fill_table(struct vhdx_storage *storage, uint32_t count, uint32_t length)
{
    static struct vx_metadata_table table;
    static uint8_t bytes[2 * VX_REGION_TABLE_SIZE];
    const uint64_t old = info_of(storage).metadata_offset, at = 64 * CHAIN_MIB;
    uint64_t       changed_at, next = VX_METADATA_TABLE_SIZE + 4096;

    assert_int_equal(vx_storage_read(storage, bytes, sizeof bytes, old, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(storage, 128 * CHAIN_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_metadata_table_decode(&table, bytes, 0, NULL), VHDX_OK);
    for (uint32_t i = 0; i < count; i++, next += length)
        table.entries[table.entry_count++] = (struct vx_metadata_entry){
            .item_id = { { 9, (uint8_t)i, (uint8_t)(i >> 8) } }, .offset = length > 0 ? (uint32_t)next : 0,
            .length = length, .flags = VX_ITEM_IS_USER };
    vx_metadata_table_encode(bytes, &table);
    assert_int_equal(vx_storage_write(storage, bytes, sizeof bytes, at, NULL), VHDX_OK);
    for (int copy = 0; copy < 2; copy++) {
        assert_int_equal(vx_storage_read(storage, bytes, VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(copy), NULL), VHDX_OK);
        assert_true(vx_region_table_move(bytes, &vx_guid_region_metadata, at, 48 << 20, &changed_at));
        assert_int_equal(vx_storage_write(storage, bytes, VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(copy), NULL), VHDX_OK);
    }
}

static void
keeps_the_limits(void **state)
{
    struct vhdx_storage        *storage = new_image(512);
    struct vhdx_metadata_result result;

    (void)state;
    assert_int_equal(set(storage, 0, big, sizeof big, &result), VHDX_E_LIMIT); /* V80 */
    fill_table(storage, VHDX_METADATA_COUNT_MOST - 1, 0);
    assert_int_equal(set(storage, 0, "a", 1, &result), VHDX_OK);
    assert_int_equal(set(storage, 1, "b", 1, &result), VHDX_E_LIMIT); /* V84 */
    assert_int_equal(set(storage, 0, "abc", 3, &result), VHDX_OK);
    vhdx_storage_close(storage);

    storage = new_image(512);
    fill_table(storage, 40, VHDX_METADATA_ITEM_MOST - 16);
    assert_int_equal(set(storage, 0, big, 40 * 16, &result), VHDX_OK);
    assert_int_equal(set(storage, 0, big, 40 * 16 + 1, &result), VHDX_E_LIMIT); /* V90 */
    assert_int_equal(set(storage, 1, "b", 1, &result), VHDX_E_LIMIT);
    assert_true(holds(storage, 0, big, 40 * 16, VX_ITEM_IS_USER));
    vhdx_storage_close(storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sets_replaces_and_removes),
        cmocka_unit_test(gives_another_identity),
        cmocka_unit_test(moves_the_region),
        cmocka_unit_test(keeps_the_limits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
