/*
 * Scanning a log: every valid entry is found in one pass, each sector read a bounded number of times however hostile the
 * log is (docs/vhdx-format.md 6.3, 6.4).
 */
#include "base/error.h"
#include "base/memory.h"
#include "format/log_entry.h"
#include "image/replay.h"
#include "storage/storage.h"

#define WINDOW_SIZE ((size_t)VX_MIB)

struct scanner {
    struct vhdx_storage      *storage;
    const struct vx_log_ring *ring;
    vx_take_log_entry         take;
    void                     *context;
    uint8_t                  *window;        /* the log's bytes from window_at on */
    uint64_t                  window_at, window_length;
};

static bool
is_in_window(const struct scanner *s, uint64_t position)
{
    return position >= s->window_at && position < s->window_at + s->window_length;
}

static int
get_sector(struct scanner *s, uint64_t position, const uint8_t **sector, struct vhdx_error *err)
{
    if (!is_in_window(s, position)) {
        size_t got, wanted = (size_t)vx_min_u64(WINDOW_SIZE, s->ring->length - position);
        int    rc = vx_storage_read_prefix(s->storage, s->window, wanted, s->ring->file_offset + position, &got, err);

        if (rc < 0)
            return rc;
        s->window_at = position;
        s->window_length = wanted;
    }
    *sector = s->window + (position - s->window_at);
    return VHDX_OK;
}

/* The next sector that may be an entry's first: no entry begins in a hole of the file, however long the log is. */
static int
skip_hole(struct scanner *s, uint64_t *position, struct vhdx_error *err)
{
    uint64_t start, end;
    int      rc;

    if (is_in_window(s, *position))
        return VHDX_OK;
    rc = vx_storage_next_data(s->storage, s->ring->file_offset + *position, &start, &end, err);
    if (rc == VHDX_OK && start == end)
        *position = s->ring->length;
    else if (rc == VHDX_OK)
        *position = vx_max_u64(*position, vx_round_down(start - s->ring->file_offset, VX_LOG_SECTOR));
    return rc;
}

/* Check the entry that may begin at `position`; *next is where the next one may begin.  The sectors of an entry, of a
 * broken one too, never look like an entry's first: they can be passed over. */
static int
check_entry(struct scanner *s, uint64_t position, uint64_t *next, struct vhdx_error *err)
{
    struct vx_log_entry_check check;
    struct vx_log_found       found = { .position = position, .length_seen = VX_LOG_SECTOR, .check = &check };
    struct vhdx_guid          own_guid;
    const uint8_t            *sector;
    enum vx_log_verdict       verdict;
    int                       rc = get_sector(s, position, &sector, err);

    *next = position + VX_LOG_SECTOR;
    if (rc < 0 || !vx_log_sector_is_entry(sector))
        return rc;
    vx_log_entry_header_decode(&check.header, sector);
    own_guid = check.header.log_guid;
    verdict = vx_log_entry_check_begin(&check, sector, s->ring->log_guid != NULL ? s->ring->log_guid : &own_guid,
                                       s->ring->file_offset, s->ring->length);
    while (verdict == VX_LOG_MORE) {
        rc = get_sector(s, (position + found.length_seen) % s->ring->length, &sector, err);
        if (rc < 0)
            return rc;
        verdict = vx_log_entry_check_feed(&check, sector);
        if (verdict != VX_LOG_INVALID)
            found.length_seen += VX_LOG_SECTOR;
    }
    *next = position + found.length_seen;
    found.is_valid = verdict == VX_LOG_VALID;
    return s->take(s->context, &found, err);
}

int
vx_log_each_entry(struct vhdx_storage *storage, const struct vx_log_ring *ring, vx_take_log_entry take, void *context,
                  struct vhdx_error *err)
{
    struct scanner s = { .storage = storage, .ring = ring, .take = take, .context = context };
    int            rc = VHDX_OK;

    s.window = vx_alloc(WINDOW_SIZE);
    if (s.window == NULL)
        return vx_fail_memory(err, "reading the log");
    for (uint64_t position = 0; position < ring->length && rc == VHDX_OK;) {
        rc = skip_hole(&s, &position, err);
        if (rc == VHDX_OK && position < ring->length)
            rc = check_entry(&s, position, &position, err);
    }
    vx_free(s.window);
    return rc;
}

/* --- the valid entries of one log --- */

/* The entry that came closest to being valid: why there is nothing to replay, when there is not. */
struct near_miss {
    int      rule; /* 0: there was none */
    uint64_t position, sequence_number;
};

struct collection {
    struct vx_log_scan *scan;
    size_t              capacity;
    struct near_miss    miss;
};

/* One of this session before those of others, then the newest. */
static void
note_miss(struct near_miss *miss, const struct vx_log_found *found)
{
    const struct vx_log_entry_check *check = found->check;
    bool is_ours = check->broken_rule != 35, had_ours = miss->rule != 35;

    if (miss->rule != 0 &&
        (is_ours != had_ours ? had_ours : check->header.sequence_number <= miss->sequence_number))
        return;
    *miss = (struct near_miss){
        .rule = check->broken_rule, .position = found->position, .sequence_number = check->header.sequence_number,
    };
}

static int
add_place(void *context, const struct vx_log_found *found, struct vhdx_error *err)
{
    struct collection               *into = context;
    struct vx_log_scan              *scan = into->scan;
    const struct vx_log_entry_check *check = found->check;

    if (!found->is_valid) {
        note_miss(&into->miss, found);
        return VHDX_OK;
    }
    if (scan->place_count == into->capacity) {
        size_t               wanted = into->capacity * 2 + 64;
        struct vx_log_place *places = vx_realloc_array(scan->places, wanted, sizeof *places);

        if (places == NULL)
            return vx_fail_memory(err, "the entries of the log");
        scan->places = places;
        into->capacity = wanted;
    }
    scan->places[scan->place_count++] = (struct vx_log_place){
        .position = (uint32_t)found->position,
        .entry_length = check->header.entry_length,
        .tail = check->header.tail,
        .descriptor_count = check->header.descriptor_count,
        .sequence_number = check->header.sequence_number,
        .flushed_file_offset = check->header.flushed_file_offset,
        .last_file_offset = check->header.last_file_offset,
        .highest_target_end = check->highest_target_end,
        .has_stray_bits = check->has_stray_bits,
    };
    return VHDX_OK;
}

/* V30, and the rule that the best entry there was breaks. */
static void
report_no_sequence(const struct collection *from, struct vx_findings *findings)
{
    const struct near_miss *miss = &from->miss;

    vx_find(findings, VHDX_SEVERITY_REFUSE, 30, VHDX_E_BAD_LOG, VHDX_PART_LOG, from->scan->log_offset,
            "the header asks for the log to be replayed and no valid sequence of entries is in it; after a killed "
            "QEMU the file may be read as it lies (--ignore-log)");
    if (miss->rule != 0)
        vx_log_entry_report_invalid(miss->rule, miss->sequence_number, from->scan->log_offset + miss->position,
                                    findings);
}

int
vx_log_scan(struct vx_log_scan *out, struct vhdx_storage *storage, const struct vx_header *header,
            uint64_t log_length, uint64_t file_length, struct vx_findings *findings, struct vhdx_error *err)
{
    const struct vx_log_ring ring = { .file_offset = header->log_offset, .length = log_length,
                                      .log_guid = &header->log_guid };
    struct collection        into = { .scan = out };
    int                      rc;

    *out = (struct vx_log_scan){ .log_offset = header->log_offset, .log_length = log_length };
    rc = vx_log_each_entry(storage, &ring, add_place, &into, err);
    if (rc < 0) {
        vx_log_scan_free(out);
        return rc;
    }

    out->has_active = vx_log_find_active(out->places, out->place_count, log_length, &out->tail_index,
                                         &out->head_index);
    if (out->has_active)
        vx_log_sequence_judge(out->places, out->tail_index, out->head_index, out->log_offset, log_length,
                              file_length, findings);
    else
        report_no_sequence(&into, findings);
    return VHDX_OK;
}

void
vx_log_scan_free(struct vx_log_scan *scan)
{
    vx_free(scan->places);
    *scan = (struct vx_log_scan){ 0 };
}
