/* What the files of this folder tell each other. */
#ifndef VHDX_TOOL_SANDBOX_PARTS_H
#define VHDX_TOOL_SANDBOX_PARTS_H

#include <stdbool.h>

#include "sandbox.h"

/* What may still be done to files by name.  Each includes those before it. */
enum sandbox_names {
    SANDBOX_NAMES_NONE,
    SANDBOX_NAMES_READ,
    SANDBOX_NAMES_WRITE,
    SANDBOX_NAMES_CHANGE
};

/* Whether the kernel filters calls, and we know its numbers. */
bool sandbox_can_filter(void);

/* Filter the calls of every thread from now on.  `may_remove` leaves unlink and rmdir whatever `names` says. */
int sandbox_filter(enum sandbox_names names, bool may_remove, struct vhdx_error *err);

/* Fill the error and return its code. */
int sandbox_fail(struct vhdx_error *err, int system_errno, const char *what);

#endif
