/*
 * What a disk must hold: plain bytes, kept sparsely in cells of 4 KiB.  A cell that is missing is zeros.
 */
#ifndef MODEL_MODEL_H
#define MODEL_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CELL 4096u

struct model_cell {
    uint64_t index;
    uint8_t *bytes; /* NULL: the slot is free */
};

struct model {
    uint64_t           size; /* bytes */
    struct model_cell *cells; /* open addressing */
    size_t             capacity, count;
};

void model_init(struct model *model, uint64_t size);
void model_destroy(struct model *model);

void model_write(struct model *model, const uint8_t *bytes, uint64_t guest_offset, size_t length);
void model_zero(struct model *model, uint64_t guest_offset, uint64_t length);
void model_read(const struct model *model, uint8_t *bytes, uint64_t guest_offset, size_t length);
bool model_is_zero(const struct model *model, uint64_t guest_offset, uint64_t length);

/* The cells, in no order: *place begins at 0.  False after the last. */
bool model_next_cell(const struct model *model, size_t *place, uint64_t *guest_offset, const uint8_t **bytes);

#endif
