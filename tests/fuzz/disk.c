/* See disk.h. */
#include "disk.h"

#include "base/checked.h"
#include "format/layout.h"
#include "storage/storage.h"

/* --- a guarded file --- */

static bool
changes_something(enum wrapped_call call)
{
    return call == WRAPPED_WRITE || call == WRAPPED_SET_SIZE || call == WRAPPED_ZERO || call == WRAPPED_ALLOCATE;
}

static int
watch(void *context, enum wrapped_call call, uint64_t file_offset, uint64_t length)
{
    struct fuzz_guard *guard = context;

    (void)file_offset, (void)length;
    if (guard->fail_in > 0 && --guard->fail_in == 0)
        return VHDX_E_IO;
    if (changes_something(call)) {
        MUST(guard->may_write);
        if (guard->dead_in > 1)
            guard->dead_in--;
        else if (guard->dead_in == 1)
            return VHDX_E_IO;
        guard->write_count++;
    }
    return guard->dead_in == 1 && call == WRAPPED_FLUSH ? VHDX_E_IO : VHDX_OK;
}

void
fuzz_guard_init(struct fuzz_guard *guard, struct vhdx_storage *memory, bool is_plain)
{
    const struct wrapped_options options = { .cannot_punch = is_plain, .extension_unsure = is_plain, .before = watch,
                                             .context = guard };

    *guard = (struct fuzz_guard){ .memory = memory, .storage = wrapped_new(memory, &options) };
}

void
fuzz_guard_destroy(struct fuzz_guard *guard)
{
    vhdx_storage_close(guard->storage);
    vhdx_storage_close(guard->memory);
}

struct chain {
    struct vhdx_storage *const *storages;
    unsigned                    count;
};

static int
bring_parent(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out, struct vhdx_error *err)
{
    const struct wrapped_options options = { .is_read_only = true };
    const struct chain *chain = context;

    MUST(query->linkage != NULL && query->depth < chain->count);
    if (query->depth + 1 == chain->count) {
        if (err != NULL)
            *err = (struct vhdx_error){ .code = VHDX_E_NO_PARENT, .message = "there is no more" };
        return VHDX_E_NO_PARENT;
    }
    *out = wrapped_new(chain->storages[query->depth + 1], &options);
    return VHDX_OK;
}

int
fuzz_open_disk(struct vhdx_disk **out, struct vhdx_storage *const *storages, unsigned count, unsigned flags,
               struct vhdx_error *err)
{
    struct chain chain = { storages, count };
    const struct vhdx_open_options options = {
        .flags = flags | (count == 1 ? VHDX_OPEN_NO_PARENTS : 0), .resolve_parent = bring_parent, .resolve_context = &chain,
    };
    struct vhdx_storage *top = wrapped_new(storages[0], NULL);
    int rc;

    *out = NULL;
    rc = vhdx_disk_open_storage(out, top, &options, err);
    if (rc < 0) {
        *out = NULL;
        vhdx_storage_close(top);
    }
    return rc;
}

struct vx_image *
fuzz_top_image(struct vhdx_disk *disk)
{
    return disk->layers[0].image;
}

/* --- checks --- */

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct fuzz_verdict *verdict = context;

    fuzz_receive(NULL, finding);
    verdict->rules[finding->rule] = 1;
    if (finding->severity > verdict->worst)
        verdict->worst = finding->severity;
}

void
fuzz_check(struct fuzz_verdict *out, struct vhdx_storage *storage, bool ignore_log)
{
    const struct vhdx_check_options options = { .ignore_log = ignore_log };
    struct vhdx_error err = { .code = 0 };

    *out = (struct fuzz_verdict){ .rc = 0 };
    out->rc = vhdx_check_storage(storage, &options, take_finding, out, NULL, &out->summary, &err);
    MUST(out->rc == VHDX_OK || (err.code == out->rc && err.message[0] != '\0' && !out->summary.is_complete));
}

void
fuzz_check_is_no_worse(const struct fuzz_verdict *before, struct vhdx_storage *storage)
{
    /* V7 is looked at once a copy is a header, and a session makes both copies headers. */
    static const uint8_t expected[160] = { [7] = 1, [107] = 1, [146] = 1, [148] = 1, [149] = 1, [156] = 1, [157] = 1, [158] = 1 };
    struct fuzz_verdict after;

    fuzz_check(&after, storage, false);
    MUST(after.rc == VHDX_OK && after.worst < VHDX_SEVERITY_RO && !after.summary.is_dirty);
    for (unsigned rule = 0; rule < 160; rule++) {
        bool is_fine = !after.rules[rule] || before->rules[rule] || expected[rule] ||
                       (rule == 147 && before->rules[146]); /* the close cut space that missing blocks left unused */

        if (!is_fine)
            fprintf(stderr, "V%u is broken now\n", rule);
        MUST(is_fine);
    }
}

/* --- windows --- */

static void
add_window(struct fuzz_view *view, uint64_t disk_size, uint64_t guest_offset)
{
    uint64_t length;

    if (guest_offset >= disk_size)
        return;
    length = vx_min_u64(FUZZ_WINDOW, disk_size - guest_offset);
    for (unsigned i = 0; i < view->count; i++)
        if (vx_ranges_overlap(guest_offset, length, view->windows[i].guest_offset, view->windows[i].length))
            return;
    view->windows[view->count].guest_offset = guest_offset;
    view->windows[view->count++].length = (size_t)length;
    view->total += (size_t)length;
}

void
fuzz_view_init(struct fuzz_view *view, struct fuzz_input *input, uint64_t disk_size, uint32_t block_size)
{
    uint64_t how = fuzz_take(input, 1), block = fuzz_take(input, 1) % 12, chunk = VX_SECTORS_PER_CHUNK * 512;

    *view = (struct fuzz_view){ .count = 0 };
    add_window(view, disk_size, how & 1 ? 0 : 700);
    add_window(view, disk_size, (block + 1) * block_size - FUZZ_WINDOW / 2);
    add_window(view, disk_size, how & 2 && disk_size > chunk ? chunk - FUZZ_WINDOW / 2 : block_size * (1 + (how >> 4)));
    add_window(view, disk_size, disk_size - vx_min_u64(disk_size, FUZZ_WINDOW));
}

int
fuzz_view_read(const struct fuzz_view *view, struct vhdx_disk *disk, uint8_t bytes[FUZZ_WINDOWS * FUZZ_WINDOW])
{
    struct vhdx_error err = { .code = 0 };
    int first = VHDX_OK;

    for (unsigned i = 0; i < view->count; i++) {
        int rc = vhdx_disk_read(disk, bytes, view->windows[i].length, view->windows[i].guest_offset, &err);

        MUST(rc == VHDX_OK || (err.code == rc && err.message[0] != '\0'));
        if (rc < 0)
            memset(bytes, 0xEE, view->windows[i].length);
        if (first == VHDX_OK)
            first = rc;
        bytes += view->windows[i].length;
    }
    return first;
}

void
fuzz_view_resolve(const struct fuzz_view *view, struct vhdx_disk *disk)
{
    for (unsigned i = 0; i < view->count; i++) {
        uint64_t at = view->windows[i].guest_offset, end = at + view->windows[i].length;
        struct vhdx_extent extents[8];
        size_t count;

        if (vhdx_disk_resolve(disk, at, end - at, extents, 8, &count, NULL) < 0)
            continue;
        MUST(count > 0);
        for (size_t j = 0; j < count; j++) {
            MUST(extents[j].guest_offset == at && extents[j].length > 0 && extents[j].length <= end - at);
            MUST((extents[j].flags & (VHDX_EXTENT_DATA | VHDX_EXTENT_ZERO)) != (VHDX_EXTENT_DATA | VHDX_EXTENT_ZERO));
            at += extents[j].length;
        }
        if (at < end && count < 8) /* a damaged block follows */
            MUST(vhdx_disk_resolve(disk, at, end - at, extents, 8, &count, NULL) < 0);
    }
}
