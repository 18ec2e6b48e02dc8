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

/* --- what the log says --- */

/* Visit the descriptors of the entries that a crash now would replay, oldest first; `data` is a data descriptor's sector. */
typedef void (*visit_descriptor)(void *context, const struct vx_log_descriptor *descriptor,
                                 const uint8_t data[VX_LOG_SECTOR]);

/* Entries of these tests have one sector of descriptors. */
static void
visit_entry(struct vhdx_storage *storage, const struct vx_log_scan *scan, const struct vx_log_place *place,
            visit_descriptor visit, void *context)
{
    uint8_t first[VX_LOG_SECTOR], data[VX_LOG_SECTOR];
    struct vx_log_descriptor descriptor;
    uint32_t i, seen = 1;

    if (vx_storage_read(storage, first, sizeof first, scan->log_offset + place->position, NULL) < 0)
        return;
    for (i = 0; i < place->descriptor_count; i++) {
        uint64_t at = (place->position + seen * UINT64_C(4096)) % scan->log_length;

        if (!vx_log_descriptor_decode(&descriptor, first + vx_log_descriptor_offset(i)) ||
            vx_storage_read(storage, data, sizeof data, scan->log_offset + at, NULL) < 0)
            return;
        seen += !descriptor.is_zero;
        visit(context, &descriptor, data);
    }
}

static void
visit_log(struct run *run, struct vhdx_storage *storage, visit_descriptor visit, void *context)
{
    uint8_t copies[2][VX_HEADER_SIZE];
    struct vx_log_scan scan = { 0 };
    struct vx_findings findings;
    struct vx_header header;
    uint64_t size;
    uint32_t i;
    int index;

    vx_findings_init(&findings, NULL, NULL);
    if (vx_storage_get_size(storage, &size, NULL) == VHDX_OK &&
        vx_storage_read(storage, copies[0], VX_HEADER_SIZE, VX_HEADER_OFFSET(0), NULL) == VHDX_OK &&
        vx_storage_read(storage, copies[1], VX_HEADER_SIZE, VX_HEADER_OFFSET(1), NULL) == VHDX_OK &&
        vx_header_choose(&header, &index, copies[0], copies[1], &findings) == VHDX_OK &&
        vx_log_scan(&scan, storage, &header, run->config->log_sectors * 4096, size, &findings, NULL) == VHDX_OK &&
        scan.has_active) {
        for (i = scan.tail_index;; i = scan.places[i].next) {
            visit_entry(storage, &scan, &scan.places[i], visit, context);
            if (i == scan.head_index)
                break;
        }
    }
    vx_log_scan_free(&scan);
}

/* --- an edit between the steps of a commit --- */

struct edit {
    struct run          *run;
    struct vhdx_storage *reader;
    uint64_t             table_offset, table_length; /* of the block allocation table */
    bool                 is_armed;
    uint64_t             points_left; /* moments of the flush until the edit */
};

struct image_of_page {
    uint64_t file_offset;
    uint8_t  bytes[VX_PAGE]; /* as it lies in the file */
    bool     is_logged, is_as_logged;
};

static void
compare_page(void *context, const struct vx_log_descriptor *descriptor, const uint8_t data[VX_LOG_SECTOR])
{
    struct image_of_page *page = context;
    uint8_t logged[VX_PAGE];

    if (descriptor->is_zero || descriptor->file_offset != page->file_offset)
        return;
    vx_log_page_decode(logged, descriptor, data);
    page->is_logged = true;
    page->is_as_logged = memcmp(logged, page->bytes, VX_PAGE) == 0; /* the newest entry decides */
}

/* W3: what is applied is what the entry carries, and no later edit. */
static void
judge_applied(struct edit *edit, const struct vx_fault_event *event)
{
    struct image_of_page page = { .file_offset = event->file_offset };

    if (!event->is_done || event->kind != VX_CALL_WRITE || event->file_offset < edit->table_offset ||
        event->file_offset >= edit->table_offset + edit->table_length)
        return;
    if (vx_storage_read(edit->reader, page.bytes, VX_PAGE, page.file_offset, NULL) < 0)
        return;
    visit_log(edit->run, edit->reader, compare_page, &page);
    if (!page.is_logged || !page.is_as_logged)
        violated(edit->run, "the page at %llu is not written as the log has it", (unsigned long long)page.file_offset);
}

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
    judge_applied(edit, event);
    try_crash(edit->run, edit->run->density);
}

static bool
edit_in_commit(struct run *run, uint64_t variant)
{
    struct edit edit = { .run = run, .points_left = variant % 12 };
    struct vhdx_info info;

    run->density = 0;
    if (!begin_session(run) || vx_fault_open(&edit.reader, run->disk, true, NULL) < 0)
        return false;
    vx_image_fill_info(run->image, &info);
    edit.table_offset = info.bat_offset;
    edit.table_length = info.bat_length;
    do_write(run, 0, MIB);
    do_write(run, MIB, 4096);
    do_flush(run);
    do_trim(run, 0, MIB); /* the edit will take what block 0 held */
    do_flush(run);
    do_trim(run, MIB, MIB);

    run->density = 256 * 3;
    edit.is_armed = true;
    vx_fault_set_hook(run->disk, edit_and_crash, &edit);
    do_flush(run);
    edit.is_armed = false;
    do_flush(run);
    vhdx_storage_close(edit.reader);
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
    do_write(run, 0, 4096);
    do_flush(run);
    do_write(run, run->config->blocks[2] * MIB, 4096); /* another chunk: no page that an earlier entry carries */
    run->expects_failure = true;
    vx_fault_set_hook(run->disk, stop_in_commit, &stop);
    do_flush(run);
    return end_session(run, END_KILL) && examine_replays(run, 24);
}

/* --- the space of a bitmap block (R2) --- */

struct named {
    uint64_t file_offset, length;
    bool     is_named;
};

static void
look_for_range(void *context, const struct vx_log_descriptor *descriptor, const uint8_t data[VX_LOG_SECTOR])
{
    struct named *named = context;
    uint64_t end = descriptor->file_offset + (descriptor->is_zero ? descriptor->zero_length : 4096);

    (void)data;
    named->is_named = named->is_named || (descriptor->file_offset < named->file_offset + named->length &&
                                          named->file_offset < end);
}

/* Does an entry that a crash now would replay name a byte of the range? */
static bool
log_names(struct run *run, struct vhdx_storage *storage, uint64_t file_offset, uint64_t length)
{
    struct named named = { file_offset, length, false };

    visit_log(run, storage, look_for_range, &named);
    return named.is_named;
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

#define CHILD_OF_TWO_CHUNKS(ring)                                                                               \
    { .name = "directed", .disk = { .tear_unit = 512, .can_punch = true, .extension_survives_as_zeros = true }, \
      .type = VHDX_TYPE_DIFFERENCING, .virtual_size = 8192 * MIB, .block_size = 1 << 20, .sector_size = 512,    \
      .block_count = 4, .blocks = { 0, 1, 4700, 4701 }, .log_sectors = (ring), .thread_count = 1 }

const struct directed directed_cases[] = {
    { "headers", "both header copies change in every sector", DYNAMIC(13, true), 60, headers },
    { "edit-in-commit", "another thread's edit at each moment of a flush", DYNAMIC(13, false), 60, edit_in_commit },
    { "edit-in-commit-punched", "the same where space is punched", DYNAMIC(13, true), 36, edit_in_commit },
    { "killed-in-commit", "a kill within a commit, and its replay cut everywhere", CHILD_OF_TWO_CHUNKS(13), 40,
      killed_in_commit },
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
