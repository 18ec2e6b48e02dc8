/*
 * Does the oracle bite?  Each breakage of base/breakage.h is switched on in a process of its own, and the tests must
 * notice: the bias that suits it, until a violation or the bound.
 *
 *   breakages            all of them, a row each
 *   breakages NAME       one, with what was found
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/breakage.h"
#include "crash.h"
#include "directed.h"

#define STATE_BOUND 60000u
#define TIME_BOUND  120u /* seconds, for a breakage that makes the library hang */

struct row {
    enum vx_breakage breakage;
    const char      *name;
    const char      *biases[3]; /* configurations or directed cases, taken in turn */
};

#define ROW(name, ...) { VX_BREAK_##name, #name, { __VA_ARGS__ } }

static const struct row rows[] = {
    ROW(LOG_GUID_FIRST, "dynamic-512"),
    ROW(EARLY_ANSWER, "threads"),
    ROW(LATE_FOLLOWER, "threads", "child-threads"),
    ROW(APPLY_EARLY, "child", "threads"),
    ROW(TAIL_WITHOUT_FLUSH, "dynamic-512", "child"),
    ROW(ENTRY_OVER_TAIL, "many-pages-8", "child"),
    ROW(FREE_AT_ONCE, "dynamic-512"),
    ROW(FREE_AT_GATHER, "threads", "dynamic-512"),
    ROW(ONE_FLUSH_ON_USED, "dynamic-512"),
    ROW(NO_FILL, "dynamic-512"),
    ROW(TAIL_AT_OPEN_IS_FRESH, "dynamic-512"),
    ROW(FLUSHED_IS_CURRENT, "dynamic-512"),
    ROW(REPLAY_NO_EXTEND, "dynamic-512"),
    ROW(CLOSE_NO_FLUSH, "dynamic-512"),
    ROW(REPLAY_NO_FLUSH, "dynamic-512"),
    ROW(HEADERS_ONE_FLUSH, "headers"),
    ROW(FLUSH_ERROR_IGNORED, "dynamic-512"),
    ROW(CLOSE_AFTER_FAILURE, "dynamic-512"),
    ROW(FLUSH_BEFORE_GATHER, "edit-in-commit"),
    ROW(FLAG_RESET_LATE, "edit-in-commit"),
    ROW(APPLY_LIVE, "edit-in-commit"),
    ROW(COMMIT_IN_PIECES, "child", "many-pages"),
    ROW(TAKE_BACK_IN_QUARANTINE, "dynamic-512", "threads"),
    ROW(REPLAY_NO_FIRST_FLUSH, "killed-in-commit"),
    ROW(PUNCHED_IS_FRESH, "dynamic-512"),
    ROW(REGROWN_IS_FRESH, "dynamic-512"),
    ROW(BITMAP_REUSE_EARLY, "bitmap-goes"),
    ROW(REPLAY_FROM_OLDEST, "bitmap-goes"),
};

/* What the process of a breakage says when it ends. */
struct verdict {
    bool     is_caught;
    uint64_t states, runs;
    char     how[sizeof ((struct run *)0)->violation];
};

static const char *
bias_of(const struct row *row, uint64_t turn)
{
    size_t count = 0;

    while (count < 3 && row->biases[count] != NULL)
        count++;
    return row->biases[turn % count];
}

static const struct crash_config *
find_config(const char *name)
{
    size_t i;

    for (i = 0; i < crash_config_count; i++)
        if (strcmp(crash_configs[i].name, name) == 0)
            return &crash_configs[i];
    fprintf(stderr, "breakages: no bias %s\n", name);
    exit(2);
}

/* True when nothing was noticed. */
static bool
run_bias(const struct row *row, uint64_t seed, char *how, size_t how_size)
{
    const struct directed *directed = directed_find(bias_of(row, seed));
    struct run run;
    bool is_good;

    if (directed != NULL)
        return directed_run(directed, seed, how, how_size);
    run_begin(&run, find_config(bias_of(row, seed)), seed);
    is_good = run_rounds(&run);
    snprintf(how, how_size, "%s", run.violation);
    run_end(&run);
    return is_good;
}

static void
search(const struct row *row, struct verdict *verdict)
{
    uint64_t seed;

    for (seed = 1; !verdict->is_caught && crash_counts.states < STATE_BOUND; seed++) {
        vx_breakage_for_tests = row->breakage;
        verdict->is_caught = !run_bias(row, seed, verdict->how, sizeof verdict->how);
        verdict->runs = seed;
    }
    verdict->states = crash_counts.states;
}

/* In a process of its own: a broken library may abort or hang, which is being caught too. */
static struct verdict
try_row(const struct row *row)
{
    struct verdict verdict = { .is_caught = false };
    int ends[2], status = 0;
    pid_t child;

    fflush(stdout);
    if (pipe(ends) != 0 || (child = fork()) < 0) {
        perror("breakages");
        exit(2);
    }
    if (child == 0) {
        alarm(TIME_BOUND);
        search(row, &verdict);
        _exit(write(ends[1], &verdict, sizeof verdict) == (ssize_t)sizeof verdict ? 0 : 1);
    }
    close(ends[1]);
    if (read(ends[0], &verdict, sizeof verdict) != (ssize_t)sizeof verdict)
        verdict = (struct verdict){ .is_caught = false };
    close(ends[0]);
    waitpid(child, &status, 0);
    if (WIFSIGNALED(status)) {
        verdict.is_caught = WTERMSIG(status) == SIGABRT;
        snprintf(verdict.how, sizeof verdict.how, "the process ended with signal %d", WTERMSIG(status));
    }
    return verdict;
}

int
main(int argc, char **argv)
{
    size_t i;

    crash_quiet = argc < 2;
    for (i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct verdict verdict;

        if (argc > 1 && strcmp(argv[1], rows[i].name) != 0)
            continue;
        verdict = try_row(&rows[i]);
        tap_ok(verdict.is_caught, "%s: %s after %llu states, %llu runs: %s", rows[i].name,
               verdict.is_caught ? "caught" : "not caught", (unsigned long long)verdict.states,
               (unsigned long long)verdict.runs, verdict.how);
    }
    return tap_end();
}
