/* Integer arithmetic that tells when it would wrap.  A number of a file is a rumour until it came through here. */
#ifndef VX_CHECKED_H
#define VX_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

#define VX_KIB UINT64_C(1024)
#define VX_MIB (UINT64_C(1) << 20)
#define VX_GIB (UINT64_C(1) << 30)
#define VX_TIB (UINT64_C(1) << 40)
#define VX_PAGE 4096u /* the log's unit: a page of metadata */

/* False, and *out untouched, when the sum or product does not fit. */
static inline bool
vx_add_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (a > UINT64_MAX - b)
        return false;
    *out = a + b;
    return true;
}

static inline bool
vx_mul_u64(uint64_t a, uint64_t b, uint64_t *out)
{
    if (b != 0 && a > UINT64_MAX / b)
        return false;
    *out = a * b;
    return true;
}

/* Units are powers of two.  Rounding up saturates at the largest multiple: comparing with a limit still refuses. */
static inline uint64_t
vx_round_down(uint64_t value, uint64_t unit)
{
    return value & ~(unit - 1);
}

static inline uint64_t
vx_round_up(uint64_t value, uint64_t unit)
{
    uint64_t down = vx_round_down(value, unit);

    if (down == value || down > UINT64_MAX - unit)
        return down;
    return down + unit;
}

static inline bool
vx_is_aligned(uint64_t value, uint64_t unit)
{
    return (value & (unit - 1)) == 0;
}

static inline uint64_t
vx_ceil_div(uint64_t a, uint64_t b)
{
    return a / b + (a % b != 0);
}

static inline uint64_t
vx_min_u64(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static inline uint64_t
vx_max_u64(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* Do [a, a + a_length) and [b, b + b_length) share a byte?  Neither range wraps. */
static inline bool
vx_ranges_overlap(uint64_t a, uint64_t a_length, uint64_t b, uint64_t b_length)
{
    return a_length > 0 && b_length > 0 && a < b + b_length && b < a + a_length;
}

#endif
