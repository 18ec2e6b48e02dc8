/*
 * vhdx mount: become mount.fuse.vhdx, the program that mount(8) uses, too.
 *
 * It is a program of its own so that every other verb starts without libfuse.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "chain.h"
#include "message.h"
#include "mount_ask.h"
#include "verbs.h"

enum { OPTION_IGNORE = 256, OPTION_PARENTS, OPTION_MAP, OPTION_SANDBOX, OPTION_NO_SANDBOX };

static const struct option_line lines[] = {
    { "writable", 'w', NULL, "what is written to the files is written to the image" },
    { "ignore-log", OPTION_IGNORE, NULL, "show the file as it lies, its log not replayed; read-only" },
    { "parents", OPTION_PARENTS, "WHICH", "where parents may be: none, same-dir (default), any, or DIR,DIR.." },
    { "map", OPTION_MAP, "C:=DIR", "where a drive or share (\\\\server\\share=DIR) of Windows is here" },
    { "foreground", 'f', NULL, "stay in the foreground until it is unmounted" },
    { "options", 'o', "OPTION,..", "as mount(8) takes them: allow_other, uid=, gid=, umask=, noexec, .." },
    { "sandbox", OPTION_SANDBOX, NULL, "leave the serving process the image's files only (default)" },
    { "no-sandbox", OPTION_NO_SANDBOX, NULL, "leave it all that its user may do" },
    { 0 },
};

/* Grows by whole options. */
static char *option_list;

static void
add_text(const char *text)
{
    char *longer = NULL;

    if (asprintf(&longer, "%s%s%s", option_list == NULL ? "" : option_list, option_list == NULL ? "" : ",", text) < 0)
        need_memory(NULL);
    free(option_list);
    option_list = longer;
}

/* NAME=VALUE; a comma or backslash of the value is none of the list. */
static void
add_value(const char *name, const char *value)
{
    char *text = need_memory(malloc(strlen(name) + 2 * strlen(value) + 2));
    char *to = text + sprintf(text, "%s=", name);

    for (; *value != '\0'; value++) {
        if (*value == ',' || *value == '\\')
            *to++ = '\\';
        *to++ = *value;
    }
    *to = '\0';
    add_text(text);
    free(text);
}

static void
take_option(int letter, const char *argument)
{
    switch (letter) {
    case 'w':
        add_text("rw");
        break;
    case 'f':
        add_text("foreground");
        break;
    case 'o':
        add_text(argument);
        break;
    case OPTION_IGNORE:
        add_text("ignore-log");
        break;
    case OPTION_SANDBOX:
        break;
    case OPTION_NO_SANDBOX:
        add_text("no-sandbox");
        break;
    case OPTION_PARENTS:
        add_value("parents", argument);
        chain_allow_parents(argument);
        break;
    default:
        add_value("map", argument);
        chain_add_map(argument);
    }
}

/* As the environment says (a build tree), else where it was installed, else by its name. */
static const char *
find_helper(void)
{
    const char *path = secure_getenv("VHDX_MOUNT_HELPER");

    if (path != NULL && path[0] != '\0')
        return path;
    return access(VHDX_MOUNT_HELPER_PATH, X_OK) == 0 ? VHDX_MOUNT_HELPER_PATH : MOUNT_PROCESS_NAME;
}

static int
run_mount(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_error err;
    const char *argument;
    char **operands, *arguments[7];
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(letter, argument);
    options_operands(&reader, 2, 2, &operands);
    if (chain_complete(&err) < 0)
        usage_error(&reader, "%s", err.message);
    if (shared.orphan_children)
        add_text("orphan-children");
    if (option_list == NULL)
        add_text("ro");

    arguments[0] = need_memory(strdup(MOUNT_PROCESS_NAME));
    arguments[1] = need_memory(strdup("-o"));
    arguments[2] = option_list;
    arguments[3] = need_memory(strdup("--"));
    arguments[4] = operands[0];
    arguments[5] = operands[1];
    arguments[6] = NULL;
    execvp(find_helper(), arguments);
    if (errno == ENOENT)
        message_print("%s is not installed: it comes with vhdx where that was built with libfuse3", arguments[0]);
    else
        message_print("%s cannot be started: %s", arguments[0], strerror(errno));
    return STATUS_FAILED;
}

const struct verb mount_verb = {
    .name = "mount",
    .synopsis = "[OPTIONS] FILE DIR",
    .summary = "Show a disk and its partitions as files below a folder",
    .details = "Below DIR are disk.raw, its partitions p1.raw, p2.raw and so on, info.json, and, of a differencing\n"
               "image, the disk as each parent shows it: layers/1.raw is the parent, the last one the base.\n"
               "Read-only unless -w is given.  Needs no root.  Parents come from the folder of FILE unless --parents\n"
               "says otherwise.  'vhdx unmount DIR' ends it.\n",
    .example = "  vhdx mount disk.vhdx /mnt/disk && cp --sparse=always /mnt/disk/p1.raw . && vhdx unmount /mnt/disk\n"
               "  vhdx mount -w disk.vhdx /mnt/disk && e2fsck -E discard /mnt/disk/p1.raw\n"
               "  mount -t fuse.vhdx -o ro,allow_other disk.vhdx /mnt/disk\n",
    .shared = SHARED_WRITE,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_mount,
};
