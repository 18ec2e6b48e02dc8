/* CRC-32C (Castagnoli), as VHDX uses it (docs/vhdx-format.md 1.3). */
#ifndef VX_CRC32C_H
#define VX_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue `crc` (0 to begin) over more bytes: vx_crc32c(vx_crc32c(0, a), b) is the CRC of a followed by b. */
uint32_t vx_crc32c(uint32_t crc, const void *buffer, size_t length);

/* CRC of a buffer whose 4 bytes at hole_at count as zeros: a structure that carries its own checksum. */
uint32_t vx_crc32c_hole(const uint8_t *buffer, size_t length, size_t hole_at);

#ifdef VHDX_TEST_HOOKS
/* The ways to compute it that this machine has, to be held against each other.  Returns how many. */
#define VX_CRC32C_PATHS 2
struct vx_crc32c_path {
    const char *name;
    uint32_t (*run)(uint32_t inverted_crc, const uint8_t *bytes, size_t length); /* gives the inverted CRC */
};
size_t vx_crc32c_paths_for_tests(struct vx_crc32c_path paths[VX_CRC32C_PATHS]);
#endif

#endif
