/* Is the disk what the model says?  Bytes as they are read, and extents as they are told. */
#include <inttypes.h>
#include <string.h>

#include "run.h"
#include "storage/storage.h"

#define WHOLE_DISK  (UINT64_C(24) << 20) /* up to here all is read, beyond it the windows and all that has data */
#define MOST_BLOCKS UINT64_C(70000)      /* up to here the extents of all blocks are looked at */
#define PIECE       ((size_t)1 << 20)

static size_t
least(uint64_t a, uint64_t b)
{
    return (size_t)(a < b ? a : b);
}

/* `bytes` is what the disk shows at guest_offset. */
static bool
compare(struct run *run, const uint8_t *bytes, uint64_t guest_offset, size_t length, const char *how)
{
    model_read(&run->model, run->expected, guest_offset, length);
    if (memcmp(bytes, run->expected, length) == 0)
        return true;
    for (size_t i = 0; i < length; i++)
        if (bytes[i] != run->expected[i])
            return violated(run, "%s: byte %" PRIu64 " is %02x and should be %02x", how, guest_offset + i, bytes[i],
                            run->expected[i]);
    return false;
}

bool
examine_read(struct run *run, uint64_t guest_offset, size_t length)
{
    struct vhdx_error err = { .message = "" };
    int               rc = vhdx_disk_read(run->disk, run->bytes, length, guest_offset, &err);

    if (rc < 0)
        return violated(run, "read %zu at %" PRIu64 ": %s", length, guest_offset, err.message);
    return compare(run, run->bytes, guest_offset, length, "read");
}

static bool
examine_range(struct run *run, uint64_t guest_offset, uint64_t length)
{
    while (length > 0) {
        size_t n = least(length, PIECE);

        if (!examine_read(run, guest_offset, n))
            return false;
        guest_offset += n;
        length -= n;
    }
    return true;
}

/* --- extents --- */

static bool
read_file(struct run *run, uint64_t file_offset, uint64_t guest_offset, size_t length)
{
    struct vhdx_error err = { .message = "" };
    int               rc = vx_storage_read(run->memory, run->bytes, length, file_offset, &err);

    if (rc < 0)
        return violated(run, "extent of %" PRIu64 " at file offset %" PRIu64 ": %s", guest_offset, file_offset,
                        err.message);
    return compare(run, run->bytes, guest_offset, length, "extent");
}

/* What the file holds at file_offset is what the guest sees: all that is data in the file, and every cell of the
 * model. */
static bool
examine_data(struct run *run, const struct vhdx_extent *extent)
{
    uint64_t at = extent->file_offset, file_end = at + extent->length, start, end, guest_offset;
    size_t   place = 0;
    const uint8_t *bytes;

    while (at < file_end) {
        if (vx_storage_next_data(run->memory, at, &start, &end, NULL) < 0)
            return violated(run, "next_data failed");
        if (start == end || start >= file_end)
            break;
        at = start + least(least(end, file_end) - start, PIECE);
        if (!read_file(run, start, extent->guest_offset + (start - extent->file_offset), (size_t)(at - start)))
            return false;
    }
    if (extent->length <= PIECE)
        return read_file(run, extent->file_offset, extent->guest_offset, (size_t)extent->length);
    while (model_next_cell(&run->model, &place, &guest_offset, &bytes)) {
        uint64_t from = guest_offset > extent->guest_offset ? guest_offset : extent->guest_offset;
        uint64_t extent_end = extent->guest_offset + extent->length;
        uint64_t to = guest_offset + CELL < extent_end ? guest_offset + CELL : extent_end;

        if (from < to &&
            !read_file(run, extent->file_offset + (from - extent->guest_offset), from, (size_t)(to - from)))
            return false;
    }
    return true;
}

static bool
examine_extent(struct run *run, const struct vhdx_extent *extent)
{
    bool is_data = (extent->flags & VHDX_EXTENT_DATA) != 0, is_zero = (extent->flags & VHDX_EXTENT_ZERO) != 0;

    if (extent->length == 0 || extent->depth != 0 || is_data == is_zero)
        return violated(run, "extent at %" PRIu64 ": length %" PRIu64 ", depth %u, flags %u", extent->guest_offset,
                        extent->length, (unsigned)extent->depth, (unsigned)extent->flags);
    if (is_data && (extent->flags & VHDX_EXTENT_PRESENT) == 0)
        return violated(run, "extent at %" PRIu64 ": data that is not present", extent->guest_offset);
    if (is_data)
        return examine_data(run, extent);
    if (!model_is_zero(&run->model, extent->guest_offset, extent->length))
        return violated(run, "extent at %" PRIu64 ": %" PRIu64 " bytes are not all zeros", extent->guest_offset,
                        extent->length);
    return true;
}

static bool
could_be_one(const struct vhdx_extent *a, const struct vhdx_extent *b)
{
    return a->flags == b->flags &&
           ((a->flags & VHDX_EXTENT_DATA) == 0 || a->file_offset + a->length == b->file_offset);
}

bool
examine_extents(struct run *run, uint64_t guest_offset, uint64_t length, bool is_sparse)
{
    struct vhdx_extent extents[16];
    struct vhdx_error  err = { .message = "" };
    uint64_t           end = guest_offset + length;

    while (guest_offset < end) {
        size_t capacity = (size_t)random_between(&run->random, 1, sizeof extents / sizeof extents[0]), count;
        int    rc = (is_sparse ? vhdx_disk_resolve_sparse : vhdx_disk_resolve)(
            run->disk, guest_offset, end - guest_offset, extents, capacity, &count, &err);

        if (rc < 0)
            return violated(run, "resolve at %" PRIu64 ": %s", guest_offset, err.message);
        if (count == 0 || count > capacity)
            return violated(run, "resolve at %" PRIu64 ": %zu extents of %zu", guest_offset, count, capacity);
        for (size_t i = 0; i < count; i++) {
            if (extents[i].guest_offset != guest_offset || extents[i].length > end - guest_offset)
                return violated(run, "resolve: a gap or an overlap at %" PRIu64, guest_offset);
            if (i > 0 && could_be_one(&extents[i - 1], &extents[i]))
                return violated(run, "resolve: two extents that are one, at %" PRIu64, guest_offset);
            if (!examine_extent(run, &extents[i]))
                return false;
            guest_offset += extents[i].length;
        }
    }
    return true;
}

/* --- everything --- */

static bool
examine_all_extents(struct run *run, bool is_sparse)
{
    const struct config *config = run->config;
    uint64_t             reach = 2 * (uint64_t)config->block_size;

    if (config->block_size == 0 || config->size / config->block_size < MOST_BLOCKS)
        return examine_extents(run, 0, config->size, is_sparse);
    for (size_t i = 0; i < run->window_count; i++) {
        const struct window *window = &run->windows[i];
        uint64_t from = window->guest_offset > reach ? window->guest_offset - reach : 0;
        uint64_t to = window->guest_offset + window->length;

        to = config->size - to < reach ? config->size : to + reach;
        if (!examine_extents(run, from, to - from, is_sparse))
            return false;
    }
    return true;
}

bool
examine(struct run *run)
{
    const uint8_t *bytes;
    uint64_t       guest_offset;
    size_t         place = 0;

    if (run->config->size <= WHOLE_DISK && !examine_range(run, 0, run->config->size))
        return false;
    for (size_t i = 0; i < run->window_count && run->config->size > WHOLE_DISK; i++)
        if (!examine_range(run, run->windows[i].guest_offset, run->windows[i].length))
            return false;
    while (model_next_cell(&run->model, &place, &guest_offset, &bytes))
        if (!examine_read(run, guest_offset, least(CELL, run->config->size - guest_offset)))
            return false;
    return examine_all_extents(run, false) && examine_all_extents(run, true);
}
