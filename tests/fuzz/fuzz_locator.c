/* A parent locator: decoding, and every pair by itself. */
#include "fuzz.h"

#include "base/checked.h"
#include "base/utf16.h"
#include "format/locator.h"

static uint8_t encoded[1024];

static void
check_pair(const uint8_t *item, uint32_t length, const struct vx_locator_pair *pair)
{
    char text[4096];

    if (pair->value_length == 0)
        return;
    MUST((uint64_t)pair->value_offset + pair->value_length <= length);
    MUST(pair->value_length % 2 == 0);
    MUST(vx_utf16_is_valid(item + pair->value_offset, pair->value_length));
    vx_utf16_to_utf8_lenient(text, sizeof text, item + pair->value_offset, pair->value_length);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct vx_locator_text pairs[] = {
        { "parent_linkage", "{01234567-89ab-4cde-8f01-23456789abcd}" },
        { "relative_path", ".\\p.vhdx" },
        { "parent_linkage2", "{00000000-0000-0000-0000-000000000000}" },
        { "absolute_win32_path", "\\\\?\\d:\\p.vhdx" },
        { "volume_path", "\\\\?\\Volume{26a21bda}\\p.vhdx" },
        { "other", "value" },
    };
    struct fuzz_input input = { data, size };
    struct vx_locator locator;
    struct vx_locator_pair pair;
    struct vx_findings findings;
    size_t pair_count = 1 + (size_t)fuzz_take(&input, 1) % 6;
    uint32_t length, i;
    uint8_t *item;

    if (!vx_locator_encode(encoded, sizeof encoded, &length, pairs, pair_count))
        return 0;
    if ((fuzz_take(&input, 1) & 3) == 0)
        length = (uint32_t)fuzz_take(&input, 2) % (length + 1);
    item = malloc(length > 0 ? length : 1); /* of just this size, so that reading past its end is noticed */
    if (item == NULL)
        return 0;
    memcpy(item, encoded, length);
    if (length > 0)
        fuzz_edit(&input, item, length, length < 92 ? length : 92);

    vx_locator_decode(&locator, item, length, 2 * VX_MIB, fuzz_findings(&findings));
    check_pair(item, length, &locator.relative_path);
    check_pair(item, length, &locator.volume_path);
    check_pair(item, length, &locator.absolute_win32_path);
    if (vx_findings_severity(&findings) < VHDX_SEVERITY_REFUSE)
        MUST(locator.has_linkage && locator.pair_count > 0);
    for (i = 0; i < locator.pair_count + 2; i++) {
        if (vx_locator_pair_at(&pair, item, length, i)) {
            MUST((uint64_t)pair.key_offset + pair.key_length <= length);
            MUST((uint64_t)pair.value_offset + pair.value_length <= length);
        }
    }
    free(item);
    return 0;
}
