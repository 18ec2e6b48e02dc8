/* vhdx trim: give up what the file systems in a disk have freed, as fstrim in the guest would. */
#include "message.h"
#include "space_job.h"
#include "verbs.h"

static const struct option_line lines[] = {
    SPACE_LINE_SPARSE,
    SPACE_LINE_ALSO,
    SPACE_LINE_DRY_RUN,
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
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    return space_job_run(verb, argc, argv, true);
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
