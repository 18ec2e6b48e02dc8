/* Text that comes from files and command lines: what of it may reach a terminal or a JSON document as it is. */
#ifndef VHDX_TOOL_TEXT_H
#define VHDX_TOOL_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define TEXT_INVALID UINT32_MAX /* a byte that begins no well-formed UTF-8 character */

/* The character at `text`, which does not point at the NUL.  Returns how many bytes it takes; an invalid byte is
 * one. */
size_t text_next(const char *text, uint32_t *character);

/* Whether a terminal shows the character as a glyph or a space: no control, no line separator, nothing
 * bidirectional. */
bool text_is_plain(uint32_t character);

/* Print text, everything that is not plain as \xNN (a byte) or \u{N} (a character). */
void text_print(FILE *stream, const char *text);

#endif
