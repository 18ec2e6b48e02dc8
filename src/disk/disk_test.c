/* Disks from outside: what opens and what does not, ranges, refusals, chains. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vhdx/ops.h>

#include "base/bytes.h"
#include "disk/disk.h"
#include "storage/storage.h"

#define SIZE (UINT64_C(8) * VX_MIB)

/* --- images --- */

static struct vhdx_storage *
make_image(uint64_t virtual_size, uint32_t sector_size)
{
    const struct vhdx_create_options options = { .virtual_size = virtual_size, .block_size = VX_MIN_BLOCK_SIZE,
                                                 .logical_sector_size = sector_size };
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_create_on_storage(storage, &options, NULL, NULL), VHDX_OK);
    assert_int_equal(vx_storage_zero(storage, VX_MIB, VX_MIB, VHDX_ZERO_RELEASE, NULL), VHDX_OK); /* memory of a log */
    return storage;
}

static struct vhdx_storage *
make_garbage(uint64_t size)
{
    struct vhdx_storage *storage;
    const uint8_t        bytes[64] = "certainly a raw disk";

    assert_int_equal(vhdx_storage_new_memory(&storage, size, NULL), VHDX_OK);
    if (size >= sizeof bytes)
        assert_int_equal(vx_storage_write(storage, bytes, sizeof bytes, 0, NULL), VHDX_OK);
    return storage;
}

/* Facts about an image nobody has open. */
static struct vhdx_info
look_at(struct vhdx_storage *storage)
{
    const struct vx_image_options options = { .metadata_cache_bytes = 1 };
    struct vhdx_info              info;
    struct vx_image              *image;

    assert_int_equal(vx_image_open(&image, storage, &options, NULL), VHDX_OK);
    vx_image_fill_info(image, &info);
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    return info;
}

static void
put_bat_entry(struct vhdx_storage *storage, uint64_t bat_index, uint64_t raw)
{
    uint64_t file_offset = look_at(storage).bat_offset + bat_index * 8;
    uint8_t  bytes[8];

    vx_put_le64(bytes, raw);
    assert_int_equal(vx_storage_write(storage, bytes, sizeof bytes, file_offset, NULL), VHDX_OK);
}

/* Turn a new dynamic image into a child: nothing but its metadata says so. */
static void
become_child(struct vhdx_storage *storage, const struct vhdx_guid *linkage, const struct vhdx_guid *linkage2)
{
    static uint8_t         bytes[VX_METADATA_TABLE_SIZE + 2048];
    char                   text[2][VHDX_GUID_TEXT_SIZE + 2] = { "{", "{" };
    struct vx_locator_text pairs[] = {
        { "parent_linkage", text[0] }, { "relative_path", ".\\parent.vhdx" }, { "parent_linkage2", text[1] },
    };
    struct vhdx_info       info = look_at(storage);
    struct vx_metadata     metadata = {
        .block_size = info.block_size, .has_parent = true, .virtual_size = info.virtual_size,
        .logical_sector_size = info.logical_sector_size, .physical_sector_size = info.physical_sector_size,
        .disk_id = info.disk_id, .has_file_parameters = true, .has_virtual_size = true,
        .has_logical_sector_size = true, .has_physical_sector_size = true, .has_disk_id = true, .has_locator = true,
    };
    uint8_t                item[1024];
    uint32_t               item_length;
    size_t                 length;

    vhdx_guid_format(text[0] + 1, linkage);
    memcpy(text[0] + VHDX_GUID_TEXT_SIZE, "}", 2);
    if (linkage2 != NULL)
        vhdx_guid_format(text[1] + 1, linkage2);
    memcpy(text[1] + VHDX_GUID_TEXT_SIZE, "}", 2);
    assert_true(vx_locator_encode(item, sizeof item, &item_length, pairs, linkage2 != NULL ? 3 : 2));
    vx_metadata_encode_new(bytes, &length, &metadata, item, item_length);
    assert_int_equal(vx_storage_write(storage, bytes, length, info.metadata_offset, NULL), VHDX_OK);
}

/* --- opening --- */

static int
open_with(struct vhdx_disk **disk, struct vhdx_storage *storage, unsigned flags, enum vhdx_format format)
{
    const struct vhdx_open_options options = { .flags = flags, .format = format };
    struct vhdx_error              err = { .message = "" };
    int                            rc = vhdx_disk_open_storage(disk, storage, &options, &err);

    if (rc < 0) {
        assert_int_equal(err.code, rc);
        assert_true(err.message[0] != '\0');
    }
    return rc;
}

struct open_case {
    const char      *about;
    uint64_t         garbage; /* bytes of a file that is no image; 0: an image, unless is_empty */
    bool             is_empty, is_read_only;
    unsigned         flags;
    enum vhdx_format format;
    int              code;
};

static const struct open_case open_cases[] = {
    { "an image", 0, false, false, 0, VHDX_FORMAT_AUTO, VHDX_OK },
    { "an image as such", 0, false, false, 0, VHDX_FORMAT_VHDX, VHDX_OK },
    { "an image, to write", 0, false, false, VHDX_OPEN_WRITE, VHDX_FORMAT_AUTO, VHDX_OK },
    { "an image as a raw disk", 0, false, false, VHDX_OPEN_WRITE, VHDX_FORMAT_RAW, VHDX_OK },
    { "an image without log", 0, false, false, VHDX_OPEN_IGNORE_LOG, VHDX_FORMAT_AUTO, VHDX_OK },
    { "... and to write", 0, false, false, VHDX_OPEN_IGNORE_LOG | VHDX_OPEN_WRITE, VHDX_FORMAT_AUTO,
      VHDX_E_READ_ONLY },
    { "where nothing can be written", 0, false, true, VHDX_OPEN_WRITE, VHDX_FORMAT_AUTO, VHDX_E_READ_ONLY },
    { "... but be read", 0, false, true, 0, VHDX_FORMAT_AUTO, VHDX_OK },
    { "something else", 5000, false, false, 0, VHDX_FORMAT_AUTO, VHDX_E_NOT_VHDX },
    { "something else as an image", 5000, false, false, 0, VHDX_FORMAT_VHDX, VHDX_E_NOT_VHDX },
    { "something else as a raw disk", 5000, false, false, VHDX_OPEN_WRITE, VHDX_FORMAT_RAW, VHDX_OK },
    { "... where nothing can be written", 5000, false, true, VHDX_OPEN_WRITE, VHDX_FORMAT_RAW, VHDX_E_READ_ONLY },
    { "seven bytes", 7, false, false, 0, VHDX_FORMAT_AUTO, VHDX_E_NOT_VHDX },
    { "nothing", 0, true, false, 0, VHDX_FORMAT_AUTO, VHDX_E_NOT_VHDX },
    { "nothing as an image", 0, true, false, VHDX_OPEN_WRITE, VHDX_FORMAT_VHDX, VHDX_E_NOT_VHDX },
    { "nothing as a raw disk", 0, true, false, 0, VHDX_FORMAT_RAW, VHDX_OK },
};

static void
opens_what_can_be_opened(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof open_cases / sizeof open_cases[0]; i++) {
        const struct open_case *c = &open_cases[i];
        bool                    is_image = c->garbage == 0 && !c->is_empty;
        struct vhdx_storage    *storage = is_image ? make_image(SIZE, 512) : make_garbage(c->garbage);
        struct vhdx_disk       *disk;
        int                     rc;

        storage->traits.is_read_only = c->is_read_only;
        rc = open_with(&disk, storage, c->flags, c->format);
        if (rc != c->code)
            fail_msg("%s: %s", c->about, vhdx_code_name(rc));
        if (rc == VHDX_OK)
            assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
        else
            vhdx_storage_close(storage); /* it stayed ours */
    }
}

static void
opens_by_path_and_descriptor(void **state)
{
    const struct vhdx_create_options options = { .virtual_size = SIZE };
    char              path[] = "/tmp/vhdx-disk-test.XXXXXX";
    struct vhdx_disk *disk;
    int               descriptor = mkstemp(path);

    (void)state;
    assert_true(descriptor >= 0);
    assert_int_equal(vhdx_create_path(path, true, &options, NULL, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_path(&disk, path, NULL, NULL), VHDX_OK);
    assert_true(vhdx_disk_size(disk) == SIZE);
    assert_string_equal(vhdx_disk_layer_name(disk, 0), path);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);

    assert_int_equal(vhdx_disk_open_descriptor(&disk, descriptor, "handed over", NULL, NULL), VHDX_OK);
    assert_string_equal(vhdx_disk_layer_name(disk, 0), "handed over");
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    assert_int_equal(fcntl(descriptor, F_GETFD), -1); /* closed with the disk */

    assert_int_equal(unlink(path), 0);
    assert_int_equal(vhdx_disk_open_path(&disk, path, NULL, NULL), VHDX_E_NOT_FOUND);
    descriptor = open("/dev/null", O_RDONLY);
    assert_true(descriptor >= 0);
    assert_int_equal(vhdx_disk_open_descriptor(&disk, descriptor, "null", NULL, NULL), VHDX_E_UNSUPPORTED);
    assert_int_equal(fcntl(descriptor, F_GETFD), -1); /* closed with the failure */
}

/* A broken rule of severity RO leaves an image that can be read. */
static void
damage_leaves_it_readable(void **state)
{
    struct vhdx_storage *storage = make_image(SIZE, 512);
    struct vhdx_extent   extent;
    struct vhdx_disk    *disk;
    struct vhdx_info     info;
    uint8_t              bytes[512];
    uint64_t             end;
    size_t               count;

    (void)state;
    assert_int_equal(vx_storage_get_size(storage, &end, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(storage, end + VX_MIB, NULL), VHDX_OK);
    put_bat_entry(storage, 1, end | 6);
    put_bat_entry(storage, 2, end | 6);                 /* the same place again: V137 */
    put_bat_entry(storage, 3, 4);                       /* a reserved state: V131 */
    put_bat_entry(storage, 5, (end + 64 * VX_MIB) | 6); /* past the end: V134 */
    assert_int_equal(open_with(&disk, storage, VHDX_OPEN_WRITE, VHDX_FORMAT_AUTO), VHDX_E_NEEDS_REPAIR);
    assert_int_equal(open_with(&disk, storage, 0, VHDX_FORMAT_AUTO), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 3 * VX_MIB, NULL), VHDX_E_BAD_BAT);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 4 * VX_MIB - 1, NULL), VHDX_E_BAD_BAT);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 4 * VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, bytes, sizeof bytes, 5 * VX_MIB, NULL), VHDX_E_TRUNCATED);
    assert_int_equal(vhdx_disk_resolve(disk, 3 * VX_MIB - 10, VX_MIB, &extent, 1, &count, NULL), VHDX_OK);
    assert_int_equal(count, 1); /* up to the damage, and then the error */
    assert_true(extent.length == 10);
    assert_int_equal(vhdx_disk_resolve(disk, 3 * VX_MIB, VX_MIB, &extent, 1, &count, NULL), VHDX_E_BAD_BAT);
    assert_int_equal(vhdx_disk_get_info(disk, 0, &info, NULL), VHDX_OK);
    assert_false(info.is_writable);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

/* V143: a child's block in state 7 without the bitmap that would tell its sectors; found also where further chunks follow. */
static void
missing_bitmap_leaves_it_readable(void **state)
{
    static const struct vhdx_guid linkage = { { 7 } };
    static const struct {
        uint64_t place, raw; /* of one more BAT entry; 4096 is the bitmap of the first chunk, 8193 of the second */
        int      rule;       /* 0: nothing is wrong */
    } cases[] = { { 4096, 6, 0 }, { 4096, 0, 143 }, { 4097, 3, 143 }, { 8193, 6, 143 } };
    const uint64_t size = UINT64_C(4) * VX_GIB + 8 * VX_MIB;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_storage           *storage = make_image(size, 512);
        const struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE | VHDX_OPEN_NO_PARENTS };
        struct vhdx_error              err = { .rule = 0 };
        struct vhdx_disk              *disk;
        uint64_t                       end;

        become_child(storage, &linkage, NULL);
        assert_int_equal(vx_storage_get_size(storage, &end, NULL), VHDX_OK);
        assert_int_equal(vx_storage_set_size(storage, end + 2 * VX_MIB, NULL), VHDX_OK);
        put_bat_entry(storage, 2, end | 7);
        put_bat_entry(storage, cases[i].place, cases[i].raw == 6 ? (end + VX_MIB) | 6 : cases[i].raw);
        if (vhdx_disk_open_storage(&disk, storage, &options, &err) == VHDX_OK)
            assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
        else
            vhdx_storage_close(storage);
        assert_int_equal(err.rule, cases[i].rule);
        assert_int_equal(err.code, cases[i].rule == 0 ? 0 : VHDX_E_NEEDS_REPAIR);
    }
}

/* --- ranges and refusals --- */

struct range_case {
    uint64_t guest_offset, length;
    int      code;
};

static const struct range_case range_cases[] = {
    { 0, 0, VHDX_OK },
    { SIZE, 0, VHDX_OK },
    { SIZE - 1, 1, VHDX_OK },
    { 0, 65536, VHDX_OK },
    { SIZE + 1, 0, VHDX_E_RANGE },
    { SIZE, 1, VHDX_E_RANGE },
    { SIZE - 1, 2, VHDX_E_RANGE },
    { UINT64_MAX, 1, VHDX_E_RANGE },
    { UINT64_MAX - 4, 65536, VHDX_E_RANGE },
};

static void
keeps_to_the_disk(void **state)
{
    static uint8_t bytes[65536];

    (void)state;
    for (int is_raw = 0; is_raw < 2; is_raw++) {
        struct vhdx_storage *storage = is_raw ? make_garbage(SIZE) : make_image(SIZE, 512);
        struct vhdx_extent   extents[4];
        struct vhdx_disk    *disk;
        struct vhdx_pin      pin;
        size_t               count;

        assert_int_equal(open_with(&disk, storage, VHDX_OPEN_WRITE, is_raw ? VHDX_FORMAT_RAW : VHDX_FORMAT_AUTO),
                         VHDX_OK);
        for (size_t i = 0; i < sizeof range_cases / sizeof range_cases[0]; i++) {
            const struct range_case *c = &range_cases[i];
            size_t                   length = (size_t)c->length;

            assert_int_equal(vhdx_disk_read(disk, bytes, length, c->guest_offset, NULL), c->code);
            assert_int_equal(vhdx_disk_write(disk, bytes, length, c->guest_offset, NULL), c->code);
            assert_int_equal(vhdx_disk_zero(disk, c->guest_offset, c->length, 0, NULL), c->code);
            assert_int_equal(vhdx_disk_trim(disk, c->guest_offset, c->length, NULL), c->code);
            assert_int_equal(vhdx_disk_resolve(disk, c->guest_offset, c->length, extents, 4, &count, NULL),
                             c->code);
            if (c->length == 0)
                assert_int_equal(count, 0);
            assert_int_equal(vhdx_disk_pin(disk, c->guest_offset, c->length, &pin, NULL), c->code);
            vhdx_disk_unpin(disk, &pin);
        }
        assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    }
}

static void
readers_cannot_write(void **state)
{
    uint8_t byte = 1;

    (void)state;
    for (int is_raw = 0; is_raw < 2; is_raw++) {
        struct vhdx_storage *storage = is_raw ? make_garbage(SIZE) : make_image(SIZE, 512);
        struct vhdx_disk    *disk;

        assert_int_equal(open_with(&disk, storage, 0, is_raw ? VHDX_FORMAT_RAW : VHDX_FORMAT_AUTO), VHDX_OK);
        assert_int_equal(vhdx_disk_write(disk, &byte, 1, 0, NULL), VHDX_E_READ_ONLY);
        assert_int_equal(vhdx_disk_zero(disk, 0, 1, 0, NULL), VHDX_E_READ_ONLY);
        assert_int_equal(vhdx_disk_trim(disk, 0, 1, NULL), VHDX_E_READ_ONLY);
        assert_int_equal(vhdx_disk_flush(disk, NULL), VHDX_OK);
        assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    }
}

static void
tells_about_itself(void **state)
{
    struct vhdx_storage *storage = make_image(SIZE, 4096);
    struct vhdx_disk    *disk;
    struct vhdx_info     info;

    (void)state;
    assert_int_equal(open_with(&disk, storage, VHDX_OPEN_WRITE, VHDX_FORMAT_AUTO), VHDX_OK);
    assert_int_equal(vhdx_disk_layer_count(disk), 1);
    assert_int_equal(vhdx_disk_get_info(disk, 0, &info, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_get_info(disk, 1, &info, NULL), VHDX_E_INVALID);
    assert_null(vhdx_disk_layer_name(disk, 1));
    assert_int_equal(vhdx_disk_get_info(disk, 0, &info, NULL), VHDX_OK);
    assert_int_equal(info.format, VHDX_FORMAT_VHDX);
    assert_int_equal(info.type, VHDX_TYPE_DYNAMIC);
    assert_true(info.virtual_size == SIZE && info.payload_block_count == 8 && info.block_size == VX_MIB);
    assert_int_equal(info.logical_sector_size, 4096);
    assert_true(info.is_writable);
    assert_false(info.is_dirty);
    assert_int_equal(info.finding_count, 0);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_close(NULL, NULL), VHDX_OK);
}

/* --- chains --- */

#define MOST_PARENTS 300u

struct family {
    struct vhdx_storage *parents[MOST_PARENTS]; /* handed out in turn: of depth 0 first */
    size_t               parent_count, asked;
    int                  code; /* what the resolver answers, when not 0 */
    char                 relative_path[64];
    unsigned             depth;
};

static int
bring_parent(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out,
             struct vhdx_error *err)
{
    struct family *family = context;

    snprintf(family->relative_path, sizeof family->relative_path, "%s",
             query->relative_path != NULL ? query->relative_path : "(none)");
    family->depth = query->depth;
    if (family->asked == family->parent_count || family->code != 0) {
        *err = (struct vhdx_error){ .code = family->code, .message = "not at home" };
        return family->code != 0 ? family->code : VHDX_E_NO_PARENT;
    }
    *out = family->parents[family->asked++];
    return VHDX_OK;
}

static int
open_family(struct vhdx_disk **disk, struct vhdx_storage *child, struct family *family, unsigned flags)
{
    const struct vhdx_open_options options = { .flags = flags, .metadata_cache_bytes = 65536,
                                               .resolve_parent = family != NULL ? bring_parent : NULL,
                                               .resolve_context = family };
    struct vhdx_error              err = { .message = "" };

    return vhdx_disk_open_storage(disk, child, &options, &err);
}

/* An image with a byte of its own in the first sector of some blocks. */
static struct vhdx_storage *
make_filled(uint64_t virtual_size, uint8_t value, unsigned blocks)
{
    struct vhdx_storage          *storage = make_image(virtual_size, 512);
    const struct vx_image_options options = { .is_writable = true };
    struct vx_image              *image;
    uint8_t                       sector[512];

    memset(sector, value, sizeof sector);
    assert_int_equal(vx_image_open(&image, storage, &options, NULL), VHDX_OK);
    for (unsigned block = 0; block < 8; block++)
        if ((blocks >> block & 1) != 0)
            assert_int_equal(vx_image_write(image, sector, sizeof sector, block * VX_MIB, NULL), VHDX_OK);
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    return storage;
}

static uint8_t
byte_at(struct vhdx_disk *disk, uint64_t guest_offset)
{
    uint8_t byte = 0xEE;

    assert_int_equal(vhdx_disk_read(disk, &byte, 1, guest_offset, NULL), VHDX_OK);
    return byte;
}

/* A storage that a disk does not take along when it closes. */
static struct vhdx_storage_methods lent_methods;
static const struct vhdx_storage_methods *memory_methods;

static struct vhdx_storage *
lend(struct vhdx_storage *storage)
{
    if (storage->methods != &lent_methods)
        memory_methods = storage->methods;
    lent_methods = *memory_methods;
    lent_methods.close = NULL;
    storage->methods = &lent_methods;
    return storage;
}

static void
take_back(struct vhdx_storage *storage)
{
    storage->methods = memory_methods;
    vhdx_storage_close(storage);
}

/* Three layers: what the top lacks lies in the middle, what that lacks in the base; past the base's end are zeros. */
/* Of the chain below: the top wrote 3 at 5 MiB, the middle 2 at 1 MiB + 3 and zeros at 2 MiB, the base is half as long. */
static void
shows_its_layers(struct vhdx_disk *disk)
{
    struct vhdx_disk  *middle, *base, *none = NULL;
    struct vhdx_extent extent;
    struct vhdx_info   info;
    uint8_t            byte = 4;
    size_t             count;

    assert_int_equal(vhdx_disk_open_layer(&none, disk, 0, NULL), VHDX_E_INVALID);
    assert_int_equal(vhdx_disk_open_layer(&none, disk, 3, NULL), VHDX_E_INVALID);
    assert_int_equal(vhdx_disk_open_layer(&middle, disk, 1, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_open_layer(&base, disk, 2, NULL), VHDX_OK);
    assert_true(vhdx_disk_size(middle) == SIZE && vhdx_disk_size(base) == 4 * VX_MIB);
    assert_int_equal(vhdx_disk_layer_count(middle), 2);
    assert_string_equal(vhdx_disk_layer_name(middle, 1), vhdx_disk_layer_name(disk, 2));
    assert_int_equal(byte_at(middle, 5 * VX_MIB), 0);
    assert_int_equal(byte_at(middle, VX_MIB + 3), 2);
    assert_int_equal(byte_at(middle, 2 * VX_MIB), 0);
    assert_int_equal(byte_at(base, VX_MIB + 3), 1);
    assert_int_equal(byte_at(base, 2 * VX_MIB), 1);
    assert_int_equal(vhdx_disk_read(base, &byte, 1, 4 * VX_MIB, NULL), VHDX_E_RANGE);
    assert_int_equal(vhdx_disk_write(middle, &byte, 1, 0, NULL), VHDX_E_READ_ONLY);
    assert_int_equal(vhdx_disk_resolve(middle, 0, 1, &extent, 1, &count, NULL), VHDX_OK);
    assert_int_equal(extent.depth, 1);
    assert_int_equal(vhdx_disk_get_info(middle, 0, &info, NULL), VHDX_OK);
    assert_true(info.type == VHDX_TYPE_DIFFERENCING && !info.is_writable);
    assert_int_equal(vhdx_disk_close(middle, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_close(base, NULL), VHDX_OK);
    assert_int_equal(byte_at(disk, 5 * VX_MIB), 3); /* still open */
}

static void
reads_through_its_parents(void **state)
{
    struct vhdx_storage *base = lend(make_filled(4 * VX_MIB, 1, 0x0F));
    struct vhdx_storage *middle = lend(make_image(SIZE, 512)), *top = lend(make_image(SIZE, 512));
    struct family        family = { .parents = { base }, .parent_count = 1 };
    struct vhdx_guid     guid = look_at(base).data_write_guid;
    struct vhdx_extent   extents[16];
    struct vhdx_disk    *disk;
    uint8_t              two = 2, three = 3;
    size_t               count;

    (void)state;
    become_child(middle, &guid, NULL);
    assert_int_equal(open_family(&disk, middle, &family, VHDX_OPEN_WRITE), VHDX_OK);
    assert_string_equal(family.relative_path, ".\\parent.vhdx");
    assert_int_equal(vhdx_disk_write(disk, &two, 1, VX_MIB + 3, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_zero(disk, 2 * VX_MIB, VX_MIB, 0, NULL), VHDX_OK);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);

    guid = look_at(middle).data_write_guid;
    become_child(top, &guid, NULL);
    family = (struct family){ .parents = { middle, base }, .parent_count = 2 };
    assert_int_equal(open_family(&disk, top, &family, VHDX_OPEN_WRITE), VHDX_OK);
    assert_int_equal(family.depth, 1);
    assert_int_equal(vhdx_disk_layer_count(disk), 3);
    assert_int_equal(vhdx_disk_write(disk, &three, 1, 5 * VX_MIB, NULL), VHDX_OK);
    assert_int_equal(byte_at(disk, 0), 1);              /* base */
    assert_int_equal(byte_at(disk, VX_MIB + 2), 1);     /* base, copied up with the sector */
    assert_int_equal(byte_at(disk, VX_MIB + 3), 2);     /* middle */
    assert_int_equal(byte_at(disk, 2 * VX_MIB), 0);     /* zeroed in the middle, whatever the base has */
    assert_int_equal(byte_at(disk, 5 * VX_MIB), 3);
    assert_int_equal(byte_at(disk, 5 * VX_MIB + 1), 0); /* past the base */

    assert_int_equal(vhdx_disk_resolve(disk, 0, SIZE, extents, 16, &count, NULL), VHDX_OK);
    assert_int_equal(extents[0].depth, 2);
    assert_true(extents[0].length == VX_MIB && extents[0].flags == (VHDX_EXTENT_DATA | VHDX_EXTENT_PRESENT));
    assert_int_equal(extents[1].depth, 1);
    assert_true(extents[1].length == 512);
    assert_int_equal(extents[2].depth, 2);
    assert_int_equal(extents[3].depth, 1);
    assert_int_equal(extents[3].flags, VHDX_EXTENT_ZERO | VHDX_EXTENT_PRESENT);
    assert_true(extents[3].guest_offset == 2 * VX_MIB && extents[3].length == VX_MIB);
    shows_its_layers(disk);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    take_back(base);
    take_back(middle);
    take_back(top);
}

/* Writing needs the parent when a part of a sector is written, and reading where it decides. */
static void
goes_without_parents_when_told(void **state)
{
    struct vhdx_guid     guid = { .bytes = { 1 } };
    struct vhdx_storage *child = make_image(SIZE, 512);
    struct vhdx_extent   extent;
    struct vhdx_disk    *disk;
    uint8_t              sector[512] = { 9 };
    size_t               count;

    (void)state;
    become_child(child, &guid, NULL);
    assert_int_equal(open_family(&disk, child, NULL, 0), VHDX_E_NO_PARENT);
    assert_int_equal(open_family(&disk, child, NULL, VHDX_OPEN_WRITE | VHDX_OPEN_NO_PARENTS), VHDX_OK);
    assert_int_equal(vhdx_disk_read(disk, sector, 1, 0, NULL), VHDX_E_NO_PARENT);
    assert_int_equal(vhdx_disk_write(disk, sector, 511, 0, NULL), VHDX_E_NO_PARENT);
    assert_int_equal(vhdx_disk_write(disk, sector, 512, 0, NULL), VHDX_OK);
    assert_int_equal(byte_at(disk, 0), 9);
    assert_int_equal(vhdx_disk_read(disk, sector, 2, 511, NULL), VHDX_E_NO_PARENT);
    assert_int_equal(vhdx_disk_resolve(disk, 512, 1, &extent, 1, &count, NULL), VHDX_OK);
    assert_int_equal(extent.flags, 0); /* nobody here knows */
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
}

static void
knows_its_parent(void **state)
{
    struct vhdx_storage *parent = lend(make_filled(SIZE, 1, 1)), *other = lend(make_image(SIZE, 4096));
    struct vhdx_storage *child = lend(make_image(SIZE, 512));
    struct vhdx_guid     guid = look_at(parent).data_write_guid, other_guid = look_at(other).data_write_guid;
    struct vhdx_guid     stranger = { .bytes = { 7 } }, none = { .bytes = { 0 } };
    struct family        family = { .parents = { parent }, .parent_count = 1 };
    struct vhdx_disk    *disk;

    (void)state;
    become_child(child, &stranger, NULL);
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_BAD_PARENT); /* V122 */
    become_child(child, &stranger, &none);
    family.asked = 0;
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_BAD_PARENT);
    become_child(child, &stranger, &guid);
    family.asked = 0;
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_OK); /* by the second linkage */
    assert_int_equal(byte_at(disk, 0), 1);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);

    become_child(child, &other_guid, NULL);
    family = (struct family){ .parents = { other }, .parent_count = 1 };
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_BAD_PARENT); /* V123: sectors of 4096 */
    family = (struct family){ .parent_count = 0 };
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_NO_PARENT);
    family.code = VHDX_E_PERMISSION; /* what the resolver says is passed on */
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_PERMISSION);
    family = (struct family){ .parents = { lend(make_garbage(4096)) }, .parent_count = 1 };
    assert_int_equal(open_family(&disk, child, &family, 0), VHDX_E_NOT_VHDX);
    take_back(family.parents[0]);
    take_back(parent);
    take_back(other);
    take_back(child);
}

/* Equal images that each name the next one: as deep as a chain may be, and one more (V125). */
static void
chains_end(void **state)
{
    struct vhdx_guid  guid;
    struct family     family = { .parent_count = 0 };
    struct vhdx_disk *disk;

    (void)state;
    for (size_t i = 0; i < VX_MAX_LAYERS + 1; i++) {
        struct vhdx_storage *storage = make_image(SIZE, 512);

        if (i > 0)
            become_child(storage, &guid, NULL);
        guid = look_at(storage).data_write_guid;
        family.parents[VX_MAX_LAYERS - i] = lend(storage); /* the base last */
    }
    family.parent_count = VX_MAX_LAYERS + 1;
    family.asked = 1;
    assert_int_equal(open_family(&disk, family.parents[0], &family, 0), VHDX_E_LIMIT);
    family.asked = 2;
    assert_int_equal(open_family(&disk, family.parents[1], &family, 0), VHDX_OK);
    assert_int_equal(vhdx_disk_layer_count(disk), VX_MAX_LAYERS);
    assert_int_equal(byte_at(disk, 0), 0);
    assert_int_equal(vhdx_disk_close(disk, NULL), VHDX_OK);
    for (size_t i = 0; i < family.parent_count; i++)
        take_back(family.parents[i]);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(opens_what_can_be_opened),
        cmocka_unit_test(opens_by_path_and_descriptor),
        cmocka_unit_test(damage_leaves_it_readable),
        cmocka_unit_test(missing_bitmap_leaves_it_readable),
        cmocka_unit_test(keeps_to_the_disk),
        cmocka_unit_test(readers_cannot_write),
        cmocka_unit_test(tells_about_itself),
        cmocka_unit_test(reads_through_its_parents),
        cmocka_unit_test(goes_without_parents_when_told),
        cmocka_unit_test(knows_its_parent),
        cmocka_unit_test(chains_end),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
