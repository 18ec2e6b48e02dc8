/* Threads that meet in one place: pins, readers that come and go, flushes that arrive together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "image/image.h"
#include "images.h"
#include "storage/trace.h"
#include "wrapped.h"

#define MIB (UINT64_C(1) << 20)
#define THREADS 8u

static const struct vhdx_create_options small = { .virtual_size = 64 * MIB, .block_size = 1 << 20 };

static struct vhdx_disk *
open_disk(struct vhdx_storage *memory, unsigned flags)
{
    const struct vhdx_open_options options = { .flags = flags, .metadata_cache_bytes = 1 };
    struct vhdx_error              err = { .message = "" };
    struct vhdx_disk              *disk;

    must(vhdx_disk_open_storage(&disk, wrapped_new(memory, NULL), &options, &err), "open", &err);
    return disk;
}

static void
fill(uint8_t *bytes, size_t length, uint8_t value)
{
    memset(bytes, value, length);
}

/* --- pins --- */

struct trimmer {
    struct vhdx_disk *disk;
    struct vhdx_pin  *pin;
    atomic_bool       is_done;
    int               rc;
};

static void *
trim_block(void *context)
{
    struct trimmer *trimmer = context;

    trimmer->rc = vhdx_disk_trim(trimmer->disk, 0, MIB, NULL);
    atomic_store(&trimmer->is_done, true);
    return NULL;
}

static void *
unpin(void *context)
{
    struct trimmer *trimmer = context;

    vhdx_disk_unpin(trimmer->disk, trimmer->pin);
    return NULL;
}

/* Whoever waits to trim a pinned block keeps nobody from reading it; the pin may be given back by any thread. */
static void
pins_hold(void **state)
{
    struct vhdx_storage *memory = image_make(&small);
    struct trimmer       trimmer = { .disk = open_disk(memory, VHDX_OPEN_WRITE) };
    struct vhdx_pin      pin, second;
    uint8_t              bytes[4096], expected[4096];
    pthread_t            trimming, unpinning;

    (void)state;
    fill(expected, sizeof expected, 0x5A);
    assert_int_equal(vhdx_disk_write(trimmer.disk, expected, sizeof expected, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_pin(trimmer.disk, 0, 4096, &pin, NULL), VHDX_OK);
    trimmer.pin = &pin;
    assert_int_equal(pthread_create(&trimming, NULL, trim_block, &trimmer), 0);
    for (int i = 0; i < 20; i++) {
        usleep(1000);
        assert_false(atomic_load(&trimmer.is_done));
        assert_int_equal(vhdx_disk_read(trimmer.disk, bytes, sizeof bytes, 0, NULL), VHDX_OK);
        assert_memory_equal(bytes, expected, sizeof bytes);
        assert_int_equal(vhdx_disk_pin(trimmer.disk, 100, 1, &second, NULL), VHDX_OK);
        vhdx_disk_unpin(trimmer.disk, &second);
        assert_int_equal(vhdx_disk_write(trimmer.disk, bytes, 100, MIB, NULL), VHDX_OK);
        assert_int_equal(vhdx_disk_flush(trimmer.disk, NULL), VHDX_OK);
    }
    assert_int_equal(pthread_create(&unpinning, NULL, unpin, &trimmer), 0);
    pthread_join(unpinning, NULL);
    pthread_join(trimming, NULL);
    assert_int_equal(trimmer.rc, VHDX_OK);
    fill(expected, sizeof expected, 0);
    assert_int_equal(vhdx_disk_read(trimmer.disk, bytes, sizeof bytes, 0, NULL), VHDX_OK);
    assert_memory_equal(bytes, expected, sizeof bytes);
    assert_int_equal(vhdx_disk_close(trimmer.disk, NULL), VHDX_OK);
    assert_true(image_is_clean(memory, IMAGE_GAPS_INSIDE, NULL));
    vhdx_storage_close(memory);
}

/* --- readers --- */

struct reader {
    struct vhdx_storage *memory;
    int                  failure_count;
};

static void *
come_and_go(void *context)
{
    struct reader *reader = context;
    uint8_t        bytes[8192], expected[8192];

    fill(expected, sizeof expected, 0xC3);
    for (int i = 0; i < 20; i++) {
        struct vhdx_disk *disk = open_disk(reader->memory, 0);

        if (vhdx_disk_read(disk, bytes, sizeof bytes, 3 * MIB - 4096, NULL) < 0 ||
            memcmp(bytes, expected, sizeof bytes) != 0)
            reader->failure_count++;
        reader->failure_count += vhdx_disk_close(disk, NULL) < 0;
    }
    return NULL;
}

/* Readers of one file open it, read and leave, each with its own view of the log when there is one to replay. */
static void
readers_come_and_go(void **state)
{
    for (int is_dirty = 0; is_dirty < 2; is_dirty++) {
        struct vx_image_options options = { .is_writable = true };
        struct vhdx_storage    *memory = image_make(&small);
        struct reader           readers[THREADS];
        pthread_t               threads[THREADS];
        struct vx_image        *image;
        uint8_t                 bytes[8192];

        (void)state;
        fill(bytes, sizeof bytes, 0xC3);
        assert_int_equal(vx_image_open(&image, memory, &options, NULL), VHDX_OK);
        assert_int_equal(vx_image_write(image, bytes, sizeof bytes, 3 * MIB - 4096, NULL), VHDX_OK);
        assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
        if (is_dirty)
            vx_image_abandon(image);
        else
            assert_int_equal(vx_image_close(image, NULL), VHDX_OK);

        for (size_t i = 0; i < THREADS; i++) {
            readers[i] = (struct reader){ .memory = memory };
            assert_int_equal(pthread_create(&threads[i], NULL, come_and_go, &readers[i]), 0);
        }
        for (size_t i = 0; i < THREADS; i++) {
            pthread_join(threads[i], NULL);
            assert_int_equal(readers[i].failure_count, 0);
        }
        vhdx_storage_close(memory);
    }
}

/* --- flushes that arrive together --- */

#define ROUNDS 40u

struct flusher {
    struct vhdx_disk *disk;
    size_t            first_block;
    int               failure_count;
};

static void *
touch_and_flush(void *context)
{
    struct flusher *flusher = context;
    uint8_t         bytes[512];

    fill(bytes, sizeof bytes, 0x11);
    for (size_t i = 0; i < ROUNDS; i++) {
        uint64_t guest_offset = (flusher->first_block + i * THREADS) * MIB;

        flusher->failure_count += vhdx_disk_write(flusher->disk, bytes, sizeof bytes, guest_offset, NULL) < 0;
        flusher->failure_count += vhdx_disk_flush(flusher->disk, NULL) < 0;
    }
    return NULL;
}

/* A storage whose flushes take their time, as those of disks do. */
static int
be_slow(void *context, enum wrapped_call call, uint64_t file_offset, uint64_t length)
{
    (void)context, (void)file_offset, (void)length;
    if (call == WRAPPED_FLUSH)
        usleep(1500);
    return VHDX_OK;
}

/* Guest flushes that arrive while one is running go together in the next. */
static void
flushes_share(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = ROUNDS * THREADS * MIB, .block_size = 1 << 20 };
    struct vhdx_storage             *memory = image_make(&options), *trace;
    struct vhdx_open_options         open_options = { .flags = VHDX_OPEN_WRITE };
    struct wrapped_options           slow = { .before = be_slow };
    struct flusher                   flushers[THREADS];
    pthread_t                        threads[THREADS];
    struct vhdx_disk                *disk;

    (void)state;
    assert_int_equal(vx_trace_new(&trace, wrapped_new(memory, &slow), NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_storage(&disk, trace, &open_options, NULL), VHDX_OK);
    for (size_t i = 0; i < THREADS; i++) {
        flushers[i] = (struct flusher){ .disk = disk, .first_block = i };
        assert_int_equal(pthread_create(&threads[i], NULL, touch_and_flush, &flushers[i]), 0);
    }
    for (size_t i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(flushers[i].failure_count, 0);
    }
    print_message("# %u guest flushes took %u of the storage\n", ROUNDS * THREADS,
                  (unsigned)vx_trace_count(trace, VX_TRACE_FLUSH));
    assert_in_range(vx_trace_count(trace, VX_TRACE_FLUSH), ROUNDS, ROUNDS * THREADS * 3 / 4);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    assert_true(image_is_clean(memory, IMAGE_NO_GAPS, NULL));
    vhdx_storage_close(memory);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pins_hold),
        cmocka_unit_test(readers_come_and_go),
        cmocka_unit_test(flushes_share),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
