/* See in_place.h. */
#include "in_place.h"

#include <vhdx/space.h>

#include "chain_job.h"
#include "message.h"
#include "verbs.h"

static const struct message_advice advices[] = {
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program and try again" },
    { VHDX_E_CANCELLED, "The image reads as before and is of its old type.", "the same command again finishes" },
    { VHDX_E_NO_SPACE, "The image reads as before and is of its old type.",
      "make room and give the same command again, or vhdx compact to give back what it took" },
    { VHDX_E_NO_PARENT, "Without its parents only a part of the disk is there.",
      "vhdx rebase --relink PARENT FILE when the parent has moved" },
};

/* A new image is shaped; this one has its shape. */
static void
judge(const struct option_reader *reader, const struct shared_options *shared)
{
    const struct vhdx_create_options *create = &shared->create;

    if (!shared->has_type)
        usage_error(reader, "--in-place needs --type=dynamic or --type=fixed");
    if (create->type == VHDX_TYPE_DIFFERENCING)
        usage_error(reader, "an image gets a parent by 'vhdx create --parent'; in place it becomes dynamic or fixed");
    if (shared->format.ours != VHDX_FORMAT_AUTO && shared->format.ours != VHDX_FORMAT_VHDX)
        usage_error(reader, "only a VHDX changes in place: another format is converted to a new file");
    if (create->block_size != 0 || create->logical_sector_size != 0 || create->physical_sector_size != 0 ||
        create->log_size != 0 || !vhdx_guid_is_zero(&create->disk_id))
        usage_error(reader, "in place only the type changes: convert to another file for another shape");
    if (create->type == VHDX_TYPE_DYNAMIC && create->preallocation != VHDX_PREALLOCATE_DEFAULT)
        usage_error(reader, "--preallocate is for --type=fixed: what is dynamic keeps the space it has");
}

int
in_place_run(const struct option_reader *reader, const struct shared_options *shared, const char *path, bool dry_run)
{
    struct chain_job job = { .options = { .dry_run = dry_run } };
    struct vhdx_error err;
    int rc;

    judge(reader, shared);
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    chain_job_begin(&job, shared, path);
    rc = vhdx_retype_path(path, shared->create.type, shared->create.preallocation, &job.options, chain_job_say, &job,
                          &job.progress.hook, &job.result, &err);
    return chain_job_end(&job, rc, &err);
}
