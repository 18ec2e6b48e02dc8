/* See link.h. */
#include "ops/link.h"

#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "image/log.h"

#define MOST_PAGES ((size_t)1024) /* src/image/open.c */

void
vx_link_braced(char out[VX_BRACED_GUID_SIZE], const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    snprintf(out, VX_BRACED_GUID_SIZE, "{%s}", text);
}

size_t
vx_link_page_limit(struct vx_image *image, uint32_t log_length_for_tests)
{
    struct vhdx_info info;
    uint64_t         length;
    size_t           limit;

    vx_image_fill_info(image, &info);
    length = info.log_length != 0 ? info.log_length : VX_MIB; /* an image without a log gets one (V28) */
    if (log_length_for_tests != 0)
        length = vx_min_u64(length, log_length_for_tests);
    limit = vx_log_page_limit(length);
    return limit < MOST_PAGES ? limit : MOST_PAGES;
}

static int
read_locator(struct vx_metadata_edit *edit, uint8_t **item, uint32_t *length, struct vhdx_error *err)
{
    uint32_t index = vx_metadata_index_of(&edit->table, &vx_guid_item_parent_locator, false);
    int      rc;

    if (index == UINT32_MAX)
        return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_LOCATOR, VHDX_NO_OFFSET, "the image has no parent");
    *length = edit->table.entries[index].length;
    *item = vx_alloc(*length > 0 ? *length : 1);
    if (*item == NULL)
        return vx_fail_memory(err, "the parent locator");
    rc = vx_image_read_structure(edit->image, *item, *length,
                                 edit->region.file_offset + edit->table.entries[index].offset, err);
    if (rc < 0) {
        vx_free(*item);
        *item = NULL;
    }
    return rc;
}

/* The new item, its place, and whether one entry carries it. */
static int
plan_change(struct vx_metadata_edit *edit, const uint8_t *old, uint32_t old_length,
            const struct vx_locator_text *changes, size_t change_count, uint8_t *item, size_t page_limit,
            struct vhdx_error *err)
{
    uint32_t length;
    int      rc;

    if (!vx_locator_rewrite(item, VX_MAX_ITEM_LENGTH, &length, old, old_length, changes, change_count))
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOCATOR, VHDX_NO_OFFSET,
                       "the parent locator cannot take the new values: a path is too long or not UTF-8");
    rc = vx_metadata_edit_set(edit, &vx_guid_item_parent_locator, VX_ITEM_IS_REQUIRED, item, length, err);
    return rc == VHDX_OK ? vx_metadata_edit_prepare(edit, page_limit, err) : rc;
}

int
vx_link_change(struct vx_image *child, const struct vx_locator_text *changes, size_t change_count, bool do_it,
               uint32_t log_length_for_tests, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit = NULL;
    uint8_t                 *old = NULL, *item = vx_alloc(VX_MAX_ITEM_LENGTH);
    uint32_t                 old_length = 0;
    int                      rc;

    if (item == NULL)
        return vx_fail_memory(err, "the parent locator");
    rc = vx_metadata_edit_new(&edit, child, err);
    if (rc == VHDX_OK)
        rc = read_locator(edit, &old, &old_length, err);
    if (rc == VHDX_OK)
        rc = plan_change(edit, old, old_length, changes, change_count, item,
                         vx_link_page_limit(child, log_length_for_tests), err);
    if (rc == VHDX_OK && do_it)
        rc = vx_metadata_edit_commit(edit, err);
    vx_metadata_edit_free(edit);
    vx_free(old);
    vx_free(item);
    return rc;
}
