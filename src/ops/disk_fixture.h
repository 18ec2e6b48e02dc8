/* For the tests of jobs: disks in memory, raw ones with known bytes and VHDX ones made by streaming them. */
#ifndef VX_DISK_FIXTURE_H
#define VX_DISK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <vhdx/vhdx.h>

#include "base/checked.h"
#include "base/memory.h"
#include "storage/storage.h"

static inline struct vhdx_disk *
open_fixture(struct vhdx_storage *storage, enum vhdx_format format, unsigned flags)
{
    const struct vhdx_open_options options = { .flags = flags, .format = format };
    struct vhdx_disk *disk;
    struct vhdx_error err;

    if (vhdx_disk_open_storage(&disk, storage, &options, &err) < 0)
        fail_msg("%s", err.message);
    return disk;
}

/* A writable raw disk of zeros. */
static inline struct vhdx_disk *
new_raw(uint64_t size)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, size, NULL), VHDX_OK);
    return open_fixture(storage, VHDX_FORMAT_RAW, VHDX_OPEN_WRITE);
}

/* Bytes that tell where they belong: no page of them is like another. */
static inline void
write_pattern(struct vhdx_disk *disk, uint64_t guest_offset, size_t length)
{
    uint8_t *bytes = vx_alloc(length);
    struct vhdx_error err;

    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(1 + ((guest_offset + i) / 4096 * 7 + i % 251) % 255);
    if (vhdx_disk_write(disk, bytes, length, guest_offset, &err) < 0)
        fail_msg("%s", err.message);
    vx_free(bytes);
}

/* The bytes a stream wrote to an unnamed file, as a storage in memory. */
static inline struct vhdx_storage *
load_stream(int descriptor)
{
    off_t end = lseek(descriptor, 0, SEEK_END);
    struct vhdx_storage *storage;
    uint8_t *piece = vx_alloc(1 << 20);

    assert_true(end >= 0 && piece != NULL);
    assert_int_equal(vhdx_storage_new_memory(&storage, (uint64_t)end, NULL), VHDX_OK);
    for (off_t at = 0; at < end;) {
        ssize_t got = pread(descriptor, piece, 1 << 20, at);

        assert_true(got > 0);
        assert_int_equal(vx_storage_write(storage, piece, (size_t)got, (uint64_t)at, NULL), VHDX_OK);
        at += got;
    }
    vx_free(piece);
    return storage;
}

/* A VHDX image in memory with the contents of a disk. */
static inline struct vhdx_storage *
stream_to_storage(struct vhdx_disk *from, const struct vhdx_create_options *options)
{
    FILE *file = tmpfile();
    struct vhdx_storage *storage;
    struct vhdx_error err;

    assert_non_null(file);
    if (vhdx_write_vhdx_stream(from, fileno(file), options, NULL, &err) < 0)
        fail_msg("%s", err.message);
    storage = load_stream(fileno(file));
    fclose(file);
    return storage;
}

static inline void
assert_same_contents(struct vhdx_disk *a, struct vhdx_disk *b, const char *about)
{
    bool is_equal;
    uint64_t first_difference;
    struct vhdx_error err;

    if (vhdx_compare(a, b, NULL, &is_equal, &first_difference, &err) < 0)
        fail_msg("%s: %s", about, err.message);
    if (!is_equal)
        fail_msg("%s: differ at %llu", about, (unsigned long long)first_difference);
}

static inline void
close_disk(struct vhdx_disk *disk)
{
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

#endif
