/* What to do with a block: the tables of docs/vhdx-format.md 4.3, 4.4 and 4.5 as data. */
#ifndef VX_BLOCK_STATE_H
#define VX_BLOCK_STATE_H

#include <stdbool.h>
#include <stdint.h>

#include "format/bat.h"

/* Reading, 4.3. */
enum vx_read_source { VX_READ_ZEROS, VX_READ_FILE, VX_READ_PARENT, VX_READ_BY_BITMAP, VX_READ_ERROR };
enum vx_read_source vx_block_read_source(uint8_t state, bool is_differencing);

/* Writing, 4.4. */
struct vx_write_step {
    bool    is_error;         /* reserved state */
    bool    allocate;         /* take space first */
    bool    fill_zeros;       /* what the write does not cover becomes zeros */
    bool    set_bits;         /* the written sectors' bits are set */
    bool    clear_slice;      /* B1: the block's slice is cleared first, in the same commit */
    bool    uncovers_parent_if_torn; /* R3 last row: the parent's data was visible: two flushes */
    uint8_t new_state;
};
struct vx_write_step vx_block_write_step(uint8_t state, bool is_differencing, bool is_whole_block);

/* Trim and zero of whole blocks, 4.5. */
enum vx_discard_intent { VX_DISCARD_UNMAP, VX_DISCARD_ZERO, VX_DISCARD_TRANSPARENT, VX_DISCARD_DROP_ANCHOR };
struct vx_discard_step {
    bool    is_error;
    bool    is_change;     /* the entry is rewritten */
    bool    free_space;    /* the offset is cleared and the space (if any) goes to the waiting list */
    uint8_t new_state;
};
struct vx_discard_step vx_block_discard_step(uint8_t state, enum vx_discard_intent intent);

#endif
