/*
 * --sandbox of the verbs (tools/sandbox/sandbox.h): a verb names its operands, enters the first step before it
 * looks at any of them, and takes the second once it has opened all.  Without --sandbox these do nothing.
 */
#ifndef VHDX_TOOL_CONFINE_H
#define VHDX_TOOL_CONFINE_H

#include "options.h"

/* What is read, with its parents where --parents lets them be.  "-" needs no name. */
void confine_source(const struct shared_options *shared, const char *path);

/* What is opened by name again later, for reading. */
void confine_again(const struct shared_options *shared, const char *path);

/* What is made: the folder it lies in, or the device.  NULL and "-" need none. */
void confine_target(const struct shared_options *shared, const char *path);

/* What is changed where it lies: the folder is searched for its children. */
void confine_in_place(const struct shared_options *shared, const char *path);

/* The first step.  A kernel that has it and refuses ends the command with `status`. */
void confine_begin(const struct shared_options *shared, int status);

/* The second: what was named is open; targets stay.  Once is enough. */
int confine_narrow(const struct shared_options *shared, struct vhdx_error *err);

#endif
