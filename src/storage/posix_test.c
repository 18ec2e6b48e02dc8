/*
 * The storage over files: transfers that come back short, systems that lack a feature, a limit on the length of
 * files, and all that must not be opened.  The system's calls are replaced where it would not misbehave by itself.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/memory.h"
#include "storage/posix.h"
#include "storage/storage.h"

static char folder[64];
static char path[96];
static struct vx_posix_calls real;
static struct vhdx_error err;

static int
set_up(void **state)
{
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/vhdx-posix-test-XXXXXX");
    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/file", folder);
    real = vx_posix_calls;
    return 0;
}

static int
tear_down(void **state)
{
    (void)state;
    vx_posix_calls = real;
    unlink(path);
    return rmdir(folder);
}

static struct vhdx_storage *
create(void)
{
    struct vhdx_storage *storage = NULL;

    assert_int_equal(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_CREATE, &err), VHDX_OK);
    return storage;
}

static uint64_t
size_of(struct vhdx_storage *storage)
{
    uint64_t size;

    assert_int_equal(vx_storage_get_size(storage, &size, &err), VHDX_OK);
    return size;
}

static void
fill(uint8_t *buffer, size_t length)
{
    for (size_t i = 0; i < length; i++)
        buffer[i] = (uint8_t)(i * 7 + i / 251 + 1);
}

/* --- transfers --- */

static int calls_made;

static bool
is_interrupted(void)
{
    errno = EINTR;
    return calls_made++ % 3 == 0;
}

/* At most 5 bytes at a time, which cuts pieces in the middle. */
static ssize_t
short_preadv(int descriptor, const struct iovec *vector, int count, off_t offset)
{
    struct iovec first = vector[0];

    (void)count;
    if (is_interrupted())
        return -1;
    first.iov_len = first.iov_len < 5 ? first.iov_len : 5;
    return preadv(descriptor, &first, 1, offset);
}

static ssize_t
short_pwritev(int descriptor, const struct iovec *vector, int count, off_t offset)
{
    struct iovec first = vector[0];

    (void)count;
    if (is_interrupted())
        return -1;
    first.iov_len = first.iov_len < 5 ? first.iov_len : 5;
    return pwritev(descriptor, &first, 1, offset);
}

/* Pieces of 0 to 40 bytes: more of them than a call takes. */
#define PIECES 2500

static size_t
make_vector(struct iovec *vector, uint8_t *buffer)
{
    size_t length = 0;

    for (int i = 0; i < PIECES; i++) {
        vector[i].iov_base = buffer + length;
        vector[i].iov_len = (size_t)(i * 13 % 41);
        length += vector[i].iov_len;
    }
    return length;
}

static void
transfer_both_ways(void)
{
    static uint8_t out[PIECES * 41], in[PIECES * 41];
    static struct iovec out_vector[PIECES], in_vector[PIECES];
    struct vhdx_storage *storage = create();
    const size_t length = make_vector(out_vector, out);

    make_vector(in_vector, in);
    fill(out, length);
    memset(in, 0, length);
    assert_int_equal(storage->methods->writev(storage, out_vector, PIECES, 1001, &err), VHDX_OK);
    assert_true(size_of(storage) == 1001 + length);
    assert_int_equal(storage->methods->readv(storage, in_vector, PIECES, 1001, &err), VHDX_OK);
    assert_memory_equal(in, out, length);
    assert_int_equal(storage->methods->readv(storage, in_vector, 1, 5, &err), VHDX_OK); /* an empty piece alone */
    vhdx_storage_close(storage);
}

static void
test_vectors(void **state)
{
    (void)state;
    transfer_both_ways();
}

static void
test_short_and_interrupted(void **state)
{
    (void)state;
    vx_posix_calls.preadv = short_preadv;
    vx_posix_calls.pwritev = short_pwritev;
    calls_made = 0;
    transfer_both_ways();
    assert_true(calls_made > 1000);
}

static void
test_end_of_file(void **state)
{
    struct vhdx_storage *storage = create();
    uint8_t buffer[16];

    (void)state;
    assert_int_equal(vx_storage_write(storage, "0123456789", 10, 0, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(storage, buffer, 10, 0, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(storage, buffer, 11, 0, &err), VHDX_E_TRUNCATED);
    assert_true(err.file_offset == 10);
    assert_int_equal(err.part, VHDX_PART_FILE);
    assert_int_equal(vx_storage_read(storage, buffer, 1, 10, &err), VHDX_E_TRUNCATED);
    assert_int_equal(vx_storage_read(storage, buffer, 1, UINT64_MAX - 5, &err), VHDX_E_TRUNCATED);
    assert_int_equal(vx_storage_write(storage, buffer, 10, UINT64_MAX - 5, &err), VHDX_E_NO_SPACE);
    assert_int_equal(vx_storage_write(storage, buffer, 10, INT64_MAX - 5, &err), VHDX_E_NO_SPACE);
    assert_int_equal(vx_storage_set_size(storage, UINT64_MAX, &err), VHDX_E_NO_SPACE);
    assert_true(size_of(storage) == 10);
    vhdx_storage_close(storage);
}

static ssize_t
full_pwritev(int descriptor, const struct iovec *vector, int count, off_t offset)
{
    if (calls_made++ > 0) {
        errno = ENOSPC;
        return -1;
    }
    return short_pwritev(descriptor, vector, count, offset);
}

static ssize_t
stuck_pwritev(int descriptor, const struct iovec *vector, int count, off_t offset)
{
    (void)descriptor, (void)vector, (void)count, (void)offset;
    return 0;
}

static ssize_t
broken_preadv(int descriptor, const struct iovec *vector, int count, off_t offset)
{
    (void)descriptor, (void)vector, (void)count, (void)offset;
    errno = EIO;
    return -1;
}

static void
test_failing_transfers(void **state)
{
    struct vhdx_storage *storage = create();
    uint8_t buffer[100] = { 0 };

    (void)state;
    vx_posix_calls.pwritev = full_pwritev;
    calls_made = 0; /* full_pwritev counts one, short_pwritev the other: the first call writes 5 bytes */
    assert_int_equal(vx_storage_write(storage, buffer, sizeof buffer, 20, &err), VHDX_E_NO_SPACE);
    assert_int_equal(err.system_errno, ENOSPC);
    assert_true(err.file_offset == 25);
    vx_posix_calls.pwritev = stuck_pwritev;
    assert_int_equal(vx_storage_write(storage, buffer, sizeof buffer, 20, &err), VHDX_E_NO_SPACE);
    vx_posix_calls.preadv = broken_preadv;
    assert_int_equal(vx_storage_read(storage, buffer, 5, 0, &err), VHDX_E_IO);
    assert_int_equal(err.system_errno, EIO);
    vhdx_storage_close(storage);
}

/* --- flush --- */

static int flush_errno;

static int
failing_fdatasync(int descriptor)
{
    (void)descriptor;
    errno = flush_errno;
    return calls_made++ == 0 ? -1 : 0;
}

static void
test_flush(void **state)
{
    struct vhdx_storage *storage = create();

    (void)state;
    assert_int_equal(vx_storage_flush(storage, &err), VHDX_OK);
    vx_posix_calls.fdatasync = failing_fdatasync;
    flush_errno = EINTR;
    calls_made = 0;
    assert_int_equal(vx_storage_flush(storage, &err), VHDX_OK);
    assert_int_equal(calls_made, 2);
    flush_errno = EIO;
    calls_made = 0;
    assert_int_equal(vx_storage_flush(storage, &err), VHDX_E_IO);
    assert_int_equal(calls_made, 1); /* P4: the second would have succeeded */
    vhdx_storage_close(storage);
}

/* --- zeros, space, holes --- */

static int fallocate_errno;

static int
failing_fallocate(int descriptor, int mode, off_t offset, off_t length)
{
    (void)descriptor, (void)mode, (void)offset, (void)length;
    errno = fallocate_errno;
    return -1;
}

static void
zero_with_mode(enum vhdx_zero_mode mode, int expected)
{
    static uint8_t before[3 * 1024 * 1024], after[sizeof before];
    struct vhdx_storage *storage = create();
    const uint64_t start = 4097, end = sizeof before - 100;

    fill(before, sizeof before);
    assert_int_equal(vx_storage_write(storage, before, sizeof before, 0, &err), VHDX_OK);
    assert_int_equal(vx_storage_zero(storage, start, end - start, mode, &err), expected);
    if (expected == VHDX_OK)
        memset(before + start, 0, (size_t)(end - start));
    assert_int_equal(vx_storage_read(storage, after, sizeof after, 0, &err), VHDX_OK);
    assert_memory_equal(before, after, sizeof before);
    assert_true(size_of(storage) == sizeof before);
    assert_int_equal(vx_storage_zero(storage, 0, 0, mode, &err), VHDX_OK);
    vhdx_storage_close(storage);
    unlink(path);
}

static void
test_zero(void **state)
{
    static const int missing[] = { EOPNOTSUPP, ENOSYS, EINVAL };

    (void)state;
    zero_with_mode(VHDX_ZERO_RELEASE, VHDX_OK);
    zero_with_mode(VHDX_ZERO_KEEP_ALLOCATED, VHDX_OK);
    vx_posix_calls.fallocate = failing_fallocate;
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        fallocate_errno = missing[i];
        zero_with_mode(VHDX_ZERO_RELEASE, VHDX_OK);
        zero_with_mode(VHDX_ZERO_KEEP_ALLOCATED, VHDX_OK);
        zero_with_mode(VHDX_ZERO_ONLY_FAST, VHDX_E_UNSUPPORTED);
    }
    fallocate_errno = EIO;
    zero_with_mode(VHDX_ZERO_RELEASE, VHDX_E_IO);
}

static blkcnt_t
blocks_of(const char *name)
{
    struct stat status;

    assert_int_equal(stat(name, &status), 0);
    return status.st_blocks;
}

/* What the trait says is what happens. */
static void
test_release(void **state)
{
    static uint8_t buffer[1024 * 1024];
    struct vhdx_storage *storage = create();
    blkcnt_t before;

    (void)state;
    fill(buffer, sizeof buffer);
    assert_int_equal(vx_storage_write(storage, buffer, sizeof buffer, 0, &err), VHDX_OK);
    assert_int_equal(vx_storage_flush(storage, &err), VHDX_OK);
    before = blocks_of(path);
    if (storage->traits.can_punch) {
        assert_int_equal(vx_storage_zero(storage, 0, sizeof buffer, VHDX_ZERO_ONLY_FAST, &err), VHDX_OK);
        assert_true(blocks_of(path) < before);
        assert_int_equal(vx_storage_allocate(storage, 0, sizeof buffer, &err), VHDX_OK);
        assert_true(blocks_of(path) >= before);
    }
    vhdx_storage_close(storage);
}

static int clone_errno, copy_errno;
static int copies_asked;

static int
failing_clone(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length)
{
    (void)to, (void)to_offset, (void)from, (void)from_offset, (void)length;
    errno = clone_errno;
    return -1;
}

/* Short, and now and then interrupted; in the end it fails, if it shall. */
static ssize_t
short_copy(int to, uint64_t to_offset, int from, uint64_t from_offset, size_t length)
{
    char    bytes[1000];
    ssize_t n;

    copies_asked++;
    if (copies_asked % 3 == 2 || (copies_asked > 4 && copy_errno != 0)) {
        errno = copies_asked > 4 && copy_errno != 0 ? copy_errno : EINTR;
        return copy_errno == -1 && copies_asked > 4 ? 0 : -1;
    }
    n = pread(from, bytes, length < sizeof bytes ? length : sizeof bytes, (off_t)from_offset);
    assert_int_equal(pwrite(to, bytes, (size_t)n, (off_t)to_offset), n);
    return n;
}

/* One file's bytes into another: all of them, or a clear no. */
static int
copy_between(bool only_share)
{
    static uint8_t bytes[16384], copied[sizeof bytes], expected[3 * sizeof bytes], found[sizeof expected];
    struct vhdx_storage *to = create(), *from;
    char                 other[112];
    int                  rc;

    snprintf(other, sizeof other, "%s.other", path);
    assert_int_equal(vhdx_storage_open_path(&from, other, VHDX_STORAGE_CREATE, &err), VHDX_OK);
    fill(bytes, sizeof bytes);
    memset(expected, 7, sizeof expected);
    assert_int_equal(vx_storage_write(from, bytes, sizeof bytes, 4096, &err), VHDX_OK);
    assert_int_equal(vx_storage_write(to, expected, sizeof expected, 0, &err), VHDX_OK);
    copies_asked = 0;
    rc = vx_storage_copy_from(to, 8192, from, 4096, sizeof bytes, only_share, &err);
    if (rc == VHDX_OK) {
        memcpy(expected + 8192, bytes, sizeof bytes);
        assert_int_equal(vx_storage_read(to, found, sizeof found, 0, &err), VHDX_OK);
        assert_memory_equal(found, expected, sizeof found);
        assert_int_equal(vx_storage_read(from, copied, sizeof copied, 4096, &err), VHDX_OK);
        assert_memory_equal(copied, bytes, sizeof bytes);
    }
    assert_true(size_of(to) == sizeof expected);
    vhdx_storage_close(to);
    vhdx_storage_close(from);
    unlink(path);
    unlink(other);
    return rc;
}

static void
test_copy_from(void **state)
{
    static const int missing[] = { EXDEV, EOPNOTSUPP, ENOSYS, EINVAL, ENOTTY, EBADF, EPERM, -1 };

    (void)state;
    assert_true(copy_between(false) == VHDX_OK || copy_between(false) == VHDX_E_UNSUPPORTED); /* whatever is here */
    vx_posix_calls.clone = failing_clone;
    vx_posix_calls.copy_range = short_copy;
    clone_errno = EOPNOTSUPP;
    assert_int_equal(copy_between(false), VHDX_OK);
    assert_int_equal(copy_between(true), VHDX_E_UNSUPPORTED);
    for (size_t i = 0; i < sizeof missing / sizeof missing[0]; i++) {
        copy_errno = missing[i];
        assert_int_equal(copy_between(false), VHDX_E_UNSUPPORTED);
    }
    copy_errno = EIO;
    assert_int_equal(copy_between(false), VHDX_E_IO);
    copy_errno = 0;
    clone_errno = ENOSPC;
    assert_int_equal(copy_between(true), VHDX_E_NO_SPACE);
}

static unsigned long file_system_number;
static int           punches_asked;

static unsigned long
named_file_system(int descriptor)
{
    (void)descriptor;
    return file_system_number;
}

static int
counting_fallocate(int descriptor, int mode, off_t offset, off_t length)
{
    if ((mode & FALLOC_FL_PUNCH_HOLE) != 0)
        punches_asked++;
    return real.fallocate(descriptor, mode, offset, length);
}

/* Where a file may lie on NTFS no hole is made, not even to find out whether one could be: Windows refuses sparse images. */
static void
test_never_sparse(void **state)
{
    static const unsigned long numbers[] = { 0x5346544E, 0x7366746E, 0xFF534D42, 0xFE534D42, 0x517B, 0x01021997 };

    struct vhdx_storage *storage;

    (void)state;
    vx_posix_calls.file_system = named_file_system;
    vx_posix_calls.fallocate = counting_fallocate;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        file_system_number = numbers[i];
        zero_with_mode(VHDX_ZERO_RELEASE, VHDX_OK);
        zero_with_mode(VHDX_ZERO_KEEP_ALLOCATED, VHDX_OK);
        zero_with_mode(VHDX_ZERO_ONLY_FAST, VHDX_E_UNSUPPORTED);
        storage = create();
        assert_false(storage->traits.can_punch);
        vhdx_storage_close(storage);
        unlink(path);
    }
    assert_int_equal(punches_asked, 0);
    assert_int_equal(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_CREATE | VHDX_STORAGE_MAKE_HOLES, &err), VHDX_OK);
    assert_true(storage->traits.can_punch);
    vhdx_storage_close(storage);
    unlink(path);
    punches_asked = 0;
    file_system_number = 0x01021994; /* tmpfs: the count counts */
    zero_with_mode(VHDX_ZERO_RELEASE, VHDX_OK);
    assert_int_equal(punches_asked, 1);
}

static void
test_allocate(void **state)
{
    struct vhdx_storage *storage = create();
    char buffer[4];

    (void)state;
    assert_int_equal(vx_storage_write(storage, "kept", 4, 8192, &err), VHDX_OK);
    assert_int_equal(vx_storage_allocate(storage, 0, 8196, &err), VHDX_OK);
    assert_true(size_of(storage) == 8196);
    assert_int_equal(vx_storage_read(storage, buffer, 4, 8192, &err), VHDX_OK);
    assert_memory_equal(buffer, "kept", 4);
    vx_posix_calls.fallocate = failing_fallocate;
    fallocate_errno = EOPNOTSUPP;
    assert_int_equal(vx_storage_allocate(storage, 0, 4096, &err), VHDX_OK);
    fallocate_errno = ENOSPC;
    assert_int_equal(vx_storage_allocate(storage, 0, 4096, &err), VHDX_E_NO_SPACE);
    vhdx_storage_close(storage);
}

static void
test_set_size(void **state)
{
    struct vhdx_storage *storage = create();
    uint8_t buffer[10];

    (void)state;
    assert_int_equal(vx_storage_write(storage, "0123456789", 10, 0, &err), VHDX_OK);
    assert_int_equal(vx_storage_set_size(storage, 4, &err), VHDX_OK);
    assert_true(size_of(storage) == 4);
    assert_int_equal(vx_storage_set_size(storage, 10, &err), VHDX_OK);
    assert_int_equal(vx_storage_read(storage, buffer, 10, 0, &err), VHDX_OK);
    assert_memory_equal(buffer, "0123\0\0\0\0\0\0", 10);
    vhdx_storage_close(storage);
}

static off_t
no_seek(int descriptor, off_t offset, int whence)
{
    (void)descriptor, (void)offset, (void)whence;
    errno = EINVAL;
    return -1;
}

/* Somebody punches what the first question found, before the second. */
static off_t
racing_seek(int descriptor, off_t offset, int whence)
{
    if (whence == SEEK_HOLE && calls_made++ == 0)
        return offset;
    return lseek(descriptor, offset, whence);
}

static void
test_next_data(void **state)
{
    struct vhdx_storage *storage = create();
    uint64_t start, end;

    (void)state;
    assert_int_equal(vx_storage_set_size(storage, 10 * VX_MIB, &err), VHDX_OK);
    assert_int_equal(vx_storage_write(storage, "data", 4, 5 * VX_MIB, &err), VHDX_OK);
    assert_int_equal(vx_storage_next_data(storage, 0, &start, &end, &err), VHDX_OK);
    assert_true(start <= 5 * VX_MIB && end >= 5 * VX_MIB + 4 && end <= 10 * VX_MIB);
    assert_int_equal(vx_storage_next_data(storage, end, &start, &end, &err), VHDX_OK);
    assert_true(end == 10 * VX_MIB);
    assert_int_equal(vx_storage_next_data(storage, 20 * VX_MIB, &start, &end, &err), VHDX_OK);
    assert_true(start == 10 * VX_MIB && end == start);
    assert_int_equal(vx_storage_next_data(storage, UINT64_MAX, &start, &end, &err), VHDX_OK);
    assert_true(start == 10 * VX_MIB && end == start);

    calls_made = 0;
    vx_posix_calls.lseek = racing_seek;
    assert_int_equal(vx_storage_next_data(storage, 0, &start, &end, &err), VHDX_OK);
    assert_true(start <= 5 * VX_MIB && end >= 5 * VX_MIB + 4);

    vx_posix_calls.lseek = no_seek; /* a file system that cannot tell */
    assert_int_equal(vx_storage_next_data(storage, VX_MIB, &start, &end, &err), VHDX_OK);
    assert_true(start == VX_MIB && end == 10 * VX_MIB);
    vhdx_storage_close(storage);
}

/* --- the limit on the length of files --- */

/* In a child, because a limit once lowered stays.  Returns the line that was not as it should be. */
static int
live_with_limit(void)
{
#define REQUIRE(x) if (!(x)) return __LINE__
    const struct rlimit limit = { 2 * VX_MIB, 2 * VX_MIB };
    struct rlimit old_limit, soft_limit;
    static uint8_t buffer[2 * 1024 * 1024];
    struct vhdx_storage *storage;
    sigset_t pending, blocked;

    /* A limit that comes after the opening is met when the file grows, also where it was longer before. */
    REQUIRE(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, &err) == VHDX_OK);
    REQUIRE(vx_storage_set_size(storage, VX_MIB, &err) == VHDX_OK);
    REQUIRE(getrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    soft_limit = (struct rlimit){ 2 * VX_MIB, old_limit.rlim_max };
    REQUIRE(setrlimit(RLIMIT_FSIZE, &soft_limit) == 0);
    REQUIRE(vx_storage_write(storage, buffer, 1, 3 * VX_MIB, &err) == VHDX_E_NO_SPACE);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &old_limit) == 0);
    REQUIRE(vx_storage_set_size(storage, 4 * VX_MIB, &err) == VHDX_OK);
    vhdx_storage_close(storage);

    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    REQUIRE(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, &err) == VHDX_OK);

    /* The file has 4 MiB already: also the bytes that are there cannot be written past the limit. */
    REQUIRE(vx_storage_write(storage, buffer, 4096, VX_MIB, &err) == VHDX_OK);
    REQUIRE(vx_storage_write(storage, buffer, sizeof buffer, VX_MIB, &err) == VHDX_E_NO_SPACE);
    REQUIRE(err.system_errno == EFBIG && err.file_offset == 2 * VX_MIB);
    REQUIRE(vx_storage_write(storage, buffer, 1, 3 * VX_MIB, &err) == VHDX_E_NO_SPACE);
    REQUIRE(vx_storage_set_size(storage, 5 * VX_MIB, &err) == VHDX_E_NO_SPACE);
    REQUIRE(vx_storage_set_size(storage, VX_MIB, &err) == VHDX_OK);
    REQUIRE(vx_storage_write(storage, buffer, sizeof buffer, VX_MIB / 2, &err) == VHDX_E_NO_SPACE);
    REQUIRE(vx_storage_set_size(storage, 5 * VX_MIB, &err) == VHDX_E_NO_SPACE);
    vhdx_storage_close(storage);

    /* The signal is neither waiting nor blocked. */
    REQUIRE(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 0);
    REQUIRE(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && sigismember(&blocked, SIGXFSZ) == 0);

    /* One that the caller keeps waiting is the caller's. */
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGXFSZ);
    REQUIRE(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
    REQUIRE(raise(SIGXFSZ) == 0);
    REQUIRE(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_WRITE, &err) == VHDX_OK);
    REQUIRE(vx_storage_write(storage, buffer, 1, 3 * VX_MIB, &err) == VHDX_E_NO_SPACE);
    vhdx_storage_close(storage);
    REQUIRE(sigpending(&pending) == 0 && sigismember(&pending, SIGXFSZ) == 1);
    return 0;
#undef REQUIRE
}

static void
test_file_size_limit(void **state)
{
    struct vhdx_storage *storage = create();
    int status;
    pid_t child;

    (void)state;
    assert_int_equal(vx_storage_set_size(storage, 4 * VX_MIB, &err), VHDX_OK);
    vhdx_storage_close(storage);
    child = fork();
    if (child == 0) {
        int line;

        signal(SIGXFSZ, SIG_DFL);
        line = live_with_limit();
        _exit(line == 0 ? 0 : 1 + line % 250);
    }
    assert_true(waitpid(child, &status, 0) == child);
    if (WIFSIGNALED(status))
        fail_msg("the signal killed the process: %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != 0)
        fail_msg("the requirement at a line congruent to %d modulo 250", WEXITSTATUS(status) - 1);
}

/* --- what must not be opened --- */

static void
test_refusals(void **state)
{
    enum { WRITE = VHDX_STORAGE_WRITE, FORCE_SHARE = VHDX_STORAGE_FORCE_SHARE, CREATE = VHDX_STORAGE_CREATE };
    char fifo[96], link[96];
    const struct {
        const char *about, *path;
        unsigned    flags;
        int         code;
    } cases[] = {
        { "missing",                   path,        0,                    VHDX_E_NOT_FOUND },
        { "missing, for writing",      path,        WRITE,                VHDX_E_NOT_FOUND },
        { "a directory",               folder,      0,                    VHDX_E_UNSUPPORTED },
        { "a directory, for writing",  folder,      WRITE,                VHDX_E_UNSUPPORTED },
        { "a FIFO",                    fifo,        0,                    VHDX_E_UNSUPPORTED },
        { "a FIFO, for writing",       fifo,        WRITE,                VHDX_E_UNSUPPORTED },
        { "a character device",        "/dev/null", 0,                    VHDX_E_UNSUPPORTED },
        { "creating over a directory", folder,      CREATE,               VHDX_E_EXISTS },
        { "creating over a FIFO",      fifo,        CREATE,               VHDX_E_EXISTS },
        { "creating through a link",   link,        CREATE,               VHDX_E_EXISTS },
        { "a flag of the future",      path,        64,                   VHDX_E_INVALID },
        { "writing without locks",     path,        WRITE | FORCE_SHARE,  VHDX_E_INVALID },
        { "creating without locks",    path,        CREATE | FORCE_SHARE, VHDX_E_INVALID },
    };

    (void)state;
    snprintf(fifo, sizeof fifo, "%s/fifo", folder);
    snprintf(link, sizeof link, "%s/link", folder);
    assert_int_equal(mkfifo(fifo, 0600), 0);
    assert_int_equal(symlink(path, link), 0); /* to a file that is not there yet */
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct vhdx_storage *storage;
        const int rc = vhdx_storage_open_path(&storage, cases[i].path, cases[i].flags, &err);

        if (rc != cases[i].code || err.code != rc || err.message[0] == '\0')
            fail_msg("%s: %d, %s", cases[i].about, rc, err.message);
    }
    assert_int_equal(access(path, F_OK), -1);
    unlink(fifo);
    unlink(link);
}

static void
test_existing_file_is_kept(void **state)
{
    struct vhdx_storage *storage = create();

    (void)state;
    assert_false(storage->traits.is_read_only);
    assert_string_equal(vx_storage_name(storage), path);
    assert_int_equal(vx_storage_write(storage, "kept", 4, 0, &err), VHDX_OK);
    vhdx_storage_close(storage);
    assert_int_equal(vhdx_storage_open_path(&storage, path, VHDX_STORAGE_CREATE, &err), VHDX_E_EXISTS);
    assert_int_equal(vhdx_storage_open_path(&storage, path, 0, &err), VHDX_OK);
    assert_true(storage->traits.is_read_only);
    assert_true(size_of(storage) == 4);
    vhdx_storage_close(storage);
}

/* Whichever allocation of a creation fails: an error, no file, no lock, no leak. */
static void
test_creation_fails(void **state)
{
    struct vhdx_storage *storage = NULL;
    size_t n;

    (void)state;
    for (n = 1; storage == NULL; n++) {
        vx_alloc_fail_nth_for_tests(n);
        if (vhdx_storage_open_path(&storage, path, VHDX_STORAGE_CREATE, &err) == VHDX_OK)
            break;
        assert_int_equal(err.code, VHDX_E_NO_MEMORY);
        assert_int_equal(access(path, F_OK), -1);
    }
    vx_alloc_fail_nth_for_tests(0);
    assert_in_range(n, 3, 10);
    vhdx_storage_close(storage);
}

static void
test_descriptors(void **state)
{
    static const struct {
        const char *about;
        int         open_flags;
        unsigned    flags;
        int         code;
    } cases[] = {
        { "reading",                    O_RDONLY,          0,                   VHDX_OK },
        { "writing",                    O_RDWR,            VHDX_STORAGE_WRITE,  VHDX_OK },
        { "only reading what may more", O_RDWR,            0,                   VHDX_OK },
        { "writing what may not",       O_RDONLY,          VHDX_STORAGE_WRITE,  VHDX_E_PERMISSION },
        { "write-only",                 O_WRONLY,          VHDX_STORAGE_WRITE,  VHDX_E_PERMISSION },
        { "appending",                  O_RDWR | O_APPEND, VHDX_STORAGE_WRITE,  VHDX_E_INVALID },
    };
    struct vhdx_storage *storage = create();

    (void)state;
    vhdx_storage_close(storage);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const int descriptor = open(path, cases[i].open_flags | O_CLOEXEC);

        if (vhdx_storage_open_descriptor(&storage, descriptor, NULL, cases[i].flags, &err) != cases[i].code)
            fail_msg("%s: %s", cases[i].about, err.message);
        if (cases[i].code != VHDX_OK) {
            assert_int_equal(close(descriptor), 0); /* it stayed ours */
            continue;
        }
        assert_string_equal(vx_storage_name(storage), "image");
        vhdx_storage_close(storage);
        assert_int_equal(fcntl(descriptor, F_GETFD), -1);
    }
    assert_int_equal(vhdx_storage_open_descriptor(&storage, -1, NULL, 0, &err), VHDX_E_IO);
}

/* By two names, or opened twice, a file is one; another file, and memory, is not it. */
static void
test_identity(void **state)
{
    char other_name[112];
    struct vhdx_storage *storage = create(), *again, *other;

    (void)state;
    snprintf(other_name, sizeof other_name, "%s-2", path);
    assert_int_equal(link(path, other_name), 0);
    vhdx_storage_close(storage);
    assert_int_equal(vhdx_storage_open_path(&storage, path, 0, &err), VHDX_OK);
    assert_int_equal(vhdx_storage_open_path(&again, other_name, 0, &err), VHDX_OK);
    assert_true(vx_identity_equal(&storage->identity, &again->identity));
    vhdx_storage_close(again);
    assert_int_equal(unlink(other_name), 0);

    assert_int_equal(vhdx_storage_open_path(&other, other_name, VHDX_STORAGE_CREATE, &err), VHDX_OK);
    assert_false(vx_identity_equal(&storage->identity, &other->identity));
    vhdx_storage_close(other);
    assert_int_equal(unlink(other_name), 0);

    assert_int_equal(vhdx_storage_new_memory(&other, 0, &err), VHDX_OK);
    assert_false(vx_identity_equal(&other->identity, &other->identity));
    vhdx_storage_close(other);
    vhdx_storage_close(storage);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_vectors),
        TEST(test_short_and_interrupted),
        TEST(test_end_of_file),
        TEST(test_failing_transfers),
        TEST(test_flush),
        TEST(test_zero),
        TEST(test_release),
        TEST(test_never_sparse),
        TEST(test_copy_from),
        TEST(test_allocate),
        TEST(test_set_size),
        TEST(test_next_data),
        TEST(test_file_size_limit),
        TEST(test_refusals),
        TEST(test_existing_file_is_kept),
        TEST(test_creation_fails),
        TEST(test_descriptors),
        TEST(test_identity),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
