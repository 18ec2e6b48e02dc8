/*
 * Threads reading, writing, zeroing, trimming, pinning and flushing the same few blocks; every read is judged by
 * who wrote what when, the image is checked, and a reader finds what the last reads found.
 *
 *   stress_test                          every disk once, then on for 20 seconds (VHDX_THREADS_SECONDS, VHDX_HOURS)
 *   stress_test --threads N --seed N     8 threads, or 32 for hours; VHDX_SEED
 */
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "history.h"
#include "images.h"
#include "random.h"
#include "storage/storage.h"
#include "tap.h"
#include "wrapped.h"

#define MIB           (UINT64_C(1) << 20)
#define BLOCK_SECTORS (MIB / STAMP_SIZE)
#define BLOCKS        6u
#define SECTORS       (BLOCKS * BLOCK_SECTORS)
#define MOST_SECTORS  (2 * BLOCK_SECTORS)
#define OPS           120u
#define MOST_THREADS  64u

struct config {
    const char          *name;
    enum vhdx_image_type type;
    bool                 cannot_punch, extension_unsure;
};

static const struct config configs[] = {
    { "dynamic", VHDX_TYPE_DYNAMIC, false, false },
    { "dynamic, nothing promised", VHDX_TYPE_DYNAMIC, true, true },
    { "fixed", VHDX_TYPE_FIXED, false, false },
    { "child", VHDX_TYPE_DIFFERENCING, false, false },
    { "child, no holes", VHDX_TYPE_DIFFERENCING, true, false },
};
#define CONFIG_COUNT (sizeof configs / sizeof configs[0])

struct stress {
    const struct config *config;
    struct vhdx_storage *memory, *parent; /* parent: of a child */
    struct vhdx_disk    *disk;
    _Atomic(uint32_t)    next_value;
    atomic_bool          has_failed;
};

struct worker {
    struct stress *stress;
    struct random  random;
    struct history history;
    uint8_t       *bytes; /* MOST_SECTORS of them */
};

/* --- storages that let others go first --- */

static _Thread_local struct random delays;

static int
dawdle(void *context, enum wrapped_call call, uint64_t file_offset, uint64_t length)
{
    (void)context, (void)call, (void)file_offset, (void)length;
    switch (random_below(&delays, 24)) {
    case 0:
        usleep((useconds_t)random_below(&delays, 60));
        break;
    case 1: case 2: case 3:
        sched_yield();
        break;
    default:
        break;
    }
    return VHDX_OK;
}

/* --- one thread --- */

static bool
fail(struct worker *worker, const char *what, const struct vhdx_error *err)
{
    if (!atomic_exchange(&worker->stress->has_failed, true))
        printf("# %s: %s\n", what, err->message);
    return false;
}

static struct event
begin_event(struct worker *worker)
{
    struct event event = { .sector_count = 1 };

    switch (random_below(&worker->random, 20)) {
    case 0:
        event.sector_count = BLOCK_SECTORS * random_between(&worker->random, 1, 2);
        event.first_sector = BLOCK_SECTORS * random_below(&worker->random, BLOCKS - 1);
        break;
    case 1: case 2:
        event.sector_count = random_between(&worker->random, 1, 400);
        event.first_sector = random_below(&worker->random, SECTORS - event.sector_count);
        break;
    default: /* close to each other, and about a border of blocks */
        event.sector_count = random_between(&worker->random, 1, 12);
        event.first_sector = BLOCK_SECTORS * random_between(&worker->random, 1, BLOCKS - 1) - 12 +
                             random_below(&worker->random, 24 - event.sector_count);
    }
    event.begin = history_tick();
    return event;
}

static void
end_write(struct worker *worker, struct event *event)
{
    event->end = history_tick();
    event->is_write = true;
    history_add(&worker->history, event);
}

/* What was read, as one event for each run of a value. */
static bool
end_read(struct worker *worker, const struct event *event, const uint8_t *bytes)
{
    uint64_t     end = history_tick();
    struct event run = { .begin = event->begin, .end = end };

    for (uint64_t s = 0; s < event->sector_count; s++) {
        uint64_t sector = event->first_sector + s;
        uint32_t value = stamp_get(bytes + s * STAMP_SIZE, sector);

        if (value == VALUE_TORN) {
            printf("# sector %" PRIu64 " holds what nobody wrote\n", sector);
            atomic_store(&worker->stress->has_failed, true);
            return false;
        }
        if (run.sector_count > 0 && value != run.value) {
            history_add(&worker->history, &run);
            run.sector_count = 0;
        }
        if (run.sector_count == 0)
            run.first_sector = sector;
        run.value = value;
        run.sector_count++;
    }
    history_add(&worker->history, &run);
    return true;
}

static bool
do_write(struct worker *worker)
{
    struct event      event = begin_event(worker);
    struct vhdx_error err = { .message = "" };

    event.value = atomic_fetch_add(&worker->stress->next_value, 1);
    for (uint64_t s = 0; s < event.sector_count; s++)
        stamp_put(worker->bytes + s * STAMP_SIZE, event.first_sector + s, event.value);
    if (vhdx_disk_write(worker->stress->disk, worker->bytes, (size_t)event.sector_count * STAMP_SIZE,
                        event.first_sector * STAMP_SIZE, &err) < 0)
        return fail(worker, "write", &err);
    end_write(worker, &event);
    return true;
}

static bool
do_zero(struct worker *worker)
{
    struct event      event = begin_event(worker);
    struct vhdx_error err = { .message = "" };

    if (vhdx_disk_zero(worker->stress->disk, event.first_sector * STAMP_SIZE, event.sector_count * STAMP_SIZE, 0,
                       &err) < 0)
        return fail(worker, "zero", &err);
    end_write(worker, &event);
    return true;
}

static bool
do_trim(struct worker *worker)
{
    struct event      event = begin_event(worker);
    struct vhdx_error err = { .message = "" };

    if (vhdx_disk_trim(worker->stress->disk, event.first_sector * STAMP_SIZE, event.sector_count * STAMP_SIZE,
                       &err) < 0)
        return fail(worker, "trim", &err);
    event.is_optional = worker->stress->config->type == VHDX_TYPE_DIFFERENCING;
    if (worker->stress->config->type != VHDX_TYPE_FIXED)
        end_write(worker, &event);
    return true;
}

static bool
do_read(struct worker *worker)
{
    struct event      event = begin_event(worker);
    struct vhdx_error err = { .message = "" };

    if (vhdx_disk_read(worker->stress->disk, worker->bytes, (size_t)event.sector_count * STAMP_SIZE,
                       event.first_sector * STAMP_SIZE, &err) < 0)
        return fail(worker, "read", &err);
    return end_read(worker, &event, worker->bytes);
}

/* Read a pinned range where it lies, past the library. */
static bool
read_extents(struct worker *worker, const struct event *event, struct vhdx_error *err)
{
    const struct stress *stress = worker->stress;
    struct vhdx_extent   extents[8];
    uint64_t             from = event->first_sector * STAMP_SIZE, at = from;
    uint64_t             end = from + event->sector_count * STAMP_SIZE;
    size_t               count;

    while (at < end) {
        if (vhdx_disk_resolve(stress->disk, at, end - at, extents, 8, &count, err) < 0)
            return false;
        for (size_t i = 0; i < count; i++) {
            uint8_t *bytes = worker->bytes + (extents[i].guest_offset - from);

            memset(bytes, 0, (size_t)extents[i].length);
            if ((extents[i].flags & VHDX_EXTENT_DATA) != 0 &&
                vx_storage_read(extents[i].depth == 0 ? stress->memory : stress->parent, bytes,
                                (size_t)extents[i].length, extents[i].file_offset, err) < 0)
                return false;
            at += extents[i].length;
        }
    }
    return true;
}

static bool
do_pin(struct worker *worker)
{
    struct event      event = begin_event(worker);
    struct vhdx_error err = { .message = "" };
    struct vhdx_pin   pin;
    bool              is_good;

    if (vhdx_disk_pin(worker->stress->disk, event.first_sector * STAMP_SIZE, event.sector_count * STAMP_SIZE, &pin,
                      &err) < 0)
        return fail(worker, "pin", &err);
    is_good = read_extents(worker, &event, &err);
    vhdx_disk_unpin(worker->stress->disk, &pin);
    return is_good ? end_read(worker, &event, worker->bytes) : fail(worker, "pinned read", &err);
}

static bool
do_something(struct worker *worker)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          choice = random_below(&worker->random, 100);

    if (choice < 35)
        return do_write(worker);
    if (choice < 68)
        return do_read(worker);
    if (choice < 76)
        return do_zero(worker);
    if (choice < 86)
        return do_trim(worker);
    if (choice < 92)
        return do_pin(worker);
    return vhdx_disk_flush(worker->stress->disk, &err) == VHDX_OK || fail(worker, "flush", &err);
}

static void *
work(void *context)
{
    struct worker *worker = context;

    delays.state = random_next(&worker->random);
    for (unsigned i = 0; i < OPS && !atomic_load(&worker->stress->has_failed); i++)
        do_something(worker);
    return NULL;
}

/* --- a run --- */

static void
make_parent(struct stress *stress, const struct vhdx_create_options *options, struct vhdx_guid *guid)
{
    static uint8_t           bytes[SECTORS * STAMP_SIZE];
    struct vhdx_open_options open_options = { .flags = VHDX_OPEN_WRITE };
    struct vhdx_error        err = { .message = "" };
    struct vhdx_info         info;
    struct vhdx_disk        *disk;

    stress->parent = image_make(options);
    must(vhdx_disk_open_storage(&disk, wrapped_new(stress->parent, NULL), &open_options, &err), "parent", &err);
    for (uint64_t s = 0; s < SECTORS; s++)
        stamp_put(bytes + s * STAMP_SIZE, s, VALUE_PARENT);
    must(vhdx_disk_write(disk, bytes, sizeof bytes, 0, &err), "parent", &err);
    must(vhdx_disk_get_info(disk, 0, &info, &err), "parent", &err);
    must(vhdx_disk_close(disk, &err), "parent", &err);
    *guid = info.data_write_guid;
}

static int
bring_parent(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out,
             struct vhdx_error *err)
{
    const struct stress *stress = context;

    (void)query, (void)err;
    *out = wrapped_new(stress->parent, NULL);
    return VHDX_OK;
}

static void
make_disk(struct stress *stress)
{
    const struct vhdx_create_options options = { .virtual_size = SECTORS * STAMP_SIZE + 7 * STAMP_SIZE,
                                                 .block_size = (uint32_t)MIB, .type = stress->config->type };
    struct vhdx_create_options       parent_options = options;
    struct vhdx_guid                 guid;

    if (stress->config->type != VHDX_TYPE_DIFFERENCING) {
        stress->memory = image_make(&options);
        return;
    }
    parent_options.type = VHDX_TYPE_DYNAMIC;
    make_parent(stress, &parent_options, &guid);
    stress->memory = image_make_child(&options, &guid, NULL);
}

static void
open_disk(struct stress *stress, unsigned flags)
{
    const struct wrapped_options traits = { .cannot_punch = stress->config->cannot_punch,
                                            .extension_unsure = stress->config->extension_unsure,
                                            .before = dawdle };
    const struct vhdx_open_options options = { .flags = flags, .resolve_parent = bring_parent,
                                               .resolve_context = stress };
    struct vhdx_error err = { .message = "" };

    must(vhdx_disk_open_storage(&stress->disk, wrapped_new(stress->memory, &traits), &options, &err), "open", &err);
}

/* Everything is over: read it all, close, and read it again. */
static bool
conclude(struct stress *stress, struct worker *worker)
{
    static uint8_t    last[SECTORS * STAMP_SIZE], again[SECTORS * STAMP_SIZE];
    struct event      event = { .begin = history_tick(), .sector_count = SECTORS };
    struct vhdx_error err = { .message = "" };
    bool              is_good = true;

    must(vhdx_disk_read(stress->disk, last, sizeof last, 0, &err), "the last read", &err);
    if (!end_read(worker, &event, last))
        is_good = false;
    must(vhdx_disk_close(stress->disk, &err), "close", &err);
    open_disk(stress, 0);
    must(vhdx_disk_read(stress->disk, again, sizeof again, 0, &err), "a reader's read", &err);
    must(vhdx_disk_close(stress->disk, &err), "close", &err);
    if (memcmp(last, again, sizeof last) != 0) {
        printf("# a reader does not find what was there before the close\n");
        is_good = false;
    }
    return image_is_clean(stress->memory, IMAGE_GAPS_INSIDE, NULL) && is_good;
}

static bool
run_threads(struct stress *stress, size_t thread_count, uint64_t seed)
{
    struct worker  workers[MOST_THREADS] = { { .stress = stress } };
    struct history histories[MOST_THREADS];
    pthread_t      threads[MOST_THREADS];
    uint32_t       initial = stress->config->type == VHDX_TYPE_DIFFERENCING ? VALUE_PARENT : VALUE_ZERO;
    bool           is_good;

    for (size_t i = 0; i < thread_count; i++) {
        workers[i] = (struct worker){ .stress = stress, .random = { seed * 1000 + i },
                                      .bytes = malloc(MOST_SECTORS * STAMP_SIZE) };
        if (workers[i].bytes == NULL || pthread_create(&threads[i], NULL, work, &workers[i]) != 0)
            abort();
    }
    for (size_t i = 0; i < thread_count; i++)
        pthread_join(threads[i], NULL);
    is_good = conclude(stress, &workers[0]) && !atomic_load(&stress->has_failed);
    for (size_t i = 0; i < thread_count; i++)
        histories[i] = workers[i].history;
    is_good = is_good && histories_judge(histories, thread_count, SECTORS, initial);
    for (size_t i = 0; i < thread_count; i++) {
        history_destroy(&histories[i]);
        free(workers[i].bytes);
    }
    return is_good;
}

static bool
run_once(const struct config *config, size_t thread_count, uint64_t seed)
{
    struct stress stress = { .config = config, .next_value = VALUE_FIRST };
    bool          is_good;

    make_disk(&stress);
    open_disk(&stress, VHDX_OPEN_WRITE);
    is_good = run_threads(&stress, thread_count, seed);
    vhdx_storage_close(stress.memory);
    vhdx_storage_close(stress.parent);
    return is_good;
}

int
main(int argc, char **argv)
{
    const char *text = getenv("VHDX_SEED");
    uint64_t    seed = text != NULL ? strtoull(text, NULL, 10) : 1;
    size_t      thread_count = getenv("VHDX_HOURS") != NULL ? 32 : 8;
    bool        has_failed[CONFIG_COUNT] = { false };
    uint64_t    round;
    double      end;

    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--threads") == 0 && at + 1 < argc) {
            thread_count = (size_t)strtoul(argv[++at], NULL, 10);
        } else if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc) {
            seed = strtoull(argv[++at], NULL, 10);
        } else {
            fprintf(stderr, "usage: stress_test [--threads N] [--seed N]\n");
            return 2;
        }
    }
    if (thread_count == 0 || thread_count > MOST_THREADS)
        return 2;
    end = tap_clock() + tap_seconds("VHDX_THREADS_SECONDS", 20);
    for (round = 0; round == 0 || tap_clock() < end; round++)
        for (size_t i = 0; i < CONFIG_COUNT && (round == 0 || tap_clock() < end); i++)
            if (!has_failed[i])
                has_failed[i] = !run_once(&configs[i], thread_count, seed + round);
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        tap_ok(!has_failed[i], "%s: %zu threads, seeds %" PRIu64 " to %" PRIu64, configs[i].name, thread_count,
               seed, seed + round - 1);
    return tap_end();
}
