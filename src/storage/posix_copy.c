/*
 * Bytes of one file into another inside of the system: shared where the file system can (FICLONERANGE: btrfs, XFS, and SMB and
 * NFS servers over them), else copied by the kernel (copy_file_range), which servers do without sending a byte.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/ioctl.h>
#include <sys/syscall.h>
#endif

#include "base/checked.h"
#include "base/error.h"
#include "storage/posix.h"

#define GRAIN 4096u /* file systems share whole blocks of theirs; larger ones say no */

#if defined(__linux__) && defined(SYS_copy_file_range)

/* As in the kernel's headers, which musl does not bring. */
struct clone_range {
    int64_t  from_descriptor;
    uint64_t from_offset, length, to_offset;
};
#define CLONE_RANGE _IOW(0x94, 13, struct clone_range)

int
vx_posix_clone(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length)
{
    struct clone_range range = { .from_descriptor = from, .from_offset = from_offset, .length = length,
                                 .to_offset = to_offset };

    return ioctl(to, CLONE_RANGE, &range);
}

ssize_t
vx_posix_copy_range(int to, uint64_t to_offset, int from, uint64_t from_offset, size_t length)
{
    int64_t in = (int64_t)from_offset, out = (int64_t)to_offset;

    return (ssize_t)syscall(SYS_copy_file_range, from, &in, to, &out, length, 0u);
}

#else

int
vx_posix_clone(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length)
{
    (void)to, (void)to_offset, (void)from, (void)from_offset, (void)length;
    errno = EOPNOTSUPP;
    return -1;
}

ssize_t
vx_posix_copy_range(int to, uint64_t to_offset, int from, uint64_t from_offset, size_t length)
{
    return vx_posix_clone(to, to_offset, from, from_offset, length);
}

#endif

/* What the host has no space or no luck with would fail when it is written, too.  All else means: not here. */
static bool
is_failure(int system_errno)
{
    return system_errno == EIO || system_errno == ENOSPC || system_errno == EDQUOT;
}

static int
copy_range(int to, uint64_t to_offset, int from, uint64_t from_offset, uint64_t length)
{
    while (length > 0) {
        ssize_t n = vx_posix_calls.copy_range(to, to_offset, from, from_offset,
                                              (size_t)vx_min_u64(length, UINT64_C(1) << 30));

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return n < 0 ? errno : EOPNOTSUPP; /* some file systems copy nothing and say so by that */
        to_offset += (uint64_t)n;
        from_offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return 0;
}

int
vx_posix_copy_from(struct vhdx_storage *storage, uint64_t file_offset, struct vhdx_storage *from, uint64_t from_offset,
                   uint64_t length, bool only_share, struct vhdx_error *err)
{
    struct vx_posix      *to = (struct vx_posix *)storage;
    const bool            is_safe = vx_posix_is_safe(to, file_offset + length);
    const bool            is_aligned = ((file_offset | from_offset | length) & (GRAIN - 1)) == 0;
    struct vx_posix_limit limit;
    int                   system_errno = EOPNOTSUPP, source;

    if (from->methods != &vx_posix_methods || to->is_block_device || ((struct vx_posix *)from)->is_block_device)
        return VHDX_E_UNSUPPORTED;
    source = ((struct vx_posix *)from)->descriptor;
    if (!is_safe)
        vx_posix_limit_enter(&limit);
    if (is_aligned)
        system_errno = vx_posix_calls.clone(to->descriptor, file_offset, source, from_offset, length) == 0 ? 0 : errno;
    if (system_errno != 0 && !is_failure(system_errno) && !only_share)
        system_errno = copy_range(to->descriptor, file_offset, source, from_offset, length);
    if (!is_safe)
        vx_posix_limit_leave(&limit, system_errno);
    if (system_errno == 0)
        return VHDX_OK;
    if (!is_failure(system_errno))
        return VHDX_E_UNSUPPORTED;
    return vx_fail_errno(err, system_errno, VHDX_PART_FILE, file_offset, "copying %" PRIu64 " bytes to %" PRIu64, length,
                         file_offset);
}
