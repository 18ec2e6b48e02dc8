/*
 * Merging files (docs/vhdx-format.md 9.8): which they are, who else depends on them, and what follows when the content is in
 * place.  The merge itself is merge.c's.
 *
 *   M1  Everything is judged before the first byte is written: the merge, the other children of every image whose content
 *       changes, and the links of the merged image's own children.  All files that will be written are open by then, so
 *       that nobody else can write them.
 *   M2  An image between the merged one and the target reads differently afterwards, and its GUID does not tell: other
 *       children of it would silently read wrong data.  They are never orphaned, the merge is refused.
 *   M3  Files go last, the merged image first: what is left after an interruption is a chain, or nothing.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/chain_path.h"
#include "ops/merge.h"
#include "ops/name_list.h"
#include "ops/rebase.h"
#include "storage/storage.h"

/* A child of the merged image: it will be the target's. */
struct heir {
    char                *path;    /* owned */
    struct vhdx_storage *storage; /* owned */
    struct vx_chain_link link;
};

struct file_merge {
    struct vx_chain_job       job;
    struct vx_chain_files     files;    /* the whole chain */
    unsigned                  target;   /* its depth */
    struct vhdx_storage     **storages; /* owned: target + 1 of them */
    struct vx_merge           merge;
    struct vx_merge_plan      plan;
    struct heir             **heirs;    /* owned */
    size_t                    heir_count, heir_capacity;
    struct vhdx_error         refusal; /* for the sake of other children; code 0: there are none */
};

/* --- which files --- */

static int
find_target(struct file_merge *m, const char *into_path, struct vhdx_error *err)
{
    struct vhdx_storage_identity wanted;

    if (m->files.count < 2)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s has no parent to be merged into",
                       m->files.names[0]);
    m->target = 1;
    if (into_path == NULL)
        return VHDX_OK;
    wanted = vx_chain_identify(into_path);
    if (!wanted.is_known)
        return vx_fail(err, VHDX_E_NOT_FOUND, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s: no such file", into_path);
    for (m->target = 1; m->target < m->files.count; m->target++)
        if (vx_identity_equal(&m->files.identities[m->target], &wanted))
            return VHDX_OK;
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s is no ancestor of %s", into_path,
                   m->files.names[0]);
}

static int
open_files(struct file_merge *m, struct vhdx_error *err)
{
    m->storages = vx_alloc_zeroed(m->target + 1, sizeof *m->storages);
    if (m->storages == NULL)
        return vx_fail_memory(err, "the files of a chain");
    for (unsigned i = 0; i <= m->target; i++) {
        bool is_written = !m->job.options->dry_run && (i == 0 || i + 1 >= m->target);
        int  rc = vx_chain_open_file(&m->storages[i], m->files.names[i], is_written, err);

        if (rc < 0)
            return rc;
    }
    m->merge = (struct vx_merge){ .storages = m->storages, .count = m->target + 1, .progress = m->job.progress,
                                  .only_judge = m->job.options->dry_run };
    return VHDX_OK;
}

/* --- who else depends on them (M1, M2) --- */

struct sibling_search {
    struct file_merge  *m;
    unsigned            depth; /* of the image whose children are looked for */
    bool                is_refused;
    struct vx_name_list refused;
};

static int
take_sibling(void *context, const struct vhdx_found_image *image)
{
    struct sibling_search       *search = context;
    struct file_merge           *m = search->m;
    struct vhdx_storage_identity identity = vx_chain_identify(image->path);

    if (vx_identity_equal(&identity, &m->files.identities[search->depth - 1]))
        return 0;
    vx_chain_say(&m->job, "%s is a child of %s too: %s", image->path, m->files.names[search->depth],
                 search->is_refused ? "it would read wrong data" : "it loses its parent");
    if (search->is_refused)
        vx_name_list_add(&search->refused, image->path);
    return 0;
}

static int
search_siblings_of(struct file_merge *m, unsigned depth, struct vhdx_error *err)
{
    const struct vhdx_chain_options *options = m->job.options;
    struct sibling_search search = { .m = m, .depth = depth,
                                     .is_refused = depth < m->target || !options->orphan_siblings };
    const char *name = m->files.names[depth];
    bool        was_cut = false, is_one;
    int         rc = vhdx_find_children(name, options->also, options->also_count, take_sibling, &search, &was_cut, err);

    if (rc < 0)
        return rc;
    if (was_cut)
        vx_chain_say(&m->job, "not all files beside %s were looked at: there are too many", name);
    is_one = search.refused.count == 1;
    if (search.refused.count > 0 && m->refusal.code == 0)
        vx_fail(&m->refusal, VHDX_E_HAS_CHILDREN, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                "%s %s of %s too and would break: rebase or flatten %s first", search.refused.text,
                is_one ? "is a child" : "are children", name, is_one ? "it" : "them");
    return VHDX_OK;
}

/* All of them are said before the merge is refused for some. */
static int
search_siblings(struct file_merge *m, struct vhdx_error *err)
{
    for (unsigned depth = m->target; depth > 0; depth--) {
        int rc = search_siblings_of(m, depth, err);

        if (rc < 0)
            return rc;
    }
    if (m->refusal.code != 0 && err != NULL)
        *err = m->refusal;
    return m->refusal.code;
}

/* --- the merged image's own children --- */

static int
add_heir(void *context, const struct vhdx_found_image *image)
{
    struct file_merge *m = context;
    struct heir       *heir;

    if (m->heir_count == m->heir_capacity) {
        size_t        capacity = m->heir_capacity * 2 + 8;
        struct heir **heirs = vx_realloc_array(m->heirs, capacity, sizeof *heirs);

        if (heirs == NULL)
            return VHDX_E_NO_MEMORY;
        m->heirs = heirs;
        m->heir_capacity = capacity;
    }
    heir = vx_alloc_zeroed(1, sizeof *heir);
    if (heir == NULL)
        return VHDX_E_NO_MEMORY;
    m->heirs[m->heir_count++] = heir;
    heir->path = vx_strdup(image->path);
    return heir->path != NULL ? 0 : VHDX_E_NO_MEMORY;
}

static int
relink(struct file_merge *m, const struct heir *heir, bool only_judge, struct vhdx_error *err)
{
    const struct vx_rebase   rebase = { .storage = heir->storage, .changes = heir->link.changes,
                                        .change_count = heir->link.change_count, .only_judge = only_judge };
    struct vhdx_chain_result ignored = { 0 };

    (void)m;
    return vx_rebase(&rebase, &ignored, err);
}

/* M1: open, and able to take the new link. */
static int
prepare_heir(struct file_merge *m, struct heir *heir, struct vhdx_error *err)
{
    int rc = vx_chain_open_file(&heir->storage, heir->path, !m->job.options->dry_run, err);

    if (rc == VHDX_OK)
        rc = vx_chain_link_make(&heir->link, &m->job, heir->path, m->files.names[m->target], &m->plan.guid, err);
    if (rc == VHDX_OK)
        rc = relink(m, heir, true, err);
    return rc;
}

static int
find_heirs(struct file_merge *m, struct vhdx_error *err)
{
    bool was_cut = false;
    int  rc = vhdx_find_children(m->files.names[0], m->job.options->also, m->job.options->also_count, add_heir, m,
                                 &was_cut, err);

    if (rc == VHDX_E_NO_MEMORY)
        rc = vx_fail_memory(err, "the children of the merged image");
    if (was_cut)
        vx_chain_say(&m->job, "not all files beside %s were looked at: children of it may be left behind",
                     m->files.names[0]);
    for (size_t i = 0; i < m->heir_count && rc == VHDX_OK; i++)
        rc = prepare_heir(m, m->heirs[i], err);
    return rc;
}

/* --- doing it --- */

static void
say_plan(const struct file_merge *m)
{
    const char *target = m->files.names[m->target];
    char        size[VX_SIZE_TEXT], other[VX_SIZE_TEXT];

    if (m->plan.is_done)
        vx_chain_say(&m->job, "%s holds everything of %s already", target, m->files.names[0]);
    else
        vx_chain_say(&m->job, "%s %s from %s to %s", m->plan.has_begun ? "goes on: copies" : "copies",
                     vx_chain_size(size, m->plan.bytes_to_copy), m->files.names[0], target);
    if (m->plan.new_size != m->plan.old_size)
        vx_chain_say(&m->job, "changes the disk of %s from %s to %s", target,
                     vx_chain_size(other, m->plan.old_size), vx_chain_size(size, m->plan.new_size));
    for (size_t i = 0; i < m->heir_count; i++)
        vx_chain_say(&m->job, "makes %s a child of %s", m->heirs[i]->path, target);
    for (unsigned i = 0; i < m->target; i++)
        vx_chain_say(&m->job, m->job.options->delete_merged ? "deletes %s" : "%s is obsolete then", m->files.names[i]);
}

static int
relink_heirs(struct file_merge *m, struct vhdx_chain_result *out, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (size_t i = 0; i < m->heir_count && rc == VHDX_OK; i++) {
        rc = relink(m, m->heirs[i], false, err);
        if (rc == VHDX_OK)
            out->images_relinked++;
    }
    return rc;
}

/* The folder knows of it, too, after a power cut. */
static void
flush_folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char        folder[VX_PATH_SIZE];
    int         descriptor;

    if (slash != NULL && (size_t)(slash - path) + 1 >= sizeof folder)
        return;
    snprintf(folder, sizeof folder, "%.*s", slash == NULL ? 1 : (int)(slash - path) + 1, slash == NULL ? "." : path);
    descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return;
    fsync(descriptor);
    close(descriptor);
}

/* M3.  The files are still locked: nobody began to use them meanwhile. */
static int
delete_merged(struct file_merge *m, struct vhdx_error *err)
{
    for (unsigned i = 0; i < m->target; i++) {
        if (unlink(m->files.names[i]) < 0)
            return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "everything is merged; deleting %s",
                                 m->files.names[i]);
        flush_folder_of(m->files.names[i]);
    }
    return VHDX_OK;
}

static int
carry_out(struct file_merge *m, struct vhdx_chain_result *out, struct vhdx_error *err)
{
    int rc = vx_merge_carry_out(&m->merge, &m->plan, out, err);

    if (rc == VHDX_OK && !m->plan.is_done)
        vx_chain_say_tracking(&m->job, m->files.names[m->target]);
    if (rc == VHDX_OK)
        rc = relink_heirs(m, out, err);
    if (rc == VHDX_OK && m->job.options->delete_merged)
        rc = delete_merged(m, err);
    return rc;
}

static int
merge_files(struct file_merge *m, const char *path, const char *into_path, struct vhdx_chain_result *out,
            struct vhdx_error *err)
{
    int rc = vx_chain_find(&m->files, &m->job, path, err);

    if (rc == VHDX_OK)
        rc = find_target(m, into_path, err);
    if (rc == VHDX_OK)
        rc = open_files(m, err);
    if (rc == VHDX_OK)
        rc = vx_merge_judge(&m->merge, &m->plan, err);
    if (rc == VHDX_OK && !m->plan.is_done) /* what is not changed breaks nobody */
        rc = search_siblings(m, err);
    if (rc == VHDX_OK)
        rc = find_heirs(m, err);
    if (rc < 0)
        return rc;
    say_plan(m);
    if (!m->job.options->dry_run)
        return carry_out(m, out, err);
    *out = (struct vhdx_chain_result){ .bytes_copied = m->plan.bytes_to_copy,
                                       .blocks_changed = m->plan.blocks_to_change,
                                       .images_relinked = (unsigned)m->heir_count };
    return VHDX_OK;
}

static void
free_merge(struct file_merge *m)
{
    for (size_t i = 0; i < m->heir_count; i++) {
        vhdx_storage_close(m->heirs[i]->storage);
        vx_free(m->heirs[i]->path);
        vx_free(m->heirs[i]);
    }
    vx_free(m->heirs);
    for (unsigned i = 0; m->storages != NULL && i <= m->target; i++)
        vhdx_storage_close(m->storages[i]);
    vx_free(m->storages);
    vx_chain_files_free(&m->files);
    vx_chain_job_end(&m->job);
}

int
vhdx_merge_path(const char *path, const char *into_path, const struct vhdx_chain_options *options, vhdx_say say,
                void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                struct vhdx_error *err)
{
    struct vhdx_chain_result ours;
    struct file_merge        m = { .target = 0 };
    int                      rc;

    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_chain_result){ 0 };
    rc = vx_chain_job_begin(&m.job, options, say, context, progress, err);
    if (rc == VHDX_OK)
        rc = merge_files(&m, path, into_path, out, err);
    free_merge(&m);
    return rc;
}
