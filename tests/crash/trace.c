#include <stdarg.h>
#include <stdio.h>

#include "crash.h"

bool crash_trace, crash_quiet;

void
trace(const struct run *run, const char *format, ...)
{
    va_list arguments;

    if (!crash_trace || run->is_in_crash)
        return;
    printf("# [%llu] ", (unsigned long long)vx_fault_call_count(run->disk));
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
}

uint64_t
random_next(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);

    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t
random_below(uint64_t *state, uint64_t bound)
{
    return random_next(state) % bound;
}
