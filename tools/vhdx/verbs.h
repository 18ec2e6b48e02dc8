/* The verbs of the command, one file each. */
#ifndef VHDX_TOOL_VERBS_H
#define VHDX_TOOL_VERBS_H

#include "options.h"

#define STATUS_GOOD   0
#define STATUS_FAILED 1
#define STATUS_USAGE  2

extern const struct verb bench_verb, check_verb, compact_verb, compare_verb, convert_verb, create_verb, diff_verb, dump_verb,
    flatten_verb, info_verb, map_verb, measure_verb, merge_verb, meta_verb, mount_verb, rebase_verb, replay_verb, resize_verb, salvage_verb,
    serve_verb, tree_verb, trim_verb, unmount_verb;

#endif
