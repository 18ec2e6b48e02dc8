/* Salvage: the order of the stages, and what is asked of the result.  See salvage.h. */
#include "ops/salvage.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/job.h"
#include "storage/storage.h"

/* --- reasons --- */

static const struct {
    const char *key, *text;
} reasons[] = {
#define VHDX_SALVAGE_REASON(name, key, text) { key, text },
#include <vhdx/salvage_reasons.def>
#undef VHDX_SALVAGE_REASON
};

const char *
vhdx_salvage_reason_key(enum vhdx_salvage_reason reason)
{
    return (unsigned)reason < VHDX_SALVAGE_REASON_COUNT ? reasons[reason].key : "unknown";
}

const char *
vhdx_salvage_reason_text(enum vhdx_salvage_reason reason)
{
    return (unsigned)reason < VHDX_SALVAGE_REASON_COUNT ? reasons[reason].text : "unknown";
}

/* --- what stages share --- */

void
vx_salvage_note(struct vhdx_salvage *s, enum vhdx_part part, enum vhdx_salvage_state state, uint64_t file_offset,
                const char *format, ...)
{
    struct vhdx_salvage_note *note = &s->notes[s->note_count];
    va_list                   arguments;

    if (s->note_count == VX_SALVAGE_NOTES)
        return;
    s->note_count++;
    note->part = part;
    note->state = state;
    note->file_offset = file_offset;
    va_start(arguments, format);
    vsnprintf(note->text, sizeof note->text, format, arguments);
    va_end(arguments);
}

void
vx_salvage_doubt(struct vhdx_salvage *s, enum vhdx_salvage_reason reason, bool is_strong)
{
    if (s->doubt.reason == VHDX_SALVAGE_SOUND || (s->doubt.is_strong && !is_strong))
        s->doubt = (struct vx_doubt){ reason, is_strong };
}

int
vx_salvage_poll(struct vhdx_salvage *s, uint64_t done, uint64_t total, struct vhdx_error *err)
{
    return s->progress.report == NULL ? VHDX_OK : vx_job_report(&s->progress, done, total, err);
}

/* --- the stages --- */

/* The newest state of the file, or the earlier one that was asked for. */
static int
choose_state(struct vhdx_salvage *s, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (s->options.lists_generations || s->options.generation != 0)
        rc = vx_salvage_list_generations(s, err);
    if (rc == VHDX_OK && s->options.generation != 0)
        return vx_salvage_lay_generation(s, err);
    return rc == VHDX_OK ? vx_salvage_collect_images(s, err) : rc;
}

static int
read_structures(struct vhdx_salvage *s, struct vhdx_error *err)
{
    int rc = vx_salvage_read_headers(s, err);

    if (rc == VHDX_OK)
        rc = vx_salvage_read_regions(s, s->patient, false, err); /* the log's place may hang on theirs */
    if (rc == VHDX_OK)
        rc = vx_salvage_read_log(s, err);
    if (rc == VHDX_OK)
        rc = choose_state(s, err);
    if (rc == VHDX_OK)
        rc = vx_salvage_read_regions(s, s->base, true, err);
    if (rc == VHDX_OK && vx_salvage_range_is_doubtful(s, VX_REGION_TABLE_OFFSET(0), 2 * VX_REGION_TABLE_SIZE))
        vx_salvage_doubt(s, VHDX_SALVAGE_LOG_UNCONFIRMED, true);
    if (rc == VHDX_OK)
        rc = vx_salvage_read_metadata(s, err);
    if (rc == VHDX_OK && s->has_metadata)
        vx_geometry_init(&s->geometry, s->metadata.virtual_size, s->metadata.block_size, s->metadata.logical_sector_size,
                         s->metadata.has_parent, s->metadata.leave_blocks_allocated && !s->metadata.has_parent);
    if (rc == VHDX_OK)
        rc = vx_salvage_find_table(s, err);
    return rc == VHDX_OK ? vx_salvage_settle_sizes(s, err) : rc;
}

static int
list_orphans(struct vhdx_salvage *s, struct vhdx_error *err)
{
    uint64_t at = 0, length;
    bool     is_there = true;
    int      rc = VHDX_OK;

    s->orphans = vx_alloc_zeroed(VX_SALVAGE_ORPHANS, sizeof *s->orphans);
    if (s->orphans == NULL)
        return vx_fail_memory(err, "data that nothing names");
    while (rc == VHDX_OK && is_there && s->orphan_count < VX_SALVAGE_ORPHANS) {
        rc = vx_salvage_next_orphan(s, &at, &length, &is_there, err);
        if (rc == VHDX_OK && is_there) {
            s->orphans[s->orphan_count++] = (struct vx_reserved_range){ at, length };
            s->orphan_bytes += length;
            at += length;
        }
    }
    return rc;
}

static int
run_stages(struct vhdx_salvage *s, struct vhdx_error *err)
{
    static int (*const stages[])(struct vhdx_salvage *, struct vhdx_error *) = {
        read_structures, vx_salvage_claim, vx_salvage_place, list_orphans, vx_salvage_make_view, vx_salvage_open_disk,
    };
    int rc = VHDX_OK;

    for (size_t i = 0; i < sizeof stages / sizeof *stages && rc == VHDX_OK; i++)
        rc = stages[i](s, err);
    return rc;
}

/* --- the object --- */

static void
free_maps(struct vhdx_salvage *s)
{
    vx_free(s->claimed.bits);
    vx_free(s->contested.bits);
    vx_free(s->known.bits);
    vx_free(s->image_claimed.bits);
    vx_free(s->image_contested.bits);
}

/* Everything but the source, which is the caller's while opening fails. */
static void
free_salvage(struct vhdx_salvage *s)
{
    if (s->disk != NULL)
        vhdx_disk_close(s->disk, NULL); /* and the view with it */
    else
        vhdx_storage_close(s->view);
    vhdx_storage_close(s->old);
    vhdx_storage_close(s->images);
    vhdx_storage_close(s->replayed);
    vhdx_storage_close(s->patient);
    vx_salvage_log_free(&s->log);
    free_maps(s);
    vx_free(s->doubtful);
    vx_free(s->locator);
    vx_free(s->stretches);
    vx_free(s->signs);
    vx_free(s->runs);
    vx_free(s->orphans);
    vx_free(s->generations);
    vx_free(s->view_head);
    vx_free(s->view_metadata);
    vx_free(s);
}

int
vhdx_salvage_open(struct vhdx_salvage **out, struct vhdx_storage *storage, const struct vhdx_salvage_options *options,
                  const struct vhdx_progress *progress, struct vhdx_error *err)
{
    struct vhdx_salvage *s = vx_alloc_zeroed(1, sizeof *s);
    int                  rc;

    if (s == NULL)
        return vx_fail_memory(err, "salvaging");
    if (options != NULL)
        s->options = *options;
    if (progress != NULL)
        s->progress = *progress;
    s->source = storage;
    rc = vx_patient_new(&s->patient, storage, err);
    if (rc == VHDX_OK) {
        s->source_length = vx_min_u64(vx_patient_source_length(s->patient), VX_SALVAGE_FILE_LIMIT);
        rc = vx_storage_get_size(s->patient, &s->file_length, err);
    }
    if (rc == VHDX_OK)
        rc = run_stages(s, err);
    if (rc < 0) {
        free_salvage(s);
        return rc;
    }
    s->progress.report = NULL; /* the caller's may be gone from here on */
    s->options.parent_path = NULL;
    *out = s;
    return VHDX_OK;
}

void
vhdx_salvage_close(struct vhdx_salvage *s)
{
    struct vhdx_storage *source;

    if (s == NULL)
        return;
    source = s->source;
    free_salvage(s);
    vhdx_storage_close(source);
}

struct vhdx_disk *
vhdx_salvage_disk(struct vhdx_salvage *s)
{
    return s->disk;
}

bool
vhdx_salvage_get_note(const struct vhdx_salvage *s, size_t index, struct vhdx_salvage_note *out)
{
    if (index >= s->note_count)
        return false;
    *out = s->notes[index];
    return true;
}

void
vhdx_salvage_get_facts(struct vhdx_salvage *s, struct vhdx_salvage_facts *out)
{
    *out = (struct vhdx_salvage_facts){
        .file_size = s->source_length,
        .virtual_size = s->geometry.virtual_size,
        .block_size = s->geometry.block_size,
        .logical_sector_size = s->geometry.logical_sector_size,
        .type = s->geometry.is_differencing ? VHDX_TYPE_DIFFERENCING
                : s->geometry.is_fixed ? VHDX_TYPE_FIXED : VHDX_TYPE_DYNAMIC,
        .has_block_size = s->has_block_size,
        .orphan_bytes = s->orphan_bytes,
        .unreadable_bytes = vx_patient_bad_bytes(s->patient),
    };
}

bool
vhdx_salvage_get_orphan(const struct vhdx_salvage *s, size_t index, uint64_t *file_offset, uint64_t *length)
{
    if (index >= s->orphan_count)
        return false;
    *file_offset = s->orphans[index].file_offset;
    *length = s->orphans[index].length;
    return true;
}
