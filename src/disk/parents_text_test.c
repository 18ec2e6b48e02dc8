/* The policy for parents as users write it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "disk/parents.h"

static void
words_and_folders(void **state)
{
    static const struct {
        const char            *text;
        enum vhdx_parents_mode mode;
        size_t                 count;
        const char            *last;
    } cases[] = {
        { "none", VHDX_PARENTS_NONE, 0, NULL },
        { "same-dir", VHDX_PARENTS_SAME_DIR, 0, NULL },
        { "any", VHDX_PARENTS_ANY, 0, NULL },
        { "/a", VHDX_PARENTS_DIRECTORIES, 1, "/a" },
        { "./any", VHDX_PARENTS_DIRECTORIES, 1, "./any" },
        { "/a,b c,/d=e", VHDX_PARENTS_DIRECTORIES, 3, "/d=e" },
    };
    struct vhdx_parents_options options;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(vhdx_parents_options_parse(&options, cases[i].text, NULL, 0, NULL), VHDX_OK);
        assert_int_equal(options.mode, cases[i].mode);
        assert_int_equal(options.directory_count, cases[i].count);
        if (cases[i].count > 0)
            assert_string_equal(options.directories[cases[i].count - 1], cases[i].last);
        vhdx_parents_options_free(&options);
    }
}

static void
no_name(void **state)
{
    static const char *const cases[] = { "", ",", "/a,", ",/a", "/a,,/b" };
    struct vhdx_parents_options options;
    struct vhdx_error           err;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(vhdx_parents_options_parse(&options, cases[i], NULL, 0, &err), VHDX_E_INVALID);
}

static void
maps(void **state)
{
    static const char *const good[] = { "C:=/mnt/c", "\\\\server\\share=/srv/x=y" };
    static const char *const bad[] = { "C:", "=/mnt/c", "C:=" };
    struct vhdx_parents_options options;
    struct vhdx_error           err;

    (void)state;
    assert_int_equal(vhdx_parents_options_parse(&options, "/a,/b", good, 2, NULL), VHDX_OK);
    assert_int_equal(options.map_count, 2);
    assert_string_equal(options.directories[1], "/b");
    assert_string_equal(options.maps[0].windows, "C:");
    assert_string_equal(options.maps[0].folder, "/mnt/c");
    assert_string_equal(options.maps[1].windows, "\\\\server\\share");
    assert_string_equal(options.maps[1].folder, "/srv/x=y");
    vhdx_parents_options_free(&options);
    for (size_t i = 0; i < 3; i++)
        assert_int_equal(vhdx_parents_options_parse(&options, "any", &bad[i], 1, &err), VHDX_E_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_folders),
        cmocka_unit_test(no_name),
        cmocka_unit_test(maps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
