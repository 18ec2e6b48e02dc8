/* Flattening: content, kind of image, states, what is left of the parent, what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"
#include "ops/flatten.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

struct flatten_case {
    const char        *about;
    struct chain_shape parent, child;
};

#define DYNAMIC VHDX_TYPE_DYNAMIC
static const struct flatten_case cases[] = {
    { "one block size", { M(12), 1 << 20, 512, DYNAMIC }, { M(12), 1 << 20, 512 } },
    { "blocks larger than the buffer", { M(70) + 512, 1 << 20, 512, DYNAMIC }, { M(70) + 512, 32 << 20, 512 } },
    { "a larger child", { M(9) + 512, 2 << 20, 512, DYNAMIC }, { M(17) + 1536, 4 << 20, 512 } },
    { "a smaller child", { M(17), 2 << 20, 512, DYNAMIC }, { M(11) + 512, 1 << 20, 512 } },
    { "sectors of 4096", { M(12), 2 << 20, 4096, DYNAMIC }, { M(12), 1 << 20, 4096 } },
};

/* A block that is partial, one that is zeros, one that is whole, one in state 7 with every bit set (V156). */
static void
fill_child(struct vhdx_storage *storage, const struct chain_shape *shape)
{
    uint32_t sector = shape->sector_size;

    chain_write(storage, M(1) + sector, 2 * sector, 5);
    chain_zero(storage, M(4), M(4), false);
    chain_write(storage, M(8), (size_t)M(2), 6);
    chain_write(storage, shape->size - sector, sector, 7);
}

/* The state of the child's first block in state 6 becomes 7, with its bitmap: the fixture has one for block 0. */
static void
demote_full_block(struct vhdx_storage *storage)
{
    struct vx_image     *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    const struct vx_geometry *g = vx_image_geometry(image);
    struct vhdx_info     info;
    static uint8_t       ones[64 * 1024], raw[8];
    uint64_t             index, bitmap, block = g->payload_block_count;

    vx_image_fill_info(image, &info);
    memset(ones, 0xFF, sizeof ones);
    assert_int_equal(vx_image_read_structure(image, raw, 8, info.bat_offset + 8 * vx_geometry_bitmap_bat_index(g, 0),
                                             NULL), VHDX_OK);
    bitmap = vx_bat_entry_decode(vx_le64(raw)).file_offset;
    assert_true(bitmap > 0);
    for (index = 0; index < g->payload_block_count && block == g->payload_block_count; index++) {
        assert_int_equal(vx_image_read_structure(image, raw, 8, info.bat_offset + 8 * index, NULL), VHDX_OK);
        if (vx_bat_entry_decode(vx_le64(raw)).state == VX_BLOCK_FULLY_PRESENT)
            block = index;
    }
    if (block < g->payload_block_count) {
        const struct vx_edit edits[] = {
            { .file_offset = info.bat_offset + 8 * block, .length = 8, .bytes = raw },
            { .file_offset = bitmap + vx_geometry_slice_offset(g, block), .length = g->bitmap_slice, .bytes = ones },
        };

        vx_put_le64(raw, vx_le64(raw) | 7);
        assert_int_equal(vx_image_edit(image, edits, 2, NULL), VHDX_OK);
    }
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
}

static int
flatten_now(struct vhdx_storage *const storages[2], bool only_count, struct vhdx_chain_result *result,
            struct vhdx_error *err)
{
    struct vx_flatten job = { .storage = storages[0], .only_count = only_count };
    struct vx_stack  *parent;
    int               rc;

    memset(result, 0, sizeof *result);
    assert_int_equal(vx_stack_open(&parent, storages + 1, 1, NULL, 0, NULL), VHDX_OK);
    job.parent = &parent->disk;
    rc = vx_flatten(&job, result, err);
    vx_stack_close(parent, NULL);
    return rc;
}

static void
stands_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_storage     *storages[2] = { new_storage(), new_storage() };
        struct vhdx_chain_result counted, result;
        struct vhdx_error        err = { .message = "" };
        struct vhdx_guid         guid, after;
        struct vx_image         *image;
        uint64_t                 size, size_after;
        uint8_t                 *before, *bytes;

        chain_make_base(storages[1], &cases[i].parent);
        chain_write(storages[1], 0, (size_t)M(3), 1);
        chain_write(storages[1], M(7) - 4096, 8192, 2);
        chain_write(storages[1], cases[i].parent.size - 4096, 4096, 3);
        chain_make_child(storages[0], storages[1], &cases[i].child);
        fill_child(storages[0], &cases[i].child);
        demote_full_block(storages[0]);
        before = chain_read(storages, 2, &size);
        guid = chain_guid(storages[0]);

        assert_int_equal(flatten_now(storages, true, &counted, &err), VHDX_OK);
        if (flatten_now(storages, false, &result, &err) < 0)
            fail_msg("%s: %s", cases[i].about, err.message);
        assert_int_equal(counted.bytes_copied, result.bytes_copied);
        assert_int_equal(counted.blocks_changed, result.blocks_changed);
        bytes = chain_read(storages, 1, &size_after);
        assert_int_equal(size, size_after);
        for (uint64_t at = 0; at < size; at++)
            if (bytes[at] != before[at])
                fail_msg("%s: byte %llu", cases[i].about, (unsigned long long)at);
        if (!chain_is_clean(storages[0]))
            fail_msg("%s: not clean", cases[i].about);
        image = chain_open(storages[0], &(struct vx_image_options){ .is_writable = true });
        assert_false(vx_image_geometry(image)->is_differencing);
        assert_false(vx_image_geometry(image)->is_fixed);
        vx_image_close(image, NULL);
        after = chain_guid(storages[0]);
        assert_true(vhdx_guid_equal(&guid, &after)); /* T2 */
        assert_int_equal(flatten_now(storages, false, &result, &err), VHDX_E_NO_PARENT);
        vx_free(before);
        vx_free(bytes);
        vhdx_storage_close(storages[0]);
        vhdx_storage_close(storages[1]);
    }
}

/* What the parent reads as zeros takes no space. */
static void
zeros_become_states(void **state)
{
    static const struct chain_shape shape = { M(2000), 2 << 20, 512, DYNAMIC };
    struct vhdx_storage     *storages[2] = { new_storage(), new_storage() };
    struct vhdx_chain_result result;
    struct vhdx_error        err;
    uint64_t                 length;

    (void)state;
    chain_make_base(storages[1], &shape);
    chain_write(storages[1], M(1000), 512, 1);
    chain_make_child(storages[0], storages[1], &shape);
    assert_int_equal(flatten_now(storages, false, &result, &err), VHDX_OK);
    assert_int_equal(result.bytes_copied, M(2)); /* the one block that holds anything */
    assert_int_equal(vx_storage_get_size(storages[0], &length, NULL), VHDX_OK);
    assert_in_range(length, M(4), M(8));
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

static void
refuses_another_parent(void **state)
{
    static const struct chain_shape shape = { M(8), 1 << 20, 512, DYNAMIC };
    struct vhdx_storage     *storages[2] = { new_storage(), new_storage() };
    struct vhdx_chain_result result;
    struct vhdx_error        err;

    (void)state;
    chain_make_base(storages[1], &shape);
    chain_make_child(storages[0], storages[1], &shape);
    chain_write(storages[1], 0, 512, 1); /* now it is another one */
    assert_int_equal(flatten_now(storages, false, &result, &err), VHDX_E_BAD_PARENT);
    vhdx_storage_close(storages[0]);
    vhdx_storage_close(storages[1]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(stands_alone),
        cmocka_unit_test(zeros_become_states),
        cmocka_unit_test(refuses_another_parent),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
