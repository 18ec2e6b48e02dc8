/*
 * A descriptor that takes a stream: written in order, never sought.
 *
 * Nothing here raises SIGPIPE or SIGXFSZ: a reader that went away, or a limit on file size, is just an error.
 */
#ifndef VX_SINK_H
#define VX_SINK_H

#include <stddef.h>
#include <stdint.h>

#include <vhdx/ops.h>

struct vx_sink {
    int                         descriptor; /* borrowed */
    uint64_t                    done;       /* bytes written so far */
    uint64_t                    total;      /* bytes the stream will have: for progress */
    const struct vhdx_progress *progress;
};

/* All of the buffer, then of that many zeros.  Progress is told; a cancel is VHDX_E_CANCELLED. */
int vx_sink_write(struct vx_sink *sink, const void *buffer, size_t length, struct vhdx_error *err);
int vx_sink_zeros(struct vx_sink *sink, uint64_t length, struct vhdx_error *err);

#endif
