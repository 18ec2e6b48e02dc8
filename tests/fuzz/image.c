/* Whole files from inputs: the bases, the records, the checksums. */
#include "image.h"

#include "base/checked.h"
#include "base/crc32c.h"
#include "base/guid.h"
#include "format/log_entry.h"
#include "ops/chain_fixture.h"

#define LONGEST_FILL  (128 * 1024u)
#define LONGEST_LOG   (4 * VX_MIB) /* beyond it entries stay unsealed */
#define LONGEST_ENTRY (128 * 1024u)
#define MOST_RUNS     64u

/* --- bases --- */

/* Bytes of a file that are not zero, as far as pages tell. */
struct run {
    uint64_t file_offset;
    size_t   length;
    uint8_t *bytes;
};
struct base {
    uint64_t   file_length;
    size_t     run_count;
    struct run runs[MOST_RUNS];
};
static struct base bases[FUZZ_BASE_COUNT];

static void
keep_base(struct base *base, struct vhdx_storage *storage)
{
    uint64_t start, end = 0;

    MUST(vx_storage_get_size(storage, &base->file_length, NULL) == VHDX_OK);
    for (;;) {
        struct run *run = &base->runs[base->run_count];

        MUST(vx_storage_next_data(storage, end, &start, &end, NULL) == VHDX_OK);
        if (start == end)
            return;
        MUST(base->run_count++ < MOST_RUNS);
        *run = (struct run){ .file_offset = start, .length = (size_t)(end - start), .bytes = malloc((size_t)(end - start)) };
        MUST(run->bytes != NULL && vx_storage_read(storage, run->bytes, run->length, start, NULL) == VHDX_OK);
    }
}

static struct vhdx_storage *
new_file(void)
{
    struct vhdx_storage *storage;

    MUST(vhdx_storage_new_memory(&storage, 0, NULL) == VHDX_OK);
    return storage;
}

/* Blocks of most states: a few sectors of each are enough. */
static void
fill(struct vhdx_storage *storage, uint64_t size, uint64_t block_size, uint32_t seed)
{
    chain_write(storage, 0, 4096, seed);
    chain_write(storage, block_size + 1024, 3072, seed);
    chain_write(storage, 2 * block_size, 512, seed);
    chain_zero(storage, 2 * block_size, block_size, false);
    chain_write(storage, 3 * block_size, 512, seed);
    chain_zero(storage, 3 * block_size, block_size, true);
    chain_zero(storage, 4 * block_size, block_size, false);
    chain_write(storage, 4 * block_size + 512, 4096, seed); /* of a child, too, the whole block is present */
    chain_write(storage, size - 1536, 1536, seed);
}

/* Leave a log behind: every flush wrote an entry. */
static void
make_dirty(struct vhdx_storage *storage, uint64_t block_size)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    uint8_t bytes[1024];

    memset(bytes, 0x5A, sizeof bytes);
    for (unsigned i = 0; i < 4; i++) {
        MUST(vx_image_write(image, bytes, sizeof bytes, i * block_size + 8192, NULL) == VHDX_OK);
        MUST(vx_image_zero(image, (4 + i % 2) * block_size, block_size, false, NULL) == VHDX_OK);
        MUST(vx_image_flush(image, NULL) == VHDX_OK);
    }
    vx_image_abandon(image);
}

static void
make_bases(void)
{
    static const struct chain_shape shapes[FUZZ_BASE_COUNT] = {
        [FUZZ_DYNAMIC] = { 8 * VX_MIB + 1536, VX_MIB, 512, VHDX_TYPE_DYNAMIC },
        [FUZZ_DYNAMIC_4096] = { 13 * VX_MIB, 2 * VX_MIB, 4096, VHDX_TYPE_DYNAMIC },
        [FUZZ_FIXED] = { 6 * VX_MIB, VX_MIB, 512, VHDX_TYPE_FIXED },
        [FUZZ_PARENT] = { 7 * VX_MIB, 2 * VX_MIB, 512, VHDX_TYPE_DYNAMIC },
        [FUZZ_CHILD] = { 7 * VX_MIB, VX_MIB, 512, VHDX_TYPE_DIFFERENCING },
        [FUZZ_DIRTY] = { 8 * VX_MIB, VX_MIB, 512, VHDX_TYPE_DYNAMIC },
        [FUZZ_DIRTY_CHILD] = { 9 * VX_MIB, VX_MIB, 512, VHDX_TYPE_DIFFERENCING },
        [FUZZ_TWO_CHUNKS] = { 4 * VX_GIB + 3 * VX_MIB, VX_MIB, 512, VHDX_TYPE_DIFFERENCING },
        [FUZZ_HUGE] = { 64 * VX_TIB, 32 * VX_MIB, 512, VHDX_TYPE_DYNAMIC },
    };
    struct vhdx_storage *storages[FUZZ_BASE_COUNT];

    vx_random_seed_for_tests(1);
    for (unsigned i = FUZZ_NOTHING; i < FUZZ_BASE_COUNT; i++) {
        storages[i] = new_file();
        if (i == FUZZ_NOTHING)
            continue;
        if (shapes[i].type == VHDX_TYPE_DIFFERENCING)
            chain_make_child(storages[i], storages[FUZZ_PARENT], &shapes[i]);
        else
            chain_make_base(storages[i], &shapes[i]);
        fill(storages[i], shapes[i].size, i == FUZZ_PARENT ? VX_MIB : shapes[i].block_size, i);
        if (i == FUZZ_DIRTY || i == FUZZ_DIRTY_CHILD)
            make_dirty(storages[i], shapes[i].block_size);
    }
    for (unsigned i = 0; i < FUZZ_BASE_COUNT; i++) {
        keep_base(&bases[i], storages[i]);
        vhdx_storage_close(storages[i]);
    }
}

static struct vhdx_storage *
copy_base(const struct base *base)
{
    struct vhdx_storage *storage = new_file();

    for (size_t i = 0; i < base->run_count; i++)
        MUST(vx_storage_write(storage, base->runs[i].bytes, base->runs[i].length, base->runs[i].file_offset, NULL) ==
             VHDX_OK);
    MUST(vx_storage_set_size(storage, base->file_length, NULL) == VHDX_OK);
    return storage;
}

/* --- checksums --- */

static void
seal(struct vhdx_storage *storage, uint64_t file_offset, size_t length, const char *signature)
{
    static uint8_t bytes[VX_REGION_TABLE_SIZE];
    uint8_t checksum[4];

    if (vx_storage_read(storage, bytes, length, file_offset, NULL) < 0 || memcmp(bytes, signature, 4) != 0)
        return;
    vx_put_le32(checksum, vx_crc32c_hole(bytes, length, 4));
    MUST(vx_storage_write(storage, checksum, sizeof checksum, file_offset + 4, NULL) == VHDX_OK);
}

struct ring {
    uint64_t file_offset, length;
};

/* The log of either header, as long as it lies in the file. */
static bool
find_log(struct vhdx_storage *storage, struct ring *ring)
{
    uint8_t b[VX_HEADER_SIZE];
    uint64_t size;

    MUST(vx_storage_get_size(storage, &size, NULL) == VHDX_OK);
    for (int copy = 1; copy >= 0; copy--) {
        if (vx_storage_read(storage, b, sizeof b, VX_HEADER_OFFSET(copy), NULL) < 0)
            continue;
        *ring = (struct ring){ vx_le64(b + 72), vx_le32(b + 68) };
        if (ring->length > 0 && ring->length <= LONGEST_LOG && ring->length % VX_LOG_SECTOR == 0 &&
            ring->file_offset < size && ring->length <= size - ring->file_offset)
            return true;
    }
    return false;
}

/* An entry goes on at the start of the log when it passes the end. */
static void
seal_entry(struct vhdx_storage *storage, const struct ring *ring, uint64_t position, uint32_t length)
{
    static uint8_t entry[LONGEST_ENTRY];
    size_t first = (size_t)vx_min_u64(length, ring->length - position);

    MUST(vx_storage_read(storage, entry, first, ring->file_offset + position, NULL) == VHDX_OK);
    MUST(vx_storage_read(storage, entry + first, length - first, ring->file_offset, NULL) == VHDX_OK);
    vx_log_entry_seal(entry, length);
    MUST(vx_storage_write(storage, entry, 64, ring->file_offset + position, NULL) == VHDX_OK);
}

static void
seal_log(struct vhdx_storage *storage)
{
    uint8_t sector[VX_LOG_SECTOR];
    struct ring ring;
    uint64_t start, end;

    if (!find_log(storage, &ring))
        return;
    for (uint64_t at = ring.file_offset; at < ring.file_offset + ring.length; at += VX_LOG_SECTOR) {
        MUST(vx_storage_next_data(storage, at, &start, &end, NULL) == VHDX_OK);
        at += vx_round_down(vx_max_u64(start, at) - at, VX_LOG_SECTOR);
        if (at >= ring.file_offset + ring.length)
            return;
        MUST(vx_storage_read(storage, sector, sizeof sector, at, NULL) == VHDX_OK);
        if (vx_log_sector_is_entry(sector) && vx_le32(sector + 8) % VX_LOG_SECTOR == 0 && vx_le32(sector + 8) > 0 &&
            vx_le32(sector + 8) <= vx_min_u64(LONGEST_ENTRY, ring.length))
            seal_entry(storage, &ring, at - ring.file_offset, vx_le32(sector + 8));
    }
}

static void
seal_all(struct vhdx_storage *storage, uint64_t unsealed)
{
    for (int copy = 0; copy < 2; copy++) {
        if ((unsealed & FUZZ_UNSEALED_HEADERS) == 0)
            seal(storage, VX_HEADER_OFFSET(copy), VX_HEADER_SIZE, "head");
        if ((unsealed & FUZZ_UNSEALED_REGIONS) == 0)
            seal(storage, VX_REGION_TABLE_OFFSET(copy), VX_REGION_TABLE_SIZE, "regi");
    }
    if ((unsealed & FUZZ_UNSEALED_LOG) == 0)
        seal_log(storage);
}

/* --- records --- */

static void
take_bytes(struct fuzz_input *input, struct vhdx_storage *storage, size_t length)
{
    uint64_t file_offset = fuzz_take(input, 5);

    length = length < input->left ? length : input->left;
    MUST(vx_storage_write(storage, input->bytes, length, file_offset, NULL) == VHDX_OK);
    input->bytes += length;
    input->left -= length;
}

static void
take_fill(struct fuzz_input *input, struct vhdx_storage *storage)
{
    static uint8_t bytes[LONGEST_FILL];
    uint64_t file_offset = fuzz_take(input, 5);
    size_t length = (size_t)fuzz_take(input, 3) % (sizeof bytes + 1);

    memset(bytes, (int)fuzz_take(input, 1), length);
    MUST(vx_storage_write(storage, bytes, length, file_offset, NULL) == VHDX_OK);
}

static void
take_copy(struct fuzz_input *input, struct vhdx_storage *storage)
{
    static uint8_t bytes[1 << 16];
    uint64_t from = fuzz_take(input, 5), to = fuzz_take(input, 5);
    size_t length = (size_t)fuzz_take(input, 2), got;

    MUST(vx_storage_read_prefix(storage, bytes, length, from, &got, NULL) == VHDX_OK);
    MUST(vx_storage_write(storage, bytes, length, to, NULL) == VHDX_OK);
}

static void
take_records(struct fuzz_input *input, struct vhdx_storage *storage)
{
    uint64_t kind;

    while ((kind = fuzz_take(input, 1)) != FUZZ_END) {
        if (kind <= FUZZ_BYTES)
            take_bytes(input, storage, (size_t)kind);
        else if (kind == FUZZ_FILL)
            take_fill(input, storage);
        else if (kind == FUZZ_LENGTH)
            MUST(vx_storage_set_size(storage, fuzz_take(input, 5), NULL) == VHDX_OK);
        else if (kind == FUZZ_COPY)
            take_copy(input, storage);
    }
}

struct vhdx_storage *
fuzz_take_image(struct fuzz_input *input, enum fuzz_base usual)
{
    uint64_t base = input->left > 0 ? fuzz_take(input, 1) % FUZZ_BASE_COUNT : usual, unsealed = fuzz_take(input, 1);
    struct vhdx_storage *storage;

    if (bases[FUZZ_DYNAMIC].file_length == 0)
        make_bases();
    storage = copy_base(&bases[base]);
    take_records(input, storage);
    seal_all(storage, unsealed);
    vx_random_seed_for_tests(2); /* what a session draws is the same in each run */
    return storage;
}

/* --- for the mutator --- */

size_t
fuzz_next_record(const uint8_t *data, size_t size, size_t at)
{
    size_t length;

    if (at >= size)
        return size;
    switch (data[at]) {
    case FUZZ_END:
    case 255:
        length = 1;
        break;
    case FUZZ_FILL:
        length = 1 + 5 + 3 + 1;
        break;
    case FUZZ_LENGTH:
        length = 1 + 5;
        break;
    case FUZZ_COPY:
        length = 1 + 5 + 5 + 2;
        break;
    default:
        length = 1 + 5 + (size_t)data[at];
    }
    return length < size - at ? at + length : size;
}

size_t
fuzz_image_end(const uint8_t *data, size_t size, size_t from, bool *is_open)
{
    size_t at = from + 2;

    *is_open = false;
    while (at < size) {
        uint8_t kind = data[at];

        at = fuzz_next_record(data, size, at);
        if (kind == FUZZ_END)
            return at;
    }
    *is_open = true;
    return size;
}
