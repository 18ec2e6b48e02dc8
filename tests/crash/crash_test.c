/*
 * Random work, crashed everywhere.
 *
 *   crash_test                     the share of `make check`: at least 100,000 different crash states
 *   crash_test --long SECONDS      for hours
 *   crash_test --seed N            begin at another seed
 *   crash_test --replay CONFIG N   one run again, as a violation names it
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crash.h"
#include "schedule.h"

static const struct run *running;

static void
print_running(void)
{
    if (running != NULL)
        fprintf(stderr, "# %s: seed %llu\n", running->config->name, (unsigned long long)running->seed);
}

static bool
run_once(const struct crash_config *config, uint64_t seed)
{
    struct run run;
    bool is_good;

    run_begin(&run, config, seed);
    running = &run;
    is_good = run_rounds(&run);
    running = NULL;
    run_end(&run);
    return is_good;
}

/* Runs of one configuration until it has brought its share of states. */
static void
run_share(const struct crash_config *config, uint64_t first_seed, uint64_t share)
{
    struct crash_counts before = crash_counts;
    uint64_t seed = first_seed;
    bool is_good = true;

    while (is_good && crash_counts.distinct - before.distinct < share)
        is_good = run_once(config, seed++);
    tap_ok(is_good, "%s: %llu different crash states of %llu, %llu cuts of a replay, %llu rounds, seeds %llu to %llu",
           config->name, (unsigned long long)(crash_counts.distinct - before.distinct),
           (unsigned long long)(crash_counts.states - before.states),
           (unsigned long long)(crash_counts.replay_cuts - before.replay_cuts),
           (unsigned long long)(crash_counts.rounds - before.rounds), (unsigned long long)first_seed,
           (unsigned long long)(seed - 1));
}

static const struct crash_config *
find_config(const char *name)
{
    size_t i;

    for (i = 0; i < crash_config_count; i++)
        if (strcmp(crash_configs[i].name, name) == 0)
            return &crash_configs[i];
    fprintf(stderr, "crash_test: no configuration %s\n", name);
    exit(2);
}

int
main(int argc, char **argv)
{
    const char *few = getenv("VHDX_CRASH_STATES"); /* where each state is slow */
    uint64_t first_seed = 1, states = few != NULL ? strtoull(few, NULL, 10) : 110000, share;
    double seconds = 0;
    time_t began = time(NULL);
    size_t i;
    int at;

    schedule_on_deadlock = print_running;
    for (at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--replay") == 0 && at + 2 < argc) {
            crash_trace = true;
            tap_ok(run_once(find_config(argv[at + 1]), strtoull(argv[at + 2], NULL, 10)), "replay");
            return tap_end();
        }
        if (strcmp(argv[at], "--long") == 0 && at + 1 < argc)
            seconds = atof(argv[++at]);
        else if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc)
            first_seed = strtoull(argv[++at], NULL, 10);
        else if (strcmp(argv[at], "--states") == 0 && at + 1 < argc)
            states = strtoull(argv[++at], NULL, 10);
        else {
            fprintf(stderr, "usage: crash_test [--seed N] [--states N] [--long SECONDS] [--replay CONFIG N]\n");
            return 2;
        }
    }

    share = states / crash_config_count + 1;
    do {
        for (i = 0; i < crash_config_count; i++)
            run_share(&crash_configs[i], first_seed, share);
        first_seed += 1000000;
    } while (difftime(time(NULL), began) < seconds);
    tap_ok(crash_counts.distinct >= states || seconds > 0, "%llu different crash states in all",
           (unsigned long long)crash_counts.distinct);
    fixture_forget();
    return tap_end();
}
