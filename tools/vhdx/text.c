/*
 * Text that comes from files and command lines.
 *
 * A file name or a string in an image can hold an escape sequence that rewrites the terminal's title or hides a
 * line, or a character that turns the order of the following ones round.  Everything printed by the command passes
 * here.
 */
#include "text.h"

/* Length of the character that begins with `lead`, its payload bits, the smallest value that needs that length. */
static size_t
start_character(unsigned char lead, uint32_t *bits, uint32_t *smallest)
{
    if (lead < 0x80) {
        *bits = lead;
        *smallest = 0;
        return 1;
    }
    if (lead >= 0xc0 && lead < 0xe0) {
        *bits = lead & 0x1fu;
        *smallest = 0x80;
        return 2;
    }
    if (lead >= 0xe0 && lead < 0xf0) {
        *bits = lead & 0x0fu;
        *smallest = 0x800;
        return 3;
    }
    if (lead >= 0xf0 && lead < 0xf8) {
        *bits = lead & 0x07u;
        *smallest = 0x10000;
        return 4;
    }
    return 0;
}

size_t
text_next(const char *text, uint32_t *character)
{
    uint32_t bits = 0, smallest = 0;
    size_t length = start_character((unsigned char)text[0], &bits, &smallest);

    *character = TEXT_INVALID;
    if (length == 0)
        return 1;
    for (size_t i = 1; i < length; i++) {
        unsigned char next = (unsigned char)text[i]; /* the NUL is no continuation: nothing is read past it */

        if ((next & 0xc0) != 0x80)
            return 1;
        bits = bits << 6 | (next & 0x3fu);
    }
    if (bits < smallest || bits > 0x10ffff || (bits >= 0xd800 && bits < 0xe000))
        return 1;
    *character = bits;
    return length;
}

bool
text_is_plain(uint32_t character)
{
    static const struct {
        uint32_t first, last;
    } unsafe[] = {
        { 0x0000, 0x001f },       /* C0 controls, among them ESC and newline */
        { 0x007f, 0x009f },       /* DEL and C1 controls, among them CSI */
        { 0x00ad, 0x00ad },       /* soft hyphen */
        { 0x061c, 0x061c },       /* Arabic letter mark */
        { 0x200b, 0x200f },       /* zero width characters, direction marks */
        { 0x2028, 0x202e },       /* line and paragraph separator, direction overrides */
        { 0x2060, 0x206f },       /* invisible operators, direction isolates */
        { 0xfeff, 0xfeff },       /* byte order mark */
        { 0xfff9, 0xfffb },       /* interlinear annotation */
        { 0xe0000, 0xe007f },     /* tags */
        { 0x110000, UINT32_MAX }, /* invalid */
    };

    for (size_t i = 0; i < sizeof(unsafe) / sizeof(unsafe[0]); i++) {
        if (character >= unsafe[i].first && character <= unsafe[i].last)
            return false;
    }
    return true;
}

void
text_print(FILE *stream, const char *text)
{
    while (*text != '\0') {
        uint32_t character;
        size_t length = text_next(text, &character);

        if (text_is_plain(character))
            fwrite(text, 1, length, stream);
        else if (length == 1)
            fprintf(stream, "\\x%02x", (unsigned)(unsigned char)text[0]);
        else
            fprintf(stream, "\\u{%x}", (unsigned)character);
        text += length;
    }
}
