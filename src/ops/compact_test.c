/* Compacting: what a guest reads, what the file becomes, what is refused, over storages in memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"
#include "ops/compact.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)
#define K(n) ((uint64_t)(n) * 1024)

static const struct chain_shape small = { M(40), 1 << 20, 512, VHDX_TYPE_DYNAMIC };
static const struct chain_shape large_blocks = { M(70) + 4096, 4 << 20, 4096, VHDX_TYPE_DYNAMIC };

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

static uint64_t
size_of(struct vhdx_storage *storage)
{
    uint64_t size;

    assert_int_equal(vx_storage_get_size(storage, &size, NULL), VHDX_OK);
    return size;
}

/* Bytes of the file that are no hole. */
static uint64_t
data_of(struct vhdx_storage *storage)
{
    uint64_t at = 0, start, end, data = 0;

    for (;;) {
        assert_int_equal(vx_storage_next_data(storage, at, &start, &end, NULL), VHDX_OK);
        if (start >= end)
            return data;
        data += end - start;
        at = end;
    }
}

static uint8_t *
bytes_of(struct vhdx_storage *storage, uint64_t *size)
{
    uint8_t *bytes;

    *size = size_of(storage);
    bytes = vx_alloc((size_t)*size);
    assert_int_equal(vx_storage_read(storage, bytes, (size_t)*size, 0, NULL), VHDX_OK);
    return bytes;
}

static struct vhdx_compact_result
compact(struct vx_compact job)
{
    struct vhdx_compact_result result = { 0 };
    struct vhdx_error          err = { .message = "" };

    if (vx_compact(&job, &result, &err) < 0)
        fail_msg("%s", err.message);
    return result;
}

static void
expect_same(struct vhdx_storage *const *storages, unsigned count, const uint8_t *before, uint64_t size,
            const char *about)
{
    uint64_t now_size;
    uint8_t *now = chain_read(storages, count, &now_size);

    assert_int_equal(now_size, size);
    if (memcmp(now, before, (size_t)size) != 0) {
        uint64_t at = 0;

        while (now[at] == before[at])
            at++;
        fail_msg("%s: byte %llu", about, (unsigned long long)at);
    }
    vx_free(now);
    if (!chain_is_clean(storages[0]))
        fail_msg("%s: not clean", about);
}

/* No second run finds anything to do: not a byte changes. */
static void
expect_done(struct vx_compact job, const char *about)
{
    uint64_t                   size, size_after;
    uint8_t                   *before = bytes_of(job.storage, &size), *after;
    struct vhdx_compact_result result = compact(job);

    after = bytes_of(job.storage, &size_after);
    if (size != size_after || memcmp(before, after, (size_t)size) != 0 || result.blocks_moved + result.blocks_freed > 0)
        fail_msg("%s: the second run did something", about);
    vx_free(before);
    vx_free(after);
}

/* --- moving --- */

/* Every third block is there no more. */
static struct vhdx_storage *
make_holes(const struct chain_shape *shape)
{
    struct vhdx_storage *storage = new_storage();

    chain_make_base(storage, shape);
    chain_write(storage, 0, (size_t)shape->size, 1);
    for (uint64_t at = shape->block_size; at < shape->size; at += 3 * (uint64_t)shape->block_size)
        chain_zero(storage, at, vx_min_u64(shape->block_size, shape->size - at), at % 2 == 0);
    return storage;
}

static void
moves_and_cuts(void **state)
{
    static const struct chain_shape *const shapes[] = { &small, &large_blocks };

    (void)state;
    for (size_t i = 0; i < 2; i++) {
        struct vhdx_storage       *storage = make_holes(shapes[i]);
        struct vhdx_guid           guid = chain_guid(storage), guid_after;
        struct vhdx_compact_result counted, result;
        uint64_t                   size, length = size_of(storage);
        uint8_t                   *before = chain_read(&storage, 1, &size);

        counted = compact((struct vx_compact){ .storage = storage, .only_count = true });
        assert_int_equal(size_of(storage), length);
        result = compact((struct vx_compact){ .storage = storage });
        expect_same(&storage, 1, before, size, "holes");
        assert_int_equal(result.file_size_before, length);
        assert_int_equal(result.file_size_after, size_of(storage));
        assert_true(result.file_size_after < length - length / 4);
        assert_true(result.blocks_moved > 0);
        assert_int_equal(result.bytes_moved, result.blocks_moved * shapes[i]->block_size);
        assert_memory_equal(&counted, &result, sizeof result);
        guid_after = chain_guid(storage);
        assert_true(vhdx_guid_equal(&guid, &guid_after)); /* K3 */
        expect_done((struct vx_compact){ .storage = storage }, "holes");
        vx_free(before);
        vhdx_storage_close(storage);
    }
}

/* What moves is what lies past the end to be, nothing else. */
static void
moves_no_more_than_it_must(void **state)
{
    struct vhdx_storage       *storage = new_storage();
    struct vhdx_compact_result result;

    (void)state;
    chain_make_base(storage, &small);
    chain_write(storage, 0, M(40), 1);
    chain_zero(storage, M(3), M(1), false);
    chain_zero(storage, M(30), M(1), false);
    result = compact((struct vx_compact){ .storage = storage });
    assert_int_equal(result.blocks_moved, 2);
    assert_int_equal(result.file_size_before - result.file_size_after, M(2));
    vhdx_storage_close(storage);
}

/* Space nothing refers to, in the file's midst and at its end. */
static void
gives_back_leaks(void **state)
{
    struct vhdx_storage       *storage = new_storage();
    static uint8_t             junk[1 << 20];
    uint64_t                   size, length;
    uint8_t                   *before;

    (void)state;
    chain_make_base(storage, &large_blocks);
    chain_write(storage, 0, M(12), 1);
    length = size_of(storage);
    before = chain_read(&storage, 1, &size);
    memset(junk, 0xAA, sizeof junk);
    assert_int_equal(vx_storage_write(storage, junk, sizeof junk, length + M(2), NULL), VHDX_OK);
    assert_int_equal(size_of(storage), length + M(3));
    compact((struct vx_compact){ .storage = storage });
    assert_int_equal(size_of(storage), length);
    expect_same(&storage, 1, before, size, "a tail");
    vx_free(before);

    chain_write(storage, M(12), M(8), 2);
    chain_zero(storage, M(8), M(4), false); /* one block's space is free */
    length = size_of(storage);
    before = chain_read(&storage, 1, &size);
    compact((struct vx_compact){ .storage = storage });
    assert_int_equal(size_of(storage), length - M(4));
    expect_same(&storage, 1, before, size, "a hole");
    vx_free(before);
    vhdx_storage_close(storage);
}

/* --- zeros --- */

static void
write_zeros(struct vhdx_storage *storage, uint64_t guest_offset, size_t length)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    uint8_t         *zeros = vx_alloc_zeroed(1, length);

    assert_int_equal(vx_image_write(image, zeros, length, guest_offset, NULL), VHDX_OK);
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    vx_free(zeros);
}

static void
finds_zeros(void **state)
{
    struct vhdx_storage       *storage = new_storage();
    struct vhdx_guid           guid, guid_after;
    struct vhdx_compact_result counted, result;
    uint64_t                   size, data;
    uint8_t                   *before;

    (void)state;
    chain_make_base(storage, &large_blocks);
    chain_write(storage, 0, (size_t)large_blocks.size, 1);
    write_zeros(storage, M(4), M(8));            /* two whole blocks */
    write_zeros(storage, M(68), M(2) + 4096);     /* the last, shorter one */
    write_zeros(storage, M(20) + K(8), K(64));   /* parts: 16 pages */
    write_zeros(storage, M(24) + 512, K(4));     /* no whole page */
    write_zeros(storage, M(31) - K(4), K(8));    /* over the border of two reads */
    guid = chain_guid(storage);
    before = chain_read(&storage, 1, &size);

    result = compact((struct vx_compact){ .storage = storage }); /* not asked for */
    assert_int_equal(result.blocks_freed + result.bytes_released, 0);
    counted = compact((struct vx_compact){ .storage = storage, .zeroes = true, .only_count = true });
    data = data_of(storage);
    result = compact((struct vx_compact){ .storage = storage, .zeroes = true });
    assert_int_equal(result.blocks_freed, 3);
    assert_memory_equal(&counted, &result, sizeof result);
    assert_int_equal(data - data_of(storage), result.bytes_released);
    assert_int_equal(result.bytes_released, M(10) + 4096 + K(64) + K(8));
    assert_int_equal(result.file_size_before - result.file_size_after, M(12));
    expect_same(&storage, 1, before, size, "zeros");
    guid_after = chain_guid(storage);
    assert_true(vhdx_guid_equal(&guid, &guid_after));
    expect_done((struct vx_compact){ .storage = storage, .zeroes = true }, "zeros");
    vx_free(before);
    vhdx_storage_close(storage);
}

static void
fixed_images_keep_their_blocks(void **state)
{
    static const struct chain_shape shape = { M(16), 2 << 20, 512, VHDX_TYPE_FIXED };
    struct vhdx_storage       *storage = new_storage();
    struct vhdx_compact_result result;
    uint64_t                   size, length, data;
    uint8_t                   *before;

    (void)state;
    chain_make_base(storage, &shape);
    chain_write(storage, 0, M(16), 1);
    write_zeros(storage, M(4), M(3));
    length = size_of(storage);
    before = chain_read(&storage, 1, &size);
    expect_done((struct vx_compact){ .storage = storage, .zeroes = true }, "fixed");
    data = data_of(storage);
    result = compact((struct vx_compact){ .storage = storage, .zeroes = true, .sparse = true });
    assert_int_equal(result.blocks_freed + result.blocks_moved, 0);
    assert_int_equal(result.bytes_released, M(3));
    assert_int_equal(data - data_of(storage), M(3));
    assert_int_equal(size_of(storage), length);
    expect_same(&storage, 1, before, size, "fixed");
    vx_free(before);
    vhdx_storage_close(storage);
}

/* --- differencing images --- */

/* States 0, 2, 3 with and without space, 6, and 7 with some, no and all bits, in chunks with and without need of a bitmap. */
static void
fill_child(struct vhdx_storage *child)
{
    struct vx_image *image;

    chain_write(child, M(1) + 512, 1024, 5);        /* 7 */
    chain_write(child, M(2), M(6), 6);              /* 6 */
    chain_zero(child, M(3), M(1), false);           /* 2 */
    chain_zero(child, M(5), M(1), true);            /* 3 */
    chain_write(child, M(10) + 1024, 512, 7);       /* 7, soon without a bit */
    chain_write(child, M(12), K(512), 8);           /* 7, soon with every bit */
    chain_write(child, M(20), M(4), 9);
    image = chain_open(child, &(struct vx_image_options){ .is_writable = true });
    {
        const struct vx_geometry *g = vx_image_geometry(image);
        struct vhdx_info          info;
        static uint8_t            ones[256], zeros[256];
        uint8_t                   raw[8];
        uint64_t                  bitmap;

        vx_image_fill_info(image, &info);
        memset(ones, 0xFF, sizeof ones);
        assert_int_equal(vx_image_read_structure(image, raw, 8, info.bat_offset + 8 * vx_geometry_bitmap_bat_index(g, 0),
                                                 NULL), VHDX_OK);
        bitmap = vx_bat_entry_decode(vx_le64(raw)).file_offset;
        assert_true(bitmap > 0 && g->bitmap_slice == 256);
        const struct vx_edit edits[] = {
            { .file_offset = bitmap + vx_geometry_slice_offset(g, 10), .length = 256, .bytes = zeros },
            { .file_offset = bitmap + vx_geometry_slice_offset(g, 12), .length = 256, .bytes = ones },
        };

        assert_int_equal(vx_image_edit(image, edits, 2, NULL), VHDX_OK);
    }
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
}

static void
children_keep_what_they_show(void **state)
{
    struct vhdx_storage       *storages[2] = { new_storage(), new_storage() };
    struct vhdx_compact_result result;
    uint64_t                   size;
    uint8_t                   *before;

    (void)state;
    chain_make_base(storages[1], &small);
    chain_write(storages[1], 0, M(40), 1);
    chain_make_child(storages[0], storages[1], &small);
    fill_child(storages[0]);
    write_zeros(storages[0], M(21), M(1)); /* over the parent's data: Z2 */
    before = chain_read(storages, 2, &size);
    result = compact((struct vx_compact){ .storage = storages[0], .zeroes = true });
    assert_int_equal(result.blocks_freed, 2);
    assert_true(result.blocks_moved > 0);
    expect_same(storages, 2, before, size, "a child");
    expect_done((struct vx_compact){ .storage = storages[0], .zeroes = true }, "a child");
    vx_free(before);
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

/* A bitmap at the end of the file moves; one nobody needs goes. */
static void
bitmaps_move_and_go(void **state)
{
    struct vhdx_storage *storages[2] = { new_storage(), new_storage() };
    uint64_t             size, length;
    uint8_t             *before;

    (void)state;
    chain_make_base(storages[1], &small);
    chain_write(storages[1], 0, M(40), 1);
    chain_make_child(storages[0], storages[1], &small);
    length = size_of(storages[0]);
    chain_write(storages[0], 0, M(3), 2);
    chain_write(storages[0], M(8) + 512, 512, 3); /* a bitmap, a block */
    chain_zero(storages[0], 0, M(3), false);      /* three holes ahead of both */
    before = chain_read(storages, 2, &size);
    assert_int_equal(size_of(storages[0]), length + M(5));
    assert_int_equal(compact((struct vx_compact){ .storage = storages[0] }).blocks_moved, 2);
    assert_int_equal(size_of(storages[0]), length + M(2));
    expect_same(storages, 2, before, size, "a bitmap moved");
    expect_done((struct vx_compact){ .storage = storages[0] }, "a bitmap moved");
    vx_free(before);

    chain_write(storages[0], M(8), M(1), 4);      /* complete: no state 7 any more */
    before = chain_read(storages, 2, &size);
    compact((struct vx_compact){ .storage = storages[0] });
    assert_int_equal(size_of(storages[0]), length + M(1));
    expect_same(storages, 2, before, size, "a bitmap went");
    chain_write(storages[0], M(9) + 512, 512, 5); /* and the next one says what it should */
    vx_free(before);
    before = chain_read(storages, 2, &size);
    expect_same(storages, 2, before, size, "a bitmap came");
    vx_free(before);
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

/* Steps (b) to (d) leave the link of children alone, and what they read. */
static void
children_of_a_compacted_parent(void **state)
{
    struct vhdx_storage *storages[2] = { new_storage(), make_holes(&small) };
    uint64_t             size;
    uint8_t             *before;

    (void)state;
    write_zeros(storages[1], M(6), M(1));
    chain_make_child(storages[0], storages[1], &small);
    chain_write(storages[0], M(1) + 512, 1024, 5);
    before = chain_read(storages, 2, &size);
    assert_true(compact((struct vx_compact){ .storage = storages[1], .zeroes = true }).blocks_moved > 0);
    expect_same(storages, 2, before, size, "a child of it");
    assert_true(chain_is_clean(storages[1]));
    vx_free(before);
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

/* --- what a file system has freed --- */

static const struct vx_free_run freed[] = {
    { 0, M(1) },                      /* a whole block */
    { M(2) + 100, M(3) - 100 },       /* all whole pages but the first and the last */
    { M(6) - K(4), M(8) + K(4) },     /* the end of one, two whole ones... */
    { M(10), M(10) + 100 },           /* no page */
    { M(12), M(14) },                 /* a child leaves the first to its parent */
    { M(39), M(41) },                 /* to the end of the disk, and past it */
};

static void
take_freed(struct vx_free_list *list, uint64_t disk_size)
{
    vx_free_list_init(list, disk_size);
    for (size_t i = sizeof freed / sizeof freed[0]; i-- > 0;)
        assert_int_equal(vx_free_list_take(list, freed[i].from, freed[i].to - freed[i].from), 0);
    vx_free_list_settle(list);
}

/* What is free reads as before or as zeros; all else as before. */
static void
expect_live(struct vhdx_storage *const *storages, unsigned count, const struct vx_free_list *list, const uint8_t *before,
            uint64_t size)
{
    uint64_t now_size;
    uint8_t *now = chain_read(storages, count, &now_size);

    assert_int_equal(now_size, size);
    for (uint64_t at = 0; at < size; at++) {
        if (now[at] != before[at] && (now[at] != 0 || !vx_free_list_covers(list, at, at + 1)))
            fail_msg("byte %llu", (unsigned long long)at);
    }
    vx_free(now);
    assert_true(chain_is_clean(storages[0]));
}

static void
frees_what_is_free(void **state)
{
    struct vhdx_storage       *storage = new_storage();
    struct vx_free_list        list;
    struct vhdx_guid           guid, guid_after;
    struct vhdx_compact_result counted, result;
    uint64_t                   size, data;
    uint8_t                   *before;

    (void)state;
    chain_make_base(storage, &small);
    chain_write(storage, 0, M(40), 1);
    take_freed(&list, M(40));
    guid = chain_guid(storage);
    before = chain_read(&storage, 1, &size);
    counted = compact((struct vx_compact){ .storage = storage, .free = &list, .only_count = true });
    data = data_of(storage);
    result = compact((struct vx_compact){ .storage = storage, .free = &list });
    assert_memory_equal(&counted, &result, sizeof result);
    assert_int_equal(result.blocks_freed, 1 + 2 + 2 + 1);
    assert_int_equal(result.bytes_released, M(6) + M(1) - K(8) + K(8));
    assert_int_equal(data - data_of(storage), result.bytes_released);
    assert_int_equal(result.file_size_before - result.file_size_after, M(6));
    expect_live(&storage, 1, &list, before, size);
    guid_after = chain_guid(storage);
    assert_false(vhdx_guid_equal(&guid, &guid_after)); /* K3 */
    expect_done((struct vx_compact){ .storage = storage, .free = &list }, "free");
    vx_free(before);
    vx_free_list_destroy(&list);
    vhdx_storage_close(storage);
}

/* In a child what is free never shows the parent's bytes instead, and what only the parent holds is left alone. */
static void
frees_in_a_child(void **state)
{
    struct vhdx_storage *storages[2] = { new_storage(), new_storage() };
    struct vx_free_list  list;
    uint64_t             size;
    uint8_t             *before;

    (void)state;
    chain_make_base(storages[1], &small);
    chain_write(storages[1], 0, M(40), 1);
    chain_make_child(storages[0], storages[1], &small);
    chain_write(storages[0], 0, M(12), 2);
    chain_write(storages[0], M(13) + 512, K(8), 3);
    take_freed(&list, M(40));
    before = chain_read(storages, 2, &size);
    assert_int_equal(compact((struct vx_compact){ .storage = storages[0], .free = &list }).blocks_freed, 4);
    expect_live(storages, 2, &list, before, size);
    vx_free(before);
    vx_free_list_destroy(&list);
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

/* --- stopping --- */

struct stopper {
    unsigned calls_left;
};

static int
stop(void *context, uint64_t done, uint64_t total)
{
    struct stopper *stopper = context;

    assert_true(done <= total);
    return stopper->calls_left-- == 0;
}

static void
goes_on_after_a_cancel(void **state)
{
    struct vhdx_storage *storage = make_holes(&small);
    uint64_t             size, cancelled = 0;
    uint8_t             *before = chain_read(&storage, 1, &size);
    int                  rc;

    (void)state;
    write_zeros(storage, M(6), M(2));
    memset(before + M(6), 0, M(2));
    do {
        struct stopper             stopper = { .calls_left = 3 + (unsigned)cancelled };
        const struct vhdx_progress progress = { .report = stop, .context = &stopper };
        const struct vx_compact    job = { .storage = storage, .zeroes = true, .progress = &progress };
        struct vhdx_compact_result result = { 0 };

        rc = vx_compact(&job, &result, NULL);
        assert_true(rc == VHDX_OK || rc == VHDX_E_CANCELLED);
        cancelled += rc == VHDX_E_CANCELLED;
        expect_same(&storage, 1, before, size, "cancelled");
    } while (rc == VHDX_E_CANCELLED);
    assert_true(cancelled > 3);
    expect_done((struct vx_compact){ .storage = storage, .zeroes = true }, "cancelled");
    vx_free(before);
    vhdx_storage_close(storage);
}

/* A log too short for many pages: commits come when they must. */
static void
moves_with_a_short_log(void **state)
{
    struct vhdx_storage *storage = make_holes(&small);
    uint64_t             size;
    uint8_t             *before = chain_read(&storage, 1, &size);

    (void)state;
    compact((struct vx_compact){ .storage = storage, .log_length_for_tests = 64 * 1024 });
    expect_same(&storage, 1, before, size, "a short log");
    vx_free(before);
    vhdx_storage_close(storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(moves_and_cuts),
        cmocka_unit_test(moves_no_more_than_it_must),
        cmocka_unit_test(gives_back_leaks),
        cmocka_unit_test(finds_zeros),
        cmocka_unit_test(fixed_images_keep_their_blocks),
        cmocka_unit_test(children_keep_what_they_show),
        cmocka_unit_test(bitmaps_move_and_go),
        cmocka_unit_test(children_of_a_compacted_parent),
        cmocka_unit_test(frees_what_is_free),
        cmocka_unit_test(frees_in_a_child),
        cmocka_unit_test(goes_on_after_a_cancel),
        cmocka_unit_test(moves_with_a_short_log),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
