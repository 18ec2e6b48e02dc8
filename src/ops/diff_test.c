/* Differences: by tables where layers are shared, by content where not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <vhdx/chain.h>

#include "ops/chain_fixture.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)
#define DYNAMIC VHDX_TYPE_DYNAMIC

struct difference {
    uint64_t guest_offset, length;
    bool     is_zero;
};

struct seen_differences {
    struct difference list[16];
    size_t            count, most;
};

static int
see(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b)
{
    struct seen_differences *seen = context;

    assert_true(seen->count < 16);
    seen->list[seen->count++] = (struct difference){ guest_offset, length, is_zero_in_b };
    return seen->count == seen->most;
}

static void
assert_differences(struct vhdx_storage *const *a, unsigned a_count, struct vhdx_storage *const *b, unsigned b_count,
                   const struct difference *expected, size_t expected_count, const char *about)
{
    struct seen_differences seen = { .count = 0 };
    struct vx_stack        *stacks[2];
    struct vhdx_error       err = { .message = "" };

    assert_int_equal(vx_stack_open(&stacks[0], a, a_count, NULL, 0, NULL), VHDX_OK);
    assert_int_equal(vx_stack_open(&stacks[1], b, b_count, NULL, 0, NULL), VHDX_OK);
    if (vhdx_diff(&stacks[0]->disk, &stacks[1]->disk, see, &seen, NULL, &err) < 0)
        fail_msg("%s: %s", about, err.message);
    for (size_t i = 0; i < seen.count || i < expected_count; i++) {
        const struct difference *d = &seen.list[i];

        if (i >= seen.count)
            fail_msg("%s: %llu at %llu was not told", about, (unsigned long long)expected[i].length,
                     (unsigned long long)expected[i].guest_offset);
        if (i >= expected_count || d->guest_offset != expected[i].guest_offset || d->length != expected[i].length ||
            d->is_zero != expected[i].is_zero)
            fail_msg("%s: number %zu is %llu at %llu, zero %d", about, i, (unsigned long long)d->length,
                     (unsigned long long)d->guest_offset, d->is_zero);
    }
    vx_stack_close(stacks[0], NULL);
    vx_stack_close(stacks[1], NULL);
}

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

static const struct chain_shape shape = { M(16), 2 << 20, 512, DYNAMIC }, larger = { M(20) + 512, 1 << 20, 512, DYNAMIC };

/* A base, a checkpoint, and two children of that. */
static void
points_of_one_tree(void **state)
{
    static const struct difference base_to_left[] = {
        { M(1), 512, false }, { M(2), M(2), true }, { M(5), 512, false },
    };
    static const struct difference left_to_base[] = {
        { M(1), 512, false }, { M(2), M(2), false }, { M(5), 512, false },
    };
    static const struct difference left_to_right[] = {
        { M(5), 512, false }, { M(5) + 1024, 512, false }, { M(16), 512, false },
    };
    struct vhdx_storage *base = new_storage(), *middle = new_storage(), *left = new_storage(), *right = new_storage();
    struct vhdx_storage *to_left[3] = { left, middle, base }, *to_right[3] = { right, middle, base };

    (void)state;
    chain_make_base(base, &shape);
    chain_write(base, 0, (size_t)M(6), 1);
    chain_make_child(middle, base, &shape);
    chain_write(middle, M(1), 512, 2);
    chain_zero(middle, M(2), M(2), false);
    chain_zero(middle, M(10), M(2), false); /* zeros over zeros are no difference */
    chain_make_child(left, middle, &shape);
    chain_write(left, M(5), 512, 3);
    chain_make_child(right, middle, &larger);
    chain_write(right, M(5) + 1024, 512, 4);
    chain_write(right, M(16), 512, 4);

    assert_differences(to_left + 2, 1, to_left, 3, base_to_left, 3, "base to left");
    assert_differences(to_left, 3, to_left + 2, 1, left_to_base, 3, "left to base");
    assert_differences(to_left, 3, to_left, 3, NULL, 0, "left to itself");
    assert_differences(to_left, 3, to_right, 3, left_to_right, 3, "left to right");
    vhdx_storage_close(base);
    vhdx_storage_close(middle);
    vhdx_storage_close(left);
    vhdx_storage_close(right);
}

/* Nothing in common but bytes. */
static void
strangers(void **state)
{
    static const struct difference there[] = {
        { 4096, 4096, false }, { M(4), 4096, false }, { M(7), M(1), true }, { M(18), 4096, false },
    };
    static const struct difference back[] = {
        { 4096, 4096, false }, { M(4), 4096, true }, { M(7), M(1), false }, { M(18), 4096, true },
    };
    struct vhdx_storage *a = new_storage(), *b = new_storage();

    (void)state;
    chain_make_base(a, &shape);
    chain_make_base(b, &larger);
    chain_write(a, 0, (size_t)M(2), 1);
    chain_write(b, 0, (size_t)M(2), 1);
    chain_write(b, 8191 - 511, 512, 2);
    chain_write(b, M(4), 512, 2);
    chain_write(a, M(7), (size_t)M(1), 2);
    chain_write(b, M(18), 512, 2); /* past the end of a */
    assert_differences(&a, 1, &b, 1, there, 4, "there");
    assert_differences(&b, 1, &a, 1, back, 4, "back");
    vhdx_storage_close(a);
    vhdx_storage_close(b);
}

static void
ends_when_told(void **state)
{
    struct seen_differences seen = { .most = 1 };
    struct vhdx_storage    *a = new_storage(), *b = new_storage();
    struct vx_stack        *stacks[2];
    struct vhdx_error       err;

    (void)state;
    chain_make_base(a, &shape);
    chain_make_base(b, &shape);
    chain_write(b, 0, 512, 1);
    chain_write(b, M(1), 512, 1);
    assert_int_equal(vx_stack_open(&stacks[0], &a, 1, NULL, 0, NULL), VHDX_OK);
    assert_int_equal(vx_stack_open(&stacks[1], &b, 1, NULL, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_diff(&stacks[0]->disk, &stacks[1]->disk, see, &seen, NULL, &err), VHDX_E_CANCELLED);
    assert_int_equal(seen.count, 1);
    vx_stack_close(stacks[0], NULL);
    vx_stack_close(stacks[1], NULL);
    vhdx_storage_close(a);
    vhdx_storage_close(b);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(points_of_one_tree),
        cmocka_unit_test(strangers),
        cmocka_unit_test(ends_when_told),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
