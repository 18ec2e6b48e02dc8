/*
 * Log entries: writing them, and telling the valid ones from everything else a log area holds.
 * docs/vhdx-format.md 2.4 to 2.6, 6.2, 6.3.
 *
 * The check takes an entry sector by sector and keeps nothing but sums, so a log of any size is scanned in little
 * memory.
 *
 *   I1  Every sector of an entry but its first begins with "desc", "zero" or "data".  The check stops at the first
 *       one that does not, so entries found valid never overlap and a scan that goes on after a stop reads each
 *       sector a bounded number of times.
 *   I2  No count from the file is multiplied in less than 64 bits.
 */
#include "format/log_entry.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/crc32c.h"
#include "base/guid.h"

#define HEADER_SIZE 64u

static const uint8_t signature_entry[4] = { 'l', 'o', 'g', 'e' };
static const uint8_t signature_zero[4] = { 'z', 'e', 'r', 'o' };
static const uint8_t signature_desc[4] = { 'd', 'e', 's', 'c' };
static const uint8_t signature_data[4] = { 'd', 'a', 't', 'a' };

uint64_t
vx_log_descriptor_area_size(uint32_t descriptor_count)
{
    return vx_round_up(vx_log_descriptor_offset(descriptor_count), VX_LOG_SECTOR);
}

uint64_t
vx_log_descriptor_offset(uint32_t index)
{
    return HEADER_SIZE + (uint64_t)VX_LOG_DESCRIPTOR_SIZE * index;
}

void
vx_log_entry_header_encode(uint8_t *entry, const struct vx_log_entry_header *header)
{
    memset(entry, 0, HEADER_SIZE);
    memcpy(entry, signature_entry, sizeof signature_entry);
    vx_put_le32(entry + 8, header->entry_length);
    vx_put_le32(entry + 12, header->tail);
    vx_put_le64(entry + 16, header->sequence_number);
    vx_put_le32(entry + 24, header->descriptor_count);
    vx_guid_store(entry + 32, &header->log_guid);
    vx_put_le64(entry + 48, header->flushed_file_offset);
    vx_put_le64(entry + 56, header->last_file_offset);
}

void
vx_log_entry_header_decode(struct vx_log_entry_header *out, const uint8_t sector[VX_LOG_SECTOR])
{
    *out = (struct vx_log_entry_header){
        .entry_length        = vx_le32(sector + 8),
        .tail                = vx_le32(sector + 12),
        .sequence_number     = vx_le64(sector + 16),
        .descriptor_count    = vx_le32(sector + 24),
        .log_guid            = vx_guid_load(sector + 32),
        .flushed_file_offset = vx_le64(sector + 48),
        .last_file_offset    = vx_le64(sector + 56),
    };
}

void
vx_log_descriptor_encode(uint8_t *entry, uint32_t index, const struct vx_log_descriptor *descriptor)
{
    uint8_t *b = entry + vx_log_descriptor_offset(index);

    if (descriptor->is_zero) {
        memcpy(b, signature_zero, sizeof signature_zero);
        vx_put_le32(b + 4, 0);
        vx_put_le64(b + 8, descriptor->zero_length);
    } else {
        memcpy(b, signature_desc, sizeof signature_desc);
        memcpy(b + 4, descriptor->trailing, sizeof descriptor->trailing);
        memcpy(b + 8, descriptor->leading, sizeof descriptor->leading);
    }
    vx_put_le64(b + 16, descriptor->file_offset);
    vx_put_le64(b + 24, descriptor->sequence_number);
}

bool
vx_log_descriptor_decode(struct vx_log_descriptor *out, const uint8_t b[VX_LOG_DESCRIPTOR_SIZE])
{
    memset(out, 0, sizeof *out);
    out->file_offset = vx_le64(b + 16);
    out->sequence_number = vx_le64(b + 24);
    if (memcmp(b, signature_zero, sizeof signature_zero) == 0) {
        out->is_zero = true;
        out->zero_length = vx_le64(b + 8);
        return true;
    }
    memcpy(out->trailing, b + 4, sizeof out->trailing);
    memcpy(out->leading, b + 8, sizeof out->leading);
    return memcmp(b, signature_desc, sizeof signature_desc) == 0;
}

void
vx_log_page_encode(uint8_t *entry, uint32_t descriptor_count, uint32_t index, uint32_t data_index,
                   const uint8_t page[VX_PAGE], uint64_t file_offset, uint64_t sequence_number)
{
    struct vx_log_descriptor descriptor = { .file_offset = file_offset, .sequence_number = sequence_number };
    uint8_t *sector = entry + vx_log_descriptor_area_size(descriptor_count) + (uint64_t)VX_LOG_SECTOR * data_index;

    memcpy(descriptor.leading, page, sizeof descriptor.leading);
    memcpy(descriptor.trailing, page + VX_PAGE - 4, sizeof descriptor.trailing);
    vx_log_descriptor_encode(entry, index, &descriptor);

    memcpy(sector, signature_data, sizeof signature_data);
    vx_put_le32(sector + 4, (uint32_t)(sequence_number >> 32));
    memcpy(sector + 8, page + 8, VX_PAGE - 12);
    vx_put_le32(sector + VX_LOG_SECTOR - 4, (uint32_t)sequence_number);
}

void
vx_log_page_decode(uint8_t page[VX_PAGE], const struct vx_log_descriptor *descriptor,
                   const uint8_t data_sector[VX_LOG_SECTOR])
{
    memcpy(page, descriptor->leading, sizeof descriptor->leading);
    memcpy(page + 8, data_sector + 8, VX_PAGE - 12);
    memcpy(page + VX_PAGE - 4, descriptor->trailing, sizeof descriptor->trailing);
}

void
vx_log_entry_seal(uint8_t *entry, uint32_t entry_length)
{
    vx_put_le32(entry + 4, vx_crc32c_hole(entry, entry_length, 4));
}

bool
vx_log_sector_is_entry(const uint8_t sector[VX_LOG_SECTOR])
{
    return memcmp(sector, signature_entry, sizeof signature_entry) == 0;
}

/* E2 to E6, in this order: the rule that is broken, or 0. */
static int
judge_header(const struct vx_log_entry_header *header, const struct vhdx_guid *log_guid, uint64_t log_length)
{
    if (!vhdx_guid_equal(&header->log_guid, log_guid))
        return 35;
    if (header->sequence_number == 0)
        return 34;
    if (!vx_is_aligned(header->entry_length, VX_LOG_SECTOR) || header->entry_length < VX_LOG_SECTOR ||
        header->entry_length > log_length)
        return 32;
    if (!vx_is_aligned(header->tail, VX_LOG_SECTOR) || header->tail >= log_length)
        return 33;
    return vx_log_descriptor_area_size(header->descriptor_count) <= header->entry_length ? 0 : 36;
}

/* E8, E12, E13.  A range without bytes targets nothing. */
static int
judge_target(struct vx_log_entry_check *check, uint64_t file_offset, uint64_t length)
{
    uint64_t end, log_end;

    if (!vx_is_aligned(file_offset, VX_PAGE) || !vx_is_aligned(length, VX_PAGE) ||
        !vx_add_u64(file_offset, length, &end))
        return 39;
    if (length == 0)
        return 0;
    if (file_offset < VX_LOGGED_FROM)
        return 41;
    if (!vx_add_u64(check->log_offset, check->log_length, &log_end))
        log_end = UINT64_MAX;
    if (file_offset < log_end && check->log_offset < end)
        return 42;
    check->highest_target_end = vx_max_u64(check->highest_target_end, end);
    return 0;
}

/* E7, E8, E12, E13, and E9 as far as it can be told already. */
static int
judge_descriptor(struct vx_log_entry_check *check, const uint8_t b[VX_LOG_DESCRIPTOR_SIZE])
{
    struct vx_log_descriptor descriptor;

    if (!vx_log_descriptor_decode(&descriptor, b) || descriptor.sequence_number != check->header.sequence_number)
        return 38;
    if (descriptor.is_zero) {
        check->has_stray_bits |= vx_le32(b + 4) != 0;
        return judge_target(check, descriptor.file_offset, descriptor.zero_length);
    }
    check->data_count++;
    if (check->data_count > check->sectors_total - check->descriptor_sectors)
        return 36;
    return judge_target(check, descriptor.file_offset, VX_PAGE);
}

/* The descriptors of one sector, from byte `at` of it on. */
static int
judge_descriptors(struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR], size_t at)
{
    for (; at < VX_LOG_SECTOR && check->descriptors_left > 0; at += VX_LOG_DESCRIPTOR_SIZE) {
        int rule = judge_descriptor(check, sector + at);

        if (rule != 0)
            return rule;
        check->descriptors_left--;
    }
    check->has_stray_bits |= !vx_is_zero(sector + at, VX_LOG_SECTOR - at);

    /* E9: all descriptors are known, and so is how many data sectors must follow. */
    if (check->descriptors_left == 0 && check->data_count != check->sectors_total - check->descriptor_sectors)
        return 36;
    return 0;
}

/* E10. */
static bool
is_data_sector_good(const struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR])
{
    return memcmp(sector, signature_data, sizeof signature_data) == 0 &&
           vx_le32(sector + 4) == (uint32_t)(check->header.sequence_number >> 32) &&
           vx_le32(sector + VX_LOG_SECTOR - 4) == (uint32_t)check->header.sequence_number;
}

/* Decided: it is not valid. */
static enum vx_log_verdict
break_off(struct vx_log_entry_check *check, int rule)
{
    check->sectors_seen = 0;
    check->broken_rule = rule;
    return VX_LOG_INVALID;
}

/* One sector more was good; after the last one E11 decides. */
static enum vx_log_verdict
count_sector(struct vx_log_entry_check *check)
{
    check->sectors_seen++;
    if (check->sectors_seen < check->sectors_total)
        return VX_LOG_MORE;
    return check->checksum == check->stored_checksum ? VX_LOG_VALID : break_off(check, 37);
}

enum vx_log_verdict
vx_log_entry_check_begin(struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR],
                         const struct vhdx_guid *log_guid, uint64_t log_offset, uint64_t log_length)
{
    int rule;

    memset(check, 0, sizeof *check);
    vx_log_entry_header_decode(&check->header, sector);
    check->log_offset = log_offset;
    check->log_length = log_length;
    if (!vx_log_sector_is_entry(sector))
        return VX_LOG_INVALID;
    rule = judge_header(&check->header, log_guid, log_length);
    if (rule != 0)
        return break_off(check, rule);

    check->sectors_total = check->header.entry_length / VX_LOG_SECTOR;
    check->descriptor_sectors = vx_log_descriptor_area_size(check->header.descriptor_count) / VX_LOG_SECTOR;
    check->descriptors_left = check->header.descriptor_count;
    check->has_stray_bits = vx_le32(sector + 28) != 0;
    rule = judge_descriptors(check, sector, HEADER_SIZE);
    if (rule != 0)
        return break_off(check, rule);

    check->stored_checksum = vx_le32(sector + 4);
    check->checksum = vx_crc32c_hole(sector, VX_LOG_SECTOR, 4);
    return count_sector(check);
}

enum vx_log_verdict
vx_log_entry_check_feed(struct vx_log_entry_check *check, const uint8_t sector[VX_LOG_SECTOR])
{
    int rule;

    if (check->sectors_seen == 0 || check->sectors_seen >= check->sectors_total)
        return VX_LOG_INVALID; /* nothing was begun, or it was decided already */
    if (check->sectors_seen < check->descriptor_sectors)
        rule = judge_descriptors(check, sector, 0);
    else
        rule = is_data_sector_good(check, sector) ? 0 : 40;
    if (rule != 0)
        return break_off(check, rule);
    check->checksum = vx_crc32c(check->checksum, sector, VX_LOG_SECTOR);
    return count_sector(check);
}

void
vx_log_entry_report_invalid(int rule, uint64_t sequence_number, uint64_t file_offset, struct vx_findings *findings)
{
    static const char *const breaches[] = {
        [32 - 32] = "EntryLength is no multiple of 4096 up to the log's length",
        [33 - 32] = "Tail is no multiple of 4096 inside the log",
        [34 - 32] = "SequenceNumber is 0",
        [35 - 32] = "LogGuid is not the header's: it belongs to another session",
        [36 - 32] = "descriptors and data sectors do not add up to EntryLength",
        [37 - 32] = "the checksum does not match",
        [38 - 32] = "a descriptor's signature or sequence number is wrong",
        [39 - 32] = "a descriptor's target is not aligned to 4096 bytes, or overflows",
        [40 - 32] = "a data sector's signature or sequence number is wrong",
        [41 - 32] = "a descriptor's target lies in the first 192 KiB of the file",
        [42 - 32] = "a descriptor's target lies in the log",
    };

    vx_find(findings, VHDX_SEVERITY_WARN, rule, VHDX_E_BAD_LOG, VHDX_PART_LOG, file_offset,
            "log entry %" PRIu64 " does not count: %s", sequence_number, breaches[rule - 32]);
}
