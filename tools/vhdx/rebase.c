/* vhdx rebase: another parent for an image, another place of it, or none. */
#include <vhdx/chain.h>

#include "chain_job.h"
#include "json.h"
#include "message.h"
#include "verbs.h"

enum { OPTION_RELINK = 256, OPTION_FLATTEN, OPTION_FORCE };

static const struct option_line lines[] = {
    { "parent", 'b', "P", "make P its parent; what P shows differently is copied into FILE first" },
    { "relink", OPTION_RELINK, "P", "its parent is here: write the path of P, copy nothing" },
    { "flatten", OPTION_FLATTEN, NULL, "copy everything that its parents show; then it needs none" },
    { "force", OPTION_FORCE, NULL, "with --relink: though nothing shows that P is the parent" },
    { "dry-run", 'n', NULL, "only tell what would be done" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_BAD_PARENT, "Read through the wrong parent, or one that was written after its child was made, a disk shows"
      " a mixture that no guest ever wrote.",
      "vhdx tree FOLDER shows which images fit together; --relink P --force links them all the same" },
    { VHDX_E_HAS_CHILDREN, "What they show would change with it.  Nothing was changed.",
      "relink it before it gets children, or --orphan-children" },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program and try again" },
    { VHDX_E_CANCELLED, "The image reads as before, through the parent it had.", "the same command again finishes" },
};

/* What to do with the image. */
struct way {
    const char *name; /* of its option */
    const char *parent;
    int (*run)(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
               void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
               struct vhdx_error *err);
};

static int
flatten_path(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
             void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out, struct vhdx_error *err)
{
    (void)parent_path;
    return vhdx_flatten_path(path, options, say, context, progress, out, err);
}

static void
choose_way(struct way *way, const struct option_reader *reader, int letter, const char *argument)
{
    if (way->run != NULL)
        usage_error(reader, "one of --parent, --relink and --flatten at a time");
    if (letter == 'b')
        *way = (struct way){ "parent", argument, vhdx_rebase_path };
    else if (letter == OPTION_RELINK)
        *way = (struct way){ "relink", argument, vhdx_relink_path };
    else
        *way = (struct way){ "flatten", NULL, flatten_path };
}

static int
run_rebase(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct chain_job job = { 0 };
    struct way way = { 0 };
    struct vhdx_error err;
    const char *argument;
    char **operands;
    int letter, rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_FORCE)
            job.options.force = true;
        else if (letter == 'n')
            job.options.dry_run = true;
        else
            choose_way(&way, &reader, letter, argument);
    }
    options_operands(&reader, 1, 1, &operands);
    if (way.run == NULL)
        usage_error(&reader, "say what becomes of its parent: --parent, --relink or --flatten");
    if (job.options.force && way.run != vhdx_relink_path)
        usage_error(&reader, "--force is for --relink");
    job.options.orphan_children = shared.orphan_children;

    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    chain_job_begin(&job, &shared, operands[0]);
    if (job.document != NULL) {
        json_add_text(job.document, "action", way.name);
        if (way.parent != NULL)
            json_add_text(job.document, "parent", way.parent);
    }
    rc = way.run(operands[0], way.parent, &job.options, chain_job_say, &job, &job.progress.hook, &job.result, &err);
    return chain_job_end(&job, rc, &err);
}

const struct verb rebase_verb = {
    .name = "rebase",
    .synopsis = "(--parent=P | --relink=P | --flatten) [OPTIONS] FILE",
    .summary = "Give an image another parent, or none",
    .details = "What FILE shows stays the same, and so do its own children.  With --relink only the path is written:\n"
               "that needs proof, which is P's identity, or the old parent being there and reading the same.\n",
    .example = "  vhdx rebase --relink /new/place/disk.vhdx today.avhdx\n"
               "  vhdx rebase --parent disk.vhdx today.avhdx\n"
               "  vhdx rebase --flatten today.avhdx\n",
    .shared = SHARED_CHAIN | SHARED_WRITE | SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_rebase,
};
