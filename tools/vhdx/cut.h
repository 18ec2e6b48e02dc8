/* What a smaller disk would cut off. */
#ifndef VHDX_TOOL_CUT_H
#define VHDX_TOOL_CUT_H

#include <vhdx/fs.h>

/* The smallest disk that cuts nothing its tables tell of: a whole MiB, or the size it has. */
uint64_t cut_least_size(const struct vhdx_disk *disk, const struct vhdx_layout *layout);

/*
 * Would a disk of new_size bytes cut a partition or a file system, or data outside of any?  The second copy of a GPT is not
 * counted.
 *
 *   errors  VHDX_E_RANGE with what would be cut, VHDX_E_BAD_VOLUME when the table cannot be trusted, and those of reading
 */
int cut_judge(struct vhdx_disk *disk, const struct vhdx_layout *layout, uint64_t new_size, struct vhdx_error *err);

#endif
