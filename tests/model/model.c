#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void *
allocate(size_t count, size_t size)
{
    void *memory = calloc(count, size);

    if (memory == NULL) {
        fprintf(stderr, "out of memory\n");
        exit(1);
    }
    return memory;
}

void
model_init(struct model *model, uint64_t size)
{
    *model = (struct model){ .size = size, .capacity = 1024 };
    model->cells = allocate(model->capacity, sizeof *model->cells);
}

void
model_destroy(struct model *model)
{
    for (size_t i = 0; i < model->capacity; i++)
        free(model->cells[i].bytes);
    free(model->cells);
    *model = (struct model){ 0 };
}

/* Where a cell is, or where it would go. */
static struct model_cell *
find(const struct model *model, uint64_t index)
{
    size_t at = (size_t)((index * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (model->capacity - 1);

    while (model->cells[at].bytes != NULL && model->cells[at].index != index)
        at = (at + 1) & (model->capacity - 1);
    return &model->cells[at];
}

static void
grow(struct model *model)
{
    struct model old = *model;

    model->capacity *= 2;
    model->cells = allocate(model->capacity, sizeof *model->cells);
    for (size_t i = 0; i < old.capacity; i++)
        if (old.cells[i].bytes != NULL)
            *find(model, old.cells[i].index) = old.cells[i];
    free(old.cells);
}

static uint8_t *
make_cell(struct model *model, uint64_t index)
{
    struct model_cell *cell = find(model, index);

    if (cell->bytes != NULL)
        return cell->bytes;
    if (model->count * 2 >= model->capacity) {
        grow(model);
        cell = find(model, index);
    }
    *cell = (struct model_cell){ .index = index, .bytes = allocate(1, CELL) };
    model->count++;
    return cell->bytes;
}

/* The part of a range that lies in the cell it begins in. */
static size_t
part_in_cell(uint64_t guest_offset, uint64_t length)
{
    uint64_t to_end = CELL - guest_offset % CELL;

    return (size_t)(length < to_end ? length : to_end);
}

void
model_write(struct model *model, const uint8_t *bytes, uint64_t guest_offset, size_t length)
{
    while (length > 0) {
        size_t part = part_in_cell(guest_offset, length);

        memcpy(make_cell(model, guest_offset / CELL) + guest_offset % CELL, bytes, part);
        bytes += part;
        guest_offset += part;
        length -= part;
    }
}

/* The part of a cell that a range covers: false when there is none. */
static bool
overlap(const struct model_cell *cell, uint64_t guest_offset, uint64_t length, size_t *from, size_t *to)
{
    uint64_t start = cell->index * CELL, end = start + CELL;

    if (cell->bytes == NULL || guest_offset + length <= start || guest_offset >= end)
        return false;
    *from = guest_offset > start ? (size_t)(guest_offset - start) : 0;
    *to = guest_offset + length < end ? (size_t)(guest_offset + length - start) : CELL;
    return true;
}

void
model_zero(struct model *model, uint64_t guest_offset, uint64_t length)
{
    size_t from, to;

    if (length / CELL > model->capacity) {
        for (size_t i = 0; i < model->capacity; i++)
            if (overlap(&model->cells[i], guest_offset, length, &from, &to))
                memset(model->cells[i].bytes + from, 0, to - from);
        return;
    }
    while (length > 0) {
        size_t             part = part_in_cell(guest_offset, length);
        struct model_cell *cell = find(model, guest_offset / CELL);

        if (cell->bytes != NULL)
            memset(cell->bytes + guest_offset % CELL, 0, part);
        guest_offset += part;
        length -= part;
    }
}

void
model_read(const struct model *model, uint8_t *bytes, uint64_t guest_offset, size_t length)
{
    while (length > 0) {
        size_t                   part = part_in_cell(guest_offset, length);
        const struct model_cell *cell = find(model, guest_offset / CELL);

        if (cell->bytes != NULL)
            memcpy(bytes, cell->bytes + guest_offset % CELL, part);
        else
            memset(bytes, 0, part);
        bytes += part;
        guest_offset += part;
        length -= part;
    }
}

static bool
is_zero(const uint8_t *bytes, size_t length)
{
    return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

bool
model_is_zero(const struct model *model, uint64_t guest_offset, uint64_t length)
{
    size_t from, to;

    if (length / CELL > model->capacity) {
        for (size_t i = 0; i < model->capacity; i++)
            if (overlap(&model->cells[i], guest_offset, length, &from, &to) &&
                !is_zero(model->cells[i].bytes + from, to - from))
                return false;
        return true;
    }
    while (length > 0) {
        size_t                   part = part_in_cell(guest_offset, length);
        const struct model_cell *cell = find(model, guest_offset / CELL);

        if (cell->bytes != NULL && !is_zero(cell->bytes + guest_offset % CELL, part))
            return false;
        guest_offset += part;
        length -= part;
    }
    return true;
}

bool
model_next_cell(const struct model *model, size_t *place, uint64_t *guest_offset, const uint8_t **bytes)
{
    while (*place < model->capacity) {
        const struct model_cell *cell = &model->cells[(*place)++];

        if (cell->bytes == NULL)
            continue;
        *guest_offset = cell->index * CELL;
        *bytes = cell->bytes;
        return true;
    }
    return false;
}
