/* The identifier with its creator, and all text that comes out of it. */
#include "fuzz.h"

#include "base/utf16.h"
#include "format/identifier.h"

#define MAX_ROUND_TRIP 64u /* bytes of UTF-16 */

static uint8_t slot[VX_IDENTIFIER_SIZE];
static uint8_t piece[8192];

/* What a terminal gets to see: no control character, cut at the size that was asked for. */
static void
check_text(const uint8_t *utf16, size_t length, size_t size)
{
    char text[VX_CREATOR_BYTES / 2 * 3 + 1], escaped[4096];

    MUST(size >= 1 && size <= sizeof escaped);
    vx_utf16_to_utf8_lenient(text, sizeof text, utf16, length);
    vx_escape_text(escaped, size, text);
    MUST(strlen(escaped) < size);
    for (const char *c = escaped; *c != '\0'; c++)
        MUST((unsigned char)*c >= 0x20 && (unsigned char)*c != 0x7F);
}

/* Well-formed text comes back as the same bytes; what does not is not well-formed. */
static void
check_round_trip(const uint8_t *utf16, size_t length)
{
    char text[MAX_ROUND_TRIP / 2 * 3 + 1];
    uint8_t again[MAX_ROUND_TRIP];
    size_t again_length;
    bool is_valid = vx_utf16_is_valid(utf16, length);

    MUST(vx_utf16_to_utf8(text, sizeof text, utf16, length) == is_valid);
    if (!is_valid)
        return;
    MUST(vx_utf8_to_utf16(again, sizeof again, &again_length, text));
    MUST(again_length == length && memcmp(again, utf16, length) == 0);
}

/* Any UTF-8 or what pretends to be: taken only when it comes back the same. */
static void
check_utf8(struct fuzz_input *input)
{
    char utf8[MAX_ROUND_TRIP + 1], again[MAX_ROUND_TRIP * 3 + 1];
    uint8_t utf16[2 * MAX_ROUND_TRIP];
    size_t length = 0, utf16_length;

    while (length < MAX_ROUND_TRIP && input->left > 0)
        utf8[length++] = (char)fuzz_take(input, 1);
    utf8[length] = '\0';
    if (!vx_utf8_to_utf16(utf16, sizeof utf16, &utf16_length, utf8))
        return;
    MUST(vx_utf16_to_utf8(again, sizeof again, utf16, utf16_length));
    MUST(strcmp(again, utf8) == 0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vx_findings findings;
    uint64_t how = fuzz_take(&input, 1);
    size_t length = how & 1 ? 520 + (size_t)fuzz_take(&input, 1) : sizeof slot;
    size_t round_trip = (size_t)(how >> 1) % (MAX_ROUND_TRIP + 1), used = 520 + 256;

    vx_identifier_encode(slot, "made by");
    fuzz_edit(&input, slot, used, used);
    fuzz_edit(&input, slot + 8, 24, 24);
    vx_identifier_judge(slot, length, fuzz_findings(&findings));
    MUST((vx_findings_severity(&findings) == VHDX_SEVERITY_REFUSE) == !vx_identifier_has_signature(slot));
    check_text(slot + 8, VX_CREATOR_BYTES, 1 + (size_t)fuzz_take(&input, 2) % 4096);
    check_round_trip(slot + 8, round_trip);

    memset(piece, 0, sizeof piece);
    fuzz_edit(&input, piece, sizeof piece, sizeof piece);
    vx_header_section_judge_reserved(piece, (size_t)fuzz_take(&input, 2) % (sizeof piece + 1), fuzz_number(&input),
                                     &findings);
    vx_file_length_judge(fuzz_number(&input), &findings);
    check_utf8(&input);
    return 0;
}
