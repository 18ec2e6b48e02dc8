/* Heap sort: in place, n log n in every case, no recursion.  The heap's largest element is element 0. */
#include "format/sort.h"

/* Let element `parent` sink to its place in the heap [0, count). */
static void
sink(void *context, size_t parent, size_t count, const struct vx_sort_order *order)
{
    size_t child;

    while ((child = 2 * parent + 1) < count) {
        if (child + 1 < count && order->is_less(context, child, child + 1))
            child++;
        if (!order->is_less(context, parent, child))
            return;
        order->swap(context, parent, child);
        parent = child;
    }
}

void
vx_sort(void *context, size_t count, const struct vx_sort_order *order)
{
    size_t i;

    for (i = count / 2; i > 0; i--)
        sink(context, i - 1, count, order);
    for (i = count; i > 1; i--) {
        order->swap(context, 0, i - 1);
        sink(context, 0, i - 1, order);
    }
}
