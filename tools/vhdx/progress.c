/*
 * Progress.  The bar goes to stderr, so that stdout stays data, and only to a terminal: a log or a pipe is no place for it.
 * Without -p it appears only when the job has taken a moment.  The library calls from one thread at a time.
 */
#include "progress.h"

#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sizes.h"
#include "stop.h"

#define SECONDS_UNSEEN  0.5 /* a job that ends before this shows no bar */
#define SECONDS_BETWEEN 0.1
#define COLUMNS_LEAST   60  /* narrower terminals get no bar, only the numbers */
#define COLUMNS_NUMBERS 42  /* what the numbers take beside the bar */
#define COLUMNS_MOST    100

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
        .shows_bar = !shared->quiet && !has_lines && isatty(STDERR_FILENO) == 1,
        .seconds_unseen = shared->wants_progress ? 0 : SECONDS_UNSEEN,
    };
    clock_gettime(CLOCK_MONOTONIC, &progress->began);
}

/* --- for programs --- */

static void
write_line(struct progress *progress, double share)
{
    unsigned percent = (unsigned)(share * 100);

    if (progress->has_shown && percent == progress->shown_percent)
        return;
    dprintf(progress->descriptor, "%u/100\n", percent);
    progress->has_shown = true;
    progress->shown_percent = percent;
}

/* --- for people --- */

static unsigned
bar_width(void)
{
    struct winsize window;
    unsigned columns = ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;

    if (columns < COLUMNS_LEAST)
        return 0;
    return (columns < COLUMNS_MOST ? columns : COLUMNS_MOST) - COLUMNS_NUMBERS;
}

static void
print_bar(double share)
{
    unsigned width = bar_width(), filled = (unsigned)(share * width);

    if (width == 0)
        return;
    fputc('[', stderr);
    for (unsigned i = 0; i < width; i++)
        fputc(i < filled ? '=' : i == filled ? '>' : ' ', stderr);
    fputs("] ", stderr);
}

/* "1:02:03", "2:03". */
static void
print_duration(double seconds)
{
    uint64_t whole = (uint64_t)(seconds + 0.5);

    if (whole >= 3600)
        fprintf(stderr, "%" PRIu64 ":%02u:%02u", whole / 3600, (unsigned)(whole / 60 % 60), (unsigned)(whole % 60));
    else
        fprintf(stderr, "%" PRIu64 ":%02u", whole / 60, (unsigned)(whole % 60));
}

/* What is left takes as long for each part as what was done. */
static void
print_times(const struct progress *progress, uint64_t done, double share, double seconds)
{
    char rate[SIZE_TEXT_SIZE];

    if (share >= 1.0) {
        fputs("  in ", stderr);
        print_duration(seconds);
        return;
    }
    if (!progress->hides_rate && seconds > 0)
        fprintf(stderr, "  %s/s", size_short(rate, (uint64_t)((double)done / seconds)));
    if (share > 0 && seconds > SECONDS_UNSEEN) {
        fputs("  ", stderr);
        print_duration(seconds / share - seconds);
        fputs(" left", stderr);
    }
}

static void
draw(struct progress *progress, uint64_t done, double share, double seconds)
{
    fputs("\r\033[K", stderr); /* erase the line: what follows may be shorter */
    print_bar(share);
    fprintf(stderr, "%6.2f %%", share * 100);
    print_times(progress, done, share, seconds);
    fflush(stderr);
    progress->has_shown = true;
    progress->shown_at = seconds;
    progress->shown_share = share;
}

void
progress_report(struct progress *progress, uint64_t done, uint64_t total)
{
    double share = total == 0 || done >= total ? 1.0 : (double)done / (double)total;
    double seconds;

    if (progress->descriptor >= 0)
        write_line(progress, share);
    if (!progress->shows_bar)
        return;
    seconds = seconds_since(&progress->began);
    if (seconds < progress->seconds_unseen || (progress->has_shown && progress->shown_share == share))
        return;
    if (share >= 1.0 || !progress->has_shown || seconds - progress->shown_at >= SECONDS_BETWEEN)
        draw(progress, done, share, seconds);
}

void
progress_end(struct progress *progress)
{
    if (progress->shows_bar && progress->has_shown)
        fputc('\n', stderr);
    progress->has_shown = false;
}
