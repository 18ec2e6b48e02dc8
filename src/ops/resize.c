/* See resize.h. */
#include "ops/resize.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/metadata_edit.h"
#include "ops/resize_entries.h"
#include "storage/storage.h"

/* --- the entry of U1 --- */

/* Pages of the metadata, then `more`. */
static int
edit_together(struct vx_image *image, const struct vx_metadata_edit *metadata, const struct vx_edits *more,
              struct vhdx_error *err)
{
    struct vx_edits all = { .count = 0 };
    int             rc = VHDX_OK;

    for (size_t i = 0; i < metadata->page_count && rc == VHDX_OK; i++)
        rc = vx_edits_add(&all, metadata->pages[i].file_offset, metadata->pages[i].bytes, VX_PAGE, err);
    for (size_t i = 0; more != NULL && i < more->count && rc == VHDX_OK; i++)
        rc = vx_edits_add(&all, more->items[i].file_offset, more->items[i].bytes, more->items[i].length, err);
    if (rc == VHDX_OK)
        rc = vx_image_edit(image, all.items, all.count, err);
    vx_free(all.items);
    return rc;
}

int
vx_resize_set_size(struct vx_image *image, uint64_t new_size, const struct vx_edits *more, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit;
    uint8_t                  bytes[8];
    int                      rc = vx_metadata_edit_new(&edit, image, err);

    if (rc < 0)
        return rc;
    vx_put_le64(bytes, new_size);
    rc = vx_metadata_edit_set(edit, &vx_guid_item_virtual_disk_size, VX_ITEM_IS_VIRTUAL_DISK | VX_ITEM_IS_REQUIRED,
                              bytes, sizeof bytes, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_prepare(edit, SIZE_MAX, err); /* the engine knows its limit */
    if (rc == VHDX_OK)
        rc = edit_together(image, edit, more, err);
    vx_metadata_edit_free(edit);
    return rc;
}

/* --- judging --- */

static int
judge(const struct vx_resize *job, struct vx_image *image, struct vhdx_error *err)
{
    const struct vx_geometry *g = vx_image_geometry(image);

    if (job->new_size == 0 || job->new_size % g->logical_sector_size != 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "a disk of %" PRIu64 " bytes: the size must be a multiple of its sectors of %" PRIu32 " bytes",
                       job->new_size, g->logical_sector_size);
    if (job->new_size > VX_MAX_VIRTUAL_SIZE)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "a disk of %" PRIu64 " bytes: the format ends at 64 TiB", job->new_size);
    return VHDX_OK;
}

static void
note(struct vhdx_resize_result *result, struct vx_image *image)
{
    struct vhdx_info info;

    vx_image_fill_info(image, &info);
    result->old_size = vx_image_geometry(image)->virtual_size;
    result->is_dirty = info.is_dirty;
}

/* --- sessions --- */

static int
shrink(const struct vx_resize *job, struct vx_image *image, struct vhdx_error *err)
{
    int rc = vx_resize_drop_end(image, job->new_size, err); /* U4 */

    return rc == VHDX_OK ? vx_resize_set_size(image, job->new_size, NULL, err) : rc;
}

static int
change(const struct vx_resize *job, struct vx_image *image, struct vhdx_resize_result *result, struct vhdx_error *err)
{
    uint64_t old_size = vx_image_geometry(image)->virtual_size;
    int      rc = judge(job, image, err);

    note(result, image);
    if (rc < 0 || job->new_size == old_size)
        return rc;
    if (job->only_judge) {
        result->table_moved = job->new_size > old_size && vx_resize_moves_bat(job, image);
        return VHDX_OK;
    }
    rc = job->new_size > old_size ? vx_resize_grow(job, image, result, err) : shrink(job, image, err);
    if (rc == VHDX_OK)
        rc = vx_image_flush(image, err);
    if (rc == VHDX_OK)
        result->new_size = job->new_size;
    return rc;
}

/* What the last session still counted as used: a fixed image's end, the old BAT region. */
static int
cut(const struct vx_resize *job, struct vx_image *image, struct vhdx_resize_result *result, struct vhdx_error *err)
{
    (void)job;
    (void)result;
    return vx_image_cut_at_close(image, err);
}

static int
run_session(const struct vx_resize *job, enum vx_data_guid data_guid,
            int (*carry_out)(const struct vx_resize *, struct vx_image *, struct vhdx_resize_result *,
                             struct vhdx_error *),
            struct vhdx_resize_result *result, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = !job->only_judge, .data_guid = data_guid,
                                              .log_length_for_tests = job->log_length_for_tests };
    struct vx_image *image;
    int              rc = vx_image_open(&image, job->storage, &options, err), closed;

    if (rc < 0)
        return rc;
    rc = carry_out(job, image, result, err);
    closed = vx_image_close(image, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}

int
vx_resize(const struct vx_resize *job, struct vhdx_resize_result *result, struct vhdx_error *err)
{
    int rc = vx_storage_get_size(job->storage, &result->file_size_before, err);

    result->file_size_after = result->file_size_before;
    if (rc == VHDX_OK)
        rc = run_session(job, VX_DATA_GUID_NEW, change, result, err);
    if (result->new_size == 0)
        result->new_size = rc == VHDX_OK ? job->new_size : result->old_size;
    if (rc == VHDX_OK && !job->only_judge)
        rc = run_session(job, VX_DATA_GUID_KEEP, cut, result, err);
    if (rc == VHDX_OK && !job->only_judge)
        rc = vx_storage_flush(job->storage, err); /* close cuts the file without one: what is told is so */
    return rc == VHDX_OK ? vx_storage_get_size(job->storage, &result->file_size_after, err) : rc;
}
