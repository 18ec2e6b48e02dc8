/*
 * The reader's side of the log: find the active sequence, lay it over the file or write it into the file
 * (docs/vhdx-format.md 6.3 to 6.5).
 */
#ifndef VX_REPLAY_H
#define VX_REPLAY_H

#include <vhdx/storage.h>

#include "format/findings.h"
#include "format/header.h"
#include "format/log_entry.h"
#include "format/log_sequence.h"

struct vx_log_scan {
    struct vx_log_place *places; /* owned: vx_log_scan_free */
    size_t               place_count;
    uint32_t             tail_index, head_index;
    bool                 has_active;
    uint64_t             log_offset, log_length;
};

/* Where a log lies, and whose entries are asked for. */
struct vx_log_ring {
    uint64_t                file_offset, length; /* length a multiple of 4 KiB; their sum does not wrap */
    const struct vhdx_guid *log_guid;            /* NULL: entries of any session, stale ones too */
};

/* What begins like an entry.  Borrowed for the call. */
struct vx_log_found {
    uint64_t                         position;    /* from the start of the log */
    bool                             is_valid;    /* E1 to E13 hold (E2 as asked) */
    uint64_t                         length_seen; /* bytes that were looked at and good; of a valid entry, all */
    const struct vx_log_entry_check *check;       /* the header is decoded in any case */
};
typedef int (*vx_take_log_entry)(void *context, const struct vx_log_found *found, struct vhdx_error *err);

/* Every entry of a ring in rising order of position, broken ones too.  Bounded memory, each sector read a bounded number of
 * times.  Ends with what `take` returns below 0. */
int vx_log_each_entry(struct vhdx_storage *storage, const struct vx_log_ring *ring, vx_take_log_entry take, void *context,
                      struct vhdx_error *err);

/* Every descriptor of an entry that was valid; of the scan the log's place counts, of the place position and descriptor_count.
 * data_offset is where its data sector lies in the file. */
typedef int (*vx_take_log_descriptor)(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset,
                                      struct vhdx_error *err);
int vx_log_each_descriptor(struct vhdx_storage *storage, const struct vx_log_scan *scan, const struct vx_log_place *place,
                           vx_take_log_descriptor take, void *context, struct vhdx_error *err);

/* Read the log of `header` and find the active sequence (V30 is reported when there is none).  Bounded memory: 1 MiB of
 * buffer and 64 bytes per valid entry.  log_length may be smaller than the header's (tests). */
int  vx_log_scan(struct vx_log_scan *out, struct vhdx_storage *storage, const struct vx_header *header,
                 uint64_t log_length, uint64_t file_length, struct vx_findings *findings, struct vhdx_error *err);
void vx_log_scan_free(struct vx_log_scan *scan);

/* Takes a descriptor: lays its page or zeros over the file.  The context is a struct vx_overlay_builder. */
int vx_log_add_to_overlay(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset,
                          struct vhdx_error *err);

/* The replayed view: an overlay over `storage`, which it does not own. */
int vx_replay_view(struct vhdx_storage **out, struct vhdx_storage *storage, const struct vx_log_scan *scan,
                   uint64_t file_length, struct vhdx_error *err);

/*
 * Into the file, in two steps, for whoever writes the headers himself (Y1 to Y4 in replay.c).  vx_replay_secure rewrites
 * what is trusted, and the caller flushes.  vx_replay_apply writes length and pages and flushes.
 *
 *   within   true: nothing past file_length is written, and the file does not grow: of a file that was cut (V31)
 */
int vx_replay_secure(struct vhdx_storage *storage, const struct vx_log_scan *scan, struct vhdx_error *err);
int vx_replay_apply(struct vhdx_storage *storage, const struct vx_log_scan *scan, uint64_t file_length, bool within,
                    struct vhdx_error *err);

#endif
