/*
 * Writing a disk as a stream: as raw bytes, or as a whole VHDX file.
 *
 * A VHDX file has its block allocation table in front of the blocks, and a pipe cannot be sought.  So the extents
 * of the source are walked first, which decides for each block whether it is in the file; the blocks follow the
 * table in rising order, and the table can be made up on the way.
 *
 *   S1  The plan is one bit a block: 8 MiB for 64 TiB in the smallest blocks.  Nothing else grows with the disk.
 *   S2  The stream has exactly the length the plan promised.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/bat.h"
#include "ops/create_vhd.h"
#include "ops/extent_walk.h"
#include "ops/layout_new.h"
#include "ops/sink.h"

#define BUFFER_SIZE VX_MIB

/* --- raw --- */

static int
send_range(struct vhdx_disk *from, struct vx_sink *sink, uint8_t *buffer, uint64_t guest_offset, uint64_t length,
           struct vhdx_error *err)
{
    while (length > 0) {
        size_t step = (size_t)vx_min_u64(length, BUFFER_SIZE);
        int rc = vhdx_disk_read(from, buffer, step, guest_offset, err);

        if (rc == VHDX_OK)
            rc = vx_sink_write(sink, buffer, step, err);
        if (rc < 0)
            return rc;
        guest_offset += step;
        length -= step;
    }
    return VHDX_OK;
}

static int
send_extents(struct vhdx_disk *from, struct vx_sink *sink, uint8_t *buffer, struct vhdx_error *err)
{
    struct vx_extent_walk walk;

    vx_walk_init(&walk, from);
    for (;;) {
        uint64_t length;
        bool is_zero;
        int rc = vx_walk_peek(&walk, &length, &is_zero, err);

        if (rc < 0 || length == 0)
            return rc;
        if (is_zero)
            rc = vx_sink_zeros(sink, length, err);
        else
            rc = send_range(from, sink, buffer, walk.position, length, err);
        if (rc < 0)
            return rc;
        vx_walk_advance(&walk, length);
    }
}

int
vhdx_write_raw_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_progress *progress,
                      struct vhdx_error *err)
{
    struct vx_sink sink = { .descriptor = descriptor, .total = vhdx_disk_size(from), .progress = progress };
    uint8_t *buffer = vx_alloc(BUFFER_SIZE);
    int rc;

    if (buffer == NULL)
        return vx_fail_memory(err, "a stream buffer");
    rc = send_extents(from, &sink, buffer, err);
    vx_free(buffer);
    return rc;
}

/* --- VHD --- */

int
vhdx_write_vhd_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_create_options *options,
                      const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vhdx_create_options own = *options;
    uint64_t size = vhdx_disk_size(from);
    struct vx_sink sink = { .descriptor = descriptor, .progress = progress };
    uint8_t footer[VX_VHD_FOOTER_SIZE];
    uint8_t *buffer;
    int rc;

    if (own.virtual_size == 0)
        own.virtual_size = vx_round_up(size, VX_VHD_SECTOR);
    rc = vx_new_vhd_footer(footer, &own, err);
    if (rc < 0)
        return rc;
    if (own.virtual_size < size)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "the VHD is smaller than the source");
    buffer = vx_alloc(BUFFER_SIZE);
    if (buffer == NULL)
        return vx_fail_memory(err, "a stream buffer");
    sink.total = own.virtual_size + sizeof footer;
    rc = send_extents(from, &sink, buffer, err);
    if (rc == VHDX_OK)
        rc = vx_sink_zeros(&sink, own.virtual_size - size, err);
    if (rc == VHDX_OK)
        rc = vx_sink_write(&sink, footer, sizeof footer, err);
    vx_free(buffer);
    return rc;
}

/* --- VHDX --- */

struct stream {
    struct vhdx_disk    *from;
    uint64_t             source_size;
    struct vx_new_layout layout;
    struct vx_sink       sink;
    uint8_t             *has_data;    /* a bit for each payload block: some of it may be other than zeros */
    uint64_t             block_count; /* blocks the file will hold */
    uint8_t             *buffer;      /* of BUFFER_SIZE */
};

static bool
has_data(const struct stream *stream, uint64_t block_index)
{
    return (stream->has_data[block_index / 8] >> (block_index % 8) & 1) != 0;
}

/* A fixed image holds every block. */
static bool
is_in_file(const struct stream *stream, uint64_t block_index)
{
    return stream->layout.type == VHDX_TYPE_FIXED || has_data(stream, block_index);
}

static void
note_data(struct stream *stream, uint64_t guest_offset, uint64_t length)
{
    const struct vx_geometry *geometry = &stream->layout.geometry;
    uint64_t last = vx_geometry_block_of(geometry, guest_offset + length - 1);

    for (uint64_t i = vx_geometry_block_of(geometry, guest_offset); i <= last; i++) {
        stream->block_count += !is_in_file(stream, i);
        stream->has_data[i / 8] |= (uint8_t)(1u << (i % 8));
    }
}

static int
plan_blocks(struct stream *stream, struct vhdx_error *err)
{
    struct vx_extent_walk walk;

    if (stream->layout.type == VHDX_TYPE_FIXED)
        stream->block_count = stream->layout.geometry.payload_block_count;
    vx_walk_init(&walk, stream->from);
    for (;;) {
        uint64_t length;
        bool is_zero;
        int rc = vx_walk_peek(&walk, &length, &is_zero, err);

        if (rc < 0 || length == 0)
            return rc;
        if (!is_zero)
            note_data(stream, walk.position, length);
        vx_walk_advance(&walk, length);
    }
}

/* Identifier, headers and region tables: the first MiB, built in the buffer. */
static int
send_header_section(struct stream *stream, struct vhdx_error *err)
{
    const struct vx_new_layout *layout = &stream->layout;
    int rc;

    memset(stream->buffer, 0, VX_HEADER_SECTION_SIZE);
    vx_new_layout_identifier(layout, stream->buffer);
    for (int copy = 0; copy < 2; copy++) {
        vx_new_layout_header(layout, copy, stream->buffer + VX_HEADER_OFFSET(copy));
        rc = vx_new_layout_region_table(layout, stream->buffer + VX_REGION_TABLE_OFFSET(copy), err);
        if (rc < 0)
            return rc;
    }
    return vx_sink_write(&stream->sink, stream->buffer, VX_HEADER_SECTION_SIZE, err);
}

static int
send_metadata(struct stream *stream, struct vhdx_error *err)
{
    const struct vx_new_layout *layout = &stream->layout;
    size_t length = vx_new_layout_metadata_length(layout);
    int rc;

    vx_new_layout_metadata(layout, stream->buffer);
    rc = vx_sink_write(&stream->sink, stream->buffer, length, err);
    if (rc < 0)
        return rc;
    return vx_sink_zeros(&stream->sink, layout->metadata_length - length, err);
}

/* The entry at a BAT index, `*place` counting the blocks of the file.  Bitmap entries and padding are 0. */
static uint64_t
next_entry(const struct stream *stream, uint64_t bat_index, uint64_t *place)
{
    const struct vx_geometry *geometry = &stream->layout.geometry;
    uint64_t index;

    if (!vx_geometry_is_payload_entry(geometry, bat_index, &index) || index >= geometry->payload_block_count ||
        !is_in_file(stream, index))
        return 0;
    return vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, vx_new_layout_block_offset(&stream->layout, (*place)++));
}

static int
send_bat(struct stream *stream, struct vhdx_error *err)
{
    uint64_t bat_index = 0, place = 0;
    uint64_t left = stream->layout.bat_length;

    while (left > 0) {
        size_t step = (size_t)vx_min_u64(left, BUFFER_SIZE);
        int rc;

        for (size_t at = 0; at < step; at += 8)
            vx_put_le64(stream->buffer + at, next_entry(stream, bat_index++, &place));
        rc = vx_sink_write(&stream->sink, stream->buffer, step, err);
        if (rc < 0)
            return rc;
        left -= step;
    }
    return VHDX_OK;
}

/* A block is whole in the file (A3), also where the disk ends inside it. */
static int
send_block(struct stream *stream, uint64_t block_index, struct vhdx_error *err)
{
    uint32_t block_size = stream->layout.geometry.block_size;
    uint64_t guest_offset = block_index * block_size;
    uint64_t length = vx_min_u64(block_size, stream->source_size - guest_offset);
    int rc;

    if (!has_data(stream, block_index))
        return vx_sink_zeros(&stream->sink, block_size, err);
    rc = send_range(stream->from, &stream->sink, stream->buffer, guest_offset, length, err);
    if (rc < 0)
        return rc;
    return vx_sink_zeros(&stream->sink, block_size - length, err);
}

static int
send_blocks(struct stream *stream, struct vhdx_error *err)
{
    for (uint64_t i = 0; i < stream->layout.geometry.payload_block_count; i++) {
        int rc = is_in_file(stream, i) ? send_block(stream, i, err) : VHDX_OK;

        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

static int
send_file(struct stream *stream, struct vhdx_error *err)
{
    int rc = send_header_section(stream, err);

    if (rc == VHDX_OK)
        rc = vx_sink_zeros(&stream->sink, stream->layout.log_length, err);
    if (rc == VHDX_OK)
        rc = send_metadata(stream, err);
    if (rc == VHDX_OK)
        rc = send_bat(stream, err);
    if (rc == VHDX_OK)
        rc = send_blocks(stream, err);
    return rc;
}

/* The options as asked for, the size as the source has it.  Zeros complete a sector in which the source ends. */
static int
plan_layout(struct stream *stream, const struct vhdx_create_options *options, struct vhdx_error *err)
{
    struct vhdx_create_options own = { .type = VHDX_TYPE_DYNAMIC };

    if (options != NULL)
        own = *options;
    stream->source_size = vhdx_disk_size(stream->from);
    own.virtual_size = vx_round_up(stream->source_size, own.logical_sector_size == 4096 ? 4096 : 512);
    return vx_new_layout_init(&stream->layout, &own, NULL, err);
}

int
vhdx_write_vhdx_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_create_options *options,
                       const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct stream stream = { .from = from, .sink = { .descriptor = descriptor, .progress = progress } };
    int rc = plan_layout(&stream, options, err);

    if (rc < 0)
        return rc;
    stream.buffer = vx_alloc(BUFFER_SIZE);
    stream.has_data = vx_alloc_zeroed((size_t)(stream.layout.geometry.payload_block_count / 8 + 1), 1);
    if (stream.buffer == NULL || stream.has_data == NULL)
        rc = vx_fail_memory(err, "the plan of a stream");
    if (rc == VHDX_OK)
        rc = plan_blocks(&stream, err);
    if (rc == VHDX_OK) {
        stream.sink.total = vx_new_layout_block_offset(&stream.layout, stream.block_count);
        rc = send_file(&stream, err);
    }
    vx_free(stream.has_data);
    vx_free(stream.buffer);
    return rc;
}
