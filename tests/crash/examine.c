/*
 * The judge: what must be true of a file after any crash.
 *
 *   J1  It opens, read-only and for writing, and both show the same.
 *   J2  Every cell holds what the oracle allows.
 *   J3  If any cell differs from what the file held at the session's begin, so does its DataWriteGuid.
 *   J4  After the writable open the structure is sound: no space mapped twice, nothing outside the file.
 *   J5  The image can be written on: every block takes a write, a flush makes it durable, nothing else changes.
 *   J6  A power cut during the replay leaves a file of which all this is true again.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/ops.h>

#include "crash.h"
#include "schedule.h"
#include "storage/storage.h"
#include "walk.h"

#define SPOT_CELLS 32u /* 4 KiB: where most writes go */
#define SPOT_COUNT 3u

struct crash_counts crash_counts;

/* Values of the cells that a look covers: all cells of every block, or its spots. */
struct look {
    bool      is_thorough;
    uint32_t  run_count, run_cells;
    uint32_t  first[SPOT_COUNT];
    uint32_t *values; /* slot by slot, run by run */
};

bool
violated(struct run *run, const char *format, ...)
{
    va_list arguments;

    if (run->is_violated)
        return false;
    run->is_violated = true;
    run->is_over = true;
    va_start(arguments, format);
    vsnprintf(run->violation, sizeof run->violation, format, arguments);
    va_end(arguments);
    if (crash_quiet)
        return false;
    printf("# %s: seed %llu, storage call %llu: %s\n", run->config->name, (unsigned long long)run->seed,
           (unsigned long long)vx_fault_call_count(run->disk), run->violation);
    fflush(stdout);
    return false;
}

/* --- looking --- */

static struct look
new_look(const struct run *run, bool is_thorough)
{
    uint32_t cells = run->oracle.cell_count;
    struct look look = { .is_thorough = is_thorough, .run_count = SPOT_COUNT, .run_cells = SPOT_CELLS,
                         .first = { 0, cells / 2 - SPOT_CELLS / 2, cells - SPOT_CELLS } };

    if (is_thorough) {
        look.run_count = 1;
        look.run_cells = cells;
    }
    look.values = calloc(run->oracle.slot_count * look.run_count * look.run_cells, sizeof *look.values);
    if (look.values == NULL) {
        fprintf(stderr, "crash tests: out of memory\n");
        exit(1);
    }
    return look;
}

static uint32_t *
values_of(const struct look *look, size_t slot, uint32_t run_index)
{
    return look->values + (slot * look->run_count + run_index) * look->run_cells;
}

static int
read_extent(struct run *run, struct vx_image *image, const struct vx_layer_extent *extent, uint8_t *out,
            size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    if (extent->source == VX_LAYER_DATA)
        return vx_image_read_payload(image, out, length, extent->file_offset, err);
    oracle_stamp(&run->oracle, out, length, guest_offset,
                 extent->source == VX_LAYER_BELOW ? VALUE_PARENT : VALUE_ZERO);
    return VHDX_OK;
}

static int
read_guest(struct run *run, struct vx_image *image, uint8_t *out, size_t length, uint64_t guest_offset,
           struct vhdx_error *err)
{
    struct vx_layer_extent extent;
    struct vx_held held;
    int rc = VHDX_OK;

    vx_image_hold(image, &held, guest_offset, length, false);
    while (rc == VHDX_OK && length > 0) {
        size_t n;

        rc = vx_image_resolve(image, guest_offset, length, &extent, err);
        if (rc < 0)
            break;
        n = extent.length < length ? (size_t)extent.length : length;
        rc = read_extent(run, image, &extent, out, n, guest_offset, err);
        out += n;
        length -= n;
        guest_offset += n;
    }
    vx_image_release(image, &held);
    return rc;
}

static uint64_t
cell_offset(const struct run *run, size_t slot, uint32_t cell)
{
    return run->oracle.slots[slot].block_index * run->oracle.block_size + (uint64_t)cell * CELL;
}

bool
read_cells(struct run *run, struct vx_image *image, size_t slot, uint32_t first_cell, uint32_t count,
           uint32_t *values)
{
    struct vhdx_error err = { .message = "" };
    uint8_t *bytes = malloc((size_t)count * CELL);
    char text[120];
    uint32_t i;
    int rc;

    if (bytes == NULL)
        return violated(run, "out of memory");
    rc = read_guest(run, image, bytes, (size_t)count * CELL, cell_offset(run, slot, first_cell), &err);
    for (i = 0; rc == VHDX_OK && i < count; i++) {
        values[i] = oracle_value_at(&run->oracle, bytes + (size_t)i * CELL, cell_offset(run, slot, first_cell + i));
        if (values[i] != VALUE_FOREIGN)
            continue;
        oracle_describe(&run->oracle, bytes + (size_t)i * CELL, text, sizeof text);
        violated(run, "guest offset %llu holds %s",
                 (unsigned long long)cell_offset(run, slot, first_cell + i), text);
        break;
    }
    free(bytes);
    if (rc < 0 && run->expects_failure && !run->is_in_crash)
        return false; /* the failure that was armed hit this read */
    if (rc < 0)
        return violated(run, "read of block %llu: %s", (unsigned long long)run->oracle.slots[slot].block_index,
                        err.message);
    return !run->is_violated;
}

static bool
take_look(struct run *run, struct vx_image *image, struct look *look)
{
    size_t slot;
    uint32_t i;

    for (slot = 0; slot < run->oracle.slot_count; slot++)
        for (i = 0; i < look->run_count; i++)
            if (!read_cells(run, image, slot, look->first[look->is_thorough ? 0 : i], look->run_cells,
                            values_of(look, slot, i)))
                return false;
    return true;
}

/* --- judging --- */

/* J2. */
static bool
judge_look(struct run *run, const struct look *look, const char *when)
{
    size_t slot;
    uint32_t i, k;

    for (slot = 0; slot < run->oracle.slot_count; slot++) {
        for (i = 0; i < look->run_count; i++) {
            const uint32_t *values = values_of(look, slot, i);

            for (k = 0; k < look->run_cells; k++) {
                uint32_t cell = look->first[i] + k;

                if (oracle_allows(&run->oracle, &run->oracle.slots[slot], cell, values[k], run->oracle.flushed_at))
                    continue;
                violated(run, "%s: block %llu cell %lu holds write %lu, which it must not", when,
                         (unsigned long long)run->oracle.slots[slot].block_index, (unsigned long)cell,
                         (unsigned long)values[k]);
                if (!crash_quiet)
                    oracle_explain(&run->oracle, &run->oracle.slots[slot], cell);
                return false;
            }
        }
    }
    return true;
}

/* J3. */
static bool
judge_guid(struct run *run, const struct look *look, struct vhdx_storage *storage)
{
    struct walk_header header;
    char why[160];
    size_t slot;
    uint32_t i, k;

    if (!walk_header(storage, &header, why, sizeof why))
        return violated(run, "header: %s", why);
    if (!run->knows_guid || memcmp(header.data_write_guid, run->data_write_guid, 16) != 0)
        return true;
    for (slot = 0; slot < run->oracle.slot_count; slot++)
        for (i = 0; i < look->run_count; i++)
            for (k = 0; k < look->run_cells; k++)
                if (values_of(look, slot, i)[k] != run->oracle.slots[slot].baseline[look->first[i] + k])
                    return violated(run, "block %llu changed and the DataWriteGuid did not",
                                    (unsigned long long)run->oracle.slots[slot].block_index);
    return true;
}

static bool
look_read_only(struct run *run, struct vx_fault *disk, struct look *look)
{
    struct vhdx_error err = { .message = "" };
    struct vhdx_storage *storage;
    struct vx_image *image;
    uint64_t calls = vx_fault_call_count(disk);
    bool is_good;

    if (vx_fault_open(&storage, disk, true, &err) < 0)
        return violated(run, "%s", err.message);
    if (fixture_open(run, &image, storage, false, &err) < 0) {
        vhdx_storage_close(storage);
        return violated(run, "does not open read-only: %s", err.message);
    }
    is_good = take_look(run, image, look) && judge_look(run, look, "read-only") && judge_guid(run, look, storage);
    vx_image_close(image, NULL);
    vhdx_storage_close(storage);
    return is_good && (vx_fault_call_count(disk) == calls || violated(run, "the read-only open wrote to the file"));
}

/* J4. */
static bool
judge_structure(struct run *run, struct vhdx_storage *storage, const char *when)
{
    uint64_t ratio = UINT64_C(0x800000) * run->config->sector_size / run->config->block_size;
    char why[200];

    if (walk_image(storage, run->config->block_size, ratio, run->config->type == VHDX_TYPE_DIFFERENCING, why,
                   sizeof why))
        return true;
    return violated(run, "%s: %s", when, why);
}

static void
report_finding(void *context, const struct vhdx_error *finding)
{
    struct run *run = context;

    if (finding->severity > VHDX_SEVERITY_REPAIR)
        violated(run, "check: %s", finding->message);
}

/* What `vhdx check` says of it. */
static bool
judge_by_check(struct run *run, struct vhdx_storage *storage)
{
    struct vhdx_error err = { .message = "" };
    struct vhdx_check_summary summary;

    if (vhdx_check_storage(storage, NULL, report_finding, run, NULL, &summary, &err) < 0)
        return violated(run, "check: %s", err.message);
    return !run->is_violated;
}

/* --- writing on --- */

/* J5: a spot of every block gets a new value, which goes into the look. */
static bool
write_everywhere(struct run *run, struct vx_image *image, struct look *look)
{
    struct vhdx_error err = { .message = "" };
    uint8_t bytes[SPOT_CELLS * CELL];
    size_t slot;
    uint32_t i;

    for (slot = 0; slot < run->oracle.slot_count; slot++) {
        uint32_t value = UINT32_C(0x80000000) + (uint32_t)slot;
        uint64_t guest_offset = cell_offset(run, slot, look->first[0]);

        oracle_stamp(&run->oracle, bytes, sizeof bytes, guest_offset, value);
        if (vx_image_write(image, bytes, sizeof bytes, guest_offset, &err) < 0)
            return violated(run, "write after recovery: %s", err.message);
        for (i = 0; i < SPOT_CELLS; i++)
            values_of(look, slot, 0)[i] = value;
    }
    if (vx_image_flush(image, &err) < 0)
        return violated(run, "flush after recovery: %s", err.message);
    return true;
}

/* With spots_only, only the cells that write_everywhere wrote. */
static bool
same_look(struct run *run, const struct look *expected, const struct look *found, bool spots_only, const char *when)
{
    size_t slot;
    uint32_t i, k;

    for (slot = 0; slot < run->oracle.slot_count; slot++)
        for (i = 0; i < (spots_only ? 1 : found->run_count); i++)
            for (k = 0; k < (spots_only ? SPOT_CELLS : found->run_cells); k++)
                if (values_of(expected, slot, i)[k] != values_of(found, slot, i)[k])
                    return violated(run, "%s: block %llu cell %lu holds write %lu, not %lu", when,
                                    (unsigned long long)run->oracle.slots[slot].block_index,
                                    (unsigned long)(found->first[i] + k),
                                    (unsigned long)values_of(found, slot, i)[k],
                                    (unsigned long)values_of(expected, slot, i)[k]);
    return true;
}

static bool
try_allocation(struct run *run, struct vx_fault *disk, struct vx_image *image, struct look *look)
{
    struct look again = new_look(run, look->is_thorough);
    struct vhdx_error err = { .message = "" };
    struct vhdx_storage *storage = NULL;
    struct vx_image *reader = NULL;
    struct vx_fault *copy = NULL;
    bool is_good;

    crash_counts.allocations++;
    vx_fault_set_capacity(disk, 0);
    is_good = write_everywhere(run, image, look) && take_look(run, image, &again) &&
              same_look(run, look, &again, false, "after writing on");

    /* What was flushed must be there after a cut that keeps nothing else. */
    if (is_good && (vx_fault_clone(&copy, disk, &err) < 0 || vx_fault_power_cut(copy, VX_KEEP_NONE, false, 0) < 0 ||
                    vx_fault_open(&storage, copy, true, &err) < 0 ||
                    fixture_open(run, &reader, storage, false, &err) < 0))
        is_good = violated(run, "after writing on and a power cut: %s", err.message);
    is_good = is_good && take_look(run, reader, &again) &&
              same_look(run, look, &again, run->reads_may_lie, "after writing on and a power cut");
    if (reader != NULL)
        vx_image_close(reader, NULL);
    vhdx_storage_close(storage);
    vx_fault_free(copy);
    free(again.values);
    return is_good;
}

static bool
look_writable(struct run *run, struct vx_fault *disk, struct look *expected)
{
    struct look look = new_look(run, expected->is_thorough);
    struct vhdx_error err = { .message = "" };
    struct vhdx_storage *storage;
    struct vx_image *image;
    bool is_good;

    if (vx_fault_open(&storage, disk, false, &err) < 0)
        return violated(run, "%s", err.message);
    if (fixture_open(run, &image, storage, true, &err) < 0) {
        vhdx_storage_close(storage);
        free(look.values);
        return violated(run, "does not open for writing: %s", err.message);
    }
    is_good = take_look(run, image, &look) && same_look(run, expected, &look, false, "opened for writing") &&
              judge_structure(run, storage, "after replay");
    if (is_good && random_below(&run->crash_random, 4) == 0)
        is_good = try_allocation(run, disk, image, &look);
    if (vx_image_close(image, &err) < 0 && is_good)
        is_good = violated(run, "close after recovery: %s", err.message);
    is_good = is_good && judge_structure(run, storage, "after close") &&
              (random_below(&run->crash_random, 16) != 0 || judge_by_check(run, storage));
    vhdx_storage_close(storage);
    free(look.values);
    return is_good;
}

/* --- crashes --- */

static bool judge_crash(struct run *run, struct vx_fault *disk, bool is_thorough, unsigned depth);

/* A set of numbers, none of them 0. */
struct set {
    uint64_t *members;
    size_t    room, count;
};

/* Was it new? */
static bool
set_add(struct set *set, uint64_t number)
{
    size_t i;

    if (set->count * 2 >= set->room) {
        struct set grown = { .room = set->room == 0 ? (size_t)1 << 16 : set->room * 2 };

        grown.members = calloc(grown.room, sizeof *grown.members);
        if (grown.members == NULL) {
            fprintf(stderr, "crash tests: out of memory\n");
            exit(1);
        }
        for (i = 0; i < set->room; i++)
            if (set->members[i] != 0)
                set_add(&grown, set->members[i]);
        free(set->members);
        *set = grown;
    }
    for (i = (size_t)(number >> 20) & (set->room - 1); set->members[i] != 0; i = (i + 1) & (set->room - 1))
        if (set->members[i] == number)
            return false;
    set->members[i] = number;
    set->count++;
    return true;
}

/* Count it when its bytes are new; the same bytes are judged again only against a newer flush. */
static bool
is_new_state(const struct run *run, const struct vx_fault *disk)
{
    static struct set contents, judged;
    uint64_t hash = vx_fault_hash(disk) | 1, state = hash ^ run->oracle.flushed_at;

    crash_counts.distinct += set_add(&contents, hash);
    return set_add(&judged, random_next(&state) | 1);
}

/* Stop the disk when it has carried out a certain call. */
struct stop {
    uint64_t at;
};

static void
stop_after(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    const struct stop *stop = context;

    if (!event->is_done && event->call_number == stop->at)
        vx_fault_stop_at_call(fault, 1);
}

/* J6. */
static bool
cut_replay(struct run *run, const struct vx_fault *disk, bool is_thorough, unsigned depth)
{
    struct stop stop = { .at = 1 + random_below(&run->crash_random, 14) };
    struct vhdx_storage *storage;
    struct vx_image *image = NULL;
    struct vx_fault *copy;
    bool is_good, may_lie = run->reads_may_lie;

    if (vx_fault_clone(&copy, disk, NULL) < 0 || vx_fault_open(&storage, copy, false, NULL) < 0)
        return violated(run, "out of memory");
    vx_fault_set_hook(copy, stop_after, &stop);
    if (fixture_open(run, &image, storage, true, NULL) == VHDX_OK)
        vx_image_abandon(image);
    vhdx_storage_close(storage);
    vx_fault_set_hook(copy, NULL, NULL);
    vx_fault_kill(copy);
    if (random_below(&run->crash_random, 4) != 0) {
        run->reads_may_lie = false;
        if (vx_fault_power_cut(copy, (enum vx_fault_keep)random_below(&run->crash_random, VX_KEEP_COUNT),
                               random_below(&run->crash_random, 2) == 0, random_next(&run->crash_random)) < 0)
            return violated(run, "out of memory");
    }
    crash_counts.replay_cuts++;
    is_good = judge_crash(run, copy, is_thorough, depth + 1);
    run->reads_may_lie = may_lie;
    vx_fault_free(copy);
    return is_good;
}

static bool
judge_crash(struct run *run, struct vx_fault *disk, bool is_thorough, unsigned depth)
{
    struct look look;
    bool is_good;

    if (!is_new_state(run, disk))
        return true;
    crash_counts.states++;
    look = new_look(run, is_thorough);
    is_good = look_read_only(run, disk, &look);
    if (is_good && depth < 2 && random_below(&run->crash_random, 3) == 0)
        is_good = cut_replay(run, disk, is_thorough, depth);
    is_good = is_good && look_writable(run, disk, &look);
    free(look.values);
    return is_good;
}

bool
examine(struct run *run, struct vx_fault *disk, bool is_thorough)
{
    bool was_in_crash = run->is_in_crash, is_good;

    schedule_hold();
    run->is_in_crash = true;
    is_good = judge_crash(run, disk, is_thorough, 0);
    run->is_in_crash = was_in_crash;
    schedule_release();
    return is_good;
}

bool
examine_replays(struct run *run, unsigned count)
{
    bool is_good = true;

    schedule_hold();
    run->is_in_crash = true;
    for (; is_good && count > 0; count--)
        is_good = cut_replay(run, run->disk, false, 1);
    run->is_in_crash = false;
    schedule_release();
    return is_good;
}

void
try_crash(struct run *run, unsigned chance)
{
    static const enum vx_fault_keep biased[] = { VX_KEEP_NONE, VX_KEEP_ALL, VX_KEEP_PREFIX, VX_KEEP_ALL_BUT_ONE,
                                                 VX_KEEP_ALL_BUT_ONE, VX_KEEP_ONLY_ONE, VX_KEEP_ONLY_ONE,
                                                 VX_KEEP_RANDOM };
    struct vx_fault *copy;

    while (!run->is_violated && chance > 0) {
        if (random_below(&run->crash_random, 256) >= chance)
            return;
        chance = chance > 256 ? chance - 256 : 0;
        if (vx_fault_clone(&copy, run->disk, NULL) < 0 ||
            vx_fault_power_cut(copy, biased[random_below(&run->crash_random, 8)],
                               random_below(&run->crash_random, 2) == 0, random_next(&run->crash_random)) < 0) {
            violated(run, "out of memory");
            return;
        }
        examine(run, copy, random_below(&run->crash_random, 48) == 0);
        vx_fault_free(copy);
    }
}

bool
rebase(struct run *run)
{
    struct look look = new_look(run, true);
    struct walk_header header;
    struct vhdx_error err = { .message = "" };
    struct vhdx_storage *storage;
    struct vx_image *image;
    char why[160];
    bool is_good;
    size_t slot;

    schedule_hold();
    if (vx_fault_open(&storage, run->disk, true, &err) < 0 ||
        fixture_open(run, &image, storage, false, &err) < 0)
        return violated(run, "does not open read-only: %s", err.message);
    is_good = take_look(run, image, &look) && judge_look(run, &look, "thorough look");
    is_good = is_good && (walk_header(storage, &header, why, sizeof why) || violated(run, "header: %s", why));
    vx_image_close(image, NULL);
    vhdx_storage_close(storage);
    for (slot = 0; is_good && slot < run->oracle.slot_count; slot++)
        oracle_rebase(&run->oracle, slot, values_of(&look, slot, 0));
    if (is_good) {
        memcpy(run->data_write_guid, header.data_write_guid, 16);
        run->knows_guid = true;
        run->oracle.flushed_at = oracle_now(&run->oracle);
    }
    free(look.values);
    schedule_release();
    return is_good;
}
