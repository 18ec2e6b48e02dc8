/* Lists of what stays. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sandbox.h"

void
sandbox_allow(struct sandbox_list *list, const char *path, enum sandbox_right right)
{
    struct sandbox_path *paths = realloc(list->paths, (list->count + 1) * sizeof *paths);

    if (paths != NULL) {
        list->paths = paths;
        paths[list->count] = (struct sandbox_path){ strdup(path), right };
    }
    if (paths == NULL || paths[list->count].path == NULL)
        list->is_incomplete = true;
    else
        list->count++;
}

static void
allow_folder_of(struct sandbox_list *list, const char *file, enum sandbox_right right)
{
    char        folder[PATH_MAX];
    const char *slash = strrchr(file, '/');

    if (slash == NULL) {
        strcpy(folder, ".");
    } else if ((size_t)(slash - file) + 2 > sizeof folder) {
        return; /* longer than the system opens */
    } else {
        memcpy(folder, file, (size_t)(slash - file) + 1);
        folder[slash - file + 1] = '\0';
    }
    sandbox_allow(list, folder, right);
}

void
sandbox_allow_beside(struct sandbox_list *list, const char *file, enum sandbox_right right)
{
    char real[PATH_MAX];

    allow_folder_of(list, file, right);
    if (realpath(file, real) != NULL && strcmp(real, file) != 0)
        allow_folder_of(list, real, right);
}

/* Programs leave the directory they were started in before they open what is in the list. */
static void
allow_absolute(struct sandbox_list *list, const char *folder, enum sandbox_right right)
{
    char real[PATH_MAX];

    sandbox_allow(list, realpath(folder, real) != NULL ? real : folder, right);
}

static void
allow_parents(struct sandbox_list *list, const char *file, const struct vhdx_parents_options *parents)
{
    switch (parents->mode) {
    case VHDX_PARENTS_NONE:
        break;
    case VHDX_PARENTS_SAME_DIR:
        sandbox_allow_beside(list, file, SANDBOX_READ);
        break;
    case VHDX_PARENTS_DIRECTORIES:
        for (size_t i = 0; i < parents->directory_count; i++)
            allow_absolute(list, parents->directories[i], SANDBOX_READ);
        break;
    case VHDX_PARENTS_ANY:
        sandbox_allow(list, "/", SANDBOX_READ);
        break;
    }
}

void
sandbox_allow_image(struct sandbox_list *list, const char *file, enum sandbox_right right,
                    const struct vhdx_parents_options *parents)
{
    sandbox_allow(list, file, right);
    if (parents != NULL)
        allow_parents(list, file, parents);
    sandbox_allow(list, "/proc/fs/ext4", SANDBOX_READ);
    sandbox_allow(list, "/sys/devices", SANDBOX_READ);
}

void
sandbox_list_free(struct sandbox_list *list)
{
    for (size_t i = 0; i < list->count; i++)
        free(list->paths[i].path);
    free(list->paths);
    *list = (struct sandbox_list){ .count = 0 };
}
