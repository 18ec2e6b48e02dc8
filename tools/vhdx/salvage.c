/* vhdx salvage: what can still be read of a damaged image, and what became of each range of the disk. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vhdx/salvage.h>

#include "chain.h"
#include "confine.h"
#include "conversion.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

#define STATUS_GUESSED 3
#define STATUS_LOST    4

#define SHOWN_RANGES 60     /* on a terminal; the rest is for --report */
#define JSON_RANGES  100000 /* some 50 MiB of memory */

enum {
    OPTION_FORCE = 256, OPTION_GUESS, OPTION_PARENT, OPTION_OLD, OPTION_REPORT, OPTION_SOURCE_SIZE, OPTION_SOURCE_BLOCK,
    OPTION_SOURCE_SECTOR
};

static const struct option_line lines[] = {
    { "output-format", 'O', "FORMAT", "vhdx, vhd or raw; needed unless DST ends in .vhdx, .avhdx, .vhd, .raw or .img" },
    { "guess", OPTION_GUESS, "none|strong|all", "which guesses are written (default strong); the others become zeros" },
    { "report", OPTION_REPORT, "FILE", "write one line for each range of the disk to a new FILE" },
    { "dry-run", 'n', NULL, "only tell what could be salvaged: DST is not needed" },
    { "parent", OPTION_PARENT, "P", "take P for the parent, whatever SRC says" },
    { "old-generation", OPTION_OLD, "[N]", "list earlier states that the log still holds, or salvage state N of them" },
    { "source-size", OPTION_SOURCE_SIZE, "SIZE", "the disk has this size, whatever is found" },
    { "source-block-size", OPTION_SOURCE_BLOCK, "SIZE", "and SRC has blocks of this size" },
    { "source-sector", OPTION_SOURCE_SECTOR, "512|4096", "and sectors of this size" },
    { "threads", 'm', "N", "copy with N threads (default: one per processor, at most 8)" },
    { "force", OPTION_FORCE, NULL, "write over files that exist" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_NOT_VHDX, "Nothing was written: without a size of the disk and a place of its blocks there is nothing to copy.",
      "if you know them, say --source-size, --source-block-size; if the beginning of the file is missing rather than"
      " overwritten, put zeros of its length in front; photorec and the like find files in SRC itself" },
    { VHDX_E_TRUNCATED, "Nothing was written: all of it would be zeros.",
      "--guess=all writes weak guesses as well; photorec and the like find files in SRC itself" },
};

static const char *const kind_names[] = { "recovered", "guessed", "lost" };

/* Bytes of each kind, by reason. */
struct sums {
    uint64_t bytes[3][VHDX_SALVAGE_REASON_COUNT];
    uint64_t of_kind[3];
    uint64_t data;    /* stored bytes that are recovered or guessed */
    uint64_t guesses; /* lost bytes of which there is a guess that is not written */
};

struct salvage_job {
    struct shared_options       shared;
    struct vhdx_salvage_options options;
    struct conversion           conversion;
    const char                 *report_path;
    bool                        is_dry_run, lists_only;
    struct vhdx_salvage        *salvage;
    struct sums                 sums;
};

/* --- ranges --- */

static int
add_to_sums(void *context, const struct vhdx_salvage_range *range)
{
    struct sums *sums = context;

    sums->bytes[range->kind][range->reason] += range->length;
    sums->of_kind[range->kind] += range->length;
    if (range->kind != VHDX_SALVAGE_LOST && !range->is_zero)
        sums->data += range->length;
    if (range->has_guess)
        sums->guesses += range->length;
    return 0;
}

struct printing {
    FILE    *file;
    uint64_t shown, left_out;
};

static int
print_shown(void *context, const struct vhdx_salvage_range *range)
{
    struct printing *printing = context;

    if (range->kind == VHDX_SALVAGE_RECOVERED)
        return 0;
    if (printing->shown == SHOWN_RANGES) {
        printing->left_out++;
        return 0;
    }
    if (printing->shown++ == 0)
        printf("\n%16s %16s  what\n", "disk offset", "bytes");
    printf("%16" PRIu64 " %16" PRIu64 "  %s%s: %s\n", range->guest_offset, range->length, kind_names[range->kind],
           range->has_guess ? " (--guess=all has something)" : "", vhdx_salvage_reason_text(range->reason));
    return 0;
}

static int
print_line(void *context, const struct vhdx_salvage_range *range)
{
    struct printing *printing = context;
    char place[24] = "-";

    if (range->file_offset != VHDX_NO_OFFSET)
        snprintf(place, sizeof(place), "%" PRIu64, range->file_offset);
    fprintf(printing->file, "%" PRIu64 "\t%" PRIu64 "\t%s\t%s\t%s\t%s\n", range->guest_offset, range->length,
            kind_names[range->kind], vhdx_salvage_reason_key(range->reason), range->is_zero ? "zero" : "data", place);
    return ferror(printing->file) ? VHDX_E_IO : 0;
}

struct json_ranges {
    struct json_object *array;
    uint64_t            count;
};

static int
add_to_json(void *context, const struct vhdx_salvage_range *range)
{
    struct json_ranges *ranges = context;
    struct json_object *row;

    if (ranges->count++ >= JSON_RANGES)
        return 0;
    row = need_memory(json_object_new_object());
    json_add_number(row, "start", range->guest_offset);
    json_add_number(row, "length", range->length);
    json_add_text(row, "kind", kind_names[range->kind]);
    json_add_text(row, "reason", vhdx_salvage_reason_key(range->reason));
    json_add_bool(row, "zero", range->is_zero);
    if (range->has_guess)
        json_add_bool(row, "guess-not-written", true);
    if (range->file_offset != VHDX_NO_OFFSET)
        json_add_number(row, "offset", range->file_offset);
    json_object_array_add(ranges->array, row);
    return 0;
}

/* --- for a person --- */

static const char *const state_names[] = { "sound", "damaged", "missing", "inferred" };

static void
print_notes(const struct vhdx_salvage *salvage)
{
    struct vhdx_salvage_note note;

    for (size_t i = 0; vhdx_salvage_get_note(salvage, i, &note); i++) {
        printf("%-9s %-14s ", state_names[note.state], vhdx_part_name(note.part));
        if (note.file_offset != VHDX_NO_OFFSET)
            printf("at 0x%" PRIx64 ": ", note.file_offset);
        text_print(stdout, note.text);
        putchar('\n');
    }
}

static void
print_sums(const struct salvage_job *job)
{
    const struct sums *sums = &job->sums;
    struct vhdx_salvage_facts facts;
    uint64_t sum;
    char text[SIZE_TEXT_SIZE];

    vhdx_salvage_get_facts(job->salvage, &facts);
    sum = facts.virtual_size;
    putchar('\n');
    for (size_t kind = 0; kind < 3; kind++) {
        printf("%-10s %16" PRIu64 " bytes  %5.1f %%\n", kind_names[kind], sums->of_kind[kind],
               sum == 0 ? 0 : 100.0 * (double)sums->of_kind[kind] / (double)sum);
        for (size_t reason = 1; reason < VHDX_SALVAGE_REASON_COUNT; reason++)
            if (sums->bytes[kind][reason] > 0)
                printf("           %16" PRIu64 "   %s\n", sums->bytes[kind][reason],
                       vhdx_salvage_reason_text((enum vhdx_salvage_reason)reason));
    }
    if (sums->guesses > 0)
        printf("of what is lost, --guess=all would write a weak guess for %s\n", size_short(text, sums->guesses));
    if (facts.orphan_bytes > 0)
        printf("%s of data in the file belong to no block that is known\n", size_short(text, facts.orphan_bytes));
}

static void
print_report(struct salvage_job *job)
{
    struct printing printing = { 0 };

    print_notes(job->salvage);
    print_sums(job);
    vhdx_salvage_ranges(job->salvage, print_shown, &printing, NULL);
    if (printing.left_out > 0)
        printf("and %" PRIu64 " more ranges: --report=FILE has all of them\n", printing.left_out);
    if (job->options.generation != 0)
        puts("\nThis is an earlier state of the disk's block table.  What lies in the blocks may have been written over"
             " since: nothing here is proven.");
}

static void
print_generations(const struct vhdx_salvage *salvage)
{
    struct vhdx_salvage_generation generation;
    char guid[VHDX_GUID_TEXT_SIZE];
    size_t i;

    for (i = 0; vhdx_salvage_get_generation(salvage, i, &generation); i++) {
        if (i == 0)
            printf("%5s %8s  %-36s %s\n", "state", "pages", "log of session", "entry");
        vhdx_guid_format(guid, &generation.log_guid);
        if (vhdx_guid_is_zero(&generation.log_guid))
            printf("%5u %8" PRIu64 "  the file as it lies, its log not replayed\n", generation.number, generation.page_count);
        else
            printf("%5u %8" PRIu64 "  %s %" PRIu64 " at 0x%" PRIx64 "%s\n", generation.number, generation.page_count, guid,
                   generation.sequence_number, generation.file_offset,
                   generation.is_of_older_header ? " (the older header names it)" : "");
    }
    if (i == 0)
        puts("the log holds no earlier state");
    else
        puts("\n\"pages\" are the 4 KiB pages in which a state differs from the newest.  Only tables are in a log: what lies\n"
             "in the blocks may have been written over since.  --old-generation=N salvages a state.");
}

/* --- for programs --- */

static struct json_object *
generations_to_json(const struct vhdx_salvage *salvage)
{
    struct json_object *array = need_memory(json_object_new_array());
    struct vhdx_salvage_generation generation;

    for (size_t i = 0; vhdx_salvage_get_generation(salvage, i, &generation); i++) {
        struct json_object *row = need_memory(json_object_new_object());

        json_add_number(row, "number", generation.number);
        json_add_guid(row, "log-guid", &generation.log_guid);
        json_add_number(row, "sequence-number", generation.sequence_number);
        json_add_number(row, "pages", generation.page_count);
        json_add_bool(row, "older-header", generation.is_of_older_header);
        if (generation.file_offset != VHDX_NO_OFFSET)
            json_add_number(row, "offset", generation.file_offset);
        json_object_array_add(array, row);
    }
    return array;
}

static struct json_object *
notes_to_json(const struct vhdx_salvage *salvage)
{
    struct json_object *array = need_memory(json_object_new_array());
    struct vhdx_salvage_note note;

    for (size_t i = 0; vhdx_salvage_get_note(salvage, i, &note); i++) {
        struct json_object *row = need_memory(json_object_new_object());

        json_add_text(row, "part", vhdx_part_name(note.part));
        json_add_text(row, "state", state_names[note.state]);
        if (note.file_offset != VHDX_NO_OFFSET)
            json_add_number(row, "offset", note.file_offset);
        json_add_text(row, "message", note.text);
        json_object_array_add(array, row);
    }
    return array;
}

static struct json_object *
orphans_to_json(const struct vhdx_salvage *salvage)
{
    struct json_object *array = need_memory(json_object_new_array());
    uint64_t file_offset, length;

    for (size_t i = 0; vhdx_salvage_get_orphan(salvage, i, &file_offset, &length); i++) {
        struct json_object *row = need_memory(json_object_new_object());

        json_add_number(row, "offset", file_offset);
        json_add_number(row, "length", length);
        json_object_array_add(array, row);
    }
    return array;
}

static void
add_sums(struct json_object *document, const struct sums *sums)
{
    for (size_t kind = 0; kind < 3; kind++) {
        struct json_object *object = need_memory(json_object_new_object());
        struct json_object *by_reason = need_memory(json_object_new_object());

        for (size_t reason = 0; reason < VHDX_SALVAGE_REASON_COUNT; reason++)
            if (sums->bytes[kind][reason] > 0)
                json_add_number(by_reason, vhdx_salvage_reason_key((enum vhdx_salvage_reason)reason),
                                sums->bytes[kind][reason]);
        json_add_number(object, "bytes", sums->of_kind[kind]);
        json_object_object_add(object, "by-reason", by_reason);
        json_object_object_add(document, kind_names[kind], object);
    }
    json_add_number(document, "guesses-not-written", sums->guesses);
}

static void
print_json(struct salvage_job *job)
{
    static const char *const types[] = { "dynamic", "fixed", "differencing" };
    struct json_object *document = json_document();
    struct json_ranges ranges = { need_memory(json_object_new_array()), 0 };
    struct vhdx_salvage_facts facts;

    vhdx_salvage_get_facts(job->salvage, &facts);
    json_add_text(document, "filename", job->conversion.source);
    json_add_number(document, "file-size", facts.file_size);
    json_add_number(document, "virtual-size", facts.virtual_size);
    json_add_number(document, "cluster-size", facts.block_size);
    json_add_bool(document, "cluster-size-known", facts.has_block_size);
    json_add_number(document, "logical-sector-size", facts.logical_sector_size);
    json_add_text(document, "type", types[facts.type]);
    json_add_number(document, "unreadable-bytes", facts.unreadable_bytes);
    json_add_number(document, "orphan-bytes", facts.orphan_bytes);
    json_object_object_add(document, "structures", notes_to_json(job->salvage));
    if (job->lists_only) {
        json_object_object_add(document, "generations", generations_to_json(job->salvage));
    } else {
        add_sums(document, &job->sums);
        vhdx_salvage_ranges(job->salvage, add_to_json, &ranges, NULL);
        json_add_bool(document, "ranges-complete", ranges.count <= JSON_RANGES);
        json_object_object_add(document, "ranges", json_object_get(ranges.array));
        json_object_object_add(document, "orphans", orphans_to_json(job->salvage));
    }
    json_object_put(ranges.array);
    json_print(document);
}

/* --- the file of --report --- */

static int
write_report(struct salvage_job *job, struct vhdx_error *err)
{
    struct printing printing = { .file = fopen(job->report_path, job->conversion.may_replace ? "we" : "wxe") };
    int rc;

    job->conversion.culprit = job->report_path;
    if (printing.file == NULL)
        return fail_errno(err, errno, "cannot be made");
    fputs("# vhdx salvage: disk offset, bytes, kind, reason, data or zero, offset in the file\n", printing.file);
    rc = vhdx_salvage_ranges(job->salvage, print_line, &printing, err);
    if (fclose(printing.file) != 0 || rc == VHDX_E_IO) {
        rc = fail_errno(err, errno, "cannot be written");
        unlink(job->report_path);
    }
    return rc;
}

/* --- the job --- */

static int
open_salvage(struct salvage_job *job, struct vhdx_error *err)
{
    struct vhdx_storage *storage;
    struct progress progress;
    int rc;

    job->conversion.culprit = job->conversion.source;
    rc = vhdx_storage_open_path(&storage, job->conversion.source,
                                job->shared.force_share ? VHDX_STORAGE_FORCE_SHARE : 0, err);
    if (rc < 0)
        return rc;
    job->options.ignore_log = job->shared.ignore_log;
    if (!job->shared.no_parents) {
        job->options.resolve_parent = vhdx_parents_resolve;
        job->options.resolve_context = chain_policy();
    }
    progress_begin(&progress, &job->shared);
    rc = vhdx_salvage_open(&job->salvage, storage, &job->options, &progress.hook, err);
    progress_end(&progress);
    if (rc < 0)
        vhdx_storage_close(storage);
    return rc;
}

/* Would there be anything in it? */
static int
judge(struct salvage_job *job, struct vhdx_error *err)
{
    int rc = vhdx_salvage_ranges(job->salvage, add_to_sums, &job->sums, err);

    if (rc == 0 && job->sums.data == 0 && job->sums.of_kind[VHDX_SALVAGE_LOST] > 0)
        return fail(err, VHDX_E_TRUNCATED, "of the %" PRIu64 " bytes of the disk nothing was found",
                    vhdx_disk_size(vhdx_salvage_disk(job->salvage)));
    return rc;
}

static int
copy(struct salvage_job *job, struct vhdx_error *err)
{
    struct vhdx_salvage_facts facts;
    int rc;

    vhdx_salvage_get_facts(job->salvage, &facts);
    job->conversion.disk = vhdx_salvage_disk(job->salvage);
    job->conversion.keeps_disk = facts.has_block_size;
    rc = conversion_run(&job->conversion, err);
    if (rc < 0)
        return rc;
    job->sums = (struct sums){ 0 }; /* what the host could not read is known by now */
    return vhdx_salvage_ranges(job->salvage, add_to_sums, &job->sums, err);
}

static int
work(struct salvage_job *job, struct vhdx_error *err)
{
    int rc = open_salvage(job, err);

    if (rc == 0)
        rc = confine_narrow(&job->shared, err);
    if (rc < 0 || job->lists_only)
        return rc;
    rc = judge(job, err);
    if (rc == 0 && !job->is_dry_run)
        rc = copy(job, err);
    if (rc == 0 && job->report_path != NULL)
        rc = write_report(job, err);
    return rc;
}

static int
report(struct salvage_job *job, int rc, const struct vhdx_error *err)
{
    if (rc < 0) {
        if (job->shared.json)
            json_print(json_failure(job->conversion.source, err));
        else if (job->salvage != NULL && !job->shared.quiet)
            print_notes(job->salvage);
        fflush(stdout);
        message_error(job->conversion.culprit, err);
        return STATUS_FAILED;
    }
    if (job->shared.json)
        print_json(job);
    else if (!job->shared.quiet && job->lists_only)
        print_generations(job->salvage);
    else if (!job->shared.quiet)
        print_report(job);
    if (job->lists_only)
        return STATUS_GOOD;
    return job->sums.of_kind[VHDX_SALVAGE_LOST] > 0 ? STATUS_LOST
           : job->sums.of_kind[VHDX_SALVAGE_GUESSED] > 0 ? STATUS_GUESSED : STATUS_GOOD;
}

static enum vhdx_salvage_guess
read_guess(const struct option_reader *reader, const char *argument)
{
    static const char *const names[] = { "strong", "none", "all" };

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(argument, names[i]) == 0)
            return (enum vhdx_salvage_guess)i;
    usage_error(reader, "--guess takes none, strong or all, not '%s'", argument);
}

static uint32_t
read_block_size(const struct option_reader *reader, const char *argument)
{
    uint64_t size = option_size(reader, "--source-block-size", argument);

    if (size < 1024 * 1024 || size > 256 * 1024 * 1024 || (size & (size - 1)) != 0)
        usage_error(reader, "--source-block-size takes a power of two from 1M to 256M");
    return (uint32_t)size;
}

static void
take_old(struct salvage_job *job, const struct option_reader *reader, const char *argument)
{
    job->options.lists_generations = true;
    if (argument == NULL)
        job->lists_only = true;
    else
        job->options.generation = (unsigned)option_number(reader, "--old-generation", argument, 1, 256);
}

static void
take_option(struct salvage_job *job, const struct option_reader *reader, int letter, const char *argument)
{
    switch (letter) {
    case 'O':
        job->conversion.target_format = option_format(reader, argument);
        break;
    case 'm':
        job->conversion.copy.thread_count = (unsigned)option_number(reader, "--threads", argument, 1, 64);
        break;
    case 'n':
        job->is_dry_run = true;
        break;
    case OPTION_GUESS:
        job->options.guess = read_guess(reader, argument);
        break;
    case OPTION_REPORT:
        job->report_path = argument;
        break;
    case OPTION_PARENT:
        job->options.parent_path = argument;
        break;
    case OPTION_OLD:
        take_old(job, reader, argument);
        break;
    case OPTION_SOURCE_SIZE:
        job->options.virtual_size = option_size(reader, "--source-size", argument);
        break;
    case OPTION_SOURCE_BLOCK:
        job->options.block_size = read_block_size(reader, argument);
        break;
    case OPTION_SOURCE_SECTOR:
        job->options.logical_sector_size = (uint32_t)option_number(reader, "--source-sector", argument, 512, 4096);
        if (job->options.logical_sector_size != 512 && job->options.logical_sector_size != 4096)
            usage_error(reader, "--source-sector takes 512 or 4096");
        break;
    default: /* --force */
        job->conversion.may_replace = true;
        break;
    }
}

static void
take_operands(struct salvage_job *job, const struct option_reader *reader)
{
    bool has_target = !job->is_dry_run && !job->lists_only;
    char **operands;
    int count = options_operands(reader, has_target ? 2 : 1, 2, &operands);

    job->conversion.source = operands[0];
    if (strcmp(operands[0], "-") == 0 || (count > 1 && strcmp(operands[1], "-") == 0))
        usage_error(reader, "a stream cannot be salvaged, or salvaged to: name files");
    if (job->shared.create.type == VHDX_TYPE_DIFFERENCING)
        usage_error(reader, "what is salvaged stands alone: it is dynamic or fixed");
    if (!has_target)
        return;
    job->conversion.destination = operands[1];
    if (job->conversion.target_format == VHDX_FORMAT_AUTO)
        job->conversion.target_format = conversion_format_by_name(reader, operands[1]);
}

static int
run_salvage(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct salvage_job job = { .conversion = { .copy = { .detect_zeros = true } } };
    struct vhdx_error err;
    const char *argument;
    int letter, rc, status;

    options_begin(&reader, verb, argc, argv, &job.shared);
    job.conversion.shared = &job.shared;
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(&job, &reader, letter, argument);
    take_operands(&job, &reader);
    confine_source(&job.shared, job.conversion.source);
    confine_target(&job.shared, job.conversion.destination);
    confine_target(&job.shared, job.report_path);
    confine_begin(&job.shared, STATUS_FAILED);
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));

    rc = work(&job, &err);
    status = report(&job, rc, &err);
    vhdx_salvage_close(job.salvage);
    return status;
}

const struct verb salvage_verb = {
    .name = "salvage",
    .synopsis = "[OPTIONS] SRC DST",
    .summary = "Read what can be read of a damaged image",
    .details = "SRC may have lost its headers, region tables, metadata or block table, or be cut off; it is only read.  DST is\n"
               "new, with holes where nothing was found.  The report tells of every range of the disk whether it was\n"
               "recovered, guessed (and from what), or lost.\n\n"
               "Exit status: 0 everything was recovered, 3 some of it is guessed, 4 some of it is lost, 1 nothing was\n"
               "written, 2 bad usage.\n",
    .example = "  vhdx salvage --dry-run broken.vhdx\n"
               "  vhdx salvage --report=ranges.txt broken.vhdx new.vhdx\n"
               "  vhdx salvage --parent=base.vhdx broken.avhdx disk.raw\n"
               "  vhdx salvage --old-generation broken.vhdx\n",
    .shared = SHARED_JSON | SHARED_CREATE | SHARED_READ | SHARED_CHAIN | SHARED_WRITE | SHARED_PROGRESS
              | SHARED_QUIET | SHARED_SANDBOX,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_salvage,
};
