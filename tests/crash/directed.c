#include "directed.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/header.h"
#include "format/log_entry.h"
#include "image/replay.h"
#include "schedule.h"
#include "storage/storage.h"

#define MIB UINT64_C(0x100000)

/* --- headers with something in their reserved bytes --- */

/* Only then does a header change in more than one sector, so that two torn copies are two bad ones. */
static bool
fill_reserved_bytes(struct run *run)
{
    struct vhdx_storage *storage;
    uint8_t header[4096];
    int copy;

    if (vx_fault_open(&storage, run->disk, false, NULL) < 0)
        return violated(run, "out of memory");
    for (copy = 0; copy < 2; copy++) {
        if (vx_storage_read(storage, header, sizeof header, VX_HEADER_OFFSET(copy), NULL) < 0)
            return violated(run, "cannot read a header");
        memset(header + 80, 0xa5, sizeof header - 80);
        vx_put_le32(header + 4, vx_crc32c_hole(header, sizeof header, 4));
        if (vx_fault_poke(run->disk, VX_HEADER_OFFSET(copy), header, sizeof header) < 0)
            return violated(run, "out of memory");
    }
    vhdx_storage_close(storage);
    return true;
}

static bool
headers(struct run *run, uint64_t variant)
{
    (void)variant;
    run->density = 256 * 12;
    if (!fill_reserved_bytes(run) || !begin_session(run))
        return false;
    do_write(run, 0, 4096);
    return end_session(run, END_KILL);
}

/* --- an edit between the steps of a commit --- */

struct edit {
    struct run *run;
    bool        is_armed;
    uint64_t    points_left; /* moments of the flush until the edit */
};

static void *
write_elsewhere(void *context)
{
    struct run *run = context;

    do_write(run, 2 * MIB, 4096);
    return NULL;
}

/* The edit is made by another thread, which ends before the flush goes on. */
static void
edit_and_crash(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct edit *edit = context;
    pthread_t thread;

    (void)fault;
    if (edit->is_armed && (event->kind == VX_CALL_FLUSH || event->kind == VX_CALL_WRITE) && edit->points_left-- == 0) {
        edit->is_armed = false;
        if (pthread_create(&thread, NULL, write_elsewhere, edit->run) != 0)
            exit(1);
        pthread_join(thread, NULL);
    }
    try_crash(edit->run, edit->run->density);
}

static bool
edit_in_commit(struct run *run, uint64_t variant)
{
    struct edit edit = { .run = run, .points_left = variant % 12 };

    run->density = 0;
    if (!begin_session(run))
        return false;
    do_write(run, 0, MIB);
    do_flush(run);
    do_trim(run, 0, MIB);
    do_flush(run);
    do_write(run, MIB, 4096); /* takes what block 0 held, or new space */
    do_trim(run, MIB, MIB);
    do_write(run, 3 * MIB, 512);

    run->density = 256 * 3;
    edit.is_armed = true;
    vx_fault_set_hook(run->disk, edit_and_crash, &edit);
    do_flush(run);
    edit.is_armed = false;
    do_flush(run);
    do_write(run, MIB, 512);
    do_flush(run);
    return end_session(run, END_POWER);
}

/* --- killed in a commit, and the replay cut --- */

struct stop {
    struct run *run;
    uint64_t    calls_left;
};

static void
stop_in_commit(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct stop *stop = context;

    if (!event->is_done && stop->calls_left-- == 0)
        vx_fault_stop_at_call(fault, 1);
}

static bool
killed_in_commit(struct run *run, uint64_t variant)
{
    struct stop stop = { .run = run, .calls_left = variant % 5 };

    run->density = 0;
    if (!begin_session(run))
        return false;
    do_write(run, 3 * MIB, 4096);
    do_flush(run);
    do_write(run, 0, 4096);
    run->expects_failure = true;
    vx_fault_set_hook(run->disk, stop_in_commit, &stop);
    do_flush(run);
    return end_session(run, END_KILL) && examine_replays(run, 24);
}

/* --- the space of a bitmap block (R2) --- */

/* Does a descriptor of the entries that a crash now would replay name a byte of the range? */
static bool
log_names(struct run *run, struct vhdx_storage *storage, uint64_t file_offset, uint64_t length)
{
    uint8_t copies[2][VX_HEADER_SIZE], sector[VX_LOG_SECTOR];
    struct vx_log_scan scan = { 0 };
    struct vx_findings findings;
    struct vx_header header;
    bool is_named = false;
    uint64_t size;
    uint32_t i, k;
    int index;

    vx_findings_init(&findings, NULL, NULL);
    if (vx_storage_get_size(storage, &size, NULL) < 0 ||
        vx_storage_read(storage, copies[0], VX_HEADER_SIZE, VX_HEADER_OFFSET(0), NULL) < 0 ||
        vx_storage_read(storage, copies[1], VX_HEADER_SIZE, VX_HEADER_OFFSET(1), NULL) < 0 ||
        vx_header_choose(&header, &index, copies[0], copies[1], &findings) < 0 ||
        vx_log_scan(&scan, storage, &header, run->config->log_sectors * 4096, size, &findings, NULL) < 0 ||
        !scan.has_active) {
        vx_log_scan_free(&scan);
        return false;
    }
    for (i = scan.tail_index;; i = scan.places[i].next) {
        uint64_t at = header.log_offset + scan.places[i].position;

        /* Entries of these tests have one sector of descriptors. */
        if (vx_storage_read(storage, sector, sizeof sector, at, NULL) < 0)
            break;
        for (k = 0; k < scan.places[i].descriptor_count; k++) {
            struct vx_log_descriptor descriptor;
            uint64_t end;

            if (!vx_log_descriptor_decode(&descriptor, sector + vx_log_descriptor_offset(k)))
                continue;
            end = descriptor.file_offset + (descriptor.is_zero ? descriptor.zero_length : 4096);
            is_named = is_named || (descriptor.file_offset < file_offset + length && file_offset < end);
        }
        if (i == scan.head_index)
            break;
    }
    vx_log_scan_free(&scan);
    return is_named;
}

struct watch {
    struct run          *run;
    struct vhdx_storage *reader;
    bool                 is_armed; /* payload is being written, and no metadata */
};

static void
watch_payload(void *context, struct vx_fault *fault, const struct vx_fault_event *event)
{
    struct watch *watch = context;

    (void)fault;
    if (watch->is_armed && !event->is_done && event->kind == VX_CALL_WRITE &&
        log_names(watch->run, watch->reader, event->file_offset, event->length))
        violated(watch->run, "payload is written at %llu, which an entry to be replayed names",
                 (unsigned long long)event->file_offset);
    try_crash(watch->run, watch->run->density);
}

/*
 * A bitmap block comes (in the first entry) and goes, and its space is wanted at once: variants with 0 to 2 commits
 * between.  Afterwards the first entry still lies in the ring, before the tail.
 */
static bool
bitmap_goes(struct run *run, uint64_t variant)
{
    struct watch watch = { .run = run };
    uint64_t i;

    run->density = 0;
    if (vx_fault_open(&watch.reader, run->disk, true, NULL) < 0)
        return violated(run, "out of memory");
    if (begin_session(run)) {
        vx_fault_set_hook(run->disk, watch_payload, &watch);
        do_write(run, 0, 4096);
        do_flush(run);
        do_zero(run, 0, MIB);
        do_drop_bitmap(run);
        do_flush(run);
        for (i = 0; i < variant % 3; i++) {
            do_write(run, 0, i == 0 ? MIB : 4096);
            do_zero(run, 0, MIB);
            do_flush(run);
        }
        watch.is_armed = true;
        for (i = 1; i < run->config->block_count && !run->is_violated; i++)
            do_write(run, i * MIB, MIB);
        watch.is_armed = false;
        run->density = 512;
        do_flush(run);
    }
    vhdx_storage_close(watch.reader);
    return !run->is_violated && end_session(run, END_POWER);
}

/* --- the cases --- */

#define DYNAMIC(ring, punch)                                                                                    \
    { .name = "directed", .disk = { .tear_unit = 512, .can_punch = (punch), .extension_survives_as_zeros = true }, \
      .type = VHDX_TYPE_DYNAMIC, .virtual_size = 4 * MIB, .block_size = 1 << 20, .sector_size = 512,            \
      .block_count = 4, .blocks = { 0, 1, 2, 3 }, .log_sectors = (ring), .thread_count = 1 }
#define CHILD(ring)                                                                                             \
    { .name = "directed", .disk = { .tear_unit = 512, .can_punch = false, .extension_survives_as_zeros = true }, \
      .type = VHDX_TYPE_DIFFERENCING, .virtual_size = 5 * MIB, .block_size = 1 << 20, .sector_size = 512,       \
      .block_count = 5, .blocks = { 0, 1, 2, 3, 4 }, .log_sectors = (ring), .thread_count = 1 }

const struct directed directed_cases[] = {
    { "headers", "both header copies change in every sector", DYNAMIC(13, true), 60, headers },
    { "edit-in-commit", "another thread's edit at each moment of a flush", DYNAMIC(13, false), 60, edit_in_commit },
    { "edit-in-commit-punched", "the same where space is punched", DYNAMIC(13, true), 36, edit_in_commit },
    { "killed-in-commit", "a kill within a commit, and its replay cut everywhere", CHILD(13), 40, killed_in_commit },
    { "bitmap-goes", "the space of a bitmap block is wanted again", CHILD(13), 60, bitmap_goes },
};
const size_t directed_case_count = sizeof directed_cases / sizeof directed_cases[0];

const struct directed *
directed_find(const char *name)
{
    size_t i;

    for (i = 0; i < directed_case_count; i++)
        if (strcmp(directed_cases[i].name, name) == 0)
            return &directed_cases[i];
    return NULL;
}

bool
directed_run(const struct directed *directed, uint64_t variant, char *violation, size_t violation_size)
{
    struct run run;
    bool is_good;

    run_begin(&run, &directed->config, variant);
    is_good = directed->body(&run, variant) && !run.is_violated;
    if (violation != NULL)
        snprintf(violation, violation_size, "%s", run.violation);
    run_end(&run);
    return is_good;
}
