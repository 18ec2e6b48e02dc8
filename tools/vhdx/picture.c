/* See picture.h: the sums. */
#include "picture.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "text.h"

#define CELLS_MOST      4096u
#define CELL_BYTES_LEAST 4096u
#define HEADER_SECTION  (UINT64_C(1) << 20)

/* --- grids --- */

static void
grid_begin(struct grid *grid, uint64_t length, unsigned kind_count)
{
    *grid = (struct grid){ .length = length, .cell_bytes = CELL_BYTES_LEAST, .kind_count = kind_count };
    while (length / CELLS_MOST >= grid->cell_bytes)
        grid->cell_bytes *= 2;
    grid->cell_count = (size_t)(length / grid->cell_bytes + (length % grid->cell_bytes != 0));
    grid->bytes = need_memory(calloc(grid->cell_count * kind_count + 1, sizeof(*grid->bytes)));
    grid->elsewhere = need_memory(malloc((grid->cell_count + 1) * sizeof(*grid->elsewhere)));
    memset(grid->elsewhere, 0xFF, (grid->cell_count + 1) * sizeof(*grid->elsewhere));
}

static void
grid_end(struct grid *grid)
{
    free(grid->bytes);
    free(grid->elsewhere);
    free(grid->holes);
}

/* Call for the part of each cell that a range covers; what lies past the grid is left out. */
typedef void (*take_part)(struct grid *grid, size_t cell, uint64_t bytes, uint64_t from_start, unsigned kind, uint64_t other);

static void
grid_each(struct grid *grid, uint64_t start, uint64_t length, take_part take, unsigned kind, uint64_t other)
{
    uint64_t at = start, end = length > grid->length || start > grid->length - length ? grid->length : start + length;

    while (at < end) {
        size_t cell = (size_t)(at / grid->cell_bytes);
        uint64_t cell_end = (cell + 1) * grid->cell_bytes;
        uint64_t bytes = (cell_end < end ? cell_end : end) - at;

        take(grid, cell, bytes, at - start, kind, other);
        at += bytes;
    }
}

static void
add_bytes(struct grid *grid, size_t cell, uint64_t bytes, uint64_t from_start, unsigned kind, uint64_t other)
{
    grid->bytes[cell * grid->kind_count + kind] += bytes;
    if (other != GRID_NOWHERE && grid->elsewhere[cell] == GRID_NOWHERE)
        grid->elsewhere[cell] = other + from_start;
}

static void
add_hole(struct grid *grid, size_t cell, uint64_t bytes, uint64_t from_start, unsigned kind, uint64_t other)
{
    (void)from_start, (void)kind, (void)other;
    grid->holes[cell] += bytes;
}

unsigned
grid_main_kind(const struct grid *grid, size_t cell, bool *is_pure)
{
    const uint64_t *bytes = grid->bytes + cell * grid->kind_count;
    unsigned best = 0, present = 0;

    for (unsigned kind = 0; kind < grid->kind_count; kind++) {
        present += bytes[kind] > 0;
        if (bytes[kind] > bytes[best])
            best = kind;
    }
    *is_pure = present <= 1;
    return best;
}

/* --- the file: regions, and holes of the host --- */

static void
add_regions(struct picture *picture)
{
    const struct vhdx_info *info = &picture->info;

    grid_each(&picture->file, 0, HEADER_SECTION, add_bytes, FILE_HEADER, GRID_NOWHERE);
    grid_each(&picture->file, info->log_offset, info->log_length, add_bytes, FILE_LOG, GRID_NOWHERE);
    grid_each(&picture->file, info->metadata_offset, info->metadata_length, add_bytes, FILE_METADATA, GRID_NOWHERE);
    grid_each(&picture->file, info->bat_offset, info->bat_length, add_bytes, FILE_TABLE, GRID_NOWHERE);
}

/* Where the host cannot tell, nothing is said. */
static void
find_holes(struct picture *picture)
{
    struct grid *grid = &picture->file;
    int descriptor = open(picture->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    off_t at = 0, length = (off_t)grid->length;

    if (descriptor < 0)
        return;
    grid->holes = need_memory(calloc(grid->cell_count + 1, sizeof(*grid->holes)));
    while (at < length) {
        off_t hole = lseek(descriptor, at, SEEK_HOLE), data;

        if (hole < 0 || hole >= length)
            break;
        data = lseek(descriptor, hole, SEEK_DATA);
        if (data < 0 || data > length)
            data = length;
        grid_each(grid, (uint64_t)hole, (uint64_t)(data - hole), add_hole, 0, 0);
        at = data;
    }
    close(descriptor);
}

/* What is left of each cell is other. */
static void
complete_file(struct grid *grid)
{
    for (size_t cell = 0; cell < grid->cell_count; cell++) {
        uint64_t end = (cell + 1) * grid->cell_bytes, size = grid->cell_bytes, sum = 0;

        if (end > grid->length)
            size -= end - grid->length;
        for (unsigned kind = 1; kind < grid->kind_count; kind++)
            sum += grid->bytes[cell * grid->kind_count + kind];
        grid->bytes[cell * grid->kind_count + FILE_OTHER] = sum < size ? size - sum : 0;
    }
}

/* --- partitions: a help for the eye, so that what cannot be read is left out --- */

static void
find_volumes(struct picture *picture)
{
    struct vhdx_layout_options options = { .flags = VHDX_LAYOUT_NO_FREE };
    struct vhdx_layout *layout;
    size_t count;

    if (vhdx_layout_open(&layout, picture->disk, &options, NULL) < 0)
        return;
    count = vhdx_layout_volume_count(layout);
    picture->volumes = need_memory(calloc(count + 1, sizeof(*picture->volumes)));
    for (size_t i = 0; i < count; i++)
        picture->volumes[i] = *vhdx_layout_volume(layout, i);
    picture->volume_count = count;
    vhdx_layout_close(layout);
}

/* --- the whole --- */

int
picture_begin(struct picture *picture, struct vhdx_disk *disk, const char *path, struct vhdx_error *err)
{
    int rc;

    *picture = (struct picture){ .path = path, .disk = disk, .last_end = GRID_NOWHERE };
    rc = vhdx_disk_get_info(disk, 0, &picture->info, err);
    if (rc < 0)
        return rc;
    picture->is_vhdx = picture->info.format == VHDX_FORMAT_VHDX;
    grid_begin(&picture->guest, vhdx_disk_size(disk), GUEST_DATA + vhdx_disk_layer_count(disk));
    grid_begin(&picture->file, picture->is_vhdx ? picture->info.file_size : 0, FILE_KINDS);
    if (picture->is_vhdx) {
        add_regions(picture);
        find_holes(picture);
    }
    find_volumes(picture);
    return VHDX_OK;
}

static unsigned
guest_kind(const struct vhdx_extent *extent)
{
    if ((extent->flags & VHDX_EXTENT_DATA) != 0)
        return GUEST_DATA + extent->depth;
    if ((extent->flags & VHDX_EXTENT_PRESENT) != 0)
        return GUEST_ZERO;
    return (extent->flags & VHDX_EXTENT_ZERO) != 0 ? GUEST_UNALLOCATED : GUEST_PARENT;
}

void
picture_take(struct picture *picture, const struct vhdx_extent *extent)
{
    unsigned kind = guest_kind(extent);
    bool is_data = kind >= GUEST_DATA;

    grid_each(&picture->guest, extent->guest_offset, extent->length, add_bytes, kind,
              is_data ? extent->file_offset : GRID_NOWHERE);
    if (kind != GUEST_DATA || !picture->is_vhdx)
        return;
    grid_each(&picture->file, extent->file_offset, extent->length, add_bytes, FILE_PAYLOAD, extent->guest_offset);
    picture->run_count += extent->file_offset != picture->last_end;
    picture->last_end = extent->file_offset + extent->length;
}

void
picture_finish(struct picture *picture)
{
    complete_file(&picture->file);
}

void
picture_end(struct picture *picture)
{
    grid_end(&picture->guest);
    grid_end(&picture->file);
    free(picture->volumes);
}

/* --- words --- */

const char *
guest_kind_name(const struct picture *picture, unsigned kind, char *room, size_t size)
{
    static const char *const names[] = { "not allocated, reads as zeros", "zeros", "in a parent that is not open" };

    if (kind < GUEST_DATA)
        return names[kind];
    snprintf(room, size, "data in %s", vhdx_disk_layer_name(picture->disk, kind - GUEST_DATA));
    return room;
}

const char *
file_kind_name(unsigned kind)
{
    static const char *const names[FILE_KINDS] = { "sector bitmaps, empty parts of blocks, unused space", "headers", "log", "metadata",
                                                   "block allocation table", "blocks of the disk" };

    return names[kind];
}

void
markup_print(FILE *stream, const char *text)
{
    while (*text != '\0') {
        uint32_t character;
        size_t length = text_next(text, &character);
        char one[5] = { 0 };

        memcpy(one, text, length);
        if (character == '&')
            fputs("&amp;", stream);
        else if (character == '<')
            fputs("&lt;", stream);
        else if (character == '>')
            fputs("&gt;", stream);
        else if (character == '"')
            fputs("&quot;", stream);
        else
            text_print(stream, one);
        text += length;
    }
}
