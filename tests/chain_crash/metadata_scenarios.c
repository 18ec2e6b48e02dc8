/*
 * Metadata items set and removed, crashed.  What must be true of every state: the item is as it was or as it is to be, whole;
 * the disk reads as before; and once the item is another, so is DataWriteGuid.
 */
#include "chain_crash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/metadata_change.h"
#include "ops/metadata_edit.h"

#define MIB(n) ((uint64_t)(n) * CHAIN_MIB)
#define ITEM_MOST ((size_t)1024 * 1024)

static const struct vhdx_guid item_id = { { 7, 7, 7 } }, other_id = { { 8 } };

/* Bytes of an item: they depend on its length, so that half of one is never the other. */
static const uint8_t *
item_bytes(size_t length)
{
    static uint8_t bytes[ITEM_MOST];

    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(i * 7 + length);
    return bytes;
}

static int
change(struct vhdx_storage *storage, const struct vhdx_guid *id, size_t length, uint32_t log_length, struct vhdx_error *err)
{
    const struct vhdx_metadata_change wanted = { .what = length > 0 ? VHDX_METADATA_SET : VHDX_METADATA_REMOVE, .id = *id,
                                                 .bytes = item_bytes(length), .length = length };
    const struct vx_metadata_change   job = { .storage = storage, .change = &wanted, .log_length_for_tests = log_length };
    struct vhdx_metadata_result       result = { .is_changed = false };
    int                               rc = vx_metadata_change(&job, &result, err);

    return length == 0 && rc == VHDX_E_NOT_FOUND ? VHDX_OK : rc; /* it went the time before */
}

static int
run_metadata(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    return change(world->storages[0], &item_id, scenario->item_length, scenario->ring_sectors * 4096, err);
}

static unsigned
view_disk(const struct scenario *scenario, struct world *world, unsigned view, bool is_final, struct vhdx_storage **storages,
          struct vhdx_error *err)
{
    (void)scenario, (void)is_final, (void)err;
    storages[0] = world->storages[0];
    return view == 0 ? 1 : 0;
}

/* Whether the item has this length (0: is not there), with the right bytes. */
static bool
holds(struct vx_metadata_edit *edit, const struct vhdx_guid *id, size_t length)
{
    uint32_t index = vx_metadata_index_of(&edit->table, id, true);
    uint8_t *bytes;
    bool     is_same;

    if (index == UINT32_MAX || length == 0)
        return (index == UINT32_MAX) == (length == 0);
    if (edit->table.entries[index].length != length)
        return false;
    bytes = malloc(length);
    if (bytes == NULL)
        abort();
    is_same = vx_image_read_structure(edit->image, bytes, length, edit->region.file_offset + edit->table.entries[index].offset,
                                      NULL) == VHDX_OK && memcmp(bytes, item_bytes(length), length) == 0;
    free(bytes);
    return is_same;
}

static bool
judge_metadata(const struct scenario *scenario, struct world *world, const struct expectation *expectation, bool same_content,
               bool is_final)
{
    const struct vx_image_options options = { .log_length_for_tests = scenario->ring_sectors * 4096 };
    struct vx_image         *image;
    struct vx_metadata_edit *edit;
    struct vhdx_guid         guid;
    bool                     is_new, is_good;

    (void)same_content;
    if (vx_image_open(&image, world->storages[0], &options, NULL) < 0 || vx_metadata_edit_new(&edit, image, NULL) < 0)
        abort(); /* it was read just now */
    is_new = holds(edit, &item_id, scenario->item_length);
    is_good = (is_new || (!is_final && holds(edit, &item_id, scenario->old_item_length))) &&
              holds(edit, &other_id, scenario->other_item_length);
    guid = vx_image_data_write_guid(image);
    if (is_good && is_new && vhdx_guid_equal(&guid, &expectation->before[0].data_guid))
        is_good = false;
    if (!is_good)
        printf("# the item is neither as it was nor as it is to be, or DataWriteGuid does not tell\n");
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    return is_good;
}

/* --- what is there before --- */

static void
must_change(struct vhdx_storage *storage, const struct vhdx_guid *id, size_t length)
{
    if (change(storage, id, length, 0, NULL) < 0)
        abort();
}

static void
fill_small(struct vhdx_storage *storage, unsigned number)
{
    (void)number;
    chain_write(storage, 0, (size_t)MIB(1) + 512, 1);
    must_change(storage, &item_id, 100);
}

/* The region has room for little more. */
static void
fill_full(struct vhdx_storage *storage, unsigned number)
{
    fill_small(storage, number);
    must_change(storage, &other_id, 900000);
}

#define DISK(unit, punch, trait) { .tear_unit = (unit), .can_punch = (punch), .extension_survives_as_zeros = (trait) }
#define BASE(size) { (size), (uint32_t)1 << 20, 512, VHDX_TYPE_DYNAMIC }
#define METADATA .shapes = { BASE(MIB(3)) }, .is_base = { true }, .ring_sectors = 13, .old_item_length = 100, \
                 .run = run_metadata, .view = view_disk, .judge = judge_metadata

const struct scenario metadata_scenarios[] = {
    { .name = "set an item", .disk = DISK(512, true, true), .fill = fill_small, .item_length = 3000, METADATA },
    { .name = "set an item, the region moves", .disk = DISK(4096, true, false), .fill = fill_small, .item_length = 20000,
      METADATA },
    { .name = "set an item, the region grows", .disk = DISK(512, false, true), .fill = fill_full, .item_length = 150000,
      .other_item_length = 900000, METADATA },
    { .name = "remove an item", .disk = DISK(512, true, true), .fill = fill_small, .item_length = 0, METADATA },
};
const size_t metadata_scenario_count = sizeof metadata_scenarios / sizeof metadata_scenarios[0];
