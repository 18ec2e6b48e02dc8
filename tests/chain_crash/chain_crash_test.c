/*
 * Merge, rebase, flatten, relink, compact, resize and changes of metadata, crashed at every storage call and failed at every one.
 *
 *   chain_crash_test                 the share of `make check`: every 17th call of each job, those the seed says
 *   chain_crash_test --stride N      every Nth call; 1: all of them
 *   chain_crash_test --cuts N        more power cuts at each call (the default is 3)
 *   chain_crash_test --only NAME     one scenario
 *   chain_crash_test --seed N        other calls and other cuts; what failed fails again with the same words
 *
 * What must be true, at every call and whatever survived of each file:
 *   - every chain reads as before, through files that match by GUID;
 *   - the job called again finishes;
 *   - then the result reads the same and every file is sound.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "chain_crash.h"

#include "base/breakage.h"
#include "tap.h"

struct run {
    const struct scenario    *scenario;
    const struct expectation *expectation;
    struct world             *world;
    unsigned                  cuts;
    uint64_t                  stride, phase; /* calls n with n % stride == phase are looked at */
    uint64_t                  seed, states;
    bool                      only_flushes; /* before a flush the most is at stake */
    bool                      is_violated;
};

static uint64_t
next_seed(struct run *run)
{
    uint64_t x = run->seed += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static bool
is_chosen(const struct run *run, uint64_t n)
{
    return n % run->stride == run->phase;
}

/* --- crashes --- */

/* The power goes now.  kind 0, 1: nothing, everything survives; more: as it comes; with is_kill only the process goes, and the
 * power after the job was called again. */
static void
crash_now(struct run *run, const char *when, unsigned kind, bool is_kill)
{
    struct world copy;
    uint64_t     seed = next_seed(run);

    world_clone(&copy, run->world);
    if (!is_kill)
        world_cut(&copy, kind, seed);
    run->states++;
    run->is_violated = !world_examine(run->scenario, &copy, run->expectation, when);
    if (!run->is_violated && is_kill) {
        world_cut(&copy, kind, seed);
        run->is_violated = !world_reads(run->scenario, &copy, run->expectation, true, "finished, then a power cut");
    }
    if (run->is_violated)
        printf("# %s, cut kind %u, kill %d, seed %" PRIu64 "\n", when, kind, is_kill, seed);
    world_free(&copy);
}

struct moment {
    struct run *run;
    char        when[80];
};

static void *
crash_in_thread(void *context)
{
    const struct moment *moment = context;
    struct run          *run = moment->run;

    for (unsigned kind = 0; kind < run->cuts && !run->is_violated; kind++)
        crash_now(run, moment->when, kind, false);
    if (!run->is_violated && next_seed(run) % 4 == 0)
        crash_now(run, moment->when, (unsigned)(next_seed(run) % 3), true);
    return NULL;
}

/* The job stands inside of a storage call and may hold locks of its image: the examination, which opens images of its own,
 * is another thread's, since the checks of lock order are about threads. */
static void
on_call(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct moment moment = { .run = context };
    unsigned      file = 0;
    pthread_t     thread;

    if (event->is_done || moment.run->is_violated || !is_chosen(moment.run, event->call_number) ||
        (moment.run->only_flushes && event->kind != VX_CALL_FLUSH))
        return;
    while (moment.run->world->disks[file] != fault)
        file++;
    snprintf(moment.when, sizeof moment.when, "before call %" PRIu64 " (kind %d) of file %u", event->call_number,
             (int)event->kind, file);
    if (pthread_create(&thread, NULL, crash_in_thread, &moment) != 0)
        abort();
    pthread_join(thread, NULL);
}

static void
crash_everywhere(struct run *run, const struct world *fresh)
{
    struct vhdx_error err = { .message = "" };
    struct world      world;
    int               rc;

    world_clone(&world, fresh);
    run->world = &world;
    for (unsigned i = 0; i < world.count; i++)
        vx_fault_set_hook(world.disks[i], on_call, run);
    world_open(&world);
    rc = run->scenario->run(run->scenario, &world, &err);
    world_close(&world);
    for (unsigned i = 0; i < world.count; i++)
        vx_fault_set_hook(world.disks[i], NULL, NULL);
    if (rc < 0 && !run->is_violated) {
        printf("# %s: %s\n", run->scenario->name, err.message);
        run->is_violated = true;
    }
    if (!run->is_violated) /* done: and then the power goes */
        crash_now(run, "after the last call", 0, false);
    world_free(&world);
}

/* --- failures --- */

/* The n-th call of one file fails.  Returns false when the job made no such call. */
static bool
fail_call(struct run *run, const struct world *fresh, unsigned file, uint64_t n, int system_errno)
{
    struct vhdx_error  err = { .message = "" };
    struct world       world;
    enum vx_fault_call what = VX_CALL_READ;
    bool               has_failed;
    char               when[80];
    int                rc;

    world_clone(&world, fresh);
    run->world = &world;
    world_open(&world);
    vx_fault_fail_nth(world.disks[file], n, UINT32_MAX, system_errno, next_seed(run));
    rc = run->scenario->run(run->scenario, &world, &err);
    has_failed = vx_fault_has_failed(world.disks[file], &what);
    world_close(&world);
    vx_fault_fail_nth(world.disks[file], 0, 0, 0, 0);
    snprintf(when, sizeof when, "call %" PRIu64 " (kind %d) of file %u failed with %d", n, (int)what, file, system_errno);
    if (has_failed) {
        run->states++;
        if (rc == VHDX_OK && what != VX_CALL_ZERO && what != VX_CALL_SET_SIZE && what != VX_CALL_ALLOCATE &&
            what != VX_CALL_NEXT_DATA) {
            printf("# %s, %s: and nobody was told\n", run->scenario->name, when);
            run->is_violated = true;
        }
        if (rc < 0 && err.message[0] == '\0') {
            printf("# %s, %s: no message\n", run->scenario->name, when);
            run->is_violated = true;
        }
        if (!run->is_violated)
            run->is_violated = !world_reads(run->scenario, &world, run->expectation, false, when);
        if (!run->is_violated)
            crash_now(run, when, (unsigned)(next_seed(run) % 3), false);
    }
    world_free(&world);
    return has_failed;
}

static void
fail_everywhere(struct run *run, const struct world *fresh)
{
    static const int errors[] = { EIO, ENOSPC };

    for (unsigned file = 0; file < fresh->count; file++) {
        uint64_t n = 1;

        while (!run->is_violated && (!is_chosen(run, n) || fail_call(run, fresh, file, n, errors[n % 2])))
            n++;
    }
}

/* The n-th allocation fails.  Returns false when the job made no such allocation. */
static bool
fail_allocation(struct run *run, const struct world *fresh, size_t n)
{
    struct vhdx_error err = { .message = "" };
    struct world      world;
    char              when[80];
    size_t            made;
    int               rc;

    world_clone(&world, fresh);
    run->world = &world;
    world_open(&world);
    vx_alloc_fail_nth_for_tests(n);
    rc = run->scenario->run(run->scenario, &world, &err);
    made = vx_alloc_fail_nth_for_tests(0);
    world_close(&world);
    snprintf(when, sizeof when, "allocation %zu failed", n);
    if (made >= n) {
        run->states++;
        if (rc < 0 && rc != VHDX_E_NO_MEMORY) {
            printf("# %s, %s: %s: %s\n", run->scenario->name, when, vhdx_code_name(rc), err.message);
            run->is_violated = true;
        }
        if (!run->is_violated)
            crash_now(run, when, (unsigned)(next_seed(run) % 3), false);
    }
    world_free(&world);
    return made >= n;
}

/* --- all of it --- */

static void
run_scenario(const struct scenario *scenario, unsigned cuts, uint64_t stride, uint64_t seed)
{
    struct expectation expectation;
    struct world       fresh;
    struct run         run = { .scenario = scenario, .expectation = &expectation, .cuts = cuts, .stride = stride, .seed = seed };
    uint64_t           states;

    run.phase = next_seed(&run) % stride;
    world_make(scenario, &fresh);
    expectation_make(scenario, &fresh, &expectation);
    crash_everywhere(&run, &fresh);
    tap_ok(!run.is_violated, "%s: %" PRIu64 " crashes (seed %" PRIu64 ", stride %" PRIu64 ")", scenario->name, run.states,
           seed, stride);
    states = run.states;
    if (!run.is_violated) {
        fail_everywhere(&run, &fresh);
        tap_ok(!run.is_violated, "%s: %" PRIu64 " failing calls", scenario->name, run.states - states);
    }
    if (!run.is_violated) {
        states = run.states;
        for (size_t n = 1; !run.is_violated && (!is_chosen(&run, n) || fail_allocation(&run, &fresh, n)); n++)
            continue;
        tap_ok(!run.is_violated, "%s: %" PRIu64 " failing allocations", scenario->name, run.states - states);
    }
    expectation_free(&expectation);
    world_free(&fresh);
}

/* --- the tests notice --- */

#define BITE_CUTS 40

/* What breaks compacting when it is switched on (docs/durability.md, section 7).  Some breakages cannot hurt it: a plan gives no
 * place that a move has left to another block, so space freed too early is not used twice. */
static const struct bite {
    const char       *about, *scenario;
    enum vx_breakage  breakage;
} bites[] = {
    { "a move without the payload's flush", "compact", VX_BREAK_ONE_FLUSH_ON_USED },
    { "gaps of the new place left as they were", "compact, no holes", VX_BREAK_NO_FILL },
    { "the old place a hole before the entry is durable", "compact", VX_BREAK_FREE_AT_GATHER },
    { "the log let go of before the pages are durable", "compact", VX_BREAK_CLOSE_NO_FLUSH },
    { "a table named before it is durable", "grow a dynamic disk, no holes, the table moves", VX_BREAK_ONE_FLUSH_ON_USED },
};

/* All scenarios, one after the other; NULL after the last. */
static const struct scenario *
scenario_at(size_t i)
{
    const struct {
        const struct scenario *scenarios;
        size_t                 count;
    } tables[] = {
        { chain_scenarios, chain_scenario_count }, { compact_scenarios, compact_scenario_count },
        { resize_scenarios, resize_scenario_count }, { metadata_scenarios, metadata_scenario_count },
    };

    for (size_t t = 0; t < sizeof tables / sizeof tables[0]; t++) {
        if (i < tables[t].count)
            return &tables[t].scenarios[i];
        i -= tables[t].count;
    }
    return NULL;
}

static const struct scenario *
find_scenario(const char *name)
{
    const struct scenario *scenario;

    for (size_t i = 0; (scenario = scenario_at(i)) != NULL; i++)
        if (strcmp(scenario->name, name) == 0)
            return scenario;
    abort();
}

/* In a process of its own, quietly: what is broken may abort. */
static bool
is_noticed(const struct bite *bite, uint64_t seed)
{
    struct expectation expectation;
    struct world       fresh;
    struct run         run = { .scenario = find_scenario(bite->scenario), .expectation = &expectation, .cuts = BITE_CUTS,
                               .stride = 1, .only_flushes = true, .seed = seed };
    int                status = 0;
    pid_t              child;

    fflush(stdout);
    child = fork();
    if (child < 0)
        abort();
    if (child > 0)
        return waitpid(child, &status, 0) == child && status != 0;
    if (freopen("/dev/null", "w", stdout) == NULL)
        _exit(0);
    world_make(run.scenario, &fresh);
    expectation_make(run.scenario, &fresh, &expectation);
    vx_breakage_for_tests = bite->breakage;
    crash_everywhere(&run, &fresh);
    _exit(run.is_violated ? 1 : 0);
}

int
main(int argc, char **argv)
{
    const struct scenario *scenario;
    unsigned    cuts = 3;
    uint64_t    seed = 1, stride = 17; /* odd: the errors that calls fail with alternate */
    const char *only = NULL;

    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--cuts") == 0)
            cuts = (unsigned)strtoul(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--stride") == 0)
            stride = strtoull(argv[i + 1], NULL, 10);
        else if (strcmp(argv[i], "--only") == 0)
            only = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            seed = strtoull(argv[i + 1], NULL, 10);
    }
    for (size_t i = 0; (scenario = scenario_at(i)) != NULL; i++) {
        if (only == NULL || strcmp(only, scenario->name) == 0)
            run_scenario(scenario, cuts, stride > 0 ? stride : 1, seed);
    }
    for (size_t i = 0; i < sizeof bites / sizeof bites[0]; i++)
        if (only == NULL || strcmp(only, bites[i].about) == 0)
            tap_ok(is_noticed(&bites[i], seed), "%s: %s is noticed", bites[i].scenario, bites[i].about);
    return tap_end();
}
