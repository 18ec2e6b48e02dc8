/*
 * The process that reads the image and answers the kernel.
 *
 * It gives up its rights twice (sandbox.h): before it reads the image, to what opening it needs, and then to nothing.  So
 * it can neither mount nor unmount; the process that started it does.
 */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "chain.h"
#include "message.h"
#include "requests.h"
#include "sandbox/sandbox.h"
#include "wire.h"

#define THREADS      16
#define FAILURES_MOST 100 /* that are logged: a damaged image must not fill a disk */

/* Where this program knows better than message.c. */
static const struct message_advice advices[] = {
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program; a disk that is served or mounted for writing can be used there" },
    { VHDX_E_NOT_VHDX, "Nothing in it was looked at or changed.",
      "if it is a raw disk, the system shows its partitions without us: losetup -f -P --show FILE" },
    { VHDX_E_NEEDS_REPAIR, "The disk can be read; writing could make the damage worse, so it is refused.",
      "vhdx check FILE lists the damage; vhdx mount without -w shows what can be read" },
    { VHDX_E_NO_PARENT, "This is a differencing image: what it does not hold itself lies in its parent.",
      "parents elsewhere are found with --parents=DIR or --parents=any (mount -o parents=), and --map=C:=DIR tells where"
      " a drive of Windows is; vhdx tree FOLDER shows which images fit together" },
};

struct server {
    struct service              service;
    struct tree                 tree;
    const struct mount_request *request;
    int                         socket;
    atomic_uint                 failure_count;
};

static void
say_live(struct service *service)
{
    struct server *server = (struct server *)service; /* its first member */

    wire_send(server->socket, WIRE_LIVE, NULL);
}

static void
say_failed(struct service *service, const struct vhdx_error *err)
{
    struct server *server = (struct server *)service;
    unsigned before = atomic_fetch_add(&server->failure_count, 1);
    char text[WIRE_TEXT_MAX - 1];

    if (before > FAILURES_MOST)
        return;
    if (before == FAILURES_MOST)
        snprintf(text, sizeof text, "%s: further errors are not logged", server->request->file);
    else
        snprintf(text, sizeof text, "%s: %s", server->request->file, err->message);
    wire_send(server->socket, WIRE_LOG, text);
}

/* Where parents may be. */
static int
make_policy(const struct mount_request *request, struct vhdx_error *err)
{
    chain_allow_parents(request->parents == NULL ? "same-dir" : request->parents);
    return chain_complete(err);
}

/* Before a byte of the image is read: to the image, its parents, and if it is written, those who may depend on it. */
static int
confine_to_image(const struct mount_request *request, struct vhdx_error *err)
{
    struct sandbox_list list = { .count = 0 };
    int rc;

    if (request->is_unconfined)
        return VHDX_OK;
    sandbox_allow_image(&list, request->file, request->is_writable ? SANDBOX_WRITE : SANDBOX_READ,
                        chain_parents_options());
    if (request->is_writable)
        sandbox_allow_beside(&list, request->file, SANDBOX_READ);
    rc = sandbox_enter(&list, NULL, err);
    sandbox_list_free(&list);
    return rc;
}

/* Once all is open. */
static int
confine_to_nothing(const struct mount_request *request, struct vhdx_error *err)
{
    const struct sandbox_list none = { .count = 0 };

    return request->is_unconfined ? VHDX_OK : sandbox_enter(&none, NULL, err);
}

/* Hold on to no folder, and when in the background to no terminal or pipe: the caller may be waiting for its end. */
static void
leave_caller(const struct mount_request *request, int null)
{
    if (chdir("/") < 0)
        return; /* it then keeps the folder it was started in from being unmounted, and nothing else */
    if (null < 0 || request->is_foreground)
        return;
    for (int descriptor = 0; descriptor <= 2; descriptor++)
        dup2(null, descriptor);
}

static void *
wait_forever(void *context)
{
    for (;;)
        pause();
    return context;
}

/* libfuse ends its threads by cancelling them, for which glibc opens a library (libgcc_s) the first time; later it could
 * not, and would abort. */
static void
prepare_to_cancel(void)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, wait_forever, NULL) == 0) {
        pthread_cancel(thread);
        pthread_join(thread, NULL);
    }
}

static int
open_image(struct server *server, struct vhdx_error *err)
{
    int rc = make_policy(server->request, err);

    prepare_to_cancel();
    if (rc == VHDX_OK)
        rc = confine_to_image(server->request, err);
    if (rc == VHDX_OK)
        rc = tree_open(&server->tree, server->request, err);
    if (rc == VHDX_OK)
        rc = confine_to_nothing(server->request, err);
    return rc;
}

/* The connection to the kernel, once it is mounted. */
static int
receive_device(int socket)
{
    int device = -1, kind;

    do
        kind = wire_receive(socket, NULL, &device);
    while (kind < 0);
    return kind == WIRE_DEVICE ? device : -1;
}

/* Answer until the end.  Returns false when the connection broke. */
static bool
answer_kernel(struct server *server, int device)
{
    struct fuse_args arguments = FUSE_ARGS_INIT(0, NULL);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    struct fuse_session *session = NULL;
    char path[32];
    int rc = -1;

    snprintf(path, sizeof path, "/dev/fd/%d", device); /* libfuse takes the number from it and opens nothing */
    if (fuse_opt_add_arg(&arguments, "mount.fuse.vhdx") == 0)
        session = fuse_session_new(&arguments, &request_table, sizeof request_table, &server->service);
    if (session != NULL && config != NULL && fuse_session_mount(session, path) == 0
        && fuse_set_signal_handlers(session) == 0) {
        fuse_loop_cfg_set_clone_fd(config, 0);
        fuse_loop_cfg_set_max_threads(config, THREADS);
        fuse_loop_cfg_set_idle_threads(config, THREADS);
        rc = fuse_session_loop_mt(session, config);
        signal(SIGHUP, SIG_IGN); /* from here to the end the image is closed; being asked to hurry would not help it */
        signal(SIGINT, SIG_IGN);
        signal(SIGTERM, SIG_IGN);
    }
    if (config != NULL)
        fuse_loop_cfg_destroy(config);
    if (session != NULL)
        fuse_session_destroy(session);
    fuse_opt_free_args(&arguments);
    return rc >= 0;
}

static void
say_not_closed(struct server *server, const struct vhdx_error *err)
{
    atomic_store(&server->failure_count, 0); /* this one is heard in any case */
    say_failed(&server->service, err);
}

int
server_run(const struct mount_request *request, int socket)
{
    struct server server = { .tree = { .file_descriptor = -1 }, .request = request, .socket = socket };
    struct vhdx_error err = { .file_offset = VHDX_NO_OFFSET };
    int null = open("/dev/null", O_RDWR | O_CLOEXEC); /* now: later no path is left */
    bool is_good = false;
    int device;

    server.service = (struct service){ .tree = &server.tree, .process = getppid(), .say_live = say_live,
                                       .say_failed = say_failed };
    message_advise(advices, sizeof advices / sizeof advices[0]);
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* nobody would unmount any more: close the image while it can be */
    if (open_image(&server, &err) < 0) {
        message_error(request->file, &err);
        tree_close(&server.tree, NULL);
        return STATUS_FAILED;
    }
    leave_caller(request, null);
    wire_send(socket, WIRE_READY, NULL);
    device = receive_device(socket);
    if (device >= 0)
        is_good = answer_kernel(&server, device);
    if (tree_close(&server.tree, &err) < 0) {
        say_not_closed(&server, &err);
        is_good = false;
    }
    return is_good ? EXIT_SUCCESS : STATUS_FAILED;
}
