/*
 * A scheduler for the crash tests: threads that take turns, so that a run is the same each time it gets the same seed.
 *
 * It brings its own base/lock.h (the library's is then not linked): a thread that has to wait lets another go on, and
 * takes of locks and storage calls are places where the turn may pass.  Only the thread whose turn it is runs.
 */
#ifndef CRASH_SCHEDULE_H
#define CRASH_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SCHEDULE_MAX_THREADS 8u

/* Run `count` threads to their ends.  `seed` decides the turns; the calling thread waits. */
void schedule_run(size_t count, void (*body)(void *context, size_t index), void *context, uint64_t seed);

/* A place where the turn may pass, in `chance` of 256 cases. */
void schedule_point(unsigned chance);

/* Between these two the running thread keeps its turn whatever it calls. */
void schedule_hold(void);
void schedule_release(void);

/* Called once when no thread can go on: prints what it likes; the process ends after it. */
extern void (*schedule_on_deadlock)(void);

#endif
