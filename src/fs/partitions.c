/* What GPT and MBR share: adding a partition that the disk has room for, order, overlap. */
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "fs/fs.h"

void
vx_partitions_refuse(struct vx_partitions *partitions, const char *reason, const char *cure)
{
    struct vhdx_layout_info *info = &partitions->info;

    if (info->verdict == VHDX_VERDICT_REFUSED)
        return;
    info->verdict = VHDX_VERDICT_REFUSED;
    snprintf(info->reason, sizeof info->reason, "%s", reason);
    snprintf(info->cure, sizeof info->cure, "%s", cure);
}

void
vx_partitions_add(struct vx_partitions *partitions, uint64_t disk_size, const struct vx_partition *partition)
{
    char reason[sizeof partitions->info.reason];

    if (partitions->count == VX_MAX_PARTITIONS) {
        vx_partitions_refuse(partitions, "the partition table has more partitions than are believed",
                             "look at the table in the guest with sfdisk --verify");
        return;
    }
    if (partition->length == 0 || partition->guest_offset > disk_size
        || partition->length > disk_size - partition->guest_offset) {
        snprintf(reason, sizeof reason, "partition %u ends past the end of the disk", partition->number);
        vx_partitions_refuse(partitions, reason, "look at the table in the guest with sfdisk --verify");
        return;
    }
    partitions->items[partitions->count++] = *partition;
}

/* At most 256, nearly always sorted already: the insertion sort is the right one. */
static void
sort(struct vx_partition *items, unsigned count)
{
    for (unsigned i = 1; i < count; i++) {
        struct vx_partition item = items[i];
        unsigned at = i;

        for (; at > 0 && items[at - 1].guest_offset > item.guest_offset; at--)
            items[at] = items[at - 1];
        items[at] = item;
    }
}

void
vx_partitions_settle(struct vx_partitions *partitions)
{
    struct vx_partition *items = partitions->items;
    char reason[sizeof partitions->info.reason];

    sort(items, partitions->count);
    for (unsigned i = 1; i < partitions->count; i++)
        if (items[i - 1].guest_offset + items[i - 1].length > items[i].guest_offset) {
            snprintf(reason, sizeof reason, "partitions %u and %u overlap", items[i - 1].number, items[i].number);
            vx_partitions_refuse(partitions, reason, "look at the table in the guest with sfdisk --verify");
        }
}
