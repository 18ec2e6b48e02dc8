#include "walk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "storage/storage.h"

#define MIB UINT64_C(0x100000)

/* Of every MiB of the file, who holds it. */
struct space {
    uint8_t *owner; /* 0: nobody */
    uint64_t mib_count;
};
enum { NOBODY, HEADERS, LOG, REGION, PAYLOAD, BITMAP };
static const char *const owner_names[] = { "nobody", "the headers", "the log", "a region", "a payload block",
                                           "a sector bitmap block" };

static bool
fail(char *why, size_t why_size, const char *what, uint64_t number)
{
    snprintf(why, why_size, "%s (%llu)", what, (unsigned long long)number);
    return false;
}

static bool
read_header(struct vhdx_storage *storage, uint64_t at, uint8_t header[4096])
{
    return vx_storage_read(storage, header, 4096, at, NULL) == VHDX_OK && memcmp(header, "head", 4) == 0 &&
           vx_le32(header + 4) == vx_crc32c_hole(header, 4096, 4);
}

bool
walk_header(struct vhdx_storage *storage, struct walk_header *out, char *why, size_t why_size)
{
    static const uint8_t none[16] = { 0 };
    uint8_t copies[2][4096], *current;
    bool is_valid[2];
    size_t i;

    for (i = 0; i < 2; i++)
        is_valid[i] = read_header(storage, 0x10000 * (i + 1), copies[i]);
    if (!is_valid[0] && !is_valid[1])
        return fail(why, why_size, "no valid header", 0);
    current = copies[0];
    if (!is_valid[0] || (is_valid[1] && vx_le64(copies[1] + 8) > vx_le64(copies[0] + 8)))
        current = copies[1];
    memcpy(out->data_write_guid, current + 32, 16);
    out->has_log = memcmp(current + 48, none, 16) != 0;
    out->log_length = vx_le32(current + 68);
    out->log_offset = vx_le64(current + 72);
    return true;
}

static bool
take(struct space *space, uint64_t file_offset, uint64_t length, uint8_t owner, uint64_t number, char *why,
     size_t why_size)
{
    uint64_t mib;

    if (file_offset % MIB != 0 || length % MIB != 0 || file_offset / MIB + length / MIB > space->mib_count) {
        snprintf(why, why_size, "%s %llu lies at %llu, outside the file or off its grid", owner_names[owner],
                 (unsigned long long)number, (unsigned long long)file_offset);
        return false;
    }
    for (mib = file_offset / MIB; mib < (file_offset + length) / MIB; mib++) {
        if (space->owner[mib] != NOBODY) {
            snprintf(why, why_size, "%s %llu takes MiB %llu, which %s holds", owner_names[owner],
                     (unsigned long long)number, (unsigned long long)mib, owner_names[space->owner[mib]]);
            return false;
        }
        space->owner[mib] = owner;
    }
    return true;
}

/* One entry of the table.  *needs_bitmap and *has_bitmap are about the chunk it belongs to. */
static bool
walk_entry(struct space *space, uint64_t entry, uint64_t number, uint64_t block_size, bool is_bitmap,
           bool is_differencing, bool *needs_bitmap, char *why, size_t why_size)
{
    uint64_t state = entry & 7, file_offset = entry & ~(MIB - 1);

    if ((entry & 0xffff8) != 0)
        return fail(why, why_size, "reserved bits of a table entry", number);
    if (is_bitmap) {
        if (state != 0 && (state != 6 || !is_differencing))
            return fail(why, why_size, "state of a bitmap entry", number);
        return state == 0 || take(space, file_offset, MIB, BITMAP, number, why, why_size);
    }
    if (state == 4 || state == 5 || (state == 7 && !is_differencing))
        return fail(why, why_size, "state of a payload entry", number);
    *needs_bitmap = *needs_bitmap || state == 7;
    if (state >= 6 || ((state == 1 || state == 3) && file_offset != 0))
        return take(space, file_offset, block_size, PAYLOAD, number, why, why_size);
    return true;
}

/* What the table says of one chunk after another. */
struct table {
    struct space *space;
    uint64_t      at; /* file offset */
    uint64_t      block_size, chunk_ratio;
    bool          is_differencing;
    bool          needs_bitmap; /* a block in state 7 was seen and its bitmap's entry not yet */
};

static bool
walk_page(struct vhdx_storage *storage, struct table *table, uint64_t offset, char *why, size_t why_size)
{
    uint8_t page[4096];
    size_t i;

    if (vx_storage_read(storage, page, sizeof page, offset, NULL) != VHDX_OK)
        return fail(why, why_size, "read of the table", offset);
    for (i = 0; i < sizeof page; i += 8) {
        uint64_t entry = vx_le64(page + i), index = (offset - table->at + i) / 8;
        bool is_bitmap = index % (table->chunk_ratio + 1) == table->chunk_ratio;

        if (!walk_entry(table->space, entry, index, table->block_size, is_bitmap, table->is_differencing,
                        &table->needs_bitmap, why, why_size))
            return false;
        if (is_bitmap && table->needs_bitmap && (entry & 7) != 6)
            return fail(why, why_size, "a block in state 7 without a bitmap, entry", index);
        if (is_bitmap)
            table->needs_bitmap = false;
    }
    return true;
}

/* Pages that the file does not hold are entries in state 0. */
static bool
walk_table(struct vhdx_storage *storage, struct table *table, uint64_t length, char *why, size_t why_size)
{
    uint64_t offset = table->at, table_end = table->at + length, start, end;

    while (offset < table_end) {
        if (storage->methods->next_data(storage, offset, &start, &end, NULL) != VHDX_OK)
            return fail(why, why_size, "search for data in the table", offset);
        for (offset = start; offset < end && offset < table_end; offset += 4096)
            if (!walk_page(storage, table, offset, why, why_size))
                return false;
    }
    return table->needs_bitmap ? fail(why, why_size, "a block in state 7 without a bitmap", 0) : true;
}

static bool
walk_regions(struct vhdx_storage *storage, struct space *space, uint64_t block_size, uint64_t chunk_ratio,
             bool is_differencing, char *why, size_t why_size)
{
    static const uint8_t bat_guid[4] = { 0x66, 0x77, 0xc2, 0x2d };
    struct table walk = { .space = space, .block_size = block_size, .chunk_ratio = chunk_ratio,
                          .is_differencing = is_differencing };
    uint64_t bat_length = 0;
    static _Thread_local uint8_t table[65536];
    uint32_t i;

    if (vx_storage_read(storage, table, sizeof table, 0x30000, NULL) != VHDX_OK || memcmp(table, "regi", 4) != 0 ||
        vx_le32(table + 4) != vx_crc32c_hole(table, sizeof table, 4))
        return fail(why, why_size, "region table", 0);
    for (i = 0; i < vx_le32(table + 8) && i < 2047; i++) {
        const uint8_t *entry = table + 16 + 32 * i;

        if (!take(space, vx_le64(entry + 16), vx_le32(entry + 24), REGION, i, why, why_size))
            return false;
        if (memcmp(entry, bat_guid, sizeof bat_guid) == 0) {
            walk.at = vx_le64(entry + 16);
            bat_length = vx_le32(entry + 24);
        }
    }
    if (bat_length == 0)
        return fail(why, why_size, "no block allocation table", 0);
    return walk_table(storage, &walk, bat_length, why, why_size);
}

bool
walk_image(struct vhdx_storage *storage, uint64_t block_size, uint64_t chunk_ratio, bool is_differencing, char *why,
           size_t why_size)
{
    struct walk_header header;
    struct space space;
    uint64_t size;
    bool is_good;

    if (!walk_header(storage, &header, why, why_size))
        return false;
    if (header.has_log)
        return fail(why, why_size, "the log is not empty", 0);
    if (vx_storage_get_size(storage, &size, NULL) != VHDX_OK || size % MIB != 0)
        return fail(why, why_size, "length of the file", size);

    space = (struct space){ .owner = calloc((size_t)(size / MIB) + 1, 1), .mib_count = size / MIB };
    if (space.owner == NULL)
        return fail(why, why_size, "out of memory", 0);
    is_good = take(&space, 0, MIB, HEADERS, 0, why, why_size) &&
              take(&space, header.log_offset, header.log_length, LOG, 0, why, why_size) &&
              walk_regions(storage, &space, block_size, chunk_ratio, is_differencing, why, why_size);
    free(space.owner);
    return is_good;
}
