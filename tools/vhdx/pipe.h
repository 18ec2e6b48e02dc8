/* A raw disk that comes through standard input. */
#ifndef VHDX_TOOL_PIPE_H
#define VHDX_TOOL_PIPE_H

#include <vhdx/disk.h>

#include "progress.h"

/*
 * Copy exactly `size` bytes from standard input to `to`, in one pass.
 *
 *   detect_zeros   leave out zero runs (the target reads as zeros), or with `must_zero` zero them
 *   errors         VHDX_E_RANGE: the input ended early or went on; a sender that died must not pass for a disk.
 *                  VHDX_E_UNSUPPORTED: what comes is a VHDX file
 */
int pipe_copy(struct vhdx_disk *to, uint64_t size, bool detect_zeros, bool must_zero, struct progress *progress,
              struct vhdx_error *err);

#endif
