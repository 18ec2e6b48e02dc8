/*
 * Random operations on a differencing image over a parent of random bytes, against a plain model of both.  Small
 * rings make the log wrap in every run; sessions end by closing, or by a kill after a flush and then a replay.
 *
 *   child_test                    every configuration once, then on for 15 seconds (VHDX_MODEL_SECONDS, VHDX_HOURS)
 *   child_test --seed N           begin at another seed (VHDX_SEED)
 *   child_test --replay CONFIG N  one run again
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "image/image.h"
#include "images.h"
#include "model.h"
#include "random.h"
#include "storage/storage.h"
#include "tap.h"
#include "wrapped.h"

#define MIB (UINT64_C(1) << 20)
#define MOST ((size_t)3 << 20) /* bytes of one operation but a discard */
#define SECTORS_PER_CHUNK (UINT64_C(1) << 23)

struct config {
    const char *name;
    uint64_t    size;
    uint32_t    block_size, sector_size;
    uint32_t    ring_sectors; /* of 4 KiB; 0: the whole log */
    bool        cannot_punch;
    uint64_t    cache_bytes;
};

static const struct config configs[] = {
    { "1M-512", 6 * MIB + 512, 1 * MIB, 512, 0, false, 0 },
    { "1M-512-small-ring", 6 * MIB + 512, 1 * MIB, 512, 13, false, 0 },
    { "2M-4096-small-ring", 11 * MIB + 4096, 2 * MIB, 4096, 16, false, 0 },
    { "4M-512-no-holes", 13 * MIB + 1536, 4 * MIB, 512, 19, true, 0 },
    { "32M-512", 70 * MIB, 32 * MIB, 512, 25, false, 0 },
    { "64M-4096", 200 * MIB, 64 * MIB, 4096, 0, false, 0 },
    { "256M-512", 600 * MIB + 512, 256 * MIB, 512, 70, false, 0 },
    { "chunks-1M-512", 4096 * MIB + 3 * MIB + 512, 1 * MIB, 512, 13, false, 0 },
    { "chunks-256M-512", 4096 * MIB + 300 * MIB, 256 * MIB, 512, 0, true, 1 },
};
#define CONFIG_COUNT (sizeof configs / sizeof configs[0])

struct run {
    const struct config *config;
    uint64_t             seed;
    struct random        random;
    struct vhdx_storage *memory, *storage;
    struct vx_image     *image;
    struct model         parent, own; /* own: what the child holds, where is_present */
    uint8_t             *is_present;  /* a byte a sector */
    uint64_t             sector_count;
    uint8_t             *bytes, *expected;
    unsigned             op_count;
    bool                 was_killed; /* and not been written since */
    bool                 is_violated;
};

static bool violated(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool
violated(struct run *run, const char *format, ...)
{
    va_list arguments;

    if (run->is_violated)
        return false;
    run->is_violated = true;
    printf("# child %s, operation %u: ", run->config->name, run->op_count);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n# again with: child_test --replay %s %" PRIu64 "\n", run->config->name, run->seed);
    fflush(stdout);
    return false;
}

/* --- the model of a child --- */

static void
expect(const struct run *run, uint8_t *bytes, uint64_t guest_offset, size_t length)
{
    uint32_t sector_size = run->config->sector_size;

    while (length > 0) {
        size_t to_end = (size_t)(sector_size - guest_offset % sector_size);
        size_t n = length < to_end ? length : to_end;

        model_read(run->is_present[guest_offset / sector_size] ? &run->own : &run->parent, bytes, guest_offset, n);
        bytes += n;
        guest_offset += n;
        length -= n;
    }
}

/* The child takes the sectors over that a range touches, with what they show now. */
static void
take_over(struct run *run, uint64_t guest_offset, uint64_t length)
{
    uint32_t sector_size = run->config->sector_size;
    uint64_t end = (guest_offset + length + sector_size - 1) / sector_size;
    uint8_t  sector[4096];

    for (uint64_t s = guest_offset / sector_size; s < end; s++) {
        if (run->is_present[s])
            continue;
        model_read(&run->parent, sector, s * sector_size, sector_size);
        model_write(&run->own, sector, s * sector_size, sector_size);
        run->is_present[s] = 1;
    }
}

static void
block_sectors(const struct run *run, uint64_t block_index, uint64_t *first, uint64_t *end)
{
    uint64_t per_block = run->config->block_size / run->config->sector_size;

    *first = block_index * per_block;
    *end = *first + per_block < run->sector_count ? *first + per_block : run->sector_count;
}

static uint64_t
count_present(const struct run *run, uint64_t first, uint64_t end)
{
    uint64_t count = 0;

    for (uint64_t s = first; s < end; s++)
        count += run->is_present[s];
    return count;
}

/* A trim takes nothing from the parent: whole blocks of which the child holds something become its own zeros,
 * elsewhere what it holds does. */
static void
trim_model(struct run *run, uint64_t guest_offset, uint64_t length)
{
    const struct config *config = run->config;
    uint64_t             at = guest_offset, end = guest_offset + length, first, last;

    while (at < end) {
        uint64_t block_index = at / config->block_size;
        uint64_t block_end = (block_index + 1) * config->block_size;
        uint64_t stop = block_end < end ? block_end : end;

        block_sectors(run, block_index, &first, &last);
        if (at % config->block_size == 0 && stop == (block_end < config->size ? block_end : config->size)) {
            if (count_present(run, first, last) > 0) {
                memset(run->is_present + first, 1, (size_t)(last - first));
                model_zero(&run->own, at, stop - at);
            }
        } else {
            model_zero(&run->own, at, stop - at); /* what is not present is never looked at */
        }
        at = stop;
    }
}

/* --- the image --- */

static int
read_parent(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    const struct run *run = context;

    (void)err;
    model_read(&run->parent, buffer, guest_offset, length);
    return VHDX_OK;
}

static bool
open_image(struct run *run, bool is_writable)
{
    const struct wrapped_options  traits = { .cannot_punch = run->config->cannot_punch };
    const struct vx_image_options options = { .is_writable = is_writable,
                                              .metadata_cache_bytes = run->config->cache_bytes,
                                              .log_length_for_tests = run->config->ring_sectors * 4096 };
    const struct vx_below         below = { .read = read_parent, .context = run };
    struct vhdx_error             err = { .message = "" };
    int                           rc;

    run->storage = wrapped_new(run->memory, &traits);
    rc = vx_image_open(&run->image, run->storage, &options, &err);
    if (rc < 0)
        return violated(run, "open: %s", err.message);
    vx_image_set_below(run->image, &below);
    return true;
}

static bool
close_image(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    int               rc = vx_image_close(run->image, &err);

    run->image = NULL;
    vhdx_storage_close(run->storage);
    run->storage = NULL;
    if (rc < 0)
        return violated(run, "close: %s", err.message);
    return image_is_clean(run->memory, run->was_killed ? IMAGE_GAPS : IMAGE_GAPS_INSIDE, NULL) ||
           violated(run, "the closed image is not clean");
}

/* The process dies after a flush: nothing may be missing. */
static bool
kill_image(struct run *run)
{
    struct vhdx_error err = { .message = "" };

    if (vx_image_flush(run->image, &err) < 0)
        return violated(run, "flush: %s", err.message);
    vx_image_abandon(run->image);
    run->image = NULL;
    run->was_killed = true;
    vhdx_storage_close(run->storage);
    run->storage = NULL;
    return true;
}

/* --- looking --- */

/* Is what an extent says what the model says of its sectors? */
static bool
compare_extent(struct run *run, const struct vx_layer_extent *extent, uint64_t guest_offset)
{
    uint32_t          sector_size = run->config->sector_size;
    uint64_t          first = guest_offset / sector_size;
    uint64_t          end = (guest_offset + extent->length - 1) / sector_size + 1;
    uint64_t          present = count_present(run, first, end);
    struct vhdx_error err = { .message = "" };
    bool              is_below = extent->source == VX_LAYER_BELOW;
    size_t            length = (size_t)extent->length;

    if (extent->source == VX_LAYER_UNSET)
        return violated(run, "a child leaves %" PRIu64 " unset", guest_offset);
    if (present != (is_below ? 0 : end - first))
        return violated(run, "extent at %" PRIu64 ", %zu bytes: %" PRIu64 " of %" PRIu64 " sectors are present",
                        guest_offset, length, present, end - first);
    if (is_below)
        model_read(&run->parent, run->bytes, guest_offset, length);
    else if (extent->source == VX_LAYER_ZERO)
        memset(run->bytes, 0, length);
    else if (vx_image_read_payload(run->image, run->bytes, length, extent->file_offset, &err) < 0)
        return violated(run, "read: %s", err.message);
    expect(run, run->expected, guest_offset, length);
    for (size_t i = 0; i < length; i++)
        if (run->bytes[i] != run->expected[i])
            return violated(run, "byte %" PRIu64 " is %02x and should be %02x", guest_offset + i, run->bytes[i],
                            run->expected[i]);
    return true;
}

static bool
look(struct run *run, uint64_t guest_offset, uint64_t length)
{
    while (length > 0) {
        struct vx_layer_extent extent;
        struct vhdx_error      err = { .message = "" };
        uint64_t               wanted = length < MOST ? length : MOST;

        if (vx_image_resolve(run->image, guest_offset, wanted, &extent, &err) < 0)
            return violated(run, "resolve at %" PRIu64 ": %s", guest_offset, err.message);
        if (extent.length == 0 || extent.length > wanted)
            return violated(run, "resolve at %" PRIu64 ": length %" PRIu64, guest_offset, extent.length);
        if (!compare_extent(run, &extent, guest_offset))
            return false;
        guest_offset += extent.length;
        length -= extent.length;
    }
    return true;
}

static bool
look_around(struct run *run, uint64_t place)
{
    uint64_t from = place > 3 * MIB ? place - 3 * MIB : 0;
    uint64_t to = run->config->size - place < 3 * MIB ? run->config->size : place + 3 * MIB;

    return look(run, from, to - from);
}

/* All of a small disk; of a large one the places where anything happens. */
static bool
look_everywhere(struct run *run)
{
    const struct config *config = run->config;
    uint64_t             chunk = SECTORS_PER_CHUNK * config->sector_size;

    if (config->size <= 16 * MIB)
        return look(run, 0, config->size);
    return look_around(run, 0) && look_around(run, config->block_size) && look_around(run, config->size) &&
           (config->size <= chunk || look_around(run, chunk));
}

/* --- operations --- */

static void
random_range(struct run *run, uint64_t *guest_offset, uint64_t *length)
{
    const struct config *config = run->config;
    const uint64_t chunk = SECTORS_PER_CHUNK * config->sector_size;
    const uint64_t places[] = { 0, config->block_size, config->size > chunk ? chunk : 0, config->size };
    uint64_t place = places[random_below(&run->random, 4)];
    uint64_t from = place > 2 * MIB ? place - 2 * MIB : 0;
    uint64_t to = config->size - from < 4 * MIB ? config->size : from + 4 * MIB;

    if (config->size <= 16 * MIB)
        from = 0, to = config->size;
    *guest_offset = from + random_below(&run->random, to - from);
    if (random_chance(&run->random, 30))
        *guest_offset -= *guest_offset % config->sector_size;
    if (random_chance(&run->random, 15) && *guest_offset - *guest_offset % config->block_size >= from)
        *guest_offset -= *guest_offset % config->block_size;
    switch (random_below(&run->random, 6)) {
    case 0: case 1:
        *length = random_between(&run->random, 1, 1500);
        break;
    case 2: case 3:
        *length = config->sector_size * random_between(&run->random, 1, 40);
        break;
    case 4:
        *length = random_between(&run->random, 1, 300 * 1024);
        break;
    default:
        *length = random_chance(&run->random, 50) && config->block_size <= MOST
                      ? config->block_size : random_between(&run->random, 1, MOST);
    }
    if (*length > to - *guest_offset)
        *length = to - *guest_offset;
}

static void
random_discard(struct run *run, uint64_t *guest_offset, uint64_t *length)
{
    const struct config *config = run->config;

    random_range(run, guest_offset, length);
    if (random_chance(&run->random, 50))
        return;
    *guest_offset -= *guest_offset % config->block_size;
    *length = config->block_size * random_between(&run->random, 1, 2);
    if (*length > config->size - *guest_offset)
        *length = config->size - *guest_offset;
}

static bool
do_write(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          guest_offset, length;

    random_range(run, &guest_offset, &length);
    random_fill(&run->random, run->bytes, (size_t)length);
    if (vx_image_write(run->image, run->bytes, (size_t)length, guest_offset, &err) < 0)
        return violated(run, "write %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    take_over(run, guest_offset, length);
    model_write(&run->own, run->bytes, guest_offset, (size_t)length);
    return true;
}

static bool
do_zero(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          guest_offset, length;

    random_discard(run, &guest_offset, &length);
    if (vx_image_zero(run->image, guest_offset, length, false, &err) < 0)
        return violated(run, "zero %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    take_over(run, guest_offset, length);
    model_zero(&run->own, guest_offset, length);
    return true;
}

static bool
do_trim(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          guest_offset, length;

    random_discard(run, &guest_offset, &length);
    if (vx_image_trim(run->image, guest_offset, length, &err) < 0)
        return violated(run, "trim %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    trim_model(run, guest_offset, length);
    return true;
}

static bool
do_look(struct run *run)
{
    uint64_t guest_offset, length;

    random_range(run, &guest_offset, &length);
    return look(run, guest_offset, length);
}

/* A bitmap block goes only when no block of its chunk needs it, and nothing a guest sees changes. */
static bool
do_drop_bitmap(struct run *run)
{
    uint64_t          per_block = run->config->block_size / run->config->sector_size;
    uint64_t          chunk = random_below(&run->random, (run->sector_count - 1) / SECTORS_PER_CHUNK + 1);
    uint64_t          block = chunk * SECTORS_PER_CHUNK / per_block;
    uint64_t          end = block + SECTORS_PER_CHUNK / per_block, first, last;
    struct vhdx_error err = { .message = "" };
    bool              is_freed;

    if (vx_image_drop_bitmap(run->image, chunk, &is_freed, &err) < 0)
        return violated(run, "drop bitmap %" PRIu64 ": %s", chunk, err.message);
    for (; is_freed && block < end && block * per_block < run->sector_count; block++) {
        block_sectors(run, block, &first, &last);
        if (count_present(run, first, last) % (last - first) != 0)
            return violated(run, "the bitmap of chunk %" PRIu64 " is gone and block %" PRIu64 " needs it", chunk,
                            block);
    }
    return true;
}

static bool
do_something(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          choice = random_below(&run->random, 100);

    run->op_count++;
    if (choice < 48)
        return do_write(run);
    if (choice < 65)
        return do_look(run);
    if (choice < 75)
        return do_zero(run);
    if (choice < 88)
        return do_trim(run);
    if (choice < 92)
        return do_drop_bitmap(run);
    return vx_image_flush(run->image, &err) == VHDX_OK || violated(run, "flush: %s", err.message);
}

/* --- a run --- */

static bool
session(struct run *run)
{
    unsigned op_count = (unsigned)random_between(&run->random, 1, 80);

    if (!open_image(run, true))
        return false;
    for (unsigned i = 0; i < op_count; i++)
        if (!do_something(run))
            return false;
    if (!look_everywhere(run))
        return false;
    run->was_killed = false;
    if (random_chance(&run->random, 50))
        return close_image(run);
    if (!kill_image(run) || !open_image(run, false) || !look_everywhere(run)) /* the log laid over the file */
        return false;
    vx_image_abandon(run->image);
    run->image = NULL;
    vhdx_storage_close(run->storage);
    run->storage = NULL;
    return open_image(run, true) && look_everywhere(run) && close_image(run); /* the log written into it */
}

static void
fill_parent(struct run *run)
{
    for (int i = 0; i < 40; i++) {
        uint64_t guest_offset, length;

        random_range(run, &guest_offset, &length);
        random_fill(&run->random, run->bytes, (size_t)length);
        model_write(&run->parent, run->bytes, guest_offset, (size_t)length);
    }
}

static void
begin(struct run *run)
{
    const struct vhdx_guid           linkage = { .bytes = { 1, 2, 3 } };
    const struct vhdx_create_options options = { .virtual_size = run->config->size,
                                                 .block_size = run->config->block_size,
                                                 .logical_sector_size = run->config->sector_size };

    run->memory = image_make_child(&options, &linkage, NULL);
    model_init(&run->parent, run->config->size);
    model_init(&run->own, run->config->size);
    run->sector_count = run->config->size / run->config->sector_size;
    run->is_present = calloc((size_t)run->sector_count, 1);
    run->bytes = malloc(MOST);
    run->expected = malloc(MOST);
    if (run->is_present == NULL || run->bytes == NULL || run->expected == NULL)
        abort();
    fill_parent(run);
}

static bool
run_once(const struct config *config, uint64_t seed)
{
    struct run run = { .config = config, .seed = seed, .random = { seed * UINT64_C(0xd1342543de82ef95) } };

    begin(&run);
    for (int i = 0; i < 3 && !run.is_violated; i++)
        session(&run);
    vx_image_close(run.image, NULL);
    vhdx_storage_close(run.storage);
    vhdx_storage_close(run.memory);
    model_destroy(&run.parent);
    model_destroy(&run.own);
    free(run.is_present);
    free(run.bytes);
    free(run.expected);
    return !run.is_violated;
}

static void
run_all(uint64_t first_seed, double seconds)
{
    bool     has_failed[CONFIG_COUNT] = { false };
    uint64_t run_count[CONFIG_COUNT] = { 0 };
    double   end = tap_clock() + seconds;

    for (uint64_t round = 0; round == 0 || tap_clock() < end; round++) {
        for (size_t i = 0; i < CONFIG_COUNT && (round == 0 || tap_clock() < end); i++) {
            if (has_failed[i])
                continue;
            has_failed[i] = !run_once(&configs[i], first_seed + round);
            run_count[i]++;
        }
    }
    for (size_t i = 0; i < CONFIG_COUNT; i++)
        tap_ok(!has_failed[i], "child %s: seeds %" PRIu64 " to %" PRIu64, configs[i].name, first_seed,
               first_seed + run_count[i] - 1);
}

int
main(int argc, char **argv)
{
    const char *text = getenv("VHDX_SEED");
    uint64_t    first_seed = text != NULL ? strtoull(text, NULL, 10) : 1;

    for (int at = 1; at < argc; at++) {
        if (strcmp(argv[at], "--replay") == 0 && at + 2 < argc) {
            for (size_t i = 0; i < CONFIG_COUNT; i++)
                if (strcmp(configs[i].name, argv[at + 1]) == 0)
                    tap_ok(run_once(&configs[i], strtoull(argv[at + 2], NULL, 10)), "replay");
            return tap_end();
        }
        if (strcmp(argv[at], "--seed") == 0 && at + 1 < argc) {
            first_seed = strtoull(argv[++at], NULL, 10);
        } else {
            fprintf(stderr, "usage: child_test [--seed N] [--replay CONFIG N]\n");
            return 2;
        }
    }
    run_all(first_seed, tap_seconds("VHDX_MODEL_SECONDS", 15));
    return tap_end();
}
