/* File type identifier (docs/vhdx-format.md 2.1; V1..V6). */
#ifndef VX_IDENTIFIER_H
#define VX_IDENTIFIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/findings.h"
#include "format/layout.h"

#define VX_CREATOR_BYTES 512u

/* The 64 KiB slot: signature, creator (ASCII, cut at 255 characters), zeros. */
void vx_identifier_encode(uint8_t slot[VX_IDENTIFIER_SIZE], const char *creator);

/* Do 8 bytes say "vhdxfile"? */
bool vx_identifier_has_signature(const uint8_t bytes[8]);

/* V1, V5: the file's length. */
void vx_file_length_judge(uint64_t file_length, struct vx_findings *findings);

/* V2, V3, V4 over the slot as far as it was read (at least 520 bytes; V4 looks at the rest when length allows). */
void vx_identifier_judge(const uint8_t *slot, size_t length, struct vx_findings *findings);

/* V6: bytes 320 KiB to 1 MiB are zero.  Fed in pieces; reports once at most for a piece. */
void vx_header_section_judge_reserved(const uint8_t *bytes, size_t length, uint64_t file_offset,
                                      struct vx_findings *findings);

#endif
