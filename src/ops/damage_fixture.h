/*
 * Images built by hand, each with one fault and the rules it is found to break: for the tests of the check and of the repair.
 *
 * A fault can break more than the rule it is made for (space that a damaged entry no longer names is lost: V148).
 * Then the case lists them all: nothing else may be found.
 */
#ifndef VX_DAMAGE_FIXTURE_H
#define VX_DAMAGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/bat.h"
#include "format/locator.h"
#include "format/log_entry.h"
#include "ops/layout_new.h"
#include "storage/storage.h"

#define M(n) (UINT64_C(n) << 20)

/* --- building --- */

/*
 * PLAIN      10 MiB in blocks of 1 MiB, of which 0 to 3 are there; log of 2 MiB at 1, metadata at 3, BAT at 4,
 *            blocks at 5 to 8, end at 9 MiB
 * PAIRS      10 MiB in blocks of 2 MiB, of which 0 and 1 are there, at 5 and 7; end at 9 MiB
 * BARE       5000 MiB in blocks of 1 MiB (two chunks), none there; end at 5 MiB
 * FIXED      4 MiB in blocks of 1 MiB at 5 to 8; end at 9 MiB
 * CHILD      9.5 MiB in blocks of 1 MiB; bitmap at 5 MiB; block 0 at 6, block 9 (the last) at 7, both in state 7
 *            with their first 8 sectors; end at 8 MiB
 */
enum kind { PLAIN, PAIRS, BARE, FIXED, CHILD };

#define CHILD_BITMAP_ENTRY 4096 /* BAT index */

struct image {
    struct vhdx_storage *storage;
    struct vx_new_layout layout;
};

static void
put(struct image *image, uint64_t file_offset, const void *bytes, size_t length)
{
    assert_int_equal(vx_storage_write(image->storage, bytes, length, file_offset, NULL), VHDX_OK);
}

static void
put_number(struct image *image, uint64_t file_offset, unsigned size, uint64_t value)
{
    uint8_t bytes[8];

    vx_put_le64(bytes, value);
    put(image, file_offset, bytes, size);
}

static void
set_entry(struct image *image, uint64_t bat_index, uint64_t raw)
{
    put_number(image, image->layout.bat_offset + 8 * bat_index, 8, raw);
}

static void
set_length(struct image *image, uint64_t length)
{
    assert_int_equal(vx_storage_set_size(image->storage, length, NULL), VHDX_OK);
}

static void
write_head(struct image *image)
{
    uint8_t *section = vx_alloc_zeroed(1, VX_HEADER_SECTION_SIZE);
    size_t length = vx_new_layout_metadata_length(&image->layout);

    assert_non_null(section);
    vx_new_layout_metadata(&image->layout, section);
    put(image, image->layout.metadata_offset, section, length);
    memset(section, 0, VX_HEADER_SECTION_SIZE);
    vx_new_layout_identifier(&image->layout, section);
    for (int copy = 0; copy < 2; copy++) {
        vx_new_layout_header(&image->layout, copy, section + VX_HEADER_OFFSET(copy));
        assert_int_equal(vx_new_layout_region_table(&image->layout, section + VX_REGION_TABLE_OFFSET(copy), NULL),
                         VHDX_OK);
    }
    put(image, 0, section, VX_HEADER_SECTION_SIZE);
    vx_free(section);
}

/* Blocks 0 to count - 1, one after the other, each with something of its own near its beginning and at its end. */
static void
add_blocks(struct image *image, uint64_t count)
{
    uint32_t block_size = image->layout.geometry.block_size;

    for (uint64_t i = 0; i < count; i++)
        set_entry(image, i, vx_new_layout_block_offset(&image->layout, i) | VX_BLOCK_FULLY_PRESENT);
    set_length(image, vx_new_layout_block_offset(&image->layout, count));
    for (uint64_t i = 0; i < count; i++) {
        put_number(image, vx_new_layout_block_offset(&image->layout, i) + 4096, 8, 0xb10c + i);
        put_number(image, vx_new_layout_block_offset(&image->layout, i) + block_size - 8, 8, 0xe0d + i);
    }
}

static void
add_partial_blocks(struct image *image)
{
    set_length(image, M(8));
    set_entry(image, CHILD_BITMAP_ENTRY, M(5) | 6);
    set_entry(image, 0, M(6) | 7);
    set_entry(image, 9, M(7) | 7);
    put_number(image, M(6) + 512, 8, 0xb10c);
    put_number(image, M(7) + 512, 8, 0xb10d);
    put_number(image, M(5), 1, 0xff);
    put_number(image, M(5) + 9 * 256, 1, 0xff); /* 2048 sectors a block: 256 bytes */
}

static size_t
build_locator(uint8_t item[1024])
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", "{01234567-89ab-4cde-8f01-23456789abcd}" },
        { "relative_path", ".\\parent.vhdx" },
    };
    uint32_t length;

    assert_true(vx_locator_encode(item, 1024, &length, pairs, 2));
    return length;
}

static void
build(struct image *image, enum kind kind)
{
    static const struct vhdx_create_options options[] = {
        [PLAIN] = { .virtual_size = M(10), .block_size = 1 << 20, .log_size = M(2) },
        [PAIRS] = { .virtual_size = M(10), .block_size = 2 << 20, .log_size = M(2) },
        [BARE] = { .virtual_size = M(5000), .block_size = 1 << 20, .log_size = M(2) },
        [FIXED] = { .type = VHDX_TYPE_FIXED, .virtual_size = M(4), .block_size = 1 << 20, .log_size = M(2) },
        [CHILD] = { .type = VHDX_TYPE_DIFFERENCING, .virtual_size = M(9) + (1 << 19), .block_size = 1 << 20,
                    .log_size = M(2) },
    };
    static const uint64_t block_counts[] = { [PLAIN] = 4, [PAIRS] = 2, [BARE] = 0, [FIXED] = 4, [CHILD] = 0 };
    uint8_t item[1024];
    struct vx_new_locator locator = { .item = item, .length = (uint32_t)build_locator(item) };

    assert_int_equal(vx_new_layout_init(&image->layout, &options[kind], kind == CHILD ? &locator : NULL, NULL), 0);
    assert_int_equal(vhdx_storage_new_memory(&image->storage, image->layout.first_block_offset, NULL), 0);
    write_head(image);
    add_blocks(image, block_counts[kind]);
    if (kind == CHILD)
        add_partial_blocks(image);
}

/* Make the checksum of a structure right again. */
static void
seal(struct image *image, uint64_t file_offset, size_t length)
{
    uint8_t *bytes = vx_alloc(length);

    assert_non_null(bytes);
    assert_int_equal(vx_storage_read(image->storage, bytes, length, file_offset, NULL), VHDX_OK);
    put_number(image, file_offset + 4, 4, vx_crc32c_hole(bytes, length, 4));
    vx_free(bytes);
}

static void
seal_all(struct image *image)
{
    for (int copy = 0; copy < 2; copy++) {
        seal(image, VX_HEADER_OFFSET(copy), VX_HEADER_SIZE);
        seal(image, VX_REGION_TABLE_OFFSET(copy), VX_REGION_TABLE_SIZE);
    }
}

/* --- faults with a name of their own --- */

#define REGION_ENTRY(n) (16 + UINT64_C(32) * (n))
#define ITEM_ENTRY(n)   (32 + UINT64_C(32) * (n))

/* A third region, in both tables. */
static void
add_region(struct image *image, const struct vhdx_guid *guid, uint64_t file_offset, uint32_t length, uint32_t flags)
{
    for (int copy = 0; copy < 2; copy++) {
        uint64_t at = VX_REGION_TABLE_OFFSET(copy);

        put_number(image, at + 8, 4, 3);
        put(image, at + REGION_ENTRY(2), guid->bytes, 16);
        put_number(image, at + REGION_ENTRY(2) + 16, 8, file_offset);
        put_number(image, at + REGION_ENTRY(2) + 24, 4, length);
        put_number(image, at + REGION_ENTRY(2) + 28, 4, flags);
    }
}

static const struct vhdx_guid strange = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16 } };

static void
add_known_region_twice(struct image *image)
{
    set_length(image, M(10));
    add_region(image, &vx_guid_region_bat, M(9), 1 << 20, 1);
}

static void
add_region_over_log(struct image *image)
{
    add_region(image, &strange, M(2), 1 << 20, 0);
}

static void
add_region_past_end(struct image *image)
{
    add_region(image, &strange, M(9), 1 << 20, 0);
}

static void
add_required_region(struct image *image)
{
    set_length(image, M(10));
    add_region(image, &strange, M(9), 1 << 20, 1);
}

static void
add_optional_region(struct image *image)
{
    set_length(image, M(10));
    add_region(image, &strange, M(9), 1 << 20, 0);
}

/* Item number `index` of the table, whose count must be set apart. */
static void
set_item(struct image *image, unsigned index, const struct vhdx_guid *id, uint32_t offset, uint32_t length,
         uint32_t flags)
{
    uint64_t at = image->layout.metadata_offset + ITEM_ENTRY(index);

    put(image, at, id->bytes, 16);
    put_number(image, at + 16, 4, offset);
    put_number(image, at + 20, 4, length);
    put_number(image, at + 24, 8, flags);
}

static void
set_item_count(struct image *image, unsigned count)
{
    put_number(image, image->layout.metadata_offset + 10, 2, count);
}

static void
add_item(struct image *image, const struct vhdx_guid *id, uint32_t offset, uint32_t length, uint32_t flags)
{
    set_item(image, 5, id, offset, length, flags);
    set_item_count(image, 6);
}

static void
add_item_twice(struct image *image)
{
    add_item(image, &strange, 0x20000, 16, 0);
    set_item(image, 6, &strange, 0x20100, 16, 0);
    set_item_count(image, 7);
}

static void
add_zero_guid_item(struct image *image)
{
    static const struct vhdx_guid zero;

    add_item(image, &zero, 0x20000, 16, 0);
}

static void
add_empty_item_with_offset(struct image *image)
{
    add_item(image, &strange, 0x20000, 0, 0);
}

static void
add_item_past_region(struct image *image)
{
    add_item(image, &strange, (1 << 20) - 8, 16, 0);
}

static void
add_items_overlapping(struct image *image)
{
    struct vhdx_guid other = strange;

    other.bytes[0] = 99;
    add_item(image, &strange, 0x20000, 16, 0);
    set_item(image, 6, &other, 0x20008, 16, 0);
    set_item_count(image, 7);
}

static void
add_user_items(struct image *image)
{
    struct vhdx_guid id = strange;

    for (unsigned i = 0; i < 1025; i++) {
        vx_put_le16(id.bytes, (uint16_t)i);
        set_item(image, 5 + i, &id, 0, 0, VX_ITEM_IS_USER);
    }
    set_item_count(image, 5 + 1025);
}

static void
add_required_item(struct image *image)
{
    add_item(image, &strange, 0x20000, 16, VX_ITEM_IS_REQUIRED);
}

static void
add_required_user_item(struct image *image)
{
    add_item(image, &strange, 0x20000, 16, VX_ITEM_IS_USER | VX_ITEM_IS_REQUIRED);
}

static void
add_incomplete_marker(struct image *image)
{
    add_item(image, &vx_guid_item_incomplete, 0, 0, VX_ITEM_IS_REQUIRED);
}

static void
add_stray_locator(struct image *image)
{
    add_item(image, &vx_guid_item_parent_locator, 0x20000, 64, VX_ITEM_IS_REQUIRED);
}

static void
set_log_guid(struct image *image)
{
    for (int copy = 0; copy < 2; copy++)
        put(image, VX_HEADER_OFFSET(copy) + 48, strange.bytes, 16);
}

/* A log of one entry, which makes block 4 present at 9 MiB and the file 10 MiB long. */
static void
write_log(struct image *image, const struct vx_log_entry_header *header, uint64_t page_at, unsigned stray_at)
{
    static uint8_t entry[8192], page[VX_PAGE];

    memset(entry, 0, sizeof entry);
    assert_int_equal(vx_storage_read(image->storage, page, sizeof page, image->layout.bat_offset, NULL), VHDX_OK);
    vx_put_le64(page + 4 * 8, M(9) | 6);
    vx_log_entry_header_encode(entry, header);
    vx_log_page_encode(entry, 1, 0, 0, page, page_at, header->sequence_number);
    if (stray_at != 0)
        entry[stray_at] = 1;
    vx_log_entry_seal(entry, sizeof entry);
    put(image, image->layout.log_offset, entry, sizeof entry);
    set_log_guid(image);
}

static struct vx_log_entry_header
good_log_entry(void)
{
    return (struct vx_log_entry_header){
        .entry_length = 8192, .sequence_number = 7, .descriptor_count = 1, .log_guid = strange,
        .flushed_file_offset = M(9), .last_file_offset = M(10),
    };
}

static void
add_log(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    write_log(image, &header, image->layout.bat_offset, 0);
}

static void
add_log_and_cut_file(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    header.flushed_file_offset = M(10);
    write_log(image, &header, image->layout.bat_offset, 0);
}

static void
add_log_target_far_away(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    write_log(image, &header, M(100), 0);
}

static void
add_log_with_odd_lengths(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    header.flushed_file_offset += 4096;
    set_length(image, M(10));
    write_log(image, &header, image->layout.bat_offset, 0);
}

static void
add_log_with_vast_length(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    header.last_file_offset = UINT64_C(1) << 60;
    write_log(image, &header, image->layout.bat_offset, 0);
}

static void
add_log_with_stray_bits(struct image *image)
{
    struct vx_log_entry_header header = good_log_entry();

    write_log(image, &header, image->layout.bat_offset, 200);
}

/* Longer than any BAT needs to be: the file is all BAT behind it. */
static void
grow_bat_region(struct image *image)
{
    for (int copy = 0; copy < 2; copy++)
        put_number(image, VX_REGION_TABLE_OFFSET(copy) + REGION_ENTRY(0) + 24, 4, M(514));
    set_length(image, M(4) + M(514));
}

static void
thin_fixed(struct image *image)
{
    for (uint64_t i = 0; i < 4; i++)
        set_entry(image, i, 2);
    set_length(image, M(5));
}

static void
fill_slice(struct image *image)
{
    uint8_t bytes[256];

    memset(bytes, 0xff, sizeof bytes);
    put(image, M(5), bytes, sizeof bytes);
}

/* --- the table --- */

enum place {
    NOWHERE, IN_FILE, IN_HEADER, IN_OLD_HEADER, IN_HEADERS, IN_REGIONS, IN_REGIONS_2, IN_METADATA, IN_BAT
};

struct patch {
    enum place place;
    uint64_t   offset; /* IN_BAT: of the entry, counted in entries */
    unsigned   size;
    uint64_t   value;
};

struct damage_case {
    const char  *about;
    enum kind    kind;
    struct patch patches[5];
    void       (*damage)(struct image *image);
    uint64_t     length;    /* new file length, 0 to leave it */
    bool         is_not_sealed;
    bool         is_dirty;  /* LogGuid set */
    int          rules[4];  /* found, in rising order; all of them */
};

static const struct damage_case cases[] = {
    { "a plain image is clean", PLAIN, .rules = { 0 } },
    { "an image of larger blocks", PAIRS, .rules = { 0 } },
    { "an empty image", BARE, .rules = { 0 } },
    { "a fixed image", FIXED, .rules = { 0 } },
    { "a child", CHILD, .rules = { 0 } },
    { "an unknown optional region", PLAIN, .damage = add_optional_region, .rules = { 0 } },
    { "states 1, 2, 3 without offsets", PLAIN, { { IN_BAT, 4, 8, 1 }, { IN_BAT, 5, 8, 2 }, { IN_BAT, 6, 8, 3 } },
      .rules = { 0 } },
    { "an anchor in space of its own", PLAIN, { { IN_BAT, 4, 8, M(9) | 3 } }, .length = M(10), .rules = { 0 } },

    { "shorter than the header section", PLAIN, .length = 1 << 19, .rules = { 1 } },
    { "creator with half a surrogate", PLAIN, { { IN_FILE, 8, 2, 0xd800 } }, .rules = { 3 } },
    { "identifier's reserved bytes", PLAIN, { { IN_FILE, 600, 1, 1 } }, .rules = { 4 } },
    { "512 bytes too long", PLAIN, .length = M(9) + 512, .rules = { 5 } },
    { "reserved part of the header section", PLAIN, { { IN_FILE, 0x60000, 1, 1 } }, .rules = { 6 } },
    { "rest of a header slot", PLAIN, { { IN_FILE, 0x12000, 1, 1 } }, .rules = { 7 } },

    { "both headers' checksums", PLAIN, { { IN_HEADERS, 9, 1, 99 } }, .is_not_sealed = true, .rules = { 10 } },
    { "one header's checksum", PLAIN, { { IN_OLD_HEADER, 9, 1, 99 } }, .is_not_sealed = true, .rules = { 11 } },
    { "headers with one number", PLAIN, { { IN_OLD_HEADER, 8, 8, 2 } }, .rules = { 12 } },
    { "headers with one number that differ", PLAIN, { { IN_OLD_HEADER, 8, 8, 2 }, { IN_OLD_HEADER, 16, 1, 1 } },
      .rules = { 13 } },
    { "version 2", PLAIN, { { IN_HEADER, 66, 2, 2 } }, .rules = { 14 } },
    { "log version 1, log in use", PLAIN, { { IN_HEADERS, 64, 2, 1 } }, .is_dirty = true, .rules = { 15 } },
    { "log version 1, log empty", PLAIN, { { IN_HEADERS, 64, 2, 1 } }, .rules = { 16 } },
    { "log off its MiB", PLAIN, { { IN_HEADERS, 72, 8, M(1) + 4096 }, { IN_HEADERS, 68, 4, M(1) } },
      .rules = { 17 } },
    { "log of odd length", PLAIN, { { IN_HEADERS, 68, 4, M(2) - 4096 } }, .rules = { 18 } },
    { "log in use without length", PLAIN, { { IN_HEADERS, 68, 4, 0 } }, .is_dirty = true, .rules = { 19 } },
    { "log over the headers", PLAIN, { { IN_HEADERS, 72, 8, 0 }, { IN_HEADERS, 68, 4, M(3) } }, .rules = { 20 } },
    { "log past the end", PLAIN, { { IN_HEADERS, 72, 8, M(1024) } }, .is_dirty = true, .rules = { 21 } },
    { "log past the end of numbers", PLAIN, { { IN_HEADERS, 72, 8, UINT64_MAX - M(1) + 1 } }, .is_dirty = true,
      .rules = { 21 } },
    { "log over 1 GiB", PLAIN, { { IN_HEADERS, 72, 8, M(1024) }, { IN_HEADERS, 68, 4, M(1025) } }, .is_dirty = true,
      .length = M(4096), .rules = { 22 } },
    { "header's reserved bytes", PLAIN, { { IN_HEADER, 100, 1, 1 } }, .rules = { 23 } },
    { "sequence numbers used up", PLAIN,
      { { IN_HEADER, 8, 8, UINT64_MAX }, { IN_OLD_HEADER, 8, 8, UINT64_MAX - 1 } }, .rules = { 24 } },
    { "older header with another log", PLAIN, { { IN_OLD_HEADER, 68, 4, M(1) } }, .rules = { 25 } },
    { "older header much older", PLAIN, { { IN_OLD_HEADER, 8, 8, 0 } }, .rules = { 26 } },
    { "no DataWriteGuid", PLAIN, { { IN_HEADERS, 32, 8, 0 }, { IN_HEADERS, 40, 8, 0 } }, .rules = { 27 } },
    { "no log", PLAIN, { { IN_HEADERS, 68, 4, 0 } }, .rules = { 28 } },

    { "log asked for, none there", PLAIN, .is_dirty = true, .rules = { 30 } },
    { "file cut since the log was written", PLAIN, .damage = add_log_and_cut_file, .rules = { 31 } },
    { "log writes far past the file", PLAIN, .damage = add_log_target_far_away, .rules = { 43 } },
    { "log with odd file lengths", PLAIN, .damage = add_log_with_odd_lengths, .rules = { 44, 48 } },
    { "log with a vast file length", PLAIN, .damage = add_log_with_vast_length, .rules = { 45 } },
    { "log with stray bits", PLAIN, .damage = add_log_with_stray_bits, .rules = { 46, 48 } },
    { "log to be replayed", PLAIN, .damage = add_log, .rules = { 48 } },

    { "both region tables' checksums", PLAIN, { { IN_REGIONS, 100, 1, 1 } }, .is_not_sealed = true,
      .rules = { 55 } },
    { "one region table's checksum", PLAIN, { { IN_REGIONS_2, 100, 1, 1 } }, .is_not_sealed = true,
      .rules = { 56 } },
    { "region tables differ", PLAIN, { { IN_REGIONS_2, 0x8000, 1, 1 } }, .rules = { 57 } },
    { "2048 regions", PLAIN, { { IN_REGIONS, 8, 4, 2048 } }, .rules = { 58 } },
    { "region table's reserved field", PLAIN, { { IN_REGIONS, 12, 4, 1 } }, .rules = { 59 } },
    { "two BATs", PLAIN, .damage = add_known_region_twice, .rules = { 60 } },
    { "BAT off its MiB", PLAIN, { { IN_REGIONS, REGION_ENTRY(0) + 16, 8, M(9) + 512 } }, .length = M(11),
      .rules = { 61 } },
    { "BAT of odd length", PLAIN, { { IN_REGIONS, REGION_ENTRY(0) + 24, 4, M(1) - 1 } }, .rules = { 62 } },
    { "a region over the log", PLAIN, .damage = add_region_over_log, .rules = { 63 } },
    { "a region past the end", PLAIN, .damage = add_region_past_end, .rules = { 64 } },
    { "a required region", PLAIN, .damage = add_required_region, .rules = { 65 } },
    { "Required with other bits", PLAIN, { { IN_REGIONS, REGION_ENTRY(0) + 28, 4, 0x80000001 } }, .rules = { 66 } },
    { "no BAT", PLAIN, { { IN_REGIONS, REGION_ENTRY(0), 1, 1 }, { IN_REGIONS, REGION_ENTRY(0) + 28, 4, 0 } },
      .rules = { 67 } },
    { "no metadata", PLAIN, { { IN_REGIONS, REGION_ENTRY(1), 1, 1 }, { IN_REGIONS, REGION_ENTRY(1) + 28, 4, 0 } },
      .rules = { 68 } },
    { "BAT not required", PLAIN, { { IN_REGIONS, REGION_ENTRY(0) + 28, 4, 0 } }, .rules = { 69 } },
    { "bytes after the regions", PLAIN, { { IN_REGIONS, 0x9000, 1, 1 } }, .rules = { 70 } },

    { "metadata signature", PLAIN, { { IN_METADATA, 0, 1, 'M' } }, .rules = { 75 } },
    { "2048 items", PLAIN, { { IN_METADATA, 10, 2, 2048 } }, .rules = { 76 } },
    { "metadata table's reserved field", PLAIN, { { IN_METADATA, 8, 2, 1 } }, .rules = { 77 } },
    { "an item twice", PLAIN, .damage = add_item_twice, .rules = { 78 } },
    { "an item without a name", PLAIN, .damage = add_zero_guid_item, .rules = { 79 } },
    { "an empty item with an offset", PLAIN, .damage = add_empty_item_with_offset, .rules = { 81 } },
    { "an item past the region", PLAIN, .damage = add_item_past_region, .rules = { 82 } },
    { "items on top of each other", PLAIN, .damage = add_items_overlapping, .rules = { 83 } },
    { "1025 user items", PLAIN, .damage = add_user_items, .rules = { 84 } },
    { "an unknown required item", PLAIN, .damage = add_required_item, .rules = { 85 } },
    { "a required user item", PLAIN, .damage = add_required_user_item, .rules = { 86 } },
    { "an item's reserved bits", PLAIN, { { IN_METADATA, ITEM_ENTRY(1) + 28, 4, 1 } }, .rules = { 87 } },
    { "creation was interrupted", PLAIN, .damage = add_incomplete_marker, .rules = { 88 } },

    { "File Parameters too short", PLAIN, { { IN_METADATA, ITEM_ENTRY(0) + 20, 4, 4 } }, .rules = { 91 } },
    { "Virtual Disk Size too short", PLAIN, { { IN_METADATA, ITEM_ENTRY(1) + 20, 4, 4 } }, .rules = { 92 } },
    { "Logical Sector Size too short", PLAIN, { { IN_METADATA, ITEM_ENTRY(2) + 20, 4, 2 } }, .rules = { 93 } },
    { "File Parameters of the disk", PLAIN, { { IN_METADATA, ITEM_ENTRY(0) + 24, 4, 6 } }, .rules = { 94 } },
    { "blocks of 3 MiB", PLAIN, { { IN_METADATA, 0x10000, 4, M(3) } }, .rules = { 95 } },
    { "File Parameters' reserved bits", PLAIN, { { IN_METADATA, 0x10004, 4, 4 } }, .rules = { 96 } },
    { "sectors of 1024", PLAIN, { { IN_METADATA, 0x10010, 4, 1024 } }, .rules = { 97 } },
    { "physical sectors of 1024", PLAIN, { { IN_METADATA, 0x10014, 4, 1024 } }, .rules = { 98 } },
    { "a disk of nothing", PLAIN, { { IN_METADATA, 0x10008, 8, 0 } }, .rules = { 99 } },
    { "a disk over 64 TiB", PLAIN, { { IN_METADATA, 0x10008, 8, (UINT64_C(1) << 46) + 512 } }, .rules = { 99 } },
    { "Virtual Disk ID too short", PLAIN, { { IN_METADATA, ITEM_ENTRY(4) + 20, 4, 8 } }, .rules = { 100 } },
    { "a child without a locator", PLAIN, { { IN_METADATA, 0x10004, 4, 2 } }, .rules = { 101 } },
    { "a locator without a child", PLAIN, .damage = add_stray_locator, .rules = { 102 } },
    { "fixed and a child", CHILD, { { IN_METADATA, 0x10004, 4, 3 } }, .rules = { 103 } },
    { "no disk id", PLAIN, { { IN_METADATA, 0x10018, 8, 0 }, { IN_METADATA, 0x10020, 8, 0 } }, .rules = { 104 } },
    { "physical sectors below logical", PLAIN,
      { { IN_METADATA, 0x10010, 4, 4096 }, { IN_METADATA, 0x10014, 4, 512 } }, .rules = { 105 } },
    { "a tiny disk", BARE, { { IN_METADATA, 0x10008, 8, 512 } }, .rules = { 107 } },

    { "a locator of another type", CHILD, { { IN_METADATA, 0x10028, 1, 0 } }, .rules = { 111 } },
    { "a locator's reserved field", CHILD, { { IN_METADATA, 0x10028 + 16, 2, 1 } }, .rules = { 112 } },
    { "a locator of too many keys", CHILD, { { IN_METADATA, 0x10028 + 18, 2, 500 } }, .rules = { 113 } },
    { "an empty locator", CHILD, { { IN_METADATA, ITEM_ENTRY(5) + 16, 8, 0 } }, .rules = { 110 } },

    { "BAT too short for the disk", BARE, { { IN_METADATA, 0x10008, 8, M(200000) } }, .rules = { 130 } },
    { "state 4", PLAIN, { { IN_BAT, 4, 8, 4 } }, .rules = { 131 } },
    { "present at nothing", PLAIN, { { IN_BAT, 4, 8, 6 } }, .rules = { 132 } },
    { "present past all numbers", PLAIN, { { IN_BAT, 4, 8, UINT64_C(0xfffffffffff00006) } }, .rules = { 132 } },
    { "state 7 without a parent", PLAIN, { { IN_BAT, 3, 8, M(8) | 7 } }, .rules = { 133 } },
    { "a block past the end", PLAIN, { { IN_BAT, 4, 8, M(9) | 6 } }, .rules = { 134 } },
    { "state 5", PLAIN, { { IN_BAT, 4, 8, 5 } }, .rules = { 131 } },
    { "a block that the end cuts in half", PAIRS, .length = M(8), .rules = { 134 } },
    { "a child's block past the end", CHILD, { { IN_BAT, 1, 8, M(99) | 6 } }, .rules = { 134 } },
    { "a child's block cut, its bitmap gone", CHILD,
      { { IN_BAT, CHILD_BITMAP_ENTRY, 8, M(8) | 6 }, { IN_BAT, 1, 8, M(8) | 6 } }, .rules = { 134, 144, 148 } },
    { "no log, no room for one, a block past the end", PLAIN,
      { { IN_HEADERS, 68, 4, 0 }, { IN_BAT, 3, 8, M(1) | 6 }, { IN_BAT, 4, 8, M(9) | 6 } }, .rules = { 28, 134 } },
    { "a block over the log", PLAIN, { { IN_BAT, 4, 8, M(1) | 6 } }, .rules = { 135 } },
    { "a block over the BAT", PLAIN, { { IN_BAT, 4, 8, M(4) | 6 } }, .rules = { 135 } },
    { "a block over half of another", PAIRS, { { IN_BAT, 2, 8, M(6) | 6 } }, .rules = { 135 } },
    { "the last block is cut past the disk", PAIRS,
      { { IN_METADATA, 0x10008, 8, M(9) }, { IN_BAT, 4, 8, M(9) | 6 } }, .length = M(10), .rules = { 136 } },
    { "two blocks at one place", PLAIN, { { IN_BAT, 4, 8, M(5) | 6 } }, .rules = { 137 } },
    { "a bitmap at a block's place", CHILD, { { IN_BAT, CHILD_BITMAP_ENTRY, 8, M(6) | 6 } },
      .rules = { 137, 148, 157 } },
    { "state 2 with an offset", PLAIN, { { IN_BAT, 4, 8, M(5) | 2 } }, .rules = { 138 } },
    { "an anchor on a block", PLAIN, { { IN_BAT, 4, 8, M(5) | 3 } }, .rules = { 139 } },
    { "an anchor before its block", PLAIN, { { IN_BAT, 0, 8, M(6) | 3 } }, .rules = { 139, 148 } },
    { "an anchor past the end", PLAIN, { { IN_BAT, 4, 8, M(9) | 1 } }, .rules = { 139 } },
    { "reserved bits of an entry", PLAIN, { { IN_BAT, 3, 8, M(8) | 6 | 8 } }, .rules = { 140 } },
    { "a bitmap in state 2", CHILD, { { IN_BAT, CHILD_BITMAP_ENTRY, 8, 2 } }, .rules = { 141, 148 } },
    { "a bitmap without a parent", BARE, { { IN_BAT, 4096, 8, M(4) | 6 } }, .rules = { 142 } },
    { "state 7 without a bitmap", CHILD, { { IN_BAT, CHILD_BITMAP_ENTRY, 8, 0 } }, .rules = { 143, 148 } },
    { "a bitmap past the end", CHILD, { { IN_BAT, CHILD_BITMAP_ENTRY, 8, M(8) | 6 } }, .rules = { 144, 148 } },
    { "a bitmap over the BAT", CHILD, { { IN_BAT, CHILD_BITMAP_ENTRY, 8, M(4) | 6 } }, .rules = { 144, 148 } },
    { "padding with something in it", PLAIN, { { IN_BAT, 10, 8, M(5) | 6 } }, .rules = { 145 } },
    { "padding inside a chunk", CHILD, { { IN_BAT, 100, 8, 2 } }, .rules = { 145 } },
    { "a hole in a fixed image", FIXED, { { IN_BAT, 1, 8, 2 } }, .rules = { 146, 148 } },
    { "a fixed image without its blocks", FIXED, .damage = thin_fixed, .rules = { 146, 147 } },
    { "space between the blocks is lost", PLAIN, { { IN_BAT, 1, 8, 0 } }, .rules = { 148 } },
    { "much space at the end is lost", PLAIN, .length = M(9) + M(34), .rules = { 149 } },
    { "a little space at the end is fine", PLAIN, .length = M(9) + M(33), .rules = { 0 } },
    { "BAT region beyond all need", BARE, .damage = grow_bat_region, .rules = { 150 } },

    { "bits past the end of the disk", CHILD, { { IN_FILE, M(5) + 9 * 256 + 128, 1, 1 } }, .rules = { 155 } },
    { "all bits set", CHILD, .damage = fill_slice, .rules = { 156 } },
    { "no bit set", CHILD, { { IN_FILE, M(5), 1, 0 } }, .rules = { 157 } },
    { "a bitmap nobody needs", CHILD, { { IN_BAT, 0, 8, M(6) | 6 }, { IN_BAT, 9, 8, M(7) | 6 } },
      .rules = { 158 } },
};

static void
apply(struct image *image, const struct patch *patch)
{
    uint64_t at = patch->offset;

    switch (patch->place) {
    case NOWHERE:
        return;
    case IN_FILE:
        break;
    case IN_HEADER:
        at += VX_HEADER_OFFSET(1);
        break;
    case IN_HEADERS:
        put_number(image, VX_HEADER_OFFSET(1) + at, patch->size, patch->value);
        at += VX_HEADER_OFFSET(0);
        break;
    case IN_OLD_HEADER:
        at += VX_HEADER_OFFSET(0);
        break;
    case IN_REGIONS:
        put_number(image, VX_REGION_TABLE_OFFSET(1) + at, patch->size, patch->value);
        at += VX_REGION_TABLE_OFFSET(0);
        break;
    case IN_REGIONS_2:
        at += VX_REGION_TABLE_OFFSET(1);
        break;
    case IN_METADATA:
        at += image->layout.metadata_offset;
        break;
    case IN_BAT:
        at = image->layout.bat_offset + 8 * at;
        break;
    }
    put_number(image, at, patch->size, patch->value);
}

static void
build_case(struct image *image, const struct damage_case *c)
{
    build(image, c->kind);
    if (c->length > 0)
        set_length(image, c->length);
    for (size_t i = 0; i < sizeof c->patches / sizeof c->patches[0]; i++)
        apply(image, &c->patches[i]);
    if (c->is_dirty)
        set_log_guid(image);
    if (c->damage != NULL)
        c->damage(image);
    if (!c->is_not_sealed && c->length != 1 << 19)
        seal_all(image);
}

#endif
