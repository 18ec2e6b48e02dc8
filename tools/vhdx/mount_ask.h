/* What `vhdx unmount` asks of a mounted image's root folder, by ioctl(2). */
#ifndef VHDX_TOOL_MOUNT_ASK_H
#define VHDX_TOOL_MOUNT_ASK_H

#include <stdint.h>
#include <sys/ioctl.h>

/* The process that ends when the image is closed. */
#define MOUNT_ASK_PROCESS _IOR('V', 1, int32_t)

/* What the system calls a mount of ours, and that process. */
#define MOUNT_TYPE         "fuse.vhdx"
#define MOUNT_PROCESS_NAME "mount.fuse.vhdx"

#endif
