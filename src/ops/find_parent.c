/* Where the parent of one image is: the search that opening does, ended as soon as it knows. */
#include <stdio.h>
#include <string.h>

#include <vhdx/chain.h>

#include "base/error.h"
#include "disk/parents.h"
#include "storage/storage.h"

#define KNOWS_ENOUGH VHDX_E_CANCELLED /* what ends the opening */

struct asked {
    const struct vhdx_parents *parents;
    struct vhdx_parent_place  *place;
    int                        rc;
    struct vhdx_error         *err;
};

static int
note_parent(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out, struct vhdx_error *err)
{
    struct asked *asked = context;

    (void)err;
    asked->place->is_differencing = true;
    asked->rc = vx_parents_search(asked->parents, query, out, asked->place->mismatch, asked->err);
    if (asked->rc == VHDX_OK) {
        snprintf(asked->place->path, sizeof asked->place->path, "%s", vx_storage_name(*out));
        vhdx_storage_close(*out);
    }
    return KNOWS_ENOUGH;
}

int
vhdx_find_parent(const char *path, unsigned flags, struct vhdx_parents *parents, struct vhdx_parent_place *out,
                 struct vhdx_error *err)
{
    struct asked                   asked = { .parents = parents, .place = out, .err = err };
    const struct vhdx_open_options options = {
        .flags = flags & (VHDX_OPEN_IGNORE_LOG | VHDX_OPEN_FORCE_SHARE), .format = VHDX_FORMAT_VHDX,
        .resolve_parent = note_parent, .resolve_context = &asked,
    };
    struct vhdx_error ours;
    struct vhdx_disk *disk;
    int               rc;

    out->is_differencing = false;
    out->path[0] = out->mismatch[0] = '\0';
    rc = vhdx_disk_open_path(&disk, path, &options, &ours);
    if (rc == VHDX_OK)
        vhdx_disk_close(disk, NULL);
    if (out->is_differencing)
        return asked.rc;
    if (rc < 0 && err != NULL)
        *err = ours;
    return rc;
}
