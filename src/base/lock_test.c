/* Locks: they exclude, and builds that check the order stop at each violation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"

#define ROUNDS 20000

static struct vx_mutex mutex;
static struct vx_condition condition;
static struct vx_rwlock rwlock;
static unsigned counter, pair[2];

static void *
count(void *unused)
{
    for (int i = 0; i < ROUNDS; i++) {
        vx_mutex_lock(&mutex);
        counter++;
        vx_mutex_unlock(&mutex);
    }
    return unused;
}

static void
test_mutex_excludes(void **state)
{
    pthread_t threads[4];

    (void)state;
    assert_int_equal(vx_mutex_init(&mutex, VX_RANK_META), 0);
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count, NULL), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(counter, 4 * ROUNDS);
    vx_mutex_destroy(&mutex);
}

static void *
read_pairs(void *differ)
{
    for (int i = 0; i < ROUNDS; i++) {
        vx_rwlock_lock_shared(&rwlock);
        if (pair[0] != pair[1])
            *(int *)differ = 1;
        vx_rwlock_unlock_shared(&rwlock);
    }
    return NULL;
}

static void
test_rwlock_excludes(void **state)
{
    int differ[2] = { 0, 0 };
    pthread_t threads[2];

    (void)state;
    assert_int_equal(vx_rwlock_init(&rwlock, VX_RANK_STORAGE), 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_pairs, &differ[i]), 0);
    for (int i = 0; i < ROUNDS / 10; i++) {
        vx_rwlock_lock(&rwlock);
        pair[0]++;
        pair[1]++;
        vx_rwlock_unlock(&rwlock);
    }
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(differ[i], 0);
    }
    vx_rwlock_destroy(&rwlock);
}

static void *
wake_up(void *flag)
{
    vx_mutex_lock(&mutex);
    *(int *)flag = 1;
    vx_condition_wake_all(&condition);
    vx_mutex_unlock(&mutex);
    return NULL;
}

static void
test_condition(void **state)
{
    pthread_t thread;
    int flag = 0;

    (void)state;
    assert_int_equal(vx_mutex_init(&mutex, VX_RANK_COMMIT), 0);
    assert_int_equal(vx_condition_init(&condition), 0);
    vx_mutex_lock(&mutex);
    assert_int_equal(pthread_create(&thread, NULL, wake_up, &flag), 0);
    while (!flag)
        vx_condition_wait(&condition, &mutex);
    vx_mutex_unlock(&mutex);
    pthread_join(thread, NULL);
    vx_condition_destroy(&condition);
    vx_mutex_destroy(&mutex);
}

/* --- the order --- */

static struct vx_mutex session, commit, meta, meta_too, storage;

static void
rise(void)
{
    vx_rank_enter(VX_RANK_BLOCK);
    vx_rank_enter(VX_RANK_BLOCK); /* a request over two blocks */
    vx_mutex_lock(&session);
    vx_mutex_lock(&commit);
    vx_mutex_lock(&meta);
    vx_mutex_lock(&storage);
    vx_mutex_unlock(&commit); /* leaving in any order is fine */
    vx_mutex_unlock(&storage);
    vx_mutex_unlock(&meta);
    vx_mutex_lock(&commit);
    vx_mutex_unlock(&commit);
    vx_mutex_unlock(&session);
    vx_rank_leave(VX_RANK_BLOCK);
    vx_rank_leave(VX_RANK_BLOCK);
}

static void
fall(void)
{
    vx_mutex_lock(&meta);
    vx_mutex_lock(&commit);
    vx_mutex_unlock(&commit);
    vx_mutex_unlock(&meta);
}

static void
block_under_meta(void)
{
    vx_mutex_lock(&meta);
    vx_rank_enter(VX_RANK_BLOCK);
    vx_rank_leave(VX_RANK_BLOCK);
    vx_mutex_unlock(&meta);
}

static void
two_of_a_rank(void)
{
    vx_mutex_lock(&meta);
    vx_mutex_lock(&meta_too);
    vx_mutex_unlock(&meta_too);
    vx_mutex_unlock(&meta);
}

static void
leave_twice(void)
{
    vx_rank_enter(VX_RANK_BLOCK);
    vx_rank_leave(VX_RANK_BLOCK);
    vx_rank_leave(VX_RANK_BLOCK);
}

VX_NO_THREAD_CHECKS static void
wait_under_higher(void)
{
    vx_mutex_lock(&commit);
    vx_mutex_lock(&meta);
    vx_condition_wait(&condition, &commit);
}

/* What the function said on stderr before it stopped; empty when it returned.  False when it ended otherwise. */
static bool
run_in_child(void (*function)(void), char *said, size_t size)
{
    int pipes[2], status;
    ssize_t n;
    pid_t child;

    assert_int_equal(pipe(pipes), 0);
    child = fork();
    if (child == 0) {
        const struct rlimit no_core = { 0, 0 };

        setrlimit(RLIMIT_CORE, &no_core);
        signal(SIGABRT, SIG_DFL);
        dup2(pipes[1], STDERR_FILENO);
        function();
        _exit(0);
    }
    close(pipes[1]);
    n = read(pipes[0], said, size - 1);
    close(pipes[0]);
    said[n > 0 ? n : 0] = '\0';
    assert_true(waitpid(child, &status, 0) == child);
    return (WIFEXITED(status) && WEXITSTATUS(status) == 0) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void
test_order(void **state)
{
    static const struct {
        const char *about;
        void (*function)(void);
        const char *says; /* NULL: in order */
    } cases[] = {
        { "rising",                             rise,              NULL },
        { "falling",                            fall,              "takes rank COMMIT while it holds META" },
        { "a block under the map",              block_under_meta,  "takes rank BLOCK while it holds META" },
        { "two locks of a rank",                two_of_a_rank,     "takes rank META while it holds META" },
        { "leaving what is not held",           leave_twice,       "leaves rank BLOCK without holding BLOCK" },
        { "waiting while a higher one is held", wait_under_higher, "waits on rank COMMIT while it holds META" },
    };
    char said[256];

    (void)state;
#ifndef VHDX_LOCK_CHECKS
    skip();
#endif
    vx_mutex_init(&session, VX_RANK_SESSION);
    vx_mutex_init(&commit, VX_RANK_COMMIT);
    vx_mutex_init(&meta, VX_RANK_META);
    vx_mutex_init(&meta_too, VX_RANK_META);
    vx_mutex_init(&storage, VX_RANK_STORAGE);
    vx_condition_init(&condition);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (!run_in_child(cases[i].function, said, sizeof said))
            fail_msg("%s: it ended in a strange way", cases[i].about);
        if (cases[i].says ? !strstr(said, cases[i].says) : said[0] != '\0')
            fail_msg("%s: said \"%s\"", cases[i].about, said);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mutex_excludes),
        cmocka_unit_test(test_rwlock_excludes),
        cmocka_unit_test(test_condition),
        cmocka_unit_test(test_order),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
