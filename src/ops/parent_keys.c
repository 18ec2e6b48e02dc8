/* See parent_keys.h. */
#include "ops/parent_keys.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int
canonical(char out[VX_PATH_SIZE], const char *path, struct vhdx_error *err)
{
    if (realpath(path, out) != NULL)
        return VHDX_OK;
    return vx_fail_errno(err, errno, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s", path);
}

static int
folder_of(char out[VX_PATH_SIZE], const char *path, struct vhdx_error *err)
{
    const char *slash = strrchr(path, '/');
    char        folder[VX_PATH_SIZE];
    size_t      length = slash == NULL ? 0 : (size_t)(slash - path) + 1;

    if (length >= sizeof folder)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "the path of the child is too long");
    memcpy(folder, path, length);
    folder[length] = '\0';
    return canonical(out, slash == NULL ? "." : folder, err);
}

static bool
is_volume(const struct vx_path_map *map)
{
    return map->root[0] != '\\' && map->root[1] != ':';
}

/* Through the first map that the path lies in; false when there is none. */
static bool
map_path(char out[VX_PATH_SIZE], const struct vhdx_parents *parents, const char *path, bool as_volume)
{
    const char *why;

    for (size_t i = 0; parents != NULL && i < parents->map_count; i++) {
        const struct vx_path_map *map = &parents->maps[i];
        const char               *below = vx_path_below(map->folder, path);

        if (is_volume(map) == as_volume && below != NULL && *below != '\0' &&
            vx_windows_absolute(out, map->root, map->tail, below, &why))
            return true;
    }
    out[0] = '\0';
    return false;
}

/* "/mnt/c/..." where drives are mounted so; else as if "/" were C:. */
static void
write_unmapped(char out[VX_PATH_SIZE], const char *path)
{
    char        folder[VX_PATH_SIZE], drive[3] = "C:";
    const char *below = path + 1, *why;

    if (strncmp(path, "/mnt/", 5) == 0 && path[5] >= 'a' && path[5] <= 'z' && path[6] == '/') {
        drive[0] = (char)(path[5] - 'a' + 'A');
        if (vx_path_wsl_folder(folder, drive))
            below = path + 7;
        else
            drive[0] = 'C';
    }
    if (!vx_windows_absolute(out, drive, "", below, &why))
        out[0] = '\0';
}

int
vx_parent_keys_make(struct vx_parent_keys *out, const char *child_path, const char *parent_path,
                    const struct vhdx_parents *parents, struct vhdx_error *err)
{
    char        folder[VX_PATH_SIZE], path[VX_PATH_SIZE];
    const char *why;
    int         rc = canonical(path, parent_path, err);

    if (rc == VHDX_OK)
        rc = folder_of(folder, child_path, err);
    if (rc < 0)
        return rc;
    if (!vx_windows_relative(out->relative_path, folder, path, &why))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "parent %s: %s", parent_path, why);
    map_path(out->volume_path, parents, path, true);
    if (!map_path(out->absolute_win32_path, parents, path, false))
        write_unmapped(out->absolute_win32_path, path);
    return VHDX_OK;
}
