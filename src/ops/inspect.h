/*
 * Showing a file's structures (include/vhdx/inspect.h).  inspect.c finds out what is known and hands over the fixed places;
 * each other part has its file.
 *
 *   N1  No rule and no layout is written down here: src/format decodes and judges, this hands over.
 *   N2  What rests on something that is gone is missing, and told so; nothing is guessed but which region table to follow
 *       when neither is valid.
 *   N3  A place that the file names is used only when it begins inside of the file; what lies past its end reads as zeros.
 */
#ifndef VX_INSPECT_H
#define VX_INSPECT_H

#include <vhdx/inspect.h>

#include "format/bat.h"
#include "format/geometry.h"
#include "format/header.h"
#include "format/metadata.h"
#include "format/region.h"
#include "image/replay.h"

#define VX_INSPECT_HEAD (VX_REGION_TABLE_OFFSET(2)) /* identifier, headers, region tables */

struct vhdx_inspection {
    struct vhdx_storage *storage, *view; /* as it lies; what is shown */
    struct vhdx_storage *replayed;       /* owned; NULL: the view is the file as it lies */
    uint64_t             file_length, view_length;
    struct vhdx_error    replay_problem;

    const struct vhdx_inspect_visitor *visitor; /* while a part is shown */
    struct vx_findings   findings;              /* hands over to it */
    bool                 is_cancelled;

    uint8_t             *head;        /* owned; VX_INSPECT_HEAD bytes of the file as it lies */
    bool                 has_header;  /* a current one */
    struct vx_header     header;      /* without one: no log */
    int                  header_index;

    uint8_t                *tables;   /* owned; both region tables, of the view */
    struct vx_region_table *table;    /* owned; the one that is followed */
    int                     table_index;
    bool                    has_table, has_bat, has_metadata; /* the regions begin inside of the file */
    struct vx_regions       regions;

    uint8_t                  *metadata_bytes; /* owned; the table's */
    struct vx_metadata_table *metadata_table; /* owned */
    struct vhdx_error         metadata_problem; /* code 0: the table can be read */
    struct vx_metadata        metadata;
    bool                      has_geometry;
    struct vx_geometry        geometry;

    struct vx_reserved_range *reserved; /* owned */
    size_t                    reserved_count;

    uint64_t *bitmaps;      /* owned; where each chunk's sector bitmap lies, read when it is first asked for */
};

/* Hand a row over; VHDX_E_CANCELLED when the caller has seen enough. */
#define VX_TELL(in, callback, row)                                                                  \
    ((in)->visitor->callback != NULL && (in)->visitor->callback((in)->visitor->context, (row)) != 0 \
         ? VHDX_E_CANCELLED : VHDX_OK)

/* Hand over that something cannot be shown. */
int vx_inspect_missing(struct vhdx_inspection *in, int code, enum vhdx_part part, uint64_t file_offset, const char *format,
                       ...) __attribute__((format(printf, 5, 6)));

/* How many bytes of an item can be read: those inside of the region and of VX_MAX_ITEM_LENGTH. */
uint32_t vx_inspect_item_length(const struct vhdx_inspection *in, const struct vx_metadata_entry *entry);

/* Limits for judging entries. */
struct vx_bat_limits vx_inspect_limits(const struct vhdx_inspection *in);

/* [from, end) of the BAT: entries in order, and runs of entries that are 0 and were not read one by one. */
struct vx_bat_walk {
    void *context;
    int (*entry)(void *context, uint64_t bat_index, uint64_t raw, struct vhdx_error *err);
    int (*zeros)(void *context, uint64_t bat_index, uint64_t count, struct vhdx_error *err); /* NULL: passed over */
};
int vx_inspect_walk_bat(struct vhdx_inspection *in, uint64_t from, uint64_t end, const struct vx_bat_walk *walk,
                        struct vhdx_error *err);

/* --- the parts --- */
int vx_inspect_metadata(struct vhdx_inspection *in, struct vhdx_error *err);
int vx_inspect_locator(struct vhdx_inspection *in, struct vhdx_error *err);
int vx_inspect_log(struct vhdx_inspection *in, struct vhdx_error *err);
int vx_inspect_bat(struct vhdx_inspection *in, const struct vhdx_inspect_range *range, struct vhdx_error *err);
int vx_inspect_bitmaps(struct vhdx_inspection *in, const struct vhdx_inspect_range *range, struct vhdx_error *err);
int vx_inspect_free(struct vhdx_inspection *in, struct vhdx_error *err);

#endif
