/* Tests of the repair share: what is broken, what is read, and whether two files are equal. */
#ifndef VX_REPAIR_FIXTURE_H
#define VX_REPAIR_FIXTURE_H

#include "ops/damage_fixture.h"

#define RULES 160

/* --- looking --- */

struct broken {
    enum vhdx_severity worst[RULES];
};

static void
note(void *context, const struct vhdx_error *finding)
{
    struct broken *broken = context;

    if (finding->severity > broken->worst[finding->rule])
        broken->worst[finding->rule] = finding->severity;
}

static struct broken
look(struct vhdx_storage *storage)
{
    struct broken broken = { .worst = { 0 } };
    struct vhdx_check_summary summary;

    (void)vhdx_check_storage(storage, NULL, note, &broken, NULL, &summary, NULL);
    return broken;
}

/* How the image opens: REFUSE not at all, RO for reading, anything less for writing; BLOCK as RO. */
static enum vhdx_severity
worst_of(const struct broken *broken)
{
    enum vhdx_severity worst = VHDX_SEVERITY_NONE;

    for (int rule = 0; rule < RULES; rule++) {
        if (broken->worst[rule] > worst)
            worst = broken->worst[rule];
    }
    return worst;
}

/* --- copies --- */

static struct vhdx_storage *
copy_of(struct vhdx_storage *storage)
{
    struct vhdx_storage *copy;
    uint64_t size, start = 0, end;
    uint8_t *buffer = vx_alloc(1 << 20);

    assert_int_equal(vx_storage_get_size(storage, &size, NULL), VHDX_OK);
    assert_int_equal(vhdx_storage_new_memory(&copy, size, NULL), VHDX_OK);
    while (vx_storage_next_data(storage, start, &start, &end, NULL) == VHDX_OK && start < end) {
        size_t n = (size_t)vx_min_u64(end - start, 1 << 20);

        assert_int_equal(vx_storage_read(storage, buffer, n, start, NULL), VHDX_OK);
        assert_int_equal(vx_storage_write(copy, buffer, n, start, NULL), VHDX_OK);
        start += n;
    }
    vx_free(buffer);
    return copy;
}

/* --- contents --- */

static struct vhdx_disk *
open_disk(struct vhdx_storage *storage)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    struct vhdx_storage *copy = copy_of(storage); /* a disk owns what it is opened over */
    struct vhdx_disk *disk;

    if (vhdx_disk_open_storage(&disk, copy, &options, NULL) == VHDX_OK)
        return disk;
    vhdx_storage_close(copy);
    return NULL;
}

/* Pieces that `good` can read and that `storage` reads differently; those that it cannot read are counted by themselves. */
static void
compare(struct vhdx_storage *good, struct vhdx_storage *storage, uint64_t *differ, uint64_t *unreadable)
{
    struct vhdx_disk *a = open_disk(good), *b = open_disk(storage);
    static uint8_t one[1 << 16], other[1 << 16];

    *differ = *unreadable = 0;
    assert_non_null(a);
    for (uint64_t at = 0; b != NULL && at < vhdx_disk_size(a) && at < vhdx_disk_size(b) && at < M(32); at += sizeof one) {
        if (vhdx_disk_read(a, one, sizeof one, at, NULL) < 0)
            continue;
        if (vhdx_disk_read(b, other, sizeof other, at, NULL) < 0)
            (*unreadable)++;
        else
            *differ += memcmp(one, other, sizeof one) != 0;
    }
    if (b == NULL)
        *unreadable = UINT64_MAX;
    vhdx_disk_close(a, NULL);
    vhdx_disk_close(b, NULL);
}

static bool
are_equal(struct vhdx_storage *a, struct vhdx_storage *b)
{
    uint64_t size, other_size, start[2] = { 0, 0 }, at = 0;
    uint8_t *one = vx_alloc(1 << 20), *other = vx_alloc(1 << 20);
    bool is_equal;

    vx_storage_get_size(a, &size, NULL);
    vx_storage_get_size(b, &other_size, NULL);
    is_equal = size == other_size;
    while (is_equal && at < size) {
        uint64_t end;
        size_t n;

        vx_storage_next_data(a, at, &start[0], &end, NULL);
        vx_storage_next_data(b, at, &start[1], &end, NULL);
        at = vx_min_u64(start[0], start[1]);
        n = (size_t)vx_min_u64(1 << 16, size - at);
        if (n == 0)
            break;
        is_equal = vx_storage_read(a, one, n, at, NULL) == VHDX_OK && vx_storage_read(b, other, n, at, NULL) == VHDX_OK &&
                   memcmp(one, other, n) == 0;
        at += n;
    }
    vx_free(one);
    vx_free(other);
    return is_equal;
}

#endif
