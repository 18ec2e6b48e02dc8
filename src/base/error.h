/* Filling struct vhdx_error. */
#ifndef VX_ERROR_H
#define VX_ERROR_H

#include <vhdx/error.h>

/* Fill *err (may be NULL) and return code.  The message is one line, control characters escaped. */
int vx_fail(struct vhdx_error *err, int code, enum vhdx_part part, uint64_t file_offset, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

/* The same for a failed system call: the code comes from system_errno (ENOSPC -> NO_SPACE, EDQUOT -> NO_SPACE,
 * EFBIG -> NO_SPACE, ENOENT -> NOT_FOUND, EACCES/EPERM -> PERMISSION, EEXIST -> EXISTS, EROFS -> READ_ONLY,
 * ENOMEM -> NO_MEMORY, else IO) and ": <strerror>" is appended. */
int vx_fail_errno(struct vhdx_error *err, int system_errno, enum vhdx_part part, uint64_t file_offset,
                  const char *format, ...) __attribute__((format(printf, 5, 6)));

/* Out of memory, for `what`. */
int vx_fail_memory(struct vhdx_error *err, const char *what);

/* Put "prefix: " before the message of an error that is passed on (an image's name, say). */
void vx_error_prefix(struct vhdx_error *err, const char *prefix);

#endif
