/*
 * Where a parent is said to be: text of a stranger that becomes a path here, paths that become text of Windows, and the
 * policy as a user writes it.  Nothing is opened.
 */
#include "fuzz.h"

#include "disk/parents.h"

#define MOST_TEXT 2048u

/* Pieces that mean something, by the bytes 128 and above; others stand for themselves. */
static const char *const words[] = {
    "..", "\\", "/", ".", ":", "\\\\?\\", "UNC\\", "Volume{", "}", "C:", "\\\\", "server\\share", ".vhdx", ".avhdx", ",",
    "none", "same-dir", "any", "=", "nbd://", "..\\", ".\\", "\xC3\xA9", "\xE2\x82\xAC", "\xF0\x9F\x98\x80", "\xED\xA0\x80",
    "0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz0123456789abcdefghijklmnopqrstuvwxyz",
};

static void
take_text(struct fuzz_input *input, char text[MOST_TEXT])
{
    size_t length = 0, most = (size_t)fuzz_take(input, 1) * 8;

    while (input->left > 0 && length < most) {
        char single[2] = { (char)fuzz_take(input, 1), '\0' };
        size_t which = (unsigned char)single[0] & 0x7F;
        const char *word = (single[0] & 0x80) != 0 && which < sizeof words / sizeof words[0] ? words[which] : single;

        if (*word == '\0' || length + strlen(word) >= MOST_TEXT)
            break;
        memcpy(text + length, word, strlen(word));
        length += strlen(word);
    }
    text[length] = '\0';
}

/* T1 of parents_path.c: a list of plain names, ".." only in front. */
static void
check_names(const char *path, bool may_climb)
{
    while (*path != '\0') {
        size_t n = strcspn(path, "/");

        MUST(n > 0 && !(n == 1 && *path == '.') && memchr(path, '\\', n) == NULL);
        if (n == 2 && memcmp(path, "..", 2) == 0)
            MUST(may_climb);
        else
            may_climb = false;
        path += n;
        MUST(*path == '\0' || path[1] != '\0'); /* no slash at the end */
        path += *path == '/';
    }
}

static void
check_canonical(const char *path)
{
    MUST(path[0] == '/');
    check_names(path + 1, false);
}

/* A file, written as a child in `folder` would name it, is found from there again. */
static void
check_way_back(const char *folder, const char *path)
{
    static char windows[VX_PATH_SIZE], tail[VX_PATH_SIZE], again[VX_PATH_SIZE];
    const char *why = NULL;

    if (!vx_windows_relative(windows, folder, path, &why)) {
        MUST(why != NULL);
        return;
    }
    if (!vx_path_from_relative(tail, windows, &why)) /* a folder, or too long */
        return;
    MUST(vx_path_join(again, folder, tail, &why));
    MUST(strcmp(again, path) == 0);
}

static void
check_relative(const char *text, const char *folder)
{
    static char tail[VX_PATH_SIZE], path[VX_PATH_SIZE];
    const char *why = NULL;

    if (!vx_path_from_relative(tail, text, &why)) {
        MUST(why != NULL);
        return;
    }
    MUST(tail[0] != '\0');
    check_names(tail, true);
    if (!vx_path_join(path, folder, tail, &why))
        return;
    check_canonical(path);
    MUST(vx_path_below("/", path) != NULL);
    check_way_back(folder, path);
}

static void
check_absolute(const char *text, const char *folder)
{
    static struct vx_windows_path windows, again;
    static char path[VX_PATH_SIZE], back[VX_PATH_SIZE];
    const char *why = NULL, *below;

    if (!vx_path_from_absolute(&windows, text, &why)) {
        MUST(why != NULL);
        return;
    }
    MUST(windows.root[0] != '\0');
    check_names(windows.tail, false);
    if (!vx_path_join(path, folder, windows.tail, &why))
        return;
    check_canonical(path);
    below = vx_path_below(folder, path);
    MUST(below != NULL && strcmp(below, windows.tail) == 0);
    if (!vx_windows_absolute(back, windows.root, "", windows.tail, &why) || !vx_path_from_absolute(&again, back, &why))
        return;
    MUST(strcmp(again.root, windows.root) == 0 && strcmp(again.tail, windows.tail) == 0);
}

static void
check_policy(const char *which, const char *map)
{
    struct vhdx_parents_options options;
    struct vhdx_error err = { .code = 0 };

    if (vhdx_parents_options_parse(&options, which, &map, 1, &err) < 0) {
        MUST(err.code == VHDX_E_INVALID && err.message[0] != '\0');
        return;
    }
    MUST(options.map_count == 1 && options.maps[0].windows[0] != '\0' && options.maps[0].folder[0] != '\0');
    MUST((options.mode == VHDX_PARENTS_DIRECTORIES) == (options.directory_count > 0));
    for (size_t i = 0; i < options.directory_count; i++)
        MUST(options.directories[i][0] != '\0' && strchr(options.directories[i], ',') == NULL);
    vhdx_parents_options_free(&options);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const folders[] = { "/", "/a", "/a/b", "/srv/disks/deep/er" };
    static char text[MOST_TEXT], other[MOST_TEXT], name[MOST_TEXT];
    struct fuzz_input input = { data, size };
    const char *folder = folders[fuzz_take(&input, 1) % 4];

    take_text(&input, text);
    take_text(&input, other);
    check_relative(text, folder);
    check_absolute(text, folder);
    check_policy(text, other);
    MUST(vx_names_match((locale_t)0, text, text));
    MUST(vx_names_match((locale_t)0, text, other) == vx_names_match((locale_t)0, other, text));
    if (vx_path_other_extension(name, sizeof name, text)) {
        MUST(vx_path_other_extension(other, sizeof other, name));
        MUST(vx_names_match((locale_t)0, text, other));
    }
    return 0;
}
