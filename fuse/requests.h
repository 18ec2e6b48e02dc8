/* Answering the kernel. */
#ifndef VHDX_FUSE_REQUESTS_H
#define VHDX_FUSE_REQUESTS_H

#define FUSE_USE_VERSION 312
#include <fuse_lowlevel.h>

#include "mount_ask.h"
#include "tree.h"

struct service {
    struct tree *tree;
    int32_t      process; /* the answer to MOUNT_ASK_PROCESS */
    void (*say_live)(struct service *service);                               /* the kernel's first request is here */
    void (*say_failed)(struct service *service, const struct vhdx_error *err); /* from any thread */
};

/* The table for fuse_session_new; its userdata is a service. */
extern const struct fuse_lowlevel_ops request_table;

#endif
