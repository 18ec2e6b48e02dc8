/*
 * Locks: who keeps whom out, on which bytes, what the message says, and, where QEMU is installed, that QEMU agrees.
 * Two opens in one process are two holders: the locks belong to the open file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/memory.h"
#include "storage/posix.h"
#include "storage/storage.h"

#define READER 0u
#define WRITER VHDX_STORAGE_WRITE
#define SHARER VHDX_STORAGE_FORCE_SHARE

static char path[64];
static struct vhdx_error err;

static int
set_up(void **state)
{
    int descriptor;

    (void)state;
    snprintf(path, sizeof path, "/tmp/vhdx-lock-test-XXXXXX");
    descriptor = mkstemp(path);
    assert_int_equal(ftruncate(descriptor, 1 << 20), 0);
    close(descriptor);
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    return unlink(path);
}

static struct vhdx_storage *
open_as(unsigned flags)
{
    struct vhdx_storage *storage = NULL;

    if (vhdx_storage_open_path(&storage, path, flags, &err) != VHDX_OK)
        fail_msg("%s", err.message);
    return storage;
}

/* Some file systems have no such locks; then there is nothing to test. */
static bool
has_locks(void)
{
#ifdef F_OFD_SETLK
    struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = 500, .l_len = 1 };
    const int descriptor = open(path, O_RDWR | O_CLOEXEC);
    const bool has = fcntl(descriptor, F_OFD_SETLK, &lock) == 0;

    close(descriptor);
    return has;
#else
    return false;
#endif
}

static void
test_who_keeps_whom_out(void **state)
{
    static const struct {
        const char *about;
        unsigned    first, second;
        int         code;
    } cases[] = {
        { "two readers",                        READER, READER, VHDX_OK },
        { "a reader, then a writer",            READER, WRITER, VHDX_E_IN_USE },
        { "a writer, then a reader",            WRITER, READER, VHDX_E_IN_USE },
        { "two writers",                        WRITER, WRITER, VHDX_E_IN_USE },
        { "a writer, then one that shares",     WRITER, SHARER, VHDX_OK },
        { "one that shares, then a writer",     SHARER, WRITER, VHDX_OK },
        { "a reader, then one that shares",     READER, SHARER, VHDX_OK },
    };

    (void)state;
    if (!has_locks())
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_storage *first = open_as(cases[i].first), *second = NULL, *third;
        const int rc = vhdx_storage_open_path(&second, path, cases[i].second, &err);

        if (rc != cases[i].code)
            fail_msg("%s: %d", cases[i].about, rc);
        if (rc == VHDX_OK)
            vhdx_storage_close(second);
        vhdx_storage_close(first);
        third = open_as(WRITER); /* nothing was left behind, not by the refused one either */
        vhdx_storage_close(third);
    }
}

static void
test_creator_is_a_writer(void **state)
{
    struct vhdx_storage *first, *second;

    (void)state;
    if (!has_locks())
        skip();
    unlink(path);
    first = open_as(VHDX_STORAGE_CREATE);
    assert_int_equal(vhdx_storage_open_path(&second, path, READER, &err), VHDX_E_IN_USE);
    vhdx_storage_close(first);
}

#ifdef F_OFD_SETLK

/* The bytes that others see locked, "100 101 103 ..." */
static void
list_locked(char *out, size_t size)
{
    const int descriptor = open(path, O_RDWR | O_CLOEXEC);
    size_t at = 0;

    out[0] = '\0';
    for (int byte = 0; byte < 400; byte++) {
        struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

        assert_int_equal(fcntl(descriptor, F_OFD_GETLK, &lock), 0);
        if (lock.l_type != F_UNLCK)
            at += (size_t)snprintf(out + at, size - at, "%s%d", at > 0 ? " " : "", byte);
    }
    close(descriptor);
}

static void
test_bytes(void **state)
{
    struct vhdx_storage *storage;
    char locked[100];

    (void)state;
    if (!has_locks())
        skip();
    storage = open_as(READER);
    list_locked(locked, sizeof locked);
    assert_string_equal(locked, "100 201 203");
    vhdx_storage_close(storage);
    storage = open_as(WRITER);
    list_locked(locked, sizeof locked);
    assert_string_equal(locked, "100 101 103 201 203");
    vhdx_storage_close(storage);
    storage = open_as(SHARER);
    list_locked(locked, sizeof locked);
    assert_string_equal(locked, "");
    vhdx_storage_close(storage);
}

/* Another program holds one byte, as one that speaks QEMU's protocol may. */
static void
test_one_byte_held(void **state)
{
    static const struct {
        int byte;
        int reader, writer;
    } cases[] = {
        { 100, VHDX_OK,       VHDX_OK },       /* somebody reads */
        { 101, VHDX_E_IN_USE, VHDX_E_IN_USE }, /* writes */
        { 102, VHDX_OK,       VHDX_OK },
        { 103, VHDX_E_IN_USE, VHDX_E_IN_USE }, /* changes the length */
        { 200, VHDX_E_IN_USE, VHDX_E_IN_USE }, /* wants no readers */
        { 201, VHDX_OK,       VHDX_E_IN_USE }, /* wants no writers */
        { 202, VHDX_OK,       VHDX_OK },
        { 203, VHDX_OK,       VHDX_E_IN_USE }, /* wants no change of length */
    };

    (void)state;
    if (!has_locks())
        skip();
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct flock lock = { .l_type = F_RDLCK, .l_whence = SEEK_SET, .l_start = cases[i].byte, .l_len = 1 };
        const int descriptor = open(path, O_RDWR | O_CLOEXEC);
        struct vhdx_storage *storage;
        int rc;

        assert_int_equal(fcntl(descriptor, F_OFD_SETLK, &lock), 0);
        rc = vhdx_storage_open_path(&storage, path, READER, &err);
        if (rc != cases[i].reader)
            fail_msg("byte %d, a reader: %d", cases[i].byte, rc);
        if (rc == VHDX_OK)
            vhdx_storage_close(storage);
        rc = vhdx_storage_open_path(&storage, path, WRITER, &err);
        if (rc != cases[i].writer)
            fail_msg("byte %d, a writer: %d", cases[i].byte, rc);
        if (rc == VHDX_OK)
            vhdx_storage_close(storage);
        close(descriptor);
    }
}

/* A lock of the old kind, which belongs to a process, and excludes even our shared ones. */
static void
test_exclusive_lock_of_a_process(void **state)
{
    struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 0 };
    struct vhdx_storage *storage;
    int pipes[2], ready[2], status;
    pid_t child;
    char byte;

    (void)state;
    if (!has_locks())
        skip();
    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        const int descriptor = open(path, O_RDWR | O_CLOEXEC);

        close(pipes[1]);
        status = fcntl(descriptor, F_SETLK, &lock) == 0 && write(ready[1], "x", 1) == 1 ? 0 : 1;
        _exit(status + (read(pipes[0], &byte, 1) != 0)); /* until the parent closes its end */
    }
    close(pipes[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(vhdx_storage_open_path(&storage, path, READER, &err), VHDX_E_IN_USE);
    close(pipes[1]);
    close(ready[0]);
    close(ready[1]);
    assert_true(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
}

static void
test_refused_descriptor_is_unlocked(void **state)
{
    const int descriptor = open(path, O_RDWR | O_CLOEXEC);
    struct vhdx_storage *reader, *storage;

    (void)state;
    if (!has_locks())
        skip();
    reader = open_as(READER);
    assert_int_equal(vhdx_storage_open_descriptor(&storage, descriptor, "it", WRITER, &err), VHDX_E_IN_USE);
    vhdx_storage_close(reader);
    storage = open_as(WRITER); /* although the descriptor is still open */
    vhdx_storage_close(storage);

    vx_alloc_fail_nth_for_tests(1);
    assert_int_equal(vhdx_storage_open_descriptor(&storage, descriptor, "it", WRITER, &err), VHDX_E_NO_MEMORY);
    vx_alloc_fail_nth_for_tests(0);
    storage = open_as(WRITER);
    vhdx_storage_close(storage);
    close(descriptor);
}

#endif

static void
test_holder_is_named(void **state)
{
    struct vhdx_storage *storage;
    int pipes[2], ready[2], status;
    char pid[32], byte;
    pid_t child;

    (void)state;
    if (!has_locks() || access("/proc/self/fdinfo/0", R_OK) != 0)
        skip();
    storage = open_as(WRITER);
    assert_int_equal(vhdx_storage_open_path(&storage, path, READER, &err), VHDX_E_IN_USE);
    assert_non_null(strstr(err.message, "in use by this very process"));
    vhdx_storage_close(storage);

    assert_int_equal(pipe(pipes), 0);
    assert_int_equal(pipe(ready), 0);
    child = fork();
    if (child == 0) {
        close(pipes[1]);
        open_as(WRITER);
        status = write(ready[1], "x", 1) == 1 ? 0 : 1;
        _exit(status + (read(pipes[0], &byte, 1) != 0));
    }
    close(pipes[0]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(vhdx_storage_open_path(&storage, path, READER, &err), VHDX_E_IN_USE);
    snprintf(pid, sizeof pid, "(pid %ld)", (long)child);
    if (!strstr(err.message, pid) || strncmp(err.message, "in use by ", 10) != 0)
        fail_msg("%s", err.message);
    close(pipes[1]);
    close(ready[0]);
    close(ready[1]);
    assert_true(waitpid(child, &status, 0) == child);
    assert_int_equal(status, 0);
}

/* --- with QEMU itself --- */

/* As VHDX: for a raw disk QEMU leaves it to the guest to keep others out. */
static bool
has_qemu(void)
{
    char line[256];

    snprintf(line, sizeof line, "qemu-img create -q -f vhdx %s 1M >/dev/null 2>&1 && command -v qemu-io >/dev/null",
             path);
    return has_locks() && system(line) == 0;
}

static int
run_qemu_io(const char *options, const char *command)
{
    char line[256];

    snprintf(line, sizeof line, "qemu-io -f vhdx %s -c '%s' %s >/dev/null 2>&1", options, command, path);
    return system(line);
}

static void
test_qemu_comes_second(void **state)
{
    struct vhdx_storage *storage;

    (void)state;
    if (!has_qemu())
        skip();
    storage = open_as(WRITER);
    assert_int_not_equal(run_qemu_io("", "write 0 512"), 0);
    assert_int_not_equal(run_qemu_io("-r", "read 0 512"), 0);
    assert_int_equal(run_qemu_io("-r -U", "read 0 512"), 0);
    vhdx_storage_close(storage);
    storage = open_as(READER);
    assert_int_not_equal(run_qemu_io("", "write 0 512"), 0);
    assert_int_equal(run_qemu_io("-r", "read 0 512"), 0);
    vhdx_storage_close(storage);
    storage = open_as(SHARER);
    assert_int_equal(run_qemu_io("", "write 0 512"), 0);
    vhdx_storage_close(storage);
}

/* QEMU holds the file for as long as its standard input is open. */
static void
meet_qemu(const char *options, int reader, int writer)
{
    char line[256];
    struct vhdx_storage *storage;
    FILE *qemu;
    int rc;

    snprintf(line, sizeof line, "exec qemu-io -f vhdx %s %s >/dev/null 2>&1", options, path);
    qemu = popen(line, "w");
    assert_non_null(qemu);
    for (int i = 0; i < 500 && reader + writer != VHDX_OK; i++) { /* until it is there */
        if (vhdx_storage_open_path(&storage, path, WRITER, &err) == VHDX_E_IN_USE)
            break;
        vhdx_storage_close(storage);
        usleep(20000);
    }
    rc = vhdx_storage_open_path(&storage, path, WRITER, &err);
    assert_int_equal(rc, writer);
    if (rc == VHDX_OK)
        vhdx_storage_close(storage);
    else if (access("/proc/self/fdinfo/0", R_OK) == 0)
        assert_non_null(strstr(err.message, "in use by qemu-io (pid "));
    rc = vhdx_storage_open_path(&storage, path, READER, &err);
    assert_int_equal(rc, reader);
    if (rc == VHDX_OK)
        vhdx_storage_close(storage);
    pclose(qemu);
}

static void
test_qemu_comes_first(void **state)
{
    (void)state;
    if (!has_qemu())
        skip();
    meet_qemu("", VHDX_E_IN_USE, VHDX_E_IN_USE);
    meet_qemu("-r", VHDX_OK, VHDX_E_IN_USE);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_who_keeps_whom_out),
        TEST(test_creator_is_a_writer),
#ifdef F_OFD_SETLK
        TEST(test_bytes),
        TEST(test_one_byte_held),
        TEST(test_exclusive_lock_of_a_process),
        TEST(test_refused_descriptor_is_unlocked),
#endif
        TEST(test_holder_is_named),
        TEST(test_qemu_comes_second),
        TEST(test_qemu_comes_first),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
