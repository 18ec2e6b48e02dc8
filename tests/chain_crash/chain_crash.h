/*
 * Jobs over files and chains, crashed at every storage call: what a world of files is, and the judgement of one state of it.
 *
 * Every file has a fault disk of its own.  The power goes for all of them at one instant, and each keeps what it keeps: what
 * the job must not get wrong is the order between files.
 */
#ifndef CHAIN_CRASH_H
#define CHAIN_CRASH_H

#include <stdbool.h>
#include <stdint.h>

#include <vhdx/chain.h>

#include "ops/chain_fixture.h"
#include "ops/free_list.h"
#include "storage/fault.h"

#define WORLD_MOST 5

/* Files by role; a scenario names what each number is. */
struct world {
    struct vx_fault     *disks[WORLD_MOST];
    struct vhdx_storage *storages[WORLD_MOST]; /* open, or all NULL */
    unsigned             count;
};

/* What a guest must read, through which files. */
struct content {
    uint8_t *bytes;
    uint64_t size;
};

/* What is told of a file without its content. */
struct facts {
    struct vhdx_guid data_guid;
    uint64_t         length;    /* of the file */
    uint64_t         allocated; /* of the host's space */
};

struct expectation;

struct scenario {
    const char            *name;
    struct vx_fault_options disk;
    struct chain_shape     shapes[WORLD_MOST]; /* of each file; size 0: no such file */
    uint32_t               ring_sectors;       /* of 4 KiB */
    unsigned               merged;             /* of merges: how many layers go into the next one */

    /* Fill a fresh file.  NULL: some of everything. */
    void (*fill)(struct vhdx_storage *storage, unsigned number);
    /* The job.  Called again it must finish what was begun. */
    int (*run)(const struct scenario *scenario, struct world *world, struct vhdx_error *err);
    /* The chain to look at through the world's storages, whatever state it is in; storages top first, returns how many.
     * `view` counts from 0; 0 is returned when there is no such view.  is_final: after the job was done. */
    unsigned (*view)(const struct scenario *scenario, struct world *world, unsigned view, bool is_final,
                     struct vhdx_storage **storages, struct vhdx_error *err);
    bool is_base[WORLD_MOST];    /* made as a base; others are children of the file with the next number */

    /* --- of compacting (compact_scenarios.c); elsewhere nothing --- */

    const struct vx_free_run *free;       /* what no guest needs of the views: it reads as before, or as zeros */
    size_t                    free_count;
    unsigned                  target;     /* the file that is compacted */
    bool                      zeroes, sparse, commits_often;
    /* More that must be true of a state than that it reads as before.  `same_content`: no byte differs.  The world is open.  Prints
     * what is wrong.  NULL: nothing. */
    bool (*judge)(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
                  bool same_content, bool is_final);

    /* --- of resizing (resize_scenarios.c); elsewhere nothing --- */

    uint64_t new_size;        /* of disks that are resized: before the end the old size or this one, then this one.  What both
                               * have reads as before, what is new reads as zeros.  0: the size stays */
    bool     has_stale_bytes; /* file 0: past the end of its disk the last block holds something */
    bool     moves_table;     /* file 0: as if its BAT had no room */
    bool     mends_table;     /* file 0: the second region table is damaged, so the log is in use before the job begins */

    /* --- of metadata (metadata_scenarios.c); elsewhere nothing --- */

    size_t item_length;       /* to be, 0: it goes; before the end the old one or this one, then this one */
    size_t old_item_length;   /* before */
    size_t other_item_length; /* of another item, which stays; 0: there is none */
};

extern const struct scenario chain_scenarios[], compact_scenarios[], resize_scenarios[], metadata_scenarios[];
extern const size_t          chain_scenario_count, compact_scenario_count, resize_scenario_count, metadata_scenario_count;

/* --- world.c --- */

void world_make(const struct scenario *scenario, struct world *out);
void world_clone(struct world *out, const struct world *world);
void world_free(struct world *world);
void world_open(struct world *world);  /* storages for all disks, for writing */
void world_close(struct world *world);

/* Cut the power of all disks.  `kind` 0: nothing unflushed survives; 1: everything; else whatever the seed says. */
void world_cut(struct world *world, unsigned kind, uint64_t seed);

/* What the views of a world read as. */
#define VIEW_MOST 2
struct expectation {
    struct content views[VIEW_MOST];
    unsigned       count;
    struct facts   before[WORLD_MOST], after[WORLD_MOST]; /* of each file; after the job without a cut */
};
void expectation_make(const struct scenario *scenario, struct world *world, struct expectation *out);
void expectation_free(struct expectation *expectation);

/* Does every view read as expected?  Prints what differs, and where the run stands. */
bool world_reads(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
                 bool is_final, const char *when);

/* Sound structure of every file, by the library's check and by a reader that shares nothing with it. */
bool world_is_sound(const struct scenario *scenario, struct world *world, const char *when);

struct facts world_facts(struct world *world, unsigned file); /* the world is open */

/* The whole judgement of a state: it reads as before, the job called again finishes, and that reads the same. */
bool world_examine(const struct scenario *scenario, struct world *world, const struct expectation *expectation,
                   const char *when);

#endif
