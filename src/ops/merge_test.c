/* Merging: what the target reads as afterwards, sizes, items, what is refused, what a second call does. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "ops/chain_fixture.h"
#include "ops/merge.h"
#include "ops/metadata_edit.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)
#define MOST 4

struct chain {
    struct vhdx_storage *storages[MOST]; /* top first */
    unsigned             count;
};

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

/* Some data, zeros and trims in a layer; `seed` makes each one different. */
static void
fill_layer(struct vhdx_storage *storage, const struct chain_shape *shape, uint32_t seed)
{
    uint64_t size = shape->size, sector = shape->sector_size;

    chain_write(storage, (seed * 3 % 5) * M(1) + sector * seed, (size_t)(sector * 3), seed);
    chain_write(storage, M(1) * (seed % 4), (size_t)M(1), seed);
    chain_write(storage, size - sector * (3 + seed), (size_t)(sector * 2), seed);
    if (size > M(5))
        chain_zero(storage, M(4), M(1), false);
    chain_zero(storage, M(2) + sector * 8 * seed, sector * 16, false);
    if (seed % 2 == 1)
        chain_zero(storage, M(seed % 3), M(1), true);
}

/* Shapes from the base up. */
static struct chain
make_chain(const struct chain_shape *shapes, unsigned count)
{
    struct chain chain = { .count = count };

    for (unsigned i = 0; i < count; i++) {
        struct vhdx_storage *storage = new_storage();

        chain.storages[count - 1 - i] = storage;
        if (i == 0)
            chain_make_base(storage, &shapes[0]);
        else
            chain_make_child(storage, chain.storages[count - i], &shapes[i]);
        fill_layer(storage, &shapes[i], i);
    }
    return chain;
}

static void
free_chain(struct chain *chain)
{
    for (unsigned i = 0; i < chain->count; i++)
        vhdx_storage_close(chain->storages[i]);
}

static void
assert_reads(struct vhdx_storage *const *storages, unsigned count, const uint8_t *expected, uint64_t size,
             const char *about)
{
    uint64_t got_size;
    uint8_t *got = chain_read(storages, count, &got_size);

    if (got_size != size)
        fail_msg("%s: %llu bytes, expected %llu", about, (unsigned long long)got_size, (unsigned long long)size);
    if (memcmp(got, expected, (size_t)size) != 0) {
        uint64_t at = 0;

        while (got[at] == expected[at])
            at++;
        fail_msg("%s: byte %llu is %u, expected %u", about, (unsigned long long)at, got[at], expected[at]);
    }
    vx_free(got);
}

static void
merge_now(const struct vx_merge *merge, struct vx_merge_plan *plan, struct vhdx_chain_result *result)
{
    struct vhdx_error err = { .message = "" };

    memset(result, 0, sizeof *result);
    if (vx_merge_judge(merge, plan, &err) < 0 || vx_merge_carry_out(merge, plan, result, &err) < 0)
        fail_msg("%s", err.message);
}

struct merge_case {
    const char        *about;
    struct chain_shape shapes[MOST]; /* from the base up */
    unsigned           count, merged; /* the topmost so many are merged into the next one */
};

#define DYNAMIC VHDX_TYPE_DYNAMIC
static const struct merge_case cases[] = {
    { "one block size", { { M(8), 1 << 20, 512, DYNAMIC }, { M(8), 1 << 20, 512 } }, 2, 1 },
    { "smaller blocks above", { { M(8), 4 << 20, 512, DYNAMIC }, { M(8), 1 << 20, 512 } }, 2, 1 },
    { "larger blocks above", { { M(8), 1 << 20, 512, DYNAMIC }, { M(8), 8 << 20, 512 } }, 2, 1 },
    { "sectors of 4096", { { M(8), 1 << 20, 4096, DYNAMIC }, { M(8), 2 << 20, 4096 } }, 2, 1 },
    { "a fixed target", { { M(8), 1 << 20, 512, VHDX_TYPE_FIXED }, { M(8), 2 << 20, 512 } }, 2, 1 },
    { "into a child", { { M(8), 1 << 20, 512, DYNAMIC }, { M(8), 2 << 20, 512 }, { M(8), 1 << 20, 512 } }, 3, 1 },
    { "two into the base", { { M(8), 2 << 20, 512, DYNAMIC }, { M(8), 1 << 20, 512 }, { M(8), 4 << 20, 512 } }, 3, 2 },
    { "three into the base", { { M(8), 2 << 20, 512, DYNAMIC }, { M(8), 1 << 20, 512 }, { M(8), 4 << 20, 512 },
                               { M(8), 1 << 20, 512 } }, 4, 3 },
    { "two into a child", { { M(8), 2 << 20, 512, DYNAMIC }, { M(8), 1 << 20, 512 }, { M(8), 4 << 20, 512 },
                            { M(8), 1 << 20, 512 } }, 4, 2 },
    { "a larger child", { { M(6) + 1536, 1 << 20, 512, DYNAMIC }, { M(11) + 512, 1 << 20, 512 } }, 2, 1 },
    { "a larger child of a fixed image", { { M(6), 1 << 20, 512, VHDX_TYPE_FIXED }, { M(9) + 512, 2 << 20, 512 } },
      2, 1 },
    { "a larger child of a child that hides the base's end",
      { { M(12), 1 << 20, 512, DYNAMIC }, { M(6) + 1536, 2 << 20, 512 }, { M(11), 4 << 20, 512 } }, 3, 1 },
    { "a smaller layer between", { { M(9), 1 << 20, 512, DYNAMIC }, { M(6) + 512, 2 << 20, 512 },
                                   { M(9), 1 << 20, 512 } }, 3, 2 },
    { "a smaller child", { { M(11) + 512, 1 << 20, 512, DYNAMIC }, { M(6) + 1536, 1 << 20, 512 } }, 2, 1 },
    { "a smaller child of a fixed image", { { M(11), 1 << 20, 512, VHDX_TYPE_FIXED }, { M(6) + 512, 2 << 20, 512 } },
      2, 1 },
    { "a smaller child of a child", { { M(8), 1 << 20, 512, DYNAMIC }, { M(12), 2 << 20, 512 },
                                      { M(7) - 1536, 1 << 20, 512 } }, 3, 1 },
};

static void
reads_the_same(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct merge_case  *c = &cases[i];
        struct chain              chain = make_chain(c->shapes, c->count);
        struct vx_merge           merge = { .storages = chain.storages, .count = c->merged + 1 };
        struct vx_merge_plan      plan, again;
        struct vhdx_chain_result  result;
        struct vhdx_guid          guid;
        uint64_t                  size;
        uint8_t                  *before = chain_read(chain.storages, c->count, &size);

        merge_now(&merge, &plan, &result);
        assert_false(plan.is_done);
        assert_false(plan.has_begun);
        if (plan.new_size <= plan.old_size) { /* else zeros that cover the growth are copied, too */
            assert_int_equal(result.bytes_copied, plan.bytes_to_copy);
            assert_int_equal(result.blocks_changed, plan.blocks_to_change);
        }
        assert_reads(chain.storages, c->count, before, size, c->about);
        assert_reads(chain.storages + c->merged, c->count - c->merged, before, size, c->about);
        for (unsigned k = 0; k < c->count; k++)
            if (!chain_is_clean(chain.storages[k]))
                fail_msg("%s: layer %u is not clean", c->about, k);
        guid = chain_guid(chain.storages[c->merged]);
        assert_true(vhdx_guid_equal(&guid, &plan.guid));

        merge_now(&merge, &again, &result); /* there is nothing left to do */
        assert_true(again.is_done);
        guid = chain_guid(chain.storages[c->merged]);
        assert_true(vhdx_guid_equal(&guid, &plan.guid));
        vx_free(before);
        free_chain(&chain);
    }
}

static const struct chain_shape two[] = { { M(8), 1 << 20, 512, DYNAMIC }, { M(8), 2 << 20, 512 } };

/* 9.8: the one that stays has parent_linkage = G and no second one. */
static void
leaves_the_link_of_the_target(void **state)
{
    struct chain             chain = make_chain(two, 2);
    struct vx_merge          merge = { .storages = chain.storages, .count = 2 };
    struct vx_merge_plan     plan;
    struct vhdx_chain_result result;
    struct vhdx_guid         before = chain_guid(chain.storages[0]), after;
    struct vx_image         *child;

    (void)state;
    merge_now(&merge, &plan, &result);
    child = chain_open(chain.storages[0], &(struct vx_image_options){ .is_writable = false });
    assert_true(vhdx_guid_equal(&vx_image_locator(child)->linkage, &plan.guid));
    assert_true(vx_image_locator(child)->has_linkage2);
    assert_true(vhdx_guid_is_zero(&vx_image_locator(child)->linkage2));
    assert_int_equal(vx_image_locator(child)->pair_count, 3);
    vx_image_close(child, NULL);
    after = chain_guid(chain.storages[0]);
    assert_true(vhdx_guid_equal(&before, &after)); /* its own children stay its children */
    free_chain(&chain);
}

/* A checkpoint that was written on after it was merged is another merge. */
static void
merges_again_what_changed(void **state)
{
    struct chain             chain = make_chain(two, 2);
    struct vx_merge          merge = { .storages = chain.storages, .count = 2 };
    struct vx_merge_plan     first, second;
    struct vhdx_chain_result result;
    uint64_t                 size;
    uint8_t                 *before;

    (void)state;
    merge_now(&merge, &first, &result);
    chain_write(chain.storages[0], M(7) + 512, 512, 9);
    before = chain_read(chain.storages, 2, &size);
    merge_now(&merge, &second, &result);
    assert_false(second.is_done);
    assert_false(second.has_begun);
    assert_false(vhdx_guid_equal(&first.guid, &second.guid));
    assert_reads(chain.storages + 1, 1, before, size, "merged again");
    vx_free(before);
    free_chain(&chain);
}

static int
cancel_at_half(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    return done > total / 2;
}

static void
goes_on_after_a_cancel(void **state)
{
    const struct vhdx_progress progress = { .report = cancel_at_half };
    struct chain             chain = make_chain(two, 2);
    struct vx_merge          merge = { .storages = chain.storages, .count = 2, .progress = &progress };
    struct vx_merge_plan     plan, again;
    struct vhdx_chain_result result = { 0 };
    uint64_t                 size;
    uint8_t                 *before = chain_read(chain.storages, 2, &size);

    (void)state;
    assert_int_equal(vx_merge_judge(&merge, &plan, NULL), VHDX_OK);
    assert_int_equal(vx_merge_carry_out(&merge, &plan, &result, NULL), VHDX_E_CANCELLED);
    assert_reads(chain.storages, 2, before, size, "cancelled");
    merge.progress = NULL;
    merge_now(&merge, &again, &result);
    assert_true(again.has_begun);
    assert_true(vhdx_guid_equal(&plan.guid, &again.guid));
    assert_reads(chain.storages + 1, 1, before, size, "finished");
    vx_free(before);
    free_chain(&chain);
}

/* Judging writes nothing, whatever it says. */
static void
judging_writes_nothing(void **state)
{
    struct chain         chain = make_chain(two, 2);
    struct vx_merge      merge = { .storages = chain.storages, .count = 2 };
    struct vx_merge_plan plan;
    uint64_t             sizes[2];
    uint8_t             *before[2], *after;

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(vx_storage_get_size(chain.storages[i], &sizes[i], NULL), VHDX_OK);
        before[i] = vx_alloc((size_t)sizes[i]);
        assert_int_equal(vx_storage_read(chain.storages[i], before[i], (size_t)sizes[i], 0, NULL), VHDX_OK);
    }
    assert_int_equal(vx_merge_judge(&merge, &plan, NULL), VHDX_OK);
    assert_true(plan.bytes_to_copy > 0 && plan.blocks_to_change > 0);
    for (int i = 0; i < 2; i++) {
        after = vx_alloc((size_t)sizes[i]);
        assert_int_equal(vx_storage_read(chain.storages[i], after, (size_t)sizes[i], 0, NULL), VHDX_OK);
        assert_memory_equal(before[i], after, (size_t)sizes[i]);
        vx_free(before[i]);
        vx_free(after);
    }
    free_chain(&chain);
}

static void
refuses(void **state)
{
    static const struct chain_shape grown = { M(600) * 1024, 1 << 20, 512 }, wrong_sectors = { M(8), 1 << 20, 4096 };
    struct chain         chain = make_chain(two, 2);
    struct vhdx_storage *storages[2] = { new_storage(), chain.storages[1] };
    struct vx_merge      merge = { .storages = storages, .count = 2 };
    struct vx_merge_plan plan;
    struct vhdx_error    err;

    (void)state;
    chain_make_child(storages[0], chain.storages[1], &grown); /* 600 GiB need more than 1 MiB of BAT */
    assert_int_equal(vx_merge_judge(&merge, &plan, &err), VHDX_E_UNSUPPORTED);

    assert_int_equal(vx_storage_set_size(storages[0], 0, NULL), VHDX_OK);
    chain_make_child(storages[0], chain.storages[1], &wrong_sectors);
    assert_int_equal(vx_merge_judge(&merge, &plan, &err), VHDX_E_BAD_PARENT);

    assert_int_equal(vx_storage_set_size(storages[0], 0, NULL), VHDX_OK);
    chain_make_child(storages[0], chain.storages[0], &two[1]); /* a child of another image */
    assert_int_equal(vx_merge_judge(&merge, &plan, &err), VHDX_E_BAD_PARENT);

    storages[0] = (vhdx_storage_close(storages[0]), chain.storages[1]);
    assert_int_equal(vx_merge_judge(&merge, &plan, &err), VHDX_E_NO_PARENT);
    free_chain(&chain);
}

/* 2.8: items of the disk are replaced, items of the file stay. */
static void
replaces_items_of_the_disk(void **state)
{
    static const struct vhdx_guid lost = { { 1 } }, kept = { { 2 } }, both = { { 3 } }, won = { { 4 } };
    static const struct {
        unsigned                layer;
        const struct vhdx_guid *id;
        uint32_t                flags;
        const char             *text;
    } items[] = {
        { 1, &lost, VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_USER, "of the target's disk" },
        { 1, &kept, VX_ITEM_IS_USER, "of the target's file" },
        { 1, &both, VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_USER, "old" },
        { 0, &both, VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_USER, "new and longer" },
        { 0, &won, VX_ITEM_IS_VIRTUAL_DISK, "system item of the child's disk" },
        { 0, &lost, 0, "another kind of item with that id" },
    };
    struct chain             chain = make_chain(two, 2);
    struct vx_merge          merge = { .storages = chain.storages, .count = 2 };
    struct vx_merge_plan     plan;
    struct vhdx_chain_result result;
    struct vx_metadata_edit *edit;
    struct vx_image         *image;
    uint8_t                  got[64];
    uint32_t                 index;

    (void)state;
    for (size_t i = 0; i < sizeof items / sizeof items[0]; i++) {
        image = chain_open(chain.storages[items[i].layer],
                           &(struct vx_image_options){ .is_writable = true, .data_guid = VX_DATA_GUID_KEEP });
        assert_int_equal(vx_metadata_edit_new(&edit, image, NULL), VHDX_OK);
        assert_int_equal(vx_metadata_edit_set(edit, items[i].id, items[i].flags, (const uint8_t *)items[i].text,
                                              (uint32_t)strlen(items[i].text), NULL), VHDX_OK);
        assert_int_equal(vx_metadata_edit_commit(edit, NULL), VHDX_OK);
        vx_metadata_edit_free(edit);
        assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    }
    merge_now(&merge, &plan, &result);
    image = chain_open(chain.storages[1], &(struct vx_image_options){ .is_writable = false });
    assert_int_equal(vx_metadata_edit_new(&edit, image, NULL), VHDX_OK);
    assert_int_equal(edit->table.entry_count, 5 + 3);
    assert_int_equal(vx_metadata_index_of(&edit->table, &lost, true), UINT32_MAX);
    assert_int_equal(vx_metadata_index_of(&edit->table, &lost, false), UINT32_MAX);
    assert_int_not_equal(vx_metadata_index_of(&edit->table, &kept, true), UINT32_MAX);
    assert_int_not_equal(vx_metadata_index_of(&edit->table, &won, false), UINT32_MAX);
    index = vx_metadata_index_of(&edit->table, &both, true);
    assert_int_equal(edit->table.entries[index].length, strlen("new and longer"));
    assert_int_equal(vx_image_read_structure(image, got, 14, edit->region.file_offset +
                                             edit->table.entries[index].offset, NULL), VHDX_OK);
    assert_memory_equal(got, "new and longer", 14);
    vx_metadata_edit_free(edit);
    vx_image_close(image, NULL);
    free_chain(&chain);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_the_same),
        cmocka_unit_test(leaves_the_link_of_the_target),
        cmocka_unit_test(merges_again_what_changed),
        cmocka_unit_test(goes_on_after_a_cancel),
        cmocka_unit_test(judging_writes_nothing),
        cmocka_unit_test(refuses),
        cmocka_unit_test(replaces_items_of_the_disk),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
