/*
 * Random operations through the public interface against a plain array of bytes, on disks of every shape.
 *
 *   model_test                   every configuration once, then on for 20 seconds (VHDX_MODEL_SECONDS, VHDX_HOURS)
 *   model_test --seed N          begin at another seed (VHDX_SEED)
 *   model_test --replay CONFIG N one run again, as a violation names it
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"
#include "tap.h"

static const struct config *
find_config(const char *name)
{
    for (size_t i = 0; i < config_count; i++)
        if (strcmp(configs[i].name, name) == 0)
            return &configs[i];
    fprintf(stderr, "model_test: no configuration %s\n", name);
    exit(2);
}

/* Round after round until the time is over; a configuration that failed is left out. */
static void
run_all(uint64_t first_seed, double seconds)
{
    bool     has_failed[MOST_CONFIGS] = { false };
    uint64_t run_count[MOST_CONFIGS] = { 0 };
    double   end = tap_clock() + seconds;
    bool     few = getenv("VHDX_FEW") != NULL; /* every third has to do where each is slow */

    for (uint64_t round = 0; round == 0 || tap_clock() < end; round++) {
        for (size_t i = 0; i < config_count && (round == 0 || tap_clock() < end); i++) {
            if (has_failed[i] || (few && i % 3 != 0))
                continue;
            has_failed[i] = !run_once(&configs[i], first_seed + round);
            run_count[i]++;
        }
    }
    for (size_t i = 0; i < config_count; i += few ? 3 : 1)
        tap_ok(!has_failed[i], "%s: seeds %" PRIu64 " to %" PRIu64, configs[i].name, first_seed,
               first_seed + run_count[i] - 1);
}

int
main(int argc, char **argv)
{
    const char *text = getenv("VHDX_SEED");
    uint64_t    first_seed = text != NULL ? strtoull(text, NULL, 10) : 1;

    configs_make();
    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--replay") == 0 && at + 2 < argc) {
            tap_ok(run_once(find_config(argv[at + 1]), strtoull(argv[at + 2], NULL, 10)), "replay");
            return tap_end();
        }
        if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc) {
            first_seed = strtoull(argv[++at], NULL, 10);
        } else {
            fprintf(stderr, "usage: model_test [--seed N] [--replay CONFIG N]\n");
            return 2;
        }
    }
    run_all(first_seed, tap_seconds("VHDX_MODEL_SECONDS", 20));
    return tap_end();
}
