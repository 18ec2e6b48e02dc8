/* A file in memory: against a plain array, at 64 TiB, and with many threads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "base/checked.h"
#include "base/memory.h"
#include "storage/storage.h"

#define MODEL_SIZE (64u * 4096u)
#define SEED       UINT64_C(0x9E3779B97F4A7C15)

static struct vhdx_error err;
static uint64_t random_state;

static uint64_t
random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

static struct vhdx_storage *
new_memory(uint64_t size)
{
    struct vhdx_storage *storage = NULL;

    assert_int_equal(vhdx_storage_new_memory(&storage, size, &err), VHDX_OK);
    return storage;
}

/* What next_data leaves out is zeros; what it gives moves forward. */
static void
check_next_data(struct vhdx_storage *storage, const uint8_t *model, uint64_t size)
{
    uint64_t at = 0;

    for (;;) {
        uint64_t start, end;

        assert_int_equal(vx_storage_next_data(storage, at, &start, &end, &err), VHDX_OK);
        assert_true(start >= at && start <= end && end <= size);
        for (; at < start; at++)
            assert_int_equal(model[at], 0);
        if (start == end) {
            assert_true(start == size);
            return;
        }
        at = end;
    }
}

static void
do_something(struct vhdx_storage *storage, uint8_t *model, uint64_t *size)
{
    static uint8_t bytes[5 * 4096];
    const uint64_t at = random_below(MODEL_SIZE);
    const uint64_t length = random_below(vx_min_u64(sizeof bytes, MODEL_SIZE - at) + 1);
    const struct iovec halves[2] = {
        { bytes, (size_t)(length / 3) }, { bytes + length / 3, (size_t)(length - length / 3) }
    };

    memset(bytes, (int)random_below(256), sizeof bytes);
    switch (random_below(6)) {
    case 0:
    case 1:
        assert_int_equal(storage->methods->writev(storage, halves, 2, at, &err), VHDX_OK);
        memcpy(model + at, bytes, (size_t)length);
        if (length > 0)
            *size = vx_max_u64(*size, at + length);
        break;
    case 2:
        if (at > *size)
            break;
        assert_int_equal(vx_storage_zero(storage, at, vx_min_u64(length, *size - at),
                                         (enum vhdx_zero_mode)random_below(3), &err), VHDX_OK);
        memset(model + at, 0, (size_t)vx_min_u64(length, *size - at));
        break;
    case 3:
        if (random_below(4) != 0)
            break;
        assert_int_equal(vx_storage_set_size(storage, at, &err), VHDX_OK);
        if (at < *size)
            memset(model + at, 0, (size_t)(*size - at));
        *size = at;
        break;
    default:
        if (at + length > *size) {
            assert_int_equal(vx_storage_read(storage, bytes, (size_t)length, at, &err),
                             length > 0 ? VHDX_E_TRUNCATED : VHDX_OK);
            break;
        }
        assert_int_equal(storage->methods->readv(storage, halves, 2, at, &err), VHDX_OK);
        assert_memory_equal(bytes, model + at, (size_t)length);
    }
}

static void
test_against_model(void **state)
{
    static uint8_t model[MODEL_SIZE];
    struct vhdx_storage *storage = new_memory(1000);
    uint64_t size = 1000, found;

    (void)state;
    random_state = SEED;
    for (int i = 0; i < 20000; i++) {
        do_something(storage, model, &size);
        assert_int_equal(vx_storage_get_size(storage, &found, &err), VHDX_OK);
        if (found != size)
            fail_msg("after step %d of seed %llu", i, (unsigned long long)SEED);
        if (i % 500 == 0)
            check_next_data(storage, model, size);
    }
    vhdx_storage_close(storage);
}

static void
test_very_long(void **state)
{
    const uint64_t size = 64 * VX_TIB;
    struct vhdx_storage *storage = new_memory(size);
    uint64_t start, end;
    char text[4];

    (void)state;
    assert_true(storage->traits.can_punch);
    assert_int_equal(vx_storage_write(storage, "last", 4, size - 4, &err), VHDX_OK);
    assert_int_equal(vx_storage_write(storage, "4GiB", 4, 4 * VX_GIB - 2, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(storage, text, 4, size - 4, &err), VHDX_OK);
    assert_memory_equal(text, "last", 4);
    assert_int_equal(vx_storage_next_data(storage, 0, &start, &end, &err), VHDX_OK);
    assert_true(start == 4 * VX_GIB - 4096 && end == 4 * VX_GIB + 4096);
    assert_int_equal(vx_storage_next_data(storage, end, &start, &end, &err), VHDX_OK);
    assert_true(start == size - 4096 && end == size);
    assert_int_equal(vx_storage_zero(storage, 0, size, VHDX_ZERO_RELEASE, &err), VHDX_OK); /* at once */
    assert_int_equal(vx_storage_next_data(storage, 0, &start, &end, &err), VHDX_OK);
    assert_true(start == size && end == size);

    assert_int_equal(vx_storage_write(storage, text, 4, UINT64_MAX - 2, &err), VHDX_E_NO_SPACE);
    assert_int_equal(vx_storage_set_size(storage, UINT64_MAX, &err), VHDX_E_NO_SPACE);
    assert_int_equal(vhdx_storage_new_memory(&storage, UINT64_MAX, &err), VHDX_E_NO_SPACE);
    vhdx_storage_close(storage);
}

static void
test_out_of_memory(void **state)
{
    struct vhdx_storage *storage = NULL;
    uint8_t bytes[2 * 4096], read[3 * 4096];

    (void)state;
    vx_alloc_fail_nth_for_tests(1);
    assert_int_equal(vhdx_storage_new_memory(&storage, 0, &err), VHDX_E_NO_MEMORY);
    vx_alloc_fail_nth_for_tests(0);
    storage = new_memory(sizeof read);
    memset(bytes, 7, sizeof bytes);
    assert_int_equal(vx_storage_write(storage, bytes, 10, 0, &err), VHDX_OK);
    vx_alloc_fail_nth_for_tests(1);
    assert_int_equal(vx_storage_write(storage, bytes, sizeof bytes, 4096, &err), VHDX_E_NO_MEMORY);
    vx_alloc_fail_nth_for_tests(0);
    assert_int_equal(vx_storage_read(storage, read, sizeof read, 0, &err), VHDX_OK);
    assert_memory_equal(read, bytes, 10);
    vhdx_storage_close(storage);
}

/* --- threads --- */

#define THREADS 4
#define STRIPE  5000u /* threads share pages */
#define TURNS   3000

static struct vhdx_storage *shared;

/* Each has stripes of its own, which hold what it wrote last; the file grows and is searched meanwhile. */
static void *
use_stripes(void *number)
{
    const unsigned self = *(unsigned *)number;
    uint8_t bytes[STRIPE], read[STRIPE];
    uint64_t start, end;

    for (unsigned turn = 0; turn < TURNS; turn++) {
        const uint64_t at = ((uint64_t)(turn % 50) * THREADS + self) * STRIPE;

        memset(bytes, (int)(turn * THREADS + self), sizeof bytes);
        if (vx_storage_write(shared, bytes, STRIPE, at, NULL) < 0)
            return number;
        if (turn % 3 == 0) {
            if (vx_storage_zero(shared, at, STRIPE, VHDX_ZERO_RELEASE, NULL) < 0)
                return number;
            memset(bytes, 0, sizeof bytes);
        }
        if (vx_storage_next_data(shared, at, &start, &end, NULL) < 0 ||
            vx_storage_read(shared, read, STRIPE, at, NULL) < 0 || memcmp(read, bytes, STRIPE) != 0)
            return number;
    }
    return NULL;
}

static void
test_threads(void **state)
{
    pthread_t threads[THREADS];
    unsigned numbers[THREADS];

    (void)state;
    shared = new_memory(0);
    for (unsigned i = 0; i < THREADS; i++) {
        numbers[i] = i;
        assert_int_equal(pthread_create(&threads[i], NULL, use_stripes, &numbers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    vhdx_storage_close(shared);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_very_long),
        cmocka_unit_test(test_out_of_memory),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
