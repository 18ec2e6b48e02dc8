/*
 * vhdx unmount: unmount, and wait until the image is closed.
 *
 * The kernel lets go of a mount before its server has closed the image.  Whoever unmounts in order to use the image next,
 * or to take the medium away, needs the second moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <mntent.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "message.h"
#include "mount_ask.h"
#include "verbs.h"

/* The absolute name of a folder, of which only those above are looked at: a mount whose server is gone, or that belongs to
 * somebody else, cannot be. */
static int
find_name(char out[PATH_MAX], const char *folder, struct vhdx_error *err)
{
    char above[PATH_MAX], *text = need_memory(strdup(folder)), *slash;
    const char *name;
    int length;

    while (strlen(text) > 1 && text[strlen(text) - 1] == '/')
        text[strlen(text) - 1] = '\0';
    slash = strrchr(text, '/');
    name = slash == NULL ? text : slash + 1;
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ) {
        length = realpath(text, out) == NULL ? -1 : 0;
    } else {
        if (slash != NULL)
            *slash = '\0';
        length = realpath(slash == NULL ? "." : slash == text ? "/" : text, above) == NULL
                     ? -1 : snprintf(out, PATH_MAX, "%s/%s", strcmp(above, "/") == 0 ? "" : above, name);
    }
    free(text);
    if (length >= PATH_MAX)
        errno = ENAMETOOLONG;
    return length < 0 || length >= PATH_MAX ? fail_errno(err, errno, "cannot be found") : VHDX_OK;
}

/* Whether the last thing that was mounted there is ours. */
static int
check_mount(const char *path, struct vhdx_error *err)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    char buffer[3 * PATH_MAX];
    struct mntent entry;
    bool is_ours = false;

    if (mounts == NULL)
        return fail_errno(err, errno, "/proc/self/mounts cannot be read");
    while (getmntent_r(mounts, &entry, buffer, sizeof(buffer)) != NULL) {
        if (strcmp(entry.mnt_dir, path) == 0)
            is_ours = strcmp(entry.mnt_type, MOUNT_TYPE) == 0;
    }
    endmntent(mounts);
    return is_ours ? VHDX_OK : fail(err, VHDX_E_NOT_FOUND, "no VHDX disk is mounted there");
}

/* Unmounting cannot say that what was written last did not become durable; this can. */
static int
flush(const char *path, struct vhdx_error *err)
{
    char file[PATH_MAX + 16];
    int descriptor, rc = VHDX_OK;

    snprintf(file, sizeof(file), "%s/disk.raw", path);
    descriptor = open(file, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return VHDX_OK; /* not for us to read, or the server is gone */
    if (fsync(descriptor) < 0)
        rc = fail_errno(err, errno, "what was written last could not be made durable");
    close(descriptor);
    return rc;
}

static bool
is_keeper(int32_t process)
{
    char path[64], name[32] = "";
    FILE *file;
    bool is_it;

    snprintf(path, sizeof(path), "/proc/%d/comm", (int)process);
    file = fopen(path, "re");
    if (file == NULL)
        return false;
    is_it = fgets(name, sizeof(name), file) != NULL && strcmp(name, MOUNT_PROCESS_NAME "\n") == 0;
    fclose(file);
    return is_it;
}

/* The process to wait for, or -1: when the mount does not tell, or its process lives in another world than we do. */
static int
find_process(const char *path)
{
    int descriptor = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int32_t process = 0;
    bool is_told;

    if (descriptor < 0)
        return -1;
    is_told = ioctl(descriptor, MOUNT_ASK_PROCESS, &process) == 0;
    close(descriptor);
#ifdef SYS_pidfd_open
    if (is_told && process > 0 && is_keeper(process))
        return (int)syscall(SYS_pidfd_open, (pid_t)process, 0u);
#else
    (void)is_keeper;
    (void)is_told;
#endif
    return -1;
}

static void
wait_for(int process)
{
    struct pollfd ends = { .fd = process, .events = POLLIN };

    if (process < 0)
        return;
    while (poll(&ends, 1, -1) < 0 && errno == EINTR)
        ;
    close(process);
}

/* Without root's rights: fusermount3 has them.  Returns an errno, or 0; what it says itself is not shown. */
static int
run_fusermount(const char *path)
{
    int status = 0;
    pid_t child = fork();

    if (child < 0)
        return errno;
    if (child == 0) {
        execlp("fusermount3", "fusermount3", "-u", "-q", "--", path, (char *)NULL);
        _exit(127);
    }
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    return WIFEXITED(status) && WEXITSTATUS(status) == 127 ? ENOENT : EBUSY;
}

static int
unmount(const char *path, struct vhdx_error *err)
{
    int code = umount2(path, UMOUNT_NOFOLLOW) < 0 ? errno : 0;

    if (code == EPERM)
        code = run_fusermount(path);
    switch (code) {
    case 0:
        return VHDX_OK;
    case EBUSY:
        return fail(err, VHDX_E_IN_USE, "its files are in use, or it is not yours to unmount");
    case ENOENT:
        return fail(err, VHDX_E_NOT_FOUND, "fusermount3 is not installed; Debian's package is called fuse3");
    default:
        return fail_errno(err, code, "cannot be unmounted");
    }
}

static int
run_unmount(const struct verb *verb, int argc, char **argv)
{
    static const struct message_advice advices[] = {
        { VHDX_E_IN_USE, "Nothing was changed.", "fuser -vm FILE shows who uses it; losetup shows loop devices" },
    };
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    char **operands, path[PATH_MAX];
    int process, flushed, rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while (options_next(&reader, &argument) != OPTION_END)
        ;
    options_operands(&reader, 1, 1, &operands);
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));

    rc = find_name(path, operands[0], &err);
    if (rc == VHDX_OK)
        rc = check_mount(path, &err);
    if (rc < 0) {
        message_error(operands[0], &err);
        return STATUS_FAILED;
    }
    flushed = flush(path, &err);
    if (flushed < 0)
        message_error(operands[0], &err);
    process = find_process(path);
    rc = unmount(path, &err);
    if (rc < 0) {
        message_error(operands[0], &err);
        return STATUS_FAILED;
    }
    wait_for(process);
    return flushed < 0 ? STATUS_FAILED : STATUS_GOOD;
}

const struct verb unmount_verb = {
    .name = "unmount",
    .synopsis = "DIR",
    .summary = "End what 'vhdx mount' began",
    .details = "It waits until the image is closed: afterwards other programs may use it, and its log is empty.\n",
    .example = "  vhdx unmount /mnt/disk\n",
    .usage_status = STATUS_USAGE,
    .run = run_unmount,
};
