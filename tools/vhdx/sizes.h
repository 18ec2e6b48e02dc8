/* Sizes as users write and read them. */
#ifndef VHDX_TOOL_SIZES_H
#define VHDX_TOOL_SIZES_H

#include <stdbool.h>
#include <stdint.h>

#define SIZE_TEXT_SIZE 48

/* Parse decimal digits and at most one of K, M, G, T (binary; any case).  False when the text is anything else or
 * does not fit. */
bool size_parse(const char *text, uint64_t *out);

/* Parse a decimal number from `least` to `most`. */
bool number_parse(const char *text, uint64_t least, uint64_t most, uint64_t *out);

/* "62.1 MiB": three digits, as qemu-img prints it. */
const char *size_short(char text[SIZE_TEXT_SIZE], uint64_t bytes);

/* "512 MiB (536870912 bytes)". */
const char *size_long(char text[SIZE_TEXT_SIZE], uint64_t bytes);

#endif
