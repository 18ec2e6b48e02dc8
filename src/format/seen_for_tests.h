/* For unit tests: collect findings and say which were expected.  Include after cmocka.h. */
#ifndef VX_SEEN_FOR_TESTS_H
#define VX_SEEN_FOR_TESTS_H

#include <string.h>

#include "format/findings.h"

#define SEEN_MAX 64u

struct seen {
    struct vx_findings findings;
    struct vhdx_error  list[SEEN_MAX];
    size_t             count;
};

static inline void
see(void *context, const struct vhdx_error *finding)
{
    struct seen *seen = context;

    if (seen->count < SEEN_MAX)
        seen->list[seen->count++] = *finding;
}

/* Returns where to report to. */
static inline struct vx_findings *
seen_start(struct seen *seen)
{
    memset(seen, 0, sizeof *seen);
    vx_findings_init(&seen->findings, see, seen);
    return &seen->findings;
}

static inline void
fail_about(const char *words, const struct seen *seen, int rule)
{
    size_t i;

    for (i = 0; i < seen->count; i++)
        print_message("# found V%d (%s, code %d): %s\n", seen->list[i].rule,
                      vhdx_severity_name(seen->list[i].severity), seen->list[i].code, seen->list[i].message);
    fail_msg("%s: expected V%d (0: nothing) and nothing else", words, rule);
}

/* Rule 0: nothing was found.  Else this rule was found once, with this severity and code, and nothing else. */
static inline void
expect_only(const struct seen *seen, const char *words, int rule, enum vhdx_severity severity, int code)
{
    if (rule == 0 && seen->findings.count == 0)
        return;
    if (rule == 0 || seen->findings.count != 1 || seen->list[0].rule != rule ||
        seen->list[0].severity != severity || seen->list[0].code != code)
        fail_about(words, seen, rule);
    if (seen->list[0].message[0] == '\0' || seen->list[0].part == VHDX_PART_NONE)
        fail_msg("%s: V%d has no message or no part", words, rule);
}

/* Where the one finding points to. */
static inline void
expect_at(const struct seen *seen, const char *words, uint64_t file_offset)
{
    if (seen->count == 1 && seen->list[0].file_offset != file_offset)
        fail_msg("%s: V%d points to 0x%llx, expected 0x%llx", words, seen->list[0].rule,
                 (unsigned long long)seen->list[0].file_offset, (unsigned long long)file_offset);
}

static inline int
seen_has(const struct seen *seen, int rule)
{
    size_t i;

    for (i = 0; i < seen->count; i++) {
        if (seen->list[i].rule == rule)
            return 1;
    }
    return 0;
}

#endif
