/*
 * UTF-16LE, UTF-8, and text made safe for a terminal.  docs/vhdx-format.md 1.3.
 *
 * Two readers take one character each from the front of a text and say how many bytes it had; a malformed piece is
 * MALFORMED and its length is what a lenient caller should step over.  Everything else is a loop over one of them.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/utf16.h"

#define MALFORMED   UINT32_MAX
#define REPLACEMENT 0xFFFDu

static bool
is_high_surrogate(uint32_t unit)
{
    return unit >= 0xD800 && unit <= 0xDBFF;
}

static bool
is_low_surrogate(uint32_t unit)
{
    return unit >= 0xDC00 && unit <= 0xDFFF;
}

/* length > 0.  An unpaired surrogate is malformed alone: what follows it is read on its own. */
static uint32_t
next_utf16(const uint8_t *p, size_t length, size_t *used)
{
    uint32_t unit, second;

    if (length < 2) {
        *used = length;
        return MALFORMED;
    }
    *used = 2;
    unit = vx_le16(p);
    if (!is_high_surrogate(unit))
        return is_low_surrogate(unit) ? MALFORMED : unit;
    if (length < 4)
        return MALFORMED;
    second = vx_le16(p + 2);
    if (!is_low_surrogate(second))
        return MALFORMED;
    *used = 4;
    return 0x10000 + ((unit - 0xD800) << 10) + (second - 0xDC00);
}

/* The bits of a first byte, and how many bytes follow it: -1 for one that starts no character. */
static int
first_byte(uint8_t byte, uint32_t *bits)
{
    if (byte < 0x80) {
        *bits = byte;
        return 0;
    }
    if (byte >= 0xC2 && byte <= 0xDF) { /* C0 and C1 would be overlong */
        *bits = byte & 0x1Fu;
        return 1;
    }
    if (byte >= 0xE0 && byte <= 0xEF) {
        *bits = byte & 0x0Fu;
        return 2;
    }
    if (byte >= 0xF0 && byte <= 0xF4) {
        *bits = byte & 0x07u;
        return 3;
    }
    return -1;
}

/* `text` ends with a NUL, which stops the search for continuation bytes like any other byte that is none. */
static uint32_t
next_utf8(const char *text, size_t *used)
{
    static const uint32_t least[4] = { 0, 0x80, 0x800, 0x10000 };
    const uint8_t *p = (const uint8_t *)text;
    uint32_t point;
    int more = first_byte(p[0], &point);

    *used = 1;
    if (more < 0)
        return MALFORMED;
    for (int i = 1; i <= more; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return MALFORMED;
        point = point << 6 | (p[i] & 0x3Fu);
    }
    if (point < least[more] || point > 0x10FFFF || (point >= 0xD800 && point <= 0xDFFF))
        return MALFORMED;
    *used = (size_t)more + 1;
    return point;
}

/* Returns the number of bytes, 1 to 4. */
static size_t
put_utf8(char out[4], uint32_t point)
{
    if (point < 0x80) {
        out[0] = (char)point;
        return 1;
    }
    if (point < 0x800) {
        out[0] = (char)(0xC0 | point >> 6);
        out[1] = (char)(0x80 | (point & 0x3F));
        return 2;
    }
    if (point < 0x10000) {
        out[0] = (char)(0xE0 | point >> 12);
        out[1] = (char)(0x80 | (point >> 6 & 0x3F));
        out[2] = (char)(0x80 | (point & 0x3F));
        return 3;
    }
    out[0] = (char)(0xF0 | point >> 18);
    out[1] = (char)(0x80 | (point >> 12 & 0x3F));
    out[2] = (char)(0x80 | (point >> 6 & 0x3F));
    out[3] = (char)(0x80 | (point & 0x3F));
    return 4;
}

/* Append a piece and keep the NUL.  False, and nothing changed, when it does not fit. */
static bool
append(char *out, size_t out_size, size_t *at, const char *piece, size_t length)
{
    if (out_size == 0 || length > out_size - 1 - *at)
        return false;
    memcpy(out + *at, piece, length);
    *at += length;
    out[*at] = '\0';
    return true;
}

bool
vx_utf16_to_utf8(char *out, size_t out_size, const uint8_t *utf16, size_t length)
{
    size_t at = 0, used;

    if (out_size == 0)
        return false;
    out[0] = '\0';
    for (; length > 0; utf16 += used, length -= used) {
        uint32_t point = next_utf16(utf16, length, &used);
        char piece[4];

        if (point == MALFORMED || point == 0 || !append(out, out_size, &at, piece, put_utf8(piece, point))) {
            out[0] = '\0';
            return false;
        }
    }
    return true;
}

void
vx_utf16_to_utf8_lenient(char *out, size_t out_size, const uint8_t *utf16, size_t length)
{
    size_t at = 0, used;

    if (out_size == 0)
        return;
    out[0] = '\0';
    for (; length > 0; utf16 += used, length -= used) {
        uint32_t point = next_utf16(utf16, length, &used);
        char piece[4];

        if (point == 0)
            return;
        if (!append(out, out_size, &at, piece, put_utf8(piece, point == MALFORMED ? REPLACEMENT : point)))
            return;
    }
}

bool
vx_utf16_is_valid(const uint8_t *utf16, size_t length)
{
    size_t used;

    for (; length > 0; utf16 += used, length -= used) {
        uint32_t point = next_utf16(utf16, length, &used);

        if (point == MALFORMED || point == 0)
            return false;
    }
    return true;
}

bool
vx_utf8_to_utf16(uint8_t *out, size_t out_size, size_t *length, const char *utf8)
{
    size_t at = 0, used;

    for (; *utf8 != '\0'; utf8 += used) {
        uint32_t point = next_utf8(utf8, &used);

        if (point == MALFORMED || out_size - at < (point < 0x10000 ? 2u : 4u))
            return false;
        if (point < 0x10000) {
            vx_put_le16(out + at, (uint16_t)point);
            at += 2;
        } else {
            vx_put_le16(out + at, (uint16_t)(0xD800 + ((point - 0x10000) >> 10)));
            vx_put_le16(out + at + 2, (uint16_t)(0xDC00 + ((point - 0x10000) & 0x3FF)));
            at += 4;
        }
    }
    *length = at;
    return true;
}

/* Characters that steer a terminal, turn the direction of writing round, or end a line. */
static bool
needs_escape(uint32_t point)
{
    if (point < 0x20 || (point >= 0x7F && point <= 0x9F))
        return true;
    if (point == 0x061C || point == 0x200E || point == 0x200F)
        return true;
    return (point >= 0x2028 && point <= 0x202E) || (point >= 0x2066 && point <= 0x2069);
}

void
vx_escape_text(char *out, size_t out_size, const char *text)
{
    size_t at = 0, used;

    if (out_size == 0)
        return;
    out[0] = '\0';
    for (; *text != '\0'; text += used) {
        uint32_t point = next_utf8(text, &used);
        char escape[16];
        int length;

        if (point != MALFORMED && !needs_escape(point)) {
            if (!append(out, out_size, &at, text, used))
                return;
            continue;
        }
        if (point == MALFORMED || point < 0x80)
            length = snprintf(escape, sizeof escape, "\\x%02x", (unsigned)(uint8_t)*text);
        else
            length = snprintf(escape, sizeof escape, "\\u{%04x}", (unsigned)point);
        if (!append(out, out_size, &at, escape, (size_t)length))
            return;
    }
}
