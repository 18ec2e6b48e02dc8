/* How far a long job has come, shown to a person (a bar on stderr) or to a program (lines on a descriptor). */
#ifndef VHDX_TOOL_PROGRESS_H
#define VHDX_TOOL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include <vhdx/ops.h>

#include "options.h"

struct progress {
    struct vhdx_progress hook; /* hand its address to the library */
    bool                 hides_rate; /* set after progress_begin where the job does not report bytes of a disk */
    bool                 shows_bar;
    int                  descriptor; /* for lines, or -1 */
    bool                 has_shown;
    unsigned             shown_percent;  /* on the descriptor */
    double               shown_share, shown_at; /* of the bar; seconds since `began` */
    double               seconds_unseen; /* before a bar appears */
    struct timespec      began;
};

/* A bar when stderr is a terminal, at once with -p, never with -q; lines with --progress=FD. */
void progress_begin(struct progress *progress, const struct shared_options *shared);

/* For jobs of our own: report to the same places. */
void progress_report(struct progress *progress, uint64_t done, uint64_t total);

/* End the line of the bar; a later report begins a new one. */
void progress_end(struct progress *progress);

#endif
