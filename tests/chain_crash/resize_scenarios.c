/*
 * Disks that grow and shrink, crashed.  What must be true of every state: the disk has the old size or the new one, below the smaller
 * of both it reads as before, above the old one as zeros.
 */
#include "chain_crash.h"

#include "ops/resize.h"

#define MIB(n) ((uint64_t)(n) * CHAIN_MIB)

/* --- the job: on file 0, over the others if it is a child --- */

static int
run_resize(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    const struct vx_resize    resize = { .storage = world->storages[0], .new_size = scenario->new_size,
                                         .parent_size = scenario->shapes[1].size,
                                         .moves_bat_for_tests = scenario->moves_table,
                                         .log_length_for_tests = scenario->ring_sectors * 4096 };
    struct vhdx_resize_result result = { 0 };

    return vx_resize(&resize, &result, err);
}

static unsigned
view_resize(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
            struct vhdx_storage **storages, struct vhdx_error *err)
{
    (void)scenario, (void)is_final, (void)err;
    for (unsigned i = 0; view == 0 && i < world->count; i++)
        storages[i] = world->storages[i];
    return view == 0 ? world->count : 0;
}

/* The block of the child's end is not there, and the parent has data all over. */
static void
fill_nothing_at_end(struct vhdx_storage *storage, unsigned number)
{
    if (number == 0)
        chain_write(storage, 8192, 4096, 1);
    else
        chain_write(storage, 0, (size_t)MIB(6), 2);
}

/* It is there in parts. */
static void
fill_part_of_end(struct vhdx_storage *storage, unsigned number)
{
    fill_nothing_at_end(storage, number);
    if (number == 0)
        chain_write(storage, MIB(3), 1024, 1);
}

/* --- all of them --- */

#define DISK(unit, punch, trait) { .tear_unit = (unit), .can_punch = (punch), .extension_survives_as_zeros = (trait) }
#define BASE(size, block)  { (size), (block), 512, VHDX_TYPE_DYNAMIC }
#define CHILD(size, block) { (size), (block), 512, VHDX_TYPE_DIFFERENCING }
#define B1 ((uint32_t)1 << 20)
#define B2 ((uint32_t)2 << 20)

const struct scenario resize_scenarios[] = {
    {
        .name = "grow a dynamic disk", .disk = DISK(512, true, true), .ring_sectors = 13, .new_size = MIB(5) + 512,
        .shapes = { BASE(MIB(3) + 1536, B1) }, .is_base = { true }, .has_stale_bytes = true,
        .run = run_resize, .view = view_resize,
    },
    {
        .name = "grow a dynamic disk, no holes, the table moves", .disk = DISK(4096, false, false), .ring_sectors = 13,
        .new_size = MIB(6), .shapes = { BASE(MIB(3) + 4096, B2) }, .is_base = { true }, .has_stale_bytes = true,
        .moves_table = true, .mends_table = true, .run = run_resize, .view = view_resize,
    },
    {
        .name = "grow a fixed disk", .disk = DISK(512, true, true), .ring_sectors = 13, .new_size = MIB(5),
        .shapes = { { MIB(3) + 512, B1, 512, VHDX_TYPE_FIXED } }, .is_base = { true }, .has_stale_bytes = true,
        .run = run_resize, .view = view_resize,
    },
    {
        .name = "grow a fixed disk, the table moves", .disk = DISK(512, true, false), .ring_sectors = 13,
        .new_size = MIB(7), .shapes = { { MIB(3), B2, 4096, VHDX_TYPE_FIXED } }, .is_base = { true },
        .moves_table = true, .run = run_resize, .view = view_resize,
    },
    {
        .name = "grow a child under a longer parent", .disk = DISK(512, true, true), .ring_sectors = 22,
        .new_size = MIB(6) + 512, .shapes = { CHILD(MIB(3) + 1536, B1), BASE(MIB(6), B2) }, .is_base = { false, true },
        .fill = fill_nothing_at_end, .run = run_resize, .view = view_resize,
    },
    {
        .name = "grow a child of parts under a longer parent, the table moves", .disk = DISK(512, true, true),
        .ring_sectors = 22, .new_size = MIB(5), .shapes = { CHILD(MIB(3) + 1536, B2), BASE(MIB(6), B1) },
        .is_base = { false, true }, .fill = fill_part_of_end, .moves_table = true, .has_stale_bytes = true,
        .run = run_resize, .view = view_resize,
    },
    {
        .name = "shrink a dynamic disk", .disk = DISK(512, true, true), .ring_sectors = 13, .new_size = MIB(1) + 4096,
        .shapes = { BASE(MIB(4), B1) }, .is_base = { true }, .run = run_resize, .view = view_resize,
    },
    {
        .name = "shrink a fixed disk", .disk = DISK(4096, false, true), .ring_sectors = 13, .new_size = MIB(1) + 4096,
        .shapes = { { MIB(4), B1, 512, VHDX_TYPE_FIXED } }, .is_base = { true }, .run = run_resize,
        .view = view_resize,
    },
    {
        .name = "shrink a child", .disk = DISK(512, true, false), .ring_sectors = 13, .new_size = MIB(3) + 512,
        .shapes = { CHILD(MIB(4), B2), BASE(MIB(6), B1) }, .is_base = { false, true }, .fill = fill_part_of_end,
        .run = run_resize, .view = view_resize,
    },
};
const size_t resize_scenario_count = sizeof resize_scenarios / sizeof resize_scenarios[0];
