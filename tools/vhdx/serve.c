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
#include "sandbox/sandbox.h"
#include "verbs.h"

enum { OPTION_IGNORE = 256, OPTION_PARENTS, OPTION_MAP, OPTION_SANDBOX, OPTION_NO_SANDBOX };

static const struct option_line lines[] = {
    { "read-only", 'r', NULL, "serve for reading; not one byte of the file changes" },
    { "ignore-log", OPTION_IGNORE, NULL, "serve the file as it lies, its log not replayed; read-only" },
    { "parents", OPTION_PARENTS, "WHICH", "where parents may be: none, same-dir (default), any, or DIR,DIR.." },
    { "map", OPTION_MAP, "C:=DIR", "where a drive or share (\\\\server\\share=DIR) of Windows is here" },
    { "sandbox", OPTION_SANDBOX, NULL, "leave the server the image's files only (default)" },
    { "no-sandbox", OPTION_NO_SANDBOX, NULL, "leave it all that its user may do" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_NO_PARENT, "This is a differencing image: what it does not hold itself lies in its parent.",
      "--parents=DIR,DIR or --parents=any looks in other folders; --map C:=DIR tells where a drive of Windows is"
      " here" },
};

/* What the plugin is told. */
struct request {
    const char *path;
    bool        is_read_only;
    bool        ignores_log;
    bool        orphans_children;
    bool        is_confined;
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

/* Whether the word is the option alone ("--tls-psk"), or with its argument, which is then in *value. */
static bool
is_option(const char *word, const char *name, const char **value)
{
    size_t length = strlen(name);

    if (strncmp(word, name, length) != 0 || (word[length] != '\0' && word[length] != '='))
        return false;
    *value = word[length] == '=' ? word + length + 1 : NULL;
    return true;
}

/* nbdkit reads the keys for TLS at each connection. */
static char *
find_keys(const struct request *request)
{
    for (int i = 0; i < request->count; i++) {
        const char *value;

        if (is_option(request->more[i], "--tls-psk", &value) && (value != NULL || i + 1 < request->count))
            return parameter("sandbox-read", value != NULL ? value : request->more[i + 1]);
    }
    return NULL;
}

/* -r for nbdkit, after FILE, is as good as ours. */
static bool
asks_nbdkit_for_reading(const struct request *request)
{
    static const char *const names[] = { "-r", "--readonly", "--read-only" };

    for (int i = 0; i < request->count; i++) {
        for (size_t k = 0; k < sizeof(names) / sizeof(names[0]); k++) {
            if (strcmp(request->more[i], names[k]) == 0)
                return true;
        }
    }
    return false;
}

/* nbdkit reads its options wherever they stand, so those of the user may follow the plugin's name. */
static char **
make_arguments(const char *plugin, const struct request *request)
{
    const char *const *maps = chain_maps();
    size_t used = 0, map_count = count_words(maps);
    char **arguments = need_memory(calloc((size_t)request->count + map_count + 11, sizeof(*arguments)));

    arguments[used++] = need_memory(strdup("nbdkit"));
    if (request->is_read_only)
        arguments[used++] = need_memory(strdup("-r"));
    arguments[used++] = need_memory(strdup(plugin));
    arguments[used++] = parameter("file", request->path);
    if (request->ignores_log)
        arguments[used++] = parameter("ignore-log", "true");
    if (request->is_confined) {
        char *keys = find_keys(request);

        arguments[used++] = parameter("sandbox", "true");
        if (request->is_read_only)
            arguments[used++] = parameter("readonly", "true");
        if (keys != NULL)
            arguments[used++] = keys;
    }
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
    case OPTION_SANDBOX:
    case OPTION_NO_SANDBOX:
        request->is_confined = letter == OPTION_SANDBOX;
        break;
    default:
        request->is_read_only = true;
        request->ignores_log = request->ignores_log || letter == OPTION_IGNORE;
    }
}

struct look {
    const struct request        *request;
    const struct shared_options *shared;
};

/* What would make every client fail is better said before the server starts. */
static int
judge_file(void *context, struct vhdx_error *err)
{
    const struct look           *look = context;
    const struct request        *request = look->request;
    struct vhdx_open_options     options = { .format = VHDX_FORMAT_VHDX };
    struct vhdx_disk            *disk;
    int                          rc = VHDX_OK;

    if (access(request->path, request->is_read_only ? R_OK : R_OK | W_OK) < 0)
        return fail_errno(err, errno, request->is_read_only ? "cannot be read" : "cannot be written");
    if (!request->is_read_only)
        rc = chain_begin_writing(request->path, look->shared, err);
    if (rc < 0)
        return rc;
    chain_add_resolver(&options);
    options.flags = request->ignores_log ? VHDX_OPEN_IGNORE_LOG : 0;
    rc = vhdx_disk_open_path(&disk, request->path, &options, err);
    return rc < 0 ? rc : vhdx_disk_close(disk, err);
}

/* This process becomes the server and may still run a command for it (--run): a confined child takes the look. */
static int
take_look(struct look *look, struct vhdx_error *err)
{
    struct sandbox_list list = { .count = 0 };
    int rc;

    if (!look->request->is_confined)
        return judge_file(look, err);
    sandbox_allow_image(&list, look->request->path, SANDBOX_READ, chain_parents_options());
    if (!look->request->is_read_only)
        sandbox_allow_beside(&list, look->request->path, SANDBOX_READ);
    rc = sandbox_call(&list, judge_file, look, err);
    sandbox_list_free(&list);
    return rc;
}

static int
run_serve(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    struct request request = { .is_confined = true };
    struct look look = { &request, &shared };
    char **operands, **arguments;
    int letter, count;

    options_begin(&reader, verb, argc, argv, &shared);
    chain_prefer_same_dir();
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(&request, letter, argument);
    count = options_operands(&reader, 1, argc, &operands);
    if (chain_complete(&err) < 0)
        usage_error(&reader, "%s", err.message);
    request.path = operands[0];
    request.orphans_children = shared.orphan_children;
    request.count = count - 1;
    request.more = operands + 1;
    request.is_read_only = request.is_read_only || asks_nbdkit_for_reading(&request);
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    if (take_look(&look, &err) < 0) {
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
               "Parents of a differencing image come from its own folder unless --parents says otherwise.\n\n"
               "Where the kernel can, the server is confined before it looks at the image: it can neither open\n"
               "another file nor start a program nor make a connection.  --no-sandbox is for filters that must.\n",
    .example = "  vhdx serve -r disk.vhdx -U - --run 'nbdinfo \"$uri\"'\n"
               "  nbdcopy -- [ vhdx serve -r disk.vhdx ] disk.raw\n"
               "  vhdx serve --parents=/srv/base checkpoint.avhdx -U /tmp/nbd\n",
    .shared = SHARED_WRITE,
    .options = lines,
    .stops_at_file = true,
    .usage_status = STATUS_USAGE,
    .run = run_serve,
};
