#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define STAMP 16u /* bytes: value, salt, guest cell */

static void *
must_have(void *memory)
{
    if (memory == NULL) {
        fprintf(stderr, "crash tests: out of memory\n");
        exit(1);
    }
    return memory;
}

void
oracle_init(struct oracle *oracle, uint32_t block_size, const uint64_t *blocks, size_t count, uint32_t salt)
{
    size_t i;

    *oracle = (struct oracle){ .block_size = block_size, .cell_count = block_size / CELL, .salt = salt,
                               .slot_count = count, .clock = 1 };
    for (i = 0; i < count; i++) {
        oracle->slots[i].block_index = blocks[i];
        oracle->slots[i].baseline = must_have(calloc(oracle->cell_count, sizeof(uint32_t)));
    }
}

void
oracle_free(struct oracle *oracle)
{
    size_t i;

    for (i = 0; i < oracle->slot_count; i++) {
        free(oracle->slots[i].baseline);
        free(oracle->slots[i].entries);
    }
    *oracle = (struct oracle){ 0 };
}

struct oracle_slot *
oracle_slot_of(struct oracle *oracle, uint64_t block_index)
{
    size_t i;

    for (i = 0; i < oracle->slot_count; i++)
        if (oracle->slots[i].block_index == block_index)
            return &oracle->slots[i];
    return NULL;
}

/* --- stamps --- */

static void
make_stamp(const struct oracle *oracle, uint8_t stamp[STAMP], uint64_t guest_offset, uint32_t value)
{
    vx_put_le32(stamp, value);
    vx_put_le32(stamp + 4, oracle->salt);
    vx_put_le64(stamp + 8, guest_offset / CELL);
}

void
oracle_stamp(const struct oracle *oracle, uint8_t *out, size_t length, uint64_t guest_offset, uint32_t value)
{
    size_t at, i;

    if (value == VALUE_ZERO) {
        memset(out, 0, length);
        return;
    }
    for (at = 0; at < length; at += CELL) {
        make_stamp(oracle, out + at, guest_offset + at, value);
        for (i = STAMP; i < CELL; i *= 2)
            memcpy(out + at + i, out + at, i);
    }
}

uint32_t
oracle_value_at(const struct oracle *oracle, const uint8_t cell[CELL], uint64_t guest_offset)
{
    uint32_t value = vx_le32(cell);
    uint8_t stamp[STAMP];

    if (memcmp(cell, cell + STAMP, CELL - STAMP) != 0)
        return VALUE_FOREIGN;
    if (value == VALUE_ZERO)
        return vx_is_zero(cell, STAMP) ? VALUE_ZERO : VALUE_FOREIGN;
    make_stamp(oracle, stamp, guest_offset, value);
    return memcmp(cell, stamp, STAMP) == 0 && value != VALUE_FOREIGN ? value : VALUE_FOREIGN;
}

void
oracle_describe(const struct oracle *oracle, const uint8_t cell[CELL], char *out, size_t out_size)
{
    bool is_stamp = memcmp(cell, cell + STAMP, CELL - STAMP) == 0 && vx_le32(cell + 4) == oracle->salt;

    if (is_stamp)
        snprintf(out, out_size, "write %lu of guest offset %llu", (unsigned long)vx_le32(cell),
                 (unsigned long long)(vx_le64(cell + 8) * CELL));
    else
        snprintf(out, out_size, "bytes %02x %02x %02x %02x %02x %02x %02x %02x ...", cell[0], cell[1], cell[2],
                 cell[3], cell[4], cell[5], cell[6], cell[7]);
}

/* --- operations --- */

static void
add_entry(struct oracle_slot *slot, const struct oracle_entry *entry)
{
    if (slot->entry_count == slot->entry_room) {
        slot->entry_room = slot->entry_room == 0 ? 32 : slot->entry_room * 2;
        slot->entries = must_have(realloc(slot->entries, slot->entry_room * sizeof *slot->entries));
    }
    slot->entries[slot->entry_count++] = *entry;
}

uint64_t
oracle_now(struct oracle *oracle)
{
    return oracle->clock++;
}

/* Does the block hold something of its own, so that a trim of all of it must give zeros? */
static bool
is_touched(const struct oracle *oracle, const struct oracle_slot *slot)
{
    uint32_t cell;
    size_t i;

    for (i = 0; i < slot->entry_count; i++)
        if (slot->entries[i].is_certain && !slot->entries[i].spares_parent)
            return true;
    for (cell = 0; cell < oracle->cell_count; cell++)
        if (slot->baseline[cell] != VALUE_PARENT)
            return true;
    return false;
}

uint64_t
oracle_begin(struct oracle *oracle, uint64_t guest_offset, uint64_t length, uint32_t value, enum oracle_kind kind)
{
    struct oracle_entry entry = { .started = oracle_now(oracle), .ended = UINT64_MAX, .value = value };
    uint64_t end = guest_offset + length;

    while (guest_offset < end) {
        struct oracle_slot *slot = oracle_slot_of(oracle, guest_offset / oracle->block_size);
        uint64_t block = guest_offset / oracle->block_size * oracle->block_size;
        uint64_t piece_end = block + oracle->block_size < end ? block + oracle->block_size : end;

        entry.first_cell = (uint32_t)((guest_offset - block) / CELL);
        entry.end_cell = (uint32_t)((piece_end - block) / CELL);
        entry.spares_parent = kind == ORACLE_TRIM_OF_CHILD && slot != NULL &&
                              (entry.end_cell - entry.first_cell < oracle->cell_count || !is_touched(oracle, slot));
        if (slot != NULL)
            add_entry(slot, &entry);
        guest_offset = piece_end;
    }
    return entry.started;
}

void
oracle_end(struct oracle *oracle, uint64_t started, enum oracle_outcome outcome)
{
    uint64_t now = oracle_now(oracle);
    size_t i, k;

    for (i = 0; i < oracle->slot_count; i++) {
        for (k = oracle->slots[i].entry_count; k-- > 0;) {
            struct oracle_entry *entry = &oracle->slots[i].entries[k];

            if (entry->started != started)
                continue;
            entry->ended = now;
            entry->is_certain = outcome == ORACLE_WELL;
            entry->is_refused = outcome == ORACLE_REFUSED;
            break;
        }
    }
}

void
oracle_flushed(struct oracle *oracle, uint64_t asked)
{
    if (asked > oracle->flushed_at)
        oracle->flushed_at = asked;
}

void
oracle_flush_failed(struct oracle *oracle)
{
    size_t i, k;

    for (i = 0; i < oracle->slot_count; i++)
        for (k = 0; k < oracle->slots[i].entry_count; k++)
            if (oracle->slots[i].entries[k].ended >= oracle->flushed_at)
                oracle->slots[i].entries[k].is_certain = false;
}

void
oracle_process_ended(struct oracle *oracle)
{
    uint64_t now = oracle_now(oracle);
    size_t i, k;

    oracle_flush_failed(oracle);
    for (i = 0; i < oracle->slot_count; i++)
        for (k = 0; k < oracle->slots[i].entry_count; k++)
            if (oracle->slots[i].entries[k].ended == UINT64_MAX)
                oracle->slots[i].entries[k].ended = now;
}

void
oracle_rebase(struct oracle *oracle, size_t slot, const uint32_t *values)
{
    memcpy(oracle->slots[slot].baseline, values, oracle->cell_count * sizeof *values);
    oracle->slots[slot].entry_count = 0;
}

/* --- judging --- */

bool
oracle_allows(const struct oracle *oracle, const struct oracle_slot *slot, uint32_t cell, uint32_t value,
              uint64_t cutoff)
{
    uint64_t superseded_before = 0, newest_match = 0;
    bool matches = slot->baseline[cell] == value;
    size_t i;

    (void)oracle;
    for (i = 0; i < slot->entry_count; i++) {
        const struct oracle_entry *entry = &slot->entries[i];

        if (cell < entry->first_cell || cell >= entry->end_cell)
            continue;
        if (entry->is_certain && entry->ended < cutoff && entry->started > superseded_before &&
            !(entry->spares_parent && value == VALUE_PARENT))
            superseded_before = entry->started;
        if (entry->value == value && !entry->is_refused) {
            matches = true;
            if (entry->ended > newest_match)
                newest_match = entry->ended;
        }
    }
    return matches && newest_match >= superseded_before;
}

void
oracle_explain(const struct oracle *oracle, const struct oracle_slot *slot, uint32_t cell)
{
    size_t i;

    printf("#   flushed at %llu; value %lu first; then\n", (unsigned long long)oracle->flushed_at,
           (unsigned long)slot->baseline[cell]);
    for (i = 0; i < slot->entry_count; i++) {
        const struct oracle_entry *entry = &slot->entries[i];

        if (cell >= entry->first_cell && cell < entry->end_cell)
            printf("#   value %lu, from %llu to %lld%s%s\n", (unsigned long)entry->value,
                   (unsigned long long)entry->started, (long long)entry->ended, entry->is_certain ? "" : ", uncertain",
                   entry->is_refused ? ", refused" : "");
    }
}
