/* The pages of metadata in memory: found again, never lost while they are edited, given up when they are not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "image/pages.h"
#include "storage/storage.h"

#define COUNT 500u

struct fixture {
    struct vhdx_storage *storage;
    struct vx_pages      pages;
};

/* COUNT pages on the storage, each with its number in its first byte (and a byte past that). */
static struct fixture
make(size_t dirty_limit)
{
    struct fixture f;
    uint8_t        bytes[2];

    assert_int_equal(vhdx_storage_new_memory(&f.storage, (uint64_t)COUNT * VX_PAGE, NULL), VHDX_OK);
    for (size_t i = 0; i < COUNT; i++) {
        bytes[0] = (uint8_t)i;
        bytes[1] = 0xCC;
        assert_int_equal(vx_storage_write(f.storage, bytes, 2, (uint64_t)i * VX_PAGE, NULL), VHDX_OK);
    }
    assert_int_equal(vx_pages_init(&f.pages, 1, dirty_limit, NULL), VHDX_OK);
    return f;
}

static void
end(struct fixture *f)
{
    vx_pages_destroy(&f->pages);
    vhdx_storage_close(f->storage);
}

static struct vx_page *
load(struct fixture *f, size_t number)
{
    struct vx_page *page;

    assert_int_equal(vx_pages_load(&f->pages, f->storage, (uint64_t)number * VX_PAGE, &page, NULL), VHDX_OK);
    assert_true(page->file_offset == (uint64_t)number * VX_PAGE);
    return page;
}

static void
is_as_large_as_asked_for(void **state)
{
    struct vx_pages pages;

    (void)state;
    assert_int_equal(vx_pages_init(&pages, 0, 0, NULL), VHDX_OK);
    assert_int_equal(pages.capacity, VX_PAGES_MINIMUM);
    vx_pages_destroy(&pages);
    assert_int_equal(vx_pages_init(&pages, 0, 84, NULL), VHDX_OK);
    assert_int_equal(pages.capacity, 4 * 84);
    vx_pages_destroy(&pages);
    assert_int_equal(vx_pages_init(&pages, 4 * VX_MIB, 10, NULL), VHDX_OK);
    assert_in_range(pages.capacity, 900, 1024);
    vx_pages_destroy(&pages);
    assert_int_equal(vx_pages_init(&pages, UINT64_MAX, 10, NULL) < 0, true);
}

static void
finds_what_it_read(void **state)
{
    struct fixture  f = make(4);
    struct vx_page *page = load(&f, 7);
    uint8_t         byte = 0x99;

    (void)state;
    assert_int_equal(page->bytes[0], 7);
    assert_int_equal(page->bytes[1], 0xCC);
    assert_ptr_equal(vx_pages_find(&f.pages, 7 * VX_PAGE), page);
    assert_null(vx_pages_find(&f.pages, 8 * VX_PAGE));
    assert_int_equal(vx_storage_write(f.storage, &byte, 1, 7 * VX_PAGE, NULL), VHDX_OK);
    assert_ptr_equal(load(&f, 7), page);
    assert_int_equal(page->bytes[0], 7); /* not read again */
    end(&f);
}

/* Past the end of the file are zeros, also in the page that the end lies in. */
static void
ends_in_zeros(void **state)
{
    struct fixture  f = make(4);
    struct vx_page *page;
    uint8_t         zeros[VX_PAGE] = { 0 };

    (void)state;
    assert_int_equal(vx_storage_set_size(f.storage, 9 * VX_PAGE + 1, NULL), VHDX_OK);
    page = load(&f, 9);
    assert_int_equal(page->bytes[0], 9);
    assert_memory_equal(page->bytes + 1, zeros, VX_PAGE - 1);
    page = load(&f, 10);
    assert_memory_equal(page->bytes, zeros, VX_PAGE);
    assert_false(page->is_allocated);
    assert_true(load(&f, 8)->is_allocated); /* it holds something: the host has space for it */
    end(&f);
}

/* P1: whoever else comes and goes, an edited page stays as it is, dirty or committing. */
static void
keeps_what_is_edited(void **state)
{
    struct fixture  f = make(8);
    struct vx_page *gathered[8], *committing = load(&f, 3), *dirty;

    (void)state;
    committing->bytes[0] = 0xE1;
    assert_true(vx_pages_make_dirty(&f.pages, committing));
    assert_false(vx_pages_make_dirty(&f.pages, committing)); /* it was */
    assert_int_equal(vx_pages_gather(&f.pages, gathered), 1);
    assert_ptr_equal(gathered[0], committing);
    dirty = load(&f, 5);
    dirty->bytes[0] = 0xE2;
    assert_true(vx_pages_make_dirty(&f.pages, dirty));
    for (size_t round = 0; round < 3; round++)
        for (size_t i = 10; i < COUNT; i++)
            assert_int_equal(load(&f, i)->bytes[0], (uint8_t)i);
    assert_in_range(f.pages.used_count, 3, f.pages.capacity);
    assert_ptr_equal(vx_pages_find(&f.pages, 3 * VX_PAGE), committing);
    assert_int_equal(committing->bytes[0], 0xE1);
    assert_ptr_equal(vx_pages_find(&f.pages, 5 * VX_PAGE), dirty);
    assert_int_equal(dirty->bytes[0], 0xE2);

    committing->is_committing = false; /* applied: now it may go, and does when there is need */
    for (size_t i = 10; i < COUNT; i++)
        load(&f, i);
    assert_null(vx_pages_find(&f.pages, 3 * VX_PAGE));
    assert_non_null(vx_pages_find(&f.pages, 5 * VX_PAGE));
    end(&f);
}

/* P2: edited again while its copy is on its way, a page is both, and belongs to the next gather as well. */
static void
is_dirty_and_committing(void **state)
{
    struct fixture  f = make(8);
    struct vx_page *gathered[8], *page = load(&f, 1);

    (void)state;
    vx_pages_make_dirty(&f.pages, page);
    vx_pages_make_dirty(&f.pages, load(&f, 2));
    assert_int_equal(vx_pages_gather(&f.pages, gathered), 2);
    assert_true(page->is_committing && !page->is_dirty);
    assert_true(vx_pages_make_dirty(&f.pages, page));
    assert_true(page->is_committing && page->is_dirty);
    assert_int_equal(vx_pages_gather(&f.pages, gathered), 1);
    assert_ptr_equal(gathered[0], page);
    assert_int_equal(vx_pages_gather(&f.pages, gathered), 0);
    end(&f);
}

/* Pages used again and again outlive those that were looked at once. */
static void
keeps_what_is_used(void **state)
{
    struct fixture f = make(4);

    (void)state;
    for (size_t i = 0; i < COUNT; i++) {
        load(&f, i);
        if (i >= 10)
            assert_non_null(vx_pages_find(&f.pages, 10 * VX_PAGE));
    }
    assert_null(vx_pages_find(&f.pages, 11 * VX_PAGE));
    end(&f);
}

static void
forgets_a_range(void **state)
{
    struct fixture  f = make(4);
    struct vx_page *edited;

    (void)state;
    for (size_t i = 0; i < 8; i++)
        load(&f, i);
    edited = load(&f, 4);
    vx_pages_make_dirty(&f.pages, edited);
    vx_pages_forget(&f.pages, 2 * VX_PAGE, 4 * VX_PAGE);
    for (size_t i = 0; i < 8; i++)
        assert_int_equal(vx_pages_find(&f.pages, (uint64_t)i * VX_PAGE) != NULL, i < 2 || i == 4 || i > 5);
    end(&f);
}

static int
fail_to_read(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    (void)storage, (void)vector, (void)vector_count, (void)file_offset, (void)err;
    return VHDX_E_IO;
}

static void
a_failed_read_leaves_nothing(void **state)
{
    struct fixture                     f = make(4);
    const struct vhdx_storage_methods *methods = f.storage->methods;
    struct vhdx_storage_methods        failing = *methods;
    struct vx_page                    *page;

    (void)state;
    failing.readv = fail_to_read;
    for (size_t i = 0; i < 100; i++) { /* also when pages have to go for it */
        load(&f, i);
        f.storage->methods = &failing;
        assert_int_equal(vx_pages_load(&f.pages, f.storage, 300 * VX_PAGE, &page, NULL), VHDX_E_IO);
        f.storage->methods = methods;
        assert_null(vx_pages_find(&f.pages, 300 * VX_PAGE));
    }
    assert_int_equal(load(&f, 300)->bytes[0], (uint8_t)300);
    end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(is_as_large_as_asked_for),
        cmocka_unit_test(finds_what_it_read),
        cmocka_unit_test(ends_in_zeros),
        cmocka_unit_test(keeps_what_is_edited),
        cmocka_unit_test(is_dirty_and_committing),
        cmocka_unit_test(keeps_what_is_used),
        cmocka_unit_test(forgets_a_range),
        cmocka_unit_test(a_failed_read_leaves_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
