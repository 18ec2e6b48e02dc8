/* vhdx create: a new image. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <vhdx/ops.h>

#include "files.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_FORCE = 256 };

static const struct option_line lines[] = {
    { "format", 'f', "vhdx", "taken for the sake of qemu-img's users" },
    { "force", OPTION_FORCE, NULL, "write over a file or block device that exists" },
    { 0 },
};

static int
create_image(const char *path, bool may_replace, const struct shared_options *shared, struct vhdx_error *err)
{
    struct target target;
    struct progress progress;
    int rc;

    rc = target_begin(&target, path, NULL, may_replace, shared, err);
    if (rc < 0)
        return rc;
    progress_begin(&progress, shared);
    rc = vhdx_create_path(target.working_path, target.is_device, &shared->create, &progress.hook, err);
    progress_end(&progress);
    if (rc == 0)
        rc = target_commit(&target, err);
    if (rc < 0)
        target_abandon(&target);
    return rc;
}

static int
run_create(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    char **operands;
    char size_text[SIZE_TEXT_SIZE];
    bool may_replace = false;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_FORCE)
            may_replace = true;
        else if (option_format(&reader, argument) != VHDX_FORMAT_VHDX)
            usage_error(&reader, "only VHDX images are created");
    }
    options_operands(&reader, 2, 2, &operands);
    shared.create.virtual_size = option_size(&reader, "SIZE", operands[1]);

    if (create_image(operands[0], may_replace, &shared, &err) < 0) {
        message_error(operands[0], &err);
        return STATUS_FAILED;
    }
    if (!shared.quiet) {
        fputs("Created ", stdout);
        text_print(stdout, operands[0]);
        printf(": %s VHDX, %s\n", shared.create.type == VHDX_TYPE_FIXED ? "fixed" : "dynamic",
               size_long(size_text, shared.create.virtual_size));
    }
    return STATUS_GOOD;
}

const struct verb create_verb = {
    .name = "create",
    .synopsis = "[OPTIONS] FILE SIZE",
    .summary = "Make a new, empty image",
    .example = "  vhdx create disk.vhdx 20G\n"
               "  vhdx create --type fixed --logical-sector 4096 data.vhdx 512M\n",
    .shared = SHARED_CREATE | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_create,
};
