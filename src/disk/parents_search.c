/*
 * Finding the parent that a locator means: candidates in the order of docs/vhdx-format.md 2.11, each opened only
 * where the policy allows it, the first with the right DataWriteGuid taken.
 *
 *   F1  What a locator says reaches the system only through vx_open_below, below a folder the user named (or "/",
 *       when everything is allowed).  Nothing is ever asked of a network: a share is a folder that a map names.
 *   F2  A candidate that is there and does not match does not end the search (2.11).
 *   F3  A file that is in the chain already is passed over (V125); locking it would look like somebody else's lock.
 *   F4  What was wrong with each candidate goes into the error, the most telling first.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "disk/parents.h"
#include "format/header.h"
#include "format/identifier.h"
#include "storage/storage.h"

#define SHOWN_MAX 64u /* bytes of a path in the error; its end, where the names are */

struct search {
    const struct vhdx_parents      *parents;
    const struct vhdx_parent_query *query;
    struct vhdx_storage           **out;
    struct vhdx_error              *err;
    char                            child_folder[VX_PATH_SIZE]; /* canonical, "" when there is none */
    char                            path[VX_PATH_SIZE];         /* the candidate */
    char                            last_path[VX_PATH_SIZE];    /* tried before: keys often agree */
    struct vx_windows_path          windows;
    struct vx_found_file            file;
    char                            told[512];     /* F4: "A: not found; B: ..." */
    char                            mismatch[384]; /* the first candidate with another GUID, both and the remedy */
    char                           *mismatch_path; /* its file; VX_PATH_SIZE bytes of the caller's, or NULL */
    bool                            is_circle;
};

/* What became of a candidate, when the search goes on: this is no code of an error. */
#define GOES_ON 1

static const char *
shown(const char *path)
{
    size_t length = strlen(path);

    if (length <= SHOWN_MAX)
        return path;
    path += length - SHOWN_MAX;
    while (((unsigned char)*path & 0xC0) == 0x80)
        path++;
    return path;
}

static int
tell(struct search *search, const char *what, const char *why)
{
    size_t      length = strlen(search->told);
    const char *end = shown(what);

    snprintf(search->told + length, sizeof search->told - length, "%s%s%s: %s", length > 0 ? "; " : "",
             end != what ? "..." : "", end, why);
    return GOES_ON;
}

static bool
is_wanted(const struct vhdx_parent_query *query, const struct vhdx_guid *guid)
{
    const struct vhdx_guid *other = query->linkage2;

    return vhdx_guid_equal(guid, query->linkage) ||
           (other != NULL && !vhdx_guid_is_zero(other) && vhdx_guid_equal(guid, other));
}

static bool
read_all(int descriptor, uint8_t *bytes, size_t length, off_t file_offset)
{
    while (length > 0) {
        ssize_t got = pread(descriptor, bytes, length, file_offset);

        if (got == 0 || (got < 0 && errno != EINTR))
            return false;
        if (got < 0)
            continue;
        bytes += got;
        file_offset += got;
        length -= (size_t)got;
    }
    return true;
}

/* DataWriteGuid of a file, which a replay of its log never changes (the log holds no headers). */
static bool
read_data_write_guid(struct vhdx_guid *out, int descriptor, const char **why)
{
    uint8_t          signature[8], copies[2][VX_HEADER_SIZE];
    struct vx_header header;
    int              index;

    *why = "it is no VHDX file";
    if (!read_all(descriptor, signature, sizeof signature, 0) || !vx_identifier_has_signature(signature))
        return false;
    *why = "it has no valid header";
    for (int i = 0; i < 2; i++)
        if (!read_all(descriptor, copies[i], VX_HEADER_SIZE, (off_t)VX_HEADER_OFFSET(i)))
            return false;
    if (vx_header_choose(&header, &index, copies[0], copies[1], NULL) < 0)
        return false;
    *out = header.data_write_guid;
    return true;
}

static int
tell_mismatch(struct search *search, const char *name, const struct vhdx_guid *guid)
{
    char has[VHDX_GUID_TEXT_SIZE], wants[VHDX_GUID_TEXT_SIZE];

    if (search->mismatch[0] != '\0')
        return tell(search, name, "another DataWriteGuid");
    if (search->mismatch_path != NULL)
        snprintf(search->mismatch_path, VX_PATH_SIZE, "%s", name);
    vhdx_guid_format(has, guid);
    vhdx_guid_format(wants, search->query->linkage);
    snprintf(search->mismatch, sizeof search->mismatch,
             "%s%s has DataWriteGuid %s, its child wants %s (V122): changed after the child was made, or another "
             "file; \"vhdx rebase --relink\" mends it", shown(name) != name ? "..." : "", shown(name), has, wants);
    return GOES_ON;
}

/* F3 */
static bool
is_in_chain(const struct vhdx_parent_query *query, const struct stat *status)
{
    const struct vhdx_storage_identity identity = { .is_known = true, .device = (uint64_t)status->st_dev,
                                                    .file_number = (uint64_t)status->st_ino };

    for (unsigned i = 0; query->chain != NULL && i <= query->depth; i++)
        if (vx_identity_equal(&query->chain[i], &identity))
            return true;
    return false;
}

/* An open candidate.  The descriptor is the storage's on success, else the caller's. */
static int
examine(struct search *search, int descriptor, const struct stat *status, const char *name)
{
    unsigned         flags = (search->query->flags & VHDX_OPEN_FORCE_SHARE) != 0 ? VHDX_STORAGE_FORCE_SHARE : 0;
    struct vhdx_guid guid;
    const char      *why;
    int              rc;

    if (is_in_chain(search->query, status)) {
        search->is_circle = true;
        return tell(search, name, "it is in the chain already (V125)");
    }
    if (!read_data_write_guid(&guid, descriptor, &why))
        return tell(search, name, why);
    if (!is_wanted(search->query, &guid))
        return tell_mismatch(search, name, &guid);
    rc = vhdx_storage_open_descriptor(search->out, descriptor, name, flags, search->err);
    if (rc < 0)
        vx_error_prefix(search->err, name);
    return rc;
}

static int
try_handed_in(struct search *search)
{
    for (size_t i = 0; i < search->parents->handed_in_count; i++) {
        const struct vx_handed_in *given = &search->parents->handed_in[i];
        int                     descriptor = fcntl(given->descriptor, F_DUPFD_CLOEXEC, 0);
        struct stat             status;
        int                     rc;

        if (descriptor < 0 || fstat(descriptor, &status) < 0)
            rc = tell(search, given->name, "its descriptor is not open");
        else
            rc = examine(search, descriptor, &status, given->name);
        if (rc != VHDX_OK && descriptor >= 0)
            close(descriptor);
        if (rc != GOES_ON)
            return rc;
    }
    return GOES_ON;
}

static int
try_below(struct search *search, const char *folder, bool only_here)
{
    const char *below = vx_path_below(folder, search->path), *why;
    int         rc;

    if (!vx_open_below(&search->file, folder, only_here, below, search->parents->locale, &why))
        return tell(search, search->path, why);
    rc = examine(search, search->file.descriptor, &search->file.status, search->file.name);
    if (rc != VHDX_OK)
        close(search->file.descriptor);
    return rc;
}

/* The folder from which the policy lets search->path be opened, or NULL. */
static const char *
allowed_folder(const struct search *search)
{
    const struct vhdx_parents *parents = search->parents;

    if (parents->mode == VHDX_PARENTS_ANY)
        return "/";
    if (parents->mode == VHDX_PARENTS_SAME_DIR)
        return search->child_folder[0] != '\0' && vx_path_below(search->child_folder, search->path) != NULL
                   ? search->child_folder : NULL;
    for (size_t i = 0; i < parents->folder_count; i++)
        if (vx_path_below(parents->folders[i], search->path) != NULL)
            return parents->folders[i];
    return NULL;
}

/* `tail` as seen from `folder`. */
static int
try_path(struct search *search, const char *folder, const char *tail)
{
    bool        only_here = search->parents->mode == VHDX_PARENTS_SAME_DIR;
    const char *allowed, *why;

    if (!vx_path_join(search->path, folder, tail, &why))
        return tell(search, tail, why);
    if (strcmp(search->path, search->last_path) == 0)
        return GOES_ON;
    memcpy(search->last_path, search->path, sizeof search->last_path);
    allowed = allowed_folder(search);
    if (allowed == NULL)
        return tell(search, search->path,
                    only_here ? "outside of the folder of the child" : "outside of the allowed folders");
    return try_below(search, allowed, only_here);
}

static int
try_relative(struct search *search, const char *text)
{
    char        tail[VX_PATH_SIZE];
    const char *why;

    if (text == NULL)
        return GOES_ON;
    if (!vx_path_from_relative(tail, text, &why))
        return tell(search, text, why);
    if (search->child_folder[0] == '\0')
        return tell(search, text, "the folder of the child is not known");
    return try_path(search, search->child_folder, tail);
}

/* What lies below the Windows side of a map, or NULL. */
static const char *
below_map(const struct search *search, const struct vx_path_map *map)
{
    const char *tail = search->windows.tail;
    size_t      length = strlen(map->tail);
    char        head[VX_PATH_SIZE];

    if (!vx_names_match(search->parents->locale, map->root, search->windows.root))
        return NULL;
    if (length == 0)
        return tail;
    if (strlen(tail) <= length || tail[length] != '/')
        return NULL; /* folding that changes lengths is not done: maps are the user's to spell */
    memcpy(head, tail, length);
    head[length] = '\0';
    return vx_names_match(search->parents->locale, map->tail, head) ? tail + length + 1 : NULL;
}

/* A drive that no map names is what WSL mounts; and "/", which is how locators of this library spell a path that no
 * map says how to spell (create_child.c). */
static int
try_unmapped_drive(struct search *search)
{
    char folder[VX_PATH_SIZE];
    int  rc = GOES_ON;

    if (vx_path_wsl_folder(folder, search->windows.root))
        rc = try_path(search, folder, search->windows.tail);
    return rc == GOES_ON ? try_path(search, "/", search->windows.tail) : rc;
}

static int
try_absolute(struct search *search, const char *text)
{
    bool        is_mapped = false;
    const char *why, *below;

    if (text == NULL)
        return GOES_ON;
    if (!vx_path_from_absolute(&search->windows, text, &why))
        return tell(search, text, why);
    if (search->windows.tail[0] == '\0')
        return tell(search, text, "it names no file");
    for (size_t i = 0; i < search->parents->map_count; i++) {
        const struct vx_path_map *map = &search->parents->maps[i];
        int                       rc;

        below = below_map(search, map);
        if (below == NULL)
            continue;
        is_mapped = true;
        rc = try_path(search, map->folder, below);
        if (rc != GOES_ON)
            return rc;
    }
    if (is_mapped)
        return GOES_ON;
    if (search->windows.root[1] == ':')
        return try_unmapped_drive(search);
    return tell(search, text, "no map says where that is");
}

/* Where relative paths begin: the folder the child's file lies in, whatever links lead to it. */
static void
find_child_folder(struct search *search)
{
    const char *name = search->query->child_name, *slash = strrchr(name, '/');
    char       *folder = search->child_folder;

    if (realpath(name, folder) != NULL) {
        slash = strrchr(folder, '/');
        folder[slash == folder ? 1 : slash - folder] = '\0';
        return;
    }
    folder[0] = '\0'; /* a name that is no path, or no longer one: its folder may still be there */
    if (slash == NULL) {
        if (realpath(".", folder) == NULL)
            folder[0] = '\0';
    } else if ((size_t)(slash - name) + 2 <= sizeof search->path) {
        memcpy(search->path, name, (size_t)(slash - name) + 1);
        search->path[slash - name + 1] = '\0';
        if (realpath(search->path, folder) == NULL)
            folder[0] = '\0';
    }
}

static int
fail_search(struct search *search)
{
    struct vhdx_error *err = search->err;
    const char        *child = search->query->child_name, *end = shown(child), *dots = end != child ? "..." : "";
    bool               has_mismatch = search->mismatch[0] != '\0';
    int                rc;

    if (has_mismatch)
        rc = vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s%s%s", search->mismatch,
                     search->told[0] != '\0' ? ". " : "", search->told);
    else if (search->is_circle)
        rc = vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                     "the chain runs in a circle at %s%s: %s", dots, end, search->told);
    else if (search->parents->mode == VHDX_PARENTS_NONE)
        rc = vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                     "the parent of %s%s may not be looked for%s%s", dots, end, search->told[0] != '\0' ? "; " : "",
                     search->told);
    else
        rc = vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "no parent of %s%s: %s", dots, end,
                     search->told[0] != '\0' ? search->told : "its locator names no path");
    if (err != NULL && rc == VHDX_E_BAD_PARENT) {
        err->rule = has_mismatch ? 122 : 125;
        err->severity = VHDX_SEVERITY_REFUSE;
    }
    return rc;
}

int
vx_parents_search(const struct vhdx_parents *parents, const struct vhdx_parent_query *query, struct vhdx_storage **out,
                  char *mismatch_path, struct vhdx_error *err)
{
    struct search *search = vx_alloc_zeroed(1, sizeof *search);
    int            rc;

    if (search == NULL)
        return vx_fail_memory(err, "the search for a parent");
    search->parents = parents;
    search->mismatch_path = mismatch_path;
    search->query = query;
    search->out = out;
    search->err = err;
    rc = try_handed_in(search);
    if (rc == GOES_ON && search->parents->mode != VHDX_PARENTS_NONE) {
        find_child_folder(search);
        rc = try_relative(search, query->relative_path);
        if (rc == GOES_ON)
            rc = try_absolute(search, query->volume_path);
        if (rc == GOES_ON)
            rc = try_absolute(search, query->absolute_win32_path);
    }
    if (rc == GOES_ON)
        rc = fail_search(search);
    vx_free(search);
    return rc;
}

int
vhdx_parents_resolve(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out,
                     struct vhdx_error *err)
{
    return vx_parents_search(context, query, out, NULL, err);
}
