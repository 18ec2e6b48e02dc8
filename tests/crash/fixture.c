/*
 * Images to crash: made once for each configuration, then copied.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/ops.h>

#include "base/bytes.h"
#include "base/guid.h"
#include "crash.h"
#include "format/layout.h"
#include "storage/storage.h"

#define MAX_FIXTURES 64u

static struct {
    const struct crash_config *config;
    struct vx_fault           *disk;
} fixtures[MAX_FIXTURES];
static size_t fixture_count;

static void
must(int rc, const char *what, const struct vhdx_error *err)
{
    if (rc >= 0)
        return;
    fprintf(stderr, "crash tests: %s: %s\n", what, err->message);
    exit(1);
}

/* Where the metadata region lies: the second region of the table that create writes, found by its GUID. */
static uint64_t
find_metadata(struct vhdx_storage *storage)
{
    uint8_t table[4096];
    uint32_t i;

    must(vx_storage_read(storage, table, sizeof table, VX_REGION_TABLE_OFFSET(0), NULL), "region table",
         &(struct vhdx_error){ .message = "unreadable" });
    for (i = 0; i < vx_le32(table + 8); i++)
        if (memcmp(table + 16 + 32 * i, vx_guid_region_metadata.bytes, 16) == 0)
            return vx_le64(table + 16 + 32 * i + 16);
    must(-1, "region table", &(struct vhdx_error){ .message = "no metadata region" });
    return 0;
}

/* Turn a fresh dynamic image into a child: nothing but its metadata says so. */
static void
make_child(struct vx_fault *disk, struct vhdx_storage *storage, const struct crash_config *config)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", "{01234567-89ab-4cde-8f01-23456789abcd}" },
        { "relative_path", ".\\parent.vhdx" },
    };
    static uint8_t bytes[VX_METADATA_TABLE_SIZE + 4096];
    struct vx_metadata metadata = {
        .block_size = config->block_size, .has_parent = true, .virtual_size = config->virtual_size,
        .logical_sector_size = config->sector_size, .physical_sector_size = 4096,
        .has_file_parameters = true, .has_virtual_size = true, .has_logical_sector_size = true,
        .has_physical_sector_size = true, .has_disk_id = true, .has_locator = true,
        .disk_id = { { 1, 2, 3 } },
    };
    uint8_t locator[2048];
    uint32_t locator_length = 0;
    size_t length = 0;

    if (!vx_locator_encode(locator, sizeof locator, &locator_length, pairs, sizeof pairs / sizeof pairs[0]))
        must(-1, "parent locator", &(struct vhdx_error){ .message = "cannot be encoded" });
    vx_metadata_encode_new(bytes, &length, &metadata, locator, locator_length);
    must(vx_fault_poke(disk, find_metadata(storage), bytes, length), "metadata",
         &(struct vhdx_error){ .message = "cannot be written" });
}

static struct vx_fault *
make_disk(const struct crash_config *config)
{
    const struct vhdx_create_options options = {
        .type = config->type == VHDX_TYPE_FIXED ? VHDX_TYPE_FIXED : VHDX_TYPE_DYNAMIC,
        .virtual_size = config->virtual_size, .block_size = config->block_size,
        .logical_sector_size = config->sector_size,
    };
    struct vx_fault_options disk_options = config->disk;
    struct vhdx_storage *storage;
    struct vhdx_error err = { .message = "" };
    struct vx_fault *disk;

    disk_options.capacity = 0;
    must(vx_fault_new(&disk, &disk_options, &err), "fault disk", &err);
    must(vx_fault_open(&storage, disk, false, &err), "fault disk", &err);
    must(vhdx_create_on_storage(storage, &options, NULL, &err), "create", &err);
    if (config->type == VHDX_TYPE_DIFFERENCING)
        make_child(disk, storage, config);
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
