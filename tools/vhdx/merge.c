/* vhdx merge: what an image holds goes into its parent, or another ancestor. */
#include <stdlib.h>

#include <vhdx/chain.h>

#include "chain_job.h"
#include "json.h"
#include "message.h"
#include "verbs.h"

enum { OPTION_INTO = 256, OPTION_ALSO, OPTION_ORPHAN_SIBLINGS, OPTION_DELETE };

static const struct option_line lines[] = {
    { "into", OPTION_INTO, "ANCESTOR", "merge into this one; without, into the parent" },
    { "also", OPTION_ALSO, "DIR", "images that depend on the chain may lie here, too" },
    { "orphan-siblings", OPTION_ORPHAN_SIBLINGS, NULL, "go on although other children of the ancestor break" },
    { "delete", OPTION_DELETE, NULL, "remove the merged files when all is done" },
    { "dry-run", 'n', NULL, "only tell what would be done" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_HAS_CHILDREN, "Nothing was changed.  They hold only what differs from their parent: merged, it shows something"
      " else under them.",
      "vhdx rebase --flatten CHILD makes a child stand alone; --orphan-siblings gives up children of the ancestor" },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program and merge again" },
    { VHDX_E_CANCELLED, "The chain reads as before; what was copied so far lies hidden under the merged image.",
      "the same command again finishes the merge" },
};

static int
run_merge(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct chain_job job = { 0 };
    struct vhdx_error err;
    const char **also = need_memory(calloc((size_t)argc, sizeof(*also)));
    const char *argument, *into = NULL;
    char **operands;
    int letter, rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_INTO)
            into = argument;
        else if (letter == OPTION_ALSO)
            also[job.options.also_count++] = argument;
        else if (letter == OPTION_ORPHAN_SIBLINGS)
            job.options.orphan_siblings = true;
        else if (letter == OPTION_DELETE)
            job.options.delete_merged = true;
        else
            job.options.dry_run = true;
    }
    options_operands(&reader, 1, 1, &operands);

    job.options.also = also;

    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    chain_job_begin(&job, &shared, operands[0]);
    if (job.document != NULL && into != NULL)
        json_add_text(job.document, "into", into);
    rc = vhdx_merge_path(operands[0], into, &job.options, chain_job_say, &job, &job.progress.hook, &job.result, &err);
    free(also);
    return chain_job_end(&job, rc, &err);
}

const struct verb merge_verb = {
    .name = "merge",
    .synopsis = "[OPTIONS] FILE",
    .summary = "Put what an image holds into its parent",
    .details = "At every moment FILE reads as before: a merge that was interrupted is finished by calling again.  Other\n"
               "children of what is merged into would break: they are looked for, and named, before anything is\n"
               "written.  Children of FILE become children of its ancestor.  FILE itself stays, without use, unless\n"
               "--delete is given.\n",
    .example = "  vhdx merge --dry-run today.avhdx\n"
               "  vhdx merge --delete today.avhdx\n"
               "  vhdx merge --into disk.vhdx --also /srv/checkpoints today.avhdx\n",
    .shared = SHARED_CHAIN | SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_merge,
};
