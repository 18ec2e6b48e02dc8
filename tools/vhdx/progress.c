/*
 * Progress.  The bar goes to stderr, so that stdout stays data; without -p it appears only on a terminal, and only
 * when the job has taken a moment.  The library calls from one thread at a time.
 */
#include "progress.h"

#include <stdio.h>
#include <unistd.h>

#include "stop.h"

static double
seconds_since(const struct timespec *then)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)(now.tv_sec - then->tv_sec) + (double)(now.tv_nsec - then->tv_nsec) / 1e9;
}

static int
report_from_library(void *context, uint64_t done, uint64_t total)
{
    progress_report(context, done, total);
    return stop_is_asked() ? 1 : 0;
}

void
progress_begin(struct progress *progress, const struct shared_options *shared)
{
    bool has_lines = shared->progress_descriptor >= 0;

    *progress = (struct progress){
        .hook = { .report = report_from_library, .context = progress },
        .descriptor = shared->progress_descriptor,
        .shows_bar = !shared->quiet && !has_lines && (shared->wants_progress || isatty(STDERR_FILENO) == 1),
    };
    clock_gettime(CLOCK_MONOTONIC, &progress->began);
    if (shared->wants_progress)
        progress->began.tv_sec--; /* asked for: shown from the start */
}

void
progress_report(struct progress *progress, uint64_t done, uint64_t total)
{
    double share = total == 0 ? 1.0 : (double)done / (double)total;
    unsigned reached = (unsigned)((share > 1.0 ? 1.0 : share) * 10000);

    if (progress->has_shown && reached == progress->shown)
        return;
    if (progress->descriptor >= 0 && (!progress->has_shown || reached / 100 != progress->shown / 100)) {
        dprintf(progress->descriptor, "%u/100\n", reached / 100);
        progress->has_shown = true;
        progress->shown = reached;
    } else if (progress->shows_bar && seconds_since(&progress->began) > 0.5) {
        fprintf(stderr, "\r    (%u.%02u/100%%)\r", reached / 100, reached % 100);
        fflush(stderr);
        progress->has_shown = true;
        progress->shown = reached;
    }
}

void
progress_end(struct progress *progress)
{
    if (progress->shows_bar && progress->has_shown)
        fputc('\n', stderr);
    progress->has_shown = false;
}
