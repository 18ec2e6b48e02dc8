/* Findings on their way to the caller: counted in full, told in bounded number. */
#ifndef VX_CHECK_REPORT_H
#define VX_CHECK_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/ops.h>

#define VX_CHECK_TOLD_MAX   100 /* findings of one rule that are told one by one */
#define VX_CHECK_RULE_COUNT 160 /* rules are V1..V158 */

struct vx_check_tally {
    uint64_t            count;
    enum vhdx_severity  severity; /* worst among those not told */
    enum vhdx_part      part;
    int                 code;
};

struct vx_check_report {
    void (*tell)(void *context, const struct vhdx_error *finding); /* may be NULL */
    void                      *context;
    struct vhdx_check_summary *summary;
    struct vx_check_tally      tallies[VX_CHECK_RULE_COUNT];
};

void vx_check_report_init(struct vx_check_report *report, void (*tell)(void *, const struct vhdx_error *),
                          void *context, struct vhdx_check_summary *summary);

/* A receiver for struct vx_findings, the context being the report. */
void vx_check_report_take(void *report, const struct vhdx_error *finding);

/* Was a finding of any of these rules taken? */
bool vx_check_report_has(const struct vx_check_report *report, const int *rules, size_t rule_count);

/* How many findings of this rule were taken. */
uint64_t vx_check_report_count(const struct vx_check_report *report, int rule);

/* Tell how many more there were of each rule.  Not counted as findings again. */
void vx_check_report_finish(struct vx_check_report *report);

#endif
