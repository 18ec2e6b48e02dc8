/* Verbs, and the options they share. */
#ifndef VHDX_TOOL_OPTIONS_H
#define VHDX_TOOL_OPTIONS_H

#include <getopt.h>
#include <stdbool.h>

#include <vhdx/ops.h>

/* One option of a verb; a table of them ends with a name of NULL. */
struct option_line {
    const char *name;
    int         letter;   /* the short option, or a number above 255 when there is none */
    const char *argument; /* its name in the help, in [] when optional; NULL: none */
    const char *help;
};

/* Groups of options that several verbs take alike. */
#define SHARED_JSON     1u
#define SHARED_FORMAT   2u
#define SHARED_PROGRESS 4u
#define SHARED_QUIET    8u
#define SHARED_READ     16u /* --force-share, --ignore-log */
#define SHARED_JOBS     32u
#define SHARED_CREATE   64u /* the shape of an image that is made */
#define SHARED_CHAIN    128u /* --parents, --map */
#define SHARED_WRITE    256u /* --orphan-children */
#define SHARED_SANDBOX  512u /* --sandbox: the verb calls confine.h */
#define SHARED_REMOTE   1024u /* operands may be URIs of NBD and [ COMMAND ] */

/* How a source is to be read. */
struct source_format {
    enum vhdx_format ours;
    const char      *qemu; /* not NULL: by qemu-nbd, under this name */
};

struct shared_options {
    bool                       json;
    bool                       quiet;
    bool                       wants_progress;
    int                        progress_descriptor; /* --progress=FD, or -1 */
    unsigned                   job_count;
    struct source_format       format;              /* AUTO when -f was not given */
    bool                       force_share;
    bool                       ignore_log;
    bool                       no_parents;          /* --parents=none */
    bool                       orphan_children;
    bool                       has_type;            /* --type was given */
    bool                       sandbox;
    struct vhdx_create_options create;
};

struct verb {
    const char               *name;
    const char               *synopsis; /* what follows the verb */
    const char               *summary;  /* one line */
    const char               *details;  /* more lines for the help, or NULL */
    const char               *example;
    unsigned                  shared;   /* SHARED_* */
    const struct option_line *options;  /* its own, or NULL */
    bool                      stops_at_file; /* what follows the first FILE is not ours to read */
    int                       usage_status;
    int (*run)(const struct verb *verb, int argc, char **argv); /* argv[0] is the verb */
};

#define OPTION_LIMIT 40
#define OPTION_END   (-1)

struct option_reader {
    const struct verb     *verb;
    struct shared_options *shared;
    int                    argc;
    char                 **argv;
    struct option          long_options[OPTION_LIMIT];
    char                   short_options[3 * OPTION_LIMIT];
};

/* Begin to read the arguments of a verb; fills `shared` with what holds when no option is given. */
void options_begin(struct option_reader *reader, const struct verb *verb, int argc, char **argv,
                   struct shared_options *shared);

/* The letter of the verb's next own option with its argument (or NULL), or OPTION_END.  Shared options and --help
 * are dealt with here; what nobody knows is a usage error. */
int options_next(struct option_reader *reader, const char **argument);

/* The operands: how many and where, once options_next said OPTION_END.  A usage error unless least <= count <=
 * most. */
int options_operands(const struct option_reader *reader, int least, int most, char ***operands);

/* Say what is wrong with the command line and exit with the verb's status for that. */
_Noreturn void usage_error(const struct option_reader *reader, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Read an argument or end with a usage error. */
uint64_t option_size(const struct option_reader *reader, const char *name, const char *argument);
uint64_t option_number(const struct option_reader *reader, const char *name, const char *argument, uint64_t least,
                       uint64_t most);
struct source_format option_source_format(const struct option_reader *reader, const char *argument);
/* The same of what is written: a format of our own. */
enum vhdx_format option_format(const struct option_reader *reader, const char *argument);

/* Options for vhdx_disk_open_*, read-only, as the shared options ask for; with the verb's SHARED_CHAIN, chains open. */
struct vhdx_open_options options_for_reading(const struct shared_options *shared);

#endif
