/*
 * exFAT's bitmap, held against all that uses clusters.
 *
 *   E4  Every chain is claimed when its directory entry is read: each cluster in range, marked used, claimed once.  So
 *       loops end, and the directories to be read are never more than there are clusters.
 *   E5  Types of entries are allow-listed.  A set of entries is believed when its checksum is right.
 */
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/exfat.h"

#define ENTRY_SIZE 32u
#define PIECE      (64 * VX_KIB)
#define END        UINT32_C(0xFFFFFFFF)

enum type {
    TYPE_END = 0x00, TYPE_BITMAP = 0x81, TYPE_UPCASE = 0x82, TYPE_LABEL = 0x83, TYPE_FILE = 0x85, TYPE_GUID = 0xA0,
    TYPE_STREAM = 0xC0, TYPE_NAME = 0xC1, TYPE_VENDOR = 0xE0, TYPE_VENDOR_ALLOCATION = 0xE1
};

/* A file's entries, until all were seen. */
struct set {
    unsigned              missing; /* secondary entries still to come */
    uint16_t              checksum, sum;
    bool                  is_directory;
    struct vx_exfat_chain stream;
    uint64_t              stream_length;
};

int
vx_exfat_walk_init(struct vx_exfat_walk *walk, const struct vhdx_volume *volume, const struct vx_exfat *exfat,
                   struct vhdx_error *err)
{
    int rc;

    *walk = (struct vx_exfat_walk){ .volume = volume, .exfat = exfat, .window_start = UINT64_MAX };
    rc = vx_bits_init(&walk->used, exfat->cluster_count, err);
    if (rc == VHDX_OK)
        rc = vx_bits_init(&walk->claimed, exfat->cluster_count, err);
    if (rc < 0)
        return rc;
    walk->window = vx_alloc(4 * VX_EXFAT_WINDOW);
    walk->buffer = vx_alloc(PIECE);
    return walk->window != NULL && walk->buffer != NULL ? VHDX_OK : vx_fail_memory(err, "a piece of a FAT");
}

void
vx_exfat_walk_free(struct vx_exfat_walk *walk)
{
    vx_bits_free(&walk->used);
    vx_bits_free(&walk->claimed);
    vx_free(walk->directories);
    vx_free(walk->window);
    vx_free(walk->buffer);
}

static bool
is_in_range(const struct vx_exfat *exfat, uint64_t cluster)
{
    return cluster >= 2 && cluster - 2 < exfat->cluster_count;
}

/* The FAT's entry of a cluster in range. */
static int
read_fat_entry(struct vx_exfat_walk *walk, uint32_t cluster, uint32_t *out, struct vhdx_error *err)
{
    uint64_t start = vx_round_down(cluster, VX_EXFAT_WINDOW), end = (uint64_t)walk->exfat->cluster_count + 2;
    int rc;

    if (walk->window_start != start) {
        walk->window_start = UINT64_MAX;
        rc = vhdx_volume_read(walk->volume, walk->window, 4 * (size_t)vx_min_u64(VX_EXFAT_WINDOW, end - start),
                              walk->exfat->fat_at + 4 * start, err);
        if (rc < 0)
            return rc;
        walk->window_start = start;
    }
    *out = vx_le32(walk->window + 4 * (cluster - start));
    return VHDX_OK;
}

/* The cluster after `cluster`, the index-th of its chain; END after the last. */
static int
next_cluster(struct vx_exfat_walk *walk, const struct vx_exfat_chain *chain, uint64_t index, uint32_t cluster,
             uint32_t *out, struct vhdx_error *err)
{
    if (chain->contiguous == 0)
        return read_fat_entry(walk, cluster, out, err);
    *out = index + 1 < chain->contiguous ? cluster + 1 : END;
    return VHDX_OK;
}

/* E4.  length is what the entry says; UINT64_MAX where it says nothing. */
static int
claim(struct vx_exfat_walk *walk, const struct vx_exfat_chain *chain, uint64_t length, struct vhdx_error *err)
{
    uint64_t count = 0, wanted = length == UINT64_MAX ? 1 : vx_ceil_div(length, walk->exfat->cluster_size);

    for (uint32_t cluster = chain->first; cluster != END; count++) {
        if (!is_in_range(walk->exfat, cluster))
            return vx_bad_volume(err, "a chain of its clusters leads to %lu, which is none", (unsigned long)cluster);
        if (vx_bit(&walk->claimed, cluster - 2))
            return vx_bad_volume(err, "two of its files share cluster %lu", (unsigned long)cluster);
        vx_bit_set(&walk->claimed, cluster - 2);
        int rc = next_cluster(walk, chain, count, cluster, &cluster, err);

        if (rc < 0)
            return rc;
    }
    if (count < wanted)
        return vx_bad_volume(err, "one of its files is longer than its clusters");
    return VHDX_OK;
}

static int
push_directory(struct vx_exfat_walk *walk, const struct vx_exfat_chain *chain, struct vhdx_error *err)
{
    if (walk->directory_count == walk->directory_capacity) {
        size_t capacity = walk->directory_capacity == 0 ? 64 : 2 * walk->directory_capacity;
        struct vx_exfat_chain *more = vx_realloc_array(walk->directories, capacity, sizeof *more);

        if (more == NULL)
            return vx_fail_memory(err, "the directories of exFAT");
        walk->directories = more;
        walk->directory_capacity = capacity;
    }
    walk->directories[walk->directory_count++] = *chain;
    return VHDX_OK;
}

static uint16_t
add_to_sum(uint16_t sum, const uint8_t b[ENTRY_SIZE], bool is_first)
{
    for (unsigned i = 0; i < ENTRY_SIZE; i++)
        if (!is_first || (i != 2 && i != 3))
            sum = (uint16_t)((sum << 15 | sum >> 1) + b[i]);
    return sum;
}

/* FirstCluster, DataLength and NoFatChain lie alike in all entries that have clusters. */
static int
load_chain(struct vx_exfat_chain *chain, uint64_t *length, const struct vx_exfat *exfat, const uint8_t b[ENTRY_SIZE],
           bool may_be_contiguous, struct vhdx_error *err)
{
    *chain = (struct vx_exfat_chain){ .first = vx_le32(b + 20) };
    *length = vx_le64(b + 24);
    if (*length > exfat->cluster_count * exfat->cluster_size || (chain->first == 0) != (*length == 0))
        return vx_bad_volume(err, "an entry of a directory has %llu bytes from cluster %lu on",
                             (unsigned long long)*length, (unsigned long)chain->first);
    if (may_be_contiguous && (b[1] & 2) != 0)
        chain->contiguous = vx_ceil_div(*length, exfat->cluster_size);
    return VHDX_OK;
}

static int
take_table(struct vx_exfat_walk *walk, const uint8_t b[ENTRY_SIZE], struct vhdx_error *err)
{
    struct vx_exfat_chain chain;
    uint64_t length;
    int rc = load_chain(&chain, &length, walk->exfat, b, false, err);

    if (rc < 0)
        return rc;
    if (b[0] == TYPE_BITMAP) {
        if (walk->bitmap.first != 0 || length != vx_ceil_div(walk->exfat->cluster_count, 8))
            return vx_bad_volume(err, "its allocation bitmap is of a wrong length, or there are two");
        walk->bitmap = chain;
        walk->bitmap_length = length;
    }
    return length == 0 ? VHDX_OK : claim(walk, &chain, length, err);
}

static int
finish_set(struct vx_exfat_walk *walk, const struct set *set, struct vhdx_error *err)
{
    int rc;

    if (set->sum != set->checksum)
        return vx_bad_volume(err, "an entry of a directory has a wrong checksum"); /* E5 */
    if (set->stream.first == 0)
        return VHDX_OK;
    rc = claim(walk, &set->stream, set->stream_length, err);
    if (rc == VHDX_OK && set->is_directory)
        rc = push_directory(walk, &set->stream, err);
    return rc;
}

static int
take_secondary(struct vx_exfat_walk *walk, struct set *set, const uint8_t b[ENTRY_SIZE], struct vhdx_error *err)
{
    struct vx_exfat_chain chain;
    uint64_t length;
    int rc = VHDX_OK;

    set->sum = add_to_sum(set->sum, b, false);
    set->missing--;
    if (b[0] == TYPE_STREAM) {
        rc = load_chain(&set->stream, &set->stream_length, walk->exfat, b, true, err);
    } else if (b[0] == TYPE_VENDOR_ALLOCATION) {
        rc = load_chain(&chain, &length, walk->exfat, b, true, err);
        if (rc == VHDX_OK && length > 0)
            rc = claim(walk, &chain, length, err);
    } else if (b[0] != TYPE_NAME && b[0] != TYPE_VENDOR) {
        return vx_bad_volume(err, "a directory has an entry of type 0x%02X inside a file's", b[0]);
    }
    if (rc == VHDX_OK && set->missing == 0)
        rc = finish_set(walk, set, err);
    return rc;
}

/* One entry.  *is_end: none follows. */
static int
take_entry(struct vx_exfat_walk *walk, struct set *set, const uint8_t b[ENTRY_SIZE], bool *is_end,
           struct vhdx_error *err)
{
    if (set->missing > 0)
        return take_secondary(walk, set, b, err);
    switch (b[0]) {
    case TYPE_END:
        *is_end = true;
        return VHDX_OK;
    case TYPE_BITMAP:
    case TYPE_UPCASE:
        return take_table(walk, b, err);
    case TYPE_LABEL:
    case TYPE_GUID:
        return VHDX_OK;
    case TYPE_FILE:
        *set = (struct set){ .missing = b[1], .checksum = vx_le16(b + 2), .sum = add_to_sum(0, b, true),
                             .is_directory = (b[4] & 0x10) != 0 };
        return b[1] >= 2 ? VHDX_OK : vx_bad_volume(err, "a file of a directory has no name");
    default:
        if (b[0] < 0x80) /* not in use */
            return VHDX_OK;
        return vx_bad_volume(err, "a directory has an entry of unknown type 0x%02X", b[0]);
    }
}

static int
read_cluster(struct vx_exfat_walk *walk, struct set *set, uint32_t cluster, bool *is_end, struct vhdx_error *err)
{
    uint64_t size = walk->exfat->cluster_size, start = walk->exfat->clusters_at + (cluster - 2) * size;

    for (uint64_t at = 0; at < size && !*is_end; at += PIECE) {
        size_t length = (size_t)vx_min_u64(PIECE, size - at);
        int rc = vhdx_volume_read(walk->volume, walk->buffer, length, start + at, err);

        for (size_t i = 0; rc == VHDX_OK && i < length && !*is_end; i += ENTRY_SIZE)
            rc = take_entry(walk, set, walk->buffer + i, is_end, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

/* The chain was claimed: it is in range and ends. */
static int
read_directory(struct vx_exfat_walk *walk, const struct vx_exfat_chain *chain, struct vhdx_error *err)
{
    struct set set = { .missing = 0 };
    bool is_end = false;
    uint64_t index = 0;

    for (uint32_t cluster = chain->first; cluster != END && !is_end; index++) {
        int rc = read_cluster(walk, &set, cluster, &is_end, err);

        if (rc == VHDX_OK)
            rc = next_cluster(walk, chain, index, cluster, &cluster, err);
        if (rc < 0)
            return rc;
    }
    return set.missing == 0 ? VHDX_OK : vx_bad_volume(err, "a directory ends in the middle of a file's entries");
}

static int
read_bitmap(struct vx_exfat_walk *walk, struct vhdx_error *err)
{
    uint64_t size = walk->exfat->cluster_size, at = 0;

    for (uint32_t cluster = walk->bitmap.first; at < walk->bitmap_length; at += size) {
        int rc = vhdx_volume_read(walk->volume, walk->used.bytes + at,
                                  (size_t)vx_min_u64(size, walk->bitmap_length - at),
                                  walk->exfat->clusters_at + (cluster - 2) * size, err);

        if (rc == VHDX_OK)
            rc = read_fat_entry(walk, cluster, &cluster, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

static int
compare(const struct vx_exfat_walk *walk, struct vhdx_error *err)
{
    for (uint64_t i = 0; i <= walk->used.count / 8; i++) {
        unsigned lost = walk->claimed.bytes[i] & ~(unsigned)walk->used.bytes[i];

        if (lost != 0)
            return vx_bad_volume(err, "its bitmap calls a cluster free, near %llu, that a file uses",
                                 (unsigned long long)(8 * i + 2));
    }
    return VHDX_OK;
}

int
vx_exfat_walk_run(struct vx_exfat_walk *walk, struct vhdx_error *err)
{
    const struct vx_exfat_chain root = { .first = walk->exfat->root_cluster };
    int rc = claim(walk, &root, UINT64_MAX, err);

    if (rc == VHDX_OK)
        rc = push_directory(walk, &root, err);
    while (rc == VHDX_OK && walk->directory_count > 0) {
        struct vx_exfat_chain chain = walk->directories[--walk->directory_count];

        rc = read_directory(walk, &chain, err);
    }
    if (rc == VHDX_OK && walk->bitmap.first == 0)
        rc = vx_bad_volume(err, "it has no allocation bitmap");
    if (rc == VHDX_OK)
        rc = read_bitmap(walk, err);
    return rc == VHDX_OK ? compare(walk, err) : rc;
}
