/*
 * Repair of the log: replayed when that is possible, whichever classes were asked for; else discarded, by rule.
 *
 *   G1  A log that holds what can be replayed is never discarded.
 *   G2  Of a file that was cut (V31) the log still holds the newest state of what is left: that is written.
 *   G3  The LogGuid goes only when everything else that is broken is mended, too: until then the header says that the image
 *       was not closed, which is true.
 *   G4  When no entry carries the header's LogGuid, nothing was committed in that session, as after a writer that sets the
 *       LogGuid ahead of its first entry was killed.  A log whose entries lost their signature or GUID looks the same: so
 *       that is said, too.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "image/replay.h"
#include "ops/repair.h"
#include "storage/storage.h"

#define WINDOW_SIZE ((size_t)VX_MIB)
#define SECTOR      4096u

static const int log_rules[] = { 15, 17, 18, 19, 20, 21, 22, 30, 31, 43, 45, 47 };

static bool
is_log_rule(int rule)
{
    for (size_t i = 0; i < sizeof log_rules / sizeof log_rules[0]; i++) {
        if (log_rules[i] == rule)
            return true;
    }
    return false;
}

/* The header without its LogGuid; a log that cannot lie there goes, too, and the next writer makes one (V28). */
static int
clear(struct vx_repair *repair, bool drops_log, struct vhdx_error *err)
{
    struct vx_header next;
    int              index, rc = vx_repair_read_header(repair, &next, &index, err);

    if (rc < 0)
        return rc;
    memset(&next.log_guid, 0, sizeof next.log_guid);
    next.log_version = 0;
    if (drops_log) {
        next.log_offset = 0;
        next.log_length = 0;
    }
    return vx_repair_put_headers(repair, &next, index, err);
}

/* --- replay --- */

static int
replay(struct vx_repair *repair, const struct vx_log_scan *scan, bool within, struct vhdx_error *err)
{
    uint64_t length;
    int      rc = vx_replay_secure(repair->storage, scan, err);

    if (rc == VHDX_OK) /* which flushes; the header is made safe by vx_repair_begin, or was written by us */
        rc = vx_storage_flush(repair->storage, err);
    if (rc == VHDX_OK)
        rc = vx_repair_begin(repair, false, err);
    if (rc == VHDX_OK)
        rc = vx_storage_get_size(repair->storage, &length, err);
    if (rc == VHDX_OK)
        rc = vx_replay_apply(repair->storage, scan, length, within, err);
    return rc == VHDX_OK ? clear(repair, false, err) : rc;
}

static int
scan_and_replay(struct vx_repair *repair, const struct vx_look *look, bool within, struct vhdx_error *err)
{
    const struct vx_header *header = &look->check->header;
    struct vx_log_scan      scan;
    int rc = vx_log_scan(&scan, repair->storage, header, header->log_length, look->summary.file_size, NULL, err);

    if (rc < 0)
        return rc;
    if (scan.has_active)
        rc = replay(repair, &scan, within, err);
    vx_log_scan_free(&scan);
    return rc;
}

/* --- discard --- */

/* G4: entries that say they belong to the header's log, sound or not. */
static int
count_entries(struct vx_repair *repair, const struct vx_header *header, uint64_t *count, struct vhdx_error *err)
{
    uint8_t *window = vx_alloc(WINDOW_SIZE), guid[16];
    int      rc = VHDX_OK;

    *count = 0;
    if (window == NULL)
        return vx_fail_memory(err, "reading the log");
    vx_guid_store(guid, &header->log_guid);
    for (uint64_t at = 0; at < header->log_length && rc == VHDX_OK; at += WINDOW_SIZE) {
        size_t got;

        rc = vx_storage_read_prefix(repair->storage, window, WINDOW_SIZE, header->log_offset + at, &got, err);
        for (size_t i = 0; i + SECTOR <= got && rc == VHDX_OK; i += SECTOR)
            *count += memcmp(window + i, "loge", 4) == 0 && memcmp(window + i + 32, guid, sizeof guid) == 0;
    }
    vx_free(window);
    return rc;
}

/* G3: a rule that stays broken, or 0. */
static int
stays_broken(struct vx_repair *repair, const struct vx_look *look)
{
    for (int rule = 1; rule < VX_CHECK_RULE_COUNT; rule++) {
        if (look->worst[rule] >= VHDX_SEVERITY_RO && !is_log_rule(rule) &&
            !vx_repair_wants(repair, vhdx_rule_get(rule)->remedy))
            return rule;
    }
    return 0;
}

static int
discard(struct vx_repair *repair, const struct vx_look *look, int rule, struct vhdx_error *err)
{
    bool           has_place = !vx_repair_drops_log(look) && !vx_look_has(look, 19);
    struct vx_step step = { .rule = rule, .remedy = VHDX_REMEDY_LOG, .file_offset = VX_HEADER_OFFSET(0) };
    uint64_t       count = 0;
    int            rc = VHDX_OK;

    if (has_place)
        rc = count_entries(repair, &look->check->header, &count, err);
    if (rc < 0)
        return rc;
    step.is_loss = count > 0 || !has_place || rule != 30;
    if (!step.is_loss)
        vx_repair_tell(repair, &step, "the header forgets its log: no entry of that session is in it, so nothing is lost, "
                       "unless something wrote over the log");
    else if (has_place)
        vx_repair_tell(repair, &step, "the header forgets its log: %" PRIu64 " entries that cannot be replayed, and with "
                       "them the changes to the image since they were written, are lost", count);
    else
        vx_repair_tell(repair, &step, "the header forgets its log, which is nowhere: the changes it held are lost");
    rc = vx_repair_begin(repair, step.is_loss, err);
    return rc == VHDX_OK ? clear(repair, !has_place, err) : rc;
}

/* The rest of the file as it lies decides. */
static int
consider_discard(struct vx_repair *repair, const struct vx_look *look, int rule, struct vhdx_error *err)
{
    struct vx_step left = { .rule = rule, .remedy = VHDX_REMEDY_LOG, .is_left = true,
                            .file_offset = VX_HEADER_OFFSET(0) };
    struct vx_look as_it_lies;
    int            broken, rc = vx_repair_look(repair, true, &as_it_lies, err);

    if (rc < 0)
        return rc;
    broken = stays_broken(repair, &as_it_lies);
    vx_repair_look_away(&as_it_lies);
    if (!vx_repair_wants(repair, VHDX_REMEDY_LOG))
        vx_repair_tell(repair, &left, "the log cannot be replayed, and nothing else is mended before it is discarded "
                       "(class log)");
    else if (broken != 0)
        vx_repair_tell(repair, &left, "the log cannot be replayed; it stays, since V%d is broken and would stay so (%s)",
                       broken, vhdx_remedy_name(vhdx_rule_get(broken)->remedy));
    else
        return discard(repair, look, rule, err);
    return VHDX_OK;
}

/* --- which of them --- */

/* The first reason why the log cannot be replayed as it is, or 0. */
static int
why_not(const struct vx_look *look)
{
    for (size_t i = 0; i < sizeof log_rules / sizeof log_rules[0]; i++) {
        if (vx_look_has(look, log_rules[i]))
            return log_rules[i];
    }
    return 0;
}

static bool
only_cut(const struct vx_look *look)
{
    return !vx_look_has(look, 30) && !vx_look_has(look, 43) && !vx_look_has(look, 45) && !vx_look_has(look, 47);
}

int
vx_repair_log(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    const struct vx_check *check = look->check;
    struct vx_step         step = { .rule = 48, .file_offset = check->header.log_offset };
    int                    why = why_not(look);

    if (!check->has_header || vhdx_guid_is_zero(&check->header.log_guid))
        return VHDX_OK;
    if (why == 0) {
        vx_repair_tell(repair, &step, "the log is replayed: the changes it holds are written to their places");
        return scan_and_replay(repair, look, false, err);
    }
    if (why == 31 && only_cut(look) && vx_repair_wants(repair, VHDX_REMEDY_LOG)) {
        step.rule = 31;
        step.is_loss = true;
        vx_repair_tell(repair, &step, "the log is replayed as far as the file still goes; what lay behind its end is lost");
        return scan_and_replay(repair, look, true, err);
    }
    return consider_discard(repair, look, why, err);
}
