/* Headers (docs/vhdx-format.md 2.2, 5.1; V7, V10..V28). */
#ifndef VX_HEADER_H
#define VX_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/guid.h>

#include "format/findings.h"
#include "format/layout.h"

struct vx_header {
    uint64_t         sequence_number;
    struct vhdx_guid file_write_guid;
    struct vhdx_guid data_write_guid;
    struct vhdx_guid log_guid;
    uint16_t         log_version;
    uint16_t         version;
    uint32_t         log_length; /* bytes */
    uint64_t         log_offset; /* file offset */
};

/* Signature, then checksum, then fields.  `at` is where the bytes came from, for the message only. */
int vx_header_decode(struct vx_header *out, const uint8_t b[VX_HEADER_SIZE], uint64_t at, struct vhdx_error *err);

/* The fields alone, nothing judged: what a copy that is not valid says. */
void vx_header_load(struct vx_header *out, const uint8_t b[VX_HEADER_SIZE]);

/* Reserved bytes zero, checksum computed. */
void vx_header_encode(uint8_t b[VX_HEADER_SIZE], const struct vx_header *header);

/*
 * Choose the current header of two 4 KiB copies (5.1) and judge the choice: V10 to V13, V25, V26.
 *   returns  0 with *current and *current_index (0 or 1) set, or a code when there is none (V10) or both claim
 *            to be (V13)
 */
int vx_header_choose(struct vx_header *current, int *current_index, const uint8_t copy0[VX_HEADER_SIZE],
                     const uint8_t copy1[VX_HEADER_SIZE], struct vx_findings *findings);

/* V14 to V24, V27, V28 on the current header.  `at` is its file offset. */
void vx_header_judge(const struct vx_header *header, uint64_t at, uint64_t file_length,
                     struct vx_findings *findings);

/* V23 (bytes 80..4095 of a valid copy are zero) and V7 (the rest of the slot is zero, when slot_length allows). */
void vx_header_judge_reserved(const uint8_t *slot, size_t slot_length, uint64_t at, struct vx_findings *findings);

#endif
