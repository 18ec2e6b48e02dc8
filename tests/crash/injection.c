/*
 * Every call fails once: each storage call of a workload with EIO and with ENOSPC, each allocation, each call of a
 * creation.  The caller is told, nothing that was flushed is lost, the image opens again.  (No leak: under the sanitizers.)
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/ops.h>

#include "base/memory.h"
#include "crash.h"
#include "storage/storage.h"

#define MIB UINT64_C(0x100000)

enum failing { FAIL_EIO, FAIL_ENOSPC, FAIL_ALLOCATION };
static const char *const failing_names[] = { "each call fails with EIO", "each call fails with ENOSPC",
                                             "each allocation fails" };

/* How the workload begins: on a fresh image, or on one whose log is to be replayed. */
enum start { START_FRESH, START_DIRTY };
static const char *const start_names[] = { "fresh", "dirty" };

/* Some of everything: new blocks, overwrites, edges, reuse of freed space, zeros, a second commit, a second session. */
static void
work_a_little(struct run *run)
{
    do_write(run, 0, 4096);
    do_write(run, MIB, MIB);
    do_flush(run);
    do_write(run, 2 * MIB - 1024, 2048);
    do_write(run, 512 * 1024 + 128, 256);
    do_zero(run, 2 * MIB - 4096, 2048);
    do_flush(run);
    do_trim(run, 0, MIB);
    do_flush(run);
    do_write(run, 2 * MIB + 4096, 512);
    do_write(run, 0, 1024);
    do_zero(run, MIB, MIB);
    do_read(run, 0);
    do_flush(run);
    if (run->config->type == VHDX_TYPE_DIFFERENCING)
        do_drop_bitmap(run);
    do_write(run, MIB + 8192, 512);
}

/* A session whose log is left behind, without any failure. */
static bool
leave_dirty(struct run *run)
{
    run->expects_failure = false;
    if (!begin_session(run))
        return false;
    do_write(run, 2 * MIB, 4096);
    do_write(run, 0, MIB);
    do_flush(run);
    do_trim(run, 0, MIB);
    do_flush(run);
    return end_session(run, END_KILL);
}

static void
arm(struct run *run, enum failing failing, uint64_t n)
{
    run->expects_failure = true;
    if (failing == FAIL_ALLOCATION)
        vx_alloc_fail_nth_for_tests((size_t)n);
    else
        vx_fault_fail_nth(run->disk, n, UINT32_MAX, failing == FAIL_EIO ? EIO : ENOSPC, run->seed + n);
}

/* Has it happened?  Disarms. */
static bool
has_happened(struct run *run, enum failing failing, uint64_t n)
{
    if (failing == FAIL_ALLOCATION)
        return vx_alloc_fail_nth_for_tests(0) >= n;
    return vx_fault_has_failed(run->disk, NULL);
}

/* A write or flush that fails must reach somebody's ear. */
static bool
judge_report(struct run *run, bool was_told)
{
    enum vx_fault_call what;

    if (was_told || !vx_fault_has_failed(run->disk, &what) || (what != VX_CALL_WRITE && what != VX_CALL_FLUSH))
        return true;
    return violated(run, "a %s failed and nobody was told", what == VX_CALL_WRITE ? "write" : "flush");
}

/* Power cuts of what is left. */
static bool
judge_cuts(struct run *run)
{
    static const enum vx_fault_keep keeps[] = { VX_KEEP_NONE, VX_KEEP_ALL, VX_KEEP_RANDOM, VX_KEEP_ALL_BUT_ONE };
    size_t i;

    for (i = 0; i < sizeof keeps / sizeof keeps[0] && !run->is_violated; i++) {
        struct vx_fault *copy;

        if (vx_fault_clone(&copy, run->disk, NULL) < 0 ||
            vx_fault_power_cut(copy, keeps[i], i >= 2, random_next(&run->crash_random)) < 0)
            return violated(run, "out of memory");
        examine(run, copy, i == 0);
        vx_fault_free(copy);
    }
    return !run->is_violated;
}

/* One workload in which the n-th call fails.  *is_last: it has fewer calls. */
static bool
fail_once(const struct crash_config *config, enum start start, enum failing failing, uint64_t n, bool *is_last)
{
    struct run run;
    bool is_good;

    run_begin(&run, config, n);
    run.density = 0;
    is_good = start == START_FRESH || leave_dirty(&run);
    if (is_good) {
        arm(&run, failing, n);
        if (begin_session(&run))
            work_a_little(&run);
        if (run.image != NULL)
            do_close(&run);
        *is_last = !has_happened(&run, failing, n);
        is_good = judge_report(&run, run.has_failed) && judge_cuts(&run) && end_session(&run, END_CLOSE);
    }
    run.expects_failure = false;
    if (is_good && begin_session(&run)) { /* and it goes on */
        do_write(&run, 2 * MIB, 4096);
        do_flush(&run);
        is_good = end_session(&run, END_CLOSE);
    }
    is_good = is_good && !run.is_violated;
    if (!is_good && run.is_violated)
        printf("# call %llu\n", (unsigned long long)n);
    run_end(&run);
    return is_good;
}

static void
fail_each(const struct crash_config *config, enum start start, enum failing failing)
{
    bool is_last = false, is_good = true;
    uint64_t n;

    for (n = 1; is_good && !is_last; n++)
        is_good = fail_once(config, start, failing, n, &is_last);
    tap_ok(is_good, "%s, %s image: %s, %llu of them", config->name, start_names[start], failing_names[failing],
           (unsigned long long)(n - 2));
}

/* --- creation --- */

static bool
has_identifier(struct vhdx_storage *storage)
{
    char signature[8] = "";

    return vx_storage_read(storage, signature, sizeof signature, 0, NULL) == VHDX_OK &&
           memcmp(signature, "vhdxfile", sizeof signature) == 0;
}

/* Is what a creation left either no image, that is, a file without the identifier (N1), or a good one? */
static bool
judge_created(struct vx_fault *disk, const struct crash_config *config, const char *when, uint64_t n)
{
    struct vhdx_check_summary summary;
    struct vhdx_error err = { .message = "" };
    struct vhdx_storage *storage;
    struct vx_image *image;
    struct run run = { .config = config };
    bool is_good = true;

    if (vx_fault_open(&storage, disk, true, &err) < 0)
        return false;
    if (has_identifier(storage)) {
        is_good = fixture_open(&run, &image, storage, false, &err) == VHDX_OK;
        if (is_good)
            vx_image_close(image, NULL);
        is_good = is_good && vhdx_check_storage(storage, NULL, NULL, NULL, NULL, &summary, &err) == VHDX_OK &&
                  summary.finding_count[VHDX_SEVERITY_RO] + summary.finding_count[VHDX_SEVERITY_BLOCK] +
                      summary.finding_count[VHDX_SEVERITY_REFUSE] == 0;
        if (!is_good)
            printf("# creation, call %llu, %s: says it is an image and is not good: %s\n", (unsigned long long)n, when,
                   err.message);
    }
    vhdx_storage_close(storage);
    return is_good;
}

/* The n-th call fails, or is the last.  *is_last: there are fewer. */
static bool
create_once(const struct crash_config *config, uint64_t n, bool stops, bool *is_last)
{
    struct vhdx_storage *storage;
    struct vx_fault *disk;
    enum vx_fault_call what = VX_CALL_READ;
    bool is_good;
    int rc, keep;

    if (vx_fault_new(&disk, &config->disk, NULL) < 0 || vx_fault_open(&storage, disk, false, NULL) < 0)
        exit(1);
    if (stops)
        vx_fault_stop_at_call(disk, n);
    else
        vx_fault_fail_nth(disk, n, UINT32_MAX, EIO, n);
    rc = fixture_create(storage, config, NULL);
    *is_last = stops ? rc == VHDX_OK : !vx_fault_has_failed(disk, &what);
    is_good = *is_last || rc < 0 || (what != VX_CALL_WRITE && what != VX_CALL_FLUSH);
    if (!is_good)
        printf("# creation, call %llu: failed and nobody was told\n", (unsigned long long)n);
    vhdx_storage_close(storage);
    vx_fault_kill(disk);
    is_good = is_good && judge_created(disk, config, "same boot", n);
    for (keep = 0; is_good && keep < VX_KEEP_COUNT; keep++) {
        struct vx_fault *copy;

        if (vx_fault_clone(&copy, disk, NULL) < 0 ||
            vx_fault_power_cut(copy, (enum vx_fault_keep)keep, true, n * VX_KEEP_COUNT + (unsigned)keep) < 0)
            exit(1);
        is_good = judge_created(copy, config, "power cut", n);
        vx_fault_free(copy);
    }
    vx_fault_free(disk);
    return is_good;
}

static void
create_each(const struct crash_config *config, bool stops)
{
    bool is_last = false, is_good = true;
    uint64_t n;

    for (n = 1; is_good && !is_last; n++)
        is_good = create_once(config, n, stops, &is_last);
    tap_ok(is_good, "%s: a creation that %s at each call is no image or a good one, %llu of them", config->name,
           stops ? "ends" : "fails", (unsigned long long)(n - 2));
}

int
main(void)
{
    static const char *const names[] = { "dynamic-512", "dynamic-4096", "child", "fixed" };
    size_t i, k;
    int start, failing;

    for (i = 0; i < sizeof names / sizeof names[0]; i++) {
        for (k = 0; strcmp(crash_configs[k].name, names[i]) != 0; k++)
            ;
        for (start = START_FRESH; start <= START_DIRTY; start++)
            for (failing = FAIL_EIO; failing <= FAIL_ALLOCATION; failing++)
                fail_each(&crash_configs[k], (enum start)start, (enum failing)failing);
        create_each(&crash_configs[k], false);
        create_each(&crash_configs[k], true);
    }
    fixture_forget();
    return tap_end();
}
