/* Random operations on a disk, each also on the model. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "images.h"
#include "run.h"
#include "wrapped.h"

#define SESSIONS        3u
#define OPS_PER_SESSION 60u

bool
violated(struct run *run, const char *format, ...)
{
    va_list arguments;

    if (run->is_violated)
        return false;
    run->is_violated = true;
    printf("# %s, operation %u: ", run->config->name, run->op_count);
    va_start(arguments, format);
    vprintf(format, arguments);
    va_end(arguments);
    printf("\n# again with: model_test --replay %s %" PRIu64 "\n", run->config->name, run->seed);
    fflush(stdout);
    return false;
}

/* --- where and how much --- */

static uint64_t
random_length(struct run *run)
{
    switch (random_below(&run->random, 10)) {
    case 0: case 1: case 2:
        return random_between(&run->random, 1, 600);
    case 3: case 4:
        return run->config->sector_size * random_between(&run->random, 1, 20);
    case 5: case 6: case 7:
        return random_between(&run->random, 1, 64 * 1024);
    case 8:
        return random_between(&run->random, 1, 1024 * 1024);
    default:
        return random_between(&run->random, 1, LONGEST_WRITE);
    }
}

/* A range inside a window: anywhere, or about a border of sectors or blocks. */
static void
random_range(struct run *run, uint64_t *guest_offset, uint64_t *length)
{
    const struct window *window = &run->windows[random_below(&run->random, run->window_count)];
    uint64_t             at = random_below(&run->random, window->length), end;
    uint32_t             block_size = run->config->block_size != 0 ? run->config->block_size : 4096;

    *guest_offset = window->guest_offset + at;
    *length = random_length(run);
    if (random_chance(&run->random, 30))
        *guest_offset -= *guest_offset % run->config->sector_size;
    else if (random_chance(&run->random, 20))
        *guest_offset -= *guest_offset % block_size;
    if (random_chance(&run->random, 10) && block_size <= LONGEST_WRITE)
        *length = block_size * random_between(&run->random, 1, LONGEST_WRITE / block_size);
    if (*guest_offset < window->guest_offset)
        *guest_offset = window->guest_offset;
    end = window->guest_offset + window->length;
    if (random_chance(&run->random, 5) || *length > end - *guest_offset)
        *length = end - *guest_offset;
    if (*length > LONGEST_WRITE)
        *length = LONGEST_WRITE;
}

/* The same for zeros and trims, which may also be long. */
static void
random_discard(struct run *run, uint64_t *guest_offset, uint64_t *length)
{
    const struct config *config = run->config;

    random_range(run, guest_offset, length);
    if (config->block_size == 0 || random_chance(&run->random, 50))
        return;
    if (random_chance(&run->random, 60))
        *guest_offset -= *guest_offset % config->block_size;
    *length = random_chance(&run->random, 50) ? config->block_size * random_between(&run->random, 1, 3)
                                              : random_between(&run->random, 1, config->longest_discard);
    if (random_chance(&run->random, 5))
        *length = config->longest_discard;
    if (*length > config->longest_discard)
        *length = config->longest_discard;
    if (*length > config->size - *guest_offset)
        *length = config->size - *guest_offset;
}

/* --- operations --- */

static bool
do_write(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          guest_offset, length;
    int               rc;

    random_range(run, &guest_offset, &length);
    if (random_chance(&run->random, 10))
        memset(run->bytes, random_chance(&run->random, 50) ? 0 : 0xA5, (size_t)length);
    else
        random_fill(&run->random, run->bytes, (size_t)length);
    rc = vhdx_disk_write(run->disk, run->bytes, (size_t)length, guest_offset, &err);
    if (rc < 0)
        return violated(run, "write %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    model_write(&run->model, run->bytes, guest_offset, (size_t)length);
    return true;
}

static bool
do_read(struct run *run)
{
    uint64_t guest_offset, length;

    random_range(run, &guest_offset, &length);
    return examine_read(run, guest_offset, (size_t)length);
}

/* A fast zeroing that was refused left old bytes or zeros: take what there is. */
static bool
take_either(struct run *run, uint64_t guest_offset, uint64_t length)
{
    while (length > 0) {
        size_t n = length < LONGEST_WRITE ? (size_t)length : LONGEST_WRITE;

        if (vhdx_disk_read(run->disk, run->bytes, n, guest_offset, NULL) < 0)
            return violated(run, "read after a fast zeroing");
        model_read(&run->model, run->expected, guest_offset, n);
        for (size_t i = 0; i < n; i++)
            if (run->bytes[i] != run->expected[i] && run->bytes[i] != 0)
                return violated(run, "fast zeroing: byte %" PRIu64 " is neither old nor zero", guest_offset + i);
        for (size_t i = 0; i < n; i++)
            if (run->bytes[i] != run->expected[i])
                model_zero(&run->model, guest_offset + i, 1);
        guest_offset += n;
        length -= n;
    }
    return true;
}

static bool
do_zero(struct run *run, bool is_fast)
{
    struct vhdx_error err = { .message = "" };
    uint64_t          guest_offset, length;
    int               rc;

    random_discard(run, &guest_offset, &length);
    rc = vhdx_disk_zero(run->disk, guest_offset, length, is_fast ? VHDX_ZERO_FAST : 0, &err);
    if (rc == VHDX_E_UNSUPPORTED && is_fast)
        return take_either(run, guest_offset, length);
    if (rc < 0)
        return violated(run, "zero %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    model_zero(&run->model, guest_offset, length);
    return true;
}

static bool
do_trim(struct run *run)
{
    const struct config *config = run->config;
    struct vhdx_error    err = { .message = "" };
    uint64_t             guest_offset, length;
    int                  rc;

    random_discard(run, &guest_offset, &length);
    rc = vhdx_disk_trim(run->disk, guest_offset, length, &err);
    if (rc < 0)
        return violated(run, "trim %" PRIu64 " at %" PRIu64 ": %s", length, guest_offset, err.message);
    if (config->format == VHDX_FORMAT_RAW ? !config->cannot_punch : config->type == VHDX_TYPE_DYNAMIC)
        model_zero(&run->model, guest_offset, length);
    return true;
}

static bool
do_flush(struct run *run)
{
    struct vhdx_error err = { .message = "" };

    return vhdx_disk_flush(run->disk, &err) == VHDX_OK || violated(run, "flush: %s", err.message);
}

static bool
do_resolve(struct run *run)
{
    uint64_t guest_offset, length;

    random_discard(run, &guest_offset, &length);
    if (length > 64 * (uint64_t)run->config->block_size)
        length = 64 * (uint64_t)run->config->block_size + 1;
    if (length > run->config->size - guest_offset)
        length = run->config->size - guest_offset;
    return examine_extents(run, guest_offset, length, random_chance(&run->random, 50));
}

/* While a range is pinned it can be read, by the extents that were told and as ever; elsewhere all goes on. */
static bool
do_pin(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    struct vhdx_pin   pin;
    uint64_t          guest_offset, length;
    bool              is_good;

    random_range(run, &guest_offset, &length);
    if (vhdx_disk_pin(run->disk, guest_offset, length, &pin, &err) < 0)
        return violated(run, "pin: %s", err.message);
    is_good = examine_extents(run, guest_offset, length, false) && do_flush(run) &&
              examine_read(run, guest_offset, (size_t)length);
    vhdx_disk_unpin(run->disk, &pin);
    return is_good;
}

static bool
do_something(struct run *run)
{
    uint64_t choice = random_below(&run->random, 100);

    run->op_count++;
    if (!run->gives_back && choice >= 62 && choice < 87)
        return do_write(run);
    if (choice < 42)
        return do_write(run);
    if (choice < 62)
        return do_read(run);
    if (choice < 72)
        return do_zero(run, false);
    if (choice < 76)
        return do_zero(run, true);
    if (choice < 87)
        return do_trim(run);
    if (choice < 93)
        return do_flush(run);
    return choice < 97 ? do_resolve(run) : do_pin(run);
}

/* --- sessions --- */

static bool
open_disk(struct run *run, unsigned flags)
{
    const struct wrapped_options traits = { .cannot_punch = run->config->cannot_punch,
                                            .extension_unsure = run->config->extension_unsure };
    const struct vhdx_open_options options = {
        .flags = flags,
        .format = run->config->format == VHDX_FORMAT_VHDX && random_chance(&run->random, 50) ? VHDX_FORMAT_AUTO
                                                                                              : run->config->format,
        .metadata_cache_bytes = run->config->cache_bytes,
    };
    struct vhdx_storage *storage = wrapped_new(run->memory, &traits);
    struct vhdx_error    err = { .message = "" };
    int                  rc = vhdx_disk_open_storage(&run->disk, storage, &options, &err);

    if (rc == VHDX_OK)
        return true;
    vhdx_storage_close(storage);
    return violated(run, "open: %s", err.message);
}

static bool
close_disk(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    int               rc = vhdx_disk_close(run->disk, &err);

    run->disk = NULL;
    if (rc < 0)
        return violated(run, "close: %s", err.message);
    if (run->config->format == VHDX_FORMAT_VHDX &&
        !image_is_clean(run->memory, run->gives_back ? IMAGE_GAPS_INSIDE : IMAGE_NO_GAPS, NULL))
        return violated(run, "the closed image is not clean");
    return true;
}

static bool
session(struct run *run)
{
    unsigned most = run->config->scattered > 0 ? 8 * OPS_PER_SESSION : OPS_PER_SESSION;
    unsigned op_count = (unsigned)random_between(&run->random, 1, most);

    if (!open_disk(run, VHDX_OPEN_WRITE))
        return false;
    if (vhdx_disk_size(run->disk) != run->config->size)
        return violated(run, "the disk has %" PRIu64 " bytes", vhdx_disk_size(run->disk));
    for (unsigned i = 0; i < op_count; i++)
        if (!do_something(run))
            return false;
    return examine(run) && close_disk(run);
}

/* What was closed is there for a reader, who cannot change it. */
static bool
look_at_it(struct run *run)
{
    if (!open_disk(run, 0) || !examine(run))
        return false;
    if (vhdx_disk_write(run->disk, "x", 1, 0, NULL) != VHDX_E_READ_ONLY ||
        vhdx_disk_zero(run->disk, 0, 1, 0, NULL) != VHDX_E_READ_ONLY ||
        vhdx_disk_trim(run->disk, 0, 1, NULL) != VHDX_E_READ_ONLY)
        return violated(run, "a disk opened for reading takes writes");
    return close_disk(run);
}

static void
begin(struct run *run)
{
    const struct vhdx_create_options options = {
        .type = run->config->type, .virtual_size = run->config->size, .block_size = run->config->block_size,
        .logical_sector_size = run->config->sector_size,
    };
    struct vhdx_error err = { .message = "" };

    if (run->config->format == VHDX_FORMAT_RAW)
        must(vhdx_storage_new_memory(&run->memory, run->config->size, &err), "a file in memory", &err);
    else
        run->memory = image_make(&options);
    model_init(&run->model, run->config->size);
    windows_make(run);
    run->bytes = malloc(LONGEST_WRITE);
    run->expected = malloc(LONGEST_WRITE);
    if (run->bytes == NULL || run->expected == NULL)
        abort();
}

bool
run_once(const struct config *config, uint64_t seed)
{
    struct run run = { .config = config, .seed = seed, .random = { seed * UINT64_C(0x9e3779b97f4a7c15) } };

    begin(&run);
    run.gives_back = random_chance(&run.random, 80);
    for (unsigned i = 0; i < SESSIONS && !run.is_violated; i++)
        if (session(&run) && random_chance(&run.random, 50))
            look_at_it(&run);
    if (!run.is_violated)
        look_at_it(&run);
    vhdx_disk_close(run.disk, NULL);
    vhdx_storage_close(run.memory);
    model_destroy(&run.model);
    free(run.windows);
    free(run.bytes);
    free(run.expected);
    return !run.is_violated;
}
