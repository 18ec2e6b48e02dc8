/* Another parent: content stays, only what differs is copied, keys change, a second call finds it done. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "ops/chain_fixture.h"
#include "ops/rebase.h"

#define M(n) ((uint64_t)(n) * CHAIN_MIB)
#define DYNAMIC VHDX_TYPE_DYNAMIC

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

/* Rebase storages[0] from the chain `old` to the chain `new`, both from the parent down. */
static int
rebase_now(struct vhdx_storage *child, struct vhdx_storage *const *old, unsigned old_count,
           struct vhdx_storage *const *new, unsigned new_count, bool only_judge, struct vhdx_chain_result *result,
           struct vhdx_error *err)
{
    char                         linkage[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text changes[] = {
        { "parent_linkage", linkage }, { "relative_path", "..\\new.vhdx" }, { "volume_path", NULL },
    };
    struct vhdx_guid guid = chain_guid(new[0]);
    struct vx_rebase job = { .storage = child, .changes = changes, .change_count = 3, .only_judge = only_judge };
    struct vx_stack *old_stack = NULL, *new_stack;
    int              rc;

    memset(result, 0, sizeof *result);
    vx_link_braced(linkage, &guid);
    assert_int_equal(vx_stack_open(&new_stack, new, new_count, NULL, 0, NULL), VHDX_OK);
    job.new_parent = &new_stack->disk;
    if (old != NULL) {
        assert_int_equal(vx_stack_open(&old_stack, old, old_count, NULL, 0, NULL), VHDX_OK);
        job.old_parent = &old_stack->disk;
    }
    rc = vx_rebase(&job, result, err);
    vx_stack_close(old_stack, NULL);
    vx_stack_close(new_stack, NULL);
    return rc;
}

static void
assert_reads(struct vhdx_storage *const *storages, unsigned count, const uint8_t *expected, uint64_t size)
{
    uint64_t got_size;
    uint8_t *got = chain_read(storages, count, &got_size);

    assert_int_equal(size, got_size);
    for (uint64_t i = 0; i < size; i++)
        if (got[i] != expected[i])
            fail_msg("byte %llu is %u, expected %u", (unsigned long long)i, got[i], expected[i]);
    vx_free(got);
}

static const struct chain_shape shape = { M(16), 2 << 20, 512, DYNAMIC }, small = { M(9) + 512, 1 << 20, 512, DYNAMIC };

/* From a checkpoint to the base below it: the tables tell what the checkpoint changed. */
static void
to_the_grandparent(void **state)
{
    struct vhdx_storage     *chain[3] = { new_storage(), new_storage(), new_storage() };
    struct vhdx_storage     *after[2] = { chain[0], chain[2] };
    struct vhdx_chain_result counted, result;
    struct vhdx_error        err = { .message = "" };
    struct vhdx_guid         guid, guid_after;
    uint64_t                 size;
    uint8_t                 *before;
    struct vx_image         *image;

    (void)state;
    chain_make_base(chain[2], &shape);
    chain_write(chain[2], 0, (size_t)M(10), 1);
    chain_make_child(chain[1], chain[2], &shape);
    chain_write(chain[1], M(1), 4096, 2);
    chain_write(chain[1], M(2), (size_t)M(2), 2);
    chain_zero(chain[1], M(6), M(4), false);
    chain_make_child(chain[0], chain[1], &shape);
    chain_write(chain[0], M(3), 512, 3);
    chain_write(chain[0], M(12), 512, 3);
    before = chain_read(chain, 3, &size);
    guid = chain_guid(chain[0]);

    assert_int_equal(rebase_now(chain[0], chain + 1, 2, chain + 2, 1, true, &counted, &err), VHDX_OK);
    assert_reads(chain, 3, before, size);
    if (rebase_now(chain[0], chain + 1, 2, chain + 2, 1, false, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(result.bytes_copied, counted.bytes_copied);
    assert_in_range(result.bytes_copied, 4096 + M(2) - 512, 4096 + M(2));
    assert_int_equal(result.blocks_changed, 1 + 1 + 2);
    assert_reads(after, 2, before, size);
    assert_true(chain_is_clean(chain[0]));
    guid_after = chain_guid(chain[0]);
    assert_true(vhdx_guid_equal(&guid, &guid_after)); /* B2 */
    image = chain_open(chain[0], &(struct vx_image_options){ .is_writable = false });
    assert_int_equal(vx_image_locator(image)->relative_path.value_length, 2 * strlen("..\\new.vhdx"));
    vx_image_close(image, NULL);
    vx_free(before);
    for (int i = 0; i < 3; i++)
        vhdx_storage_close(chain[i]);
}

/* To a stranger of another size and geometry: contents are compared. */
static void
to_an_unrelated_parent(void **state)
{
    struct vhdx_storage     *chain[2] = { new_storage(), new_storage() }, *stranger = new_storage();
    struct vhdx_storage     *after[2] = { chain[0], stranger };
    struct vhdx_chain_result result;
    struct vhdx_error        err = { .message = "" };
    uint64_t                 size;
    uint8_t                 *before;

    (void)state;
    chain_make_base(chain[1], &shape);
    chain_write(chain[1], 0, (size_t)M(12), 1);
    chain_make_base(stranger, &small);
    chain_write(stranger, 0, (size_t)M(9), 1); /* the same bytes, */
    chain_write(stranger, M(5) + 8192, 4096, 2); /* but for these, */
    chain_make_child(chain[0], chain[1], &shape); /* and it ends at 9 MiB + 512 */
    chain_write(chain[0], M(1), 512, 3);
    before = chain_read(chain, 2, &size);

    if (rebase_now(chain[0], chain + 1, 1, &stranger, 1, false, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(result.bytes_copied, 4096 + M(3));
    assert_reads(after, 2, before, size);
    assert_true(chain_is_clean(chain[0]));
    vx_free(before);
    vhdx_storage_close(chain[0]);
    vhdx_storage_close(chain[1]);
    vhdx_storage_close(stranger);
}

/* Relinking changes the locator and nothing else. */
static void
relinks(void **state)
{
    struct vhdx_storage     *chain[2] = { new_storage(), new_storage() }, *copy = new_storage();
    struct vhdx_storage     *after[2] = { chain[0], copy };
    struct vhdx_chain_result result;
    struct vhdx_error        err = { .message = "" };
    uint64_t                 size;
    uint8_t                 *before;

    (void)state;
    chain_make_base(chain[1], &shape);
    chain_write(chain[1], 0, (size_t)M(3), 1);
    chain_make_base(copy, &shape);
    chain_write(copy, 0, (size_t)M(3), 1);
    chain_make_child(chain[0], chain[1], &shape);
    before = chain_read(chain, 2, &size);
    if (rebase_now(chain[0], NULL, 0, &copy, 1, false, &result, &err) < 0)
        fail_msg("%s", err.message);
    assert_int_equal(result.blocks_changed, 0);
    assert_reads(after, 2, before, size);
    vx_free(before);
    vhdx_storage_close(chain[0]);
    vhdx_storage_close(chain[1]);
    vhdx_storage_close(copy);
}

static void
refuses(void **state)
{
    static const struct chain_shape wrong_sectors = { M(16), 2 << 20, 4096, DYNAMIC };
    struct vhdx_storage     *chain[2] = { new_storage(), new_storage() }, *other = new_storage();
    struct vhdx_chain_result result;
    struct vhdx_error        err;

    (void)state;
    chain_make_base(chain[1], &shape);
    chain_make_base(other, &wrong_sectors);
    chain_make_child(chain[0], chain[1], &shape);
    assert_int_equal(rebase_now(chain[0], chain + 1, 1, &other, 1, false, &result, &err), VHDX_E_BAD_PARENT);
    assert_int_equal(rebase_now(chain[0], &other, 1, chain + 1, 1, false, &result, &err), VHDX_E_BAD_PARENT);
    assert_int_equal(rebase_now(chain[1], NULL, 0, &other, 1, false, &result, &err), VHDX_E_NO_PARENT);
    vhdx_storage_close(chain[0]);
    vhdx_storage_close(chain[1]);
    vhdx_storage_close(other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(to_the_grandparent),
        cmocka_unit_test(to_an_unrelated_parent),
        cmocka_unit_test(relinks),
        cmocka_unit_test(refuses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
