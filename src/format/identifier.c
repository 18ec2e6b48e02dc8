/*
 * File type identifier: the first 64 KiB, written once at creation and never again.  docs/vhdx-format.md 2.1, 8.1.
 * The creator's name is for people only: nothing may depend on it.
 */
#include "format/identifier.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/utf16.h"
#include "format/zeros.h"

#define CREATOR_AT       8u
#define USED_SIZE        (CREATOR_AT + VX_CREATOR_BYTES)
#define RESERVED_AT      UINT64_C(0x50000) /* 320 KiB: after the second region table */

static const uint8_t signature[8] = { 'v', 'h', 'd', 'x', 'f', 'i', 'l', 'e' };

void
vx_identifier_encode(uint8_t slot[VX_IDENTIFIER_SIZE], const char *creator)
{
    size_t i;

    memset(slot, 0, VX_IDENTIFIER_SIZE);
    memcpy(slot, signature, sizeof signature);
    for (i = 0; i < VX_CREATOR_BYTES / 2 - 1 && creator[i] != '\0'; i++)
        vx_put_le16(slot + CREATOR_AT + 2 * i, (unsigned char)creator[i] < 0x80 ? (unsigned char)creator[i] : '?');
}

bool
vx_identifier_has_signature(const uint8_t bytes[8])
{
    return memcmp(bytes, signature, sizeof signature) == 0;
}

void
vx_file_length_judge(uint64_t file_length, struct vx_findings *findings)
{
    if (file_length < VX_HEADER_SECTION_SIZE)
        vx_find(findings, VHDX_SEVERITY_REFUSE, 1, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_length,
                "file: length %" PRIu64 ", expected at least 1 MiB", file_length);
    else if (!vx_is_aligned(file_length, VX_MIB))
        vx_find(findings, VHDX_SEVERITY_WARN, 5, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_length,
                "file: length %" PRIu64 ", expected a multiple of 1 MiB", file_length);
}

/* Bytes of the creator's name before its NUL. */
static size_t
creator_length(const uint8_t *creator)
{
    size_t length = 0;

    while (length < VX_CREATOR_BYTES && vx_le16(creator + length) != 0)
        length += 2;
    return length;
}

void
vx_identifier_judge(const uint8_t *slot, size_t length, struct vx_findings *findings)
{
    size_t end = length < VX_IDENTIFIER_SIZE ? length : VX_IDENTIFIER_SIZE;
    size_t i;

    if (end < sizeof signature || !vx_identifier_has_signature(slot)) {
        vx_find(findings, VHDX_SEVERITY_REFUSE, 2, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 0,
                "identifier: signature is not \"vhdxfile\"");
        return;
    }
    if (end < USED_SIZE)
        return;
    if (!vx_utf16_is_valid(slot + CREATOR_AT, creator_length(slot + CREATOR_AT)))
        vx_find(findings, VHDX_SEVERITY_WARN, 3, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, CREATOR_AT,
                "identifier: Creator is not well-formed UTF-16");
    i = USED_SIZE + vx_first_nonzero(slot + USED_SIZE, end - USED_SIZE);
    if (i < end)
        vx_find(findings, VHDX_SEVERITY_WARN, 4, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, i,
                "identifier: reserved byte %zu is 0x%02x, expected 0", i, slot[i]);
}

void
vx_header_section_judge_reserved(const uint8_t *bytes, size_t length, uint64_t file_offset,
                                 struct vx_findings *findings)
{
    size_t begin = 0, end = length, i;

    if (file_offset >= VX_HEADER_SECTION_SIZE)
        return;
    if (file_offset < RESERVED_AT)
        begin = (size_t)vx_min_u64(length, RESERVED_AT - file_offset);
    end = (size_t)vx_min_u64(length, VX_HEADER_SECTION_SIZE - file_offset);
    i = begin + vx_first_nonzero(bytes + begin, end - begin);
    if (i < end)
        vx_find(findings, VHDX_SEVERITY_WARN, 6, VHDX_E_NOT_VHDX, VHDX_PART_FILE, file_offset + i,
                "header section: reserved byte 0x%" PRIx64 " is 0x%02x, expected 0", file_offset + i, bytes[i]);
}
