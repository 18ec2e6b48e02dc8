/*
 * Signals that ask a job to stop.  A job that changes images in place is not ended in the middle: it is asked, and
 * stops at its next consistent point.  To be ended in the middle would lose nothing (the jobs are made for it), but the
 * log of the image would have to be replayed, and nothing would be said.
 */
#ifndef VHDX_TOOL_STOP_H
#define VHDX_TOOL_STOP_H

#include <stdbool.h>

/* From now on SIGINT, SIGTERM and SIGHUP ask; a second one of the same kind ends the command at once. */
void stop_watch(void);

/* Whether one came.  Every progress hook (progress.h) cancels its job then. */
bool stop_is_asked(void);

/* End as the signal that came would have ended us, so that whoever waits sees by what. */
void stop_obey(void);

#endif
