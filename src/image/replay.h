/*
 * The reader's side of the log: find the active sequence, lay it over the file or write it into the file
 * (docs/vhdx-format.md 6.3 to 6.5).
 */
#ifndef VX_REPLAY_H
#define VX_REPLAY_H

#include <vhdx/storage.h>

#include "format/findings.h"
#include "format/header.h"
#include "format/log_sequence.h"

struct vx_log_scan {
    struct vx_log_place *places; /* owned: vx_log_scan_free */
    size_t               place_count;
    uint32_t             tail_index, head_index;
    bool                 has_active;
    uint64_t             log_offset, log_length;
};

/* Read the log of `header` and find the active sequence (V30 is reported when there is none).  Bounded memory: 1 MiB of
 * buffer and 64 bytes per valid entry.  log_length may be smaller than the header's (tests). */
int  vx_log_scan(struct vx_log_scan *out, struct vhdx_storage *storage, const struct vx_header *header,
                 uint64_t log_length, uint64_t file_length, struct vx_findings *findings, struct vhdx_error *err);
void vx_log_scan_free(struct vx_log_scan *scan);

/* The replayed view: an overlay over `storage`, which it does not own. */
int vx_replay_view(struct vhdx_storage **out, struct vhdx_storage *storage, const struct vx_log_scan *scan,
                   uint64_t file_length, struct vhdx_error *err);

#endif
