/*
 * The process that mounts, watches the server and unmounts: `vhdx unmount` and mount(8) see this one.
 *
 * It parses nothing of the image, so it may keep what mounting and unmounting need: without root's rights that is running
 * fusermount3, which is set-uid and therefore powerless in a process that has confined itself.
 */
#ifndef VHDX_FUSE_KEEPER_H
#define VHDX_FUSE_KEEPER_H

#include "request.h"

/*
 * Mount, and stay until the end; returns the exit status.
 *
 *   folder    DIR, absolute
 *   say_live  called once the mount answers, before standard error is left; false ends all
 */
int keeper_run(const struct mount_request *request, const char *folder, bool (*say_live)(void *context),
               void *context);

#endif
