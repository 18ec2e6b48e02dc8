/*
 * A process that a hostile image has taken over, for tests: preloaded into it, this waits until something is read
 * that contains the magic words, then tries what an intruder would, and reports each attempt as a line,
 * "read-other 13": the errno, or 0 when it succeeded.
 *
 *   INTRUDER_REPORT   an open descriptor that takes the lines
 *   INTRUDER_OTHER    a file elsewhere
 *   INTRUDER_BESIDE   a file beside the image
 *   INTRUDER_OUTPUT   a file that is not there yet
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAGIC "let the intruder in"

ssize_t pread64(int descriptor, void *buffer, size_t size, off64_t offset);
ssize_t preadv64(int descriptor, const struct iovec *parts, int count, off64_t offset);

static const char *
variable(const char *name)
{
    const char *value = getenv(name);

    return value == NULL ? "/nowhere" : value;
}

static int
errno_of(long rc)
{
    return rc < 0 ? errno : 0;
}

static int
open_file(const char *name, int flags)
{
    int descriptor = open(variable(name), flags | O_CLOEXEC, 0600);

    if (descriptor < 0)
        return errno;
    close(descriptor);
    return 0;
}

static int
start_process(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    if (child < 0)
        return errno;
    waitpid(child, NULL, 0);
    return 0;
}

/* A program that is not there: whether the kernel looks for it at all. */
static int
run_program(void)
{
    char *const none[] = { NULL };

    execve("/nowhere/at/all", none, none);
    return errno == ENOENT ? 0 : errno;
}

static int
make_socket(void)
{
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (descriptor < 0)
        return errno;
    close(descriptor);
    return 0;
}

static int read_other(void) { return open_file("INTRUDER_OTHER", O_RDONLY); }
static int read_beside(void) { return open_file("INTRUDER_BESIDE", O_RDONLY); }
static int write_beside(void) { return open_file("INTRUDER_BESIDE", O_RDWR); }
static int make(void) { return open_file("INTRUDER_OUTPUT", O_WRONLY | O_CREAT); }
static int remove_beside(void) { return errno_of(unlink(variable("INTRUDER_BESIDE"))); }
static int send_signal(void) { return errno_of(kill(getppid(), 0)); }

/* In this order. */
static const struct {
    const char *name;
    int (*attempt)(void);
} attempts[] = {
    { "read-other", read_other },     { "read-beside", read_beside }, { "write-beside", write_beside },
    { "make", make },                 { "remove-beside", remove_beside }, { "process", start_process },
    { "program", run_program },       { "socket", make_socket },      { "signal", send_signal },
};

static void
intrude(void)
{
    char   lines[512];
    size_t used = 0;

    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++)
        used += (size_t)snprintf(lines + used, sizeof lines - used, "%s %d\n", attempts[i].name,
                                 attempts[i].attempt());
    if (getenv("INTRUDER_REPORT") != NULL && write(atoi(getenv("INTRUDER_REPORT")), lines, used) < 0)
        abort();
}

static void
look_at(const void *bytes, size_t length)
{
    if (memmem(bytes, length, MAGIC, strlen(MAGIC)) != NULL)
        intrude();
}

ssize_t
pread64(int descriptor, void *buffer, size_t size, off64_t offset)
{
    union {
        void *object;
        ssize_t (*call)(int, void *, size_t, off64_t);
    } next = { dlsym(RTLD_NEXT, "pread64") };
    ssize_t n = next.call(descriptor, buffer, size, offset);

    if (n > 0)
        look_at(buffer, (size_t)n);
    return n;
}

ssize_t
preadv64(int descriptor, const struct iovec *parts, int count, off64_t offset)
{
    union {
        void *object;
        ssize_t (*call)(int, const struct iovec *, int, off64_t);
    } next = { dlsym(RTLD_NEXT, "preadv64") };
    ssize_t n = next.call(descriptor, parts, count, offset), left = n;

    for (int i = 0; i < count && left > 0; i++) {
        size_t length = parts[i].iov_len < (size_t)left ? parts[i].iov_len : (size_t)left;

        look_at(parts[i].iov_base, length);
        left -= (ssize_t)length;
    }
    return n;
}
