/*
 * Looking at the structures of a VHDX file one by one, sound or not: for examiners, for people who mend a file by hand, and to
 * learn the format.  Nothing is written and nothing is believed: what a structure says is handed over beside what is wrong with
 * it, and what cannot be found any more is told, too.
 *
 * Memory is bounded, whatever the file says: a few MiB, 64 bytes for each valid entry of the log, and for the free space two
 * bits for each MiB of the file.  Rows are handed over as they are read, so a walk over the table of a 64 TiB disk streams.
 */
#ifndef VHDX_INSPECT_H
#define VHDX_INSPECT_H

#include <stdbool.h>
#include <stddef.h>

#include <vhdx/guid.h>
#include <vhdx/storage.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vhdx_inspection;

struct vhdx_inspect_options {
    /* Region tables, metadata, BAT, sector bitmaps and free space as a reader sees them, through the log.  Else as they lie
     * in the file.  Identifier, headers and log lie where they lie either way: no log may change them. */
    bool replayed;
};

/*
 * Begin to look at a file.
 *
 *   storage  borrowed until vhdx_inspect_close; nobody may write to it meanwhile
 *   options  may be NULL
 *   errors   VHDX_E_NOT_VHDX when neither an identifier, nor a header, nor a region table is there; _IO, _NO_MEMORY
 *   threads  one at a time
 */
int  vhdx_inspect_open(struct vhdx_inspection **out, struct vhdx_storage *storage,
                       const struct vhdx_inspect_options *options, struct vhdx_error *err);
void vhdx_inspect_close(struct vhdx_inspection *inspection); /* NULL is fine */

/* What is known of the file as a whole. */
struct vhdx_inspected_file {
    uint64_t          file_size;
    bool              is_dirty;        /* the current header asks for the log to be replayed */
    bool              is_replayed;     /* what is shown is seen through the log, as asked */
    struct vhdx_error replay_problem;  /* code 0, or why it is not, although asked */
    bool              has_shape;       /* the next four are known */
    uint64_t          virtual_size;
    uint32_t          block_size;
    uint64_t          payload_block_count, chunk_count;
    bool              is_differencing;
};
void vhdx_inspect_file(const struct vhdx_inspection *inspection, struct vhdx_inspected_file *out);

/* --- rows; all they point to is borrowed for the call --- */

struct vhdx_inspected_identifier {
    uint64_t file_offset;
    bool     has_signature;
    char     creator[256 * 3 + 1]; /* UTF-8, as it lies: not escaped */
};

/* A header copy.  The fields of one that is not valid are what its bytes would say. */
struct vhdx_inspected_header {
    int               copy; /* 1 or 2 */
    uint64_t          file_offset;
    bool              is_valid, is_current;
    struct vhdx_error problem; /* of one that is not valid */
    uint64_t          sequence_number;
    struct vhdx_guid  file_write_guid, data_write_guid, log_guid;
    uint16_t          log_version, version;
    uint32_t          log_length;
    uint64_t          log_offset;
};

struct vhdx_inspected_region_table {
    int               copy; /* 1 or 2 */
    uint64_t          file_offset;
    bool              is_valid;
    bool              is_used; /* what is shown of the rest of the file was found by it, also where it is not valid */
    struct vhdx_error problem;
    uint32_t          entry_count;
};

/* An entry of the copy told before. */
struct vhdx_inspected_region {
    int              copy;
    uint32_t         index;
    struct vhdx_guid guid;
    const char      *name; /* "BAT", "metadata", or NULL: not known */
    uint64_t         file_offset;
    uint32_t         length, flags; /* bit 0: required */
};

struct vhdx_inspected_metadata_table {
    uint64_t          file_offset, region_length;
    uint32_t          entry_count;
    struct vhdx_error problem; /* code 0, or why it has no entries to show */
};

#define VHDX_ITEM_IS_USER         1u
#define VHDX_ITEM_IS_VIRTUAL_DISK 2u
#define VHDX_ITEM_IS_REQUIRED     4u

enum vhdx_item_value { VHDX_ITEM_OPAQUE, VHDX_ITEM_FILE_PARAMETERS, VHDX_ITEM_SIZE, VHDX_ITEM_GUID };

struct vhdx_inspected_item {
    uint32_t         index;
    bool             is_stale; /* a slot after the last entry: garbage, or what was there before; no bytes */
    struct vhdx_guid item_id;
    const char      *name;   /* of a system item ("Virtual Disk ID"), or NULL */
    uint32_t         flags;  /* VHDX_ITEM_*, bits 3 to 31 reserved */
    uint32_t         offset, length; /* from the start of the region; bytes */
    uint64_t         file_offset;
    const uint8_t   *bytes;
    size_t           byte_count; /* less than length when the item reaches out of its region, the file, or 1 MiB */
    enum vhdx_item_value value;  /* which of the next are set */
    uint32_t         block_size, file_flags; /* bit 0: LeaveBlocksAllocated, 1: HasParent */
    uint64_t         size;
    struct vhdx_guid guid;
};

struct vhdx_inspected_locator {
    uint64_t         file_offset;
    uint32_t         length;
    struct vhdx_guid type;
    uint32_t         pair_count;
};

struct vhdx_inspected_locator_pair {
    uint32_t    index;
    uint32_t    key_offset, value_offset; /* in the item */
    uint16_t    key_length, value_length; /* bytes */
    const char *key, *value; /* UTF-8, U+FFFD for what is malformed, not escaped; NULL: lies outside of the item, or
                              * strings overlap so often that they are not shown any more */
};

struct vhdx_inspected_log {
    uint64_t         file_offset;
    uint32_t         length;
    struct vhdx_guid guid;       /* of the current header; zero: the log is empty, whatever lies in it */
    bool             has_active; /* a valid sequence is there to be replayed: the next four */
    uint32_t         tail, head; /* positions of its entries, from the start of the log */
    uint64_t         first_sequence_number, last_sequence_number;
};

enum vhdx_log_entry_state {
    VHDX_LOG_LIVE,    /* would be replayed */
    VHDX_LOG_APPLIED, /* of the session that the header names, and not to be replayed (any more) */
    VHDX_LOG_STALE,   /* of an earlier session */
    VHDX_LOG_BROKEN   /* begins like an entry and is none: torn, overwritten in part, or never one */
};

struct vhdx_inspected_log_entry {
    uint32_t                  position; /* from the start of the log */
    uint64_t                  file_offset;
    enum vhdx_log_entry_state state;
    const char               *problem;  /* of a broken one */
    uint64_t                  length_seen; /* of a broken one: bytes that hold together */
    uint64_t                  sequence_number;
    uint32_t                  length, tail, descriptor_count;
    struct vhdx_guid          log_guid;
    uint64_t                  flushed_file_offset, last_file_offset;
};

/* What a place in the file belongs to, as the structures of the view say. */
enum vhdx_place_kind {
    VHDX_PLACE_UNKNOWN, /* a payload block's, or nobody's */
    VHDX_PLACE_HEADERS,
    VHDX_PLACE_REGION_TABLE, /* number: 1 or 2 */
    VHDX_PLACE_LOG,
    VHDX_PLACE_BAT,          /* number: the first entry in the page, count: entries */
    VHDX_PLACE_METADATA,     /* number: offset in the region */
    VHDX_PLACE_SECTOR_BITMAP, /* number: the chunk */
    VHDX_PLACE_OTHER_REGION
};

/* A descriptor of the entry told before; broken entries have none. */
struct vhdx_inspected_log_descriptor {
    uint32_t             index;
    bool                 is_zero;     /* makes zeros; else a page */
    uint64_t             file_offset; /* where to */
    uint64_t             length;
    uint64_t             data_offset; /* of a page: where its bytes lie in the file */
    enum vhdx_place_kind place;
    uint64_t             place_number, place_count;
};

enum vhdx_bat_kind {
    VHDX_BAT_PAYLOAD, /* index: of the block */
    VHDX_BAT_BITMAP,  /* index: of the chunk */
    VHDX_BAT_PADDING, /* past the end of the disk, and not 0; index: of the entry */
    VHDX_BAT_UNKNOWN  /* the shape of the disk is not known; index: of the entry */
};

/* Entries that follow each other and say the same; where they have an offset, their blocks lie one behind the other. */
struct vhdx_inspected_bat_run {
    enum vhdx_bat_kind kind;
    uint64_t           index, count;
    uint64_t           entry_offset; /* of the first entry, in the file */
    uint64_t           raw;          /* the first entry */
    uint8_t            state;
    uint64_t           file_offset;  /* of the first block; 0: none */
    struct vhdx_error  problem;      /* code 0, or the worst rule the entry breaks; count is 1 then */
};

/* "FULLY_PRESENT", "state 4". */
const char *vhdx_block_state_name(enum vhdx_bat_kind kind, uint8_t state);

/* The sector bitmap block of a chunk. */
struct vhdx_inspected_bitmap {
    uint64_t chunk_index;
    uint8_t  state;
    uint64_t file_offset;
};

/* The part of it that is about one block, told when it has a bit set or the block is in state PARTIALLY_PRESENT, and then the
 * sectors that are present. */
struct vhdx_inspected_slice {
    uint64_t chunk_index, block_index;
    uint8_t  block_state;
    uint64_t file_offset;
    uint32_t sector_count, present_count;
};
struct vhdx_inspected_sectors {
    uint64_t block_index;
    uint32_t sector, count; /* in the block */
};

struct vhdx_inspected_free {
    uint64_t file_offset, length; /* to the MiB */
};

/*
 * Who is told.  Any may be NULL.  A non-zero answer ends the walk with VHDX_E_CANCELLED.
 *
 *   finding  a rule that is broken in the part that is shown (docs/vhdx-format.md, section 8)
 *   missing  something that cannot be shown, and why
 */
struct vhdx_inspect_visitor {
    void *context;
    int (*finding)(void *context, const struct vhdx_error *finding);
    int (*missing)(void *context, const struct vhdx_error *why);
    int (*identifier)(void *context, const struct vhdx_inspected_identifier *row);
    int (*header)(void *context, const struct vhdx_inspected_header *row);
    int (*region_table)(void *context, const struct vhdx_inspected_region_table *row);
    int (*region)(void *context, const struct vhdx_inspected_region *row);
    int (*metadata_table)(void *context, const struct vhdx_inspected_metadata_table *row);
    int (*item)(void *context, const struct vhdx_inspected_item *row);
    int (*locator)(void *context, const struct vhdx_inspected_locator *row);
    int (*locator_pair)(void *context, const struct vhdx_inspected_locator_pair *row);
    int (*log)(void *context, const struct vhdx_inspected_log *row);
    int (*log_entry)(void *context, const struct vhdx_inspected_log_entry *row);
    int (*log_descriptor)(void *context, const struct vhdx_inspected_log_descriptor *row);
    int (*bat_run)(void *context, const struct vhdx_inspected_bat_run *row);
    int (*bitmap)(void *context, const struct vhdx_inspected_bitmap *row);
    int (*slice)(void *context, const struct vhdx_inspected_slice *row);
    int (*sectors)(void *context, const struct vhdx_inspected_sectors *row);
    int (*free_space)(void *context, const struct vhdx_inspected_free *row);
};

enum vhdx_inspect_part {
    VHDX_INSPECT_HEADERS, /* the identifier and both headers */
    VHDX_INSPECT_REGIONS,
    VHDX_INSPECT_METADATA,
    VHDX_INSPECT_LOCATOR, /* nothing, in an image without one */
    VHDX_INSPECT_LOG,
    VHDX_INSPECT_BAT,     /* the range counts blocks; entries, when the shape is not known */
    VHDX_INSPECT_BITMAP,  /* the range counts chunks; nothing, in an image without a parent */
    VHDX_INSPECT_FREE
};

struct vhdx_inspect_range {
    uint64_t first, end; /* [first, end); an end past the last one is the end */
};

/*
 * Show one part.  Runs of the BAT come in the order in which they end.
 *
 *   range    of BAT and BITMAP; NULL: everything.  Of other parts: not looked at
 *   returns  0 when the part was shown as far as it goes; whoever must know whether that is all counts `missing`
 *   errors   VHDX_E_CANCELLED, _IO, _NO_MEMORY
 */
int vhdx_inspect(struct vhdx_inspection *inspection, enum vhdx_inspect_part part,
                 const struct vhdx_inspect_range *range, const struct vhdx_inspect_visitor *visitor,
                 struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
