/*
 * GUIDs in Windows binary form: docs/vhdx-format.md 1.4.  The first three groups of the text are little-endian
 * numbers, the last eight bytes stand as they are.  They are compared as bytes; version and variant are not judged.
 */
#include <errno.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"

/* The place in the bytes of each pair of digits of the text; -1 is a hyphen. */
static const int8_t text_order[] = { 3, 2, 1, 0, -1, 5, 4, -1, 7, 6, -1, 8, 9, -1, 10, 11, 12, 13, 14, 15 };

#define TEXT_ORDER_COUNT (sizeof text_order / sizeof text_order[0])

void
vhdx_guid_format(char text[VHDX_GUID_TEXT_SIZE], const struct vhdx_guid *guid)
{
    static const char digits[] = "0123456789abcdef";
    char *p = text;

    for (size_t i = 0; i < TEXT_ORDER_COUNT; i++) {
        if (text_order[i] < 0) {
            *p++ = '-';
            continue;
        }
        *p++ = digits[guid->bytes[text_order[i]] >> 4];
        *p++ = digits[guid->bytes[text_order[i]] & 0xF];
    }
    *p = '\0';
}

/* The value of a hexadecimal digit, whatever the locale; -1 for anything else. */
static int
digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

bool
vhdx_guid_parse(struct vhdx_guid *out, const char *text)
{
    bool has_braces = text[0] == '{';
    const char *p = text + has_braces;
    struct vhdx_guid guid;

    for (size_t i = 0; i < TEXT_ORDER_COUNT; i++) {
        int high, low;

        if (text_order[i] < 0) {
            if (*p++ != '-')
                return false;
            continue;
        }
        high = digit_value(p[0]);
        low = high < 0 ? -1 : digit_value(p[1]); /* p[0] may be the end of the text */
        if (low < 0)
            return false;
        guid.bytes[text_order[i]] = (uint8_t)(high << 4 | low);
        p += 2;
    }
    if (has_braces && *p++ != '}')
        return false;
    if (*p != '\0')
        return false;

    *out = guid;
    return true;
}

bool
vhdx_guid_is_zero(const struct vhdx_guid *guid)
{
    return vx_is_zero(guid->bytes, sizeof guid->bytes);
}

bool
vhdx_guid_equal(const struct vhdx_guid *a, const struct vhdx_guid *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

#ifdef VHDX_TEST_HOOKS
#include <pthread.h>

static pthread_mutex_t seeded_lock = PTHREAD_MUTEX_INITIALIZER;
static uint64_t seeded_state; /* 0: the system's randomness */

void
vx_random_seed_for_tests(uint64_t seed)
{
    pthread_mutex_lock(&seeded_lock);
    seeded_state = seed;
    pthread_mutex_unlock(&seeded_lock);
}

/* A 64-bit linear congruential sequence, its upper bits folded down: repeatable, and random enough for a test. */
static bool
fill_seeded(uint8_t *p, size_t length)
{
    bool is_seeded;

    pthread_mutex_lock(&seeded_lock);
    is_seeded = seeded_state != 0;
    for (size_t i = 0; is_seeded && i < length; i++) {
        seeded_state = seeded_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        seeded_state += seeded_state == 0;
        p[i] = (uint8_t)(seeded_state >> 56 ^ seeded_state >> 40);
    }
    pthread_mutex_unlock(&seeded_lock);
    return is_seeded;
}
#else
static inline bool
fill_seeded(uint8_t *p, size_t length)
{
    (void)p;
    (void)length;
    return false;
}
#endif

int
vx_random_bytes(void *buffer, size_t length, struct vhdx_error *err)
{
    uint8_t *p = buffer;

    if (fill_seeded(p, length))
        return VHDX_OK;
    while (length > 0) {
        size_t part = length < 256 ? length : 256; /* the most that getentropy gives at a time */

        if (getentropy(p, part) < 0)
            return vx_fail_errno(err, errno, VHDX_PART_NONE, VHDX_NO_OFFSET, "the system gives no random bytes");
        p += part;
        length -= part;
    }
    return VHDX_OK;
}

int
vx_guid_random(struct vhdx_guid *out, struct vhdx_error *err)
{
    struct vhdx_guid guid;
    int rc = vx_random_bytes(guid.bytes, sizeof guid.bytes, err);

    if (rc < 0)
        return rc;
    guid.bytes[7] = (uint8_t)((guid.bytes[7] & 0x0F) | 0x40); /* version 4: random; so it is never all zero */
    guid.bytes[8] = (uint8_t)((guid.bytes[8] & 0x3F) | 0x80); /* variant of RFC 4122 */
    *out = guid;
    return VHDX_OK;
}
