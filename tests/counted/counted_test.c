/*
 * Counted, not timed: how many calls of the storage each piece of work costs.
 *
 * Every test opens its image over a trace, does the work it is about, and compares the counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <string.h>

#include "image/image.h"
#include "images.h"
#include "storage/storage.h"
#include "storage/trace.h"
#include "wrapped.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)

static const uint8_t page[4096] = { 1, 2, 3 };

struct fixture {
    struct vhdx_storage *memory, *trace;
    struct vhdx_disk    *disk;
};

static void
open_traced(struct fixture *f, unsigned flags, const struct wrapped_options *traits)
{
    const struct vhdx_open_options options = { .flags = flags };
    struct vhdx_error              err = { .message = "" };

    must(vx_trace_new(&f->trace, wrapped_new(f->memory, traits), &err), "trace", &err);
    must(vhdx_disk_open_storage(&f->disk, f->trace, &options, &err), "open", &err);
}

static void
make(struct fixture *f, uint64_t virtual_size)
{
    const struct vhdx_create_options options = { .virtual_size = virtual_size, .block_size = 1 << 20 };

    f->memory = image_make(&options);
    open_traced(f, VHDX_OPEN_WRITE, NULL);
}

static void
end(struct fixture *f)
{
    assert_int_equal(vhdx_disk_close(f->disk, NULL), VHDX_OK);
    assert_true(image_is_clean(f->memory, IMAGE_GAPS_INSIDE, NULL));
    vhdx_storage_close(f->memory);
}

static void
write_page(struct fixture *f, uint64_t guest_offset)
{
    assert_int_equal(vhdx_disk_write(f->disk, page, sizeof page, guest_offset, NULL), VHDX_OK);
}

static void
flush(struct fixture *f)
{
    assert_int_equal(vhdx_disk_flush(f->disk, NULL), VHDX_OK);
}

static uint64_t
count(const struct fixture *f, enum vx_trace_kind kind)
{
    return vx_trace_count(f->trace, kind);
}

static uint64_t
count_all(const struct fixture *f)
{
    uint64_t total = 0;

    for (int kind = 0; kind < VX_TRACE_KIND_COUNT; kind++)
        total += count(f, (enum vx_trace_kind)kind);
    return total;
}

/* Writes below 192 KiB: of headers, as nothing else is written there. */
static uint64_t
count_header_writes(const struct fixture *f)
{
    static struct vx_trace_event events[4096];
    size_t                       n = vx_trace_events(f->trace, events, 4096);
    uint64_t                     headers = 0;

    for (size_t i = 0; i < n; i++)
        headers += events[i].kind == VX_TRACE_WRITE && events[i].file_offset < UINT64_C(0x30000);
    return headers;
}

/* --- reads and overwrites --- */

static void
a_read_is_one_read(void **state)
{
    struct fixture f;
    uint8_t        bytes[4096];

    (void)state;
    make(&f, 64 * MIB);
    write_page(&f, 5 * MIB + 4096);
    flush(&f);
    vx_trace_reset(f.trace);
    assert_int_equal(vhdx_disk_read(f.disk, bytes, sizeof bytes, 5 * MIB + 4096, NULL), VHDX_OK);
    assert_memory_equal(bytes, page, sizeof page);
    assert_int_equal(count(&f, VX_TRACE_READ), 1);
    assert_int_equal(count_all(&f), 1);
    assert_int_equal(vx_trace_bytes(f.trace, VX_TRACE_READ), 4096);

    vx_trace_reset(f.trace); /* and of a block that is not there none */
    assert_int_equal(vhdx_disk_read(f.disk, bytes, sizeof bytes, 9 * MIB, NULL), VHDX_OK);
    assert_int_equal(count_all(&f), 0);
    end(&f);
}

static void
a_read_over_blocks_side_by_side_is_one_read(void **state)
{
    static uint8_t bytes[3 * MIB];
    struct fixture f;

    (void)state;
    make(&f, 64 * MIB);
    for (uint64_t block = 2; block < 5; block++)
        write_page(&f, block * MIB);
    vx_trace_reset(f.trace);
    assert_int_equal(vhdx_disk_read(f.disk, bytes, sizeof bytes, 2 * MIB, NULL), VHDX_OK);
    assert_int_equal(count_all(&f), 1);
    end(&f);
}

static void
an_overwrite_is_one_write(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 64 * MIB);
    write_page(&f, 0);
    flush(&f);
    vx_trace_reset(f.trace);
    write_page(&f, 4096);
    assert_int_equal(count(&f, VX_TRACE_WRITE), 1);
    assert_int_equal(count_all(&f), 1);
    vx_trace_reset(f.trace);
    flush(&f); /* nothing of the map changed: one flush, no entry */
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 1);
    assert_int_equal(count_all(&f), 1);
    end(&f);
}

/* --- first writes to blocks --- */

static void
a_first_touch_never_flushes(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 600 * MIB);
    write_page(&f, 0); /* the session's first change */
    vx_trace_reset(f.trace);
    for (uint64_t block = 1; block < 600; block++)
        write_page(&f, block * MIB);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 0);
    assert_int_equal(count(&f, VX_TRACE_WRITE), 599);
    assert_int_equal(count_header_writes(&f), 0);
    assert_in_range(count(&f, VX_TRACE_SET_SIZE), 1, 599 / 16); /* the file grows in steps */
    end(&f);
}

/* The log runs: what a session costs once is paid. */
static void
pay_what_is_paid_once(struct fixture *f)
{
    write_page(f, 0);
    flush(f);
    vx_trace_reset(f->trace);
}

static void
first_touches_and_a_flush_are_one_flush(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 600 * MIB);
    pay_what_is_paid_once(&f);
    for (uint64_t block = 1; block < 600; block++)
        write_page(&f, block * MIB + 8192);
    flush(&f);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 1);
    assert_in_range(count(&f, VX_TRACE_WRITE), 599 + 2, 599 + 3); /* the entry, and two pages of the BAT in place */
    assert_int_equal(count_header_writes(&f), 0);
    vx_trace_reset(f.trace);
    flush(&f); /* nothing was written since */
    assert_int_equal(count_all(&f), 0);
    end(&f);
}

static void
used_space_costs_two(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 64 * MIB);
    for (uint64_t block = 0; block < 20; block++)
        write_page(&f, block * MIB);
    flush(&f);
    assert_int_equal(vhdx_disk_trim(f.disk, 0, 20 * MIB, NULL), VHDX_OK);
    vx_trace_reset(f.trace);
    flush(&f); /* a trim shows nothing new: one */
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 1);
    vx_trace_reset(f.trace);
    for (uint64_t block = 0; block < 20; block++)
        write_page(&f, block * MIB);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 0);
    flush(&f);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 2);
    assert_int_equal(count(&f, VX_TRACE_SET_SIZE), 0); /* the space of the first round */
    end(&f);
}

static void
unsure_storages_cost_two(void **state)
{
    const struct wrapped_options      unsure = { .extension_unsure = true };
    const struct vhdx_create_options options = { .virtual_size = 64 * MIB, .block_size = 1 << 20 };
    struct fixture                    f;

    (void)state;
    f.memory = image_make(&options);
    open_traced(&f, VHDX_OPEN_WRITE, &unsure);
    pay_what_is_paid_once(&f);
    for (uint64_t block = 1; block < 20; block++)
        write_page(&f, block * MIB);
    flush(&f);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 2);
    end(&f);
}

#define THREADS 8u

struct toucher {
    struct fixture *f;
    uint64_t        first_block;
    int             failure_count;
};

static void *
touch(void *context)
{
    struct toucher *toucher = context;

    for (uint64_t i = 0; i < 50; i++)
        toucher->failure_count += vhdx_disk_write(toucher->f->disk, page, sizeof page,
                                                  (toucher->first_block + i * THREADS) * MIB, NULL) < 0;
    return NULL;
}

static void
threads_change_nothing_about_it(void **state)
{
    struct fixture f;
    struct toucher touchers[THREADS];
    pthread_t      threads[THREADS];

    (void)state;
    make(&f, 500 * MIB);
    pay_what_is_paid_once(&f);
    for (size_t i = 0; i < THREADS; i++) {
        touchers[i] = (struct toucher){ .f = &f, .first_block = 1 + i };
        assert_int_equal(pthread_create(&threads[i], NULL, touch, &touchers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(touchers[i].failure_count, 0);
    }
    flush(&f);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 1);
    end(&f);
}

/* A third of a log of 1 MiB holds 84 pages of metadata: who edits more commits on the way (L14). */
static void
only_a_full_log_adds_commits(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 64 * TIB);
    pay_what_is_paid_once(&f);
    for (uint64_t i = 1; i <= 84; i++)
        write_page(&f, i * GIB); /* each with a page of the BAT for itself */
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 0);
    write_page(&f, 85 * GIB);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 1);
    end(&f);
}

/* --- what a session costs once --- */

static void
headers_are_written_at_the_ends(void **state)
{
    struct fixture f;

    (void)state;
    make(&f, 64 * MIB);
    assert_int_equal(count(&f, VX_TRACE_WRITE) + count(&f, VX_TRACE_FLUSH) + count(&f, VX_TRACE_SET_SIZE), 0);
    write_page(&f, 0);
    assert_int_equal(count_header_writes(&f), 3); /* as read (H6), and both copies */
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 3);
    vx_trace_reset(f.trace);
    flush(&f);
    assert_int_equal(count_header_writes(&f), 2); /* the log starts */
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 4); /* empty entry, two copies, entry */
    vx_trace_reset(f.trace);
    for (uint64_t block = 1; block < 60; block++) {
        write_page(&f, block * MIB);
        flush(&f);
    }
    assert_int_equal(count_header_writes(&f), 0);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 59);
    vx_trace_reset(f.trace);
    assert_int_equal(vhdx_disk_trim(f.disk, 0, 60 * MIB, NULL), VHDX_OK);
    flush(&f);
    assert_int_equal(count_header_writes(&f), 0);
    end(&f);
}

/* The close, seen from outside: a trace that outlives the disk. */
static void
closing_writes_both_headers(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = 64 * MIB, .block_size = 1 << 20 };
    const struct vhdx_open_options   writable = { .flags = VHDX_OPEN_WRITE };
    struct fixture                   f;

    (void)state;
    f.memory = image_make(&options);
    assert_int_equal(vx_trace_new(&f.trace, f.memory, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_storage(&f.disk, wrapped_new(f.trace, NULL), &writable, NULL), VHDX_OK);
    write_page(&f, 0);
    flush(&f);
    vx_trace_reset(f.trace);
    assert_int_equal(vhdx_disk_close(f.disk, NULL), VHDX_OK);
    assert_int_equal(count_header_writes(&f), 2);
    assert_int_equal(count(&f, VX_TRACE_WRITE), 2);
    assert_int_equal(count(&f, VX_TRACE_FLUSH), 3); /* the pages in place, two copies */
    assert_int_equal(count(&f, VX_TRACE_SET_SIZE), 1);

    vx_trace_reset(f.trace); /* opened for writing and never written: nothing */
    assert_int_equal(vhdx_disk_open_storage(&f.disk, wrapped_new(f.trace, NULL), &writable, NULL), VHDX_OK);
    flush(&f);
    assert_int_equal(vhdx_disk_close(f.disk, NULL), VHDX_OK);
    assert_int_equal(count(&f, VX_TRACE_WRITE) + count(&f, VX_TRACE_FLUSH) + count(&f, VX_TRACE_SET_SIZE) +
                     count(&f, VX_TRACE_ZERO) + count(&f, VX_TRACE_ALLOCATE), 0);
    vhdx_storage_close(f.trace);
}

/* --- reading only --- */

static void
read_all(struct fixture *f, uint64_t guest_offset)
{
    struct vhdx_extent extents[16];
    uint8_t            bytes[4096];
    size_t             extent_count;

    assert_int_equal(vhdx_disk_read(f->disk, bytes, sizeof bytes, guest_offset, NULL), VHDX_OK);
    assert_memory_equal(bytes, page, sizeof page);
    assert_int_equal(vhdx_disk_resolve_sparse(f->disk, 0, vhdx_disk_size(f->disk), extents, 16, &extent_count,
                                              NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_flush(f->disk, NULL), VHDX_OK);
}

static void
readers_write_nothing(void **state)
{
    for (int is_dirty = 0; is_dirty < 2; is_dirty++) {
        const struct vhdx_create_options options = { .virtual_size = 64 * MIB, .block_size = 1 << 20 };
        const struct vx_image_options    writable = { .is_writable = true };
        struct vhdx_info                 info;
        struct vx_image                 *image;
        struct fixture                   f;

        (void)state;
        f.memory = image_make(&options);
        assert_int_equal(vx_image_open(&image, f.memory, &writable, NULL), VHDX_OK);
        assert_int_equal(vx_image_write(image, page, sizeof page, 7 * MIB, NULL), VHDX_OK);
        assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
        if (is_dirty)
            vx_image_abandon(image);
        else
            assert_int_equal(vx_image_close(image, NULL), VHDX_OK);

        assert_int_equal(vx_trace_new(&f.trace, f.memory, NULL), VHDX_OK);
        assert_int_equal(vhdx_disk_open_storage(&f.disk, wrapped_new(f.trace, NULL), NULL, NULL), VHDX_OK);
        assert_int_equal(vhdx_disk_get_info(f.disk, 0, &info, NULL), VHDX_OK);
        assert_int_equal(info.is_dirty, is_dirty);
        read_all(&f, 7 * MIB);
        assert_int_equal(vhdx_disk_close(f.disk, NULL), VHDX_OK);
        assert_int_equal(count(&f, VX_TRACE_WRITE) + count(&f, VX_TRACE_FLUSH) + count(&f, VX_TRACE_SET_SIZE) +
                         count(&f, VX_TRACE_ZERO) + count(&f, VX_TRACE_ALLOCATE), 0);
        vhdx_storage_close(f.trace);
    }
}

/* An empty disk of 64 TiB with a BAT of 512 MiB: opened by reading its head, whoever opens it. */
static void
opening_reads_little(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = 64 * TIB, .block_size = 1 << 20 };

    for (unsigned flags = 0; flags <= VHDX_OPEN_WRITE; flags += VHDX_OPEN_WRITE) {
        struct fixture f;

        (void)state;
        f.memory = image_make(&options);
        open_traced(&f, flags, NULL);
        assert_in_range(vx_trace_bytes(f.trace, VX_TRACE_READ), 1, 256 * 1024);
        assert_in_range(count_all(&f), 1, 40);
        assert_int_equal(count(&f, VX_TRACE_WRITE), 0);
        end(&f);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_read_is_one_read),
        cmocka_unit_test(a_read_over_blocks_side_by_side_is_one_read),
        cmocka_unit_test(an_overwrite_is_one_write),
        cmocka_unit_test(a_first_touch_never_flushes),
        cmocka_unit_test(first_touches_and_a_flush_are_one_flush),
        cmocka_unit_test(used_space_costs_two),
        cmocka_unit_test(unsure_storages_cost_two),
        cmocka_unit_test(threads_change_nothing_about_it),
        cmocka_unit_test(only_a_full_log_adds_commits),
        cmocka_unit_test(headers_are_written_at_the_ends),
        cmocka_unit_test(closing_writes_both_headers),
        cmocka_unit_test(readers_write_nothing),
        cmocka_unit_test(opening_reads_little),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
