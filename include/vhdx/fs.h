/*
 * What lies in a disk: its partition table, its volumes, and which bytes of them no file needs.
 *
 * The library reads GPT and MBR, FAT, exFAT and Linux swap.  ext2/3/4 and NTFS come from readers that the caller plugs in
 * (struct vhdx_fs_reader); what nobody reads is recognised by its signature and left alone.
 *
 * Everything here errs to one side: a byte that may be live is never called free.  A volume whose state says that its own
 * tables may lie (dirty, hibernated, damaged, a feature nobody here knows) is refused with the cure named.
 *
 * Not one byte is written.  Nothing may change the disk from vhdx_layout_open to the end of the last walk, except to zero
 * or trim ranges that a walk reported.
 */
#ifndef VHDX_FS_H
#define VHDX_FS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/disk.h>
#include <vhdx/error.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A range that no file needs, in bytes on the disk.  Non-zero ends the walk, which returns it. */
typedef int (*vhdx_free_range)(void *context, uint64_t guest_offset, uint64_t length);

enum vhdx_verdict {
    VHDX_VERDICT_READABLE,   /* its free ranges are known */
    VHDX_VERDICT_LEFT_ALONE, /* nothing of it is known to be free; that is no fault of the disk's */
    VHDX_VERDICT_REFUSED     /* its tables cannot be trusted as they are; `cure` says what helps */
};

/* One partition, or the whole of a disk that has no partition table. */
struct vhdx_volume {
    struct vhdx_disk *disk;         /* borrowed */
    uint64_t          guest_offset; /* bytes */
    uint64_t          length;       /* bytes; not zero; the range lies inside the disk */
    unsigned          number;       /* as the partition table counts, from 1 (logical partitions from 5); 0: the disk */
    enum vhdx_verdict verdict;
    uint64_t          free_bytes;   /* of a READABLE volume, all its free ranges together; see VHDX_LAYOUT_NO_FREE */
    char              kind[32];     /* "ext4", "NTFS", "FAT32", "exFAT", "swap", "XFS", ..., "unknown" */
    char              label[160];   /* of the file system; UTF-8, control characters escaped; may be empty */
    char              reason[200];  /* why it is not READABLE, one line; empty when it is */
    char              cure[200];    /* what helps, one line; empty when nothing is known to */
};

/* Read bytes of a volume.  `offset` counts from its beginning; beyond its end it is VHDX_E_RANGE, whatever lies there. */
int vhdx_volume_read(const struct vhdx_volume *volume, void *buffer, size_t length, uint64_t offset,
                     struct vhdx_error *err);

/* Set the verdict, reason and cure of a volume: for readers.  Both texts are cut to fit; cure may be NULL. */
void vhdx_volume_judge(struct vhdx_volume *volume, enum vhdx_verdict verdict, const char *reason, const char *cure);

#define VHDX_FS_READER_VERSION 1u

/*
 * Reads one family of file systems.  A reader in a shared object is a `const struct vhdx_fs_reader vhdx_fs_reader_v1`.
 *
 * Everything it reads is hostile: numbers are checked before they are used, loops are bounded.  Unknown feature bits are
 * a refusal.
 */
struct vhdx_fs_reader {
    unsigned    version; /* VHDX_FS_READER_VERSION */
    const char *name;    /* "ext" */
    const char *kinds;   /* of the volumes it takes, for people: "ext2, ext3, ext4" */

    /* Is it this reader's?  Sets kind, label and verdict (READABLE on entry) from as little as tells.
     * Returns 1 when it is, 0 when not, or a code. */
    int (*probe)(struct vhdx_volume *volume, struct vhdx_error *err);

    /*
     * Report every free range of a volume that its probe called READABLE, ascending, in bytes on the disk.  All of the
     * file system's tables are judged before the first range is reported.
     * Returns 0, what `each` returned, or a code; VHDX_E_BAD_VOLUME when the tables cannot be trusted.
     */
    int (*walk_free)(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err);
};

enum vhdx_partition_table { VHDX_TABLE_NONE, VHDX_TABLE_MBR, VHDX_TABLE_GPT };

/* "none", "MBR", "GPT"; "readable", "left-alone", "refused".  Static strings. */
const char *vhdx_partition_table_name(enum vhdx_partition_table table);
const char *vhdx_verdict_name(enum vhdx_verdict verdict);

struct vhdx_layout_info {
    enum vhdx_partition_table table;
    uint32_t          sector_size;    /* bytes; what the table counts in */
    bool              backup_is_good; /* GPT: the second copy is whole and says the same */
    bool              backup_is_last; /* GPT: it lies in the last sector of the disk, where it belongs */
    uint64_t          backup_offset, backup_length; /* GPT: where the second copy lies when it is good; bytes */
    uint64_t          minimum_size;   /* bytes; of the smallest disk that cuts no volume and has room for the table; without one,
                                       * what the file system over all of the disk says it takes, or the disk's size */
    enum vhdx_verdict verdict;        /* of the table: REFUSED means that no volume of it is READABLE */
    char              reason[200];
    char              cure[200];
};

#define VHDX_LAYOUT_NO_FREE 1u /* do not walk free ranges: free_bytes stays 0 and faults that need a walk stay unseen */

struct vhdx_layout_options {
    unsigned                            flags; /* VHDX_LAYOUT_* */
    const struct vhdx_fs_reader *const *readers; /* asked beside the library's own; borrowed until close */
    size_t                              reader_count;
};

struct vhdx_layout;

/*
 * Find out what lies in a disk.  Every READABLE volume has been walked once (but see VHDX_LAYOUT_NO_FREE), so that what
 * its tables hold of damage is in its verdict before a caller changes anything.
 *
 *   out      the caller closes it with vhdx_layout_close, before the disk
 *   options  may be NULL
 *   errors   VHDX_E_IO and others of vhdx_disk_read, _NO_MEMORY, _INVALID (a reader of another version).  What is wrong
 *            *inside* the disk is no error but a verdict
 *   threads  one at a time for one layout
 */
int vhdx_layout_open(struct vhdx_layout **out, struct vhdx_disk *disk, const struct vhdx_layout_options *options,
                     struct vhdx_error *err);

/* NULL is fine. */
void vhdx_layout_close(struct vhdx_layout *layout);

/* Live as long as the layout.  Volumes are in order of their place; index < vhdx_layout_volume_count. */
const struct vhdx_layout_info *vhdx_layout_get_info(const struct vhdx_layout *layout);
size_t vhdx_layout_volume_count(const struct vhdx_layout *layout);
const struct vhdx_volume *vhdx_layout_volume(const struct vhdx_layout *layout, size_t index);

/*
 * Report the free ranges of one volume: ascending, not touching each other, inside the volume.  `each` may zero or trim
 * what it is told.  A volume that is not READABLE reports none.
 *
 *   returns  0, what `each` returned when it ended the walk, or a code
 */
int vhdx_layout_walk_free(struct vhdx_layout *layout, size_t index, vhdx_free_range each, void *context,
                          struct vhdx_error *err);

/*
 * The first thing that speaks against freeing: the table's refusal, or that of the first volume refused.
 *
 *   returns  0 when nothing is refused, or VHDX_E_BAD_VOLUME with volume, reason and cure in the message
 */
int vhdx_layout_refusal(const struct vhdx_layout *layout, struct vhdx_error *err);

/*
 * Make the GPT of a disk fit `disk_size`: its second copy lies at that end, the first one says so, and the protective MBR
 * covers it.  For a disk that has grown, and before a disk shrinks; what the table fits already is not written.  At every
 * moment one copy is whole.
 *
 *   disk         open for writing
 *   sector_size  as vhdx_layout_info tells
 *   disk_size    bytes, a multiple of sector_size, at most the disk's size
 *   is_changed   whether anything was written
 *   errors       VHDX_E_BAD_VOLUME (no GPT that can be believed), _INVALID (a partition lies in the way), and those of
 *                reading and writing
 */
int vhdx_gpt_fit(struct vhdx_disk *disk, uint32_t sector_size, uint64_t disk_size, bool *is_changed,
                 struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
