/* Disks of another size: what they read as, what the file keeps, what the table says.  Crashes are in tests/chain_crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/chain_fixture.h"
#include "ops/resize.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)
#define G(n) M((uint64_t)(n) * 1024)

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

static struct vhdx_storage *
new_base(uint64_t size, uint32_t block_size, enum vhdx_image_type type)
{
    const struct chain_shape shape = { size, block_size, 512, type };
    struct vhdx_storage     *storage = new_storage();

    chain_make_base(storage, &shape);
    return storage;
}

static struct vhdx_resize_result
resize_under(struct vhdx_storage *storage, uint64_t new_size, uint64_t parent_size)
{
    const struct vx_resize    job = { .storage = storage, .new_size = new_size, .parent_size = parent_size };
    struct vhdx_resize_result result = { 0 };
    struct vhdx_guid          before = chain_guid(storage), after;
    struct vhdx_error         err = { .message = "" };

    if (vx_resize(&job, &result, &err) < 0)
        fail_msg("%s", err.message);
    after = chain_guid(storage);
    assert_int_equal(vhdx_guid_equal(&before, &after), result.old_size == new_size);
    assert_int_equal(result.new_size, new_size);
    assert_true(chain_is_clean(storage));
    return result;
}

static struct vhdx_resize_result
resize(struct vhdx_storage *storage, uint64_t new_size)
{
    return resize_under(storage, new_size, 0);
}

/* The image says of all of the range what `source` is. */
static void
assert_source(struct vhdx_storage *storage, uint64_t from, uint64_t to, enum vx_layer_source source)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });

    while (from < to) {
        struct vx_layer_extent extent;

        assert_int_equal(vx_image_resolve(image, from, to - from, &extent, NULL), VHDX_OK);
        assert_int_equal(extent.source, source);
        from += extent.length;
    }
    vx_image_close(image, NULL);
}

static struct vhdx_info
info_of(struct vhdx_storage *storage)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vhdx_info info;

    vx_image_fill_info(image, &info);
    vx_image_close(image, NULL);
    return info;
}

static uint64_t
length_of(struct vhdx_storage *storage)
{
    uint64_t length;

    assert_int_equal(vx_storage_get_size(storage, &length, NULL), VHDX_OK);
    return length;
}

static void
assert_equal_begin(struct vhdx_storage *storage, const uint8_t *bytes, uint64_t length)
{
    struct vx_stack *stack;
    uint8_t         *got = vx_alloc((size_t)length);

    assert_int_equal(vx_stack_open(&stack, &storage, 1, NULL, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(&stack->disk, got, (size_t)length, 0, NULL), VHDX_OK);
    assert_memory_equal(got, bytes, (size_t)length);
    vx_stack_close(stack, NULL);
    vx_free(got);
}

/* 1 MiB of table is full at 128 GiB of 1 MiB blocks: it moves, and the old one's space is used again. */
static void
the_table_moves(void **state)
{
    struct vhdx_storage      *storage = new_base(M(8), 1 << 20, VHDX_TYPE_DYNAMIC);
    struct vhdx_resize_result result;
    struct vhdx_info          before = info_of(storage), after;
    uint64_t                  size;
    uint8_t                  *bytes;

    (void)state;
    chain_write(storage, M(1) + 512, (size_t)M(2), 1);
    bytes = chain_read(&storage, 1, &size);
    result = resize(storage, G(100));
    assert_false(result.table_moved);
    result = resize(storage, G(200) + 512);
    assert_true(result.table_moved);
    after = info_of(storage);
    assert_int_equal(after.bat_length, M(2));
    assert_true(after.bat_offset != before.bat_offset);
    assert_equal_begin(storage, bytes, size);
    assert_source(storage, M(8), G(200) + 512, VX_LAYER_UNSET);
    size = length_of(storage);
    chain_write(storage, G(200), 512, 2); /* a block where the table was */
    assert_int_equal(length_of(storage), size);
    assert_true(chain_is_clean(storage));
    resize(storage, M(8));
    assert_equal_begin(storage, bytes, M(8));
    vx_free(bytes);
    vhdx_storage_close(storage);
}

/* Every block of a fixed image is there, at both sizes, and its file is as long as it must be. */
static void
fixed(void **state)
{
    struct vhdx_storage *storage = new_base(M(5) + 512, 2 << 20, VHDX_TYPE_FIXED);
    uint64_t             before = length_of(storage), size;
    uint8_t             *bytes;

    (void)state;
    chain_write(storage, M(1), (size_t)M(4) + 512, 1);
    bytes = chain_read(&storage, 1, &size);
    resize(storage, M(5) + 1024);
    assert_int_equal(length_of(storage), before);
    resize(storage, M(17));
    assert_int_equal(length_of(storage), before + 6 * M(2));
    assert_source(storage, 0, M(17), VX_LAYER_DATA);
    assert_equal_begin(storage, bytes, size);
    resize(storage, M(4));
    assert_int_equal(length_of(storage), before - M(2));
    assert_equal_begin(storage, bytes, M(4));
    resize(storage, M(4));
    vx_free(bytes);
    vhdx_storage_close(storage);
}

/* So many blocks that their entries fit no entry of the log: the table moves rather than the disk growing in steps. */
static void
more_entries_than_the_log_takes(void **state)
{
    struct vhdx_storage *storage = new_base(M(4), 1 << 20, VHDX_TYPE_DYNAMIC), *child = new_storage();
    const struct chain_shape  shape = { M(4), 1 << 20, 512, VHDX_TYPE_DIFFERENCING };
    struct vhdx_resize_result result;

    (void)state;
    chain_make_child(child, storage, &shape);
    result = resize_under(child, G(20), UINT64_MAX);
    assert_false(result.table_moved);
    result = resize_under(child, G(90), UINT64_MAX);
    assert_true(result.table_moved);
    assert_source(child, 0, M(4), VX_LAYER_BELOW);
    assert_source(child, M(4), G(90), VX_LAYER_ZERO);
    vhdx_storage_close(child);
    vhdx_storage_close(storage);
}

/* Where no parent reaches nothing is hidden: the child stays as small as it was. */
static void
under_a_parent_of_the_same_size(void **state)
{
    struct vhdx_storage     *storage = new_base(M(3) + 512, 1 << 20, VHDX_TYPE_DYNAMIC), *child = new_storage();
    const struct chain_shape shape = { M(3) + 512, 1 << 20, 512, VHDX_TYPE_DIFFERENCING };
    uint64_t                 length;

    (void)state;
    chain_make_child(child, storage, &shape);
    length = length_of(child);
    resize_under(child, M(9), M(3) + 512);
    assert_source(child, 0, M(9), VX_LAYER_BELOW);
    assert_int_equal(length_of(child), length);
    resize_under(child, M(3), M(3) + 512);
    resize_under(child, M(9), M(3) + 512); /* hidden again, what the parent has past the middle of the disk */
    assert_source(child, M(3), M(4), VX_LAYER_ZERO);
    assert_source(child, M(4), M(9), VX_LAYER_BELOW);
    vhdx_storage_close(child);
    vhdx_storage_close(storage);
}

/* The end gives its space back, and the file is cut where that was the last of it. */
static void
shrinks(void **state)
{
    struct vhdx_storage *storage = new_base(M(16), 2 << 20, VHDX_TYPE_DYNAMIC);
    uint64_t             empty = length_of(storage), size;
    uint8_t             *bytes;

    (void)state;
    chain_write(storage, M(2), (size_t)M(12), 1);
    bytes = chain_read(&storage, 1, &size);
    assert_int_equal(length_of(storage), empty + M(12));
    resize(storage, M(5) + 512);
    assert_int_equal(length_of(storage), empty + M(4));
    assert_equal_begin(storage, bytes, M(5) + 512);
    resize(storage, M(16));
    assert_equal_begin(storage, bytes, M(5) + 512);
    memset(bytes, 0, (size_t)M(16));
    assert_source(storage, M(6), M(16), VX_LAYER_UNSET);
    vx_free(bytes);
    vhdx_storage_close(storage);
}

static void
refuses(void **state)
{
    static const uint64_t     sizes[] = { 0, M(4) + 100, (UINT64_C(64) << 40) + 512 };
    struct vhdx_storage      *storage = new_base(M(4), 1 << 20, VHDX_TYPE_DYNAMIC);
    struct vhdx_guid          before = chain_guid(storage), after;
    struct vhdx_resize_result result = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct vhdx_error      err;
        const struct vx_resize job = { .storage = storage, .new_size = sizes[i] };

        assert_int_equal(vx_resize(&job, &result, &err), VHDX_E_INVALID);
        assert_int_equal(result.new_size, M(4));
    }
    after = chain_guid(storage);
    assert_true(vhdx_guid_equal(&before, &after));
    vhdx_storage_close(storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_table_moves),
        cmocka_unit_test(fixed),
        cmocka_unit_test(more_entries_than_the_log_takes),
        cmocka_unit_test(under_a_parent_of_the_same_size),
        cmocka_unit_test(shrinks),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
