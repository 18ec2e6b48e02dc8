/* exFAT, between its two files: the volume's numbers, and the walk that holds the bitmap against the directories. */
#ifndef VX_EXFAT_H
#define VX_EXFAT_H

#include "fs/fs.h"

#define VX_EXFAT_WINDOW 16384u /* entries of the FAT held in memory */

struct vx_exfat {
    uint32_t sector_size;
    uint64_t cluster_size;
    uint64_t fat_at, clusters_at; /* bytes in the volume */
    uint32_t cluster_count;       /* clusters are numbered from 2 */
    uint32_t root_cluster;
};

/* Clusters that belong together.  By the FAT to its end, or `contiguous` ones from `first` on when that is not 0. */
struct vx_exfat_chain {
    uint32_t first;
    uint64_t contiguous;
};

struct vx_exfat_walk {
    const struct vhdx_volume *volume;
    const struct vx_exfat    *exfat;
    struct vx_bits            used;    /* the volume's bitmap; cluster 2 is bit 0 */
    struct vx_bits            claimed; /* by a file, a directory or a table */
    struct vx_exfat_chain     bitmap;  /* first is 0 until found */
    uint64_t                  bitmap_length; /* bytes */
    struct vx_exfat_chain    *directories; /* owned; still to be read */
    size_t                    directory_count, directory_capacity;
    uint8_t                  *window;  /* owned; VX_EXFAT_WINDOW entries from window_start on */
    uint64_t                  window_start;
    uint8_t                  *buffer;  /* owned; a piece of a directory */
};

int  vx_exfat_walk_init(struct vx_exfat_walk *walk, const struct vhdx_volume *volume, const struct vx_exfat *exfat,
                        struct vhdx_error *err);
void vx_exfat_walk_free(struct vx_exfat_walk *walk);

/* Fill walk->used from the bitmap, and prove that no cluster is claimed that it calls free, or twice. */
int vx_exfat_walk_run(struct vx_exfat_walk *walk, struct vhdx_error *err);

#endif
