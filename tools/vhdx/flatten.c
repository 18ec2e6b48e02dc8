/* vhdx flatten: a new image that stands alone, from a chain. */
#include <string.h>

#include <vhdx/ops.h>

#include "conversion.h"
#include "message.h"
#include "verbs.h"

enum { OPTION_FORCE = 256 };

static const struct option_line lines[] = {
    { "threads", 'm', "N", "copy with N threads (default: one per processor, at most 8)" },
    { "force", OPTION_FORCE, NULL, "write over a file that exists" },
    { 0 },
};

static int
run_flatten(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct conversion conversion = {
        .shared = &shared, .target_format = VHDX_FORMAT_VHDX, .keeps_disk = true, .copy = { .detect_zeros = true },
    };
    struct vhdx_error err;
    const char *argument;
    char **operands;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_FORCE)
            conversion.may_replace = true;
        else
            conversion.copy.thread_count = (unsigned)option_number(&reader, "--threads", argument, 1, 64);
    }
    options_operands(&reader, 2, 2, &operands);
    if (shared.create.type == VHDX_TYPE_DIFFERENCING)
        usage_error(&reader, "what stands alone is dynamic or fixed");
    shared.format.ours = VHDX_FORMAT_VHDX;
    conversion.source = operands[0];
    conversion.destination = operands[1];
    if (strcmp(operands[1], "-") == 0 && shared.create.preallocation != VHDX_PREALLOCATE_DEFAULT)
        usage_error(&reader, "--preallocate is for a file: who reads standard output stores it as it likes");
    if (conversion_reads_pipe(&conversion))
        usage_error(&reader, "a VHDX cannot be read from a pipe: store it in a file first");

    if (conversion_run(&conversion, &err) == 0)
        return STATUS_GOOD;
    message_error(conversion.culprit, &err);
    return STATUS_FAILED;
}

const struct verb flatten_verb = {
    .name = "flatten",
    .synopsis = "[OPTIONS] SRC DST",
    .summary = "Copy what a chain shows to a new image that stands alone",
    .details = "SRC and its parents are only read.  DST is the same disk: unless told otherwise it has the sector and\n"
               "block sizes of SRC, and the identity that a guest sees.  To make an image stand alone in its place, use\n"
               "'vhdx rebase --flatten'.\n",
    .example = "  vhdx flatten today.avhdx alone.vhdx\n"
               "  vhdx flatten --type fixed today.avhdx alone.vhdx\n",
    .shared = SHARED_CREATE | SHARED_READ | SHARED_CHAIN | SHARED_WRITE | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_flatten,
};
