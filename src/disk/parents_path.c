/*
 * Paths of Windows as paths here, and back (docs/vhdx-format.md 2.11, 10.15).  Text alone.
 *
 *   T1  Whatever a locator says, the outcome is a list of plain names: none is empty, ".", "..", or has a slash in
 *       it; ".." is taken off together with the name before it, as Windows does it, and those left over in front of
 *       a relative path are counted by whoever joins it to a folder.
 *   T2  A name that begins a protocol ("nbd://", "json:{") or a drive is refused rather than looked up.
 */
#include <string.h>
#include <wctype.h>

#include "disk/parents.h"

static bool
refuse(const char **why, const char *reason)
{
    *why = reason;
    return false;
}

static bool
is_separator(char c)
{
    return c == '\\' || c == '/';
}

static bool
is_letter(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
}

static char
upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

/* ASCII, any case; is `text` begun by `beginning`? */
static bool
begins_with(const char *text, const char *beginning)
{
    for (; *beginning != '\0'; text++, beginning++)
        if (upper(*text) != upper(*beginning) && !(is_separator(*text) && is_separator(*beginning)))
            return false;
    return true;
}

static bool
append(char out[VX_PATH_SIZE], size_t *length, const char *text, size_t text_length, const char **why)
{
    if (text_length >= VX_PATH_SIZE - *length)
        return refuse(why, "the path is too long");
    memcpy(out + *length, text, text_length);
    *length += text_length;
    out[*length] = '\0';
    return true;
}

/* Take the last name off; what is left ends where its slash was. */
static void
drop_last(char *out, size_t *length)
{
    while (*length > 0 && out[*length - 1] != '/')
        (*length)--;
    if (*length > 0)
        (*length)--;
    out[*length] = '\0';
}

static bool
ends_in_dots(const char *out, size_t length)
{
    return length >= 2 && memcmp(out + length - 2, "..", 2) == 0 && (length == 2 || out[length - 3] == '/');
}

/* T1.  `may_climb`: ".." may be left over in front. */
static bool
normalize(char out[VX_PATH_SIZE], const char *text, bool may_climb, const char **why)
{
    size_t length = 0;

    out[0] = '\0';
    while (*text != '\0') {
        size_t n = strcspn(text, "\\/");
        bool   is_up = n == 2 && memcmp(text, "..", 2) == 0;

        if (n == 0 || (n == 1 && *text == '.')) {
            text += n > 0 ? n : 1;
            continue;
        }
        if (is_up && length > 0 && !ends_in_dots(out, length)) {
            drop_last(out, &length);
        } else if (is_up && !may_climb) {
            return refuse(why, "\"..\" climbs above the root");
        } else {
            if (length > 0 && !append(out, &length, "/", 1, why))
                return false;
            if (!append(out, &length, text, n, why))
                return false;
        }
        text += n;
    }
    return true;
}

/* Does a path end in the name of a file, as far as text can tell? */
static bool
names_file(const char *path, const char **why)
{
    size_t length = strlen(path);

    return length > 0 && !ends_in_dots(path, length) ? true : refuse(why, "it names no file");
}

bool
vx_path_from_relative(char out[VX_PATH_SIZE], const char *windows, const char **why)
{
    if (is_separator(windows[0]))
        return refuse(why, "it is not relative");
    if (memchr(windows, ':', strcspn(windows, "\\/")) != NULL) /* T2 */
        return refuse(why, "it begins with a drive or a protocol");
    return normalize(out, windows, true, why) && names_file(out, why);
}

/* "server\share", copied with two backslashes before it; *rest is what comes after. */
static bool
take_share(char root[VX_PATH_SIZE], const char *text, const char **rest, const char **why)
{
    size_t server = strcspn(text, "\\/"), length = 0, share;

    share = text[server] == '\0' ? 0 : strcspn(text + server + 1, "\\/");
    if (server == 0 || share == 0)
        return refuse(why, "it names no share");
    if (!append(root, &length, "\\\\", 2, why) || !append(root, &length, text, server, why) ||
        !append(root, &length, "\\", 1, why) || !append(root, &length, text + server + 1, share, why))
        return false;
    *rest = text + server + 1 + share;
    return true;
}

static bool
take_drive(char root[VX_PATH_SIZE], const char **text, const char **why)
{
    if ((*text)[2] != '\0' && !is_separator((*text)[2]))
        return refuse(why, "it is relative to a drive");
    root[0] = upper((*text)[0]);
    root[1] = ':';
    root[2] = '\0';
    *text += 2;
    return true;
}

static bool
take_volume(char root[VX_PATH_SIZE], const char **text, const char **why)
{
    size_t n = strcspn(*text, "\\/"), length = 0;

    if ((*text)[n - 1] != '}')
        return refuse(why, "it is no path of Windows");
    if (!append(root, &length, *text, n, why))
        return false;
    *text += n;
    return true;
}

bool
vx_path_from_absolute(struct vx_windows_path *out, const char *windows, const char **why)
{
    const char *text = windows;
    bool        is_extended = begins_with(windows, "\\\\?\\"), is_good;

    if (is_extended)
        text += 4;
    if (is_extended && begins_with(text, "UNC\\"))
        is_good = take_share(out->root, text + 4, &text, why);
    else if (is_letter(text[0]) && text[1] == ':')
        is_good = take_drive(out->root, &text, why);
    else if (begins_with(text, "Volume{"))
        is_good = take_volume(out->root, &text, why);
    else if (!is_extended && is_separator(text[0]) && is_separator(text[1]) && text[2] != '.' && text[2] != '?')
        is_good = take_share(out->root, text + 2, &text, why);
    else
        return refuse(why, "it is no path of Windows");
    return is_good && normalize(out->tail, text, false, why);
}

bool
vx_path_join(char out[VX_PATH_SIZE], const char *folder, const char *tail, const char **why)
{
    size_t length = 0;

    if (!append(out, &length, folder, strcmp(folder, "/") == 0 ? 0 : strlen(folder), why))
        return false;
    out[length] = '\0';
    while (strncmp(tail, "..", 2) == 0 && (tail[2] == '/' || tail[2] == '\0')) {
        if (length == 0)
            return refuse(why, "\"..\" climbs above the root");
        drop_last(out, &length);
        tail += tail[2] == '/' ? 3 : 2;
    }
    if (*tail != '\0' || length == 0)
        return append(out, &length, "/", 1, why) && append(out, &length, tail, strlen(tail), why);
    return true;
}

const char *
vx_path_below(const char *folder, const char *path)
{
    size_t length = strcmp(folder, "/") == 0 ? 0 : strlen(folder);

    if (strncmp(folder, path, length) != 0)
        return NULL;
    if (path[length] == '\0')
        return path + length;
    return path[length] == '/' ? path + length + 1 : NULL;
}

bool
vx_path_other_extension(char *out, size_t size, const char *name)
{
    const char *dot = strrchr(name, '.'), *other;
    size_t      n;

    if (dot == NULL)
        return false;
    if (begins_with(dot, ".vhdx") && dot[5] == '\0')
        other = ".avhdx";
    else if (begins_with(dot, ".avhdx") && dot[6] == '\0')
        other = ".vhdx";
    else
        return false;
    n = (size_t)(dot - name);
    if (n + strlen(other) >= size)
        return false;
    memcpy(out, name, n);
    memcpy(out + n, other, strlen(other) + 1);
    return true;
}

/* --- names as Windows compares them --- */

/* The next character of UTF-8.  A byte that belongs to none stands for itself, apart from all characters. */
static wint_t
next_character(const unsigned char **text)
{
    const unsigned char *p = *text;
    unsigned             more = p[0] < 0xC0 ? 0 : p[0] < 0xE0 ? 1 : p[0] < 0xF0 ? 2 : 3;
    wint_t               c = more == 0 ? p[0] : p[0] & (0x3Fu >> more);

    *text = p + 1;
    if (p[0] < 0x80)
        return c;
    if (more == 0 || p[0] >= 0xF8)
        return (wint_t)(0x110000 + p[0]);
    for (unsigned i = 1; i <= more; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return (wint_t)(0x110000 + p[0]);
        c = c << 6 | (p[i] & 0x3Fu);
    }
    *text = p + 1 + more;
    return c;
}

static wint_t
fold(locale_t locale, wint_t c)
{
    if (c < 0x80)
        return (wint_t)upper((char)c);
    return locale == (locale_t)0 || c >= 0x110000 ? c : towupper_l(c, locale);
}

bool
vx_names_match(locale_t locale, const char *a, const char *b)
{
    const unsigned char *p = (const unsigned char *)a, *q = (const unsigned char *)b;

    while (*p != '\0' && *q != '\0')
        if (fold(locale, next_character(&p)) != fold(locale, next_character(&q)))
            return false;
    return *p == *q;
}

/* --- new locators --- */

/* Names with backslashes and colons mean something else there. */
static bool
append_names(char out[VX_PATH_SIZE], size_t *length, const char *names, const char **why)
{
    size_t from = *length;

    if (strpbrk(names, "\\:") != NULL)
        return refuse(why, "a backslash or a colon in a name cannot be written in a path of Windows");
    if (!append(out, length, names, strlen(names), why))
        return false;
    for (size_t i = from; i < *length; i++)
        if (out[i] == '/')
            out[i] = '\\';
    return true;
}

bool
vx_windows_relative(char out[VX_PATH_SIZE], const char *folder, const char *path, const char **why)
{
    char        common[VX_PATH_SIZE];
    size_t      length = 0, common_length = strlen(folder);
    const char *below;

    memcpy(common, folder, common_length + 1);
    while ((below = vx_path_below(common, path)) == NULL) {
        drop_last(common, &common_length);
        if (common_length == 0)
            memcpy(common, "/", 2);
        if (!append(out, &length, "..\\", 3, why))
            return false;
    }
    if (length == 0 && !append(out, &length, ".\\", 2, why))
        return false;
    return append_names(out, &length, below, why);
}

bool
vx_windows_absolute(char out[VX_PATH_SIZE], const char *root, const char *root_tail, const char *below,
                    const char **why)
{
    bool   is_share = begins_with(root, "\\\\");
    size_t length = 0;

    if (!append(out, &length, "\\\\?\\", 4, why) || (is_share && !append(out, &length, "UNC", 3, why)) ||
        !append(out, &length, root + (is_share ? 1 : 0), strlen(root) - (is_share ? 1 : 0), why))
        return false;
    if (*root_tail != '\0' &&
        (!append(out, &length, "\\", 1, why) || !append_names(out, &length, root_tail, why)))
        return false;
    return append(out, &length, "\\", 1, why) && append_names(out, &length, below, why);
}
