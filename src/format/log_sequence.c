/*
 * Which entries of a log count: the active sequence.  docs/vhdx-format.md 6.4, the linear form.
 *
 *   I1  Valid entries never overlap (log_entry.c, I1).  So of entries in rising order of position only the next
 *       one, or for the last the first, can begin where an entry ends.
 *   I2  Sequence numbers rise along a chain of entries, so a chain never closes into a ring.
 */
#include "format/log_sequence.h"

#include <inttypes.h>

#include "base/checked.h"
#include "format/layout.h"

#define NONE UINT32_MAX

static bool
follows(const struct vx_log_place *place, const struct vx_log_place *next, uint64_t log_length)
{
    return ((uint64_t)place->position + place->entry_length) % log_length == next->position &&
           place->sequence_number != UINT64_MAX && next->sequence_number == place->sequence_number + 1;
}

static void
link_places(struct vx_log_place *places, size_t count, uint64_t log_length)
{
    size_t i;

    for (i = 0; i < count; i++)
        places[i].next = places[i].previous = NONE;
    for (i = 0; i < count; i++) {
        size_t next = (i + 1) % count;

        if (follows(&places[i], &places[next], log_length)) {
            places[i].next = (uint32_t)next;
            places[next].previous = (uint32_t)i;
        }
    }
}

static uint32_t
last_of(const struct vx_log_place *places, uint32_t first)
{
    while (places[first].next != NONE)
        first = places[first].next;
    return first;
}

/* The entry of the sequence that begins at `first` which lies at the head's tail, or NONE: the sequence is
 * incomplete. */
static uint32_t
find_tail(const struct vx_log_place *places, uint32_t first, uint32_t head)
{
    uint32_t i;

    for (i = first; i != NONE; i = places[i].next) {
        if (places[i].position == places[head].tail)
            return i;
    }
    return NONE;
}

bool
vx_log_find_active(struct vx_log_place *places, size_t count, uint64_t log_length, uint32_t *tail_index,
                   uint32_t *head_index)
{
    bool is_found = false;
    uint32_t i;

    if (count == 0 || count >= NONE || log_length == 0)
        return false;
    link_places(places, count, log_length);
    for (i = 0; i < count; i++) {
        uint32_t head, tail;

        if (places[i].previous != NONE)
            continue;
        head = last_of(places, i);
        tail = find_tail(places, i, head);
        if (tail == NONE)
            continue;
        if (is_found && places[head].sequence_number <= places[*head_index].sequence_number)
            continue;
        *tail_index = tail;
        *head_index = head;
        is_found = true;
    }
    return is_found;
}

/* V43 to V46 of one entry. */
static void
judge_entry(const struct vx_log_place *place, uint64_t at, uint64_t file_length, struct vx_findings *findings)
{
    uint64_t limit = vx_round_up(vx_max_u64(file_length, place->last_file_offset), VX_MIB);

    if (place->highest_target_end > limit)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 43, VHDX_E_BAD_LOG, VHDX_PART_LOG, at,
                "log entry %" PRIu64 ": a descriptor ends at 0x%" PRIx64 ", expected at most 0x%" PRIx64
                ", the end of the file it describes", place->sequence_number, place->highest_target_end, limit);
    if (!vx_is_aligned(place->flushed_file_offset, VX_MIB) || !vx_is_aligned(place->last_file_offset, VX_MIB))
        vx_find(findings, VHDX_SEVERITY_WARN, 44, VHDX_E_BAD_LOG, VHDX_PART_LOG, at + 48,
                "log entry %" PRIu64 ": FlushedFileOffset 0x%" PRIx64 ", LastFileOffset 0x%" PRIx64
                ", expected multiples of 1 MiB", place->sequence_number, place->flushed_file_offset,
                place->last_file_offset);
    if (place->last_file_offset > VX_MAX_FILE_SIZE)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 45, VHDX_E_BAD_LOG, VHDX_PART_LOG, at + 56,
                "log entry %" PRIu64 ": LastFileOffset 0x%" PRIx64 ", expected at most 256 TiB",
                place->sequence_number, place->last_file_offset);
    if (place->has_stray_bits)
        vx_find(findings, VHDX_SEVERITY_WARN, 46, VHDX_E_BAD_LOG, VHDX_PART_LOG, at,
                "log entry %" PRIu64 ": a reserved field or an unused descriptor slot is not zero",
                place->sequence_number);
}

void
vx_log_sequence_judge(const struct vx_log_place *places, uint32_t tail_index, uint32_t head_index,
                      uint64_t log_offset, uint64_t log_length, uint64_t file_length, struct vx_findings *findings)
{
    const struct vx_log_place *head = &places[head_index];
    uint64_t total_length = 0;
    uint32_t i;

    /* Only the head counts: a shrink leaves older entries with larger values. */
    if (file_length < head->flushed_file_offset)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 31, VHDX_E_TRUNCATED, VHDX_PART_LOG,
                log_offset + head->position + 48, "log entry %" PRIu64 " (the newest): FlushedFileOffset 0x%" PRIx64
                ", expected at most the file's length 0x%" PRIx64 ": the file was cut", head->sequence_number,
                head->flushed_file_offset, file_length);
    for (i = tail_index; i != NONE; i = places[i].next) {
        judge_entry(&places[i], log_offset + places[i].position, file_length, findings);
        total_length += places[i].entry_length;
        if (i == head_index)
            break;
    }
    if (total_length > log_length)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 47, VHDX_E_BAD_LOG, VHDX_PART_LOG, log_offset + head->position,
                "log: the active sequence has 0x%" PRIx64 " bytes, expected at most the log's 0x%" PRIx64,
                total_length, log_length);
}
