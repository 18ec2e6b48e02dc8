/* Parent locator (docs/vhdx-format.md 2.11; V110..V121). */
#ifndef VX_LOCATOR_H
#define VX_LOCATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/guid.h>

#include "format/findings.h"

extern const struct vhdx_guid vx_guid_locator_vhdx;

/* One key and its value: byte ranges inside the item. */
struct vx_locator_pair {
    uint32_t key_offset, value_offset;
    uint16_t key_length, value_length; /* bytes */
};

struct vx_locator {
    uint32_t         pair_count;
    struct vhdx_guid linkage, linkage2;
    bool             has_linkage, has_linkage2;
    /* Known path keys, ranges in the item; length 0 when missing or unusable. */
    struct vx_locator_pair relative_path, volume_path, absolute_win32_path;
};

/* V110 to V121.  Fills *out as far as it could; severity in findings says whether it may be used.  n log n at
 * most. */
void vx_locator_decode(struct vx_locator *out, const uint8_t *item, uint32_t length, uint64_t at,
                       struct vx_findings *findings);

/* Pair number `index` of an item whose header was judged good.  False when it lies outside. */
bool vx_locator_pair_at(struct vx_locator_pair *out, const uint8_t *item, uint32_t length, uint32_t index);

/* Encode keys and values (UTF-8) as an item, in the given order, packed.  False when out_size is too small, a
 * string is empty or malformed or over 65534 bytes in UTF-16. */
struct vx_locator_text {
    const char *key, *value;
};
bool vx_locator_encode(uint8_t *out, size_t out_size, uint32_t *length, const struct vx_locator_text *pairs,
                       size_t pair_count);

/* Encode a good item again with changes: a value of NULL removes the key, a key that is not there is added at the end, pairs
 * that no change names stay byte for byte.  Keys to change are ASCII of 31 characters at most.  False when out_size or
 * the format's limits are too small for the result, or a value is empty or malformed. */
bool vx_locator_rewrite(uint8_t *out, size_t out_size, uint32_t *length, const uint8_t *old, uint32_t old_length,
                        const struct vx_locator_text *changes, size_t change_count);

#endif
