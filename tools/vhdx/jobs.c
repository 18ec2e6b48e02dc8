/*
 * The same work on many files.  Threads take the next file from a counter; the calling thread waits for the results
 * in order.  One thread means none: the files are then looked at one by one, and a result is printed before the
 * next begins.
 */
#include "jobs.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

#include "message.h"

struct job {
    bool  is_done; /* guarded by pool.lock, as is everything that changes */
    void *result;
};

struct pool {
    const struct job_kind *kind;
    char                 **paths;
    int                    path_count;
    int                    next;
    struct job            *jobs;
    pthread_mutex_t        lock;
    pthread_cond_t         something_done;
};

static void *
run_jobs(void *argument)
{
    struct pool *pool = argument;

    for (;;) {
        int index;

        pthread_mutex_lock(&pool->lock);
        index = pool->next < pool->path_count ? pool->next++ : -1;
        pthread_mutex_unlock(&pool->lock);
        if (index < 0)
            return NULL;

        pool->jobs[index].result = need_memory(calloc(1, pool->kind->result_size));
        pool->kind->work(pool->kind->context, pool->paths[index], pool->jobs[index].result);

        pthread_mutex_lock(&pool->lock);
        pool->jobs[index].is_done = true;
        pthread_cond_signal(&pool->something_done);
        pthread_mutex_unlock(&pool->lock);
    }
}

static int
greater(int a, int b)
{
    return a > b ? a : b;
}

static int
run_one_by_one(const struct job_kind *kind, char **paths, int path_count, int (*worse)(int, int))
{
    int status = 0;

    for (int i = 0; i < path_count; i++) {
        void *result = need_memory(calloc(1, kind->result_size));

        kind->work(kind->context, paths[i], result);
        status = worse(status, kind->report(kind->context, paths[i], result));
        free(result);
    }
    return status;
}

static int
collect(struct pool *pool, int (*worse)(int, int))
{
    int status = 0;

    for (int i = 0; i < pool->path_count; i++) {
        pthread_mutex_lock(&pool->lock);
        while (!pool->jobs[i].is_done)
            pthread_cond_wait(&pool->something_done, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
        status = worse(status, pool->kind->report(pool->kind->context, pool->paths[i], pool->jobs[i].result));
        free(pool->jobs[i].result);
    }
    return status;
}

int
jobs_run(const struct job_kind *kind, char **paths, int path_count, unsigned thread_count, int (*worse)(int, int))
{
    struct pool pool = {
        .kind = kind,
        .paths = paths,
        .path_count = path_count,
        .lock = PTHREAD_MUTEX_INITIALIZER,
        .something_done = PTHREAD_COND_INITIALIZER,
    };
    pthread_t *threads;
    unsigned started = 0;
    int status;

    if (worse == NULL)
        worse = greater;
    if (thread_count > (unsigned)path_count)
        thread_count = (unsigned)path_count;
    if (thread_count <= 1)
        return run_one_by_one(kind, paths, path_count, worse);

    pool.jobs = need_memory(calloc((size_t)path_count, sizeof(*pool.jobs)));
    threads = need_memory(calloc(thread_count, sizeof(*threads)));
    while (started < thread_count && pthread_create(&threads[started], NULL, run_jobs, &pool) == 0)
        started++;
    if (started == 0)
        run_jobs(&pool);
    status = collect(&pool, worse);
    for (unsigned i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    free(threads);
    free(pool.jobs);
    return status;
}
