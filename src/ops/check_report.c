/*
 * Findings on their way to the caller.
 *
 * One torn page of the BAT can break a rule five hundred times, a hostile file sixty million times.  All are
 * counted; after VX_CHECK_TOLD_MAX of a rule the rest becomes one line at the end.
 */
#include "ops/check_report.h"

#include <inttypes.h>
#include <string.h>

#include "base/error.h"

void
vx_check_report_init(struct vx_check_report *report, void (*tell)(void *, const struct vhdx_error *), void *context,
                     struct vhdx_check_summary *summary)
{
    memset(report, 0, sizeof *report);
    report->tell = tell;
    report->context = context;
    report->summary = summary;
}

void
vx_check_report_take(void *context, const struct vhdx_error *finding)
{
    struct vx_check_report *report = context;
    struct vx_check_tally *tally = &report->tallies[finding->rule];

    report->summary->finding_count[finding->severity]++;
    tally->count++;
    if (tally->count > VX_CHECK_TOLD_MAX) {
        if (finding->severity > tally->severity)
            tally->severity = finding->severity;
        tally->part = finding->part;
        tally->code = finding->code;
    } else if (report->tell != NULL) {
        report->tell(report->context, finding);
    }
}

uint64_t
vx_check_report_count(const struct vx_check_report *report, int rule)
{
    return report->tallies[rule].count;
}

bool
vx_check_report_has(const struct vx_check_report *report, const int *rules, size_t rule_count)
{
    for (size_t i = 0; i < rule_count; i++) {
        if (report->tallies[rules[i]].count > 0)
            return true;
    }
    return false;
}

void
vx_check_report_finish(struct vx_check_report *report)
{
    for (int rule = 0; rule < VX_CHECK_RULE_COUNT && report->tell != NULL; rule++) {
        const struct vx_check_tally *tally = &report->tallies[rule];
        struct vhdx_error more;

        if (tally->count <= VX_CHECK_TOLD_MAX)
            continue;
        vx_fail(&more, tally->code, tally->part, VHDX_NO_OFFSET, "%" PRIu64 " more of V%d",
                tally->count - VX_CHECK_TOLD_MAX, rule);
        more.severity = tally->severity;
        more.rule = rule;
        report->tell(report->context, &more);
    }
}
