/*
 * What to do with a block, as tables: a row for each state, a column for each situation.  docs/vhdx-format.md 4.3
 * to 4.5.  Whoever writes or trims looks here and does what is said; no other place decides.
 */
#include "format/block_state.h"

#define STATE_COUNT 8u

static const enum vx_read_source read_sources[STATE_COUNT][2] = {
    /*                                 without parent   differencing */
    [VX_BLOCK_NOT_PRESENT]       = { VX_READ_ZEROS, VX_READ_PARENT },
    [VX_BLOCK_UNDEFINED]         = { VX_READ_ZEROS, VX_READ_ZEROS },
    [VX_BLOCK_ZERO]              = { VX_READ_ZEROS, VX_READ_ZEROS },
    [VX_BLOCK_UNMAPPED]          = { VX_READ_ZEROS, VX_READ_ZEROS },
    [4]                          = { VX_READ_ERROR, VX_READ_ERROR },
    [5]                          = { VX_READ_ERROR, VX_READ_ERROR },
    [VX_BLOCK_FULLY_PRESENT]     = { VX_READ_FILE,  VX_READ_FILE },
    [VX_BLOCK_PARTIALLY_PRESENT] = { VX_READ_FILE,  VX_READ_BY_BITMAP }, /* V133: without parent it is a 6 */
};

enum vx_read_source
vx_block_read_source(uint8_t state, bool is_differencing)
{
    return state < STATE_COUNT ? read_sources[state][is_differencing] : VX_READ_ERROR;
}

/* The cells of table 4.4. */
#define IN_PLACE       { .new_state = VX_BLOCK_FULLY_PRESENT }
#define NEW_WHOLE      { .allocate = true, .new_state = VX_BLOCK_FULLY_PRESENT }
#define NEW_FILLED     { .allocate = true, .fill_zeros = true, .new_state = VX_BLOCK_FULLY_PRESENT }
#define OVER_PARENT    { .allocate = true, .uncovers_parent_if_torn = true, .new_state = VX_BLOCK_FULLY_PRESENT }
#define BESIDE_PARENT  { .allocate = true, .clear_slice = true, .set_bits = true, .uncovers_parent_if_torn = true, \
                         .new_state = VX_BLOCK_PARTIALLY_PRESENT }
#define COMPLETES      { .uncovers_parent_if_torn = true, .new_state = VX_BLOCK_FULLY_PRESENT }
#define ADDS_BITS      { .set_bits = true, .uncovers_parent_if_torn = true, \
                         .new_state = VX_BLOCK_PARTIALLY_PRESENT }
#define BAD            { .is_error = true }

static const struct vx_write_step write_steps[STATE_COUNT][2][2] = {
    /*                                 without parent: part, whole      differencing: part, whole */
    [VX_BLOCK_NOT_PRESENT]       = { { NEW_FILLED, NEW_WHOLE }, { BESIDE_PARENT, OVER_PARENT } },
    [VX_BLOCK_UNDEFINED]         = { { NEW_FILLED, NEW_WHOLE }, { NEW_FILLED, NEW_WHOLE } },
    [VX_BLOCK_ZERO]              = { { NEW_FILLED, NEW_WHOLE }, { NEW_FILLED, NEW_WHOLE } },
    [VX_BLOCK_UNMAPPED]          = { { NEW_FILLED, NEW_WHOLE }, { NEW_FILLED, NEW_WHOLE } },
    [4]                          = { { BAD, BAD }, { BAD, BAD } },
    [5]                          = { { BAD, BAD }, { BAD, BAD } },
    [VX_BLOCK_FULLY_PRESENT]     = { { IN_PLACE, IN_PLACE }, { IN_PLACE, IN_PLACE } },
    [VX_BLOCK_PARTIALLY_PRESENT] = { { IN_PLACE, IN_PLACE }, { ADDS_BITS, COMPLETES } },
};

struct vx_write_step
vx_block_write_step(uint8_t state, bool is_differencing, bool is_whole_block)
{
    static const struct vx_write_step bad = BAD;

    return state < STATE_COUNT ? write_steps[state][is_differencing][is_whole_block] : bad;
}

/* The cells of table 4.5.  GIVE_UP frees what the entry names; TO only changes the state. */
#define KEEP(state)    { .new_state = (state) }
#define TO(state)      { .is_change = true, .new_state = (state) }
#define GIVE_UP(state) { .is_change = true, .free_space = true, .new_state = (state) }

static const struct vx_discard_step discard_steps[STATE_COUNT][4] = {
    /* In the order of enum vx_discard_intent:        unmap       zero        transparent  drop anchor */
    [VX_BLOCK_NOT_PRESENT]       = { KEEP(0),    TO(2),      KEEP(0),    KEEP(0) },
    [VX_BLOCK_UNDEFINED]         = { KEEP(1),    GIVE_UP(2), GIVE_UP(0), GIVE_UP(1) },
    [VX_BLOCK_ZERO]              = { KEEP(2),    KEEP(2),    TO(0),      KEEP(2) },
    [VX_BLOCK_UNMAPPED]          = { KEEP(3),    GIVE_UP(2), GIVE_UP(0), GIVE_UP(3) },
    [4]                          = { BAD,        BAD,        BAD,        BAD },
    [5]                          = { BAD,        BAD,        BAD,        BAD },
    [VX_BLOCK_FULLY_PRESENT]     = { GIVE_UP(3), GIVE_UP(2), GIVE_UP(0), KEEP(6) },
    [VX_BLOCK_PARTIALLY_PRESENT] = { GIVE_UP(3), GIVE_UP(2), GIVE_UP(0), KEEP(7) },
};

struct vx_discard_step
vx_block_discard_step(uint8_t state, enum vx_discard_intent intent)
{
    static const struct vx_discard_step bad = BAD;

    return state < STATE_COUNT ? discard_steps[state][intent] : bad;
}
