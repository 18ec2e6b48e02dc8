/* See cut.h. */
#include "cut.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "message.h"
#include "sizes.h"

#define MIB         (UINT64_C(1) << 20)
#define BUFFER_SIZE ((size_t)MIB)
#define EXTENTS     64

/* Nobody knows what such a disk holds: what counts is where it has data. */
static bool
is_unknown(const struct vhdx_layout *layout)
{
    const struct vhdx_volume *volume = vhdx_layout_volume(layout, 0);

    return vhdx_layout_get_info(layout)->table == VHDX_TABLE_NONE && strcmp(volume->kind, "unknown") == 0 &&
           volume->verdict != VHDX_VERDICT_REFUSED;
}

uint64_t
cut_least_size(const struct vhdx_disk *disk, const struct vhdx_layout *layout)
{
    uint64_t least = (vhdx_layout_get_info(layout)->minimum_size + MIB - 1) / MIB * MIB;
    uint64_t size = vhdx_disk_size(disk);

    if (least < MIB)
        least = MIB;
    return least < size ? least : size;
}

/* --- partitions and file systems --- */

static int
refuse_volume(const struct vhdx_volume *volume, uint64_t end, uint64_t new_size, struct vhdx_error *err)
{
    char ends[SIZE_TEXT_SIZE], wanted[SIZE_TEXT_SIZE], kind[sizeof volume->kind + 4];

    size_long(ends, end);
    size_long(wanted, new_size);
    if (volume->number == 0)
        return fail(err, VHDX_E_RANGE, "%s takes %s of the disk: one of %s would cut it", volume->kind, ends, wanted);
    snprintf(kind, sizeof kind, " (%s)", volume->kind);
    return fail(err, VHDX_E_RANGE, "partition %u%s ends at %s: a disk of %s would cut it", volume->number,
                strcmp(volume->kind, "unknown") == 0 ? "" : kind, ends, wanted);
}

static int
judge_volumes(const struct vhdx_layout *layout, uint64_t new_size, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = vhdx_layout_get_info(layout);
    char least[SIZE_TEXT_SIZE];

    if (info->verdict == VHDX_VERDICT_REFUSED)
        return fail(err, VHDX_E_BAD_VOLUME, "%s", info->reason);
    if (new_size >= info->minimum_size || is_unknown(layout))
        return VHDX_OK;
    for (size_t i = vhdx_layout_volume_count(layout); i-- > 0;) {
        const struct vhdx_volume *volume = vhdx_layout_volume(layout, i);
        uint64_t end = info->table == VHDX_TABLE_NONE ? info->minimum_size : volume->guest_offset + volume->length;

        if (end > new_size)
            return refuse_volume(volume, end, new_size, err);
    }
    return fail(err, VHDX_E_RANGE, "behind its partitions the GPT needs room for its second copy: %s at least",
                size_long(least, info->minimum_size));
}

/* --- data outside of any --- */

struct search {
    struct vhdx_disk *disk;
    uint64_t          backup_offset, backup_end; /* not counted */
    uint8_t          *buffer;
};

static int
find_byte(const struct search *search, uint64_t from, uint64_t to, uint64_t *found, struct vhdx_error *err)
{
    while (from < to) {
        size_t n = to - from < BUFFER_SIZE ? (size_t)(to - from) : BUFFER_SIZE;
        int rc = vhdx_disk_read(search->disk, search->buffer, n, from, err);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < n; i++)
            if (search->buffer[i] != 0 && (from + i < search->backup_offset || from + i >= search->backup_end)) {
                *found = from + i;
                return 1;
            }
        from += n;
    }
    return 0;
}

/* 1 when something other than zeros lies at or after `from`. */
static int
find_data(const struct search *search, uint64_t from, uint64_t *found, struct vhdx_error *err)
{
    uint64_t end = vhdx_disk_size(search->disk);

    while (from < end) {
        struct vhdx_extent extents[EXTENTS];
        size_t count;
        int rc = vhdx_disk_resolve_sparse(search->disk, from, end - from, extents, EXTENTS, &count, err);

        for (size_t i = 0; rc == 0 && i < count; i++) {
            if ((extents[i].flags & VHDX_EXTENT_DATA) != 0)
                rc = find_byte(search, from, from + extents[i].length, found, err);
            from += extents[i].length;
        }
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int
judge_data(struct vhdx_disk *disk, const struct vhdx_layout *layout, uint64_t new_size, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = vhdx_layout_get_info(layout);
    struct search search = { .disk = disk, .backup_offset = info->backup_offset,
                             .backup_end = info->backup_offset + info->backup_length,
                             .buffer = need_memory(malloc(BUFFER_SIZE)) };
    char where[SIZE_TEXT_SIZE];
    uint64_t found;
    int rc = find_data(&search, new_size, &found, err);

    free(search.buffer);
    if (rc <= 0)
        return rc;
    return fail(err, VHDX_E_RANGE, "there is data outside of any partition or file system, at %s: it would be cut off",
                size_long(where, found));
}

int
cut_judge(struct vhdx_disk *disk, const struct vhdx_layout *layout, uint64_t new_size, struct vhdx_error *err)
{
    int rc = judge_volumes(layout, new_size, err);

    return rc == VHDX_OK ? judge_data(disk, layout, new_size, err) : rc;
}
