/* Calling a storage.  Thin wrappers, so that callers do not spell out the method table. */
#ifndef VX_STORAGE_H
#define VX_STORAGE_H

#include <vhdx/storage.h>

static inline int
vx_storage_read(struct vhdx_storage *storage, void *buffer, size_t length, uint64_t file_offset,
                struct vhdx_error *err)
{
    struct iovec vector = { .iov_base = buffer, .iov_len = length };

    return storage->methods->readv(storage, &vector, 1, file_offset, err);
}

static inline int
vx_storage_write(struct vhdx_storage *storage, const void *buffer, size_t length, uint64_t file_offset,
                 struct vhdx_error *err)
{
    struct iovec vector = { .iov_base = (void *)(uintptr_t)buffer, .iov_len = length };

    return storage->methods->writev(storage, &vector, 1, file_offset, err);
}

static inline int
vx_storage_flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    return storage->methods->flush(storage, err);
}

static inline int
vx_storage_get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    return storage->methods->get_size(storage, out, err);
}

static inline int
vx_storage_set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    return storage->methods->set_size(storage, size, err);
}

static inline int
vx_storage_zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
                struct vhdx_error *err)
{
    return storage->methods->zero(storage, file_offset, length, mode, err);
}

static inline int
vx_storage_allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    return storage->methods->allocate(storage, file_offset, length, err);
}

static inline int
vx_storage_copy_from(struct vhdx_storage *storage, uint64_t file_offset, struct vhdx_storage *from, uint64_t from_offset,
                     uint64_t length, bool only_share, struct vhdx_error *err)
{
    if (storage->methods->copy_from == NULL)
        return VHDX_E_UNSUPPORTED;
    return storage->methods->copy_from(storage, file_offset, from, from_offset, length, only_share, err);
}

static inline void
vx_storage_forget_cached(struct vhdx_storage *storage)
{
    if (storage->methods->forget_cached != NULL)
        storage->methods->forget_cached(storage);
}

/* Everything is data where a storage cannot tell. */
int vx_storage_next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
                         struct vhdx_error *err);

/* Read up to length bytes, fewer at the end of the file; the rest is zero-filled.  *got is what was there. */
int vx_storage_read_prefix(struct vhdx_storage *storage, void *buffer, size_t length, uint64_t file_offset,
                           size_t *got, struct vhdx_error *err);

/* Are both known, and the same file? */
static inline bool
vx_identity_equal(const struct vhdx_storage_identity *a, const struct vhdx_storage_identity *b)
{
    return a->is_known && b->is_known && a->device == b->device && a->file_number == b->file_number;
}

/* The storage's name, or "image". */
const char *vx_storage_name(const struct vhdx_storage *storage);

#endif
