/*
 * One open VHDX image: what src/disk and src/ops use.  docs/architecture.md, docs/durability.md, docs/concurrency.md.
 *
 * The image borrows its storage; close flushes what was written but does not close the storage.
 */
#ifndef VX_IMAGE_H
#define VX_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/disk.h>

#include "format/bat.h"
#include "format/block_state.h"
#include "format/findings.h"
#include "format/header.h"
#include "format/locator.h"
#include "format/metadata.h"
#include "format/region.h"

struct vx_image;

/* What a differencing image asks for the sectors it does not hold.  Borrowed, set once after open. */
struct vx_below {
    int (*read)(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err);
    void *context;
};

/* What a session's first modification does to DataWriteGuid (docs/vhdx-format.md 5.4, 5.5). */
enum vx_data_guid {
    VX_DATA_GUID_NEW,   /* a guest could notice: a random one */
    VX_DATA_GUID_KEEP,  /* only what no guest can see will change: moves, relinking */
    VX_DATA_GUID_GIVEN  /* a merge chose it (9.8) */
};

struct vx_image_options {
    bool     is_writable;
    bool     ignore_log;           /* read-only only */
    uint64_t metadata_cache_bytes; /* 0: 32 MiB */
    enum vx_data_guid data_guid;   /* of a writable image */
    struct vhdx_guid  given_data_guid;
    uint32_t log_length_for_tests; /* use only so many bytes of the log, as reader and as writer; 0: all of it.
                                    * Small rings make wrap, reuse and full logs happen in every run */
};

int vx_image_open(struct vx_image **out, struct vhdx_storage *storage, const struct vx_image_options *options,
                  struct vhdx_error *err);

/* Frees the image whatever is returned. */
int vx_image_close(struct vx_image *image, struct vhdx_error *err);

/* Forget the image without touching the storage any more: what a kill does.  For tests. */
void vx_image_abandon(struct vx_image *image);

void vx_image_set_below(struct vx_image *image, const struct vx_below *below);

/* Read-only facts, fixed by open. */
const struct vx_geometry   *vx_image_geometry(const struct vx_image *image);
const struct vx_metadata   *vx_image_metadata(const struct vx_image *image);
const struct vx_findings   *vx_image_findings(const struct vx_image *image);
bool                        vx_image_is_writable(const struct vx_image *image);
void vx_image_fill_info(struct vx_image *image, struct vhdx_info *out); /* all but file_size */

/* The parent locator of a differencing image; the item's bytes, NULL without one. */
const struct vx_locator *vx_image_locator(const struct vx_image *image);
const uint8_t           *vx_image_locator_item(const struct vx_image *image);
struct vhdx_guid         vx_image_data_write_guid(struct vx_image *image);

/* A held range of guest blocks (rank BLOCK). */
struct vx_held {
    uint64_t        first_block, last_block;
    bool            is_exclusive, is_granted;
    bool            is_pin; /* held on behalf of a caller of the library */
    struct vx_held *previous, *next;
};
void vx_image_hold(struct vx_image *image, struct vx_held *held, uint64_t guest_offset, uint64_t length,
                   bool is_exclusive);
/* The same, shared, for a caller of the library who may read the range while it is held. */
void vx_image_pin(struct vx_image *image, struct vx_held *held, uint64_t guest_offset, uint64_t length);
void vx_image_release(struct vx_image *image, struct vx_held *held);

/* What one layer says about the beginning of a guest range. */
enum vx_layer_source { VX_LAYER_DATA, VX_LAYER_ZERO, VX_LAYER_UNSET, VX_LAYER_BELOW };
struct vx_layer_extent {
    enum vx_layer_source source; /* UNSET: reads as zeros, nothing is stored (state 0 without parent) */
    uint64_t             length; /* bytes from the range's start, at least 1 */
    uint64_t             file_offset; /* DATA */
};
/* The caller holds the range (shared is enough), or is the only user.  Extents that continue each other in the file are
 * merged up to `length`. */
int vx_image_resolve(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vx_layer_extent *out,
                     struct vhdx_error *err);

/* Payload bytes as they lie in the file (through the replayed view). */
int vx_image_read_payload(struct vx_image *image, void *buffer, size_t length, uint64_t file_offset,
                          struct vhdx_error *err);

/* Modify.  Ranges lie inside the disk (the caller checked).  Thread-safe; the caller holds nothing. */
int vx_image_write(struct vx_image *image, const void *buffer, size_t length, uint64_t guest_offset,
                   struct vhdx_error *err);
/* Over sectors that are present already: from another storage inside of the host (copy_from of vhdx/storage.h).
 * VHDX_E_UNSUPPORTED, also where some sector is not present: the range is to be written. */
int vx_image_copy_from(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_storage *from,
                       uint64_t from_offset, bool only_share, struct vhdx_error *err);
int vx_image_zero(struct vx_image *image, uint64_t guest_offset, uint64_t length, bool only_fast,
                  struct vhdx_error *err);
int vx_image_trim(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_error *err);
int vx_image_flush(struct vx_image *image, struct vhdx_error *err);

/* Free the sector bitmap block of a chunk in which no block is in state 7 (rule R2 guards its space).  *is_freed tells
 * whether there was one.  For compact and for tests. */
int vx_image_drop_bitmap(struct vx_image *image, uint64_t chunk_index, bool *is_freed, struct vhdx_error *err);

/* Whole blocks to what docs/vhdx-format.md 4.5 says of an intent, many in one edit.  TRANSPARENT is for blocks of which nothing is
 * shown: the parent's bytes appear. */
int vx_image_discard_blocks(struct vx_image *image, uint64_t first_block, uint64_t end_block,
                            enum vx_discard_intent intent, struct vhdx_error *err);

/* Holes in the host's file where the image holds bytes of a range, at any granularity the host takes; no state changes, also
 * of a fixed image.  VHDX_E_UNSUPPORTED where the host cannot. */
int vx_image_punch(struct vx_image *image, uint64_t guest_offset, uint64_t length, struct vhdx_error *err);

/* --- for compacting (move.c) --- */

/*
 * Move a payload block, or a chunk's sector bitmap block, from where it lies to free space.
 *
 *   is_moved   false, and nothing happened, when the block is not at `from` any more or `to` is not free
 *   buffer     for the copying, at least 4 KiB and a multiple of it; the caller's
 *   durable    with the next flush, which also lets go of the old place
 */
struct vx_move {
    bool     is_bitmap;
    uint64_t index; /* of the block, or of the chunk */
    uint64_t from, to; /* file offsets */
    void    *buffer;
    size_t   buffer_size;
};
int vx_image_move(struct vx_image *image, const struct vx_move *move, bool *is_moved, struct vhdx_error *err);

/* Make holes of what nothing refers to, where there is data.  *punched counts bytes.  Writes nothing when there is none. */
int vx_image_punch_free(struct vx_image *image, uint64_t *punched, struct vhdx_error *err);

/* Let close cut what lies past the last thing in use, also when nothing else was written. */
int vx_image_cut_at_close(struct vx_image *image, struct vhdx_error *err);

/*
 * Every entry of the BAT that says anything, judged, in order; so a chunk's sector bitmap comes after its blocks.  `take` may edit the
 * image.  Edits since the last flush are seen, or not, where the file has no data for their page yet.
 */
struct vx_map_item {
    bool                is_bitmap;
    uint64_t            index; /* of the block, or of the chunk */
    struct vx_bat_entry entry;
};
typedef int (*vx_take_entry)(void *context, const struct vx_map_item *item, struct vhdx_error *err);
int vx_image_each_entry(struct vx_image *image, vx_take_entry take, void *context, struct vhdx_error *err);

/* Header section, log and regions, in order; as long as the image is open. */
const struct vx_reserved_range *vx_image_reserved(const struct vx_image *image, size_t *count);

/*
 * Change bytes of logged structures (metadata region, region tables), all in one log entry (L6).  The ranges lie in structures
 * that are referenced; the change is durable after the next flush.  For metadata items, the locator, the disk's size.
 *
 *   errors  VHDX_E_LIMIT when the pages do not fit one entry
 */
struct vx_edit {
    uint64_t    file_offset, length;
    const void *bytes;
};
int vx_image_edit(struct vx_image *image, const struct vx_edit *edits, size_t edit_count, struct vhdx_error *err);

/* --- space that a job fills by itself before one edit names it (own_space.c) --- */

/* Take `length` bytes (a multiple of 1 MiB) that read as zeros; with takes_host_space the host's space as well, so that no later
 * write of them can fail for want of room.  Nothing names them: without an edit that does they are lost with the next open. */
int  vx_image_take_space(struct vx_image *image, uint64_t length, bool takes_host_space, uint64_t *file_offset,
                         struct vhdx_error *err);
/* Give back what no edit has named. */
void vx_image_give_back_space(struct vx_image *image, uint64_t file_offset, uint64_t length);
/* Write it; or zero bytes of a block that no guest can see, past the end of the disk.  Durable before the next vx_image_edit
 * is. */
int  vx_image_write_space(struct vx_image *image, const void *buffer, size_t length, uint64_t file_offset,
                          struct vhdx_error *err);
int  vx_image_zero_space(struct vx_image *image, uint64_t file_offset, uint64_t length, struct vhdx_error *err);
/* An edit that waits for the next flush has dropped this structure (a BAT region): its space is free when R2 says so. */
void vx_image_let_go_structure(struct vx_image *image, uint64_t file_offset, uint64_t length);

/* Read logged structures as they are now, edits included. */
int vx_image_read_structure(struct vx_image *image, void *buffer, size_t length, uint64_t file_offset,
                            struct vhdx_error *err);

/* Where the metadata region lies. */
struct vx_region vx_image_metadata_region(const struct vx_image *image);

/* Host file the payload lies in, for SEEK_DATA inside DATA extents. */
struct vhdx_storage *vx_image_storage(struct vx_image *image);

#endif
