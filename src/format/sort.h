/* Sorting without memory and without a bad case: what a hostile table can cost is n log n. */
#ifndef VX_SORT_H
#define VX_SORT_H

#include <stdbool.h>
#include <stddef.h>

/* What is sorted only the two functions know: an array of structs, or of indexes into something const. */
struct vx_sort_order {
    bool (*is_less)(const void *context, size_t a, size_t b); /* does element a belong before element b? */
    void (*swap)(void *context, size_t a, size_t b);
};

void vx_sort(void *context, size_t count, const struct vx_sort_order *order);

#endif
