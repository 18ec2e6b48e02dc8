/* Layouts of fresh images: options judged, defaults, places. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <inttypes.h>
#include <string.h>

#include "base/memory.h"
#include "format/region.h"
#include "ops/layout_new.h"

struct option_case {
    const char *about;
    struct vhdx_create_options options;
    int code;
};

static const struct option_case option_cases[] = {
    { "defaults", { .virtual_size = UINT64_C(10) << 30 }, VHDX_OK },
    { "one sector", { .virtual_size = 512 }, VHDX_OK },
    { "64 TiB", { .virtual_size = UINT64_C(64) << 40 }, VHDX_OK },
    { "nothing", { .virtual_size = 0 }, VHDX_E_INVALID },
    { "over 64 TiB", { .virtual_size = (UINT64_C(64) << 40) + 512 }, VHDX_E_INVALID },
    { "half a sector", { .virtual_size = (1 << 20) + 256 }, VHDX_E_INVALID },
    { "512 aligned, 4096 asked for", { .virtual_size = 4096 + 512, .logical_sector_size = 4096 }, VHDX_E_INVALID },
    { "4096 sectors", { .virtual_size = 4096, .logical_sector_size = 4096 }, VHDX_OK },
    { "1024 sectors", { .virtual_size = 4096, .logical_sector_size = 1024 }, VHDX_E_INVALID },
    { "physical 512", { .virtual_size = 4096, .physical_sector_size = 512 }, VHDX_OK },
    { "physical 2048", { .virtual_size = 4096, .physical_sector_size = 2048 }, VHDX_E_INVALID },
    { "physical below logical",
      { .virtual_size = 4096, .logical_sector_size = 4096, .physical_sector_size = 512 }, VHDX_E_INVALID },
    { "1 MiB blocks", { .virtual_size = 4096, .block_size = 1 << 20 }, VHDX_OK },
    { "256 MiB blocks", { .virtual_size = 4096, .block_size = 256 << 20 }, VHDX_OK },
    { "3 MiB blocks", { .virtual_size = 4096, .block_size = 3 << 20 }, VHDX_E_INVALID },
    { "512 KiB blocks", { .virtual_size = 4096, .block_size = 512 << 10 }, VHDX_E_INVALID },
    { "512 MiB blocks", { .virtual_size = 4096, .block_size = 512 << 20 }, VHDX_E_INVALID },
    { "1 GiB log", { .virtual_size = 4096, .log_size = 1 << 30 }, VHDX_OK },
    { "log over 1 GiB", { .virtual_size = 4096, .log_size = (1 << 30) + (1 << 20) }, VHDX_E_INVALID },
    { "log of half MiBs", { .virtual_size = 4096, .log_size = 3 << 19 }, VHDX_E_INVALID },
    { "creator", { .virtual_size = 4096, .creator = "maker 1.0" }, VHDX_OK },
    { "creator with a control character", { .virtual_size = 4096, .creator = "a\nb" }, VHDX_E_INVALID },
    { "creator in UTF-8", { .virtual_size = 4096, .creator = "J\xc3\xb6rg" }, VHDX_E_INVALID },
    { "child without a locator", { .type = VHDX_TYPE_DIFFERENCING, .virtual_size = 4096 }, VHDX_E_INVALID },
    { "no such type", { .type = (enum vhdx_image_type)7, .virtual_size = 4096 }, VHDX_E_INVALID },
};

static void
judges_options(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof option_cases / sizeof option_cases[0]; i++) {
        const struct option_case *c = &option_cases[i];
        struct vx_new_layout layout;
        struct vhdx_error err = { .code = 0 };
        int rc = vx_new_layout_init(&layout, &c->options, NULL, &err);

        if (rc != c->code)
            fail_msg("%s: %d (%s)", c->about, rc, err.message);
        if (rc < 0)
            assert_true(err.code == rc && err.message[0] != '\0');
    }
}

static void
creator_of_255_fits(void **state)
{
    struct vx_new_layout layout;
    struct vhdx_create_options options = { .virtual_size = 4096 };
    char creator[300];

    (void)state;
    memset(creator, 'x', sizeof creator);
    creator[255] = '\0';
    options.creator = creator;
    assert_int_equal(vx_new_layout_init(&layout, &options, NULL, NULL), VHDX_OK);
    creator[255] = 'x';
    creator[256] = '\0';
    assert_int_equal(vx_new_layout_init(&layout, &options, NULL, NULL), VHDX_E_INVALID);
}

struct place_case {
    const char *about;
    struct vhdx_create_options options;
    uint32_t block_size;
    uint64_t metadata_offset, bat_offset, first_block_offset, file_length;
};

#define M(n) (UINT64_C(n) << 20)

static const struct place_case place_cases[] = {
    { "as Hyper-V lays it out", { .virtual_size = UINT64_C(10) << 30 }, M(2), M(2), M(3), M(4), M(4) },
    { "8 TiB still has 2 MiB blocks", { .virtual_size = UINT64_C(8) << 40 }, M(2), M(2), M(3), M(36), M(36) },
    { "32 MiB blocks above", { .virtual_size = (UINT64_C(8) << 40) + 512 }, M(32), M(2), M(3), M(6), M(6) },
    { "a larger log moves all", { .virtual_size = M(1), .log_size = M(5) }, M(2), M(6), M(7), M(8), M(8) },
    { "fixed: whole blocks", { .type = VHDX_TYPE_FIXED, .virtual_size = M(5) }, M(2), M(2), M(3), M(4), M(10) },
    { "64 TiB in 1 MiB blocks", { .virtual_size = UINT64_C(64) << 40, .block_size = M(1) },
      M(1), M(2), M(3), M(516), M(516) },
};

static void
places_structures(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof place_cases / sizeof place_cases[0]; i++) {
        const struct place_case *c = &place_cases[i];
        struct vx_new_layout layout;

        assert_int_equal(vx_new_layout_init(&layout, &c->options, NULL, NULL), VHDX_OK);
        if (layout.geometry.block_size != c->block_size || layout.metadata_offset != c->metadata_offset ||
            layout.bat_offset != c->bat_offset || layout.first_block_offset != c->first_block_offset ||
            layout.file_length != c->file_length)
            fail_msg("%s: block size %" PRIu32 ", metadata %" PRIu64 ", BAT %" PRIu64 ", first block %" PRIu64
                     ", length %" PRIu64, c->about, layout.geometry.block_size, layout.metadata_offset,
                     layout.bat_offset, layout.first_block_offset, layout.file_length);
    }
}

static void
headers_differ_by_one(void **state)
{
    struct vx_new_layout layout;
    struct vhdx_create_options options = { .virtual_size = M(10) };
    uint8_t copies[2][VX_HEADER_SIZE];
    struct vx_findings findings;
    struct vx_header current;
    int current_index;

    (void)state;
    assert_int_equal(vx_new_layout_init(&layout, &options, NULL, NULL), VHDX_OK);
    vx_new_layout_header(&layout, 0, copies[0]);
    vx_new_layout_header(&layout, 1, copies[1]);
    vx_findings_init(&findings, NULL, NULL);
    assert_int_equal(vx_header_choose(&current, &current_index, copies[0], copies[1], &findings), VHDX_OK);
    vx_header_judge(&current, VX_HEADER_OFFSET(current_index), layout.file_length, &findings);
    assert_int_equal(current_index, 1);
    assert_int_equal(findings.count, 0);
    assert_true(vhdx_guid_is_zero(&current.log_guid));
    assert_false(vhdx_guid_is_zero(&current.data_write_guid));
}

static void
child_keeps_its_locator(void **state)
{
    static const uint8_t item[190] = { 0xb7, 0xef };
    struct vx_new_locator locator = { .item = item, .length = sizeof item };
    struct vhdx_create_options options = { .type = VHDX_TYPE_DIFFERENCING, .virtual_size = M(10) };
    struct vx_new_layout layout;
    uint8_t *bytes;

    (void)state;
    assert_int_equal(vx_new_layout_init(&layout, &options, &locator, NULL), VHDX_OK);
    assert_true(layout.geometry.is_differencing);
    assert_int_equal(vx_new_layout_metadata_length(&layout), 0x10028 + sizeof item);
    bytes = vx_alloc(vx_new_layout_metadata_length(&layout));
    assert_non_null(bytes);
    vx_new_layout_metadata(&layout, bytes);
    assert_memory_equal(bytes + 0x10028, item, sizeof item);
    vx_free(bytes);

    options.type = VHDX_TYPE_DYNAMIC;
    assert_int_equal(vx_new_layout_init(&layout, &options, &locator, NULL), VHDX_E_INVALID);
}

static void
region_table_names_both(void **state)
{
    struct vx_new_layout layout;
    struct vhdx_create_options options = { .virtual_size = M(10) };
    struct vx_region_table *table = vx_alloc(sizeof *table);
    uint8_t *bytes = vx_alloc(VX_REGION_TABLE_SIZE);

    (void)state;
    assert_true(table != NULL && bytes != NULL);
    assert_int_equal(vx_new_layout_init(&layout, &options, NULL, NULL), VHDX_OK);
    assert_int_equal(vx_new_layout_region_table(&layout, bytes, NULL), VHDX_OK);
    assert_int_equal(vx_region_table_decode(table, bytes, 0, NULL), VHDX_OK);
    assert_int_equal(table->region_count, 2);
    assert_true(vhdx_guid_equal(&table->regions[0].guid, &vx_guid_region_bat));
    assert_true(table->regions[0].file_offset == M(3) && table->regions[0].flags == 1);
    vx_free(table);
    vx_free(bytes);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(judges_options),        cmocka_unit_test(creator_of_255_fits),
        cmocka_unit_test(places_structures),     cmocka_unit_test(headers_differ_by_one),
        cmocka_unit_test(child_keeps_its_locator), cmocka_unit_test(region_table_names_both),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
