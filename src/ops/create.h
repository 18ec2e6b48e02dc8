/* The steps of creating a file, whatever its layout is (create.c). */
#ifndef VX_CREATE_H
#define VX_CREATE_H

#include <stdbool.h>

#include "ops/layout_new.h"

/* As vhdx_create_on_storage, with the layout judged and filled in already. */
int vx_create_on_storage(struct vhdx_storage *storage, const struct vx_new_layout *layout,
                         const struct vhdx_progress *progress, struct vhdx_error *err);

/* As vhdx_create_path, with the layout judged and filled in already. */
int vx_create_path(const char *path, bool overwrite, const struct vx_new_layout *layout,
                   const struct vhdx_progress *progress, struct vhdx_error *err);

#endif
