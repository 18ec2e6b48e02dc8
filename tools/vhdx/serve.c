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

#include "chain.h"
#include "message.h"
#include "verbs.h"

enum { OPTION_IGNORE = 256, OPTION_PARENTS, OPTION_MAP };

static const struct option_line lines[] = {
    { "read-only", 'r', NULL, "serve for reading; not one byte of the file changes" },
    { "ignore-log", OPTION_IGNORE, NULL, "serve the file as it lies, its log not replayed; read-only" },
    { "parents", OPTION_PARENTS, "WHICH", "where parents may be: none, same-dir (default), any, or DIR,DIR.." },
    { "map", OPTION_MAP, "C:=DIR", "where a drive or share (\\\\server\\share=DIR) of Windows is here" },
    { 0 },
};

/* What the plugin is told. */
struct request {
    const char *path;
    bool        is_read_only;
    bool        ignores_log;
    bool        orphans_children;
    const char *parents; /* NULL: as the plugin does without */
    int         count;   /* options for nbdkit */
    char      **more;
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

static char *
parameter(const char *key, const char *value)
{
    char *text = NULL;

    if (asprintf(&text, "%s=%s", key, value) < 0)
        need_memory(NULL);
    return text;
}

static size_t
count_words(const char *const *words)
{
    size_t count = 0;

    while (words[count] != NULL)
        count++;
    return count;
}

/* nbdkit reads its options wherever they stand, so those of the user may follow the plugin's name. */
static char **
make_arguments(const char *plugin, const struct request *request)
{
    const char *const *maps = chain_maps();
    size_t used = 0, map_count = count_words(maps);
    char **arguments = need_memory(calloc((size_t)request->count + map_count + 8, sizeof(*arguments)));

    arguments[used++] = need_memory(strdup("nbdkit"));
    if (request->is_read_only)
        arguments[used++] = need_memory(strdup("-r"));
    arguments[used++] = need_memory(strdup(plugin));
    arguments[used++] = parameter("file", request->path);
    if (request->ignores_log)
        arguments[used++] = parameter("ignore-log", "true");
    if (request->orphans_children)
        arguments[used++] = parameter("orphan-children", "true");
    if (request->parents != NULL)
        arguments[used++] = parameter("parents", request->parents);
    for (size_t i = 0; i < map_count; i++)
        arguments[used++] = parameter("map", maps[i]);
    for (int i = 0; i < request->count; i++)
        arguments[used++] = request->more[i];
    return arguments;
}

static void
take_option(struct request *request, int letter, const char *argument)
{
    switch (letter) {
    case OPTION_PARENTS:
        request->parents = argument;
        chain_allow_parents(argument);
        break;
    case OPTION_MAP:
        chain_add_map(argument);
        break;
    default:
        request->is_read_only = true;
        request->ignores_log = request->ignores_log || letter == OPTION_IGNORE;
    }
}

/* What would make every client fail is better said before the server starts. */
static int
judge_file(const struct request *request, const struct shared_options *shared, struct vhdx_error *err)
{
    if (access(request->path, request->is_read_only ? R_OK : R_OK | W_OK) < 0)
        return fail_errno(err, errno, request->is_read_only ? "cannot be read" : "cannot be written");
    return request->is_read_only ? VHDX_OK : chain_begin_writing(request->path, shared, err);
}

static int
run_serve(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    struct request request = { 0 };
    char **operands, **arguments;
    int letter, count;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(&request, letter, argument);
    count = options_operands(&reader, 1, argc, &operands);
    if (chain_complete(&err) < 0)
        usage_error(&reader, "%s", err.message);
    request.path = operands[0];
    request.orphans_children = shared.orphan_children;
    request.count = count - 1;
    request.more = operands + 1;
    if (judge_file(&request, &shared, &err) < 0) {
        message_error(request.path, &err);
        return STATUS_FAILED;
    }

    arguments = make_arguments(find_plugin(), &request);
    execvp(arguments[0], arguments);
    if (errno == ENOENT)
        message_print("nbdkit is not installed; Debian's package is called nbdkit");
    else
        message_print("nbdkit cannot be started: %s", strerror(errno));
    return STATUS_FAILED;
}

const struct verb serve_verb = {
    .name = "serve",
    .synopsis = "[OPTIONS] FILE [NBDKIT OPTIONS]",
    .summary = "Serve a disk over NBD, by nbdkit",
    .details = "Options for nbdkit follow FILE and reach it as they are: -U SOCKET, -i ADDRESS, -p PORT,\n"
               "--run COMMAND, -f, -P PIDFILE, --filter=.., and so on.  Without any, nbdkit listens on TCP port\n"
               "10809 of every address.\n"
               "Parents of a differencing image come from its own folder unless --parents says otherwise.\n",
    .example = "  vhdx serve -r disk.vhdx -U - --run 'nbdinfo \"$uri\"'\n"
               "  nbdcopy -- [ vhdx serve -r disk.vhdx ] disk.raw\n"
               "  vhdx serve --parents=/srv/base checkpoint.avhdx -U /tmp/nbd\n",
    .shared = SHARED_WRITE,
    .options = lines,
    .stops_at_file = true,
    .usage_status = STATUS_USAGE,
    .run = run_serve,
};
