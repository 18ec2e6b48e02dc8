/* vhdx info: everything about an image that its own file tells, and where its parent is; with --chain, about the
 * parents, too. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/chain.h>

#include "chain.h"
#include "confine.h"
#include "files.h"
#include "info_document.h"
#include "jobs.h"
#include "json.h"
#include "message.h"
#include "sizes.h"
#include "remote.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_IS = 256, OPTION_CHAIN };

#define CHAIN_LIMIT 257 /* files, as opening has it: a circle ends there */

static const struct option_line lines[] = {
    { "is", OPTION_IS, "WHAT", "answer by exit status (0 yes, 2 no, 1 error): differencing, fixed, dynamic,"
      " dirty" },
    { "chain", OPTION_CHAIN, NULL, "tell about the parents, too, each after its child" },
    { "backing-chain", OPTION_CHAIN, NULL, "the same, as qemu-img spells it" },
    { 0 },
};

struct result {
    int               rc;
    struct vhdx_error err;
    struct info_facts facts;
};

struct info_job {
    const struct shared_options *shared;
    struct json_list             list;
    bool                         is_first;
};

static int
read_info(struct vhdx_info *out, const char *path, const struct shared_options *shared, struct vhdx_error *err)
{
    struct vhdx_open_options options = options_for_reading(shared);
    struct vhdx_disk *disk;
    int rc;

    options.flags |= VHDX_OPEN_NO_PARENTS;
    rc = file_open_image(&disk, path, &options, err);
    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, out, err);
    vhdx_disk_close(disk, NULL);
    return rc;
}

static void
work(void *context, const char *path, void *memory)
{
    struct info_job *job = context;
    struct result *result = memory;

    result->rc = read_info(&result->facts.info, path, job->shared, &result->err);
    result->facts.allocated_size = file_allocated_size(path);
    result->facts.is_served = remote_is(path);
    if (result->rc == 0 && result->facts.info.type == VHDX_TYPE_DIFFERENCING && !job->shared->no_parents && !remote_is(path)
        && vhdx_find_parent(path, options_for_reading(job->shared).flags, chain_policy(), &result->facts.parent,
                            &result->facts.parent_error) == 0)
        result->facts.parent_error.code = 0;
}

static struct json_object *
make_document(const char *path, const struct result *result)
{
    return result->rc < 0 ? json_failure(path, &result->err) : info_document(path, &result->facts);
}

static void
print_text(const char *label, const char *text)
{
    if (text[0] == '\0')
        return;
    printf("%s: ", label);
    text_print(stdout, text);
    putchar('\n');
}

static void
print_guid(const char *label, const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    printf("%s: %s\n", label, text);
}

static void
print_log(const struct vhdx_info *info)
{
    char text[SIZE_TEXT_SIZE];
    const char *state = "empty: the image was closed cleanly";

    if (info->log_was_ignored && info->is_dirty)
        state = "holds changes, ignored here as asked";
    else if (info->is_dirty)
        state = "holds changes: read as if replayed; 'vhdx replay' writes them";
    printf("log: %s at 0x%" PRIx64 ", %s\n", size_short(text, info->log_length), info->log_offset, state);
    if (info->is_dirty)
        print_guid("log guid", &info->log_guid);
    if (info->log_entry_count > 0)
        printf("log entries: %" PRIu64 ", sequence numbers %" PRIu64 " to %" PRIu64 "\n", info->log_entry_count,
               info->log_first_sequence_number, info->log_last_sequence_number);
}

static void
print_findings(const char *path, const struct vhdx_info *info)
{
    char place[MESSAGE_PLACE_SIZE];

    if (info->finding_count == 0)
        return;
    printf("findings: %" PRIu64 ", the worst (%s): ", info->finding_count,
           vhdx_severity_name(info->worst_finding.severity));
    text_print(stdout, info->worst_finding.message);
    if (message_place(place, &info->worst_finding)[0] != '\0')
        printf(" (%s)", place);
    printf("\n  'vhdx check ");
    text_print(stdout, path);
    printf("' lists them\n");
}

static void
print_vhdx(const char *path, const struct vhdx_info *info)
{
    char text[SIZE_TEXT_SIZE];

    printf("cluster_size: %" PRIu32 "\n", info->block_size);
    printf("type: %s\n", info_type_name(info->type));
    printf("blocks: %" PRIu64 " of %s\n", info->payload_block_count, size_short(text, info->block_size));
    printf("sectors: %" PRIu32 " bytes logical, %" PRIu32 " physical\n", info->logical_sector_size,
           info->physical_sector_size);
    print_guid("disk id", &info->disk_id);
    print_guid("file write guid", &info->file_write_guid);
    print_guid("data write guid", &info->data_write_guid);
    printf("header sequence number: %" PRIu64 "\n", info->header_sequence_number);
    print_log(info);
    printf("block table: %s at 0x%" PRIx64 "\n", size_short(text, info->bat_length), info->bat_offset);
    printf("metadata: %s at 0x%" PRIx64 "\n", size_short(text, info->metadata_length), info->metadata_offset);
    print_text("creator", info->creator);
    if (info->type == VHDX_TYPE_DIFFERENCING) {
        print_guid("parent linkage", &info->parent_linkage);
        if (!vhdx_guid_is_zero(&info->parent_linkage2))
            print_guid("parent linkage 2", &info->parent_linkage2);
        print_text("parent, relative path", info->parent_relative_path);
        print_text("parent, volume path", info->parent_volume_path);
        print_text("parent, absolute path", info->parent_absolute_path);
    }
    print_findings(path, info);
}

static void
print_vhd(const struct vhdx_info *info)
{
    char text[SIZE_TEXT_SIZE];

    printf("type: %s\n", info_type_name(info->type));
    if (info->type == VHDX_TYPE_DYNAMIC) {
        printf("cluster_size: %" PRIu32 "\n", info->block_size);
        printf("block table: %s at 0x%" PRIx64 "\n", size_short(text, info->bat_length), info->bat_offset);
    }
    print_guid("disk id", &info->disk_id);
    print_text("creator", info->creator);
}

static void
print_human(const char *path, const struct result *result)
{
    const struct vhdx_info *info = &result->facts.info;
    char text[SIZE_TEXT_SIZE];

    print_text("image", path);
    printf("file format: %s\n", format_name(info->format));
    printf("virtual size: %s\n", size_long(text, info->virtual_size));
    if (!result->facts.is_served) /* what a server's host has set aside nobody tells */
        printf("disk size: %s\n", size_short(text, result->facts.allocated_size));
    printf("file length: %s\n", size_long(text, info->file_size));
    if (info->format == VHDX_FORMAT_VHDX)
        print_vhdx(path, info);
    else if (info->format == VHDX_FORMAT_VHD)
        print_vhd(info);
    print_text("parent, found at", result->facts.parent.path);
    if (result->facts.parent_error.code != 0)
        print_text("parent, not found", result->facts.parent_error.message);
}

static int
report(void *context, const char *path, void *memory)
{
    struct info_job *job = context;
    const struct result *result = memory;

    if (job->shared->json)
        json_list_add(&job->list, make_document(path, result));
    if (result->rc < 0) {
        message_error(path, &result->err);
        return STATUS_FAILED;
    }
    if (!job->shared->json) {
        if (!job->is_first)
            putchar('\n');
        print_human(path, result);
        job->is_first = false;
    }
    return STATUS_GOOD;
}

/* --chain: a row for the image, then for each parent as far as they are found. */
static int
tell_chain(struct info_job *job, const char *path)
{
    struct result *result = need_memory(calloc(1, sizeof(*result)));
    char name[sizeof(result->facts.parent.path)];
    int status = STATUS_GOOD;

    for (unsigned depth = 0; depth < CHAIN_LIMIT; depth++) {
        *result = (struct result){ .rc = 0 };
        work(job, path, result);
        status |= report(job, path, result);
        if (result->rc == 0 && result->facts.parent_error.code != 0) {
            message_error(path, &result->facts.parent_error);
            status = STATUS_FAILED;
        }
        if (result->rc < 0 || result->facts.parent.path[0] == '\0')
            break;
        strcpy(name, result->facts.parent.path);
        path = name;
    }
    free(result);
    return status;
}

/* --is WHAT: nothing is printed but errors. */
static int
answer(const char *what, const char *path, const struct shared_options *shared)
{
    struct vhdx_info info;
    struct vhdx_error err;
    bool is_so;

    if (read_info(&info, path, shared, &err) < 0) {
        message_error(path, &err);
        return STATUS_FAILED;
    }
    if (strcmp(what, "dirty") == 0)
        is_so = info.is_dirty;
    else
        is_so = info.format != VHDX_FORMAT_RAW && strcmp(what, info_type_name(info.type)) == 0;
    return is_so ? STATUS_GOOD : 2;
}

/* A wrong --is must not look like the answer "no". */
static bool
is_known_question(const char *what)
{
    return strcmp(what, "differencing") == 0 || strcmp(what, "fixed") == 0 || strcmp(what, "dynamic") == 0
           || strcmp(what, "dirty") == 0;
}

static int
run_info(const struct verb *verb, int argc, char **argv)
{
    struct verb asking = *verb;
    struct option_reader reader;
    struct shared_options shared;
    struct info_job job = { .shared = &shared, .is_first = true };
    struct job_kind kind = { sizeof(struct result), work, report, &job };
    const char *argument, *what = NULL;
    char **paths;
    bool is_chain = false;
    int letter, count, status;

    options_begin(&reader, &asking, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_CHAIN) {
            is_chain = true;
            continue;
        }
        what = argument;
        asking.usage_status = STATUS_FAILED; /* 2 would read as "no" */
        if (!is_known_question(what))
            usage_error(&reader, "--is takes differencing, fixed, dynamic or dirty, not '%s'", what);
    }
    count = options_operands(&reader, 1, what == NULL && !is_chain ? argc : 1, &paths);
    if (shared.format.qemu != NULL)
        usage_error(&reader, "'qemu-img info' tells about %s", shared.format.qemu);
    for (int i = 0; i < count; i++)
        confine_source(&shared, paths[i]);
    confine_begin(&shared, STATUS_FAILED);
    if (what != NULL)
        return answer(what, paths[0], &shared);

    if (shared.json)
        json_list_begin(&job.list, count > 1 || is_chain, false);
    status = is_chain ? tell_chain(&job, paths[0]) : jobs_run(&kind, paths, count, shared.job_count, NULL);
    if (shared.json)
        json_list_end(&job.list);
    return status;
}

const struct verb info_verb = {
    .name = "info",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Tell everything about images",
    .example = "  vhdx info disk.vhdx\n"
               "  vhdx info --json --jobs 4 *.vhdx | jq '.[] | {filename, type}'\n"
               "  vhdx info --is dirty disk.vhdx && vhdx replay disk.vhdx\n",
    .shared = SHARED_JSON | SHARED_FORMAT | SHARED_REMOTE | SHARED_READ | SHARED_CHAIN | SHARED_JOBS | SHARED_SANDBOX,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_info,
};
