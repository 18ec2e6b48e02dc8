/*
 * Dirty logs: what a read-only open shows is what a writable one leaves behind, also when it was stopped on the way.
 */
#include "disk.h"
#include "image.h"

#include "storage/storage.h"

const unsigned fuzz_image_count = 1;

static uint8_t viewed[FUZZ_WINDOWS * FUZZ_WINDOW], replayed[FUZZ_WINDOWS * FUZZ_WINDOW];

struct sight {
    struct fuzz_view view;
    struct vhdx_info info;
    int              read;
};

/* Open, look, close.  False when it does not open. */
static bool
see(struct fuzz_guard *guard, bool is_writable, struct fuzz_input input, struct sight *sight, uint8_t *bytes)
{
    struct vhdx_disk *disk;
    int rc = fuzz_open_disk(&disk, &guard->storage, 1, is_writable ? VHDX_OPEN_WRITE : 0, NULL);

    if (rc < 0)
        return false;
    MUST(vhdx_disk_get_info(disk, 0, &sight->info, NULL) == VHDX_OK);
    fuzz_view_init(&sight->view, &input, sight->info.virtual_size, sight->info.block_size);
    sight->read = fuzz_view_read(&sight->view, disk, bytes);
    rc = vhdx_disk_close(disk, NULL);
    MUST(rc == VHDX_OK || guard->dead_in != 0);
    return true;
}

static void
compare(const struct sight *a, const struct sight *b)
{
    MUST(a->info.virtual_size == b->info.virtual_size && a->info.block_size == b->info.block_size);
    MUST(a->info.type == b->info.type && a->info.logical_sector_size == b->info.logical_sector_size);
    MUST(vhdx_guid_equal(&a->info.disk_id, &b->info.disk_id));
    MUST(a->info.bat_offset == b->info.bat_offset && a->info.metadata_offset == b->info.metadata_offset);
    MUST(strcmp(a->info.parent_relative_path, b->info.parent_relative_path) == 0);
    MUST(a->read == b->read && memcmp(viewed, replayed, a->view.total) == 0);
}

/* The power fails the replay at its n-th write; what it leaves behind shows the same. */
static void
stop_on_the_way(struct fuzz_guard *guard, unsigned n, struct fuzz_input input, const struct sight *before)
{
    struct sight sight;

    if (n == 0)
        return;
    guard->dead_in = n;
    (void)see(guard, true, input, &sight, replayed);
    guard->dead_in = 0;
    guard->may_write = false;
    MUST(see(guard, false, input, &sight, replayed));
    compare(before, &sight);
    guard->may_write = true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vhdx_storage *memory = fuzz_take_image(&input, FUZZ_DIRTY);
    struct sight before, after;
    struct fuzz_verdict verdict, left;
    struct fuzz_guard guard;
    unsigned n = (unsigned)fuzz_take(&input, 1) % 24;

    fuzz_guard_init(&guard, memory, (n & 1) != 0);
    if (!see(&guard, false, input, &before, viewed) || !before.info.is_dirty)
        goto out;
    fuzz_check(&verdict, guard.storage, false);
    MUST(verdict.rc == VHDX_OK && verdict.summary.is_dirty && verdict.rules[48]);
    if (verdict.worst >= VHDX_SEVERITY_RO)
        goto out;
    guard.may_write = true;
    stop_on_the_way(&guard, n, input, &before);
    if (!see(&guard, true, input, &after, replayed)) /* V24: no numbers left for the headers */
        goto out;
    compare(&before, &after);
    guard.may_write = false;
    MUST(see(&guard, false, input, &after, replayed) && !after.info.is_dirty);
    compare(&before, &after);
    fuzz_check(&left, guard.storage, false);
    MUST(left.rc == VHDX_OK && left.worst < VHDX_SEVERITY_RO && !left.rules[48]);
out:
    fuzz_guard_destroy(&guard);
    return 0;
}
