/*
 * Errors: names and texts of the codes, all from error_codes.def, and filling struct vhdx_error.
 *
 *   E1  A message is one line: whatever came from a file or a path is escaped on the way in.
 *   E2  A message is valid UTF-8 also when it had to be cut.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/utf16.h"

struct code_row {
    int         code, system_errno;
    const char *name, *text;
};

static const struct code_row codes[] = {
    { VHDX_OK, 0, "OK", "no error" },
#define VHDX_ERROR(name, value, system_errno, text) { value, system_errno, #name, text },
#include <vhdx/error_codes.def>
#undef VHDX_ERROR
};

static const struct code_row *
find_code(int code)
{
    static const struct code_row unknown = { 0, EIO, "UNKNOWN", "unknown error" };

    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++)
        if (codes[i].code == code)
            return &codes[i];
    return &unknown;
}

const char *
vhdx_code_name(int code)
{
    return find_code(code)->name;
}

const char *
vhdx_code_text(int code)
{
    return find_code(code)->text;
}

int
vhdx_code_errno(int code)
{
    return find_code(code)->system_errno;
}

const char *
vhdx_part_name(enum vhdx_part part)
{
    switch (part) {
    case VHDX_PART_NONE:          return "none";
    case VHDX_PART_FILE:          return "file";
    case VHDX_PART_IDENTIFIER:    return "file type identifier";
    case VHDX_PART_HEADER:        return "header";
    case VHDX_PART_LOG:           return "log";
    case VHDX_PART_REGION_TABLE:  return "region table";
    case VHDX_PART_METADATA:      return "metadata";
    case VHDX_PART_LOCATOR:       return "parent locator";
    case VHDX_PART_BAT:           return "block allocation table";
    case VHDX_PART_SECTOR_BITMAP: return "sector bitmap";
    case VHDX_PART_PAYLOAD:       return "payload";
    case VHDX_PART_CHAIN:         return "chain";
    }
    return "unknown";
}

const char *
vhdx_severity_name(enum vhdx_severity severity)
{
    switch (severity) {
    case VHDX_SEVERITY_NONE:   return "none";
    case VHDX_SEVERITY_WARN:   return "warn";
    case VHDX_SEVERITY_REPAIR: return "repair";
    case VHDX_SEVERITY_RO:     return "read-only";
    case VHDX_SEVERITY_BLOCK:  return "block";
    case VHDX_SEVERITY_REFUSE: return "refuse";
    }
    return "unknown";
}

/* Longer than any message, and escaping never shortens: a cut is always made by the escaping (E2). */
#define SCRATCH_SIZE (2 * sizeof ((struct vhdx_error *)0)->message)

static void
format_scratch(char scratch[SCRATCH_SIZE], const char *format, va_list arguments)
{
    if (vsnprintf(scratch, SCRATCH_SIZE, format, arguments) < 0)
        scratch[0] = '\0';
}

/* The message last, from the scratch: the arguments of the caller may have been parts of *err itself. */
static void
fill_in(struct vhdx_error *err, int code, int system_errno, enum vhdx_part part, uint64_t file_offset)
{
    *err = (struct vhdx_error){
        .code = code,
        .system_errno = system_errno,
        .part = part,
        .severity = VHDX_SEVERITY_NONE,
        .file_offset = file_offset,
    };
}

int
vx_fail(struct vhdx_error *err, int code, enum vhdx_part part, uint64_t file_offset, const char *format, ...)
{
    char scratch[SCRATCH_SIZE];
    va_list arguments;

    if (!err)
        return code;
    va_start(arguments, format);
    format_scratch(scratch, format, arguments);
    va_end(arguments);
    fill_in(err, code, 0, part, file_offset);
    vx_escape_text(err->message, sizeof err->message, scratch); /* E1 */
    return code;
}

static int
code_of_errno(int system_errno)
{
    switch (system_errno) {
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return VHDX_E_NO_SPACE;
    case ENOENT:
        return VHDX_E_NOT_FOUND;
    case EACCES:
    case EPERM:
        return VHDX_E_PERMISSION;
    case EEXIST:
        return VHDX_E_EXISTS;
    case EROFS:
        return VHDX_E_READ_ONLY;
    case ENOMEM:
        return VHDX_E_NO_MEMORY;
    default:
        return VHDX_E_IO;
    }
}

/* strerror() with memory of the caller's own; glibc and POSIX disagree about what strerror_r returns. */
static const char *
errno_text(int system_errno, char *buffer, size_t size)
{
#if defined(__GLIBC__) && defined(_GNU_SOURCE)
    return strerror_r(system_errno, buffer, size);
#else
    if (strerror_r(system_errno, buffer, size) != 0)
        snprintf(buffer, size, "error %d", system_errno);
    return buffer;
#endif
}

int
vx_fail_errno(struct vhdx_error *err, int system_errno, enum vhdx_part part, uint64_t file_offset,
              const char *format, ...)
{
    char scratch[SCRATCH_SIZE], buffer[64], reason[80];
    size_t reason_size;
    va_list arguments;

    if (!err)
        return code_of_errno(system_errno);
    va_start(arguments, format);
    format_scratch(scratch, format, arguments);
    va_end(arguments);
    fill_in(err, code_of_errno(system_errno), system_errno, part, file_offset);
    snprintf(reason, sizeof reason, ": %s", errno_text(system_errno, buffer, sizeof buffer));
    reason_size = strlen(reason) + 1;

    /* Room is kept for the reason: in a message that is cut it tells more than the end of a long path. */
    vx_escape_text(err->message, sizeof err->message - reason_size + 1, scratch);
    memcpy(err->message + strlen(err->message), reason, reason_size);
    return err->code;
}

int
vx_fail_memory(struct vhdx_error *err, const char *what)
{
    return vx_fail(err, VHDX_E_NO_MEMORY, VHDX_PART_NONE, VHDX_NO_OFFSET, "out of memory for %s", what);
}

/* Of a prefix too long to keep, the end: the file's name rather than the directories above it. */
static const char *
end_of_prefix(const char *prefix, size_t limit)
{
    size_t length = strlen(prefix);
    const char *p = prefix;

    if (length <= limit)
        return prefix;
    p += length - limit;
    while (((unsigned char)*p & 0xC0) == 0x80) /* not from the middle of a character */
        p++;
    return p;
}

void
vx_error_prefix(struct vhdx_error *err, const char *prefix)
{
    char old[sizeof err->message], name[sizeof err->message / 3];
    const char *shown = end_of_prefix(prefix, sizeof name / 2);
    const char *dots = shown != prefix ? "..." : "";
    char joined[sizeof old + sizeof name + 8];

    if (!err)
        return;
    vx_escape_text(name, sizeof name, shown);
    memcpy(old, err->message, sizeof old);
    snprintf(joined, sizeof joined, "%s%s: %s", dots, name, old);
    vx_escape_text(err->message, sizeof err->message, joined); /* for the cut alone: all of it is escaped already */
}
