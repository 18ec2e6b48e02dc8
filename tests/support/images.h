/* Images in memory for the tests, and the check that every one of them has to pass. */
#ifndef SUPPORT_IMAGES_H
#define SUPPORT_IMAGES_H

#include <vhdx/ops.h>

#include "ops/layout_new.h"

/* A new image in memory.  Stops the program when it cannot be made. */
struct vhdx_storage *image_make(const struct vhdx_create_options *options);

/* The same for a differencing image.
 *   linkage          the DataWriteGuid of its parent
 *   data_write_guid  its own; NULL: random */
struct vhdx_storage *image_make_child(const struct vhdx_create_options *options, const struct vhdx_guid *linkage,
                                      const struct vhdx_guid *data_write_guid);

/* Is there nothing to find in a closed image: no dirty log, and only what the tests do to an image on purpose (V107, V146,
 * V156 to V158)?  Blocks that were given back leave free space inside the file (V148): may_have_gaps.  Prints what there
 * is. */
bool image_is_clean(struct vhdx_storage *storage, bool may_have_gaps, struct vhdx_check_summary *summary);

/* Stop the program when a step that cannot fail failed. */
void must(int rc, const char *what, const struct vhdx_error *err);

#endif
