/* Space: what is given out, in which order, how new it is, and when what was freed comes back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/layout.h"
#include "image/space.h"
#include "storage/storage.h"

#define MIB VX_MIB

struct fixture {
    struct vhdx_storage *storage;
    struct vx_space      space;
};

/* A file of `mibs` MiB whose first `used` are in use. */
static struct fixture
make(uint64_t mibs, uint64_t used)
{
    struct fixture f;
    int            rc;

    assert_int_equal(vhdx_storage_new_memory(&f.storage, mibs * MIB, NULL), VHDX_OK);
    vx_space_init(&f.space);
    assert_true(vx_space_mark_found(&f.space, 0, used * MIB, &rc, NULL));
    f.space.file_length = f.space.flushed_length = mibs * MIB;
    vx_space_begin(&f.space, mibs * MIB);
    return f;
}

static void
end(struct fixture *f)
{
    vx_space_destroy(&f->space);
    vhdx_storage_close(f->storage);
}

static struct vx_taken
take(struct fixture *f, uint64_t mibs)
{
    struct vx_taken taken;

    assert_int_equal(vx_space_take(&f->space, f->storage, mibs * MIB, &taken, NULL), VHDX_OK);
    return taken;
}

static void
expect_taken(struct fixture *f, uint64_t mibs, uint64_t at, bool is_fresh, bool is_hole)
{
    struct vx_taken taken = take(f, mibs);

    assert_int_equal(taken.file_offset / MIB, at);
    assert_int_equal(taken.is_fresh, is_fresh);
    assert_int_equal(taken.is_hole, is_hole);
}

static uint64_t
file_mibs(const struct fixture *f)
{
    uint64_t size;

    assert_int_equal(vx_storage_get_size(f->storage, &size, NULL), VHDX_OK);
    assert_true(size == f->space.file_length);
    return size / MIB;
}

static void
finds_overlaps(void **state)
{
    struct vx_space space;
    int             rc;

    (void)state;
    vx_space_init(&space);
    assert_true(vx_space_mark_found(&space, 4 * MIB, 2 * MIB, &rc, NULL));
    assert_true(vx_space_mark_found(&space, 6 * MIB, MIB, &rc, NULL));
    assert_false(vx_space_mark_found(&space, 5 * MIB, MIB, &rc, NULL));
    assert_int_equal(rc, VHDX_OK);
    assert_false(vx_space_mark_found(&space, 3 * MIB, 2 * MIB, &rc, NULL));
    assert_true(vx_space_mark_found(&space, UINT64_C(200000) * MIB, 256 * MIB, &rc, NULL)); /* far away */
    assert_false(vx_space_mark_found(&space, UINT64_C(200255) * MIB, MIB, &rc, NULL));
    assert_true(vx_space_mark_found(&space, UINT64_C(200256) * MIB, MIB, &rc, NULL));
    assert_true(space.used_end == UINT64_C(200257) * MIB);
    vx_space_destroy(&space);
}

/* Free space inside the file first: used, whatever it reads as; then what the file grows by, which is fresh. */
static void
gives_out_used_space_first(void **state)
{
    struct fixture f = make(8, 4);

    (void)state;
    expect_taken(&f, 1, 4, false, false);
    expect_taken(&f, 2, 5, false, false);
    assert_int_equal(file_mibs(&f), 8);
    expect_taken(&f, 2, 8, true, false); /* one free MiB is left, not two */
    assert_true(file_mibs(&f) >= 10);
    expect_taken(&f, 1, 7, false, false);
    expect_taken(&f, 1, 10, true, false);
    assert_true(f.space.used_end == 11 * MIB);
    end(&f);
}

/* A tail that an interrupted session left is used space: who knows what lies there (S2). */
static void
the_tail_found_is_used(void **state)
{
    struct fixture f = make(64, 4);

    (void)state;
    for (uint64_t at = 4; at < 64; at += 4)
        expect_taken(&f, 4, at, false, false);
    expect_taken(&f, 4, 64, true, false);
    end(&f);
}

static void
grows_in_steps(void **state)
{
    struct fixture f = make(4, 4);
    uint64_t       first;

    (void)state;
    take(&f, 1);
    first = file_mibs(&f);
    assert_true(first > 5); /* a step */
    for (uint64_t at = 5; at < first; at++)
        expect_taken(&f, 1, at, true, false);
    assert_int_equal(file_mibs(&f), first);
    take(&f, 1);
    assert_true(file_mibs(&f) > first + 1);
    expect_taken(&f, 256, first + 1, true, false);
    assert_true(file_mibs(&f) >= first + 257);
    end(&f);
}

static uint64_t longest_file;
static const struct vhdx_storage_methods *real_methods;

static int
set_size_up_to(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    return size > longest_file ? VHDX_E_NO_SPACE : real_methods->set_size(storage, size, err);
}

/* Where a step does not fit, what is needed may; and where that does not, nothing has changed. */
static void
asks_for_less_when_a_step_does_not_fit(void **state)
{
    struct fixture              f = make(4, 4);
    struct vhdx_storage_methods methods = *f.storage->methods;
    struct vx_taken             taken;

    (void)state;
    real_methods = f.storage->methods;
    methods.set_size = set_size_up_to;
    f.storage->methods = &methods;
    longest_file = 6 * MIB;
    expect_taken(&f, 1, 4, true, false);
    assert_int_equal(file_mibs(&f), 5);
    assert_int_equal(vx_space_take(&f.space, f.storage, 2 * MIB, &taken, NULL), VHDX_E_NO_SPACE);
    expect_taken(&f, 1, 5, true, false);
    assert_int_equal(vx_space_take(&f.space, f.storage, MIB, &taken, NULL), VHDX_E_NO_SPACE);
    longest_file = UINT64_MAX;
    expect_taken(&f, 1, 6, true, false);
    assert_true(f.space.used_end == 7 * MIB);
    f.storage->methods = real_methods;
    end(&f);
}

static void
ends_at_the_limit(void **state)
{
    struct fixture  f = make(4, 4);
    struct vx_taken taken;
    int             rc;

    (void)state;
    assert_true(vx_space_mark_found(&f.space, VX_MAX_FILE_SIZE - 2 * MIB, MIB, &rc, NULL));
    f.space.file_length = VX_MAX_FILE_SIZE - MIB;
    assert_int_equal(vx_storage_set_size(f.storage, f.space.file_length, NULL), VHDX_OK);
    vx_space_begin(&f.space, f.space.file_length);
    f.space.free_below = 0; /* as if all of it were in use */
    assert_int_equal(vx_space_take(&f.space, f.storage, 2 * MIB, &taken, NULL), VHDX_E_LIMIT);
    assert_int_equal(vx_space_take(&f.space, f.storage, MIB, &taken, NULL), VHDX_OK);
    assert_int_equal(vx_space_take(&f.space, f.storage, MIB, &taken, NULL), VHDX_E_LIMIT);
    end(&f);
}

static void
free_later(struct fixture *f, uint64_t at, uint64_t mibs)
{
    assert_int_equal(vx_space_reserve_freed(&f->space, 1, NULL), VHDX_OK);
    vx_space_free_later(&f->space, at * MIB, mibs * MIB);
}

/* S3: not at once, not at gather, but when the commit is durable. */
static void
freed_space_waits(void **state)
{
    struct fixture f = make(8, 8);
    struct vx_runs runs;

    (void)state;
    free_later(&f, 4, 1);
    expect_taken(&f, 1, 8, true, false);
    vx_space_gather_freed(&f.space, &runs);
    assert_int_equal(runs.count, 1);
    free_later(&f, 6, 1); /* of the next commit */
    expect_taken(&f, 1, 9, true, false);
    vx_space_release(&f.space, &runs, false);
    vx_runs_destroy(&runs);
    expect_taken(&f, 1, 4, false, false); /* used space for good */
    expect_taken(&f, 1, 10, true, false);

    vx_space_gather_freed(&f.space, &runs);
    vx_space_release(&f.space, &runs, true);
    vx_runs_destroy(&runs);
    expect_taken(&f, 1, 6, false, true); /* S4: a hole, but not fresh */
    vx_space_give_back(&f.space, 6 * MIB, MIB);
    expect_taken(&f, 1, 6, false, false); /* it was given out: who knows */
    end(&f);
}

static void
runs_grow_together(void **state)
{
    struct fixture f = make(16, 16);
    struct vx_runs runs;

    (void)state;
    free_later(&f, 4, 1);
    free_later(&f, 5, 2);
    free_later(&f, 9, 1);
    vx_space_gather_freed(&f.space, &runs);
    assert_int_equal(runs.count, 2);
    assert_true(runs.runs[0].file_offset == 4 * MIB && runs.runs[0].length == 3 * MIB);
    vx_space_release(&f.space, &runs, true);
    vx_runs_destroy(&runs);
    expect_taken(&f, 2, 4, false, true);
    expect_taken(&f, 2, 16, true, false); /* 6 and 9 are free, not side by side */
    free_later(&f, 7, 2);
    vx_space_gather_freed(&f.space, &runs);
    vx_space_release(&f.space, &runs, false);
    vx_runs_destroy(&runs);
    expect_taken(&f, 4, 6, false, false); /* 6 to 9: only a part of it is a hole */
    end(&f);
}

static void
the_end_sinks(void **state)
{
    struct fixture f = make(200, 200);
    struct vx_runs runs;

    (void)state;
    free_later(&f, 100, 99);
    vx_space_gather_freed(&f.space, &runs);
    vx_space_release(&f.space, &runs, false);
    vx_runs_destroy(&runs);
    assert_true(f.space.used_end == 200 * MIB);
    vx_space_give_back(&f.space, 199 * MIB, MIB);
    assert_true(f.space.used_end == 100 * MIB);
    vx_space_give_back(&f.space, 0, 100 * MIB);
    assert_true(f.space.used_end == 0);
    end(&f);
}

/* R2: former bitmap blocks wait until the durable tail has passed the entry of their commit. */
static void
bitmap_blocks_wait_longer(void **state)
{
    struct fixture f = make(16, 16);
    uint64_t       at;

    (void)state;
    for (uint64_t i = 0; i < 12; i++)
        assert_int_equal(vx_space_free_bitmap_later(&f.space, (4 + i) * MIB, NULL), VHDX_OK);
    assert_false(vx_space_next_free_bitmap(&f.space, UINT64_MAX, &at)); /* not gathered */
    for (size_t i = 0; i < 12; i++)
        f.space.bitmaps[i].sequence_number = 100 + i;
    assert_false(vx_space_next_free_bitmap(&f.space, 100, &at)); /* the tail is at the entry itself */
    assert_true(vx_space_next_free_bitmap(&f.space, 101, &at));
    assert_true(at == 4 * MIB);
    assert_false(vx_space_next_free_bitmap(&f.space, 101, &at));
    for (int i = 0; i < 11; i++)
        assert_true(vx_space_next_free_bitmap(&f.space, 112, &at));
    assert_false(vx_space_next_free_bitmap(&f.space, UINT64_MAX, &at));
    end(&f);
}

/* Every MiB is given out once, however the sizes mix. */
static void
gives_nothing_out_twice(void **state)
{
    static uint8_t is_given[4096];
    struct fixture f = make(2000, 3);
    uint64_t       random = 12345, total = 0;

    (void)state;
    while (total < 3000) {
        uint64_t        mibs = 1 + random % 7;
        struct vx_taken taken = take(&f, mibs);

        for (uint64_t i = taken.file_offset / MIB; i < taken.file_offset / MIB + mibs; i++)
            assert_int_equal(is_given[i]++, 0);
        if (random % 3 == 0) {
            vx_space_give_back(&f.space, taken.file_offset, mibs * MIB);
            for (uint64_t i = taken.file_offset / MIB; i < taken.file_offset / MIB + mibs; i++)
                is_given[i] = 0;
        } else {
            total += mibs;
        }
        random = random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        random ^= random >> 33;
    }
    end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(finds_overlaps),
        cmocka_unit_test(gives_out_used_space_first),
        cmocka_unit_test(the_tail_found_is_used),
        cmocka_unit_test(grows_in_steps),
        cmocka_unit_test(asks_for_less_when_a_step_does_not_fit),
        cmocka_unit_test(ends_at_the_limit),
        cmocka_unit_test(freed_space_waits),
        cmocka_unit_test(runs_grow_together),
        cmocka_unit_test(the_end_sinks),
        cmocka_unit_test(bitmap_blocks_wait_longer),
        cmocka_unit_test(gives_nothing_out_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
