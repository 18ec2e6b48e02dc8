/*
 * Headers: two copies, written in turn, the newer one is current.  docs/vhdx-format.md 2.2, 5.1, 8.2.
 *
 * A copy is valid when signature and checksum are right, and nothing else: what the fields say is judged on the
 * current copy only, and an unsupported version there refuses the file instead of falling back to the older copy.
 */
#include "format/header.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/guid.h"
#include "format/zeros.h"

#define FIELDS_SIZE 80u /* the rest of the 4 KiB is reserved */

static const uint8_t signature[4] = { 'h', 'e', 'a', 'd' };

void
vx_header_load(struct vx_header *out, const uint8_t b[VX_HEADER_SIZE])
{
    *out = (struct vx_header){
        .sequence_number = vx_le64(b + 8),
        .file_write_guid = vx_guid_load(b + 16),
        .data_write_guid = vx_guid_load(b + 32),
        .log_guid        = vx_guid_load(b + 48),
        .log_version     = vx_le16(b + 64),
        .version         = vx_le16(b + 66),
        .log_length      = vx_le32(b + 68),
        .log_offset      = vx_le64(b + 72),
    };
}

int
vx_header_decode(struct vx_header *out, const uint8_t b[VX_HEADER_SIZE], uint64_t at, struct vhdx_error *err)
{
    uint32_t checksum;

    if (memcmp(b, signature, sizeof signature) != 0)
        return vx_fail(err, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at,
                       "header: signature is 0x%08" PRIx32 ", expected \"head\"", vx_le32(b));
    checksum = vx_crc32c_hole(b, VX_HEADER_SIZE, 4);
    if (vx_le32(b + 4) != checksum)
        return vx_fail(err, VHDX_E_BAD_CHECKSUM, VHDX_PART_HEADER, at,
                       "header: checksum is 0x%08" PRIx32 ", expected 0x%08" PRIx32, vx_le32(b + 4), checksum);

    vx_header_load(out, b);
    return VHDX_OK;
}

void
vx_header_encode(uint8_t b[VX_HEADER_SIZE], const struct vx_header *header)
{
    memset(b, 0, VX_HEADER_SIZE);
    memcpy(b, signature, sizeof signature);
    vx_put_le64(b + 8, header->sequence_number);
    vx_guid_store(b + 16, &header->file_write_guid);
    vx_guid_store(b + 32, &header->data_write_guid);
    vx_guid_store(b + 48, &header->log_guid);
    vx_put_le16(b + 64, header->log_version);
    vx_put_le16(b + 66, header->version);
    vx_put_le32(b + 68, header->log_length);
    vx_put_le64(b + 72, header->log_offset);
    vx_put_le32(b + 4, vx_crc32c_hole(b, VX_HEADER_SIZE, 4));
}

/* V25, V26: does the older of two valid copies look like the state before the current one? */
static void
judge_other_copy(const struct vx_header *current, const struct vx_header *other, uint64_t at,
                 struct vx_findings *findings)
{
    if (other->log_offset != current->log_offset || other->log_length != current->log_length)
        vx_find(findings, VHDX_SEVERITY_WARN, 25, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 68,
                "older header: log at 0x%" PRIx64 " length 0x%" PRIx32 ", expected 0x%" PRIx64 " length 0x%" PRIx32
                " as in the current header", other->log_offset, other->log_length, current->log_offset,
                current->log_length);
    if (other->sequence_number != current->sequence_number - 1)
        vx_find(findings, VHDX_SEVERITY_WARN, 26, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 8,
                "older header: SequenceNumber %" PRIu64 ", expected %" PRIu64, other->sequence_number,
                current->sequence_number - 1);
}

static int
choose_of_two_valid(struct vx_header *current, int *current_index, const struct vx_header headers[2],
                    bool are_identical, struct vx_findings *findings)
{
    int newer;

    if (headers[0].sequence_number == headers[1].sequence_number) {
        if (!are_identical)
            return vx_find(findings, VHDX_SEVERITY_REFUSE, 13, VHDX_E_BAD_HEADER, VHDX_PART_HEADER,
                           VX_HEADER_OFFSET(1) + 8, "headers: both copies have SequenceNumber %" PRIu64
                           " but differ, expected one to be newer", headers[0].sequence_number);
        vx_find(findings, VHDX_SEVERITY_WARN, 12, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, VX_HEADER_OFFSET(1) + 8,
                "headers: both copies have SequenceNumber %" PRIu64 ", expected different ones (they are "
                "identical)", headers[0].sequence_number);
        *current = headers[0];
        *current_index = 0;
        return VHDX_OK;
    }
    newer = headers[1].sequence_number > headers[0].sequence_number;
    judge_other_copy(&headers[newer], &headers[!newer], VX_HEADER_OFFSET(!newer), findings);
    *current = headers[newer];
    *current_index = newer;
    return VHDX_OK;
}

int
vx_header_choose(struct vx_header *current, int *current_index, const uint8_t copy0[VX_HEADER_SIZE],
                 const uint8_t copy1[VX_HEADER_SIZE], struct vx_findings *findings)
{
    struct vx_header headers[2];
    struct vhdx_error errors[2];
    int rc[2], good;

    rc[0] = vx_header_decode(&headers[0], copy0, VX_HEADER_OFFSET(0), &errors[0]);
    rc[1] = vx_header_decode(&headers[1], copy1, VX_HEADER_OFFSET(1), &errors[1]);
    if (rc[0] < 0 && rc[1] < 0)
        return vx_find(findings, VHDX_SEVERITY_REFUSE, 10, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, VX_HEADER_OFFSET(0),
                       "no valid header, copy 1: %.80s, copy 2: %.80s", errors[0].message, errors[1].message);
    if (rc[0] == VHDX_OK && rc[1] == VHDX_OK)
        return choose_of_two_valid(current, current_index, headers, memcmp(copy0, copy1, VX_HEADER_SIZE) == 0,
                                   findings);

    good = rc[0] < 0;
    vx_find(findings, VHDX_SEVERITY_REPAIR, 11, rc[!good], VHDX_PART_HEADER, VX_HEADER_OFFSET(!good),
            "header copy %d is not valid (copy %d is used): %s", 1 + !good, 1 + good, errors[!good].message);
    *current = headers[good];
    *current_index = good;
    return VHDX_OK;
}

/* V14 to V16.  LogVersion matters only when there is a log to read. */
static void
judge_versions(const struct vx_header *header, uint64_t at, struct vx_findings *findings)
{
    bool has_log = !vhdx_guid_is_zero(&header->log_guid);

    if (header->version != 1)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 14, VHDX_E_UNSUPPORTED, VHDX_PART_HEADER, at + 66,
                "header: Version %u, expected 1", header->version);
    if (header->log_version != 0 && has_log)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 15, VHDX_E_UNSUPPORTED, VHDX_PART_HEADER, at + 64,
                "header: LogVersion %u with a log in use, expected 0", header->log_version);
    if (header->log_version != 0 && !has_log)
        vx_find(findings, VHDX_SEVERITY_WARN, 16, VHDX_E_UNSUPPORTED, VHDX_PART_HEADER, at + 64,
                "header: LogVersion %u, expected 0", header->log_version);
}

/* V17 to V22, V28.  A log that nobody has to read may still be in the way of a writer. */
static void
judge_log_place(const struct vx_header *header, uint64_t at, uint64_t file_length, struct vx_findings *findings)
{
    bool has_log = !vhdx_guid_is_zero(&header->log_guid);
    enum vhdx_severity severity = has_log ? VHDX_SEVERITY_REFUSE : VHDX_SEVERITY_RO;
    uint64_t end;

    if (!vx_is_aligned(header->log_offset, VX_MIB))
        vx_find(findings, severity, 17, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 72,
                "header: LogOffset 0x%" PRIx64 ", expected a multiple of 1 MiB", header->log_offset);
    if (!vx_is_aligned(header->log_length, VX_MIB))
        vx_find(findings, severity, 18, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 68,
                "header: LogLength 0x%" PRIx32 ", expected a multiple of 1 MiB", header->log_length);
    if (header->log_length == 0 && has_log)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 19, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 68,
                "header: LogLength 0 with a log in use, expected more");
    if (header->log_length == 0 && !has_log)
        vx_find(findings, VHDX_SEVERITY_REPAIR, 28, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 68,
                "header: LogLength 0, expected at least 1 MiB for writing");
    if (header->log_length > 0 && header->log_offset < VX_HEADER_SECTION_SIZE)
        vx_find(findings, severity, 20, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 72,
                "header: LogOffset 0x%" PRIx64 ", expected at least 1 MiB", header->log_offset);
    if (!vx_add_u64(header->log_offset, header->log_length, &end) || end > file_length)
        vx_find(findings, severity, 21, VHDX_E_TRUNCATED, VHDX_PART_HEADER, at + 68,
                "header: log at 0x%" PRIx64 " length 0x%" PRIx32 ", expected to end within the file of 0x%" PRIx64
                " bytes", header->log_offset, header->log_length, file_length);
    if (header->log_length > VX_MAX_LOG_LENGTH)
        vx_find(findings, severity, 22, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 68,
                "header: LogLength 0x%" PRIx32 ", expected at most 1 GiB", header->log_length);
}

void
vx_header_judge(const struct vx_header *header, uint64_t at, uint64_t file_length, struct vx_findings *findings)
{
    judge_versions(header, at, findings);
    judge_log_place(header, at, file_length, findings);
    if (header->sequence_number > UINT64_MAX - 3)
        vx_find(findings, VHDX_SEVERITY_RO, 24, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 8,
                "header: SequenceNumber %" PRIu64 ", expected at most 2^64 - 4 so that updates can count on",
                header->sequence_number);
    if (vhdx_guid_is_zero(&header->file_write_guid))
        vx_find(findings, VHDX_SEVERITY_WARN, 27, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 16,
                "header: FileWriteGuid is zero, expected a GUID");
    if (vhdx_guid_is_zero(&header->data_write_guid))
        vx_find(findings, VHDX_SEVERITY_WARN, 27, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + 32,
                "header: DataWriteGuid is zero, expected a GUID");
}

void
vx_header_judge_reserved(const uint8_t *slot, size_t slot_length, uint64_t at, struct vx_findings *findings)
{
    size_t header_length = slot_length < VX_HEADER_SIZE ? slot_length : VX_HEADER_SIZE;
    size_t slot_end = slot_length < VX_HEADER_SLOT_SIZE ? slot_length : VX_HEADER_SLOT_SIZE;
    size_t i;

    if (header_length <= FIELDS_SIZE)
        return;
    i = FIELDS_SIZE + vx_first_nonzero(slot + FIELDS_SIZE, header_length - FIELDS_SIZE);
    if (i < header_length)
        vx_find(findings, VHDX_SEVERITY_WARN, 23, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + i,
                "header: reserved byte %zu is 0x%02x, expected 0", i, slot[i]);
    i = header_length + vx_first_nonzero(slot + header_length, slot_end - header_length);
    if (i < slot_end)
        vx_find(findings, VHDX_SEVERITY_WARN, 7, VHDX_E_BAD_HEADER, VHDX_PART_HEADER, at + i,
                "header: byte %zu of the slot, after the header, is 0x%02x, expected 0", i, slot[i]);
}
