/* See log.h. */
#include "image/log.h"

#include <assert.h>
#include <string.h>

#include "base/breakage.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/log_entry.h"
#include "storage/storage.h"

static uint64_t
entry_sectors(size_t page_count)
{
    return vx_log_descriptor_area_size((uint32_t)page_count) / VX_LOG_SECTOR + page_count;
}

size_t
vx_log_page_limit(uint64_t log_length)
{
    uint64_t sectors = (log_length / VX_LOG_SECTOR - 1) / (VX_BROKEN(ENTRY_OVER_TAIL) ? 1 : 3);
    size_t   page_count = (size_t)sectors;

    while (page_count > 0 && entry_sectors(page_count) > sectors)
        page_count--;
    return page_count;
}

void
vx_log_destroy(struct vx_log *log)
{
    vx_free(log->entry);
    log->entry = NULL;
}

/* Write `length` bytes of the entry at the head, around the end of the ring where need be. */
static int
write_at_head(struct vx_log *log, uint32_t length, struct vhdx_error *err)
{
    uint32_t to_end = log->length - log->head;
    uint32_t first = length < to_end ? length : to_end;
    int      rc = vx_storage_write(log->storage, log->entry, first, log->file_offset + log->head, err);

    if (rc == VHDX_OK && length > first)
        rc = vx_storage_write(log->storage, log->entry + first, length - first, log->file_offset, err);
    return rc;
}

static int
ensure_buffer(struct vx_log *log, uint32_t length, struct vhdx_error *err)
{
    uint8_t *entry;

    if (length <= log->entry_capacity)
        return VHDX_OK;
    entry = vx_realloc_array(log->entry, 1, length);
    if (entry == NULL)
        return vx_fail_memory(err, "a log entry");
    log->entry = entry;
    log->entry_capacity = length;
    return VHDX_OK;
}

/* Sectors free for a new entry: the ring without [durable tail, head). */
static uint32_t
free_bytes(const struct vx_log *log)
{
    uint32_t used = (log->head + log->length - log->durable_tail) % log->length;

    return log->length - used;
}

/* Tail of the next entry: itself when everything before is stable, else the newest entry (W4). */
static uint32_t
next_tail(const struct vx_log *log)
{
    if (log->last_is_stable || VX_BROKEN(TAIL_WITHOUT_FLUSH))
        return log->head;
    return log->last_position;
}

static void
encode_header(struct vx_log *log, uint32_t length, uint32_t descriptor_count, const struct vx_log_lengths *lengths)
{
    struct vx_log_entry_header header = {
        .entry_length = length,
        .tail = next_tail(log),
        .sequence_number = log->next_sequence_number,
        .descriptor_count = descriptor_count,
        .log_guid = log->guid,
        .flushed_file_offset = lengths->flushed_file_offset,
        .last_file_offset = lengths->last_file_offset,
    };

    vx_log_entry_header_encode(log->entry, &header);
}

int
vx_log_append(struct vx_log *log, const struct vx_log_page *pages, size_t page_count,
              const struct vx_log_lengths *lengths, struct vhdx_error *err)
{
    uint32_t descriptor_count = (uint32_t)page_count;
    uint32_t length = (uint32_t)(entry_sectors(page_count) * VX_LOG_SECTOR);
    int      rc;

    assert(VX_BROKEN(ENTRY_OVER_TAIL) || length + VX_LOG_SECTOR <= free_bytes(log)); /* L4, L5: true by L14 */
    if (log->next_sequence_number == UINT64_MAX)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, log->file_offset, "log sequence numbers are used up (L12)");
    rc = ensure_buffer(log, length, err);
    if (rc < 0)
        return rc;

    memset(log->entry, 0, (size_t)vx_log_descriptor_area_size(descriptor_count));
    encode_header(log, length, descriptor_count, lengths);
    for (uint32_t i = 0; i < descriptor_count; i++)
        vx_log_page_encode(log->entry, descriptor_count, i, i, pages[i].bytes, pages[i].file_offset,
                           log->next_sequence_number);
    vx_log_entry_seal(log->entry, length);
    return write_at_head(log, length, err);
}

void
vx_log_commit_entry(struct vx_log *log)
{
    struct vx_log_entry_header header;

    vx_log_entry_header_decode(&header, log->entry);
    if (header.tail == log->head)
        log->durable_tail_sequence_number = log->next_sequence_number;
    else
        log->durable_tail_sequence_number = log->next_sequence_number - 1;
    log->durable_tail = header.tail;
    log->last_position = log->head;
    log->last_is_stable = header.descriptor_count == 0;
    log->head = (log->head + header.entry_length) % log->length;
    log->next_sequence_number++;
}

void
vx_log_note_flush(struct vx_log *log)
{
    log->last_is_stable = true;
}

int
vx_log_start(struct vx_log *log, struct vhdx_storage *storage, uint64_t file_offset, uint32_t length,
             const struct vx_log_lengths *lengths, struct vhdx_error *err)
{
    uint8_t random[8];
    int     rc;

    log->storage = storage;
    log->file_offset = file_offset;
    log->length = length;
    log->head = log->durable_tail = 0;
    log->last_is_stable = true;
    rc = vx_guid_random(&log->guid, err);
    if (rc < 0)
        return rc;
    rc = vx_random_bytes(random, sizeof random, err);
    if (rc < 0)
        return rc;
    /* Somewhere below 2^62: never 0, and room for every entry a session could write. */
    log->next_sequence_number = 1;
    for (size_t i = 0; i < sizeof random; i++)
        log->next_sequence_number = (log->next_sequence_number << 8 | random[i]) & (UINT64_MAX >> 2);
    log->next_sequence_number |= 1;
    return vx_log_append(log, NULL, 0, lengths, err);
}
