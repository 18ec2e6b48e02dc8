/*
 * Copying a disk to a new file, device or stream.
 *
 * A file grows under another name until it is complete (F1 in files.h).  A stream is written in one pass.  A raw
 * disk can come from a pipe when its size is said beforehand; the pipe has its own reader, pipe.c.
 */
#include "conversion.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "confine.h"
#include "files.h"
#include "message.h"
#include "pipe.h"
#include "progress.h"
#include "remote.h"

static bool
ends_in(const char *path, const char *ending)
{
    size_t length = strlen(path), ending_length = strlen(ending);

    return length > ending_length && strcmp(path + length - ending_length, ending) == 0;
}

enum vhdx_format
conversion_format_by_name(const struct option_reader *reader, const char *path)
{
    if (ends_in(path, ".vhdx") || ends_in(path, ".avhdx"))
        return VHDX_FORMAT_VHDX;
    if (ends_in(path, ".raw") || ends_in(path, ".img"))
        return VHDX_FORMAT_RAW;
    if (ends_in(path, ".vhd"))
        return VHDX_FORMAT_VHD;
    usage_error(reader, "-O vhdx, vhd or raw is needed: '%s' does not end in .vhdx, .avhdx, .vhd, .raw or .img", path);
}

static bool
is_stream(const char *path)
{
    return strcmp(path, "-") == 0;
}

bool
conversion_reads_pipe(const struct conversion *conversion)
{
    struct stat found;

    return is_stream(conversion->source)
           && (fstat(STDIN_FILENO, &found) < 0 || !(S_ISREG(found.st_mode) || S_ISBLK(found.st_mode)));
}

/* The new image is shaped as asked, and like the source where nothing was: a guest's partitions count sectors. */
int
conversion_shape(struct vhdx_create_options *create, const struct conversion *conversion, struct vhdx_disk *from,
                 struct vhdx_error *err)
{
    struct vhdx_info info;
    int rc;

    *create = conversion->shared->create;
    if (from == NULL)
        return VHDX_OK;
    rc = vhdx_disk_get_info(from, 0, &info, err);
    if (rc < 0 || info.format != VHDX_FORMAT_VHDX)
        return rc;
    if (create->logical_sector_size == 0)
        create->logical_sector_size = info.logical_sector_size;
    if (create->physical_sector_size == 0)
        create->physical_sector_size = info.physical_sector_size;
    if (conversion->keeps_disk && create->block_size == 0)
        create->block_size = info.block_size;
    if (conversion->keeps_disk && vhdx_guid_is_zero(&create->disk_id))
        create->disk_id = info.disk_id;
    return VHDX_OK;
}

/* A new image of the size, rounded up to whole sectors. */
static int
make_image_file(const char *path, const struct conversion *conversion, struct vhdx_disk *from, uint64_t size,
                struct progress *progress, struct vhdx_error *err)
{
    struct vhdx_create_options create;
    uint64_t sector_size;
    int rc;

    rc = conversion_shape(&create, conversion, from, err);
    if (rc < 0)
        return rc;
    sector_size = create.logical_sector_size == 0 ? 512 : create.logical_sector_size;
    create.virtual_size = size;
    if (size % sector_size != 0 && size < UINT64_MAX - sector_size)
        create.virtual_size += sector_size - size % sector_size;
    return vhdx_create_path(path, false, &create, &progress->hook, err);
}

/* The same of a fixed VHD.  Sectors of 4096 bytes it has not, and the library refuses what was asked for or is there. */
static int
shape_vhd(struct vhdx_create_options *create, const struct conversion *conversion, struct vhdx_disk *from, uint64_t size,
          struct vhdx_error *err)
{
    uint64_t unit = conversion->size_unit != 0 ? conversion->size_unit : 512;
    int rc = conversion_shape(create, conversion, from, err);

    create->virtual_size = size;
    if (size % unit != 0 && size < UINT64_MAX - unit)
        create->virtual_size += unit - size % unit;
    return rc;
}

static int
make_vhd_file(const char *path, const struct conversion *conversion, struct vhdx_disk *from, uint64_t size,
              struct progress *progress, struct vhdx_error *err)
{
    struct vhdx_create_options create;
    int rc = shape_vhd(&create, conversion, from, size, err);

    return rc == 0 ? vhdx_create_vhd_path(path, false, &create, &progress->hook, err) : rc;
}

/* A new file of exactly the size. */
static int
make_raw_file(const char *path, uint64_t size, enum vhdx_preallocation preallocation, struct progress *progress,
              struct vhdx_error *err)
{
    int descriptor = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0666);
    int rc = VHDX_OK;

    if (descriptor < 0)
        return fail_errno(err, errno, "cannot be made");
    if (size > INT64_MAX)
        rc = fail(err, VHDX_E_LIMIT, "%" PRIu64 " bytes are more than a file can have", size);
    else if (preallocation != VHDX_PREALLOCATE_FULL && ftruncate(descriptor, (off_t)size) < 0)
        rc = fail_errno(err, errno, "a file of %" PRIu64 " bytes", size);
    if (close(descriptor) < 0 && rc == 0)
        rc = fail_errno(err, errno, "cannot be made");
    return rc == 0 ? vhdx_preallocate_path(path, size, preallocation, &progress->hook, err) : rc;
}

/* Make the target, which then reads as zeros (a block device: as whatever it holds), and open it for writing. */
static int
make_target(struct vhdx_disk **out, const struct target *target, const struct conversion *conversion,
            struct vhdx_disk *from, uint64_t size, struct progress *progress, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .flags = VHDX_OPEN_WRITE, .format = conversion->target_format };
    int rc = VHDX_OK;

    if (conversion->target_format == VHDX_FORMAT_VHDX)
        rc = make_image_file(target->working_path, conversion, from, size, progress, err);
    else if (conversion->target_format == VHDX_FORMAT_VHD)
        rc = make_vhd_file(target->working_path, conversion, from, size, progress, err);
    else if (!target->is_device)
        rc = make_raw_file(target->working_path, size, conversion->shared->create.preallocation, progress, err);
    if (rc == 0)
        rc = vhdx_disk_open_path(out, target->working_path, &options, err);
    if (rc == 0 && vhdx_disk_size(*out) < size) {
        rc = fail(err, VHDX_E_RANGE, "has %" PRIu64 " bytes, %" PRIu64 " are needed", vhdx_disk_size(*out), size);
        vhdx_disk_close(*out, NULL);
        *out = NULL;
    }
    return rc;
}

/* A device does not read as zeros at first: make it so where the source does. */
static int
zero_like(struct vhdx_disk *from, struct vhdx_disk *to, struct vhdx_error *err)
{
    struct vhdx_extent extents[256];
    uint64_t size = vhdx_disk_size(from), guest_offset = 0;

    while (guest_offset < size) {
        size_t count;
        int rc;

        rc = vhdx_disk_resolve_sparse(from, guest_offset, size - guest_offset, extents, 256, &count, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            if ((extents[i].flags & VHDX_EXTENT_ZERO) != 0)
                rc = vhdx_disk_zero(to, extents[i].guest_offset, extents[i].length, 0, err);
        }
        if (rc < 0)
            return rc;
        guest_offset = extents[count - 1].guest_offset + extents[count - 1].length;
    }
    return VHDX_OK;
}

/* Does all of what will be written over read as zeros already? */
static int
is_empty(struct vhdx_disk *to, uint64_t size, bool *out, struct vhdx_error *err)
{
    struct vhdx_extent extents[64];
    uint64_t guest_offset = 0;

    *out = true;
    while (guest_offset < size && *out) {
        size_t count;
        int rc = vhdx_disk_resolve_sparse(to, guest_offset, size - guest_offset, extents, 64, &count, err);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++)
            *out = *out && (extents[i].flags & VHDX_EXTENT_ZERO) != 0;
        guest_offset = extents[count - 1].guest_offset + extents[count - 1].length;
    }
    return VHDX_OK;
}

/* Over something old: it is made to read as zeros where that is quick, and else where the source does; then zeros among the
 * data must be written, too. */
static int
copy_over(struct conversion *conversion, struct vhdx_disk *from, struct vhdx_disk *to, struct progress *progress,
          struct vhdx_error *err)
{
    struct vhdx_copy_options options = conversion->copy;
    int rc = vhdx_disk_zero(to, 0, vhdx_disk_size(from), VHDX_ZERO_FAST, err);

    if (rc == VHDX_E_UNSUPPORTED) {
        options.detect_zeros = false;
        rc = zero_like(from, to, err);
    }
    return rc == 0 ? vhdx_copy(from, to, &options, &progress->hook, err) : rc;
}

static int
copy_disk(struct conversion *conversion, const struct target *target, struct vhdx_disk *from, struct vhdx_disk *to,
          struct progress *progress, struct vhdx_error *err)
{
    return target->is_device ? copy_over(conversion, from, to, progress, err)
                             : vhdx_copy(from, to, &conversion->copy, &progress->hook, err);
}

/* Whom an error of a copy is about, as far as its code tells. */
static const char *
find_culprit(const struct conversion *conversion, int code)
{
    switch (code) {
    case VHDX_E_NO_SPACE:
    case VHDX_E_FAILED:
    case VHDX_E_LIMIT:
        return conversion->destination;
    case VHDX_E_BAD_BAT:
    case VHDX_E_BAD_BITMAP:
    case VHDX_E_TRUNCATED:
    case VHDX_E_NO_PARENT:
        return conversion->source;
    default:
        return NULL;
    }
}

/* Blocks that were written in part have holes, of which nothing is to be left. */
static int
fill_up(const struct target *target, struct conversion *conversion, struct vhdx_error *err)
{
    struct progress progress;
    int rc;

    conversion->culprit = conversion->destination;
    progress_begin(&progress, conversion->shared);
    rc = vhdx_preallocate_path(target->working_path, 0, conversion->shared->create.preallocation, &progress.hook, err);
    progress_end(&progress);
    return rc;
}

/* Fill the target, whose working file is removed by the caller on failure. */
static int
fill_target(struct conversion *conversion, const struct target *target, struct vhdx_disk *from,
            struct vhdx_error *err)
{
    uint64_t size = from != NULL ? vhdx_disk_size(from) : conversion->pipe_size;
    struct vhdx_disk *to;
    struct progress progress;
    int rc, close_rc;

    conversion->culprit = conversion->destination;
    progress_begin(&progress, conversion->shared);
    rc = make_target(&to, target, conversion, from, size, &progress, err);
    progress_end(&progress);
    if (rc < 0)
        return rc;

    if (from != NULL)
        rc = copy_disk(conversion, target, from, to, &progress, err);
    else
        rc = pipe_copy(to, size, conversion->copy.detect_zeros, target->is_device, &progress, err);
    progress_end(&progress);
    if (rc < 0)
        conversion->culprit = find_culprit(conversion, rc);
    close_rc = vhdx_disk_close(to, rc == 0 ? err : NULL);
    if (rc == 0)
        rc = close_rc;
    return rc == 0 && !target->is_device ? fill_up(target, conversion, err) : rc;
}

static int
convert_to_file(struct conversion *conversion, struct vhdx_disk *from, struct vhdx_error *err)
{
    struct target target;
    int rc;

    conversion->culprit = conversion->destination;
    rc = target_begin(&target, conversion->destination, from, conversion->may_replace, conversion->shared, err);
    if (rc < 0)
        return rc;
    if (target.is_device && conversion->target_format != VHDX_FORMAT_RAW)
        return fail(err, VHDX_E_UNSUPPORTED, "a %s on a block device could be taken for a good one before it is"
                    " complete: convert to a file, then copy that",
                    conversion->target_format == VHDX_FORMAT_VHDX ? "VHDX" : "VHD");
    rc = fill_target(conversion, &target, from, err);
    if (rc == 0) {
        conversion->culprit = conversion->destination;
        rc = target_commit(&target, err);
    }
    if (rc < 0)
        target_abandon(&target);
    return rc;
}

/* What is written to a server is the disk; it has its size, and may hold another disk. */
static int
open_served_target(struct conversion *conversion, struct vhdx_disk **out, uint64_t size, bool *is_zero,
                   struct vhdx_error *err)
{
    const struct source_format raw = { .ours = VHDX_FORMAT_RAW };
    int rc = file_open_disk(out, conversion->destination, raw, conversion->shared, VHDX_OPEN_WRITE, err);

    if (rc < 0)
        return rc;
    if (vhdx_disk_size(*out) < size)
        rc = fail(err, VHDX_E_RANGE, "has %" PRIu64 " bytes, %" PRIu64 " are needed", vhdx_disk_size(*out), size);
    if (rc == 0)
        rc = is_empty(*out, size, is_zero, err);
    if (rc == 0 && !*is_zero && !conversion->may_replace)
        rc = fail(err, VHDX_E_EXISTS, "what is served there holds data, or the server does not tell");
    if (rc < 0)
        vhdx_disk_close(*out, NULL);
    return rc;
}

static int
fill_served(struct conversion *conversion, struct vhdx_disk *from, struct vhdx_disk *to, bool is_zero,
            struct vhdx_error *err)
{
    struct progress progress;
    int rc;

    progress_begin(&progress, conversion->shared);
    if (from == NULL)
        rc = pipe_copy(to, conversion->pipe_size, conversion->copy.detect_zeros, !is_zero, &progress, err);
    else if (is_zero)
        rc = vhdx_copy(from, to, &conversion->copy, &progress.hook, err);
    else
        rc = copy_over(conversion, from, to, &progress, err);
    progress_end(&progress);
    return rc;
}

static int
convert_to_served(struct conversion *conversion, struct vhdx_disk *from, struct vhdx_error *err)
{
    uint64_t size = from != NULL ? vhdx_disk_size(from) : conversion->pipe_size;
    struct vhdx_disk *to;
    bool is_zero = false;
    int rc, close_rc;

    conversion->culprit = conversion->destination;
    rc = open_served_target(conversion, &to, size, &is_zero, err);
    if (rc < 0)
        return rc;
    rc = fill_served(conversion, from, to, is_zero, err);
    if (rc < 0)
        conversion->culprit = find_culprit(conversion, rc);
    close_rc = vhdx_disk_close(to, rc == 0 ? err : NULL);
    return rc < 0 ? rc : close_rc;
}

static int
convert_to_stream(struct conversion *conversion, struct vhdx_disk *from, struct vhdx_error *err)
{
    struct vhdx_create_options create;
    struct progress progress;
    int rc;

    conversion->culprit = NULL;
    if (isatty(STDOUT_FILENO) == 1)
        return fail(err, VHDX_E_UNSUPPORTED, "a disk is not written to a terminal: redirect the output");
    progress_begin(&progress, conversion->shared);
    if (conversion->target_format == VHDX_FORMAT_RAW) {
        rc = vhdx_write_raw_stream(from, STDOUT_FILENO, &progress.hook, err);
    } else if (conversion->target_format == VHDX_FORMAT_VHD) {
        rc = shape_vhd(&create, conversion, from, vhdx_disk_size(from), err);
        if (rc == 0)
            rc = vhdx_write_vhd_stream(from, STDOUT_FILENO, &create, &progress.hook, err);
    } else {
        rc = conversion_shape(&create, conversion, from, err);
        if (rc == 0)
            rc = vhdx_write_vhdx_stream(from, STDOUT_FILENO, &create, &progress.hook, err);
    }
    progress_end(&progress);
    if (rc < 0)
        conversion->culprit = find_culprit(conversion, rc);
    return rc;
}

int
conversion_run(struct conversion *conversion, struct vhdx_error *err)
{
    struct vhdx_disk *from = conversion->disk;
    int rc;

    if (from == NULL && !conversion_reads_pipe(conversion)) {
        conversion->culprit = conversion->source;
        rc = file_open_disk(&from, conversion->source, conversion->shared->format, conversion->shared, 0, err);
        if (rc < 0)
            return rc;
    }
    rc = confine_narrow(conversion->shared, err);
    if (rc < 0)
        conversion->culprit = NULL;
    else if (is_stream(conversion->destination))
        rc = convert_to_stream(conversion, from, err);
    else if (remote_is(conversion->destination))
        rc = convert_to_served(conversion, from, err);
    else
        rc = convert_to_file(conversion, from, err);
    if (from != conversion->disk)
        vhdx_disk_close(from, NULL);
    return rc;
}
