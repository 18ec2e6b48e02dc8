/* Finding the active sequence among the valid entries of a log (docs/vhdx-format.md 6.4, the linear form). */
#ifndef VX_LOG_SEQUENCE_H
#define VX_LOG_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "format/findings.h"

/* One valid entry, as a scan records it, in rising order of position. */
struct vx_log_place {
    uint32_t position;            /* from the start of the log, bytes */
    uint32_t entry_length;
    uint32_t tail;
    uint32_t descriptor_count;
    uint64_t sequence_number;
    uint64_t flushed_file_offset;
    uint64_t last_file_offset;
    uint64_t highest_target_end;
    uint32_t next;                /* scratch: index of the entry that follows it, or UINT32_MAX */
    uint32_t previous;            /* scratch */
    bool     has_stray_bits;      /* V46: as the entry's check found */
};

/*
 * Link the entries and choose the active sequence: the complete one with the largest head.
 *   tail_index, head_index   the part to replay: follow `next` from tail to head
 *   returns                  false when there is none (V30)
 */
bool vx_log_find_active(struct vx_log_place *places, size_t count, uint64_t log_length, uint32_t *tail_index,
                        uint32_t *head_index);

/* V31, V43 to V47 over the part to be replayed.  `log_offset` is for messages. */
void vx_log_sequence_judge(const struct vx_log_place *places, uint32_t tail_index, uint32_t head_index,
                           uint64_t log_offset, uint64_t log_length, uint64_t file_length,
                           struct vx_findings *findings);

#endif
