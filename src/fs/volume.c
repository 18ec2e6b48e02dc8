/*
 * One volume: reading inside its bounds, finding its reader, walking its free ranges.
 *
 *   F1  A reader never sees a byte outside its volume, and a range outside it is never reported.
 *   F2  A volume with signs of two kinds is read by nobody: one of them is left over, and nobody can tell which.
 *   F3  Ranges come in ascending order and apart from each other, or the walk fails.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "base/memory.h"
#include "fs/fs.h"

int
vhdx_volume_read(const struct vhdx_volume *volume, void *buffer, size_t length, uint64_t offset,
                 struct vhdx_error *err)
{
    if (offset > volume->length || length > volume->length - offset) /* F1 */
        return vx_fail(err, VHDX_E_RANGE, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the %s at %" PRIu64 " of the disk points %zu bytes at %" PRIu64 " of its %" PRIu64, volume->kind,
                       volume->guest_offset, length, offset, volume->length);
    return vhdx_disk_read(volume->disk, buffer, length, volume->guest_offset + offset, err);
}

void
vhdx_volume_judge(struct vhdx_volume *volume, enum vhdx_verdict verdict, const char *reason, const char *cure)
{
    volume->verdict = verdict;
    snprintf(volume->reason, sizeof volume->reason, "%s", reason != NULL ? reason : "");
    snprintf(volume->cure, sizeof volume->cure, "%s", cure != NULL ? cure : "");
}

int
vx_bad_volume(struct vhdx_error *err, const char *format, ...)
{
    char text[sizeof err->message];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    return vx_fail(err, VHDX_E_BAD_VOLUME, VHDX_PART_NONE, VHDX_NO_OFFSET, "%s", text);
}

/* Ask one reader with a fresh verdict.  A volume too short for what a reader looks at is not the reader's. */
static int
ask(const struct vhdx_fs_reader *reader, const struct vhdx_volume *blank, struct vhdx_volume *answer,
    struct vhdx_error *err)
{
    int rc;

    *answer = *blank;
    rc = reader->probe(answer, err);
    if (rc == VHDX_E_RANGE) {
        vhdx_volume_judge(answer, VHDX_VERDICT_REFUSED, "its first tables point outside the volume",
                          "check the file system in the guest");
        return 1;
    }
    return rc;
}

static void
refuse_two_kinds(struct vhdx_volume *volume, const char *first, const char *second)
{
    char reason[sizeof volume->reason];

    snprintf(reason, sizeof reason, "it has signs of %s and of %s, and one of them is left over", first, second);
    snprintf(volume->kind, sizeof volume->kind, "unknown");
    volume->label[0] = '\0';
    vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, reason, "remove the stale signature in the guest with wipefs(8)");
}

int
vx_volume_probe(struct vhdx_volume *volume, const struct vhdx_fs_reader *const *readers, size_t reader_count,
                const struct vhdx_fs_reader **reader, struct vhdx_error *err)
{
    const struct vhdx_volume blank = *volume;
    struct vhdx_volume signatures = blank;
    unsigned found = 0, signature_count;
    int rc;

    *reader = NULL;
    for (size_t i = 0; i < reader_count; i++) {
        struct vhdx_volume answer;

        if (readers[i] == NULL)
            continue;
        rc = ask(readers[i], &blank, &answer, err);
        if (rc < 0)
            return rc;
        if (rc == 0)
            continue;
        if (found++ > 0) { /* F2 */
            refuse_two_kinds(volume, volume->kind, answer.kind);
            *reader = NULL;
            return VHDX_OK;
        }
        *volume = answer;
        *reader = readers[i];
    }
    rc = vx_signatures_probe(&signatures, *reader != NULL ? volume->kind : "", &signature_count, err);
    if (rc < 0)
        return rc;
    if (*reader == NULL)
        *volume = signatures;
    else if (signature_count > 0) /* F2 */
        refuse_two_kinds(volume, volume->kind, signatures.kind);
    if (volume->verdict != VHDX_VERDICT_READABLE)
        *reader = NULL;
    return VHDX_OK;
}

/* Between a reader and its caller: merges ranges that touch, stops what breaks F1 or F3. */
struct guard {
    const struct vhdx_volume *volume;
    vhdx_free_range           each;
    void                     *context;
    struct vhdx_error        *err;
    uint64_t                  start, end; /* seen and not yet reported; empty at first */
};

static int
report(struct guard *guard)
{
    if (guard->start == guard->end)
        return VHDX_OK;
    return guard->each(guard->context, guard->start, guard->end - guard->start);
}

static int
take_range(void *context, uint64_t guest_offset, uint64_t length)
{
    struct guard *guard = context;
    const struct vhdx_volume *volume = guard->volume;
    uint64_t volume_end = volume->guest_offset + volume->length;
    int rc;

    if (guest_offset < guard->end || guest_offset > volume_end || length > volume_end - guest_offset)
        return vx_bad_volume(guard->err, "the %s at %" PRIu64 " of the disk calls %" PRIu64 " bytes at %" PRIu64
                             " free, which is out of its bounds or order", volume->kind, volume->guest_offset, length,
                             guest_offset);
    if (length == 0)
        return VHDX_OK;
    if (guest_offset != guard->end) {
        rc = report(guard);
        if (rc != VHDX_OK)
            return rc;
        guard->start = guest_offset;
    }
    guard->end = guest_offset + length;
    return VHDX_OK;
}

int
vx_volume_walk(const struct vhdx_volume *volume, const struct vhdx_fs_reader *reader, vhdx_free_range each,
               void *context, struct vhdx_error *err)
{
    struct guard guard = { volume, each, context, err, volume->guest_offset, volume->guest_offset };
    int rc = reader->walk_free(volume, take_range, &guard, err);

    return rc != VHDX_OK ? rc : report(&guard);
}

int
vx_bits_init(struct vx_bits *bits, uint64_t count, struct vhdx_error *err)
{
    *bits = (struct vx_bits){ .count = count };
    if (count / 8 + 1 <= SIZE_MAX / 2)
        bits->bytes = vx_alloc_zeroed((size_t)(count / 8 + 1), 1);
    return bits->bytes != NULL ? VHDX_OK : vx_fail_memory(err, "the clusters of a file system");
}

void
vx_bits_free(struct vx_bits *bits)
{
    vx_free(bits->bytes);
    bits->bytes = NULL;
}

int
vx_bits_walk_clear(const struct vx_bits *bits, uint64_t guest_offset, uint64_t cluster_size, vhdx_free_range each,
                   void *context)
{
    for (uint64_t i = 0; i < bits->count;) {
        uint64_t start = i;
        int rc;

        while (i < bits->count && !vx_bit(bits, i))
            i++;
        if (i > start) {
            rc = each(context, guest_offset + start * cluster_size, (i - start) * cluster_size);
            if (rc != VHDX_OK)
                return rc;
        }
        while (i < bits->count && vx_bit(bits, i))
            i++;
    }
    return VHDX_OK;
}
