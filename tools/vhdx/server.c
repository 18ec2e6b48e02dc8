/*
 * See server.h.
 *
 *   S1  It never outlives us: it is told to end when we end, whatever ends us.
 *   S2  Its standard output is not ours, which may be a disk; both its outputs come through one pipe.  Until it is connected
 *       to, they are kept for the error message; then they are passed on.
 *   S3  Between fork and exec only async-signal-safe calls are made: other threads may be running here.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "message.h"
#include "text.h"

#define LISTENER   3     /* the descriptor where socket activation looks */
#define KEPT_MAX   200u  /* of what it said: the end, which fits into an error */
#define END_WAIT   100   /* tenths of a second that it may take to end by itself */
#define PID_DIGITS 12

extern char **environ;

struct server {
    pid_t           pid;
    bool            was_reaped;
    int             wait_status;
    char            folder[64];
    char            socket_path[80];
    bool            has_socket;
    int             output; /* of the server: where we read */
    pthread_t       reader;
    bool            has_reader;
    atomic_bool     is_over;
    pthread_mutex_t lock; /* guards all below */
    bool            passes_on;
    char            kept[KEPT_MAX + 1];
    size_t          kept_length;
};

/* --- what it says --- */

/* S2.  Of what is kept the end counts: there the reason is. */
static void
keep_locked(struct server *server, const char *bytes, size_t length)
{
    if (length > KEPT_MAX) {
        bytes += length - KEPT_MAX;
        length = KEPT_MAX;
    }
    if (server->kept_length + length > KEPT_MAX) {
        size_t excess = server->kept_length + length - KEPT_MAX;

        memmove(server->kept, server->kept + excess, server->kept_length - excess);
        server->kept_length -= excess;
    }
    memcpy(server->kept + server->kept_length, bytes, length);
    server->kept_length += length;
}

static void
take_output(struct server *server, const char *bytes, size_t length)
{
    pthread_mutex_lock(&server->lock);
    if (server->passes_on)
        fwrite(bytes, 1, length, stderr);
    else
        keep_locked(server, bytes, length);
    pthread_mutex_unlock(&server->lock);
}

static void *
read_output(void *context)
{
    struct server *server = context;
    char buffer[1024];

    for (;;) {
        struct pollfd wait = { .fd = server->output, .events = POLLIN };
        int ready = poll(&wait, 1, 100);
        ssize_t got;

        if (ready == 0 && atomic_load(&server->is_over)) /* some child of it may hold the pipe open */
            return NULL;
        if (ready <= 0)
            continue;
        got = read(server->output, buffer, sizeof(buffer));
        if (got == 0 || (got < 0 && errno != EINTR))
            return NULL;
        if (got > 0)
            take_output(server, buffer, (size_t)got);
    }
}

/* --- starting --- */

static int
listen_at(struct server *server, int *listener, struct vhdx_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };

    snprintf(server->folder, sizeof(server->folder), "/tmp/vhdx-nbd-XXXXXX");
    if (mkdtemp(server->folder) == NULL) /* mode 0700 */
        return fail_errno(err, errno, "no folder for a socket can be made in /tmp");
    server->has_socket = true;
    snprintf(server->socket_path, sizeof(server->socket_path), "%s/socket", server->folder);
    snprintf(address.sun_path, sizeof(address.sun_path), "%s", server->socket_path);
    *listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*listener < 0 || bind(*listener, (const struct sockaddr *)&address, sizeof(address)) < 0
        || listen(*listener, 32) < 0)
        return fail_errno(err, errno, "no socket can be made in /tmp");
    return 0;
}

/* Our environment with LISTEN_FDS=1 and room for LISTEN_PID; *pid_text is where its digits go. */
static char **
make_environment(char **pid_text)
{
    static const char *const ours[] = { "LISTEN_PID=", "LISTEN_FDS=", "LISTEN_FDNAMES=" };
    size_t count = 0, used = 0;
    char **environment;

    while (environ[count] != NULL)
        count++;
    environment = need_memory(calloc(count + 3, sizeof(*environment)));
    environment[used] = need_memory(calloc(1, strlen(ours[0]) + PID_DIGITS + 1));
    strcpy(environment[used], ours[0]);
    *pid_text = environment[used++] + strlen(ours[0]);
    environment[used++] = need_memory(strdup("LISTEN_FDS=1"));
    for (size_t i = 0; i < count; i++) {
        bool is_ours = false;

        for (size_t k = 0; k < sizeof(ours) / sizeof(ours[0]); k++)
            is_ours = is_ours || strncmp(environ[i], ours[k], strlen(ours[k])) == 0;
        if (!is_ours)
            environment[used++] = environ[i];
    }
    return environment;
}

static void
free_environment(char **environment)
{
    free(environment[0]);
    free(environment[1]);
    free(environment);
}

/* S3 */
static void
write_digits(char text[PID_DIGITS], pid_t pid)
{
    char reversed[PID_DIGITS];
    size_t count = 0;

    do
        reversed[count++] = (char)('0' + pid % 10);
    while ((pid /= 10) != 0);
    while (count > 0)
        *text++ = reversed[--count];
}

/* The child: it becomes the server, or says by which errno it could not.  S3. */
static _Noreturn void
become_server(char *const *arguments, char **environment, char *pid_text, int listener, int output, int failure, pid_t parent)
{
    sigset_t none;
    int null, system_errno;

    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* S1 */
    if (getppid() != parent)
        _exit(1);
    null = open("/dev/null", O_RDONLY);
    failure = fcntl(failure, F_DUPFD_CLOEXEC, 10); /* out of the way of those that get fixed numbers */
    output = fcntl(output, F_DUPFD_CLOEXEC, 10);
    listener = fcntl(listener, F_DUPFD_CLOEXEC, 10);
    if (null >= 0 && output >= 0 && listener >= 0 && dup2(null, STDIN_FILENO) >= 0 && dup2(output, STDOUT_FILENO) >= 0
        && dup2(output, STDERR_FILENO) >= 0 && dup2(listener, LISTENER) >= 0) {
        write_digits(pid_text, getpid());
        execvpe(arguments[0], arguments, environment);
    }
    system_errno = errno;
    while (write(failure, &system_errno, sizeof(system_errno)) < 0 && errno == EINTR)
        ;
    _exit(127);
}

/* Wait until the child has become the server: the pipe closes, or tells why not. */
static int
await_exec(struct server *server, int failure, const char *program, struct vhdx_error *err)
{
    int system_errno;
    ssize_t got;

    do
        got = read(failure, &system_errno, sizeof(system_errno));
    while (got < 0 && errno == EINTR);
    if (got != (ssize_t)sizeof(system_errno))
        return 0;
    waitpid(server->pid, &server->wait_status, 0);
    server->was_reaped = true;
    return fail_errno(err, system_errno, "%s cannot be started", program);
}

static int
start_child(struct server *server, char *const *arguments, int listener, struct vhdx_error *err)
{
    int output[2], failure[2], rc;
    pid_t parent = getpid();
    char *pid_text, **environment;

    if (pipe2(output, O_CLOEXEC) < 0)
        return fail_errno(err, errno, "a pipe");
    server->output = output[0];
    if (pipe2(failure, O_CLOEXEC) < 0) {
        close(output[1]);
        return fail_errno(err, errno, "a pipe");
    }
    environment = make_environment(&pid_text);
    server->pid = fork();
    if (server->pid == 0)
        become_server(arguments, environment, pid_text, listener, output[1], failure[1], parent);
    rc = server->pid < 0 ? fail_errno(err, errno, "%s cannot be started", arguments[0]) : 0;
    close(output[1]);
    close(failure[1]);
    if (rc == 0)
        rc = await_exec(server, failure[0], arguments[0], err);
    close(failure[0]);
    free_environment(environment);
    return rc;
}

static int
start_reader(struct server *server, struct vhdx_error *err)
{
    sigset_t all, old;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&server->reader, NULL, read_output, server);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    server->has_reader = rc == 0;
    return rc == 0 ? 0 : fail_errno(err, rc, "a thread");
}

int
server_start(struct server **out, char *const *arguments, struct vhdx_error *err)
{
    struct server *server = need_memory(calloc(1, sizeof(*server)));
    int listener = -1, rc;

    server->pid = -1;
    server->output = -1;
    pthread_mutex_init(&server->lock, NULL);
    rc = listen_at(server, &listener, err);
    if (rc == 0)
        rc = start_child(server, arguments, listener, err);
    if (rc == 0)
        rc = start_reader(server, err);
    if (listener >= 0)
        close(listener); /* so that a server that dies is noticed by who connects */
    if (rc < 0) {
        server_stop(server);
        return rc;
    }
    *out = server;
    return 0;
}

const char *
server_socket(const struct server *server)
{
    return server->socket_path;
}

/* --- ending --- */

static void
remove_socket(struct server *server)
{
    if (!server->has_socket)
        return;
    unlink(server->socket_path);
    rmdir(server->folder);
    server->has_socket = false;
}

void
server_is_connected(struct server *server)
{
    remove_socket(server);
    pthread_mutex_lock(&server->lock);
    server->passes_on = true;
    fwrite(server->kept, 1, server->kept_length, stderr);
    server->kept_length = 0;
    pthread_mutex_unlock(&server->lock);
}

/* It is told to end, and when it does not, ended. */
static void
reap(struct server *server, int patience)
{
    const struct timespec tenth = { .tv_nsec = 100000000 }, moment = { .tv_nsec = 2000000 };

    if (server->pid <= 0 || server->was_reaped)
        return;
    for (int i = 0; i < 50 + patience; i++) {
        if (waitpid(server->pid, &server->wait_status, WNOHANG) != 0) {
            server->was_reaped = true;
            return;
        }
        nanosleep(i < 50 ? &moment : &tenth, NULL);
    }
    kill(server->pid, SIGKILL);
    waitpid(server->pid, &server->wait_status, 0);
    server->was_reaped = true;
}

static void
join_reader(struct server *server)
{
    atomic_store(&server->is_over, true);
    if (server->has_reader)
        pthread_join(server->reader, NULL);
    server->has_reader = false;
}

/* The last lines as one. */
static void
last_words(struct server *server, char out[KEPT_MAX + 1])
{
    pthread_mutex_lock(&server->lock);
    server->kept[server->kept_length] = '\0';
    snprintf(out, KEPT_MAX + 1, "%s", server->kept);
    pthread_mutex_unlock(&server->lock);
    for (size_t length = strlen(out); length > 0 && out[length - 1] == '\n'; length--)
        out[length - 1] = '\0';
    for (char *p = out; *p != '\0'; p++)
        if (*p == '\n')
            *p = ';';
}

void
server_explain(struct server *server, struct vhdx_error *err)
{
    char words[KEPT_MAX + 1], connecting[sizeof(err->message)];

    reap(server, 10); /* whoever hangs up on a client at once is about to end, as a rule */
    join_reader(server);
    last_words(server, words);
    snprintf(connecting, sizeof(connecting), "%s", err->message);
    if (WIFEXITED(server->wait_status))
        fail(err, VHDX_E_IO, "the server ended with status %d%s%s", WEXITSTATUS(server->wait_status),
             words[0] != '\0' ? ": " : " and said nothing", words);
    else
        fail(err, VHDX_E_IO, "%.100s%s%s", connecting, words[0] != '\0' ? "; the server says: " : "", words);
}

void
server_stop(struct server *server)
{
    if (server->pid > 0 && !server->was_reaped)
        kill(server->pid, SIGTERM);
    reap(server, END_WAIT);
    join_reader(server);
    remove_socket(server);
    if (server->output >= 0)
        close(server->output);
    pthread_mutex_destroy(&server->lock);
    free(server);
}
