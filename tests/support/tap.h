/* One line a test on stdout, the plan at the end: for programs whose tests are made at run time. */
#ifndef SUPPORT_TAP_H
#define SUPPORT_TAP_H

#include <stdbool.h>

void tap_ok(bool is_ok, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The plan.  Returns the program's exit status. */
int tap_end(void);

/* For how long to go on: VHDX_HOURS, or `variable` (seconds), or else `seconds`. */
double tap_seconds(const char *variable, double seconds);

/* Seconds on a clock that never jumps. */
double tap_clock(void);

#endif
