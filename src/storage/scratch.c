/*
 * Scratch: pages that were written, over a file that is not.
 *
 *   S1  A page of the tree hides the base's; other pages are the base's up to base_end and zeros after it.
 *   S2  Bytes of a page past the end are zeros, so that growing shows nothing old.
 */
#include "storage/scratch.h"

#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/page_tree.h"
#include "storage/storage.h"

#define SIZE_LIMIT ((uint64_t)INT64_MAX)

struct scratch {
    struct vhdx_storage  storage;
    struct vhdx_storage *base;
    struct vx_page_tree  pages;
    uint64_t             size;
    uint64_t             base_end; /* the base shows up to here: its length, or the least this was ever cut to */
};

static struct scratch *
scratch_of(struct vhdx_storage *storage)
{
    return (struct scratch *)storage;
}

static int
read_base(struct scratch *scratch, uint8_t *buffer, size_t length, uint64_t file_offset, struct vhdx_error *err)
{
    size_t there = file_offset < scratch->base_end ? (size_t)vx_min_u64(length, scratch->base_end - file_offset) : 0;

    memset(buffer + there, 0, length - there);
    return there > 0 ? vx_storage_read(scratch->base, buffer, there, file_offset, err) : VHDX_OK;
}

/* How many bytes from file_offset on lie in one page that was written, or before the next one. */
static size_t
run_length(const struct scratch *scratch, uint64_t file_offset, size_t length, const uint8_t **page)
{
    uint64_t next;

    *page = vx_page_find(&scratch->pages, file_offset / VX_PAGE);
    if (*page != NULL)
        return (size_t)vx_min_u64(length, VX_PAGE - file_offset % VX_PAGE);
    if (vx_page_next(&scratch->pages, file_offset / VX_PAGE, &next))
        return (size_t)vx_min_u64(length, next * VX_PAGE - file_offset);
    return length;
}

static int
read_piece(struct scratch *scratch, uint8_t *buffer, size_t length, uint64_t file_offset, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (file_offset > scratch->size || length > scratch->size - file_offset)
        return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_offset, "the file ends before that");
    while (length > 0 && rc == VHDX_OK) {
        const uint8_t *page;
        size_t         part = run_length(scratch, file_offset, length, &page);

        if (page != NULL)
            memcpy(buffer, page + file_offset % VX_PAGE, part);
        else
            rc = read_base(scratch, buffer, part, file_offset, err);
        buffer += part;
        file_offset += part;
        length -= part;
    }
    return rc;
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (int i = 0; i < vector_count && rc == VHDX_OK; i++) {
        rc = read_piece(scratch_of(storage), vector[i].iov_base, vector[i].iov_len, file_offset, err);
        file_offset += vector[i].iov_len;
    }
    return rc;
}

/* The page to write to, with what it held. */
static int
own_page(struct scratch *scratch, uint64_t page_index, uint8_t **out, struct vhdx_error *err)
{
    *out = vx_page_find(&scratch->pages, page_index);
    if (*out != NULL)
        return VHDX_OK;
    *out = vx_page_make(&scratch->pages, page_index);
    if (*out == NULL)
        return vx_fail_memory(err, "what a plan would write");
    return read_base(scratch, *out, VX_PAGE, page_index * VX_PAGE, err);
}

/* `bytes` NULL: zeros. */
static int
put(struct scratch *scratch, const uint8_t *bytes, uint64_t length, uint64_t file_offset, struct vhdx_error *err)
{
    while (length > 0) {
        size_t   part = (size_t)vx_min_u64(length, VX_PAGE - file_offset % VX_PAGE);
        uint8_t *page;
        int      rc = own_page(scratch, file_offset / VX_PAGE, &page, err);

        if (rc < 0)
            return rc;
        if (bytes != NULL)
            memcpy(page + file_offset % VX_PAGE, bytes, part);
        else
            memset(page + file_offset % VX_PAGE, 0, part);
        bytes = bytes != NULL ? bytes + part : NULL;
        file_offset += part;
        length -= part;
        scratch->size = vx_max_u64(scratch->size, file_offset);
    }
    return VHDX_OK;
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (int i = 0; i < vector_count && rc == VHDX_OK; i++) {
        uint64_t end;

        if (!vx_add_u64(file_offset, vector[i].iov_len, &end) || end > SIZE_LIMIT)
            return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, file_offset, "no file is that long");
        rc = put(scratch_of(storage), vector[i].iov_base, vector[i].iov_len, file_offset, err);
        file_offset += vector[i].iov_len;
    }
    return rc;
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    (void)storage, (void)err;
    return VHDX_OK;
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)err;
    *out = scratch_of(storage)->size;
    return VHDX_OK;
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct scratch *scratch = scratch_of(storage);
    uint8_t        *page;

    if (size > SIZE_LIMIT)
        return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, size, "no file is that long");
    if (size < scratch->size) {
        vx_page_free_range(&scratch->pages, vx_ceil_div(size, VX_PAGE), vx_ceil_div(scratch->size, VX_PAGE));
        page = vx_page_find(&scratch->pages, size / VX_PAGE);
        if (page != NULL)
            memset(page + size % VX_PAGE, 0, VX_PAGE - size % VX_PAGE); /* S2 */
        scratch->base_end = vx_min_u64(scratch->base_end, size);
    }
    scratch->size = size;
    return VHDX_OK;
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    struct scratch *scratch = scratch_of(storage);

    (void)mode;
    if (file_offset >= scratch->size)
        return VHDX_OK;
    return put(scratch, NULL, vx_min_u64(length, scratch->size - file_offset), file_offset, err);
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    (void)storage, (void)file_offset, (void)length, (void)err;
    return VHDX_OK;
}

/* The base's data or the next page that was written, whichever comes first. */
static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end, struct vhdx_error *err)
{
    struct scratch *scratch = scratch_of(storage);
    uint64_t        page_index;

    *start = *end = scratch->size;
    if (file_offset < scratch->base_end) {
        int rc = vx_storage_next_data(scratch->base, file_offset, start, end, err);

        if (rc < 0)
            return rc;
        *end = vx_min_u64(*end, scratch->base_end);
        if (*start >= *end)
            *start = *end = scratch->size;
    }
    if (file_offset < scratch->size && vx_page_next(&scratch->pages, file_offset / VX_PAGE, &page_index) &&
        page_index * VX_PAGE < *start) {
        *start = vx_max_u64(file_offset, page_index * VX_PAGE);
        *end = vx_min_u64((page_index + 1) * VX_PAGE, scratch->size);
    }
    return VHDX_OK;
}

static void
close_scratch(struct vhdx_storage *storage)
{
    struct scratch *scratch = scratch_of(storage);

    vx_page_free_range(&scratch->pages, 0, UINT64_MAX);
    vx_free(scratch);
}

static const struct vhdx_storage_methods scratch_methods = {
    .readv = read_vector,
    .writev = write_vector,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .close = close_scratch,
};

int
vx_scratch_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_error *err)
{
    struct scratch *scratch = vx_alloc_zeroed(1, sizeof *scratch);
    int             rc;

    if (scratch == NULL)
        return vx_fail_memory(err, "a plan");
    scratch->storage = (struct vhdx_storage){ .methods = &scratch_methods, .traits = base->traits, .name = base->name,
                                              .identity = base->identity };
    scratch->storage.traits.is_read_only = false;
    scratch->base = base;
    rc = vx_storage_get_size(base, &scratch->size, err);
    scratch->base_end = scratch->size;
    if (rc < 0)
        vx_free(scratch);
    else
        *out = &scratch->storage;
    return rc;
}
