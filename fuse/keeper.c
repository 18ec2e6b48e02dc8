/* See keeper.h. */
#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "message.h"
#include "requests.h"
#include "server.h"
#include "wire.h"

struct keeper {
    const struct mount_request *request;
    const char                 *folder;
    int                         socket;
    struct fuse_session        *session; /* for its mounting; NULL while nothing is mounted */
    bool                        is_logging; /* standard error has been left */
};

static volatile pid_t server_process; /* for the signal handler; 0: none */

/* Whoever asks this process to end means the server, which closes the image; that ends this one. */
static void
pass_on(int number)
{
    int kept = errno;

    (void)number;
    if (server_process > 0)
        kill(server_process, SIGTERM);
    errno = kept;
}

static void
catch_signals(void)
{
    static const int numbers[] = { SIGHUP, SIGINT, SIGTERM };
    struct sigaction action = { .sa_handler = pass_on };

    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        sigaction(numbers[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* The line may be of a server that its image has taken over: a log is read on terminals. */
static void
log_plainly(const char *line)
{
    char plain[WIRE_TEXT_MAX];
    size_t length = 0;

    for (; line[length] != '\0' && length < sizeof plain - 1; length++)
        plain[length] = (unsigned char)line[length] < ' ' || line[length] == 0x7f ? '?' : line[length];
    plain[length] = '\0';
    syslog(LOG_ERR, "%s", plain);
}

static void
say(const struct keeper *keeper, const char *line)
{
    if (keeper->is_logging)
        log_plainly(line);
    else
        message_print("%s", line); /* escapes */
}

/* --- the server --- */

static _Noreturn void
become_server(const struct mount_request *request, int socket, const sigset_t *mask)
{
    signal(SIGHUP, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    _exit(server_run(request, socket));
}

static bool
start_server(struct keeper *keeper)
{
    sigset_t all, before;
    int ends[2];

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0) {
        message_print("no socket can be had: %s", strerror(errno));
        return false;
    }
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &before); /* until it is known to whom a signal is passed on */
    server_process = fork();
    if (server_process == 0) {
        close(ends[0]);
        become_server(keeper->request, ends[1], &before);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    close(ends[1]);
    keeper->socket = ends[0];
    if (server_process < 0)
        message_print("no process can be started: %s", strerror(errno));
    return server_process > 0;
}

/* Wait for a message of this kind; what is to be logged meanwhile is.  False when the server is gone. */
static bool
wait_for(struct keeper *keeper, int kind)
{
    char text[WIRE_TEXT_MAX];
    int got;

    do {
        got = wire_receive(keeper->socket, text, NULL);
        if (got == WIRE_LOG)
            say(keeper, text);
    } while (got != 0 && got != kind);
    return got == kind;
}

/* The server's exit status, after it has closed the image. */
static int
collect_server(struct keeper *keeper)
{
    char text[128];
    int status = 0;

    close(keeper->socket); /* it may be waiting for a device that will not come */
    while (waitpid(server_process, &status, 0) < 0 && errno == EINTR)
        ;
    server_process = 0;
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    snprintf(text, sizeof text, "the serving process was ended by signal %d; what was flushed is safe",
             WTERMSIG(status));
    say(keeper, text);
    return STATUS_FAILED;
}

/* --- the mount --- */

static int
add_option(char **options, const char *name, const char *value)
{
    char *text = NULL;
    int rc;

    if (value == NULL)
        return fuse_opt_add_opt(options, name);
    if (asprintf(&text, "%s=%s", name, value) < 0)
        return -1;
    rc = fuse_opt_add_opt_escaped(options, text);
    free(text);
    return rc;
}

static bool
make_arguments(struct fuse_args *arguments, const struct mount_request *request)
{
    char *options = NULL;
    const char *more = request->options_for_fuse;
    bool is_good = add_option(&options, "fsname", request->source) == 0
                   && add_option(&options, "subtype", "vhdx") == 0
                   && add_option(&options, "default_permissions", NULL) == 0
                   && add_option(&options, request->is_writable ? "rw" : "ro", NULL) == 0
                   && (more == NULL || add_option(&options, more, NULL) == 0)
                   && fuse_opt_add_arg(arguments, "mount.fuse.vhdx") == 0
                   && fuse_opt_add_arg(arguments, "-o") == 0 && fuse_opt_add_arg(arguments, options) == 0;

    free(options);
    return is_good;
}

/* libfuse says what is wrong; this says what it means. */
static bool
mount_it(struct keeper *keeper)
{
    static const struct fuse_lowlevel_ops none;
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);

    if (make_arguments(&arguments, keeper->request))
        keeper->session = fuse_session_new(&arguments, &none, sizeof none, NULL);
    fuse_opt_free_args(&arguments);
    if (keeper->session != NULL && fuse_session_mount(keeper->session, keeper->folder) == 0)
        return true;
    message_print("%s cannot be mounted on.  The image was not changed", keeper->folder);
    if (access("/dev/fuse", F_OK) < 0)
        fprintf(stderr, "  Help: /dev/fuse is missing: load the kernel's module fuse ('modprobe fuse')\n");
    else if (geteuid() != 0)
        fprintf(stderr, "  Help: the folder must be yours, Debian's package fuse3 installed, and -o allow_other"
                        " allowed in /etc/fuse.conf\n");
    if (keeper->session != NULL)
        fuse_session_destroy(keeper->session);
    keeper->session = NULL;
    return false;
}

/* Does nothing when somebody else has unmounted it: that is how most mounts end. */
static void
unmount_it(struct keeper *keeper)
{
    if (keeper->session == NULL)
        return;
    fuse_session_unmount(keeper->session);
    fuse_session_destroy(keeper->session);
    keeper->session = NULL;
}

/* --- the whole --- */

/* systemd's Type=notify, without its library: a datagram to the socket it named.  Elsewhere there is none. */
static void
tell_service_manager(const char *state)
{
    const char *name = getenv("NOTIFY_SOCKET");
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    size_t length = name == NULL ? 0 : strlen(name);
    int descriptor;

    if (length == 0 || length >= sizeof address.sun_path)
        return;
    memcpy(address.sun_path, name, length);
    if (name[0] == '@')
        address.sun_path[0] = '\0'; /* an abstract name */
    descriptor = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (descriptor >= 0) {
        sendto(descriptor, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
        close(descriptor);
    }
}

static bool
go_live(struct keeper *keeper, bool (*say_live)(void *context), void *context)
{
    if (!wait_for(keeper, WIRE_READY) || !mount_it(keeper)
        || !wire_send_device(keeper->socket, fuse_session_fd(keeper->session)) || !wait_for(keeper, WIRE_LIVE))
        return false;
    keeper->is_logging = !keeper->request->is_foreground;
    tell_service_manager("READY=1");
    return say_live(context);
}

int
keeper_run(const struct mount_request *request, const char *folder, bool (*say_live)(void *context), void *context)
{
    struct keeper keeper = { .request = request, .folder = folder, .socket = -1 };
    bool was_live;
    int status;

    openlog("vhdx", LOG_PID, LOG_DAEMON);
    catch_signals();
    if (!start_server(&keeper))
        return STATUS_FAILED;
    was_live = go_live(&keeper, say_live, context);
    if (was_live)
        wait_for(&keeper, 0); /* to its end */
    else if (keeper.session != NULL)
        kill(server_process, SIGTERM);
    status = collect_server(&keeper);
    unmount_it(&keeper);
    return was_live ? status : STATUS_FAILED;
}
