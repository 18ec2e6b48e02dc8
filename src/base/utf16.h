/* UTF-16LE to UTF-8 and back (docs/vhdx-format.md 1.3). */
#ifndef VX_UTF16_H
#define VX_UTF16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Convert `length` bytes of UTF-16LE into UTF-8 with a NUL.
 * False, and *out an empty string, when length is odd, a surrogate is unpaired, a NUL is inside, or out_size is too
 * small.
 */
bool vx_utf16_to_utf8(char *out, size_t out_size, const uint8_t *utf16, size_t length);

/* Convert NUL-terminated UTF-8 (well formed, no overlong forms, no surrogates) into UTF-16LE without a terminator.
 * *length is the number of bytes.  False when malformed or out_size is too small. */
bool vx_utf8_to_utf16(uint8_t *out, size_t out_size, size_t *length, const char *utf8);

/* Is it well-formed UTF-16LE without a NUL inside? */
bool vx_utf16_is_valid(const uint8_t *utf16, size_t length);

/* As vx_utf16_to_utf8, but never fails: stops at a NUL or at out_size, writes U+FFFD for what is malformed. */
void vx_utf16_to_utf8_lenient(char *out, size_t out_size, const uint8_t *utf16, size_t length);

/* Copy UTF-8 for a terminal or a message: C0 and C1 controls, DEL, bidirectional controls and malformed bytes
 * become \xNN or \u{NNNN}; cut at out_size, never inside an escape. */
void vx_escape_text(char *out, size_t out_size, const char *text);

#endif
