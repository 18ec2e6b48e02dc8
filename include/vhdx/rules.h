/* The rules of the format (docs/vhdx-format.md, section 8), V1 to V158: what each says, and what helps when it is broken. */
#ifndef VHDX_RULES_H
#define VHDX_RULES_H

#include <vhdx/error.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VHDX_RULE_COUNT 159 /* rules have the numbers 1 to VHDX_RULE_COUNT - 1; some numbers are not in use */

/* What helps: a class of repair (vhdx/repair.h), or another job. */
enum vhdx_remedy {
    VHDX_REMEDY_NONE,     /* nothing has to be done, or nothing can be */
    VHDX_REMEDY_HEADERS,  /* repair, class by class */
    VHDX_REMEDY_REGIONS,
    VHDX_REMEDY_LOG,
    VHDX_REMEDY_METADATA,
    VHDX_REMEDY_BAT,
    VHDX_REMEDY_LEAKS,
    VHDX_REMEDY_REPLAY,   /* replay the log */
    VHDX_REMEDY_COMPACT,
    VHDX_REMEDY_CONVERT,  /* copy the disk to a new image */
    VHDX_REMEDY_SALVAGE,  /* get out what can be read */
    VHDX_REMEDY_REBASE    /* tell the image where its parent is, or which */
};

struct vhdx_rule {
    int              number;
    enum vhdx_part   part;    /* the structure the rule is about; vhdx_part_name() names it */
    const char      *title;   /* the rule as a statement: what is true of a sound image */
    const char      *meaning; /* what it means for the data when it is broken: one or two sentences */
    enum vhdx_remedy remedy;
};

/* The rule with this number (`rule` of struct vhdx_error), or NULL when there is none.  Static; any thread. */
const struct vhdx_rule *vhdx_rule_get(int number);

/* What helps against this finding: its rule's remedy; of a log that is in use and nowhere, class log. */
enum vhdx_remedy vhdx_finding_remedy(const struct vhdx_error *finding);

/* "headers", "replay", ..., "none".  Static. */
const char *vhdx_remedy_name(enum vhdx_remedy remedy);

#ifdef __cplusplus
}
#endif
#endif
