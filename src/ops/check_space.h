/* Which MiBs of a file something refers to: finds overlaps, doubles and lost space. */
#ifndef VX_CHECK_SPACE_H
#define VX_CHECK_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>

struct vx_space_map {
    uint64_t  mib_count; /* MiBs of the file the map covers */
    uint64_t *used;      /* a bit for each MiB */
    uint64_t *starts;    /* ... set where a payload or sector bitmap block begins */
};

enum vx_space_conflict {
    VX_SPACE_FREE,    /* nothing was there */
    VX_SPACE_OVERLAP, /* some of it was in use */
    VX_SPACE_DOUBLE   /* a block begins at the very same offset */
};

/* Cover a file of this length, 256 TiB at most (V45's bound): what lies beyond is not mapped. */
int  vx_space_map_init(struct vx_space_map *map, uint64_t file_length, struct vhdx_error *err);
void vx_space_map_free(struct vx_space_map *map); /* zeros are fine */

/* Mark a range (it does not wrap) and say what was there.  What lies beyond the map is left out. */
enum vx_space_conflict vx_space_mark(struct vx_space_map *map, uint64_t file_offset, uint64_t length);
enum vx_space_conflict vx_space_mark_block(struct vx_space_map *map, uint64_t file_offset, uint64_t length);

/* MiBs that nothing refers to, between the things in use and after the last of them. */
struct vx_space_leaks {
    uint64_t inner_bytes, inner_gaps; /* before the last MiB in use */
    uint64_t first_gap_offset;        /* valid when inner_gaps > 0 */
    uint64_t tail_offset, tail_bytes; /* after it */
};
void vx_space_find_leaks(const struct vx_space_map *map, struct vx_space_leaks *out);

#endif
