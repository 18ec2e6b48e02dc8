/*
 * Log entries (docs/vhdx-format.md 2.4 to 2.6, 6.2, 6.3).  Pure: whoever scans a log feeds the sectors in.
 */
#ifndef VX_LOG_ENTRY_H
#define VX_LOG_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include <vhdx/guid.h>

#include "format/findings.h"
#include "format/layout.h"

#define VX_LOG_SECTOR          4096u
#define VX_LOG_DESCRIPTOR_SIZE 32u
#define VX_LOG_FIRST_DESCRIPTORS 126u /* in the entry's first sector, after the 64-byte header */
#define VX_LOG_NEXT_DESCRIPTORS  128u /* in every further descriptor sector */

struct vx_log_entry_header {
    uint32_t         entry_length; /* bytes */
    uint32_t         tail;         /* offset from the start of the log */
    uint64_t         sequence_number;
    uint32_t         descriptor_count;
    struct vhdx_guid log_guid;
    uint64_t         flushed_file_offset;
    uint64_t         last_file_offset;
};

struct vx_log_descriptor {
    bool     is_zero;      /* a zero descriptor, else a data descriptor */
    uint64_t file_offset;
    uint64_t zero_length;  /* zero descriptors: bytes */
    uint8_t  leading[8];   /* data descriptors: bytes 0..7 of the page */
    uint8_t  trailing[4];  /* bytes 4092..4095 */
    uint64_t sequence_number;
};

/* Bytes of the descriptor area for n descriptors, in 64 bits: no count makes it wrap. */
uint64_t vx_log_descriptor_area_size(uint32_t descriptor_count);

/* --- writing --- */

/* Encode header fields into the entry's first 64 bytes; checksum zero until vx_log_entry_seal. */
void vx_log_entry_header_encode(uint8_t *entry, const struct vx_log_entry_header *header);

/* Put descriptor number `index` of an entry (0..). */
void vx_log_descriptor_encode(uint8_t *entry, uint32_t index, const struct vx_log_descriptor *descriptor);

/* A data descriptor and its data sector from a page: descriptor `index`, data sector number `data_index` (0..),
 * which lies at entry + vx_log_descriptor_area_size(descriptor_count) + data_index * 4096. */
void vx_log_page_encode(uint8_t *entry, uint32_t descriptor_count, uint32_t index, uint32_t data_index,
                        const uint8_t page[VX_PAGE], uint64_t file_offset, uint64_t sequence_number);

/* Compute and store the checksum over entry_length contiguous bytes. */
void vx_log_entry_seal(uint8_t *entry, uint32_t entry_length);

/* --- reading --- */

/* Cheap test: does a sector begin with "loge"? */
bool vx_log_sector_is_entry(const uint8_t sector[VX_LOG_SECTOR]);

/* Header fields, nothing judged. */
void vx_log_entry_header_decode(struct vx_log_entry_header *out, const uint8_t sector[VX_LOG_SECTOR]);

/* One 32-byte descriptor.  False unless its signature is "desc" or "zero". */
bool vx_log_descriptor_decode(struct vx_log_descriptor *out, const uint8_t b[VX_LOG_DESCRIPTOR_SIZE]);

/* Where descriptor `index` lies within the entry's descriptor area. */
uint64_t vx_log_descriptor_offset(uint32_t index);

/* Rebuild a page: leading 8 bytes, the sector's bytes 8..4091, trailing 4. */
void vx_log_page_decode(uint8_t page[VX_PAGE], const struct vx_log_descriptor *descriptor,
                        const uint8_t data_sector[VX_LOG_SECTOR]);

/* Validity of an entry, E1 to E13, sector by sector: begin with the first, then feed the rest in order. */
struct vx_log_entry_check {
    struct vx_log_entry_header header;
    uint64_t log_offset, log_length;  /* of the log in the file: E4, E5, E13 */
    uint64_t sectors_total, sectors_seen, descriptor_sectors;
    uint64_t descriptors_left, data_count;
    uint64_t highest_target_end;      /* largest end of any descriptor's target: V43 */
    uint32_t stored_checksum, checksum;
    int      broken_rule;             /* V32 to V42: why an entry that has the signature is not valid, else 0 */
    bool     has_stray_bits;          /* a reserved field or an unused descriptor slot is not zero: E14, V46 */
};
enum vx_log_verdict { VX_LOG_INVALID, VX_LOG_MORE, VX_LOG_VALID };

/* E1 to E6 (E2 against log_guid) and the first sector's descriptors.  A one-sector entry is decided at once. */
enum vx_log_verdict vx_log_entry_check_begin(struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR],
                                             const struct vhdx_guid *log_guid, uint64_t log_offset,
                                             uint64_t log_length);
enum vx_log_verdict vx_log_entry_check_feed(struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR]);

/* Tell of an entry that breaks this rule, V32 to V42.  A warning: every log holds such entries, and only when nothing
 * else is left (V30) does it matter why. */
void vx_log_entry_report_invalid(int rule, uint64_t sequence_number, uint64_t file_offset,
                                 struct vx_findings *findings);

#endif
