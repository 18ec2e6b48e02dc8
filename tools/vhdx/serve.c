/*
 * vhdx serve: become nbdkit, with our plugin.
 *
 * The process is replaced, not a child started: a client that starts us with a listening socket (`nbdinfo [ vhdx
 * serve X ]`) has told the socket to this process id, and whoever watches or ends us means the server.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "message.h"
#include "verbs.h"

enum { OPTION_IGNORE = 256 };

static const struct option_line lines[] = {
    { "read-only", 'r', NULL, "serve for reading; not one byte of the file changes" },
    { "ignore-log", OPTION_IGNORE, NULL, "serve the file as it lies, its log not replayed; read-only" },
    { 0 },
};

/* The plugin: as the environment says (a build tree), else where it was installed, else nbdkit's own search. */
static const char *
find_plugin(void)
{
    const char *path = getenv("VHDX_NBDKIT_PLUGIN");

    if (path != NULL && path[0] != '\0')
        return path;
    return access(VHDX_NBDKIT_PLUGIN_PATH, R_OK) == 0 ? VHDX_NBDKIT_PLUGIN_PATH : "vhdx";
}

/* nbdkit reads its options wherever they stand, so those of the user may follow the plugin's name. */
static char **
make_arguments(const char *plugin, const char *path, bool is_read_only, bool ignores_log, int count, char **more)
{
    char **arguments = need_memory(calloc((size_t)count + 6, sizeof(*arguments)));
    char *file = NULL;
    size_t used = 0;

    if (asprintf(&file, "file=%s", path) < 0)
        need_memory(NULL);
    arguments[used++] = need_memory(strdup("nbdkit"));
    if (is_read_only)
        arguments[used++] = need_memory(strdup("-r"));
    arguments[used++] = need_memory(strdup(plugin));
    arguments[used++] = file;
    if (ignores_log)
        arguments[used++] = need_memory(strdup("ignore-log=true"));
    for (int i = 0; i < count; i++)
        arguments[used++] = more[i];
    return arguments;
}

static int
run_serve(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    char **operands, **arguments;
    bool is_read_only = false, ignores_log = false;
    int letter, count;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        is_read_only = true;
        ignores_log = ignores_log || letter == OPTION_IGNORE;
    }
    count = options_operands(&reader, 1, argc, &operands);
    if (access(operands[0], is_read_only ? R_OK : R_OK | W_OK) < 0) {
        fail_errno(&err, errno, is_read_only ? "cannot be read" : "cannot be written");
        message_error(operands[0], &err);
        return STATUS_FAILED;
    }

    arguments = make_arguments(find_plugin(), operands[0], is_read_only, ignores_log, count - 1, operands + 1);
    execvp(arguments[0], arguments);
    if (errno == ENOENT)
        message_print("nbdkit is not installed; Debian's package is called nbdkit");
    else
        message_print("nbdkit cannot be started: %s", strerror(errno));
    return STATUS_FAILED;
}

const struct verb serve_verb = {
    .name = "serve",
    .synopsis = "[-r] FILE [NBDKIT OPTIONS]",
    .summary = "Serve a disk over NBD, by nbdkit",
    .details = "Options for nbdkit follow FILE and reach it as they are: -U SOCKET, -i ADDRESS, -p PORT,\n"
               "--run COMMAND, -f, -P PIDFILE, --filter=.., and so on.  Without any, nbdkit listens on TCP port\n"
               "10809 of every address.\n",
    .example = "  vhdx serve -r disk.vhdx -U - --run 'nbdinfo \"$uri\"'\n"
               "  nbdcopy -- [ vhdx serve -r disk.vhdx ] disk.raw\n",
    .options = lines,
    .stops_at_file = true,
    .usage_status = STATUS_USAGE,
    .run = run_serve,
};
