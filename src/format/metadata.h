/* Metadata table and items (docs/vhdx-format.md 2.8 to 2.10; V75..V107). */
#ifndef VX_METADATA_H
#define VX_METADATA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/guid.h>

#include "format/findings.h"
#include "format/layout.h"

#define VX_MAX_METADATA_ENTRIES 2047u
#define VX_MAX_ITEM_LENGTH      (1024 * 1024u)

#define VX_ITEM_IS_USER         1u
#define VX_ITEM_IS_VIRTUAL_DISK 2u
#define VX_ITEM_IS_REQUIRED     4u

struct vx_metadata_entry {
    struct vhdx_guid item_id;
    uint32_t         offset; /* from the start of the metadata region */
    uint32_t         length; /* bytes */
    uint32_t         flags;  /* VX_ITEM_*; bits 3..31 reserved */
    uint32_t         reserved2;
};

struct vx_metadata_table {
    uint32_t                 entry_count;
    struct vx_metadata_entry entries[VX_MAX_METADATA_ENTRIES];
};

extern const struct vhdx_guid vx_guid_item_file_parameters;
extern const struct vhdx_guid vx_guid_item_virtual_disk_size;
extern const struct vhdx_guid vx_guid_item_virtual_disk_id;
extern const struct vhdx_guid vx_guid_item_logical_sector_size;
extern const struct vhdx_guid vx_guid_item_physical_sector_size;
extern const struct vhdx_guid vx_guid_item_parent_locator;
extern const struct vhdx_guid vx_guid_item_incomplete;
extern const struct vhdx_guid vx_guid_item_chs;
extern const struct vhdx_guid vx_guid_item_pmem_label;

/* Signature and count only (V75, V76); the rest is judged.  The error carries rule and severity: it can be handed
 * to vx_find_again as it is. */
int vx_metadata_table_decode(struct vx_metadata_table *out, const uint8_t b[VX_METADATA_TABLE_SIZE], uint64_t at,
                             struct vhdx_error *err);
/* One slot of the table, nothing judged; also one past EntryCount, which says nothing but what was there once (10.37). */
struct vx_metadata_entry vx_metadata_slot_load(const uint8_t b[VX_METADATA_TABLE_SIZE], uint32_t index);
/* Name of a system item ("Virtual Disk ID"), or NULL. */
const char *vx_metadata_item_name(const struct vx_metadata_entry *entry);
void vx_metadata_table_encode(uint8_t b[VX_METADATA_TABLE_SIZE], const struct vx_metadata_table *table);

/* The same piece by piece: an empty table, then entries one after another, at most VX_MAX_METADATA_ENTRIES. */
void vx_metadata_table_begin(uint8_t b[VX_METADATA_TABLE_SIZE]);
void vx_metadata_table_append(uint8_t b[VX_METADATA_TABLE_SIZE], const struct vx_metadata_entry *entry);

/* V77 to V90, V94, V106: the table by itself.  `at` is the region's file offset.  n log n at most. */
void vx_metadata_table_judge(const struct vx_metadata_table *table, const uint8_t b[VX_METADATA_TABLE_SIZE],
                             uint64_t at, uint64_t region_length, struct vx_findings *findings);

/* The system item with this id, or NULL. */
const struct vx_metadata_entry *vx_metadata_find(const struct vx_metadata_table *table,
                                                 const struct vhdx_guid *item_id);

/* The known items' values, and which were there with the right length. */
struct vx_metadata {
    uint32_t         block_size;
    uint32_t         file_parameter_flags; /* as stored */
    bool             leave_blocks_allocated, has_parent;
    uint64_t         virtual_size;
    uint32_t         logical_sector_size;
    uint32_t         physical_sector_size;
    struct vhdx_guid disk_id;
    bool has_file_parameters, has_virtual_size, has_logical_sector_size, has_physical_sector_size, has_disk_id;
    bool has_locator;
};

/* Take one known item's bytes (any id: unknown ones are ignored).  A wrong length leaves has_* false.  Of a parent
 * locator only its presence is taken, `bytes` may be NULL then. */
void vx_metadata_take_item(struct vx_metadata *metadata, const struct vx_metadata_entry *entry,
                           const uint8_t *bytes);

/* V91 to V93, V95 to V105, V107 over the values.  `at` is the region's file offset.  After V98 the physical sector
 * size is to be reported as the logical one, after V100 the disk id as zero: vx_metadata_settle. */
void vx_metadata_judge(const struct vx_metadata *metadata, uint64_t at, struct vx_findings *findings);

/* Give the values that V98 and V100 let pass their stand-ins.  After vx_metadata_judge. */
void vx_metadata_settle(struct vx_metadata *metadata);

/*
 * Encode a fresh metadata region's first bytes in Hyper-V's order (section 11 item 4): table and packed item data.
 *   metadata                  the values; of the file's flags leave_blocks_allocated and has_parent count
 *   locator, locator_length   a parent locator item, or NULL, 0
 *   out                       at least VX_METADATA_TABLE_SIZE + 40 + locator_length bytes; *length is what was used
 */
void vx_metadata_encode_new(uint8_t *out, size_t *length, const struct vx_metadata *metadata,
                            const uint8_t *locator, uint32_t locator_length);

#endif
