/*
 * Another parent, or another place of it, for a file (docs/vhdx-format.md 9.9): finding the parents and the proof, then
 * rebase.c.
 *
 *   R1  The new parent stays open, with a reader's locks, until the link is durable: nobody changes its DataWriteGuid.
 *   R2  An image is never linked to itself or to what stands on it.
 *   R3  Without proof, what the image shows may change, and its GUID does not tell: nobody's parent is linked so by
 *       accident.
 */
#include <string.h>

#include "base/error.h"
#include "disk/disk.h"
#include "ops/chain_path.h"
#include "ops/rebase.h"
#include "ops/stack.h"
#include "storage/storage.h"

struct file_rebase {
    struct vx_chain_job      job;
    const char              *path, *parent_path;
    struct vhdx_disk        *new_parent, *old_parent; /* open for reading, or NULL */
    struct vhdx_chain_result *out;
};

/* R2 */
static int
check_circle(const struct file_rebase *r, struct vhdx_error *err)
{
    struct vhdx_storage_identity child = vx_chain_identify(r->path);

    for (unsigned i = 0; i < r->new_parent->layer_count; i++)
        if (vx_identity_equal(&child, &r->new_parent->layers[i].storage->identity))
            return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                           "%s cannot be the parent of %s: %s", r->parent_path, r->path,
                           i == 0 ? "they are one file" : "it stands on it (V125)");
    return VHDX_OK;
}

/* The new parent with its own parents, or alone where those are not needed and not to be found. */
static int
open_new_parent(struct file_rebase *r, bool needs_chain, struct vhdx_error *err)
{
    const struct vhdx_open_options alone = { .flags = VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    int                            rc = vx_chain_open_disk(&r->new_parent, &r->job, r->parent_path, err);

    if ((rc == VHDX_E_NO_PARENT || rc == VHDX_E_BAD_PARENT) && !needs_chain) {
        rc = vhdx_disk_open_path(&r->new_parent, r->parent_path, &alone, err);
        if (rc < 0)
            vx_error_prefix(err, r->parent_path);
    }
    return rc == VHDX_OK ? check_circle(r, err) : rc;
}

/* The last step of both jobs.  With `guid` NULL the GUIDs of the link stay as they are. */
static int
write_link(struct file_rebase *r, const struct vhdx_guid *guid, struct vhdx_error *err)
{
    struct vx_chain_link link;
    struct vx_rebase     rebase = { .old_parent = r->old_parent, .new_parent = r->new_parent,
                                    .only_judge = r->job.options->dry_run, .progress = r->job.progress };
    int                  rc = vx_chain_link_make(&link, &r->job, r->path, r->parent_path, guid, err);

    if (rc == VHDX_OK)
        rc = vx_chain_open_file(&rebase.storage, r->path, !rebase.only_judge, err);
    if (rc < 0)
        return rc;
    rebase.changes = link.changes;
    rebase.change_count = link.change_count;
    rc = vx_rebase(&rebase, r->out, err);
    vhdx_storage_close(rebase.storage);
    if (rc == VHDX_OK)
        r->out->images_relinked = 1;
    return rc;
}

/* --- relinking: the proof --- */

/* What the image's locator says, and whether it means the new parent. */
static int
read_link(const struct file_rebase *r, struct vhdx_guid *wanted, enum vx_link *link, struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = false };
    struct vx_image     *parent = r->new_parent->layers[0].image, *image;
    struct vhdx_guid     guid = vx_image_data_write_guid(parent);
    struct vhdx_storage *storage;
    int                  rc = vx_chain_open_file(&storage, r->path, false, err);

    if (rc < 0)
        return rc;
    rc = vx_stack_open_image(&image, storage, &options, err);
    if (rc == VHDX_OK) {
        *wanted = vx_image_locator(image)->linkage;
        *link = vx_stack_link(image, &guid);
        if (!vx_image_geometry(image)->is_differencing)
            rc = vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s has no parent", r->path);
        else if (vx_image_geometry(image)->logical_sector_size != vx_image_geometry(parent)->logical_sector_size)
            rc = vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                         "%s has another logical sector size than %s (V123)", r->parent_path, r->path);
        vx_image_close(image, NULL);
    }
    vhdx_storage_close(storage);
    return rc;
}

static int
refuse_unproven(const struct file_rebase *r, const struct vhdx_guid *wanted, const char *why, struct vhdx_error *err)
{
    struct vhdx_guid guid = vx_image_data_write_guid(r->new_parent->layers[0].image);
    char             has[VHDX_GUID_TEXT_SIZE], wants[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(has, &guid);
    vhdx_guid_format(wants, wanted);
    return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                   "%s has DataWriteGuid %s, the image asks for %s, and %s: nothing shows that it is the parent (V122)",
                   r->parent_path, has, wants, why);
}

/* The old parent is there and reads the same?  Else *why says what is missing. */
static int
compare_parents(struct file_rebase *r, const char **why, struct vhdx_error *err)
{
    struct vx_chain_files files;
    struct vhdx_disk     *old;
    bool                  is_equal;
    int                   rc;

    *why = "the old parent is not there to compare with";
    if (vx_chain_find(&files, &r->job, r->path, NULL) < 0)
        return VHDX_OK;
    rc = vx_chain_open_disk(&old, &r->job, files.names[1], NULL);
    vx_chain_files_free(&files);
    if (rc < 0)
        return VHDX_OK;
    *why = "its own parents are not there";
    if (!r->new_parent->lacks_parent) {
        rc = vhdx_compare(old, r->new_parent, r->job.progress, &is_equal, NULL, err);
        *why = rc == VHDX_OK && is_equal ? NULL : "it reads differently than the old parent";
    }
    vhdx_disk_close(old, NULL);
    return rc;
}

static int
relink_file(struct file_rebase *r, struct vhdx_error *err)
{
    struct vhdx_guid guid, wanted;
    enum vx_link     link = VX_LINK_NONE;
    const char      *why = NULL;
    int              rc = open_new_parent(r, false, err);

    if (rc == VHDX_OK)
        rc = read_link(r, &wanted, &link, err);
    if (rc == VHDX_OK && link == VX_LINK_NONE)
        rc = compare_parents(r, &why, err);
    if (rc < 0)
        return rc;
    if (why != NULL && !r->job.options->force)
        return refuse_unproven(r, &wanted, why, err);
    if (why != NULL && !r->job.options->orphan_children) /* R3 */
        rc = vhdx_refuse_children(r->path, NULL, err);
    if (rc < 0) {
        vx_error_prefix(err, r->path);
        return rc;
    }
    if (why != NULL)
        vx_chain_say(&r->job, "%s: as you wish without proof: %s", r->parent_path, why);
    guid = vx_image_data_write_guid(r->new_parent->layers[0].image);
    rc = write_link(r, link == VX_LINK_NONE ? &guid : NULL, err);
    if (rc == VHDX_OK)
        vx_chain_say(&r->job, "%s %s with parent %s", r->job.options->dry_run ? "links" : "linked", r->path,
                     r->parent_path);
    return rc;
}

/* --- rebasing --- */

static int
rebase_file(struct file_rebase *r, struct vhdx_error *err)
{
    struct vhdx_storage_identity wanted = vx_chain_identify(r->parent_path);
    struct vx_chain_files        files;
    struct vhdx_guid             guid;
    char                         size[VX_SIZE_TEXT];
    int                          rc = vx_chain_find(&files, &r->job, r->path, err);

    if (rc < 0)
        return rc;
    if (files.count < 2)
        rc = vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s has no parent", r->path);
    if (rc == VHDX_OK)
        rc = open_new_parent(r, true, err);
    if (rc == VHDX_OK && !vx_identity_equal(&wanted, &files.identities[1]))
        rc = vx_chain_open_disk(&r->old_parent, &r->job, files.names[1], err);
    vx_chain_files_free(&files);
    if (rc < 0)
        return rc;
    guid = vx_image_data_write_guid(r->new_parent->layers[0].image);
    rc = write_link(r, r->old_parent != NULL ? &guid : NULL, err); /* the same parent: only its paths */
    if (rc == VHDX_OK)
        vx_chain_say(&r->job, "%s %s into %s, whose parent %s %s", r->job.options->dry_run ? "copies" : "copied",
                     vx_chain_size(size, r->out->bytes_copied), r->path,
                     r->job.options->dry_run ? "will be" : "is", r->parent_path);
    if (rc == VHDX_OK && !r->job.options->dry_run)
        vx_chain_say_tracking(&r->job, r->path);
    return rc;
}

/* --- for callers --- */

static int
run(int (*job)(struct file_rebase *r, struct vhdx_error *err), struct file_rebase *r,
    const struct vhdx_chain_options *options, vhdx_say say, void *context, const struct vhdx_progress *progress,
    struct vhdx_chain_result *out, struct vhdx_error *err)
{
    struct vhdx_chain_result ours;
    int                      rc;

    r->out = out != NULL ? out : &ours;
    *r->out = (struct vhdx_chain_result){ 0 };
    rc = vx_chain_job_begin(&r->job, options, say, context, progress, err);
    if (rc == VHDX_OK)
        rc = job(r, err);
    vhdx_disk_close(r->old_parent, NULL);
    vhdx_disk_close(r->new_parent, NULL);
    vx_chain_job_end(&r->job);
    return rc;
}

int
vhdx_relink_path(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
                 void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                 struct vhdx_error *err)
{
    struct file_rebase r = { .path = path, .parent_path = parent_path };

    return run(relink_file, &r, options, say, context, progress, out, err);
}

int
vhdx_rebase_path(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
                 void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                 struct vhdx_error *err)
{
    struct file_rebase r = { .path = path, .parent_path = parent_path };

    return run(rebase_file, &r, options, say, context, progress, out, err);
}
