/*
 * What lies in a disk: table, volumes, and a first walk over each volume that can be read.
 *
 *   F4  A disk with a partition table that begins like a file system as well is refused: one of them is left over.
 *   F5  A volume is READABLE only after a whole walk over it succeeded: what a caller frees of one volume is never
 *       followed by finding out that the next one is damaged.
 *   F6  Under a table that is refused no volume is READABLE.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/fs.h"

#define OWN_READERS 3u
#define WIPEFS      "remove the stale signature in the guest with wipefs(8)"

struct vhdx_layout {
    struct vhdx_disk             *disk;
    struct vx_partitions          partitions;
    const struct vhdx_fs_reader **readers; /* the library's own first */
    size_t                        reader_count;
    struct vhdx_volume           *volumes; /* in order of their place */
    const struct vhdx_fs_reader **reader_of; /* of each volume, or NULL */
    size_t                        volume_count;
};

const char *
vhdx_partition_table_name(enum vhdx_partition_table table)
{
    static const char *const names[] = { "none", "MBR", "GPT" };

    return table <= VHDX_TABLE_GPT ? names[table] : "unknown";
}

const char *
vhdx_verdict_name(enum vhdx_verdict verdict)
{
    static const char *const names[] = { "readable", "left-alone", "refused" };

    return verdict <= VHDX_VERDICT_REFUSED ? names[verdict] : "unknown";
}

static int
gather_readers(struct vhdx_layout *layout, const struct vhdx_layout_options *options, struct vhdx_error *err)
{
    static const struct vhdx_fs_reader *const own[OWN_READERS] = { &vx_fat_reader, &vx_exfat_reader,
                                                                   &vx_swap_reader };
    size_t more = options != NULL ? options->reader_count : 0;

    if (more > 1000)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "%zu readers of file systems", more);
    layout->readers = vx_alloc_zeroed(OWN_READERS + more, sizeof *layout->readers);
    if (layout->readers == NULL)
        return vx_fail_memory(err, "the readers of file systems");
    for (size_t i = 0; i < OWN_READERS; i++)
        layout->readers[layout->reader_count++] = own[i];
    for (size_t i = 0; i < more; i++) {
        if (options->readers[i]->version != VHDX_FS_READER_VERSION)
            return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                           "a reader of file systems has version %u, this library takes %u",
                           options->readers[i]->version, VHDX_FS_READER_VERSION);
        layout->readers[layout->reader_count++] = options->readers[i];
    }
    return VHDX_OK;
}

/* A VHDX says what its sectors are; a raw file does not, but a GPT's header lies in its second one. */
static int
find_sector_size(struct vhdx_disk *disk, uint32_t *out, struct vhdx_error *err)
{
    struct vhdx_info *info = vx_alloc(sizeof *info);
    bool is_4096 = false;
    int rc;

    if (info == NULL)
        return vx_fail_memory(err, "what is known of a disk");
    rc = vhdx_disk_get_info(disk, 0, info, err);
    *out = rc == VHDX_OK && info->format == VHDX_FORMAT_VHDX ? info->logical_sector_size : 512;
    if (rc == VHDX_OK && info->format == VHDX_FORMAT_RAW)
        rc = vx_gpt_is_there(disk, 4096, &is_4096, err);
    if (is_4096)
        *out = 4096;
    vx_free(info);
    return rc;
}

/* The disk as one volume, probed. */
static int
probe_bare(struct vhdx_layout *layout, struct vhdx_volume *volume, const struct vhdx_fs_reader **reader,
           struct vhdx_error *err)
{
    *volume = (struct vhdx_volume){ .disk = layout->disk, .length = vhdx_disk_size(layout->disk) };
    return vx_volume_probe(volume, layout->readers, layout->reader_count, reader, err);
}

static bool
is_unknown(const struct vhdx_volume *volume)
{
    return strcmp(volume->kind, "unknown") == 0 && volume->verdict != VHDX_VERDICT_REFUSED;
}

static int
read_table(struct vhdx_layout *layout, uint32_t sector_size, enum vx_mbr_kind kind, struct vhdx_error *err)
{
    if (kind == VX_MBR_PROTECTIVE)
        return vx_gpt_read(&layout->partitions, layout->disk, sector_size, err);
    return vx_mbr_read(&layout->partitions, layout->disk, sector_size, err);
}

static int
make_volumes(struct vhdx_layout *layout, size_t count, struct vhdx_error *err)
{
    layout->volumes = vx_alloc_zeroed(count, sizeof *layout->volumes);
    layout->reader_of = vx_alloc_zeroed(count, sizeof *layout->reader_of);
    if (layout->volumes == NULL || layout->reader_of == NULL)
        return vx_fail_memory(err, "the volumes of a disk");
    layout->volume_count = count;
    return VHDX_OK;
}

static int
probe_partition(struct vhdx_layout *layout, size_t index, struct vhdx_error *err)
{
    const struct vx_partition *partition = &layout->partitions.items[index];
    struct vhdx_volume *volume = &layout->volumes[index];

    *volume = (struct vhdx_volume){ .disk = layout->disk, .guest_offset = partition->guest_offset,
                                    .length = partition->length, .number = partition->number };
    if (partition->kind == NULL)
        return vx_volume_probe(volume, layout->readers, layout->reader_count, &layout->reader_of[index], err);
    snprintf(volume->kind, sizeof volume->kind, "%s", partition->kind);
    vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, partition->reason, NULL);
    return VHDX_OK;
}

static int
make_partitions(struct vhdx_layout *layout, struct vhdx_error *err)
{
    uint64_t end = 0;
    int rc = make_volumes(layout, layout->partitions.count, err);

    for (size_t i = 0; rc == VHDX_OK && i < layout->volume_count; i++) {
        rc = probe_partition(layout, i, err);
        end = vx_max_u64(end, layout->volumes[i].guest_offset + layout->volumes[i].length);
    }
    layout->partitions.info.minimum_size += end; /* to the room a GPT's second copy wants */
    return rc;
}

/* What is written in the first sectors decides between a table and one volume over all of the disk. */
static int
find_volumes(struct vhdx_layout *layout, struct vhdx_error *err)
{
    struct vhdx_layout_info *info = &layout->partitions.info;
    uint8_t sector[512] = { 0 };
    uint64_t size = vhdx_disk_size(layout->disk);
    const struct vhdx_fs_reader *reader;
    struct vhdx_volume bare;
    enum vx_mbr_kind kind;
    bool has_gpt;
    int rc = vhdx_disk_read(layout->disk, sector, (size_t)vx_min_u64(size, sizeof sector), 0, err);

    if (rc == VHDX_OK)
        rc = find_sector_size(layout->disk, &info->sector_size, err);
    if (rc == VHDX_OK)
        rc = vx_gpt_is_there(layout->disk, info->sector_size, &has_gpt, err);
    if (rc == VHDX_OK)
        rc = probe_bare(layout, &bare, &reader, err);
    if (rc < 0)
        return rc;

    kind = vx_mbr_judge(sector, size, info->sector_size);
    if (kind == VX_MBR_PARTITIONS || kind == VX_MBR_PROTECTIVE) {
        if (!is_unknown(&bare)) /* F4 */
            vx_partitions_refuse(&layout->partitions,
                                 "the disk has a partition table and begins like a file system as well", WIPEFS);
        rc = read_table(layout, info->sector_size, kind, err);
        return rc < 0 ? rc : make_partitions(layout, err);
    }
    if (has_gpt)
        vx_partitions_refuse(&layout->partitions, "the disk has a GPT without its protective MBR",
                             "repair the table in the guest (gdisk: x, n, then w)");
    rc = vx_volume_own_length(&bare, &info->minimum_size, err);
    if (rc == VHDX_OK)
        rc = make_volumes(layout, 1, err);
    if (rc == VHDX_OK) {
        layout->volumes[0] = bare;
        layout->reader_of[0] = reader;
    }
    return rc;
}

static int
count_bytes(void *context, uint64_t guest_offset, uint64_t length)
{
    uint64_t *sum = context;

    (void)guest_offset;
    *sum += length; /* of ranges that share no byte: at most the volume */
    return VHDX_OK;
}

/* F5.  Damage is a verdict; a failed read is an error. */
static int
walk_once(struct vhdx_layout *layout, size_t index, struct vhdx_error *err)
{
    struct vhdx_volume *volume = &layout->volumes[index];
    struct vhdx_error damage = { .message = "" };
    int rc = vx_volume_walk(volume, layout->reader_of[index], count_bytes, &volume->free_bytes, &damage);

    if (rc == VHDX_E_BAD_VOLUME || rc == VHDX_E_RANGE) {
        volume->free_bytes = 0;
        layout->reader_of[index] = NULL;
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, damage.message, "check the file system in the guest");
        return VHDX_OK;
    }
    if (rc < 0 && err != NULL)
        *err = damage;
    return rc;
}

static int
judge_volumes(struct vhdx_layout *layout, unsigned flags, struct vhdx_error *err)
{
    bool is_refused = layout->partitions.info.verdict == VHDX_VERDICT_REFUSED;
    int rc = VHDX_OK;

    for (size_t i = 0; rc == VHDX_OK && i < layout->volume_count; i++) {
        if (layout->volumes[i].verdict != VHDX_VERDICT_READABLE)
            continue;
        if (is_refused) { /* F6 */
            layout->reader_of[i] = NULL;
            vhdx_volume_judge(&layout->volumes[i], VHDX_VERDICT_LEFT_ALONE, "the partition table is refused", NULL);
        } else if ((flags & VHDX_LAYOUT_NO_FREE) == 0) {
            rc = walk_once(layout, i, err);
        }
    }
    return rc;
}

int
vhdx_layout_open(struct vhdx_layout **out, struct vhdx_disk *disk, const struct vhdx_layout_options *options,
                 struct vhdx_error *err)
{
    struct vhdx_layout *layout = vx_alloc_zeroed(1, sizeof *layout);
    int rc;

    if (layout == NULL)
        return vx_fail_memory(err, "what lies in a disk");
    layout->disk = disk;
    rc = gather_readers(layout, options, err);
    if (rc == VHDX_OK && vhdx_disk_size(disk) > 0)
        rc = find_volumes(layout, err);
    if (rc == VHDX_OK)
        rc = judge_volumes(layout, options != NULL ? options->flags : 0, err);
    if (rc < 0) {
        vhdx_layout_close(layout);
        return rc;
    }
    *out = layout;
    return VHDX_OK;
}

void
vhdx_layout_close(struct vhdx_layout *layout)
{
    if (layout == NULL)
        return;
    vx_free(layout->readers);
    vx_free(layout->volumes);
    vx_free(layout->reader_of);
    vx_free(layout);
}

const struct vhdx_layout_info *
vhdx_layout_get_info(const struct vhdx_layout *layout)
{
    return &layout->partitions.info;
}

size_t
vhdx_layout_volume_count(const struct vhdx_layout *layout)
{
    return layout->volume_count;
}

const struct vhdx_volume *
vhdx_layout_volume(const struct vhdx_layout *layout, size_t index)
{
    return &layout->volumes[index];
}

int
vhdx_layout_walk_free(struct vhdx_layout *layout, size_t index, vhdx_free_range each, void *context,
                      struct vhdx_error *err)
{
    if (index >= layout->volume_count)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "volume %zu of %zu", index,
                       layout->volume_count);
    if (layout->volumes[index].verdict != VHDX_VERDICT_READABLE)
        return VHDX_OK;
    return vx_volume_walk(&layout->volumes[index], layout->reader_of[index], each, context, err);
}

int
vhdx_layout_refusal(const struct vhdx_layout *layout, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = &layout->partitions.info;

    if (info->verdict == VHDX_VERDICT_REFUSED)
        return vx_bad_volume(err, "%s: %s", info->reason, info->cure);
    for (size_t i = 0; i < layout->volume_count; i++) {
        const struct vhdx_volume *volume = &layout->volumes[i];
        char where[32] = "the disk";

        if (volume->verdict != VHDX_VERDICT_REFUSED)
            continue;
        if (volume->number > 0)
            snprintf(where, sizeof where, "partition %u", volume->number);
        return vx_bad_volume(err, "%s (%s): %s%s%s", where, volume->kind, volume->reason,
                             volume->cure[0] != '\0' ? ": " : "", volume->cure);
    }
    return VHDX_OK;
}
