/* Metadata of a file: reading user items; changing, once nobody depends on the file (include/vhdx/metadata.h). */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "ops/chain_path.h"
#include "ops/metadata_change.h"
#include "ops/metadata_edit.h"
#include "storage/storage.h"

/* --- reading --- */

struct reading {
    struct vhdx_storage     *storage;
    struct vx_image         *image;
    struct vx_metadata_edit *edit; /* the table as it is; nothing is edited */
};

static void
end_reading(struct reading *r)
{
    vx_metadata_edit_free(r->edit);
    if (r->image != NULL)
        vx_image_close(r->image, NULL);
    vhdx_storage_close(r->storage);
}

static int
begin_reading(struct reading *r, const char *path, unsigned flags, struct vhdx_error *err)
{
    const struct vx_image_options options = { .ignore_log = (flags & VHDX_OPEN_IGNORE_LOG) != 0 };
    int rc;

    *r = (struct reading){ .image = NULL };
    rc = vhdx_storage_open_path(&r->storage, path, (flags & VHDX_OPEN_FORCE_SHARE) != 0 ? VHDX_STORAGE_FORCE_SHARE : 0,
                                err);
    if (rc == VHDX_OK)
        rc = vx_image_open(&r->image, r->storage, &options, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_edit_new(&r->edit, r->image, err);
    if (rc < 0)
        end_reading(r);
    return rc;
}

static struct vhdx_metadata_item
item_of(const struct vx_metadata_entry *entry)
{
    return (struct vhdx_metadata_item){ .id = entry->item_id, .length = entry->length,
                                        .is_virtual_disk = (entry->flags & VX_ITEM_IS_VIRTUAL_DISK) != 0 };
}

int
vhdx_metadata_list_path(const char *path, unsigned flags, vhdx_metadata_found each, void *context, struct vhdx_error *err)
{
    struct reading r;
    int            rc = begin_reading(&r, path, flags, err);

    if (rc < 0)
        return rc;
    for (uint32_t i = 0; i < r.edit->table.entry_count && rc == VHDX_OK; i++) {
        struct vhdx_metadata_item item = item_of(&r.edit->table.entries[i]);

        if ((r.edit->table.entries[i].flags & VX_ITEM_IS_USER) != 0)
            rc = each(context, &item);
    }
    end_reading(&r);
    return rc;
}

static int
read_item(const struct reading *r, const struct vhdx_guid *id, void *buffer, size_t capacity,
          struct vhdx_metadata_item *item, struct vhdx_error *err)
{
    uint32_t                        index = vx_metadata_index_of(&r->edit->table, id, true);
    const struct vx_metadata_entry *entry;
    char                            text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, id);
    if (index == UINT32_MAX)
        return vx_fail(err, VHDX_E_NOT_FOUND, VHDX_PART_METADATA, VHDX_NO_OFFSET, "there is no user item %s", text);
    entry = &r->edit->table.entries[index];
    *item = item_of(entry);
    if (entry->length > capacity)
        return vx_fail(err, VHDX_E_RANGE, VHDX_PART_METADATA, VHDX_NO_OFFSET,
                       "user item %s has %" PRIu32 " bytes, more than %zu", text, entry->length, capacity);
    if (entry->length > 0 && (entry->offset < VX_METADATA_TABLE_SIZE ||
                              (uint64_t)entry->offset + entry->length > r->edit->region.length))
        return vx_fail(err, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, r->edit->region.file_offset,
                       "user item %s lies outside of the metadata region (V82)", text);
    return vx_image_read_structure(r->image, buffer, entry->length, r->edit->region.file_offset + entry->offset, err);
}

int
vhdx_metadata_get_path(const char *path, unsigned flags, const struct vhdx_guid *id, void *buffer, size_t capacity,
                       struct vhdx_metadata_item *item, struct vhdx_error *err)
{
    struct reading r;
    int            rc = begin_reading(&r, path, flags, err);

    if (rc < 0)
        return rc;
    rc = read_item(&r, id, buffer, capacity, item, err);
    end_reading(&r);
    return rc;
}

/* --- changing --- */

static int
change_file(const char *path, struct vx_metadata_change *change, const struct vhdx_metadata_options *options,
            const struct vx_chain_job *job, struct vhdx_metadata_result *out, struct vhdx_error *err)
{
    int rc = vhdx_storage_open_path(&change->storage, path, change->only_judge ? 0 : VHDX_STORAGE_WRITE, err);

    if (rc < 0)
        return rc;
    if (!options->orphan_children) /* the file is locked: nobody makes a child meanwhile */
        rc = vx_chain_refuse_children(job, path, options->also, options->also_count, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_change(change, out, err);
    vhdx_storage_close(change->storage);
    if (rc == VHDX_OK && out->is_changed && !change->only_judge)
        vx_chain_say_tracking(job, path);
    return rc;
}

int
vhdx_metadata_change_path(const char *path, const struct vhdx_metadata_change *change,
                          const struct vhdx_metadata_options *options, vhdx_say say, void *context,
                          struct vhdx_metadata_result *out, struct vhdx_error *err)
{
    static const struct vhdx_metadata_options defaults = { .also_count = 0 };
    const struct vhdx_chain_options           chain = { .also_count = 0 };
    struct vhdx_metadata_result               ours;
    struct vx_metadata_change                 ops = { .change = change };
    struct vx_chain_job                       job;
    int                                       rc;

    if (options == NULL)
        options = &defaults;
    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_metadata_result){ .is_changed = false };
    ops.only_judge = options->dry_run;
    rc = vx_chain_job_begin(&job, &chain, say, context, NULL, err);
    if (rc < 0)
        return rc;
    rc = change_file(path, &ops, options, &job, out, err);
    vx_chain_job_end(&job);
    return rc;
}
