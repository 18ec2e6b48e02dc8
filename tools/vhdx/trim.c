/* vhdx trim: give up what the file systems in a disk have freed, as fstrim in the guest would. */
#include <stdlib.h>

#include "message.h"
#include "space_job.h"
#include "verbs.h"

enum { OPTION_SPARSE = 256, OPTION_ALSO };

static const struct option_line lines[] = {
    { "sparse", OPTION_SPARSE, NULL, "make holes also in fixed images, and on NTFS" },
    { "also", OPTION_ALSO, "DIR", "images that depend on a FILE may lie here, too" },
    { "dry-run", 'n', NULL, "only tell what would be gained" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_HAS_CHILDREN, "Nothing was changed.  A child shows what its parent holds; what the file systems of this one have"
      " freed may be in use there.",
      "vhdx compact --no-fs FILE gives back what no child can notice; --orphan-children gives the children up" },
    { VHDX_E_BAD_VOLUME, "Nothing was changed: tables in this state may call free what is in use.",
      "mend it as told and trim again" },
    { VHDX_E_UNSUPPORTED, "Nothing was changed.", NULL },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program, or run fstrim in the guest" },
    { VHDX_E_CANCELLED, "What was done so far is kept, and every file is as it was.",
      "the same command again goes on" },
};

static int
run_trim(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct space_job job = { .shared = &shared, .knows_fs = true, .options = { .free_only = true } };
    const char **also = need_memory(calloc((size_t)argc, sizeof(*also)));
    const char *argument;
    char **paths;
    int letter, count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_SPARSE)
            job.options.sparse = true;
        else if (letter == OPTION_ALSO)
            also[job.options.also_count++] = argument;
        else
            job.options.dry_run = true;
    }
    count = options_operands(&reader, 1, argc, &paths);

    job.options.also = also;
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    status = space_job_run(&job, paths, count);
    free(also);
    return status;
}

const struct verb trim_verb = {
    .name = "trim",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Give up what the file systems in a disk have freed",
    .details = "The first step of compact, alone: what is free becomes holes in the host's file, and space for blocks\n"
               "to come.  Nothing moves; the file is cut only where its end is free.  What is refused and left alone is\n"
               "the same.\n",
    .example = "  vhdx trim --dry-run ext4.vhdx\n"
               "  vhdx trim ext4.vhdx && du -h ext4.vhdx\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET | SHARED_JOBS | SHARED_CHAIN | SHARED_WRITE,
    .usage_status = STATUS_USAGE,
    .run = run_trim,
};
