/*
 * Finding the parents of differencing images by path.  The library opens no parent by itself: a caller who wants
 * chains makes a policy and hands it to vhdx_open_options (resolve_parent = vhdx_parents_resolve, resolve_context =
 * the policy).
 *
 * Paths in a locator are hostile.  A candidate is opened only where the policy allows it, only when it is a regular
 * file with a VHDX signature, and never through a symbolic link that leads out of an allowed folder.
 */
#ifndef VHDX_PARENTS_H
#define VHDX_PARENTS_H

#include <vhdx/disk.h>

#ifdef __cplusplus
extern "C" {
#endif

enum vhdx_parents_mode {
    VHDX_PARENTS_NONE,        /* no parent is opened */
    VHDX_PARENTS_SAME_DIR,    /* only from the folder of the child */
    VHDX_PARENTS_DIRECTORIES, /* only from below the named folders */
    VHDX_PARENTS_ANY          /* any regular file that is a VHDX */
};

/* "C:" or "\\server\share" -> a folder here. */
struct vhdx_path_map {
    const char *windows;
    const char *folder;
};

struct vhdx_parents_options {
    enum vhdx_parents_mode      mode;
    const char *const          *directories; /* of mode DIRECTORIES */
    size_t                      directory_count;
    const struct vhdx_path_map *maps;
    size_t                      map_count;
};

/*
 * Options from text, as users write them.
 *
 *   which    "none", "same-dir", "any", or folders with commas between them
 *   maps     each "C:=/mnt/c" or "\\server\share=/srv/x"
 *   out      with memory of its own: vhdx_parents_options_free gives it back
 *   errors   VHDX_E_INVALID, _NO_MEMORY.  Whether the folders are there shows when a policy is made of it
 */
int  vhdx_parents_options_parse(struct vhdx_parents_options *out, const char *which, const char *const *maps,
                                size_t map_count, struct vhdx_error *err);
void vhdx_parents_options_free(struct vhdx_parents_options *options);

struct vhdx_parents;

/* A policy; it copies what the options point to.  May be used by several opens at once. */
int  vhdx_parents_new(struct vhdx_parents **out, const struct vhdx_parents_options *options,
                      struct vhdx_error *err);
void vhdx_parents_free(struct vhdx_parents *parents);

/*
 * Hand in a parent that is open already: it is tried first, whatever the mode, and used when its DataWriteGuid
 * matches.  The descriptor stays the caller's, open until the policy is freed.
 */
int vhdx_parents_add_descriptor(struct vhdx_parents *parents, int descriptor, const char *name,
                                struct vhdx_error *err);

/*
 * The resolver (a vhdx_parent_resolver; context is the policy).  Candidates in lookup order: relative_path from the
 * folder of the child, volume_path and absolute_win32_path through the maps (and /mnt/c for C:, as WSL has it),
 * each name matched exactly, then without regard to case; the first whose DataWriteGuid matches a linkage wins,
 * others are named in the error: both GUIDs and the remedy.  Opened read-only, with a reader's locks.
 */
int vhdx_parents_resolve(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out,
                         struct vhdx_error *err);

#ifdef __cplusplus
}
#endif
#endif
