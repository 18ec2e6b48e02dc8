/* Which disks the model test runs on, and where on them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "run.h"

#define MIB (UINT64_C(1) << 20)
#define GIB (UINT64_C(1) << 30)
#define TIB (UINT64_C(1) << 40)
#define SECTORS_PER_CHUNK (UINT64_C(1) << 23)

struct config configs[MOST_CONFIGS];
size_t        config_count;

static struct config *
add(const char *name)
{
    struct config *config = &configs[config_count++];

    if (config_count > MOST_CONFIGS)
        abort();
    snprintf(config->name, sizeof config->name, "%s", name);
    config->format = VHDX_FORMAT_VHDX;
    return config;
}

static struct config *
add_image(const char *name, enum vhdx_image_type type, uint64_t size, uint64_t block_size, uint32_t sector_size)
{
    struct config *config = add(name);

    config->type = type;
    config->size = size;
    config->block_size = (uint32_t)block_size;
    config->sector_size = sector_size;
    config->longest_discard = size;
    return config;
}

/* One image per block size and sector size, dynamic and fixed; the last block is a partial one. */
static void
add_every_block_size(void)
{
    for (unsigned shift = 20; shift <= 28; shift++) {
        for (unsigned which = 0; which < 4; which++) {
            enum vhdx_image_type type = which < 2 ? VHDX_TYPE_DYNAMIC : VHDX_TYPE_FIXED;
            uint32_t             sector_size = which % 2 == 0 ? 512 : 4096;
            uint64_t             block_size = UINT64_C(1) << shift;
            char                 name[48];

            snprintf(name, sizeof name, "%s-%uM-%u", type == VHDX_TYPE_FIXED ? "fixed" : "dynamic",
                     1u << (shift - 20), (unsigned)sector_size);
            add_image(name, type, 3 * block_size + block_size / 2 + 3 * sector_size, block_size, sector_size);
        }
    }
}

void
configs_make(void)
{
    struct config *config;

    add_every_block_size();

    /* Over the border of the first chunk: 4 GiB at 512-byte sectors, 32 GiB at 4096. */
    add_image("chunks-1M-512", VHDX_TYPE_DYNAMIC, 4 * GIB + 5 * MIB + 512, MIB, 512);
    add_image("chunks-32M-512", VHDX_TYPE_DYNAMIC, 8 * GIB + 33 * MIB, 32 * MIB, 512);
    add_image("chunks-256M-512", VHDX_TYPE_DYNAMIC, 4 * GIB + 300 * MIB, 256 * MIB, 512);
    add_image("chunks-1M-4096", VHDX_TYPE_DYNAMIC, 32 * GIB + 9 * MIB + 4096, MIB, 4096);
    add_image("chunks-256M-4096", VHDX_TYPE_DYNAMIC, 33 * GIB, 256 * MIB, 4096);
    add_image("chunks-fixed-2M-512", VHDX_TYPE_FIXED, 4 * GIB + 3 * MIB, 2 * MIB, 512);

    /* As large as they get. */
    add_image("64T-1M-512", VHDX_TYPE_DYNAMIC, 64 * TIB, MIB, 512)->longest_discard = 64 * MIB;
    add_image("64T-32M-4096", VHDX_TYPE_DYNAMIC, 64 * TIB - 4096, 32 * MIB, 4096)->longest_discard = GIB;
    add_image("64T-256M-512", VHDX_TYPE_DYNAMIC, 64 * TIB, 256 * MIB, 512)->longest_discard = 4 * GIB;

    /* More pages of the BAT than are kept in memory: each window has one for itself. */
    config = add_image("64T-1M-512-small-cache", VHDX_TYPE_DYNAMIC, 64 * TIB, MIB, 512);
    config->cache_bytes = 1;
    config->scattered = 700;
    config->longest_discard = 16 * MIB;

    /* Storages that promise little. */
    config = add_image("no-holes-1M-512", VHDX_TYPE_DYNAMIC, 9 * MIB + 512, MIB, 512);
    config->cannot_punch = true;
    config = add_image("no-holes-no-zeros-2M-4096", VHDX_TYPE_DYNAMIC, 17 * MIB + 4096, 2 * MIB, 4096);
    config->cannot_punch = config->extension_unsure = true;
    config = add_image("no-zeros-1M-512", VHDX_TYPE_DYNAMIC, 7 * MIB + 512, MIB, 512);
    config->extension_unsure = true;
    config = add_image("no-holes-fixed-1M-512", VHDX_TYPE_FIXED, 5 * MIB + 512, MIB, 512);
    config->cannot_punch = true;

    config = add_image("raw", VHDX_TYPE_FIXED, 9 * MIB + 777, 0, 512);
    config->format = VHDX_FORMAT_RAW;
    config = add_image("raw-no-holes", VHDX_TYPE_FIXED, 3 * MIB + 1, 0, 512);
    config->format = VHDX_FORMAT_RAW;
    config->cannot_punch = true;
}

/* --- windows --- */

#define REACH (2 * MIB) /* on each side of a place of interest */

static void
add_window(struct run *run, uint64_t from, uint64_t to)
{
    if (to > run->config->size)
        to = run->config->size;
    if (from < to)
        run->windows[run->window_count++] = (struct window){ from, to - from };
}

static void
add_around(struct run *run, uint64_t place)
{
    add_window(run, place > REACH ? place - REACH : 0, place + REACH);
}

void
windows_make(struct run *run)
{
    const struct config *config = run->config;
    uint64_t             chunk = SECTORS_PER_CHUNK * config->sector_size;

    run->windows = calloc(config->scattered + 8, sizeof *run->windows);
    if (run->windows == NULL)
        abort();
    for (size_t i = 0; i < config->scattered; i++) {
        uint64_t start = config->size / config->scattered * i / MIB * MIB;

        add_window(run, start, start + 64 * 1024);
    }
    if (config->scattered > 0)
        return;
    if (config->size <= 16 * MIB) {
        add_window(run, 0, config->size);
        return;
    }
    add_around(run, 0);
    add_around(run, config->block_size);
    if (config->size > chunk) {
        add_around(run, chunk);
        add_around(run, (config->size - 1) / chunk * chunk);
    }
    add_around(run, (config->size - 1) / config->block_size * config->block_size);
    add_around(run, config->size);
}
