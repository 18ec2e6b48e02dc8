/* Compacting a file (docs/vhdx-format.md 9.6): whom it would break, what is free in it, then compact.c. */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/chain_path.h"
#include "ops/compact.h"
#include "ops/stack.h"
#include "storage/storage.h"

/*
 * The image's own storage once more, for reading and without owning it: what is free is found while nobody else can write,
 * and the file is not let go of before it is used.
 */
struct borrowed {
    struct vhdx_storage  base;
    struct vhdx_storage *storage;
};

static struct vhdx_storage *
lender(struct vhdx_storage *storage)
{
    return ((struct borrowed *)storage)->storage;
}

static int
borrowed_readv(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
               struct vhdx_error *err)
{
    return lender(storage)->methods->readv(lender(storage), vector, vector_count, file_offset, err);
}

static int
borrowed_get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    return vx_storage_get_size(lender(storage), out, err);
}

static int
borrowed_next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
                   struct vhdx_error *err)
{
    return vx_storage_next_data(lender(storage), file_offset, start, end, err);
}

static void
borrowed_close(struct vhdx_storage *storage)
{
    vx_free(storage);
}

static struct vhdx_storage *
borrow(struct vhdx_storage *storage)
{
    static const struct vhdx_storage_methods methods = {
        .readv = borrowed_readv, .get_size = borrowed_get_size, .next_data = borrowed_next_data, .close = borrowed_close,
    };
    struct borrowed *borrowed = vx_alloc_zeroed(1, sizeof *borrowed);

    if (borrowed == NULL)
        return NULL;
    borrowed->storage = storage;
    borrowed->base = (struct vhdx_storage){ .methods = &methods, .traits = storage->traits, .name = storage->name,
                                            .identity = storage->identity };
    borrowed->base.traits.is_read_only = true;
    return &borrowed->base;
}

/* --- what is free --- */

static int
open_for_reading(struct vhdx_disk **out, struct vhdx_storage *storage, struct vhdx_parents *parents,
                 struct vhdx_error *err)
{
    const struct vhdx_open_options options = {
        .format = VHDX_FORMAT_VHDX, .resolve_parent = parents != NULL ? vhdx_parents_resolve : NULL,
        .resolve_context = parents,
    };
    struct vhdx_storage *own = borrow(storage);
    int                  rc;

    if (own == NULL)
        return vx_fail_memory(err, "opening the image");
    rc = vhdx_disk_open_storage(out, own, &options, err);
    if (rc < 0)
        vhdx_storage_close(own);
    return rc;
}

static int
find_free(struct vx_free_list *list, struct vhdx_storage *storage, const struct vhdx_free_ranges *ranges,
          struct vhdx_parents *parents, struct vhdx_error *err)
{
    struct vhdx_disk *disk;
    int               rc = open_for_reading(&disk, storage, parents, err);

    if (rc < 0)
        return rc;
    vx_free_list_init(list, vhdx_disk_size(disk));
    rc = ranges->find(ranges->context, disk, vx_free_list_take, list, err);
    vhdx_disk_close(disk, NULL);
    if (list->rc < 0)
        return vx_fail_memory(err, "the list of what is free");
    vx_free_list_settle(list);
    return vx_stack_named(rc, storage, err);
}

/* --- the job --- */

static int
compact_storage(struct vx_compact *compact, const struct vx_chain_job *job, const struct vhdx_compact_options *options,
                struct vhdx_compact_result *out, struct vhdx_error *err)
{
    struct vx_free_list list;
    int                 rc = VHDX_OK;

    vx_free_list_init(&list, 0);
    if (options->free_ranges != NULL) {
        rc = find_free(&list, compact->storage, options->free_ranges, job->parents, err);
        compact->free = &list;
    }
    if (rc == VHDX_OK)
        rc = vx_compact(compact, out, err);
    vx_free_list_destroy(&list);
    return rc;
}

static void
say_result(const struct vx_chain_job *job, const char *path, const struct vhdx_compact_options *options,
           const struct vhdx_compact_result *out)
{
    char before[VX_SIZE_TEXT], after[VX_SIZE_TEXT], moved[VX_SIZE_TEXT], released[VX_SIZE_TEXT];

    vx_chain_size(released, out->bytes_released);
    if (out->file_size_after == out->file_size_before && out->bytes_released + out->bytes_moved == 0) {
        vx_chain_say(job, "%s: nothing to give back", path);
        return;
    }
    if (options->free_only) {
        vx_chain_say(job, "%s: %s %s back to the host", path, options->dry_run ? "would give" : "gave", released);
        return;
    }
    vx_chain_say(job, "%s: %s %s to %s; %s moved, %s given back to the host", path,
                 options->dry_run ? "would shrink from" : "shrank from", vx_chain_size(before, out->file_size_before),
                 vx_chain_size(after, out->file_size_after), vx_chain_size(moved, out->bytes_moved), released);
}

static int
compact_file(const char *path, const struct vx_chain_job *job, const struct vhdx_compact_options *options,
             struct vhdx_compact_result *out, struct vhdx_error *err)
{
    struct vx_compact compact = { .zeroes = options->zeroes, .sparse = options->sparse,
                                  .free_only = options->free_only, .only_count = options->dry_run,
                                  .progress = job->progress };
    unsigned          flags = (options->dry_run ? 0 : VHDX_STORAGE_WRITE) | (options->sparse ? VHDX_STORAGE_MAKE_HOLES : 0);
    int               rc = vhdx_storage_open_path(&compact.storage, path, flags, err);

    if (rc < 0) {
        vx_error_prefix(err, path);
        return rc;
    }
    if (options->free_ranges != NULL && !options->orphan_children)
        rc = vx_chain_refuse_children(job, path, options->also, options->also_count, err); /* nobody makes one meanwhile */
    if (rc == VHDX_OK)
        rc = compact_storage(&compact, job, options, out, err);
    vhdx_storage_close(compact.storage);
    if (rc == VHDX_OK) {
        say_result(job, path, options, out);
        if (!options->dry_run && out->guest_bytes_free > 0)
            vx_chain_say_tracking(job, path);
    }
    return rc;
}

int
vhdx_compact_path(const char *path, const struct vhdx_compact_options *options, vhdx_say say, void *context,
                  const struct vhdx_progress *progress, struct vhdx_compact_result *out, struct vhdx_error *err)
{
    static const struct vhdx_compact_options defaults = { .zeroes = false };
    struct vhdx_chain_options  chain = { .also_count = 0 };
    struct vhdx_compact_result ours;
    struct vx_chain_job        job;
    int                        rc;

    if (options == NULL)
        options = &defaults;
    if (out == NULL)
        out = &ours;
    *out = (struct vhdx_compact_result){ 0 };
    if (options->free_ranges != NULL)
        chain.parents = options->parents;
    rc = vx_chain_job_begin(&job, &chain, say, context, progress, err);
    if (rc < 0)
        return rc;
    rc = compact_file(path, &job, options, out, err);
    vx_chain_job_end(&job);
    return rc;
}
