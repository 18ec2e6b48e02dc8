/* Writing a stream to a descriptor. */
#include "ops/sink.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/error.h"
#include "ops/job.h"

#define ZERO_BUFFER_SIZE (64 * 1024u)
#define ZERO_VECTOR      16 /* the same zeros, so often in one system call */

static const uint8_t zeros[ZERO_BUFFER_SIZE];

/* The signals a write can raise, held back from this thread while it writes. */
struct quiet {
    sigset_t blocked, old;
    bool     was_pending[2];
};
static const int quiet_signals[2] = { SIGPIPE, SIGXFSZ };

static void
quiet_begin(struct quiet *quiet)
{
    sigset_t pending;

    sigemptyset(&pending);
    sigpending(&pending);
    sigemptyset(&quiet->blocked);
    for (int i = 0; i < 2; i++) {
        quiet->was_pending[i] = sigismember(&pending, quiet_signals[i]) == 1;
        sigaddset(&quiet->blocked, quiet_signals[i]);
    }
    pthread_sigmask(SIG_BLOCK, &quiet->blocked, &quiet->old);
}

/* Swallow what our writes raised, and nothing that was waiting before. */
static void
quiet_end(const struct quiet *quiet)
{
    sigset_t pending, one;
    int number;

    sigemptyset(&pending);
    sigpending(&pending);
    for (int i = 0; i < 2; i++) {
        if (quiet->was_pending[i] || sigismember(&pending, quiet_signals[i]) != 1)
            continue;
        sigemptyset(&one);
        sigaddset(&one, quiet_signals[i]);
        sigwait(&one, &number);
    }
    pthread_sigmask(SIG_SETMASK, &quiet->old, NULL);
}

/* One write, of some of it at least.  Descriptors that do not block are waited for. */
static ssize_t
write_some(int descriptor, const struct iovec *vector, int vector_count)
{
    for (;;) {
        ssize_t got = writev(descriptor, vector, vector_count);

        if (got >= 0)
            return got;
        if (errno == EAGAIN || errno == EWOULDBLOCK) {
            struct pollfd waited = { .fd = descriptor, .events = POLLOUT };

            if (poll(&waited, 1, -1) < 0 && errno != EINTR)
                return -1;
        } else if (errno != EINTR) {
            return -1;
        }
    }
}

static int
fail_write(const struct vx_sink *sink, int system_errno, struct vhdx_error *err)
{
    return vx_fail_errno(err, system_errno, VHDX_PART_NONE, VHDX_NO_OFFSET, "cannot write the stream after %" PRIu64
                         " bytes", sink->done);
}

static int
write_all(struct vx_sink *sink, const uint8_t *bytes, size_t length, struct vhdx_error *err)
{
    while (length > 0) {
        struct iovec vector = { .iov_base = (void *)(uintptr_t)bytes, .iov_len = length };
        ssize_t got = write_some(sink->descriptor, &vector, 1);

        if (got < 0)
            return fail_write(sink, errno, err);
        bytes += got;
        length -= (size_t)got;
        sink->done += (uint64_t)got;
    }
    return VHDX_OK;
}

static int
write_zeros(struct vx_sink *sink, uint64_t length, struct vhdx_error *err)
{
    while (length > 0) {
        struct iovec vector[ZERO_VECTOR];
        uint64_t left = length;
        int count = 0;
        ssize_t got;

        for (; left > 0 && count < ZERO_VECTOR; count++) {
            vector[count].iov_base = (void *)(uintptr_t)zeros;
            vector[count].iov_len = (size_t)vx_min_u64(left, ZERO_BUFFER_SIZE);
            left -= vector[count].iov_len;
        }
        got = write_some(sink->descriptor, vector, count);
        if (got < 0)
            return fail_write(sink, errno, err);
        length -= (uint64_t)got;
        sink->done += (uint64_t)got;
    }
    return VHDX_OK;
}

int
vx_sink_write(struct vx_sink *sink, const void *buffer, size_t length, struct vhdx_error *err)
{
    struct quiet quiet;
    int rc;

    quiet_begin(&quiet);
    rc = write_all(sink, buffer, length, err);
    quiet_end(&quiet);
    return rc < 0 ? rc : vx_job_report(sink->progress, sink->done, sink->total, err);
}

int
vx_sink_zeros(struct vx_sink *sink, uint64_t length, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    /* In steps, so that a cancel is heard in the middle of a TiB of zeros. */
    while (length > 0 && rc == VHDX_OK) {
        uint64_t step = vx_min_u64(length, 64 * VX_MIB);
        struct quiet quiet;

        quiet_begin(&quiet);
        rc = write_zeros(sink, step, err);
        quiet_end(&quiet);
        if (rc == VHDX_OK)
            rc = vx_job_report(sink->progress, sink->done, sink->total, err);
        length -= step;
    }
    return rc;
}
