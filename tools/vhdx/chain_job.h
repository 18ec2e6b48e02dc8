/* Jobs that change a chain in place (merge, rebase): what is told about them, and how they are stopped. */
#ifndef VHDX_TOOL_CHAIN_JOB_H
#define VHDX_TOOL_CHAIN_JOB_H

#include <json-c/json.h>

#include <vhdx/chain.h>

#include "options.h"
#include "progress.h"

struct chain_job {
    const struct shared_options *shared;
    struct vhdx_chain_options    options; /* for the library; the verb fills in its own */
    struct progress              progress;
    struct vhdx_chain_result     result;
    struct json_object          *document; /* with --json: the verb may add keys; else NULL */
    struct json_object          *messages; /* part of it */
};

/* Before the call of the library: options with the parents of the command line, progress, and signals that ask to
 * stop. */
void chain_job_begin(struct chain_job *job, const struct shared_options *shared, const char *file);

/* A vhdx_say, for lines about the plan; the context is the job. */
void chain_job_say(void *context, const char *line);

/* After it: tell what came of it, and return the exit status.  A job that a signal stopped ends the command by the
 * signal. */
int chain_job_end(struct chain_job *job, int rc, const struct vhdx_error *err);

#endif
