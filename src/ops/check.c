/*
 * The check, steering: the stages in the order of docs/vhdx-format.md 8.10.
 *
 * Each stage leaves behind what it found out; a later one that depends on something unknown says so by is_complete
 * and looks at the rest.
 */
#include "ops/check.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "format/identifier.h"
#include "storage/storage.h"

/* Anything else is not ours to judge. */
static int
demand_signature(struct vhdx_storage *storage, struct vhdx_error *err)
{
    uint8_t bytes[8];
    size_t got;
    int rc = vx_storage_read_prefix(storage, bytes, sizeof bytes, 0, &got, err);

    if (rc < 0 || (got == sizeof bytes && vx_identifier_has_signature(bytes)))
        return rc;
    rc = vx_fail(err, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 0, "the file does not begin with \"vhdxfile\"");
    if (err != NULL) {
        err->rule = 2;
        err->severity = VHDX_SEVERITY_REFUSE;
    }
    return rc;
}

static int
run_stages(struct vx_check *check, struct vhdx_error *err)
{
    bool go_on;
    int rc = vx_check_head(check, &go_on, err);

    if (rc < 0 || !go_on)
        return rc;
    rc = vx_check_log(check, err);
    if (rc == VHDX_OK)
        rc = vx_check_regions(check, err);
    if (rc == VHDX_OK)
        rc = vx_check_metadata(check, err);
    if (rc == VHDX_OK)
        rc = vx_check_bat(check, err);
    return rc == VHDX_OK ? vx_check_leaks(check, err) : rc;
}

int
vx_check_run(struct vx_check *check, struct vhdx_error *err)
{
    int rc = demand_signature(check->storage, err);

    if (rc == VHDX_OK)
        rc = vx_storage_get_size(check->storage, &check->file_length, err);
    if (rc == VHDX_OK) {
        check->summary->file_size = check->file_length;
        rc = run_stages(check, err);
    }
    if (rc < 0)
        check->summary->is_complete = false;
    vx_check_report_finish(&check->report);
    return rc;
}

int
vx_check_new(struct vx_check **out, struct vhdx_storage *storage, const struct vhdx_check_options *options,
             void (*report)(void *context, const struct vhdx_error *finding), void *context,
             struct vhdx_check_summary *summary, struct vhdx_error *err)
{
    struct vx_check *check = vx_alloc_zeroed(1, sizeof *check);

    memset(summary, 0, sizeof *summary);
    if (check != NULL)
        check->table = vx_alloc_zeroed(1, sizeof *check->table);
    if (check == NULL || check->table == NULL) {
        vx_check_free(check);
        return vx_fail_memory(err, "a check");
    }
    summary->is_complete = true;
    check->storage = check->view = storage;
    check->ignore_log = options != NULL && options->ignore_log;
    check->summary = summary;
    vx_check_report_init(&check->report, report, context, summary);
    vx_findings_init(&check->findings, vx_check_report_take, &check->report);
    *out = check;
    return VHDX_OK;
}

void
vx_check_free(struct vx_check *check)
{
    if (check == NULL)
        return;
    vx_used_map_free(&check->used);
    vhdx_storage_close(check->replayed);
    vx_free(check->table);
    vx_free(check);
}

int
vhdx_check_storage(struct vhdx_storage *storage, const struct vhdx_check_options *options,
                   void (*report)(void *context, const struct vhdx_error *finding), void *context,
                   const struct vhdx_progress *progress, struct vhdx_check_summary *out, struct vhdx_error *err)
{
    struct vx_check *check;
    int rc = vx_check_new(&check, storage, options, report, context, out, err);

    if (rc < 0)
        return rc;
    check->progress = progress;
    rc = vx_check_run(check, err);
    vx_check_free(check);
    return rc;
}
