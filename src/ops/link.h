/*
 * The link of a child to its parent: changing the keys of its locator (docs/vhdx-format.md 2.11, 9.9).  In one log
 * entry; nothing a guest could see, so the image is opened with VX_DATA_GUID_KEEP.
 */
#ifndef VX_LINK_H
#define VX_LINK_H

#include "format/locator.h"
#include "image/image.h"
#include "ops/metadata_edit.h"

#define VX_BRACED_GUID_SIZE (VHDX_GUID_TEXT_SIZE + 2)

/* "{...}", lower case, as locators have it. */
void vx_link_braced(char out[VX_BRACED_GUID_SIZE], const struct vhdx_guid *guid);

/* Pages one log entry of this image carries; judged before anything is written, for an image open in any way. */
size_t vx_link_page_limit(struct vx_image *image, uint32_t log_length_for_tests);

/* Change keys of the locator.  With do_it false only judge whether it could be done. */
int vx_link_change(struct vx_image *child, const struct vx_locator_text *changes, size_t change_count, bool do_it,
                   uint32_t log_length_for_tests, struct vhdx_error *err);

#endif
