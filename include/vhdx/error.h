/* Errors of libvhdx: what failed, where in the file, which rule of the format, in one line for a person. */
#ifndef VHDX_ERROR_H
#define VHDX_ERROR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VHDX_OK 0
enum vhdx_code {
#define VHDX_ERROR(name, value, system_errno, text) VHDX_E_##name = value,
#include <vhdx/error_codes.def>
#undef VHDX_ERROR
};

/* The part of a VHDX file that an error or a finding is about. */
enum vhdx_part {
    VHDX_PART_NONE,
    VHDX_PART_FILE,
    VHDX_PART_IDENTIFIER,
    VHDX_PART_HEADER,
    VHDX_PART_LOG,
    VHDX_PART_REGION_TABLE,
    VHDX_PART_METADATA,
    VHDX_PART_LOCATOR,
    VHDX_PART_BAT,
    VHDX_PART_SECTOR_BITMAP,
    VHDX_PART_PAYLOAD,
    VHDX_PART_CHAIN
};

/* How bad a broken rule is (docs/vhdx-format.md, section 8), mildest first. */
enum vhdx_severity {
    VHDX_SEVERITY_NONE,   /* an ordinary error, not a finding */
    VHDX_SEVERITY_WARN,   /* report only */
    VHDX_SEVERITY_REPAIR, /* harmless to readers; a repair mends it */
    VHDX_SEVERITY_RO,     /* may be read; writing is refused until repaired */
    VHDX_SEVERITY_BLOCK,  /* as RO, and reads that touch the block fail */
    VHDX_SEVERITY_REFUSE  /* not opened at all */
};

#define VHDX_NO_OFFSET UINT64_MAX

/*
 * What went wrong.  The caller's own memory; filled only when a call fails (or, for a finding of a check, when the
 * finding is handed over).  Every call takes NULL where the caller does not care.
 */
struct vhdx_error {
    int                code;        /* enum vhdx_code */
    int                system_errno; /* errno behind it, or 0 */
    enum vhdx_part     part;
    enum vhdx_severity severity;    /* of the broken rule, or NONE */
    int                rule;        /* N of rule VN in docs/vhdx-format.md, or 0 */
    uint64_t           file_offset; /* bytes in the VHDX file, or VHDX_NO_OFFSET */
    char               message[320]; /* one line, NUL-terminated, control characters escaped */
};

/* Name of a code ("BAD_BAT"), its text, and the errno FUSE and NBD servers answer with.  Static strings. */
const char *vhdx_code_name(int code);
const char *vhdx_code_text(int code);
int vhdx_code_errno(int code);

/* Name of a part ("region table") and of a severity ("refuse").  Static strings. */
const char *vhdx_part_name(enum vhdx_part part);
const char *vhdx_severity_name(enum vhdx_severity severity);

#ifdef __cplusplus
}
#endif
#endif
