/* See chain_path.h. */
#include "ops/chain_path.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "disk/disk.h"
#include "storage/storage.h"

int
vx_chain_job_begin(struct vx_chain_job *job, const struct vhdx_chain_options *options, vhdx_say say, void *context,
                   const struct vhdx_progress *progress, struct vhdx_error *err)
{
    static const struct vhdx_chain_options defaults;

    *job = (struct vx_chain_job){ .options = options != NULL ? options : &defaults, .say = say,
                                  .say_context = context, .progress = progress };
    if (job->options->parents == NULL)
        return VHDX_OK;
    return vhdx_parents_new(&job->parents, job->options->parents, err);
}

void
vx_chain_job_end(struct vx_chain_job *job)
{
    vhdx_parents_free(job->parents);
}

void
vx_chain_say(const struct vx_chain_job *job, const char *format, ...)
{
    char    line[2 * VX_PATH_SIZE];
    va_list arguments;

    if (job->say == NULL)
        return;
    va_start(arguments, format);
    vsnprintf(line, sizeof line, format, arguments);
    va_end(arguments);
    job->say(job->say_context, line);
}

const char *
vx_chain_size(char out[VX_SIZE_TEXT], uint64_t bytes)
{
    static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
    uint64_t                 unit = 1;
    size_t                   i = 0;

    while (i + 1 < sizeof units / sizeof units[0] && bytes / unit >= 1024) {
        unit *= 1024;
        i++;
    }
    if (bytes % unit == 0)
        snprintf(out, VX_SIZE_TEXT, "%" PRIu64 " %s", bytes / unit, units[i]);
    else
        snprintf(out, VX_SIZE_TEXT, "%" PRIu64 ".%" PRIu64 " %s", bytes / unit, bytes % unit * 10 / unit, units[i]);
    return out;
}

/* --- opening --- */

int
vx_chain_open_disk(struct vhdx_disk **out, const struct vx_chain_job *job, const char *path, struct vhdx_error *err)
{
    const struct vhdx_open_options options = {
        .format = VHDX_FORMAT_VHDX,
        .resolve_parent = job->parents != NULL ? vhdx_parents_resolve : NULL, .resolve_context = job->parents,
    };
    int rc = vhdx_disk_open_path(out, path, &options, err);

    if (rc < 0)
        vx_error_prefix(err, path);
    return rc;
}

int
vx_chain_open_file(struct vhdx_storage **out, const char *path, bool is_writable, struct vhdx_error *err)
{
    int rc = vhdx_storage_open_path(out, path, is_writable ? VHDX_STORAGE_WRITE : 0, err);

    if (rc < 0)
        vx_error_prefix(err, path);
    return rc;
}

struct vhdx_storage_identity
vx_chain_identify(const char *path)
{
    struct vhdx_storage_identity identity = { .is_known = false };
    struct stat                  status;

    if (stat(path, &status) == 0)
        identity = (struct vhdx_storage_identity){ .is_known = true, .device = (uint64_t)status.st_dev,
                                                   .file_number = (uint64_t)status.st_ino };
    return identity;
}

static int
list_files(struct vx_chain_files *files, const struct vhdx_disk *disk, struct vhdx_error *err)
{
    files->names = vx_alloc_zeroed(disk->layer_count, sizeof *files->names);
    files->identities = vx_alloc_zeroed(disk->layer_count, sizeof *files->identities);
    if (files->names == NULL || files->identities == NULL)
        return vx_fail_memory(err, "the files of a chain");
    for (unsigned i = 0; i < disk->layer_count; i++) {
        files->identities[i] = disk->layers[i].storage->identity;
        files->names[i] = vx_strdup(disk->layers[i].name);
        if (files->names[i] == NULL)
            return vx_fail_memory(err, "the files of a chain");
        files->count++;
    }
    return VHDX_OK;
}

int
vx_chain_find(struct vx_chain_files *out, const struct vx_chain_job *job, const char *path, struct vhdx_error *err)
{
    struct vhdx_disk *disk;
    int               rc = vx_chain_open_disk(&disk, job, path, err);

    *out = (struct vx_chain_files){ .count = 0 };
    if (rc < 0)
        return rc;
    rc = list_files(out, disk, err);
    vhdx_disk_close(disk, NULL);
    if (rc < 0)
        vx_chain_files_free(out);
    return rc;
}

void
vx_chain_files_free(struct vx_chain_files *files)
{
    for (unsigned i = 0; i < files->count; i++)
        vx_free(files->names[i]);
    vx_free(files->names);
    vx_free(files->identities);
    *files = (struct vx_chain_files){ .count = 0 };
}

/* --- links --- */

static void
change(struct vx_chain_link *link, const char *key, const char *value)
{
    link->changes[link->change_count++] = (struct vx_locator_text){ key, *value != '\0' ? value : NULL };
}

int
vx_chain_link_make(struct vx_chain_link *out, const struct vx_chain_job *job, const char *child_path,
                   const char *parent_path, const struct vhdx_guid *guid, struct vhdx_error *err)
{
    int rc = vx_parent_keys_make(&out->keys, child_path, parent_path, job->parents, err);

    if (rc < 0)
        return rc;
    out->change_count = 0;
    if (guid != NULL) {
        vx_link_braced(out->linkage, guid);
        vx_link_braced(out->none, &(struct vhdx_guid){ .bytes = { 0 } });
        change(out, "parent_linkage", out->linkage);
        change(out, "parent_linkage2", out->none);
    }
    change(out, "relative_path", out->keys.relative_path);
    change(out, "absolute_win32_path", out->keys.absolute_win32_path);
    change(out, "volume_path", out->keys.volume_path);
    return VHDX_OK;
}

void
vx_chain_say_tracking(const struct vx_chain_job *job, const char *path)
{
    static const char *const extensions[] = { ".rct", ".mrt" };
    char                     name[VX_PATH_SIZE];

    for (size_t i = 0; i < sizeof extensions / sizeof extensions[0]; i++) {
        int length = snprintf(name, sizeof name, "%s%s", path, extensions[i]);

        if (length > 0 && (size_t)length < sizeof name && vx_chain_identify(name).is_known)
            vx_chain_say(job, "%s is stale now: Hyper-V's change tracking knows nothing of this", name);
    }
}

static int
fail_with_child(void *context, const struct vhdx_found_image *image)
{
    return vx_fail(context, VHDX_E_HAS_CHILDREN, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s depends on it as its parent",
                   image->path);
}

int
vx_chain_refuse_children(const struct vx_chain_job *job, const char *path, const char *const *also, size_t also_count,
                         struct vhdx_error *err)
{
    bool is_complete, was_cut = false;
    int  rc = vhdx_refuse_children(path, &is_complete, err);

    if (rc == VHDX_OK && also_count > 0)
        rc = vhdx_find_children(path, also, also_count, fail_with_child, err, &was_cut, err);
    if (rc == VHDX_OK && (!is_complete || was_cut))
        vx_chain_say(job, "%s: not every file beside it could be looked at: images that depend on it may be among them",
                     path);
    return rc;
}
