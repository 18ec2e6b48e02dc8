/* What a confined process still can do, tried in children: confinement is for good. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "sandbox.h"

#define ASK_SIZE _IOR(0x12, 114, size_t) /* BLKGETSIZE64; <linux/fs.h> is not everywhere */

/* A folder of our own: `mine` is allowed, `other` is not. */
static char folder[64], mine[96], other[96], fresh[96], below[96];

static void
make_file(const char *path)
{
    FILE *file = fopen(path, "w");

    assert_non_null(file);
    fputs("text", file);
    fclose(file);
}

static int
set_up(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/sandbox-test.XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(mine, sizeof mine, "%s/mine", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    snprintf(fresh, sizeof fresh, "%s/fresh", folder);
    snprintf(below, sizeof below, "%s/below", folder);
    make_file(mine);
    make_file(other);
    assert_int_equal(mkdir(below, 0700), 0);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    rmdir(below);
    unlink(mine);
    unlink(other);
    unlink(fresh);
    rmdir(folder);
    return 0;
}

/* --- what is tried: each answers with an errno, or 0 --- */

static int
errno_of(long rc)
{
    return rc < 0 ? errno : 0;
}

static int
try_open(const char *path, int flags)
{
    int descriptor = open(path, flags, 0600);

    if (descriptor < 0)
        return errno;
    close(descriptor);
    return 0;
}

static int read_mine(void) { return try_open(mine, O_RDONLY); }
static int write_mine(void) { return try_open(mine, O_RDWR); }
static int cut_mine(void) { return errno_of(truncate(mine, 1)); }
static int read_other(void) { return try_open(other, O_RDONLY); }
static int write_other(void) { return try_open(other, O_WRONLY); }
static int read_passwd(void) { return try_open("/etc/passwd", O_RDONLY); }
static int list_folder(void) { return try_open(folder, O_RDONLY | O_DIRECTORY); }
static int list_root(void) { return try_open("/", O_RDONLY | O_DIRECTORY); }
static int make_fresh(void) { return try_open(fresh, O_WRONLY | O_CREAT | O_EXCL); }
static int remove_other(void) { return errno_of(unlink(other)); }
static int rename_other(void) { return errno_of(rename(other, fresh)); }
static int link_other(void) { return errno_of(link(other, fresh)); }
static int link_symbol(void) { return errno_of(symlink(other, fresh)); }
static int make_folder(void) { return errno_of(mkdir(fresh, 0700)); }
static int remove_folder(void) { return errno_of(rmdir(below)); }
static int change_mode(void) { return errno_of(chmod(mine, 0777)); }
static int change_owner(void) { return errno_of(chown(mine, getuid(), getgid())); }
static int change_times(void) { return errno_of(utimes(mine, NULL)); }
static int ask_attributes(void) { struct stat status; return errno_of(stat(other, &status)); }
static int make_socket(void) { return errno_of(socket(AF_INET, SOCK_STREAM, 0)); }
static int make_unix_socket(void) { return errno_of(socket(AF_UNIX, SOCK_DGRAM, 0)); }
static int kill_parent(void) { return errno_of(kill(getppid(), 0)); }
static int kill_everybody(void) { return errno_of(kill(-1, 0)); }
static int kill_self(void) { return errno_of(kill(getpid(), 0)); }
static int trace_parent(void) { return errno_of(syscall(SYS_ptrace, 16L, (long)getppid(), 0L, 0L)); }
static int type_for_user(void) { return errno_of(ioctl(0, TIOCSTI, "x")); }

static int
run_program(void)
{
    char *const words[] = { (char *)(uintptr_t)"true", NULL };

    execv("/bin/true", words);
    return errno;
}

static int
start_process(void)
{
    pid_t child = fork();

    if (child == 0)
        _exit(0);
    return errno_of(child);
}

static int
new_namespace(void)
{
    return errno_of(syscall(SYS_unshare, 0x10000000L)); /* CLONE_NEWUSER */
}

static int
use_io_uring(void)
{
#ifdef SYS_io_uring_setup
    return errno_of(syscall(SYS_io_uring_setup, 1L, NULL));
#else
    return EPERM;
#endif
}

/* By the numbers of another architecture: x32's open. */
static int
other_numbers(void)
{
#if defined(__x86_64__)
    return errno_of(syscall(0x40000000 + 2, "/etc/passwd", O_RDONLY));
#else
    return EPERM;
#endif
}

static void *
in_thread(void *answer)
{
    *(int *)answer = read_passwd();
    return NULL;
}

/* Threads can be started, and are as confined. */
static int
try_thread(void)
{
    pthread_t thread;
    int answer = 0, rc = pthread_create(&thread, NULL, in_thread, &answer);

    if (rc != 0)
        return rc;
    pthread_join(thread, NULL);
    return answer;
}

/* Descriptors that are open stay: a pipe, and the file that run_case opened. */
static int
use_what_is_open(void)
{
    char byte;
    int ends[2];

    if (pipe(ends) < 0 || write(ends[1], "x", 1) != 1 || read(ends[0], &byte, 1) != 1)
        return errno;
    return pread(9, &byte, 1, 0) == 1 && pwrite(9, "y", 1, 0) == 1 && ftruncate(9, 2) == 0 && fsync(9) == 0
           ? 0 : errno;
}

/* --- the cases --- */

enum lists { NOTHING, READS_MINE, WRITES_MINE, READS_FOLDER, CHANGES_FOLDER, REMOVES, LIST_COUNT };

static void
fill(struct sandbox_list *list, enum lists which)
{
    *list = (struct sandbox_list){ .count = 0 };
    switch (which) {
    case READS_MINE:
        sandbox_allow(list, mine, SANDBOX_READ);
        sandbox_allow(list, "/there/is/no/such/file", SANDBOX_READ);
        break;
    case WRITES_MINE:
        sandbox_allow(list, mine, SANDBOX_WRITE);
        break;
    case READS_FOLDER:
        sandbox_allow(list, folder, SANDBOX_READ);
        break;
    case CHANGES_FOLDER:
        sandbox_allow(list, folder, SANDBOX_CHANGE_FOLDER);
        break;
    case REMOVES:
        sandbox_allow(list, folder, SANDBOX_REMOVE_FILES);
        sandbox_allow(list, folder, SANDBOX_REMOVE_FOLDERS);
        break;
    default:
        break;
    }
}

/* Which part of the kernel a refusal comes from decides when the case can be tried. */
#define BY_LANDLOCK 1
#define BY_SECCOMP  2

static const struct attempt {
    const char *name;
    int (*attempt)(void);
    int needs;
    int expected[LIST_COUNT]; /* 0, or the errno */
} attempts[] = {
    /*                                                 nothing  reads    writes   folder   changes  removes */
    { "read mine", read_mine, BY_SECCOMP,            { EPERM,  0,       0,       0,       0,       EPERM } },
    { "write mine", write_mine, BY_SECCOMP,          { EPERM,  EPERM,   0,       EPERM,   0,       EPERM } },
    { "cut mine", cut_mine, BY_SECCOMP,              { EPERM,  EPERM,   0,       EPERM,   0,       EPERM } },
    { "read another", read_other, BY_LANDLOCK,       { EPERM,  EACCES,  EACCES,  0,       0,       EPERM } },
    { "write another", write_other, BY_LANDLOCK,     { EPERM,  EPERM,   EACCES,  EPERM,   0,       EPERM } },
    { "read /etc/passwd", read_passwd, BY_LANDLOCK,  { EPERM,  EACCES,  EACCES,  EACCES,  EACCES,  EPERM } },
    { "list the folder", list_folder, BY_LANDLOCK,   { EPERM,  EACCES,  EACCES,  0,       0,       EPERM } },
    { "list /", list_root, BY_LANDLOCK,              { EPERM,  EACCES,  EACCES,  EACCES,  EACCES,  EPERM } },
    { "make a file", make_fresh, BY_LANDLOCK,        { EPERM,  EPERM,   EACCES,  EPERM,   0,       EPERM } },
    { "remove another", remove_other, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   0,       0 } },
    { "rename another", rename_other, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   0,       EPERM } },
    { "link another", link_other, BY_SECCOMP,        { EPERM,  EPERM,   EPERM,   EPERM,   0,       EPERM } },
    { "a symbolic link", link_symbol, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "make a folder", make_folder, BY_SECCOMP,      { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "remove a folder", remove_folder, BY_LANDLOCK, { EPERM,  EPERM,   EPERM,   EPERM,   EACCES,  0 } },
    { "change the mode", change_mode, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "change the owner", change_owner, BY_SECCOMP,  { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "change times", change_times, BY_SECCOMP,      { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "ask attributes", ask_attributes, 0,           { 0,      0,       0,       0,       0,       0 } },
    { "a socket", make_socket, BY_SECCOMP,           { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "a Unix socket", make_unix_socket, BY_SECCOMP, { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "run a program", run_program, BY_SECCOMP,      { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "start a process", start_process, BY_SECCOMP,  { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "a namespace", new_namespace, BY_SECCOMP,      { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "kill the parent", kill_parent, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "kill everybody", kill_everybody, BY_SECCOMP,  { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "kill oneself", kill_self, 0,                  { 0,      0,       0,       0,       0,       0 } },
    { "trace the parent", trace_parent, BY_SECCOMP,  { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "type for the user", type_for_user, BY_SECCOMP, { EPERM, EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "io_uring", use_io_uring, BY_SECCOMP,          { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "x32's numbers", other_numbers, BY_SECCOMP,    { EPERM,  EPERM,   EPERM,   EPERM,   EPERM,   EPERM } },
    { "a thread", try_thread, BY_LANDLOCK,           { EPERM,  EACCES,  EACCES,  EACCES,  EACCES,  EPERM } },
    { "what is open", use_what_is_open, 0,           { 0,      0,       0,       0,       0,       0 } },
};

/* The answer of an attempt by a child that may do what the lists say, one after the other. */
static int
answer_of(const struct attempt *attempt, const enum lists *steps, size_t step_count)
{
    struct vhdx_error err;
    pid_t child = fork();
    int status;

    if (child == 0) {
        struct sandbox_list list;

        dup2(open(mine, O_RDWR), 9);
        for (size_t i = 0; i < step_count; i++) {
            fill(&list, steps[i]);
            if (sandbox_enter(&list, NULL, &err) < 0)
                _exit(255);
            sandbox_list_free(&list);
        }
        _exit(attempt->attempt());
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static bool
can_try(int needs)
{
    const struct sandbox_report has = sandbox_available();

    return needs == 0 || (has.seccomp && (needs == BY_SECCOMP || has.landlock >= 3));
}

/* `answers_as`: the list whose column counts. */
static void
try_all(const enum lists *steps, size_t step_count, enum lists answers_as)
{
    unsigned tried = 0, wrong = 0;

    for (size_t i = 0; i < sizeof attempts / sizeof attempts[0]; i++) {
        int answer;

        if (!can_try(attempts[i].needs))
            continue;
        tear_down(NULL);
        set_up(NULL);
        answer = answer_of(&attempts[i], steps, step_count);
        tried++;
        if (answer != attempts[i].expected[answers_as]) {
            print_message("# %s: %d, not %d\n", attempts[i].name, answer, attempts[i].expected[answers_as]);
            wrong++;
        }
    }
    print_message("# %u of %zu attempts tried\n", tried, sizeof attempts / sizeof attempts[0]);
    assert_int_equal(wrong, 0);
}

static void
each_list(void **state)
{
    (void)state;
    for (enum lists which = NOTHING; which < LIST_COUNT; which++) {
        print_message("# list %d\n", (int)which);
        try_all(&which, 1, which);
    }
}

/* What one step took away the next does not give back. */
static void
steps_only_take_away(void **state)
{
    static const enum lists narrower[] = { CHANGES_FOLDER, READS_MINE }, wider[] = { NOTHING, CHANGES_FOLDER };

    (void)state;
    try_all(narrower, 2, READS_MINE);
    try_all(wider, 2, NOTHING);
}

/* The image, where its parents may be, and facts about the host: as text, a line each. */
static void
images(void **state)
{
    static const char *const folders[] = { "/a", "/b" };
    static const struct {
        const char                 *file;
        struct vhdx_parents_options parents;
        const char                 *paths;
    } cases[] = {
        { "/no/x.vhdx", { .mode = VHDX_PARENTS_NONE }, "/no/x.vhdx\n" },
        { "/no/x.vhdx", { .mode = VHDX_PARENTS_SAME_DIR }, "/no/x.vhdx\n/no/\n" },
        { "/x.vhdx", { .mode = VHDX_PARENTS_SAME_DIR }, "/x.vhdx\n/\n" },
        { "no.vhdx", { .mode = VHDX_PARENTS_SAME_DIR }, "no.vhdx\n.\n" },
        { "no.vhdx", { .mode = VHDX_PARENTS_ANY }, "no.vhdx\n/\n" },
        { "no.vhdx", { .mode = VHDX_PARENTS_DIRECTORIES, .directories = folders, .directory_count = 2 },
          "no.vhdx\n/a\n/b\n" },
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct sandbox_list list = { .count = 0 };
        char found[256] = "";

        sandbox_allow_image(&list, cases[i].file, SANDBOX_WRITE, &cases[i].parents);
        for (size_t k = 0; k < list.count; k++) {
            assert_int_equal(list.paths[k].right, k == 0 ? SANDBOX_WRITE : SANDBOX_READ);
            if (strncmp(list.paths[k].path, "/proc", 5) != 0 && strncmp(list.paths[k].path, "/sys", 4) != 0)
                snprintf(found + strlen(found), sizeof found - strlen(found), "%s\n", list.paths[k].path);
        }
        assert_string_equal(found, cases[i].paths);
        sandbox_list_free(&list);
    }
}

/* Beside a link, and beside what it leads to. */
static void
beside_a_link(void **state)
{
    struct sandbox_list list = { .count = 0 };
    char link_path[128], expected[96];

    (void)state;
    snprintf(link_path, sizeof link_path, "%s/link", below);
    assert_int_equal(symlink(mine, link_path), 0);
    sandbox_allow_beside(&list, link_path, SANDBOX_READ);
    unlink(link_path);
    assert_int_equal(list.count, 2);
    snprintf(expected, sizeof expected, "%.80s/", below);
    assert_string_equal(list.paths[0].path, expected);
    snprintf(expected, sizeof expected, "%.80s/", folder);
    assert_string_equal(list.paths[1].path, expected);
    sandbox_list_free(&list);
}

/* What could not be noted is not silently forbidden. */
static void
incomplete(void **state)
{
    const struct sandbox_list list = { .is_incomplete = true };
    struct vhdx_error err;

    (void)state;
    assert_int_equal(sandbox_enter(&list, NULL, &err), VHDX_E_IO);
    assert_non_null(strstr(err.message, "cannot be confined"));
}

/* A device that may be read tells its size: a request that the kernel would refuse to a descriptor without the right. */
static int
ask_device(void *context, struct vhdx_error *err)
{
    int descriptor = open(context, O_RDONLY | O_CLOEXEC);
    uint64_t size;

    (void)err;
    if (descriptor < 0 || syscall(SYS_ioctl, descriptor, ASK_SIZE, &size) == 0)
        return VHDX_E_INVALID;
    return errno == ENOTTY || errno == EINVAL ? VHDX_OK : VHDX_E_IO;
}

static void
devices(void **state)
{
    static char         null[] = "/dev/null";
    struct sandbox_list list = { .count = 0 };

    (void)state;
    sandbox_allow(&list, null, SANDBOX_READ);
    assert_int_equal(sandbox_call(&list, ask_device, null, NULL), VHDX_OK);
    sandbox_list_free(&list);
    sandbox_allow(&list, "/dev", SANDBOX_READ); /* not of all there are */
    assert_int_equal(sandbox_call(&list, ask_device, null, NULL),
                     sandbox_available().landlock >= 5 ? VHDX_E_IO : VHDX_OK);
    sandbox_list_free(&list);
}

static void
texts(void **state)
{
    static const struct {
        struct sandbox_report report;
        const char           *text;
    } cases[] = {
        { { 0, false }, "none" },
        { { 0, true }, "seccomp" },
        { { 3, false }, "landlock 3" },
        { { 7, true }, "landlock 7, seccomp" },
    };
    char text[SANDBOX_TEXT_SIZE];

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(sandbox_text(text, &cases[i].report), cases[i].text);
}

/* --- work in a child --- */

static int
answer_well(void *context, struct vhdx_error *err)
{
    (void)context;
    (void)err;
    return VHDX_OK;
}

static int
answer_badly(void *context, struct vhdx_error *err)
{
    err->code = VHDX_E_BAD_BAT;
    err->rule = 135;
    snprintf(err->message, sizeof err->message, "not %s\n\033[31m", (const char *)context);
    return VHDX_E_BAD_BAT;
}

static int
answer_nonsense(void *context, struct vhdx_error *err)
{
    (void)context;
    memset(err, 'x', sizeof *err);
    return 12345;
}

static int
crash(void *context, struct vhdx_error *err)
{
    (void)context;
    (void)err;
    signal(SIGSEGV, SIG_DFL);
    raise(SIGSEGV);
    return VHDX_OK;
}

static int
read_passwd_inside(void *context, struct vhdx_error *err)
{
    (void)context;
    (void)err;
    return read_passwd() == 0 ? VHDX_OK : VHDX_E_IO;
}

static void
work_in_a_child(void **state)
{
    struct sandbox_list list = { .count = 0 };
    struct vhdx_error err;

    (void)state;
    sandbox_allow(&list, mine, SANDBOX_READ);
    assert_int_equal(sandbox_call(&list, answer_well, NULL, &err), VHDX_OK);
    assert_int_equal(sandbox_call(&list, answer_badly, mine, &err), VHDX_E_BAD_BAT);
    assert_int_equal(err.code, VHDX_E_BAD_BAT);
    assert_int_equal(err.rule, 135);
    assert_non_null(strstr(err.message, mine));
    assert_null(strchr(err.message, '\n'));
    assert_null(strchr(err.message, '\033'));
    assert_int_equal(sandbox_call(&list, answer_nonsense, NULL, &err), VHDX_E_IO);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    assert_int_equal(sandbox_call(&list, crash, NULL, &err), VHDX_E_IO);
    assert_non_null(strstr(err.message, "ended early"));
    assert_int_equal(read_passwd(), 0);
    if (can_try(BY_LANDLOCK))
        assert_int_equal(sandbox_call(&list, read_passwd_inside, NULL, NULL), VHDX_E_IO);
    sandbox_list_free(&list);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(each_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(steps_only_take_away, set_up, tear_down),
        cmocka_unit_test(images),
        cmocka_unit_test_setup_teardown(beside_a_link, set_up, tear_down),
        cmocka_unit_test(incomplete),
        cmocka_unit_test(devices),
        cmocka_unit_test(texts),
        cmocka_unit_test_setup_teardown(work_in_a_child, set_up, tear_down),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
