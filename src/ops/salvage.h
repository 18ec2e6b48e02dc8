/*
 * Inside of salvage: the stages share one object and fill it from top to bottom.
 *
 *   salvage_source.c    the file so that nothing about it fails: what cannot be read is zeros, and remembered
 *   salvage_head.c      headers and region tables
 *   salvage_log.c       log entries of all sessions, what they replay and which pages they hold
 *   salvage_old.c       earlier states that the log still holds
 *   salvage_metadata.c  metadata, where a region table, a signature or the log has them
 *   salvage_table.c     the block table, by name or by shape
 *   salvage_sizes.c     block size, sector size and disk size when the metadata do not tell
 *   salvage_signs.c     what payload tells about its own place (pure)
 *   salvage_claims.c    who claims which MiB of the file, and what nobody claims
 *   salvage_place.c     which block lies in what nobody claims
 *   salvage_decide.c    one block: recovered, guessed or lost, and its entry as the view shows it
 *   salvage_view.c      a sound image made of all this; the engine opens it like any other
 *   salvage_ranges.c    the report
 *   salvage.c           the order of it all
 *
 *   G1  A range is RECOVERED only when every structure between the file's start and its bytes is sound.  Doubt about one
 *       structure (`doubt`) makes a guess of everything that is read through it.
 *   G2  What the table names is never given up for what is inferred.
 *   G3  Memory does not grow with what the file says: bitmaps have one bit for each MiB of at most VX_SALVAGE_FILE_LIMIT
 *       bytes, every list has an end.
 */
#ifndef VX_SALVAGE_H
#define VX_SALVAGE_H

#include <vhdx/salvage.h>

#include "base/checked.h"
#include "format/bat.h"
#include "format/geometry.h"
#include "format/header.h"
#include "format/metadata.h"
#include "format/region.h"
#include "image/replay.h"

#define VX_SALVAGE_FILE_LIMIT  (UINT64_C(65) * VX_TIB) /* what lies behind is not looked at */
#define VX_SALVAGE_SEARCH      (UINT64_C(64) * VX_GIB) /* how far structures are searched for by signature and shape */
#define VX_SALVAGE_NOTES       32u
#define VX_SALVAGE_REGIONS     16u
#define VX_SALVAGE_GROUPS      64u
#define VX_SALVAGE_STRETCHES   4096u
#define VX_SALVAGE_ORPHANS     4096u
#define VX_SALVAGE_SIGNS       8192u
#define VX_SALVAGE_RUNS        16384u
#define VX_SALVAGE_DOUBTFUL    65536u
#define VX_SALVAGE_IMAGES      131072u /* pages of the log laid over each other: some 20 MiB of memory */
#define VX_SALVAGE_GENERATIONS 256u
#define VX_BAT_PAGE_ENTRIES    (VX_PAGE / 8)

/* --- the file --- */

/* A storage over `source`, which it does not own.  Its length is the file's rounded up to 1 MiB (and down to the limit);
 * reading never fails: what the host does not give is zeros. */
int  vx_patient_new(struct vhdx_storage **out, struct vhdx_storage *source, struct vhdx_error *err);
/* Bytes the file really has. */
uint64_t vx_patient_source_length(const struct vhdx_storage *patient);
/* Could all of the range be read, as far as it was tried?  If not, *bad_offset is the first byte at or after file_offset
 * that could not and *bad_end where that ends. */
bool vx_patient_is_whole(struct vhdx_storage *patient, uint64_t file_offset, uint64_t length, uint64_t *bad_offset,
                         uint64_t *bad_end);
uint64_t vx_patient_bad_bytes(struct vhdx_storage *patient);

/* --- the log --- */

/* The entries of one session. */
struct vx_salvage_group {
    struct vhdx_guid   guid;
    struct vx_log_scan scan;
};

struct vx_salvage_log {
    uint64_t                offset, length; /* of the log in the file; length 0: not found */
    struct vx_salvage_group groups[VX_SALVAGE_GROUPS]; /* the latest session first */
    size_t                  group_count;
    uint64_t                entry_count;
};

/* --- the table --- */

/* A doubt about a structure: what it names becomes a guess. */
struct vx_doubt {
    enum vhdx_salvage_reason reason; /* SOUND: none */
    bool                     is_strong; /* the guess is */
};

/* Blocks in a row that were placed by inference. */
struct vx_salvage_run {
    uint64_t                 first_block, block_count;
    uint64_t                 file_offset;
    enum vhdx_salvage_reason reason;
    bool                     is_strong;
};

struct vx_salvage_stretch {
    uint64_t file_offset, length;
    uint64_t left_block, right_block; /* blocks that lie before and behind it; UINT64_MAX: none */
};

/* Something in payload that tells its place on the disk. */
struct vx_salvage_sign {
    uint64_t file_offset;  /* of the sector that tells */
    uint64_t guest_offset; /* of that sector */
    uint64_t disk_size;    /* bytes; 0: it does not tell */
    uint64_t least_size;   /* the disk has at least so many bytes */
    uint32_t sector_size;  /* 0: it does not tell */
    const char *name;
};

/* One bit a MiB. */
struct vx_mib_map {
    uint8_t *bits;
    uint64_t count;
};

struct vhdx_salvage {
    struct vhdx_salvage_options options;
    struct vhdx_progress        progress;
    struct vhdx_storage *source;   /* owned once open has succeeded */
    struct vhdx_storage *patient;  /* over source */
    struct vhdx_storage *replayed; /* over patient; NULL: nothing to replay */
    struct vhdx_storage *base;     /* patient or replayed: what everything else is read from */
    struct vhdx_storage *images;   /* over base: the latest page images of all sessions; NULL: none */
    uint64_t             source_length; /* bytes in the file */
    uint64_t             file_length;   /* of patient: whole MiB */

    struct vx_header      copies[2];
    bool                  copy_is_good[2];
    struct vx_header      header; /* the current one, or what stands for it */
    bool                  has_header;
    struct vx_salvage_log log;
    uint64_t             *doubtful; /* pages that only an unconfirmed log has so: file offsets, ascending */
    size_t                doubtful_count;
    bool                  doubts_all_pages;

    struct vx_region    bat_region, metadata_region;
    bool                has_bat_region, has_metadata_region; /* a table of regions says where */
    bool                regions_are_sound;
    struct vx_reserved_range other_regions[VX_SALVAGE_REGIONS]; /* of neither kind */
    size_t              other_region_count;
    struct vx_metadata  metadata;
    bool                has_metadata;
    uint8_t            *locator; /* the item's bytes, owned; NULL: none */
    uint32_t            locator_length;
    struct vx_doubt     doubt;   /* about everything */
    struct vx_geometry  geometry;
    bool                has_block_size;
    bool                has_bat;
    uint64_t            bat_offset;
    uint64_t            bat_entries; /* that can be read: fewer than the geometry's when the region is short */

    struct vx_mib_map   claimed, contested, known; /* by the table; known: also structures and anchors */
    struct vx_mib_map   image_claimed, image_contested;
    bool                has_image_claims;
    uint64_t            pairs_in_order, pairs; /* of blocks that follow each other on the disk */
    bool                has_orphans; /* data that neither the table nor the log's pages nor a strong guess names */
    bool                table_lost_entries; /* there is data that the table itself does not name */
    struct vx_salvage_stretch *stretches;
    size_t                     stretch_count;
    struct vx_salvage_sign    *signs;
    size_t                     sign_count;
    struct vx_salvage_run     *runs; /* ascending by block */
    size_t                     run_count;
    struct vx_reserved_range  *orphans;
    size_t                     orphan_count;
    uint64_t                   orphan_bytes;

    struct vhdx_salvage_generation *generations;
    size_t                          generation_count;
    struct vhdx_storage            *old; /* over patient: the generation asked for */

    uint8_t             *view_head;     /* the first MiB's first 320 KiB */
    uint8_t             *view_metadata; /* the region's first bytes; the rest is zeros */
    size_t               view_metadata_bytes;
    uint64_t             view_metadata_length; /* of the region */
    uint64_t             view_metadata_offset, view_bat_offset, view_bat_length, view_length;
    struct vhdx_storage *view;     /* the disk's once that is open */
    bool                 parent_is_missing, parent_is_unproven;
    struct vhdx_disk    *disk;

    struct vhdx_salvage_note notes[VX_SALVAGE_NOTES];
    size_t                   note_count;
};

void vx_salvage_note(struct vhdx_salvage *s, enum vhdx_part part, enum vhdx_salvage_state state, uint64_t file_offset,
                     const char *format, ...) __attribute__((format(printf, 5, 6)));
/* The worst doubt stays: a weak one is worse than a strong one, the first of two equals counts. */
void vx_salvage_doubt(struct vhdx_salvage *s, enum vhdx_salvage_reason reason, bool is_strong);
/* VHDX_E_CANCELLED when whoever started this wants no more. */
int  vx_salvage_poll(struct vhdx_salvage *s, uint64_t done, uint64_t total, struct vhdx_error *err);

/* --- the stages, in their order --- */

int vx_salvage_read_headers(struct vhdx_salvage *s, struct vhdx_error *err);
/* From `from`; once before the log is known and again through it. */
int vx_salvage_read_regions(struct vhdx_salvage *s, struct vhdx_storage *from, bool is_final, struct vhdx_error *err);
int vx_salvage_read_log(struct vhdx_salvage *s, struct vhdx_error *err);
void vx_salvage_log_free(struct vx_salvage_log *log);
/* Are there few enough pages in the log to lay all of them over each other? */
bool vx_salvage_log_is_small(const struct vx_salvage_log *log);
/* Make s->images; it stays NULL when the log is not small. */
int vx_salvage_collect_images(struct vhdx_salvage *s, struct vhdx_error *err);
/* List the earlier states; lay the one that was asked for over the file: s->old, which becomes the base. */
int vx_salvage_list_generations(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_lay_generation(struct vhdx_salvage *s, struct vhdx_error *err);
/* The entries of a group in rising sequence, as indices; freed with vx_free.  NULL: no memory. */
uint32_t *vx_salvage_entries_in_order(const struct vx_salvage_group *group);
/* Does a page read the same from both? */
bool vx_salvage_page_is_same(struct vhdx_storage *a, struct vhdx_storage *b, uint64_t page_offset);
bool vx_salvage_page_is_doubtful(const struct vhdx_salvage *s, uint64_t page_offset);
/* Pages of a range that an unconfirmed log changes?  */
bool vx_salvage_range_is_doubtful(const struct vhdx_salvage *s, uint64_t file_offset, uint64_t length);
int vx_salvage_read_metadata(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_find_table(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_settle_sizes(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_claim(struct vhdx_salvage *s, struct vhdx_error *err);
/* The first data at or after *file_offset that nothing names, and how far it goes; *is_there is false when there is none. */
int vx_salvage_next_orphan(struct vhdx_salvage *s, uint64_t *file_offset, uint64_t *length, bool *is_there,
                           struct vhdx_error *err);
int vx_salvage_place(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_make_view(struct vhdx_salvage *s, struct vhdx_error *err);
int vx_salvage_open_disk(struct vhdx_salvage *s, struct vhdx_error *err);

/* --- shared by stages --- */

/* Entries of the table from bat_index on, `count` of them (at most VX_BAT_PAGE_ENTRIES, all in one page), as the base
 * has them and, where images is not NULL, as the log's pages have them.  What could not be read is VX_SALVAGE_UNREADABLE. */
#define VX_SALVAGE_UNREADABLE UINT64_C(4) /* a state that no entry has */
int vx_salvage_read_entries(struct vhdx_salvage *s, uint64_t bat_index, size_t count, uint64_t *raw, uint64_t *images,
                            struct vhdx_error *err);
/* The next entry at or after bat_index that may not be zero: whole pages of zeros are passed over. */
int vx_salvage_skip_empty(struct vhdx_salvage *s, uint64_t *bat_index, struct vhdx_error *err);

bool vx_mib_map_init(struct vx_mib_map *map, uint64_t file_length);
bool vx_mib_map_has(const struct vx_mib_map *map, uint64_t file_offset);
void vx_mib_map_set(struct vx_mib_map *map, uint64_t file_offset);
bool vx_mib_map_touches(const struct vx_mib_map *map, uint64_t file_offset, uint64_t length);

/* What an entry of payload says by itself. */
enum vx_entry_verdict {
    VX_ENTRY_NOTHING,  /* state 0 */
    VX_ENTRY_ZERO,     /* states 1 to 3 */
    VX_ENTRY_PRESENT,
    VX_ENTRY_ODD,      /* present, though a rule is broken */
    VX_ENTRY_PAST_END, /* it would be good if the file were longer */
    VX_ENTRY_BAD
};
enum vx_entry_verdict vx_salvage_judge(const struct vhdx_salvage *s, uint64_t raw, struct vx_bat_entry *entry);

struct vx_salvage_decision {
    uint64_t                 raw;  /* the entry as the view shows it */
    enum vhdx_salvage_kind   kind;
    enum vhdx_salvage_reason reason;
    bool                     has_guess;
};
/* Decide about entries [bat_index, bat_index + count) of the view's table, payload and bitmap ones, all in one page. */
int vx_salvage_decide(struct vhdx_salvage *s, uint64_t bat_index, size_t count, struct vx_salvage_decision *out,
                      struct vhdx_error *err);

/* Signs at a MiB boundary of the file.  `around` holds VX_SIGNS_BEFORE bytes before it and VX_SIGNS_AFTER from it on;
 * file_offset of a sign counts from the first byte of `around`. */
#define VX_SIGNS_BEFORE 4096u
#define VX_SIGNS_AFTER  8192u
typedef void (*vx_sign_receiver)(void *context, const struct vx_salvage_sign *sign);
void vx_salvage_look_for_signs(const uint8_t around[VX_SIGNS_BEFORE + VX_SIGNS_AFTER], vx_sign_receiver receive,
                               void *context);
/* Those of [file_offset, end) of the file, a range of whole MiB, added to s->signs. */
int vx_salvage_collect_signs(struct vhdx_salvage *s, uint64_t file_offset, uint64_t end, struct vhdx_error *err);

#endif
