/*
 * vhdx bench: requests of one kind, as fast as they go.
 *
 * The options and the sequence of offsets are those of `qemu-img bench`, so that the two can be run side by side:
 * request i begins at (start + i * step) modulo the disk's size.  DEPTH requests are in flight: as many threads,
 * each taking the next request of the sequence when it has finished one.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <vhdx/disk.h>

#include "files.h"
#include "json.h"
#include "message.h"
#include "verbs.h"

enum { OPTION_PATTERN = 256, OPTION_FLUSH_INTERVAL, OPTION_RANDOM, OPTION_NO_DRAIN };

static const struct option_line lines[] = {
    { "count", 'c', "N", "number of requests (default 75000)" },
    { "depth", 'd', "N", "requests in flight: as many threads (default 64)" },
    { "size", 's', "SIZE", "bytes of a request (default 4K)" },
    { "step", 'S', "SIZE", "bytes from one request to the next (default: the size of a request)" },
    { "offset", 'o', "SIZE", "where the first request begins (default 0)" },
    { "write", 'w', NULL, "write instead of read: overwrites what the disk holds" },
    { "pattern", OPTION_PATTERN, "BYTE", "the byte that is written (default 0)" },
    { "flush-interval", OPTION_FLUSH_INTERVAL, "N", "flush after every N writes" },
    { "random", OPTION_RANDOM, NULL, "take the offsets in random order, the same one in every run" },
    { "no-drain", OPTION_NO_DRAIN, NULL, "taken for qemu-img's users: a flush waits for no other request anyway" },
    { 0 },
};

struct plan {
    uint64_t count, depth, size, step, offset, flush_interval;
    uint64_t pattern;
    bool     is_write, is_random;
};

struct run {
    const struct plan *plan;
    struct vhdx_disk  *disk;
    uint64_t           disk_size;
    _Atomic uint32_t   next; /* 32 bits: every host has these without a lock */
    _Atomic uint32_t   finished;
    _Atomic uint32_t   flush_count;
    atomic_bool        has_failed;
    pthread_mutex_t    lock; /* guards err */
    struct vhdx_error  err;
};

/* Numbers that look random and are the same for the same i. */
static uint64_t
scatter(uint64_t i)
{
    uint64_t x = (i + 1) * UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* Where request i begins.  One that would pass the end of the disk begins at 0. */
static uint64_t
offset_of(const struct run *run, uint64_t i)
{
    const struct plan *plan = run->plan;
    uint64_t guest_offset;

    if (plan->is_random)
        return scatter(i) % (run->disk_size / plan->size) * plan->size;
    guest_offset = (plan->offset + i * plan->step) % run->disk_size;
    return guest_offset > run->disk_size - plan->size ? 0 : guest_offset;
}

static void
keep_error(struct run *run, const struct vhdx_error *err)
{
    pthread_mutex_lock(&run->lock);
    if (!atomic_load(&run->has_failed))
        run->err = *err;
    atomic_store(&run->has_failed, true);
    pthread_mutex_unlock(&run->lock);
}

static int
do_request(struct run *run, uint64_t i, void *buffer, struct vhdx_error *err)
{
    const struct plan *plan = run->plan;
    uint32_t finished;
    int rc;

    if (!plan->is_write)
        return vhdx_disk_read(run->disk, buffer, (size_t)plan->size, offset_of(run, i), err);
    rc = vhdx_disk_write(run->disk, buffer, (size_t)plan->size, offset_of(run, i), err);
    if (rc < 0 || plan->flush_interval == 0)
        return rc;
    finished = atomic_fetch_add(&run->finished, 1) + 1;
    if (finished % plan->flush_interval != 0)
        return rc;
    atomic_fetch_add(&run->flush_count, 1);
    return vhdx_disk_flush(run->disk, err);
}

static void *
work(void *argument)
{
    struct run *run = argument;
    void *buffer = NULL;

    /* As a guest's pages lie: copies to and from the page cache are several times slower off a cache line. */
    if (posix_memalign(&buffer, 4096, (size_t)run->plan->size) != 0)
        buffer = need_memory(NULL);

    memset(buffer, (int)run->plan->pattern, (size_t)run->plan->size);
    while (!atomic_load_explicit(&run->has_failed, memory_order_relaxed)) {
        uint32_t i = atomic_fetch_add(&run->next, 1);
        struct vhdx_error err;

        if (i >= run->plan->count)
            break;
        if (do_request(run, i, buffer, &err) < 0)
            keep_error(run, &err);
    }
    free(buffer);
    return NULL;
}

/* Start the threads and wait for them; the caller is one of them. */
static int
run_threads(struct run *run, double *seconds, struct vhdx_error *err)
{
    size_t helper_count = (size_t)run->plan->depth - 1, started = 0;
    pthread_t *threads = need_memory(calloc(helper_count + 1, sizeof(*threads)));
    struct timespec began, ended;
    int rc = 0;

    clock_gettime(CLOCK_MONOTONIC, &began);
    while (rc == 0 && started < helper_count) {
        rc = pthread_create(&threads[started], NULL, work, run);
        if (rc == 0)
            started++;
    }
    if (rc != 0) {
        fail_errno(&run->err, rc, "no more than %zu threads can be had for -d", started);
        atomic_store(&run->has_failed, true);
    }
    work(run);
    for (size_t i = 0; i < started; i++)
        pthread_join(threads[i], NULL);
    clock_gettime(CLOCK_MONOTONIC, &ended);
    free(threads);

    *seconds = (double)(ended.tv_sec - began.tv_sec) + (double)(ended.tv_nsec - began.tv_nsec) / 1e9;
    if (!atomic_load(&run->has_failed))
        return VHDX_OK;
    *err = run->err;
    return err->code;
}

static void
print_result(const struct run *run, const char *path, double seconds, bool is_json)
{
    const struct plan *plan = run->plan;
    double rate = (double)plan->count / seconds;
    struct json_object *document;

    if (!is_json) {
        printf("Run completed in %3.3f seconds.\n", seconds);
        printf("%.0f requests/s, %.1f MB/s\n", rate, rate * (double)plan->size / 1e6);
        return;
    }
    document = json_document();
    json_add_text(document, "filename", path);
    json_add_text(document, "operation", plan->is_write ? "write" : "read");
    json_add_number(document, "count", plan->count);
    json_add_number(document, "depth", plan->depth);
    json_add_number(document, "size", plan->size);
    json_add_number(document, "step", plan->step);
    json_add_number(document, "offset", plan->offset);
    json_add_bool(document, "random", plan->is_random);
    json_add_number(document, "flush-count", atomic_load(&run->flush_count));
    json_add_real(document, "seconds", seconds);
    json_add_real(document, "requests-per-second", rate);
    json_add_real(document, "megabytes-per-second", rate * (double)plan->size / 1e6);
    json_print(document);
}

/* What is about to happen, in qemu-img's words. */
static void
print_plan(const struct plan *plan)
{
    printf("Sending %" PRIu64 " %s requests, %" PRIu64 " bytes each, %" PRIu64 " in parallel ", plan->count,
           plan->is_write ? "write" : "read", plan->size, plan->depth);
    if (plan->is_random)
        printf("(in random order)\n");
    else
        printf("(starting at offset %" PRIu64 ", step size %" PRIu64 ")\n", plan->offset, plan->step);
    if (plan->is_write && plan->flush_interval > 0)
        printf("Sending flush every %" PRIu64 " requests\n", plan->flush_interval);
    fflush(stdout);
}

static int
bench(const struct plan *plan, const char *path, const struct shared_options *shared, struct vhdx_error *err)
{
    struct run run = { .plan = plan, .lock = PTHREAD_MUTEX_INITIALIZER };
    double seconds;
    int rc;

    rc = file_open_disk(&run.disk, path, shared->format, shared, plan->is_write ? VHDX_OPEN_WRITE : 0, err);
    if (rc < 0)
        return rc;
    run.disk_size = vhdx_disk_size(run.disk);
    if (run.disk_size < plan->size) {
        rc = fail(err, VHDX_E_RANGE, "the disk has %" PRIu64 " bytes, less than one request of %" PRIu64,
                  run.disk_size, plan->size);
        vhdx_disk_close(run.disk, NULL);
        return rc;
    }
    if (!shared->json && !shared->quiet)
        print_plan(plan);
    rc = run_threads(&run, &seconds, err);
    if (rc < 0) {
        vhdx_disk_close(run.disk, NULL);
        return rc;
    }
    rc = vhdx_disk_close(run.disk, err); /* as with qemu-img, the time of closing is not counted */
    if (rc == 0 && (shared->json || !shared->quiet))
        print_result(&run, path, seconds, shared->json);
    return rc;
}

static void
take_option(struct plan *plan, const struct option_reader *reader, int letter, const char *argument)
{
    switch (letter) {
    case 'c':
        plan->count = option_number(reader, "-c", argument, 1, INT32_MAX);
        break;
    case 'd':
        plan->depth = option_number(reader, "-d", argument, 1, 4096);
        break;
    case 's':
        plan->size = option_size(reader, "-s", argument);
        break;
    case 'S':
        plan->step = option_size(reader, "-S", argument);
        break;
    case 'o':
        plan->offset = option_size(reader, "-o", argument);
        break;
    case 'w':
        plan->is_write = true;
        break;
    case OPTION_PATTERN:
        plan->pattern = option_number(reader, "--pattern", argument, 0, 255);
        break;
    case OPTION_FLUSH_INTERVAL:
        plan->flush_interval = option_number(reader, "--flush-interval", argument, 0, INT32_MAX);
        break;
    case OPTION_RANDOM:
        plan->is_random = true;
        break;
    default: /* --no-drain */
        break;
    }
}

/* What the options say together. */
static void
complete_plan(struct plan *plan, const struct option_reader *reader)
{
    uint64_t last;

    if (plan->size == 0 || plan->size > INT32_MAX)
        usage_error(reader, "-s takes 1 to %d bytes", INT32_MAX);
    if (plan->step == 0)
        plan->step = plan->size;
    if (__builtin_mul_overflow(plan->count, plan->step, &last) || __builtin_add_overflow(last, plan->offset, &last))
        usage_error(reader, "count, step and offset together pass the end of any disk");
    if (!plan->is_write && (plan->flush_interval > 0 || plan->pattern > 0))
        usage_error(reader, "--pattern and --flush-interval go with -w");
    if (plan->is_write && (reader->shared->force_share || reader->shared->ignore_log))
        usage_error(reader, "--force-share and --ignore-log are for reading, not for -w");
}

static int
run_bench(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct plan plan = { .count = 75000, .depth = 64, .size = 4096 };
    struct vhdx_error err;
    const char *argument;
    char **operands;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(&plan, &reader, letter, argument);
    options_operands(&reader, 1, 1, &operands);
    complete_plan(&plan, &reader);

    if (bench(&plan, operands[0], &shared, &err) == 0)
        return STATUS_GOOD;
    if (shared.json)
        json_print(json_failure(operands[0], &err));
    message_error(operands[0], &err);
    return STATUS_FAILED;
}

const struct verb bench_verb = {
    .name = "bench",
    .synopsis = "[OPTIONS] FILE",
    .summary = "Measure how fast a disk reads or writes",
    .example = "  vhdx bench -c 100000 -d 16 disk.vhdx\n"
               "  vhdx bench -w --pattern 65 --flush-interval 64 scratch.vhdx\n",
    .shared = SHARED_REMOTE | SHARED_JSON | SHARED_FORMAT | SHARED_READ | SHARED_CHAIN | SHARED_WRITE | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_bench,
};
