/*
 * Nobody's parent is written by accident: a differencing image holds only what changed since it was made, so whoever
 * writes to its parent changes what it shows, and its DataWriteGuid no longer fits (V122).
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <vhdx/chain.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/parents.h"
#include "ops/name_list.h"

static int
note_child(void *context, const struct vhdx_found_image *image)
{
    vx_name_list_add(context, image->path);
    return 0;
}

/* Search beside the file itself, and beside a symbolic link that leads to it. */
static int
find_beside(const char *path, struct vx_name_list *children, bool *was_cut, struct vhdx_error *err)
{
    char        real[VX_PATH_SIZE], folder[VX_PATH_SIZE];
    const char *also = folder, *slash = strrchr(path, '/');
    struct stat status;

    if (lstat(path, &status) < 0 || !S_ISLNK(status.st_mode) || realpath(path, real) == NULL
        || strlen(path) >= sizeof folder)
        return vhdx_find_children(path, NULL, 0, note_child, children, was_cut, err);
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1, slash == NULL ? "." : path);
    return vhdx_find_children(real, &also, 1, note_child, children, was_cut, err);
}

int
vhdx_refuse_children(const char *path, bool *is_complete, struct vhdx_error *err)
{
    struct vx_name_list *children = vx_alloc_zeroed(1, sizeof *children);
    struct vhdx_error ours;
    bool              was_cut = false;
    int               rc;

    if (children == NULL)
        return vx_fail_memory(err, "the search for children");
    rc = find_beside(path, children, &was_cut, &ours);
    if (is_complete != NULL)
        *is_complete = (rc == VHDX_OK || rc == VHDX_E_NOT_VHDX) && !was_cut;
    if (rc == VHDX_E_NO_MEMORY && err != NULL)
        *err = ours;
    if (rc != VHDX_E_NO_MEMORY)
        rc = VHDX_OK; /* what cannot be searched cannot refuse */
    if (rc == VHDX_OK && children->count > 0)
        rc = vx_fail(err, VHDX_E_HAS_CHILDREN, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s %s on it as %s parent",
                     children->text, children->count == 1 ? "depends" : "depend",
                     children->count == 1 ? "its" : "their");
    vx_free(children);
    return rc;
}
