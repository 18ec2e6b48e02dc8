/* Reserved bytes: where is the first that is not zero? */
#ifndef VX_ZEROS_H
#define VX_ZEROS_H

#include <stddef.h>
#include <stdint.h>

#include "base/bytes.h"

/* Index of the first byte that is not zero, or length. */
static inline size_t
vx_first_nonzero(const uint8_t *bytes, size_t length)
{
    size_t i = 0;

    if (vx_is_zero(bytes, length))
        return length;
    while (bytes[i] == 0)
        i++;
    return i;
}

#endif
