/* What jobs over chains of files share: finding the files of a chain, opening parents, telling people. */
#ifndef VX_CHAIN_PATH_H
#define VX_CHAIN_PATH_H

#include <vhdx/chain.h>

#include "format/locator.h"
#include "ops/link.h"
#include "ops/parent_keys.h"

/* The caller of a job, and what it said. */
struct vx_chain_job {
    const struct vhdx_chain_options *options; /* never NULL */
    struct vhdx_parents             *parents; /* owned; NULL when none were given */
    vhdx_say                         say;
    void                            *say_context;
    const struct vhdx_progress      *progress;
};
int  vx_chain_job_begin(struct vx_chain_job *job, const struct vhdx_chain_options *options, vhdx_say say, void *context,
                        const struct vhdx_progress *progress, struct vhdx_error *err);
void vx_chain_job_end(struct vx_chain_job *job);

/*
 * As vhdx_refuse_children, with more folders to search: VHDX_E_HAS_CHILDREN names the first image there that depends on it.
 * Says so when not every file could be looked at.
 */
int vx_chain_refuse_children(const struct vx_chain_job *job, const char *path, const char *const *also, size_t also_count,
                             struct vhdx_error *err);

/* One line for people, when somebody listens. */
void vx_chain_say(const struct vx_chain_job *job, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "12.5 MiB". */
#define VX_SIZE_TEXT 48
const char *vx_chain_size(char out[VX_SIZE_TEXT], uint64_t bytes);

/* The files of a chain, top first.  It was opened for reading to find them, and closed again: whoever opens them looks at
 * their GUIDs again. */
struct vx_chain_files {
    char                        **names;      /* owned */
    struct vhdx_storage_identity *identities; /* owned */
    unsigned                      count;
};
int  vx_chain_find(struct vx_chain_files *out, const struct vx_chain_job *job, const char *path,
                   struct vhdx_error *err);
void vx_chain_files_free(struct vx_chain_files *files);

/* Open a disk for reading, with its parents; its name goes before whatever is wrong. */
int vx_chain_open_disk(struct vhdx_disk **out, const struct vx_chain_job *job, const char *path,
                       struct vhdx_error *err);
/* Open a file of a job: for writing, or for reading when nothing is to be written. */
int vx_chain_open_file(struct vhdx_storage **out, const char *path, bool is_writable, struct vhdx_error *err);

/* Which file a path names.  Not known when there is none. */
struct vhdx_storage_identity vx_chain_identify(const char *path);

/* The changes that make a locator name another parent: all keys; or with no guid, only those of paths. */
struct vx_chain_link {
    struct vx_parent_keys  keys;
    char                   linkage[VX_BRACED_GUID_SIZE], none[VX_BRACED_GUID_SIZE];
    struct vx_locator_text changes[5];
    size_t                 change_count;
};
int vx_chain_link_make(struct vx_chain_link *out, const struct vx_chain_job *job, const char *child_path,
                       const char *parent_path, const struct vhdx_guid *guid, struct vhdx_error *err);

/* Hyper-V's files of change tracking beside an image that was changed are stale now: say so. */
void vx_chain_say_tracking(const struct vx_chain_job *job, const char *path);

#endif
