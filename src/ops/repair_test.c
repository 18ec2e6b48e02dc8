/*
 * The repair: every image of damage_fixture.h, mended by all classes.  What is left may only be what no class mends, or what
 * this file lists; a second run finds nothing; guests read what they read; undone, every byte is what it was.
 */
#include "ops/repair_fixture.h"

#include <inttypes.h>
#include <stdlib.h>

#include <vhdx/repair.h>

#include "storage/undo.h"

/* --- every case --- */

/* What no rule can mend: told as left, and still broken after. */
static const struct {
    const char *about;
    int         rule;
    bool        goes_next_time; /* lost space stays in the run that gave something up */
} stays[] = {
    { "log over 1 GiB", 149, true },
    { "no log, no room for one, a block past the end", 148, true },
    { "Logical Sector Size too short", 93 },    /* both sizes fit so small a disk */
    { "sectors of 1024", 97 },
    { "a locator without a child", 102 },       /* absent blocks may be the parent's */
    { "a bitmap in state 2", 141 },             /* whose sectors they are is lost */
    { "a bitmap in state 2", 148 },
    { "state 7 without a bitmap", 143 },
    { "state 7 without a bitmap", 148 },
    { "a bitmap past the end", 143 },
    { "a bitmap past the end", 148 },
    { "a child's block cut, its bitmap gone", 143 },
    { "a child's block cut, its bitmap gone", 148 },
    { "a bitmap over the BAT", 144 },
    { "a bitmap over the BAT", 148 },
    { "a hole in a fixed image", 148 },         /* its blocks keep their places */
};

static bool
may_stay(const char *about, int rule)
{
    for (size_t i = 0; i < sizeof stays / sizeof stays[0]; i++) {
        if (strcmp(stays[i].about, about) == 0 && stays[i].rule == rule)
            return true;
    }
    return false;
}

static bool
goes_next_time(const char *about)
{
    for (size_t i = 0; i < sizeof stays / sizeof stays[0]; i++) {
        if (strcmp(stays[i].about, about) == 0 && stays[i].goes_next_time)
            return true;
    }
    return false;
}

static void
count_step(void *context, const struct vhdx_repair_step *step)
{
    uint64_t *counts = context;

    assert_true(step->rule > 0 && step->message[0] != '\0');
    if ((VHDX_REPAIR_CLASS(step->remedy) & VHDX_REPAIR_ALL) == 0 && step->remedy != VHDX_REMEDY_REPLAY)
        fail_msg("V%d: %s: of no class", step->rule, step->message);
    counts[step->is_left ? 1 : 0]++;
}

static int
repair(struct vhdx_storage *storage, bool dry_run, uint64_t counts[2], struct vhdx_repair_result *result)
{
    const struct vhdx_repair_options options = { .classes = VHDX_REPAIR_ALL, .dry_run = dry_run };
    struct vhdx_error err;
    int rc;

    counts[0] = counts[1] = 0;
    rc = vhdx_repair_storage(storage, &options, count_step, counts, NULL, result, &err);
    assert_true(counts[0] == result->steps && counts[1] == result->left);
    return rc;
}

/* Broken rules that a class should have mended, and what no rule may do: break another one. */
static void
judge_after(const struct damage_case *c, const struct broken *before, const struct broken *after)
{
    for (int rule = 1; rule < RULES; rule++) {
        const struct vhdx_rule *row = vhdx_rule_get(rule);

        if (after->worst[rule] == VHDX_SEVERITY_NONE)
            continue;
        if ((VHDX_REPAIR_CLASS(row->remedy) & VHDX_REPAIR_ALL) != 0 && !may_stay(c->about, rule))
            fail_msg("%s: V%d is broken after the repair", c->about, rule);
        if (after->worst[rule] > before->worst[rule] && worst_of(after) >= worst_of(before) && !may_stay(c->about, rule))
            fail_msg("%s: V%d is broken worse after the repair", c->about, rule);
    }
}

/* What could be read reads as before; what could not, as in an image without the fault, or as zeros that were told as lost. */
static void
judge_contents(const struct damage_case *c, struct vhdx_storage *good, struct vhdx_storage *damaged,
               struct vhdx_storage *mended)
{
    struct vhdx_disk *before = open_disk(damaged), *after = open_disk(mended);
    uint64_t differ = 0, unreadable = 0;

    if (before != NULL)
        compare(damaged, mended, &differ, &unreadable);
    else if (after != NULL)
        compare(good, mended, &differ, &unreadable);
    vhdx_disk_close(before, NULL);
    vhdx_disk_close(after, NULL);
    if (differ != 0 || unreadable != 0)
        fail_msg("%s: %" PRIu64 " pieces read differently, %" PRIu64 " not at all", c->about, differ, unreadable);
}

/* A plan writes nothing and counts what will be done. */
static void
judge_plan(const struct damage_case *c, struct vhdx_storage *storage, uint64_t planned[2])
{
    struct vhdx_storage *copy = copy_of(storage);
    struct vhdx_repair_result result;

    storage->traits.is_read_only = true;
    (void)repair(storage, true, planned, &result);
    storage->traits.is_read_only = false;
    if (!are_equal(copy, storage))
        fail_msg("%s: a plan was written", c->about);
    vhdx_storage_close(copy);
}

static void
judge_second_run(const struct damage_case *c, struct vhdx_storage *storage)
{
    struct vhdx_storage *copy = copy_of(storage);
    struct vhdx_repair_result result;
    uint64_t counts[2];

    (void)repair(storage, false, counts, &result);
    if ((counts[0] != 0 || !are_equal(copy, storage)) && !goes_next_time(c->about))
        fail_msg("%s: a second run finds something", c->about);
    vhdx_storage_close(copy);
}

static const struct vx_undo_tags tags = { { VX_HEADER_OFFSET(0) + 16, VX_HEADER_OFFSET(1) + 16 } };

static void
judge_undo(const struct damage_case *c, struct vhdx_storage *damaged)
{
    struct vhdx_storage *copy = copy_of(damaged), *file, *undo;
    struct vhdx_repair_result result;
    struct vhdx_error err = { .message = "" };
    uint64_t counts[2];

    assert_int_equal(vhdx_storage_new_memory(&file, 0, NULL), VHDX_OK);
    assert_int_equal(vx_undo_new(&undo, copy, file, &tags, NULL), VHDX_OK);
    if (repair(undo, false, counts, &result) == VHDX_OK && counts[0] > 0 && are_equal(damaged, copy))
        fail_msg("%s: nothing was changed", c->about);
    assert_int_equal(vx_undo_finish(undo, NULL), VHDX_OK);
    vhdx_storage_close(undo);
    for (int run = 0; run < 2; run++) { /* again is fine, too */
        if (vx_undo_apply(file, copy, &tags, &err) < 0)
            fail_msg("%s: undo: %s", c->about, err.message);
        if (!are_equal(damaged, copy))
            fail_msg("%s: undone, it is not what it was", c->about);
    }
    vhdx_storage_close(file);
    vhdx_storage_close(copy);
}

static void
run_case(const struct damage_case *c)
{
    struct vhdx_storage *damaged;
    struct vhdx_repair_result result;
    struct image image, good;
    struct broken before, after;
    uint64_t planned[2], done[2];

    build(&good, c->kind);
    build_case(&image, c);
    damaged = copy_of(image.storage);
    before = look(image.storage);
    judge_plan(c, image.storage, planned);
    (void)repair(image.storage, false, done, &result);
    after = look(image.storage);
    if (done[0] != planned[0])
        fail_msg("%s: %" PRIu64 " steps planned, %" PRIu64 " done", c->about, planned[0], done[0]);
    judge_after(c, &before, &after);
    judge_contents(c, good.storage, damaged, image.storage);
    judge_second_run(c, image.storage);
    judge_undo(c, damaged);
    vhdx_storage_close(image.storage);
    vhdx_storage_close(good.storage);
    vhdx_storage_close(damaged);
}

static void
every_case(void **state)
{
    size_t step = getenv("VHDX_FEW") != NULL ? 5 : 1; /* where each case is slow */

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i += step)
        run_case(&cases[i]);
}

/* --- what is lost --- */

static void
expect_losses(const char *about, uint64_t lost_bytes, uint64_t bat_index, uint64_t entry)
{
    size_t i = 0;
    struct vhdx_repair_result result;
    struct image image;
    uint64_t counts[2];
    uint8_t bytes[8];

    while (strcmp(cases[i].about, about) != 0)
        i++;
    build_case(&image, &cases[i]);
    assert_int_equal(repair(image.storage, false, counts, &result), VHDX_OK);
    if (result.lost_bytes != lost_bytes || result.changes_contents != (lost_bytes > 0))
        fail_msg("%s: %" PRIu64 " bytes lost", about, result.lost_bytes);
    assert_int_equal(vx_storage_read(image.storage, bytes, 8, image.layout.bat_offset + 8 * bat_index, NULL), VHDX_OK);
    if (vx_le64(bytes) != entry)
        fail_msg("%s: the entry is 0x%" PRIx64, about, vx_le64(bytes));
    vhdx_storage_close(image.storage);
}

static void
losses_are_counted(void **state)
{
    (void)state;
    expect_losses("a block that the end cuts in half", M(1), 1, M(7) | 6); /* its first half is there */
    expect_losses("the last block is cut past the disk", 0, 4, M(9) | 6);
    expect_losses("a block past the end", M(1), 4, VX_BLOCK_ZERO);
    expect_losses("a child's block past the end", M(1), 1, VX_BLOCK_ZERO);  /* not the parent's bytes */
    expect_losses("two blocks at one place", 0, 4, M(9) | 6);
    expect_losses("an anchor on a block", 0, 4, VX_BLOCK_UNMAPPED);
}

/* --- one class at a time --- */

static void
only_what_was_asked_for(void **state)
{
    static const struct damage_case two_faults = {
        "a damaged header and a stray offset", PLAIN, { { IN_OLD_HEADER, 9, 1, 99 }, { IN_BAT, 4, 8, M(5) | 2 } },
        .is_not_sealed = true,
    };
    const struct vhdx_repair_options headers = { .classes = VHDX_REPAIR_CLASS(VHDX_REMEDY_HEADERS) };
    const struct vhdx_repair_options wrong = { .classes = VHDX_REPAIR_CLASS(VHDX_REMEDY_REPLAY) }, none = { .classes = 0 };
    struct vhdx_repair_result result;
    struct vhdx_error err;
    struct broken after;
    struct image image;

    (void)state;
    build_case(&image, &two_faults);
    assert_int_equal(vhdx_repair_storage(image.storage, &wrong, NULL, NULL, NULL, NULL, &err), VHDX_E_INVALID);
    assert_int_equal(vhdx_repair_storage(image.storage, &none, NULL, NULL, NULL, NULL, &err), VHDX_E_INVALID);
    assert_int_equal(vhdx_repair_storage(image.storage, &headers, NULL, NULL, NULL, &result, &err), VHDX_OK);
    after = look(image.storage);
    assert_true(result.steps == 1 && after.worst[11] == VHDX_SEVERITY_NONE && after.worst[138] == VHDX_SEVERITY_WARN);
    image.storage->traits.is_read_only = true;
    assert_int_equal(vhdx_repair_storage(image.storage, &headers, NULL, NULL, NULL, NULL, &err), VHDX_E_READ_ONLY);
    vhdx_storage_close(image.storage);
}

/* --- undo files that do not fit --- */

static void
make_undo(struct image *image, struct vhdx_storage **file)
{
    struct vhdx_repair_result result;
    struct vhdx_storage *undo;
    uint64_t counts[2];

    assert_int_equal(vhdx_storage_new_memory(file, 0, NULL), VHDX_OK);
    assert_int_equal(vx_undo_new(&undo, image->storage, *file, &tags, NULL), VHDX_OK);
    assert_int_equal(repair(undo, false, counts, &result), VHDX_OK);
    assert_int_equal(vx_undo_finish(undo, NULL), VHDX_OK);
    vhdx_storage_close(undo);
}

static void
refuses_undo(struct vhdx_storage *file, struct vhdx_storage *storage)
{
    struct vhdx_storage *before = copy_of(storage);
    struct vhdx_error err = { .message = "" };

    assert_int_equal(vx_undo_apply(file, storage, &tags, &err), VHDX_E_INVALID);
    assert_true(err.message[0] != '\0' && are_equal(before, storage));
    vhdx_storage_close(before);
}

static void
undo_of_another_or_damaged(void **state)
{
    static const struct damage_case fault = { "a state", PLAIN, { { IN_BAT, 4, 8, 4 } } };
    struct vhdx_storage *file, *cut;
    struct image image, other;
    uint64_t length;
    uint8_t byte;

    (void)state;
    build_case(&image, &fault);
    build_case(&other, &fault);
    make_undo(&image, &file);
    refuses_undo(file, other.storage);
    vx_storage_get_size(file, &length, NULL);
    cut = copy_of(file);
    vx_storage_set_size(cut, length - 4096, NULL);
    refuses_undo(cut, image.storage);
    for (uint64_t at = 0; at < length; at += 331) { /* any byte of it, padding left out */
        vx_storage_read(file, &byte, 1, at, NULL);
        vx_storage_set_size(cut, 0, NULL);
        vhdx_storage_close(cut);
        cut = copy_of(file);
        byte ^= 0x40;
        vx_storage_write(cut, &byte, 1, at, NULL);
        if (at != 0)
            at += getenv("VHDX_FEW") != NULL ? 40001 : 4001;
        refuses_undo(cut, image.storage);
    }
    put_number(&image, VX_HEADER_OFFSET(0) + 16, 8, 7); /* written since */
    refuses_undo(file, image.storage);
    vhdx_storage_close(cut);
    vhdx_storage_close(file);
    vhdx_storage_close(image.storage);
    vhdx_storage_close(other.storage);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_case),
        cmocka_unit_test(losses_are_counted),
        cmocka_unit_test(only_what_was_asked_for),
        cmocka_unit_test(undo_of_another_or_damaged),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
