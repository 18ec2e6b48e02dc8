/* vhdx convert: the contents of one disk into a new file, device or stream. */
#include <string.h>

#include "confine.h"
#include "conversion.h"
#include "in_place.h"
#include "message.h"
#include "remote.h"
#include "verbs.h"

#define MIB (UINT64_C(1) << 20)

enum { OPTION_FORCE = 256, OPTION_NO_ZERO_DETECT, OPTION_SIZE, OPTION_IN_PLACE, OPTION_FOR };

static const struct option_line lines[] = {
    { "output-format", 'O', "FORMAT", "vhdx, vhd or raw; needed unless DST ends in .vhdx, .avhdx, .vhd, .raw or .img" },
    { "for", OPTION_FOR, "azure", "what Azure takes: a fixed VHD, its size rounded up to 1M" },
    { "threads", 'm', "N", "copy with N threads (default: one per processor, at most 8)" },
    { "sparse-size", 'S', "SIZE", "zero runs of 4K are left out; 0 copies them as data" },
    { "no-zero-detect", OPTION_NO_ZERO_DETECT, NULL, "the same as -S 0" },
    { "size", OPTION_SIZE, "SIZE", "bytes that come through a pipe when SRC is '-'" },
    { "in-place", OPTION_IN_PLACE, NULL, "change the --type of FILE itself: no copy is made" },
    { "dry-run", 'n', NULL, "with --in-place: only tell what would be done" },
    { "force", OPTION_FORCE, NULL, "write over a file or block device that exists" },
    { 0 },
};

/* Fixed is the only VHD that is made, so its type need not be said. */
static void
judge_vhd(const struct conversion *conversion, const struct option_reader *reader)
{
    const struct vhdx_create_options *create = &conversion->shared->create;

    if (conversion->target_format != VHDX_FORMAT_VHD) {
        if (conversion->size_unit != 0)
            usage_error(reader, "Azure takes fixed VHDs: -O vhd, or a DST that ends in .vhd");
        return;
    }
    if (conversion->shared->has_type && create->type != VHDX_TYPE_FIXED)
        usage_error(reader, "VHDs are made fixed: no other --type");
    if (create->block_size != 0 || create->log_size != 0 || create->logical_sector_size == 4096)
        usage_error(reader, "a fixed VHD has no blocks and no log, and sectors of 512 bytes");
}

/* A server is given the disk itself; what it makes of it is its business. */
static void
judge_served(struct conversion *conversion, const struct option_reader *reader)
{
    const struct vhdx_create_options *create = &conversion->shared->create;

    if (conversion->target_format != VHDX_FORMAT_AUTO && conversion->target_format != VHDX_FORMAT_RAW)
        usage_error(reader, "an NBD server is given the disk itself, -O raw: an image is converted to a file");
    if (conversion->shared->has_type || create->preallocation != VHDX_PREALLOCATE_DEFAULT)
        usage_error(reader, "--type and --preallocate are for a file");
    conversion->target_format = VHDX_FORMAT_RAW;
}

/* What the options and operands say together. */
static void
complete_conversion(struct conversion *conversion, const struct option_reader *reader)
{
    if (conversion->target_format == VHDX_FORMAT_AUTO && conversion->size_unit != 0)
        conversion->target_format = VHDX_FORMAT_VHD;
    if (remote_is(conversion->destination))
        judge_served(conversion, reader);
    if (conversion->target_format == VHDX_FORMAT_AUTO)
        conversion->target_format = conversion_format_by_name(reader, conversion->destination);
    judge_vhd(conversion, reader);
    if (strcmp(conversion->destination, "-") == 0 && conversion->shared->create.preallocation != VHDX_PREALLOCATE_DEFAULT)
        usage_error(reader, "--preallocate is for a file: who reads standard output stores it as it likes");
    if (!conversion_reads_pipe(conversion)) {
        if (conversion->has_pipe_size)
            usage_error(reader, "--size is for a disk that comes through a pipe (SRC '-')");
        return;
    }
    if (conversion->shared->format.qemu != NULL
        || (conversion->shared->format.ours != VHDX_FORMAT_AUTO && conversion->shared->format.ours != VHDX_FORMAT_RAW))
        usage_error(reader, "a VHDX or VHD cannot be read from a pipe: store it in a file first");
    if (strcmp(conversion->destination, "-") == 0)
        usage_error(reader, "from a pipe to a pipe is not possible: name a file for DST");
    if (!conversion->has_pipe_size)
        usage_error(reader, "--size is needed when the disk comes through a pipe: an image begins with its size");
}

static void
take_option(struct conversion *conversion, const struct option_reader *reader, int letter, const char *argument)
{
    uint64_t grain;

    switch (letter) {
    case 'O':
        conversion->target_format = option_format(reader, argument);
        break;
    case 'm':
        conversion->copy.thread_count = (unsigned)option_number(reader, "--threads", argument, 1, 64);
        break;
    case 'S':
        grain = option_size(reader, "-S", argument);
        if (grain != 0 && grain != 4096)
            usage_error(reader, "-S takes 0 or 4K");
        conversion->copy.detect_zeros = grain != 0;
        break;
    case OPTION_FOR:
        if (strcmp(argument, "azure") != 0)
            usage_error(reader, "--for takes azure, not '%s'", argument);
        conversion->size_unit = MIB;
        break;
    case OPTION_NO_ZERO_DETECT:
        conversion->copy.detect_zeros = false;
        break;
    case OPTION_SIZE:
        conversion->pipe_size = option_size(reader, "--size", argument);
        conversion->has_pipe_size = true;
        break;
    default: /* --force */
        conversion->may_replace = true;
        break;
    }
}

static int
run_convert(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct conversion conversion = { .shared = &shared, .copy = { .detect_zeros = true } };
    struct vhdx_error err;
    const char *argument;
    char **operands;
    bool in_place = false, dry_run = false, copies = false;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_IN_PLACE) {
            in_place = true;
        } else if (letter == 'n') {
            dry_run = true;
        } else {
            take_option(&conversion, &reader, letter, argument);
            copies = true;
        }
    }
    if (in_place && copies)
        usage_error(&reader, "--in-place makes no copy: it takes --type, --preallocate and --dry-run");
    if (dry_run && !in_place)
        usage_error(&reader, "--dry-run is for --in-place; 'vhdx measure' tells how large a copy would be");
    if (in_place) {
        options_operands(&reader, 1, 1, &operands);
        confine_in_place(&shared, operands[0]);
        confine_begin(&shared, STATUS_FAILED);
        return in_place_run(&reader, &shared, operands[0], dry_run);
    }
    options_operands(&reader, 2, 2, &operands);
    conversion.source = operands[0];
    conversion.destination = operands[1];
    complete_conversion(&conversion, &reader);
    confine_source(&shared, operands[0]);
    confine_target(&shared, operands[1]);
    confine_begin(&shared, STATUS_FAILED);

    if (conversion_run(&conversion, &err) == 0)
        return STATUS_GOOD;
    message_error(conversion.culprit, &err);
    return STATUS_FAILED;
}

const struct verb convert_verb = {
    .name = "convert",
    .synopsis = "[OPTIONS] SRC DST, or vhdx convert --in-place --type=TYPE FILE",
    .summary = "Copy a disk to a new VHDX, VHD or raw file, or to a pipe",
    .details = "SRC and DST are files, block devices, '-' for standard input and output, URIs of NBD, or [ COMMAND ],\n"
               "whose NBD server is used.  Without -f, SRC is VHDX when it begins like one, VHD when it ends (a dynamic\n"
               "one begins) like one, and raw otherwise.  VHDs are written fixed.\n\n"
               "With --in-place FILE itself becomes dynamic or fixed.  It reads as before at every moment, and what was\n"
               "interrupted is finished by the same command; its children stay valid.  If it has a parent, what that\n"
               "shows is copied into it first.\n",
    .example = "  vhdx convert -f raw disk.raw disk.vhdx\n"
               "  vhdx convert disk.vhdx disk.raw\n"
               "  vhdx convert -O vhdx disk.raw - | ssh host 'cat > disk.vhdx'\n"
               "  vhdx convert --in-place --type fixed disk.vhdx\n"
               "  vhdx convert --for azure disk.vhdx disk.vhd\n"
               "  vhdx convert [ qemu-nbd -r -f qcow2 disk.qcow2 ] disk.vhdx\n"
               "  zcat disk.raw.gz | vhdx convert --size 20G - disk.vhdx\n",
    .shared = SHARED_FORMAT | SHARED_REMOTE | SHARED_CREATE | SHARED_READ | SHARED_CHAIN | SHARED_WRITE | SHARED_PROGRESS |
              SHARED_QUIET | SHARED_SANDBOX,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_convert,
};
