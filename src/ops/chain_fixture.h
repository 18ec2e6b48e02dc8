/*
 * For the tests of chain jobs: images and children on storages that stay the test's, read and written as chains.
 * Without cmocka: programs of their own use it too.
 */
#ifndef VX_CHAIN_FIXTURE_H
#define VX_CHAIN_FIXTURE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/ops.h>

#include "base/memory.h"
#include "format/locator.h"
#include "ops/layout_new.h"
#include "ops/link.h"
#include "ops/stack.h"
#include "storage/storage.h"

#define CHAIN_MIB ((uint64_t)1 << 20)

static inline void
chain_must(int rc, const char *what, const struct vhdx_error *err)
{
    if (rc >= 0)
        return;
    printf("Bail out! %s: %s: %s\n", what, vhdx_code_name(rc), err->message);
    fflush(stdout);
    abort();
}

struct chain_shape {
    uint64_t             size;
    uint32_t             block_size, sector_size;
    enum vhdx_image_type type; /* of a base */
};

/* A base on an empty storage. */
static inline void
chain_make_base(struct vhdx_storage *storage, const struct chain_shape *shape)
{
    const struct vhdx_create_options options = {
        .type = shape->type, .virtual_size = shape->size, .block_size = shape->block_size,
        .logical_sector_size = shape->sector_size, .physical_sector_size = 4096,
    };
    struct vhdx_error err = { .message = "" };

    chain_must(vhdx_create_on_storage(storage, &options, NULL, &err), "create", &err);
}

static inline void
chain_write_layout(struct vhdx_storage *storage, const struct vx_new_layout *layout)
{
    static uint8_t    bytes[VX_METADATA_TABLE_SIZE + 4096];
    struct vhdx_error err = { .message = "" };
    uint8_t           header[VX_HEADER_SIZE];

    chain_must(vx_storage_set_size(storage, layout->file_length, &err), "length", &err);
    for (int copy = 0; copy < 2; copy++) {
        vx_new_layout_header(layout, copy, header);
        chain_must(vx_storage_write(storage, header, sizeof header, VX_HEADER_OFFSET(copy), &err), "header", &err);
        chain_must(vx_new_layout_region_table(layout, bytes, &err), "region table", &err);
        chain_must(vx_storage_write(storage, bytes, VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(copy), &err),
                   "region table", &err);
    }
    vx_new_layout_metadata(layout, bytes);
    chain_must(vx_storage_write(storage, bytes, vx_new_layout_metadata_length(layout), layout->metadata_offset, &err),
               "metadata", &err);
    vx_new_layout_identifier(layout, bytes);
    chain_must(vx_storage_write(storage, bytes, VX_IDENTIFIER_SIZE, 0, &err), "identifier", &err);
    chain_must(vx_storage_flush(storage, &err), "flush", &err);
}

static inline struct vx_image *
chain_open(struct vhdx_storage *storage, const struct vx_image_options *options)
{
    struct vhdx_error err = { .message = "" };
    struct vx_image  *image;

    chain_must(vx_image_open(&image, storage, options, &err), "open", &err);
    return image;
}

static inline struct vhdx_guid
chain_guid(struct vhdx_storage *storage)
{
    struct vx_image *image = chain_open(storage, &(struct vx_image_options){ .is_writable = false });
    struct vhdx_guid guid = vx_image_data_write_guid(image);

    vx_image_close(image, NULL);
    return guid;
}

/* A child of `parent` on an empty storage. */
static inline void
chain_make_child(struct vhdx_storage *storage, struct vhdx_storage *parent, const struct chain_shape *shape)
{
    char braced[VX_BRACED_GUID_SIZE];
    const struct vx_locator_text pairs[] = {
        { "parent_linkage", braced }, { "relative_path", ".\\parent.vhdx" },
    };
    const struct vhdx_create_options options = {
        .type = VHDX_TYPE_DIFFERENCING, .virtual_size = shape->size, .block_size = shape->block_size,
        .logical_sector_size = shape->sector_size, .physical_sector_size = 4096,
    };
    struct vhdx_guid      guid = chain_guid(parent);
    struct vhdx_error     err = { .message = "" };
    struct vx_new_layout  layout;
    struct vx_new_locator locator;
    uint8_t               item[1024];

    vx_link_braced(braced, &guid);
    if (!vx_locator_encode(item, sizeof item, &locator.length, pairs, 2))
        abort();
    locator.item = item;
    chain_must(vx_new_layout_init(&layout, &options, &locator, &err), "layout", &err);
    chain_write_layout(storage, &layout);
}

/* What the chain reads as; the caller frees it (vx_free).  *rc tells a failure, then the result is NULL. */
static inline uint8_t *
chain_try_read(struct vhdx_storage *const *storages, unsigned count, uint32_t log_length, uint64_t *size, int *rc,
               struct vhdx_error *err)
{
    struct vx_stack *stack;
    uint8_t         *bytes;

    *rc = vx_stack_open(&stack, storages, count, NULL, log_length, err);
    if (*rc < 0)
        return NULL;
    *size = vhdx_disk_size(&stack->disk);
    bytes = vx_alloc((size_t)*size);
    if (bytes == NULL)
        abort();
    *rc = vhdx_disk_read(&stack->disk, bytes, (size_t)*size, 0, err);
    vx_stack_close(stack, NULL);
    if (*rc < 0) {
        vx_free(bytes);
        return NULL;
    }
    return bytes;
}

static inline uint8_t *
chain_read(struct vhdx_storage *const *storages, unsigned count, uint64_t *size)
{
    struct vhdx_error err = { .message = "" };
    int               rc;
    uint8_t          *bytes = chain_try_read(storages, count, 0, size, &rc, &err);

    chain_must(rc, "read", &err);
    return bytes;
}

/* Fill a range of the top image: each 512 bytes tell where they are and which `seed` they are from. */
static inline void
chain_write(struct vhdx_storage *storage, uint64_t guest_offset, size_t length, uint32_t seed)
{
    struct vx_image  *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    struct vhdx_error err = { .message = "" };
    uint8_t          *bytes = vx_alloc(length);

    if (bytes == NULL)
        abort();
    for (size_t i = 0; i < length; i++)
        bytes[i] = (uint8_t)(1 + ((guest_offset + i) / 512 * 31 + i % 7 + seed * 101) % 255);
    chain_must(vx_image_write(image, bytes, length, guest_offset, &err), "write", &err);
    chain_must(vx_image_close(image, &err), "close", &err);
    vx_free(bytes);
}

static inline void
chain_zero(struct vhdx_storage *storage, uint64_t guest_offset, uint64_t length, bool is_trim)
{
    struct vx_image  *image = chain_open(storage, &(struct vx_image_options){ .is_writable = true });
    struct vhdx_error err = { .message = "" };

    chain_must(is_trim ? vx_image_trim(image, guest_offset, length, &err)
                       : vx_image_zero(image, guest_offset, length, false, &err), "zero", &err);
    chain_must(vx_image_close(image, &err), "close", &err);
}

/* Does a check find nothing but what such images have for good reasons (leaks, tiny disks, bitmaps that could go)? */
static inline void
chain_take_finding(void *context, const struct vhdx_error *finding)
{
    bool *is_clean = context;

    if (finding->severity == VHDX_SEVERITY_WARN &&
        (finding->rule == 107 || finding->rule == 146 || finding->rule == 148 || finding->rule == 149 ||
         (finding->rule >= 156 && finding->rule <= 158)))
        return;
    *is_clean = false;
    printf("# V%d: %s\n", finding->rule, finding->message);
}

static inline bool
chain_is_clean(struct vhdx_storage *storage)
{
    struct vhdx_check_summary summary;
    struct vhdx_error         err = { .message = "" };
    bool                      is_clean = true;

    chain_must(vhdx_check_storage(storage, NULL, chain_take_finding, &is_clean, NULL, &summary, &err), "check", &err);
    return is_clean && !summary.is_dirty;
}

#endif
