/*
 * The command line: `mount.fuse.vhdx FILE DIR [-sfnv] [-N NAMESPACE] [-t TYPE] [-o OPTIONS]`, as mount(8) calls its
 * helpers, and as `vhdx mount` does.  OPTIONS are names and NAME=VALUE with commas between them; "\," is a comma and
 * "\\" a backslash of a value.
 */
#include "request.h"

#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vhdx/disk.h>

#include "chain.h"
#include "message.h"

enum effect {
    OF_FUSE, /* for the kernel, by libfuse */
    OF_FSTAB, /* of fstab's readers, not of ours */
    READ_ONLY,
    READ_WRITE,
    IGNORE_LOG,
    ORPHAN_CHILDREN,
    FOREGROUND,
    NO_SANDBOX,
    PARENTS,
    MAP,
    OWNER,
    GROUP,
    UMASK
};

static const struct option_row {
    const char *name;
    enum effect effect;
    bool        has_value;
} rows[] = {
    { "ro", READ_ONLY, false },
    { "rw", READ_WRITE, false },
    { "ignore-log", IGNORE_LOG, false },
    { "orphan-children", ORPHAN_CHILDREN, false },
    { "foreground", FOREGROUND, false },
    { "no-sandbox", NO_SANDBOX, false },
    { "parents", PARENTS, true },
    { "map", MAP, true },
    { "uid", OWNER, true },
    { "gid", GROUP, true },
    { "umask", UMASK, true },
    { "allow_other", OF_FUSE, false },
    { "suid", OF_FUSE, false },
    { "nosuid", OF_FUSE, false },
    { "dev", OF_FUSE, false },
    { "nodev", OF_FUSE, false },
    { "exec", OF_FUSE, false },
    { "noexec", OF_FUSE, false },
    { "noatime", OF_FUSE, false },
    { "nodiratime", OF_FUSE, false },
    { "sync", OF_FUSE, false },
    { "async", OF_FUSE, false },
    { "dirsync", OF_FUSE, false },
    { "defaults", OF_FSTAB, false },
    { "auto", OF_FSTAB, false },
    { "noauto", OF_FSTAB, false },
    { "nofail", OF_FSTAB, false },
    { "user", OF_FSTAB, false },
    { "nouser", OF_FSTAB, false },
    { "users", OF_FSTAB, false },
    { "nousers", OF_FSTAB, false },
    { "owner", OF_FSTAB, false },
    { "group", OF_FSTAB, false },
    { "_netdev", OF_FSTAB, false },
    { "relatime", OF_FSTAB, false },
    { "strictatime", OF_FSTAB, false },
    { "user", OF_FSTAB, true },
    { "comment", OF_FSTAB, true },
    { "auto_unmount", OF_FSTAB, false },        /* it always is */
    { "default_permissions", OF_FSTAB, false }, /* they always are */
};

static _Noreturn void
end_by_usage(const char *format, ...) __attribute__((format(printf, 1, 2)));

static _Noreturn void
end_by_usage(const char *format, ...)
{
    char text[512];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    message_print("mount: %s", text);
    fprintf(stderr, "Try 'vhdx mount --help' for more information.\n");
    exit(STATUS_USAGE);
}

static _Noreturn void
print_help(void)
{
    printf("Usage: mount.fuse.vhdx FILE DIR [-o OPTIONS]\n"
           "Show a Hyper-V VHDX disk, its partitions and its parents as files below DIR: for mount(8) and fstab, as type\n"
           "fuse.vhdx, and for 'vhdx mount'.\n\n"
           "  -o ro|rw            read-only (default), or writes go to FILE\n"
           "  -o ignore-log       the file as it lies, its log not replayed; read-only\n"
           "  -o parents=WHICH    where parents may be: none, same-dir (default), any, or a folder; may be given again\n"
           "  -o map=C:=DIR       where a drive or share of Windows is here; may be given again\n"
           "  -o orphan-children  write even when other images depend on FILE\n"
           "  -o uid=N,gid=N      whose the files are (default: the caller's)\n"
           "  -o umask=OCTAL      which rights nobody has (default 077)\n"
           "  -o allow_other      others than the caller may use them\n"
           "  -o foreground       stay in the foreground\n"
           "  -o no-sandbox       leave the serving process all that its user may do\n\n"
           "Example, in /etc/fstab:\n"
           "  /srv/disk.vhdx /mnt/disk fuse.vhdx ro,nofail 0 0\n");
    exit(fflush(stdout) == 0 ? EXIT_SUCCESS : STATUS_FAILED);
}

/* Append after a comma; the text may be NULL before. */
static void
append(char **text, const char *more)
{
    char *longer = NULL;

    if (asprintf(&longer, "%s%s%s", *text == NULL ? "" : *text, *text == NULL ? "" : ",", more) < 0)
        need_memory(NULL);
    free(*text);
    *text = longer;
}

static unsigned
read_number(const char *name, const char *value, int base)
{
    char *end;
    unsigned long number = strtoul(value, &end, base);

    if (value[0] < '0' || value[0] > '9' || *end != '\0' || number > (base == 8 ? 0777ul : 0xFFFFFFFEul))
        end_by_usage("option %s: '%s' is no %s", name, value, base == 8 ? "octal number up to 777" : "number");
    return (unsigned)number;
}

static void
apply(struct mount_request *request, const struct option_row *row, const char *value)
{
    switch (row->effect) {
    case OF_FUSE:
        append(&request->options_for_fuse, row->name);
        break;
    case OF_FSTAB:
        break;
    case READ_ONLY:
    case READ_WRITE:
        request->is_writable = row->effect == READ_WRITE;
        break;
    case IGNORE_LOG:
        request->ignores_log = true;
        break;
    case ORPHAN_CHILDREN:
        request->orphans_children = true;
        break;
    case FOREGROUND:
        request->is_foreground = true;
        break;
    case NO_SANDBOX:
        request->is_unconfined = true;
        break;
    case PARENTS:
        append(&request->parents, value);
        break;
    case MAP:
        chain_add_map(need_memory(strdup(value)));
        break;
    case OWNER:
        request->owner = read_number(row->name, value, 10);
        break;
    case GROUP:
        request->group = read_number(row->name, value, 10);
        break;
    case UMASK:
        request->umask = read_number(row->name, value, 8);
        break;
    }
}

static const struct option_row *
find_row(const char *name, bool has_value)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strcmp(rows[i].name, name) == 0 && rows[i].has_value == has_value)
            return &rows[i];
    }
    return NULL;
}

/* Read one option, which may be changed for that. */
static void
take_option(struct mount_request *request, char *text, bool is_sloppy)
{
    char *value = strchr(text, '=');
    const struct option_row *row;

    if (text[0] == '\0' || strncasecmp(text, "x-", 2) == 0)
        return;
    if (value != NULL)
        *value++ = '\0';
    row = find_row(text, value != NULL);
    if (row != NULL)
        apply(request, row, value);
    else if (find_row(text, value == NULL) != NULL)
        end_by_usage(value == NULL ? "option %s needs a value" : "option %s takes no value", text);
    else if (!is_sloppy)
        end_by_usage("there is no option '%s'", text);
}

/* Cut the list at its commas, in place, and take the backslashes away. */
static void
take_options(struct mount_request *request, char *list, bool is_sloppy)
{
    char *from = list, *to = list, *begin = list;
    bool is_last;

    do {
        is_last = *from == '\0';
        if (is_last || *from == ',') {
            *to++ = '\0';
            take_option(request, begin, is_sloppy);
            begin = to;
        } else {
            if (*from == '\\' && from[1] != '\0')
                from++;
            *to++ = *from;
        }
        from++;
    } while (!is_last);
}

void
request_read(struct mount_request *request, int argc, char **argv)
{
    static const struct option long_options[] = { { "help", no_argument, NULL, 'h' },
                                                  { "version", no_argument, NULL, 'V' }, { NULL, 0, NULL, 0 } };
    char *lists[64];
    size_t list_count = 0;
    bool is_sloppy = false;
    int letter;

    *request = (struct mount_request){ .owner = getuid(), .group = getgid(), .umask = 077 };
    while ((letter = getopt_long(argc, argv, "fhno:N:st:vV", long_options, NULL)) != -1) {
        if (letter == 'h')
            print_help();
        if (letter == 'V') {
            printf("mount.fuse.vhdx %s (libvhdx %s)\n", VHDX_VERSION, vhdx_version());
            exit(EXIT_SUCCESS);
        }
        if (letter == '?')
            exit(STATUS_USAGE); /* getopt has said it */
        if (letter == 'o' && list_count == sizeof lists / sizeof lists[0])
            end_by_usage("-o is given too often");
        if (letter == 'o')
            lists[list_count++] = optarg;
        is_sloppy = is_sloppy || letter == 's';
        request->is_fake = request->is_fake || letter == 'f';
    }
    if (argc - optind != 2)
        end_by_usage("FILE and DIR are needed, and nothing else");
    request->file = argv[optind];
    request->folder = argv[optind + 1];
    for (size_t i = 0; i < list_count; i++)
        take_options(request, lists[i], is_sloppy);
    if (request->ignores_log)
        request->is_writable = false;
}
