#include "history.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic(uint64_t) clock_now;

uint64_t
history_tick(void)
{
    return atomic_fetch_add(&clock_now, 1) + 1;
}

void
stamp_put(uint8_t sector[STAMP_SIZE], uint64_t sector_index, uint32_t value)
{
    const uint64_t words[2] = { value, sector_index };

    memset(sector, 0, STAMP_SIZE);
    for (size_t at = 0; at < STAMP_SIZE && value != VALUE_ZERO; at += sizeof words)
        memcpy(sector + at, words, sizeof words);
}

uint32_t
stamp_get(const uint8_t sector[STAMP_SIZE], uint64_t sector_index)
{
    uint8_t  expected[STAMP_SIZE];
    uint64_t value;

    memcpy(&value, sector, sizeof value);
    if (value >= VALUE_TORN)
        return VALUE_TORN;
    stamp_put(expected, sector_index, (uint32_t)value);
    return memcmp(expected, sector, STAMP_SIZE) == 0 ? (uint32_t)value : VALUE_TORN;
}

void
history_add(struct history *history, const struct event *event)
{
    if (history->count == history->capacity) {
        history->capacity = history->capacity * 2 + 64;
        history->events = realloc(history->events, history->capacity * sizeof *history->events);
        if (history->events == NULL)
            abort();
    }
    history->events[history->count++] = *event;
}

void
history_destroy(struct history *history)
{
    free(history->events);
    *history = (struct history){ 0 };
}

/* --- judging --- */

/* The writes that touch each sector. */
struct index {
    const struct event **writes;
    size_t              *first; /* of each sector; first[sector_count] is the end */
};

static void
for_writes(const struct history *histories, size_t history_count, struct index *index, size_t *place)
{
    for (size_t h = 0; h < history_count; h++) {
        for (size_t i = 0; i < histories[h].count; i++) {
            const struct event *event = &histories[h].events[i];

            for (uint64_t s = 0; event->is_write && s < event->sector_count; s++) {
                size_t *at = &place[event->first_sector + s];

                if (index->writes != NULL)
                    index->writes[*at] = event;
                ++*at;
            }
        }
    }
}

static void
index_make(struct index *index, const struct history *histories, size_t history_count, uint64_t sector_count)
{
    size_t *place = calloc((size_t)sector_count + 1, sizeof *place);
    size_t  total = 0;

    *index = (struct index){ .first = calloc((size_t)sector_count + 1, sizeof *index->first) };
    if (place == NULL || index->first == NULL)
        abort();
    for_writes(histories, history_count, index, place);
    for (uint64_t s = 0; s < sector_count; s++) {
        size_t count = place[s];

        place[s] = index->first[s] = total;
        total += count;
    }
    index->first[sector_count] = total;
    index->writes = calloc(total + 1, sizeof *index->writes);
    if (index->writes == NULL)
        abort();
    for_writes(histories, history_count, index, place);
    free(place);
}

/* Was a value, there from the tick `end` on at the latest, replaced for certain before the read began? */
static bool
was_replaced(const struct index *index, uint64_t sector, uint64_t end, uint64_t read_begin)
{
    for (size_t i = index->first[sector]; i < index->first[sector + 1]; i++) {
        const struct event *write = index->writes[i];

        if (!write->is_optional && write->begin > end && write->end < read_begin)
            return true;
    }
    return false;
}

static bool
is_explained(const struct index *index, uint64_t sector, const struct event *read, uint32_t initial)
{
    if (read->value == initial && !was_replaced(index, sector, 0, read->begin))
        return true;
    for (size_t i = index->first[sector]; i < index->first[sector + 1]; i++) {
        const struct event *write = index->writes[i];

        if (write->value == read->value && write->begin < read->end &&
            !was_replaced(index, sector, write->end, read->begin))
            return true;
    }
    return false;
}

static void
print_sector(const struct index *index, uint64_t sector, const struct event *read)
{
    printf("# sector %" PRIu64 " was read as %" PRIu32 " during %" PRIu64 " to %" PRIu64 "; its writes:\n", sector,
           read->value, read->begin, read->end);
    for (size_t i = index->first[sector]; i < index->first[sector + 1]; i++)
        printf("#   %" PRIu32 " during %" PRIu64 " to %" PRIu64 "%s\n", index->writes[i]->value,
               index->writes[i]->begin, index->writes[i]->end, index->writes[i]->is_optional ? " (trim)" : "");
}

static bool
judge_read(const struct index *index, const struct event *read, uint32_t initial)
{
    for (uint64_t s = read->first_sector; s < read->first_sector + read->sector_count; s++) {
        if (is_explained(index, s, read, initial))
            continue;
        print_sector(index, s, read);
        return false;
    }
    return true;
}

bool
histories_judge(const struct history *histories, size_t history_count, uint64_t sector_count,
                uint32_t initial)
{
    struct index index;
    bool         is_good = true;

    index_make(&index, histories, history_count, sector_count);
    for (size_t h = 0; h < history_count && is_good; h++)
        for (size_t i = 0; i < histories[h].count && is_good; i++)
            if (!histories[h].events[i].is_write)
                is_good = judge_read(&index, &histories[h].events[i], initial);
    free(index.writes);
    free(index.first);
    return is_good;
}
