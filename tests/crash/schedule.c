/*
 * Threads that take turns.
 *
 *   S1  At most one thread runs: the one whose index is in `turn`, or the caller of schedule_run when none is scheduled.
 *   S2  A thread waits for a lock or a condition by giving up its turn, with what it waits for in `waits_for`; whoever
 *       unlocks or wakes makes it ready.
 *   S3  No thread ready, not all done: a deadlock, which is a fault of the library.
 */
#include "schedule.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/lock.h"

#define NOBODY SIZE_MAX

enum status { READY, WAITS, DONE };

struct thread {
    pthread_t      thread;
    pthread_cond_t its_turn;
    enum status    status;
    const void    *waits_for;
};

static pthread_mutex_t baton = PTHREAD_MUTEX_INITIALIZER; /* guards all below */
static pthread_cond_t  all_done = PTHREAD_COND_INITIALIZER;
static struct thread   threads[SCHEDULE_MAX_THREADS];
static size_t          thread_count, turn = NOBODY;
static uint64_t        random_state;
static unsigned        held; /* schedule_hold: by the running thread, so no guard is needed */
static void          (*run_body)(void *context, size_t index);
static void           *run_context;

static _Thread_local size_t self = NOBODY;

void (*schedule_on_deadlock)(void);

static uint64_t
next_random(void)
{
    uint64_t x = random_state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void
stop_for(const char *what)
{
    fprintf(stderr, "schedule: %s\n", what);
    if (schedule_on_deadlock != NULL)
        schedule_on_deadlock();
    fflush(NULL);
    abort();
}

/* --- turns, under the baton --- */

static size_t
choose_ready(void)
{
    size_t ready[SCHEDULE_MAX_THREADS], count = 0, i;

    for (i = 0; i < thread_count; i++)
        if (threads[i].status == READY)
            ready[count++] = i;
    return count == 0 ? NOBODY : ready[next_random() % count];
}

/* Let another thread, or this one again, have the turn.  A thread that is done does not wait for its own. */
static void
pass_turn(void)
{
    size_t next = choose_ready(), i;

    if (next == NOBODY) {
        for (i = 0; i < thread_count; i++)
            if (threads[i].status != DONE)
                stop_for("no thread can go on");
        turn = NOBODY;
        pthread_cond_signal(&all_done);
        return;
    }
    turn = next;
    if (next == self)
        return;
    pthread_cond_signal(&threads[next].its_turn);
    while (threads[self].status != DONE && turn != self)
        pthread_cond_wait(&threads[self].its_turn, &baton);
}

static void
wait_for(const void *what)
{
    if (self == NOBODY || held > 0)
        stop_for("the only running thread waits");
    pthread_mutex_lock(&baton);
    threads[self].status = WAITS;
    threads[self].waits_for = what;
    pass_turn();
    pthread_mutex_unlock(&baton);
}

static void
make_ready(const void *what)
{
    size_t i;

    if (self == NOBODY)
        return;
    pthread_mutex_lock(&baton);
    for (i = 0; i < thread_count; i++)
        if (threads[i].status == WAITS && threads[i].waits_for == what)
            threads[i].status = READY;
    pthread_mutex_unlock(&baton);
}

void
schedule_point(unsigned chance)
{
    if (self == NOBODY || held > 0)
        return;
    pthread_mutex_lock(&baton);
    if (next_random() % 256 < chance)
        pass_turn();
    pthread_mutex_unlock(&baton);
}

void
schedule_hold(void)
{
    held++;
}

void
schedule_release(void)
{
    held--;
}

static void *
thread_main(void *argument)
{
    self = (size_t)(uintptr_t)argument;
    pthread_mutex_lock(&baton);
    while (turn != self)
        pthread_cond_wait(&threads[self].its_turn, &baton);
    pthread_mutex_unlock(&baton);

    run_body(run_context, self);

    pthread_mutex_lock(&baton);
    threads[self].status = DONE;
    pass_turn();
    pthread_mutex_unlock(&baton);
    return NULL;
}

void
schedule_run(size_t count, void (*body)(void *context, size_t index), void *context, uint64_t seed)
{
    size_t i;

    run_body = body;
    run_context = context;
    random_state = seed;
    thread_count = count;
    turn = NOBODY;
    for (i = 0; i < count; i++) {
        threads[i].status = READY;
        pthread_cond_init(&threads[i].its_turn, NULL);
    }
    for (i = 0; i < count; i++)
        if (pthread_create(&threads[i].thread, NULL, thread_main, (void *)(uintptr_t)i) != 0)
            stop_for("cannot start a thread");

    pthread_mutex_lock(&baton);
    turn = choose_ready();
    pthread_cond_signal(&threads[turn].its_turn);
    while (turn != NOBODY)
        pthread_cond_wait(&all_done, &baton);
    pthread_mutex_unlock(&baton);
    for (i = 0; i < count; i++) {
        pthread_join(threads[i].thread, NULL);
        pthread_cond_destroy(&threads[i].its_turn);
    }
}

/* --- base/lock.h --- */

#define CHANCE_AT_LOCK 24u

int
vx_mutex_init(struct vx_mutex *mutex, enum vx_rank rank)
{
    mutex->rank = rank;
    return pthread_mutex_init(&mutex->mutex, NULL);
}

void
vx_mutex_destroy(struct vx_mutex *mutex)
{
    pthread_mutex_destroy(&mutex->mutex);
}

void
vx_mutex_lock(struct vx_mutex *mutex) VX_NO_THREAD_CHECKS
{
    if (mutex->rank != VX_RANK_STORAGE)
        schedule_point(CHANCE_AT_LOCK);
    while (pthread_mutex_trylock(&mutex->mutex) != 0)
        wait_for(mutex);
}

void
vx_mutex_unlock(struct vx_mutex *mutex) VX_NO_THREAD_CHECKS
{
    pthread_mutex_unlock(&mutex->mutex);
    make_ready(mutex);
}

int
vx_rwlock_init(struct vx_rwlock *lock, enum vx_rank rank)
{
    lock->rank = rank;
    return pthread_rwlock_init(&lock->rwlock, NULL);
}

void
vx_rwlock_destroy(struct vx_rwlock *lock)
{
    pthread_rwlock_destroy(&lock->rwlock);
}

void
vx_rwlock_lock_shared(struct vx_rwlock *lock) VX_NO_THREAD_CHECKS
{
    schedule_point(CHANCE_AT_LOCK);
    while (pthread_rwlock_tryrdlock(&lock->rwlock) != 0)
        wait_for(lock);
}

void
vx_rwlock_unlock_shared(struct vx_rwlock *lock) VX_NO_THREAD_CHECKS
{
    pthread_rwlock_unlock(&lock->rwlock);
    make_ready(lock);
}

void
vx_rwlock_lock(struct vx_rwlock *lock) VX_NO_THREAD_CHECKS
{
    schedule_point(CHANCE_AT_LOCK);
    while (pthread_rwlock_trywrlock(&lock->rwlock) != 0)
        wait_for(lock);
}

void
vx_rwlock_unlock(struct vx_rwlock *lock) VX_NO_THREAD_CHECKS
{
    pthread_rwlock_unlock(&lock->rwlock);
    make_ready(lock);
}

int
vx_condition_init(struct vx_condition *condition)
{
    return pthread_cond_init(&condition->condition, NULL);
}

void
vx_condition_destroy(struct vx_condition *condition)
{
    pthread_cond_destroy(&condition->condition);
}

void
vx_condition_wait(struct vx_condition *condition, struct vx_mutex *mutex) VX_NO_THREAD_CHECKS
{
    /* Nobody else runs between the unlock and the wait (S1): no wake is missed. */
    pthread_mutex_unlock(&mutex->mutex);
    make_ready(mutex);
    wait_for(condition);
    while (pthread_mutex_trylock(&mutex->mutex) != 0)
        wait_for(mutex);
}

void
vx_condition_wake_all(struct vx_condition *condition)
{
    make_ready(condition);
}

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
