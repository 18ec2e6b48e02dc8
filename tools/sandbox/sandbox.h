/*
 * Confining a front end: once it has confined itself, a process that a hostile image has taken over reaches little
 * more than the files it works on.  The library never does this to its callers; programs decide, and they decide
 * when.
 *
 *   S1  It is done in two steps: before the first byte of a stranger's file is read, to what opening needs, and
 *       again when everything is open, to what is left to do, mostly nothing.  Steps only ever take away, and
 *       cannot be undone.
 *   S2  Landlock (Linux 5.13) knows paths and leaves those that are named.  Descriptors that are open stay what
 *       they are.
 *   S3  seccomp forbids calls, whatever they are about: other programs and processes, new sockets, mounts, the
 *       kernel's rarer doors, what changes a file's attributes by name (which Landlock does not see); and once no
 *       path is left, everything that opens, makes, removes or renames by name.  A forbidden call fails with EPERM.
 *   S4  A kernel that has one of them gives that one, a kernel that has neither gives nothing: `struct
 *       sandbox_report` says which.  One that has it and refuses is an error.
 *   S5  What is left: the descriptors that are open, time and memory of the machine, and asking whether a path
 *       exists.
 */
#ifndef VHDX_TOOL_SANDBOX_H
#define VHDX_TOOL_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include <vhdx/parents.h>

enum sandbox_right {
    SANDBOX_READ,          /* read the file, or everything below the folder */
    SANDBOX_WRITE,         /* read and write a file or device that exists */
    SANDBOX_CHANGE_FOLDER, /* read, make, write, rename and remove files below it */
    SANDBOX_REMOVE_FILES,  /* below it, nothing else */
    SANDBOX_REMOVE_FOLDERS /* empty ones */
};

/* A path that stays.  One that does not exist gives nothing. */
struct sandbox_path {
    char              *path;
    enum sandbox_right right;
};

/* Begin with zeros.  A failed allocation is noted, and sandbox_enter refuses. */
struct sandbox_list {
    struct sandbox_path *paths;
    size_t               count;
    bool                 is_incomplete;
};

/* What is in force: a Landlock version (0: none), and whether calls are filtered. */
struct sandbox_report {
    int  landlock;
    bool seccomp;
};

/* Append to the list; the path is copied. */
void sandbox_allow(struct sandbox_list *list, const char *path, enum sandbox_right right);

/* Append the folder in which the file lies, and if it is a symbolic link, that in which its target lies. */
void sandbox_allow_beside(struct sandbox_list *list, const char *file, enum sandbox_right right);

/*
 * Append what opening an image wants: the file, where its parents may be, and how its file system was mounted and
 * the disk below it works.  `parents` is NULL when none are opened.
 */
void sandbox_allow_image(struct sandbox_list *list, const char *file, enum sandbox_right right,
                         const struct vhdx_parents_options *parents);

void sandbox_list_free(struct sandbox_list *list);

/*
 * Give up everything but the list, for this thread and those it starts; calls are filtered in every thread.
 * Returns 0 with *report filled (unless it is NULL), or a negative code, after which the process is confined in
 * part.
 */
int sandbox_enter(const struct sandbox_list *list, struct sandbox_report *report, struct vhdx_error *err);

/* What this kernel has, without entering. */
struct sandbox_report sandbox_available(void);

/* "landlock 4, seccomp", "seccomp" or "none". */
#define SANDBOX_TEXT_SIZE 32
const char *sandbox_text(char text[SANDBOX_TEXT_SIZE], const struct sandbox_report *report);

/*
 * Do some work in a confined child and return what it returns: for a look at a stranger's file by a process that
 * must stay as it is.  The child ends with _exit.  The caller has one thread.
 */
int sandbox_call(const struct sandbox_list *list, int (*work)(void *context, struct vhdx_error *err), void *context,
                 struct vhdx_error *err);

#endif
