/*
 * Who wrote what when: the judge of a concurrent run.  Each sector is a register of its own.  An operation begins
 * and ends at ticks of one clock; what a read returned must be explained by some write that began before the read
 * ended and that no other write replaced, wholly between the end of the one and the beginning of the other.
 */
#ifndef THREADS_HISTORY_H
#define THREADS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STAMP_SIZE 512u

/* Values of a sector.  Every write has one of its own from VALUE_FIRST on. */
#define VALUE_ZERO   0u
#define VALUE_PARENT 1u
#define VALUE_FIRST  2u
#define VALUE_TORN   UINT32_MAX

void     stamp_put(uint8_t sector[STAMP_SIZE], uint64_t sector_index, uint32_t value);
uint32_t stamp_get(const uint8_t sector[STAMP_SIZE], uint64_t sector_index); /* VALUE_TORN: none of ours */

struct event {
    uint64_t begin, end; /* ticks */
    uint64_t first_sector, sector_count;
    uint32_t value;
    bool     is_write;
    bool     is_optional; /* a write that need not have happened: the trim of what a parent shows */
};

/* One thread's events; each thread has its own. */
struct history {
    struct event *events;
    size_t        count, capacity;
};

uint64_t history_tick(void);
void     history_add(struct history *history, const struct event *event);
void     history_destroy(struct history *history);

/* Judge all reads of all threads.  `initial` is what every sector held at the beginning.  Prints the first read
 * that nothing explains. */
bool histories_judge(const struct history *histories, size_t history_count, uint64_t sector_count,
                     uint32_t initial);

#endif
