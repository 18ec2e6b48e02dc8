/*
 * Compacting that is crashed, and the files it works on.  What must be true of every state, besides what is read:
 *   - steps (b) to (d) keep DataWriteGuid, and so the children; no byte of a guest changes under an old one;
 *   - called again, the job makes the file as short as it would have been without a cut, and as small on the host's disk.
 */
#include <inttypes.h>

#include "chain_crash.h"

#include "base/error.h"
#include "ops/compact.h"

#define MIB(n) ((uint64_t)(n) * CHAIN_MIB)
#define KIB(n) ((uint64_t)(n) * 1024)

/* --- the job and its judgement --- */

static int
take_free(const struct scenario *scenario, struct vx_free_list *list, struct vhdx_error *err)
{
    for (size_t i = 0; i < scenario->free_count; i++)
        vx_free_list_take(list, scenario->free[i].from, scenario->free[i].to - scenario->free[i].from);
    vx_free_list_settle(list);
    return list->rc == VHDX_OK ? VHDX_OK : vx_fail_memory(err, "the list of what is free");
}

static int
run_compact(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vx_free_list list;
    const struct vx_compact job = {
        .storage = world->storages[scenario->target], .free = &list, .zeroes = scenario->zeroes,
        .sparse = scenario->sparse, .log_length_for_tests = scenario->ring_sectors * 4096,
        .batch_for_tests = scenario->commits_often ? VX_MIB : 0,
    };
    struct vhdx_compact_result result = { 0 };
    int                        rc;

    vx_free_list_init(&list, scenario->shapes[scenario->target].size);
    rc = take_free(scenario, &list, err);
    if (rc == VHDX_OK)
        rc = vx_compact(&job, &result, err);
    vx_free_list_destroy(&list);
    return rc;
}

/* View 0 from the top file; view 1 the base alone. */
static unsigned
view_compact(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
             struct vhdx_storage **storages, struct vhdx_error *err)
{
    (void)scenario, (void)is_final, (void)err;
    if (view > 0 && world->count == 1)
        return 0;
    for (unsigned i = view > 0 ? world->count - 1 : 0; i < world->count; i++)
        *storages++ = world->storages[i];
    return view > 0 ? 1 : world->count;
}

static bool
judge_compact(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
              bool same_content, bool is_final)
{
    const struct facts *before = &expectation->before[scenario->target], *after = &expectation->after[scenario->target];
    struct facts        now = world_facts(world, scenario->target);
    bool                has_old_guid = vhdx_guid_equal(&now.data_guid, &before->data_guid);

    if (after->length == before->length && after->allocated >= before->allocated)
        printf("# nothing to do in this scenario\n");
    else if (!has_old_guid && scenario->free_count == 0)
        printf("# another DataWriteGuid\n");
    else if (has_old_guid && !same_content)
        printf("# the old DataWriteGuid for other bytes\n");
    else if (is_final && now.length != after->length)
        printf("# %" PRIu64 " bytes long, and %" PRIu64 " without a cut\n", now.length, after->length);
    else if (is_final && now.allocated > after->allocated)
        printf("# %" PRIu64 " bytes of the host, and %" PRIu64 " without a cut\n", now.allocated, after->allocated);
    else
        return true;
    return false;
}

/* --- the files --- */

static void
write_zeros(struct vhdx_storage *storage, uint64_t guest_offset, size_t length)
{
    struct vx_image  *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    struct vhdx_error err = { .message = "" };
    uint8_t          *zeros = vx_alloc_zeroed(1, length);

    chain_must(vx_image_write(image, zeros, length, guest_offset, &err), "write", &err);
    chain_must(vx_image_close(image, &err), "close", &err);
    vx_free(zeros);
}

/* Six MiB of data: one block trimmed early in the file, one zeroed, one that holds zeros, one partly so; the last blocks move. */
static void
fill_base(struct vhdx_storage *storage, unsigned number)
{
    (void)number;
    chain_write(storage, 0, (size_t)MIB(6), 1);
    write_zeros(storage, MIB(2), (size_t)MIB(1));
    write_zeros(storage, MIB(4) + KIB(64), (size_t)KIB(64));
    chain_zero(storage, MIB(1), MIB(1), true);
    chain_zero(storage, MIB(3) + KIB(512), KIB(256), false); /* a hole in a block that may move */
    chain_zero(storage, 0, MIB(1), false);
}

/* Two blocks of 2 MiB go, the last two move to where there was data; they have gaps. */
static void
fill_large_blocks(struct vhdx_storage *storage, unsigned number)
{
    (void)number;
    chain_write(storage, 0, (size_t)MIB(6) + 8192, 1);
    chain_write(storage, MIB(8), 4096, 2);
    chain_zero(storage, 0, MIB(2), true);
    chain_zero(storage, MIB(4), MIB(2), false);
}

/*
 * File 0, a child: whole blocks, of which two go, before blocks in state 7 (of one, zeros), and a bitmap in their midst.
 * File 1, its parent.
 */
static void
fill_pair(struct vhdx_storage *storage, unsigned number)
{
    if (number > 0) {
        chain_write(storage, 0, (size_t)MIB(6), 1);
        return;
    }
    chain_write(storage, 0, (size_t)MIB(2), 2);
    chain_write(storage, MIB(3) + 512, (size_t)KIB(4), 3);
    write_zeros(storage, MIB(4) + 512, (size_t)KIB(16));
    chain_write(storage, MIB(5), (size_t)MIB(1), 4);
    write_zeros(storage, MIB(2), (size_t)MIB(1)); /* over the parent's data */
    chain_zero(storage, MIB(0), MIB(2), false);
}

/* Like that, but no block is in state 7 any more when all is done: the bitmap goes. */
static void
fill_pair_without_bitmap(struct vhdx_storage *storage, unsigned number)
{
    chain_write(storage, 0, (size_t)MIB(2), number + 1);
    if (number > 0)
        return;
    chain_write(storage, MIB(3) + 512, (size_t)KIB(4), 3);
    chain_write(storage, MIB(4), (size_t)MIB(2), 4);
    chain_zero(storage, MIB(3), MIB(1), false);
}

/* File 0 is a child of file 1, which is compacted. */
static void
fill_under_child(struct vhdx_storage *storage, unsigned number)
{
    if (number == 0)
        chain_write(storage, MIB(3) + 512, (size_t)KIB(4), 2);
    else
        fill_base(storage, number);
}

/* --- what is free --- */

static const struct vx_free_run freed[] = {
    { KIB(100) + 100, KIB(300) },     /* nothing there any more */
    { MIB(2), MIB(3) },               /* a block */
    { MIB(3) + KIB(12), MIB(5) },     /* the most of one, and the next */
    { MIB(6) - KIB(9), MIB(6) },      /* the end of the last */
};

static const struct vx_free_run freed_in_child[] = {
    { MIB(1), MIB(3) },               /* the second: over the parent's data */
    { MIB(3), MIB(3) + KIB(64) },     /* a bit of state 7, the rest the parent's */
    { MIB(4), MIB(5) },               /* all of a block in state 7 */
    { MIB(5) + KIB(8), MIB(5) + KIB(32) },
};

/* --- all of them --- */

#define DISK(unit, punch, trait) { .tear_unit = (unit), .can_punch = (punch), .extension_survives_as_zeros = (trait) }
#define BASE(size, block)  { (size), (block), 512, VHDX_TYPE_DYNAMIC }
#define CHILD(size, block) { (size), (block), 512, VHDX_TYPE_DIFFERENCING }
#define FIXED(size)        { (size), B1, 512, VHDX_TYPE_FIXED }
#define B1 ((uint32_t)1 << 20)
#define B2 ((uint32_t)2 << 20)
#define COMPACT .run = run_compact, .view = view_compact, .judge = judge_compact
#define FREED(runs) .free = (runs), .free_count = sizeof (runs) / sizeof (runs)[0]

const struct scenario compact_scenarios[] = {
    {
        .name = "compact", .disk = DISK(512, true, true), .ring_sectors = 13, .commits_often = true,
        .shapes = { BASE(MIB(6), B1) }, .is_base = { true }, .fill = fill_base, COMPACT,
    },
    {
        .name = "compact, no holes", .disk = DISK(4096, false, false), .ring_sectors = 13,
        .shapes = { { MIB(8) + 4096, B2, 4096, VHDX_TYPE_DYNAMIC } }, .is_base = { true }, .fill = fill_large_blocks,
        COMPACT,
    },
    {
        .name = "compact zeroes", .disk = DISK(512, true, false), .ring_sectors = 13, .zeroes = true,
        .shapes = { BASE(MIB(6), B1) }, .is_base = { true }, .fill = fill_base, COMPACT,
    },
    {
        .name = "compact zeroes, no holes", .disk = DISK(512, false, true), .ring_sectors = 13, .zeroes = true,
        .commits_often = true, .shapes = { BASE(MIB(6), B1) }, .is_base = { true }, .fill = fill_base, COMPACT,
    },
    {
        .name = "compact what is free", .disk = DISK(512, true, true), .ring_sectors = 13, .commits_often = true,
        .shapes = { BASE(MIB(6), B1) }, .is_base = { true }, .fill = fill_base, FREED(freed), COMPACT,
    },
    {
        .name = "compact a child", .disk = DISK(512, true, true), .ring_sectors = 13, .commits_often = true,
        .shapes = { CHILD(MIB(6), B1), BASE(MIB(6), B1) }, .is_base = { false, true }, .fill = fill_pair, COMPACT,
    },
    {
        .name = "compact a child, zeroes", .disk = DISK(4096, true, false), .ring_sectors = 13, .zeroes = true,
        .shapes = { CHILD(MIB(6), B1), BASE(MIB(6), B1) }, .is_base = { false, true }, .fill = fill_pair, COMPACT,
    },
    {
        .name = "compact a child, what is free", .disk = DISK(512, true, true), .ring_sectors = 13, .zeroes = true,
        .shapes = { CHILD(MIB(6), B1), BASE(MIB(6), B1) }, .is_base = { false, true }, .fill = fill_pair,
        FREED(freed_in_child), COMPACT,
    },
    {
        .name = "compact a child, its bitmap goes", .disk = DISK(512, false, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(6), B1), BASE(MIB(6), B1) }, .is_base = { false, true },
        .fill = fill_pair_without_bitmap, COMPACT,
    },
    {
        .name = "compact a parent", .disk = DISK(512, true, true), .ring_sectors = 13, .target = 1, .zeroes = true,
        .shapes = { CHILD(MIB(6), B1), BASE(MIB(6), B1) }, .is_base = { false, true }, .fill = fill_under_child, COMPACT,
    },
    {
        .name = "compact a fixed image", .disk = DISK(512, true, true), .ring_sectors = 13, .zeroes = true, .sparse = true,
        .shapes = { FIXED(MIB(6)) }, .is_base = { true }, .fill = fill_base, COMPACT,
    },
    {
        .name = "compact a fixed image, what is free", .disk = DISK(512, true, true), .ring_sectors = 13, .sparse = true,
        .shapes = { FIXED(MIB(6)) }, .is_base = { true }, .fill = fill_base, FREED(freed), COMPACT,
    },
};
const size_t compact_scenario_count = sizeof compact_scenarios / sizeof compact_scenarios[0];
