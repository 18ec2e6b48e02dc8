/*
 * Creating an image (docs/vhdx-format.md 9.1, 9.2).
 *
 *   N1  The identifier is written last, after a flush of everything else: an interrupted creation is no VHDX file.
 *   N2  An old file's identifier goes first, with a flush of its own: what is half overwritten is no VHDX file
 *       either.
 *   N3  The log is written with zeros, so that no log entry ever waits for host space or fails for want of it.
 */
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/bat.h"
#include "ops/create.h"
#include "ops/job.h"
#include "ops/layout_new.h"
#include "ops/preallocate.h"
#include "storage/storage.h"

#define WINDOW_SIZE  ((size_t)VX_MIB)

struct creation {
    struct vhdx_storage        *storage;
    struct vx_new_layout        layout;
    const struct vhdx_progress *progress;
    uint8_t                    *window; /* WINDOW_SIZE bytes */
};

/* N2, and the length the image needs.  A block device keeps its own; a file that is written in full grows by that. */
static int
make_room(struct creation *c, struct vhdx_error *err)
{
    struct vhdx_error ignored;
    uint64_t          size;
    int               rc = vx_storage_get_size(c->storage, &size, err);

    if (rc < 0)
        return rc;
    if (size > 0) {
        memset(c->window, 0, VX_IDENTIFIER_SIZE);
        rc = vx_storage_write(c->storage, c->window, (size_t)vx_min_u64(size, VX_IDENTIFIER_SIZE), 0, err);
        if (rc == VHDX_OK)
            rc = vx_storage_flush(c->storage, err);
        if (rc < 0)
            return rc;
    }
    if (vx_storage_set_size(c->storage, 0, &ignored) == VHDX_OK) {
        if (c->layout.preallocation == VHDX_PREALLOCATE_FULL)
            return VHDX_OK;
        return vx_storage_set_size(c->storage, c->layout.file_length, err);
    }
    if (size < c->layout.file_length)
        return vx_fail(err, VHDX_E_NO_SPACE, VHDX_PART_FILE, size, "the device is smaller than the image");
    return vx_storage_zero(c->storage, 0, c->layout.file_length, VHDX_ZERO_RELEASE, err);
}

static int
write_head(struct creation *c, struct vhdx_error *err)
{
    const struct vx_new_layout *layout = &c->layout;
    int                         rc = VHDX_OK;

    for (int copy = 0; copy < 2 && rc == VHDX_OK; copy++) {
        vx_new_layout_header(layout, copy, c->window);
        rc = vx_storage_write(c->storage, c->window, VX_HEADER_SIZE, VX_HEADER_OFFSET(copy), err);
    }
    if (rc == VHDX_OK)
        rc = vx_new_layout_region_table(layout, c->window, err);
    for (int copy = 0; copy < 2 && rc == VHDX_OK; copy++)
        rc = vx_storage_write(c->storage, c->window, VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(copy), err);
    return rc;
}

static int
write_metadata(struct creation *c, struct vhdx_error *err)
{
    size_t   length = vx_new_layout_metadata_length(&c->layout);
    uint8_t *bytes = vx_alloc(length);
    int      rc;

    if (bytes == NULL)
        return vx_fail_memory(err, "the metadata of a new image");
    vx_new_layout_metadata(&c->layout, bytes);
    rc = vx_storage_write(c->storage, bytes, length, c->layout.metadata_offset, err);
    vx_free(bytes);
    return rc;
}

/* N3 */
static int
write_log(struct creation *c, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    memset(c->window, 0, WINDOW_SIZE);
    for (uint64_t at = 0; at < c->layout.log_length && rc == VHDX_OK; at += WINDOW_SIZE)
        rc = vx_storage_write(c->storage, c->window, WINDOW_SIZE, c->layout.log_offset + at, err);
    return rc;
}

/* Every block of a fixed image is present, in order. */
static int
write_fixed_bat(struct creation *c, struct vhdx_error *err)
{
    const struct vx_geometry *g = &c->layout.geometry;
    uint64_t                  bat_length = g->bat_entry_count * 8;

    for (uint64_t at = 0; at < bat_length; at += WINDOW_SIZE) {
        size_t n = (size_t)vx_min_u64(WINDOW_SIZE, bat_length - at);
        int    rc;

        for (size_t i = 0; i < n; i += 8) {
            uint64_t index, entry = 0;

            if (vx_geometry_is_payload_entry(g, (at + i) / 8, &index) && index < g->payload_block_count)
                entry = vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, vx_new_layout_block_offset(&c->layout, index));
            vx_put_le64(c->window + i, entry);
        }
        rc = vx_storage_write(c->storage, c->window, n, c->layout.bat_offset + at, err);
        if (rc < 0)
            return rc;
    }
    return VHDX_OK;
}

static int
write_identifier(struct creation *c, struct vhdx_error *err)
{
    int rc = vx_storage_flush(c->storage, err); /* N1 */

    if (rc < 0)
        return rc;
    vx_new_layout_identifier(&c->layout, c->window);
    rc = vx_storage_write(c->storage, c->window, VX_IDENTIFIER_SIZE, 0, err);
    return rc == VHDX_OK ? vx_storage_flush(c->storage, err) : rc;
}

static int
create_steps(struct creation *c, struct vhdx_error *err)
{
    int rc = make_room(c, err);

    if (rc == VHDX_OK)
        rc = vx_preallocate(c->storage, &(struct vx_preallocation){ .to = c->layout.file_length,
                                                                    .how = c->layout.preallocation,
                                                                    .progress = c->progress }, err);
    if (rc == VHDX_OK)
        rc = write_head(c, err);
    if (rc == VHDX_OK)
        rc = write_metadata(c, err);
    if (rc == VHDX_OK)
        rc = write_log(c, err);
    if (rc == VHDX_OK && c->layout.type == VHDX_TYPE_FIXED)
        rc = write_fixed_bat(c, err);
    return rc == VHDX_OK ? write_identifier(c, err) : rc;
}

int
vx_create_on_storage(struct vhdx_storage *storage, const struct vx_new_layout *layout,
                     const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct creation c = { .storage = storage, .layout = *layout, .progress = progress };
    int             rc;

    c.window = vx_alloc(WINDOW_SIZE);
    if (c.window == NULL)
        return vx_fail_memory(err, "creating an image");
    rc = create_steps(&c, err);
    vx_free(c.window);
    return rc;
}

int
vx_create_path(const char *path, bool overwrite, const struct vx_new_layout *layout,
               const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vhdx_storage *storage;
    bool                 is_new = true;
    int                  rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE | VHDX_STORAGE_CREATE, err);

    if (rc == VHDX_E_EXISTS && overwrite) {
        is_new = false;
        rc = vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, err);
    }
    if (rc < 0)
        return rc;
    rc = vx_create_on_storage(storage, layout, progress, err);
    if (rc < 0 && is_new)
        unlink(path);
    vhdx_storage_close(storage);
    return rc;
}

int
vhdx_create_on_storage(struct vhdx_storage *storage, const struct vhdx_create_options *options,
                       const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vx_new_layout layout;
    int                  rc = vx_new_layout_init(&layout, options, NULL, err);

    return rc == VHDX_OK ? vx_create_on_storage(storage, &layout, progress, err) : rc;
}

int
vhdx_create_path(const char *path, bool overwrite, const struct vhdx_create_options *options,
                 const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vx_new_layout layout;
    int                  rc = vx_new_layout_init(&layout, options, NULL, err); /* bad options touch nothing */

    return rc == VHDX_OK ? vx_create_path(path, overwrite, &layout, progress, err) : rc;
}
