/*
 * Confining the nbdkit process that serves an image (tools/sandbox/sandbox.h).
 *
 *   C1  Until nbdkit has forked nothing may be given up: the process that runs the command of --run is the one that
 *       started.  A look at the image before that is taken by a confined child.
 *   C2  After the fork, before threads: first down to what opening needs, then, once the disk is open as it will be
 *       used, down to nothing, except files that the user named and the removal of nbdkit's own socket.
 */
#ifndef VHDX_NBDKIT_CONFINEMENT_H
#define VHDX_NBDKIT_CONFINEMENT_H

#include <stdbool.h>

#include "sandbox/sandbox.h"

/* sandbox=: whether any of this is done.  sandbox-read=: a file or folder that may be read to the end.  0, or -1
 * with the error logged. */
int  confinement_take(const char *value);
int  confinement_keep_readable(const char *value);
bool confinement_is_wanted(void);

/* Note what opening needs; the paths are absolute. */
void confinement_plan(const char *image, bool for_writing, bool looks_for_children,
                      const struct vhdx_parents_options *parents);

/* Do some work as the plan has it: in a confined child, or, when confinement is not wanted, here. */
int confinement_look(int (*work)(void *context, struct vhdx_error *err), void *context, struct vhdx_error *err);

/* The two steps of C2. */
int confinement_begin(struct vhdx_error *err);
int confinement_complete(struct vhdx_error *err);

void confinement_free(void);

#endif
