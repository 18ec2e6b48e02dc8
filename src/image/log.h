/*
 * The log's writer: entries of page images in a ring (docs/vhdx-format.md 6.6; docs/durability.md).
 *
 *   W3  A page is written in place only after the entry carrying it is durable (L8).
 *   W4  The tail passes an entry only after a flush that began after that entry's pages were applied (L9).
 *   W5  An entry uses only sectors outside [durable tail, head), and one sector stays free (L4, L5).  An entry is at most a
 *       third of the ring (L14), so three fit: the one at the durable tail, the one after it, and the one being written.
 *
 * Used by the running commit alone; no lock of its own.
 */
#ifndef VX_LOG_H
#define VX_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/guid.h>
#include <vhdx/storage.h>

struct vx_log {
    struct vhdx_storage *storage;
    uint64_t             file_offset; /* of the ring */
    uint32_t             length;      /* of the ring, bytes */
    bool                 is_started;
    struct vhdx_guid     guid;
    uint64_t             next_sequence_number;
    uint32_t             head;               /* where the next entry goes; positions are offsets into the ring */
    uint32_t             durable_tail;       /* Tail of the newest durable entry */
    uint64_t             durable_tail_sequence_number; /* of the entry at the durable tail */
    uint32_t             last_position;      /* of the newest durable entry */
    bool                 last_is_stable;     /* its pages are applied and flushed (W4) */
    uint8_t             *entry;              /* owned: room for the largest entry */
    uint32_t             entry_capacity;
};

/* What an entry says besides its pages. */
struct vx_log_lengths {
    uint64_t flushed_file_offset, last_file_offset;
};

/* One page to log: where it belongs, and its bytes. */
struct vx_log_page {
    uint64_t       file_offset;
    const uint8_t *bytes;
};

/* Largest number of pages such that three entries and a free sector fit the ring (L14). */
size_t vx_log_page_limit(uint64_t log_length);

/* Empty entry at position 0 of a ring that no header names yet (5.4 step 5).  Not flushed. */
int vx_log_start(struct vx_log *log, struct vhdx_storage *storage, uint64_t file_offset, uint32_t length,
                 const struct vx_log_lengths *lengths, struct vhdx_error *err);

/* Write an entry.  Not flushed: when the caller's flush has succeeded, vx_log_commit_entry. */
int vx_log_append(struct vx_log *log, const struct vx_log_page *pages, size_t page_count,
                  const struct vx_log_lengths *lengths, struct vhdx_error *err);
void vx_log_commit_entry(struct vx_log *log);

/* A flush succeeded that began after the newest entry's pages were applied. */
void vx_log_note_flush(struct vx_log *log);

void vx_log_destroy(struct vx_log *log);

#endif
