/* The log's writer, judged by its reader: what was committed is found, around the ring and again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "format/layout.h"
#include "format/log_entry.h"
#include "image/log.h"
#include "image/replay.h"
#include "storage/storage.h"

#define AT     (2 * VX_MIB) /* of the ring */
#define TARGET (8 * VX_MIB) /* of the pages */

struct fixture {
    struct vhdx_storage  *storage;
    struct vx_log         log;
    struct vx_log_lengths lengths;
};

static struct fixture
make(uint32_t ring_length)
{
    struct fixture f = { .lengths = { .flushed_file_offset = 9 * VX_MIB, .last_file_offset = 9 * VX_MIB } };

    assert_int_equal(vhdx_storage_new_memory(&f.storage, 9 * VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_log_start(&f.log, f.storage, AT, ring_length, &f.lengths, NULL), VHDX_OK);
    vx_log_commit_entry(&f.log);
    f.log.is_started = true;
    return f;
}

static void
end(struct fixture *f)
{
    vx_log_destroy(&f->log);
    vhdx_storage_close(f->storage);
}

static struct vx_log_scan
scan(struct fixture *f)
{
    struct vx_header   header = { .log_guid = f->log.guid, .log_offset = AT, .log_length = f->log.length };
    struct vx_log_scan out;
    struct vx_findings findings;

    vx_findings_init(&findings, NULL, NULL);
    assert_int_equal(vx_log_scan(&out, f->storage, &header, f->log.length, 9 * VX_MIB, &findings, NULL), VHDX_OK);
    assert_int_equal(findings.count, 0);
    assert_true(out.has_active);
    return out;
}

/* Write an entry of pages that all begin with `value`. */
static void
append(struct fixture *f, size_t page_count, uint8_t value)
{
    static uint8_t     bytes[100][VX_PAGE];
    struct vx_log_page pages[100];

    assert_true(page_count <= 100);
    for (size_t i = 0; i < page_count; i++) {
        memset(bytes[i], value, VX_PAGE);
        bytes[i][VX_PAGE - 1] = (uint8_t)i;
        pages[i] = (struct vx_log_page){ .file_offset = TARGET + i * VX_PAGE, .bytes = bytes[i] };
    }
    assert_int_equal(vx_log_append(&f->log, pages, page_count, &f->lengths, NULL), VHDX_OK);
}

/* What a reader would see of page `index` through the log. */
static void
expect_page(struct fixture *f, size_t index, uint8_t value)
{
    struct vx_log_scan   found = scan(f);
    struct vhdx_storage *view;
    uint8_t              bytes[VX_PAGE], expected[VX_PAGE];

    memset(expected, value, VX_PAGE);
    expected[VX_PAGE - 1] = (uint8_t)index;
    assert_int_equal(vx_replay_view(&view, f->storage, &found, 9 * VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_storage_read(view, bytes, VX_PAGE, TARGET + index * VX_PAGE, NULL), VHDX_OK);
    assert_memory_equal(bytes, expected, VX_PAGE);
    vhdx_storage_close(view);
    vx_log_scan_free(&found);
}

struct limit_case {
    const char *about;
    uint64_t    log_length;
    size_t      page_count;
};

static const struct limit_case limit_cases[] = {
    { "as small as it gets: descriptors and one page, three times, and one", 7 * 4096, 1 },
    { "one sector less holds nothing", 6 * 4096, 0 },
    { "two pages", 10 * 4096, 2 },
    { "1 MiB", VX_MIB, 84 },
    { "2 MiB: a second sector of descriptors", 2 * VX_MIB, 168 },
    { "8 MiB", 8 * VX_MIB, 676 },
};

static void
limits_pages(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof limit_cases / sizeof limit_cases[0]; i++) {
        const struct limit_case *c = &limit_cases[i];
        size_t                   limit = vx_log_page_limit(c->log_length);
        uint64_t entry = vx_log_descriptor_area_size((uint32_t)limit) + (uint64_t)limit * VX_LOG_SECTOR;

        if (limit != c->page_count)
            fail_msg("%s: %zu pages", c->about, limit);
        assert_true(3 * entry + VX_LOG_SECTOR <= c->log_length || limit == 0); /* L14, L5 */
    }
}

/* 5.4 step 5: an empty entry at position 0, its own tail, under a LogGuid and a number nobody had. */
static void
starts_with_an_empty_entry(void **state)
{
    struct fixture     f = make(VX_MIB), other = make(VX_MIB);
    struct vx_log_scan found = scan(&f);

    (void)state;
    assert_int_equal(found.place_count, 1);
    assert_int_equal(found.places[0].position, 0);
    assert_int_equal(found.places[0].tail, 0);
    assert_int_equal(found.places[0].descriptor_count, 0);
    assert_true(found.places[0].sequence_number > 0 && found.places[0].sequence_number < UINT64_C(1) << 63);
    assert_true(found.places[0].last_file_offset == 9 * VX_MIB);
    assert_false(vhdx_guid_equal(&f.log.guid, &other.log.guid));
    assert_false(vhdx_guid_is_zero(&f.log.guid));
    vx_log_scan_free(&found);
    end(&f);
    end(&other);
}

/* W4: the tail stays at the newest entry whose pages no flush covered, and goes on when one did. */
static void
the_tail_follows_flushes(void **state)
{
    struct fixture     f = make(VX_MIB);
    struct vx_log_scan found;
    uint32_t           first, second;

    (void)state;
    first = f.log.head;
    append(&f, 2, 0x11);
    vx_log_commit_entry(&f.log);
    assert_int_equal(f.log.durable_tail, first); /* the empty entry needs no replay */
    second = f.log.head;
    append(&f, 1, 0x22); /* no flush began since the first was applied */
    vx_log_commit_entry(&f.log);
    assert_int_equal(f.log.durable_tail, first);
    found = scan(&f);
    assert_int_equal(found.places[found.tail_index].position, first);
    assert_int_equal(found.places[found.head_index].position, second);
    vx_log_scan_free(&found);
    expect_page(&f, 0, 0x22);
    expect_page(&f, 1, 0x11); /* still of the first */

    vx_log_note_flush(&f.log);
    second = f.log.head;
    append(&f, 1, 0x33);
    vx_log_commit_entry(&f.log);
    assert_int_equal(f.log.durable_tail, second);
    found = scan(&f);
    assert_int_equal(found.tail_index, found.head_index);
    vx_log_scan_free(&found);
    end(&f);
}

/* Rings of all sizes, with entries of all sizes that fit, over their ends many times.  Commits with a flush before
 * their entry, and without. */
static void
goes_around(void **state)
{
    (void)state;
    for (uint32_t sectors = 7; sectors < 40; sectors += sectors < 14 ? 1 : 5) {
        struct fixture f = make(sectors * 4096);
        size_t         limit = vx_log_page_limit(f.log.length);
        uint32_t       random = sectors;

        for (unsigned i = 1; i < 60; i++) {
            struct vx_log_scan found;
            uint32_t           position = f.log.head;

            random = random * 1103515245u + 12345u;
            if ((random >> 16 & 1) != 0)
                vx_log_note_flush(&f.log);
            append(&f, 1 + (random >> 17) % limit, (uint8_t)i);
            found = scan(&f); /* written, whole, not acknowledged: a reader may take it, or the one before */
            assert_int_equal(found.places[found.head_index].position, position);
            vx_log_scan_free(&found);
            vx_log_commit_entry(&f.log);
            expect_page(&f, 0, (uint8_t)i);
        }
        end(&f);
    }
}

/* L4: a torn entry leaves the one before it, and all that needs, whole. */
static void
a_torn_entry_hides_nothing(void **state)
{
    (void)state;
    for (uint32_t sectors = 7; sectors < 14; sectors++) {
        struct fixture f = make(sectors * 4096);
        size_t         limit = vx_log_page_limit(f.log.length);

        for (unsigned i = 1; i < 30; i++) {
            uint64_t second_sector = AT + (f.log.head + VX_LOG_SECTOR) % f.log.length;

            append(&f, limit, (uint8_t)(i + 100)); /* the power goes in the middle of it */
            assert_int_equal(vx_storage_write(f.storage, "torn", 4, second_sector + 99, NULL), VHDX_OK);
            if (i > 1)
                expect_page(&f, 0, (uint8_t)(i - 1));
            append(&f, limit, (uint8_t)i); /* the same again, whole */
            vx_log_commit_entry(&f.log);
            expect_page(&f, 0, (uint8_t)i);
        }
        end(&f);
    }
}

struct tally {
    struct fixture *f;
    unsigned        valid, broken, of_this_log;
    uint64_t        broken_seen; /* bytes of the last broken one that held together */
};

static int
count_entry(void *context, const struct vx_log_found *found, struct vhdx_error *err)
{
    struct tally *tally = context;

    (void)err;
    tally->valid += found->is_valid;
    tally->broken += !found->is_valid;
    tally->of_this_log += vhdx_guid_equal(&found->check->header.log_guid, &tally->f->log.guid);
    if (!found->is_valid)
        tally->broken_seen = found->length_seen;
    return VHDX_OK;
}

/* Entries of a session before lie in the ring until they are written over; a walk without a GUID finds them, broken ones too. */
static void
walks_what_is_left_of_others(void **state)
{
    struct fixture     f = make(VX_MIB);
    struct tally       any = { .f = &f }, own = { .f = &f };
    struct vx_log_ring ring = { .file_offset = AT, .length = VX_MIB };

    (void)state;
    append(&f, 2, 1);
    vx_log_commit_entry(&f.log);
    append(&f, 3, 2);
    assert_int_equal(vx_storage_write(f.storage, "torn", 4, AT + 6 * VX_LOG_SECTOR + 99, NULL), VHDX_OK);
    vx_log_destroy(&f.log);
    f.log = (struct vx_log){ .is_started = false };
    assert_int_equal(vx_log_start(&f.log, f.storage, AT, VX_MIB, &f.lengths, NULL), VHDX_OK);

    assert_int_equal(vx_log_each_entry(f.storage, &ring, count_entry, &any, NULL), VHDX_OK);
    assert_int_equal(any.valid, 2); /* the new session's empty one, and that of two pages */
    assert_int_equal(any.broken, 1);
    assert_int_equal(any.broken_seen, 3 * VX_LOG_SECTOR); /* with its last sector the checksum tells */
    assert_int_equal(any.of_this_log, 1);
    ring.log_guid = &f.log.guid;
    assert_int_equal(vx_log_each_entry(f.storage, &ring, count_entry, &own, NULL), VHDX_OK);
    assert_int_equal(own.valid, 1);
    assert_int_equal(own.broken, 2);
    end(&f);
}

static void
numbers_end(void **state)
{
    struct fixture     f = make(VX_MIB);
    uint8_t            bytes[VX_PAGE] = { 0 };
    struct vx_log_page page = { .file_offset = TARGET, .bytes = bytes };

    (void)state;
    f.log.next_sequence_number = UINT64_MAX; /* L12 */
    assert_int_equal(vx_log_append(&f.log, &page, 1, &f.lengths, NULL), VHDX_E_LIMIT);
    end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(limits_pages),
        cmocka_unit_test(starts_with_an_empty_entry),
        cmocka_unit_test(the_tail_follows_flushes),
        cmocka_unit_test(goes_around),
        cmocka_unit_test(a_torn_entry_hides_nothing),
        cmocka_unit_test(walks_what_is_left_of_others),
        cmocka_unit_test(numbers_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
