/* Looking for zeros: every block that is converted or zeroed passes through here. */
#include <string.h>

#include "base/bytes.h"

/*
 * Eight words at a time, so that a compiler makes a few vector instructions of it, with a way out after each: data
 * that is not zero is mostly told by its first bytes.
 */
bool
vx_is_zero(const void *buffer, size_t length)
{
    const uint8_t *p = buffer;
    uint64_t words[8];
    uint8_t rest = 0;

    while (length >= sizeof words) {
        memcpy(words, p, sizeof words);
        if ((words[0] | words[1] | words[2] | words[3] | words[4] | words[5] | words[6] | words[7]) != 0)
            return false;
        p += sizeof words;
        length -= sizeof words;
    }
    while (length > 0) {
        rest |= *p++;
        length--;
    }
    return rest == 0;
}
