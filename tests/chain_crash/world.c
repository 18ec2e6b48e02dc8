#include "chain_crash.h"

#include <inttypes.h>

#include "walk.h"

static void
must(int rc, const char *what)
{
    chain_must(rc, what, &(struct vhdx_error){ .message = "" });
}

static uint32_t
ring(const struct scenario *scenario)
{
    return scenario->ring_sectors * 4096;
}

/* --- making --- */

/* Some data, zeros and trims, in whole blocks and in parts; `seed` makes files differ. */
static void
fill_some(struct vhdx_storage *storage, const struct chain_shape *shape, uint32_t seed)
{
    uint32_t sector = shape->sector_size;
    uint64_t last_block = (shape->size - 1) / CHAIN_MIB * CHAIN_MIB;

    chain_write(storage, seed * 16 * sector, 24 * sector, seed + 1);
    chain_write(storage, CHAIN_MIB * (1 + seed % 2), (size_t)CHAIN_MIB, seed + 1);
    chain_zero(storage, CHAIN_MIB * (1 + seed % 2) + 64 * sector, 32 * sector, false);
    if (seed > 0)
        chain_zero(storage, CHAIN_MIB * (2 - seed % 2), CHAIN_MIB, seed % 2 == 0);
    chain_write(storage, last_block, (size_t)(shape->size - last_block), seed + 1);
}

/* Bytes past the end of the disk, in the block that the end lies in: nobody sees them. */
static void
plant_stale_bytes(struct vhdx_storage *storage, const struct chain_shape *shape)
{
    struct vx_image       *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    uint32_t               length = shape->block_size - (uint32_t)(shape->size % shape->block_size);
    struct vx_layer_extent extent;
    struct vhdx_error      err = { .message = "" };
    uint8_t               *bytes = vx_alloc(length);

    if (bytes == NULL)
        abort();
    memset(bytes, 0xEE, length);
    chain_must(vx_image_resolve(image, shape->size - 1, 1, &extent, &err), "resolve", &err);
    if (extent.source == VX_LAYER_DATA)
        chain_must(vx_storage_write(storage, bytes, length, extent.file_offset + 1, &err), "write", &err);
    vx_image_close(image, NULL);
    vx_free(bytes);
}

void
world_make(const struct scenario *scenario, struct world *out)
{
    *out = (struct world){ .count = 0 };
    while (out->count < WORLD_MOST && scenario->shapes[out->count].size > 0)
        must(vx_fault_new(&out->disks[out->count++], &scenario->disk, NULL), "fault disk");
    world_open(out);
    for (unsigned i = out->count; i-- > 0;) {
        if (scenario->is_base[i])
            chain_make_base(out->storages[i], &scenario->shapes[i]);
        else
            chain_make_child(out->storages[i], out->storages[i + 1], &scenario->shapes[i]);
        if (scenario->fill == NULL)
            fill_some(out->storages[i], &scenario->shapes[i], out->count - 1 - i);
        else
            scenario->fill(out->storages[i], i);
    }
    if (scenario->has_stale_bytes)
        plant_stale_bytes(out->storages[0], &scenario->shapes[0]);
    if (scenario->mends_table)
        must(vx_storage_write(out->storages[0], "damaged", 8, VX_REGION_TABLE_OFFSET(1) + 4, NULL), "region table");
    for (unsigned i = 0; i < out->count; i++)
        must(vx_storage_flush(out->storages[i], NULL), "flush");
    world_close(out);
}

void
world_open(struct world *world)
{
    for (unsigned i = 0; i < world->count; i++)
        must(vx_fault_open(&world->storages[i], world->disks[i], false, NULL), "storage");
}

void
world_close(struct world *world)
{
    for (unsigned i = 0; i < world->count; i++) {
        vhdx_storage_close(world->storages[i]);
        world->storages[i] = NULL;
    }
}

void
world_clone(struct world *out, const struct world *world)
{
    *out = (struct world){ .count = world->count };
    for (unsigned i = 0; i < world->count; i++)
        must(vx_fault_clone(&out->disks[i], world->disks[i], NULL), "clone");
}

void
world_free(struct world *world)
{
    world_close(world);
    for (unsigned i = 0; i < world->count; i++)
        vx_fault_free(world->disks[i]);
    world->count = 0;
}

void
world_cut(struct world *world, unsigned kind, uint64_t seed)
{
    for (unsigned i = 0; i < world->count; i++) {
        enum vx_fault_keep keep = kind == 0 ? VX_KEEP_NONE : kind == 1 ? VX_KEEP_ALL
                                                                      : (enum vx_fault_keep)(seed % VX_KEEP_COUNT);

        must(vx_fault_power_cut(world->disks[i], keep, kind > 1 && seed % 3 == 0, seed), "power cut");
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        seed ^= seed >> 29;
    }
}

/* --- reading --- */

static uint8_t *
read_view(const struct scenario *scenario, struct world *world, unsigned view, bool is_final, uint64_t *size,
          int *rc, struct vhdx_error *err)
{
    struct vhdx_storage *storages[WORLD_MOST];
    unsigned             count = scenario->view(scenario, world, view, is_final, storages, err);

    if (count == 0) {
        *rc = VHDX_E_NO_PARENT;
        return NULL;
    }
    return chain_try_read(storages, count, ring(scenario), size, rc, err);
}

struct facts
world_facts(struct world *world, unsigned file)
{
    struct facts facts = { .data_guid = chain_guid(world->storages[file]),
                           .allocated = vx_fault_allocated(world->disks[file]) };

    must(vx_storage_get_size(world->storages[file], &facts.length, NULL), "length");
    return facts;
}

/* What the job makes of the files when nobody cuts it. */
static void
expect_facts(const struct scenario *scenario, const struct world *fresh, struct expectation *out)
{
    struct vhdx_error err = { .message = "" };
    struct world      world;

    world_clone(&world, fresh);
    world_open(&world);
    for (unsigned i = 0; i < world.count; i++)
        out->before[i] = world_facts(&world, i);
    chain_must(scenario->run(scenario, &world, &err), scenario->name, &err);
    for (unsigned i = 0; i < world.count; i++)
        out->after[i] = world_facts(&world, i);
    world_free(&world);
}

void
expectation_make(const struct scenario *scenario, struct world *world, struct expectation *out)
{
    struct vhdx_error err = { .message = "no view" };
    int               rc;

    *out = (struct expectation){ .count = 0 };
    world_open(world);
    while (out->count < VIEW_MOST) {
        struct content *content = &out->views[out->count];

        content->bytes = read_view(scenario, world, out->count, false, &content->size, &rc, &err);
        if (content->bytes == NULL && out->count > 0)
            break;
        chain_must(rc, scenario->name, &err);
        out->count++;
    }
    world_close(world);
    if (scenario->judge != NULL)
        expect_facts(scenario, world, out);
}

void
expectation_free(struct expectation *expectation)
{
    for (unsigned i = 0; i < expectation->count; i++)
        vx_free(expectation->views[i].bytes);
}

/* May the disk have this size now? */
static bool
is_size_allowed(const struct scenario *scenario, uint64_t old_size, uint64_t size, bool is_final)
{
    if (scenario->new_size == 0)
        return size == old_size;
    return size == scenario->new_size || (!is_final && size == old_size);
}

static bool
is_free(const struct scenario *scenario, uint64_t at)
{
    bool is_free = false;

    for (size_t i = 0; i < scenario->free_count && !is_free; i++)
        is_free = at >= scenario->free[i].from && at < scenario->free[i].to;
    return is_free;
}

/* *is_same becomes false when something differs that may. */
static bool
same_bytes(const struct scenario *scenario, const struct content *expected, const uint8_t *bytes, uint64_t size,
           bool is_final, unsigned view, const char *when, bool *is_same)
{
    if (!is_size_allowed(scenario, expected->size, size, is_final)) {
        printf("# %s, %s, view %u: %" PRIu64 " bytes instead of %" PRIu64 "\n", scenario->name, when, view, size,
               scenario->new_size != 0 ? scenario->new_size : expected->size);
        return false;
    }
    if (scenario->new_size != 0 && scenario->new_size < size)
        size = scenario->new_size; /* what is cut off was given up */
    for (uint64_t at = 0; at < size; at++) {
        uint8_t right = at < expected->size ? expected->bytes[at] : 0;

        if (at % 4096 == 0 && at + 4096 <= vx_min_u64(size, expected->size) &&
            memcmp(bytes + at, expected->bytes + at, 4096) == 0) {
            at += 4095;
            continue;
        }
        if (bytes[at] == right)
            continue;
        *is_same = false;
        if (bytes[at] == 0 && is_free(scenario, at))
            continue;
        printf("# %s, %s, view %u: byte %" PRIu64 " is %u instead of %u\n", scenario->name, when, view, at, bytes[at],
               right);
        return false;
    }
    return true;
}

bool
world_reads(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
            bool is_final, const char *when)
{
    bool is_good = true, is_same = true;

    world_open(world);
    for (unsigned i = 0; i < expectation->count && is_good; i++) {
        struct vhdx_error err = { .message = "" };
        uint64_t          size = 0;
        int               rc;
        uint8_t          *bytes = read_view(scenario, world, i, is_final, &size, &rc, &err);

        if (bytes == NULL) {
            printf("# %s, %s, view %u: %s: %s\n", scenario->name, when, i, vhdx_code_name(rc), err.message);
            is_good = false;
        } else {
            is_good = same_bytes(scenario, &expectation->views[i], bytes, size, is_final, i, when, &is_same);
        }
        vx_free(bytes);
    }
    if (is_good && scenario->judge != NULL && !scenario->judge(scenario, world, expectation, is_same, is_final)) {
        printf("# %s, %s\n", scenario->name, when);
        is_good = false;
    }
    world_close(world);
    return is_good;
}

/* --- structure --- */

struct judging {
    const struct scenario *scenario;
    bool                   is_sound;
};

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct judging *j = context;

    if (finding->severity <= VHDX_SEVERITY_WARN || (finding->rule == 56 && j->scenario->mends_table))
        return;
    printf("# V%d: %s\n", finding->rule, finding->message);
    j->is_sound = false;
}

/* An image that a job left dirty is replayed by the next one that opens it. */
static bool
settle(const struct scenario *scenario, struct vhdx_storage *storage, struct vx_geometry *geometry)
{
    const struct vx_image_options options = { .is_writable = true, .data_guid = VX_DATA_GUID_KEEP,
                                              .log_length_for_tests = ring(scenario) };
    struct vhdx_error err = { .message = "" };
    struct vx_image  *image;

    if (vx_image_open(&image, storage, &options, &err) < 0) {
        printf("# opened for writing: %s\n", err.message);
        return false;
    }
    *geometry = *vx_image_geometry(image);
    return vx_image_close(image, NULL) == VHDX_OK;
}

bool
world_is_sound(const struct scenario *scenario, struct world *world, const char *when)
{
    struct judging j = { .scenario = scenario, .is_sound = true };

    world_open(world);
    for (unsigned i = 0; i < world->count && j.is_sound; i++) {
        struct vhdx_check_summary summary;
        struct vx_geometry        geometry = { .block_size = 0 };
        struct vhdx_error         err = { .message = "" };
        char                      why[160] = "";

        j.is_sound = settle(scenario, world->storages[i], &geometry);
        if (j.is_sound && vhdx_check_storage(world->storages[i], NULL, take_finding, &j, NULL, &summary, &err) < 0)
            j.is_sound = false;
        if (j.is_sound)
            j.is_sound = walk_image(world->storages[i], geometry.block_size, geometry.chunk_ratio,
                                  geometry.is_differencing, why, sizeof why);
        if (!j.is_sound)
            printf("# %s, %s, file %u: %s %s\n", scenario->name, when, i, err.message, why);
    }
    world_close(world);
    return j.is_sound;
}

bool
world_examine(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
              const char *when)
{
    struct vhdx_error err = { .message = "" };
    struct world      copy;
    bool              is_sound;
    int               rc;

    if (!world_reads(scenario, world, expectation, false, when))
        return false;
    world_clone(&copy, world);
    is_sound = world_is_sound(scenario, &copy, when);
    world_free(&copy);
    if (!is_sound)
        return false;
    world_open(world);
    rc = scenario->run(scenario, world, &err);
    world_close(world);
    if (rc < 0) {
        printf("# %s, %s: called again: %s: %s\n", scenario->name, when, vhdx_code_name(rc), err.message);
        return false;
    }
    return world_reads(scenario, world, expectation, true, when) && world_is_sound(scenario, world, when);
}
