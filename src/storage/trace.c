/*
 * The trace: every call is counted, with its bytes, and the last few thousand are kept.  The base is called outside
 * of the lock, so that threads meet here only for the counting.
 */
#include <string.h>

#include "base/error.h"
#include "base/lock.h"
#include "base/memory.h"
#include "storage/storage.h"
#include "storage/trace.h"

#define EVENT_COUNT 4096u

struct trace {
    struct vhdx_storage   storage;
    struct vhdx_storage  *base; /* owned */

    struct vx_mutex       lock; /* rank STORAGE: guards all below */
    uint64_t              calls[VX_TRACE_KIND_COUNT];
    uint64_t              bytes[VX_TRACE_KIND_COUNT];
    uint64_t              event_count; /* since the start; the last EVENT_COUNT of them are kept */
    struct vx_trace_event events[EVENT_COUNT];
};

static struct trace *
trace_of(struct vhdx_storage *storage)
{
    return (struct trace *)storage;
}

/* Notes the call and returns the storage that is to do the work. */
static struct vhdx_storage *
note(struct vhdx_storage *storage, enum vx_trace_kind kind, uint64_t file_offset, uint64_t length)
{
    struct trace *trace = trace_of(storage);

    vx_mutex_lock(&trace->lock);
    trace->calls[kind]++;
    trace->bytes[kind] += length;
    trace->events[trace->event_count++ % EVENT_COUNT] = (struct vx_trace_event){ kind, file_offset, length };
    vx_mutex_unlock(&trace->lock);
    return trace->base;
}

static uint64_t
length_of(const struct iovec *vector, int vector_count)
{
    uint64_t length = 0;

    for (int i = 0; i < vector_count; i++)
        length += vector[i].iov_len;
    return length;
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct vhdx_storage *base = note(storage, VX_TRACE_READ, file_offset, length_of(vector, vector_count));

    return base->methods->readv(base, vector, vector_count, file_offset, err);
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct vhdx_storage *base = note(storage, VX_TRACE_WRITE, file_offset, length_of(vector, vector_count));

    return base->methods->writev(base, vector, vector_count, file_offset, err);
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    return vx_storage_flush(note(storage, VX_TRACE_FLUSH, 0, 0), err);
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    return vx_storage_get_size(note(storage, VX_TRACE_GET_SIZE, 0, 0), out, err);
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    return vx_storage_set_size(note(storage, VX_TRACE_SET_SIZE, size, 0), size, err);
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    return vx_storage_zero(note(storage, VX_TRACE_ZERO, file_offset, length), file_offset, length, mode, err);
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    return vx_storage_allocate(note(storage, VX_TRACE_ALLOCATE, file_offset, length), file_offset, length, err);
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
          struct vhdx_error *err)
{
    return vx_storage_next_data(note(storage, VX_TRACE_NEXT_DATA, file_offset, 0), file_offset, start, end, err);
}

static void
close_trace(struct vhdx_storage *storage)
{
    struct trace *trace = trace_of(storage);

    vhdx_storage_close(trace->base);
    vx_mutex_destroy(&trace->lock);
    vx_free(trace);
}

static const struct vhdx_storage_methods trace_methods = {
    .readv = read_vector,
    .writev = write_vector,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .close = close_trace,
};

int
vx_trace_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_error *err)
{
    struct trace *trace = vx_alloc_zeroed(1, sizeof *trace);

    if (!trace || vx_mutex_init(&trace->lock, VX_RANK_STORAGE) != 0) {
        vx_free(trace);
        return vx_fail_memory(err, "a trace");
    }
    trace->storage.methods = &trace_methods;
    trace->storage.traits = base->traits;
    trace->storage.name = base->name;
    trace->base = base;
    *out = &trace->storage;
    return VHDX_OK;
}

uint64_t
vx_trace_count(struct vhdx_storage *storage, enum vx_trace_kind kind)
{
    struct trace *trace = trace_of(storage);
    uint64_t count;

    vx_mutex_lock(&trace->lock);
    count = trace->calls[kind];
    vx_mutex_unlock(&trace->lock);
    return count;
}

uint64_t
vx_trace_bytes(struct vhdx_storage *storage, enum vx_trace_kind kind)
{
    struct trace *trace = trace_of(storage);
    uint64_t bytes;

    vx_mutex_lock(&trace->lock);
    bytes = trace->bytes[kind];
    vx_mutex_unlock(&trace->lock);
    return bytes;
}

void
vx_trace_reset(struct vhdx_storage *storage)
{
    struct trace *trace = trace_of(storage);

    vx_mutex_lock(&trace->lock);
    memset(trace->calls, 0, sizeof trace->calls);
    memset(trace->bytes, 0, sizeof trace->bytes);
    trace->event_count = 0;
    vx_mutex_unlock(&trace->lock);
}

size_t
vx_trace_events(struct vhdx_storage *storage, struct vx_trace_event *out, size_t capacity)
{
    struct trace *trace = trace_of(storage);
    uint64_t kept, first;

    vx_mutex_lock(&trace->lock);
    kept = trace->event_count < EVENT_COUNT ? trace->event_count : EVENT_COUNT;
    if (kept > capacity)
        kept = capacity; /* the latest of them, still oldest first */
    first = trace->event_count - kept;
    for (uint64_t i = 0; i < kept; i++)
        out[i] = trace->events[(first + i) % EVENT_COUNT];
    vx_mutex_unlock(&trace->lock);
    return (size_t)kept;
}
