/*
 * The directed cases, in all their variants.
 *
 *   directed_test              all
 *   directed_test NAME N       one variant, with what happens
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "directed.h"

int
main(int argc, char **argv)
{
    size_t i;

    crash_trace = argc > 2;
    for (i = 0; i < directed_case_count; i++) {
        const struct directed *directed = &directed_cases[i];
        uint64_t states = crash_counts.states, variant = 0;
        bool is_good = true;

        if (argc > 2 && strcmp(argv[1], directed->name) != 0)
            continue;
        if (argc > 2)
            is_good = directed_run(directed, strtoull(argv[2], NULL, 10), NULL, 0);
        else
            for (; is_good && variant < directed->variants; variant++)
                is_good = directed_run(directed, variant, NULL, 0);
        tap_ok(is_good, "%s: %s, %llu variants, %llu states", directed->name, directed->what,
               (unsigned long long)variant, (unsigned long long)(crash_counts.states - states));
    }
    fixture_forget();
    return tap_end();
}
