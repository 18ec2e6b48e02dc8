/*
 * The check: every rule of docs/vhdx-format.md section 8 that one file decides by itself, in the order of 8.10.
 *
 * check.c steers; each stage has its file, looks at what the stages before it found out, and leaves behind what the
 * next ones need.  The rules themselves live in src/format: a stage reads bytes, hands them over, and judges only
 * what needs more than one structure (space, chunks, the whole table).
 *
 *   K1  Nothing is written.
 *   K2  A stage never fails for what the file contains: that is a finding, and what it spoils is marked as not
 *       known (has_*).  A stage fails for I/O, for memory, and when it is cancelled.
 *   K3  Whoever could not look at a rule that applies clears is_complete.
 *   K4  Memory does not follow what the file claims to be: one or two bits for each MiB the file really has.
 */
#ifndef VX_CHECK_H
#define VX_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/ops.h>

#include "format/bat.h"
#include "format/findings.h"
#include "format/geometry.h"
#include "format/header.h"
#include "format/metadata.h"
#include "format/region.h"
#include "ops/check_report.h"
#include "ops/check_space.h"

struct vx_check {
    struct vhdx_storage        *storage;     /* the file as it lies; the caller's */
    struct vhdx_storage        *view;        /* what is looked at: the file, or the log laid over it */
    struct vhdx_storage        *replayed;    /* the log laid over the file; owned, NULL when there is none */
    uint64_t                    file_length; /* of the view */
    bool                        ignore_log;
    struct vx_check_report      report;
    struct vx_findings          findings;    /* goes to the report */
    const struct vhdx_progress *progress;
    struct vhdx_check_summary  *summary;

    /* Known after each stage, when has_* says so. */
    bool                    has_header;   /* a current header of a version we know */
    struct vx_header        header;       /* without one: no log */
    struct vx_region_table *table;        /* owned, allocated before the first stage */
    bool                    has_metadata_region, has_bat_region; /* places that can be read */
    struct vx_regions       regions;
    bool                    has_geometry;
    struct vx_metadata      metadata;
    struct vx_geometry      geometry;
    struct vx_used_map      used;
};

/* One check, for whoever wants to know more than the findings: what the stages left behind lives until vx_check_free, which
 * takes NULL.  `summary` is the caller's and outlives the check. */
int  vx_check_new(struct vx_check **out, struct vhdx_storage *storage, const struct vhdx_check_options *options,
                  void (*report)(void *context, const struct vhdx_error *finding), void *context,
                  struct vhdx_check_summary *summary, struct vhdx_error *err);
int  vx_check_run(struct vx_check *check, struct vhdx_error *err);
void vx_check_free(struct vx_check *check);

/* The stages.  `*go_on` is false when nothing further can be trusted. */
int vx_check_head(struct vx_check *check, bool *go_on, struct vhdx_error *err);
int vx_check_log(struct vx_check *check, struct vhdx_error *err);
int vx_check_regions(struct vx_check *check, struct vhdx_error *err);
int vx_check_metadata(struct vx_check *check, struct vhdx_error *err);
int vx_check_bat(struct vx_check *check, struct vhdx_error *err);
int vx_check_leaks(struct vx_check *check, struct vhdx_error *err);

/*
 * The sector bitmap of one chunk (V155 to V157).
 *
 *   partial   a bit for each payload block of the chunk that is in state 7
 *   buffer    VX_SECTOR_BITMAP_SIZE bytes of scratch
 */
int vx_check_bitmap(struct vx_check *check, uint64_t chunk_index, uint64_t bitmap_offset, const uint8_t *partial,
                    uint8_t *buffer, struct vhdx_error *err);

#endif
