/* CRC-32C (Castagnoli), as VHDX uses it (docs/vhdx-format.md 1.3). */
#ifndef VX_CRC32C_H
#define VX_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 to begin) over more bytes: vx_crc32c(vx_crc32c(0, a), b) is the CRC of a followed by b. */
uint32_t vx_crc32c(uint32_t crc, const void *buffer, size_t length);

/* CRC of a buffer whose 4 bytes at hole_at count as zeros: a structure that carries its own checksum. */
uint32_t vx_crc32c_hole(const uint8_t *buffer, size_t length, size_t hole_at);

#endif
