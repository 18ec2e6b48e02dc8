/*
 * Images to crash: made once for each configuration, then copied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/ops.h>

#include "crash.h"
#include "images.h"
#include "ops/create.h"
#include "storage/storage.h"

#define MAX_FIXTURES 64u

static struct {
    const struct crash_config *config;
    struct vx_fault           *disk;
} fixtures[MAX_FIXTURES];
static size_t fixture_count;

int
fixture_create(struct vhdx_storage *storage, const struct crash_config *config, struct vhdx_error *err)
{
    const struct vhdx_create_options options = {
        .type = config->type, .virtual_size = config->virtual_size, .block_size = config->block_size,
        .logical_sector_size = config->sector_size,
    };
    const struct vhdx_guid linkage = { { 1, 2, 3 } };
    struct vx_new_layout layout;
    uint8_t item[IMAGE_LOCATOR_SIZE];

    if (config->type != VHDX_TYPE_DIFFERENCING)
        return vhdx_create_on_storage(storage, &options, NULL, err);
    image_child_layout(&layout, &options, &linkage, item);
    return vx_create_on_storage(storage, &layout, NULL, err);
}

static struct vx_fault *
make_disk(const struct crash_config *config)
{
    struct vx_fault_options disk_options = config->disk;
    struct vhdx_storage *storage;
    struct vhdx_error err = { .message = "" };
    struct vx_fault *disk;

    disk_options.capacity = 0;
    must(vx_fault_new(&disk, &disk_options, &err), "fault disk", &err);
    must(vx_fault_open(&storage, disk, false, &err), "fault disk", &err);
    must(fixture_create(storage, config, &err), "create", &err);
    vhdx_storage_close(storage);
    if (config->room > 0)
        vx_fault_set_capacity(disk, vx_fault_allocated(disk) + config->room);
    return disk;
}

struct vx_fault *
fixture_disk(const struct crash_config *config)
{
    struct vhdx_error err = { .message = "" };
    struct vx_fault *copy;
    size_t i;

    for (i = 0; i < fixture_count && fixtures[i].config != config; i++)
        ;
    if (i == fixture_count) {
        if (fixture_count == MAX_FIXTURES)
            fixture_forget();
        i = fixture_count++;
        fixtures[i].config = config;
        fixtures[i].disk = make_disk(config);
    }
    must(vx_fault_clone(&copy, fixtures[i].disk, &err), "fault disk", &err);
    return copy;
}

void
fixture_forget(void)
{
    while (fixture_count > 0)
        vx_fault_free(fixtures[--fixture_count].disk);
}

/* What lies below a child: the parent's pattern. */
static int
read_below(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    const struct oracle *oracle = context;
    uint8_t cell[CELL], *out = buffer;
    size_t done = 0;

    (void)err;
    while (done < length) {
        uint64_t at = guest_offset + done;
        size_t start = (size_t)(at % CELL), n = CELL - start < length - done ? CELL - start : length - done;

        oracle_stamp(oracle, cell, CELL, at - start, VALUE_PARENT);
        memcpy(out + done, cell + start, n);
        done += n;
    }
    return VHDX_OK;
}

int
fixture_open(const struct run *run, struct vx_image **out, struct vhdx_storage *storage, bool is_writable,
             struct vhdx_error *err)
{
    const struct vx_image_options options = { .is_writable = is_writable, .metadata_cache_bytes = 64 * 4096,
                                              .log_length_for_tests = run->config->log_sectors * 4096 };
    const struct vx_below below = { .read = read_below, .context = (void *)(uintptr_t)&run->oracle };
    int rc = vx_image_open(out, storage, &options, err);

    if (rc == VHDX_OK && run->config->type == VHDX_TYPE_DIFFERENCING)
        vx_image_set_below(*out, &below);
    return rc;
}
