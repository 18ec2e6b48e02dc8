/*
 * The active sequence: the twenty cases of appendix B and the log of 6.4, built with the encoder into a log in
 * memory and scanned as a reader does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/bytes.h"
#include "format/log_entry.h"
#include "format/log_sequence.h"
#include "format/seen_for_tests.h"

#define M          VX_MIB
#define SECTOR     VX_LOG_SECTOR
#define SECTORS    256u
#define LOG_LENGTH (SECTORS * SECTOR)
#define LOG_OFFSET VX_MIB
#define FILE_SIZE  (64 * VX_MIB)
#define NO_ACTIVE  UINT32_MAX

static const struct vhdx_guid guid = { { 1, 2, 3, 4 } }, other_guid = { { 9, 9, 9, 9 } };

static uint8_t log_bytes[LOG_LENGTH];
static uint8_t entry_bytes[LOG_LENGTH];
static struct vx_log_place places[SECTORS];
static size_t place_count;

/* How an entry is made.  Positions in sectors. */
struct recipe {
    uint32_t                position, tail;
    uint64_t                sequence;
    uint32_t                data_count, zero_count;
    uint64_t                flushed, last; /* 0: FILE_SIZE */
    uint64_t                target;        /* of its first descriptor; 0: 32 MiB */
    uint64_t                zero_length;   /* of its zero descriptors; 0: one page */
    const struct vhdx_guid *log_guid;      /* NULL: guid */
};

static void
start_log(void)
{
    memset(log_bytes, 0, sizeof log_bytes);
}

/* Lay the entry's sectors into the ring. */
static void
copy_to_ring(uint32_t position, uint32_t length)
{
    uint32_t i;

    for (i = 0; i < length / SECTOR; i++)
        memcpy(log_bytes + (position + i) % SECTORS * SECTOR, entry_bytes + i * SECTOR, SECTOR);
}

/* Returns the position after the entry, in sectors. */
static uint32_t
put_entry(const struct recipe *r)
{
    uint32_t count = r->data_count + r->zero_count, i;
    uint64_t target = r->target != 0 ? r->target : 32 * M;
    uint8_t page[VX_PAGE];
    struct vx_log_entry_header header = {
        .tail                = r->tail * SECTOR,
        .sequence_number     = r->sequence,
        .descriptor_count    = count,
        .log_guid            = r->log_guid != NULL ? *r->log_guid : guid,
        .flushed_file_offset = r->flushed != 0 ? r->flushed : FILE_SIZE,
        .last_file_offset    = r->last != 0 ? r->last : FILE_SIZE,
    };

    header.entry_length = (uint32_t)vx_log_descriptor_area_size(count) + SECTOR * r->data_count;
    memset(entry_bytes, 0, header.entry_length);
    vx_log_entry_header_encode(entry_bytes, &header);
    for (i = 0; i < count; i++) {
        struct vx_log_descriptor zero = {
            .is_zero         = true,
            .file_offset     = target + (uint64_t)SECTOR * i,
            .zero_length     = r->zero_length != 0 ? r->zero_length : SECTOR,
            .sequence_number = r->sequence,
        };

        memset(page, (int)(r->sequence + i), sizeof page);
        if (i < r->data_count)
            vx_log_page_encode(entry_bytes, count, i, i, page, target + (uint64_t)SECTOR * i, r->sequence);
        else
            vx_log_descriptor_encode(entry_bytes, i, &zero);
    }
    vx_log_entry_seal(entry_bytes, header.entry_length);
    copy_to_ring(r->position, header.entry_length);
    return (r->position + header.entry_length / SECTOR) % SECTORS;
}

/* Is there a valid entry at this sector? */
static bool
check_at(struct vx_log_entry_check *check, uint32_t position)
{
    enum vx_log_verdict verdict;
    uint32_t i;

    verdict = vx_log_entry_check_begin(check, log_bytes + position * SECTOR, &guid, LOG_OFFSET, LOG_LENGTH);
    for (i = 1; verdict == VX_LOG_MORE; i++)
        verdict = vx_log_entry_check_feed(check, log_bytes + (position + i) % SECTORS * SECTOR);
    return verdict == VX_LOG_VALID;
}

static void
scan(void)
{
    struct vx_log_entry_check check;
    uint32_t position;

    place_count = 0;
    for (position = 0; position < SECTORS; position++) {
        if (!check_at(&check, position))
            continue;
        places[place_count++] = (struct vx_log_place){
            .position            = position * SECTOR,
            .entry_length        = check.header.entry_length,
            .tail                = check.header.tail,
            .descriptor_count    = check.header.descriptor_count,
            .sequence_number     = check.header.sequence_number,
            .flushed_file_offset = check.header.flushed_file_offset,
            .last_file_offset    = check.header.last_file_offset,
            .highest_target_end  = check.highest_target_end,
            .has_stray_bits      = check.has_stray_bits,
        };
    }
}

/* Scan, and compare the positions of tail and head in sectors; NO_ACTIVE: there must be none. */
static void
expect_active(const char *words, uint32_t tail, uint32_t head)
{
    uint32_t tail_index = 0, head_index = 0;

    scan();
    if (!vx_log_find_active(places, place_count, LOG_LENGTH, &tail_index, &head_index)) {
        if (head != NO_ACTIVE)
            fail_msg("%s: none found among %zu entries", words, place_count);
        return;
    }
    if (head == NO_ACTIVE || places[tail_index].position != tail * SECTOR ||
        places[head_index].position != head * SECTOR)
        fail_msg("%s: found tail %u, head %u", words, places[tail_index].position / SECTOR,
                 places[head_index].position / SECTOR);
}

static void
judge(struct seen *seen, uint64_t file_length)
{
    uint32_t tail_index, head_index;

    scan();
    assert_true(vx_log_find_active(places, place_count, LOG_LENGTH, &tail_index, &head_index));
    vx_log_sequence_judge(places, tail_index, head_index, LOG_OFFSET, LOG_LENGTH, file_length, seen_start(seen));
}

static void
case_1_zero_filled(void **state)
{
    (void)state;
    start_log();
    expect_active("zero-filled", 0, NO_ACTIVE);
    assert_int_equal(place_count, 0);
}

static void
case_2_one_empty_entry(void **state)
{
    const struct recipe empty = { .sequence = 77 };
    struct seen seen;

    (void)state;
    start_log();
    put_entry(&empty);
    expect_active("one empty entry", 0, 0);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "one empty entry", 0, VHDX_SEVERITY_NONE, 0);
}

static void
case_3_tail_is_the_third(void **state)
{
    uint32_t i, position = 0;

    (void)state;
    start_log();
    for (i = 0; i < 5; i++) {
        struct recipe r = { .position = position, .tail = i < 4 ? 0 : 4, .sequence = 100 + i, .data_count = 1 };

        position = put_entry(&r);
    }
    expect_active("five entries", 4, 8);
}

/* 6.4: the log of a real file, in positions 0x0, 0x1000, 0x3000, 0x5000, 0x7000. */
static void
real_log(void **state)
{
    static const struct recipe recipes[] = {
        { .position = 0, .tail = 0, .sequence = 50 },
        { .position = 1, .tail = 1, .sequence = 51, .data_count = 1 },
        { .position = 3, .tail = 1, .sequence = 52, .data_count = 1 },
        { .position = 5, .tail = 1, .sequence = 53, .data_count = 1 },
        { .position = 7, .tail = 5, .sequence = 54, .data_count = 1 },
    };
    size_t i;

    (void)state;
    start_log();
    for (i = 0; i < 5; i++)
        put_entry(&recipes[i]);
    expect_active("Hyper-V's log", 5, 7);
    assert_int_equal(place_count, 5);
}

static void
case_4_wrap_inside_an_entry(void **state)
{
    const struct recipe before = { .position = 250, .tail = 250, .sequence = 10, .data_count = 2 };
    const struct recipe wrapped = { .position = 253, .tail = 250, .sequence = 11, .data_count = 7 };
    const struct recipe after = { .position = 5, .tail = 253, .sequence = 12, .zero_count = 1 };

    (void)state;
    start_log();
    put_entry(&before);
    assert_int_equal(put_entry(&wrapped), 5);
    expect_active("wraps in its data sectors", 250, 253);
    put_entry(&after);
    expect_active("and goes on after the wrap", 253, 5);
}

static void
wrap_in_descriptors(void **state)
{
    const struct recipe wrapped = { .position = 255, .tail = 255, .sequence = 11, .zero_count = 300 };

    (void)state;
    start_log();
    assert_int_equal(put_entry(&wrapped), 2);
    expect_active("wraps in its descriptor sectors", 255, 255);
}

static void
case_5_fills_the_log(void **state)
{
    const struct recipe whole = { .position = 3, .tail = 3, .sequence = 10, .data_count = 254 };
    struct seen seen;
    uint32_t i, position = 7;

    (void)state;
    start_log();
    assert_int_equal(put_entry(&whole), 3);
    expect_active("one entry fills the log", 3, 3);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "one entry fills the log", 0, VHDX_SEVERITY_NONE, 0);

    start_log();
    for (i = 0; i < 128; i++) {
        struct recipe r = { .position = position, .tail = 7, .sequence = 1 + i, .data_count = 1 };

        position = put_entry(&r);
    }
    assert_int_equal(position, 7);
    expect_active("128 entries fill the log", 7, 5);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "128 entries fill the log", 0, VHDX_SEVERITY_NONE, 0);
}

static void
put_three(void)
{
    static const struct recipe recipes[] = {
        { .position = 0, .tail = 0, .sequence = 20, .data_count = 1 },
        { .position = 2, .tail = 0, .sequence = 21, .data_count = 3 },
        { .position = 6, .tail = 2, .sequence = 22, .data_count = 2 },
    };
    size_t i;

    start_log();
    for (i = 0; i < 3; i++)
        put_entry(&recipes[i]);
}

static void
case_6_newest_torn(void **state)
{
    (void)state;
    put_three();
    expect_active("whole", 2, 6);
    log_bytes[8 * SECTOR + 100] ^= 1; /* its last data sector */
    expect_active("newest torn", 0, 2);
}

static void
case_7_older_torn(void **state)
{
    (void)state;
    put_three();
    log_bytes[3 * SECTOR + 100] ^= 1; /* the second; the third's tail is gone with it */
    expect_active("older torn", 0, 0);

    put_three();
    log_bytes[100] ^= 1; /* the first, which the newest does not need */
    expect_active("applied one torn", 2, 6);
}

static void
case_8_two_sequences(void **state)
{
    uint32_t i, position = 0;

    (void)state;
    start_log();
    for (i = 0; i < 10; i++) {
        struct recipe r = { .position = position, .tail = 0, .sequence = 100 + i, .data_count = 1 };

        position = put_entry(&r);
    }
    for (position = 100, i = 0; i < 2; i++) {
        struct recipe r = { .position = position, .tail = 100, .sequence = 500 + i, .data_count = 1 };

        position = put_entry(&r);
    }
    expect_active("the newer one, though shorter", 100, 102);
    log_bytes[102 * SECTOR + 24] ^= 1;
    expect_active("its newest entry torn", 100, 100);
    log_bytes[100 * SECTOR + 24] ^= 1;
    expect_active("all of it torn", 0, 18);
}

static void
case_9_tail_outside(void **state)
{
    const struct recipe stray = { .position = 4, .tail = 200, .sequence = 30, .data_count = 1 };
    const struct recipe inside = { .position = 4, .tail = 5, .sequence = 30, .data_count = 1 };

    (void)state;
    start_log();
    put_entry(&stray);
    expect_active("tail where nothing is", 0, NO_ACTIVE);
    put_entry(&inside);
    expect_active("tail inside the entry itself", 0, NO_ACTIVE);
    put_three();
    log_bytes[6 * SECTOR + 13] = 0x10; /* head's tail: sector 1, a data sector */
    expect_active("(its checksum is wrong)", 0, 2);
}

static void
case_10_stale_neighbours(void **state)
{
    const struct recipe stale_before = { .position = 0, .tail = 0, .sequence = 9, .data_count = 1,
                                         .log_guid = &other_guid };
    const struct recipe good = { .position = 2, .tail = 2, .sequence = 10, .data_count = 1 };
    const struct recipe stale_after = { .position = 4, .tail = 0, .sequence = 11, .data_count = 1,
                                        .log_guid = &other_guid };

    (void)state;
    start_log();
    put_entry(&stale_before);
    put_entry(&good);
    put_entry(&stale_after);
    expect_active("between entries of an earlier session", 2, 2);
}

static void
cases_11_and_12_forbidden_targets(void **state)
{
    const struct recipe good = { .position = 0, .tail = 0, .sequence = 10, .data_count = 1 };
    const struct recipe header = { .position = 2, .tail = 0, .sequence = 11, .data_count = 1, .target = 0x10000 };
    const struct recipe itself = { .position = 2, .tail = 0, .sequence = 11, .data_count = 1,
                                   .target = LOG_OFFSET + LOG_LENGTH - 4096 };

    (void)state;
    start_log();
    put_entry(&good);
    put_entry(&header);
    expect_active("into the header section", 0, 0);
    put_entry(&itself);
    expect_active("into the log", 0, 0);
}

static void
case_13_flushed_offset(void **state)
{
    const struct recipe older = { .position = 0, .tail = 0, .sequence = 10, .flushed = FILE_SIZE + M,
                                  .last = FILE_SIZE + M };
    const struct recipe head = { .position = 1, .tail = 0, .sequence = 11 };
    struct seen seen;

    (void)state;
    start_log();
    put_entry(&older);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "the head wants more than there is", 31, VHDX_SEVERITY_REFUSE, VHDX_E_TRUNCATED);
    expect_at(&seen, "FlushedFileOffset", LOG_OFFSET + 48);
    put_entry(&head);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "only an older entry did", 0, VHDX_SEVERITY_NONE, 0);
}

/* 14: the file is to grow to LastFileOffset, and descriptors may reach up to there. */
static void
cases_14_and_15_past_the_end(void **state)
{
    struct recipe r = { .sequence = 10, .data_count = 1, .last = FILE_SIZE + 4 * M,
                        .target = FILE_SIZE + 4 * M - 4096 };
    struct seen seen;

    (void)state;
    start_log();
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "up to LastFileOffset", 0, VHDX_SEVERITY_NONE, 0);

    r.target = FILE_SIZE + 4 * M;
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "a page beyond it", 43, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOG);

    r.last = 4 * M;
    r.target = FILE_SIZE + M - 4096;
    put_entry(&r);
    judge(&seen, FILE_SIZE + 512);
    expect_only(&seen, "in the file's last, begun MiB", 0, VHDX_SEVERITY_NONE, 0);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "a file that ends before", 43, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOG);

    r.last = UINT64_C(1) << 62;
    r.target = FILE_SIZE - M;
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "LastFileOffset 2^62", 45, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOG);
    expect_at(&seen, "LastFileOffset", LOG_OFFSET + 56);
    r.last = VX_MAX_FILE_SIZE;
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "LastFileOffset 256 TiB", 0, VHDX_SEVERITY_NONE, 0);
}

/* A zero descriptor's ZeroLength, or a field of the header, is overwritten and the entry sealed again. */
static void
put_broken_entry(uint32_t zero_count, size_t at, unsigned width, uint64_t value)
{
    const struct recipe r = { .sequence = 10, .zero_count = zero_count };
    unsigned i;

    start_log();
    put_entry(&r);
    for (i = 0; i < width; i++)
        entry_bytes[at + i] = (uint8_t)(value >> (8 * i));
    vx_log_entry_seal(entry_bytes, SECTOR);
    copy_to_ring(0, SECTOR);
}

static void
cases_16_to_19_hostile_numbers(void **state)
{
    struct seen seen;

    (void)state;
    put_broken_entry(1, 72, 8, 0);
    expect_active("ZeroLength 0", 0, 0);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "ZeroLength 0", 0, VHDX_SEVERITY_NONE, 0);
    put_broken_entry(1, 72, 8, UINT64_MAX - 4095);
    expect_active("ZeroLength near 2^64", 0, NO_ACTIVE);
    put_broken_entry(1, 72, 8, UINT64_C(1) << 63);
    expect_active("ZeroLength 2^63 does not wrap", 0, 0);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "but ends beyond all", 43, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOG);
    put_broken_entry(1, 24, 4, UINT32_MAX);
    expect_active("DescriptorCount 0xFFFFFFFF", 0, NO_ACTIVE);
    put_broken_entry(0, 8, 4, 0);
    expect_active("EntryLength 0", 0, NO_ACTIVE);
}

static void
case_20_many_descriptors(void **state)
{
    const struct recipe first = { .position = 0, .tail = 0, .sequence = 1, .data_count = 127 };
    const struct recipe second = { .position = 129, .tail = 0, .sequence = 2, .zero_count = 255 };

    (void)state;
    start_log();
    assert_int_equal(put_entry(&first), 129);
    assert_int_equal(put_entry(&second), 132);
    expect_active("127 and 255 descriptors", 0, 129);
}

static void
numbers_do_not_wrap(void **state)
{
    const struct recipe last = { .position = 0, .tail = 0, .sequence = UINT64_MAX, .data_count = 1 };
    const struct recipe first = { .position = 2, .tail = 2, .sequence = 1, .data_count = 1 };

    (void)state;
    start_log();
    put_entry(&last);
    put_entry(&first);
    expect_active("2^64 - 1 is the largest and has no successor", 0, 0);
}

/* V44, V46: told, not refused.  Only entries that will be replayed are judged. */
static void
warnings(void **state)
{
    struct recipe r = { .position = 0, .tail = 0, .sequence = 10, .last = FILE_SIZE + 512 };
    const struct recipe next = { .position = 1, .tail = 1, .sequence = 11 };
    const struct recipe late = { .position = 9, .tail = 9, .sequence = 12, .flushed = 512 };
    struct seen seen;

    (void)state;
    start_log();
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "LastFileOffset 512 bytes astray", 44, VHDX_SEVERITY_WARN, VHDX_E_BAD_LOG);
    r.last = 0;
    r.flushed = 512;
    put_entry(&r);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "FlushedFileOffset 512", 44, VHDX_SEVERITY_WARN, VHDX_E_BAD_LOG);
    put_entry(&next);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "in an entry before the tail", 0, VHDX_SEVERITY_NONE, 0);
    put_entry(&late);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "further on in the log", 44, VHDX_SEVERITY_WARN, VHDX_E_BAD_LOG);
    expect_at(&seen, "further on in the log", LOG_OFFSET + 9 * SECTOR + 48);
    put_broken_entry(0, 28, 4, 1);
    judge(&seen, FILE_SIZE);
    expect_only(&seen, "Reserved", 46, VHDX_SEVERITY_WARN, VHDX_E_BAD_LOG);
}

/* V47 cannot come from a scan (valid entries never overlap), so from hand-made places. */
static void
longer_than_the_log(void **state)
{
    struct vx_log_place made[2] = {
        { .position = 0, .entry_length = 3 * SECTOR, .sequence_number = 1, .next = 1 },
        { .position = 3 * SECTOR, .entry_length = 2 * SECTOR, .sequence_number = 2, .next = UINT32_MAX },
    };
    struct seen seen;

    (void)state;
    vx_log_sequence_judge(made, 0, 1, LOG_OFFSET, 4 * SECTOR, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "five sectors in four", 47, VHDX_SEVERITY_REFUSE, VHDX_E_BAD_LOG);
    vx_log_sequence_judge(made, 0, 1, LOG_OFFSET, 5 * SECTOR, FILE_SIZE, seen_start(&seen));
    expect_only(&seen, "five in five", 0, VHDX_SEVERITY_NONE, 0);
}

static void
nothing_to_find(void **state)
{
    struct vx_log_place place = { .entry_length = SECTOR, .sequence_number = 1 };
    uint32_t tail, head;

    (void)state;
    assert_false(vx_log_find_active(&place, 0, LOG_LENGTH, &tail, &head));
    assert_false(vx_log_find_active(&place, 1, 0, &tail, &head));
    assert_true(vx_log_find_active(&place, 1, LOG_LENGTH, &tail, &head));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(case_1_zero_filled),
        cmocka_unit_test(case_2_one_empty_entry),
        cmocka_unit_test(case_3_tail_is_the_third),
        cmocka_unit_test(real_log),
        cmocka_unit_test(case_4_wrap_inside_an_entry),
        cmocka_unit_test(wrap_in_descriptors),
        cmocka_unit_test(case_5_fills_the_log),
        cmocka_unit_test(case_6_newest_torn),
        cmocka_unit_test(case_7_older_torn),
        cmocka_unit_test(case_8_two_sequences),
        cmocka_unit_test(case_9_tail_outside),
        cmocka_unit_test(case_10_stale_neighbours),
        cmocka_unit_test(cases_11_and_12_forbidden_targets),
        cmocka_unit_test(case_13_flushed_offset),
        cmocka_unit_test(cases_14_and_15_past_the_end),
        cmocka_unit_test(cases_16_to_19_hostile_numbers),
        cmocka_unit_test(case_20_many_descriptors),
        cmocka_unit_test(numbers_do_not_wrap),
        cmocka_unit_test(warnings),
        cmocka_unit_test(longer_than_the_log),
        cmocka_unit_test(nothing_to_find),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
