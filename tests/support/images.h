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

/* The layout of a new differencing image.  `item`: its parent locator, which must live as long as the layout. */
#define IMAGE_LOCATOR_SIZE 1024
void image_child_layout(struct vx_new_layout *layout, const struct vhdx_create_options *options,
                        const struct vhdx_guid *linkage, uint8_t item[IMAGE_LOCATOR_SIZE]);

/* Free space that a closed image may have: blocks that were given back leave it inside the file (V148), a session
 * that was killed also at the end, until a later one cuts it (V149). */
enum image_gaps { IMAGE_NO_GAPS, IMAGE_GAPS_INSIDE, IMAGE_GAPS };

/* Is there nothing to find in a closed image: no dirty log, and only what the tests do to an image on purpose
 * (V107, V146, V156 to V158)?  Prints what there is. */
bool image_is_clean(struct vhdx_storage *storage, enum image_gaps gaps, struct vhdx_check_summary *summary);

/* Stop the program when a step that cannot fail failed. */
void must(int rc, const char *what, const struct vhdx_error *err);

#endif
