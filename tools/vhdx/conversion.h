/* Copying a disk to a new file, device or stream: what convert and flatten share. */
#ifndef VHDX_TOOL_CONVERSION_H
#define VHDX_TOOL_CONVERSION_H

#include <vhdx/ops.h>

#include "options.h"

struct conversion {
    const struct shared_options *shared;
    const char                  *source, *destination;
    struct vhdx_disk            *disk;       /* of the source, opened by the verb and its own; NULL: it is opened here */
    enum vhdx_format             target_format;
    uint64_t                     size_unit; /* a VHD's size is rounded up to it; 0: to whole sectors */
    uint64_t                     pipe_size;
    bool                         has_pipe_size;
    bool                         may_replace;
    bool                         keeps_disk; /* the new image is the same disk: block size and identity, too */
    struct vhdx_copy_options     copy;
    const char                  *culprit; /* the file an error is about; NULL: both or neither */
};

/* Do it.  The source is opened with its parents; on failure `culprit` says whom the error is about. */
int conversion_run(struct conversion *conversion, struct vhdx_error *err);

/* The format that the name of a new file asks for; a usage error when it asks for none. */
enum vhdx_format conversion_format_by_name(const struct option_reader *reader, const char *path);

/* The shape of a new image for this disk (NULL: not known yet): as asked, and like the source where nothing was. */
int conversion_shape(struct vhdx_create_options *create, const struct conversion *conversion, struct vhdx_disk *from,
                     struct vhdx_error *err);

/* Whether the source is standard input and cannot be read twice. */
bool conversion_reads_pipe(const struct conversion *conversion);

#endif
