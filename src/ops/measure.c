/*
 * How large a copy would be.  Extents are walked and zeros looked for as copy.c does it, and places counted as layout_new.c
 * gives them out: what is told here is what comes out there, to the byte.
 */
#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/vhd.h"
#include "ops/extent_walk.h"
#include "ops/job.h"
#include "ops/layout_new.h"

#define BUFFER_SIZE (4 * VX_MIB)
#define GRAIN       4096u

struct measure {
    struct vhdx_disk          *from;
    const struct vx_geometry  *geometry;   /* of the new image */
    uint8_t                   *buffer;     /* BUFFER_SIZE; NULL: zeros among the data are data */
    uint64_t                   next_block; /* the first that is not counted yet: data comes in rising order */
    uint64_t                   block_count;
    struct vhdx_measure_result *out;
};

static void
note_data(struct measure *m, uint64_t guest_offset, uint64_t length)
{
    uint64_t first = vx_max_u64(m->next_block, vx_geometry_block_of(m->geometry, guest_offset));
    uint64_t end = vx_geometry_block_of(m->geometry, guest_offset + length - 1) + 1;

    m->out->data_bytes += length;
    if (end > first)
        m->block_count += end - first;
    m->next_block = vx_max_u64(m->next_block, end);
}

/* At most BUFFER_SIZE bytes of data, by grains of the disk. */
static int
look_for_zeros(struct measure *m, uint64_t guest_offset, size_t length, struct vhdx_error *err)
{
    int rc = vhdx_disk_read(m->from, m->buffer, length, guest_offset, err);

    for (size_t at = 0; at < length && rc == VHDX_OK;) {
        size_t n = (size_t)vx_min_u64(length - at, GRAIN - (guest_offset + at) % GRAIN);

        if (!vx_is_zero(m->buffer + at, n))
            note_data(m, guest_offset + at, n);
        at += n;
    }
    return rc;
}

static int
walk(struct measure *m, const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vx_extent_walk walk;

    vx_walk_init(&walk, m->from);
    for (;;) {
        uint64_t length;
        bool     is_zero;
        int      rc = vx_walk_peek(&walk, &length, &is_zero, err);

        if (rc < 0 || length == 0)
            return rc;
        if (!is_zero && m->buffer != NULL) {
            length = vx_min_u64(length, BUFFER_SIZE - walk.position % BUFFER_SIZE);
            rc = look_for_zeros(m, walk.position, (size_t)length, err);
        } else if (!is_zero) {
            note_data(m, walk.position, length);
        }
        vx_walk_advance(&walk, length);
        if (rc == VHDX_OK)
            rc = vx_job_report(progress, walk.position, walk.size, err);
        if (rc < 0)
            return rc;
    }
}

/* The shape of a new image of one type for this disk. */
static int
lay_out(struct vx_new_layout *layout, const struct vhdx_create_options *options, enum vhdx_image_type type, uint64_t size,
        struct vhdx_error *err)
{
    struct vhdx_create_options own = { .type = type };

    if (options != NULL)
        own = *options;
    own.type = type;
    own.virtual_size = vx_round_up(size, own.logical_sector_size == 4096 ? 4096 : 512);
    return vx_new_layout_init(layout, &own, NULL, err);
}

int
vhdx_measure(struct vhdx_disk *from, const struct vhdx_create_options *options, bool detect_zeros,
             const struct vhdx_progress *progress, struct vhdx_measure_result *out, struct vhdx_error *err)
{
    struct measure       m = { .from = from, .out = out };
    struct vx_new_layout dynamic, fixed;
    int                  rc;

    *out = (struct vhdx_measure_result){ .virtual_size = vhdx_disk_size(from), .raw_file_size = vhdx_disk_size(from) };
    rc = lay_out(&dynamic, options, VHDX_TYPE_DYNAMIC, out->virtual_size, err);
    if (rc == VHDX_OK)
        rc = lay_out(&fixed, options, VHDX_TYPE_FIXED, out->virtual_size, err);
    if (rc < 0)
        return rc;
    if (detect_zeros) {
        m.buffer = vx_alloc((size_t)BUFFER_SIZE);
        if (m.buffer == NULL)
            return vx_fail_memory(err, "measuring a disk");
    }
    if (out->virtual_size <= VX_VHD_MAX_SIZE)
        out->vhd_file_size = vx_round_up(out->virtual_size, VX_VHD_SECTOR) + VX_VHD_FOOTER_SIZE;
    m.geometry = &dynamic.geometry;
    rc = walk(&m, progress, err);
    vx_free(m.buffer);
    out->fixed_file_size = fixed.file_length;
    out->dynamic_file_size = vx_new_layout_block_offset(&dynamic, m.block_count);
    return rc;
}
