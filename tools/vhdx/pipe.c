/* A raw disk that comes through standard input: read in order, zero runs left out, its length checked. */
#include "pipe.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"

#define CHUNK (1024 * 1024)
#define GRAIN 4096

/* Read until the buffer is full or the input ends. */
static int
read_full(uint8_t *buffer, size_t length, size_t *got, struct vhdx_error *err)
{
    *got = 0;
    while (*got < length) {
        ssize_t count = read(STDIN_FILENO, buffer + *got, length - *got);

        if (count == 0)
            return VHDX_OK;
        if (count < 0 && errno != EINTR)
            return fail_errno(err, errno, "standard input");
        if (count > 0)
            *got += (size_t)count;
    }
    return VHDX_OK;
}

static bool
is_zero(const uint8_t *bytes, size_t length)
{
    return bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0;
}

/* Length of the run at `start` whose grains are all zeros, or all not. */
static size_t
measure_run(const uint8_t *buffer, size_t start, size_t end, bool *run_is_zero)
{
    size_t position = start;

    while (position < end) {
        size_t length = end - position < GRAIN ? end - position : GRAIN;
        bool grain_is_zero = is_zero(buffer + position, length);

        if (position == start)
            *run_is_zero = grain_is_zero;
        else if (grain_is_zero != *run_is_zero)
            break;
        position += length;
    }
    return position - start;
}

static int
write_chunk(struct vhdx_disk *to, const uint8_t *buffer, size_t length, uint64_t guest_offset, bool detect_zeros,
            bool must_zero, struct vhdx_error *err)
{
    size_t position = 0;

    while (position < length) {
        bool run_is_zero = false;
        size_t run = detect_zeros ? measure_run(buffer, position, length, &run_is_zero) : length;
        int rc = VHDX_OK;

        if (!run_is_zero)
            rc = vhdx_disk_write(to, buffer + position, run, guest_offset + position, err);
        else if (must_zero)
            rc = vhdx_disk_zero(to, guest_offset + position, run, 0, err);
        if (rc < 0)
            return rc;
        position += run;
    }
    return VHDX_OK;
}

static int
judge_chunk(const uint8_t *buffer, size_t wanted, size_t got, uint64_t done, uint64_t size, struct vhdx_error *err)
{
    if (got < wanted)
        return fail(err, VHDX_E_RANGE, "standard input ended after %" PRIu64 " of %" PRIu64 " bytes", done + got,
                    size);
    if (done == 0 && got >= 8 && memcmp(buffer, "vhdxfile", 8) == 0)
        return fail(err, VHDX_E_UNSUPPORTED, "standard input is a VHDX file, which cannot be read from a pipe:"
                    " store it in a file first");
    return VHDX_OK;
}

static int
copy_chunks(struct vhdx_disk *to, uint8_t *buffer, uint64_t size, bool detect_zeros, bool must_zero,
            struct progress *progress, struct vhdx_error *err)
{
    uint64_t done = 0;
    size_t got;
    int rc;

    while (done < size) {
        size_t wanted = size - done < CHUNK ? (size_t)(size - done) : CHUNK;

        rc = read_full(buffer, wanted, &got, err);
        if (rc == 0)
            rc = judge_chunk(buffer, wanted, got, done, size, err);
        if (rc == 0)
            rc = write_chunk(to, buffer, got, done, detect_zeros, must_zero, err);
        if (rc < 0)
            return rc;
        done += got;
        progress_report(progress, done, size);
    }
    rc = read_full(buffer, 1, &got, err);
    if (rc == 0 && got > 0)
        rc = fail(err, VHDX_E_RANGE, "standard input goes on after %" PRIu64 " bytes: --size is too small", size);
    return rc;
}

int
pipe_copy(struct vhdx_disk *to, uint64_t size, bool detect_zeros, bool must_zero, struct progress *progress,
          struct vhdx_error *err)
{
    uint8_t *buffer = need_memory(malloc(CHUNK));
    int rc = copy_chunks(to, buffer, size, detect_zeros, must_zero, progress, err);

    free(buffer);
    return rc < 0 ? rc : vhdx_disk_flush(to, err);
}
