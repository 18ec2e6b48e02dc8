/*
 * The log as a witness.  An entry that is valid by itself (CRC-32C over all of it) tells what pages of the block table and
 * of the metadata were at one time, whoever's session wrote it.
 *
 *   Every session begins at the log's first byte with a LogGuid of its own and with a sequence number that says nothing
 *   about other sessions (docs/vhdx-format.md, appendix C).  So what a later session wrote covers what an earlier one had
 *   written there, and of the entries that are left those nearest to the beginning are of the latest session.  That is the
 *   order in which sessions are believed when no header says anything.
 */
#include "ops/salvage.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "storage/overlay.h"
#include "storage/storage.h"

#define SCAN_BUDGET     (UINT64_C(4) * VX_GIB)   /* bytes of log read, over all sessions */
#define LOG_PROBES      1024u                    /* MiB boundaries looked at when no header says where the log is */
#define LARGEST_COMPARE (UINT64_C(16) * VX_MIB)  /* zeros of one descriptor that are compared page by page */

/* --- finding it --- */

static uint64_t
next_region_after(const struct vhdx_salvage *s, uint64_t file_offset)
{
    uint64_t next = s->file_length;

    if (s->has_bat_region && s->bat_region.file_offset > file_offset)
        next = vx_min_u64(next, s->bat_region.file_offset);
    if (s->has_metadata_region && s->metadata_region.file_offset > file_offset)
        next = vx_min_u64(next, s->metadata_region.file_offset);
    return next;
}

static bool
looks_like_log(struct vhdx_salvage *s, uint64_t file_offset)
{
    static const char *const signatures[] = { "loge", "desc", "zero", "data" };
    uint8_t bytes[4];

    if (vx_storage_read(s->patient, bytes, sizeof bytes, file_offset, NULL) < 0)
        return false;
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        if (memcmp(bytes, signatures[i], 4) == 0)
            return true;
    return false;
}

/* The first MiB that begins with an entry, and what goes on like a log. */
static void
search_log(struct vhdx_salvage *s)
{
    uint64_t at = VX_HEADER_SECTION_SIZE, start, end;
    uint8_t  bytes[4];

    for (unsigned probes = 0; probes < LOG_PROBES && at < s->file_length; probes++, at += VX_MIB) {
        if (vx_storage_next_data(s->patient, at, &start, &end, NULL) < 0 || start == end)
            return;
        at = vx_max_u64(at, vx_round_down(start, VX_MIB));
        if (vx_storage_read(s->patient, bytes, sizeof bytes, at, NULL) == VHDX_OK && memcmp(bytes, "loge", 4) == 0)
            break;
    }
    if (at >= s->file_length || memcmp(bytes, "loge", 4) != 0)
        return;
    s->log.offset = at;
    s->log.length = VX_MIB;
    while (at + s->log.length < next_region_after(s, at) && s->log.length < VX_MAX_LOG_LENGTH
           && looks_like_log(s, at + s->log.length))
        s->log.length += VX_MIB;
}

static void
place_log(struct vhdx_salvage *s)
{
    const struct vx_header *header = &s->header;

    if (s->has_header && vx_is_aligned(header->log_offset, VX_MIB) && header->log_offset >= VX_HEADER_SECTION_SIZE
        && vx_is_aligned(header->log_length, VX_MIB) && header->log_length <= VX_MAX_LOG_LENGTH
        && header->log_offset < s->file_length) {
        s->log.offset = header->log_offset;
        s->log.length = vx_min_u64(header->log_length, s->file_length - header->log_offset);
    } else if (!s->has_header) {
        search_log(s);
    }
}

/* --- the sessions in it --- */

struct listing {
    struct vx_salvage_log *log;
    size_t                 limit;
};

static int
list_guid(void *context, const struct vx_log_found *found, struct vhdx_error *err)
{
    struct listing        *listing = context;
    struct vx_salvage_log *log = listing->log;
    size_t                 i = 0;

    (void)err;
    if (!found->is_valid)
        return VHDX_OK;
    while (i < log->group_count && !vhdx_guid_equal(&log->groups[i].guid, &found->check->header.log_guid))
        i++;
    if (i == log->group_count && i < listing->limit)
        log->groups[log->group_count++].guid = found->check->header.log_guid;
    return VHDX_OK;
}

/* Sessions are ordered by where their first valid entry lies. */
static int
scan_groups(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vx_salvage_log *log = &s->log;
    size_t                 kept = 0, count = log->group_count;
    int                    rc = VHDX_OK;

    log->group_count = 0;
    for (size_t i = 0; i < count && rc == VHDX_OK; i++) {
        struct vx_salvage_group group = { .guid = log->groups[i].guid };
        const struct vx_header  header = { .log_guid = group.guid, .log_offset = log->offset,
                                           .log_length = (uint32_t)log->length };
        size_t                  place = kept;

        rc = vx_salvage_poll(s, i, count, err);
        if (rc == VHDX_OK)
            rc = vx_log_scan(&group.scan, s->patient, &header, log->length, s->file_length, NULL, err);
        if (rc < 0 || group.scan.place_count == 0)
            continue;
        for (; place > 0 && log->groups[place - 1].scan.places[0].position > group.scan.places[0].position; place--)
            log->groups[place] = log->groups[place - 1];
        log->groups[place] = group;
        log->entry_count += group.scan.place_count;
        log->group_count = ++kept;
    }
    return rc;
}

void
vx_salvage_log_free(struct vx_salvage_log *log)
{
    for (size_t i = 0; i < log->group_count; i++)
        vx_log_scan_free(&log->groups[i].scan);
    log->group_count = 0;
}

static struct vx_salvage_group *
find_group(struct vhdx_salvage *s, const struct vhdx_guid *guid)
{
    for (size_t i = 0; i < s->log.group_count; i++)
        if (vhdx_guid_equal(&s->log.groups[i].guid, guid))
            return &s->log.groups[i];
    return NULL;
}

/* --- what is replayed --- */

bool
vx_salvage_page_is_same(struct vhdx_storage *a, struct vhdx_storage *b, uint64_t page_offset)
{
    uint8_t of_a[VX_PAGE], of_b[VX_PAGE];
    size_t  got;

    return vx_storage_read_prefix(a, of_a, sizeof of_a, page_offset, &got, NULL) == VHDX_OK
           && vx_storage_read_prefix(b, of_b, sizeof of_b, page_offset, &got, NULL) == VHDX_OK
           && memcmp(of_a, of_b, sizeof of_a) == 0;
}

static int
remember_if_changed(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset,
                    struct vhdx_error *err)
{
    struct vhdx_salvage *s = context;
    uint64_t             length = descriptor->is_zero ? descriptor->zero_length : VX_PAGE;

    (void)data_offset;
    (void)err;
    if (length > LARGEST_COMPARE)
        s->doubts_all_pages = true;
    for (uint64_t at = 0; at < length && !s->doubts_all_pages; at += VX_PAGE) {
        if (vx_salvage_page_is_same(s->patient, s->replayed, descriptor->file_offset + at))
            continue;
        if (s->doubtful_count == VX_SALVAGE_DOUBTFUL)
            s->doubts_all_pages = true;
        else
            s->doubtful[s->doubtful_count++] = descriptor->file_offset + at;
    }
    return VHDX_OK;
}

static int
compare_offsets(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

/* No header says that the log counts.  Where it only says again what the file says, that does not matter. */
static int
find_doubtful(struct vhdx_salvage *s, const struct vx_log_scan *scan, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    s->doubtful = vx_alloc_zeroed(VX_SALVAGE_DOUBTFUL, sizeof *s->doubtful);
    if (s->doubtful == NULL)
        return vx_fail_memory(err, "the pages of the log");
    for (uint32_t i = scan->tail_index; rc == VHDX_OK; i = scan->places[i].next) {
        rc = vx_log_each_descriptor(s->patient, scan, &scan->places[i], remember_if_changed, s, err);
        if (i == scan->head_index)
            break;
    }
    qsort(s->doubtful, s->doubtful_count, sizeof *s->doubtful, compare_offsets);
    if (s->doubtful_count > 0 || s->doubts_all_pages)
        vx_salvage_note(s, VHDX_PART_LOG, VHDX_SALVAGE_IS_INFERRED, s->log.offset,
                        "the latest session's entries change the file; they are taken to count, though no header says so");
    return rc;
}

static int
replay(struct vhdx_salvage *s, const struct vx_salvage_group *group, struct vhdx_error *err)
{
    const struct vx_log_scan *scan = &group->scan;
    int                       rc = vx_replay_view(&s->replayed, s->patient, scan, s->file_length, err);

    if (rc == VHDX_OK && scan->places[scan->head_index].last_file_offset > s->source_length)
        vx_salvage_note(s, VHDX_PART_FILE, VHDX_SALVAGE_IS_DAMAGED, s->source_length,
                        "the file has %" PRIu64 " bytes; when the log's last entry was written it had at least %" PRIu64,
                        s->source_length, scan->places[scan->head_index].last_file_offset);
    return rc;
}

/* What the header, or without one the log itself, says about replaying. */
static int
lay_log_over(struct vhdx_salvage *s, struct vhdx_error *err)
{
    bool                           is_wanted = !s->has_header || !vhdx_guid_is_zero(&s->header.log_guid);
    const struct vx_salvage_group *group = NULL;
    int                            rc;

    if (s->has_header && is_wanted)
        group = find_group(s, &s->header.log_guid);
    else if (!s->has_header && s->log.group_count > 0)
        group = &s->log.groups[0];

    if (!is_wanted)
        return VHDX_OK;
    if (!s->has_header && group == NULL) {
        vx_salvage_doubt(s, VHDX_SALVAGE_LOG_MISSING, true);
        return VHDX_OK;
    }
    if (s->options.ignore_log || group == NULL || !group->scan.has_active) {
        vx_salvage_doubt(s, VHDX_SALVAGE_LOG_BROKEN, true);
        vx_salvage_note(s, VHDX_PART_LOG, VHDX_SALVAGE_IS_DAMAGED, s->log.length > 0 ? s->log.offset : VHDX_NO_OFFSET,
                        s->options.ignore_log ? "the log is ignored, as you asked"
                                              : "the log should be replayed and holds no complete sequence of entries");
        return VHDX_OK;
    }
    rc = replay(s, group, err);
    if (rc == VHDX_OK && !s->has_header)
        rc = find_doubtful(s, &group->scan, err);
    return rc;
}

bool
vx_salvage_page_is_doubtful(const struct vhdx_salvage *s, uint64_t page_offset)
{
    return vx_salvage_range_is_doubtful(s, vx_round_down(page_offset, VX_PAGE), VX_PAGE);
}

bool
vx_salvage_range_is_doubtful(const struct vhdx_salvage *s, uint64_t file_offset, uint64_t length)
{
    size_t low = 0, high = s->doubtful_count;

    while (low < high) { /* the first page that ends after file_offset */
        size_t middle = low + (high - low) / 2;

        if (s->doubtful[middle] + VX_PAGE <= file_offset)
            low = middle + 1;
        else
            high = middle;
    }
    return s->doubts_all_pages || (low < s->doubtful_count && s->doubtful[low] < file_offset + length);
}

static void
note_log(struct vhdx_salvage *s)
{
    const struct vx_salvage_log *log = &s->log;

    if (log->length == 0)
        vx_salvage_note(s, VHDX_PART_LOG, VHDX_SALVAGE_IS_MISSING, VHDX_NO_OFFSET, "no log was found");
    else
        vx_salvage_note(s, VHDX_PART_LOG, s->has_header ? VHDX_SALVAGE_IS_SOUND : VHDX_SALVAGE_IS_INFERRED, log->offset,
                        "log of %" PRIu64 " MiB, %" PRIu64 " valid entries of %zu sessions%s", log->length / VX_MIB,
                        log->entry_count, log->group_count, s->replayed != NULL ? "; the latest is replayed" : "");
}

int
vx_salvage_read_log(struct vhdx_salvage *s, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    place_log(s);
    if (s->log.length > 0) {
        size_t limit = (size_t)vx_max_u64(1, vx_min_u64(VX_SALVAGE_GROUPS, SCAN_BUDGET / s->log.length));

        struct listing           listing = { &s->log, limit };
        const struct vx_log_ring ring = { s->log.offset, s->log.length, NULL };

        rc = vx_log_each_entry(s->patient, &ring, list_guid, &listing, err);
        if (rc == VHDX_OK)
            rc = scan_groups(s, err);
        else
            s->log.group_count = 0;
    }
    if (rc == VHDX_OK)
        rc = lay_log_over(s, err);
    s->base = s->replayed != NULL ? s->replayed : s->patient;
    if (rc == VHDX_OK)
        note_log(s);
    return rc;
}

/* --- the pages it holds --- */

/* An entry's number, with what it is sorted by. */
struct numbered {
    uint64_t sequence_number;
    uint32_t index;
};

static int
compare_sequences(const void *a, const void *b)
{
    const struct numbered *x = a, *y = b;

    return (x->sequence_number > y->sequence_number) - (x->sequence_number < y->sequence_number);
}

uint32_t *
vx_salvage_entries_in_order(const struct vx_salvage_group *group)
{
    size_t           count = group->scan.place_count;
    struct numbered *numbered = vx_alloc_zeroed(count, sizeof *numbered);
    uint32_t        *order = vx_alloc_zeroed(count, sizeof *order);

    if (numbered != NULL && order != NULL) {
        for (uint32_t i = 0; i < count; i++)
            numbered[i] = (struct numbered){ group->scan.places[i].sequence_number, i };
        qsort(numbered, count, sizeof *numbered, compare_sequences);
        for (size_t i = 0; i < count; i++)
            order[i] = numbered[i].index;
    } else {
        vx_free(order);
        order = NULL;
    }
    vx_free(numbered);
    return order;
}

static int
add_group(struct vx_overlay_builder *builder, struct vhdx_salvage *s, const struct vx_salvage_group *group,
          struct vhdx_error *err)
{
    uint32_t *order = vx_salvage_entries_in_order(group);
    int       rc = order == NULL ? vx_fail_memory(err, "the pages of the log") : VHDX_OK;

    for (size_t i = 0; i < group->scan.place_count && rc == VHDX_OK; i++)
        rc = vx_log_each_descriptor(s->patient, &group->scan, &group->scan.places[order[i]], vx_log_add_to_overlay, builder,
                               err);
    vx_free(order);
    return rc;
}

bool
vx_salvage_log_is_small(const struct vx_salvage_log *log)
{
    uint64_t count = 0;

    for (size_t i = 0; i < log->group_count; i++)
        for (size_t k = 0; k < log->groups[i].scan.place_count; k++)
            count += log->groups[i].scan.places[k].descriptor_count;
    return count <= VX_SALVAGE_IMAGES;
}

int
vx_salvage_collect_images(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vx_overlay_builder *builder;
    int                        rc;

    if (s->log.group_count == 0 || !vx_salvage_log_is_small(&s->log))
        return VHDX_OK;
    rc = vx_overlay_builder_new(&builder, err);
    if (rc < 0)
        return rc;
    for (size_t i = s->log.group_count; i-- > 0 && rc == VHDX_OK;) /* the earliest session first: later ones win */
        rc = add_group(builder, s, &s->log.groups[i], err);
    if (rc == VHDX_OK)
        rc = vx_overlay_new(&s->images, s->base, builder, s->file_length, err);
    vx_overlay_builder_free(builder);
    return rc;
}
