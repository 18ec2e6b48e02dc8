/*
 * Parent locator: keys and values that say which file the parent is.  docs/vhdx-format.md 2.11, 8.7.
 *
 * Everything in it is a stranger's.  Strings may overlap, so 65535 pairs can name one long string 65535 times: what
 * is spent on keys we do not know is bounded by their number and by the item's own length.
 */
#include "format/locator.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/guid.h"
#include "base/utf16.h"
#include "format/metadata.h"
#include "format/sort.h"

#define HEADER_SIZE     20u
#define PAIR_SIZE       12u
#define MAX_STRING      65534u
#define EXAMINED_PAIRS  1024u /* with keys we do not know; Microsoft's code takes 256 pairs in all */
#define LINKAGE_LENGTH  76u   /* bytes of a braced GUID */

const struct vhdx_guid vx_guid_locator_vhdx = { /* B04AEFB7-D19E-4A81-B789-25B8E9445913 */
    { 0xb7, 0xef, 0x4a, 0xb0, 0x9e, 0xd1, 0x81, 0x4a, 0xb7, 0x89, 0x25, 0xb8, 0xe9, 0x44, 0x59, 0x13 }
};

enum known_key {
    LINKAGE,
    LINKAGE2,
    RELATIVE_PATH,
    VOLUME_PATH,
    ABSOLUTE_WIN32_PATH,
    KEY_COUNT,
    UNKNOWN = KEY_COUNT
};

static const char *const key_names[KEY_COUNT] = {
    "parent_linkage", "parent_linkage2", "relative_path", "volume_path", "absolute_win32_path",
};

/* What is known while the pairs are read. */
struct reading {
    const uint8_t         *item;
    uint32_t               length;
    uint64_t               at; /* file offset of the item, for messages */
    struct vx_findings    *findings;
    uint32_t               pair_count;
    uint32_t               strings_at; /* where the first string may begin */
    uint32_t               seen[KEY_COUNT];  /* how often each known key came */
    struct vx_locator_pair known[KEY_COUNT]; /* value_length 0: missing or unusable */
    uint64_t               bytes_left;       /* of unknown keys and values that will still be examined */
    uint32_t               examined;         /* pairs with unknown keys that were */
    uint32_t               passed_over;      /* and that were not */
    uint32_t               unknown_count;    /* good ones among the examined keys */
    uint16_t               unknown[EXAMINED_PAIRS]; /* their pairs, to be sorted */
};

static struct vx_locator_pair
load_pair(const uint8_t *item, uint32_t index)
{
    const uint8_t *p = item + HEADER_SIZE + (size_t)PAIR_SIZE * index;

    return (struct vx_locator_pair){
        .key_offset   = vx_le32(p),
        .value_offset = vx_le32(p + 4),
        .key_length   = vx_le16(p + 8),
        .value_length = vx_le16(p + 10),
    };
}

/* Where pair number `index` lies in the file. */
static uint64_t
pair_at(const struct reading *r, uint32_t index)
{
    return r->at + HEADER_SIZE + (uint64_t)PAIR_SIZE * index;
}

bool
vx_locator_pair_at(struct vx_locator_pair *out, const uint8_t *item, uint32_t length, uint32_t index)
{
    if (HEADER_SIZE + (uint64_t)PAIR_SIZE * ((uint64_t)index + 1) > length)
        return false;
    *out = load_pair(item, index);
    return index < vx_le16(item + 18) && (uint64_t)out->key_offset + out->key_length <= length &&
           (uint64_t)out->value_offset + out->value_length <= length;
}

/* Is UTF-16 this ASCII text? */
static bool
is_text(const uint8_t *utf16, uint32_t length, const char *ascii)
{
    size_t count = strlen(ascii), i;

    if (length != 2 * count)
        return false;
    for (i = 0; i < count; i++) {
        if (vx_le16(utf16 + 2 * i) != (unsigned char)ascii[i])
            return false;
    }
    return true;
}

/* Does UTF-16 begin with this ASCII text, whose letters are in lower case?  As Windows compares: any case. */
static bool
begins_with(const uint8_t *utf16, uint32_t length, const char *ascii)
{
    size_t count = strlen(ascii), i;

    if (length < 2 * count)
        return false;
    for (i = 0; i < count; i++) {
        uint16_t unit = vx_le16(utf16 + 2 * i);

        if (unit >= 'A' && unit <= 'Z')
            unit = (uint16_t)(unit + ('a' - 'A'));
        if (unit != (unsigned char)ascii[i])
            return false;
    }
    return true;
}

static bool
is_inside(const struct reading *r, uint32_t offset, uint32_t string_length)
{
    return string_length > 0 && offset >= r->strings_at && (uint64_t)offset + string_length <= r->length;
}

static enum known_key
find_key(const struct reading *r, const struct vx_locator_pair *pair)
{
    int key;

    for (key = 0; key < KEY_COUNT; key++) {
        if (is_text(r->item + pair->key_offset, pair->key_length, key_names[key]))
            return (enum known_key)key;
    }
    return UNKNOWN;
}

/* V114, V115 of one string; `what` and `index` name it.  Returns whether it can be used. */
static bool
judge_string(const struct reading *r, uint32_t index, const char *what, uint32_t offset, uint32_t length,
             enum vhdx_severity severity)
{
    if (!is_inside(r, offset, length)) {
        vx_find(r->findings, severity, 114, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, pair_at(r, index),
                "parent locator: %s of pair %" PRIu32 " at 0x%" PRIx32 " of %" PRIu32
                " bytes, expected within 0x%" PRIx32 " to 0x%" PRIx32 " and not empty", what, index, offset, length,
                r->strings_at, r->length);
        return false;
    }
    if (length % 2 != 0 || !vx_utf16_is_valid(r->item + offset, length)) {
        vx_find(r->findings, severity, 115, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, r->at + offset,
                "parent locator: %s of pair %" PRIu32 " of %" PRIu32
                " bytes is not well-formed UTF-16 without NUL", what, index, length);
        return false;
    }
    return true;
}

/* A pair whose key we know.  The first of its kind counts. */
static void
take_known_pair(struct reading *r, uint32_t index, const struct vx_locator_pair *pair, enum known_key key)
{
    r->seen[key]++;
    if (r->seen[key] == 2)
        vx_find(r->findings, VHDX_SEVERITY_REFUSE, 116, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, pair_at(r, index),
                "parent locator: pair %" PRIu32 " has the key %s again, expected it once", index, key_names[key]);
    if (r->seen[key] > 1)
        return;
    if (judge_string(r, index, key_names[key], pair->value_offset, pair->value_length, VHDX_SEVERITY_REFUSE))
        r->known[key] = *pair;
}

/* What looking at a string costs: nothing when it lies outside, which is told at once. */
static uint64_t
cost_of(const struct reading *r, uint32_t offset, uint32_t string_length)
{
    return is_inside(r, offset, string_length) ? string_length : 0;
}

/* A pair we only keep for others. */
static void
examine_unknown_pair(struct reading *r, uint32_t index, const struct vx_locator_pair *pair)
{
    uint64_t length = cost_of(r, pair->key_offset, pair->key_length) +
                      cost_of(r, pair->value_offset, pair->value_length);

    if (r->examined == EXAMINED_PAIRS || length > r->bytes_left) {
        r->passed_over++;
        return;
    }
    r->examined++;
    r->bytes_left -= length;
    if (judge_string(r, index, "key", pair->key_offset, pair->key_length, VHDX_SEVERITY_WARN))
        r->unknown[r->unknown_count++] = (uint16_t)index;
    judge_string(r, index, "value", pair->value_offset, pair->value_length, VHDX_SEVERITY_WARN);
}

static void
read_pairs(struct reading *r)
{
    uint32_t i;

    for (i = 0; i < r->pair_count; i++) {
        struct vx_locator_pair pair = load_pair(r->item, i);
        enum known_key key = UNKNOWN;

        if (is_inside(r, pair.key_offset, pair.key_length))
            key = find_key(r, &pair);
        if (key == UNKNOWN)
            examine_unknown_pair(r, i, &pair);
        else
            take_known_pair(r, i, &pair, key);
    }
    if (r->passed_over > 0)
        vx_find(r->findings, VHDX_SEVERITY_WARN, 115, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, r->at,
                "parent locator: %" PRIu32 " pairs with unknown keys were not examined, there are too many or "
                "their strings overlap", r->passed_over);
}

static int
compare_keys(const struct reading *r, size_t a, size_t b)
{
    struct vx_locator_pair pair_a = load_pair(r->item, r->unknown[a]), pair_b = load_pair(r->item, r->unknown[b]);

    if (pair_a.key_length != pair_b.key_length)
        return pair_a.key_length < pair_b.key_length ? -1 : 1;
    return memcmp(r->item + pair_a.key_offset, r->item + pair_b.key_offset, pair_a.key_length);
}

static bool
key_is_less(const void *context, size_t a, size_t b)
{
    const struct reading *r = context;
    int difference = compare_keys(r, a, b);

    return difference != 0 ? difference < 0 : r->unknown[a] < r->unknown[b];
}

static void
swap_unknown(void *context, size_t a, size_t b)
{
    struct reading *r = context;
    uint16_t kept = r->unknown[a];

    r->unknown[a] = r->unknown[b];
    r->unknown[b] = kept;
}

/* V116 of unknown keys. */
static void
judge_unknown_unique(struct reading *r)
{
    static const struct vx_sort_order by_key = { key_is_less, swap_unknown };
    size_t i;

    vx_sort(r, r->unknown_count, &by_key);
    for (i = 1; i < r->unknown_count; i++) {
        if (compare_keys(r, i - 1, i) == 0)
            vx_find(r->findings, VHDX_SEVERITY_WARN, 116, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR,
                    pair_at(r, r->unknown[i]),
                    "parent locator: pair %u has the key of pair %u, expected different ones", r->unknown[i],
                    r->unknown[i - 1]);
    }
}

/* A braced GUID, any case. */
static bool
parse_linkage(struct vhdx_guid *out, const uint8_t *value, uint32_t length)
{
    char text[LINKAGE_LENGTH / 2 + 1];

    return length == LINKAGE_LENGTH && vx_utf16_to_utf8(text, sizeof text, value, length) && text[0] == '{' &&
           vhdx_guid_parse(out, text);
}

/* V117, V118. */
static void
take_linkages(struct vx_locator *out, const struct reading *r)
{
    const struct vx_locator_pair *linkage = &r->known[LINKAGE], *linkage2 = &r->known[LINKAGE2];

    if (linkage->value_length > 0)
        out->has_linkage = parse_linkage(&out->linkage, r->item + linkage->value_offset, linkage->value_length);
    if (linkage2->value_length > 0)
        out->has_linkage2 = parse_linkage(&out->linkage2, r->item + linkage2->value_offset, linkage2->value_length);
    if (r->seen[LINKAGE] == 0)
        vx_find(r->findings, VHDX_SEVERITY_REFUSE, 117, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, r->at,
                "parent locator: no parent_linkage, expected one");
    else if (linkage->value_length > 0 && !out->has_linkage)
        vx_find(r->findings, VHDX_SEVERITY_REFUSE, 117, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR,
                r->at + linkage->value_offset, "parent locator: parent_linkage is not a GUID in braces");
    if (linkage2->value_length > 0 && !out->has_linkage2)
        vx_find(r->findings, VHDX_SEVERITY_WARN, 118, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR,
                r->at + linkage2->value_offset, "parent locator: parent_linkage2 is not a GUID in braces");
}

/* V120, V121: a path that lacks the beginning it should have. */
static void
judge_path(const struct reading *r, enum known_key key, int rule, const char *beginning)
{
    const struct vx_locator_pair *pair = &r->known[key];

    if (pair->value_length > 0 && !begins_with(r->item + pair->value_offset, pair->value_length, beginning))
        vx_find(r->findings, VHDX_SEVERITY_WARN, rule, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR,
                r->at + pair->value_offset, "parent locator: %s, expected to begin with %s", key_names[key],
                beginning);
}

static void
take_paths(struct vx_locator *out, const struct reading *r)
{
    out->relative_path = r->known[RELATIVE_PATH];
    out->volume_path = r->known[VOLUME_PATH];
    out->absolute_win32_path = r->known[ABSOLUTE_WIN32_PATH];
    if (r->seen[RELATIVE_PATH] == 0 && r->seen[VOLUME_PATH] == 0 && r->seen[ABSOLUTE_WIN32_PATH] == 0)
        vx_find(r->findings, VHDX_SEVERITY_WARN, 119, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, r->at,
                "parent locator: no path of the parent, expected relative_path, volume_path or "
                "absolute_win32_path");
    judge_path(r, ABSOLUTE_WIN32_PATH, 120, "\\\\?\\");
    judge_path(r, VOLUME_PATH, 121, "\\\\?\\volume{");
}

/* V110 to V113.  False: there is nothing to read on. */
static bool
judge_header(const uint8_t *item, uint32_t length, uint64_t at, struct vx_findings *findings)
{
    struct vhdx_guid type;
    char text[VHDX_GUID_TEXT_SIZE];

    if (length < HEADER_SIZE) {
        vx_find(findings, VHDX_SEVERITY_REFUSE, 110, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, at,
                "parent locator: %" PRIu32 " bytes, expected at least 20", length);
        return false;
    }
    type = vx_guid_load(item);
    if (!vhdx_guid_equal(&type, &vx_guid_locator_vhdx)) {
        vhdx_guid_format(text, &type);
        vx_find(findings, VHDX_SEVERITY_REFUSE, 111, VHDX_E_UNSUPPORTED, VHDX_PART_LOCATOR, at,
                "parent locator: LocatorType %s, expected that of a VHDX parent", text);
        return false;
    }
    if (vx_le16(item + 16) != 0)
        vx_find(findings, VHDX_SEVERITY_WARN, 112, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, at + 16,
                "parent locator: Reserved is 0x%04x, expected 0", vx_le16(item + 16));
    if (vx_le16(item + 18) == 0 || HEADER_SIZE + PAIR_SIZE * (uint32_t)vx_le16(item + 18) > length) {
        vx_find(findings, VHDX_SEVERITY_REFUSE, 113, VHDX_E_BAD_LOCATOR, VHDX_PART_LOCATOR, at + 18,
                "parent locator: KeyValueCount %u, expected 1 or more within %" PRIu32 " bytes", vx_le16(item + 18),
                length);
        return false;
    }
    return true;
}

void
vx_locator_decode(struct vx_locator *out, const uint8_t *item, uint32_t length, uint64_t at,
                  struct vx_findings *findings)
{
    struct reading r;

    memset(out, 0, sizeof *out);
    if (!judge_header(item, length, at, findings))
        return;

    memset(&r, 0, sizeof r);
    r.item = item;
    r.length = length;
    r.at = at;
    r.findings = findings;
    r.pair_count = vx_le16(item + 18);
    r.strings_at = HEADER_SIZE + PAIR_SIZE * r.pair_count;
    r.bytes_left = length;
    read_pairs(&r);
    judge_unknown_unique(&r);

    out->pair_count = r.pair_count;
    take_linkages(out, &r);
    take_paths(out, &r);
}

/* One string to the end of the item. */
static bool
append_string(uint8_t *out, size_t out_size, uint32_t *length, const char *text, uint8_t *offset_field,
              uint8_t *length_field)
{
    size_t string_length, room = out_size - *length;

    if (!vx_utf8_to_utf16(out + *length, room < MAX_STRING ? room : MAX_STRING, &string_length, text) ||
        string_length == 0)
        return false;
    vx_put_le32(offset_field, *length);
    vx_put_le16(length_field, (uint16_t)string_length);
    *length += (uint32_t)string_length;
    return true;
}

bool
vx_locator_encode(uint8_t *out, size_t out_size, uint32_t *length, const struct vx_locator_text *pairs,
                  size_t pair_count)
{
    size_t limit = out_size < VX_MAX_ITEM_LENGTH ? out_size : VX_MAX_ITEM_LENGTH, i;

    if (pair_count == 0 || pair_count > UINT16_MAX || HEADER_SIZE + PAIR_SIZE * pair_count > limit)
        return false;
    *length = (uint32_t)(HEADER_SIZE + PAIR_SIZE * pair_count);
    memset(out, 0, *length);
    vx_guid_store(out, &vx_guid_locator_vhdx);
    vx_put_le16(out + 18, (uint16_t)pair_count);
    for (i = 0; i < pair_count; i++) {
        uint8_t *pair = out + HEADER_SIZE + PAIR_SIZE * i;

        if (!append_string(out, limit, length, pairs[i].key, pair, pair + 8) ||
            !append_string(out, limit, length, pairs[i].value, pair + 4, pair + 10))
            return false;
    }
    return true;
}
