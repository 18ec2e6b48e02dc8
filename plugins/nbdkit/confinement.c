/* See confinement.h. */
#include "confinement.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

/* nbdkit's sockets are among its first descriptors. */
#define DESCRIPTORS_LOOKED_AT 1024

static struct {
    bool                is_wanted;
    struct sandbox_list opening; /* the first step */
    struct sandbox_list staying; /* the second */
} confinement;

/* Steps only take away: what stays is there while the disk is opened, too. */
static void
keep(const char *path, enum sandbox_right right)
{
    sandbox_allow(&confinement.opening, path, right);
    sandbox_allow(&confinement.staying, path, right);
}

int
confinement_take(const char *value)
{
    int is_set = nbdkit_parse_bool(value);

    if (is_set < 0)
        return -1;
    confinement.is_wanted = is_set != 0;
    return 0;
}

int
confinement_keep_readable(const char *value)
{
    char *path = nbdkit_absolute_path(value);

    if (path == NULL)
        return -1;
    keep(path, SANDBOX_READ);
    free(path);
    return 0;
}

bool
confinement_is_wanted(void)
{
    return confinement.is_wanted;
}

void
confinement_plan(const char *image, bool for_writing, bool looks_for_children,
                 const struct vhdx_parents_options *parents)
{
    sandbox_allow_image(&confinement.opening, image, for_writing ? SANDBOX_WRITE : SANDBOX_READ, parents);
    if (looks_for_children)
        sandbox_allow_beside(&confinement.opening, image, SANDBOX_READ);
}

int
confinement_look(int (*work)(void *context, struct vhdx_error *err), void *context, struct vhdx_error *err)
{
    return confinement.is_wanted ? sandbox_call(&confinement.opening, work, context, err) : work(context, err);
}

/* The folder that nbdkit makes for `-U -`: "/tmp/nbdkitXXXXXX", ours alone. */
static bool
is_private_folder(const char *path)
{
    const char *slash = strrchr(path, '/'), *name = slash == NULL ? path : slash + 1;
    struct stat status;

    return strncmp(name, "nbdkit", 6) == 0 && lstat(path, &status) == 0 && S_ISDIR(status.st_mode) &&
           status.st_uid == geteuid() && (status.st_mode & 0777) == 0700;
}

/* nbdkit removes a socket that it named itself, and the folder of it, at its end. */
static void
allow_removal(const struct sockaddr_un *address)
{
    char  folder[sizeof address->sun_path];
    char *slash;

    memcpy(folder, address->sun_path, sizeof folder - 1);
    folder[sizeof folder - 1] = '\0';
    slash = strrchr(folder, '/');
    if (slash == NULL || slash == folder)
        return;
    *slash = '\0';
    if (!is_private_folder(folder))
        return;
    keep(folder, SANDBOX_REMOVE_FILES);
    slash = strrchr(folder, '/');
    if (slash == NULL)
        return;
    slash[1] = '\0';
    keep(folder, SANDBOX_REMOVE_FOLDERS);
}

/* The plugin is not told where nbdkit listens; its sockets tell. */
static void
allow_removal_of_sockets(void)
{
    for (int descriptor = 0; descriptor < DESCRIPTORS_LOOKED_AT; descriptor++) {
        struct sockaddr_un address = { .sun_family = AF_UNSPEC };
        socklen_t          size = sizeof address;
        int                listens = 0;
        socklen_t          flag_size = sizeof listens;

        if (getsockopt(descriptor, SOL_SOCKET, SO_ACCEPTCONN, &listens, &flag_size) == 0 && listens != 0 &&
            getsockname(descriptor, (struct sockaddr *)&address, &size) == 0 && address.sun_family == AF_UNIX)
            allow_removal(&address);
    }
}

/* In the background nbdkit logs to syslog, which would open its socket at the first message. */
int
confinement_begin(struct vhdx_error *err)
{
    openlog("nbdkit", LOG_PID | LOG_NDELAY, LOG_USER);
    allow_removal_of_sockets();
    return sandbox_enter(&confinement.opening, NULL, err);
}

int
confinement_complete(struct vhdx_error *err)
{
    struct sandbox_report report;
    char                  text[SANDBOX_TEXT_SIZE];
    int                   rc = sandbox_enter(&confinement.staying, &report, err);

    if (rc == VHDX_OK)
        nbdkit_debug("sandbox: %s", sandbox_text(text, &report));
    return rc;
}

void
confinement_free(void)
{
    sandbox_list_free(&confinement.opening);
    sandbox_list_free(&confinement.staying);
}
