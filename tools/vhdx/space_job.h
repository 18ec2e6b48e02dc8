/* Jobs that give space back in place (compact, trim), on any number of files. */
#ifndef VHDX_TOOL_SPACE_JOB_H
#define VHDX_TOOL_SPACE_JOB_H

#include <stdbool.h>

#include "verbs.h"

/* The options of these verbs; a verb's table names those it has. */
enum { SPACE_NO_FS = 256, SPACE_ZEROES, SPACE_SPARSE, SPACE_ALSO };
#define SPACE_LINE_SPARSE  { "sparse", SPACE_SPARSE, NULL, "make holes also in fixed images, and on NTFS" }
#define SPACE_LINE_ALSO    { "also", SPACE_ALSO, "DIR", "images that depend on a FILE may lie here, too" }
#define SPACE_LINE_DRY_RUN { "dry-run", 'n', NULL, "only tell what would be gained" }

/* Run such a verb; free_only: vhdx_compact_options.free_only.  Returns the worst exit status; a signal that stopped it ends the
 * command. */
int space_job_run(const struct verb *verb, int argc, char **argv, bool free_only);

#endif
