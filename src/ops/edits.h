/* Lists of edits for one entry of the log, and the edit that names a region elsewhere. */
#ifndef VX_EDITS_H
#define VX_EDITS_H

#include "image/image.h"

struct vx_edits {
    struct vx_edit *items; /* owned: vx_free */
    size_t          count, capacity;
};

/* `bytes` are borrowed until the edits are made. */
int vx_edits_add(struct vx_edits *edits, uint64_t file_offset, const void *bytes, uint64_t length, struct vhdx_error *err);

/*
 * Let both region tables name another place for a region: two pages, or four of tables with 128 entries and more.
 *
 *   tables   room for both tables, 2 * VX_REGION_TABLE_SIZE; kept until the edits are made
 */
int vx_edits_move_region(struct vx_edits *edits, struct vx_image *image, const struct vhdx_guid *guid, uint64_t file_offset,
                         uint32_t length, uint8_t *tables, struct vhdx_error *err);

#endif
