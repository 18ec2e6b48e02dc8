#include "wrapped.h"

#include <stdio.h>
#include <stdlib.h>

struct wrapped {
    struct vhdx_storage    storage;
    struct vhdx_storage   *base; /* borrowed */
    struct wrapped_options options;
};

/* The storage that does the work, when the test lets it. */
static int
below(struct vhdx_storage *storage, enum wrapped_call call, uint64_t file_offset, uint64_t length,
      struct vhdx_storage **base, struct vhdx_error *err)
{
    struct wrapped *wrapped = (struct wrapped *)storage;
    int             rc = VHDX_OK;

    if (wrapped->options.before != NULL)
        rc = wrapped->options.before(wrapped->options.context, call, file_offset, length);
    *base = wrapped->base;
    if (rc < 0 && err != NULL)
        *err = (struct vhdx_error){ .code = rc, .file_offset = file_offset, .message = "the test lets it fail" };
    return rc;
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
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_READ, file_offset, length_of(vector, vector_count), &base, err);

    return rc < 0 ? rc : base->methods->readv(base, vector, vector_count, file_offset, err);
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_WRITE, file_offset, length_of(vector, vector_count), &base, err);

    return rc < 0 ? rc : base->methods->writev(base, vector, vector_count, file_offset, err);
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_FLUSH, 0, 0, &base, err);

    return rc < 0 ? rc : base->methods->flush(base, err);
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_GET_SIZE, 0, 0, &base, err);

    return rc < 0 ? rc : base->methods->get_size(base, out, err);
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_SET_SIZE, size, 0, &base, err);

    return rc < 0 ? rc : base->methods->set_size(base, size, err);
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_ZERO, file_offset, length, &base, err);

    if (rc < 0)
        return rc;
    if (mode == VHDX_ZERO_ONLY_FAST && !storage->traits.can_punch) {
        if (err != NULL)
            *err = (struct vhdx_error){ .code = VHDX_E_UNSUPPORTED, .file_offset = file_offset,
                                        .message = "this storage cannot punch holes" };
        return VHDX_E_UNSUPPORTED;
    }
    return base->methods->zero(base, file_offset, length, mode, err);
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_ALLOCATE, file_offset, length, &base, err);

    return rc < 0 ? rc : base->methods->allocate(base, file_offset, length, err);
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
          struct vhdx_error *err)
{
    struct vhdx_storage *base;
    int                  rc = below(storage, WRAPPED_NEXT_DATA, file_offset, 0, &base, err);

    return rc < 0 ? rc : base->methods->next_data(base, file_offset, start, end, err);
}

static void
close_wrapped(struct vhdx_storage *storage)
{
    free(storage);
}

#define METHODS(next)                                                                                       \
    {                                                                                                       \
        .readv = read_vector, .writev = write_vector, .flush = flush, .get_size = get_size,                 \
        .set_size = set_size, .zero = zero, .allocate = allocate, .next_data = (next), .close = close_wrapped \
    }
static const struct vhdx_storage_methods methods = METHODS(next_data);
static const struct vhdx_storage_methods methods_without_holes = METHODS(NULL);

struct vhdx_storage *
wrapped_new(struct vhdx_storage *base, const struct wrapped_options *options)
{
    struct wrapped *wrapped = calloc(1, sizeof *wrapped);

    if (wrapped == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    wrapped->base = base;
    if (options != NULL)
        wrapped->options = *options;
    wrapped->storage.methods = &methods;
    if (wrapped->options.cannot_punch || base->methods->next_data == NULL)
        wrapped->storage.methods = &methods_without_holes;
    wrapped->storage.traits = base->traits;
    wrapped->storage.name = base->name;
    if (wrapped->options.cannot_punch)
        wrapped->storage.traits.can_punch = false;
    if (wrapped->options.extension_unsure)
        wrapped->storage.traits.extension_survives_as_zeros = false;
    if (wrapped->options.is_read_only)
        wrapped->storage.traits.is_read_only = true;
    return &wrapped->storage;
}
