/*
 * The path keys of a parent locator, for a parent and a child that lie here (docs/vhdx-format.md 2.11, 10.15, 11).
 *
 *   relative_path        always; ".\\name" in the folder of the child
 *   absolute_win32_path  through the map with the longest folder, or as WSL mounts drives; else the path here,
 *   written
 *                        as if "/" were C:.  Readers take relative_path first and look at GUIDs, so this harms
 *                        nobody: Windows wants the form of a drive's path, others want the key to be there at all,
 *                        and the search of this library finds the file by it when the child was moved
 *   volume_path          through a map of a volume only
 */
#ifndef VX_PARENT_KEYS_H
#define VX_PARENT_KEYS_H

#include "disk/parents.h"

struct vx_parent_keys {
    char relative_path[VX_PATH_SIZE];
    char absolute_win32_path[VX_PATH_SIZE]; /* empty when no such path can be written */
    char volume_path[VX_PATH_SIZE];         /* empty: none */
};

/*
 *   child_path  need not exist, its folder does
 *   parents     whose maps are used; NULL: none
 *   errors      VHDX_E_NOT_FOUND, ..., _INVALID when a name has what no locator can say
 */
int vx_parent_keys_make(struct vx_parent_keys *out, const char *child_path, const char *parent_path,
                        const struct vhdx_parents *parents, struct vhdx_error *err);

#endif
