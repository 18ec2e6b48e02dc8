/* Jobs over disks and images: create, copy, compare, check, replay. */
#ifndef VHDX_OPS_H
#define VHDX_OPS_H

#include <vhdx/disk.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Progress of a long job, and the way to stop it.  Called now and then, from one thread at a time.
 * A non-zero return cancels the job: it ends with VHDX_E_CANCELLED at a consistent point.  NULL: neither.
 */
struct vhdx_progress {
    int (*report)(void *context, uint64_t done, uint64_t total);
    void *context;
};

/*
 * How much of the host's space a new file takes at once.  It is about what the file maps: of a fixed image everything, of a
 * dynamic or differencing one its headers, log, metadata and table.
 */
enum vhdx_preallocation {
    VHDX_PREALLOCATE_DEFAULT, /* FALLOC for fixed images, OFF for others */
    VHDX_PREALLOCATE_OFF,     /* only what is written takes space, the rest of the file is holes */
    VHDX_PREALLOCATE_FALLOC,  /* the host sets the space aside; as OFF where it has no such call (9p, old NFS) */
    VHDX_PREALLOCATE_FULL     /* zeros are written: certain everywhere, and slow */
};

struct vhdx_create_options {
    enum vhdx_image_type type;                 /* DYNAMIC or FIXED; children are made by a later release */
    uint64_t             virtual_size;         /* bytes, a multiple of the logical sector size, up to 64 TiB */
    uint32_t             block_size;           /* 0: 2 MiB, 32 MiB above 8 TiB */
    uint32_t             logical_sector_size;  /* 0: 512 */
    uint32_t             physical_sector_size; /* 0: 4096 */
    uint64_t             log_size;             /* 0: 1 MiB; a multiple of 1 MiB */
    struct vhdx_guid     disk_id;              /* all zero: random */
    const char          *creator;              /* ASCII; NULL: "libvhdx <version>" */
    enum vhdx_preallocation preallocation;     /* of vhdx_write_vhdx_stream: not looked at */
};

/*
 * Create an image (docs/vhdx-format.md, 9.1 and 9.2).  The file type identifier is written last, after everything else
 * is durable: an interrupted creation is never taken for an image.
 *
 *   path       made new (O_EXCL); removed again when creation fails.  The directory is flushed
 *   storage    vhdx_create_on_storage: an empty storage; borrowed, stays open
 *   overwrite  an existing regular file or block device is written over; its old identifier goes first
 */
int vhdx_create_path(const char *path, bool overwrite, const struct vhdx_create_options *options,
                     const struct vhdx_progress *progress, struct vhdx_error *err);
int vhdx_create_on_storage(struct vhdx_storage *storage, const struct vhdx_create_options *options,
                           const struct vhdx_progress *progress, struct vhdx_error *err);

/*
 * Create a fixed VHD, the format before VHDX, which Azure takes.  It reads as zeros; open it for writing to fill it.  The
 * footer, which makes it one, is written last.
 *
 *   options    virtual_size (whole sectors, up to 2040 GiB; Azure wants whole MiBs), disk_id and preallocation count; a
 *              logical sector has 512 bytes
 *   overwrite  as of vhdx_create_path, for regular files
 */
int vhdx_create_vhd_path(const char *path, bool overwrite, const struct vhdx_create_options *options,
                         const struct vhdx_progress *progress, struct vhdx_error *err);

/*
 * Take the host's space for all of a file, whatever is in it; no byte changes.  For a raw file before it is filled, and for a
 * dynamic image after it was: blocks of which only parts were written have holes.
 *
 *   path   exists; nobody else has it open
 *   size   a shorter file grows to this, with zeros; 0: it stays as long as it is
 *   how    FALLOC, or FULL: zeros are written past the old end and where the host tells of holes.  Else nothing happens
 *   errors VHDX_E_NO_SPACE, _IN_USE, _CANCELLED, _IO, ...; the file may have grown
 */
int vhdx_preallocate_path(const char *path, uint64_t size, enum vhdx_preallocation how,
                          const struct vhdx_progress *progress, struct vhdx_error *err);

/*
 * Copy the guest contents of `from` to `to`, which reads as zeros everywhere (a new image or a new sparse file) and is
 * at least as large.  Holes and zero runs are skipped.  Ends with a flush of `to`.
 */
struct vhdx_copy_options {
    unsigned thread_count;      /* 0: one per processor, at most 8 */
    bool     detect_zeros;      /* also skip runs of zero bytes in data (4 KiB grain) */
};
int vhdx_copy(struct vhdx_disk *from, struct vhdx_disk *to, const struct vhdx_copy_options *options,
              const struct vhdx_progress *progress, struct vhdx_error *err);

/*
 * Write the guest contents, every byte in order, to a descriptor that need not seek (a pipe).  No SIGPIPE and no SIGXFSZ
 * is raised: a reader that went away is VHDX_E_IO with system_errno EPIPE.  A descriptor that does not block is waited for.
 */
int vhdx_write_raw_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_progress *progress,
                          struct vhdx_error *err);

/*
 * Write a whole VHDX file, in order, to a descriptor that need not seek, as vhdx_write_raw_stream does.  The extents of
 * `from` are read first, so that the block allocation table can be sent ahead of the blocks: nobody may write to it
 * meanwhile.
 *
 *   options   NULL: a dynamic image.  virtual_size is taken from `from`; zeros complete its last sector
 */
int vhdx_write_vhdx_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_create_options *options,
                           const struct vhdx_progress *progress, struct vhdx_error *err);

/*
 * Write a whole fixed VHD to a descriptor that need not seek, as vhdx_write_raw_stream does: the disk, zeros up to
 * virtual_size, the footer.
 *
 *   options   as of vhdx_create_vhd_path; virtual_size 0: the disk's, rounded up to whole sectors
 */
int vhdx_write_vhd_stream(struct vhdx_disk *from, int descriptor, const struct vhdx_create_options *options,
                          const struct vhdx_progress *progress, struct vhdx_error *err);

/* What a copy of a disk would take: lengths of files, in bytes. */
struct vhdx_measure_result {
    uint64_t virtual_size;
    uint64_t data_bytes;        /* of the disk, that are not left out as zeros: a sparse file takes about so much */
    uint64_t raw_file_size;
    uint64_t dynamic_file_size; /* exactly what vhdx_create_path, vhdx_copy and vhdx_disk_close leave */
    uint64_t fixed_file_size;
    uint64_t vhd_file_size;     /* of a fixed VHD; 0 when the disk is too large for one */
};

/*
 * How large would the copies of a disk be?  Nothing is written.
 *
 *   options       the shape of the new images; type and virtual_size are not looked at; NULL: as vhdx_create_path has it
 *   detect_zeros  as of vhdx_copy: all data is read
 *   errors        VHDX_E_INVALID (options), _CANCELLED, and those of vhdx_disk_read
 *   threads       as of vhdx_disk_read
 */
int vhdx_measure(struct vhdx_disk *from, const struct vhdx_create_options *options, bool detect_zeros,
                 const struct vhdx_progress *progress, struct vhdx_measure_result *out, struct vhdx_error *err);

/*
 * Compare guest contents.  The shorter disk counts as followed by zeros; *is_equal is about contents,
 * *first_difference is the guest offset of the first differing byte when not equal.
 */
int vhdx_compare(struct vhdx_disk *a, struct vhdx_disk *b, const struct vhdx_progress *progress, bool *is_equal,
                 uint64_t *first_difference, struct vhdx_error *err);

/* What a check found, in sum. */
struct vhdx_check_summary {
    uint64_t            finding_count[VHDX_SEVERITY_REFUSE + 1]; /* by severity */
    uint64_t            leaked_bytes;      /* V148, V149: space nothing refers to */
    uint64_t            allocated_blocks, total_blocks;
    uint64_t            file_size, virtual_size;
    bool                is_dirty;          /* a log to be replayed; the findings are about the replayed view */
    bool                is_complete;       /* every rule that applies could be looked at */
};
struct vhdx_check_options {
    bool ignore_log;
};

/*
 * Check every rule that can be decided without a parent, in the order of docs/vhdx-format.md 8.10, and go on after
 * findings as far as anything can be trusted.  Nothing is written.
 *
 *   report    called once per finding, may be NULL; the finding is borrowed for the call
 *   returns   0 when the check ran, whatever it found; a code when it could not (I/O, memory, not a VHDX at all)
 */
int vhdx_check_storage(struct vhdx_storage *storage, const struct vhdx_check_options *options,
                       void (*report)(void *context, const struct vhdx_error *finding), void *context,
                       const struct vhdx_progress *progress, struct vhdx_check_summary *out, struct vhdx_error *err);

/* Replay the log of an image into it (docs/vhdx-format.md, 6.5).  *was_dirty tells whether there was anything to do. */
int vhdx_replay_path(const char *path, bool *was_dirty, struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
