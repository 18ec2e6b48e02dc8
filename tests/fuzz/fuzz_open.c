/*
 * A whole file: checked, opened and read; opened for writing, written, closed and checked again.
 *
 *   - What is opened read-only is not written to, nor what is refused for writing.
 *   - The check and open agree: it is refused when a rule of severity REFUSE is broken, and opens for writing when none of
 *     severity RO or worse is.
 *   - What was written is read again, and no rule is broken afterwards that was not before.
 *   - A call of the storage or an allocation that fails is an error and nothing else.
 */
#include "disk.h"
#include "image.h"

#include "base/memory.h"

const unsigned fuzz_image_count = 1;

static uint8_t bytes[FUZZ_WINDOWS * FUZZ_WINDOW];

static bool
says_enough(const struct vhdx_error *err)
{
    return err->code < 0 && err->message[0] != '\0' && strchr(err->message, '\n') == NULL;
}

static struct vhdx_disk *
try_open(struct fuzz_guard *guard, unsigned flags, int *rc)
{
    struct vhdx_error err = { .code = 0 };
    struct vhdx_disk *disk;

    *rc = fuzz_open_disk(&disk, &guard->storage, 1, flags, &err);
    MUST(*rc == VHDX_OK || (says_enough(&err) && err.code == *rc));
    return disk;
}

/* False when a call failed that was told to. */
static bool
look(struct vhdx_disk *disk, struct fuzz_input input)
{
    const struct vx_geometry *g = vx_image_geometry(fuzz_top_image(disk));
    struct vhdx_info info;
    struct fuzz_view view;

    if (vhdx_disk_get_info(disk, 0, &info, NULL) < 0)
        return false;
    MUST(info.virtual_size == g->virtual_size && info.block_size == g->block_size);
    MUST(strlen(info.creator) < sizeof info.creator);
    fuzz_view_init(&view, &input, g->virtual_size, g->block_size);
    fuzz_view_read(&view, disk, bytes);
    fuzz_view_resolve(&view, disk);
    return true;
}

static void
read_only(struct fuzz_guard *guard, const struct fuzz_verdict *verdict, struct fuzz_input input)
{
    struct fuzz_verdict without_log;
    int rc;
    struct vhdx_disk *disk = try_open(guard, 0, &rc);

    MUST((rc == VHDX_OK) == (verdict->rc == VHDX_OK && verdict->worst < VHDX_SEVERITY_REFUSE));
    if (disk != NULL)
        MUST(look(disk, input));
    vhdx_disk_close(disk, NULL);

    if (verdict->rc < 0 || !(verdict->summary.is_dirty || verdict->rules[30]))
        return;
    fuzz_check(&without_log, guard->storage, true);
    disk = try_open(guard, VHDX_OPEN_IGNORE_LOG, &rc);
    if (disk != NULL)
        MUST(look(disk, input));
    vhdx_disk_close(disk, NULL);
}

/* --- writing --- */

/* False when a part of a sector is written whose rest only the parent knows. */
static bool
write_windows(struct vhdx_disk *disk, const struct fuzz_view *view)
{
    const uint8_t *from = bytes;
    bool is_written = true;

    for (unsigned i = 0; i < view->count; i++) {
        int rc = vhdx_disk_write(disk, from, view->windows[i].length, view->windows[i].guest_offset, NULL);

        MUST(rc == VHDX_OK || (rc == VHDX_E_NO_PARENT && disk->lacks_parent));
        is_written = is_written && rc == VHDX_OK;
        from += view->windows[i].length;
    }
    return is_written;
}

static void
write_and_close(struct fuzz_guard *guard, struct vhdx_disk *disk, struct fuzz_input input)
{
    const struct vx_geometry *g = vx_image_geometry(fuzz_top_image(disk));
    static uint8_t again[sizeof bytes];
    struct fuzz_view view;
    bool is_written;
    int rc;

    fuzz_view_init(&view, &input, g->virtual_size, g->block_size);
    memset(bytes, 0x11, sizeof bytes);
    is_written = write_windows(disk, &view);
    if (is_written)
        MUST(fuzz_view_read(&view, disk, again) == VHDX_OK && memcmp(bytes, again, view.total) == 0);
    if (fuzz_take(&input, 1) & 1)
        MUST(vhdx_disk_flush(disk, NULL) == VHDX_OK);
    MUST(vhdx_disk_close(disk, NULL) == VHDX_OK);

    guard->may_write = false;
    disk = try_open(guard, 0, &rc);
    MUST(disk != NULL);
    if (is_written)
        MUST(fuzz_view_read(&view, disk, again) == VHDX_OK && memcmp(bytes, again, view.total) == 0);
    vhdx_disk_close(disk, NULL);
}

/* The last number that a header can have leaves a session no others (V24). */
static void
writable(struct fuzz_guard *guard, const struct fuzz_verdict *verdict, struct fuzz_input input)
{
    int rc;
    struct vhdx_disk *disk;

    guard->may_write = verdict->worst < VHDX_SEVERITY_RO && verdict->rc == VHDX_OK;
    disk = try_open(guard, VHDX_OPEN_WRITE, &rc);
    MUST((disk != NULL) == guard->may_write || rc == VHDX_E_LIMIT);
    if (disk == NULL)
        return;
    write_and_close(guard, disk, input);
    fuzz_check_is_no_worse(verdict, guard->storage);
}

/* --- failures --- */

/* A file that cannot be read to its end, memory that is short.  A replay that failed on the way changes no verdict. */
static void
fail_somewhere(struct fuzz_guard *guard, const struct fuzz_verdict *verdict, struct fuzz_input *input)
{
    unsigned which = (unsigned)fuzz_take(input, 1), n = (unsigned)fuzz_take(input, 1);
    struct vhdx_check_summary summary;
    struct vhdx_disk *disk;
    int rc;

    guard->fail_in = which & 1 ? n : 0;
    vx_alloc_fail_nth_for_tests(which & 1 ? 0 : n);
    if (which & 2) {
        rc = vhdx_check_storage(guard->storage, NULL, NULL, NULL, NULL, &summary, NULL);
        MUST(rc == VHDX_OK || !summary.is_complete);
    } else {
        guard->may_write = (which & 4) != 0 && verdict->rc == VHDX_OK && verdict->worst < VHDX_SEVERITY_RO;
        disk = try_open(guard, guard->may_write ? VHDX_OPEN_WRITE : 0, &rc);
        if (disk != NULL)
            (void)look(disk, *input);
        vhdx_disk_close(disk, NULL);
    }
    guard->may_write = false;
    guard->fail_in = 0;
    vx_alloc_fail_nth_for_tests(0);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vhdx_storage *memory = fuzz_take_image(&input, FUZZ_DYNAMIC);
    struct fuzz_verdict verdict;
    struct fuzz_guard guard;
    uint64_t how = fuzz_take(&input, 1);

    fuzz_guard_init(&guard, memory, (how & 1) != 0);
    fuzz_check(&verdict, guard.storage, false);
    if (how & 2)
        fail_somewhere(&guard, &verdict, &input);
    read_only(&guard, &verdict, input);
    writable(&guard, &verdict, input);
    fuzz_guard_destroy(&guard);
    return 0;
}
