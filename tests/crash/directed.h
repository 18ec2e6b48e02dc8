/*
 * Sequences that random work meets too seldom, each with the crashes that suit it.
 */
#ifndef CRASH_DIRECTED_H
#define CRASH_DIRECTED_H

#include "crash.h"

struct directed {
    const char         *name;
    const char         *what;
    struct crash_config config;
    uint64_t            variants;
    bool (*body)(struct run *run, uint64_t variant); /* within run_begin and run_end */
};

extern const struct directed directed_cases[];
extern const size_t          directed_case_count;

/* The case of that name, or NULL. */
const struct directed *directed_find(const char *name);

/* One variant.  False after a violation, which is copied out when `violation` is not NULL. */
bool directed_run(const struct directed *directed, uint64_t variant, char *violation, size_t violation_size);

#endif
