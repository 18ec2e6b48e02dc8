/*
 * Random trees of differencing images, up to eight layers deep, against a model of every image: what it holds
 * itself and what it shows.  Layers have blocks of any size and may be larger than their parents; images are forked
 * at every level, also while their log is dirty; whoever has children is never written again and must go on to read
 * as before.
 *
 *   chain_test             seeds from 1 on, for 8 seconds (VHDX_MODEL_SECONDS, VHDX_HOURS)
 *   chain_test --seed N    begin at another seed (VHDX_SEED)
 *   chain_test --replay N  one run again
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/vhdx.h>

#include "disk/disk.h"
#include "images.h"
#include "model.h"
#include "random.h"
#include "tap.h"
#include "wrapped.h"

#define MIB         (UINT64_C(1) << 20)
#define MOST        ((size_t)3 << 20) /* bytes of one operation but a discard */
#define PIECE       ((size_t)256 << 10)
#define MOST_LAYERS 8u
#define MOST_IMAGES 14u

struct node {
    struct node         *parent; /* NULL: a base */
    unsigned             depth;  /* 0: a base */
    bool                 has_children;
    uint64_t             size;
    uint32_t             block_size;
    struct vhdx_storage *memory;
    struct vhdx_guid     guid;       /* DataWriteGuid, as its children will name it */
    struct model         own;        /* what it holds, where is_present */
    uint8_t             *is_present; /* a byte a sector; NULL for a base, where everything is */
};

struct run {
    uint64_t      seed;
    struct random random;
    uint32_t      sector_size; /* of all of a tree (V123) */
    struct node   nodes[MOST_IMAGES];
    unsigned      node_count, op_count;
    uint8_t      *bytes, *expected;
    bool          is_violated;
};

static bool violated(struct run *run, const struct node *node, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static bool
violated(struct run *run, const struct node *node, const char *format, ...)
{
    va_list arguments;

    if (run->is_violated)
        return false;
    run->is_violated = true;
    printf("# seed %" PRIu64 ", operation %u, image %d in layer %u, blocks of %" PRIu32 ", sectors of %" PRIu32 ": ",
           run->seed, run->op_count, (int)(node - run->nodes), node->depth, node->block_size, run->sector_size);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n# again with: chain_test --replay %" PRIu64 "\n", run->seed);
    fflush(stdout);
    return false;
}

/* --- the model --- */

/* How far the sectors from guest_offset on are alike: all there, or none. */
static size_t
alike(const struct run *run, const struct node *node, uint64_t guest_offset, size_t length)
{
    uint64_t first = guest_offset / run->sector_size, sector = first + 1;

    while (sector * run->sector_size < guest_offset + length && node->is_present[sector] == node->is_present[first])
        sector++;
    if (sector * run->sector_size - guest_offset < length)
        length = (size_t)(sector * run->sector_size - guest_offset);
    return length;
}

static void
expect(const struct run *run, const struct node *node, uint8_t *bytes, uint64_t guest_offset, size_t length)
{
    while (length > 0) {
        size_t n = length;

        if (node == NULL || guest_offset >= node->size) { /* nobody has it, or past the end of a smaller parent */
            memset(bytes, 0, n);
        } else {
            if (guest_offset + n > node->size)
                n = (size_t)(node->size - guest_offset);
            if (node->is_present != NULL)
                n = alike(run, node, guest_offset, n);
            if (node->is_present == NULL || node->is_present[guest_offset / run->sector_size])
                model_read(&node->own, bytes, guest_offset, n);
            else
                expect(run, node->parent, bytes, guest_offset, n);
        }
        bytes += n;
        guest_offset += n;
        length -= n;
    }
}

/* The image takes the sectors over that a range touches, with what they show now. */
static void
take_over(const struct run *run, struct node *node, uint64_t guest_offset, uint64_t length)
{
    uint64_t end = (guest_offset + length + run->sector_size - 1) / run->sector_size;
    uint8_t  sector[4096];

    for (uint64_t s = guest_offset / run->sector_size; node->is_present != NULL && s < end; s++) {
        if (node->is_present[s])
            continue;
        expect(run, node->parent, sector, s * run->sector_size, run->sector_size);
        model_write(&node->own, sector, s * run->sector_size, run->sector_size);
        node->is_present[s] = 1;
    }
}

static void
trim_whole_block(const struct run *run, struct node *node, uint64_t guest_offset, uint64_t length)
{
    uint8_t *present = node->is_present + guest_offset / run->sector_size;
    size_t   count = (size_t)(length / run->sector_size);

    if (memchr(present, 1, count) == NULL)
        return; /* what only a parent holds stays visible */
    memset(present, 1, count);
    model_zero(&node->own, guest_offset, length);
}

static void
trim_model(const struct run *run, struct node *node, uint64_t guest_offset, uint64_t length)
{
    uint64_t at = guest_offset, end = guest_offset + length;

    while (at < end) {
        uint64_t block = at / node->block_size * node->block_size;
        uint64_t block_end = block + node->block_size < node->size ? block + node->block_size : node->size;
        uint64_t stop = block_end < end ? block_end : end;

        if (node->is_present != NULL && at == block && stop == block_end)
            trim_whole_block(run, node, at, stop - at);
        else
            model_zero(&node->own, at, stop - at); /* what is not present is never looked at */
        at = stop;
    }
}

/* --- opening --- */

static int
resolve_parent(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out,
               struct vhdx_error *err)
{
    const struct wrapped_options read_only = { .is_read_only = true };
    const struct run            *run = context;

    (void)err;
    for (unsigned i = 0; i < run->node_count; i++) {
        if (!vhdx_guid_equal(&run->nodes[i].guid, query->linkage))
            continue;
        *out = wrapped_new(run->nodes[i].memory, &read_only);
        return VHDX_OK;
    }
    return VHDX_E_NO_PARENT;
}

static struct vhdx_disk *
open_node(struct run *run, const struct node *node, bool is_writable)
{
    const struct wrapped_options   traits = { .cannot_punch = run->seed % 5 == 0, .is_read_only = !is_writable };
    const struct vhdx_open_options options = { .flags = is_writable ? VHDX_OPEN_WRITE : 0,
                                               .resolve_parent = resolve_parent, .resolve_context = run };
    struct vhdx_storage           *storage = wrapped_new(node->memory, &traits);
    struct vhdx_error              err = { .message = "" };
    struct vhdx_disk              *disk;

    if (vhdx_disk_open_storage(&disk, storage, &options, &err) < 0) {
        violated(run, node, "open: %s", err.message);
        vhdx_storage_close(storage);
        return NULL;
    }
    if (vhdx_disk_layer_count(disk) != node->depth + 1)
        violated(run, node, "%u layers", vhdx_disk_layer_count(disk));
    return disk;
}

/* --- looking --- */

static bool
compare(struct run *run, const struct node *node, struct vhdx_disk *disk, uint64_t guest_offset, size_t length)
{
    struct vhdx_error err = { .message = "" };

    if (vhdx_disk_read(disk, run->bytes, length, guest_offset, &err) < 0)
        return violated(run, node, "read at %" PRIu64 ": %s", guest_offset, err.message);
    expect(run, node, run->expected, guest_offset, length);
    for (size_t i = 0; i < length; i++)
        if (run->bytes[i] != run->expected[i])
            return violated(run, node, "byte %" PRIu64 " is %02x and should be %02x", guest_offset + i,
                            run->bytes[i], run->expected[i]);
    return true;
}

/* Does the disk itself decide exactly the sectors that its image holds, and does an extent of zeros show zeros? */
static bool
compare_extents(struct run *run, const struct node *node, struct vhdx_disk *disk, uint64_t guest_offset,
                size_t length)
{
    struct vhdx_extent extents[64];
    struct vhdx_error  err = { .message = "" };
    uint64_t           at = guest_offset;
    size_t             count;

    if (vhdx_disk_resolve(disk, guest_offset, length, extents, 64, &count, &err) < 0)
        return violated(run, node, "resolve: %s", err.message);
    for (size_t i = 0; i < count; i++) {
        const struct vhdx_extent *extent = &extents[i];
        bool                      is_own = extent->depth == 0;

        if (extent->guest_offset != at || extent->length == 0 || extent->depth > node->depth)
            return violated(run, node, "an extent at %" PRIu64, extent->guest_offset);
        for (uint64_t s = at / run->sector_size; node->is_present != NULL &&
                                                 s * run->sector_size < at + extent->length; s++)
            if (node->is_present[s] != is_own)
                return violated(run, node, "sector %" PRIu64 " comes from layer %" PRIu32, s, extent->depth);
        at += extent->length;
    }
    return at == guest_offset + length || count == 64 ||
           violated(run, node, "extents end at %" PRIu64, at);
}

static bool
look_everywhere(struct run *run, const struct node *node)
{
    struct vhdx_disk *disk = open_node(run, node, false);
    uint64_t          at = 0;

    if (disk == NULL)
        return false;
    if (vhdx_disk_size(disk) != node->size)
        violated(run, node, "the size is %" PRIu64, vhdx_disk_size(disk));
    while (at < node->size) {
        size_t n = node->size - at < PIECE ? (size_t)(node->size - at) : PIECE;

        if (!compare(run, node, disk, at, n) || !compare_extents(run, node, disk, at, n))
            break;
        at += n;
    }
    vhdx_disk_close(disk, NULL);
    return !run->is_violated;
}

/* --- operations --- */

static void
random_range(struct run *run, const struct node *node, uint64_t *guest_offset, uint64_t *length, bool is_discard)
{
    static const uint64_t longest[] = { 1500, 20 * 1024, 300 * 1024, MOST };

    *guest_offset = random_below(&run->random, node->size);
    if (random_chance(&run->random, 40))
        *guest_offset -= *guest_offset % run->sector_size;
    if (random_chance(&run->random, is_discard ? 50 : 15))
        *guest_offset -= *guest_offset % node->block_size;
    *length = random_between(&run->random, 1, longest[random_below(&run->random, 4)]);
    if (is_discard && random_chance(&run->random, 50))
        *length = node->block_size * random_between(&run->random, 1, 2);
    if (!is_discard && node->block_size <= MOST && random_chance(&run->random, 10))
        *length = node->block_size;
    if (random_chance(&run->random, 30))
        *length += run->sector_size - *length % run->sector_size;
    if (!is_discard && *length > MOST)
        *length = MOST;
    if (*length > node->size - *guest_offset)
        *length = node->size - *guest_offset;
}

static bool
do_something(struct run *run, struct node *node, struct vhdx_disk *disk)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          choice = random_below(&run->random, 100), guest_offset, length;
    int               rc = VHDX_OK;

    run->op_count++;
    random_range(run, node, &guest_offset, &length, choice >= 65 && choice < 90);
    if (choice < 45) {
        random_fill(&run->random, run->bytes, (size_t)length);
        rc = vhdx_disk_write(disk, run->bytes, (size_t)length, guest_offset, &err);
        take_over(run, node, guest_offset, length);
        model_write(&node->own, run->bytes, guest_offset, (size_t)length);
    } else if (choice < 65) {
        return compare(run, node, disk, guest_offset, (size_t)length);
    } else if (choice < 77) {
        rc = vhdx_disk_zero(disk, guest_offset, length, 0, &err);
        take_over(run, node, guest_offset, length);
        model_zero(&node->own, guest_offset, length);
    } else if (choice < 90) {
        rc = vhdx_disk_trim(disk, guest_offset, length, &err);
        trim_model(run, node, guest_offset, length);
    } else {
        rc = vhdx_disk_flush(disk, &err);
    }
    return rc == VHDX_OK || violated(run, node, "%" PRIu64 " bytes at %" PRIu64 ": %s", length, guest_offset,
                                     err.message);
}

/* Write to an image that nothing stands on; it is closed, or killed after a flush and left dirty. */
static bool
session(struct run *run, struct node *node)
{
    struct vhdx_disk *disk = open_node(run, node, true);
    unsigned          op_count = (unsigned)random_between(&run->random, 1, 40);
    struct vhdx_error err = { .message = "" };
    struct vhdx_info  info;
    bool              is_killed = random_chance(&run->random, 30);

    if (disk == NULL)
        return false;
    for (unsigned i = 0; i < op_count && !run->is_violated; i++)
        do_something(run, node, disk);
    if (vhdx_disk_flush(disk, &err) < 0 || vhdx_disk_get_info(disk, 0, &info, &err) < 0)
        violated(run, node, "flush: %s", err.message);
    node->guid = info.data_write_guid;
    if (is_killed) {
        vx_image_abandon(disk->layers[0].image);
        disk->layers[0].image = NULL;
    }
    if (vhdx_disk_close(disk, &err) < 0)
        violated(run, node, "close: %s", err.message);
    if (!is_killed && !run->is_violated && !image_is_clean(node->memory, IMAGE_GAPS, NULL))
        violated(run, node, "the closed image is not clean");
    return !run->is_violated;
}

/* --- trees --- */

static struct node *
add_node(struct run *run, struct node *parent)
{
    static const uint32_t       block_sizes[] = { 1, 1, 2, 4, 8, 32 };
    struct node                *node = &run->nodes[run->node_count++];
    struct vhdx_create_options  options = { .logical_sector_size = run->sector_size };

    memset(node, 0, sizeof *node);
    node->parent = parent;
    node->block_size = block_sizes[random_below(&run->random, 6)] << 20;
    node->size = parent != NULL ? parent->size : 3 * MIB + random_below(&run->random, 3 * MIB);
    if (random_chance(&run->random, 30))
        node->size += random_below(&run->random, 2 * MIB);
    node->size -= node->size % run->sector_size;
    options.virtual_size = node->size;
    options.block_size = node->block_size;
    model_init(&node->own, node->size);
    if (parent == NULL) {
        node->memory = image_make(&options); /* its first session tells its guid */
    } else {
        node->depth = parent->depth + 1;
        random_fill(&run->random, node->guid.bytes, sizeof node->guid.bytes);
        node->memory = image_make_child(&options, &parent->guid, &node->guid);
        node->is_present = calloc((size_t)(node->size / run->sector_size), 1);
        if (node->is_present == NULL)
            abort();
        parent->has_children = true;
    }
    return node;
}

/* A base, and forks of whatever is there, each written to now and then until it has children of its own. */
static void
grow(struct run *run)
{
    session(run, add_node(run, NULL));
    while (run->node_count < MOST_IMAGES && !run->is_violated) {
        struct node *parent = &run->nodes[run->node_count - 1 - random_below(&run->random, 3) % run->node_count];
        struct node *node;

        if (parent->depth + 1 == MOST_LAYERS)
            parent = &run->nodes[random_below(&run->random, run->node_count)];
        if (parent->depth + 1 == MOST_LAYERS)
            continue;
        node = add_node(run, parent);
        for (uint64_t i = random_below(&run->random, 3); i > 0 && session(run, node); i--)
            continue;
        if (!run->is_violated && look_everywhere(run, node))
            look_everywhere(run, &run->nodes[random_below(&run->random, run->node_count)]);
        node = &run->nodes[random_below(&run->random, run->node_count)];
        if (!node->has_children && !run->is_violated)
            session(run, node);
    }
    for (unsigned i = 0; i < run->node_count && !run->is_violated; i++)
        look_everywhere(run, &run->nodes[i]);
}

static bool
run_once(uint64_t seed)
{
    static struct run run;

    run = (struct run){ .seed = seed, .random = { seed * UINT64_C(0xd1342543de82ef95) },
                        .sector_size = seed % 2 == 0 ? 512 : 4096, .bytes = malloc(MOST),
                        .expected = malloc(MOST) };
    if (run.bytes == NULL || run.expected == NULL)
        abort();
    grow(&run);
    for (unsigned i = 0; i < run.node_count; i++) {
        vhdx_storage_close(run.nodes[i].memory);
        model_destroy(&run.nodes[i].own);
        free(run.nodes[i].is_present);
    }
    free(run.bytes);
    free(run.expected);
    return !run.is_violated;
}

int
main(int argc, char **argv)
{
    const char *text = getenv("VHDX_SEED");
    uint64_t    first_seed = text != NULL ? strtoull(text, NULL, 10) : 1, seed;
    double      end;
    bool        is_good = true;

    if (argc == 3 && strcmp(argv[1], "--replay") == 0) {
        tap_ok(run_once(strtoull(argv[2], NULL, 10)), "replay");
        return tap_end();
    }
    if (argc == 3 && strcmp(argv[1], "--seed") == 0) {
        first_seed = strtoull(argv[2], NULL, 10);
    } else if (argc != 1) {
        fprintf(stderr, "usage: chain_test [--seed N] [--replay N]\n");
        return 2;
    }
    end = tap_clock() + tap_seconds("VHDX_MODEL_SECONDS", 8);
    for (seed = first_seed; is_good && (seed < first_seed + 4 || tap_clock() < end); seed++)
        is_good = run_once(seed);
    tap_ok(is_good, "trees of images: seeds %" PRIu64 " to %" PRIu64, first_seed, seed - 1);
    return tap_end();
}
