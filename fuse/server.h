/* The process that reads the image and answers the kernel. */
#ifndef VHDX_FUSE_SERVER_H
#define VHDX_FUSE_SERVER_H

#include "request.h"

/* Serve until the image is unmounted or a signal asks for the end; returns the exit status.  `socket` leads to the
 * process that started this one and mounts. */
int server_run(const struct mount_request *request, int socket);

#endif
