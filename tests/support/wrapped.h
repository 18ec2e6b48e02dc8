/*
 * A storage over another one, which stays the test's: it outlives the disks that are opened over it, and may
 * promise less than it does.
 */
#ifndef SUPPORT_WRAPPED_H
#define SUPPORT_WRAPPED_H

#include <vhdx/storage.h>

enum wrapped_call {
    WRAPPED_READ, WRAPPED_WRITE, WRAPPED_FLUSH, WRAPPED_SET_SIZE, WRAPPED_ZERO, WRAPPED_ALLOCATE, WRAPPED_NEXT_DATA,
    WRAPPED_GET_SIZE
};

struct wrapped_options {
    bool cannot_punch;      /* nor tell holes */
    bool extension_unsure;  /* what a file grew by may show anything after a power cut */
    bool is_read_only;
    /* Called before each call goes on to the storage below, if not NULL.  A negative code ends the call with it. */
    int (*before)(void *context, enum wrapped_call call, uint64_t file_offset, uint64_t length);
    void *context;
};

/* `base` is borrowed; the options are copied, NULL: none.  Stops the program when memory is short. */
struct vhdx_storage *wrapped_new(struct vhdx_storage *base, const struct wrapped_options *options);

#endif
