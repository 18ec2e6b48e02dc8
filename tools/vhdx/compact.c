/* vhdx compact: make an image's file as small as what its disk holds. */
#include "message.h"
#include "space_job.h"
#include "verbs.h"

static const struct option_line lines[] = {
    { "no-fs", SPACE_NO_FS, NULL, "do not ask the file systems in the disk what is free" },
    { "zeroes", SPACE_ZEROES, NULL, "read everything: what is zero needs no space" },
    SPACE_LINE_SPARSE,
    SPACE_LINE_ALSO,
    SPACE_LINE_DRY_RUN,
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_HAS_CHILDREN, "Nothing was changed.  A child shows what its parent holds; what the file systems of this one have"
      " freed may be in use there.",
      "--no-fs gives back what no child can notice; --orphan-children gives the children up" },
    { VHDX_E_BAD_VOLUME, "Nothing was changed: tables in this state may call free what is in use.",
      "mend it as told and compact again; --no-fs gives back what can be without them" },
    { VHDX_E_UNSUPPORTED, "Nothing was changed.", "--no-fs gives back what can be without knowing file systems" },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program, or shut down the guest, and compact again" },
    { VHDX_E_CANCELLED, "What was done so far is kept, and every file is as it was.",
      "the same command again goes on" },
};

static int
run_compact(const struct verb *verb, int argc, char **argv)
{
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    return space_job_run(verb, argc, argv, false);
}

const struct verb compact_verb = {
    .name = "compact",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Give back the space that an image does not need, in place",
    .details = "Blocks that the file systems inside have freed (ext2 to ext4, NTFS, FAT, exFAT, swap; on GPT, MBR or\n"
               "bare) give up their space, the last blocks move to the front, and the file is cut.  At every moment\n"
               "the disk holds what it held: a compaction that was cut off is finished by calling again.  A file\n"
               "system whose tables may lie (a journal to recover, dirty, hibernated) is refused, and nothing is\n"
               "changed; what is encrypted or not known is left alone.  Exit status with several files: the worst.\n",
    .example = "  vhdx compact --dry-run ext4.vhdx\n"
               "  vhdx compact ext4.vhdx\n"
               "  vhdx compact --json --jobs 4 /srv/profiles/*.vhdx\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET | SHARED_JOBS | SHARED_CHAIN | SHARED_WRITE,
    .usage_status = STATUS_USAGE,
    .run = run_compact,
};
