/* Jobs over chains of differencing images: making, finding, merging, rebasing, flattening and comparing them. */
#ifndef VHDX_CHAIN_H
#define VHDX_CHAIN_H

#include <stdint.h> /* SIZE_MAX */

#include <vhdx/ops.h>
#include <vhdx/parents.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Create a differencing image (docs/vhdx-format.md 9.3): every item that belongs to the virtual disk is copied from
 * the parent; the locator gets parent_linkage, relative_path, absolute_win32_path (through the maps, or as WSL
 * mounts drives, else as if "/" were C:), volume_path where a map names a volume, and parent_linkage2 of zeros.
 *
 *   options->virtual_size   0: the parent's; larger is allowed, smaller is not
 *   options->block_size     0: 2 MiB
 *   options                 may be NULL; type is not looked at, sector sizes and disk id are the parent's unless
 *   given,
 *                           and only the physical sector size may be another
 *   parents                 how to find the parents of the parent, which must be there; NULL or mode NONE: they are
 *   not
 *                           looked for
 *   errors                  VHDX_E_INVALID, _EXISTS, _IN_USE (the parent is open for writing), _NO_PARENT, ...
 */
int vhdx_create_child_path(const char *path, bool overwrite, const char *parent_path,
                           const struct vhdx_create_options *options, const struct vhdx_parents_options *parents,
                           struct vhdx_error *err);

/* --- searching --- */

/* One image of a folder: its header and metadata were read, nothing else.  Borrowed for the call. */
struct vhdx_found_image {
    const char              *path;
    const struct vhdx_info  *info;  /* NULL when nothing could be read */
    const struct vhdx_error *error; /* code 0: all is well.  With info: its log could not be replayed, which happens
                                     * beside a writer; info tells of the file without it */
};
typedef int (*vhdx_found)(void *context, const struct vhdx_found_image *image); /* non-zero ends the search */

/*
 * Every regular file in a folder (not below, not through symbolic links) that ends in .vhdx, .avhdx or .vhds or
 * begins with a VHDX signature, in order of name.  Files are opened without locks, read-only, their parents are
 * not.
 *
 *   max_files   0: 1000.  Images beyond that, and other files beyond that whose signature would have to be looked
 *   at,
 *               are left out: *was_cut.  was_cut may be NULL
 *   returns     0, what `each` returned when it ended the search, or a code
 */
int vhdx_scan_folder(const char *folder, unsigned max_files, vhdx_found each, void *context, bool *was_cut,
                     struct vhdx_error *err);

/*
 * The images that name this one as their parent by GUID, in its own folder and the ones in `also`; each folder is
 * scanned as above, once.  The image itself is opened without locks.
 */
int vhdx_find_children(const char *path, const char *const *also, size_t also_count, vhdx_found each, void *context,
                       bool *was_cut, struct vhdx_error *err);

/*
 * Before an image is written: does another one beside it depend on it?  The folder it lies in, and the one it was named
 * in when that is a symbolic link, are searched as above.
 *
 *   is_complete  false when a folder could not be read or holds more images than were looked at; may be NULL
 *   returns      0 when no child was found, also when the file is no image at all
 *   errors       VHDX_E_HAS_CHILDREN with the names of as many as fit into the message
 */
int vhdx_refuse_children(const char *path, bool *is_complete, struct vhdx_error *err);

/* Where an image's parent is. */
struct vhdx_parent_place {
    bool is_differencing; /* else it has none, and the rest is empty */
    char path[4096];      /* the file, canonical; empty when it was not found */
    char mismatch[4096];  /* a file that lies where the parent should, with another DataWriteGuid; or empty */
};

/*
 * Find the parent of an image as opening it would: one step of the chain, nothing stays open.
 *
 *   flags     VHDX_OPEN_IGNORE_LOG, VHDX_OPEN_FORCE_SHARE
 *   parents   the policy
 *   out       filled also when the parent was not found; struct vhdx_parent_place is large, 8 KiB
 *   errors    VHDX_E_NO_PARENT, _BAD_PARENT (out->mismatch), _IN_USE, ... and what is wrong with the image itself:
 *             then out->is_differencing is false
 */
int vhdx_find_parent(const char *path, unsigned flags, struct vhdx_parents *parents, struct vhdx_parent_place *out,
                     struct vhdx_error *err);

/*
 * The same, and the rules between the two (docs/vhdx-format.md 8.7, V122 to V127 and V129) as findings about the image: is it
 * the parent that is meant, do sectors, sizes and disk ids agree, can it be opened, is there another file where the locator
 * also says it is.
 *
 *   report    called once per finding, may be NULL; the finding is borrowed for the call
 *   returns   0 when the parent was found, or there is none; as vhdx_find_parent else.  VHDX_E_BAD_PARENT was reported as a
 *             finding, too
 *   threads   any number
 */
int vhdx_check_parent(const char *path, unsigned flags, struct vhdx_parents *parents, struct vhdx_parent_place *out,
                      void (*report)(void *context, const struct vhdx_error *finding), void *context,
                      struct vhdx_error *err);

/* --- the tree of a folder --- */

#define VHDX_TREE_UNREADABLE 1u  /* what it is cannot be told: see error; info is NULL */
#define VHDX_TREE_ORPHAN     2u  /* no parent: none has the GUID, and none lies where its locator says */
#define VHDX_TREE_CHANGED    4u  /* `parent` lies where the locator says, with another GUID: it was written to since */
#define VHDX_TREE_MOVED      8u  /* `parent` has the GUID, and the locator does not lead to it */
#define VHDX_TREE_LOOP       16u /* among its own ancestors; the link of one of the loop is left out of the tree */
#define VHDX_TREE_DUPLICATE  32u /* `twin` has the same DataWriteGuid */
#define VHDX_TREE_NONE       SIZE_MAX

/* One image of a tree.  It and what it points to live as long as the tree. */
struct vhdx_tree_image {
    const char              *path;
    const struct vhdx_info  *info;     /* as of vhdx_found_image */
    const struct vhdx_error *error;
    unsigned                 troubles; /* VHDX_TREE_* */
    size_t                   parent;   /* index, or VHDX_TREE_NONE */
    size_t                   twin;     /* index, or VHDX_TREE_NONE */
    size_t                   child_count;
    unsigned                 depth;    /* 0: a root */
    bool                     is_last;  /* of its parent's children */
    bool                     is_elsewhere; /* a parent that lies in none of the folders */
};

struct vhdx_tree;

/*
 * The images of some folders, matched with their parents: by the files their locators lead to, else by GUID, else by
 * place.  Parents that lie elsewhere are taken in where `parents` allows that.  Nothing is locked or written, and a file
 * with several names is taken once.
 *
 *   max_files   of each folder, and of parents elsewhere; 0: 1000.  See vhdx_tree_is_complete
 *   parents     NULL or mode NONE: only GUIDs count, and VHDX_TREE_CHANGED and _MOVED are not looked for
 *   errors      VHDX_E_NOT_FOUND, _PERMISSION, ... of a folder, named in the message
 */
int  vhdx_tree_read(struct vhdx_tree **out, const char *const *folders, size_t folder_count, unsigned max_files,
                    const struct vhdx_parents_options *parents, struct vhdx_error *err);
void vhdx_tree_free(struct vhdx_tree *tree);

/* False when a folder held more than max_files. */
bool vhdx_tree_is_complete(const struct vhdx_tree *tree);

/* Image after image, each followed by its children and theirs; roots and siblings in the order of their paths. */
size_t                        vhdx_tree_count(const struct vhdx_tree *tree);
const struct vhdx_tree_image *vhdx_tree_get(const struct vhdx_tree *tree, size_t index);

/* --- merge (9.8) --- */

struct vhdx_chain_options {
    const struct vhdx_parents_options *parents;
    const char *const *also;             /* more folders to search for siblings and children */
    size_t             also_count;
    bool               orphan_siblings;  /* go on although other children of the target break */
    bool               force;            /* of relink: without proof that the content is the one expected */
    bool               orphan_children;  /* of relink by force: although other images depend on this one */
    bool               dry_run;          /* plan only: nothing is written */
    bool               delete_merged;    /* of merge: remove the files that were merged, when all is done */
};

/* What a job is about to do or has done, a line each, for people: "copies 12 MiB from a.avhdx to base.vhdx".  Borrowed. */
typedef void (*vhdx_say)(void *context, const char *line);

struct vhdx_chain_result {
    uint64_t bytes_copied; /* or to be copied, of a dry run */
    uint64_t blocks_changed;
    unsigned images_relinked;
};

/*
 * Merge an image into its parent, or into the ancestor `into_path` (NULL: its parent).  By the steps of 9.8: the
 * chain read through the image never changes, an interrupted merge is finished by calling again.
 *
 *   errors  VHDX_E_HAS_CHILDREN (siblings would break: all are said, as many as fit are named in the error), _INVALID
 *           (it has no parent, or not this ancestor), _NO_PARENT, ...
 */
int vhdx_merge_path(const char *path, const char *into_path, const struct vhdx_chain_options *options, vhdx_say say,
                    void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                    struct vhdx_error *err);

/* Point an image at another file or place of its parent: path and GUID only.  Needs proof that the content is the one
 * expected (the GUID matches, or the old parent is there and reads the same), or options->force; by force, the image
 * may show something else afterwards, which is VHDX_E_HAS_CHILDREN when others depend on it. */
int vhdx_relink_path(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
                     void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                     struct vhdx_error *err);

/* Give an image another parent and keep what it reads as: what differs between the old and the new is copied up first. */
int vhdx_rebase_path(const char *path, const char *parent_path, const struct vhdx_chain_options *options, vhdx_say say,
                     void *context, const struct vhdx_progress *progress, struct vhdx_chain_result *out,
                     struct vhdx_error *err);

/* Make an image stand alone, in place (9.7, differencing to dynamic). */
int vhdx_flatten_path(const char *path, const struct vhdx_chain_options *options, vhdx_say say, void *context,
                      const struct vhdx_progress *progress, struct vhdx_chain_result *out, struct vhdx_error *err);

/* --- difference --- */

/* A range that differs between two disks.  Where `a` and `b` are points of one chain the tables decide and ranges come in whole
 * sectors or blocks (a range may be reported though its bytes are equal); else contents decide. */
typedef int (*vhdx_differs)(void *context, uint64_t guest_offset, uint64_t length, bool is_zero_in_b);
int vhdx_diff(struct vhdx_disk *a, struct vhdx_disk *b, vhdx_differs each, void *context,
              const struct vhdx_progress *progress, struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
