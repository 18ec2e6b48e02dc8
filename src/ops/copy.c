/*
 * Copying the contents of one disk to another.
 *
 * Workers claim pieces of the source in order, a few MiB at a time, from one walk over its extents; each reads its
 * pieces into its own buffer and writes what is not zero.  The caller's thread is one of them.
 *
 *   C1  The target reads as zeros where nothing was written: zeros need no writing.
 *   C2  Every byte of the source is claimed by exactly one worker, or skipped as zeros: `done` counts both.
 *   C3  After the first error, or a cancel, nothing more is claimed.  The first error is the job's.
 *   C4  Memory: one buffer of CHUNK a worker, whatever the disks' sizes.
 */
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/copy_share.h"
#include "ops/extent_walk.h"
#include "ops/job.h"

#define CHUNK          (4 * VX_MIB)
#define PIECE_CAPACITY 64 /* scattered small extents share one claim */
#define GRAIN          4096u
#define DEFAULT_THREADS_MAX 8
#define THREADS_MAX         64

struct copy_job {
    struct vhdx_disk           *from, *to; /* these three: set before the workers start */
    bool                        detect_zeros;
    const struct vhdx_progress *progress;
    struct vx_share             share;
    pthread_mutex_t             lock;      /* guards all below; taken before any lock of the disks */
    struct vx_extent_walk       walk;
    uint64_t                    done;
    int                         rc;
    struct vhdx_error           err;
};

struct piece {
    uint64_t guest_offset;
    size_t   length;
};

/* Pieces of at most CHUNK bytes together. */
struct claim {
    struct piece pieces[PIECE_CAPACITY];
    size_t       count;
    uint64_t     length;
};

static void
fail_job_locked(struct copy_job *job, int rc, const struct vhdx_error *err)
{
    if (job->rc != VHDX_OK)
        return;
    job->rc = rc;
    job->err = *err;
}

/* Take from the walk until the claim is full.  Claims end at multiples of CHUNK on the disk where data goes on, so
 * that blocks of the target are mostly written whole. */
static int
fill_claim_locked(struct copy_job *job, struct claim *claim, struct vhdx_error *err)
{
    claim->count = 0;
    claim->length = 0;
    while (claim->count < PIECE_CAPACITY && claim->length < CHUNK) {
        uint64_t position = job->walk.position, length;
        bool is_zero;
        int rc = vx_walk_peek(&job->walk, &length, &is_zero, err);

        if (rc < 0)
            return rc;
        if (length == 0)
            break;
        if (is_zero) {
            job->done += length;
        } else {
            length = vx_min_u64(length, vx_round_down(position, CHUNK) + CHUNK - position);
            length = vx_min_u64(length, CHUNK - claim->length);
            claim->pieces[claim->count++] = (struct piece){ .guest_offset = position, .length = (size_t)length };
            claim->length += length;
        }
        vx_walk_advance(&job->walk, length);
    }
    return VHDX_OK;
}

/* Account for the last claim (length 0 at first), tell progress, take the next.  Nothing is claimed at the end. */
static void
next_claim(struct copy_job *job, struct claim *claim)
{
    struct vhdx_error err;
    int rc;

    pthread_mutex_lock(&job->lock);
    job->done += claim->length;
    claim->count = 0;
    claim->length = 0;
    if (job->rc == VHDX_OK) {
        rc = vx_job_report(job->progress, job->done, job->walk.size, &err);
        if (rc == VHDX_OK)
            rc = fill_claim_locked(job, claim, &err);
        if (rc < 0) {
            claim->count = 0;
            fail_job_locked(job, rc, &err);
        }
    }
    pthread_mutex_unlock(&job->lock);
}

/* Bytes to the next multiple of GRAIN on the disk. */
static size_t
grain_length(const struct piece *piece, size_t at)
{
    uint64_t guest_offset = piece->guest_offset + at;
    uint64_t left = GRAIN - (guest_offset & (GRAIN - 1));

    return (size_t)vx_min_u64(left, piece->length - at);
}

/* From `at` on: how far do grains go that are all zero, or all not? */
static size_t
run_end(const struct piece *piece, const uint8_t *bytes, size_t at, bool *is_zero)
{
    size_t length = grain_length(piece, at);

    *is_zero = vx_is_zero(bytes + at, length);
    at += length;
    while (at < piece->length) {
        length = grain_length(piece, at);
        if (vx_is_zero(bytes + at, length) != *is_zero)
            break;
        at += length;
    }
    return at;
}

/* Shared with the source where the host can, since it was read for its zeros only; else written. */
static int
put_run(struct copy_job *job, const uint8_t *bytes, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    size_t head = (size_t)vx_min_u64(vx_round_up(guest_offset, GRAIN) - guest_offset, length); /* whole grains only */
    size_t middle = (length - head) / GRAIN * GRAIN, tail = length - head - middle;
    int    rc = vx_share_range(&job->share, bytes + head, guest_offset + head, middle, err);

    if (rc == VHDX_E_UNSUPPORTED)
        return vhdx_disk_write(job->to, bytes, length, guest_offset, err);
    if (rc == VHDX_OK && head > 0)
        rc = vhdx_disk_write(job->to, bytes, head, guest_offset, err);
    if (rc == VHDX_OK && tail > 0)
        rc = vhdx_disk_write(job->to, bytes + length - tail, tail, guest_offset + length - tail, err);
    return rc;
}

static int
write_piece(struct copy_job *job, const struct piece *piece, const uint8_t *bytes, struct vhdx_error *err)
{
    size_t at = 0;

    if (!job->detect_zeros)
        return vhdx_disk_write(job->to, bytes, piece->length, piece->guest_offset, err);
    while (at < piece->length) {
        bool is_zero;
        size_t end = run_end(piece, bytes, at, &is_zero);
        int rc = VHDX_OK;

        if (!is_zero)
            rc = put_run(job, bytes + at, end - at, piece->guest_offset + at, err);
        if (rc < 0)
            return rc;
        at = end;
    }
    return VHDX_OK;
}

static int
copy_claim(struct copy_job *job, const struct claim *claim, uint8_t *buffer, struct vhdx_error *err)
{
    for (size_t i = 0; i < claim->count; i++) {
        const struct piece *piece = &claim->pieces[i];
        int rc = VHDX_E_UNSUPPORTED;

        if (!job->detect_zeros) /* nobody has to see the bytes */
            rc = vx_share_range(&job->share, NULL, piece->guest_offset, piece->length, err);
        if (rc == VHDX_E_UNSUPPORTED) {
            rc = vhdx_disk_read(job->from, buffer, piece->length, piece->guest_offset, err);
            if (rc == VHDX_OK)
                rc = write_piece(job, piece, buffer, err);
        }
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

static void
fail_job(struct copy_job *job, int rc, const struct vhdx_error *err)
{
    pthread_mutex_lock(&job->lock);
    fail_job_locked(job, rc, err);
    pthread_mutex_unlock(&job->lock);
}

static void *
work(void *context)
{
    struct copy_job *job = context;
    struct claim claim = { .length = 0 };
    struct vhdx_error err;
    uint8_t *buffer = vx_alloc(CHUNK);

    if (buffer == NULL) {
        fail_job(job, vx_fail_memory(&err, "a copy buffer"), &err);
        return NULL;
    }
    for (next_claim(job, &claim); claim.count > 0; next_claim(job, &claim)) {
        int rc = copy_claim(job, &claim, buffer, &err);

        if (rc < 0) {
            fail_job(job, rc, &err);
            break;
        }
    }
    vx_free(buffer);
    return NULL;
}

/* No more threads than there are chunks. */
static unsigned
choose_thread_count(const struct vhdx_copy_options *options, uint64_t size)
{
    uint64_t count = options != NULL ? options->thread_count : 0;

    if (count == 0) {
        long online = sysconf(_SC_NPROCESSORS_ONLN);

        count = online < 1 ? 1 : vx_min_u64((uint64_t)online, DEFAULT_THREADS_MAX);
    }
    count = vx_min_u64(count, THREADS_MAX);
    return (unsigned)vx_max_u64(1, vx_min_u64(count, vx_ceil_div(size, CHUNK)));
}

/* Run the workers to their end.  The program's signals are for its own threads.  A thread that cannot be started is
 * done without: one is here already. */
static void
run_workers(struct copy_job *job, unsigned thread_count)
{
    pthread_t threads[THREADS_MAX];
    unsigned started = 0;
    sigset_t all, old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    while (started + 1 < thread_count && pthread_create(&threads[started], NULL, work, job) == 0)
        started++;
    pthread_sigmask(SIG_SETMASK, &old, NULL);

    work(job);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
}

int
vhdx_copy(struct vhdx_disk *from, struct vhdx_disk *to, const struct vhdx_copy_options *options,
          const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct copy_job job = {
        .from = from, .to = to, .progress = progress, .detect_zeros = options != NULL && options->detect_zeros,
    };
    int rc;

    if (vhdx_disk_size(to) < vhdx_disk_size(from))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the target is smaller than the source");
    rc = pthread_mutex_init(&job.lock, NULL);
    if (rc != 0)
        return vx_fail_errno(err, rc, VHDX_PART_NONE, VHDX_NO_OFFSET, "cannot make a lock");
    vx_walk_init(&job.walk, from);
    vx_share_begin(&job.share, from, to);
    run_workers(&job, choose_thread_count(options, job.walk.size));
    pthread_mutex_destroy(&job.lock);
    if (job.rc < 0) {
        if (err != NULL)
            *err = job.err;
        return job.rc;
    }
    return vhdx_disk_flush(to, err);
}
