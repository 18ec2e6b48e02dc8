/*
 * A parent locator made from another one: some keys get new values, some go, all others stay as they are, in their order
 * (docs/vhdx-format.md 2.11: unknown keys are preserved, also those whose text nobody could read).
 */
#include <string.h>

#include "base/bytes.h"
#include "base/utf16.h"
#include "format/locator.h"
#include "format/metadata.h"

#define HEADER_SIZE 20u
#define PAIR_SIZE   12u
#define MAX_KEY     64u /* bytes in UTF-16; every key we change is shorter */
#define MAX_STRING  65534u

/* An item as it grows: pairs first, strings behind them. */
struct writing {
    uint8_t *out;
    size_t   limit;
    uint32_t length;
    uint32_t pair_count;
};

struct text {
    const uint8_t *bytes;
    size_t         length;
};

/* The change that is about this key, or NULL. */
static const struct vx_locator_text *
find_change(const uint8_t *key, uint32_t key_length, const struct vx_locator_text *changes, size_t change_count)
{
    uint8_t wanted[MAX_KEY];
    size_t  length;

    for (size_t i = 0; i < change_count; i++) {
        if (vx_utf8_to_utf16(wanted, sizeof wanted, &length, changes[i].key) && length == key_length &&
            memcmp(key, wanted, length) == 0)
            return &changes[i];
    }
    return NULL;
}

static bool
put_string(struct writing *w, const struct text *text, uint8_t *offset_field, uint8_t *length_field)
{
    if (text->length == 0 || text->length > MAX_STRING || text->length > w->limit - w->length)
        return false;
    memcpy(w->out + w->length, text->bytes, text->length);
    vx_put_le32(offset_field, w->length);
    vx_put_le16(length_field, (uint16_t)text->length);
    w->length += (uint32_t)text->length;
    return true;
}

static bool
put_pair(struct writing *w, const struct text *key, const struct text *value)
{
    uint8_t *pair = w->out + HEADER_SIZE + (size_t)PAIR_SIZE * w->pair_count;

    w->pair_count++;
    return put_string(w, key, pair, pair + 8) && put_string(w, value, pair + 4, pair + 10);
}

/* A pair with a value of ours: it is encoded where the string will lie. */
static bool
put_change(struct writing *w, const struct vx_locator_text *change)
{
    uint8_t *pair = w->out + HEADER_SIZE + (size_t)PAIR_SIZE * w->pair_count;
    uint8_t  key_bytes[MAX_KEY];
    struct text key = { .bytes = key_bytes };
    size_t   room, length;

    w->pair_count++;
    if (!vx_utf8_to_utf16(key_bytes, sizeof key_bytes, &key.length, change->key) ||
        !put_string(w, &key, pair, pair + 8))
        return false;
    room = w->limit - w->length;
    if (!vx_utf8_to_utf16(w->out + w->length, room < MAX_STRING ? room : MAX_STRING, &length, change->value) ||
        length == 0)
        return false;
    vx_put_le32(pair + 4, w->length);
    vx_put_le16(pair + 10, (uint16_t)length);
    w->length += (uint32_t)length;
    return true;
}

/* The old pairs that stay, in their order.  A string that lies outside of the item cannot be kept.  With `w` NULL they are
 * only counted. */
static bool
put_old_pairs(struct writing *w, const uint8_t *old, uint32_t old_length, const struct vx_locator_text *changes,
              size_t change_count, uint32_t *count)
{
    *count = 0;
    for (uint32_t i = 0; i < vx_le16(old + 18); i++) {
        const struct vx_locator_text *change;
        struct vx_locator_pair        pair;
        struct text                   key, value;

        if (!vx_locator_pair_at(&pair, old, old_length, i) || pair.key_length == 0 || pair.value_length == 0)
            continue;
        key = (struct text){ .bytes = old + pair.key_offset, .length = pair.key_length };
        value = (struct text){ .bytes = old + pair.value_offset, .length = pair.value_length };
        change = find_change(key.bytes, pair.key_length, changes, change_count);
        if (change != NULL && change->value == NULL)
            continue;
        ++*count;
        if (w != NULL && !(change != NULL ? put_change(w, change) : put_pair(w, &key, &value)))
            return false;
    }
    return true;
}

static bool
has_key(const uint8_t *old, uint32_t old_length, const struct vx_locator_text *change)
{
    for (uint32_t i = 0; i < vx_le16(old + 18); i++) {
        struct vx_locator_pair pair;

        if (vx_locator_pair_at(&pair, old, old_length, i) && pair.key_length > 0 && pair.value_length > 0 &&
            find_change(old + pair.key_offset, pair.key_length, change, 1) != NULL)
            return true;
    }
    return false;
}

bool
vx_locator_rewrite(uint8_t *out, size_t out_size, uint32_t *length, const uint8_t *old, uint32_t old_length,
                   const struct vx_locator_text *changes, size_t change_count)
{
    struct writing w = { .out = out, .limit = out_size < VX_MAX_ITEM_LENGTH ? out_size : VX_MAX_ITEM_LENGTH };
    uint32_t       old_count, total;

    if (old_length < HEADER_SIZE)
        return false;
    put_old_pairs(NULL, old, old_length, changes, change_count, &total);
    for (size_t i = 0; i < change_count; i++)
        total += changes[i].value != NULL && !has_key(old, old_length, &changes[i]);
    if (total == 0 || total > UINT16_MAX || HEADER_SIZE + (size_t)PAIR_SIZE * total > w.limit)
        return false;

    w.length = HEADER_SIZE + PAIR_SIZE * total;
    memset(out, 0, w.length);
    memcpy(out, old, 16); /* LocatorType */
    vx_put_le16(out + 18, (uint16_t)total);
    if (!put_old_pairs(&w, old, old_length, changes, change_count, &old_count))
        return false;
    for (size_t i = 0; i < change_count; i++) {
        if (changes[i].value != NULL && !has_key(old, old_length, &changes[i]) && !put_change(&w, &changes[i]))
            return false;
    }
    *length = w.length;
    return true;
}
