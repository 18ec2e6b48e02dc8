/* See remote.h. */
#include "remote.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "readers.h"
#include "server.h"

/* Of qemu-nbd; more come only from where the server does not know them to be one. */
#define QEMU_CONNECTIONS "8"

static const struct vhdx_nbd_module *
load_once(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static const struct vhdx_nbd_module *loaded;

    pthread_mutex_lock(&lock);
    if (loaded == NULL)
        loaded = load_module("vhdx-nbd.so", VHDX_NBD_MODULE_SYMBOL);
    pthread_mutex_unlock(&lock);
    return loaded != NULL && loaded->version == VHDX_NBD_MODULE_VERSION ? loaded : NULL;
}

static int
open_uri(struct vhdx_storage **out, const char *uri, bool is_writable, struct vhdx_nbd_facts *facts, struct vhdx_error *err)
{
    struct vhdx_nbd_options options = { .uri = uri, .flags = is_writable ? VHDX_STORAGE_WRITE : 0 };

    return load_once()->open(out, &options, facts, err);
}

static void
stop_server(void *context)
{
    server_stop(context);
}

static int
open_server(struct vhdx_storage **out, char *const *words, const char *name, bool is_writable, struct vhdx_nbd_facts *facts,
            struct vhdx_error *err)
{
    struct vhdx_nbd_options options = { .name = name, .flags = is_writable ? VHDX_STORAGE_WRITE : 0, .closed = stop_server };
    struct server *server;
    int rc = server_start(&server, words, err);

    if (rc < 0)
        return rc;
    options.socket_path = server_socket(server);
    options.closed_context = server;
    rc = load_once()->open(out, &options, facts, err);
    if (rc < 0) {
        if (rc == VHDX_E_IO)
            server_explain(server, err);
        server_stop(server);
        return rc;
    }
    server_is_connected(server);
    return 0;
}

static int
need_module(struct vhdx_error *err)
{
    if (load_once() != NULL)
        return 0;
    return fail(err, VHDX_E_UNSUPPORTED, "NBD needs the module vhdx-nbd.so, which is not installed or needs libnbd"
                " (Debian: vhdx-module-nbd)");
}

int
remote_open(struct vhdx_storage **out, const char *operand, bool is_writable, struct vhdx_nbd_facts *facts,
            struct vhdx_error *err)
{
    char *const *words = remote_words(operand);
    int rc = need_module(err);

    if (rc < 0)
        return rc;
    return words == NULL ? open_uri(out, operand, is_writable, facts, err)
                         : open_server(out, words, operand, is_writable, facts, err);
}

/* A name that QEMU does not take for an option or a URL. */
static char *
plain_path(const char *path)
{
    char *text = NULL;

    if (asprintf(&text, "%s%s", path[0] == '/' ? "" : "./", path) < 0)
        need_memory(NULL);
    return text;
}

int
remote_open_by_qemu(struct vhdx_storage **out, const char *path, const char *qemu_format, struct vhdx_error *err)
{
    char *file = plain_path(path);
    const char *const words[] = { "qemu-nbd", "-r", "-e", QEMU_CONNECTIONS, "-f", qemu_format, "--", file, NULL };
    struct vhdx_nbd_facts facts;
    int rc;

    if (access(path, R_OK) < 0)
        rc = fail_errno(err, errno, "cannot be read");
    else
        rc = need_module(err);
    if (rc == 0)
        rc = open_server(out, (char *const *)(uintptr_t)words, path, false, &facts, err);
    if (rc == VHDX_E_NOT_FOUND && access(path, R_OK) == 0)
        rc = fail(err, VHDX_E_UNSUPPORTED, "%s is read by qemu-nbd, which is not installed (Debian: qemu-utils)", qemu_format);
    free(file);
    return rc;
}
