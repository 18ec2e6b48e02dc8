/*
 * Salvage: what can still be read of an image whose headers, region tables, metadata or block table are gone, or which
 * was cut off.  The file is only read.  It is looked at once, by vhdx_salvage_open; the result is a disk like any other,
 * to be copied (vhdx_copy), and a report that tells of every range of it whether it was recovered, guessed or lost.
 *
 *     vhdx_salvage_open(&salvage, storage, &options, NULL, &err);
 *     vhdx_copy(vhdx_salvage_disk(salvage), to, ...);
 *     vhdx_salvage_ranges(salvage, print_range, context, &err);     after the copy: it knows what could not be read
 *     vhdx_salvage_close(salvage);
 *
 * Nothing is returned wrong without being called a guess, as far as structures can tell: payload, sector bitmaps and the
 * block table have no checksums in this format, so a sector that was overwritten with other bytes, or an entry of the
 * table that was replaced by another that is as good, is not noticed.
 *
 * Threads: one at a time for a salvage, but for reading from its disk.
 */
#ifndef VHDX_SALVAGE_H
#define VHDX_SALVAGE_H

#include <vhdx/ops.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vhdx_salvage;

enum vhdx_salvage_kind {
    VHDX_SALVAGE_RECOVERED, /* sound structures name it */
    VHDX_SALVAGE_GUESSED,   /* inferred; `reason` says from what */
    VHDX_SALVAGE_LOST       /* reads as zeros */
};

enum vhdx_salvage_reason {
#define VHDX_SALVAGE_REASON(name, key, text) VHDX_SALVAGE_##name,
#include <vhdx/salvage_reasons.def>
#undef VHDX_SALVAGE_REASON
    VHDX_SALVAGE_REASON_COUNT
};

/* "log-image", and the line for a person.  Static strings. */
const char *vhdx_salvage_reason_key(enum vhdx_salvage_reason reason);
const char *vhdx_salvage_reason_text(enum vhdx_salvage_reason reason);

/* Which guesses the disk shows; the others are lost, and the report says that there is one. */
enum vhdx_salvage_guess {
    VHDX_SALVAGE_GUESS_STRONG, /* only what several signs agree on */
    VHDX_SALVAGE_GUESS_NONE,
    VHDX_SALVAGE_GUESS_ALL
};

struct vhdx_salvage_options {
    enum vhdx_salvage_guess guess;
    bool                    ignore_log;          /* read the file as it lies */
    bool                    lists_generations;   /* vhdx_salvage_get_generation is going to be called */
    unsigned                generation;          /* an earlier state, as vhdx_salvage_generation numbers them; 0: the newest */
    uint64_t                virtual_size;        /* bytes; 0: found out.  These three are for whoever knows better */
    uint32_t                block_size;
    uint32_t                logical_sector_size;
    vhdx_parent_resolver    resolve_parent;      /* for a differencing image; NULL: what its parent holds is lost */
    void                   *resolve_context;
    const char             *parent_path;         /* take this file for the parent, whatever the image says; or NULL */
};

/*
 * Look at a file and decide what each range of the disk is.
 *
 *   storage   owned by the salvage from success on; on failure it stays the caller's
 *   errors    VHDX_E_NOT_VHDX: nothing that tells the shape of the disk was found (the message says what would help);
 *             VHDX_E_INVALID: options contradict each other or the format; _CANCELLED, _NO_MEMORY; of parent_path, too
 *   memory    below 64 MiB, whatever the file says
 *   time      as for reading the block table; where that is gone, 12 KiB of every MiB of data that nothing names
 */
int vhdx_salvage_open(struct vhdx_salvage **out, struct vhdx_storage *storage, const struct vhdx_salvage_options *options,
                      const struct vhdx_progress *progress, struct vhdx_error *err);

/* Free everything, the storage and the disk as well.  NULL is fine. */
void vhdx_salvage_close(struct vhdx_salvage *salvage);

/* The disk; read-only; the salvage's own.  What is lost reads as zeros. */
struct vhdx_disk *vhdx_salvage_disk(struct vhdx_salvage *salvage);

/* What became of a structure of the file, in the order of the format; index from 0 until false. */
enum vhdx_salvage_state { VHDX_SALVAGE_IS_SOUND, VHDX_SALVAGE_IS_DAMAGED, VHDX_SALVAGE_IS_MISSING, VHDX_SALVAGE_IS_INFERRED };
struct vhdx_salvage_note {
    enum vhdx_part          part;
    enum vhdx_salvage_state state;
    uint64_t                file_offset; /* or VHDX_NO_OFFSET */
    char                    text[224];   /* one line */
};
bool vhdx_salvage_get_note(const struct vhdx_salvage *salvage, size_t index, struct vhdx_salvage_note *out);

/* What is known of the disk as a whole. */
struct vhdx_salvage_facts {
    uint64_t             file_size;   /* bytes */
    uint64_t             virtual_size;
    uint32_t             block_size;
    uint32_t             logical_sector_size;
    enum vhdx_image_type type;
    bool                 has_block_size;  /* false: the block size is our own, the file's is not known */
    uint64_t             orphan_bytes;    /* data in the file that nothing names and no guess places */
    uint64_t             unreadable_bytes; /* of the file, as far as it was read */
};
void vhdx_salvage_get_facts(struct vhdx_salvage *salvage, struct vhdx_salvage_facts *out);

/* A range of the disk. */
struct vhdx_salvage_range {
    uint64_t                 guest_offset, length; /* bytes */
    enum vhdx_salvage_kind   kind;
    enum vhdx_salvage_reason reason;
    bool                     is_zero;      /* nothing is stored for it: it reads as zeros */
    bool                     has_guess;    /* LOST only: GUESS_ALL would show something */
    uint64_t                 file_offset;  /* where its bytes lie, when they lie in this file; else VHDX_NO_OFFSET */
};

/*
 * Tell of every range, in order, without gaps.  What the host could not read is known only after it was read.
 *
 *   each     a non-zero return ends the walk and is returned
 */
int vhdx_salvage_ranges(struct vhdx_salvage *salvage, int (*each)(void *context, const struct vhdx_salvage_range *range),
                        void *context, struct vhdx_error *err);

/* Data in the file that nothing names and no guess places, at most 4096 pieces: index from 0 until false. */
bool vhdx_salvage_get_orphan(const struct vhdx_salvage *salvage, size_t index, uint64_t *file_offset, uint64_t *length);

/* An earlier state, at most 256 of them: the file with older pages laid over it, as the log still holds them. */
struct vhdx_salvage_generation {
    unsigned         number;          /* for vhdx_salvage_options.generation: 1, 2, ..., the latest first */
    struct vhdx_guid log_guid;        /* of the session that wrote them; all zero for the file without its log */
    uint64_t         sequence_number; /* of the newest entry laid over */
    uint64_t         file_offset;     /* where that entry lies */
    uint64_t         page_count;      /* pages of 4 KiB in which it differs from the newest state */
    bool             is_of_older_header; /* the older header names this log */
};
bool vhdx_salvage_get_generation(const struct vhdx_salvage *salvage, size_t index, struct vhdx_salvage_generation *out);

#ifdef __cplusplus
}
#endif
#endif
