/*
 * The check: images built by hand, each with one fault, and the rules it is found to break (damage_fixture.h).
 */
#include "ops/damage_fixture.h"

/* --- running --- */

struct seen {
    uint64_t counts[160];
    uint64_t total;
    char     last_message[320];
    int      last_rule;
};

static void
see(void *context, const struct vhdx_error *finding)
{
    struct seen *seen = context;

    assert_in_range(finding->rule, 1, 159);
    assert_true(finding->severity != VHDX_SEVERITY_NONE && finding->message[0] != '\0');
    seen->counts[finding->rule]++;
    seen->total++;
    seen->last_rule = finding->rule;
    memcpy(seen->last_message, finding->message, sizeof seen->last_message);
}

static bool
is_listed(const int rules[4], int rule)
{
    for (int i = 0; i < 4; i++) {
        if (rules[i] == rule)
            return true;
    }
    return false;
}

static void
names_the_rule(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct damage_case *c = &cases[i];
        struct vhdx_check_summary summary;
        struct seen seen = { .total = 0 };
        struct vhdx_error err;
        struct image image;
        uint64_t counted = 0;

        build_case(&image, c);
        if (vhdx_check_storage(image.storage, NULL, see, &seen, NULL, &summary, &err) < 0)
            fail_msg("%s: %s", c->about, err.message);
        for (int rule = 1; rule < 160; rule++) {
            if ((seen.counts[rule] > 0) != is_listed(c->rules, rule))
                fail_msg("%s: V%d %s (%s)", c->about, rule, seen.counts[rule] > 0 ? "found" : "not found",
                         seen.last_message);
        }
        for (int severity = 0; severity <= VHDX_SEVERITY_REFUSE; severity++)
            counted += summary.finding_count[severity];
        assert_int_equal(counted, seen.total);
        vhdx_storage_close(image.storage);
    }
}

static void
sums_up(void **state)
{
    struct vhdx_check_summary summary;
    struct image image;

    (void)state;
    build(&image, PLAIN);
    set_entry(&image, 1, 0);
    assert_int_equal(vhdx_check_storage(image.storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    assert_int_equal(summary.leaked_bytes, M(1));
    assert_int_equal(summary.allocated_blocks, 3);
    assert_int_equal(summary.total_blocks, 10);
    assert_int_equal(summary.virtual_size, M(10));
    assert_int_equal(summary.file_size, M(9));
    assert_true(summary.is_complete);
    assert_false(summary.is_dirty);

    set_length(&image, M(100));
    assert_int_equal(vhdx_check_storage(image.storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    assert_int_equal(summary.leaked_bytes, M(92));
    vhdx_storage_close(image.storage);
}

/* The log makes block 4 present: seen when it is replayed, not when it is ignored. */
static void
looks_at_the_replayed_view(void **state)
{
    static const struct vhdx_check_options ignore = { .ignore_log = true };
    struct vhdx_check_summary summary;
    struct image image;

    (void)state;
    build(&image, PLAIN);
    add_log(&image);
    seal_all(&image);
    assert_int_equal(vhdx_check_storage(image.storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    assert_true(summary.is_dirty && summary.is_complete);
    assert_int_equal(summary.allocated_blocks, 5);
    assert_int_equal(vhdx_check_storage(image.storage, &ignore, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    assert_true(summary.is_dirty);
    assert_int_equal(summary.allocated_blocks, 4);
    vhdx_storage_close(image.storage);
}

static void
says_what_it_could_not_look_at(void **state)
{
    static const struct damage_case unreadable[] = {
        { "no headers", PLAIN, { { IN_HEADERS, 9, 1, 99 } }, .is_not_sealed = true },
        { "no regions", PLAIN, { { IN_REGIONS, 100, 1, 1 } }, .is_not_sealed = true },
        { "no metadata", PLAIN, { { IN_METADATA, 0, 1, 0 } } },
        { "no geometry", PLAIN, { { IN_METADATA, 0x10000, 4, 0 } } },
        { "no log", PLAIN, .is_dirty = true },
    };

    (void)state;
    for (size_t i = 0; i < sizeof unreadable / sizeof unreadable[0]; i++) {
        struct vhdx_check_summary summary;
        struct image image;

        build_case(&image, &unreadable[i]);
        assert_int_equal(vhdx_check_storage(image.storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
        if (summary.is_complete || summary.finding_count[VHDX_SEVERITY_REFUSE] != 1)
            fail_msg("%s", unreadable[i].about);
        vhdx_storage_close(image.storage);
    }
}

static void
tells_a_flood_in_short(void **state)
{
    struct vhdx_check_summary summary;
    struct seen seen = { .total = 0 };
    struct image image;

    (void)state;
    build(&image, BARE);
    for (uint64_t i = 0; i < 3000; i++)
        set_entry(&image, i, 4);
    assert_int_equal(vhdx_check_storage(image.storage, NULL, see, &seen, NULL, &summary, NULL), VHDX_OK);
    assert_int_equal(summary.finding_count[VHDX_SEVERITY_BLOCK], 3000);
    assert_int_equal(seen.total, 101);
    assert_int_equal(seen.last_rule, 131);
    assert_string_equal(seen.last_message, "2900 more of V131");
    vhdx_storage_close(image.storage);
}

static void
refuses_what_is_no_vhdx(void **state)
{
    static const uint64_t lengths[] = { 0, 1, 7, 8, M(10) };
    struct vhdx_check_summary summary;

    (void)state;
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        struct vhdx_storage *storage;
        struct vhdx_error err;

        assert_int_equal(vhdx_storage_new_memory(&storage, lengths[i], NULL), VHDX_OK);
        assert_int_equal(vhdx_check_storage(storage, NULL, NULL, NULL, NULL, &summary, &err), VHDX_E_NOT_VHDX);
        assert_int_equal(err.rule, 2);
        assert_false(summary.is_complete);
        vhdx_storage_close(storage);
    }
}

static int
cancel(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total);
    return 1;
}

static void
can_be_cancelled(void **state)
{
    static const struct vhdx_progress progress = { .report = cancel };
    struct vhdx_check_summary summary;
    struct image image;

    (void)state;
    build(&image, PLAIN);
    assert_int_equal(vhdx_check_storage(image.storage, NULL, NULL, NULL, &progress, &summary, NULL),
                     VHDX_E_CANCELLED);
    vhdx_storage_close(image.storage);
}

/* Every allocation fails once: an error, no crash, nothing lost (the sanitizers look). */
static void
survives_lack_of_memory(void **state)
{
    struct vhdx_check_summary summary;
    struct image image;
    int rc = VHDX_E_NO_MEMORY;

    (void)state;
    build(&image, CHILD);
    for (size_t n = 1; rc == VHDX_E_NO_MEMORY && n < 1000; n++) {
        vx_alloc_fail_nth_for_tests(n);
        rc = vhdx_check_storage(image.storage, NULL, NULL, NULL, NULL, &summary, NULL);
        assert_int_equal(summary.is_complete, rc == VHDX_OK);
    }
    vx_alloc_fail_nth_for_tests(0);
    assert_int_equal(rc, VHDX_OK);
    vhdx_storage_close(image.storage);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_the_rule),
        cmocka_unit_test(sums_up),
        cmocka_unit_test(looks_at_the_replayed_view),
        cmocka_unit_test(says_what_it_could_not_look_at),
        cmocka_unit_test(tells_a_flood_in_short),
        cmocka_unit_test(refuses_what_is_no_vhdx),
        cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test(survives_lack_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
