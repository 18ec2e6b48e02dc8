/*
 * The policy for finding parents: which folders they may come from, what paths of Windows mean here.  Everything
 * the user names is made canonical once, when the policy is made; the search (parents_search.c) then compares text.
 */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/parents.h"

#if defined(PATH_MAX) && PATH_MAX > 4096
#error "realpath() writes up to PATH_MAX bytes into buffers of VX_PATH_SIZE"
#endif

void
vhdx_parents_free(struct vhdx_parents *parents)
{
    if (parents == NULL)
        return;
    for (size_t i = 0; i < parents->folder_count; i++)
        vx_free(parents->folders[i]);
    for (size_t i = 0; i < parents->map_count; i++) {
        vx_free(parents->maps[i].root);
        vx_free(parents->maps[i].tail);
        vx_free(parents->maps[i].folder);
    }
    for (size_t i = 0; i < parents->handed_in_count; i++)
        vx_free(parents->handed_in[i].name);
    vx_free(parents->folders);
    vx_free(parents->maps);
    vx_free(parents->handed_in);
    if (parents->locale != (locale_t)0)
        freelocale(parents->locale);
    vx_free(parents);
}

/* A folder of the user's, canonical; NULL with *err. */
static char *
canonical_folder(const char *folder, struct vhdx_error *err)
{
    char        path[VX_PATH_SIZE];
    char       *copy;
    struct stat status;

    if (realpath(folder, path) == NULL || stat(path, &status) < 0) {
        vx_fail_errno(err, errno, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "folder %s", folder);
        return NULL;
    }
    if (!S_ISDIR(status.st_mode)) {
        vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s is no folder", folder);
        return NULL;
    }
    copy = vx_strdup(path);
    if (copy == NULL)
        vx_fail_memory(err, "a path");
    return copy;
}

static int
by_length(const void *a, const void *b)
{
    size_t x = strlen(*(char *const *)a), y = strlen(*(char *const *)b);

    return (x > y) - (x < y);
}

static int
copy_folders(struct vhdx_parents *parents, const struct vhdx_parents_options *options, struct vhdx_error *err)
{
    struct vhdx_error ours = { .code = VHDX_OK };

    if (options->mode != VHDX_PARENTS_DIRECTORIES)
        return VHDX_OK;
    if (options->directory_count == 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "no folder for parents is named");
    parents->folders = vx_alloc_zeroed(options->directory_count, sizeof *parents->folders);
    if (parents->folders == NULL)
        return vx_fail_memory(err, "folders");
    for (size_t i = 0; i < options->directory_count; i++) {
        parents->folders[i] = canonical_folder(options->directories[i], &ours);
        if (parents->folders[i] == NULL) {
            if (err != NULL)
                *err = ours;
            return ours.code;
        }
        parents->folder_count++;
    }
    qsort(parents->folders, parents->folder_count, sizeof *parents->folders, by_length);
    return VHDX_OK;
}

static int
copy_map(struct vx_path_map *out, const struct vhdx_path_map *map, struct vhdx_error *err)
{
    struct vhdx_error       ours = { .code = VHDX_OK };
    struct vx_windows_path *windows = vx_alloc_zeroed(1, sizeof *windows);
    const char             *why;

    if (windows == NULL)
        return vx_fail_memory(err, "a map of paths");
    if (!vx_path_from_absolute(windows, map->windows, &why)) {
        vx_free(windows);
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "the map for \"%s\": %s", map->windows,
                       why);
    }
    out->root = vx_strdup(windows->root);
    out->tail = vx_strdup(windows->tail);
    out->folder = canonical_folder(map->folder, &ours);
    vx_free(windows);
    if (out->folder == NULL) {
        if (err != NULL)
            *err = ours;
        return ours.code;
    }
    return out->root != NULL && out->tail != NULL ? VHDX_OK : vx_fail_memory(err, "a map of paths");
}

static int
longest_folder_first(const void *a, const void *b)
{
    size_t x = strlen(((const struct vx_path_map *)a)->folder), y = strlen(((const struct vx_path_map *)b)->folder);

    return (x < y) - (x > y);
}

static int
copy_maps(struct vhdx_parents *parents, const struct vhdx_parents_options *options, struct vhdx_error *err)
{
    if (options->map_count == 0)
        return VHDX_OK;
    parents->maps = vx_alloc_zeroed(options->map_count, sizeof *parents->maps);
    if (parents->maps == NULL)
        return vx_fail_memory(err, "maps of paths");
    for (; parents->map_count < options->map_count;) {
        size_t i = parents->map_count++;
        int    rc = copy_map(&parents->maps[i], &options->maps[i], err);

        if (rc < 0)
            return rc;
    }
    qsort(parents->maps, parents->map_count, sizeof *parents->maps, longest_folder_first);
    return VHDX_OK;
}

int
vhdx_parents_new(struct vhdx_parents **out, const struct vhdx_parents_options *options, struct vhdx_error *err)
{
    static const struct vhdx_parents_options none;
    struct vhdx_parents *parents = vx_alloc_zeroed(1, sizeof *parents);
    int                  rc;

    if (parents == NULL)
        return vx_fail_memory(err, "a policy for parents");
    if (options == NULL)
        options = &none;
    parents->mode = options->mode;
    parents->locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* none: ASCII folds alone */
    rc = copy_folders(parents, options, err);
    if (rc == VHDX_OK)
        rc = copy_maps(parents, options, err);
    if (rc < 0) {
        vhdx_parents_free(parents);
        return rc;
    }
    *out = parents;
    return VHDX_OK;
}

int
vhdx_parents_add_descriptor(struct vhdx_parents *parents, int descriptor, const char *name, struct vhdx_error *err)
{
    struct vx_handed_in *list;
    struct stat       status;
    char             *copy;

    if (fstat(descriptor, &status) < 0)
        return vx_fail_errno(err, errno, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "looking at descriptor %d", descriptor);
    if (!S_ISREG(status.st_mode) && !S_ISBLK(status.st_mode))
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "descriptor %d is neither a file nor a block device", descriptor);
    list = vx_realloc_array(parents->handed_in, parents->handed_in_count + 1, sizeof *list);
    if (list == NULL)
        return vx_fail_memory(err, "a parent");
    parents->handed_in = list;
    copy = vx_strdup(name != NULL ? name : "parent");
    if (copy == NULL)
        return vx_fail_memory(err, "a parent");
    list[parents->handed_in_count++] = (struct vx_handed_in){ .descriptor = descriptor, .name = copy };
    return VHDX_OK;
}

bool
vx_path_wsl_folder(char out[VX_PATH_SIZE], const char *drive)
{
    char        letter = drive[0] >= 'A' && drive[0] <= 'Z' ? (char)(drive[0] - 'A' + 'a') : drive[0];
    struct stat status;

    if (drive[1] != ':')
        return false;
    snprintf(out, VX_PATH_SIZE, "/mnt/%c", letter);
    return lstat(out, &status) == 0 && S_ISDIR(status.st_mode);
}
