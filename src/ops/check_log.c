/*
 * The check of the log: V30 to V48, on the file as it lies.  A log that can be replayed is laid over the file, and
 * everything after sees the file as its next reader would.
 */
#include "image/replay.h"
#include "ops/check.h"
#include "storage/storage.h"

/* Rules of the header that say the log cannot be read, and of the log that say it must not be replayed. */
#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
static const int unreadable_rules[] = { 15, 17, 18, 19, 20, 21, 22 };
static const int unusable_rules[] = { 30, 31, 43, 45, 47 };

static bool
is_unreadable(const struct vx_check *check)
{
    return vx_check_report_has(&check->report, unreadable_rules, COUNT_OF(unreadable_rules));
}

static bool
is_unusable(const struct vx_check *check)
{
    return vx_check_report_has(&check->report, unusable_rules, COUNT_OF(unusable_rules));
}

/* V48, and the view the rest is checked on. */
static int
lay_over(struct vx_check *check, const struct vx_log_scan *scan, struct vhdx_error *err)
{
    int rc;

    check->summary->is_dirty = true;
    vx_find(&check->findings, VHDX_SEVERITY_WARN, 48, VHDX_E_BAD_LOG, VHDX_PART_LOG, check->header.log_offset,
            check->ignore_log ? "log: the image was not closed; what follows is about the file without its log"
                              : "log: the image was not closed; the log was replayed in memory for what follows");
    if (check->ignore_log)
        return VHDX_OK;
    rc = vx_replay_view(&check->replayed, check->storage, scan, check->file_length, err);
    if (rc < 0)
        return rc;
    check->view = check->replayed;
    return vx_storage_get_size(check->view, &check->file_length, err);
}

static int
judge_log(struct vx_check *check, struct vx_log_scan *scan, struct vhdx_error *err)
{
    int rc = vx_log_scan(scan, check->storage, &check->header, check->header.log_length, check->file_length,
                         &check->findings, err);

    if (is_unusable(check)) {
        check->summary->is_complete = false;
        return VHDX_OK;
    }
    return rc < 0 ? rc : lay_over(check, scan, err);
}

int
vx_check_log(struct vx_check *check, struct vhdx_error *err)
{
    struct vx_log_scan scan = { .places = NULL };
    int rc;

    if (!check->has_header || vhdx_guid_is_zero(&check->header.log_guid))
        return VHDX_OK;
    if (is_unreadable(check)) {
        check->summary->is_complete = false;
        return VHDX_OK;
    }
    rc = judge_log(check, &scan, err);
    vx_log_scan_free(&scan);
    return rc;
}
