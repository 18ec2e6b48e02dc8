/* The same work on many files, several at a time, reported in the order they were named. */
#ifndef VHDX_TOOL_JOBS_H
#define VHDX_TOOL_JOBS_H

#include <stddef.h>

/*
 *   work     done for each file, by any thread; `result` is a zeroed piece of result_size bytes
 *   report   called for each file in order, by the calling thread; returns the file's exit status
 */
struct job_kind {
    size_t result_size;
    void (*work)(void *context, const char *path, void *result);
    int (*report)(void *context, const char *path, void *result);
    void *context;
};

/* Returns the worst exit status: the greatest, unless `worse` says otherwise (may be NULL). */
int jobs_run(const struct job_kind *kind, char **paths, int path_count, unsigned thread_count,
             int (*worse)(int, int));

#endif
