/* The jobs over chains that are crashed, and the chains they work on. */
#include "chain_crash.h"

#include "ops/flatten.h"
#include "ops/merge.h"
#include "ops/rebase.h"
#include "ops/retype.h"

#define MIB(n) ((uint64_t)(n) * CHAIN_MIB)

static uint32_t
ring(const struct scenario *scenario)
{
    return scenario->ring_sectors * 4096;
}

static struct vx_image *
open_quietly(const struct scenario *scenario, struct vhdx_storage *storage, struct vhdx_error *err)
{
    const struct vx_image_options options = { .log_length_for_tests = ring(scenario) };
    struct vx_image *image;

    return vx_image_open(&image, storage, &options, err) < 0 ? NULL : image;
}

/* Does the child's link mean the other file?  Fails when one of them does not open. */
static int
find_link(const struct scenario *scenario, struct vhdx_storage *child, struct vhdx_storage *parent, bool *is_child,
          struct vhdx_error *err)
{
    struct vx_image *child_image = open_quietly(scenario, child, err);
    struct vx_image *parent_image = child_image == NULL ? NULL : open_quietly(scenario, parent, err);

    *is_child = false;
    if (parent_image != NULL) {
        struct vhdx_guid guid = vx_image_data_write_guid(parent_image);

        *is_child = vx_image_geometry(child_image)->is_differencing &&
                    vx_stack_link(child_image, &guid) != VX_LINK_NONE;
        vx_image_close(parent_image, NULL);
    }
    if (child_image != NULL)
        vx_image_close(child_image, NULL);
    return parent_image == NULL ? err->code : VHDX_OK;
}

/* For those who look at what a job left, when nothing fails any more. */
static bool
is_child_of(const struct scenario *scenario, struct vhdx_storage *child, struct vhdx_storage *parent)
{
    struct vhdx_error err;
    bool              is_child;

    return find_link(scenario, child, parent, &is_child, &err) == VHDX_OK && is_child;
}

static unsigned
whole_chain(struct world *world, unsigned from, struct vhdx_storage **storages)
{
    for (unsigned i = from; i < world->count; i++)
        storages[i - from] = world->storages[i];
    return world->count - from;
}

/* --- merge: files are the chain, top first --- */

static int
merge_layers(const struct scenario *scenario, struct world *world, unsigned from, struct vhdx_guid *target_guid,
             struct vhdx_error *err)
{
    const struct vx_merge    merge = { .storages = world->storages + from, .count = scenario->merged + 1,
                                       .log_length_for_tests = ring(scenario) };
    struct vx_merge_plan     plan;
    struct vhdx_chain_result result = { 0 };
    int                      rc = vx_merge_judge(&merge, &plan, err);

    if (rc == VHDX_OK)
        rc = vx_merge_carry_out(&merge, &plan, &result, err);
    *target_guid = plan.guid;
    return rc;
}

static int
run_merge(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vhdx_guid ignored;

    return merge_layers(scenario, world, 0, &ignored, err);
}

/* View 0 through the image, always; view 1 the target alone, when it is done (before: the same as view 0). */
static unsigned
view_merge(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
           struct vhdx_storage **storages, struct vhdx_error *err)
{
    (void)err;
    return whole_chain(world, view == 1 && is_final ? scenario->merged : 0, storages);
}

/* --- merge with an heir: file 0 is a child of the merged image --- */

static int
relink(const struct scenario *scenario, struct vhdx_storage *child, const struct vhdx_guid *guid,
       struct vhdx_error *err)
{
    char                         linkage[VX_BRACED_GUID_SIZE], none[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text changes[] = {
        { "parent_linkage", linkage }, { "parent_linkage2", none }, { "relative_path", "..\\elsewhere\\target.vhdx" },
        { "absolute_win32_path", "\\\\?\\C:\\elsewhere\\target.vhdx" },
    };
    const struct vx_rebase   rebase = { .storage = child, .changes = changes, .change_count = 4,
                                        .log_length_for_tests = ring(scenario) };
    struct vhdx_chain_result result = { 0 };

    vx_link_braced(linkage, guid);
    vx_link_braced(none, &(struct vhdx_guid){ .bytes = { 0 } });
    return vx_rebase(&rebase, &result, err);
}

static int
run_merge_and_relink(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vhdx_guid guid;
    int              rc = merge_layers(scenario, world, 1, &guid, err);

    return rc == VHDX_OK ? relink(scenario, world->storages[0], &guid, err) : rc;
}

/* View 0 through the heir, whoever is its parent now; view 1 through the merged image. */
static unsigned
view_merge_and_relink(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
                      struct vhdx_storage **storages, struct vhdx_error *err)
{
    unsigned target = 1 + scenario->merged;

    (void)err;
    if (view == 1)
        return whole_chain(world, is_final ? target : 1, storages);
    storages[0] = world->storages[0];
    if (is_final || !is_child_of(scenario, world->storages[0], world->storages[1]))
        return 1 + whole_chain(world, target, storages + 1);
    return whole_chain(world, 0, storages);
}

/* --- flatten: file 0 over the others --- */

static int
run_flatten(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vx_image         *image = open_quietly(scenario, world->storages[0], err);
    struct vx_flatten        flatten = { .storage = world->storages[0], .log_length_for_tests = ring(scenario) };
    struct vhdx_chain_result result = { 0 };
    struct vx_stack         *parent;
    bool                     is_child;
    int                      rc;

    if (image == NULL)
        return err->code;
    is_child = vx_image_geometry(image)->is_differencing;
    vx_image_close(image, NULL);
    if (!is_child)
        return VHDX_OK;
    rc = vx_stack_open(&parent, world->storages + 1, world->count - 1, NULL, ring(scenario), err);
    if (rc < 0)
        return rc;
    flatten.parent = &parent->disk;
    rc = vx_flatten(&flatten, &result, err);
    vx_stack_close(parent, NULL);
    return rc;
}

static unsigned
view_flatten(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
             struct vhdx_storage **storages, struct vhdx_error *err)
{
    struct vx_image *image = view == 0 ? open_quietly(scenario, world->storages[0], err) : NULL;
    bool             is_child;

    if (image == NULL)
        return 0;
    is_child = vx_image_geometry(image)->is_differencing;
    vx_image_close(image, NULL);
    if (is_child && is_final)
        return 0;
    storages[0] = world->storages[0];
    return is_child ? whole_chain(world, 0, storages) : 1;
}

/* --- rebase: file 0; the old chain is files 1.., the new parent the last one, alone --- */

static int
run_rebase(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vhdx_storage *new_storage = world->storages[world->count - 1];
    unsigned             old_count = scenario->is_base[world->count - 2] ? world->count - 2 : world->count - 1;
    char                 linkage[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text changes[] = {
        { "parent_linkage", linkage }, { "relative_path", ".\\the new parent.vhdx" },
    };
    struct vx_rebase         rebase = { .storage = world->storages[0], .changes = changes, .change_count = 2,
                                        .log_length_for_tests = ring(scenario) };
    struct vhdx_chain_result result = { 0 };
    struct vx_stack         *new_stack = NULL, *old_stack = NULL;
    struct vhdx_guid         guid;
    bool                     is_old;
    int                      rc = find_link(scenario, world->storages[0], world->storages[1], &is_old, err);

    if (rc == VHDX_OK)
        rc = vx_stack_open(&new_stack, &new_storage, 1, NULL, ring(scenario), err);
    if (rc == VHDX_OK && is_old)
        rc = vx_stack_open(&old_stack, world->storages + 1, old_count, NULL, ring(scenario), err);
    if (rc == VHDX_OK) {
        guid = vx_image_data_write_guid(new_stack->disk.layers[0].image);
        vx_link_braced(linkage, &guid);
        rebase.new_parent = &new_stack->disk;
        rebase.old_parent = is_old ? &old_stack->disk : NULL;
        rc = vx_rebase(&rebase, &result, err);
    }
    vx_stack_close(old_stack, NULL);
    vx_stack_close(new_stack, NULL);
    return rc;
}

static unsigned
view_rebase(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
            struct vhdx_storage **storages, struct vhdx_error *err)
{
    (void)err;
    if (view > 0)
        return 0;
    if (!is_final && is_child_of(scenario, world->storages[0], world->storages[1])) {
        unsigned count = whole_chain(world, 0, storages);

        return scenario->is_base[world->count - 2] ? count - 1 : count;
    }
    storages[0] = world->storages[0];
    storages[1] = world->storages[world->count - 1];
    return 2;
}

/* --- relink: file 0 is a child of file 1, and file 2 has the same content --- */

static void
fill_alike(struct vhdx_storage *storage, unsigned number)
{
    chain_write(storage, number == 0 ? 8192 : 0, 4096, number == 0);
}

static int
run_relink(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    struct vx_image *image = open_quietly(scenario, world->storages[2], err);
    struct vhdx_guid guid;

    if (image == NULL)
        return err->code;
    guid = vx_image_data_write_guid(image);
    vx_image_close(image, NULL);
    return relink(scenario, world->storages[0], &guid, err);
}

static unsigned
view_relink(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
            struct vhdx_storage **storages, struct vhdx_error *err)
{
    bool is_old = !is_final && is_child_of(scenario, world->storages[0], world->storages[1]);

    (void)err;
    if (view > 0)
        return 0;
    storages[0] = world->storages[0];
    storages[1] = world->storages[is_old ? 1 : 2];
    return 2;
}

/* --- another type: the last file, alone or below its children --- */

/* Blocks in every state that an image without parent has. */
static void
fill_states(struct vhdx_storage *storage, unsigned number)
{
    if (number == 0)
        chain_write(storage, 0, (size_t)MIB(3), 1);
    else
        chain_write(storage, 8192, 4096, 5);
    chain_write(storage, MIB(4), (size_t)MIB(1) + 4096, 3);
    chain_zero(storage, MIB(2), MIB(1), false);
    chain_zero(storage, MIB(1), MIB(1), true);
}

static int
retype(const struct scenario *scenario, struct world *world, enum vhdx_image_type type, struct vhdx_error *err)
{
    const struct vx_retype   job = { .storage = world->storages[world->count - 1], .type = type,
                                     .how = scenario->merged > 0 ? VHDX_PREALLOCATE_FULL : VHDX_PREALLOCATE_DEFAULT,
                                     .log_length_for_tests = ring(scenario) };
    struct vhdx_chain_result result = { 0 };

    return vx_retype(&job, &result, err);
}

static int
run_to_fixed(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    return retype(scenario, world, VHDX_TYPE_FIXED, err);
}

static int
run_to_dynamic(const struct scenario *scenario, struct world *world, struct vhdx_error *err)
{
    return retype(scenario, world, VHDX_TYPE_DYNAMIC, err);
}

/* Of a fixed image, and of none other, every block has space.  When it is done it has the type. */
static bool
is_as_its_type_says(const struct scenario *scenario, struct vhdx_storage *storage, bool is_final, struct vhdx_error *err)
{
    struct vx_image *image = open_quietly(scenario, storage, err);
    bool             is_fixed, is_wanted, is_whole = true;

    if (image == NULL)
        return false;
    is_fixed = vx_image_geometry(image)->is_fixed;
    is_wanted = is_fixed == (scenario->run == run_to_fixed);
    for (uint64_t at = 0; is_fixed && at < vx_image_geometry(image)->virtual_size;) {
        struct vx_layer_extent extent = { .length = 1 };

        is_whole = vx_image_resolve(image, at, vx_image_geometry(image)->virtual_size - at, &extent, err) == VHDX_OK &&
                   extent.source == VX_LAYER_DATA && is_whole;
        at += extent.length;
    }
    vx_image_close(image, NULL);
    if (!is_whole || (is_final && !is_wanted))
        snprintf(err->message, sizeof err->message, "it is fixed: %d, and every block has space: %d", is_fixed, is_whole);
    return is_whole && (is_wanted || !is_final);
}

/* View 0 is the image alone, view 1 its child over it. */
static unsigned
view_retype(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
            struct vhdx_storage **storages, struct vhdx_error *err)
{
    if (view >= world->count || !is_as_its_type_says(scenario, world->storages[world->count - 1], is_final, err))
        return 0;
    return whole_chain(world, world->count - 1 - view, storages);
}

/* --- all of them --- */

#define DISK(unit, punch, trait) { .tear_unit = (unit), .can_punch = (punch), .extension_survives_as_zeros = (trait) }
#define BASE(size, block)  { (size), (block), 512, VHDX_TYPE_DYNAMIC }
#define CHILD(size, block) { (size), (block), 512, VHDX_TYPE_DIFFERENCING }
#define B1 ((uint32_t)1 << 20)
#define B2 ((uint32_t)2 << 20)

const struct scenario chain_scenarios[] = {
    {
        .name = "merge", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(4), B1), BASE(MIB(4), B1) }, .is_base = { false, true },
        .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge, sectors and pages of 4096, no holes", .disk = DISK(4096, false, false), .ring_sectors = 13,
        .merged = 1, .shapes = { { MIB(4), B2, 4096, VHDX_TYPE_DIFFERENCING }, { MIB(4), B1, 4096, VHDX_TYPE_DYNAMIC } },
        .is_base = { false, true }, .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge into a child", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(4), B1), CHILD(MIB(4), B2), BASE(MIB(4), B1) }, .is_base = { false, false, true },
        .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge two layers", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 2,
        .shapes = { CHILD(MIB(4), B1), CHILD(MIB(4), B2), BASE(MIB(4), B1) }, .is_base = { false, false, true },
        .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge of a larger child", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(5) + 512, B2), CHILD(MIB(3) + 1536, B1), BASE(MIB(5), B1) },
        .is_base = { false, false, true }, .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge of a smaller child", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(3) + 512, B1), CHILD(MIB(5), B2), BASE(MIB(4), B1) }, .is_base = { false, false, true },
        .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge into a fixed image", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(5), B1), { MIB(3) + 512, B1, 512, VHDX_TYPE_FIXED } }, .is_base = { false, true },
        .run = run_merge, .view = view_merge,
    },
    {
        .name = "merge under a child", .disk = DISK(512, true, true), .ring_sectors = 13, .merged = 1,
        .shapes = { CHILD(MIB(3), B2), CHILD(MIB(3), B1), BASE(MIB(3), B1) }, .is_base = { false, false, true },
        .run = run_merge_and_relink, .view = view_merge_and_relink,
    },
    {
        .name = "flatten", .disk = DISK(512, true, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(4), B1), CHILD(MIB(4), B2), BASE(MIB(4), B1) }, .is_base = { false, false, true },
        .run = run_flatten, .view = view_flatten,
    },
    {
        .name = "flatten a larger child, no holes", .disk = DISK(4096, false, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(5) + 512, B2), BASE(MIB(3) + 512, B1) }, .is_base = { false, true },
        .run = run_flatten, .view = view_flatten,
    },
    {
        .name = "rebase to the grandparent", .disk = DISK(512, true, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(4), B1), CHILD(MIB(4), B2), BASE(MIB(4), B1) }, .is_base = { false, false, true },
        .run = run_rebase, .view = view_rebase,
    },
    {
        .name = "rebase to a stranger", .disk = DISK(512, true, false), .ring_sectors = 13,
        .shapes = { CHILD(MIB(4), B2), BASE(MIB(4), B1), BASE(MIB(3), B2) }, .is_base = { false, true, true },
        .run = run_rebase, .view = view_rebase,
    },
    {
        .name = "relink", .disk = DISK(512, true, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(2), B1), BASE(MIB(2), B1), BASE(MIB(2), B1) }, .is_base = { false, true, true },
        .fill = fill_alike, .run = run_relink, .view = view_relink,
    },
    {
        .name = "to fixed", .disk = DISK(512, true, true), .ring_sectors = 13,
        .shapes = { BASE(MIB(7) + 512, B1) }, .is_base = { true },
        .fill = fill_states, .run = run_to_fixed, .view = view_retype,
    },
    {
        .name = "to fixed below a child, zeros written", .disk = DISK(4096, false, false), .ring_sectors = 13, .merged = 1,
        .shapes = { { MIB(7), B1, 4096, VHDX_TYPE_DIFFERENCING }, { MIB(7), B2, 4096, VHDX_TYPE_DYNAMIC } }, .is_base = { false, true },
        .fill = fill_states, .run = run_to_fixed, .view = view_retype,
    },
    {
        .name = "to dynamic below a child", .disk = DISK(512, true, true), .ring_sectors = 13,
        .shapes = { CHILD(MIB(6), B1), { MIB(6), B1, 512, VHDX_TYPE_FIXED } }, .is_base = { false, true },
        .fill = fill_states, .run = run_to_dynamic, .view = view_retype,
    },
};
const size_t chain_scenario_count = sizeof chain_scenarios / sizeof chain_scenarios[0];
