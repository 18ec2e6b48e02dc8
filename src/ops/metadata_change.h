/* Changing one thing of an image's metadata, over a storage (include/vhdx/metadata.h). */
#ifndef VX_METADATA_CHANGE_H
#define VX_METADATA_CHANGE_H

#include <vhdx/metadata.h>

struct vx_metadata_change {
    struct vhdx_storage               *storage; /* open for writing unless only_judge; the caller's */
    const struct vhdx_metadata_change *change;
    bool                               only_judge;
    uint32_t                           log_length_for_tests;
};
int vx_metadata_change(const struct vx_metadata_change *job, struct vhdx_metadata_result *result, struct vhdx_error *err);

#endif
