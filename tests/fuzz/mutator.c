/*
 * The mutator of the targets whose inputs are whole images (image.h).  It decodes the image, picks a field of a structure
 * that is there, and appends a record that gives it another value: nothing, all, one off, another field's, someone else's
 * place.  Checksums need no thought: whoever decodes the records makes them right.  The rest are changes of the records
 * themselves and, left to libFuzzer, of the bytes behind the images.
 */
#include "image.h"

#include "base/checked.h"
#include "format/layout.h"
#include "format/log_entry.h"
#include "random.h"
#include "storage/storage.h"

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);

/* --- fields --- */

enum structure {
    OF_IDENTIFIER, OF_HEADER, OF_REGION_TABLE, OF_METADATA_TABLE, OF_ITEMS, OF_BAT, OF_LOG_ENTRY, OF_LOG_DATA, OF_BITMAP,
    STRUCTURE_COUNT
};

/* `count` of them, `stride` bytes apart. */
struct field {
    enum structure structure;
    uint32_t       offset;
    unsigned       width, count, stride;
};

static const struct field fields[] = {
    { OF_IDENTIFIER, 0, 8, 1, 0 },      /* signature */
    { OF_IDENTIFIER, 8, 2, 256, 2 },    /* creator */
    { OF_IDENTIFIER, 520, 8, 8000, 8 }, /* reserved */

    { OF_HEADER, 0, 4, 2, 4 },    /* signature, checksum */
    { OF_HEADER, 8, 8, 1, 0 },    /* sequence number */
    { OF_HEADER, 16, 8, 2, 8 },   /* FileWriteGuid */
    { OF_HEADER, 32, 8, 2, 8 },   /* DataWriteGuid */
    { OF_HEADER, 48, 8, 2, 8 },   /* LogGuid */
    { OF_HEADER, 64, 2, 2, 2 },   /* versions */
    { OF_HEADER, 68, 4, 1, 0 },   /* log length */
    { OF_HEADER, 72, 8, 1, 0 },   /* log offset */
    { OF_HEADER, 80, 8, 502, 8 }, /* reserved */

    { OF_REGION_TABLE, 0, 4, 4, 4 },    /* signature, checksum, count, reserved */
    { OF_REGION_TABLE, 16, 8, 4, 32 },  /* GUIDs */
    { OF_REGION_TABLE, 24, 8, 4, 32 },
    { OF_REGION_TABLE, 32, 8, 4, 32 },  /* offsets */
    { OF_REGION_TABLE, 40, 4, 8, 4 },   /* lengths, flags, and the next */
    { OF_REGION_TABLE, 72, 4, 2, 4 },
    { OF_REGION_TABLE, 80, 8, 900, 8 },

    { OF_METADATA_TABLE, 0, 8, 1, 0 },    /* signature */
    { OF_METADATA_TABLE, 8, 2, 2, 2 },    /* reserved, count */
    { OF_METADATA_TABLE, 12, 4, 5, 4 },   /* reserved */
    { OF_METADATA_TABLE, 32, 8, 8, 32 },  /* item ids */
    { OF_METADATA_TABLE, 40, 8, 8, 32 },
    { OF_METADATA_TABLE, 48, 4, 8, 32 },  /* offsets */
    { OF_METADATA_TABLE, 52, 4, 8, 32 },  /* lengths */
    { OF_METADATA_TABLE, 56, 4, 8, 32 },  /* flags */
    { OF_METADATA_TABLE, 60, 4, 8, 32 },  /* reserved */

    { OF_ITEMS, 0, 4, 2, 4 },    /* block size, flags */
    { OF_ITEMS, 8, 8, 1, 0 },    /* size */
    { OF_ITEMS, 16, 4, 2, 4 },   /* sector sizes */
    { OF_ITEMS, 24, 8, 2, 8 },   /* disk id */
    { OF_ITEMS, 40, 8, 2, 8 },   /* locator: type */
    { OF_ITEMS, 56, 2, 2, 2 },   /* reserved, count */
    { OF_ITEMS, 60, 4, 12, 4 },  /* keys and values: where, how long */
    { OF_ITEMS, 68, 2, 12, 2 },
    { OF_ITEMS, 84, 2, 150, 2 }, /* text */

    { OF_BAT, 0, 8, 16, 8 },
    { OF_BAT, 0, 1, 16, 8 }, /* states */
    { OF_BAT, 32768, 8, 4, 8 },
    { OF_BAT, 0, 8, 4200, 8 },

    { OF_LOG_ENTRY, 0, 4, 4, 4 },     /* signature, checksum, length, tail */
    { OF_LOG_ENTRY, 16, 8, 1, 0 },    /* sequence number */
    { OF_LOG_ENTRY, 24, 4, 2, 4 },    /* descriptors, reserved */
    { OF_LOG_ENTRY, 32, 8, 2, 8 },    /* LogGuid */
    { OF_LOG_ENTRY, 48, 8, 2, 8 },    /* file lengths */
    { OF_LOG_ENTRY, 64, 4, 6, 32 },   /* descriptors: signature */
    { OF_LOG_ENTRY, 68, 4, 6, 32 },
    { OF_LOG_ENTRY, 72, 8, 6, 32 },   /* leading bytes, or length of zeros */
    { OF_LOG_ENTRY, 80, 8, 6, 32 },   /* file offset */
    { OF_LOG_ENTRY, 88, 8, 6, 32 },   /* sequence number */
    { OF_LOG_DATA, 0, 4, 2, 4 },      /* signature, upper half of the sequence number */
    { OF_LOG_DATA, 8, 8, 510, 8 },
    { OF_LOG_DATA, 4092, 4, 1, 0 },   /* lower half */

    { OF_BITMAP, 0, 8, 64, 256 },
    { OF_BITMAP, 0, 8, 2100, 8 },
};
#define FIELD_COUNT (sizeof fields / sizeof fields[0])

/* The files' own layout, good enough where a region table says nothing. */
#define USUAL_LOG      VX_MIB
#define USUAL_METADATA (2 * VX_MIB)
#define USUAL_BAT      (3 * VX_MIB)

static uint64_t
read_number(struct vhdx_storage *storage, uint64_t file_offset, unsigned width)
{
    uint8_t b[8] = { 0 };
    size_t got;

    (void)vx_storage_read_prefix(storage, b, width, file_offset, &got, NULL);
    return vx_le64(b);
}

/* Entry 0 or 1 of the region table, whichever region that is. */
static uint64_t
region_offset(struct vhdx_storage *storage, bool is_bat)
{
    for (uint64_t at = VX_REGION_TABLE_OFFSET(0) + 16; at < VX_REGION_TABLE_OFFSET(0) + 16 + 4 * 32; at += 32)
        if ((read_number(storage, at, 1) == 0x66) == is_bat && read_number(storage, at, 4) != 0) /* first byte of its GUID */
            return read_number(storage, at + 16, 8);
    return is_bat ? USUAL_BAT : USUAL_METADATA;
}

/* One of the sectors of the log that begin with these four bytes. */
static uint64_t
log_sector(struct vhdx_storage *storage, struct random *random, uint32_t signature)
{
    uint64_t found = USUAL_LOG, count = 0, start, end;

    for (uint64_t at = USUAL_LOG; at < USUAL_LOG + VX_MIB; at += VX_LOG_SECTOR) {
        if (vx_storage_next_data(storage, at, &start, &end, NULL) < 0 || start >= USUAL_LOG + VX_MIB)
            break;
        at = vx_max_u64(at, vx_round_down(start, VX_LOG_SECTOR));
        if (read_number(storage, at, 4) == signature && random_below(random, ++count) == 0)
            found = at;
    }
    return found;
}

static uint64_t
bitmap_offset(struct vhdx_storage *storage)
{
    uint64_t chunk_ratio = VX_SECTORS_PER_CHUNK * 512 / VX_MIB;

    return vx_round_down(read_number(storage, region_offset(storage, true) + 8 * chunk_ratio, 8), VX_MIB);
}

static uint64_t
structure_offset(struct vhdx_storage *storage, struct random *random, enum structure structure)
{
    switch (structure) {
    case OF_HEADER:
        return VX_HEADER_OFFSET(random_below(random, 2));
    case OF_REGION_TABLE:
        return VX_REGION_TABLE_OFFSET(random_below(random, 2));
    case OF_METADATA_TABLE:
        return region_offset(storage, false);
    case OF_ITEMS:
        return region_offset(storage, false) + VX_METADATA_TABLE_SIZE;
    case OF_BAT:
        return region_offset(storage, true);
    case OF_LOG_ENTRY:
        return log_sector(storage, random, UINT32_C(0x65676F6C)); /* "loge" */
    case OF_LOG_DATA:
        return log_sector(storage, random, UINT32_C(0x61746164)); /* "data" */
    case OF_BITMAP:
        return bitmap_offset(storage);
    default:
        return 0;
    }
}

struct place {
    uint64_t file_offset;
    unsigned width;
};

static struct place
pick_place(struct vhdx_storage *storage, struct random *random)
{
    enum structure structure = (enum structure)random_below(random, STRUCTURE_COUNT);
    const struct field *field;

    do
        field = &fields[random_below(random, FIELD_COUNT)];
    while (field->structure != structure);
    return (struct place){ structure_offset(storage, random, structure) + field->offset +
                               field->stride * random_below(random, field->count), field->width };
}

/* --- values --- */

static uint64_t
another_value(struct vhdx_storage *storage, struct random *random, const struct place *place)
{
    uint64_t value = read_number(storage, place->file_offset, place->width), size = 0;
    struct place other;

    switch (random_below(random, 14)) {
    case 0:
        return 0;
    case 1:
        return UINT64_MAX;
    case 2:
        return value + 1;
    case 3:
        return value - 1;
    case 4:
        return value ^ UINT64_C(1) << random_below(random, 8 * place->width);
    case 5:
        return value + VX_MIB * random_between(random, 1, 4);
    case 6:
        return value - VX_MIB * random_between(random, 1, 4);
    case 7:
        return (value & ~UINT64_C(7)) | random_below(random, 8); /* of a block: another state */
    case 8:
        return VX_MIB * random_below(random, 40) | random_below(random, 8);
    case 9:
        vx_storage_get_size(storage, &size, NULL);
        return size - size % VX_MIB + VX_MIB * random_below(random, 3) - VX_MIB;
    case 10:
        return UINT64_C(1) << random_below(random, 64);
    case 11:
        return random_below(random, 70000);
    case 12:
        return random_next(random);
    default:
        other = pick_place(storage, random);
        return read_number(storage, other.file_offset, 8);
    }
}

/* --- records --- */

/* An input under change.  What does not fit is left as it was. */
struct text {
    uint8_t *data;
    size_t   size, max_size;
};

static void
insert(struct text *text, size_t at, const uint8_t *bytes, size_t length)
{
    if (length > text->max_size - text->size)
        return;
    memmove(text->data + at + length, text->data + at, text->size - at);
    memcpy(text->data + at, bytes, length);
    text->size += length;
}

static void
erase(struct text *text, size_t at, size_t length)
{
    memmove(text->data + at, text->data + at + length, text->size - at - length);
    text->size -= length;
}

static void
put_number(uint8_t *bytes, uint64_t value, unsigned width)
{
    for (unsigned i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> (8 * i));
}

/* An image of the input: [from, end), its end mark included. */
struct part {
    size_t from, end;
};

/* Every image gets its end mark, so that what is appended to one does not run into the next.  Empty when there is no room for
 * that. */
static struct part
find_part(struct text *text, unsigned index)
{
    struct part part = { 0, 0 };

    for (unsigned i = 0; i <= index; i++) {
        static const uint8_t empty[3] = { FUZZ_DYNAMIC, 0, FUZZ_END };
        bool is_open;

        part.from = part.end;
        if (text->size - part.from < 2)
            insert(text, text->size, empty, sizeof empty);
        if (text->size - part.from < 2)
            return (struct part){ text->size, text->size };
        part.end = fuzz_image_end(text->data, text->size, part.from, &is_open);
        if (is_open) {
            if (text->size == text->max_size)
                return (struct part){ text->size, text->size };
            insert(text, text->size, (const uint8_t[]){ FUZZ_END }, 1);
            part.end = text->size;
        }
    }
    return part;
}

static void
change_field(struct text *text, const struct part *part, struct random *random)
{
    struct fuzz_input input = { text->data + part->from, part->end - part->from };
    struct vhdx_storage *storage = fuzz_take_image(&input, FUZZ_DYNAMIC);
    struct place place = pick_place(storage, random);
    uint8_t record[1 + 5 + 8];

    record[0] = (uint8_t)place.width;
    put_number(record + 1, place.file_offset, 5);
    put_number(record + 6, another_value(storage, random, &place), place.width);
    vhdx_storage_close(storage);
    insert(text, part->end - 1, record, 6 + (size_t)place.width);
}

/* Structures on top of each other, the second copy like the first, an old log entry again. */
static void
copy_structure(struct text *text, const struct part *part, struct random *random)
{
    static const uint16_t lengths[] = { 8, 32, 64, 80, 512, 4096, 8192, 65535 };
    struct fuzz_input input = { text->data + part->from, part->end - part->from };
    struct vhdx_storage *storage = fuzz_take_image(&input, FUZZ_DYNAMIC);
    uint64_t places[2], length = lengths[random_below(random, 8)];
    uint8_t record[1 + 5 + 5 + 2] = { FUZZ_COPY };

    for (int i = 0; i < 2; i++) {
        enum structure structure = (enum structure)random_below(random, STRUCTURE_COUNT);

        places[i] = structure_offset(storage, random, structure);
        if (structure == OF_METADATA_TABLE || structure == OF_BAT)
            places[i] += (length < 32 ? 8 : 32) * random_below(random, 6);
        put_number(record + 1 + 5 * i, places[i], 5);
    }
    put_number(record + 11, length, 2);
    vhdx_storage_close(storage);
    insert(text, part->end - 1, record, sizeof record);
}

static void
change_length(struct text *text, const struct part *part, struct random *random)
{
    struct fuzz_input input = { text->data + part->from, part->end - part->from };
    struct vhdx_storage *storage = fuzz_take_image(&input, FUZZ_DYNAMIC);
    uint64_t length;
    uint8_t record[1 + 5] = { FUZZ_LENGTH };

    MUST(vx_storage_get_size(storage, &length, NULL) == VHDX_OK);
    vhdx_storage_close(storage);
    switch (random_below(random, 4)) {
    case 0:
        length = random_below(random, length + 1);
        break;
    case 1:
        length = VX_MIB * random_below(random, length / VX_MIB + 1);
        break;
    case 2:
        length += VX_MIB * random_below(random, 80);
        break;
    default:
        length += random_below(random, 3) - 1;
    }
    put_number(record + 1, length, 5);
    insert(text, part->end - 1, record, sizeof record);
}

static size_t
pick_record(const struct text *text, const struct part *part, struct random *random)
{
    size_t at = part->from + 2, found = at, count = 0;

    for (; at < part->end - 1; at = fuzz_next_record(text->data, part->end, at))
        if (random_below(random, ++count) == 0)
            found = at;
    return found;
}

static void
drop_record(struct text *text, const struct part *part, struct random *random)
{
    size_t at = pick_record(text, part, random);

    if (at < part->end - 1)
        erase(text, at, fuzz_next_record(text->data, part->end, at) - at);
}

/* One byte behind the kind and the offset, or of the offset. */
static void
change_record(struct text *text, const struct part *part, struct random *random)
{
    size_t at = pick_record(text, part, random);

    if (at < part->end - 1) {
        size_t length = fuzz_next_record(text->data, part->end, at) - at;

        if (length > 1)
            text->data[at + 1 + random_below(random, length - 1)] ^= (uint8_t)(1u << random_below(random, 8));
    }
}

static void
change_rest(struct text *text, size_t from)
{
    text->size = from + LLVMFuzzerMutate(text->data + from, text->size - from, text->max_size - from);
}

static void
change_image(struct text *text, const struct part *part, struct random *random)
{
    uint64_t choice = random_below(random, 100);

    if (choice < 60)
        change_field(text, part, random);
    else if (choice < 68)
        change_length(text, part, random);
    else if (choice < 75)
        copy_structure(text, part, random);
    else if (choice < 85)
        drop_record(text, part, random);
    else if (choice < 94)
        change_record(text, part, random);
    else if (choice < 97)
        text->data[part->from] = (uint8_t)random_below(random, FUZZ_BASE_COUNT);
    else
        text->data[part->from + 1] = (uint8_t)(random_below(random, 2) * random_below(random, 8));
}

size_t
LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed)
{
    struct text text = { data, size, max_size };
    struct random random = { seed };
    struct part part;
    uint64_t changes;

    if (max_size < 64)
        return LLVMFuzzerMutate(data, size, max_size);
    part = find_part(&text, fuzz_image_count - 1);
    if (part.end == max_size) /* no room to add anything: cut, and what is left is changed blindly */
        return LLVMFuzzerMutate(data, size / 2, max_size);
    if (random_chance(&random, 25)) {
        change_rest(&text, part.end);
        return text.size;
    }
    for (changes = random_below(&random, 6) == 0 ? random_between(&random, 2, 4) : 1; changes > 0; changes--) {
        part = find_part(&text, (unsigned)random_below(&random, fuzz_image_count));
        if (part.end - part.from < 3)
            break;
        change_image(&text, &part, &random);
    }
    return text.size;
}
