/*
 * What a disk may hold after a crash (docs/durability.md 1).
 *
 * Every write fills its range with stamps that name the write and the place, so that each byte found later tells where
 * it came from.  The unit is a cell of 128 bytes: writes begin and end on cells, so some are smaller than a sector.
 *
 * For every cell: let S be the newest start of an operation on it that had ended well before the last acknowledged flush
 * was asked for.  The cell holds the value of an operation that had not ended before S: the flushed one, one that ran
 * beside it, or a later one, ended or not.  Everything else is a violation.
 */
#ifndef CRASH_ORACLE_H
#define CRASH_ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CELL            128u
#define ORACLE_MAX_SLOTS 8u

/* What a cell holds: the number of the write, or one of these. */
#define VALUE_ZERO    0u
#define VALUE_PARENT  UINT32_MAX       /* the parent's pattern: not held by this image */
#define VALUE_FOREIGN (UINT32_MAX - 1) /* anything else: another cell's stamp, garbage, half a stamp */

/* An operation on a part of one block. */
struct oracle_entry {
    uint64_t started, ended; /* clock; ended is UINT64_MAX while it runs */
    uint32_t value;
    uint32_t first_cell, end_cell;
    bool     is_certain; /* ended well and did change what reads show: it may supersede others */
    bool     is_refused; /* came after the image had failed: its value must never be seen */
    bool     spares_parent; /* a trim that may leave the parent's data where that was visible */
};

struct oracle_slot {
    uint64_t             block_index; /* of the guest's disk */
    uint32_t            *baseline;    /* value of each cell when the oracle last began anew */
    struct oracle_entry *entries;
    size_t               entry_count, entry_room;
};

struct oracle {
    uint32_t           block_size, cell_count; /* cells of a block */
    uint32_t           salt;                   /* in every stamp of this run */
    size_t             slot_count;
    struct oracle_slot slots[ORACLE_MAX_SLOTS];
    uint64_t           clock;
    uint64_t           flushed_at; /* when the last acknowledged flush was asked for */
    uint32_t           last_value;
};

void oracle_init(struct oracle *oracle, uint32_t block_size, const uint64_t *blocks, size_t count, uint32_t salt);
void oracle_free(struct oracle *oracle);

/* The slot of a block, or NULL when the test does not use it. */
struct oracle_slot *oracle_slot_of(struct oracle *oracle, uint64_t block_index);

/* --- stamps --- */

void     oracle_stamp(const struct oracle *oracle, uint8_t *out, size_t length, uint64_t guest_offset,
                      uint32_t value);
uint32_t oracle_value_at(const struct oracle *oracle, const uint8_t cell[CELL], uint64_t guest_offset);
/* What a cell that is VALUE_FOREIGN looks like, for the message. */
void     oracle_describe(const struct oracle *oracle, const uint8_t cell[CELL], char *out, size_t out_size);

/* --- operations --- */

enum oracle_kind {
    ORACLE_PLAIN,         /* write or zero: the value supersedes what was there */
    ORACLE_TRIM_OF_CHILD  /* whole blocks that never held anything, and parts of blocks, may keep the parent's data */
};
/* An operation begins, on [guest_offset, + length).  Returns its start, which is its name below. */
uint64_t oracle_begin(struct oracle *oracle, uint64_t guest_offset, uint64_t length, uint32_t value,
                      enum oracle_kind kind);
enum oracle_outcome {
    ORACLE_WELL,    /* it supersedes what was there */
    ORACLE_BADLY,   /* it may have done some of it */
    ORACLE_REFUSED  /* nothing was done: its value must never be seen */
};
void oracle_end(struct oracle *oracle, uint64_t started, enum oracle_outcome outcome);

uint64_t oracle_now(struct oracle *oracle);
/* A flush that was asked for at this time has been acknowledged. */
void oracle_flushed(struct oracle *oracle, uint64_t asked);
/* The caller was told that a flush failed: nothing since the last good one is certain, nor what still runs. */
void oracle_flush_failed(struct oracle *oracle);
/* The process ended, and with it what it knew: nothing since the last good flush is certain, what ran has ended. */
void oracle_process_ended(struct oracle *oracle);

/* Begin anew with these values in a slot; its operations are forgotten. */
void oracle_rebase(struct oracle *oracle, size_t slot, const uint32_t *values);

/* --- judging --- */

/*
 * May a cell hold this value?  `cutoff` is the time before which an operation must have ended to supersede others:
 * oracle->flushed_at after a crash, the time a read began for what a running image shows.
 */
bool oracle_allows(const struct oracle *oracle, const struct oracle_slot *slot, uint32_t cell, uint32_t value,
                   uint64_t cutoff);

/* The operations on a cell and what was there before, for the message. */
void oracle_explain(const struct oracle *oracle, const struct oracle_slot *slot, uint32_t cell);

#endif
