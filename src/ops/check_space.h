/* Which MiBs of a file something refers to: finds overlaps, doubles and lost space. */
#ifndef VX_CHECK_SPACE_H
#define VX_CHECK_SPACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>

struct vx_used_map {
    uint64_t  mib_count; /* MiBs of the file the map covers */
    uint64_t *used;      /* a bit for each MiB */
    uint64_t *starts;    /* ... set where a payload or sector bitmap block begins */
};

enum vx_used_conflict {
    VX_USED_FREE,    /* nothing was there */
    VX_USED_OVERLAP, /* some of it was in use */
    VX_USED_DOUBLE   /* a block begins at the very same offset */
};

/* Cover a file of this length, 256 TiB at most (V45's bound): what lies beyond is not mapped. */
int  vx_used_map_init(struct vx_used_map *map, uint64_t file_length, struct vhdx_error *err);
void vx_used_map_free(struct vx_used_map *map); /* zeros are fine */

/* Mark a range (it does not wrap) and say what was there.  What lies beyond the map is left out. */
enum vx_used_conflict vx_used_mark(struct vx_used_map *map, uint64_t file_offset, uint64_t length);
enum vx_used_conflict vx_used_mark_block(struct vx_used_map *map, uint64_t file_offset, uint64_t length);

/* MiBs that nothing refers to, between the things in use and after the last of them. */
struct vx_used_leaks {
    uint64_t inner_bytes, inner_gaps; /* before the last MiB in use */
    uint64_t first_gap_offset;        /* valid when inner_gaps > 0 */
    uint64_t tail_offset, tail_bytes; /* after it */
};
void vx_used_find_leaks(const struct vx_used_map *map, struct vx_used_leaks *out);

/* The next range at or after file_offset that nothing refers to.  False when there is none. */
bool vx_used_next_gap(const struct vx_used_map *map, uint64_t file_offset, uint64_t *gap_offset, uint64_t *length);

#endif
