/* Files a verb makes, and files it is given. */
#ifndef VHDX_TOOL_FILES_H
#define VHDX_TOOL_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include <vhdx/disk.h>

#include "options.h"

/*
 * A file that is being made.
 *
 *   F1  It grows under `working_path`, a new name beside the final one (".NAME.XXXXXX.partial"), and takes its
 *       final name only when it is complete and durable: whatever stops us, nothing unfinished bears the name that
 *       was asked for.
 *   F2  Failure and the signals that end a program remove the unfinished file; only SIGKILL and a power cut leave
 *       it.
 *   F3  An existing file is replaced only with --force, and not when other images depend on it; neither the source of
 *       a copy nor a parent of it is ever its target.
 *   F4  A block device has no second name: it is written in place, and `is_device` says so.
 */
struct target {
    char final_path[PATH_MAX];
    char working_path[PATH_MAX];
    bool is_device;
    bool may_replace;
};

/* Look at what is there and choose the working path; nothing is made yet.  The target may not be a layer of `source`,
 * which may be NULL. */
int target_begin(struct target *target, const char *path, const struct vhdx_disk *source, bool may_replace,
                 const struct shared_options *shared, struct vhdx_error *err);

/* The same refusal for one more disk that is read: before target_begin, which takes the first. */
int target_refuse_layers(const char *path, const struct vhdx_disk *source, struct vhdx_error *err);

/* Give the file its final name, durably. */
int target_commit(struct target *target, struct vhdx_error *err);

/* Remove what was made so far. */
void target_abandon(struct target *target);

/* Whether the path exists and is a block device. */
bool file_is_device(const char *path);

/* Bytes the host has given to a file; 0 when it cannot be told. */
uint64_t file_allocated_size(const char *path);

/*
 * The format of a file of which the user has not said it: VHDX by its signature, VHD by its cookie, anything else raw.
 * A file that cannot be read is called VHDX, so that opening it says why.
 */
enum vhdx_format file_format(const char *path);

/*
 * Open what is to be read (or, with VHDX_OPEN_WRITE in `more_flags`, written), finding its format when none is given.  `-`
 * is standard input when that is a file.  What other images depend on is not written (chain.h).
 *
 * What looks like a format that QEMU reads is refused until somebody says what it is, and so is what comes over NBD and
 * looks like an image: there it is the rule that a disk is served, whose guest wrote what we would look at.
 */
int file_open_disk(struct vhdx_disk **out, const char *path, struct source_format format,
                   const struct shared_options *shared, unsigned more_flags, struct vhdx_error *err);

/* Open what is to be an image, when no format is given: a path or an operand of remote.h. */
int file_open_image(struct vhdx_disk **out, const char *path, const struct vhdx_open_options *options,
                    struct vhdx_error *err);

#endif
