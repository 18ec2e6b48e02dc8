#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <string.h>

#include "base/checked.h"
#include "storage/fault.h"
#include "storage/storage.h"

#define SECTOR 512u

static const struct vx_fault_options plain = { .tear_unit = SECTOR, .can_punch = true,
                                               .extension_survives_as_zeros = true };

/* A disk and a storage on it. */
struct bench {
    struct vx_fault     *fault;
    struct vhdx_storage *storage;
};

static struct bench
new_bench(const struct vx_fault_options *options)
{
    struct bench bench = { NULL, NULL };

    assert_int_equal(vx_fault_new(&bench.fault, options, NULL), VHDX_OK);
    assert_int_equal(vx_fault_open(&bench.storage, bench.fault, false, NULL), VHDX_OK);
    return bench;
}

static struct bench
clone_bench(const struct bench *from)
{
    struct bench bench = { NULL, NULL };

    assert_int_equal(vx_fault_clone(&bench.fault, from->fault, NULL), VHDX_OK);
    assert_int_equal(vx_fault_open(&bench.storage, bench.fault, false, NULL), VHDX_OK);
    return bench;
}

static void
free_bench(struct bench *bench)
{
    vhdx_storage_close(bench->storage);
    vx_fault_free(bench->fault);
}

/* Write `count` sectors filled with one byte. */
static int
fill(const struct bench *bench, uint64_t sector, size_t count, uint8_t byte)
{
    static uint8_t buffer[64 * SECTOR];

    assert_true(count * SECTOR <= sizeof buffer);
    memset(buffer, byte, count * SECTOR);
    return vx_storage_write(bench->storage, buffer, count * SECTOR, sector * SECTOR, NULL);
}

static void
must_fill(const struct bench *bench, uint64_t sector, size_t count, uint8_t byte)
{
    assert_int_equal(fill(bench, sector, count, byte), VHDX_OK);
}

static void
flush(const struct bench *bench)
{
    assert_int_equal(vx_storage_flush(bench->storage, NULL), VHDX_OK);
}

static uint64_t
size_of(const struct bench *bench)
{
    uint64_t size = UINT64_MAX;

    assert_int_equal(vx_storage_get_size(bench->storage, &size, NULL), VHDX_OK);
    return size;
}

/* The byte a sector is filled with; it must be one throughout. */
static uint8_t
byte_at(const struct bench *bench, uint64_t sector)
{
    uint8_t bytes[SECTOR];
    size_t i;

    assert_int_equal(vx_storage_read(bench->storage, bytes, sizeof bytes, sector * SECTOR, NULL), VHDX_OK);
    for (i = 1; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], bytes[0]);
    return bytes[0];
}

static void
cut(const struct bench *bench, enum vx_fault_keep keep, bool may_tear, uint64_t seed)
{
    assert_int_equal(vx_fault_power_cut(bench->fault, keep, may_tear, seed), VHDX_OK);
}

/* --- power cuts --- */

static void
test_unflushed_is_kept_or_lost(void **state)
{
    static const struct { enum vx_fault_keep keep; uint8_t expected; const char *why; } cases[] = {
        { VX_KEEP_NONE, 1, "nothing unflushed survives" },
        { VX_KEEP_ALL,  2, "everything survives" },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench bench = new_bench(&plain);

        must_fill(&bench, 0, 8, 1);
        flush(&bench);
        must_fill(&bench, 2, 4, 2);
        assert_int_equal(byte_at(&bench, 3), 2);
        cut(&bench, cases[i].keep, false, 0);
        assert_int_equal(byte_at(&bench, 0), 1);
        assert_int_equal(byte_at(&bench, 3), cases[i].expected);
        assert_int_equal(vx_fault_unflushed_count(bench.fault), 0);
        free_bench(&bench);
    }
}

/* Two sectors, written twice each: with tearing every combination of old, first and second value must come up. */
static void
test_each_sector_holds_any_later_value(void **state)
{
    struct bench bench = new_bench(&plain), copy;
    bool seen[4][4] = { { false } };
    uint64_t seed;
    int a, b;

    (void)state;
    must_fill(&bench, 0, 2, 1);
    flush(&bench);
    must_fill(&bench, 0, 2, 2);
    must_fill(&bench, 0, 2, 3);
    for (seed = 1; seed < 400; seed++) {
        copy = clone_bench(&bench);
        cut(&copy, VX_KEEP_RANDOM, true, seed);
        a = byte_at(&copy, 0);
        b = byte_at(&copy, 1);
        assert_in_range(a, 1, 3);
        assert_in_range(b, 1, 3);
        seen[a][b] = true;
        free_bench(&copy);
    }
    for (a = 1; a <= 3; a++)
        for (b = 1; b <= 3; b++)
            assert_true(seen[a][b]);
    free_bench(&bench);
}

static void
test_large_units_are_not_torn(void **state)
{
    struct vx_fault_options options = plain;
    struct bench bench, copy;
    uint64_t seed, i;

    (void)state;
    options.tear_unit = 4096;
    bench = new_bench(&options);
    must_fill(&bench, 0, 16, 1);
    flush(&bench);
    must_fill(&bench, 0, 16, 2);
    for (seed = 1; seed < 60; seed++) {
        copy = clone_bench(&bench);
        cut(&copy, (enum vx_fault_keep)(seed % VX_KEEP_COUNT), true, seed);
        for (i = 1; i < 8; i++) {
            assert_int_equal(byte_at(&copy, i), byte_at(&copy, 0));
            assert_int_equal(byte_at(&copy, 8 + i), byte_at(&copy, 8));
        }
        free_bench(&copy);
    }
    free_bench(&bench);
}

/* The length and what was written past the old end come and go each by itself; what lies past the end is gone. */
static void
test_length_is_independent(void **state)
{
    struct bench bench = new_bench(&plain), copy;
    bool saw_short = false, saw_zeros = false, saw_data = false;
    uint64_t seed;

    (void)state;
    must_fill(&bench, 0, 8, 1);
    flush(&bench);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    must_fill(&bench, 100, 1, 2);
    for (seed = 1; seed < 100; seed++) {
        copy = clone_bench(&bench);
        cut(&copy, (enum vx_fault_keep)(seed % VX_KEEP_COUNT), false, seed);
        if (size_of(&copy) == 8 * SECTOR) {
            saw_short = true;
            assert_int_equal(vx_storage_set_size(copy.storage, VX_MIB, NULL), VHDX_OK);
            assert_int_equal(byte_at(&copy, 100), 0);
        } else {
            assert_int_equal(size_of(&copy), VX_MIB);
            saw_zeros = saw_zeros || byte_at(&copy, 100) == 0;
            saw_data = saw_data || byte_at(&copy, 100) == 2;
        }
        free_bench(&copy);
    }
    assert_true(saw_short && saw_zeros && saw_data);
    free_bench(&bench);
}

/* Cut and grown again, or punched: until a flush the old bytes may come back. */
static void
test_holes_may_be_undone(void **state)
{
    static const char *const ways[] = { "cut and grown", "punched" };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof ways / sizeof ways[0]; i++) {
        struct bench bench = new_bench(&plain), copy;
        bool saw_old = false, saw_zeros = false;
        uint64_t seed;

        must_fill(&bench, 0, 32, 1);
        flush(&bench);
        if (i == 0) {
            assert_int_equal(vx_storage_set_size(bench.storage, 8 * SECTOR, NULL), VHDX_OK);
            assert_int_equal(vx_storage_set_size(bench.storage, 32 * SECTOR, NULL), VHDX_OK);
        } else {
            assert_int_equal(vx_storage_zero(bench.storage, 8 * SECTOR, 24 * SECTOR, VHDX_ZERO_RELEASE, NULL),
                             VHDX_OK);
        }
        assert_int_equal(byte_at(&bench, 20), 0);
        for (seed = 1; seed < 60; seed++) {
            copy = clone_bench(&bench);
            cut(&copy, (enum vx_fault_keep)(seed % VX_KEEP_COUNT), true, seed);
            if (size_of(&copy) == 32 * SECTOR) {
                saw_old = saw_old || byte_at(&copy, 20) == 1;
                saw_zeros = saw_zeros || byte_at(&copy, 20) == 0;
            }
            assert_int_equal(byte_at(&copy, 5), 1);
            free_bench(&copy);
        }
        if (!saw_old || !saw_zeros)
            fail_msg("%s: old %d, zeros %d", ways[i], saw_old, saw_zeros);
        flush(&bench);
        cut(&bench, VX_KEEP_NONE, false, 1);
        assert_int_equal(byte_at(&bench, 20), 0);
        free_bench(&bench);
    }
}

static void
test_same_seed_same_file(void **state)
{
    struct bench bench = new_bench(&plain);
    uint64_t seed, i, distinct = 0, hashes[40];

    (void)state;
    for (i = 0; i < 12; i++)
        must_fill(&bench, i * 3, 5, (uint8_t)(i + 1));
    for (seed = 0; seed < 40; seed++) {
        struct bench a = clone_bench(&bench), b = clone_bench(&bench);

        cut(&a, VX_KEEP_RANDOM, true, seed);
        cut(&b, VX_KEEP_RANDOM, true, seed);
        assert_true(vx_fault_hash(a.fault) == vx_fault_hash(b.fault));
        hashes[seed] = vx_fault_hash(a.fault);
        for (i = 0; i < seed && hashes[i] != hashes[seed]; i++)
            ;
        distinct += i == seed;
        free_bench(&a);
        free_bench(&b);
    }
    assert_true(distinct > 30);
    free_bench(&bench);
}

static bool
sees_garbage(const struct bench *bench, uint64_t file_offset)
{
    bool saw_garbage = false;
    uint64_t seed;

    for (seed = 1; seed < 20; seed++) {
        struct bench copy = clone_bench(bench);

        cut(&copy, VX_KEEP_NONE, false, seed);
        saw_garbage = saw_garbage || byte_at(&copy, file_offset) != 0;
        free_bench(&copy);
    }
    return saw_garbage;
}

static void
test_garbage_only_without_the_trait(void **state)
{
    bool trait;

    (void)state;
    for (trait = false;; trait = true) {
        struct vx_fault_options options = plain;
        struct bench bench;

        options.extension_survives_as_zeros = trait;
        bench = new_bench(&options);
        assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
        flush(&bench);
        must_fill(&bench, 64, 8, 1);
        assert_int_equal(sees_garbage(&bench, 64), !trait);
        assert_false(sees_garbage(&bench, 128));
        free_bench(&bench);
        if (trait)
            break;
    }
}

/* A MiB that was in use and is a hole now holds zeros; cut off and grown again it is new. */
static void
test_no_garbage_in_holes(void **state)
{
    struct vx_fault_options options = plain;
    struct bench bench;

    (void)state;
    options.extension_survives_as_zeros = false;
    bench = new_bench(&options);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    must_fill(&bench, 64, 8, 1);
    flush(&bench);
    assert_int_equal(vx_storage_zero(bench.storage, 0, VX_MIB, VHDX_ZERO_RELEASE, NULL), VHDX_OK);
    flush(&bench);
    must_fill(&bench, 64, 8, 2);
    assert_false(sees_garbage(&bench, 64));

    assert_int_equal(vx_storage_set_size(bench.storage, 0, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    flush(&bench);
    must_fill(&bench, 64, 8, 3);
    assert_true(sees_garbage(&bench, 64));
    free_bench(&bench);
}

/* --- flushes --- */

static void
write_in_flush(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct bench *bench = context;

    vx_fault_set_hook(fault, NULL, NULL);
    assert_false(event->is_done);
    assert_int_equal(event->kind, VX_CALL_FLUSH);
    must_fill(bench, 1, 1, 2);
}

static void
test_flush_covers_what_had_returned(void **state)
{
    struct bench bench = new_bench(&plain);

    (void)state;
    must_fill(&bench, 0, 2, 1);
    vx_fault_set_hook(bench.fault, write_in_flush, &bench);
    flush(&bench);
    assert_int_equal(byte_at(&bench, 1), 2);
    assert_int_equal(vx_fault_unflushed_count(bench.fault), 1);
    cut(&bench, VX_KEEP_NONE, false, 1);
    assert_int_equal(byte_at(&bench, 0), 1);
    assert_int_equal(byte_at(&bench, 1), 1);
    free_bench(&bench);
}

/* After a failed flush the bytes are readable; a later flush that succeeds need not have stored them. */
static void
test_failed_flush_loses_for_good(void **state)
{
    bool saw_stored = false, saw_lost = false;
    uint64_t seed;

    (void)state;
    for (seed = 1; seed < 30; seed++) {
        struct bench bench = new_bench(&plain), copy;
        enum vx_fault_call what = VX_CALL_READ;

        must_fill(&bench, 0, 8, 1);
        flush(&bench);
        must_fill(&bench, 0, 8, 2);
        vx_fault_fail_nth(bench.fault, 1, 1u << VX_CALL_FLUSH, EIO, seed);
        assert_int_equal(vx_storage_flush(bench.storage, NULL), VHDX_E_IO);
        assert_true(vx_fault_has_failed(bench.fault, &what));
        assert_int_equal(what, VX_CALL_FLUSH);
        assert_int_equal(byte_at(&bench, 4), 2);

        must_fill(&bench, 7, 1, 3);
        flush(&bench);
        assert_int_equal(byte_at(&bench, 4), 2);
        copy = clone_bench(&bench);
        cut(&copy, VX_KEEP_ALL, false, 0);
        assert_int_equal(byte_at(&copy, 7), 3);
        saw_stored = saw_stored || byte_at(&copy, 4) == 2;
        saw_lost = saw_lost || byte_at(&copy, 4) == 1;

        assert_int_equal(vx_fault_drop_cache(bench.fault), VHDX_OK);
        assert_int_equal(byte_at(&bench, 4), byte_at(&copy, 4));
        free_bench(&copy);
        free_bench(&bench);
    }
    assert_true(saw_stored && saw_lost);
}

static void
test_failed_flush_keeps_lengths_and_holes_pending(void **state)
{
    struct bench bench = new_bench(&plain);

    (void)state;
    must_fill(&bench, 0, 32, 1);
    flush(&bench);
    assert_int_equal(vx_storage_zero(bench.storage, 8 * SECTOR, 8 * SECTOR, VHDX_ZERO_RELEASE, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    vx_fault_fail_nth(bench.fault, 1, 1u << VX_CALL_FLUSH, EIO, 5);
    assert_int_equal(vx_storage_flush(bench.storage, NULL), VHDX_E_IO);
    flush(&bench);
    cut(&bench, VX_KEEP_NONE, false, 1);
    assert_int_equal(size_of(&bench), VX_MIB);
    assert_int_equal(byte_at(&bench, 10), 0);
    assert_int_equal(byte_at(&bench, 20), 1);
    free_bench(&bench);
}

/* --- stops and failures --- */

static void
test_stop_and_kill(void **state)
{
    struct bench bench = new_bench(&plain);
    uint64_t size;

    (void)state;
    vx_fault_stop_at_call(bench.fault, 3);
    must_fill(&bench, 0, 1, 1);
    assert_int_equal(byte_at(&bench, 0), 1);
    assert_int_equal(fill(&bench, 0, 1, 2), VHDX_E_IO);
    assert_int_equal(vx_storage_flush(bench.storage, NULL), VHDX_E_IO);
    assert_int_equal(vx_storage_get_size(bench.storage, &size, NULL), VHDX_E_IO);
    assert_int_equal(vx_fault_call_count(bench.fault), 1);
    vx_fault_kill(bench.fault);
    assert_int_equal(byte_at(&bench, 0), 1);
    assert_true(vx_fault_unflushed_count(bench.fault) > 0);
    cut(&bench, VX_KEEP_NONE, false, 0);
    assert_int_equal(size_of(&bench), 0);
    free_bench(&bench);
}

static void
test_nth_call_fails_once(void **state)
{
    static const struct { uint64_t n; uint32_t mask; int system_errno; int expected[3]; } cases[] = {
        { 1, UINT32_MAX,           EIO,    { VHDX_E_IO, VHDX_OK, VHDX_OK } },
        { 3, UINT32_MAX,           ENOSPC, { VHDX_OK, VHDX_OK, VHDX_E_NO_SPACE } },
        { 1, 1u << VX_CALL_FLUSH,  EIO,    { VHDX_OK, VHDX_E_IO, VHDX_OK } },
        { 2, 1u << VX_CALL_WRITE,  ENOSPC, { VHDX_OK, VHDX_OK, VHDX_E_NO_SPACE } },
        { 0, UINT32_MAX,           EIO,    { VHDX_OK, VHDX_OK, VHDX_OK } },
    };
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench bench = new_bench(&plain);

        vx_fault_fail_nth(bench.fault, cases[i].n, cases[i].mask, cases[i].system_errno, 7);
        assert_int_equal(fill(&bench, 0, 4, 1), cases[i].expected[0]);
        assert_int_equal(vx_storage_flush(bench.storage, NULL), cases[i].expected[1]);
        assert_int_equal(fill(&bench, 0, 4, 2), cases[i].expected[2]);
        must_fill(&bench, 0, 4, 3);
        assert_int_equal(byte_at(&bench, 3), 3);
        assert_int_equal(vx_fault_has_failed(bench.fault, NULL), cases[i].n > 0);
        free_bench(&bench);
    }
}

static void
test_full_host(void **state)
{
    struct vx_fault_options options = plain;
    struct bench bench;

    (void)state;
    options.capacity = 4 * 4096;
    bench = new_bench(&options);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    must_fill(&bench, 0, 24, 1);
    assert_int_equal(vx_fault_allocated(bench.fault), 3 * 4096);
    assert_int_equal(fill(&bench, 100 * 8, 16, 2), VHDX_E_NO_SPACE);
    assert_int_equal(byte_at(&bench, 100 * 8 + 16), 0);
    must_fill(&bench, 0, 24, 3); /* overwriting takes no room */
    assert_int_equal(vx_storage_allocate(bench.storage, 200 * 4096, 4096, NULL), VHDX_E_NO_SPACE);
    assert_int_equal(vx_storage_zero(bench.storage, 0, 4096, VHDX_ZERO_RELEASE, NULL), VHDX_OK);
    assert_int_equal(vx_storage_allocate(bench.storage, 200 * 4096, 4096, NULL), VHDX_OK);
    flush(&bench);
    cut(&bench, VX_KEEP_NONE, false, 0);
    assert_int_equal(vx_fault_allocated(bench.fault), 4 * 4096);
    must_fill(&bench, 200 * 8, 8, 4); /* allocated before: cannot fail */
    assert_int_equal(fill(&bench, 0, 1, 5), VHDX_E_NO_SPACE);
    vx_fault_set_capacity(bench.fault, 0);
    must_fill(&bench, 0, 1, 5);
    free_bench(&bench);
}

static void
test_read_only(void **state)
{
    struct bench bench = new_bench(&plain);
    struct vhdx_storage *reader;
    uint8_t bytes[SECTOR] = { 0 };

    (void)state;
    must_fill(&bench, 0, 2, 1);
    assert_int_equal(vx_fault_open(&reader, bench.fault, true, NULL), VHDX_OK);
    assert_int_equal(vx_storage_read(reader, bytes, sizeof bytes, SECTOR, NULL), VHDX_OK);
    assert_int_equal(bytes[0], 1);
    assert_int_equal(vx_storage_read(reader, bytes, sizeof bytes, 2 * SECTOR, NULL), VHDX_E_TRUNCATED);
    assert_int_equal(vx_storage_write(reader, bytes, sizeof bytes, 0, NULL), VHDX_E_READ_ONLY);
    assert_int_equal(vx_storage_flush(reader, NULL), VHDX_E_READ_ONLY);
    vhdx_storage_close(reader);
    free_bench(&bench);
}

/* --- bytes --- */

static void
test_odd_ranges_and_data_search(void **state)
{
    struct bench bench = new_bench(&plain);
    uint8_t bytes[9000], read[9000];
    uint64_t start, end;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 7 + 1);
    assert_int_equal(vx_storage_set_size(bench.storage, VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_storage_write(bench.storage, bytes, sizeof bytes, 100001, NULL), VHDX_OK);
    assert_int_equal(vx_storage_read(bench.storage, read, sizeof read, 100001, NULL), VHDX_OK);
    assert_memory_equal(read, bytes, sizeof bytes);

    assert_int_equal(bench.storage->methods->next_data(bench.storage, 0, &start, &end, NULL), VHDX_OK);
    assert_int_equal(start, vx_round_down(100001, 4096));
    assert_int_equal(end, vx_round_up(109001, 4096));
    assert_int_equal(bench.storage->methods->next_data(bench.storage, end, &start, &end, NULL), VHDX_OK);
    assert_int_equal(start, VX_MIB);
    assert_int_equal(end, VX_MIB);

    assert_int_equal(vx_storage_zero(bench.storage, 100002, sizeof bytes - 2, VHDX_ZERO_RELEASE, NULL), VHDX_OK);
    assert_int_equal(vx_storage_read(bench.storage, read, sizeof read, 100001, NULL), VHDX_OK);
    assert_int_equal(read[0], bytes[0]);
    assert_int_equal(read[1], 0);
    assert_int_equal(read[sizeof read - 2], 0);
    assert_int_equal(read[sizeof read - 1], bytes[sizeof bytes - 1]);
    flush(&bench);
    cut(&bench, VX_KEEP_NONE, true, 3);
    assert_int_equal(vx_storage_read(bench.storage, read, sizeof read, 100001, NULL), VHDX_OK);
    assert_int_equal(read[0], bytes[0]);
    assert_int_equal(read[1], 0);
    free_bench(&bench);
}

static void
test_clones_and_pokes(void **state)
{
    struct bench bench = new_bench(&plain), copy;
    const uint8_t poked[3] = { 9, 9, 9 };
    uint8_t read[3];

    (void)state;
    must_fill(&bench, 0, 4, 1);
    copy = clone_bench(&bench);
    assert_true(vx_fault_hash(bench.fault) == vx_fault_hash(copy.fault));
    must_fill(&copy, 0, 4, 2);
    assert_int_equal(byte_at(&bench, 0), 1);
    assert_false(vx_fault_hash(bench.fault) == vx_fault_hash(copy.fault));
    must_fill(&copy, 0, 4, 1);
    assert_true(vx_fault_hash(bench.fault) == vx_fault_hash(copy.fault));

    assert_int_equal(vx_fault_poke(copy.fault, 4095, poked, sizeof poked), VHDX_OK);
    cut(&copy, VX_KEEP_NONE, false, 0);
    assert_int_equal(size_of(&copy), 4098);
    assert_int_equal(vx_storage_read(copy.storage, read, sizeof read, 4095, NULL), VHDX_OK);
    assert_memory_equal(read, poked, sizeof poked);
    free_bench(&copy);
    free_bench(&bench);
}

static void *
write_many(void *context)
{
    struct bench *bench = context;
    uint8_t bytes[SECTOR] = { 1 };
    uint64_t i;
    int rc = VHDX_OK;

    for (i = 0; rc == VHDX_OK && i < 200; i++) {
        rc = vx_storage_write(bench->storage, bytes, sizeof bytes, i % 64 * SECTOR, NULL);
        if (rc == VHDX_OK && i % 16 == 0)
            rc = vx_storage_flush(bench->storage, NULL);
    }
    return rc == VHDX_OK ? NULL : bench;
}

static void
test_threads(void **state)
{
    struct bench bench = new_bench(&plain), copy;
    pthread_t threads[3];
    void *result;
    size_t i;

    (void)state;
    for (i = 0; i < 3; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, write_many, &bench), 0);
    for (i = 0; i < 100; i++) {
        copy = clone_bench(&bench);
        cut(&copy, VX_KEEP_RANDOM, true, i + 1);
        free_bench(&copy);
    }
    for (i = 0; i < 3; i++) {
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_null(result);
    }
    flush(&bench);
    assert_int_equal(vx_fault_unflushed_count(bench.fault), 0);
    free_bench(&bench);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unflushed_is_kept_or_lost),
        cmocka_unit_test(test_each_sector_holds_any_later_value),
        cmocka_unit_test(test_large_units_are_not_torn),
        cmocka_unit_test(test_length_is_independent),
        cmocka_unit_test(test_holes_may_be_undone),
        cmocka_unit_test(test_same_seed_same_file),
        cmocka_unit_test(test_garbage_only_without_the_trait),
        cmocka_unit_test(test_no_garbage_in_holes),
        cmocka_unit_test(test_flush_covers_what_had_returned),
        cmocka_unit_test(test_failed_flush_loses_for_good),
        cmocka_unit_test(test_failed_flush_keeps_lengths_and_holes_pending),
        cmocka_unit_test(test_stop_and_kill),
        cmocka_unit_test(test_nth_call_fails_once),
        cmocka_unit_test(test_full_host),
        cmocka_unit_test(test_read_only),
        cmocka_unit_test(test_odd_ranges_and_data_search),
        cmocka_unit_test(test_clones_and_pokes),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
