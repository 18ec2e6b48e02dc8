/* Replaying the log of an image into it: opening for writing does that, and nothing else before the first write. */
#include <vhdx/ops.h>

int
vhdx_replay_path(const char *path, bool *was_dirty, struct vhdx_error *err)
{
    /* The log is this file's own affair: its parents need not be there. */
    const struct vhdx_open_options options = {
        .flags = VHDX_OPEN_WRITE | VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX,
    };
    struct vhdx_disk *disk;
    struct vhdx_info info;
    int rc = vhdx_disk_open_path(&disk, path, &options, err);

    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, &info, err);
    if (rc < 0) {
        vhdx_disk_close(disk, NULL);
        return rc;
    }
    if (was_dirty != NULL)
        *was_dirty = info.is_dirty;
    return vhdx_disk_close(disk, err);
}
