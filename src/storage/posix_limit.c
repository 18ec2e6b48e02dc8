/*
 * RLIMIT_FSIZE.  A process that writes past its limit gets SIGXFSZ, whose default is death, before it gets EFBIG.
 * A library may not change what signals do to the process, so the calling thread blocks this one around a call that
 * may meet the limit, and takes back what the call raised: the kernel sends it to the thread itself.
 *
 * The limit also holds for bytes that exist already, so two things make a write safe without any of that: it ends
 * inside the file, and below the limit, as both were when last looked at.  They are kept as one number, in MiB
 * because that fits what every processor can load and store whole.
 */
#include <errno.h>
#include <limits.h>
#include <sys/resource.h>
#include <time.h>

#include "base/checked.h"
#include "storage/posix.h"

void
vx_posix_limit_enter(struct vx_posix_limit *limit)
{
    sigset_t own, pending;

    sigemptyset(&own);
    sigaddset(&own, SIGXFSZ);
    pthread_sigmask(SIG_BLOCK, &own, &limit->old_mask);

    /* One that waits already, because the caller had it blocked, is the caller's and stays. */
    limit->was_pending = sigismember(&limit->old_mask, SIGXFSZ) == 1 && sigpending(&pending) == 0 &&
                         sigismember(&pending, SIGXFSZ) == 1;
}

void
vx_posix_limit_leave(const struct vx_posix_limit *limit, int system_errno)
{
    if (system_errno == EFBIG && !limit->was_pending) {
        const struct timespec at_once = { 0 };
        sigset_t own;

        sigemptyset(&own);
        sigaddset(&own, SIGXFSZ);
        while (sigtimedwait(&own, NULL, &at_once) < 0 && errno == EINTR)
            continue;
    }
    pthread_sigmask(SIG_SETMASK, &limit->old_mask, NULL);
}

static unsigned
whole_mib(uint64_t size)
{
    return (unsigned)vx_min_u64(size / VX_MIB, UINT_MAX);
}

bool
vx_posix_is_safe(const struct vx_posix *posix, uint64_t end)
{
    return end <= atomic_load_explicit(&posix->safe_mib, memory_order_relaxed) * VX_MIB;
}

/* Threads may pass each other here; the smaller number costs a few calls more, later. */
void
vx_posix_now_safe(struct vx_posix *posix, uint64_t end)
{
    if (!vx_posix_is_safe(posix, end))
        atomic_store_explicit(&posix->safe_mib, whole_mib(end), memory_order_relaxed);
}

void
vx_posix_was_cut(struct vx_posix *posix, uint64_t size)
{
    if (vx_posix_is_safe(posix, size))
        atomic_store_explicit(&posix->safe_mib, whole_mib(size), memory_order_relaxed);
}

void
vx_posix_first_safe(struct vx_posix *posix, uint64_t size)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) != 0)
        size = 0;
    else if (limit.rlim_cur != RLIM_INFINITY)
        size = vx_min_u64(size, (uint64_t)limit.rlim_cur);
    atomic_init(&posix->safe_mib, whole_mib(size));
}
