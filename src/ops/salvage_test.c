/*
 * Salvage: images of every shape, damaged in every way, and what comes back.  Nothing may ever come back wrong without being
 * called a guess.
 *
 * With SALVAGE_TABLE set in the environment the shares are printed, as docs/testing.md has them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include <vhdx/salvage.h>

#include "base/bytes.h"
#include "fs/fs.h"
#include "ops/chain_fixture.h"

#define M(n)      ((uint64_t)(n) << 20)
#define DISK_SIZE M(12) /* small: every case copies it several times */

/* --- images --- */

struct image {
    const char          *name;
    struct vhdx_storage *storage; /* the image */
    struct vhdx_storage *parent;  /* or NULL */
    uint8_t             *contents; /* of the disk */
    uint64_t             size;
    uint64_t             bat_offset, metadata_offset;
};

static struct vhdx_storage *
new_storage(void)
{
    struct vhdx_storage *storage;

    assert_int_equal(vhdx_storage_new_memory(&storage, 0, NULL), VHDX_OK);
    return storage;
}

static struct vhdx_storage *
clone(struct vhdx_storage *from)
{
    struct vhdx_storage *to = new_storage();
    uint8_t             *buffer = vx_alloc(VX_MIB);
    uint64_t             size, start = 0, end;

    assert_non_null(buffer);
    assert_int_equal(vx_storage_get_size(from, &size, NULL), VHDX_OK);
    assert_int_equal(vx_storage_set_size(to, size, NULL), VHDX_OK);
    for (uint64_t at = 0; at < size; at = end) {
        assert_int_equal(vx_storage_next_data(from, at, &start, &end, NULL), VHDX_OK);
        if (start == end)
            break;
        end = vx_min_u64(end, start + VX_MIB);
        assert_int_equal(vx_storage_read(from, buffer, (size_t)(end - start), start, NULL), VHDX_OK);
        assert_int_equal(vx_storage_write(to, buffer, (size_t)(end - start), start, NULL), VHDX_OK);
    }
    vx_free(buffer);
    return to;
}

static void
put(struct vx_image *image, const void *bytes, size_t length, uint64_t guest_offset)
{
    struct vhdx_error err;

    chain_must(vx_image_write(image, bytes, length, guest_offset, &err), "write", &err);
}

/* Bytes that tell where they belong. */
static void
put_pattern(struct vx_image *image, uint64_t guest_offset, size_t length)
{
    uint8_t *bytes = vx_alloc(length);

    assert_non_null(bytes);
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(1 + ((guest_offset + i) / 4096 * 7 + i % 251) % 255);
    put(image, bytes, length, guest_offset);
    vx_free(bytes);
}

static void
put_gpt_header(struct vx_image *image, uint64_t sector, uint64_t other, uint32_t sector_size)
{
    uint8_t b[4096] = { 0 };

    memcpy(b, "EFI PART", 8);
    vx_put_le32(b + 8, 0x10000);
    vx_put_le32(b + 12, 92);
    vx_put_le64(b + 24, sector);
    vx_put_le64(b + 32, other);
    vx_put_le32(b + 16, vx_crc32(0, b, 92));
    put(image, b, sector_size, sector * sector_size);
}

/* The boot sector of an NTFS volume of sectors [start, start + count], and its copy in the last one. */
static void
put_ntfs(struct vx_image *image, uint64_t start, uint64_t count, uint32_t sector_size)
{
    uint8_t b[4096] = { 0xeb, 0x52, 0x90 };

    memcpy(b + 3, "NTFS    ", 8);
    vx_put_le16(b + 11, (uint16_t)sector_size);
    vx_put_le32(b + 28, (uint32_t)start);
    vx_put_le64(b + 40, count);
    b[510] = 0x55;
    b[511] = 0xaa;
    put(image, b, sector_size, start * sector_size);
    put(image, b, sector_size, (start + count) * sector_size);
}

static void
put_tables(struct vx_image *image, uint64_t disk_size, uint32_t sector_size)
{
    uint64_t last = disk_size / sector_size - 1, mib = VX_MIB / sector_size;

    put_gpt_header(image, 1, last, sector_size);
    put_gpt_header(image, last, 1, sector_size);
    put_ntfs(image, 2 * mib, 8 * mib - 1, sector_size);
}

/* What an image is made with. */
struct recipe {
    const char          *name;
    enum vhdx_image_type type;
    uint32_t             sector_size, block_size;
    bool                 has_tables;   /* partition tables and a volume */
    bool                 is_scattered; /* blocks were written in no order */
    bool                 is_dirty;
    bool                 has_parent;
};

static const struct recipe recipes[] = {
    { "dynamic", VHDX_TYPE_DYNAMIC, 512, 1 << 20, false, false, false, false },
    { "dynamic, partitions", VHDX_TYPE_DYNAMIC, 512, 2 << 20, true, false, false, false },
    { "dynamic, scattered", VHDX_TYPE_DYNAMIC, 512, 1 << 20, true, true, false, false },
    { "dynamic, 4096", VHDX_TYPE_DYNAMIC, 4096, 1 << 20, true, false, false, false },
    { "dirty log", VHDX_TYPE_DYNAMIC, 512, 1 << 20, true, true, true, false },
    { "fixed", VHDX_TYPE_FIXED, 512, 1 << 20, true, false, false, false },
    { "differencing", VHDX_TYPE_DIFFERENCING, 512, 1 << 20, false, true, false, true },
};
#define RECIPES (sizeof recipes / sizeof recipes[0])

static void
fill(struct vx_image *image, const struct recipe *recipe)
{
    static const uint8_t blocks[] = { 0, 1, 2, 4, 5, 6, 7, 9, 10, 11 };
    static const uint8_t scattered[] = { 8, 3, 0, 7, 1, 5, 10, 9, 11, 2 };
    const uint8_t       *list = recipe->is_scattered ? scattered : blocks;
    size_t               count = recipe->is_scattered ? sizeof scattered : sizeof blocks;

    for (size_t i = 0; i < count; i++) {
        if (recipe->has_parent && i % 3 == 0)
            put_pattern(image, M(list[i]) + 4096 * 5, 4096 * 9); /* part of a block */
        else
            put_pattern(image, M(list[i]), VX_MIB);
        if (i % 4 == 0)
            assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
    }
    if (recipe->has_tables)
        put_tables(image, DISK_SIZE, recipe->sector_size);
    assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
}

static void
make_image(struct image *out, const struct recipe *recipe)
{
    const struct chain_shape shape = { DISK_SIZE, recipe->block_size, recipe->sector_size, recipe->type };
    struct chain_shape       of_parent = shape;
    struct vhdx_storage     *storage = new_storage(), *dirty = NULL, *chain[2];
    struct vx_image         *image;
    uint8_t                  table[VX_REGION_TABLE_SIZE], page[VX_PAGE];

    *out = (struct image){ .name = recipe->name };
    of_parent.type = VHDX_TYPE_DYNAMIC;
    if (recipe->has_parent) {
        out->parent = new_storage();
        chain_make_base(out->parent, &of_parent);
        chain_write(out->parent, M(0), M(6), 9);
        chain_write(out->parent, M(6), M(3), 9);
        chain_make_child(storage, out->parent, &shape);
    } else {
        chain_make_base(storage, &shape);
    }
    image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    fill(image, recipe);
    assert_int_equal(vx_storage_read(storage, table, sizeof table, VX_REGION_TABLE_OFFSET(0), NULL), VHDX_OK);
    out->bat_offset = vx_le64(table + 16 + 16);
    out->metadata_offset = vx_le64(table + 16 + 32 + 16);
    if (recipe->is_dirty) { /* cut off before the pages of the last entry were written in place */
        assert_int_equal(vx_storage_read(storage, page, sizeof page, out->bat_offset, NULL), VHDX_OK);
        put_pattern(image, M(6), VX_MIB);
        assert_int_equal(vx_image_flush(image, NULL), VHDX_OK);
        dirty = clone(storage);
        assert_int_equal(vx_storage_write(dirty, page, sizeof page, out->bat_offset, NULL), VHDX_OK);
    }
    assert_int_equal(vx_image_close(image, NULL), VHDX_OK);
    chain[0] = storage;
    chain[1] = out->parent;
    out->contents = chain_read(chain, recipe->has_parent ? 2 : 1, &out->size);
    if (dirty != NULL) {
        vhdx_storage_close(storage);
        storage = dirty;
    }
    out->storage = storage;
}

static void
free_image(struct image *image)
{
    vhdx_storage_close(image->storage);
    vhdx_storage_close(image->parent);
    vx_free(image->contents);
}

/* --- damages --- */

static uint32_t draw_state;

static uint32_t
draw(uint32_t below)
{
    draw_state = draw_state * 1664525u + 1013904223u;
    return (uint32_t)((uint64_t)(draw_state >> 4) * below >> 28);
}

/* Zeros over a range, or junk; what lies past the end stays there. */
static void
wipe(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, bool with_junk)
{
    uint8_t *bytes = vx_alloc_zeroed(1, (size_t)length);
    uint64_t size;

    assert_non_null(bytes);
    for (size_t i = 0; i < length && with_junk; i++)
        bytes[i] = (uint8_t)draw(256);
    assert_int_equal(vx_storage_get_size(storage, &size, NULL), VHDX_OK);
    if (file_offset < size)
        assert_int_equal(vx_storage_write(storage, bytes, (size_t)vx_min_u64(length, size - file_offset), file_offset, NULL),
                         VHDX_OK);
    vx_free(bytes);
}

enum target { IDENTIFIER = 1, HEADER_1 = 2, HEADER_2 = 4, REGIONS = 8, LOG = 16, METADATA = 32, BAT = 64, HALF_BAT = 128,
              FEW_ENTRIES = 256, ONE_REGION = 512 };

struct damage {
    const char *name;
    unsigned    targets;
};

static const struct damage damages[] = {
    { "none", 0 },
    { "one header", HEADER_2 },
    { "both headers", HEADER_1 | HEADER_2 },
    { "one region table", ONE_REGION },
    { "both region tables", REGIONS },
    { "metadata", METADATA },
    { "block table, three entries", FEW_ENTRIES },
    { "block table, half", HALF_BAT },
    { "block table", BAT },
    { "first MiB", IDENTIFIER | HEADER_1 | HEADER_2 | REGIONS },
    { "first 2 MiB (with the log)", IDENTIFIER | HEADER_1 | HEADER_2 | REGIONS | LOG },
    { "both headers and the log", HEADER_1 | HEADER_2 | LOG },
    { "headers and block table", HEADER_1 | HEADER_2 | BAT },
    { "region tables and metadata", REGIONS | METADATA },
    { "log and block table", LOG | BAT },
    { "metadata and block table", METADATA | BAT },
    { "all but payload", IDENTIFIER | HEADER_1 | HEADER_2 | REGIONS | LOG | METADATA | BAT },
};
#define DAMAGES (sizeof damages / sizeof damages[0])

static void
do_damage(struct vhdx_storage *storage, const struct image *image, unsigned targets, bool with_junk)
{
    const struct {
        unsigned target;
        uint64_t file_offset, length;
    } places[] = {
        { IDENTIFIER, 0, VX_IDENTIFIER_SIZE },
        { HEADER_1, VX_HEADER_OFFSET(0), VX_HEADER_SLOT_SIZE },
        { HEADER_2, VX_HEADER_OFFSET(1), VX_HEADER_SLOT_SIZE },
        { ONE_REGION, VX_REGION_TABLE_OFFSET(0), VX_REGION_TABLE_SIZE },
        { REGIONS, VX_REGION_TABLE_OFFSET(0), 2 * VX_REGION_TABLE_SIZE },
        { LOG, VX_MIB, VX_MIB },
        { METADATA, image->metadata_offset, VX_MIB },
        { BAT, image->bat_offset, VX_MIB },
        { HALF_BAT, image->bat_offset, 8 * 6 },
        { FEW_ENTRIES, image->bat_offset + 8 * 5, 8 * 3 },
    };

    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++)
        if ((targets & places[i].target) != 0)
            wipe(storage, places[i].file_offset, places[i].length, with_junk);
}

/* --- measuring --- */

struct share {
    uint64_t recovered, guessed, guessed_wrong, lost, unsaid; /* bytes */
};

struct comparison {
    const struct image *image;
    struct vhdx_disk   *disk;
    struct share        share;
    uint64_t            position;
};

static int
compare_range(void *context, const struct vhdx_salvage_range *range)
{
    struct comparison *c = context;
    uint64_t           there = range->guest_offset < c->image->size
                                   ? vx_min_u64(range->length, c->image->size - range->guest_offset) : 0;
    uint8_t           *bytes = vx_alloc((size_t)there + 1);
    uint64_t           wrong = 0;

    assert_non_null(bytes);
    assert_int_equal(range->guest_offset, c->position); /* no gaps */
    assert_true(range->length > 0);
    c->position += range->length;
    assert_int_equal(vhdx_disk_read(c->disk, bytes, (size_t)there, range->guest_offset, NULL), VHDX_OK);
    for (uint64_t i = 0; i < there; i += 512)
        wrong += memcmp(bytes + i, c->image->contents + range->guest_offset + i, 512) != 0 ? 512 : 0;
    if (range->kind == VHDX_SALVAGE_LOST) {
        assert_true(vx_is_zero(bytes, (size_t)there)); /* holes where nothing was found */
        c->share.lost += there;
    } else if (range->kind == VHDX_SALVAGE_GUESSED) {
        c->share.guessed += there - wrong;
        c->share.guessed_wrong += wrong;
    } else {
        c->share.recovered += there - wrong;
        c->share.unsaid += wrong;
    }
    vx_free(bytes);
    return 0;
}

static int
resolve_to_clone(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out, struct vhdx_error *err)
{
    (void)query;
    (void)err;
    *out = clone(context);
    return VHDX_OK;
}

/* What cannot be read is known after it was read. */
static void
read_all(struct vhdx_disk *disk)
{
    uint8_t *bytes = vx_alloc(VX_MIB);

    assert_non_null(bytes);
    for (uint64_t at = 0; at < vhdx_disk_size(disk); at += VX_MIB)
        assert_int_equal(vhdx_disk_read(disk, bytes, (size_t)vx_min_u64(VX_MIB, vhdx_disk_size(disk) - at), at, NULL),
                         VHDX_OK);
    vx_free(bytes);
}

/* Salvage a damaged storage, which goes away.  False: nothing could be done, all is lost. */
static bool
measure(struct share *share, const struct image *image, struct vhdx_storage *damaged,
        const struct vhdx_salvage_options *options)
{
    struct vhdx_salvage *salvage;
    struct vhdx_error    err;
    struct comparison    c = { .image = image };
    int                  rc = vhdx_salvage_open(&salvage, damaged, options, NULL, &err);

    *share = (struct share){ .lost = image->size };
    if (rc < 0) {
        assert_int_equal(rc, VHDX_E_NOT_VHDX);
        vhdx_storage_close(damaged);
        return false;
    }
    c.disk = vhdx_salvage_disk(salvage);
    if (damaged->traits.is_read_only) /* a dying one */
        read_all(c.disk);
    assert_int_equal(vhdx_salvage_ranges(salvage, compare_range, &c, &err), VHDX_OK);
    assert_int_equal(c.position, vhdx_disk_size(c.disk));
    if (c.position < image->size) /* a smaller disk: the rest is not there */
        c.share.lost += image->size - c.position;
    vhdx_salvage_close(salvage);
    *share = c.share;
    return true;
}

static void
print_share(const char *name, const char *damage, const struct share *share, uint64_t size)
{
    double all = (double)size / 100;

    if (getenv("SALVAGE_TABLE") != NULL)
        fprintf(stderr, "| %s | %s | %.1f | %.1f | %.1f | %.1f | %.1f |\n", name, damage, (double)share->recovered / all,
                (double)share->guessed / all, (double)share->guessed_wrong / all, (double)share->lost / all,
                (double)share->unsaid / all);
}

static struct share
expect_honest(const struct image *image, const char *about, struct vhdx_storage *damaged,
              const struct vhdx_salvage_options *options)
{
    struct share share;

    measure(&share, image, damaged, options);
    if (share.unsaid != 0)
        fail_msg("%s, %s: %llu bytes are wrong and called recovered", image->name, about, (unsigned long long)share.unsaid);
    return share;
}

/* --- the tests --- */

static struct vhdx_salvage_options
options_for(const struct image *image)
{
    return (struct vhdx_salvage_options){
        .resolve_parent = image->parent != NULL ? resolve_to_clone : NULL, .resolve_context = image->parent,
    };
}

/* On hosts that are slow, VHDX_FEW says so, every fifth case has to do. */
static bool
is_left_out(uint64_t number)
{
    return getenv("VHDX_FEW") != NULL && number % 5 != 0;
}

/* Structures overwritten with zeros and with junk, every image. */
static void
structures_gone(void **state)
{
    (void)state;
    for (size_t i = 0; i < RECIPES; i++) {
        struct image                image;
        struct vhdx_salvage_options options;

        make_image(&image, &recipes[i]);
        options = options_for(&image);
        for (size_t k = 0; k < DAMAGES; k++) {
            for (int with_junk = 0; with_junk < 2; with_junk++) {
                struct vhdx_storage *damaged;
                struct share         share;

                if (is_left_out(i + 2 * k + (uint64_t)with_junk))
                    continue;
                damaged = clone(image.storage);
                do_damage(damaged, &image, damages[k].targets, with_junk != 0);
                share = expect_honest(&image, damages[k].name, damaged, &options);
                if (!with_junk)
                    print_share(image.name, damages[k].name, &share, image.size);
            }
        }
        free_image(&image);
    }
}

/* Cut off at every MiB: what lies in front of the cut comes back as it was. */
static void
cut_off(void **state)
{
    (void)state;
    for (size_t i = 0; i < RECIPES; i++) {
        struct image                image;
        struct vhdx_salvage_options options;
        struct share                sum = { 0 };
        uint64_t                    length, cuts = 0, last_recovered = 0;

        make_image(&image, &recipes[i]);
        options = options_for(&image);
        assert_int_equal(vx_storage_get_size(image.storage, &length, NULL), VHDX_OK);
        for (uint64_t at = 0; at <= length; at += VX_MIB, cuts++) {
            struct vhdx_storage *damaged;
            struct share         share;

            if (at < length && is_left_out(at / VX_MIB))
                continue;
            damaged = clone(image.storage);
            assert_int_equal(vx_storage_set_size(damaged, at, NULL), VHDX_OK);
            share = expect_honest(&image, "cut off", damaged, &options);
            assert_true(share.recovered >= last_recovered || share.guessed > 0);
            last_recovered = share.recovered;
            sum.recovered += share.recovered;
            sum.guessed += share.guessed;
            sum.guessed_wrong += share.guessed_wrong;
            sum.lost += share.lost;
        }
        print_share(image.name, "cut off at every MiB, on average", &sum, image.size * cuts);
        if (recipes[i].type != VHDX_TYPE_FIXED)
            assert_true(last_recovered == image.size);
        free_image(&image);
    }
}

/* Any bytes of the structures overwritten, several at a time.  SALVAGE_ROUNDS and SALVAGE_SEED make it longer, and another. */
static void
random_damage(void **state)
{
    unsigned rounds = getenv("SALVAGE_ROUNDS") != NULL ? (unsigned)strtoul(getenv("SALVAGE_ROUNDS"), NULL, 0)
                                                         : getenv("VHDX_FEW") != NULL ? 2 : 6;

    (void)state;
    draw_state = getenv("SALVAGE_SEED") != NULL ? (uint32_t)strtoul(getenv("SALVAGE_SEED"), NULL, 0) : 20240607;
    for (size_t i = 0; i < RECIPES; i++) {
        struct image                image;
        struct vhdx_salvage_options options;

        make_image(&image, &recipes[i]);
        options = options_for(&image);
        for (unsigned round = 0; round < rounds; round++) {
            const uint64_t starts[] = { 0, VX_MIB, image.metadata_offset, image.bat_offset, image.bat_offset };
            const uint32_t spans[] = { 320 * 1024, 64 * 1024, 70 * 1024, 256, 4096 };
            struct vhdx_storage *damaged = clone(image.storage);
            char                 about[32];

            options.guess = (enum vhdx_salvage_guess)(round % 3);
            for (unsigned n = 1 + draw(4); n > 0; n--) {
                unsigned place = draw(5);

                wipe(damaged, starts[place] + draw(spans[place]), 1 + draw(spans[place] / 2), draw(2) != 0);
            }
            snprintf(about, sizeof about, "random damage %u", round);
            expect_honest(&image, about, damaged, &options);
        }
        free_image(&image);
    }
}

/* What has to come back, not only be honest about. */
static void
what_must_come_back(void **state)
{
    static const struct {
        size_t   recipe;
        unsigned targets;
        bool     all_recovered; /* else recovered or guessed right */
    } cases[] = {
        { 0, 0, true },
        { 0, HEADER_1 | HEADER_2, true },
        { 0, IDENTIFIER | HEADER_1, true },
        { 0, ONE_REGION, true },
        { 0, REGIONS, false },
        { 0, METADATA, false },
        { 0, BAT, false },
        { 0, IDENTIFIER | HEADER_1 | HEADER_2 | REGIONS, false },
        { 0, REGIONS | METADATA, false },
        { 2, BAT, false },
        { 2, METADATA, false },
        { 3, METADATA, false },
        { 4, 0, true },
        { 4, HEADER_1, true },
        { 4, HEADER_1 | HEADER_2, false },
        { 4, REGIONS, false },
        { 5, REGIONS, false },
        { 5, METADATA, false },
        { 5, BAT, false },
        { 5, LOG | BAT, false },
        { 5, IDENTIFIER | HEADER_1 | HEADER_2 | REGIONS | LOG | METADATA | BAT, false },
        { 6, 0, true },
        { 6, HEADER_1 | HEADER_2, true },
        { 6, REGIONS, false },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        static struct image         image; /* of the cases that follow each other with one recipe */
        struct vhdx_salvage_options options;
        struct vhdx_storage        *damaged;
        struct share                share;

        if (i == 0 || cases[i].recipe != cases[i - 1].recipe)
            make_image(&image, &recipes[cases[i].recipe]);
        options = options_for(&image);
        damaged = clone(image.storage);
        do_damage(damaged, &image, cases[i].targets, false);
        share = expect_honest(&image, "what must come back", damaged, &options);
        if (cases[i].all_recovered ? share.recovered != image.size : share.recovered + share.guessed != image.size)
            fail_msg("%s, damage 0x%x: %llu recovered, %llu guessed, %llu wrong, %llu lost", image.name, cases[i].targets,
                     (unsigned long long)share.recovered, (unsigned long long)share.guessed,
                     (unsigned long long)share.guessed_wrong, (unsigned long long)share.lost);
        if (i + 1 == sizeof cases / sizeof cases[0] || cases[i + 1].recipe != cases[i].recipe)
            free_image(&image);
    }
}

/* --- large and nearly empty --- */

static int
add_up(void *context, const struct vhdx_salvage_range *range)
{
    struct share *share = context;

    assert_int_equal(range->guest_offset, share->recovered + share->guessed + share->lost);
    *(range->kind == VHDX_SALVAGE_RECOVERED ? &share->recovered
      : range->kind == VHDX_SALVAGE_GUESSED ? &share->guessed : &share->lost) += range->length;
    return 0;
}

/* Two chunks: where the bitmap entries lie in the table has to be right, also when the metadata do not tell. */
static void
two_chunks(void **state)
{
    static const unsigned       blocks[] = { 0, 1, 4094, 4095, 4096, 4097, 4999 };
    static const unsigned       targets[] = { 0, HEADER_1 | HEADER_2, REGIONS, METADATA, REGIONS | METADATA, HALF_BAT };
    const struct chain_shape    shape = { M(5000), 1 << 20, 512, VHDX_TYPE_DYNAMIC };
    struct image                image = { .name = "two chunks", .storage = new_storage() };
    struct vx_image            *writer;
    uint8_t                     table[VX_REGION_TABLE_SIZE], bytes[4096];

    (void)state;
    chain_make_base(image.storage, &shape);
    writer = chain_open(image.storage, &(struct vx_image_options){ .is_writable = true });
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        put_pattern(writer, M(blocks[i]), VX_MIB);
    assert_int_equal(vx_image_close(writer, NULL), VHDX_OK);
    assert_int_equal(vx_storage_read(image.storage, table, sizeof table, VX_REGION_TABLE_OFFSET(0), NULL), VHDX_OK);
    image.bat_offset = vx_le64(table + 16 + 16);
    image.metadata_offset = vx_le64(table + 16 + 32 + 16);

    for (size_t i = 0; i < sizeof targets / sizeof targets[0]; i++) {
        struct vhdx_storage *damaged = clone(image.storage);
        struct vhdx_salvage *salvage;
        struct vhdx_error    err;
        struct share         share = { 0 };

        do_damage(damaged, &image, targets[i], false);
        chain_must(vhdx_salvage_open(&salvage, damaged, NULL, NULL, &err), "salvage", &err);
        assert_int_equal(vhdx_disk_size(vhdx_salvage_disk(salvage)), M(5000));
        assert_int_equal(vhdx_salvage_ranges(salvage, add_up, &share, &err), VHDX_OK);
        assert_int_equal(share.recovered + share.guessed, M(5000));
        assert_true(i > 1 || share.guessed == 0);
        for (size_t k = 0; k < sizeof blocks / sizeof blocks[0]; k++) {
            assert_int_equal(vhdx_disk_read(vhdx_salvage_disk(salvage), bytes, sizeof bytes, M(blocks[k]), NULL), VHDX_OK);
            assert_int_equal(bytes[0], (uint8_t)(1 + M(blocks[k]) / 4096 * 7 % 255));
        }
        vhdx_salvage_close(salvage);
    }
    vhdx_storage_close(image.storage);
}

/* --- hosts that fail --- */

/* A storage of which some bytes cannot be read. */
struct dying {
    struct vhdx_storage  storage;
    struct vhdx_storage *base; /* owned */
    uint64_t             bad, bad_length;
};

static int
read_dying(struct vhdx_storage *storage, const struct iovec *vector, int count, uint64_t file_offset, struct vhdx_error *err)
{
    struct dying *dying = (struct dying *)storage;
    uint64_t      length = 0;

    for (int i = 0; i < count; i++)
        length += vector[i].iov_len;
    if (vx_ranges_overlap(file_offset, length, dying->bad, dying->bad_length))
        return VHDX_E_IO;
    return dying->base->methods->readv(dying->base, vector, count, file_offset, err);
}

static int
size_dying(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    return vx_storage_get_size(((struct dying *)storage)->base, out, err);
}

static void
close_dying(struct vhdx_storage *storage)
{
    vhdx_storage_close(((struct dying *)storage)->base);
    vx_free(storage);
}

static struct vhdx_storage *
new_dying(struct vhdx_storage *base, uint64_t bad, uint64_t bad_length)
{
    static const struct vhdx_storage_methods methods = { .readv = read_dying, .get_size = size_dying, .close = close_dying };
    struct dying *dying = vx_alloc_zeroed(1, sizeof *dying);

    assert_non_null(dying);
    dying->storage = (struct vhdx_storage){ .methods = &methods, .traits = { .is_read_only = true, .atomic_unit = 512 } };
    dying->base = base;
    dying->bad = bad;
    dying->bad_length = bad_length;
    return &dying->storage;
}

/* A bad sector takes no more with it than it has to, wherever it lies. */
static void
bad_sectors(void **state)
{
    static const size_t tried[] = { 0, 6 };

    (void)state;
    for (size_t i = 0; i < sizeof tried / sizeof tried[0]; i++) {
        struct image                image;
        struct vhdx_salvage_options options;
        uint64_t                    length;

        make_image(&image, &recipes[tried[i]]);
        options = options_for(&image);
        assert_int_equal(vx_storage_get_size(image.storage, &length, NULL), VHDX_OK);
        for (uint64_t bad = 0; bad < length; bad += bad < VX_MIB ? 64 * VX_KIB : VX_MIB) {
            uint64_t     place = bad + (bad / VX_MIB % 2) * 8 * VX_KIB;
            struct share share;

            if (is_left_out(bad / VX_MIB + bad / (64 * VX_KIB)))
                continue;
            share = expect_honest(&image, "a bad sector", new_dying(clone(image.storage), place, 512), &options);
            if (bad >= M(6)) /* payload, or a sector bitmap: that is in a child, and costs its blocks */
                assert_true(share.lost <= (recipes[tried[i]].has_parent ? M(4) : 4 * VX_KIB));
        }
        free_image(&image);
    }
}

/* --- what a caller may do --- */

static int
refuse_progress(void *context, uint64_t done, uint64_t total)
{
    (void)context;
    (void)done;
    (void)total;
    return 1;
}

static void
callers(void **state)
{
    static const struct vhdx_progress cancelling = { refuse_progress, NULL };
    struct vhdx_salvage_options       options = { .generation = 7 };
    struct vhdx_salvage              *salvage;
    struct vhdx_salvage_note          note;
    struct vhdx_error                 err;
    struct image                      image;

    (void)state;
    make_image(&image, &recipes[0]);
    wipe(image.storage, 0, VX_MIB, false);
    assert_int_equal(vhdx_salvage_open(&salvage, image.storage, NULL, &cancelling, &err), VHDX_E_CANCELLED);
    assert_int_equal(vhdx_salvage_open(&salvage, image.storage, &options, NULL, &err), VHDX_E_INVALID);
    options = (struct vhdx_salvage_options){ .block_size = 3 << 20, .virtual_size = M(12) };
    assert_int_equal(vhdx_salvage_open(&salvage, image.storage, &options, NULL, &err), VHDX_E_INVALID);
    assert_int_equal(vhdx_salvage_open(&salvage, image.storage, NULL, NULL, &err), VHDX_OK);
    assert_true(vhdx_salvage_get_note(salvage, 0, &note));
    assert_false(vhdx_salvage_get_note(salvage, 1000, &note));
    assert_string_equal(vhdx_salvage_reason_key(VHDX_SALVAGE_PAST_END), "past-end");
    image.storage = NULL;
    vhdx_salvage_close(salvage);
    vhdx_salvage_close(NULL);
    free_image(&image);
}

/* Every allocation fails once: the call says so, and nothing leaks. */
static void
no_memory(void **state)
{
    struct image image;
    size_t       n = 1;

    (void)state;
    make_image(&image, &recipes[6]);
    do_damage(image.storage, &image, REGIONS | FEW_ENTRIES, false);
    for (;; n++) {
        struct vhdx_storage        *damaged = clone(image.storage);
        struct vhdx_salvage_options options = options_for(&image);
        struct vhdx_salvage        *salvage;
        struct vhdx_error           err;
        int                         rc;

        options.resolve_parent = NULL;
        options.lists_generations = true;
        vx_alloc_fail_nth_for_tests(n);
        rc = vhdx_salvage_open(&salvage, damaged, &options, NULL, &err);
        vx_alloc_fail_nth_for_tests(0);
        if (rc == VHDX_OK) {
            vhdx_salvage_close(salvage);
            break;
        }
        assert_int_equal(rc, VHDX_E_NO_MEMORY);
        vhdx_storage_close(damaged);
    }
    assert_true(n > 30);
    free_image(&image);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(structures_gone),
        cmocka_unit_test(cut_off),
        cmocka_unit_test(random_damage),
        cmocka_unit_test(what_must_come_back),
        cmocka_unit_test(two_chunks),
        cmocka_unit_test(bad_sectors),
        cmocka_unit_test(callers),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
