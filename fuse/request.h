/* What a mount was asked for, as the command line of mount(8) says it. */
#ifndef VHDX_FUSE_REQUEST_H
#define VHDX_FUSE_REQUEST_H

#include <stdbool.h>
#include <sys/types.h>

#define STATUS_FAILED 1
#define STATUS_USAGE  2

struct mount_request {
    const char *file;   /* as given */
    const char *source; /* the same for the list of mounts, absolute where that is known */
    const char *folder; /* as given */
    bool        is_writable;
    bool        ignores_log; /* then it is not writable */
    bool        orphans_children;
    bool        is_foreground;
    bool        is_unconfined;
    bool        is_fake; /* read the command line, and that is all */
    char       *parents; /* where they may be, or NULL */
    char       *options_for_fuse; /* "nosuid,noexec", or NULL */
    uid_t       owner;
    gid_t       group;
    mode_t      umask;
};

/* Read the command line.  What cannot be understood ends the program.  The words of map= are handed to chain.h. */
void request_read(struct mount_request *request, int argc, char **argv);

#endif
