/*
 * A file in memory: sparse, and safe for any number of threads.
 *
 *   M1  A page that is missing reads as zeros.
 *   M2  Bytes of a page past the file's end are zeros, so that growing shows nothing old.
 */
#include <inttypes.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/lock.h"
#include "base/memory.h"
#include "storage/page_tree.h"
#include "storage/storage.h"

/* What a file of the system could have, and what the tree has places for. */
#define SIZE_LIMIT ((uint64_t)INT64_MAX)

struct memory {
    struct vhdx_storage storage;
    struct vx_rwlock    lock; /* rank STORAGE: guards all below */
    struct vx_page_tree pages;
    uint64_t            size;
};

static struct memory *
memory_of(struct vhdx_storage *storage)
{
    return (struct memory *)storage;
}

/* Does the vector fit between file_offset and limit?  Then *end is where it ends. */
static bool
find_end(const struct iovec *vector, int vector_count, uint64_t file_offset, uint64_t limit, uint64_t *end)
{
    *end = file_offset;
    for (int i = 0; i < vector_count; i++)
        if (!vx_add_u64(*end, vector[i].iov_len, end))
            return false;
    return *end <= limit;
}

/* The part of [file_offset, end) that lies in one page. */
static size_t
part_in_page(uint64_t file_offset, uint64_t end)
{
    return (size_t)vx_min_u64(VX_PAGE - file_offset % VX_PAGE, end - file_offset);
}

static void
read_piece_locked(struct memory *memory, uint8_t *buffer, size_t length, uint64_t file_offset)
    VX_REQUIRES_SHARED(memory->lock);
static void
read_piece_locked(struct memory *memory, uint8_t *buffer, size_t length, uint64_t file_offset)
{
    const uint64_t end = file_offset + length;

    while (file_offset < end) {
        const size_t part = part_in_page(file_offset, end);
        const uint8_t *page = vx_page_find(&memory->pages, file_offset / VX_PAGE);

        if (page)
            memcpy(buffer, page + file_offset % VX_PAGE, part);
        else
            memset(buffer, 0, part); /* M1 */
        buffer += part;
        file_offset += part;
    }
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);
    int rc = VHDX_OK;
    uint64_t end;

    vx_rwlock_lock_shared(&memory->lock);
    if (!find_end(vector, vector_count, file_offset, memory->size, &end) && end > file_offset)
        rc = vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_offset,
                     "the file ends at %" PRIu64 ", before %" PRIu64, memory->size, end);
    for (int i = 0; i < vector_count && rc == VHDX_OK; i++) {
        read_piece_locked(memory, vector[i].iov_base, vector[i].iov_len, file_offset);
        file_offset += vector[i].iov_len;
    }
    vx_rwlock_unlock_shared(&memory->lock);
    return rc;
}

static bool
write_piece_locked(struct memory *memory, const uint8_t *buffer, size_t length, uint64_t file_offset)
    VX_REQUIRES(memory->lock);
static bool
write_piece_locked(struct memory *memory, const uint8_t *buffer, size_t length, uint64_t file_offset)
{
    const uint64_t end = file_offset + length;

    while (file_offset < end) {
        const size_t part = part_in_page(file_offset, end);
        uint8_t *page = vx_page_make(&memory->pages, file_offset / VX_PAGE);

        if (!page)
            return false;
        memcpy(page + file_offset % VX_PAGE, buffer, part);
        buffer += part;
        file_offset += part;
        memory->size = vx_max_u64(memory->size, file_offset); /* at once: M2 also when the next page fails */
    }
    return true;
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);
    bool is_written = true;
    uint64_t end;

    if (!find_end(vector, vector_count, file_offset, SIZE_LIMIT, &end))
        return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, file_offset, "no file is that long");
    vx_rwlock_lock(&memory->lock);
    for (int i = 0; i < vector_count && is_written; i++) {
        is_written = write_piece_locked(memory, vector[i].iov_base, vector[i].iov_len, file_offset);
        file_offset += vector[i].iov_len;
    }
    vx_rwlock_unlock(&memory->lock);
    return is_written ? VHDX_OK : vx_fail_memory(err, "the contents of a file in memory");
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    (void)storage, (void)err;
    return VHDX_OK; /* nothing is more durable than this will ever be */
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);

    (void)err;
    vx_rwlock_lock_shared(&memory->lock);
    *out = memory->size;
    vx_rwlock_unlock_shared(&memory->lock);
    return VHDX_OK;
}

/* Pages that lie inside go; of those at the ends the part is cleared. */
static void
clear_locked(struct memory *memory, uint64_t file_offset, uint64_t end) VX_REQUIRES(memory->lock);
static void
clear_locked(struct memory *memory, uint64_t file_offset, uint64_t end)
{
    while (file_offset < end) {
        const size_t part = part_in_page(file_offset, end);
        uint8_t *page;

        if (part == VX_PAGE) {
            const uint64_t whole_end = vx_round_down(end, VX_PAGE);

            vx_page_free_range(&memory->pages, file_offset / VX_PAGE, whole_end / VX_PAGE);
            file_offset = whole_end;
            continue;
        }
        page = vx_page_find(&memory->pages, file_offset / VX_PAGE);
        if (page)
            memset(page + file_offset % VX_PAGE, 0, part);
        file_offset += part;
    }
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);

    if (size > SIZE_LIMIT)
        return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, size, "no file is that long");
    vx_rwlock_lock(&memory->lock);
    if (size < memory->size)
        clear_locked(memory, size, vx_round_up(memory->size, VX_PAGE)); /* M2 */
    memory->size = size;
    vx_rwlock_unlock(&memory->lock);
    return VHDX_OK;
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);
    uint64_t end;

    (void)mode, (void)err; /* memory is not a thing to hold on to */
    vx_rwlock_lock(&memory->lock);
    if (!vx_add_u64(file_offset, length, &end) || end > memory->size)
        end = memory->size; /* past it all is zero: M2 */
    clear_locked(memory, file_offset, end);
    vx_rwlock_unlock(&memory->lock);
    return VHDX_OK;
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    (void)storage, (void)file_offset, (void)length, (void)err;
    return VHDX_OK; /* how much memory there will be later is not known here */
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
          struct vhdx_error *err)
{
    struct memory *memory = memory_of(storage);
    uint64_t page_index;

    (void)err;
    vx_rwlock_lock_shared(&memory->lock);
    *start = *end = memory->size;
    if (file_offset < memory->size && vx_page_next(&memory->pages, file_offset / VX_PAGE, &page_index)) {
        *start = vx_max_u64(file_offset, page_index * VX_PAGE);
        do
            page_index++;
        while (vx_page_find(&memory->pages, page_index));
        *end = vx_min_u64(page_index * VX_PAGE, memory->size);
    }
    vx_rwlock_unlock_shared(&memory->lock);
    return VHDX_OK;
}

static void
close_memory(struct vhdx_storage *storage)
{
    struct memory *memory = memory_of(storage);

    vx_page_free_range(&memory->pages, 0, UINT64_MAX);
    vx_rwlock_destroy(&memory->lock);
    vx_free(memory);
}

static const struct vhdx_storage_methods memory_methods = {
    .readv = read_vector,
    .writev = write_vector,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .close = close_memory,
};

int
vhdx_storage_new_memory(struct vhdx_storage **out, uint64_t size, struct vhdx_error *err)
{
    struct memory *memory;

    if (size > SIZE_LIMIT)
        return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, size, "no file is that long");
    memory = vx_alloc_zeroed(1, sizeof *memory);
    if (!memory || vx_rwlock_init(&memory->lock, VX_RANK_STORAGE) != 0) {
        vx_free(memory);
        return vx_fail_memory(err, "a file in memory");
    }
    memory->storage.methods = &memory_methods;
    memory->storage.traits = (struct vhdx_storage_traits){
        .can_punch = true,
        .extension_survives_as_zeros = true, /* nothing here survives a power cut */
        .atomic_unit = 4096,
    };
    memory->size = size;
    *out = &memory->storage;
    return VHDX_OK;
}
