/*
 * Shared by the crash tests: what a run is made of, and the judgement of one crash state.
 */
#ifndef CRASH_CRASH_H
#define CRASH_CRASH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <vhdx/disk.h>

#include "image/image.h"
#include "oracle.h"
#include "storage/fault.h"
#include "tap.h"

enum op { OP_WRITE, OP_ZERO, OP_TRIM, OP_FLUSH, OP_READ, OP_DROP_BITMAP, OP_COUNT };

/* How a round ends. */
enum end { END_CLOSE, END_POWER, END_KILL, END_FAILED_FLUSH, END_COUNT };

struct crash_config {
    const char             *name;
    struct vx_fault_options disk;
    enum vhdx_image_type    type;
    uint64_t                virtual_size;
    uint32_t                block_size, sector_size;
    size_t                  block_count;
    uint64_t                blocks[ORACLE_MAX_SLOTS]; /* the blocks that are used */
    uint32_t                log_sectors;              /* of 4 KiB; the ring */
    size_t                  thread_count;             /* 1: no scheduler */
    unsigned                op_weights[OP_COUNT];
    unsigned                end_weights[END_COUNT];
    unsigned                ops_per_round, rounds_per_run;
    unsigned                whole_percent;            /* of the writes: whole blocks */
    uint64_t                room;                     /* host space beyond what the empty image takes; 0: no limit */
};

extern const struct crash_config crash_configs[];
extern const size_t              crash_config_count;

/* Counts over all runs of a program. */
struct crash_counts {
    uint64_t states;   /* judged */
    uint64_t distinct; /* different contents of the file */
    uint64_t replay_cuts, rounds, allocations;
};
extern struct crash_counts crash_counts;

/* One disk's life: an image, what it must hold, and where the test stands. */
struct run {
    const struct crash_config *config;
    uint64_t                   seed;
    uint64_t                   work_random, crash_random;
    unsigned                   density; /* crash states tried at each storage call, in 256ths */
    struct vx_fault           *disk;
    struct vhdx_storage       *storage;
    struct vx_image           *image;
    struct oracle              oracle;
    bool                       knows_guid; /* what the file held at the last durable point, and its DataWriteGuid: */
    uint8_t                    data_write_guid[16];
    bool                       expects_failure; /* a failure or stop was armed: operations may fail */
    bool                       has_failed;      /* the caller was told of a failure in this session */
    bool                       is_failed;       /* ... and that the image takes no more writes, or that a flush failed */
    bool                       is_over;         /* no more operations in this round */
    bool                       is_in_crash;     /* the judge runs: its own storages have no say */
    bool                       lost_flush;      /* a flush failed in this boot: what is readable may not be stored */
    bool                       reads_may_lie;   /* the judged file comes from such a boot, without a power cut */
    bool                       is_violated;
    char                       violation[512];
};

/* --- fixture.c --- */
/* A fresh image of a configuration on a fault disk of its own (a copy of one that is made once). */
/* A new image of this kind. */
int fixture_create(struct vhdx_storage *storage, const struct crash_config *config, struct vhdx_error *err);

struct vx_fault *fixture_disk(const struct crash_config *config);
/* Open the image on a storage as the configuration wants it. */
int fixture_open(const struct run *run, struct vx_image **out, struct vhdx_storage *storage, bool is_writable,
                 struct vhdx_error *err);
void fixture_forget(void);

/* --- examine.c --- */
/* Judge a file as a crash or a kill left it.  `disk` is changed by it.  False after a violation. */
bool examine(struct run *run, struct vx_fault *disk, bool is_thorough);
/* Writable opens of copies of the run's disk, cut or killed in the middle, and judged. */
bool examine_replays(struct run *run, unsigned count);
/* A power cut on a copy of the run's disk, as it is now; sometimes several. */
void try_crash(struct run *run, unsigned chance);
/* Read cells of an image: values, or false after a violation or a failure that was armed. */
bool read_cells(struct run *run, struct vx_image *image, size_t slot, uint32_t first_cell, uint32_t count,
                uint32_t *values);
/* Take what the image holds now as the beginning of a new life. */
bool rebase(struct run *run);
/* Record the first violation; prints it with all that replays it. */
bool violated(struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- workload.c --- */
void run_begin(struct run *run, const struct crash_config *config, uint64_t seed);
void run_end(struct run *run);
/* Some rounds.  False after a violation. */
bool run_rounds(struct run *run);

/* One operation each; they keep the oracle.  Return the image's answer. */
int do_write(struct run *run, uint64_t guest_offset, uint64_t length);
int do_zero(struct run *run, uint64_t guest_offset, uint64_t length);
int do_trim(struct run *run, uint64_t guest_offset, uint64_t length);
int do_flush(struct run *run);
void do_read(struct run *run, size_t slot);
void do_drop_bitmap(struct run *run);
/* Close the image, not the session; false after a violation. */
bool do_close(struct run *run);

/* Open; false after a violation, or when the failure that was armed hit the open (has_failed). */
bool begin_session(struct run *run);
/* End it; false after a violation.  After END_POWER, and END_CLOSE where reads tell what is stored, the oracle begins anew. */
bool end_session(struct run *run, enum end end);

/* Print what happens (--replay); print no violations (breakages: they are wanted). */
extern bool crash_trace, crash_quiet;
void trace(const struct run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* --- random numbers --- */
uint64_t random_next(uint64_t *state);
uint64_t random_below(uint64_t *state, uint64_t bound);

#endif
