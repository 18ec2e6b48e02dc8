/*
 * The rules between an image and its parent: V122 to V127 and V129 (docs/vhdx-format.md 8.7), as findings about the image.
 *
 * The parent is searched for as opening does it; then once more for each key of the locator alone, to see whether another
 * program could end up elsewhere.  V128 is a rule for whoever writes: a parent that is open for writing cannot be read here
 * (VHDX_E_IN_USE).
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <vhdx/chain.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/parents.h"
#include "format/findings.h"
#include "storage/storage.h"

#define KNOWS_ENOUGH VHDX_E_CANCELLED /* what ends the opening of the child: its parent was looked at meanwhile */

struct linked {
    const struct vhdx_parents *parents;
    unsigned                   flags;
    struct vhdx_parent_place  *place;
    struct vx_findings         findings;
    struct vhdx_storage       *parent; /* owned; NULL when none was found */
    int                        rc;     /* of the search */
    struct vhdx_error         *err;
};

/* --- V129 --- */

/* Where one key leads by itself; false when nowhere. */
static bool
follow_key(struct linked *linked, const struct vhdx_parent_query *query, char path[VX_PATH_SIZE],
           struct vhdx_storage_identity *identity)
{
    struct vhdx_storage *storage;

    path[0] = '\0';
    if (vx_parents_search(linked->parents, query, &storage, path, NULL) < 0)
        return path[0] != '\0'; /* a file with another GUID lies there */
    snprintf(path, VX_PATH_SIZE, "%s", vx_storage_name(storage));
    *identity = storage->identity;
    vhdx_storage_close(storage);
    return true;
}

static void
judge_key(struct linked *linked, const struct vhdx_parent_query *all, const char *name, const char *relative,
          const char *volume, const char *absolute)
{
    struct vhdx_storage_identity identity = { .is_known = false };
    struct vhdx_parent_query     one = *all;
    char                        *path = vx_alloc(VX_PATH_SIZE);

    one.relative_path = relative;
    one.volume_path = volume;
    one.absolute_win32_path = absolute;
    if (path != NULL && (relative != NULL || volume != NULL || absolute != NULL) &&
        follow_key(linked, &one, path, &identity) && !vx_identity_equal(&identity, &linked->parent->identity))
        vx_find(&linked->findings, VHDX_SEVERITY_WARN, 129, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "%s of the parent locator leads to %.100s, expected %.100s as the others do", name, path,
                linked->place->path);
    vx_free(path);
}

/* --- the search --- */

/* V122, V125 are what the search says when it fails. */
static int
search(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out, struct vhdx_error *err)
{
    struct linked *linked = context;
    struct vhdx_error said;

    (void)out, (void)err;
    linked->place->is_differencing = true;
    linked->rc = vx_parents_search(linked->parents, query, &linked->parent, linked->place->mismatch, &said);
    if (linked->rc < 0) {
        linked->parent = NULL;
        if (said.rule != 0)
            vx_find_again(&linked->findings, &said);
        if (linked->err != NULL)
            *linked->err = said;
        return KNOWS_ENOUGH;
    }
    snprintf(linked->place->path, sizeof linked->place->path, "%s", vx_storage_name(linked->parent));
    judge_key(linked, query, "relative_path", query->relative_path, NULL, NULL);
    judge_key(linked, query, "volume_path", NULL, query->volume_path, NULL);
    judge_key(linked, query, "absolute_win32_path", NULL, NULL, query->absolute_win32_path);
    return KNOWS_ENOUGH;
}

/* --- the two side by side --- */

static void
compare_infos(struct linked *linked, const struct vhdx_info *child, const struct vhdx_info *parent)
{
    struct vx_findings *findings = &linked->findings;
    char                has[VHDX_GUID_TEXT_SIZE], wants[VHDX_GUID_TEXT_SIZE];

    if (parent->logical_sector_size != child->logical_sector_size)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 123, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "the parent's sectors have %" PRIu32 " bytes, expected %" PRIu32 " as the child's",
                parent->logical_sector_size, child->logical_sector_size);
    if (parent->virtual_size != child->virtual_size)
        vx_find(findings, VHDX_SEVERITY_WARN, 124, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "the parent's disk has %" PRIu64 " bytes, expected %" PRIu64 " as the child's", parent->virtual_size,
                child->virtual_size);
    if (!vhdx_guid_equal(&parent->disk_id, &child->disk_id)) {
        vhdx_guid_format(has, &parent->disk_id);
        vhdx_guid_format(wants, &child->disk_id);
        vx_find(findings, VHDX_SEVERITY_WARN, 126, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "the parent's disk id is %s, expected %s as the child's", has, wants);
    }
    if (parent->is_dirty)
        vx_find(findings, VHDX_SEVERITY_WARN, 127, VHDX_E_BAD_LOG, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "the parent was not closed: its log is replayed in memory, expected an empty one");
}

/* The file as an image by itself.  The storage is closed whatever happens. */
static int
read_info(struct vhdx_storage *storage, unsigned flags, struct vhdx_info *out, struct vhdx_error *err)
{
    const struct vhdx_open_options options = { .flags = flags | VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    struct vhdx_disk *disk;
    int rc = vhdx_disk_open_storage(&disk, storage, &options, err);

    if (rc < 0) {
        vhdx_storage_close(storage);
        return rc;
    }
    rc = vhdx_disk_get_info(disk, 0, out, err);
    vhdx_disk_close(disk, NULL);
    return rc;
}

static int
judge_pair(struct linked *linked, const char *path, struct vhdx_info infos[2], struct vhdx_error *err)
{
    unsigned             storage_flags = (linked->flags & VHDX_OPEN_FORCE_SHARE) != 0 ? VHDX_STORAGE_FORCE_SHARE : 0;
    struct vhdx_storage *child, *parent = linked->parent;
    struct vhdx_error    said;
    int                  rc = vhdx_storage_open_path(&child, path, storage_flags, err);

    if (rc == VHDX_OK)
        rc = read_info(child, linked->flags, &infos[0], err);
    if (rc < 0)
        return rc;
    linked->parent = NULL;
    if (read_info(parent, linked->flags, &infos[1], &said) < 0)
        vx_find(&linked->findings, VHDX_SEVERITY_REFUSE, 127, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "the parent %.80s cannot be opened: %.160s", linked->place->path, said.message);
    else
        compare_infos(linked, &infos[0], &infos[1]);
    return VHDX_OK;
}

static int
run(struct linked *linked, const char *path, struct vhdx_error *err)
{
    const struct vhdx_open_options options = {
        .flags = linked->flags, .format = VHDX_FORMAT_VHDX, .resolve_parent = search, .resolve_context = linked,
    };
    struct vhdx_info *infos;
    struct vhdx_error ours;
    struct vhdx_disk *disk;
    int rc = vhdx_disk_open_path(&disk, path, &options, &ours);

    if (rc == VHDX_OK)
        vhdx_disk_close(disk, NULL);
    if (!linked->place->is_differencing) {
        if (rc < 0 && err != NULL)
            *err = ours;
        return rc;
    }
    if (linked->rc < 0)
        return linked->rc;
    infos = vx_alloc_zeroed(2, sizeof *infos);
    rc = infos != NULL ? judge_pair(linked, path, infos, err) : vx_fail_memory(err, "what two images say");
    vx_free(infos);
    vhdx_storage_close(linked->parent);
    return rc;
}

int
vhdx_check_parent(const char *path, unsigned flags, struct vhdx_parents *parents, struct vhdx_parent_place *out,
                  void (*report)(void *context, const struct vhdx_error *finding), void *context, struct vhdx_error *err)
{
    struct linked linked = { .parents = parents, .place = out, .err = err,
                             .flags = flags & (VHDX_OPEN_IGNORE_LOG | VHDX_OPEN_FORCE_SHARE) };

    out->is_differencing = false;
    out->path[0] = out->mismatch[0] = '\0';
    vx_findings_init(&linked.findings, report, context);
    return run(&linked, path, err);
}
