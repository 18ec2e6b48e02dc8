/* Repairing an image: what a check found, mended by rule, with a way back. */
#ifndef VHDX_REPAIR_H
#define VHDX_REPAIR_H

#include <vhdx/ops.h>
#include <vhdx/rules.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Classes of repair, to be joined.  A rule's remedy says which class mends it. */
#define VHDX_REPAIR_CLASS(remedy) (1u << (remedy))
#define VHDX_REPAIR_ALL                                                                                             \
    (VHDX_REPAIR_CLASS(VHDX_REMEDY_HEADERS) | VHDX_REPAIR_CLASS(VHDX_REMEDY_REGIONS) |                              \
     VHDX_REPAIR_CLASS(VHDX_REMEDY_LOG) | VHDX_REPAIR_CLASS(VHDX_REMEDY_METADATA) |                                 \
     VHDX_REPAIR_CLASS(VHDX_REMEDY_BAT) | VHDX_REPAIR_CLASS(VHDX_REMEDY_LEAKS))

/* One step of a plan: something that is mended, or that is left as it is and why.  Borrowed for the call. */
struct vhdx_repair_step {
    enum vhdx_remedy remedy;      /* the class it belongs to; REPLAY when the log is replayed, whatever was asked for */
    int              rule;        /* that is broken */
    bool             is_left;     /* nothing is done here: the message says why */
    bool             is_loss;     /* what was there, or was not, is lost now for certain */
    uint64_t         file_offset; /* of what is written first, or VHDX_NO_OFFSET */
    uint64_t         guest_offset, guest_length; /* bytes of the disk the step is about; length 0: none, or not known */
    char             message[320];
};

struct vhdx_repair_result {
    uint64_t steps;       /* done, or with dry_run to be done */
    uint64_t left;        /* left as they are */
    uint64_t lost_bytes;  /* of the disk, whose contents are lost */
    bool     changes_contents; /* a guest could notice: DataWriteGuid is new, which breaks children (V122) */
};

struct vhdx_repair_options {
    unsigned classes;     /* VHDX_REPAIR_CLASS, joined */
    bool     dry_run;     /* tell the steps; the storage is only read */
};

/*
 * Mend what is broken, class by class, in the order later ones depend on: headers, log, regions, metadata, bat, leaks.  Every
 * step follows a rule; where nothing but a guess would help, the step is told as left.  What is lost is told with its place
 * on the disk before it is written.
 *
 *   - A log that can be replayed is replayed first, whichever classes are asked for.
 *   - Cut anywhere, the image opens no worse than before, and calling again finishes.  A second run finds nothing.
 *   - FileWriteGuid is new before anything else is written, DataWriteGuid before anything a guest could notice.
 *
 *   storage   of one image, open for writing unless dry_run; parents need not be there
 *   tell      called once per step, before it is carried out; may be NULL
 *   out       filled as far as it got; may be NULL
 *   returns   0 when it ran, whatever was left
 *   errors    VHDX_E_NOT_VHDX, _READ_ONLY, _UNSUPPORTED (another version of the format), _CANCELLED (at a consistent
 *             point), _IO, ...
 *   threads   any number, for different storages
 */
int vhdx_repair_storage(struct vhdx_storage *storage, const struct vhdx_repair_options *options,
                        void (*tell)(void *context, const struct vhdx_repair_step *step), void *context,
                        const struct vhdx_progress *progress, struct vhdx_repair_result *out, struct vhdx_error *err);

struct vhdx_repair_path_options {
    unsigned    classes;
    bool        dry_run;
    bool        orphan_children; /* go on although images that depend on this one break */
    const char *undo_path;       /* NULL: none.  Made new; everything that is overwritten is durable there first */
    bool        overwrite_undo;  /* an existing undo file is written over */
};

/*
 * The same with a file.  Everything is planned first: when the steps would change what a guest reads and the image has
 * children beside it, nothing is written (VHDX_E_HAS_CHILDREN).  Nobody else may have the image open.
 *
 *   errors    also VHDX_E_IN_USE, _NOT_FOUND, _PERMISSION, _EXISTS (the undo file), _HAS_CHILDREN
 */
int vhdx_repair_path(const char *path, const struct vhdx_repair_path_options *options,
                     void (*tell)(void *context, const struct vhdx_repair_step *step), void *context,
                     const struct vhdx_progress *progress, struct vhdx_repair_result *out, struct vhdx_error *err);

/*
 * Take a repair back: every byte and the length become what they were.  The undo file stays; interrupted, it is called again.
 *
 *   errors    VHDX_E_INVALID: not an undo file, a damaged one, or not of this image as the repair left it (nothing was
 *             written); VHDX_E_IN_USE, ...
 */
int vhdx_repair_undo_path(const char *undo_path, const char *path, struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
