/*
 * What the first MiBs of a fresh image look like (docs/vhdx-format.md 9.1, 9.2 and the profile of section 11).
 *
 *      0        header section: identifier, two headers, two region tables
 *      1 MiB    log
 *      ...      metadata region
 *      ...      BAT, sized with the differencing formula
 *      ...      first payload block
 *
 * Creating a file and streaming one both lay their images out from here: this file decides, they only write.
 */
#ifndef VX_LAYOUT_NEW_H
#define VX_LAYOUT_NEW_H

#include <stddef.h>
#include <stdint.h>

#include <vhdx/ops.h>

#include "format/geometry.h"
#include "format/header.h"
#include "format/layout.h"
#include "format/metadata.h"

/* The parent locator item of a differencing image, encoded (vx_locator_encode).  Borrowed by the layout. */
struct vx_new_locator {
    const uint8_t *item;
    uint32_t       length; /* bytes */
};

/* A metadata item beyond those that every image has: copied from a parent.  Borrowed by the layout. */
struct vx_new_item {
    struct vhdx_guid item_id;
    uint32_t         flags;  /* VX_ITEM_* */
    uint32_t         length; /* bytes */
    const uint8_t   *bytes;
};

struct vx_new_layout {
    enum vhdx_image_type  type;
    enum vhdx_preallocation preallocation; /* as asked for; never DEFAULT */
    struct vx_geometry    geometry;
    struct vx_metadata    metadata;
    struct vx_header      header;    /* copy 0 carries its sequence number, copy 1 the next one */
    const char           *creator;   /* borrowed from the options, or static */
    struct vx_new_locator locator;   /* length 0: none */
    const struct vx_new_item *items;
    size_t                item_count;
    uint64_t log_offset,      log_length;
    uint64_t metadata_offset, metadata_length;
    uint64_t bat_offset,      bat_length;
    uint64_t first_block_offset; /* the end of the BAT */
    uint64_t file_length;        /* with the blocks of a fixed image, in order from first_block_offset on */
};

/*
 * Judge the options, fill in the defaults, draw the GUIDs.  Everything the options and the locator point to stays
 * the caller's and must outlive the layout.
 *
 *   locator   for type DIFFERENCING, NULL for the others
 *   errors    VHDX_E_INVALID with a message about the option at fault
 */
int vx_new_layout_init(struct vx_new_layout *out, const struct vhdx_create_options *options,
                       const struct vx_new_locator *locator, struct vhdx_error *err);

/* Add items behind the locator; what lies behind the metadata region moves on.  The caller bounds their number and
 * lengths: VX_MAX_METADATA_ENTRIES with the six that may be there already, and a region below 4 GiB. */
void vx_new_layout_add_items(struct vx_new_layout *layout, const struct vx_new_item *items, size_t item_count);

/* The 64 KiB slot at file offset 0. */
void vx_new_layout_identifier(const struct vx_new_layout *layout, uint8_t slot[VX_IDENTIFIER_SIZE]);

/* Header copy 0 or 1, for VX_HEADER_OFFSET(copy). */
void vx_new_layout_header(const struct vx_new_layout *layout, int copy, uint8_t b[VX_HEADER_SIZE]);

/* Either region table: both are the same. */
int vx_new_layout_region_table(const struct vx_new_layout *layout, uint8_t b[VX_REGION_TABLE_SIZE],
                               struct vhdx_error *err);

/* How many bytes of the metadata region are not zero, and those bytes, for metadata_offset. */
size_t vx_new_layout_metadata_length(const struct vx_new_layout *layout);
void   vx_new_layout_metadata(const struct vx_new_layout *layout, uint8_t *out);

/* File offset of the place-th block (0..) after the BAT.  In a fixed image place and block index are one. */
uint64_t vx_new_layout_block_offset(const struct vx_new_layout *layout, uint64_t place);

#endif
