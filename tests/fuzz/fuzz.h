/*
 * What the fuzz targets share.  A target starts from good structures and applies the edits an input asks for: so
 * inputs get past signatures and checksums, and even random ones reach deep.  The same target runs under libFuzzer
 * and, in every build, under standalone.c.
 */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/findings.h"

/* A promise of the code under test.  Also in builds without asserts. */
#define MUST(condition)                                                             \
    do {                                                                            \
        if (!(condition)) {                                                         \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition); \
            abort();                                                                \
        }                                                                           \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct fuzz_input {
    const uint8_t *bytes;
    size_t         left;
};

/* The next `width` bytes as a number; zeros when the input is used up. */
static inline uint64_t
fuzz_take(struct fuzz_input *input, unsigned width)
{
    uint64_t value = 0;
    unsigned i;

    for (i = 0; i < width && input->left > 0; i++, input->left--)
        value |= (uint64_t)*input->bytes++ << (8 * i);
    return value;
}

/* A number of the kinds that break things: around powers of two, multiples of 1 MiB, small, or anything. */
static inline uint64_t
fuzz_number(struct fuzz_input *input)
{
    uint64_t kind = fuzz_take(input, 1), raw = fuzz_take(input, 1);

    switch (kind & 7) {
    case 0:
        return raw;
    case 1:
        return (UINT64_C(1) << (raw & 63)) - (kind >> 6);
    case 2:
        return (UINT64_C(1) << (raw & 63)) + (kind >> 6);
    case 3:
        return 0 - (raw << (kind >> 4));
    case 4:
        return raw << 20;
    case 5:
        return raw << 12;
    default:
        return fuzz_take(input, 8);
    }
}

/* Overwrite up to seven places, most of them among the first `busy` bytes. */
static inline void
fuzz_edit(struct fuzz_input *input, uint8_t *buffer, size_t size, size_t busy)
{
    uint64_t count = fuzz_take(input, 1) & 7;

    for (; count > 0; count--) {
        uint64_t how = fuzz_take(input, 1), value;
        size_t at = (size_t)fuzz_take(input, 3) % (how & 0x80 ? size : busy);
        size_t width = (size_t)1 << (how & 3), i;

        if (how & 0x10)
            at -= at % width;
        value = fuzz_number(input);
        for (i = 0; i < width && at + i < size; i++)
            buffer[at + i] = (uint8_t)(value >> (8 * i));
    }
}

/* Findings of every kind are formatted, as an open or a check would. */
static inline void
fuzz_receive(void *context, const struct vhdx_error *finding)
{
    (void)context;
    MUST(finding->rule >= 1 && finding->rule <= 158);
    MUST(finding->severity >= VHDX_SEVERITY_WARN && finding->severity <= VHDX_SEVERITY_REFUSE);
    MUST(finding->code < 0 && finding->message[0] != '\0' && strchr(finding->message, '\n') == NULL);
}

static inline struct vx_findings *
fuzz_findings(struct vx_findings *findings)
{
    vx_findings_init(findings, fuzz_receive, NULL);
    return findings;
}

#endif
