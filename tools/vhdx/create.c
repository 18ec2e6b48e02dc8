/* vhdx create: a new image, or a child of one. */
#include <stdio.h>

#include <vhdx/chain.h>

#include "chain.h"
#include "files.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_FORCE = 256 };

static const struct option_line lines[] = {
    { "parent", 'b', "FILE", "make a differencing image: what it does not hold is read from FILE" },
    { "format", 'f', "vhdx", "taken for the sake of qemu-img's users" },
    { "force", OPTION_FORCE, NULL, "write over a file or block device that exists" },
    { 0 },
};

struct creation {
    const struct shared_options *shared;
    const char                  *path;
    const char                  *parent; /* NULL: none */
    const char                  *culprit; /* the file an error is about */
    bool                         may_replace;
    struct vhdx_create_options   create;
};

static int
write_image(const struct creation *creation, const struct target *target, struct vhdx_error *err)
{
    struct progress progress;
    int rc;

    if (creation->parent != NULL)
        return vhdx_create_child_path(target->working_path, target->is_device, creation->parent, &creation->create,
                                      chain_parents_options(), err);
    progress_begin(&progress, creation->shared);
    rc = vhdx_create_path(target->working_path, target->is_device, &creation->create, &progress.hook, err);
    progress_end(&progress);
    return rc;
}

static int
create_file(const struct creation *creation, const struct vhdx_disk *parent, struct vhdx_error *err)
{
    struct target target;
    int rc;

    rc = target_begin(&target, creation->path, parent, creation->may_replace, creation->shared, err);
    if (rc < 0)
        return rc;
    rc = write_image(creation, &target, err);
    if (rc == 0)
        rc = target_commit(&target, err);
    if (rc < 0)
        target_abandon(&target);
    return rc;
}

/* The parent stays open, so that nobody writes to it, until its child has its name; the child replaces none of its
 * layers. */
static int
create_child(struct creation *creation, struct vhdx_error *err)
{
    unsigned flags = creation->shared->no_parents ? VHDX_OPEN_NO_PARENTS : 0;
    struct vhdx_disk *parent;
    int rc;

    creation->culprit = creation->parent;
    rc = file_open_disk(&parent, creation->parent, (struct source_format){ VHDX_FORMAT_VHDX, NULL }, creation->shared, flags, err);
    if (rc < 0)
        return rc;
    creation->culprit = creation->path;
    if (creation->create.virtual_size == 0)
        creation->create.virtual_size = vhdx_disk_size(parent);
    rc = create_file(creation, parent, err);
    vhdx_disk_close(parent, NULL);
    return rc;
}

static void
report(const struct creation *creation)
{
    static const char *const types[] = {
        [VHDX_TYPE_DYNAMIC] = "dynamic", [VHDX_TYPE_FIXED] = "fixed", [VHDX_TYPE_DIFFERENCING] = "differencing",
    };
    char size_text[SIZE_TEXT_SIZE];

    fputs("Created ", stdout);
    text_print(stdout, creation->path);
    printf(": %s VHDX, %s", types[creation->create.type], size_long(size_text, creation->create.virtual_size));
    if (creation->parent != NULL) {
        fputs(", a child of ", stdout);
        text_print(stdout, creation->parent);
    }
    putchar('\n');
}

static void
complete_creation(struct creation *creation, const struct option_reader *reader)
{
    const struct shared_options *shared = creation->shared;
    bool is_child = shared->create.type == VHDX_TYPE_DIFFERENCING;
    int count;
    char **operands;

    count = options_operands(reader, creation->parent == NULL ? 2 : 1, 2, &operands);
    if (is_child && creation->parent == NULL)
        usage_error(reader, "a differencing image needs --parent");
    if (shared->has_type && !is_child && creation->parent != NULL)
        usage_error(reader, "an image with --parent is a differencing one");
    creation->path = creation->culprit = operands[0];
    creation->create = shared->create;
    if (count == 2) {
        creation->create.virtual_size = option_size(reader, "SIZE", operands[1]);
        if (creation->create.virtual_size == 0 && creation->parent != NULL)
            usage_error(reader, "SIZE: a disk has at least one sector; without it a child is as large as its parent");
    }
    if (creation->parent != NULL)
        creation->create.type = VHDX_TYPE_DIFFERENCING;
}

static int
run_create(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct creation creation = { .shared = &shared };
    struct vhdx_error err;
    const char *argument;
    int letter, rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_FORCE)
            creation.may_replace = true;
        else if (letter == 'b')
            creation.parent = argument;
        else if (option_format(&reader, argument) != VHDX_FORMAT_VHDX)
            usage_error(&reader, "only VHDX images are created");
    }
    complete_creation(&creation, &reader);

    rc = creation.parent != NULL ? create_child(&creation, &err) : create_file(&creation, NULL, &err);
    if (rc < 0) {
        message_error(creation.culprit, &err);
        return STATUS_FAILED;
    }
    if (!shared.quiet)
        report(&creation);
    return STATUS_GOOD;
}

const struct verb create_verb = {
    .name = "create",
    .synopsis = "[OPTIONS] FILE [SIZE]",
    .summary = "Make a new, empty image, or a child of one",
    .details = "SIZE may be left out with --parent: a child is then as large as its parent.  It may be larger.  From\n"
               "then on nothing may write to the parent, or the child shows a mixture: verbs that write refuse to.\n",
    .example = "  vhdx create disk.vhdx 20G\n"
               "  vhdx create --type fixed --logical-sector 4096 data.vhdx 512M\n"
               "  vhdx create --parent disk.vhdx today.avhdx\n",
    .shared = SHARED_CREATE | SHARED_CHAIN | SHARED_WRITE | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_create,
};
