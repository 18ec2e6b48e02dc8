/*
 * The overlay: a file as the replay of its log would leave it, without a byte written.
 *
 *   O1  Segments are sorted, do not overlap and are not empty.  What lies between them is the base's.
 *   O2  Where pieces overlap, the segment belongs to the one that was added last.
 *   O3  There are fewer than two segments for each piece; flattening takes O(n log n) steps, whatever the pieces.
 *
 * A log comes from a file that may be hostile: a million pieces in any arrangement must cost seconds at worst, and
 * memory in proportion.  The flattening walks along the file with the pieces that cover the place in a heap, the
 * latest on top.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/overlay.h"
#include "storage/storage.h"

#define PIECE_LIMIT  (UINT32_C(1) << 20)
#define LEADING      8u
#define TRAILING_AT  4092u
#define ALL_ZEROS    UINT64_MAX /* as data_offset */

/* As a piece it may overlap others; as a segment it is what was left of one: O1. */
struct extent {
    uint64_t start, end;  /* bytes in the file */
    uint64_t data_offset; /* of the page that start lies in, bytes [8, 4092); or ALL_ZEROS */
    uint8_t  leading[LEADING];
    uint8_t  trailing[VX_PAGE - TRAILING_AT];
};

struct extents {
    struct extent *items;
    uint32_t       count, capacity;
};

struct vx_overlay_builder {
    struct extents pieces;
};

struct overlay {
    struct vhdx_storage  storage;
    struct vhdx_storage *base;      /* borrowed */
    uint64_t             base_size;
    uint64_t             size;
    struct extents       segments;
};

static int
append(struct extents *extents, const struct extent *extent, struct vhdx_error *err)
{
    if (extents->count == extents->capacity) {
        const uint32_t capacity = extents->capacity > 0 ? 2 * extents->capacity : 64;
        struct extent *items = vx_realloc_array(extents->items, capacity, sizeof *items);

        if (!items)
            return vx_fail_memory(err, "the pages of the log");
        extents->items = items;
        extents->capacity = capacity;
    }
    extents->items[extents->count++] = *extent;
    return VHDX_OK;
}

int
vx_overlay_builder_new(struct vx_overlay_builder **out, struct vhdx_error *err)
{
    *out = vx_alloc_zeroed(1, sizeof **out);
    return *out ? VHDX_OK : vx_fail_memory(err, "the pages of the log");
}

void
vx_overlay_builder_free(struct vx_overlay_builder *builder)
{
    if (!builder)
        return;
    vx_free(builder->pieces.items);
    vx_free(builder);
}

static int
add_piece(struct vx_overlay_builder *builder, const struct extent *piece, struct vhdx_error *err)
{
    if (builder->pieces.count == PIECE_LIMIT)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, VHDX_NO_OFFSET,
                       "the log changes more than %" PRIu32 " places; opened for writing, the image is replayed",
                       PIECE_LIMIT);
    return append(&builder->pieces, piece, err);
}

int
vx_overlay_builder_add_page(struct vx_overlay_builder *builder, const struct vx_overlay_page *page,
                            struct vhdx_error *err)
{
    struct extent piece = { .start = page->file_offset, .data_offset = page->data_offset };

    if (!vx_add_u64(page->file_offset, VX_PAGE, &piece.end) || !vx_is_aligned(page->file_offset, VX_PAGE))
        return vx_fail(err, VHDX_E_RANGE, VHDX_PART_LOG, VHDX_NO_OFFSET, "no page lies at %" PRIu64,
                       page->file_offset);
    memcpy(piece.leading, page->leading, sizeof piece.leading);
    memcpy(piece.trailing, page->trailing, sizeof piece.trailing);
    return add_piece(builder, &piece, err);
}

int
vx_overlay_builder_add_zeros(struct vx_overlay_builder *builder, uint64_t file_offset, uint64_t length,
                             struct vhdx_error *err)
{
    struct extent piece = { .start = file_offset, .data_offset = ALL_ZEROS };

    if (length == 0)
        return VHDX_OK;
    if (!vx_add_u64(file_offset, length, &piece.end))
        piece.end = UINT64_MAX; /* no file is longer */
    return add_piece(builder, &piece, err);
}

/* --- flattening --- */

struct start {
    uint64_t at;
    uint32_t piece;
};

struct flattening {
    const struct extent *pieces;
    struct start        *starts; /* of all pieces, in the order of the file */
    uint32_t            *heap;   /* numbers of pieces that have started, the highest on top */
    uint32_t             heap_count;
    struct extents       segments;
    uint32_t             last_piece; /* the one that the last segment is of */
};

static int
compare_starts(const void *a, const void *b)
{
    const struct start *x = a, *y = b;

    return x->at < y->at ? -1 : x->at > y->at;
}

static void
push(struct flattening *flattening, uint32_t piece)
{
    uint32_t *heap = flattening->heap, at = flattening->heap_count++;

    while (at > 0 && heap[(at - 1) / 2] < piece) {
        heap[at] = heap[(at - 1) / 2];
        at = (at - 1) / 2;
    }
    heap[at] = piece;
}

static void
pop(struct flattening *flattening)
{
    uint32_t *heap = flattening->heap, count = --flattening->heap_count, at = 0;
    const uint32_t moved = heap[count];

    for (;;) {
        uint32_t child = 2 * at + 1;

        if (child + 1 < count && heap[child + 1] > heap[child])
            child++;
        if (child >= count || heap[child] < moved)
            break;
        heap[at] = heap[child];
        at = child;
    }
    heap[at] = moved;
}

/* [start, end) is the piece's.  What goes on with the same piece, or with zeros after zeros, is one segment. */
static int
emit(struct flattening *flattening, uint64_t start, uint64_t end, uint32_t piece, struct vhdx_error *err)
{
    struct extents *segments = &flattening->segments;
    struct extent *last = segments->count > 0 ? &segments->items[segments->count - 1] : NULL;
    struct extent segment = flattening->pieces[piece];
    const uint32_t last_piece = flattening->last_piece;

    flattening->last_piece = piece;
    if (last && last->end == start &&
        (last_piece == piece || (last->data_offset == ALL_ZEROS && segment.data_offset == ALL_ZEROS))) {
        last->end = end;
        return VHDX_OK;
    }
    segment.start = start;
    segment.end = end;
    return append(segments, &segment, err);
}

/* Each turn either passes a start or drops a piece for good (O3). */
static int
walk(struct flattening *flattening, uint32_t piece_count, struct vhdx_error *err)
{
    const struct start *starts = flattening->starts;
    uint64_t at = 0;
    uint32_t next = 0;
    int rc = VHDX_OK;

    while (rc == VHDX_OK && (next < piece_count || flattening->heap_count > 0)) {
        uint64_t end;

        if (flattening->heap_count == 0)
            at = starts[next].at;
        while (next < piece_count && starts[next].at <= at)
            push(flattening, starts[next++].piece);

        end = flattening->pieces[flattening->heap[0]].end;
        if (end <= at) {
            pop(flattening);
            continue;
        }
        if (next < piece_count)
            end = vx_min_u64(end, starts[next].at);
        rc = emit(flattening, at, end, flattening->heap[0], err);
        at = end;
    }
    return rc;
}

static int
flatten(struct extents *out, const struct extents *pieces, struct vhdx_error *err)
{
    struct flattening flattening = { .pieces = pieces->items };
    int rc;

    flattening.starts = vx_alloc_zeroed(pieces->count, sizeof *flattening.starts);
    flattening.heap = vx_alloc_zeroed(pieces->count, sizeof *flattening.heap);
    if (flattening.starts && flattening.heap) {
        for (uint32_t i = 0; i < pieces->count; i++)
            flattening.starts[i] = (struct start){ pieces->items[i].start, i };
        qsort(flattening.starts, pieces->count, sizeof *flattening.starts, compare_starts);
        rc = walk(&flattening, pieces->count, err);
    } else {
        rc = vx_fail_memory(err, "the pages of the log");
    }
    vx_free(flattening.starts);
    vx_free(flattening.heap);
    if (rc < 0)
        vx_free(flattening.segments.items);
    else
        *out = flattening.segments;
    return rc;
}

/* --- reading --- */

static struct overlay *
overlay_of(struct vhdx_storage *storage)
{
    return (struct overlay *)storage;
}

/* The first segment that ends after file_offset, or NULL. */
static const struct extent *
find_segment(const struct overlay *overlay, uint64_t file_offset)
{
    uint32_t low = 0, high = overlay->segments.count;

    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;

        if (overlay->segments.items[middle].end > file_offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low < overlay->segments.count ? &overlay->segments.items[low] : NULL;
}

/* Part of one page: 8 bytes from its descriptor, most from its data sector in the log, 4 from its descriptor. */
static int
read_page(struct overlay *overlay, const struct extent *segment, uint8_t *buffer, size_t length,
          uint64_t file_offset, struct vhdx_error *err)
{
    uint64_t at = file_offset % VX_PAGE; /* pages are aligned: so is what is left of one */

    while (length > 0) {
        size_t part;
        int rc = VHDX_OK;

        if (at < LEADING) {
            part = (size_t)vx_min_u64(length, LEADING - at);
            memcpy(buffer, segment->leading + at, part);
        } else if (at < TRAILING_AT) {
            part = (size_t)vx_min_u64(length, TRAILING_AT - at);
            rc = vx_storage_read(overlay->base, buffer, part, segment->data_offset + (at - LEADING), err);
        } else {
            part = length;
            memcpy(buffer, segment->trailing + (at - TRAILING_AT), part);
        }
        if (rc < 0)
            return rc;
        buffer += part;
        length -= part;
        at += part;
    }
    return VHDX_OK;
}

/* Between the segments: the base, and zeros past its end. */
static int
read_base(struct overlay *overlay, uint8_t *buffer, size_t length, uint64_t file_offset, struct vhdx_error *err)
{
    const uint64_t left = file_offset < overlay->base_size ? overlay->base_size - file_offset : 0;
    const size_t there = (size_t)vx_min_u64(length, left);

    memset(buffer + there, 0, length - there);
    return there > 0 ? vx_storage_read(overlay->base, buffer, there, file_offset, err) : VHDX_OK;
}

static int
read_buffer(struct overlay *overlay, uint8_t *buffer, size_t length, uint64_t file_offset, struct vhdx_error *err)
{
    while (length > 0) {
        const struct extent *segment = find_segment(overlay, file_offset);
        const bool is_inside = segment && segment->start <= file_offset;
        size_t part = length;
        int rc = VHDX_OK;

        if (segment)
            part = (size_t)vx_min_u64(length, (is_inside ? segment->end : segment->start) - file_offset);
        if (!is_inside)
            rc = read_base(overlay, buffer, part, file_offset, err);
        else if (segment->data_offset == ALL_ZEROS)
            memset(buffer, 0, part);
        else
            rc = read_page(overlay, segment, buffer, part, file_offset, err);
        if (rc < 0)
            return rc;
        buffer += part;
        length -= part;
        file_offset += part;
    }
    return VHDX_OK;
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct overlay *overlay = overlay_of(storage);
    const struct extent *segment = find_segment(overlay, file_offset);
    uint64_t end = file_offset;
    int rc = VHDX_OK;

    for (int i = 0; i < vector_count; i++)
        if (!vx_add_u64(end, vector[i].iov_len, &end))
            end = UINT64_MAX;
    if (end > overlay->size && end > file_offset)
        return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_offset,
                       "the file ends at %" PRIu64 ", before %" PRIu64, overlay->size, end);

    /* Most reads touch no segment: then the base gets the vector as it is, in one call. */
    if (end <= overlay->base_size && (!segment || segment->start >= end))
        return overlay->base->methods->readv(overlay->base, vector, vector_count, file_offset, err);
    for (int i = 0; i < vector_count && rc == VHDX_OK; i++) {
        rc = read_buffer(overlay, vector[i].iov_base, vector[i].iov_len, file_offset, err);
        file_offset += vector[i].iov_len;
    }
    return rc;
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)err;
    *out = overlay_of(storage)->size;
    return VHDX_OK;
}

/* The base's next data, asked once and kept while it lies ahead: between a million segments it would cost a call
 * each. */
struct base_data {
    uint64_t start, end;
    bool     is_known;
};

static int
ask_base(struct overlay *overlay, struct base_data *data, uint64_t file_offset, struct vhdx_error *err)
{
    int rc;

    if (data->is_known && file_offset < data->end)
        return VHDX_OK;
    if (file_offset >= overlay->base_size) {
        *data = (struct base_data){ UINT64_MAX, UINT64_MAX, true };
        return VHDX_OK;
    }
    rc = vx_storage_next_data(overlay->base, file_offset, &data->start, &data->end, err);
    if (rc < 0)
        return rc;
    if (data->start == data->end)
        data->start = data->end = UINT64_MAX; /* nothing more, ever */
    data->is_known = true;
    return VHDX_OK;
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
          struct vhdx_error *err)
{
    struct overlay *overlay = overlay_of(storage);
    struct base_data data = { 0 };
    int rc;

    while (file_offset < overlay->size) {
        const struct extent *segment = find_segment(overlay, file_offset);
        uint64_t gap_end = overlay->size;

        if (segment && segment->start <= file_offset) {
            if (segment->data_offset != ALL_ZEROS) {
                *start = file_offset;
                *end = vx_min_u64(segment->end, overlay->size);
                return VHDX_OK;
            }
            file_offset = segment->end;
            continue;
        }
        if (segment)
            gap_end = vx_min_u64(gap_end, segment->start);
        rc = ask_base(overlay, &data, file_offset, err);
        if (rc < 0)
            return rc;
        if (data.start < gap_end) {
            *start = vx_max_u64(data.start, file_offset);
            *end = vx_min_u64(data.end, gap_end);
            return VHDX_OK;
        }
        file_offset = gap_end;
    }
    *start = *end = overlay->size;
    return VHDX_OK;
}

static void
close_overlay(struct vhdx_storage *storage)
{
    struct overlay *overlay = overlay_of(storage);

    vx_free(overlay->segments.items);
    vx_free(overlay);
}

/* The rest is never called: the trait says read-only. */
static const struct vhdx_storage_methods overlay_methods = {
    .readv = read_vector,
    .get_size = get_size,
    .next_data = next_data,
    .close = close_overlay,
};

int
vx_overlay_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vx_overlay_builder *builder,
               uint64_t size, struct vhdx_error *err)
{
    struct overlay *overlay = vx_alloc_zeroed(1, sizeof *overlay);
    int rc;

    if (!overlay)
        return vx_fail_memory(err, "a view of the file");
    rc = vx_storage_get_size(base, &overlay->base_size, err);
    if (rc == VHDX_OK)
        rc = flatten(&overlay->segments, &builder->pieces, err);
    if (rc < 0) {
        vx_free(overlay);
        return rc;
    }
    overlay->storage.methods = &overlay_methods;
    overlay->storage.traits = (struct vhdx_storage_traits){
        .is_read_only = true,
        .atomic_unit = base->traits.atomic_unit,
    };
    overlay->storage.name = base->name;
    overlay->base = base;
    overlay->size = size;
    *out = &overlay->storage;
    return VHDX_OK;
}
