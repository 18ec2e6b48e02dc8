#include "tap.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static unsigned test_count, failure_count;

void
tap_ok(bool is_ok, const char *format, ...)
{
    va_list arguments;

    test_count++;
    failure_count += !is_ok;
    printf("%s %u - ", is_ok ? "ok" : "not ok", test_count);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    putchar('\n');
    fflush(stdout);
}

int
tap_end(void)
{
    printf("1..%u\n", test_count);
    fflush(stdout);
    return failure_count > 0;
}

double
tap_seconds(const char *variable, double seconds)
{
    const char *hours = getenv("VHDX_HOURS"), *text = getenv(variable);

    if (text != NULL)
        return atof(text);
    return hours != NULL ? atof(hours) * 3600 : seconds;
}

double
tap_clock(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}
