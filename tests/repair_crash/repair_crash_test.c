/*
 * Repairs that are cut.  Every damaged image of src/ops/damage_fixture.h lies on a fault disk and is repaired, with an undo
 * file on a disk of its own; before a call, and at each one in turn, both lose power.  Then
 *   - the image opens no worse than before, and what could be read reads the same;
 *   - the same repair, called again, ends where it would have ended without the cut;
 *   - or the undo file, as it is, gives back every byte and the length.
 * The same with calls and allocations that fail.
 *
 *   repair_crash_test [--stride N] [--cuts N] [--seed N] [--only CASE]
 */
#include "ops/repair_fixture.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include <vhdx/repair.h>

#include "storage/fault.h"
#include "storage/undo.h"
#include "tap.h"

/* --- files on disks that can lose power --- */

enum { IMAGE, UNDO, FILE_COUNT };

struct world {
    struct vx_fault     *disks[FILE_COUNT];
    struct vhdx_storage *storages[FILE_COUNT]; /* open ones, or NULL */
};

static void
must(bool is_good, const char *what)
{
    if (!is_good) {
        printf("Bail out! %s\n", what);
        exit(1);
    }
}

static void
close_world(struct world *world)
{
    for (int file = 0; file < FILE_COUNT; file++) {
        vhdx_storage_close(world->storages[file]);
        world->storages[file] = NULL;
    }
}

static void
open_world(struct world *world)
{
    for (int file = 0; file < FILE_COUNT; file++)
        must(vx_fault_open(&world->storages[file], world->disks[file], false, NULL) == VHDX_OK, "open");
}

static void
free_world(struct world *world)
{
    close_world(world);
    for (int file = 0; file < FILE_COUNT; file++)
        vx_fault_free(world->disks[file]);
}

static void
clone_world(struct world *out, const struct world *world)
{
    *out = (struct world){ .disks = { NULL } };
    for (int file = 0; file < FILE_COUNT; file++)
        must(vx_fault_clone(&out->disks[file], world->disks[file], NULL) == VHDX_OK, "clone");
}

/* The damaged image, durable. */
static void
make_world(struct world *world, struct vhdx_storage *damaged)
{
    const struct vx_fault_options options = { .tear_unit = 512, .can_punch = true };
    uint64_t size, start = 0, end;
    static uint8_t buffer[1 << 20];

    *world = (struct world){ .disks = { NULL } };
    for (int file = 0; file < FILE_COUNT; file++)
        must(vx_fault_new(&world->disks[file], &options, NULL) == VHDX_OK, "a disk");
    open_world(world);
    vx_storage_get_size(damaged, &size, NULL);
    must(vx_storage_set_size(world->storages[IMAGE], size, NULL) == VHDX_OK, "the size");
    while (vx_storage_next_data(damaged, start, &start, &end, NULL) == VHDX_OK && start < end) {
        size_t n = (size_t)vx_min_u64(end - start, sizeof buffer);

        must(vx_storage_read(damaged, buffer, n, start, NULL) == VHDX_OK &&
             vx_storage_write(world->storages[IMAGE], buffer, n, start, NULL) == VHDX_OK, "the bytes");
        start += n;
    }
    must(vx_storage_flush(world->storages[IMAGE], NULL) == VHDX_OK, "the flush");
    close_world(world);
}

/* --- the job --- */

static const struct vx_undo_tags tags = { { VX_HEADER_OFFSET(0) + 16, VX_HEADER_OFFSET(1) + 16 } };

static int
repair(struct vhdx_storage *storage, struct vhdx_error *err)
{
    const struct vhdx_repair_options options = { .classes = VHDX_REPAIR_ALL };

    return vhdx_repair_storage(storage, &options, NULL, NULL, NULL, NULL, err);
}

static int
repair_with_undo(struct world *world, struct vhdx_error *err)
{
    struct vhdx_storage *undo;
    int rc = vx_undo_new(&undo, world->storages[IMAGE], world->storages[UNDO], &tags, err);

    if (rc < 0)
        return rc;
    rc = repair(undo, err);
    if (rc == VHDX_OK)
        rc = vx_undo_finish(undo, err);
    vhdx_storage_close(undo);
    return rc;
}

/* --- what must be true --- */

struct run {
    const struct damage_case *c;
    struct vhdx_storage      *good, *damaged; /* without the fault, and with it */
    struct broken             before, after;  /* of the damaged one, and repaired without a cut */
    int                       rc;             /* of the repair without a cut */
    struct world             *world;
    unsigned                  cuts;
    uint64_t                  stride, phase, seed, states;
    bool                      is_violated;
};

static uint64_t
next_seed(struct run *run)
{
    uint64_t x = run->seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return x ^ x >> 27;
}

/* 0: opens for writing, 1: for reading, 2: not at all. */
static int
how_it_opens(const struct broken *broken)
{
    enum vhdx_severity worst = worst_of(broken);

    return worst == VHDX_SEVERITY_REFUSE ? 2 : worst >= VHDX_SEVERITY_RO ? 1 : 0;
}

static bool
violated(struct run *run, const char *when, const char *what)
{
    if (!run->is_violated)
        printf("# %s: %s: %s\n", run->c->about, when, what);
    run->is_violated = true;
    return false;
}

static bool
reads_the_same(struct run *run, struct vhdx_storage *storage)
{
    struct vhdx_disk *before = open_disk(run->damaged), *now = open_disk(storage);
    uint64_t differ = 0, unreadable = 0;

    if (before != NULL)
        compare(run->damaged, storage, &differ, &unreadable);
    else if (now != NULL) /* what the fault has spoilt may be unreadable until the end */
        compare(run->good, storage, &differ, &unreadable);
    unreadable = before != NULL ? unreadable : 0;
    vhdx_disk_close(before, NULL);
    vhdx_disk_close(now, NULL);
    return differ == 0 && unreadable == 0;
}

/* What is broken still; space may have been lost in the run that was cut. */
static bool
ends_alike(const struct run *run, const struct broken *now)
{
    for (int rule = 1; rule < RULES; rule++) {
        bool is_broken = now->worst[rule] != VHDX_SEVERITY_NONE, was_broken = run->after.worst[rule] != VHDX_SEVERITY_NONE;

        if (is_broken && !was_broken && rule != 148 && rule != 149)
            return false;
        if (now->worst[rule] > VHDX_SEVERITY_WARN && !was_broken)
            return false;
    }
    return true;
}

static bool
examine_repair(struct run *run, struct world *world, const char *when)
{
    struct vhdx_storage *storage = world->storages[IMAGE];
    struct vhdx_error err = { .message = "" };
    struct broken now = look(storage);

    if (how_it_opens(&now) > how_it_opens(&run->before))
        return violated(run, when, "it opens worse than before");
    if (!reads_the_same(run, storage))
        return violated(run, when, "it reads differently");
    if (repair(storage, &err) != run->rc)
        return violated(run, when, err.message[0] != '\0' ? err.message : "the repair ends otherwise");
    now = look(storage);
    if (!ends_alike(run, &now))
        return violated(run, when, "called again, it does not end where it should");
    if (!reads_the_same(run, storage))
        return violated(run, when, "called again, it reads differently");
    return true;
}

/* An undo file whose first page was never durable says that nothing was written. */
static bool
examine_undo(struct run *run, struct world *world, const char *when)
{
    struct vhdx_error err = { .message = "" };
    int rc = vx_undo_apply(world->storages[UNDO], world->storages[IMAGE], &tags, &err);

    if (rc < 0 && !are_equal(run->damaged, world->storages[IMAGE]))
        return violated(run, when, err.message);
    if (!are_equal(run->damaged, world->storages[IMAGE]))
        return violated(run, when, "undone, it is not what it was");
    return true;
}

static void
cut_world(struct world *world, enum vx_fault_keep keep, uint64_t seed)
{
    for (int file = 0; file < FILE_COUNT; file++)
        must(vx_fault_power_cut(world->disks[file], keep, true, seed + (uint64_t)file) == VHDX_OK, "a cut");
}

static void
examine(struct run *run, const struct world *world, bool is_undo, const char *when)
{
    struct world copy;

    clone_world(&copy, world);
    open_world(&copy);
    (void)(is_undo ? examine_undo(run, &copy, when) : examine_repair(run, &copy, when));
    free_world(&copy);
    run->states++;
}

/* --- cuts --- */

struct moment {
    struct run *run;
    char        when[80];
};

static void *
cut_here(void *context)
{
    struct moment *moment = context;
    struct run *run = moment->run;
    struct world copy;

    for (unsigned i = 0; i < run->cuts && !run->is_violated; i++) {
        uint64_t seed = next_seed(run);

        clone_world(&copy, run->world);
        cut_world(&copy, (enum vx_fault_keep)(seed % VX_KEEP_COUNT), seed);
        examine(run, &copy, (seed >> 32) % 3 == 0, moment->when);
        free_world(&copy);
    }
    return NULL;
}

/* In a thread of its own: the repair may hold locks of an image, and looking opens others. */
static void
on_call(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct moment moment = { .run = context };
    pthread_t thread;

    if (event->is_done || moment.run->is_violated || event->call_number % moment.run->stride != moment.run->phase)
        return;
    snprintf(moment.when, sizeof moment.when, "before call %" PRIu64 " (kind %d) of the %s", event->call_number,
             (int)event->kind, fault == moment.run->world->disks[IMAGE] ? "image" : "undo file");
    must(pthread_create(&thread, NULL, cut_here, &moment) == 0, "a thread");
    pthread_join(thread, NULL);
}

static void
cut_everywhere(struct run *run, const struct world *fresh)
{
    struct vhdx_error err = { .message = "" };
    struct world world;

    clone_world(&world, fresh);
    run->world = &world;
    for (int file = 0; file < FILE_COUNT; file++)
        vx_fault_set_hook(world.disks[file], on_call, run);
    open_world(&world);
    (void)repair_with_undo(&world, &err);
    for (int file = 0; file < FILE_COUNT; file++)
        vx_fault_set_hook(world.disks[file], NULL, NULL);
    close_world(&world);
    if (!run->is_violated) { /* the end: what was told is durable */
        cut_world(&world, VX_KEEP_NONE, 1);
        examine(run, &world, false, "at the end");
        examine(run, &world, true, "at the end");
    }
    free_world(&world);
}

/* --- calls that fail --- */

/* True while there is an n-th call to fail. */
static bool
fail_call(struct run *run, const struct world *fresh, uint64_t n)
{
    struct vhdx_error err = { .message = "" };
    struct world world;
    bool has_failed;
    char when[80];

    clone_world(&world, fresh);
    open_world(&world);
    vx_fault_fail_nth(world.disks[IMAGE], n, UINT32_MAX, n % 2 == 0 ? EIO : ENOSPC, n);
    (void)repair_with_undo(&world, &err);
    has_failed = vx_fault_has_failed(world.disks[IMAGE], NULL);
    vx_fault_fail_nth(world.disks[IMAGE], 0, 0, 0, 0);
    close_world(&world);
    snprintf(when, sizeof when, "after call %" PRIu64 " failed", n);
    cut_world(&world, VX_KEEP_ALL, n);
    examine(run, &world, n % 3 == 0, when);
    free_world(&world);
    return has_failed;
}

/* The same of an allocation. */
static bool
fail_allocation(struct run *run, const struct world *fresh, size_t n)
{
    struct vhdx_error err = { .message = "" };
    struct world world;
    size_t made;
    int rc;

    clone_world(&world, fresh);
    open_world(&world);
    vx_alloc_fail_nth_for_tests(n);
    rc = repair_with_undo(&world, &err);
    made = vx_alloc_fail_nth_for_tests(0);
    close_world(&world);
    if (made >= n && rc != VHDX_E_NO_MEMORY && rc != run->rc)
        (void)violated(run, "an allocation failed", err.message);
    cut_world(&world, VX_KEEP_ALL, n);
    examine(run, &world, n % 3 == 0, "after an allocation failed");
    free_world(&world);
    return made >= n;
}

/* --- cases --- */

static bool
needs_repair(const struct run *run)
{
    for (int rule = 1; rule < RULES; rule++) {
        if (run->before.worst[rule] > run->after.worst[rule])
            return true;
    }
    return false;
}

static void
run_case(const struct damage_case *c, const struct run *settings)
{
    struct run run = *settings;
    struct image image, good;
    struct vhdx_storage *mended;
    struct vhdx_error err;
    struct world fresh;
    uint64_t cuts;

    build(&good, c->kind);
    build_case(&image, c);
    run.c = c;
    run.good = good.storage;
    run.damaged = image.storage;
    mended = copy_of(image.storage);
    run.before = look(mended);
    run.rc = repair(mended, &err);
    run.after = look(mended);
    if (needs_repair(&run)) {
        make_world(&fresh, run.damaged);
        cut_everywhere(&run, &fresh);
        cuts = run.states;
        for (uint64_t n = 1 + run.phase; !run.is_violated && fail_call(&run, &fresh, n); n += run.stride)
            continue;
        for (size_t n = 1 + run.phase; !run.is_violated && fail_allocation(&run, &fresh, n); n += 4 * run.stride)
            continue;
        tap_ok(!run.is_violated, "%s: %" PRIu64 " cuts, %" PRIu64 " failures", c->about, cuts, run.states - cuts);
        free_world(&fresh);
    }
    vhdx_storage_close(mended);
    vhdx_storage_close(image.storage);
    vhdx_storage_close(good.storage);
}

int
main(int argc, char **argv)
{
    struct run settings = { .cuts = 1, .stride = 19, .seed = 1 };
    const char *only = NULL;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cuts") == 0)
            settings.cuts = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--stride") == 0)
            settings.stride = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--seed") == 0)
            settings.seed = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (only != NULL && strcmp(only, cases[i].about) != 0)
            continue;
        settings.phase = i % settings.stride; /* all calls are looked at, by one case or another */
        settings.seed += i;
        run_case(&cases[i], &settings);
    }
    return tap_end();
}
