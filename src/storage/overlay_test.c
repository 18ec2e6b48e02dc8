/*
 * The overlay against an array on which the pieces were replayed one after the other, and pieces in a number and an
 * arrangement that only an attacker would choose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>
#include <time.h>

#include "base/checked.h"
#include "base/memory.h"
#include "storage/overlay.h"
#include "storage/storage.h"

#define PAGES     48u
#define BASE_SIZE (30u * 4096u + 100u)
#define VIEW_SIZE (40u * 4096u + 700u)

static struct vhdx_error err;
static uint64_t random_state;
static uint8_t base_bytes[BASE_SIZE];
static uint8_t model[PAGES * 4096u];

static uint64_t
random_below(uint64_t limit)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % limit;
}

/* Data with holes in it. */
static struct vhdx_storage *
make_base(void)
{
    struct vhdx_storage *base = NULL;

    assert_int_equal(vhdx_storage_new_memory(&base, BASE_SIZE, &err), VHDX_OK);
    memset(base_bytes, 0, sizeof base_bytes);
    for (size_t page = 0; page < BASE_SIZE / 4096; page++) {
        if (random_below(3) == 0)
            continue;
        for (size_t i = 0; i < 4096; i++)
            base_bytes[page * 4096 + i] = (uint8_t)random_below(256);
        assert_int_equal(vx_storage_write(base, base_bytes + page * 4096, 4096, page * 4096, &err), VHDX_OK);
    }
    memcpy(model, base_bytes, BASE_SIZE);
    memset(model + BASE_SIZE, 0, sizeof model - BASE_SIZE);
    return base;
}

static struct vx_overlay_builder *
new_builder(void)
{
    struct vx_overlay_builder *builder = NULL;

    assert_int_equal(vx_overlay_builder_new(&builder, &err), VHDX_OK);
    return builder;
}

static void
add_random_piece(struct vx_overlay_builder *builder)
{
    struct vx_overlay_page page = { .file_offset = random_below(PAGES) * 4096 };

    if (random_below(3) == 0) {
        const uint64_t at = random_below(4) == 0 ? random_below(PAGES * 4096) : page.file_offset;
        const uint64_t length = random_below(vx_min_u64(20000, PAGES * 4096 - at) + 1);

        assert_int_equal(vx_overlay_builder_add_zeros(builder, at, length, &err), VHDX_OK);
        memset(model + at, 0, (size_t)length);
        return;
    }
    page.data_offset = random_below(BASE_SIZE - 4084);
    for (size_t i = 0; i < sizeof page.leading; i++)
        page.leading[i] = (uint8_t)random_below(256);
    for (size_t i = 0; i < sizeof page.trailing; i++)
        page.trailing[i] = (uint8_t)random_below(256);
    assert_int_equal(vx_overlay_builder_add_page(builder, &page, &err), VHDX_OK);
    memcpy(model + page.file_offset, page.leading, 8);
    memcpy(model + page.file_offset + 8, base_bytes + page.data_offset, 4084);
    memcpy(model + page.file_offset + 4092, page.trailing, 4);
}

static void
check_reads(struct vhdx_storage *view)
{
    static uint8_t bytes[VIEW_SIZE];

    assert_int_equal(vx_storage_read(view, bytes, VIEW_SIZE, 0, &err), VHDX_OK);
    assert_memory_equal(bytes, model, VIEW_SIZE);
    for (int i = 0; i < 60; i++) {
        const size_t at = (size_t)random_below(VIEW_SIZE), length = (size_t)random_below(VIEW_SIZE - at + 1);
        const size_t cut = (size_t)random_below(length + 1);
        const struct iovec parts[3] = { { bytes, cut }, { bytes, 0 }, { bytes + cut, length - cut } };

        assert_int_equal(view->methods->readv(view, parts, 3, at, &err), VHDX_OK);
        assert_memory_equal(bytes, model + at, length);
    }
    for (size_t page = 0; page * 4096 < VIEW_SIZE; page++) /* the seams of a page */
        for (size_t at = page * 4096; at < page * 4096 + 16 && at < VIEW_SIZE; at++) {
            assert_int_equal(vx_storage_read(view, bytes, 1, at, &err), VHDX_OK);
            assert_int_equal(bytes[0], model[at]);
        }
}

static void
check_next_data(struct vhdx_storage *view, uint64_t at)
{
    uint64_t start, end;

    for (;; at = end) {
        assert_int_equal(vx_storage_next_data(view, at, &start, &end, &err), VHDX_OK);
        assert_true(start >= at && start <= end && end <= VIEW_SIZE);
        for (; at < start; at++)
            assert_int_equal(model[at], 0);
        if (start == end) {
            assert_true(start == VIEW_SIZE);
            return;
        }
    }
}

static void
test_against_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 300; seed++) {
        struct vx_overlay_builder *builder = new_builder();
        struct vhdx_storage *base, *view = NULL;
        uint64_t size, pieces;
        char byte;

        print_message("# seed %llu\n", (unsigned long long)seed);
        random_state = seed * UINT64_C(0x9E3779B97F4A7C15);
        base = make_base();
        for (pieces = random_below(seed % 4 == 0 ? 400 : 20); pieces > 0; pieces--)
            add_random_piece(builder);
        assert_int_equal(vx_overlay_new(&view, base, builder, VIEW_SIZE, &err), VHDX_OK);
        vx_overlay_builder_free(builder); /* the view needs it no more */

        assert_true(view->traits.is_read_only);
        assert_int_equal(vx_storage_get_size(view, &size, &err), VHDX_OK);
        assert_true(size == VIEW_SIZE);
        check_reads(view);
        check_next_data(view, 0);
        check_next_data(view, random_below(VIEW_SIZE));
        assert_int_equal(vx_storage_read(view, &byte, 1, VIEW_SIZE, &err), VHDX_E_TRUNCATED);
        vhdx_storage_close(view);
        vhdx_storage_close(base);
    }
}

/* A log that shortens nothing but ends the file early, and one that is empty. */
static void
test_view_shorter_than_base(void **state)
{
    struct vx_overlay_builder *builder = new_builder();
    struct vhdx_storage *base, *view = NULL;
    uint64_t start, end;
    uint8_t bytes[8192];

    (void)state;
    random_state = 5;
    base = make_base();
    assert_int_equal(vx_overlay_new(&view, base, builder, 5000, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(view, bytes, 5000, 0, &err), VHDX_OK);
    assert_memory_equal(bytes, base_bytes, 5000);
    assert_int_equal(vx_storage_read(view, bytes, 5001, 0, &err), VHDX_E_TRUNCATED);
    assert_int_equal(vx_storage_next_data(view, 6000, &start, &end, &err), VHDX_OK);
    assert_true(start == 5000 && end == 5000);
    vhdx_storage_close(view);
    vhdx_storage_close(base);
    vx_overlay_builder_free(builder);
}

static void
test_edges_of_pieces(void **state)
{
    struct vx_overlay_page page = { .file_offset = 4096 };
    struct vx_overlay_builder *builder = new_builder();
    struct vhdx_storage *base, *view = NULL;
    uint8_t bytes[4096];
    uint64_t start, end;

    (void)state;
    random_state = 6;
    base = make_base();
    page.file_offset = 100;
    assert_int_equal(vx_overlay_builder_add_page(builder, &page, &err), VHDX_E_RANGE);
    page.file_offset = UINT64_MAX - 4095;
    assert_int_equal(vx_overlay_builder_add_page(builder, &page, &err), VHDX_E_RANGE);
    assert_int_equal(vx_overlay_builder_add_zeros(builder, 77, 0, &err), VHDX_OK);
    assert_int_equal(vx_overlay_builder_add_zeros(builder, 4096, UINT64_MAX, &err), VHDX_OK); /* it wraps */
    page.file_offset = 8192;
    page.data_offset = BASE_SIZE - 100; /* cut off: only who reads there is told */
    assert_int_equal(vx_overlay_builder_add_page(builder, &page, &err), VHDX_OK);
    assert_int_equal(vx_overlay_new(&view, base, builder, VIEW_SIZE, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(view, bytes, 4096, 4096, &err), VHDX_OK);
    for (size_t i = 0; i < sizeof bytes; i++)
        assert_int_equal(bytes[i], 0);
    assert_int_equal(vx_storage_read(view, bytes, 8, 8192, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(view, bytes, 4096, 8192, &err), VHDX_E_TRUNCATED);
    assert_int_equal(vx_storage_next_data(view, 4096, &start, &end, &err), VHDX_OK);
    assert_true(start == 8192 && end == 12288);
    assert_int_equal(vx_storage_next_data(view, 12288, &start, &end, &err), VHDX_OK);
    assert_true(start == VIEW_SIZE && end == VIEW_SIZE);
    vhdx_storage_close(view);
    vhdx_storage_close(base);
    vx_overlay_builder_free(builder);
}

/* A million pieces, each inside all that came before, or around them, or in a long row. */
static void
test_hostile_pieces(void **state)
{
    static const char *const arrangements[] = { "inside each other", "around each other", "in a row" };
    const uint32_t limit = UINT32_C(1) << 20;

    (void)state;
    for (int k = 0; k < 3; k++) {
        struct vx_overlay_builder *builder = new_builder();
        struct vhdx_storage *base = NULL, *view = NULL;
        const clock_t begin = clock();
        uint64_t start, end;

        assert_int_equal(vhdx_storage_new_memory(&base, 4096, &err), VHDX_OK);
        for (uint64_t i = 0; i < limit; i++) {
            const uint64_t at = k == 0 ? i : k == 1 ? limit - i : 2 * i;
            const uint64_t length = k == 0 ? 2 * (limit - i) : k == 1 ? 2 * i + 1 : 1;

            assert_int_equal(vx_overlay_builder_add_zeros(builder, at * 4096, length * 4096, &err), VHDX_OK);
        }
        assert_int_equal(vx_overlay_builder_add_zeros(builder, 0, 4096, &err), VHDX_E_LIMIT);
        assert_int_equal(vx_overlay_new(&view, base, builder, 64 * VX_TIB, &err), VHDX_OK);
        assert_int_equal(vx_storage_next_data(view, 4096, &start, &end, &err), VHDX_OK);
        assert_true(start == 64 * VX_TIB);
        vhdx_storage_close(view);
        vhdx_storage_close(base);
        vx_overlay_builder_free(builder);
        print_message("# %s: %ld ms\n", arrangements[k], (long)((clock() - begin) * 1000 / CLOCKS_PER_SEC));
        assert_true((clock() - begin) / CLOCKS_PER_SEC < 60); /* a square of a million would take an hour */
    }
}

static void
test_out_of_memory(void **state)
{
    struct vhdx_storage *base, *view = NULL;
    size_t n;
    int rc = VHDX_E_NO_MEMORY;

    (void)state;
    random_state = 7;
    base = make_base();
    for (n = 1; rc != VHDX_OK; n++) {
        struct vx_overlay_builder *builder = NULL;

        vx_alloc_fail_nth_for_tests(n);
        rc = vx_overlay_builder_new(&builder, &err);
        for (uint64_t i = 0; i < 100 && rc == VHDX_OK; i++)
            rc = vx_overlay_builder_add_zeros(builder, i * 8192, 4096, &err);
        if (rc == VHDX_OK)
            rc = vx_overlay_new(&view, base, builder, VIEW_SIZE, &err);
        vx_alloc_fail_nth_for_tests(0);
        vx_overlay_builder_free(builder);
        assert_true(rc == VHDX_OK || rc == VHDX_E_NO_MEMORY);
    }
    assert_in_range(n, 7, 20);
    vhdx_storage_close(view);
    vhdx_storage_close(base);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_view_shorter_than_base),
        cmocka_unit_test(test_edges_of_pieces),
        cmocka_unit_test(test_hostile_pieces),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
