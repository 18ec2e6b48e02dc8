/* Where the rules of the format report to.  Open, check, dump and the fuzzers hand in their own receiver. */
#ifndef VX_FINDINGS_H
#define VX_FINDINGS_H

#include <stdint.h>

#include <vhdx/error.h>

struct vx_findings {
    void (*report)(void *context, const struct vhdx_error *finding); /* may be NULL */
    void               *context;
    uint64_t            count;  /* of all findings */
    struct vhdx_error   worst;  /* the first of the highest severity; valid when count > 0 */
};

void vx_findings_init(struct vx_findings *findings, void (*report)(void *, const struct vhdx_error *),
                      void *context);

/* Severity of the worst finding, NONE when there is none. */
enum vhdx_severity vx_findings_severity(const struct vx_findings *findings);

/* Report that rule V<rule> is broken.  `code` is what open returns if the severity makes it refuse.  Returns code.
 * Wherever findings are taken, NULL means that nobody listens. */
int vx_find(struct vx_findings *findings, enum vhdx_severity severity, int rule, int code, enum vhdx_part part,
            uint64_t file_offset, const char *format, ...) __attribute__((format(printf, 7, 8)));

/* Report as it stands. */
void vx_find_again(struct vx_findings *findings, const struct vhdx_error *finding);

#endif
