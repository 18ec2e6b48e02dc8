/*
 * mount.fuse.vhdx: a VHDX disk as files.
 *
 * Three processes: the one that was started waits until the mount answers, or says why it does not, and ends; the keeper
 * (keeper.h) mounts and unmounts; the server (server.h) reads the image.  In the foreground the first two are one.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keeper.h"
#include "message.h"

static bool
find_folder(char folder[PATH_MAX], const char *name)
{
    bool is_there = realpath(name, folder) != NULL;
    int descriptor = is_there ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

    if (descriptor >= 0)
        close(descriptor);
    if (descriptor >= 0 || (is_there && errno == EACCES)) /* it need not be readable to be mounted on */
        return true;
    if (errno == ENOTDIR && is_there)
        message_print("%s: not a folder, and a disk is mounted on one", name);
    else
        message_print("%s: %s", name, strerror(errno));
    if (errno == ENOTCONN)
        message_print("a mount is there whose server is gone; vhdx unmount %s removes it", name);
    return false;
}

static bool
stay_in_foreground(void *context)
{
    (void)context;
    return chdir("/") == 0;
}

/* Leave what belonged to the caller, and let it go on.  False when it is gone: then nobody knows of the mount. */
static bool
leave_caller(void *context)
{
    const int *caller = context;
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0 || chdir("/") < 0)
        return false;
    if (write(*caller, "", 1) != 1)
        return false;
    close(*caller);
    dup2(null, STDIN_FILENO);
    dup2(null, STDOUT_FILENO);
    dup2(null, STDERR_FILENO);
    close(null);
    return true;
}

static int
wait_until_live(int keeper)
{
    ssize_t got;
    char byte;

    do
        got = read(keeper, &byte, 1);
    while (got < 0 && errno == EINTR);
    return got == 1 ? EXIT_SUCCESS : STATUS_FAILED;
}

static int
run_in_background(const struct mount_request *request, const char *folder)
{
    int ends[2], status;
    pid_t keeper;

    if (pipe2(ends, O_CLOEXEC) < 0 || (keeper = fork()) < 0) {
        message_print("no process can be started: %s", strerror(errno));
        return STATUS_FAILED;
    }
    if (keeper > 0) {
        close(ends[1]);
        return wait_until_live(ends[0]);
    }
    close(ends[0]);
    setsid();
    status = keeper_run(request, folder, leave_caller, &ends[1]);
    _exit(status);
}

int
main(int argc, char **argv)
{
    static struct mount_request request; /* what it owns is kept to the end */
    char folder[PATH_MAX], source[PATH_MAX];

    request_read(&request, argc, argv);
    if (request.is_fake)
        return EXIT_SUCCESS;
    if (!find_folder(folder, request.folder))
        return STATUS_FAILED;
    request.source = realpath(request.file, source) != NULL ? source : request.file;
    return request.is_foreground ? keeper_run(&request, folder, stay_in_foreground, NULL)
                                 : run_in_background(&request, folder);
}
