/* See free_list.h. */
#include "ops/free_list.h"

#include <stdlib.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"

void
vx_free_list_init(struct vx_free_list *list, uint64_t disk_size)
{
    *list = (struct vx_free_list){ .disk_size = disk_size };
}

void
vx_free_list_destroy(struct vx_free_list *list)
{
    vx_free(list->runs);
    vx_free_list_init(list, 0);
}

static int
add(struct vx_free_list *list, uint64_t from, uint64_t to)
{
    if (list->count == list->capacity) {
        size_t              wanted = list->capacity + list->capacity / 2 + 64;
        struct vx_free_run *runs = vx_realloc_array(list->runs, wanted, sizeof *runs);

        if (runs == NULL)
            return list->rc = VHDX_E_NO_MEMORY;
        list->runs = runs;
        list->capacity = wanted;
    }
    list->runs[list->count++] = (struct vx_free_run){ .from = from, .to = to };
    return VHDX_OK;
}

int
vx_free_list_take(void *memory, uint64_t guest_offset, uint64_t length)
{
    struct vx_free_list *list = memory;
    struct vx_free_run  *last = list->count > 0 ? &list->runs[list->count - 1] : NULL;
    uint64_t             to;

    if (guest_offset >= list->disk_size || length == 0)
        return VHDX_OK;
    to = guest_offset + vx_min_u64(length, list->disk_size - guest_offset);
    if (last == NULL || last->to != guest_offset)
        return add(list, guest_offset, to);
    last->to = to;
    return VHDX_OK;
}

static int
compare_runs(const void *a, const void *b)
{
    const struct vx_free_run *x = a, *y = b;

    return (x->from > y->from) - (x->from < y->from);
}

void
vx_free_list_settle(struct vx_free_list *list)
{
    size_t kept = 0;

    if (list->count > 0)
        qsort(list->runs, list->count, sizeof *list->runs, compare_runs);
    for (size_t i = 0; i < list->count; i++) {
        const struct vx_free_run *run = &list->runs[i];

        if (kept > 0 && run->from <= list->runs[kept - 1].to)
            list->runs[kept - 1].to = vx_max_u64(list->runs[kept - 1].to, run->to);
        else
            list->runs[kept++] = *run;
    }
    list->count = kept;
}

size_t
vx_free_list_find(const struct vx_free_list *list, uint64_t guest_offset)
{
    size_t low = 0, high = list->count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (list->runs[middle].to > guest_offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

bool
vx_free_list_covers(const struct vx_free_list *list, uint64_t from, uint64_t to)
{
    size_t index = vx_free_list_find(list, from);

    return index < list->count && list->runs[index].from <= from && list->runs[index].to >= to;
}

uint64_t
vx_free_list_bytes(const struct vx_free_list *list)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < list->count; i++)
        bytes += list->runs[i].to - list->runs[i].from;
    return bytes;
}
