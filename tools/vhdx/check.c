/*
 * vhdx check: every rule of the format that one file decides, with a place, a meaning and an exit status; and, when asked
 * to, what was found is mended (repair.c) and checked again.
 *
 * Exit status: 0 nothing worse than a warning or what a repair would tidy, 1 could not finish, 2 damage, 3 lost
 * space alone, 64 bad usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/chain.h>
#include <vhdx/rules.h>

#include "chain.h"
#include "confine.h"
#include "jobs.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "repair.h"
#include "sizes.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#define STATUS_UNFINISHED 1
#define STATUS_DAMAGED    2
#define STATUS_LEAKS      3
#define STATUS_BAD_USAGE  64

/* A hostile file can break a rule in each of millions of entries: beyond this many the rest is only counted. */
#define FINDINGS_KEPT 1000

/* docs/vhdx-format.md 8.8: space that nothing refers to, between extents and after the last one. */
#define RULE_LEAK_BETWEEN 148
#define RULE_LEAK_AT_END  149

enum { OPTION_CHAIN = 256, OPTION_DRY_RUN, OPTION_UNDO, OPTION_FORCE, OPTION_APPLY_UNDO };

static const struct option_line lines[] = {
    { "chain", OPTION_CHAIN, NULL, "check the parents, too, each in a row after its child" },
    { "repair", 'r', "CLASS", "mend, then check: headers, regions, log, metadata, bat, leaks or all" },
    { "dry-run", OPTION_DRY_RUN, NULL, "with -r: only tell what would be done" },
    { "undo", OPTION_UNDO, "FILE", "with -r: save all that is overwritten in FILE, which is made new" },
    { "force", OPTION_FORCE, NULL, "with --undo: write over FILE" },
    { "apply-undo", OPTION_APPLY_UNDO, "FILE", "take the repair back that wrote FILE" },
    { 0 },
};

#define CHAIN_LIMIT 257 /* files, as opening has it: a circle ends there */

struct result {
    int                       rc;
    struct vhdx_error         err;
    struct vhdx_check_summary summary;
    struct vhdx_error        *findings; /* the first FINDINGS_KEPT */
    size_t                    kept, capacity;
    uint64_t                  count;
    bool                      has_leak;
    struct repair_report      repair;
};

struct check_job {
    const struct shared_options *shared;
    struct repair_request        repair;
    struct json_list             list;
};

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct result *result = context;

    result->count++;
    if (finding->rule == RULE_LEAK_BETWEEN || finding->rule == RULE_LEAK_AT_END)
        result->has_leak = true;
    if (result->kept == FINDINGS_KEPT)
        return;
    if (result->kept == result->capacity) {
        result->capacity = result->capacity == 0 ? 16 : 2 * result->capacity;
        result->findings = need_memory(realloc(result->findings, result->capacity * sizeof(*result->findings)));
    }
    result->findings[result->kept++] = *finding;
}

static void
work(void *context, const char *path, void *memory)
{
    const struct check_job *job = context;
    struct result *result = memory;
    struct vhdx_check_options options = { .ignore_log = job->shared->ignore_log };
    struct vhdx_storage *storage;
    struct progress progress;

    if (job->repair.is_wanted) {
        repair_run(&result->repair, path, &job->repair, job->shared);
        result->rc = result->repair.rc;
        result->err = result->repair.err;
        if (result->rc < 0)
            return;
    }
    result->rc = vhdx_storage_open_path(&storage, path, job->shared->force_share ? VHDX_STORAGE_FORCE_SHARE : 0,
                                        &result->err);
    if (result->rc < 0)
        return;
    progress_begin(&progress, job->shared);
    progress.hides_rate = true; /* the table's bytes mean nothing to anybody */
    result->rc = vhdx_check_storage(storage, &options, take_finding, result,
                                    job->shared->job_count == 1 ? &progress.hook : NULL, &result->summary,
                                    &result->err);
    progress_end(&progress);
    vhdx_storage_close(storage);
}

static uint64_t
damage_count(const struct vhdx_check_summary *summary)
{
    return summary->finding_count[VHDX_SEVERITY_RO] + summary->finding_count[VHDX_SEVERITY_BLOCK]
           + summary->finding_count[VHDX_SEVERITY_REFUSE];
}

static int
status_of(const struct result *result)
{
    if (result->rc < 0)
        return STATUS_UNFINISHED;
    if (damage_count(&result->summary) > 0)
        return STATUS_DAMAGED;
    return result->has_leak ? STATUS_LEAKS : STATUS_GOOD;
}

/* What a severity means, for the counts at the end. */
static const char *
severity_text(enum vhdx_severity severity)
{
    switch (severity) {
    case VHDX_SEVERITY_WARN:
        return "worth knowing; nothing is damaged";
    case VHDX_SEVERITY_REPAIR:
        return "harmless to readers; the next program that writes the image mends most of these";
    case VHDX_SEVERITY_RO:
        return "the disk can be read; the image is not written until this is repaired";
    case VHDX_SEVERITY_BLOCK:
        return "the block this is about cannot be read; the image is not written until this is repaired";
    case VHDX_SEVERITY_REFUSE:
        return "the image cannot be opened";
    case VHDX_SEVERITY_NONE:
        break;
    }
    return "";
}

/* Structure, meaning and remedy are the rule's: see include/vhdx/rules.h. */
static struct json_object *
make_finding(const struct vhdx_error *finding)
{
    const struct vhdx_rule *rule = vhdx_rule_get(finding->rule);
    struct json_object *object = json_error(finding);

    if (rule == NULL)
        return object;
    json_add_text(object, "structure", vhdx_part_name(rule->part));
    json_add_text(object, "title", rule->title);
    json_add_text(object, "meaning", rule->meaning);
    json_add_text(object, "remedy", vhdx_remedy_name(vhdx_finding_remedy(finding)));
    return object;
}

static struct json_object *
make_summary(const struct vhdx_check_summary *summary)
{
    static const enum vhdx_severity severities[] = { VHDX_SEVERITY_WARN, VHDX_SEVERITY_REPAIR, VHDX_SEVERITY_RO,
                                                     VHDX_SEVERITY_BLOCK, VHDX_SEVERITY_REFUSE };
    struct json_object *object = need_memory(json_object_new_object());

    for (size_t i = 0; i < sizeof(severities) / sizeof(severities[0]); i++)
        json_add_number(object, vhdx_severity_name(severities[i]), summary->finding_count[severities[i]]);
    json_add_number(object, "leaked-bytes", summary->leaked_bytes);
    json_add_number(object, "file-size", summary->file_size);
    json_add_number(object, "virtual-size", summary->virtual_size);
    json_add_bool(object, "dirty-flag", summary->is_dirty);
    json_add_bool(object, "complete", summary->is_complete);
    return object;
}

static void
add_repair(struct json_object *document, const struct check_job *job, const struct result *result)
{
    if (job->repair.is_wanted)
        json_object_object_add(document, "repair", repair_document(&result->repair, job->repair.options.dry_run));
}

static struct json_object *
make_document(const struct check_job *job, const char *path, const struct result *result)
{
    struct json_object *document, *findings;

    if (result->rc < 0) {
        document = json_failure(path, &result->err);
        json_add_number(document, "check-errors", 1);
        add_repair(document, job, result);
        return document;
    }
    document = json_document();
    json_add_text(document, "filename", path);
    json_add_text(document, "format", "vhdx");
    json_add_number(document, "check-errors", 0);
    json_add_number(document, "corruptions", damage_count(&result->summary));
    json_add_number(document, "total-clusters", result->summary.total_blocks);
    json_add_number(document, "allocated-clusters", result->summary.allocated_blocks);
    json_object_object_add(document, "summary", make_summary(&result->summary));

    findings = need_memory(json_object_new_array());
    for (size_t i = 0; i < result->kept; i++)
        json_object_array_add(findings, make_finding(&result->findings[i]));
    json_object_object_add(document, "findings", findings);
    json_add_number(document, "findings-omitted", result->count - result->kept);
    add_repair(document, job, result);
    return document;
}

/* What it means is said once for all findings of a rule that follow each other. */
static void
print_finding(const struct vhdx_error *finding, int next_rule)
{
    const struct vhdx_rule *rule = vhdx_rule_get(finding->rule);
    char place[MESSAGE_PLACE_SIZE];

    printf("%s: ", vhdx_severity_name(finding->severity));
    text_print(stdout, finding->message);
    if (message_place(place, finding)[0] != '\0')
        printf(" (%s)", place);
    putchar('\n');
    if (rule != NULL && finding->rule != next_rule)
        printf("  %s\n", rule->meaning);
}

static void
print_counts(const struct result *result)
{
    const struct vhdx_check_summary *summary = &result->summary;
    char text[SIZE_TEXT_SIZE];

    for (int severity = VHDX_SEVERITY_REFUSE; severity >= VHDX_SEVERITY_WARN; severity--) {
        if (summary->finding_count[severity] > 0)
            printf("%" PRIu64 " x %s: %s\n", summary->finding_count[severity],
                   vhdx_severity_name((enum vhdx_severity)severity), severity_text((enum vhdx_severity)severity));
    }
    if (result->kept < result->count)
        printf("%" PRIu64 " more findings are counted here but not listed above\n", result->count - result->kept);
    if (result->has_leak)
        printf("%s of the file belong to nothing\n", size_long(text, summary->leaked_bytes));
    if (!summary->is_complete)
        puts("Some rules could not be looked at, since what they rest on is damaged.");
    else
        printf("%" PRIu64 " of %" PRIu64 " blocks allocated\n", summary->allocated_blocks, summary->total_blocks);
}

/* --- the command that helps --- */

#define CLASSES_SIZE 64

/* The classes that mend findings of this severity or worse, with commas; "" when none does. */
static const char *
classes_for(char out[CLASSES_SIZE], const struct result *result, enum vhdx_severity least)
{
    unsigned classes = 0;

    for (size_t i = 0; i < result->kept; i++) {
        if (result->findings[i].severity >= least)
            classes |= VHDX_REPAIR_CLASS(vhdx_finding_remedy(&result->findings[i]));
    }
    out[0] = '\0';
    for (int remedy = VHDX_REMEDY_HEADERS; remedy <= VHDX_REMEDY_LEAKS; remedy++) {
        if ((classes & VHDX_REPAIR_CLASS(remedy)) == 0)
            continue;
        if (out[0] != '\0')
            strcat(out, ",");
        strcat(out, vhdx_remedy_name((enum vhdx_remedy)remedy));
    }
    return out;
}

static bool
wants(const struct result *result, enum vhdx_remedy remedy, enum vhdx_severity least)
{
    for (size_t i = 0; i < result->kept; i++) {
        if (result->findings[i].severity >= least && vhdx_finding_remedy(&result->findings[i]) == remedy)
            return true;
    }
    return false;
}

static void
print_help_line(const char *before, const char *path, const char *after)
{
    printf("Help: %s", before);
    text_print(stdout, path);
    puts(after);
}

static void
print_repair_help(const char *path, const char *classes, const char *what)
{
    char before[32 + CLASSES_SIZE];

    snprintf(before, sizeof(before), "vhdx check -r %s ", classes);
    print_help_line(before, path, what);
}

/* Other ways than a repair, of damage. */
static const struct {
    enum vhdx_remedy remedy;
    const char      *before, *after;
} other_ways[] = {
    { VHDX_REMEDY_LOG, "vhdx convert --ignore-log ", " NEW.vhdx  copies the disk as it lies, without the log's changes" },
    { VHDX_REMEDY_SALVAGE, "vhdx salvage ", " NEW.vhdx  gets out what can be read" },
    { VHDX_REMEDY_REBASE, "vhdx rebase --relink PARENT ", "  tells the image where its parent is" },
    { VHDX_REMEDY_BAT, "vhdx serve -r ", "  lets the sound blocks be read as they are" },
    { VHDX_REMEDY_CONVERT, "vhdx convert ", " NEW.vhdx  copies the disk to a sound image" },
};

static void
print_help(const char *path, const struct result *result)
{
    bool is_damaged = damage_count(&result->summary) > 0;
    char classes[CLASSES_SIZE];

    if (classes_for(classes, result, is_damaged ? VHDX_SEVERITY_RO : VHDX_SEVERITY_WARN)[0] != '\0')
        print_repair_help(path, classes, is_damaged ? "  mends it by rule; --dry-run shows how, --undo FILE keeps a way back"
                                                    : "  tidies it");
    for (size_t i = 0; i < sizeof(other_ways) / sizeof(other_ways[0]) && is_damaged; i++) {
        if (wants(result, other_ways[i].remedy, VHDX_SEVERITY_RO))
            print_help_line(other_ways[i].before, path, other_ways[i].after);
    }
    if (!is_damaged && result->summary.is_dirty)
        print_help_line("vhdx replay ", path, "  writes the log's changes to their place");
}

static void
print_human(const char *path, const struct result *result)
{
    text_print(stdout, path);
    puts(":");
    for (size_t i = 0; i < result->kept; i++)
        print_finding(&result->findings[i], i + 1 < result->kept ? result->findings[i + 1].rule : 0);
    if (status_of(result) == STATUS_GOOD)
        puts("No errors were found on the image.");
    print_counts(result);
    print_help(path, result);
}

static int
report(void *context, const char *path, void *memory)
{
    struct check_job *job = context;
    struct result *result = memory;
    int status = status_of(result);

    if (job->repair.is_wanted && !job->shared->json && !(job->shared->quiet && status == STATUS_GOOD))
        repair_print(&result->repair, path, job->repair.options.dry_run);
    if (job->shared->json)
        json_list_add(&job->list, make_document(job, path, result));
    else if (result->rc == 0 && !(job->shared->quiet && status == STATUS_GOOD))
        print_human(path, result);
    if (result->rc < 0)
        message_error(path, &result->err);
    free(result->findings);
    repair_free(&result->repair);
    return status;
}

/* Damage is worse than a file that could not be checked, and that is worse than lost space. */
static int
worse(int a, int b)
{
    static const int ranks[] = {
        [STATUS_GOOD] = 0,
        [STATUS_LEAKS] = 1,
        [STATUS_UNFINISHED] = 2,
        [STATUS_DAMAGED] = 3,
    };

    return ranks[a] >= ranks[b] ? a : b;
}

/* A finding about an image and its parent counts as one about the image. */
static void
take_link_finding(void *context, const struct vhdx_error *finding)
{
    struct result *result = context;

    result->summary.finding_count[finding->severity]++;
    take_finding(result, finding);
}

/* V125: was the parent checked before?  Then the chain runs in a circle. */
static bool
was_seen(char *const *seen, size_t count, const char *path, struct result *result)
{
    struct vhdx_error finding = { .code = VHDX_E_BAD_PARENT, .part = VHDX_PART_CHAIN, .severity = VHDX_SEVERITY_REFUSE,
                                  .rule = 125, .file_offset = VHDX_NO_OFFSET };
    size_t shown = strlen(path) > 200 ? strlen(path) - 200 : 0;

    for (size_t i = 0; i < count; i++) {
        if (strcmp(seen[i], path) != 0)
            continue;
        snprintf(finding.message, sizeof(finding.message), "the parent is %s, which is in the chain already, expected an"
                 " end of it", path + shown);
        take_link_finding(result, &finding);
        return true;
    }
    return false;
}

/* One image of a chain and its link to the next; the parent's path is in `place` when there is one to go on with. */
static int
check_link(struct check_job *job, const char *path, char *const *seen, size_t count, struct vhdx_parent_place *place)
{
    struct result result = { .rc = 0 };
    struct vhdx_error err = { .code = VHDX_OK };
    int status, rc;

    work(job, path, &result);
    place->path[0] = '\0';
    if (result.rc < 0)
        return report(job, path, &result);
    rc = vhdx_check_parent(path, options_for_reading(job->shared).flags, chain_policy(), place, take_link_finding, &result,
                           &err);
    if (rc == VHDX_OK && place->path[0] != '\0' && was_seen(seen, count, place->path, &result))
        place->path[0] = '\0';
    status = report(job, path, &result);
    if (rc < 0 && place->is_differencing) {
        message_error(path, &err);
        if (err.code != VHDX_E_BAD_PARENT)
            status = worse(status, STATUS_UNFINISHED);
    }
    return status;
}

/* --chain: the file, then each parent as far as they are found.  One that is missing leaves the check unfinished. */
static int
check_chain(struct check_job *job, const char *path)
{
    struct vhdx_parent_place *place = need_memory(calloc(1, sizeof(*place)));
    char *seen[CHAIN_LIMIT], *first = realpath(path, NULL);
    size_t count = 0;
    int status = STATUS_GOOD;

    seen[count++] = first != NULL ? first : need_memory(strdup(path));
    for (;;) {
        status = worse(status, check_link(job, count == 1 ? path : seen[count - 1], seen, count, place));
        if (place->path[0] == '\0' || count == CHAIN_LIMIT)
            break;
        seen[count++] = need_memory(strdup(place->path));
    }
    while (count > 0)
        free(seen[--count]);
    free(place);
    return status;
}

/* What goes with what. */
static void
judge_options(const struct option_reader *reader, const struct check_job *job, bool is_chain, const char *undo_to_apply)
{
    const struct vhdx_repair_path_options *options = &job->repair.options;
    bool is_repair = job->repair.is_wanted;

    if (undo_to_apply != NULL && (is_repair || is_chain))
        usage_error(reader, "--apply-undo does nothing else");
    if (!is_repair && (options->dry_run || options->undo_path != NULL || options->overwrite_undo))
        usage_error(reader, "--dry-run, --undo and --force go with -r");
    if (options->overwrite_undo && options->undo_path == NULL)
        usage_error(reader, "--force goes with --undo");
    if (options->dry_run && options->undo_path != NULL)
        usage_error(reader, "a dry run overwrites nothing: --undo has nothing to save");
    if (is_repair && is_chain)
        usage_error(reader, "-r mends the files that are named; --chain only checks");
    if ((is_repair || undo_to_apply != NULL) && (job->shared->force_share || job->shared->ignore_log))
        usage_error(reader, "-U and --ignore-log are for reading, and a repair writes");
}

static int
check_files(struct check_job *job, char **paths, int count, bool is_chain)
{
    struct job_kind kind = { sizeof(struct result), work, report, job };
    int status;

    if (job->shared->json)
        json_list_begin(&job->list, count > 1 || is_chain, false);
    status = is_chain ? check_chain(job, paths[0]) : jobs_run(&kind, paths, count, job->shared->job_count, worse);
    if (job->shared->json)
        json_list_end(&job->list);
    return status;
}

static void
confine(const struct check_job *job, char **paths, int count, const char *undo_to_apply)
{
    const struct vhdx_repair_path_options *options = &job->repair.options;
    bool writes = undo_to_apply != NULL || (job->repair.is_wanted && !options->dry_run);

    for (int i = 0; i < count; i++) {
        if (writes)
            confine_in_place(job->shared, paths[i]);
        else
            confine_source(job->shared, paths[i]);
    }
    confine_source(job->shared, undo_to_apply);
    confine_target(job->shared, options->undo_path);
    confine_begin(job->shared, STATUS_UNFINISHED);
}

static int
run_check(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct check_job job = { .shared = &shared };
    struct vhdx_repair_path_options *repair = &job.repair.options;
    const char *argument, *undo_to_apply = NULL;
    char **paths;
    bool is_chain = false;
    int letter, count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_CHAIN)
            is_chain = true;
        else if (letter == 'r')
            repair->classes |= repair_classes(&reader, argument);
        else if (letter == OPTION_DRY_RUN)
            repair->dry_run = true;
        else if (letter == OPTION_UNDO)
            repair->undo_path = argument;
        else if (letter == OPTION_FORCE)
            repair->overwrite_undo = true;
        else
            undo_to_apply = argument;
    }
    job.repair.is_wanted = repair->classes != 0;
    repair->orphan_children = shared.orphan_children;
    judge_options(&reader, &job, is_chain, undo_to_apply);
    count = options_operands(&reader, 1, is_chain || undo_to_apply != NULL || repair->undo_path != NULL ? 1 : argc, &paths);
    confine(&job, paths, count, undo_to_apply);
    if (undo_to_apply != NULL)
        return repair_apply_undo(undo_to_apply, paths[0], &shared);
    if (job.repair.is_wanted)
        stop_watch();
    status = check_files(&job, paths, count, is_chain);
    if (job.repair.is_wanted && stop_is_asked())
        stop_obey();
    return status;
}

const struct verb check_verb = {
    .name = "check",
    .synopsis = "[OPTIONS] FILE...",
    .summary = "Check images against the rules of the format, and repair them",
    .details = "Without -r nothing is written.  Each finding names its rule, its place and what it means.  With -r\n"
               "what is broken is mended by rule, never by guess, what is lost is told, and the check tells the\n"
               "state after.  A repair that was cut off is finished by calling again.\n"
               "Exit status: 0 good (warnings at most), 2 damaged, 3 lost space alone, 1 could not finish,\n"
               "64 bad usage.  With several files, the worst: 2, then 1, then 3.\n",
    .example = "  vhdx check disk.vhdx\n"
               "  vhdx check --json --jobs 4 *.vhdx | jq '.[] | select(.corruptions > 0) | .filename'\n"
               "  vhdx check -r all --dry-run disk.vhdx\n"
               "  vhdx check -r log,bat --undo disk.undo disk.vhdx\n"
               "  vhdx check --apply-undo disk.undo disk.vhdx\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_READ | SHARED_CHAIN | SHARED_PROGRESS | SHARED_QUIET | SHARED_JOBS |
              SHARED_WRITE | SHARED_SANDBOX,
    .usage_status = STATUS_BAD_USAGE,
    .run = run_check,
};
