/*
 * Opening a file that a stranger's path names, below a folder that its user trusts.
 *
 *   P1  The walk goes name by name and holds every folder between the trusted one and here open.  ".." goes back to
 *       the folder held before, it is never looked up: nobody who renames folders meanwhile leads the walk out.
 *   P2  No call follows a symbolic link.  The walk reads it and goes on with what it says; an absolute one leads
 *       out, unless the trusted folder is "/".
 *   P3  A file is opened after it was seen to be a regular file long enough for a VHDX; opening anything else can
 *       do things by itself.  Should another take its place meanwhile, it is opened without waiting for anybody,
 *       and refused.
 *
 * Linux could do parts of it in one call (openat2, RESOLVE_BENEATH), but not find names in another case.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "disk/parents.h"
#include "format/layout.h"

#define DEPTH_MAX       64u /* folders held open; no disk lies deeper below */
#define LINKS_MAX       40u
#define NAME_SIZE       256u
#define LOOKED_THROUGH_MAX 100000u /* names of one folder, when one in another case is searched */

/* A folder is walked through, not read: search permission is enough where the system can say so. */
#if defined(O_PATH)
#define OPEN_FOLDER (O_PATH | O_DIRECTORY | O_CLOEXEC)
#elif defined(O_SEARCH)
#define OPEN_FOLDER (O_SEARCH | O_DIRECTORY | O_CLOEXEC)
#else
#define OPEN_FOLDER (O_RDONLY | O_DIRECTORY | O_CLOEXEC)
#endif

struct walk {
    const char  *folder; /* the trusted one */
    bool         only_here;
    locale_t     locale;
    int          held[DEPTH_MAX + 1]; /* P1: held[0] is `folder` */
    size_t       name_length[DEPTH_MAX + 1];
    unsigned     depth;
    char         name[VX_PATH_SIZE];        /* of held[depth]; "" for "/" */
    char         pending[2 * VX_PATH_SIZE]; /* names still to go */
    unsigned     link_count;
    const char  *why;
    bool         is_found;
    int          descriptor; /* when found */
    struct stat  status;
};

static bool
stop(struct walk *walk, const char *why)
{
    walk->why = why;
    return false;
}

static bool
stop_errno(struct walk *walk, int system_errno)
{
    switch (system_errno) {
    case ENOENT:       return stop(walk, "not found");
    case EACCES:
    case EPERM:        return stop(walk, "permission denied");
    case ENOTDIR:      return stop(walk, "a part of the path is no folder");
    case ENAMETOOLONG: return stop(walk, "a name is too long");
    case ELOOP:        return stop(walk, "it changed while it was looked at");
    case EMFILE:
    case ENFILE:       return stop(walk, "too many open files");
    default:           return stop(walk, "it cannot be opened");
    }
}

/* --- names --- */

/* Take the next name off `pending`. */
static bool
take_name(struct walk *walk, char name[NAME_SIZE])
{
    const char *from = walk->pending + strspn(walk->pending, "/");
    size_t      length = strcspn(from, "/");

    if (length >= NAME_SIZE)
        return stop(walk, "a name is too long");
    memcpy(name, from, length);
    name[length] = '\0';
    from += length;
    from += strspn(from, "/");
    memmove(walk->pending, from, strlen(from) + 1);
    return true;
}

static bool
append_name(char path[VX_PATH_SIZE], size_t length, const char *name)
{
    size_t n = strlen(name);

    if (n + 2 > VX_PATH_SIZE - length)
        return false;
    path[length] = '/';
    memcpy(path + length + 1, name, n + 1);
    return true;
}

/* A name that Windows would take for this one.  Of several the first in order of bytes: always the same one. */
static bool
find_in_other_case(const struct walk *walk, const char *name, char found[NAME_SIZE])
{
    int            descriptor = openat(walk->held[walk->depth], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR           *folder = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    unsigned       count = 0;
    struct dirent *entry;

    if (folder == NULL) {
        if (descriptor >= 0)
            close(descriptor);
        return false;
    }
    found[0] = '\0';
    while (count++ < LOOKED_THROUGH_MAX && (entry = readdir(folder)) != NULL) {
        if (strlen(entry->d_name) < NAME_SIZE && vx_names_match(walk->locale, entry->d_name, name) &&
            (found[0] == '\0' || strcmp(entry->d_name, found) < 0))
            memcpy(found, entry->d_name, strlen(entry->d_name) + 1);
    }
    closedir(folder);
    return found[0] != '\0';
}

/* The name as it is spelled here, and what it is.  ENOENT: there is none. */
static int
look_up(const struct walk *walk, char name[NAME_SIZE], struct stat *status)
{
    char found[NAME_SIZE];
    int  here = walk->held[walk->depth];

    if (fstatat(here, name, status, AT_SYMLINK_NOFOLLOW) == 0)
        return 0;
    if (errno != ENOENT)
        return errno;
    if (!find_in_other_case(walk, name, found))
        return ENOENT;
    memcpy(name, found, strlen(found) + 1);
    return fstatat(here, name, status, AT_SYMLINK_NOFOLLOW) == 0 ? 0 : errno;
}

/* --- steps --- */

static bool
go_up(struct walk *walk)
{
    if (walk->depth == 0) {
        if (strcmp(walk->folder, "/") == 0)
            return true; /* "/.." is "/" */
        return stop(walk, "it leads out of the allowed folder");
    }
    close(walk->held[walk->depth--]);
    walk->name[walk->name_length[walk->depth]] = '\0';
    return true;
}

static bool
go_down(struct walk *walk, const char *name)
{
    size_t length = walk->name_length[walk->depth];
    int    descriptor;

    if (walk->only_here)
        return stop(walk, "it is not in the folder of the child");
    if (walk->depth == DEPTH_MAX || !append_name(walk->name, length, name))
        return stop(walk, "the path is too deep");
    descriptor = openat(walk->held[walk->depth], name, OPEN_FOLDER | O_NOFOLLOW);
    if (descriptor < 0)
        return stop_errno(walk, errno);
    walk->held[++walk->depth] = descriptor;
    walk->name_length[walk->depth] = length + 1 + strlen(name);
    return true;
}

/* P2: what the link says goes before what is pending. */
static bool
follow_link(struct walk *walk, const char *name)
{
    char    target[VX_PATH_SIZE];
    ssize_t length = readlinkat(walk->held[walk->depth], name, target, sizeof target - 1);
    size_t  rest = strlen(walk->pending);

    if (length < 0)
        return stop_errno(walk, errno);
    if (++walk->link_count > LINKS_MAX)
        return stop(walk, "too many symbolic links");
    target[length] = '\0';
    if (target[0] == '/') {
        if (strcmp(walk->folder, "/") != 0)
            return stop(walk, "a symbolic link leads out of the allowed folder");
        while (walk->depth > 0)
            go_up(walk);
    }
    if ((size_t)length + 1 + rest + 1 > sizeof walk->pending)
        return stop(walk, "the path is too long");
    memmove(walk->pending + length + 1, walk->pending, rest + 1);
    memcpy(walk->pending, target, (size_t)length);
    walk->pending[length] = '/';
    return true;
}

/* P3 */
static bool
open_file(struct walk *walk, const char *name, const struct stat *seen)
{
    if (!S_ISREG(seen->st_mode))
        return stop(walk, S_ISDIR(seen->st_mode) ? "it is a folder" : "it is a device, a pipe or a socket");
    if ((uint64_t)seen->st_size < VX_HEADER_SECTION_SIZE)
        return stop(walk, "it is too short for a VHDX file");
    if (!append_name(walk->name, walk->name_length[walk->depth], name))
        return stop(walk, "the path is too long");
    do
        walk->descriptor = openat(walk->held[walk->depth], name,
                                  O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    while (walk->descriptor < 0 && errno == EINTR);
    if (walk->descriptor < 0)
        return stop_errno(walk, errno);
    if (fstat(walk->descriptor, &walk->status) == 0 && S_ISREG(walk->status.st_mode) &&
        walk->status.st_dev == seen->st_dev && walk->status.st_ino == seen->st_ino) {
        walk->is_found = true;
        return true;
    }
    close(walk->descriptor);
    return stop(walk, "it changed while it was looked at");
}

static bool
take_step(struct walk *walk)
{
    char        name[NAME_SIZE], other[NAME_SIZE];
    struct stat status;
    bool        is_last;
    int         system_errno;

    if (!take_name(walk, name))
        return false;
    is_last = walk->pending[0] == '\0';
    if (name[0] == '\0')
        return stop(walk, "it is a folder");
    if (strcmp(name, ".") == 0)
        return true;
    if (strcmp(name, "..") == 0)
        return go_up(walk);
    system_errno = look_up(walk, name, &status);
    if (system_errno == ENOENT && is_last && vx_path_other_extension(other, sizeof other, name)) {
        memcpy(name, other, strlen(other) + 1);
        system_errno = look_up(walk, name, &status);
    }
    if (system_errno != 0)
        return stop_errno(walk, system_errno);
    if (S_ISLNK(status.st_mode))
        return follow_link(walk, name);
    if (is_last)
        return open_file(walk, name, &status);
    return S_ISDIR(status.st_mode) ? go_down(walk, name) : stop_errno(walk, ENOTDIR);
}

static bool
begin(struct walk *walk, const char *folder, const char *tail)
{
    size_t length = strcmp(folder, "/") == 0 ? 0 : strlen(folder);

    if (length >= sizeof walk->name || strlen(tail) >= sizeof walk->pending)
        return stop(walk, "the path is too long");
    walk->folder = folder;
    memcpy(walk->name, folder, length);
    walk->name[length] = '\0';
    walk->name_length[0] = length;
    memcpy(walk->pending, tail, strlen(tail) + 1);
    walk->held[0] = open(folder, OPEN_FOLDER);
    return walk->held[0] >= 0 ? true : stop_errno(walk, errno);
}

bool
vx_open_below(struct vx_found_file *out, const char *folder, bool only_here, const char *tail, locale_t locale,
              const char **why)
{
    struct walk walk = { .only_here = only_here, .locale = locale };

    if (begin(&walk, folder, tail)) {
        while (!walk.is_found && take_step(&walk))
            continue;
        for (unsigned i = 0; i <= walk.depth; i++)
            close(walk.held[i]);
    }
    if (walk.is_found) {
        out->descriptor = walk.descriptor;
        out->status = walk.status;
        memcpy(out->name, walk.name, sizeof out->name);
    }
    *why = walk.why;
    return walk.is_found;
}
