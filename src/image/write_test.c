/*
 * Writes that meet: what another writer, a commit or a failure does in the middle of one.  A storage that calls
 * back stands in for the other thread, so that each meeting happens every time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include <vhdx/ops.h>

#include "base/bytes.h"
#include "base/memory.h"
#include "image/image.h"
#include "storage/storage.h"

#define SIZE (UINT64_C(32) * VX_MIB)

/* --- a storage that calls back before it writes --- */

struct meeting {
    struct vx_image *image;
    int (*meet)(struct meeting *meeting, uint64_t file_offset); /* once; its code is the write's when not 0 */
    uint64_t from; /* writes below this file offset are let pass */
    bool     has_met;
    int      code;
};

static const struct vhdx_storage_methods *real_methods;
static struct vhdx_storage_methods        meeting_methods;
static struct meeting                    *current;

static int
write_and_meet(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
               struct vhdx_error *err)
{
    struct meeting *meeting = current;

    if (meeting != NULL && !meeting->has_met && file_offset >= meeting->from) {
        meeting->has_met = true;
        meeting->code = meeting->meet(meeting, file_offset);
        if (meeting->code < 0)
            return meeting->code;
    }
    return real_methods->writev(storage, vector, vector_count, file_offset, err);
}

static struct vhdx_storage *
make_storage(void)
{
    const struct vhdx_create_options options = { .virtual_size = SIZE, .block_size = VX_MIN_BLOCK_SIZE };
    struct vhdx_storage             *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_create_on_storage(storage, &options, NULL, NULL), VHDX_OK);
    real_methods = storage->methods;
    meeting_methods = *real_methods;
    meeting_methods.writev = write_and_meet;
    storage->methods = &meeting_methods;
    current = NULL;
    return storage;
}

static struct vx_image *
open_image(struct vhdx_storage *storage)
{
    const struct vx_image_options options = { .is_writable = true };
    struct vx_image              *image;

    assert_int_equal(vx_image_open(&image, storage, &options, NULL), VHDX_OK);
    return image;
}

static struct vhdx_info
info_of(struct vx_image *image)
{
    struct vhdx_info info;

    vx_image_fill_info(image, &info);
    return info;
}

/* Nothing worse than free space inside the file, and things the format lets be. */
static void
finish(struct vhdx_storage *storage)
{
    struct vhdx_check_summary summary;

    current = NULL;
    assert_int_equal(vhdx_check_storage(storage, NULL, NULL, NULL, NULL, &summary, NULL), VHDX_OK);
    for (int severity = VHDX_SEVERITY_REPAIR; severity <= VHDX_SEVERITY_REFUSE; severity++)
        assert_int_equal(summary.finding_count[severity], 0);
    vhdx_storage_close(storage);
}

static void
write_bytes(struct vx_image *image, uint8_t value, size_t length, uint64_t guest_offset)
{
    uint8_t *bytes = vx_alloc(length); /* each its own: meetings write in the middle of a write */

    assert_non_null(bytes);
    memset(bytes, value, length);
    assert_int_equal(vx_image_write(image, bytes, length, guest_offset, NULL), VHDX_OK);
    vx_free(bytes);
}

/* The sector at guest_offset holds `value` all over; 0xBB is the parent's. */
static void
expect_sector(struct vx_image *image, uint8_t value, uint64_t guest_offset)
{
    struct vx_layer_extent extent;
    uint8_t                sector[512], expected[512];

    memset(expected, value, sizeof expected);
    memset(sector, 0xBB, sizeof sector);
    assert_int_equal(vx_image_resolve(image, guest_offset, sizeof sector, &extent, NULL), VHDX_OK);
    assert_true(extent.length == sizeof sector);
    if (extent.source == VX_LAYER_DATA)
        assert_int_equal(vx_image_read_payload(image, sector, sizeof sector, extent.file_offset, NULL), VHDX_OK);
    else if (extent.source != VX_LAYER_BELOW)
        memset(sector, 0, sizeof sector);
    assert_memory_equal(sector, expected, sizeof sector);
}

/* --- children --- */

/* Turn a new dynamic image into a child: nothing but its metadata says so. */
static void
become_child(struct vhdx_storage *storage)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", "{01234567-89ab-4cde-8f01-23456789abcd}" }, { "relative_path", ".\\parent.vhdx" },
    };
    static uint8_t     bytes[VX_METADATA_TABLE_SIZE + 2048];
    struct vx_image   *image = open_image(storage);
    struct vhdx_info   info = info_of(image);
    struct vx_metadata metadata = *vx_image_metadata(image);
    uint8_t            item[1024];
    uint32_t           item_length;
    size_t             length;

    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    metadata.has_parent = metadata.has_locator = true;
    assert_true(vx_locator_encode(item, sizeof item, &item_length, pairs, 2));
    vx_metadata_encode_new(bytes, &length, &metadata, item, item_length);
    assert_int_equal(vx_storage_write(storage, bytes, length, info.metadata_offset, NULL), VHDX_OK);
}

static int
write_next_block(struct meeting *meeting, uint64_t file_offset)
{
    (void)file_offset;
    write_bytes(meeting->image, 0x22, 512, VX_MIB + 512);
    return VHDX_OK;
}

/* Two blocks of a chunk without bitmap block are touched first at the same time: each brings one, one is used. */
static void
two_writers_bring_a_bitmap(void **state)
{
    struct vhdx_storage *storage = make_storage();
    struct meeting       meeting = { .meet = write_next_block };
    bool                 is_freed;

    (void)state;
    become_child(storage);
    meeting.image = open_image(storage);
    write_bytes(meeting.image, 0x33, VX_MIB, 9 * VX_MIB); /* whole: the session has begun, no bitmap is there */
    meeting.from = info_of(meeting.image).bat_offset + VX_MIB;
    current = &meeting;
    write_bytes(meeting.image, 0x11, 512, 1024);
    assert_true(meeting.has_met);
    for (uint64_t block = 10; block < 20; block++) /* whatever space is free now */
        write_bytes(meeting.image, 0xFF, VX_MIB, block * VX_MIB);
    for (int i = 0; i < 2; i++) {
        expect_sector(meeting.image, 0xBB, 512);
        expect_sector(meeting.image, 0x11, 1024);
        expect_sector(meeting.image, 0xBB, VX_MIB);
        expect_sector(meeting.image, 0x22, VX_MIB + 512);
        expect_sector(meeting.image, 0xBB, VX_MIB + 1024);
        expect_sector(meeting.image, 0x33, 9 * VX_MIB + 512);
        assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
        meeting.image = open_image(storage);
    }
    assert_int_equal(vx_image_drop_bitmap(meeting.image, 0, &is_freed, NULL), VHDX_OK);
    assert_false(is_freed); /* two blocks need it */
    assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
    finish(storage);
}

/* --- anchors --- */

static int
write_and_commit(struct meeting *meeting, uint64_t file_offset)
{
    (void)file_offset;
    write_bytes(meeting->image, 0x44, 512, 20 * VX_MIB);
    return vx_image_flush(meeting->image, NULL);
}

/* A block whose old place was kept (an anchor) is written while a commit runs: the commit gathers what is freed,
 * the writer goes on with what is left of it. */
static void
a_commit_passes_a_writer(void **state)
{
    struct vhdx_storage *storage = make_storage();
    struct meeting       meeting = { .meet = write_and_commit };
    uint8_t              entry[8];
    uint64_t             end;

    (void)state;
    assert_int_equal(vx_storage_get_size(storage, &end, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(storage, end + VX_MIB, NULL), VHDX_OK);
    vx_put_le64(entry, end | VX_BLOCK_UNMAPPED);
    meeting.image = open_image(storage);
    end = info_of(meeting.image).bat_offset;
    assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
    assert_int_equal(vx_storage_write(storage, entry, sizeof entry, end, NULL), VHDX_OK);

    meeting.image = open_image(storage);
    write_bytes(meeting.image, 0x55, 512, 10 * VX_MIB);
    meeting.from = end + VX_MIB;
    current = &meeting;
    write_bytes(meeting.image, 0x66, 512, 0);
    assert_true(meeting.has_met);
    expect_sector(meeting.image, 0x66, 0);
    expect_sector(meeting.image, 0, 512);
    expect_sector(meeting.image, 0x44, 20 * VX_MIB);
    assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_OK);
    assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
    finish(storage);
}

/* --- failures --- */

static int
fail_once(struct meeting *meeting, uint64_t file_offset)
{
    (void)meeting, (void)file_offset;
    return VHDX_E_NO_SPACE;
}

/* A payload that could not be written is not mapped, its space counts as used and is given out again, filled. */
static void
a_failed_write_shows_nothing(void **state)
{
    struct vhdx_storage *storage = make_storage();
    struct meeting       meeting = { .meet = fail_once };
    uint8_t              bytes[512] = { 1 };
    uint64_t             before, after;

    (void)state;
    meeting.image = open_image(storage);
    write_bytes(meeting.image, 0x77, 512, 0);
    assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_OK);
    assert_int_equal(vx_storage_get_size(storage, &before, NULL), VHDX_OK);
    meeting.from = info_of(meeting.image).bat_offset + VX_MIB;
    current = &meeting;
    assert_int_equal(vx_image_write(meeting.image, bytes, sizeof bytes, VX_MIB, NULL), VHDX_E_NO_SPACE);
    expect_sector(meeting.image, 0, VX_MIB);
    assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_OK); /* payload alone: the image is not FAILED */
    write_bytes(meeting.image, 0x88, 512, VX_MIB + 512);
    expect_sector(meeting.image, 0, VX_MIB);
    expect_sector(meeting.image, 0x88, VX_MIB + 512);
    assert_int_equal(vx_storage_get_size(storage, &after, NULL), VHDX_OK);
    assert_true(before == after);
    assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
    assert_int_equal(vx_storage_get_size(storage, &after, NULL), VHDX_OK);
    meeting.image = open_image(storage);
    assert_true(after == info_of(meeting.image).bat_offset + VX_MIB + 2 * VX_MIB); /* nothing leaked */
    assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
    finish(storage);
}

/* A log entry or a page in place that cannot be written ends the session; the next one finds what was flushed. */
static void
failed_metadata_ends_the_session(void **state)
{
    (void)state;
    for (int in_place = 0; in_place < 2; in_place++) {
        struct vhdx_storage *storage = make_storage();
        struct meeting       meeting = { .meet = fail_once };
        uint8_t              bytes[512] = { 1 };

        meeting.image = open_image(storage);
        write_bytes(meeting.image, 0x99, 512, 0);
        assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_OK);
        write_bytes(meeting.image, 0xAA, 512, VX_MIB);
        meeting.from = in_place ? info_of(meeting.image).bat_offset : info_of(meeting.image).log_offset;
        current = &meeting;
        assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_E_NO_SPACE);
        assert_true(meeting.has_met);
        assert_int_equal(vx_image_write(meeting.image, bytes, sizeof bytes, 0, NULL), VHDX_E_FAILED);
        assert_int_equal(vx_image_zero(meeting.image, 0, 1, false, NULL), VHDX_E_FAILED);
        assert_int_equal(vx_image_trim(meeting.image, 0, 1, NULL), VHDX_E_FAILED);
        assert_int_equal(vx_image_flush(meeting.image, NULL), VHDX_E_FAILED);
        expect_sector(meeting.image, 0xAA, VX_MIB); /* reading goes on */
        assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_E_FAILED);

        meeting.image = open_image(storage);
        expect_sector(meeting.image, 0x99, 0);
        expect_sector(meeting.image, in_place ? 0xAA : 0, VX_MIB);
        assert_int_equal(vx_image_close(meeting.image, NULL), VHDX_OK);
        finish(storage);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_writers_bring_a_bitmap),
        cmocka_unit_test(a_commit_passes_a_writer),
        cmocka_unit_test(a_failed_write_shows_nothing),
        cmocka_unit_test(failed_metadata_ends_the_session),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
