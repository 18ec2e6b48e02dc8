/*
 * Locks.  A pthread call that fails here is a mistake of ours (a lock not initialised, or taken twice), after which
 * nothing that the lock guards can be trusted: the process stops.
 *
 * With VHDX_LOCK_CHECKS each thread counts the locks it holds by rank, and stops the process when it
 *
 *   K1  takes a lock while it holds one of a higher rank,
 *   K2  takes a second lock of one rank (BLOCK excepted: a request may cover several blocks, in rising order),
 *   K3  leaves a rank it does not hold,
 *   K4  waits for a condition while it holds a lock of a higher rank than the condition's.
 */
#include <stdio.h>
#include <stdlib.h>

#include "base/lock.h"

static void
must(int rc, const char *what)
{
    if (rc == 0)
        return;
    fprintf(stderr, "libvhdx: %s failed with error %d\n", what, rc);
    abort();
}

#ifdef VHDX_LOCK_CHECKS

static _Thread_local unsigned held[VX_RANK_STORAGE + 1];

static const char *
rank_name(enum vx_rank rank)
{
    switch (rank) {
    case VX_RANK_BLOCK:   return "BLOCK";
    case VX_RANK_SESSION: return "SESSION";
    case VX_RANK_COMMIT:  return "COMMIT";
    case VX_RANK_META:    return "META";
    case VX_RANK_ROOM:    return "ROOM";
    case VX_RANK_STORAGE: return "STORAGE";
    }
    return "unknown";
}

static void
stop(enum vx_rank rank, const char *does_what, enum vx_rank other, const char *why)
{
    fprintf(stderr, "libvhdx: lock order: a thread %s rank %s%s%s\n", does_what, rank_name(rank), why,
            rank_name(other));
    abort();
}

static void
check_nothing_above(enum vx_rank rank, const char *does_what)
{
    for (unsigned above = (unsigned)rank + 1; above <= VX_RANK_STORAGE; above++)
        if (held[above] > 0)
            stop(rank, does_what, (enum vx_rank)above, " while it holds ");
}

void
vx_rank_enter(enum vx_rank rank)
{
    check_nothing_above(rank, "takes"); /* K1 */
    if (held[rank] > 0 && rank != VX_RANK_BLOCK)
        stop(rank, "takes", rank, " while it holds "); /* K2 */
    held[rank]++;
}

void
vx_rank_leave(enum vx_rank rank)
{
    if (held[rank] == 0)
        stop(rank, "leaves", rank, " without holding "); /* K3 */
    held[rank]--;
}

static void
check_wait(enum vx_rank rank)
{
    if (held[rank] == 0)
        stop(rank, "waits on", rank, " without holding ");
    check_nothing_above(rank, "waits on"); /* K4 */
}

#else

void
vx_rank_enter(enum vx_rank rank)
{
    (void)rank;
}

void
vx_rank_leave(enum vx_rank rank)
{
    (void)rank;
}

static inline void
check_wait(enum vx_rank rank)
{
    (void)rank;
}

#endif

int
vx_mutex_init(struct vx_mutex *mutex, enum vx_rank rank)
{
    mutex->rank = rank;
    return pthread_mutex_init(&mutex->mutex, NULL);
}

void
vx_mutex_destroy(struct vx_mutex *mutex)
{
    must(pthread_mutex_destroy(&mutex->mutex), "destroying a mutex");
}

/* What these functions take and release is known to clang from lock.h alone; pthread's own carry no annotations. */
VX_NO_THREAD_CHECKS void
vx_mutex_lock(struct vx_mutex *mutex)
{
    vx_rank_enter(mutex->rank);
    must(pthread_mutex_lock(&mutex->mutex), "taking a mutex");
}

VX_NO_THREAD_CHECKS void
vx_mutex_unlock(struct vx_mutex *mutex)
{
    vx_rank_leave(mutex->rank);
    must(pthread_mutex_unlock(&mutex->mutex), "leaving a mutex");
}

int
vx_rwlock_init(struct vx_rwlock *lock, enum vx_rank rank)
{
    pthread_rwlockattr_t attributes;
    int rc = pthread_rwlockattr_init(&attributes);

    if (rc != 0)
        return rc;
#ifdef __GLIBC__
    /* By default glibc lets a stream of readers keep a writer out for ever.  K2 is what makes this kind safe. */
    rc = pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
#endif
    lock->rank = rank;
    if (rc == 0)
        rc = pthread_rwlock_init(&lock->rwlock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
    return rc;
}

void
vx_rwlock_destroy(struct vx_rwlock *lock)
{
    must(pthread_rwlock_destroy(&lock->rwlock), "destroying a lock");
}

VX_NO_THREAD_CHECKS void
vx_rwlock_lock_shared(struct vx_rwlock *lock)
{
    vx_rank_enter(lock->rank);
    must(pthread_rwlock_rdlock(&lock->rwlock), "taking a shared lock");
}

VX_NO_THREAD_CHECKS void
vx_rwlock_unlock_shared(struct vx_rwlock *lock)
{
    vx_rank_leave(lock->rank);
    must(pthread_rwlock_unlock(&lock->rwlock), "leaving a shared lock");
}

VX_NO_THREAD_CHECKS void
vx_rwlock_lock(struct vx_rwlock *lock)
{
    vx_rank_enter(lock->rank);
    must(pthread_rwlock_wrlock(&lock->rwlock), "taking an exclusive lock");
}

VX_NO_THREAD_CHECKS void
vx_rwlock_unlock(struct vx_rwlock *lock)
{
    vx_rank_leave(lock->rank);
    must(pthread_rwlock_unlock(&lock->rwlock), "leaving an exclusive lock");
}

int
vx_condition_init(struct vx_condition *condition)
{
    return pthread_cond_init(&condition->condition, NULL);
}

void
vx_condition_destroy(struct vx_condition *condition)
{
    must(pthread_cond_destroy(&condition->condition), "destroying a condition");
}

void
vx_condition_wait(struct vx_condition *condition, struct vx_mutex *mutex)
{
    check_wait(mutex->rank);
    must(pthread_cond_wait(&condition->condition, &mutex->mutex), "waiting for a condition");
}

void
vx_condition_wake_all(struct vx_condition *condition)
{
    must(pthread_cond_broadcast(&condition->condition), "waking waiters");
}
