/* Metadata of an image that its owner may change: items of his own, the identity of the disk, the sector size it reports. */
#ifndef VHDX_METADATA_H
#define VHDX_METADATA_H

#include <vhdx/chain.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VHDX_METADATA_ITEM_MOST  (1024 * 1024)      /* bytes of an item (V80) */
#define VHDX_METADATA_COUNT_MOST 1024               /* user items of an image (V84) */
#define VHDX_METADATA_TOTAL_MOST (40 * 1024 * 1024) /* bytes of them together (V90) */

/* A user item (docs/vhdx-format.md 2.8).  Borrowed for the call. */
struct vhdx_metadata_item {
    struct vhdx_guid id;
    uint32_t         length;
    bool             is_virtual_disk; /* belongs to the disk: children get a copy, a merge brings it to the parent.  Else to
                                       * this file alone */
};
typedef int (*vhdx_metadata_found)(void *context, const struct vhdx_metadata_item *item); /* non-zero ends the list */

/*
 * The user items of an image, in the order of its table.
 *
 *   flags    VHDX_OPEN_IGNORE_LOG, VHDX_OPEN_FORCE_SHARE
 *   returns  0, what `each` returned when it ended the list, or a code
 *   errors   those of vhdx_disk_open_path; parents are not looked for
 */
int vhdx_metadata_list_path(const char *path, unsigned flags, vhdx_metadata_found each, void *context,
                            struct vhdx_error *err);

/*
 * The bytes of a user item.
 *
 *   buffer, capacity  VHDX_METADATA_ITEM_MOST always suffices; *item tells how many bytes it has
 *   errors            VHDX_E_NOT_FOUND: no user item has this id; _RANGE: the buffer is too small
 */
int vhdx_metadata_get_path(const char *path, unsigned flags, const struct vhdx_guid *id, void *buffer, size_t capacity,
                           struct vhdx_metadata_item *item, struct vhdx_error *err);

enum vhdx_metadata_what {
    VHDX_METADATA_SET,            /* a user item is made, or gets other bytes */
    VHDX_METADATA_REMOVE,         /* a user item goes */
    VHDX_METADATA_DISK_ID,        /* the guest sees another disk (SCSI page 0x83) */
    VHDX_METADATA_PHYSICAL_SECTOR /* the sector size that is told as the medium's */
};

struct vhdx_metadata_change {
    enum vhdx_metadata_what what;
    struct vhdx_guid        id;     /* of the item, or of the disk; zero: a random one (not of REMOVE) */
    const void             *bytes;  /* of SET */
    size_t                  length;
    bool                    keeps_kind;      /* of SET: an item that is there stays the disk's or the file's, a new one is
                                              * the file's */
    bool                    is_virtual_disk; /* of SET, unless keeps_kind */
    uint32_t                sector_size;     /* of PHYSICAL_SECTOR: 512 or 4096, not below the logical one (V105) */
};

struct vhdx_metadata_options {
    const char *const *also;           /* more folders to search for children */
    size_t             also_count;
    bool               orphan_children; /* go on although images that depend on this one break */
    bool               dry_run;        /* judge only: nothing is written */
};

struct vhdx_metadata_result {
    struct vhdx_guid id;           /* of the item or the disk, also where it was drawn */
    bool             is_changed;   /* false: the image held it already, and nothing was written */
    bool             region_moved; /* the metadata region was full, or one log entry too small: a new one was made (9.10) */
    bool             is_dirty;     /* the image was not closed cleanly; its log is replayed first, unless dry_run */
};

/*
 * Change one thing, in one entry of the log: after a crash it is as it was or as it was to be.
 *
 * A guest, or whoever reads metadata, can notice: DataWriteGuid changes (5.4), so an image that is the parent of others is
 * refused.  Nobody may have the image open.
 *
 *   options, say, out   each may be NULL
 *   errors              VHDX_E_NOT_FOUND (REMOVE), _INVALID, _LIMIT (V80, V84, V90, the table, 128 MiB), _IN_USE, _HAS_CHILDREN,
 *                       _NEEDS_REPAIR, _NO_SPACE, _IO, ...
 *   threads             any number, for different files
 */
int vhdx_metadata_change_path(const char *path, const struct vhdx_metadata_change *change,
                              const struct vhdx_metadata_options *options, vhdx_say say, void *context,
                              struct vhdx_metadata_result *out, struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
