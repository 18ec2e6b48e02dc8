/* Edits of metadata items: gaps, places, the table, one entry or nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"
#include "ops/metadata_edit.h"

#define REGION 0x100000u
#define FIRST  0x10000u

static const struct vhdx_guid some_id = { { 1, 2, 3, 4 } };

struct gap_case {
    const char *about;
    uint32_t    offsets[4], lengths[4], count;
    uint32_t    wanted, except, expected;
};

static const struct gap_case gap_cases[] = {
    { "an empty table", { 0 }, { 0 }, 0, 100, UINT32_MAX, FIRST },
    { "after the only item", { FIRST }, { 40 }, 1, 100, UINT32_MAX, FIRST + 40 },
    { "before the first item", { FIRST + 100 }, { 40 }, 1, 100, UINT32_MAX, FIRST },
    { "a gap that is a byte too small", { FIRST + 99 }, { 40 }, 1, 100, UINT32_MAX, FIRST + 139 },
    { "between two, out of order", { FIRST + 500, FIRST }, { 40, 100 }, 2, 400, UINT32_MAX, FIRST + 100 },
    { "the place of the item that moves", { FIRST, FIRST + 100 }, { 100, 40 }, 2, 100, 0, FIRST },
    { "an item without bytes takes none", { 0, FIRST }, { 0, 8 }, 2, 8, UINT32_MAX, FIRST + 8 },
    { "to the region's end", { FIRST }, { 0xEFF00 }, 1, 0x100, UINT32_MAX, 0xFFF00 },
    { "a byte past the region's end", { FIRST }, { 0xEFF00 }, 1, 0x101, UINT32_MAX, 0 },
};

static void
finds_gaps(void **state)
{
    static struct vx_metadata_table table;

    (void)state;
    for (size_t i = 0; i < sizeof gap_cases / sizeof gap_cases[0]; i++) {
        const struct gap_case *c = &gap_cases[i];
        uint32_t               found;

        table.entry_count = c->count;
        for (uint32_t k = 0; k < c->count; k++)
            table.entries[k] = (struct vx_metadata_entry){ .offset = c->offsets[k], .length = c->lengths[k] };
        found = vx_metadata_find_gap(&table, REGION, c->wanted, c->except);
        if (found != c->expected)
            fail_msg("%s: 0x%x, expected 0x%x", c->about, found, c->expected);
    }
}

static void
closes_the_gap_of_an_entry(void **state)
{
    static struct vx_metadata_table table = { .entry_count = 3, .entries = { { .offset = 1 }, { .offset = 2 },
                                                                             { .offset = 3 } } };

    (void)state;
    vx_metadata_remove_entry(&table, 1);
    assert_int_equal(table.entry_count, 2);
    assert_int_equal(table.entries[0].offset, 1);
    assert_int_equal(table.entries[1].offset, 3);
}

/* --- on an image --- */

static struct vhdx_storage *
new_image(void)
{
    static const struct chain_shape shape = { 64 * CHAIN_MIB, 1 << 20, 512, VHDX_TYPE_DYNAMIC };
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    chain_make_base(storage, &shape);
    return storage;
}

static struct vx_metadata_edit *
begin(struct vx_image *image)
{
    struct vx_metadata_edit *edit;

    assert_int_equal(vx_metadata_edit_new(&edit, image, NULL), VHDX_OK);
    return edit;
}

/* The item's bytes as a fresh open finds them. */
static uint32_t
read_item(struct vhdx_storage *storage, const struct vhdx_guid *item_id, bool is_user, uint8_t *out, uint32_t *offset)
{
    struct vx_image         *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vx_metadata_edit *edit = begin(image);
    uint32_t                 index = vx_metadata_index_of(&edit->table, item_id, is_user), length = UINT32_MAX;

    if (index != UINT32_MAX) {
        length = edit->table.entries[index].length;
        *offset = edit->table.entries[index].offset;
        assert_int_equal(vx_image_read_structure(image, out, length, edit->region.file_offset + *offset, NULL),
                         VHDX_OK);
    }
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    return length;
}

static void
set_item(struct vhdx_storage *storage, uint32_t flags, const uint8_t *bytes, uint32_t length)
{
    struct vx_image         *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    struct vx_metadata_edit *edit = begin(image);

    assert_int_equal(vx_metadata_edit_set(edit, &some_id, flags, bytes, length, NULL), VHDX_OK);
    assert_int_equal(vx_metadata_edit_prepare(edit, 4, NULL), VHDX_OK);
    assert_true(edit->page_count > 0);
    assert_int_equal(vx_metadata_edit_commit(edit, NULL), VHDX_OK);
    vx_metadata_edit_free(edit);

    edit = begin(image); /* the same again, in the same session */
    assert_int_equal(vx_metadata_edit_set(edit, &some_id, flags, bytes, length, NULL), VHDX_OK);
    assert_int_equal(vx_metadata_edit_prepare(edit, 4, NULL), VHDX_OK);
    assert_int_equal(edit->page_count, 0);
    vx_metadata_edit_free(edit);
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
}

static void
makes_moves_and_removes_an_item(void **state)
{
    static uint8_t           long_bytes[9000], got[9000];
    struct vhdx_storage     *storage = new_image();
    struct vx_image         *image;
    struct vx_metadata_edit *edit;
    uint32_t                 first, second, third;

    (void)state;
    memset(long_bytes, 0x5A, sizeof long_bytes);
    set_item(storage, VX_ITEM_IS_USER, (const uint8_t *)"abc", 3);
    assert_int_equal(read_item(storage, &some_id, true, got, &first), 3);
    assert_memory_equal(got, "abc", 3);
    assert_int_equal(read_item(storage, &some_id, false, got, &first), UINT32_MAX);

    set_item(storage, VX_ITEM_IS_USER, (const uint8_t *)"xy", 2); /* fits: stays */
    assert_int_equal(read_item(storage, &some_id, true, got, &second), 2);
    assert_memory_equal(got, "xy", 2);
    set_item(storage, VX_ITEM_IS_USER, long_bytes, sizeof long_bytes);
    assert_int_equal(read_item(storage, &some_id, true, got, &third), sizeof long_bytes);
    assert_memory_equal(got, long_bytes, sizeof long_bytes);
    assert_true(chain_is_clean(storage));

    image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    edit = begin(image);
    vx_metadata_edit_remove(edit, &some_id, true);
    vx_metadata_edit_remove(edit, &some_id, false); /* was never there */
    assert_int_equal(vx_metadata_edit_prepare(edit, 0, NULL), VHDX_E_LIMIT);
    assert_int_equal(vx_metadata_edit_prepare(edit, 1, NULL), VHDX_OK);
    assert_int_equal(edit->page_count, 1);
    assert_int_equal(vx_metadata_edit_commit(edit, NULL), VHDX_OK);
    vx_metadata_edit_free(edit);
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    assert_int_equal(read_item(storage, &some_id, true, got, &first), UINT32_MAX);
    assert_true(chain_is_clean(storage));
    vhdx_storage_close(storage);
}

/* Hyper-V leaves stale entries after the last one: they are no change, and stay. */
static void
leaves_stale_slots_alone(void **state)
{
    struct vhdx_storage     *storage = new_image();
    struct vx_image         *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    uint64_t                 region = vx_image_metadata_region(image).file_offset;
    uint8_t                  stale[32], got[32];
    struct vx_metadata_edit *edit;
    uint32_t                 count;

    (void)state;
    vx_image_close(image, NULL);
    memset(stale, 0xAB, sizeof stale);
    assert_int_equal(vx_storage_read(storage, got, 12, region, NULL), VHDX_OK);
    count = vx_le16(got + 10);
    assert_int_equal(vx_storage_write(storage, stale, sizeof stale, region + 32 * (count + 2), NULL), VHDX_OK);

    image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    edit = begin(image);
    assert_int_equal(vx_metadata_edit_prepare(edit, 4, NULL), VHDX_OK);
    assert_int_equal(edit->page_count, 0);
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    set_item(storage, 0, (const uint8_t *)"abc", 3);
    assert_int_equal(vx_storage_read(storage, got, sizeof got, region + 32 * (count + 2), NULL), VHDX_OK);
    assert_memory_equal(got, stale, sizeof got);
    vhdx_storage_close(storage);
}

static void
refuses_what_has_no_room(void **state)
{
    static uint8_t           huge[VX_MAX_ITEM_LENGTH];
    struct vhdx_storage     *storage = new_image();
    struct vx_image         *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vx_metadata_edit *edit = begin(image);
    struct vhdx_guid         id = some_id;

    (void)state;
    assert_int_equal(vx_metadata_edit_set(edit, &some_id, 0, huge, sizeof huge, NULL), VHDX_E_LIMIT);
    while (edit->table.entry_count < VX_MAX_METADATA_ENTRIES) {
        id.bytes[15]++;
        id.bytes[14] = (uint8_t)(id.bytes[14] + (id.bytes[15] == 0));
        assert_int_equal(vx_metadata_edit_set(edit, &id, VX_ITEM_IS_USER, NULL, 0, NULL), VHDX_OK);
    }
    assert_int_equal(vx_metadata_edit_set(edit, &some_id, 0, huge, 1, NULL), VHDX_E_LIMIT);
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    vhdx_storage_close(storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_gaps),
        cmocka_unit_test(closes_the_gap_of_an_entry),
        cmocka_unit_test(makes_moves_and_removes_an_item),
        cmocka_unit_test(leaves_stale_slots_alone),
        cmocka_unit_test(refuses_what_has_no_room),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
