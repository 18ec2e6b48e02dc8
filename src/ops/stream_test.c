/* Streams: the bytes of a disk, or a whole image, into a pipe. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>

#include "ops/disk_fixture.h"

#define M(n) (UINT64_C(n) << 20)

static void
fill_source(struct vhdx_disk *disk)
{
    write_pattern(disk, 0, 5000);
    write_pattern(disk, M(3) - 100, M(4));
    write_pattern(disk, M(16), 1);
    write_pattern(disk, vhdx_disk_size(disk) - 3, 3);
}

struct stream_case {
    const char                *about;
    uint64_t                   size;
    struct vhdx_create_options options;
    uint64_t                   allocated_blocks; /* of the image */
};

static const struct stream_case cases[] = {
    { "2 MiB blocks", M(20), { .block_size = 0 }, 6 },
    { "1 MiB blocks", M(20), { .block_size = 1 << 20 }, 8 },
    { "32 MiB blocks, the only one cut", M(20), { .block_size = 32 << 20 }, 1 },
    { "fixed", M(20), { .type = VHDX_TYPE_FIXED, .block_size = 1 << 20 }, 20 },
    { "4096 byte sectors", M(20), { .logical_sector_size = 4096 }, 6 },
    { "a large log", M(20), { .log_size = 5 << 20 }, 6 },
    { "an odd size", M(20) + 77, { .block_size = 1 << 20 }, 8 },
    { "an odd size, 4096 byte sectors", M(20) + 4096 + 3, { .logical_sector_size = 4096 }, 6 },
    { "two chunks", M(4200), { .block_size = 1 << 20 }, 8 },
};

static void
count_findings(void *context, const struct vhdx_error *finding)
{
    print_message("V%d: %s\n", finding->rule, finding->message);
    ++*(int *)context;
}

static void
writes_images_that_check_clean(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct stream_case *c = &cases[i];
        struct vhdx_disk *from = new_raw(c->size), *image;
        struct vhdx_check_summary summary;
        struct vhdx_storage *storage;
        int finding_count = 0;

        fill_source(from);
        storage = stream_to_storage(from, &c->options);
        assert_int_equal(vhdx_check_storage(storage, NULL, count_findings, &finding_count, NULL, &summary, NULL),
                         VHDX_OK);
        if (finding_count != 0 || summary.allocated_blocks != c->allocated_blocks || !summary.is_complete)
            fail_msg("%s: %d findings, %llu blocks", c->about, finding_count,
                     (unsigned long long)summary.allocated_blocks);
        image = open_fixture(storage, VHDX_FORMAT_VHDX, 0);
        assert_same_contents(from, image, c->about);
        assert_true(vhdx_disk_size(image) >= c->size && vhdx_disk_size(image) < c->size + 4096);
        close_disk(image);
        close_disk(from);
    }
}

static void
writes_every_raw_byte(void **state)
{
    static const uint64_t sizes[] = { 0, 1, M(20), M(70) + 77 };

    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        struct vhdx_disk *from = new_raw(sizes[i]), *raw;
        FILE *file = tmpfile();

        assert_non_null(file);
        if (sizes[i] >= M(20))
            fill_source(from);
        assert_int_equal(vhdx_write_raw_stream(from, fileno(file), NULL, NULL), VHDX_OK);
        raw = open_fixture(load_stream(fileno(file)), VHDX_FORMAT_RAW, 0);
        assert_true(vhdx_disk_size(raw) == sizes[i]);
        assert_same_contents(from, raw, "raw stream");
        close_disk(raw);
        close_disk(from);
        fclose(file);
    }
}

/* --- pipes --- */

struct reader {
    int      descriptor;
    uint64_t limit; /* stop after so many bytes */
    uint64_t got;
};

static void *
read_pipe(void *context)
{
    struct reader *reader = context;
    static uint8_t bytes[50000];

    while (reader->got < reader->limit) {
        ssize_t got = read(reader->descriptor, bytes, sizeof bytes);

        if (got <= 0)
            break;
        reader->got += (uint64_t)got;
    }
    close(reader->descriptor);
    return NULL;
}

static int
stream_into_pipe(struct vhdx_disk *from, uint64_t read_limit, bool is_nonblocking, uint64_t *got,
                 const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct reader reader = { .limit = read_limit };
    pthread_t thread;
    int ends[2], rc;

    assert_int_equal(pipe(ends), 0);
    if (is_nonblocking)
        assert_int_equal(fcntl(ends[1], F_SETFL, O_NONBLOCK), 0);
    reader.descriptor = ends[0];
    assert_int_equal(pthread_create(&thread, NULL, read_pipe, &reader), 0);
    rc = vhdx_write_raw_stream(from, ends[1], progress, err);
    close(ends[1]);
    pthread_join(thread, NULL);
    *got = reader.got;
    return rc;
}

static void
fills_pipes_that_block_and_that_do_not(void **state)
{
    struct vhdx_disk *from = new_raw(M(20));
    struct vhdx_error err;
    uint64_t got;

    (void)state;
    fill_source(from);
    for (int is_nonblocking = 0; is_nonblocking < 2; is_nonblocking++) {
        if (stream_into_pipe(from, UINT64_MAX, is_nonblocking, &got, NULL, &err) < 0)
            fail_msg("%s", err.message);
        assert_true(got == M(20));
    }
    close_disk(from);
}

/* SIGPIPE would end the test. */
static void
outlives_a_reader_that_goes_away(void **state)
{
    struct vhdx_disk *from = new_raw(M(20));
    struct vhdx_error err;
    sigset_t pending;
    uint64_t got;

    (void)state;
    signal(SIGPIPE, SIG_DFL);
    write_pattern(from, 0, M(20));
    assert_int_equal(stream_into_pipe(from, 100000, false, &got, NULL, &err), VHDX_E_IO);
    assert_int_equal(err.system_errno, EPIPE);
    assert_int_equal(sigpending(&pending), 0);
    assert_false(sigismember(&pending, SIGPIPE));
    close_disk(from);
}

static int
stop(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    assert_true(done <= total && total == M(20));
    return done >= M(5);
}

static void
can_be_cancelled(void **state)
{
    static const struct vhdx_progress progress = { .report = stop };
    struct vhdx_disk *from = new_raw(M(20));
    struct vhdx_error err;
    uint64_t got;

    (void)state;
    write_pattern(from, 0, M(20));
    assert_int_equal(stream_into_pipe(from, UINT64_MAX, false, &got, &progress, &err), VHDX_E_CANCELLED);
    assert_true(got >= M(5) && got < M(20));
    close_disk(from);
}

static void
refuses_what_it_cannot_make(void **state)
{
    static const struct vhdx_create_options child = { .type = VHDX_TYPE_DIFFERENCING };
    struct vhdx_disk *from = new_raw(M(20)), *nothing = new_raw(0);
    FILE *file = tmpfile();

    (void)state;
    assert_non_null(file);
    assert_int_equal(vhdx_write_vhdx_stream(from, fileno(file), &child, NULL, NULL), VHDX_E_INVALID);
    assert_int_equal(vhdx_write_vhdx_stream(nothing, fileno(file), NULL, NULL, NULL), VHDX_E_INVALID);
    assert_int_equal(lseek(fileno(file), 0, SEEK_END), 0);
    fclose(file);
    close_disk(from);
    close_disk(nothing);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(writes_images_that_check_clean),
        cmocka_unit_test(writes_every_raw_byte),
        cmocka_unit_test(fills_pipes_that_block_and_that_do_not),
        cmocka_unit_test(outlives_a_reader_that_goes_away),
        cmocka_unit_test(can_be_cancelled),
        cmocka_unit_test(refuses_what_it_cannot_make),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
