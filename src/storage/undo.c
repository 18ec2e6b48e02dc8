/*
 * The undo file: a page that says whose it is, then records, each with its own checksum.
 *
 *     0  "vhdxundo", version, checksum of the page, length of the file it is of, its own length once finished (0 before),
 *        the tags at the beginning, which file of the system it is of
 *  4096  records: 64 bytes of header, then the bytes saved, padded to 64
 */
#include "storage/undo.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/page_tree.h"
#include "storage/storage.h"

#define HEAD_SIZE     4096u
#define RECORD_SIZE   64u
#define PIECE_SIZE    ((size_t)VX_MIB)
#define VERSION       1u
#define PAGES_PER_MAP (8 * VX_PAGE) /* bits of one page of the map of what is saved */

enum record_kind { RECORD_BYTES = 1, RECORD_TAG = 2 };

static const uint8_t head_signature[8] = { 'v', 'h', 'd', 'x', 'u', 'n', 'd', 'o' };
static const uint8_t record_signature[4] = { 'u', 'n', 'd', 'o' };

struct head {
    uint64_t                     length;   /* of the file it is of */
    uint64_t                     finished; /* length of the undo file, or 0 */
    uint8_t                      tags[VX_UNDO_TAG_COUNT][VX_UNDO_TAG_SIZE];
    struct vhdx_storage_identity identity;
};

struct record {
    uint64_t number;
    uint64_t durable; /* so many records were durable when this one was written */
    uint32_t kind, length;
    uint64_t file_offset;
    uint32_t checksum; /* of the bytes */
};

struct undo {
    struct vhdx_storage  storage;
    struct vhdx_storage *base, *file;
    struct vx_undo_tags  tags;
    struct head          head;
    struct vx_page_tree  saved; /* a bit for each page of the base */
    uint64_t             end;   /* of the undo file */
    uint64_t             record_count, durable_count; /* written, and flushed of these */
    uint8_t             *piece; /* PIECE_SIZE */
};

static struct undo *
undo_of(struct vhdx_storage *storage)
{
    return (struct undo *)storage;
}

/* --- as bytes --- */

static void
encode_head(uint8_t b[HEAD_SIZE], const struct head *head)
{
    memset(b, 0, HEAD_SIZE);
    memcpy(b, head_signature, sizeof head_signature);
    vx_put_le32(b + 8, VERSION);
    vx_put_le64(b + 16, head->length);
    vx_put_le64(b + 24, head->finished);
    memcpy(b + 32, head->tags, sizeof head->tags);
    vx_put_le64(b + 64, head->identity.is_known);
    vx_put_le64(b + 72, head->identity.device);
    vx_put_le64(b + 80, head->identity.file_number);
    vx_put_le32(b + 12, vx_crc32c_hole(b, HEAD_SIZE, 12));
}

static bool
decode_head(struct head *head, const uint8_t b[HEAD_SIZE])
{
    if (memcmp(b, head_signature, sizeof head_signature) != 0 || vx_le32(b + 8) != VERSION ||
        vx_le32(b + 12) != vx_crc32c_hole(b, HEAD_SIZE, 12))
        return false;
    head->length = vx_le64(b + 16);
    head->finished = vx_le64(b + 24);
    memcpy(head->tags, b + 32, sizeof head->tags);
    head->identity = (struct vhdx_storage_identity){ .is_known = vx_le64(b + 64) != 0, .device = vx_le64(b + 72),
                                                     .file_number = vx_le64(b + 80) };
    return true;
}

static void
encode_record(uint8_t b[RECORD_SIZE], const struct record *record)
{
    memset(b, 0, RECORD_SIZE);
    memcpy(b, record_signature, sizeof record_signature);
    vx_put_le64(b + 8, record->number);
    vx_put_le32(b + 16, record->kind);
    vx_put_le32(b + 20, record->length);
    vx_put_le64(b + 24, record->file_offset);
    vx_put_le32(b + 32, record->checksum);
    vx_put_le64(b + 40, record->durable);
    vx_put_le32(b + 4, vx_crc32c_hole(b, RECORD_SIZE, 4));
}

static bool
decode_record(struct record *record, const uint8_t b[RECORD_SIZE])
{
    if (memcmp(b, record_signature, sizeof record_signature) != 0 ||
        vx_le32(b + 4) != vx_crc32c_hole(b, RECORD_SIZE, 4))
        return false;
    *record = (struct record){ .number = vx_le64(b + 8), .kind = vx_le32(b + 16), .length = vx_le32(b + 20),
                               .file_offset = vx_le64(b + 24), .checksum = vx_le32(b + 32), .durable = vx_le64(b + 40) };
    return record->length <= PIECE_SIZE;
}

static int
write_head(struct undo *undo, struct vhdx_error *err)
{
    uint8_t bytes[HEAD_SIZE];
    int     rc;

    encode_head(bytes, &undo->head);
    rc = vx_storage_write(undo->file, bytes, sizeof bytes, 0, err);
    return rc == VHDX_OK ? vx_storage_flush(undo->file, err) : rc;
}

static int
read_tags(uint8_t out[VX_UNDO_TAG_COUNT][VX_UNDO_TAG_SIZE], struct vhdx_storage *base, const struct vx_undo_tags *tags,
          struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (unsigned i = 0; i < VX_UNDO_TAG_COUNT && rc == VHDX_OK; i++) {
        size_t got;

        rc = vx_storage_read_prefix(base, out[i], VX_UNDO_TAG_SIZE, tags->file_offsets[i], &got, err);
    }
    return rc;
}

/* --- saving --- */

static int
append(struct undo *undo, enum record_kind kind, uint64_t file_offset, const uint8_t *bytes, uint32_t length,
       struct vhdx_error *err)
{
    const struct record record = { .number = undo->record_count, .durable = undo->durable_count, .kind = kind,
                                   .length = length, .file_offset = file_offset, .checksum = vx_crc32c(0, bytes, length) };
    uint8_t head[RECORD_SIZE];
    int     rc;

    encode_record(head, &record);
    rc = vx_storage_write(undo->file, head, sizeof head, undo->end, err);
    if (rc == VHDX_OK)
        rc = vx_storage_write(undo->file, bytes, length, undo->end + RECORD_SIZE, err);
    if (rc < 0)
        return rc;
    undo->record_count++;
    undo->end += RECORD_SIZE + vx_round_up(length, RECORD_SIZE);
    return VHDX_OK;
}

static bool
is_saved(const struct undo *undo, uint64_t page_index)
{
    const uint8_t *map = vx_page_find(&undo->saved, page_index / PAGES_PER_MAP);
    uint64_t       bit = page_index % PAGES_PER_MAP;

    return map != NULL && (map[bit / 8] >> (bit % 8) & 1) != 0;
}

static int
note_saved(struct undo *undo, uint64_t first_page, uint64_t end_page, struct vhdx_error *err)
{
    for (uint64_t page = first_page; page < end_page; page++) {
        uint8_t *map = vx_page_make(&undo->saved, page / PAGES_PER_MAP);
        uint64_t bit = page % PAGES_PER_MAP;

        if (map == NULL)
            return vx_fail_memory(err, "the undo file's map");
        map[bit / 8] |= (uint8_t)(1u << (bit % 8));
    }
    return VHDX_OK;
}

/* A run of pages that are not saved yet, at most a piece of them. */
static int
save_run(struct undo *undo, uint64_t first_page, uint64_t end_page, struct vhdx_error *err)
{
    uint64_t at = first_page * VX_PAGE;
    size_t   length = (size_t)(vx_min_u64(end_page * VX_PAGE, undo->head.length) - at), got;
    int      rc = vx_storage_read_prefix(undo->base, undo->piece, length, at, &got, err);

    if (rc == VHDX_OK)
        rc = append(undo, RECORD_BYTES, at, undo->piece, (uint32_t)length, err);
    return rc == VHDX_OK ? note_saved(undo, first_page, end_page, err) : rc;
}

/* N1, N2 for [start, end).  What lies past the length at the beginning was not there. */
static int
save(struct undo *undo, uint64_t start, uint64_t end, struct vhdx_error *err)
{
    uint64_t page = start / VX_PAGE, end_page;

    end = vx_min_u64(end, undo->head.length);
    if (start >= end)
        return VHDX_OK;
    end_page = vx_ceil_div(end, VX_PAGE);
    while (page < end_page) {
        uint64_t run_end = page;
        int      rc;

        if (is_saved(undo, page)) {
            page++;
            continue;
        }
        while (run_end < end_page && run_end - page < PIECE_SIZE / VX_PAGE && !is_saved(undo, run_end))
            run_end++;
        rc = save_run(undo, page, run_end, err);
        if (rc < 0)
            return rc;
        page = run_end;
    }
    return VHDX_OK;
}

/* The same where only data counts, since what follows is zeros anyway. */
static int
save_data(struct undo *undo, uint64_t start, uint64_t end, struct vhdx_error *err)
{
    end = vx_min_u64(end, undo->head.length);
    while (start < end) {
        uint64_t data_start, data_end;
        int      rc = vx_storage_next_data(undo->base, start, &data_start, &data_end, err);

        if (rc < 0 || data_start >= end || data_start == data_end)
            return rc;
        rc = save(undo, vx_max_u64(data_start, start), vx_min_u64(data_end, end), err);
        if (rc < 0)
            return rc;
        start = data_end;
    }
    return VHDX_OK;
}

/* N3: tags that this write gives the file.  `bytes` NULL: zeros. */
static int
save_tags(struct undo *undo, const uint8_t *bytes, uint64_t length, uint64_t file_offset, struct vhdx_error *err)
{
    for (unsigned i = 0; i < VX_UNDO_TAG_COUNT; i++) {
        uint64_t at = undo->tags.file_offsets[i];
        uint8_t  tag[VX_UNDO_TAG_SIZE] = { 0 };
        int      rc;

        if (file_offset > at || file_offset + length < at + VX_UNDO_TAG_SIZE)
            continue;
        if (bytes != NULL)
            memcpy(tag, bytes + (at - file_offset), sizeof tag);
        rc = append(undo, RECORD_TAG, at, tag, sizeof tag, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

static int
settle(struct undo *undo, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (undo->durable_count < undo->record_count)
        rc = vx_storage_flush(undo->file, err);
    if (rc == VHDX_OK)
        undo->durable_count = undo->record_count;
    return rc;
}

/* --- the storage --- */

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct vhdx_storage *base = undo_of(storage)->base;

    return base->methods->readv(base, vector, vector_count, file_offset, err);
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct undo *undo = undo_of(storage);
    uint64_t     at = file_offset;
    int          rc = VHDX_OK;

    for (int i = 0; i < vector_count && rc == VHDX_OK; i++) {
        rc = save(undo, at, at + vector[i].iov_len, err);
        if (rc == VHDX_OK)
            rc = save_tags(undo, vector[i].iov_base, vector[i].iov_len, at, err);
        at += vector[i].iov_len;
    }
    if (rc == VHDX_OK)
        rc = settle(undo, err);
    return rc == VHDX_OK ? undo->base->methods->writev(undo->base, vector, vector_count, file_offset, err) : rc;
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    return vx_storage_flush(undo_of(storage)->base, err);
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    return vx_storage_get_size(undo_of(storage)->base, out, err);
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct undo *undo = undo_of(storage);
    int          rc = save_data(undo, size, UINT64_MAX, err);

    if (rc == VHDX_OK)
        rc = settle(undo, err);
    return rc == VHDX_OK ? vx_storage_set_size(undo->base, size, err) : rc;
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    struct undo *undo = undo_of(storage);
    int          rc = save_data(undo, file_offset, file_offset + length, err);

    if (rc == VHDX_OK)
        rc = save_tags(undo, NULL, length, file_offset, err);
    if (rc == VHDX_OK)
        rc = settle(undo, err);
    return rc == VHDX_OK ? vx_storage_zero(undo->base, file_offset, length, mode, err) : rc;
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    return vx_storage_allocate(undo_of(storage)->base, file_offset, length, err);
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end, struct vhdx_error *err)
{
    return vx_storage_next_data(undo_of(storage)->base, file_offset, start, end, err);
}

static void
forget_cached(struct vhdx_storage *storage)
{
    vx_storage_forget_cached(undo_of(storage)->base);
}

static void
close_undo(struct vhdx_storage *storage)
{
    struct undo *undo = undo_of(storage);

    vx_page_free_range(&undo->saved, 0, UINT64_MAX);
    vx_free(undo->piece);
    vx_free(undo);
}

static const struct vhdx_storage_methods undo_methods = {
    .readv = read_vector,
    .writev = write_vector,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .forget_cached = forget_cached,
    .close = close_undo,
};

static int
begin(struct undo *undo, struct vhdx_error *err)
{
    int rc;

    undo->piece = vx_alloc(PIECE_SIZE);
    if (undo->piece == NULL)
        return vx_fail_memory(err, "an undo file");
    undo->head.identity = undo->base->identity;
    rc = vx_storage_get_size(undo->base, &undo->head.length, err);
    if (rc == VHDX_OK)
        rc = read_tags(undo->head.tags, undo->base, &undo->tags, err);
    return rc == VHDX_OK ? write_head(undo, err) : rc;
}

int
vx_undo_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vhdx_storage *file,
            const struct vx_undo_tags *tags, struct vhdx_error *err)
{
    struct undo *undo = vx_alloc_zeroed(1, sizeof *undo);
    int          rc;

    if (undo == NULL)
        return vx_fail_memory(err, "an undo file");
    undo->storage = (struct vhdx_storage){ .methods = &undo_methods, .traits = base->traits, .name = base->name,
                                           .identity = base->identity };
    undo->base = base;
    undo->file = file;
    undo->tags = *tags;
    undo->end = HEAD_SIZE;
    rc = begin(undo, err);
    if (rc < 0)
        close_undo(&undo->storage);
    else
        *out = &undo->storage;
    return rc;
}

int
vx_undo_finish(struct vhdx_storage *storage, struct vhdx_error *err)
{
    struct undo *undo = undo_of(storage);
    int          rc = vx_storage_flush(undo->base, err); /* the repair first: an unfinished undo file is of use, too */

    if (rc == VHDX_OK)
        rc = vx_storage_set_size(undo->file, undo->end, err); /* the last record's padding */
    if (rc == VHDX_OK)
        rc = vx_storage_flush(undo->file, err); /* before the head counts on it */
    undo->head.finished = undo->end;
    return rc == VHDX_OK ? write_head(undo, err) : rc;
}

/* --- putting back --- */

struct reader {
    struct vhdx_storage *file;
    uint64_t             end; /* of the undo file */
    struct head          head;
    uint8_t              now[VX_UNDO_TAG_COUNT][VX_UNDO_TAG_SIZE]; /* the tags the file has */
    bool                 is_known[VX_UNDO_TAG_COUNT];
    uint8_t             *piece;
};

typedef int (*take_record)(struct reader *reader, const struct record *record, void *context, struct vhdx_error *err);

static int
fail_damaged(struct vhdx_error *err, uint64_t at)
{
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                   "the undo file is damaged at its byte %" PRIu64 ": nothing was put back", at);
}

/* The record at `at`, with its bytes in the piece.  False: none is there. */
static int
read_record(struct reader *reader, struct record *record, uint64_t at, bool *is_there, struct vhdx_error *err)
{
    uint8_t bytes[RECORD_SIZE];
    size_t  got;
    int     rc = vx_storage_read_prefix(reader->file, bytes, sizeof bytes, at, &got, err);

    *is_there = false;
    if (rc < 0 || got < sizeof bytes || !decode_record(record, bytes))
        return rc;
    rc = vx_storage_read_prefix(reader->file, reader->piece, record->length, at + RECORD_SIZE, &got, err);
    *is_there = rc == VHDX_OK && got == record->length &&
                vx_crc32c(0, reader->piece, record->length) == record->checksum;
    return rc;
}

/* What follows the last sound record of an unfinished undo file is what a power cut left of records that nothing rested on
 * yet; unless a later one says that this one was durable before it. */
static int
judge_rest(struct reader *reader, uint64_t at, uint64_t number, struct vhdx_error *err)
{
    uint64_t damaged_at = at;

    for (; at < reader->end; at += RECORD_SIZE) {
        struct record record;
        bool          is_there;
        int           rc = read_record(reader, &record, at, &is_there, err);

        if (rc < 0)
            return rc;
        if (is_there && record.durable > number)
            return fail_damaged(err, damaged_at);
    }
    return VHDX_OK;
}

static int
each_record(struct reader *reader, take_record take, void *context, struct vhdx_error *err)
{
    uint64_t at = HEAD_SIZE, end = reader->head.finished != 0 ? reader->head.finished : reader->end;

    for (uint64_t number = 0; at < end; number++) {
        struct record record;
        bool          is_there;
        int           rc = read_record(reader, &record, at, &is_there, err);

        if (rc < 0)
            return rc;
        if (!is_there || record.number != number)
            return reader->head.finished != 0 ? fail_damaged(err, at) : judge_rest(reader, at, number, err);
        rc = take(reader, &record, context, err);
        if (rc < 0)
            return rc;
        at += RECORD_SIZE + vx_round_up(record.length, RECORD_SIZE);
    }
    return VHDX_OK;
}

static void
compare_tags(struct reader *reader, const uint8_t *tag)
{
    for (unsigned i = 0; i < VX_UNDO_TAG_COUNT; i++)
        reader->is_known[i] |= memcmp(reader->now[i], tag, VX_UNDO_TAG_SIZE) == 0;
}

static int
look_at(struct reader *reader, const struct record *record, void *context, struct vhdx_error *err)
{
    uint64_t end;

    (void)context;
    if (record->kind == RECORD_TAG && record->length == VX_UNDO_TAG_SIZE)
        compare_tags(reader, reader->piece);
    else if (record->kind != RECORD_BYTES || !vx_add_u64(record->file_offset, record->length, &end) ||
             end > reader->head.length)
        return fail_damaged(err, record->file_offset);
    return VHDX_OK;
}

/* Is the file the one that was repaired, as it was before, as the repair left it, or as it was cut between? */
static int
judge_identity(const struct reader *reader, const struct vhdx_storage *base, struct vhdx_error *err)
{
    bool is_known = true, is_zero = true;

    for (unsigned i = 0; i < VX_UNDO_TAG_COUNT; i++) {
        is_known &= reader->is_known[i];
        is_zero &= vx_is_zero(reader->now[i], VX_UNDO_TAG_SIZE);
    }
    if (is_known && is_zero) /* wiped: what the system calls the file has to do */
        is_known = vx_identity_equal(&reader->head.identity, &base->identity) || !base->identity.is_known;
    if (is_known)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                   "the undo file is of another image, or the image was written since it was repaired: nothing was put back");
}

static int
put_back(struct reader *reader, const struct record *record, void *context, struct vhdx_error *err)
{
    struct vhdx_storage *base = context;

    if (record->kind != RECORD_BYTES)
        return VHDX_OK;
    return vx_storage_write(base, reader->piece, record->length, record->file_offset, err);
}

static int
put_all_back(struct reader *reader, struct vhdx_storage *base, struct vhdx_error *err)
{
    int rc = vx_storage_set_size(base, reader->head.length, err);

    if (rc == VHDX_OK)
        rc = each_record(reader, put_back, base, err);
    return rc == VHDX_OK ? vx_storage_flush(base, err) : rc;
}

static int
read_head(struct reader *reader, struct vhdx_error *err)
{
    uint8_t bytes[HEAD_SIZE];
    size_t  got;
    int     rc = vx_storage_get_size(reader->file, &reader->end, err);

    if (rc == VHDX_OK)
        rc = vx_storage_read_prefix(reader->file, bytes, sizeof bytes, 0, &got, err);
    if (rc < 0)
        return rc;
    if (!decode_head(&reader->head, bytes))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "this is no undo file");
    return reader->head.finished > reader->end ? fail_damaged(err, reader->end) : VHDX_OK;
}

static int
apply(struct reader *reader, struct vhdx_storage *base, const struct vx_undo_tags *tags, struct vhdx_error *err)
{
    int rc = read_head(reader, err);

    if (rc == VHDX_OK)
        rc = read_tags(reader->now, base, tags, err);
    if (rc < 0)
        return rc;
    for (unsigned i = 0; i < VX_UNDO_TAG_COUNT; i++)
        compare_tags(reader, reader->head.tags[i]);
    rc = each_record(reader, look_at, NULL, err); /* N4 */
    if (rc == VHDX_OK)
        rc = judge_identity(reader, base, err);
    return rc == VHDX_OK ? put_all_back(reader, base, err) : rc;
}

int
vx_undo_apply(struct vhdx_storage *file, struct vhdx_storage *base, const struct vx_undo_tags *tags,
              struct vhdx_error *err)
{
    struct reader reader = { .file = file, .piece = vx_alloc(PIECE_SIZE) };
    int           rc = reader.piece != NULL ? apply(&reader, base, tags, err) : vx_fail_memory(err, "an undo file");

    vx_free(reader.piece);
    return rc;
}
