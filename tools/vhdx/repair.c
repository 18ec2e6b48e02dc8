/* See repair.h. */
#include "repair.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "json.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

#define STEPS_KEPT 1000 /* a damaged table can need millions: the rest is counted */

static const struct message_advice advices[] = {
    { VHDX_E_HAS_CHILDREN, "Nothing was changed.  What is lost here reads as zeros after the repair, and the children show"
      " what their parent shows.", "--orphan-children gives them up" },
    { VHDX_E_EXISTS, "Nothing was changed: the file may be the only way back from an earlier repair.",
      "name another file, or --force writes over it" },
    { VHDX_E_READ_ONLY, "Nothing was changed.", NULL },
    { VHDX_E_CANCELLED, "What was mended so far is consistent.", "the same command again goes on" },
};

unsigned
repair_classes(const struct option_reader *reader, const char *words)
{
    static const enum vhdx_remedy classes[] = { VHDX_REMEDY_HEADERS, VHDX_REMEDY_REGIONS, VHDX_REMEDY_LOG,
                                                VHDX_REMEDY_METADATA, VHDX_REMEDY_BAT, VHDX_REMEDY_LEAKS };
    unsigned found = 0;

    for (;;) {
        size_t length = strcspn(words, ",");
        unsigned one = length == 3 && strncmp(words, "all", 3) == 0 ? VHDX_REPAIR_ALL : 0;

        for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++) {
            const char *name = vhdx_remedy_name(classes[i]);

            if (strlen(name) == length && strncmp(name, words, length) == 0)
                one = VHDX_REPAIR_CLASS(classes[i]);
        }
        if (one == 0)
            usage_error(reader, "-r takes headers, regions, log, metadata, bat, leaks or all, several with commas, not '%s'",
                        words);
        found |= one;
        if (words[length] == '\0')
            return found;
        words += length + 1;
    }
}

static void
keep_step(void *context, const struct vhdx_repair_step *step)
{
    struct repair_report *report = context;

    if (report->kept == STEPS_KEPT)
        return;
    if (report->kept == report->capacity) {
        report->capacity = report->capacity == 0 ? 16 : 2 * report->capacity;
        report->steps = need_memory(realloc(report->steps, report->capacity * sizeof(*report->steps)));
    }
    report->steps[report->kept++] = *step;
}

void
repair_run(struct repair_report *report, const char *path, const struct repair_request *request,
           const struct shared_options *shared)
{
    struct progress progress;

    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    progress_begin(&progress, shared);
    report->rc = vhdx_repair_path(path, &request->options, keep_step, report,
                                  shared->job_count == 1 ? &progress.hook : NULL, &report->result, &report->err);
    progress_end(&progress);
}

/* --- saying it --- */

static struct json_object *
step_document(const struct vhdx_repair_step *step)
{
    struct json_object *object = need_memory(json_object_new_object());
    char rule[16];

    snprintf(rule, sizeof(rule), "V%d", step->rule);
    json_add_text(object, "class", vhdx_remedy_name(step->remedy));
    json_add_text(object, "rule", rule);
    json_add_text(object, "message", step->message);
    json_add_bool(object, "left", step->is_left);
    json_add_bool(object, "loss", step->is_loss);
    if (step->file_offset != VHDX_NO_OFFSET)
        json_add_number(object, "offset", step->file_offset);
    if (step->guest_length > 0) {
        json_add_number(object, "disk-offset", step->guest_offset);
        json_add_number(object, "disk-length", step->guest_length);
    }
    return object;
}

struct json_object *
repair_document(const struct repair_report *report, bool is_dry_run)
{
    struct json_object *object = need_memory(json_object_new_object()), *steps = need_memory(json_object_new_array());

    json_add_bool(object, "dry-run", is_dry_run);
    if (report->rc < 0)
        json_object_object_add(object, "error", json_error(&report->err));
    json_add_number(object, "done", report->result.steps);
    json_add_number(object, "left", report->result.left);
    json_add_number(object, "lost-bytes", report->result.lost_bytes);
    json_add_bool(object, "changes-contents", report->result.changes_contents);
    for (size_t i = 0; i < report->kept; i++)
        json_object_array_add(steps, step_document(&report->steps[i]));
    json_object_object_add(object, "steps", steps);
    json_add_number(object, "steps-omitted", report->result.steps + report->result.left - report->kept);
    return object;
}

static void
print_step(const struct vhdx_repair_step *step)
{
    printf("  %s %s: ", step->is_left ? "left" : step->is_loss ? "lost" : "mend", vhdx_remedy_name(step->remedy));
    text_print(stdout, step->message);
    printf(" (V%d", step->rule);
    if (step->file_offset != VHDX_NO_OFFSET)
        printf(", offset 0x%" PRIx64, step->file_offset);
    if (step->guest_length > 0)
        printf(", bytes %" PRIu64 " to %" PRIu64 " of the disk", step->guest_offset,
               step->guest_offset + step->guest_length - 1);
    puts(")");
}

void
repair_print(const struct repair_report *report, const char *path, bool is_dry_run)
{
    const struct vhdx_repair_result *result = &report->result;
    char text[SIZE_TEXT_SIZE];

    text_print(stdout, path);
    if (result->steps + result->left == 0) {
        puts(": nothing to repair");
        return;
    }
    puts(is_dry_run ? ": this would be done (nothing was written):" : ": repaired:");
    for (size_t i = 0; i < report->kept; i++)
        print_step(&report->steps[i]);
    if (result->steps + result->left > report->kept)
        printf("  and %" PRIu64 " more\n", result->steps + result->left - report->kept);
    if (result->lost_bytes > 0)
        printf("  %s of the disk %s lost\n", size_long(text, result->lost_bytes), is_dry_run ? "would be" : "are");
    if (result->changes_contents)
        puts("  The disk is another one for images that depend on it: they no longer open with this parent.");
}

void
repair_free(struct repair_report *report)
{
    free(report->steps);
}

/* --- back --- */

int
repair_apply_undo(const char *undo_path, const char *path, const struct shared_options *shared)
{
    struct vhdx_error err;
    int rc = vhdx_repair_undo_path(undo_path, path, &err);

    if (rc < 0)
        message_error(path, &err);
    if (shared->json) {
        struct json_object *document = rc < 0 ? json_failure(path, &err) : json_document();

        if (rc == 0)
            json_add_text(document, "filename", path);
        json_add_bool(document, "undone", rc == 0);
        json_print(document);
    } else if (rc == 0 && !shared->quiet) {
        text_print(stdout, path);
        puts(": every byte is what it was before the repair");
    }
    return rc < 0 ? STATUS_FAILED : STATUS_GOOD;
}
