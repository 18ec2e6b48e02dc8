/*
 * The model: windows of the disk as arrays, at every moment since the last flush.  After a flush or a close the disk holds the
 * last moment; after a kill each byte holds what it held at one of them.
 */
#include "program.h"

#include "base/checked.h"
#include "storage/storage.h"

#define MOMENTS   20u /* then a flush is due */
#define MOST_OPS  60u
#define ALL       (FUZZ_WINDOWS * FUZZ_WINDOW)

static uint8_t moments[MOMENTS][ALL];
static uint8_t bytes[ALL];

static uint8_t *
now(struct fuzz_program *program)
{
    return moments[program->moment_count - 1];
}

/* The disk as it is, from here on all that is known. */
static void
start_anew(struct fuzz_program *program, const uint8_t *current)
{
    memmove(moments[0], current, program->view.total);
    program->moment_count = 1;
}

static void
next_moment(struct fuzz_program *program)
{
    if (program->moment_count == MOMENTS) {
        MUST(vhdx_disk_flush(program->disk, NULL) == VHDX_OK);
        start_anew(program, now(program));
    }
    memcpy(moments[program->moment_count], now(program), program->view.total);
    program->moment_count++;
}

static void
read_all(struct fuzz_program *program)
{
    MUST(fuzz_view_read(&program->view, program->disk, bytes) == VHDX_OK);
}

/* --- sessions --- */

static bool
open_disk(struct fuzz_program *program, bool is_writable)
{
    program->guards[0].may_write = is_writable;
    return fuzz_open_disk(&program->disk, program->storages, program->count, is_writable ? VHDX_OPEN_WRITE : 0, NULL) ==
           VHDX_OK;
}

static void
close_disk(struct fuzz_program *program, bool must_succeed)
{
    int rc = vhdx_disk_close(program->disk, NULL);

    program->disk = NULL;
    MUST(!must_succeed || rc == VHDX_OK);
}

static void
reopen(struct fuzz_program *program)
{
    close_disk(program, true);
    MUST(open_disk(program, true));
    start_anew(program, now(program));
}

/* Each byte as it was at one moment. */
static void
judge_killed(struct fuzz_program *program)
{
    for (size_t i = 0; i < program->view.total; i++) {
        unsigned moment = program->moment_count;

        while (moment > 0 && moments[moment - 1][i] != bytes[i])
            moment--;
        MUST(moment > 0);
    }
}

/* The log laid over the file, then written into it: the same. */
static void
kill_and_reopen(struct fuzz_program *program)
{
    program->guards[0].dead_in = 1;
    close_disk(program, false);
    program->guards[0].dead_in = 0;
    MUST(open_disk(program, false));
    read_all(program);
    judge_killed(program);
    close_disk(program, true);
    start_anew(program, bytes);
    MUST(open_disk(program, true));
}

/* --- operations --- */

/* A range inside a window, or whole blocks around its start, up to three of them. */
static void
take_range(struct fuzz_program *program, struct fuzz_input *input, bool may_be_long, uint64_t *guest_offset,
           uint64_t *length)
{
    const struct vx_geometry *g = vx_image_geometry(fuzz_top_image(program->disk));
    unsigned which = (unsigned)fuzz_take(input, 1);
    unsigned i = which % program->view.count;
    uint64_t at = fuzz_take(input, 2) % program->view.windows[i].length;

    *guest_offset = program->view.windows[i].guest_offset + at;
    *length = 1 + fuzz_take(input, 2) % (program->view.windows[i].length - at);
    if (which & 0x40) {
        *guest_offset = vx_round_down(*guest_offset, g->logical_sector_size);
        *length = vx_min_u64(vx_round_up(*length, g->logical_sector_size), g->virtual_size - *guest_offset);
    }
    if (!may_be_long || (which & 0x80) == 0)
        return;
    *guest_offset = vx_round_down(*guest_offset, g->block_size);
    *length = vx_min_u64(g->virtual_size - *guest_offset, (uint64_t)g->block_size * (1 + (which >> 4) % 3));
}

/* Where [guest_offset, + length) meets window i: the part of the model, and how far into the range it begins. */
static uint8_t *
part_of_window(struct fuzz_program *program, unsigned i, uint64_t guest_offset, uint64_t length, size_t *part,
               uint64_t *skip)
{
    uint64_t start = vx_max_u64(guest_offset, program->view.windows[i].guest_offset);
    uint64_t end = vx_min_u64(guest_offset + length,
                              program->view.windows[i].guest_offset + program->view.windows[i].length);
    uint8_t *model = now(program);

    for (unsigned j = 0; j < i; j++)
        model += program->view.windows[j].length;
    *part = end > start ? (size_t)(end - start) : 0;
    *skip = start - guest_offset;
    return *part > 0 ? model + (start - program->view.windows[i].guest_offset) : NULL;
}

static void
set_model(struct fuzz_program *program, uint64_t guest_offset, uint64_t length, const uint8_t *from)
{
    for (unsigned i = 0; i < program->view.count; i++) {
        size_t part;
        uint64_t skip;
        uint8_t *model = part_of_window(program, i, guest_offset, length, &part, &skip);

        if (model == NULL)
            continue;
        if (from != NULL)
            memcpy(model, from + skip, part);
        else
            memset(model, 0, part);
    }
}

static void
do_write(struct fuzz_program *program, struct fuzz_input *input)
{
    uint64_t guest_offset, length;

    take_range(program, input, false, &guest_offset, &length);
    length = vx_min_u64(length, sizeof bytes);
    memset(bytes, 1 + (int)fuzz_take(input, 1) % 255, (size_t)length);
    next_moment(program);
    MUST(vhdx_disk_write(program->disk, bytes, (size_t)length, guest_offset, NULL) == VHDX_OK);
    set_model(program, guest_offset, length, bytes);
}

static void
do_zero(struct fuzz_program *program, struct fuzz_input *input)
{
    uint64_t guest_offset, length;
    unsigned flags = fuzz_take(input, 1) & 1 ? VHDX_ZERO_FAST : 0;
    int rc;

    take_range(program, input, true, &guest_offset, &length);
    if (!program->guards[0].storage->traits.can_punch && length > VX_MIB)
        length = VX_MIB; /* written byte by byte: slow */
    next_moment(program);
    rc = vhdx_disk_zero(program->disk, guest_offset, length, flags, NULL);
    MUST(rc == VHDX_OK || (rc == VHDX_E_UNSUPPORTED && flags != 0));
    if (rc == VHDX_OK) {
        set_model(program, guest_offset, length, NULL);
        return;
    }
    read_all(program); /* each byte is old or zero */
    for (size_t i = 0; i < program->view.total; i++)
        MUST(bytes[i] == 0 || bytes[i] == now(program)[i]);
    memcpy(now(program), bytes, program->view.total);
}

/* Of a differencing image what it holds itself becomes zero and what the parent shows stays: as the disk says, then. */
static void
do_trim(struct fuzz_program *program, struct fuzz_input *input)
{
    const struct vx_geometry *g = vx_image_geometry(fuzz_top_image(program->disk));
    uint64_t guest_offset, length;

    take_range(program, input, true, &guest_offset, &length);
    next_moment(program);
    MUST(vhdx_disk_trim(program->disk, guest_offset, length, NULL) == VHDX_OK);
    if (!g->is_differencing && !g->is_fixed)
        set_model(program, guest_offset, length, NULL);
    if (!g->is_differencing)
        return;
    read_all(program);
    memcpy(moments[MOMENTS - 1], now(program), program->view.total);
    set_model(program, guest_offset, length, NULL); /* the part that may have changed */
    for (size_t i = 0; i < program->view.total; i++)
        MUST(bytes[i] == now(program)[i] || bytes[i] == moments[MOMENTS - 1][i]);
    memcpy(now(program), bytes, program->view.total);
}

/* What moves and frees inside, and no guest sees. */
static void
do_rearrange(struct fuzz_program *program, struct fuzz_input *input)
{
    struct vx_image *image = fuzz_top_image(program->disk);
    uint64_t punched;
    bool is_freed;
    int rc;

    if (fuzz_take(input, 1) & 1) {
        rc = vx_image_punch_free(image, &punched, NULL);
        MUST(rc == VHDX_OK || rc == VHDX_E_UNSUPPORTED);
    } else if (vx_image_geometry(image)->is_differencing) {
        MUST(vx_image_drop_bitmap(image, 0, &is_freed, NULL) == VHDX_OK);
    }
}

static void
do_flush(struct fuzz_program *program)
{
    MUST(vhdx_disk_flush(program->disk, NULL) == VHDX_OK);
    start_anew(program, now(program));
}

static void
compare_now(struct fuzz_program *program)
{
    read_all(program);
    MUST(memcmp(bytes, now(program), program->view.total) == 0);
    fuzz_view_resolve(&program->view, program->disk);
}

static void
do_something(struct fuzz_program *program, struct fuzz_input *input)
{
    switch (fuzz_take(input, 1) & 15) {
    case 0: case 1: case 2: case 3: case 4:
        do_write(program, input);
        break;
    case 5: case 6: case 7:
        do_zero(program, input);
        break;
    case 8: case 9:
        do_trim(program, input);
        break;
    case 10: case 11:
        do_flush(program);
        break;
    case 12:
        do_rearrange(program, input);
        break;
    case 13:
        reopen(program);
        break;
    case 14:
        kill_and_reopen(program);
        break;
    default:
        compare_now(program);
    }
}

/* --- all of it --- */

void
fuzz_program_init(struct fuzz_program *program, struct vhdx_storage *const *memories, unsigned count)
{
    const struct vx_image_options options = { .is_writable = false };
    struct vx_image *image;

    *program = (struct fuzz_program){ .count = count };
    for (unsigned i = 0; i < count; i++) {
        fuzz_guard_init(&program->guards[i], memories[i], false);
        program->storages[i] = program->guards[i].storage;
    }
    if (vx_image_open(&image, program->storages[0], &options, NULL) < 0)
        return;
    if (!vx_image_geometry(image)->is_differencing)
        program->count = 1;
    vx_image_close(image, NULL);
}

void
fuzz_program_destroy(struct fuzz_program *program)
{
    vhdx_disk_close(program->disk, NULL);
    for (unsigned i = 0; i < FUZZ_MOST_LAYERS && program->guards[i].storage != NULL; i++)
        fuzz_guard_destroy(&program->guards[i]);
}

bool
fuzz_program_begin(struct fuzz_program *program, struct fuzz_input *input)
{
    const struct vx_geometry *g;

    fuzz_check(&program->verdict, program->storages[0], false);
    if (!open_disk(program, true)) {
        MUST(program->guards[0].write_count == 0 || program->verdict.worst < VHDX_SEVERITY_RO);
        return false;
    }
    g = vx_image_geometry(fuzz_top_image(program->disk));
    fuzz_view_init(&program->view, input, g->virtual_size, g->block_size);
    if (fuzz_view_read(&program->view, program->disk, bytes) < 0) {
        MUST(program->count > 1); /* a parent that can be read in part */
        close_disk(program, true);
        return false;
    }
    start_anew(program, bytes);
    return true;
}

void
fuzz_program_run(struct fuzz_program *program, struct fuzz_input *input)
{
    for (unsigned i = 0; i < MOST_OPS && input->left > 0; i++)
        do_something(program, input);
    compare_now(program);
    close_disk(program, true);
    program->guards[0].may_write = false;
    fuzz_check_is_no_worse(&program->verdict, program->storages[0]);
    fuzz_program_compare(program, program->storages, program->count);
}

void
fuzz_program_compare(struct fuzz_program *program, struct vhdx_storage *const *storages, unsigned count)
{
    struct vhdx_disk *disk;

    MUST(fuzz_open_disk(&disk, storages, count, 0, NULL) == VHDX_OK);
    MUST(fuzz_view_read(&program->view, disk, bytes) == VHDX_OK);
    MUST(memcmp(bytes, now(program), program->view.total) == 0);
    vhdx_disk_close(disk, NULL);
}
