/* See chain_job.h. */
#include "chain_job.h"

#include <stdio.h>

#include "chain.h"
#include "json.h"
#include "message.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

void
chain_job_begin(struct chain_job *job, const struct shared_options *shared, const char *file)
{
    job->shared = shared;
    job->options.parents = chain_parents_options();
    if (shared->json) {
        job->document = json_document();
        json_add_text(job->document, "filename", file);
        job->messages = need_memory(json_object_new_array());
        json_object_object_add(job->document, "messages", job->messages);
    }
    progress_begin(&job->progress, shared);
    stop_watch();
}

void
chain_job_say(void *context, const char *line)
{
    struct chain_job *job = context;

    if (job->messages != NULL) {
        json_object_array_add(job->messages, json_text(line));
    } else if (!job->shared->quiet) {
        progress_end(&job->progress);
        text_print(stdout, line);
        putchar('\n');
        fflush(stdout); /* a plan is read before it is carried out */
    }
}

static void
print_json(const struct chain_job *job, int rc, const struct vhdx_error *err)
{
    json_add_bool(job->document, "dry-run", job->options.dry_run);
    if (rc < 0) {
        json_object_object_add(job->document, "error", json_error(err));
    } else {
        json_add_number(job->document, "bytes-copied", job->result.bytes_copied);
        json_add_number(job->document, "blocks-changed", job->result.blocks_changed);
        json_add_number(job->document, "images-relinked", job->result.images_relinked);
    }
    json_print(job->document);
}

int
chain_job_end(struct chain_job *job, int rc, const struct vhdx_error *err)
{
    progress_end(&job->progress);
    if (job->document != NULL)
        print_json(job, rc, err);
    else if (rc == 0 && !job->shared->quiet)
        puts(job->options.dry_run ? "Nothing was written: this was a dry run." : "Done.");
    if (rc == 0)
        return STATUS_GOOD;
    message_error(NULL, err); /* the library names the file of a chain that an error is about */
    if (rc == VHDX_E_CANCELLED)
        stop_obey();
    return STATUS_FAILED;
}
