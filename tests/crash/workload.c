/*
 * Random work on an image, with crashes tried at every storage call, and every way to end.
 *
 * A run is decided by its configuration and seed alone: threads take turns (schedule.h), the library's random numbers
 * are seeded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef __GLIBC__
#include <malloc.h>
#endif

#include "base/guid.h"
#include "crash.h"
#include "schedule.h"
#include "storage/storage.h"

#define SPOT (32u * CELL)

/* --- a run --- */

void
run_begin(struct run *run, const struct crash_config *config, uint64_t seed)
{
    uint32_t value = config->type == VHDX_TYPE_DIFFERENCING ? VALUE_PARENT : VALUE_ZERO, *values;
    size_t slot, cell;

#ifdef __GLIBC__ /* images come and go by the thousand: keep their memory */
    mallopt(M_MMAP_THRESHOLD, 1 << 28);
    mallopt(M_TRIM_THRESHOLD, 1 << 28);
#endif

    *run = (struct run){ .config = config, .seed = seed, .density = 96 };
    run->work_random = seed * 2 + 1;
    run->crash_random = ~seed;
    vx_random_seed_for_tests(seed * 2 + 1);
    run->disk = fixture_disk(config);
    oracle_init(&run->oracle, config->block_size, config->blocks, config->block_count, (uint32_t)seed ^ 0x5eed0000u);
    values = malloc(run->oracle.cell_count * sizeof *values);
    if (values == NULL)
        exit(1);
    for (cell = 0; cell < run->oracle.cell_count; cell++)
        values[cell] = value;
    for (slot = 0; slot < config->block_count; slot++)
        oracle_rebase(&run->oracle, slot, values);
    free(values);
}

void
run_end(struct run *run)
{
    if (run->image != NULL)
        vx_image_abandon(run->image);
    vhdx_storage_close(run->storage);
    vx_fault_free(run->disk);
    oracle_free(&run->oracle);
    vx_random_seed_for_tests(0);
}

/* --- operations --- */

/* What an operation answered: a failure needs a reason. */
static void
note_answer(struct run *run, int rc, const char *what, const struct vhdx_error *err)
{
    if (rc == VHDX_OK || run->is_violated)
        return;
    trace(run, "%s failed: %s", what, err->message);
    if (rc == VHDX_E_NO_SPACE && run->config->room > 0)
        return; /* a full host refuses writes; the image goes on */
    if (!run->expects_failure && !run->has_failed) {
        violated(run, "%s failed for no reason: %s", what, err->message);
        return;
    }
    run->has_failed = true;
    run->is_failed = run->is_failed || rc == VHDX_E_FAILED;
}

/* An image that had failed before refuses: then nothing of the operation may ever be seen. */
static enum oracle_outcome
outcome_of(int rc, bool had_failed)
{
    if (rc == VHDX_OK)
        return ORACLE_WELL;
    return rc == VHDX_E_FAILED && had_failed ? ORACLE_REFUSED : ORACLE_BADLY;
}

int
do_write(struct run *run, uint64_t guest_offset, uint64_t length)
{
    struct vhdx_error err = { .message = "" };
    uint8_t *bytes = malloc((size_t)length);
    uint32_t value = ++run->oracle.last_value;
    bool had_failed = run->has_failed;
    uint64_t name;
    int rc;

    if (bytes == NULL)
        exit(1);
    oracle_stamp(&run->oracle, bytes, (size_t)length, guest_offset, value);
    trace(run, "write %lu: %llu + %llu", (unsigned long)value, (unsigned long long)guest_offset,
          (unsigned long long)length);
    name = oracle_begin(&run->oracle, guest_offset, length, value, ORACLE_PLAIN);
    rc = vx_image_write(run->image, bytes, (size_t)length, guest_offset, &err);
    oracle_end(&run->oracle, name, outcome_of(rc, had_failed));
    note_answer(run, rc, "write", &err);
    free(bytes);
    return rc;
}

int
do_zero(struct run *run, uint64_t guest_offset, uint64_t length)
{
    struct vhdx_error err = { .message = "" };
    uint64_t name = oracle_begin(&run->oracle, guest_offset, length, VALUE_ZERO, ORACLE_PLAIN);
    bool had_failed = run->has_failed;
    int rc;

    trace(run, "zero %llu + %llu", (unsigned long long)guest_offset, (unsigned long long)length);
    rc = vx_image_zero(run->image, guest_offset, length, false, &err);
    oracle_end(&run->oracle, name, outcome_of(rc, had_failed));
    note_answer(run, rc, "zero", &err);
    return rc;
}

int
do_trim(struct run *run, uint64_t guest_offset, uint64_t length)
{
    struct vhdx_error err = { .message = "" };
    bool had_failed = run->has_failed;
    uint64_t name = 0;
    int rc;

    if (run->config->type != VHDX_TYPE_FIXED) /* which trims nothing */
        name = oracle_begin(&run->oracle, guest_offset, length, VALUE_ZERO,
                            run->config->type == VHDX_TYPE_DIFFERENCING ? ORACLE_TRIM_OF_CHILD : ORACLE_PLAIN);
    trace(run, "trim %llu + %llu", (unsigned long long)guest_offset, (unsigned long long)length);
    rc = vx_image_trim(run->image, guest_offset, length, &err);
    if (name != 0)
        oracle_end(&run->oracle, name, outcome_of(rc, had_failed));
    note_answer(run, rc, "trim", &err);
    return rc;
}

int
do_flush(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t asked = oracle_now(&run->oracle);
    int rc;

    trace(run, "flush asked at %llu", (unsigned long long)asked);
    rc = vx_image_flush(run->image, &err);
    trace(run, "flush asked at %llu: %s", (unsigned long long)asked, rc == VHDX_OK ? "done" : err.message);
    note_answer(run, rc, "flush", &err);
    if (rc < 0) {
        run->is_failed = true;
        oracle_flush_failed(&run->oracle);
    } else {
        oracle_flushed(&run->oracle, asked);
        try_crash(run, run->density * 2);
    }
    return rc;
}

/* What the running image shows: nothing older than what had ended when the read began. */
void
do_read(struct run *run, size_t slot)
{
    uint32_t values[32], cell, first = (uint32_t)random_below(&run->work_random, 3);
    uint64_t began = oracle_now(&run->oracle);

    first = first == 0 ? 0 : first == 1 ? run->oracle.cell_count / 2 - 16 : run->oracle.cell_count - 32;
    if (!read_cells(run, run->image, slot, first, 32, values))
        return;
    for (cell = 0; cell < 32; cell++) {
        if (oracle_allows(&run->oracle, &run->oracle.slots[slot], first + cell, values[cell],
                          run->has_failed ? run->oracle.flushed_at : began))
            continue;
        violated(run, "running: block %llu cell %lu shows write %lu",
                 (unsigned long long)run->oracle.slots[slot].block_index, (unsigned long)(first + cell),
                 (unsigned long)values[cell]);
        if (!crash_quiet)
            oracle_explain(&run->oracle, &run->oracle.slots[slot], first + cell);
        return;
    }
}

void
do_drop_bitmap(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    bool is_freed;

    note_answer(run, vx_image_drop_bitmap(run->image, 0, &is_freed, &err), "drop bitmap", &err);
}

/* --- choices --- */

struct range {
    uint64_t guest_offset, length;
};

static bool
has_next(const struct run *run, size_t slot)
{
    return slot + 1 < run->config->block_count && run->config->blocks[slot + 1] == run->config->blocks[slot] + 1;
}

static struct range
choose_range(struct run *run, unsigned whole_percent)
{
    uint64_t *random = &run->work_random, block_size = run->config->block_size;
    size_t slot = (size_t)random_below(random, run->config->block_count);
    uint64_t block = run->config->blocks[slot] * block_size, dice = random_below(random, 100), spot, cells;

    if (dice < whole_percent) {
        bool both = has_next(run, slot) && random_below(random, 4) == 0;

        return (struct range){ block, both ? 2 * block_size : block_size };
    }
    dice = random_below(random, 100);
    if (dice < 12 && has_next(run, slot))
        return (struct range){ block + block_size - SPOT, SPOT + (1 + random_below(random, 8)) * 512 };
    if (dice < 20) {
        cells = 1 + random_below(random, 512);
        return (struct range){ block + random_below(random, block_size / CELL - cells) * CELL, cells * CELL };
    }
    spot = block + (dice % 3 == 0 ? 0 : dice % 3 == 1 ? block_size / 2 - SPOT / 2 : block_size - SPOT);
    if (dice < 35) { /* less than a sector, perhaps across two */
        cells = 1 + random_below(random, 5);
        return (struct range){ spot + random_below(random, 32 - cells) * CELL, cells * CELL };
    }
    cells = 1 + random_below(random, 8);
    return (struct range){ spot + random_below(random, 9 - cells) * 512, cells * 512 };
}

static enum op
choose_op(struct run *run)
{
    unsigned total = 0, at;
    int op;

    for (op = 0; op < OP_COUNT; op++)
        total += run->config->op_weights[op];
    at = (unsigned)random_below(&run->work_random, total);
    for (op = 0; at >= run->config->op_weights[op]; op++)
        at -= run->config->op_weights[op];
    return (enum op)op;
}

static void
do_something(struct run *run)
{
    struct range range;

    switch (choose_op(run)) {
    case OP_WRITE:
        range = choose_range(run, run->config->whole_percent);
        do_write(run, range.guest_offset, range.length);
        break;
    case OP_ZERO:
        range = choose_range(run, 60);
        do_zero(run, range.guest_offset, range.length);
        break;
    case OP_TRIM:
        range = choose_range(run, 75);
        do_trim(run, range.guest_offset, range.length);
        break;
    case OP_FLUSH:
        do_flush(run);
        break;
    case OP_READ:
        do_read(run, (size_t)random_below(&run->work_random, run->config->block_count));
        break;
    case OP_DROP_BITMAP:
        do_drop_bitmap(run);
        break;
    case OP_COUNT:
        break;
    }
}

/* --- sessions and rounds --- */

static void
on_call(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    static const char *const names[] = { "read", "write", "flush", "set size", "zero", "allocate", "get size",
                                         "next data" };
    struct run *run = context;

    (void)fault;
    if (!event->is_done)
        trace(run, "  %s %llu + %llu", names[event->kind], (unsigned long long)event->file_offset,
              (unsigned long long)event->length);
    schedule_point(80);
    try_crash(run, run->density);
}

bool
begin_session(struct run *run)
{
    struct vhdx_error err = { .message = "" };

    run->has_failed = run->is_failed = false;
    run->is_over = false;
    if (vx_fault_open(&run->storage, run->disk, false, &err) < 0)
        return violated(run, "%s", err.message);
    trace(run, "open");
    vx_fault_set_hook(run->disk, on_call, run);
    if (fixture_open(run, &run->image, run->storage, true, &err) < 0) {
        run->image = NULL;
        if (!run->expects_failure)
            return violated(run, "does not open for writing: %s", err.message);
        run->has_failed = run->is_over = true;
        return false;
    }
    return !run->is_violated;
}

bool
do_close(struct run *run)
{
    struct vhdx_error err = { .message = "" };
    uint64_t asked = oracle_now(&run->oracle);
    int rc;

    trace(run, "close");
    rc = vx_image_close(run->image, &err);
    run->image = NULL;
    if (rc < 0) {
        note_answer(run, rc, "close", &err);
    } else if (run->is_failed && !run->is_violated) {
        return violated(run, "close of an image that had failed reports success");
    } else {
        oracle_flushed(&run->oracle, asked);
        try_crash(run, run->density * 2);
    }
    return !run->is_violated;
}

/* The same boot: what was readable is what the next open sees. */
static bool
examine_same_boot(struct run *run)
{
    struct vx_fault *copy;
    bool is_good;

    run->reads_may_lie = run->lost_flush;
    if (vx_fault_clone(&copy, run->disk, NULL) < 0)
        return violated(run, "out of memory");
    if (random_below(&run->crash_random, 2) == 0) {
        run->reads_may_lie = false;
        if (vx_fault_drop_cache(copy) < 0)
            return violated(run, "out of memory");
    }
    is_good = examine(run, copy, random_below(&run->crash_random, 8) == 0);
    run->reads_may_lie = false;
    vx_fault_free(copy);
    return is_good;
}

bool
end_session(struct run *run, enum end end)
{
    bool is_good = !run->is_violated;

    vx_fault_set_hook(run->disk, on_call, run);
    if (is_good && run->image != NULL && (end == END_CLOSE || end == END_FAILED_FLUSH))
        is_good = do_close(run);
    if (run->image != NULL)
        vx_image_abandon(run->image);
    run->image = NULL;
    vhdx_storage_close(run->storage);
    run->storage = NULL;
    vx_fault_set_hook(run->disk, NULL, NULL);
    trace(run, "end: %s", end == END_CLOSE ? "closed" : end == END_POWER ? "power cut" : end == END_KILL ? "killed"
                                                                                   : "failed flush");
    vx_fault_kill(run->disk);
    run->lost_flush = end != END_POWER && (run->lost_flush || vx_fault_has_failed(run->disk, NULL));
    vx_fault_fail_nth(run->disk, 0, 0, 0, 0);
    oracle_process_ended(&run->oracle);
    run->knows_guid = false;
    if (!is_good)
        return false;

    if (end == END_POWER &&
        vx_fault_power_cut(run->disk, (enum vx_fault_keep)random_below(&run->work_random, VX_KEEP_COUNT),
                           random_below(&run->work_random, 2) == 0, random_next(&run->work_random)) < 0)
        return violated(run, "out of memory");
    if (end == END_POWER || (end == END_CLOSE && !run->has_failed && !run->lost_flush))
        return rebase(run);
    return examine_same_boot(run);
}

static enum end
choose_end(struct run *run)
{
    unsigned total = 0, at;
    int end;

    for (end = 0; end < END_COUNT; end++)
        total += run->config->end_weights[end];
    at = (unsigned)random_below(&run->work_random, total);
    for (end = 0; at >= run->config->end_weights[end]; end++)
        at -= run->config->end_weights[end];
    return (enum end)end;
}

static void
work(void *context, size_t index)
{
    struct run *run = context;
    unsigned i;

    (void)index;
    for (i = 0; i < run->config->ops_per_round && !run->is_over && !run->has_failed; i++)
        do_something(run);
    if (run->has_failed && !run->is_over)
        do_something(run); /* which must be refused */
}

/* Make the end come in the middle of a call, or of a commit: at a random storage call. */
static void
arm_end(struct run *run, enum end end)
{
    uint64_t *random = &run->work_random;

    if (end == END_FAILED_FLUSH) {
        run->expects_failure = true;
        vx_fault_fail_nth(run->disk, 1 + random_below(random, 8), 1u << VX_CALL_FLUSH, 5 /* EIO */,
                          random_next(random));
    } else if (end != END_CLOSE && random_below(random, 2) == 0) {
        run->expects_failure = true;
        vx_fault_stop_at_call(run->disk, 1 + random_below(random, 20 * run->config->ops_per_round));
    }
}

bool
run_rounds(struct run *run)
{
    unsigned round;

    for (round = 0; round < run->config->rounds_per_run && !run->is_violated; round++) {
        enum end end = choose_end(run);

        crash_counts.rounds++;
        run->expects_failure = false;
        if (!begin_session(run))
            break;
        arm_end(run, end);
        if (run->config->thread_count > 1)
            schedule_run(run->config->thread_count, work, run, random_next(&run->work_random));
        else
            work(run, 0);
        if (!end_session(run, end))
            break;
    }
    return !run->is_violated;
}
