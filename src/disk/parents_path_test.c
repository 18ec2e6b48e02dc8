/* Paths of Windows and of here: what strangers write into locators, and what we do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <string.h>

#include "disk/parents.h"

static char out[VX_PATH_SIZE];

static void
check(bool is_good, const char *why, const char *expected, const char *expected_why, const char *about)
{
    if (is_good != (expected != NULL))
        fail_msg("%s: %s", about, is_good ? out : why);
    if (is_good && strcmp(out, expected) != 0)
        fail_msg("%s: %s, expected %s", about, out, expected);
    if (!is_good && strstr(why, expected_why) == NULL)
        fail_msg("%s: \"%s\", expected \"%s\"", about, why, expected_why);
}

static void
relative_paths(void **state)
{
    static const struct {
        const char *windows, *here, *why;
    } cases[] = {
        { ".\\parent.vhdx", "parent.vhdx", NULL },
        { "parent.vhdx", "parent.vhdx", NULL },
        { "..\\img\\parent.vhdx", "../img/parent.vhdx", NULL },
        { "..\\..\\a\\.\\b\\..\\c.vhdx", "../../a/c.vhdx", NULL },
        { "a\\..\\..\\b.vhdx", "../b.vhdx", NULL },
        { "a\\b\\..\\..\\..\\..\\c", "../../c", NULL },
        { ".\\a\\\\b.vhdx", "a/b.vhdx", NULL },
        { "./a/b.vhdx", "a/b.vhdx", NULL },
        { "..a\\b...vhdx", "..a/b...vhdx", NULL },
        { "...\\b", ".../b", NULL },
        { "sub\\x:y.vhdx", "sub/x:y.vhdx", NULL },
        { "gr\xc3\xbc\xc3\x9f.vhdx", "gr\xc3\xbc\xc3\x9f.vhdx", NULL },
        { "", NULL, "no file" },
        { ".", NULL, "no file" },
        { "..", NULL, "no file" },
        { "..\\..", NULL, "no file" },
        { "a\\..", NULL, "no file" },
        { ".\\.\\", NULL, "no file" },
        { "/etc/passwd", NULL, "not relative" },
        { "\\etc\\passwd", NULL, "not relative" },
        { "\\\\server\\share\\x", NULL, "not relative" },
        { "C:\\x", NULL, "drive or a protocol" },
        { "C:x", NULL, "drive or a protocol" },
        { "nbd://127.0.0.1:1/x", NULL, "drive or a protocol" },
        { "json:{\"driver\":\"file\"}", NULL, "drive or a protocol" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = "";
        bool        is_good = vx_path_from_relative(out, cases[i].windows, &why);

        check(is_good, why, cases[i].here, cases[i].why, cases[i].windows);
    }
}

static void
absolute_paths(void **state)
{
    static const struct {
        const char *windows, *root, *tail_or_why;
    } cases[] = {
        { "\\\\?\\C:\\vm\\base.vhdx", "C:", "vm/base.vhdx" },
        { "c:\\vm\\base.vhdx", "C:", "vm/base.vhdx" },
        { "\\\\?\\d:\\a\\..\\b", "D:", "b" },
        { "C:", "C:", "" },
        { "C:\\", "C:", "" },
        { "\\\\?\\UNC\\server\\share\\vm\\b.vhdx", "\\\\server\\share", "vm/b.vhdx" },
        { "\\\\?\\unc\\server\\share", "\\\\server\\share", "" },
        { "\\\\server\\share\\b.vhdx", "\\\\server\\share", "b.vhdx" },
        { "\\\\?\\Volume{26a21bda-a627-11d7-9931-806e6f6e6963}\\x",
          "Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", "x" },
        { "Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", "Volume{26a21bda-a627-11d7-9931-806e6f6e6963}", "" },
        { "\\\\?\\C:\\..\\..\\etc\\passwd", NULL, "above the root" },
        { "C:x", NULL, "relative to a drive" },
        { "C:..\\x", NULL, "relative to a drive" },
        { "\\\\?\\GLOBALROOT\\Device\\x", NULL, "no path of Windows" },
        { "\\\\.\\PhysicalDrive0", NULL, "no path of Windows" },
        { "\\\\?\\", NULL, "no path of Windows" },
        { "\\\\server", NULL, "no share" },
        { "\\\\server\\", NULL, "no share" },
        { "\\\\\\share\\x", NULL, "no share" },
        { "\\\\?\\Volume{26a2\\x", NULL, "no path of Windows" },
        { "/etc/passwd", NULL, "no path of Windows" },
        { "vm\\base.vhdx", NULL, "no path of Windows" },
        { "", NULL, "no path of Windows" },
        { "http://a/b", NULL, "no path of Windows" },
    };
    static struct vx_windows_path path;

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = "";
        bool        is_good = vx_path_from_absolute(&path, cases[i].windows, &why);

        memcpy(out, path.tail, sizeof out);
        check(is_good, why, cases[i].root != NULL ? cases[i].tail_or_why : NULL, cases[i].tail_or_why,
              cases[i].windows);
        if (is_good)
            assert_string_equal(path.root, cases[i].root);
    }
}

static void
joined_paths(void **state)
{
    static const struct {
        const char *folder, *tail, *path, *why;
    } cases[] = {
        { "/vm", "base.vhdx", "/vm/base.vhdx", NULL },
        { "/vm/diff", "../img/base.vhdx", "/vm/img/base.vhdx", NULL },
        { "/vm/diff", "../../base.vhdx", "/base.vhdx", NULL },
        { "/", "base.vhdx", "/base.vhdx", NULL },
        { "/vm", "..a/b", "/vm/..a/b", NULL },
        { "/vm", "../../base.vhdx", NULL, "above the root" },
        { "/", "../base.vhdx", NULL, "above the root" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = "";
        bool        is_good = vx_path_join(out, cases[i].folder, cases[i].tail, &why);

        check(is_good, why, cases[i].path, cases[i].why, cases[i].tail);
    }
}

static void
below(void **state)
{
    static const struct {
        const char *folder, *path, *below;
    } cases[] = {
        { "/vm", "/vm/a/b", "a/b" }, { "/vm", "/vm", "" },     { "/", "/a", "a" }, { "/", "/", "" },
        { "/vm", "/vmware/a", NULL }, { "/vm/a", "/vm", NULL }, { "/a", "/b/a", NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = vx_path_below(cases[i].folder, cases[i].path);

        if ((got == NULL) != (cases[i].below == NULL) || (got != NULL && strcmp(got, cases[i].below) != 0))
            fail_msg("%s below %s: %s", cases[i].path, cases[i].folder, got != NULL ? got : "not");
    }
}

/* What is too long is refused whole, never cut. */
static void
long_paths(void **state)
{
    static char                   text[3 * VX_PATH_SIZE];
    static struct vx_windows_path path;
    const char                   *why;

    (void)state;
    memset(text, 'x', VX_PATH_SIZE - 1);
    assert_true(vx_path_from_relative(out, text, &why));
    assert_int_equal(strlen(out), VX_PATH_SIZE - 1);
    assert_false(vx_path_join(out, "/", text, &why));
    text[VX_PATH_SIZE - 1] = 'x';
    assert_false(vx_path_from_relative(out, text, &why));
    memset(text, 'x', 2 * VX_PATH_SIZE);
    memcpy(text, "\\\\?\\C:\\", 7);
    assert_false(vx_path_from_absolute(&path, text, &why));
    memcpy(text, "\\\\server", 8);
    text[20] = '\\';
    assert_false(vx_path_from_absolute(&path, text, &why));
    assert_string_equal(why, "the path is too long");
}

static void
extensions(void **state)
{
    static const struct {
        const char *name, *other;
    } cases[] = {
        { "base.vhdx", "base.avhdx" }, { "base.AVHDX", "base.vhdx" }, { "a.b.VhdX", "a.b.avhdx" },
        { "base.vhd", NULL },          { "base", NULL },              { "base.vhdx2", NULL },
    };
    char other[64];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        assert_int_equal(vx_path_other_extension(other, sizeof other, cases[i].name), cases[i].other != NULL);
        if (cases[i].other != NULL)
            assert_string_equal(other, cases[i].other);
    }
    assert_false(vx_path_other_extension(other, 10, "base.vhdx"));
    assert_true(vx_path_other_extension(other, 11, "base.vhdx"));
}

static void
names(void **state)
{
    static const struct {
        const char *a, *b;
        bool        is_match, needs_locale;
    } cases[] = {
        { "base.vhdx", "BASE.VHDX", true, false },
        { "base.vhdx", "base.vhd", false, false },
        { "base", "bases", false, false },
        { "", "", true, false },
        { "a_b", "a^b", false, false },
        { "[", "{", false, false },
        { "gr\xc3\xbc\xc3\x9f", "GR\xc3\x9c\xc3\x9f", true, true },                 /* u umlaut; sharp s stays */
        { "\xd0\xb4\xd0\xb8\xd1\x81\xd0\xba", "\xd0\x94\xd0\x98\xd0\xa1\xd0\x9a", true, true }, /* Cyrillic */
        { "\xf0\x9f\x92\xbe", "\xf0\x9f\x92\xbe", true, false },                      /* a disk, outside the BMP */
        { "\xf0\x9f\x92\xbe", "\xf0\x9f\x92\xbf", false, false },
        { "\xff\xc3", "\xff\xc3", true, false },                                      /* no UTF-8, but the same */
        { "\xff", "\xfe", false, false },
        { "\xc3", "\xc3\xbc", false, false },
    };
    locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        if (locale != (locale_t)0 && vx_names_match(locale, cases[i].a, cases[i].b) != cases[i].is_match)
            fail_msg("%s and %s", cases[i].a, cases[i].b);
        if (vx_names_match((locale_t)0, cases[i].a, cases[i].b) != (cases[i].is_match && !cases[i].needs_locale))
            fail_msg("%s and %s without a locale", cases[i].a, cases[i].b);
    }
    if (locale != (locale_t)0)
        freelocale(locale);
}

static void
new_relative_paths(void **state)
{
    static const struct {
        const char *folder, *path, *windows, *why;
    } cases[] = {
        { "/vm", "/vm/base.vhdx", ".\\base.vhdx", NULL },
        { "/vm", "/vm/img/base.vhdx", ".\\img\\base.vhdx", NULL },
        { "/vm/diff", "/vm/img/base.vhdx", "..\\img\\base.vhdx", NULL },
        { "/vm/a/b", "/srv/base.vhdx", "..\\..\\..\\srv\\base.vhdx", NULL },
        { "/vm/a", "/vm/ab.vhdx", "..\\ab.vhdx", NULL },
        { "/", "/base.vhdx", ".\\base.vhdx", NULL },
        { "/vm", "/base.vhdx", "..\\base.vhdx", NULL },
        { "/a:b", "/a:b/base.vhdx", ".\\base.vhdx", NULL },
        { "/vm", "/vm/a\\b.vhdx", NULL, "backslash" },
        { "/vm", "/vm/a:b.vhdx", NULL, "colon" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char        back[VX_PATH_SIZE], joined[VX_PATH_SIZE];
        const char *why = "";
        bool        is_good = vx_windows_relative(out, cases[i].folder, cases[i].path, &why);

        check(is_good, why, cases[i].windows, cases[i].why, cases[i].path);
        if (!is_good)
            continue;
        assert_true(vx_path_from_relative(back, out, &why)); /* and it leads back */
        assert_true(vx_path_join(joined, cases[i].folder, back, &why));
        assert_string_equal(joined, cases[i].path);
    }
}

static void
new_absolute_paths(void **state)
{
    static const struct {
        const char *root, *tail, *below, *windows;
    } cases[] = {
        { "C:", "", "vm/base.vhdx", "\\\\?\\C:\\vm\\base.vhdx" },
        { "D:", "a/b", "base.vhdx", "\\\\?\\D:\\a\\b\\base.vhdx" },
        { "\\\\server\\share", "", "base.vhdx", "\\\\?\\UNC\\server\\share\\base.vhdx" },
        { "Volume{26a2}", "", "x/y", "\\\\?\\Volume{26a2}\\x\\y" },
        { "C:", "", "a:b", NULL },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *why = "";
        bool        is_good = vx_windows_absolute(out, cases[i].root, cases[i].tail, cases[i].below, &why);

        check(is_good, why, cases[i].windows, "colon", cases[i].below);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(relative_paths),
        cmocka_unit_test(absolute_paths),
        cmocka_unit_test(joined_paths),
        cmocka_unit_test(below),
        cmocka_unit_test(long_paths),
        cmocka_unit_test(extensions),
        cmocka_unit_test(names),
        cmocka_unit_test(new_relative_paths),
        cmocka_unit_test(new_absolute_paths),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
