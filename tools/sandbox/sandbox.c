/* See sandbox.h.  This file: Landlock, and the order of things. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/prctl.h>
#endif

#include "sandbox_parts.h"

const char *
sandbox_text(char text[SANDBOX_TEXT_SIZE], const struct sandbox_report *report)
{
    const char *calls = report->seccomp ? "seccomp" : "";

    if (report->landlock > 0)
        snprintf(text, SANDBOX_TEXT_SIZE, "landlock %d%s%s", report->landlock, report->seccomp ? ", " : "",
                 calls);
    else
        snprintf(text, SANDBOX_TEXT_SIZE, "%s", report->seccomp ? calls : "none");
    return text;
}

int
sandbox_fail(struct vhdx_error *err, int system_errno, const char *what)
{
    if (err != NULL) {
        *err = (struct vhdx_error){ .code = VHDX_E_IO, .file_offset = VHDX_NO_OFFSET };
        err->system_errno = system_errno;
        snprintf(err->message, sizeof err->message, "the process cannot be confined: %s: %s", what,
                 strerror(system_errno));
    }
    return VHDX_E_IO;
}

#ifdef __linux__

/* As <linux/landlock.h> has them; headers are older than kernels, and not everywhere.  The numbers are those of
 * every architecture but Alpha, which counts from 110 more. */
#if defined(__alpha__)
#define CALL_CREATE_RULESET 554
#else
#define CALL_CREATE_RULESET 444
#endif
#define CALL_ADD_RULE      (CALL_CREATE_RULESET + 1)
#define CALL_RESTRICT_SELF (CALL_CREATE_RULESET + 2)

#define RULESET_VERSION 1u
#define RULE_BELOW_PATH 1

#define FS_WRITE_FILE  (UINT64_C(1) << 1)
#define FS_READ_FILE   (UINT64_C(1) << 2)
#define FS_READ_DIR    (UINT64_C(1) << 3)
#define FS_REMOVE_DIR  (UINT64_C(1) << 4)
#define FS_REMOVE_FILE (UINT64_C(1) << 5)
#define FS_MAKE_REG    (UINT64_C(1) << 8)
#define FS_TRUNCATE    (UINT64_C(1) << 14)
#define FS_IOCTL_DEV   (UINT64_C(1) << 15)

#define FS_OF_FILES (FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE | FS_IOCTL_DEV)

/* The bits of each version, from the first: a ruleset must not name one that its kernel does not know. */
static const struct {
    int      since;
    uint64_t fs, net, scoped;
} versions[] = {
    { 1, (UINT64_C(1) << 13) - 1, 0, 0 },
    { 2, UINT64_C(1) << 13, 0, 0 }, /* to link and rename between folders */
    { 3, FS_TRUNCATE, 0, 0 },
    { 4, 0, 3, 0 }, /* TCP: bind, connect */
    { 5, FS_IOCTL_DEV, 0, 0 },
    { 6, 0, 0, 3 }, /* abstract sockets of others, signals to others */
};

struct ruleset {
    uint64_t fs, net, scoped;
};

struct below_path {
    uint64_t allowed;
    int32_t  descriptor;
} __attribute__((packed));

static const uint64_t rights[] = {
    [SANDBOX_READ] = FS_READ_FILE | FS_READ_DIR | FS_IOCTL_DEV, /* a device tells its size by ioctl */
    [SANDBOX_WRITE] = FS_READ_FILE | FS_WRITE_FILE | FS_TRUNCATE | FS_IOCTL_DEV,
    [SANDBOX_CHANGE_FOLDER] = FS_READ_FILE | FS_READ_DIR | FS_WRITE_FILE | FS_TRUNCATE | FS_MAKE_REG |
                              FS_REMOVE_FILE,
    [SANDBOX_REMOVE_FILES] = FS_REMOVE_FILE,
    [SANDBOX_REMOVE_FOLDERS] = FS_REMOVE_DIR,
};

static int
landlock_version(void)
{
    long version = syscall(CALL_CREATE_RULESET, NULL, (size_t)0, RULESET_VERSION);

    return version < 0 ? 0 : (int)version;
}

/* A path that is not there, or not to be reached, cannot be opened later either. */
static int
add_path(int ruleset, const struct ruleset *handled, const struct sandbox_path *path)
{
    struct below_path below = { .allowed = rights[path->right] & handled->fs };
    struct stat status;
    int rc = 0;

    below.descriptor = open(path->path, O_PATH | O_CLOEXEC);
    if (below.descriptor < 0)
        return 0;
    if (fstat(below.descriptor, &status) == 0)
        below.allowed &= S_ISDIR(status.st_mode) ? ~FS_IOCTL_DEV : FS_OF_FILES;
    if (below.allowed != 0 && syscall(CALL_ADD_RULE, ruleset, RULE_BELOW_PATH, &below, 0u) < 0)
        rc = errno;
    close(below.descriptor);
    return rc;
}

static int
enter_landlock(const struct sandbox_list *list, int version, struct vhdx_error *err)
{
    struct ruleset handled = { 0 };
    int ruleset, rc = 0;

    for (size_t i = 0; i < sizeof versions / sizeof versions[0] && versions[i].since <= version; i++) {
        handled.fs |= versions[i].fs;
        handled.net |= versions[i].net;
        handled.scoped |= versions[i].scoped;
    }
    ruleset = (int)syscall(CALL_CREATE_RULESET, &handled, sizeof handled, 0u);
    if (ruleset < 0)
        return sandbox_fail(err, errno, "landlock_create_ruleset");
    for (size_t i = 0; rc == 0 && i < list->count; i++)
        rc = add_path(ruleset, &handled, &list->paths[i]);
    if (rc != 0)
        rc = sandbox_fail(err, rc, "landlock_add_rule");
    else if (syscall(CALL_RESTRICT_SELF, ruleset, 0u) < 0)
        rc = sandbox_fail(err, errno, "landlock_restrict_self");
    close(ruleset);
    return rc;
}

/* Everything that the paths need stays: without Landlock, which call about which path cannot be told apart. */
static enum sandbox_names
names_needed(const struct sandbox_list *list)
{
    enum sandbox_names most = SANDBOX_NAMES_NONE;
    static const enum sandbox_names needs[] = {
        [SANDBOX_READ] = SANDBOX_NAMES_READ,            [SANDBOX_WRITE] = SANDBOX_NAMES_WRITE,
        [SANDBOX_CHANGE_FOLDER] = SANDBOX_NAMES_CHANGE, [SANDBOX_REMOVE_FILES] = SANDBOX_NAMES_NONE,
        [SANDBOX_REMOVE_FOLDERS] = SANDBOX_NAMES_NONE,
    };

    for (size_t i = 0; i < list->count; i++) {
        if (needs[list->paths[i].right] > most)
            most = needs[list->paths[i].right];
    }
    return most;
}

static bool
removes(const struct sandbox_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        if (list->paths[i].right >= SANDBOX_REMOVE_FILES)
            return true;
    }
    return false;
}

struct sandbox_report
sandbox_available(void)
{
    return (struct sandbox_report){ .landlock = landlock_version(), .seccomp = sandbox_can_filter() };
}

/* Landlock first: the filter could not forbid its calls otherwise. */
int
sandbox_enter(const struct sandbox_list *list, struct sandbox_report *report, struct vhdx_error *err)
{
    const struct sandbox_report has = sandbox_available();
    int rc = VHDX_OK;

    if (report != NULL)
        *report = has;
    if (list->is_incomplete)
        return sandbox_fail(err, ENOMEM, "the list of files");
    if (has.landlock == 0 && !has.seccomp)
        return VHDX_OK;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return sandbox_fail(err, errno, "PR_SET_NO_NEW_PRIVS");
    if (has.landlock > 0)
        rc = enter_landlock(list, has.landlock, err);
    if (rc == VHDX_OK && has.seccomp)
        rc = sandbox_filter(names_needed(list), removes(list), err);
    return rc;
}

#else

struct sandbox_report
sandbox_available(void)
{
    return (struct sandbox_report){ 0 };
}

int
sandbox_enter(const struct sandbox_list *list, struct sandbox_report *report, struct vhdx_error *err)
{
    (void)list;
    (void)err;
    if (report != NULL)
        *report = sandbox_available();
    return VHDX_OK;
}

#endif
