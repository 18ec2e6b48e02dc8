/* What every storage shares: closing, and what callers ask of any of them. */
#include <string.h>

#include "base/checked.h"
#include "storage/storage.h"

void
vhdx_storage_close(struct vhdx_storage *storage)
{
    if (storage && storage->methods->close)
        storage->methods->close(storage);
}

int
vx_storage_next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
                     struct vhdx_error *err)
{
    uint64_t size;
    int rc;

    if (storage->methods->next_data)
        return storage->methods->next_data(storage, file_offset, start, end, err);
    rc = vx_storage_get_size(storage, &size, err);
    if (rc < 0)
        return rc;
    *start = vx_min_u64(file_offset, size);
    *end = size;
    return VHDX_OK;
}

int
vx_storage_read_prefix(struct vhdx_storage *storage, void *buffer, size_t length, uint64_t file_offset,
                       size_t *got, struct vhdx_error *err)
{
    uint64_t size;
    int rc = vx_storage_get_size(storage, &size, err);

    if (rc < 0)
        return rc;
    *got = file_offset < size ? (size_t)vx_min_u64(length, size - file_offset) : 0;
    memset((uint8_t *)buffer + *got, 0, length - *got);
    return *got > 0 ? vx_storage_read(storage, buffer, *got, file_offset, err) : VHDX_OK;
}

const char *
vx_storage_name(const struct vhdx_storage *storage)
{
    return storage->name ? storage->name : "image";
}
