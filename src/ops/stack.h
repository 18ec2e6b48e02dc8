/*
 * Images of a chain, opened for a job: some consecutive layers, top first, seen as one disk.  What none of them holds is
 * "lacking": an extent with no flag set (disk.h).  The storages stay the caller's.
 */
#ifndef VX_STACK_H
#define VX_STACK_H

#include "disk/disk.h"

/* Open an image of a job; its name goes before whatever is wrong. */
int vx_stack_open_image(struct vx_image **out, struct vhdx_storage *storage, const struct vx_image_options *options,
                        struct vhdx_error *err);
/* The same in front of an error: "base.vhdx: ...". */
int vx_stack_named(int rc, const struct vhdx_storage *storage, struct vhdx_error *err);

/*
 * Open `count` layers; the first one as `top` says (NULL: read-only), the others read-only.  Every layer but the last must
 * be differencing and link to the next one by GUID.  Free with vx_stack_close, whose error is the top image's.
 *
 *   log_length_for_tests   as in struct vx_image_options
 */
struct vx_stack {
    struct vhdx_disk disk;
};
int vx_stack_open(struct vx_stack **out, struct vhdx_storage *const *storages, unsigned count,
                  const struct vx_image_options *top, uint32_t log_length_for_tests, struct vhdx_error *err);
int vx_stack_close(struct vx_stack *stack, struct vhdx_error *err);

/* How a child's locator names a parent. */
enum vx_link { VX_LINK_NONE, VX_LINK_FIRST /* parent_linkage */, VX_LINK_SECOND /* parent_linkage2 */ };
enum vx_link vx_stack_link(struct vx_image *child, const struct vhdx_guid *parent_guid);

/* The same as a verdict: VHDX_E_BAD_PARENT with both GUIDs. */
int vx_stack_check_link(struct vx_image *child, const char *child_name, struct vx_image *parent,
                        const char *parent_name, struct vhdx_error *err);

#endif
