/* Files a verb makes (F1 to F4 in files.h), and files it is given. */
#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "chain.h"
#include "message.h"
#include "remote.h"

/* What a signal handler removes; written before `has_unfinished` is set. */
static char unfinished_path[PATH_MAX];
static volatile sig_atomic_t has_unfinished;

static void
remove_unfinished(int signal_number)
{
    if (has_unfinished)
        unlink(unfinished_path);
    raise(signal_number); /* SA_RESETHAND: this time it ends us, and our parent sees by what */
}

static void
watch_signals(const char *path)
{
    static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };
    struct sigaction action = { .sa_handler = remove_unfinished, .sa_flags = (int)SA_RESETHAND };

    snprintf(unfinished_path, sizeof(unfinished_path), "%s", path);
    has_unfinished = 1;
    signal(SIGXFSZ, SIG_IGN); /* a limit on the length of files is an error of the write that meets it */
    for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct sigaction old;

        if (sigaction(signals[i], NULL, &old) == 0 && old.sa_handler != SIG_IGN)
            sigaction(signals[i], &action, NULL);
    }
}

static bool
is_same_file(const struct stat *a, const struct stat *b)
{
    if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
        return a->st_rdev == b->st_rdev;
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The depth of the layer that is the file, or -1. */
static int
find_layer(const struct vhdx_disk *source, const struct stat *found)
{
    unsigned count = source == NULL ? 0 : vhdx_disk_layer_count(source);

    for (unsigned depth = 0; depth < count; depth++) {
        struct stat from;

        if (stat(vhdx_disk_layer_name(source, depth), &from) == 0 && is_same_file(&from, found))
            return (int)depth;
    }
    return -1;
}

static int
refuse_layer(const struct vhdx_disk *source, const struct stat *found, struct vhdx_error *err)
{
    int depth = find_layer(source, found);

    if (depth < 0)
        return VHDX_OK;
    return fail(err, VHDX_E_INVALID, "this is %s: the target must be another file",
                depth == 0 ? "the source itself" : "a parent of the source");
}

int
target_refuse_layers(const char *path, const struct vhdx_disk *source, struct vhdx_error *err)
{
    struct stat found;

    return stat(path, &found) == 0 ? refuse_layer(source, &found, err) : VHDX_OK;
}

/* What lies at the final path already: may it be replaced?  `found` is about the file behind a symbolic link. */
static int
judge_existing(struct target *target, const struct vhdx_disk *source, const struct stat *found,
               struct vhdx_error *err)
{
    int rc = refuse_layer(source, found, err);

    if (rc < 0)
        return rc;
    if (!S_ISREG(found->st_mode) && !S_ISBLK(found->st_mode))
        return fail(err, VHDX_E_UNSUPPORTED, "neither a regular file nor a block device");
    if (!target->may_replace)
        return fail(err, VHDX_E_EXISTS, "exists already");
    target->is_device = S_ISBLK(found->st_mode);
    return VHDX_OK;
}

/* A random suffix; the file itself is made with O_EXCL, so this only has to be new, not secret. */
static unsigned
draw_suffix(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return ((unsigned)now.tv_nsec * 2654435761u ^ (unsigned)getpid() * 40503u) & 0xffffffu;
}

static int
choose_working_path(struct target *target, struct vhdx_error *err)
{
    const char *slash = strrchr(target->final_path, '/');
    const char *name = slash == NULL ? target->final_path : slash + 1;
    int directory_length = (int)(name - target->final_path);
    int length;

    /* The longest name a directory takes is 255 bytes; ours adds 16. */
    length = snprintf(target->working_path, sizeof(target->working_path), "%.*s.%.200s.%06x.partial",
                      directory_length, target->final_path, name, draw_suffix());
    if (length < 0 || (size_t)length >= sizeof(target->working_path))
        return fail(err, VHDX_E_LIMIT, "the path is too long");
    return VHDX_OK;
}

int
target_begin(struct target *target, const char *path, const struct vhdx_disk *source, bool may_replace,
             const struct shared_options *shared, struct vhdx_error *err)
{
    struct stat found;
    int rc;

    *target = (struct target){ .may_replace = may_replace };
    if (stat(path, &found) == 0) {
        rc = judge_existing(target, source, &found, err);
        if (rc == 0)
            rc = chain_begin_writing(path, shared, err);
        if (rc < 0)
            return rc;
        if (realpath(path, target->final_path) == NULL) /* through a link: the file is replaced, the link stays */
            return fail_errno(err, errno, "cannot be resolved");
    } else if (errno != ENOENT) {
        return fail_errno(err, errno, "cannot be made");
    } else if (lstat(path, &found) == 0) {
        return fail(err, VHDX_E_UNSUPPORTED, "is a symbolic link that leads nowhere");
    } else if (strlen(path) >= sizeof(target->final_path)) {
        return fail(err, VHDX_E_LIMIT, "the path is too long");
    } else {
        strcpy(target->final_path, path);
    }
    if (target->is_device) {
        strcpy(target->working_path, target->final_path);
        return VHDX_OK;
    }
    rc = choose_working_path(target, err);
    if (rc < 0)
        return rc;
    watch_signals(target->working_path);
    return VHDX_OK;
}

/* Rename without replacing.  A hard link does that, except on file systems that have none; there, look first. */
static int
rename_to_new(const struct target *target, struct vhdx_error *err)
{
    struct stat found;

    if (link(target->working_path, target->final_path) == 0) {
        unlink(target->working_path);
        return VHDX_OK;
    }
    if (errno == EEXIST || lstat(target->final_path, &found) == 0)
        return fail(err, VHDX_E_EXISTS, "exists already: somebody made it meanwhile");
    if (rename(target->working_path, target->final_path) < 0)
        return fail_errno(err, errno, "cannot be given its name");
    return VHDX_OK;
}

/* Make the new name durable. */
static int
flush_directory(const struct target *target, struct vhdx_error *err)
{
    char directory[PATH_MAX];
    char *slash;
    int descriptor, rc = VHDX_OK;

    strcpy(directory, target->final_path);
    slash = strrchr(directory, '/');
    if (slash == NULL)
        strcpy(directory, ".");
    else
        slash[slash == directory ? 1 : 0] = '\0';

    descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return VHDX_OK; /* a directory one may write but not read: nothing more can be done */
    if (fsync(descriptor) < 0 && errno != EINVAL && errno != ENOTSUP)
        rc = fail_errno(err, errno, "the directory cannot be flushed");
    close(descriptor);
    return rc;
}

int
target_commit(struct target *target, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (target->is_device)
        return VHDX_OK;
    if (!target->may_replace)
        rc = rename_to_new(target, err);
    else if (rename(target->working_path, target->final_path) < 0)
        rc = fail_errno(err, errno, "cannot be given its name");
    if (rc < 0)
        return rc;
    has_unfinished = 0;
    return flush_directory(target, err);
}

void
target_abandon(struct target *target)
{
    if (!has_unfinished || target->is_device)
        return;
    unlink(target->working_path);
    has_unfinished = 0;
}

bool
file_is_device(const char *path)
{
    struct stat found;

    return stat(path, &found) == 0 && S_ISBLK(found.st_mode);
}

uint64_t
file_allocated_size(const char *path)
{
    struct stat found;

    return stat(path, &found) == 0 ? (uint64_t)found.st_blocks * 512 : 0;
}

/* Whether `length` bytes at the offset are these. */
static bool
holds(int descriptor, off_t offset, const char *bytes, size_t length)
{
    char found[8];

    return pread(descriptor, found, length, offset) == (ssize_t)length && memcmp(found, bytes, length) == 0;
}

enum vhdx_format
file_format(const char *path)
{
    int descriptor = strcmp(path, "-") == 0 ? dup(STDIN_FILENO) : open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    enum vhdx_format format = VHDX_FORMAT_VHDX;
    struct stat found;

    if (descriptor < 0)
        return format;
    if (fstat(descriptor, &found) == 0 && (S_ISREG(found.st_mode) || S_ISBLK(found.st_mode))
        && !holds(descriptor, 0, "vhdxfile", 8)) {
        off_t end = lseek(descriptor, 0, SEEK_END); /* a device's, too */

        format = VHDX_FORMAT_RAW;
        if (holds(descriptor, 0, "conectix", 8) || (end >= 512 && holds(descriptor, end - 512, "conectix", 8)))
            format = VHDX_FORMAT_VHD;
        lseek(descriptor, 0, SEEK_SET);
    }
    close(descriptor);
    return format;
}

/* A format of QEMU's by its magic number, or NULL. */
static const char *
qemu_format_of(const uint8_t head[512])
{
    static const uint8_t vdi[4] = { 0x7f, 0x10, 0xda, 0xbe };

    if (memcmp(head, "QFI\xfb", 4) == 0)
        return "qcow2";
    if (memcmp(head, "KDMV", 4) == 0)
        return "vmdk";
    return memcmp(head + 64, vdi, sizeof(vdi)) == 0 ? "vdi" : NULL;
}

/* As a raw disk, the container would be taken for what it contains. */
static int
refuse_qemu_format(const char *path, struct vhdx_error *err)
{
    uint8_t head[512] = { 0 };
    int descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *format = NULL;

    if (descriptor < 0)
        return VHDX_OK; /* opening it says why */
    if (pread(descriptor, head, sizeof(head), 0) == (ssize_t)sizeof(head))
        format = qemu_format_of(head);
    close(descriptor);
    if (format == NULL)
        return VHDX_OK;
    return fail(err, VHDX_E_UNSUPPORTED, "looks like %s: -f %s reads the disk in it, by qemu-nbd, and -f raw takes the bytes"
                " as they are", format, format);
}

static int
look_at_storage(struct vhdx_storage *storage, uint64_t file_offset, const char *word, bool *is_there, struct vhdx_error *err)
{
    char found[8];
    struct iovec vector = { .iov_base = found, .iov_len = sizeof(found) };
    uint64_t size;
    int rc = storage->methods->get_size(storage, &size, err);

    *is_there = false;
    if (rc < 0 || size < 512)
        return rc;
    rc = storage->methods->readv(storage, &vector, 1, file_offset == UINT64_MAX ? size - 512 : file_offset, err);
    *is_there = rc == 0 && memcmp(found, word, sizeof(found)) == 0;
    return rc;
}

/* A disk that is served is raw, unless somebody says otherwise: its guest could write any signature. */
static int
judge_served(struct vhdx_storage *storage, struct vhdx_error *err)
{
    bool is_vhdx, is_vhd = false;
    int rc = look_at_storage(storage, 0, "vhdxfile", &is_vhdx, err);

    if (rc == 0 && !is_vhdx)
        rc = look_at_storage(storage, UINT64_MAX, "conectix", &is_vhd, err);
    if (rc < 0 || (!is_vhdx && !is_vhd))
        return rc;
    return fail(err, VHDX_E_UNSUPPORTED, "what is served looks like a %s: -f %s reads the disk in it, and -f raw takes the"
                " bytes as they are", is_vhdx ? "VHDX" : "VHD", is_vhdx ? "vhdx" : "vhd");
}

/* The disk in a storage, which goes with it. */
static int
open_in_storage(struct vhdx_disk **out, struct vhdx_storage *storage, const struct vhdx_open_options *options,
                struct vhdx_error *err)
{
    int rc = vhdx_disk_open_storage(out, storage, options, err);

    if (rc < 0)
        vhdx_storage_close(storage);
    return rc;
}

static int
open_served(struct vhdx_disk **out, const char *operand, struct vhdx_open_options *options, bool is_disk,
            struct vhdx_error *err)
{
    bool is_writable = (options->flags & VHDX_OPEN_WRITE) != 0;
    struct vhdx_nbd_facts facts;
    struct vhdx_storage *storage;
    int rc = remote_open(&storage, operand, is_writable, &facts, err);

    if (rc < 0)
        return rc;
    if (is_disk && options->format == VHDX_FORMAT_AUTO) {
        rc = judge_served(storage, err);
        options->format = VHDX_FORMAT_RAW;
    }
    if (rc == 0 && is_writable && options->format != VHDX_FORMAT_RAW && !facts.can_flush)
        rc = fail(err, VHDX_E_UNSUPPORTED, "the NBD server offers no flush: an image that is written there cannot be kept"
                  " safe");
    if (rc < 0) {
        vhdx_storage_close(storage);
        return rc;
    }
    return open_in_storage(out, storage, options, err);
}

int
file_open_image(struct vhdx_disk **out, const char *path, const struct vhdx_open_options *options, struct vhdx_error *err)
{
    struct vhdx_open_options own = *options;

    return remote_is(path) ? open_served(out, path, &own, false, err) : vhdx_disk_open_path(out, path, options, err);
}

static int
open_by_qemu(struct vhdx_disk **out, const char *path, const char *qemu_format, struct vhdx_open_options *options,
             struct vhdx_error *err)
{
    struct vhdx_storage *storage;
    int rc;

    if ((options->flags & (VHDX_OPEN_WRITE | VHDX_OPEN_FORCE_SHARE)) != 0 || remote_is(path) || strcmp(path, "-") == 0)
        return fail(err, VHDX_E_UNSUPPORTED, "%s is read by qemu-nbd: from a file, not for writing, and not with -U",
                    qemu_format);
    rc = remote_open_by_qemu(&storage, path, qemu_format, err);
    return rc < 0 ? rc : open_in_storage(out, storage, options, err);
}

int
file_open_disk(struct vhdx_disk **out, const char *path, struct source_format format, const struct shared_options *shared,
               unsigned more_flags, struct vhdx_error *err)
{
    struct vhdx_open_options options = options_for_reading(shared);
    int rc = VHDX_OK, descriptor;

    options.flags |= more_flags;
    options.format = format.ours;
    if (format.qemu != NULL)
        return open_by_qemu(out, path, format.qemu, &options, err);
    if (remote_is(path))
        return open_served(out, path, &options, true, err);
    if (format.ours == VHDX_FORMAT_AUTO) {
        options.format = file_format(path);
        if (options.format == VHDX_FORMAT_RAW && strcmp(path, "-") != 0)
            rc = refuse_qemu_format(path, err);
    }
    if (rc == 0 && strcmp(path, "-") != 0) {
        rc = (more_flags & VHDX_OPEN_WRITE) != 0 ? chain_begin_writing(path, shared, err) : VHDX_OK;
        return rc < 0 ? rc : vhdx_disk_open_path(out, path, &options, err);
    }
    if (rc < 0)
        return rc;

    descriptor = dup(STDIN_FILENO);
    if (descriptor < 0)
        return fail_errno(err, errno, "standard input");
    rc = vhdx_disk_open_descriptor(out, descriptor, "standard input", &options, err);
    if (rc < 0)
        close(descriptor);
    return rc;
}
