/* Guest ranges that are free: gathered in any order, merged, then asked for. */
#ifndef VX_FREE_LIST_H
#define VX_FREE_LIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/error.h>

struct vx_free_run {
    uint64_t from, to; /* guest offsets */
};

struct vx_free_list {
    uint64_t            disk_size;
    struct vx_free_run *runs; /* owned; after vx_free_list_settle in order, apart from each other */
    size_t              count, capacity;
    int                 rc;   /* the first failure of a take */
};

void vx_free_list_init(struct vx_free_list *list, uint64_t disk_size);
void vx_free_list_destroy(struct vx_free_list *list);

/* A vhdx_free_range; the context is the list.  What lies past the disk's end is left out.  Non-zero without memory. */
int vx_free_list_take(void *list, uint64_t guest_offset, uint64_t length);

/* All are taken: sort and merge. */
void vx_free_list_settle(struct vx_free_list *list);

/* The index of the first run that ends after guest_offset; count when there is none. */
size_t vx_free_list_find(const struct vx_free_list *list, uint64_t guest_offset);

/* Is all of [from, to) free? */
bool vx_free_list_covers(const struct vx_free_list *list, uint64_t from, uint64_t to);

uint64_t vx_free_list_bytes(const struct vx_free_list *list);

#endif
