/*
 * A file or a block device of the system.
 *
 *   P1  Only calls with a place of their own (preadv, pwritev, ...): threads share the descriptor without a lock.
 *   P2  A call that comes back short or interrupted is continued; nothing transferred inside the file is its end.
 *   P3  A signal disposition of the process is never changed and never needed (posix_limit.c).
 *   P4  Once fdatasync has failed it is not called again for the same data: a second one may succeed and mean
 *       nothing.
 */
#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <unistd.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "storage/posix.h"
#include "storage/storage.h"

#ifdef FALLOC_FL_KEEP_SIZE
#ifndef FALLOC_FL_ZERO_RANGE
#define FALLOC_FL_ZERO_RANGE 0x10 /* musl leaves it to the kernel's headers */
#endif
#define MODE_ALLOCATE FALLOC_FL_KEEP_SIZE
#define MODE_PUNCH    (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
#define MODE_ZERO     (FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE)

static int
allocate_range(int descriptor, int mode, off_t offset, off_t length)
{
    return fallocate(descriptor, mode, offset, length);
}
#else
#define MODE_ALLOCATE 0
#define MODE_PUNCH    0
#define MODE_ZERO     0

static int
allocate_range(int descriptor, int mode, off_t offset, off_t length)
{
    (void)descriptor, (void)mode, (void)offset, (void)length;
    errno = EOPNOTSUPP;
    return -1;
}
#endif

#ifdef VHDX_TEST_HOOKS
struct vx_posix_calls
#else
const struct vx_posix_calls
#endif
    vx_posix_calls = { preadv, pwritev, fdatasync, ftruncate, allocate_range, lseek, vx_posix_file_system,
                       vx_posix_clone, vx_posix_copy_range };

#ifndef IOV_MAX
#define IOV_MAX 16 /* what POSIX promises */
#endif

/* At a time: below every limit of the kernel's and, on 32 bits, of ssize_t. */
#define TRANSFER_MAX ((size_t)1 << 30)

/* A place in a vector: `done` bytes of its first piece are behind us. */
struct cursor {
    const struct iovec *vector;
    int                 count;
    size_t              done;
};

static struct vx_posix *
posix_of(struct vhdx_storage *storage)
{
    return (struct vx_posix *)storage;
}

static void
advance(struct cursor *cursor, size_t length)
{
    cursor->done += length;
    while (cursor->count > 0 && cursor->done >= cursor->vector->iov_len) {
        cursor->done -= cursor->vector->iov_len;
        cursor->vector++;
        cursor->count--;
    }
}

static uint64_t
bytes_left(const struct cursor *cursor)
{
    uint64_t length = 0;

    for (int i = 0; i < cursor->count; i++)
        length += cursor->vector[i].iov_len;
    return length - cursor->done;
}

/*
 * The pieces of the next call.  A piece that is partly done, or too long for one call, goes alone, cut to `part`;
 * all else goes as the caller wrote it, without a copy.
 */
static const struct iovec *
next_pieces(const struct cursor *cursor, struct iovec *part, int *count)
{
    size_t length = 0;
    int n = 0;

    if (cursor->done > 0 || cursor->vector->iov_len > TRANSFER_MAX) {
        size_t rest = cursor->vector->iov_len - cursor->done;

        part->iov_base = (char *)cursor->vector->iov_base + cursor->done;
        part->iov_len = rest < TRANSFER_MAX ? rest : TRANSFER_MAX;
        *count = 1;
        return part;
    }
    while (n < cursor->count && n < IOV_MAX && cursor->vector[n].iov_len <= TRANSFER_MAX - length)
        length += cursor->vector[n++].iov_len;
    *count = n;
    return cursor->vector;
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct cursor cursor = { vector, vector_count, 0 };
    const int descriptor = posix_of(storage)->descriptor;

    advance(&cursor, 0); /* empty pieces are nothing to wait for */
    while (cursor.count > 0) {
        struct iovec part;
        int count;
        const struct iovec *pieces = next_pieces(&cursor, &part, &count);
        ssize_t n;

        n = file_offset <= VX_POSIX_OFFSET_MAX
            ? vx_posix_calls.preadv(descriptor, pieces, count, (off_t)file_offset) : 0;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return vx_fail_errno(err, errno, VHDX_PART_FILE, file_offset,
                                 "reading %" PRIu64 " bytes at %" PRIu64, bytes_left(&cursor), file_offset);
        if (n == 0)
            return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_offset,
                           "the file ends at %" PRIu64 ", %" PRIu64 " bytes too early", file_offset,
                           bytes_left(&cursor));
        file_offset += (uint64_t)n;
        advance(&cursor, (size_t)n);
    }
    return VHDX_OK;
}

/* P2.  Returns 0 or an errno; *file_offset is where it stopped. */
static int
write_all(int descriptor, struct cursor *cursor, uint64_t *file_offset)
{
    advance(cursor, 0);
    while (cursor->count > 0) {
        struct iovec part;
        int count;
        const struct iovec *pieces = next_pieces(cursor, &part, &count);
        ssize_t n = vx_posix_calls.pwritev(descriptor, pieces, count, (off_t)*file_offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (n == 0)
            return ENOSPC; /* what else could keep a file from taking a byte */
        *file_offset += (uint64_t)n;
        advance(cursor, (size_t)n);
    }
    return 0;
}

static int
write_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct vx_posix *posix = posix_of(storage);
    struct cursor cursor = { vector, vector_count, 0 };
    struct vx_posix_limit limit;
    uint64_t end;
    int system_errno;

    if (!vx_add_u64(file_offset, bytes_left(&cursor), &end) || end > VX_POSIX_OFFSET_MAX) {
        system_errno = EFBIG;
    } else if (vx_posix_is_safe(posix, end)) {
        system_errno = write_all(posix->descriptor, &cursor, &file_offset);
    } else {
        vx_posix_limit_enter(&limit);
        system_errno = write_all(posix->descriptor, &cursor, &file_offset);
        vx_posix_limit_leave(&limit, system_errno);
        if (system_errno == 0)
            vx_posix_now_safe(posix, end);
    }
    if (system_errno != 0)
        return vx_fail_errno(err, system_errno, VHDX_PART_FILE, file_offset,
                             "writing %" PRIu64 " bytes at %" PRIu64, bytes_left(&cursor), file_offset);
    return VHDX_OK;
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    int rc;

    do
        rc = vx_posix_calls.fdatasync(posix_of(storage)->descriptor);
    while (rc < 0 && errno == EINTR); /* not a failure of the disk: P4 does not speak of it */
    if (rc < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "flushing to the disk");
    return VHDX_OK;
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    struct vx_posix *posix = posix_of(storage);
    struct stat status;

    if (posix->is_block_device) { /* the offset that this moves is nobody's: P1 */
        off_t end = vx_posix_calls.lseek(posix->descriptor, 0, SEEK_END);

        if (end < 0)
            return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "asking for the size of the device");
        *out = (uint64_t)end;
        return VHDX_OK;
    }
    if (fstat(posix->descriptor, &status) < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "asking for the length of the file");
    *out = (uint64_t)status.st_size;
    return VHDX_OK;
}

/* A device has the length it has.  To shrink it in name only would be a lie: a later growth promises zeros. */
static int
set_device_size(uint64_t old_size, uint64_t size, struct vhdx_error *err)
{
    if (size == old_size)
        return VHDX_OK;
    return vx_fail(err, size > old_size ? VHDX_E_NO_SPACE : VHDX_E_UNSUPPORTED, VHDX_PART_FILE, size,
                   "the device has %" PRIu64 " bytes and cannot be given %" PRIu64, old_size, size);
}

static int
truncate_file(struct vx_posix *posix, uint64_t size, bool may_grow)
{
    struct vx_posix_limit limit;
    int system_errno;

    if (size > VX_POSIX_OFFSET_MAX)
        return EFBIG;
    if (may_grow)
        vx_posix_limit_enter(&limit);
    do
        system_errno = vx_posix_calls.ftruncate(posix->descriptor, (off_t)size) == 0 ? 0 : errno;
    while (system_errno == EINTR);
    if (may_grow)
        vx_posix_limit_leave(&limit, system_errno);
    return system_errno;
}

static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct vx_posix *posix = posix_of(storage);
    uint64_t old_size;
    int system_errno;
    int rc = get_size(storage, &old_size, err);

    if (rc < 0)
        return rc;
    if (posix->is_block_device)
        return set_device_size(old_size, size, err);
    system_errno = truncate_file(posix, size, size > old_size);
    if (system_errno != 0)
        return vx_fail_errno(err, system_errno, VHDX_PART_FILE, size,
                             "changing the length of the file from %" PRIu64 " to %" PRIu64, old_size, size);
    if (size > old_size)
        vx_posix_now_safe(posix, size);
    else
        vx_posix_was_cut(posix, size);
    return VHDX_OK;
}

/* Returns 0, EOPNOTSUPP for anything that means "not here", or another errno. */
static int
change_range(struct vx_posix *posix, int mode, uint64_t file_offset, uint64_t length)
{
    int rc;

    do
        rc = vx_posix_calls.fallocate(posix->descriptor, mode, (off_t)file_offset, (off_t)length);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    /* EINVAL: a device wants whole sectors, some file systems know fallocate but not this mode of it. */
    return errno == ENOSYS || errno == EINVAL || errno == ENODEV || errno == ENOTSUP ? EOPNOTSUPP : errno;
}

static int
write_zeros(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    static uint8_t zeros[64 * 1024]; /* never written; not const, so that it takes no room in the program's file */
    struct iovec vector[16];
    int rc = VHDX_OK;

    while (length > 0 && rc == VHDX_OK) {
        uint64_t done = 0;
        int count = 0;

        for (; count < 16 && done < length; count++) {
            vector[count].iov_base = zeros;
            vector[count].iov_len = (size_t)vx_min_u64(sizeof zeros, length - done);
            done += vector[count].iov_len;
        }
        rc = write_vector(storage, vector, count, file_offset, err);
        file_offset += done;
        length -= done;
    }
    return rc;
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
     struct vhdx_error *err)
{
    const bool keeps = mode == VHDX_ZERO_KEEP_ALLOCATED || posix_of(storage)->keeps_whole;
    int system_errno = EOPNOTSUPP;

    if (length == 0)
        return VHDX_OK;
    if (!(keeps && mode == VHDX_ZERO_ONLY_FAST))
        system_errno = change_range(posix_of(storage), keeps ? MODE_ZERO : MODE_PUNCH, file_offset, length);
    if (system_errno == 0)
        return VHDX_OK;
    if (system_errno != EOPNOTSUPP)
        return vx_fail_errno(err, system_errno, VHDX_PART_FILE, file_offset,
                             "zeroing %" PRIu64 " bytes at %" PRIu64, length, file_offset);
    if (mode == VHDX_ZERO_ONLY_FAST)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_FILE, file_offset,
                       "no way to zero %" PRIu64 " bytes at %" PRIu64 " without writing them", length, file_offset);
    return write_zeros(storage, file_offset, length, err);
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    int system_errno;

    if (length == 0)
        return VHDX_OK;
    system_errno = change_range(posix_of(storage), MODE_ALLOCATE, file_offset, length);
    if (system_errno == 0 || system_errno == EOPNOTSUPP) /* the contract: who cannot tell succeeds */
        return VHDX_OK;
    return vx_fail_errno(err, system_errno, VHDX_PART_FILE, file_offset,
                         "taking space for %" PRIu64 " bytes at %" PRIu64, length, file_offset);
}

/*
 * lseek moves the offset that all users of the descriptor share, but its answer does not depend on that offset and
 * nothing of ours reads from it (P1), so threads need not wait for each other.  Between the two questions somebody
 * may punch the range that the first one found: then the answer is empty, and we ask on from there.
 */
static int
seek_data(int descriptor, uint64_t file_offset, uint64_t *start, uint64_t *end)
{
    off_t data, hole;

    if (file_offset > VX_POSIX_OFFSET_MAX)
        return ENXIO;
#ifdef SEEK_DATA
    do {
        data = vx_posix_calls.lseek(descriptor, (off_t)file_offset, SEEK_DATA);
        if (data < 0)
            return errno;
        hole = vx_posix_calls.lseek(descriptor, data, SEEK_HOLE);
        if (hole < 0)
            return errno;
        file_offset = (uint64_t)data;
    } while (hole == data);
    *start = (uint64_t)data;
    *end = (uint64_t)hole;
    return 0;
#else
    (void)descriptor, (void)start, (void)end, (void)data, (void)hole;
    return EINVAL;
#endif
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
          struct vhdx_error *err)
{
    int system_errno = seek_data(posix_of(storage)->descriptor, file_offset, start, end);
    uint64_t size;
    int rc;

    if (system_errno == 0)
        return VHDX_OK;
    rc = get_size(storage, &size, err);
    if (rc < 0)
        return rc;
    switch (system_errno) {
    case ENXIO: /* no data from here on, or the file ends before */
        *start = *end = size;
        return VHDX_OK;
    case EINVAL:
    case ENOTSUP:
    case ENOSYS: /* not a thing this file system or device knows: all of it is data */
        *start = vx_min_u64(file_offset, size);
        *end = size;
        return VHDX_OK;
    default:
        return vx_fail_errno(err, system_errno, VHDX_PART_FILE, file_offset, "looking for data from %" PRIu64,
                             file_offset);
    }
}

static void
forget_cached(struct vhdx_storage *storage)
{
    struct vx_posix *posix = (struct vx_posix *)storage;

    (void)posix_fadvise(posix->descriptor, 0, 0, POSIX_FADV_DONTNEED);
}

static void
close_file(struct vhdx_storage *storage)
{
    struct vx_posix *posix = posix_of(storage);

    close(posix->descriptor); /* and with it the locks; what mattered was flushed before */
    vx_free(posix->name);
    vx_free(posix);
}

const struct vhdx_storage_methods vx_posix_methods = {
    .readv = read_vector,
    .writev = write_vector,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .copy_from = vx_posix_copy_from,
    .forget_cached = forget_cached,
    .close = close_file,
};
