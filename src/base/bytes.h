/* Little-endian loads and stores, a byte at a time: alignment and host order do not exist here. */
#ifndef VX_BYTES_H
#define VX_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

static inline uint16_t
vx_le16(const uint8_t *p)
{
    return (uint16_t)(p[0] | p[1] << 8);
}

static inline uint32_t
vx_le32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline uint64_t
vx_le64(const uint8_t *p)
{
    return (uint64_t)vx_le32(p) | (uint64_t)vx_le32(p + 4) << 32;
}

static inline void
vx_put_le16(uint8_t *p, uint16_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void
vx_put_le32(uint8_t *p, uint32_t v)
{
    vx_put_le16(p, (uint16_t)v);
    vx_put_le16(p + 2, (uint16_t)(v >> 16));
}

static inline void
vx_put_le64(uint8_t *p, uint64_t v)
{
    vx_put_le32(p, (uint32_t)v);
    vx_put_le32(p + 4, (uint32_t)(v >> 32));
}

/* Are all bytes zero?  Fast on long runs. */
bool vx_is_zero(const void *buffer, size_t length);

#endif
