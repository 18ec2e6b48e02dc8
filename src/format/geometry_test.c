/* Index arithmetic: the tables and examples of docs/vhdx-format.md section 3, and the edges. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "format/geometry.h"

#define M VX_MIB
#define G VX_GIB
#define T VX_TIB

/* 3.4, a line each. */
static const struct row {
    uint64_t size, block, sector, ratio, payload, bitmaps, entries, entries_differencing, region;
} rows[] = {
    { 1 * G,   2 * M,   512,  2048,  512,      1,     512,      2049,     1 * M },
    { 10 * G,  32 * M,  512,  128,   320,      3,     322,      387,      1 * M },
    { 10 * G,  1 * M,   512,  4096,  10240,    3,     10242,    12291,    1 * M },
    { 127 * G, 32 * M,  512,  128,   4064,     32,    4095,     4128,     1 * M },
    { 1 * T,   256 * M, 512,  16,    4096,     256,   4351,     4352,     1 * M },
    { 4 * T,   2 * M,   4096, 16384, 2097152,  128,   2097279,  2097280,  17 * M },
    { 64 * T,  32 * M,  512,  128,   2097152,  16384, 2113535,  2113536,  17 * M },
    { 64 * T,  256 * M, 512,  16,    262144,   16384, 278527,   278528,   3 * M },
    { 64 * T,  1 * M,   512,  4096,  67108864, 16384, 67125247, 67125248, 513 * M },
    { 64 * T,  1 * M,   4096, 32768, 67108864, 2048,  67110911, 67110912, 513 * M },
};
#define ROW_COUNT (sizeof rows / sizeof rows[0])

static void
worked_examples(void **state)
{
    struct vx_geometry g;
    size_t i;

    (void)state;
    for (i = 0; i < ROW_COUNT; i++) {
        const struct row *row = &rows[i];

        vx_geometry_init(&g, row->size, (uint32_t)row->block, (uint32_t)row->sector, false, false);
        assert_int_equal(g.chunk_ratio, row->ratio);
        assert_int_equal(g.payload_block_count, row->payload);
        assert_int_equal(g.bitmap_block_count, row->bitmaps);
        assert_int_equal(g.bat_entry_count, row->entries);
        assert_int_equal(vx_geometry_bat_region_length(&g), row->region);
        vx_geometry_init(&g, row->size, (uint32_t)row->block, (uint32_t)row->sector, true, false);
        assert_int_equal(g.bat_entry_count, row->entries_differencing);
        assert_int_equal(vx_geometry_bat_region_length(&g), row->region);
        assert_int_equal(g.sectors_per_block, row->block / row->sector);
        assert_int_equal(g.bitmap_slice * row->ratio, M);
    }
}

static void
chunk_ratios(void **state)
{
    static const struct {
        uint64_t block;
        uint32_t ratio512, ratio4096;
    } cases[] = {
        { 1 * M, 4096, 32768 }, { 2 * M, 2048, 16384 }, { 8 * M, 512, 4096 },  { 16 * M, 256, 2048 },
        { 32 * M, 128, 1024 },  { 64 * M, 64, 512 },    { 256 * M, 16, 128 },
    };
    struct vx_geometry g;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vx_geometry_init(&g, G, (uint32_t)cases[i].block, 512, false, false);
        assert_int_equal(g.chunk_ratio, cases[i].ratio512);
        assert_int_equal(UINT64_C(1) << g.chunk_shift, cases[i].ratio512);
        assert_int_equal(UINT64_C(1) << g.block_shift, cases[i].block);
        assert_int_equal(g.sector_shift, 9);
        vx_geometry_init(&g, G, (uint32_t)cases[i].block, 4096, false, false);
        assert_int_equal(g.chunk_ratio, cases[i].ratio4096);
        assert_int_equal(g.sector_shift, 12);
    }
}

static void
address_example_1(void **state)
{
    const uint64_t x = UINT64_C(0x1C000F600);
    struct vx_geometry g;
    uint8_t mask;

    (void)state;
    vx_geometry_init(&g, 10 * G, (uint32_t)(32 * M), 512, true, false);
    assert_int_equal(vx_geometry_block_of(&g, x), 224);
    assert_int_equal(vx_geometry_chunk_of(&g, 224), 1);
    assert_int_equal(vx_geometry_payload_bat_index(&g, 224), 225);
    assert_int_equal(vx_geometry_bitmap_bat_index(&g, 1), 257);
    assert_int_equal(vx_geometry_offset_in_block(&g, x), 0xF600);
    assert_int_equal(vx_geometry_bitmap_byte(&g, x, &mask), 0xC000F);
    assert_int_equal(mask, 0x08);
}

static void
address_example_2(void **state)
{
    const uint64_t x = UINT64_C(0x10000005000);
    struct vx_geometry g;
    uint8_t mask;

    (void)state;
    vx_geometry_init(&g, 64 * T, (uint32_t)M, 4096, true, false);
    assert_int_equal(vx_geometry_block_of(&g, x), 1048576);
    assert_int_equal(vx_geometry_chunk_of(&g, 1048576), 32);
    assert_int_equal(vx_geometry_payload_bat_index(&g, 1048576), 1048608);
    assert_int_equal(vx_geometry_bitmap_bat_index(&g, 32), 1081376);
    assert_int_equal(vx_geometry_offset_in_block(&g, x), 0x5000);
    assert_int_equal(vx_geometry_bitmap_byte(&g, x, &mask), 0);
    assert_int_equal(mask, 0x20);
}

/* The last block of a chunk and the first of the next, on both sides of 4 GiB. */
static void
chunk_border(void **state)
{
    struct vx_geometry g;
    uint8_t mask;

    (void)state;
    vx_geometry_init(&g, 8 * G, (uint32_t)(32 * M), 512, true, false);
    assert_int_equal(vx_geometry_block_of(&g, 4 * G - 1), 127);
    assert_int_equal(vx_geometry_block_of(&g, 4 * G), 128);
    assert_int_equal(vx_geometry_payload_bat_index(&g, 127), 127);
    assert_int_equal(vx_geometry_bitmap_bat_index(&g, 0), 128);
    assert_int_equal(vx_geometry_payload_bat_index(&g, 128), 129);
    assert_int_equal(vx_geometry_bitmap_bat_index(&g, 1), 257);
    assert_int_equal(vx_geometry_bitmap_byte(&g, 4 * G - 512, &mask), M - 1);
    assert_int_equal(mask, 0x80);
    assert_int_equal(vx_geometry_bitmap_byte(&g, 4 * G, &mask), 0);
    assert_int_equal(mask, 0x01);
    assert_int_equal(vx_geometry_slice_offset(&g, 127), M - 8192);
    assert_int_equal(vx_geometry_slice_offset(&g, 128), 0);
    assert_int_equal(vx_geometry_slice_offset(&g, 129), 8192);
}

static void
last_block(void **state)
{
    static const struct {
        const char *words;
        uint64_t    size;
        uint64_t    count;
        uint32_t    last_length;
    } cases[] = {
        { "one sector",                512,               1,        512 },
        { "one block and a sector",    2 * M + 512,       2,        512 },
        { "whole blocks",              4 * M,             2,        2 * M },
        { "a sector less",             4 * M - 512,       2,        2 * M - 512 },
        { "across 4 GiB",              4 * G + 512,       2049,     512 },
        { "a sector below 64 TiB",     64 * T - 512,      33554432, 2 * M - 512 },
    };
    struct vx_geometry g;
    size_t i;

    (void)state;
    for (i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        vx_geometry_init(&g, cases[i].size, (uint32_t)(2 * M), 512, false, false);
        assert_int_equal(g.payload_block_count, cases[i].count);
        assert_int_equal(vx_geometry_block_length(&g, cases[i].count - 1), cases[i].last_length);
        assert_int_equal(vx_geometry_block_length(&g, cases[i].count), 0);
        if (cases[i].count > 1)
            assert_int_equal(vx_geometry_block_length(&g, 0), 2 * M);
    }
}

/* Each entry of a BAT is either one payload block's or one chunk's, and both ways agree. */
static void
entries_and_their_inverse(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ROW_COUNT; i++) {
        struct vx_geometry g;
        uint64_t step, entry, index;

        vx_geometry_init(&g, rows[i].size, (uint32_t)rows[i].block, (uint32_t)rows[i].sector, true, false);
        step = g.bat_entry_count / 4001 + 1;
        for (entry = 0; entry < g.bat_entry_count; entry += step) {
            if (vx_geometry_is_payload_entry(&g, entry, &index))
                assert_int_equal(vx_geometry_payload_bat_index(&g, index), entry);
            else
                assert_int_equal(vx_geometry_bitmap_bat_index(&g, index), entry);
        }
        assert_false(vx_geometry_is_payload_entry(&g, g.bat_entry_count - 1, &index));
        assert_int_equal(index, g.bitmap_block_count - 1);
        assert_false(vx_geometry_is_payload_entry(&g, g.chunk_ratio, &index));
        assert_int_equal(index, 0);
        assert_true(vx_geometry_is_payload_entry(&g, (uint64_t)g.chunk_ratio + 1, &index));
        assert_int_equal(index, g.chunk_ratio);
    }
}

static void
padding_entries(void **state)
{
    struct vx_geometry g;
    uint64_t index;

    (void)state;
    vx_geometry_init(&g, 10 * M, (uint32_t)(2 * M), 512, true, false); /* 5 blocks of a chunk of 2048 */
    assert_int_equal(g.bat_entry_count, 2049);
    assert_true(vx_geometry_is_payload_entry(&g, 5, &index));
    assert_int_equal(index, 5);
    assert_false(vx_geometry_is_payload_entry(&g, 2048, &index));
}

/* A slice begins at the byte of its block's first sector. */
static void
slices_and_bytes(void **state)
{
    size_t i;

    (void)state;
    for (i = 0; i < ROW_COUNT; i++) {
        struct vx_geometry g;
        uint64_t step, block;
        uint8_t mask;

        vx_geometry_init(&g, rows[i].size, (uint32_t)rows[i].block, (uint32_t)rows[i].sector, true, false);
        step = g.payload_block_count / 997 + 1;
        for (block = 0; block < g.payload_block_count; block += step) {
            uint64_t guest_offset = block * g.block_size;

            assert_int_equal(vx_geometry_bitmap_byte(&g, guest_offset, &mask), vx_geometry_slice_offset(&g, block));
            assert_int_equal(mask, 1);
            assert_int_equal(vx_geometry_bitmap_byte(&g, guest_offset + g.block_size - 1, &mask),
                             vx_geometry_slice_offset(&g, block) + g.bitmap_slice - 1);
            assert_int_equal(mask, 0x80);
        }
    }
}

static void
fixed_and_differencing_flags(void **state)
{
    struct vx_geometry g;

    (void)state;
    vx_geometry_init(&g, G, (uint32_t)M, 512, false, true);
    assert_true(g.is_fixed && !g.is_differencing);
    vx_geometry_init(&g, G, (uint32_t)M, 512, true, true); /* V103: HasParent wins */
    assert_true(!g.is_fixed && g.is_differencing);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_examples),
        cmocka_unit_test(chunk_ratios),
        cmocka_unit_test(address_example_1),
        cmocka_unit_test(address_example_2),
        cmocka_unit_test(chunk_border),
        cmocka_unit_test(last_block),
        cmocka_unit_test(entries_and_their_inverse),
        cmocka_unit_test(padding_entries),
        cmocka_unit_test(slices_and_bytes),
        cmocka_unit_test(fixed_and_differencing_flags),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
