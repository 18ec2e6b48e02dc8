/*
 * Findings: one broken rule each, handed to whoever listens.  The first of the highest severity is kept, because
 * that is what open answers with.
 */
#include "format/findings.h"

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

void
vx_findings_init(struct vx_findings *findings, void (*report)(void *, const struct vhdx_error *), void *context)
{
    memset(findings, 0, sizeof *findings);
    findings->report = report;
    findings->context = context;
}

enum vhdx_severity
vx_findings_severity(const struct vx_findings *findings)
{
    return findings->count > 0 ? findings->worst.severity : VHDX_SEVERITY_NONE;
}

int
vx_find(struct vx_findings *findings, enum vhdx_severity severity, int rule, int code, enum vhdx_part part,
        uint64_t file_offset, const char *format, ...)
{
    struct vhdx_error finding;
    char message[sizeof finding.message];
    va_list arguments;

    if (findings == NULL)
        return code;

    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    vx_fail(&finding, code, part, file_offset, "%s", message);
    finding.severity = severity;
    finding.rule = rule;
    vx_find_again(findings, &finding);
    return code;
}

void
vx_find_again(struct vx_findings *findings, const struct vhdx_error *finding)
{
    if (findings == NULL)
        return;
    if (findings->count == 0 || finding->severity > findings->worst.severity)
        findings->worst = *finding;
    findings->count++;
    if (findings->report != NULL)
        findings->report(findings->context, finding);
}
