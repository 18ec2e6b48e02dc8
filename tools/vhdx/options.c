/*
 * Reading a verb's command line.
 *
 * One table of option_lines serves getopt_long, the help and, through the help, the shell's completion: an option
 * cannot be in one of them and missing in another.
 */
#include "options.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "json.h"
#include "message.h"
#include "remote.h"
#include "sizes.h"
#include "suggest.h"

enum { /* above every number that a verb gives its own options */
    OPTION_JSON = 1000,
    OPTION_OUTPUT,
    OPTION_IGNORE_LOG,
    OPTION_PARENTS,
    OPTION_MAP,
    OPTION_ORPHAN_CHILDREN,
    OPTION_JOBS,
    OPTION_SANDBOX,
    OPTION_TYPE,
    OPTION_BLOCK_SIZE,
    OPTION_LOGICAL_SECTOR,
    OPTION_PHYSICAL_SECTOR,
    OPTION_LOG_SIZE,
    OPTION_DISK_ID,
    OPTION_PREALLOCATE
};

static const struct shared_line {
    unsigned           group;
    struct option_line line;
} shared_lines[] = {
    { SHARED_CREATE, { "type", OPTION_TYPE, "TYPE", "dynamic (default), fixed (all space is taken now), or"
                       " differencing" } },
    { SHARED_CREATE, { "block-size", OPTION_BLOCK_SIZE, "SIZE", "1M to 256M, a power of two (default 2M, 32M above"
                       " 8T)" } },
    { SHARED_CREATE, { "logical-sector", OPTION_LOGICAL_SECTOR, "512|4096", "sector size a guest sees (default"
                       " 512)" } },
    { SHARED_CREATE, { "physical-sector", OPTION_PHYSICAL_SECTOR, "512|4096", "sector size reported as the medium's"
                       " (default 4096)" } },
    { SHARED_CREATE, { "log-size", OPTION_LOG_SIZE, "SIZE", "a multiple of 1M (default 1M)" } },
    { SHARED_CREATE, { "disk-id", OPTION_DISK_ID, "GUID", "identity of the disk (default random)" } },
    { SHARED_CREATE, { "preallocate", OPTION_PREALLOCATE, "off|falloc|full", "the host's space is taken as needed"
                       " (default), at once (default of fixed), or by writing zeros" } },
    { SHARED_CREATE, { "options", 'o', "KEY=VALUE,..", "block_size=, log_size=, subformat=, as qemu-img has"
                       " them" } },
    { SHARED_FORMAT, { "format", 'f', "FORMAT", "format of the source: vhdx, vhd, raw, or by qemu-nbd qcow2, vmdk, vdi" } },
    { SHARED_JSON, { "json", OPTION_JSON, NULL, "print one JSON document" } },
    { SHARED_JSON, { "output", OPTION_OUTPUT, "json|human", "the same, as qemu-img spells it" } },
    { SHARED_PROGRESS, { "progress", 'p', "[FD]", "show progress at once, or write lines N/100 to FD" } },
    { SHARED_QUIET, { "quiet", 'q', NULL, "print errors only" } },
    { SHARED_READ, { "force-share", 'U', NULL, "read even when another program has the file open for writing" } },
    { SHARED_READ, { "ignore-log", OPTION_IGNORE_LOG, NULL, "read the file as it lies, its log not replayed" } },
    { SHARED_CHAIN, { "parents", OPTION_PARENTS, "WHICH", "where parents may be: none, same-dir, any (default), or"
                      " DIR,DIR.." } },
    { SHARED_CHAIN, { "map", OPTION_MAP, "C:=DIR", "where a drive or share (\\\\server\\share=DIR) of Windows is here" } },
    { SHARED_WRITE, { "orphan-children", OPTION_ORPHAN_CHILDREN, NULL, "write even when other images depend on the"
                      " file" } },
    { SHARED_JOBS, { "jobs", OPTION_JOBS, "N", "look at N files at a time" } },
    { SHARED_SANDBOX, { "sandbox", OPTION_SANDBOX, NULL, "give up what these files do not need (parents: same-dir)" } },
};
static const struct option_line help_line = { "help", 'h', NULL, "show this help" };

static void
add_line(struct option_reader *reader, size_t *count, const struct option_line *line)
{
    struct option *option = &reader->long_options[*count];
    size_t used = strlen(reader->short_options);

    *option = (struct option){
        .name = line->name,
        .has_arg = line->argument == NULL ? no_argument
                   : line->argument[0] == '[' ? optional_argument : required_argument,
        .val = line->letter,
    };
    /* An optional argument goes with the long form only: `-p5` would be a guess. */
    if (line->letter < 256)
        snprintf(reader->short_options + used, sizeof(reader->short_options) - used, "%c%s", line->letter,
                 option->has_arg == required_argument ? ":" : "");
    (*count)++;
}

void
options_begin(struct option_reader *reader, const struct verb *verb, int argc, char **argv,
              struct shared_options *shared)
{
    size_t count = 0;
    const char *complaint = (verb->shared & SHARED_REMOTE) != 0 ? remote_join_commands(&argc, argv) : NULL;

    *reader = (struct option_reader){ .verb = verb, .shared = shared, .argc = argc, .argv = argv };
    *shared = (struct shared_options){ .progress_descriptor = -1, .job_count = 1 };
    /* The colon makes getopt tell a missing argument from an unknown option. */
    snprintf(reader->short_options, sizeof(reader->short_options), "%s:", verb->stops_at_file ? "+" : "");
    for (const struct option_line *line = verb->options; line != NULL && line->name != NULL; line++)
        add_line(reader, &count, line);
    for (size_t i = 0; i < sizeof(shared_lines) / sizeof(shared_lines[0]); i++) {
        if ((verb->shared & shared_lines[i].group) != 0)
            add_line(reader, &count, &shared_lines[i].line);
    }
    add_line(reader, &count, &help_line);
    opterr = 0; /* the message is ours: escaped, and with the verb's exit status */
    optind = 1;
    if (complaint != NULL)
        usage_error(reader, "%s", complaint);
}

static void
print_line(const struct option_line *line)
{
    char text[80];
    size_t used;

    if (line->letter < 256)
        snprintf(text, sizeof(text), "  -%c, --%s", line->letter, line->name);
    else
        snprintf(text, sizeof(text), "      --%s", line->name);
    used = strlen(text);
    if (line->argument != NULL && line->argument[0] == '[')
        snprintf(text + used, sizeof(text) - used, "[=%s", line->argument + 1);
    else if (line->argument != NULL)
        snprintf(text + used, sizeof(text) - used, "=%s", line->argument);
    printf("%-34s %s\n", text, line->help);
}

static _Noreturn void
print_help(const struct option_reader *reader)
{
    const struct verb *verb = reader->verb;

    printf("Usage: vhdx %s %s\n%s.\n", verb->name, verb->synopsis, verb->summary);
    if (verb->details != NULL)
        printf("\n%s", verb->details);
    printf("\nOptions:\n");
    for (const struct option_line *line = verb->options; line != NULL && line->name != NULL; line++)
        print_line(line);
    for (size_t i = 0; i < sizeof(shared_lines) / sizeof(shared_lines[0]); i++) {
        if ((verb->shared & shared_lines[i].group) != 0)
            print_line(&shared_lines[i].line);
    }
    print_line(&help_line);
    printf("\nExample:\n%s", verb->example);
    exit(fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}

/* Whether --json stands on the command line: an error that ends its reading is a document, too. */
static bool
wants_json(const struct option_reader *reader)
{
    if ((reader->verb->shared & SHARED_JSON) == 0)
        return false;
    for (int i = 1; i < reader->argc && strcmp(reader->argv[i], "--") != 0; i++) {
        if (strcmp(reader->argv[i], "--json") == 0 || strcmp(reader->argv[i], "--output=json") == 0)
            return true;
    }
    return false;
}

void
usage_error(const struct option_reader *reader, const char *format, ...)
{
    struct vhdx_error err = { .code = VHDX_E_INVALID, .file_offset = VHDX_NO_OFFSET };
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(err.message, sizeof(err.message), format, arguments);
    va_end(arguments);
    message_print("%s: %s", reader->verb->name, err.message);
    fprintf(stderr, "Try 'vhdx %s --help' for more information.\n", reader->verb->name);
    if (wants_json(reader))
        json_print(json_failure(NULL, &err));
    fflush(stdout);
    exit(reader->verb->usage_status);
}

uint64_t
option_size(const struct option_reader *reader, const char *name, const char *argument)
{
    uint64_t value;

    if (!size_parse(argument, &value))
        usage_error(reader, "%s: '%s' is not a size: digits, then K, M, G, T or nothing", name, argument);
    return value;
}

uint64_t
option_number(const struct option_reader *reader, const char *name, const char *argument, uint64_t least,
              uint64_t most)
{
    uint64_t value;

    if (!number_parse(argument, least, most, &value))
        usage_error(reader, "%s: '%s' is not a number from %" PRIu64 " to %" PRIu64, name, argument, least, most);
    return value;
}

static bool
find_format(const char *name, enum vhdx_format *out)
{
    static const struct {
        const char      *name;
        enum vhdx_format format;
    } formats[] = {
        { "vhdx", VHDX_FORMAT_VHDX }, { "vhd", VHDX_FORMAT_VHD }, { "vpc", VHDX_FORMAT_VHD }, /* which is QEMU's word */
        { "raw", VHDX_FORMAT_RAW },
    };

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(name, formats[i].name) == 0) {
            *out = formats[i].format;
            return true;
        }
    }
    return false;
}

/* A format that qemu-nbd reads, under QEMU's own word. */
static const char *
find_qemu_format(const char *name)
{
    static const char *const formats[] = { "qcow2", "vmdk", "vdi", "qcow", "qed", "parallels" };

    for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
        if (strcmp(name, formats[i]) == 0)
            return formats[i];
    }
    return NULL;
}

struct source_format
option_source_format(const struct option_reader *reader, const char *argument)
{
    struct source_format format = { .ours = VHDX_FORMAT_RAW };

    if (find_format(argument, &format.ours))
        return format;
    format.qemu = find_qemu_format(argument);
    if (format.qemu == NULL || (reader->verb->shared & SHARED_REMOTE) == 0)
        usage_error(reader, "format '%s' is not known: vhdx, vhd, raw, and by qemu-nbd qcow2, vmdk, vdi, qcow, qed and"
                    " parallels are", argument);
    return format;
}

enum vhdx_format
option_format(const struct option_reader *reader, const char *argument)
{
    enum vhdx_format format;

    if (find_format(argument, &format))
        return format;
    if (find_qemu_format(argument) != NULL)
        usage_error(reader, "%s is written by a server: qemu-img create -f %s FILE SIZE, then DST is"
                    " [ qemu-nbd -f %s FILE ]", argument, argument, argument);
    usage_error(reader, "format '%s' is not known: vhdx, vhd and raw are", argument);
}

static enum vhdx_image_type
read_type(const struct option_reader *reader, const char *text)
{
    reader->shared->has_type = true;
    if (strcmp(text, "dynamic") == 0)
        return VHDX_TYPE_DYNAMIC;
    if (strcmp(text, "fixed") == 0)
        return VHDX_TYPE_FIXED;
    if (strcmp(text, "differencing") == 0)
        return VHDX_TYPE_DIFFERENCING;
    usage_error(reader, "type '%s' is not known: dynamic, fixed and differencing are", text);
}

static enum vhdx_preallocation
read_preallocation(const struct option_reader *reader, const char *text)
{
    if (strcmp(text, "off") == 0)
        return VHDX_PREALLOCATE_OFF;
    if (strcmp(text, "falloc") == 0)
        return VHDX_PREALLOCATE_FALLOC;
    if (strcmp(text, "full") == 0)
        return VHDX_PREALLOCATE_FULL;
    usage_error(reader, "--preallocate takes off, falloc or full, not '%s'", text);
}

static uint32_t
read_block_size(const struct option_reader *reader, const char *text)
{
    uint64_t value = option_size(reader, "block size", text);

    if (value > UINT32_MAX)
        usage_error(reader, "block size: at most 256M");
    return (uint32_t)value;
}

static uint32_t
read_sector_size(const struct option_reader *reader, const char *text)
{
    if (strcmp(text, "512") != 0 && strcmp(text, "4096") != 0)
        usage_error(reader, "a sector has 512 or 4096 bytes, not '%s'", text);
    return text[0] == '5' ? 512 : 4096;
}

/* -o KEY=VALUE,KEY=VALUE.. */
static void
take_key_values(const struct option_reader *reader, char *text)
{
    struct vhdx_create_options *create = &reader->shared->create;
    char *rest = NULL;

    for (char *pair = strtok_r(text, ",", &rest); pair != NULL; pair = strtok_r(NULL, ",", &rest)) {
        const char *value = strchr(pair, '=');
        size_t length = value == NULL ? 0 : (size_t)(value - pair);

        if (length == strlen("block_size") && strncmp(pair, "block_size", length) == 0)
            create->block_size = read_block_size(reader, value + 1);
        else if (length == strlen("log_size") && strncmp(pair, "log_size", length) == 0)
            create->log_size = option_size(reader, "log_size", value + 1);
        else if (length == strlen("subformat") && strncmp(pair, "subformat", length) == 0)
            create->type = read_type(reader, value + 1);
        else
            usage_error(reader, "-o '%s' is not known: block_size=, log_size= and subformat= are", pair);
    }
}

/* The options of SHARED_CREATE. */
static bool
take_create(struct option_reader *reader, int letter)
{
    struct vhdx_create_options *create = &reader->shared->create;

    switch (letter) {
    case OPTION_TYPE:
        create->type = read_type(reader, optarg);
        return true;
    case OPTION_BLOCK_SIZE:
        create->block_size = read_block_size(reader, optarg);
        return true;
    case OPTION_LOGICAL_SECTOR:
        create->logical_sector_size = read_sector_size(reader, optarg);
        return true;
    case OPTION_PHYSICAL_SECTOR:
        create->physical_sector_size = read_sector_size(reader, optarg);
        return true;
    case OPTION_LOG_SIZE:
        create->log_size = option_size(reader, "--log-size", optarg);
        return true;
    case OPTION_DISK_ID:
        if (!vhdx_guid_parse(&create->disk_id, optarg))
            usage_error(reader, "--disk-id: '%s' is not a GUID", optarg);
        return true;
    case OPTION_PREALLOCATE:
        create->preallocation = read_preallocation(reader, optarg);
        return true;
    case 'o':
        take_key_values(reader, optarg);
        return true;
    default:
        return false;
    }
}

/* Deal with an option of shared_lines; false when it is none of them. */
static bool
take_shared(struct option_reader *reader, int letter)
{
    struct shared_options *shared = reader->shared;

    switch (letter) {
    case 'f':
        shared->format = option_source_format(reader, optarg);
        return true;
    case OPTION_JSON:
        shared->json = true;
        return true;
    case OPTION_OUTPUT:
        shared->json = strcmp(optarg, "json") == 0;
        if (!shared->json && strcmp(optarg, "human") != 0)
            usage_error(reader, "--output takes json or human, not '%s'", optarg);
        return true;
    case 'p':
        shared->wants_progress = true;
        if (optarg != NULL)
            shared->progress_descriptor = (int)option_number(reader, "--progress", optarg, 0, INT32_MAX);
        return true;
    case 'q':
        shared->quiet = true;
        return true;
    case 'U':
        shared->force_share = true;
        return true;
    case OPTION_IGNORE_LOG:
        shared->ignore_log = true;
        return true;
    case OPTION_PARENTS:
        chain_allow_parents(optarg);
        shared->no_parents = strcmp(optarg, "none") == 0;
        return true;
    case OPTION_MAP:
        chain_add_map(optarg);
        return true;
    case OPTION_ORPHAN_CHILDREN:
        shared->orphan_children = true;
        return true;
    case OPTION_JOBS:
        shared->job_count = (unsigned)option_number(reader, "--jobs", optarg, 1, 256);
        return true;
    case OPTION_SANDBOX:
        shared->sandbox = true;
        chain_prefer_same_dir();
        return true;
    default:
        return take_create(reader, letter);
    }
}

/* A verb may use a letter of a shared group that it does not take. */
static bool
is_own(const struct verb *verb, int letter)
{
    for (const struct option_line *line = verb->options; line != NULL && line->name != NULL; line++) {
        if (line->letter == letter)
            return true;
    }
    return false;
}

static const char *
name_of(const struct option_reader *reader, int letter)
{
    for (const struct option *option = reader->long_options; option->name != NULL; option++) {
        if (option->val == letter)
            return option->name;
    }
    return NULL;
}

/* `text` is "--NAME" or "--NAME=VALUE". */
static _Noreturn void
refuse_long_option(const struct option_reader *reader, const char *text)
{
    struct suggestion suggestion;
    char word[64];

    snprintf(word, sizeof(word), "%.*s", (int)strcspn(text + 2, "="), text + 2);
    suggest_begin(&suggestion, word);
    for (const struct option *option = reader->long_options; option->name != NULL; option++) {
        if (strncmp(option->name, word, strlen(word)) == 0)
            usage_error(reader, "option '%s' is short for several", text);
        suggest_offer(&suggestion, option->name);
    }
    if (suggestion.best != NULL)
        usage_error(reader, "there is no option '%s': did you mean '--%s'?", text, suggestion.best);
    usage_error(reader, "there is no option '%s'", text);
}

static _Noreturn void
refuse_option(const struct option_reader *reader, bool lacks_argument)
{
    const char *name = name_of(reader, optopt);

    if (lacks_argument)
        usage_error(reader, "option --%s needs an argument", name);
    if (optopt == 0)
        refuse_long_option(reader, reader->argv[optind - 1]);
    if (name == NULL)
        usage_error(reader, "there is no option '-%c'", optopt);
    usage_error(reader, "option --%s takes no argument", name);
}

int
options_next(struct option_reader *reader, const char **argument)
{
    for (;;) {
        int letter = getopt_long(reader->argc, reader->argv, reader->short_options, reader->long_options, NULL);

        *argument = optarg;
        if (letter == -1)
            return OPTION_END;
        if (letter == '?' || letter == ':')
            refuse_option(reader, letter == ':');
        if (letter == help_line.letter)
            print_help(reader);
        if (is_own(reader->verb, letter) || !take_shared(reader, letter))
            return letter;
    }
}

/* A server is not in the sandbox, nor can it be started from there. */
static void
judge_sandbox(const struct option_reader *reader, char *const *operands, int count)
{
    bool is_remote = reader->shared->format.qemu != NULL;

    if (!reader->shared->sandbox)
        return;
    for (int i = 0; i < count; i++)
        is_remote = is_remote || remote_is(operands[i]);
    if (is_remote)
        usage_error(reader, "--sandbox is for files: NBD servers stay outside of it");
}

int
options_operands(const struct option_reader *reader, int least, int most, char ***operands)
{
    int count = reader->argc - optind;
    struct vhdx_error err;

    if ((reader->verb->shared & SHARED_CHAIN) != 0 && chain_complete(&err) < 0)
        usage_error(reader, "%s", err.message);
    if (count < least)
        usage_error(reader, "something is missing: vhdx %s %s", reader->verb->name, reader->verb->synopsis);
    if (count > most)
        usage_error(reader, "'%s' is one argument too many", reader->argv[optind + most]);
    *operands = reader->argv + optind;
    judge_sandbox(reader, *operands, count);
    return count;
}

struct vhdx_open_options
options_for_reading(const struct shared_options *shared)
{
    struct vhdx_open_options options = {
        .flags = (shared->ignore_log ? VHDX_OPEN_IGNORE_LOG : 0)
                 | (shared->force_share ? VHDX_OPEN_FORCE_SHARE : 0),
        .format = shared->format.ours,
    };

    if (chain_policy() != NULL)
        chain_add_resolver(&options);
    return options;
}
