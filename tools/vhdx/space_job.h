/* Jobs that give space back in place (compact, trim), on any number of files. */
#ifndef VHDX_TOOL_SPACE_JOB_H
#define VHDX_TOOL_SPACE_JOB_H

#include <vhdx/space.h>

#include "json.h"
#include "options.h"

struct space_job {
    const struct shared_options *shared;
    struct vhdx_compact_options  options; /* the verb fills in its own; what concerns chains and file systems is filled here */
    bool                         knows_fs; /* look what the file systems call free */
    bool                         was_stopped;
    struct json_list             list;
};

/* Do it, tell what came of it, and return the worst exit status.  A signal that stopped it ends the command. */
int space_job_run(struct space_job *job, char **paths, int count);

#endif
