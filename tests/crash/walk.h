/*
 * A second opinion on the structure of an image: a reader of headers, region table and block allocation table that shares
 * no code with the library but for the checksum.
 */
#ifndef CRASH_WALK_H
#define CRASH_WALK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/storage.h>

struct walk_header {
    uint8_t  data_write_guid[16];
    bool     has_log; /* LogGuid is not zero */
    uint64_t log_offset, log_length;
};

/* The current header.  False, with a reason, when there is none. */
bool walk_header(struct vhdx_storage *storage, struct walk_header *out, char *why, size_t why_size);

/*
 * Walk an image whose log is empty: legal states, every block inside the file and past its places, no space mapped twice,
 * bitmaps where blocks need them, length a multiple of 1 MiB.  False, with a reason, at the first fault.
 */
bool walk_image(struct vhdx_storage *storage, uint64_t block_size, uint64_t chunk_ratio, bool is_differencing,
                char *why, size_t why_size);

#endif
