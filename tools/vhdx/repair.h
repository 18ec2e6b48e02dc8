/* The repairing side of vhdx check: the options, one repair, and what is said about it. */
#ifndef VHDX_TOOL_REPAIR_H
#define VHDX_TOOL_REPAIR_H

#include <stdbool.h>
#include <stddef.h>

#include <json-c/json.h>

#include <vhdx/repair.h>

#include "options.h"

/* "headers,log" as classes; "all" is all of them.  A usage error for a word nobody knows. */
unsigned repair_classes(const struct option_reader *reader, const char *words);

struct repair_request {
    struct vhdx_repair_path_options options;
    bool                            is_wanted; /* -r was given */
};

/* What became of one file. */
struct repair_report {
    int                        rc;
    struct vhdx_error          err;
    struct vhdx_repair_result  result;
    struct vhdx_repair_step   *steps; /* the first of them */
    size_t                     kept, capacity;
};

void repair_run(struct repair_report *report, const char *path, const struct repair_request *request,
                const struct shared_options *shared);
struct json_object *repair_document(const struct repair_report *report, bool is_dry_run);
void repair_print(const struct repair_report *report, const char *path, bool is_dry_run);
void repair_free(struct repair_report *report);

/* --apply-undo: returns the exit status. */
int repair_apply_undo(const char *undo_path, const char *path, const struct shared_options *shared);

#endif
