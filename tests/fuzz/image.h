/*
 * A whole file as a fuzz input, in some tens of bytes: one of our own images and what is changed of it, or nothing and all
 * that a real file holds.
 *
 *   base      1 byte    which image it starts from (fuzz_bases); 0: an empty file
 *   unsealed  1 byte    FUZZ_UNSEALED_*: whose checksums are left as the bytes say; all others are made right
 *   records   until FUZZ_END, or the end of the input.  Numbers are little-endian; 5 bytes of an offset, so that
 *             files end below 1 TiB
 *     1 ... 251         offset (5), so many bytes to write there
 *     252  fill         offset (5), length (3), byte
 *     253  length       of the file (5)
 *     254  copy         from offset (5), to offset (5), length (2)
 *
 * Every input is an image, so mutations never waste a run on the encoding; what follows the end is the target's.
 * tests/fuzz/encode.py writes the same.
 */
#ifndef FUZZ_IMAGE_H
#define FUZZ_IMAGE_H

#include <vhdx/storage.h>

#include "fuzz.h"

#define FUZZ_END    0u
#define FUZZ_BYTES  251u /* the most that one record writes */
#define FUZZ_FILL   252u
#define FUZZ_LENGTH 253u
#define FUZZ_COPY   254u /* 255: nothing */

#define FUZZ_UNSEALED_HEADERS 1u
#define FUZZ_UNSEALED_REGIONS 2u
#define FUZZ_UNSEALED_LOG     4u

/* Bases, by number.  All are made by the library itself, with the same GUIDs in each run. */
enum fuzz_base {
    FUZZ_NOTHING, FUZZ_DYNAMIC, FUZZ_DYNAMIC_4096, FUZZ_FIXED, FUZZ_PARENT, FUZZ_CHILD, FUZZ_DIRTY, FUZZ_DIRTY_CHILD,
    FUZZ_TWO_CHUNKS, FUZZ_HUGE, FUZZ_BASE_COUNT
};

/* How many images a target's inputs begin with: for the mutator. */
extern const unsigned fuzz_image_count;

/* The next image of an input, in memory.  `usual` is the base when the input is used up. */
struct vhdx_storage *fuzz_take_image(struct fuzz_input *input, enum fuzz_base usual);

/* Where an image ends, at most `size`: behind its end mark, or where the input ends.  *is_open: there was no mark. */
size_t fuzz_image_end(const uint8_t *data, size_t size, size_t from, bool *is_open);

/* Where the next record begins. */
size_t fuzz_next_record(const uint8_t *data, size_t size, size_t at);

#endif
