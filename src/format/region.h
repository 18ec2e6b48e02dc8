/* Region tables (docs/vhdx-format.md 2.3; V55..V70). */
#ifndef VX_REGION_H
#define VX_REGION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/guid.h>

#include "format/findings.h"
#include "format/header.h"
#include "format/layout.h"

#define VX_MAX_REGIONS 2047u

struct vx_region {
    struct vhdx_guid guid;
    uint64_t         file_offset;
    uint32_t         length; /* bytes */
    uint32_t         flags;  /* bit 0: Required */
};

extern const struct vhdx_guid vx_guid_region_bat;
extern const struct vhdx_guid vx_guid_region_metadata;

struct vx_region_table {
    uint32_t         region_count;
    struct vx_region regions[VX_MAX_REGIONS];
};

/* What the rest of the library wants to know. */
struct vx_regions {
    struct vx_region bat, metadata;
};

/* Signature, checksum, EntryCount (V55, V58). */
int vx_region_table_decode(struct vx_region_table *out, const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at,
                           struct vhdx_error *err);
/* The entries alone, nothing judged and at most VX_MAX_REGIONS: what a copy that is not valid says. */
void vx_region_table_load(struct vx_region_table *out, const uint8_t b[VX_REGION_TABLE_SIZE]);
void vx_region_table_encode(uint8_t b[VX_REGION_TABLE_SIZE], const struct vx_region_table *table);

/* The bytes of a table in which one region lies elsewhere: place and length in its entry and the checksum change, nothing else.
 * *changed_at is where they lie in the table, in one page of it.  False when there is no such region. */
bool vx_region_table_move(uint8_t b[VX_REGION_TABLE_SIZE], const struct vhdx_guid *guid, uint64_t file_offset,
                          uint32_t length, uint64_t *changed_at);

/*
 * Choose the copy to use and judge it: V55 to V58 (the choice, agreement), *used_index 0 or 1.
 * A copy that is bad beside a good one is REPAIR (V56); two good ones that differ are RO (V57).
 */
int vx_region_table_choose(struct vx_region_table *out, int *used_index, const uint8_t copy0[VX_REGION_TABLE_SIZE],
                           const uint8_t copy1[VX_REGION_TABLE_SIZE], struct vx_findings *findings);

/* V59 to V70 on the chosen copy, the log's place included (V63).  n log n at most.  *out is filled as far as
 * found. */
void vx_region_table_judge(const struct vx_region_table *table, const uint8_t b[VX_REGION_TABLE_SIZE], uint64_t at,
                           const struct vx_header *header, uint64_t file_length, struct vx_regions *out,
                           struct vx_findings *findings);

#endif
