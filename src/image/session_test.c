/*
 * Sessions: what the headers say from the first modification to the close, in which order it reaches the storage,
 * and the files that a session mends on its way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <vhdx/ops.h>

#include "base/bytes.h"
#include "format/header.h"
#include "image/image.h"
#include "storage/storage.h"
#include "storage/trace.h"

#define SIZE   (UINT64_C(32) * VX_MIB)
#define COPY_0 VX_HEADER_OFFSET(0)
#define COPY_1 VX_HEADER_OFFSET(1)

struct fixture {
    struct vhdx_storage *storage; /* a trace over memory */
    struct vx_image     *image;
};

static const uint8_t page[4096] = { 0xAB, 1, 2, 3 };

static struct fixture
make(void)
{
    const struct vhdx_create_options options = { .virtual_size = SIZE, .block_size = VX_MIN_BLOCK_SIZE };
    struct vhdx_storage             *memory;
    struct fixture                   f = { .image = NULL };

    assert_int_equal(vhdx_storage_new_memory(&memory, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_create_on_storage(memory, &options, NULL, NULL), VHDX_OK);
    assert_int_equal(vx_trace_new(&f.storage, memory, NULL), VHDX_OK);
    return f;
}

static int
open_image(struct fixture *f, bool is_writable)
{
    const struct vx_image_options options = { .is_writable = is_writable };

    vx_trace_reset(f->storage);
    return vx_image_open(&f->image, f->storage, &options, NULL);
}

static void
must_open(struct fixture *f, bool is_writable)
{
    assert_int_equal(open_image(f, is_writable), VHDX_OK);
}

static void
close_image(struct fixture *f)
{
    assert_int_equal(vx_image_close(f->image, NULL), VHDX_OK);
    f->image = NULL;
}

static void
write_page(struct fixture *f, uint64_t guest_offset)
{
    assert_int_equal(vx_image_write(f->image, page, sizeof page, guest_offset, NULL), VHDX_OK);
}

static void
flush(struct fixture *f)
{
    assert_int_equal(vx_image_flush(f->image, NULL), VHDX_OK);
}

static void
expect_page(struct fixture *f, uint64_t guest_offset)
{
    struct vx_layer_extent extent;
    uint8_t                bytes[4096];

    assert_int_equal(vx_image_resolve(f->image, guest_offset, sizeof bytes, &extent, NULL), VHDX_OK);
    assert_int_equal(extent.source, VX_LAYER_DATA);
    assert_int_equal(vx_image_read_payload(f->image, bytes, sizeof bytes, extent.file_offset, NULL), VHDX_OK);
    assert_memory_equal(bytes, page, sizeof page);
}

static struct vx_header
read_header(struct fixture *f, int copy)
{
    struct vx_header header;
    uint8_t          bytes[VX_HEADER_SIZE];

    assert_int_equal(vx_storage_read(f->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(copy), NULL), VHDX_OK);
    assert_int_equal(vx_header_decode(&header, bytes, VX_HEADER_OFFSET(copy), NULL), VHDX_OK);
    return header;
}

static void
put_header(struct fixture *f, int copy, const struct vx_header *header)
{
    uint8_t bytes[VX_HEADER_SIZE];

    vx_header_encode(bytes, header);
    assert_int_equal(vx_storage_write(f->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(copy), NULL), VHDX_OK);
}

/* Both copies valid, one number apart, and otherwise equal: then the newer one. */
static struct vx_header
read_both(struct fixture *f)
{
    struct vx_header a = read_header(f, 0), b = read_header(f, 1), newer;

    newer = a.sequence_number > b.sequence_number ? a : b;
    assert_true(a.sequence_number + 1 == b.sequence_number || b.sequence_number + 1 == a.sequence_number);
    a.sequence_number = b.sequence_number;
    assert_memory_equal(&a, &b, sizeof a);
    return newer;
}

static bool
is_clean(struct fixture *f)
{
    struct vhdx_check_summary summary;

    assert_int_equal(vhdx_check_storage(f->storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    for (int severity = VHDX_SEVERITY_REPAIR; severity <= VHDX_SEVERITY_REFUSE; severity++)
        if (summary.finding_count[severity] > 0)
            return false;
    return summary.is_complete && !summary.is_dirty;
}

static void
finish(struct fixture *f)
{
    assert_true(is_clean(f));
    vhdx_storage_close(f->storage);
}

/* --- what reaches the storage, in which order --- */

/* What the file offset of a write is about. */
enum place { HEADER_0, HEADER_1, LOG, BAT, PAYLOAD, FLUSH };

static size_t
changes_since(struct fixture *f, enum place *places, size_t capacity)
{
    static struct vx_trace_event events[4096];
    struct vhdx_info             info;
    size_t                       n = vx_trace_events(f->storage, events, 4096), count = 0;

    vx_image_fill_info(f->image, &info);
    for (size_t i = 0; i < n; i++) {
        uint64_t at = events[i].file_offset;

        if (events[i].kind != VX_TRACE_WRITE && events[i].kind != VX_TRACE_FLUSH)
            continue;
        assert_true(count < capacity);
        if (events[i].kind == VX_TRACE_FLUSH)
            places[count++] = FLUSH;
        else if (at < info.log_offset)
            places[count++] = at == COPY_0 ? HEADER_0 : HEADER_1;
        else if (at < info.log_offset + info.log_length)
            places[count++] = LOG;
        else
            places[count++] = at < info.bat_offset + info.bat_length ? BAT : PAYLOAD;
    }
    vx_trace_reset(f->storage);
    return count;
}

static void
expect_changes(struct fixture *f, const enum place *expected, size_t expected_count)
{
    enum place places[32];

    assert_int_equal(changes_since(f, places, 32), expected_count);
    for (size_t i = 0; i < expected_count; i++)
        assert_int_equal(places[i], expected[i]);
}
#define EXPECT_CHANGES(f, ...) \
    do { \
        const enum place expected_[] = { __VA_ARGS__ }; \
        expect_changes(f, expected_, sizeof expected_ / sizeof expected_[0]); \
    } while (0)

static void
keeps_the_order(void **state)
{
    struct fixture f = make();

    (void)state;
    must_open(&f, true);
    vx_trace_reset(f.storage);
    write_page(&f, 0);
    /* H6: the current copy, in a new image the second, as it was read.  H2, H3, once more H4.  Then the guest. */
    EXPECT_CHANGES(&f, HEADER_1, FLUSH, HEADER_0, FLUSH, HEADER_1, FLUSH, PAYLOAD);
    flush(&f); /* 5.4 step 5: the empty entry, then who asks for it; then the commit, and its page in place */
    EXPECT_CHANGES(&f, LOG, FLUSH, HEADER_0, FLUSH, HEADER_1, FLUSH, LOG, FLUSH, BAT);
    write_page(&f, VX_MIB);
    flush(&f);
    EXPECT_CHANGES(&f, PAYLOAD, LOG, FLUSH, BAT);
    write_page(&f, VX_MIB); /* in place */
    flush(&f);
    EXPECT_CHANGES(&f, PAYLOAD, FLUSH);
    close_image(&f);
    finish(&f);
}

static void
untouched_when_nothing_is_written(void **state)
{
    struct fixture f = make();

    (void)state;
    must_open(&f, true);
    flush(&f);
    assert_int_equal(vx_image_trim(f.image, 0, SIZE, NULL), VHDX_OK); /* of what is not there */
    close_image(&f);
    assert_int_equal(vx_trace_count(f.storage, VX_TRACE_WRITE), 0);
    assert_int_equal(vx_trace_count(f.storage, VX_TRACE_FLUSH), 0);
    assert_int_equal(vx_trace_count(f.storage, VX_TRACE_SET_SIZE), 0);
    finish(&f);
}

/* --- what the headers say --- */

static void
closes_with_both_headers(void **state)
{
    struct fixture   f = make();
    struct vx_header first = read_both(&f), header;
    uint64_t         empty_length, length;

    (void)state;
    assert_int_equal(vx_storage_get_size(f.storage, &empty_length, NULL), VHDX_OK);
    must_open(&f, true);
    write_page(&f, 3 * VX_MIB);
    header = read_both(&f);
    assert_true(header.sequence_number == first.sequence_number + 2);
    assert_false(vhdx_guid_equal(&header.file_write_guid, &first.file_write_guid));
    assert_false(vhdx_guid_equal(&header.data_write_guid, &first.data_write_guid));
    assert_true(vhdx_guid_is_zero(&header.log_guid));
    flush(&f);
    header = read_both(&f);
    assert_true(header.sequence_number == first.sequence_number + 4);
    assert_false(vhdx_guid_is_zero(&header.log_guid));
    close_image(&f);
    header = read_both(&f);
    assert_true(header.sequence_number == first.sequence_number + 6);
    assert_true(vhdx_guid_is_zero(&header.log_guid));
    assert_int_equal(vx_storage_get_size(f.storage, &length, NULL), VHDX_OK);
    assert_true(length == empty_length + VX_MIB); /* the tail is cut */
    finish(&f);
}

/* Also when all there is to log is logged by the close itself, and when there is nothing to log at all. */
static void
closes_without_a_flush_before(void **state)
{
    struct fixture   f = make();
    struct vx_header header;

    (void)state;
    must_open(&f, true);
    write_page(&f, 3 * VX_MIB);
    close_image(&f);
    header = read_both(&f);
    assert_true(vhdx_guid_is_zero(&header.log_guid));

    must_open(&f, true);
    write_page(&f, 3 * VX_MIB); /* an overwrite */
    close_image(&f);
    assert_true(read_both(&f).sequence_number == header.sequence_number + 2);
    must_open(&f, false);
    expect_page(&f, 3 * VX_MIB);
    close_image(&f);
    finish(&f);
}

static void
changes_data_write_guid_once(void **state)
{
    struct fixture   f = make();
    struct vhdx_guid first, session;

    (void)state;
    first = read_both(&f).data_write_guid;
    must_open(&f, true);
    write_page(&f, 0);
    session = vx_image_data_write_guid(f.image);
    assert_false(vhdx_guid_equal(&first, &session));
    write_page(&f, 5 * VX_MIB);
    flush(&f);
    assert_int_equal(vx_image_trim(f.image, 0, VX_MIB, NULL), VHDX_OK);
    flush(&f);
    first = vx_image_data_write_guid(f.image);
    assert_true(vhdx_guid_equal(&first, &session));
    close_image(&f);
    first = read_both(&f).data_write_guid;
    assert_true(vhdx_guid_equal(&first, &session));

    must_open(&f, true); /* the next session has its own */
    write_page(&f, 0);
    first = vx_image_data_write_guid(f.image);
    assert_false(vhdx_guid_equal(&first, &session));
    close_image(&f);
    finish(&f);
}

static void
replay_keeps_data_write_guid(void **state)
{
    struct fixture   f = make();
    struct vx_header killed, replayed;

    (void)state;
    must_open(&f, true);
    write_page(&f, 7 * VX_MIB);
    flush(&f);
    vx_image_abandon(f.image);
    killed = read_both(&f);
    assert_false(vhdx_guid_is_zero(&killed.log_guid));

    must_open(&f, false); /* readers see it all and change nothing */
    expect_page(&f, 7 * VX_MIB);
    close_image(&f);
    assert_int_equal(vx_trace_count(f.storage, VX_TRACE_WRITE), 0);

    must_open(&f, true);
    replayed = read_both(&f);
    assert_true(vhdx_guid_is_zero(&replayed.log_guid));
    assert_true(vhdx_guid_equal(&replayed.data_write_guid, &killed.data_write_guid));
    assert_false(vhdx_guid_equal(&replayed.file_write_guid, &killed.file_write_guid));
    expect_page(&f, 7 * VX_MIB);
    close_image(&f);
    replayed = read_both(&f);
    assert_true(vhdx_guid_equal(&replayed.data_write_guid, &killed.data_write_guid));

    must_open(&f, true);
    write_page(&f, 0);
    close_image(&f);
    replayed = read_both(&f);
    assert_false(vhdx_guid_equal(&replayed.data_write_guid, &killed.data_write_guid));
    finish(&f);
}

/* --- files that want mending --- */

static void
one_good_header_is_enough(void **state)
{
    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        struct fixture f = make();

        assert_int_equal(vx_storage_write(f.storage, "rubbish", 7, VX_HEADER_OFFSET(broken), NULL), VHDX_OK);
        must_open(&f, true);
        write_page(&f, 0);
        read_both(&f);
        close_image(&f);
        finish(&f);
    }
}

static void
equal_headers_become_two(void **state)
{
    struct fixture   f = make();
    struct vx_header header = read_header(&f, 1);

    (void)state;
    put_header(&f, 0, &header); /* as other makers leave them (V12) */
    must_open(&f, true);
    write_page(&f, 0);
    close_image(&f);
    read_both(&f);
    finish(&f);
}

static void
makes_a_log_where_there_is_none(void **state)
{
    (void)state;
    for (int is_killed = 0; is_killed < 2; is_killed++) {
        struct fixture   f = make();
        struct vx_header header;

        for (int copy = 0; copy < 2; copy++) {
            header = read_header(&f, copy);
            header.log_length = 0;
            header.log_offset = 0;
            put_header(&f, copy, &header);
        }
        must_open(&f, false); /* V28 is no reason not to read */
        close_image(&f);
        must_open(&f, true);
        write_page(&f, 2 * VX_MIB);
        flush(&f);
        header = read_both(&f);
        assert_true(header.log_length == VX_MIB && header.log_offset >= VX_MIB);
        assert_true(header.log_offset % VX_MIB == 0);
        if (is_killed) {
            vx_image_abandon(f.image);
            must_open(&f, true);
        }
        expect_page(&f, 2 * VX_MIB);
        close_image(&f);
        finish(&f);
    }
}

static void
mends_a_region_table(void **state)
{
    static uint8_t copy[2][VX_REGION_TABLE_SIZE];

    (void)state;
    for (int broken = 0; broken < 2; broken++) {
        struct fixture f = make();

        for (uint64_t at = 0; at < VX_REGION_TABLE_SIZE; at += 5000) /* on several pages */
            assert_int_equal(vx_storage_write(f.storage, "rubbish", 7, VX_REGION_TABLE_OFFSET(broken) + at, NULL),
                             VHDX_OK);
        must_open(&f, true);
        assert_int_equal(vx_findings_severity(vx_image_findings(f.image)), VHDX_SEVERITY_REPAIR);
        write_page(&f, 0);
        flush(&f);
        if (broken == 0)
            vx_image_abandon(f.image); /* the log carries it */
        else
            close_image(&f);
        must_open(&f, true);
        assert_int_equal(vx_image_findings(f.image)->count, 0);
        expect_page(&f, 0);
        close_image(&f);
        for (int i = 0; i < 2; i++)
            assert_int_equal(vx_storage_read(f.storage, copy[i], sizeof copy[i], VX_REGION_TABLE_OFFSET(i), NULL),
                             VHDX_OK);
        assert_memory_equal(copy[0], copy[1], sizeof copy[0]);
        finish(&f);
    }
}

static void
rounds_the_length(void **state)
{
    struct fixture f = make();
    uint64_t       length, odd;

    (void)state;
    assert_int_equal(vx_storage_get_size(f.storage, &length, NULL), VHDX_OK);
    odd = length + 777;
    assert_int_equal(vx_storage_write(f.storage, "x", 1, odd - 1, NULL), VHDX_OK);
    must_open(&f, true);
    write_page(&f, 0);
    expect_page(&f, 0);
    assert_int_equal(vx_storage_get_size(f.storage, &odd, NULL), VHDX_OK);
    assert_true(odd % VX_MIB == 0); /* V5 */
    flush(&f);
    close_image(&f);
    assert_int_equal(vx_storage_get_size(f.storage, &odd, NULL), VHDX_OK);
    assert_true(odd % VX_MIB == 0);
    finish(&f);
}

/* --- the end of the numbers --- */

struct number_case {
    const char *about;
    uint64_t    sequence_number;
    int         open_code, write_code;
};

static const struct number_case number_cases[] = {
    { "the last that may not be written on", UINT64_MAX, VHDX_E_NEEDS_REPAIR, 0 },
    { "V24 as it is written", UINT64_MAX - 2, VHDX_E_NEEDS_REPAIR, 0 },
    { "too few for a session", UINT64_MAX - 3, VHDX_OK, VHDX_E_LIMIT },
    { "one too few for a replay as well", UINT64_MAX - 9, VHDX_OK, VHDX_E_LIMIT },
    { "enough", UINT64_MAX - 10, VHDX_OK, VHDX_OK },
};

static void
numbers_end(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof number_cases / sizeof number_cases[0]; i++) {
        const struct number_case *c = &number_cases[i];
        struct fixture            f = make();
        struct vx_header          header = read_header(&f, 1);
        int                       rc;

        header.sequence_number = c->sequence_number;
        put_header(&f, 1, &header);
        header.sequence_number--;
        put_header(&f, 0, &header);
        rc = open_image(&f, true);
        if (rc != c->open_code)
            fail_msg("%s: open: %s", c->about, vhdx_code_name(rc));
        if (rc == VHDX_OK) {
            rc = vx_image_write(f.image, page, sizeof page, 0, NULL);
            if (rc != c->write_code)
                fail_msg("%s: write: %s", c->about, vhdx_code_name(rc));
            if (rc == VHDX_OK)
                flush(&f);
            else
                assert_int_equal(vx_trace_count(f.storage, VX_TRACE_WRITE), 0);
            close_image(&f);
            read_both(&f);
        }
        vhdx_storage_close(f.storage);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keeps_the_order),
        cmocka_unit_test(untouched_when_nothing_is_written),
        cmocka_unit_test(closes_with_both_headers),
        cmocka_unit_test(closes_without_a_flush_before),
        cmocka_unit_test(changes_data_write_guid_once),
        cmocka_unit_test(replay_keeps_data_write_guid),
        cmocka_unit_test(one_good_header_is_enough),
        cmocka_unit_test(equal_headers_become_two),
        cmocka_unit_test(makes_a_log_where_there_is_none),
        cmocka_unit_test(mends_a_region_table),
        cmocka_unit_test(rounds_the_length),
        cmocka_unit_test(numbers_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
