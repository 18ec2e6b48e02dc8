/* Trace: counts and optionally records every call on another storage, for tests and for "counted, not timed". */
#ifndef VX_TRACE_H
#define VX_TRACE_H

#include <vhdx/storage.h>

enum vx_trace_kind {
    VX_TRACE_READ, VX_TRACE_WRITE, VX_TRACE_FLUSH, VX_TRACE_GET_SIZE, VX_TRACE_SET_SIZE, VX_TRACE_ZERO,
    VX_TRACE_ALLOCATE, VX_TRACE_NEXT_DATA, VX_TRACE_KIND_COUNT
};
struct vx_trace_event {
    enum vx_trace_kind kind;
    uint64_t           file_offset, length;
};

/* Wrap `base`, which the trace owns from success on. */
int vx_trace_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_error *err);

/* Calls so far of a kind; reset sets all to 0 and forgets the events. */
uint64_t vx_trace_count(struct vhdx_storage *trace, enum vx_trace_kind kind);
uint64_t vx_trace_bytes(struct vhdx_storage *trace, enum vx_trace_kind kind);
void     vx_trace_reset(struct vhdx_storage *trace);
/* The last 4096 events, oldest first.  Returns how many were copied. */
size_t   vx_trace_events(struct vhdx_storage *trace, struct vx_trace_event *out, size_t capacity);

#endif
