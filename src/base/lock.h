/*
 * Locks, with clang's thread-safety annotations, and a check of the order in builds with VHDX_LOCK_CHECKS: a thread
 * takes locks in rising rank only (docs/concurrency.md).
 */
#ifndef VX_LOCK_H
#define VX_LOCK_H

#include <pthread.h>
#include <stdbool.h>

#if defined(__clang__)
#define VX_ANNOTATE(x) __attribute__((x))
#else
#define VX_ANNOTATE(x)
#endif
/* VX_GUARDED_BY takes a variable of the file: in C, clang does not look among the other members of a struct.  There
 * a comment on the group says which lock guards it, and VX_REQUIRES(object->lock) on each function ending in
 * _locked. */
#define VX_CAPABILITY(name)      VX_ANNOTATE(capability(name))
#define VX_GUARDED_BY(lock)      VX_ANNOTATE(guarded_by(lock))
#define VX_REQUIRES(lock)        VX_ANNOTATE(requires_capability(lock))
#define VX_REQUIRES_SHARED(lock) VX_ANNOTATE(requires_shared_capability(lock))
#define VX_ACQUIRES(...)         VX_ANNOTATE(acquire_capability(__VA_ARGS__))
#define VX_ACQUIRES_SHARED(...)  VX_ANNOTATE(acquire_shared_capability(__VA_ARGS__))
#define VX_RELEASES(...)         VX_ANNOTATE(release_capability(__VA_ARGS__))
#define VX_RELEASES_SHARED(...)  VX_ANNOTATE(release_shared_capability(__VA_ARGS__))
#define VX_EXCLUDES(lock)        VX_ANNOTATE(locks_excluded(lock))
#define VX_NO_THREAD_CHECKS      VX_ANNOTATE(no_thread_safety_analysis)

/* Rank of each lock of the library, in the order they may be taken.  See docs/concurrency.md. */
enum vx_rank {
    VX_RANK_BLOCK = 1, /* guest ranges of an image; not a mutex held across calls, but it counts */
    VX_RANK_SESSION,   /* the headers: first modification, log start */
    VX_RANK_COMMIT,    /* who commits, who waits */
    VX_RANK_META,      /* pages, block map, space */
    VX_RANK_ROOM,      /* how many page edits may wait for a commit */
    VX_RANK_STORAGE    /* inside a storage */
};

struct VX_CAPABILITY("mutex") vx_mutex {
    pthread_mutex_t mutex;
    enum vx_rank    rank;
};

struct VX_CAPABILITY("rwlock") vx_rwlock {
    pthread_rwlock_t rwlock;
    enum vx_rank     rank;
};

struct vx_condition {
    pthread_cond_t condition;
};

/* 0 or an errno. */
int  vx_mutex_init(struct vx_mutex *mutex, enum vx_rank rank);
void vx_mutex_destroy(struct vx_mutex *mutex);
void vx_mutex_lock(struct vx_mutex *mutex) VX_ACQUIRES(mutex);
void vx_mutex_unlock(struct vx_mutex *mutex) VX_RELEASES(mutex);

int  vx_rwlock_init(struct vx_rwlock *lock, enum vx_rank rank);
void vx_rwlock_destroy(struct vx_rwlock *lock);
void vx_rwlock_lock_shared(struct vx_rwlock *lock) VX_ACQUIRES_SHARED(lock);
void vx_rwlock_unlock_shared(struct vx_rwlock *lock) VX_RELEASES_SHARED(lock);
void vx_rwlock_lock(struct vx_rwlock *lock) VX_ACQUIRES(lock);
void vx_rwlock_unlock(struct vx_rwlock *lock) VX_RELEASES(lock);

int  vx_condition_init(struct vx_condition *condition);
void vx_condition_destroy(struct vx_condition *condition);
void vx_condition_wait(struct vx_condition *condition, struct vx_mutex *mutex) VX_REQUIRES(mutex);
void vx_condition_wake_all(struct vx_condition *condition);

/* For locks that are not mutexes (ranges of blocks): tell the order check.  Nothing without VHDX_LOCK_CHECKS. */
void vx_rank_enter(enum vx_rank rank);
void vx_rank_leave(enum vx_rank rank);

#endif
