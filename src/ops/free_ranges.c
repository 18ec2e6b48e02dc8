/* What the file systems in a disk call free, handed on as ranges of the disk: where src/fs meets the jobs about space. */
#include <vhdx/space.h>

#include "base/error.h"

/* Everything is judged before the first range is handed on: vhdx_layout_open has walked each volume once already. */
static int
judge(const struct vhdx_free_search *search, const struct vhdx_layout *layout, struct vhdx_error *err)
{
    int rc = search->judge != NULL ? search->judge(search->context, layout, err) : VHDX_OK;

    return rc == VHDX_OK ? vhdx_layout_refusal(layout, err) : rc;
}

int
vhdx_find_free_ranges(void *search, struct vhdx_disk *disk, vhdx_free_range take, void *take_context,
                      struct vhdx_error *err)
{
    const struct vhdx_free_search *s = search;
    struct vhdx_layout            *layout;
    int                            rc = vhdx_layout_open(&layout, disk, s->layout, err);

    if (rc < 0)
        return rc;
    rc = judge(s, layout, err);
    for (size_t i = 0; rc == VHDX_OK && i < vhdx_layout_volume_count(layout); i++)
        rc = vhdx_layout_walk_free(layout, i, take, take_context, err);
    vhdx_layout_close(layout);
    return rc;
}
