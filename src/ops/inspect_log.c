/*
 * Showing the log: every entry that lies in the ring, of the session the header names and of those before it, and where each
 * page goes (inspect.h).
 *
 * The ring is walked twice: once for the entries of the header's GUID, which decides what would be replayed, and once for
 * everything that begins like an entry.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "ops/inspect.h"
#include "storage/storage.h"

struct showing {
    struct vhdx_inspection *in;
    struct vx_log_scan      scan;    /* of the header's GUID */
    uint8_t                *is_live; /* owned; for each place of the scan */
    struct vx_log_ring      ring;
    uint32_t                descriptor_index;
};

/* --- where a page goes --- */

static bool
is_in(uint64_t file_offset, const struct vx_region *region)
{
    return file_offset >= region->file_offset && file_offset - region->file_offset < region->length;
}

/* Where each chunk's sector bitmap lies, by the BAT of the view. */
static int
read_bitmap_places(struct vhdx_inspection *in, struct vhdx_error *err)
{
    uint64_t count = in->geometry.bitmap_block_count, bat_end = in->regions.bat.length;

    in->bitmaps = vx_alloc_zeroed((size_t)count + 1, sizeof *in->bitmaps); /* at most 16384: 128 KiB */
    if (in->bitmaps == NULL)
        return vx_fail_memory(err, "the places of sector bitmaps");
    for (uint64_t chunk = 0; chunk < count; chunk++) {
        uint64_t at = vx_geometry_bitmap_bat_index(&in->geometry, chunk) * 8;
        uint8_t  raw[8];
        size_t   got;
        int      rc;

        if (at + 8 > bat_end)
            break;
        rc = vx_storage_read_prefix(in->view, raw, sizeof raw, in->regions.bat.file_offset + at, &got, err);
        if (rc < 0)
            return rc;
        in->bitmaps[chunk] = vx_bat_entry_decode(vx_le64(raw)).file_offset;
    }
    return VHDX_OK;
}

static int
find_bitmap(struct vhdx_inspection *in, struct vhdx_inspected_log_descriptor *row, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (!in->has_geometry || !in->geometry.is_differencing || !in->has_bat)
        return VHDX_OK;
    if (in->bitmaps == NULL)
        rc = read_bitmap_places(in, err);
    for (uint64_t chunk = 0; chunk < in->geometry.bitmap_block_count && rc == VHDX_OK; chunk++) {
        uint64_t at = in->bitmaps[chunk];

        if (at == 0 || row->file_offset < at || row->file_offset - at >= VX_SECTOR_BITMAP_SIZE)
            continue;
        row->place = VHDX_PLACE_SECTOR_BITMAP;
        row->place_number = chunk;
        row->place_count = 1;
        break;
    }
    return rc;
}

static int
find_place(struct vhdx_inspection *in, struct vhdx_inspected_log_descriptor *row, struct vhdx_error *err)
{
    const struct vx_region log = { .file_offset = in->header.log_offset, .length = in->header.log_length };
    uint64_t               at = row->file_offset;

    if (at < VX_LOGGED_FROM) {
        row->place = VHDX_PLACE_HEADERS;
    } else if (at < VX_REGION_TABLE_OFFSET(2)) {
        row->place = VHDX_PLACE_REGION_TABLE;
        row->place_number = at < VX_REGION_TABLE_OFFSET(1) ? 1 : 2;
    } else if (is_in(at, &log)) {
        row->place = VHDX_PLACE_LOG;
    } else if (is_in(at, &in->regions.bat)) {
        row->place = VHDX_PLACE_BAT;
        row->place_number = (at - in->regions.bat.file_offset) / 8;
        row->place_count = vx_min_u64(row->length, in->regions.bat.length - (at - in->regions.bat.file_offset)) / 8;
    } else if (is_in(at, &in->regions.metadata)) {
        row->place = VHDX_PLACE_METADATA;
        row->place_number = at - in->regions.metadata.file_offset;
    } else {
        for (uint32_t i = 0; i < in->table->region_count; i++) {
            if (is_in(at, &in->table->regions[i]))
                row->place = VHDX_PLACE_OTHER_REGION;
        }
        return row->place == VHDX_PLACE_UNKNOWN ? find_bitmap(in, row, err) : VHDX_OK;
    }
    return VHDX_OK;
}

static int
show_descriptor(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset, struct vhdx_error *err)
{
    struct showing                      *s = context;
    struct vhdx_inspected_log_descriptor row = { .index = s->descriptor_index++, .is_zero = descriptor->is_zero,
                                                 .file_offset = descriptor->file_offset };
    int                                  rc;

    row.length = descriptor->is_zero ? descriptor->zero_length : VX_PAGE;
    row.data_offset = descriptor->is_zero ? 0 : data_offset;
    rc = find_place(s->in, &row, err);
    return rc == VHDX_OK ? VX_TELL(s->in, log_descriptor, &row) : rc;
}

/* --- entries --- */

static const char *
problem_of(const struct vx_log_found *found)
{
    const struct vx_log_entry_check *check = found->check;

    if (check->sectors_total == 0)
        return "its header cannot be one: a length, a number or its tail is impossible";
    if (check->sectors_seen == check->sectors_total)
        return "its checksum is wrong";
    return found->length_seen < check->descriptor_sectors * VX_LOG_SECTOR || check->descriptor_sectors == 0 ||
           check->descriptors_left > 0 ? "a descriptor is wrong" : "a data sector is not of this entry";
}

/* The place of the scan at this position, or NULL.  They are in rising order. */
static const struct vx_log_place *
find_in_scan(const struct showing *s, uint64_t position)
{
    size_t low = 0, high = s->scan.place_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (s->scan.places[middle].position < position)
            low = middle + 1;
        else
            high = middle;
    }
    return low < s->scan.place_count && s->scan.places[low].position == position ? &s->scan.places[low] : NULL;
}

static enum vhdx_log_entry_state
state_of(const struct showing *s, const struct vx_log_found *found)
{
    const struct vx_log_place *place = find_in_scan(s, found->position);

    if (!found->is_valid)
        return VHDX_LOG_BROKEN;
    if (place == NULL)
        return VHDX_LOG_STALE;
    return s->is_live[place - s->scan.places] ? VHDX_LOG_LIVE : VHDX_LOG_APPLIED;
}

static int
show_entry(void *context, const struct vx_log_found *found, struct vhdx_error *err)
{
    struct showing                   *s = context;
    const struct vx_log_entry_header *header = &found->check->header;
    const struct vx_log_scan          ring = { .log_offset = s->ring.file_offset, .log_length = s->ring.length };
    const struct vx_log_place         place = { .position = (uint32_t)found->position,
                                                .descriptor_count = header->descriptor_count };
    struct vhdx_inspected_log_entry   row = {
        .position = (uint32_t)found->position,
        .file_offset = s->ring.file_offset + found->position,
        .state = state_of(s, found),
        .problem = found->is_valid ? NULL : problem_of(found),
        .length_seen = found->length_seen,
        .sequence_number = header->sequence_number,
        .length = header->entry_length,
        .tail = header->tail,
        .descriptor_count = header->descriptor_count,
        .log_guid = header->log_guid,
        .flushed_file_offset = header->flushed_file_offset,
        .last_file_offset = header->last_file_offset,
    };
    int rc = VX_TELL(s->in, log_entry, &row);

    s->descriptor_index = 0;
    if (rc < 0 || !found->is_valid || s->in->visitor->log_descriptor == NULL)
        return rc;
    return vx_log_each_descriptor(s->in->storage, &ring, &place, show_descriptor, s, err);
}

/* --- the whole --- */

static void
mark_live(struct showing *s)
{
    const struct vx_log_scan *scan = &s->scan;

    for (uint32_t i = scan->tail_index; scan->has_active; i = scan->places[i].next) {
        s->is_live[i] = 1;
        if (i == scan->head_index)
            return;
    }
}

static int
show_log(struct showing *s, struct vhdx_error *err)
{
    struct vhdx_inspection   *in = s->in;
    const struct vx_header   *header = &in->header;
    struct vhdx_inspected_log row = { .file_offset = header->log_offset, .length = header->log_length,
                                      .guid = header->log_guid };
    int                       rc = VHDX_OK;

    if (!vhdx_guid_is_zero(&header->log_guid))
        rc = vx_log_scan(&s->scan, in->storage, header, s->ring.length, in->file_length, &in->findings, err);
    if (rc < 0)
        return rc;
    s->is_live = vx_alloc_zeroed(s->scan.place_count + 1, 1);
    if (s->is_live == NULL)
        return vx_fail_memory(err, "the entries of the log");
    mark_live(s);
    row.has_active = s->scan.has_active;
    if (row.has_active) {
        row.tail = s->scan.places[s->scan.tail_index].position;
        row.head = s->scan.places[s->scan.head_index].position;
        row.first_sequence_number = s->scan.places[s->scan.tail_index].sequence_number;
        row.last_sequence_number = s->scan.places[s->scan.head_index].sequence_number;
    }
    rc = VX_TELL(in, log, &row);
    return rc == VHDX_OK ? vx_log_each_entry(in->storage, &s->ring, show_entry, s, err) : rc;
}

int
vx_inspect_log(struct vhdx_inspection *in, struct vhdx_error *err)
{
    const struct vx_header *header = &in->header;
    struct showing          s = { .in = in, .ring = { .file_offset = header->log_offset } };
    int                     rc;

    if (!in->has_header)
        return vx_inspect_missing(in, VHDX_E_BAD_HEADER, VHDX_PART_LOG, VHDX_NO_OFFSET,
                                  "without a current header the log cannot be found");
    if (header->log_length == 0)
        return VHDX_OK; /* V19, V28: told with the headers */
    if (header->log_offset >= in->file_length || header->log_length > VX_MAX_LOG_LENGTH)
        return vx_inspect_missing(in, VHDX_E_BAD_HEADER, VHDX_PART_LOG, header->log_offset,
                                  "the header puts the log at 0x%" PRIx64 ", length 0x%" PRIx32
                                  ": past the end of the file, or longer than 1 GiB", header->log_offset,
                                  header->log_length);
    s.ring.length = vx_round_down(header->log_length, VX_LOG_SECTOR);
    rc = s.ring.length > 0 ? show_log(&s, err) : VHDX_OK;
    vx_log_scan_free(&s.scan);
    vx_free(s.is_live);
    return rc;
}
