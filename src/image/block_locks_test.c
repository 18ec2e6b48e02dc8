/* Ranges of blocks: who goes together, who waits for whom, and that nobody waits for ever. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "image/block_locks.h"
#include "image/image.h"

static struct vx_held
range(uint64_t first_block, uint64_t last_block, bool is_exclusive)
{
    return (struct vx_held){ .first_block = first_block, .last_block = last_block, .is_exclusive = is_exclusive };
}

/* A request of another thread: held until it is told to let go. */
struct request {
    struct vx_block_locks *locks;
    struct vx_held         held;
    atomic_bool            is_granted, may_end;
    pthread_t              thread;
};

static void *
hold(void *context)
{
    struct request *request = context;

    vx_block_locks_take(request->locks, &request->held);
    atomic_store(&request->is_granted, true);
    while (!atomic_load(&request->may_end))
        usleep(200);
    vx_block_locks_give_back(request->locks, &request->held);
    return NULL;
}

/* Ask in another thread, and wait until the request is in the list. */
static void
ask(struct vx_block_locks *locks, struct request *request, struct vx_held held)
{
    size_t before = 0, after;

    vx_mutex_lock(&locks->lock);
    for (const struct vx_held *other = locks->first; other != NULL; other = other->next)
        before++;
    vx_mutex_unlock(&locks->lock);
    request->locks = locks;
    request->held = held;
    atomic_init(&request->is_granted, false);
    atomic_init(&request->may_end, false);
    assert_int_equal(pthread_create(&request->thread, NULL, hold, request), 0);
    do {
        usleep(200);
        after = 0;
        vx_mutex_lock(&locks->lock);
        for (const struct vx_held *other = locks->first; other != NULL; other = other->next)
            after++;
        vx_mutex_unlock(&locks->lock);
    } while (after == before);
}

static void
expect_granted(struct request *request)
{
    for (int i = 0; i < 10000 && !atomic_load(&request->is_granted); i++)
        usleep(500);
    assert_true(atomic_load(&request->is_granted));
}

static void
expect_waiting(struct request *request)
{
    usleep(3000);
    assert_false(atomic_load(&request->is_granted));
}

static void
let_go(struct request *request)
{
    atomic_store(&request->may_end, true);
    pthread_join(request->thread, NULL);
}

struct pair_case {
    const char    *about;
    struct vx_held first, second;
    bool           go_together;
};

static const struct pair_case pair_cases[] = {
    { "two shared", { .first_block = 1, .last_block = 5 }, { .first_block = 3, .last_block = 9 }, true },
    { "exclusive beside exclusive", { .first_block = 1, .last_block = 2, .is_exclusive = true },
      { .first_block = 3, .last_block = 4, .is_exclusive = true }, true },
    { "shared in exclusive", { .first_block = 1, .last_block = 9, .is_exclusive = true },
      { .first_block = 5, .last_block = 5 }, false },
    { "exclusive in shared", { .first_block = 1, .last_block = 9 },
      { .first_block = 9, .last_block = 9, .is_exclusive = true }, false },
    { "exclusive around shared", { .first_block = 5, .last_block = 5 },
      { .first_block = 0, .last_block = UINT64_MAX, .is_exclusive = true }, false },
    { "the same block", { .first_block = 7, .last_block = 7, .is_exclusive = true },
      { .first_block = 7, .last_block = 7, .is_exclusive = true }, false },
    { "one before", { .first_block = 7, .last_block = 7, .is_exclusive = true },
      { .first_block = 6, .last_block = 6, .is_exclusive = true }, true },
};

static void
pairs(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof pair_cases / sizeof pair_cases[0]; i++) {
        const struct pair_case *c = &pair_cases[i];
        struct vx_block_locks   locks = { .waiting_count = 0 };
        struct vx_held          first = c->first;
        struct request          second;

        assert_int_equal(vx_block_locks_init(&locks), 0);
        vx_block_locks_take(&locks, &first);
        ask(&locks, &second, c->second);
        if (c->go_together)
            expect_granted(&second);
        else
            expect_waiting(&second);
        vx_block_locks_give_back(&locks, &first);
        expect_granted(&second);
        let_go(&second);
        assert_null(locks.first);
        assert_null(locks.last);
        assert_int_equal(locks.waiting_count, 0);
        vx_block_locks_destroy(&locks);
    }
}

/* Readers that come later wait behind a writer that waits: else it would wait for ever. */
static void
nobody_overtakes(void **state)
{
    struct vx_block_locks locks = { .waiting_count = 0 };
    struct vx_held        reading = range(1, 1, false);
    struct request        writer, late, elsewhere;

    (void)state;
    assert_int_equal(vx_block_locks_init(&locks), 0);
    vx_block_locks_take(&locks, &reading);
    ask(&locks, &writer, range(1, 4, true));
    ask(&locks, &late, range(4, 4, false));
    ask(&locks, &elsewhere, range(5, 5, true));
    expect_granted(&elsewhere);
    expect_waiting(&writer);
    expect_waiting(&late);
    vx_block_locks_give_back(&locks, &reading);
    expect_granted(&writer);
    expect_waiting(&late);
    let_go(&writer);
    expect_granted(&late);
    let_go(&late);
    let_go(&elsewhere);
    vx_block_locks_destroy(&locks);
}

/* While something is pinned, readers pass a writer that waits: whoever pinned must be able to read. */
static void
pins_are_passed(void **state)
{
    struct vx_block_locks locks = { .waiting_count = 0 };
    struct vx_held        pin = range(1, 1, false);
    struct request        writer, reader, second_writer;

    (void)state;
    pin.is_pin = true;
    assert_int_equal(vx_block_locks_init(&locks), 0);
    vx_block_locks_take(&locks, &pin);
    ask(&locks, &writer, range(1, 1, true));
    ask(&locks, &second_writer, range(1, 2, true));
    ask(&locks, &reader, range(1, 1, false));
    expect_granted(&reader);
    expect_waiting(&writer);
    vx_block_locks_give_back(&locks, &pin);
    expect_waiting(&writer); /* the reader holds on */
    let_go(&reader);
    expect_granted(&writer);
    expect_waiting(&second_writer);
    let_go(&writer);
    expect_granted(&second_writer);
    let_go(&second_writer);
    vx_block_locks_destroy(&locks);
}

/* --- many at once --- */

#define THREADS 6u
#define BLOCKS  5u

struct crowd {
    struct vx_block_locks locks;
    atomic_int            readers[BLOCKS], writers[BLOCKS];
    atomic_bool           is_violated;
};

static void
use_block(struct crowd *crowd, uint64_t block, bool is_exclusive, int by)
{
    int writers, readers;

    if (is_exclusive)
        atomic_fetch_add(&crowd->writers[block], by);
    else
        atomic_fetch_add(&crowd->readers[block], by);
    writers = atomic_load(&crowd->writers[block]);
    readers = atomic_load(&crowd->readers[block]);
    if (by > 0 && (writers > 1 || (writers == 1 && readers > 0)))
        atomic_store(&crowd->is_violated, true);
}

static void *
come_and_go(void *context)
{
    struct crowd *crowd = context;
    uint32_t      random = (uint32_t)(uintptr_t)&random;

    for (int i = 0; i < 1500; i++) {
        struct vx_held held;
        uint64_t       first, last;

        random = random * 1103515245u + 12345u;
        first = (random >> 16) % BLOCKS;
        last = first + (random >> 20) % (BLOCKS - first);
        held = range(first, last, (random >> 28) % 2 == 0);
        vx_block_locks_take(&crowd->locks, &held);
        for (uint64_t b = first; b <= last; b++)
            use_block(crowd, b, held.is_exclusive, 1);
        for (uint64_t b = first; b <= last; b++)
            use_block(crowd, b, held.is_exclusive, -1);
        vx_block_locks_give_back(&crowd->locks, &held);
    }
    return NULL;
}

static void
a_crowd(void **state)
{
    static struct crowd crowd;
    pthread_t           threads[THREADS];

    (void)state;
    assert_int_equal(vx_block_locks_init(&crowd.locks), 0);
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &crowd), 0);
    for (size_t i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    assert_false(atomic_load(&crowd.is_violated));
    assert_null(crowd.locks.first);
    vx_block_locks_destroy(&crowd.locks);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pairs),
        cmocka_unit_test(nobody_overtakes),
        cmocka_unit_test(pins_are_passed),
        cmocka_unit_test(a_crowd),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
