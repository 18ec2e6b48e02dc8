/* Sizes as users write and read them: binary units, as qemu-img takes and prints them. */
#include "sizes.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* Read decimal digits; NULL when there are none or the number does not fit. */
static const char *
read_digits(const char *text, uint64_t *out)
{
    uint64_t value = 0;

    if (*text < '0' || *text > '9')
        return NULL;
    for (; *text >= '0' && *text <= '9'; text++) {
        unsigned digit = (unsigned)(*text - '0');

        if (value > (UINT64_MAX - digit) / 10)
            return NULL;
        value = value * 10 + digit;
    }
    *out = value;
    return text;
}

bool
size_parse(const char *text, uint64_t *out)
{
    static const char units[] = "KMGTkmgt";
    uint64_t value;
    unsigned shift = 0;

    text = read_digits(text, &value);
    if (text == NULL)
        return false;
    if (*text != '\0') {
        const char *unit = strchr(units, *text);

        if (unit == NULL || text[1] != '\0')
            return false;
        shift = 10 * ((unsigned)(unit - units) % 4 + 1);
    }
    if (value > UINT64_MAX >> shift)
        return false;
    *out = value << shift;
    return true;
}

bool
number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *out)
{
    text = read_digits(text, out);
    return text != NULL && *text == '\0' && *out >= least && *out <= most;
}

const char *
size_short(char text[SIZE_TEXT_SIZE], uint64_t bytes)
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
    double value = (double)bytes;
    size_t unit = 0;

    while (value >= 1000 && unit + 1 < sizeof(units) / sizeof(units[0])) {
        value /= 1024;
        unit++;
    }
    snprintf(text, SIZE_TEXT_SIZE, "%.3g %s", value, units[unit]);
    return text;
}

const char *
size_long(char text[SIZE_TEXT_SIZE], uint64_t bytes)
{
    char rounded[SIZE_TEXT_SIZE];

    snprintf(text, SIZE_TEXT_SIZE, "%.20s (%" PRIu64 " bytes)", size_short(rounded, bytes), bytes);
    return text;
}
