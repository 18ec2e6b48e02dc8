/*
 * One block: what is said of it, and its entry as the view shows it.  In this order, and the first that knows decides:
 * the table's entry, the same entry in a page of the log, what was placed by inference, and that nothing is known.
 */
#include "ops/salvage.h"

#include "base/error.h"
#include "storage/storage.h"

/* What is known about an entry, before the options say whether a guess is shown. */
struct finding {
    uint64_t                 raw;
    enum vhdx_salvage_kind   kind;
    enum vhdx_salvage_reason reason;
    bool                     is_strong; /* of a guess */
};

/* Blocks of one chunk share a sector bitmap block. */
struct bitmap {
    uint64_t chunk;
    bool     is_known, is_good;
};

static struct finding
lost(enum vhdx_salvage_reason reason)
{
    return (struct finding){ vx_bat_entry_encode(VX_BLOCK_ZERO, 0), VHDX_SALVAGE_LOST, reason, false };
}

static struct finding
guess(uint64_t raw, enum vhdx_salvage_reason reason, bool is_strong)
{
    return (struct finding){ raw, VHDX_SALVAGE_GUESSED, reason, is_strong };
}

/* --- the table's entry --- */

/* Can a partly present block be told apart from its parent?  Its bitmap block has to be there, whole and nobody else's. */
static int
look_at_bitmap(struct vhdx_salvage *s, struct bitmap *bitmap, uint64_t chunk, struct vhdx_error *err)
{
    uint64_t            raw, bad, bad_end;
    struct vx_bat_entry entry;
    int                 rc;

    if (bitmap->is_known && bitmap->chunk == chunk)
        return VHDX_OK;
    *bitmap = (struct bitmap){ .chunk = chunk, .is_known = true };
    rc = vx_salvage_read_entries(s, vx_geometry_bitmap_bat_index(&s->geometry, chunk), 1, &raw, NULL, err);
    if (rc < 0)
        return rc;
    bitmap->is_good = vx_salvage_judge(s, raw, &entry) == VX_ENTRY_PRESENT && entry.state == VX_BLOCK_FULLY_PRESENT
                      && entry.file_offset + VX_SECTOR_BITMAP_SIZE <= s->source_length
                      && !vx_mib_map_has(&s->contested, entry.file_offset)
                      && vx_patient_is_whole(s->patient, entry.file_offset, VX_SECTOR_BITMAP_SIZE, &bad, &bad_end)
                      && !vx_salvage_range_is_doubtful(s, entry.file_offset, VX_SECTOR_BITMAP_SIZE);
    return VHDX_OK;
}

/* A block that the table names. */
static struct finding
present(const struct vhdx_salvage *s, const struct vx_bat_entry *entry, enum vx_entry_verdict verdict,
        const struct bitmap *bitmap)
{
    uint64_t whole = vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, entry->file_offset);

    if (entry->state == VX_BLOCK_PARTIALLY_PRESENT && s->geometry.is_differencing && !bitmap->is_good)
        return guess(whole, VHDX_SALVAGE_NO_BITMAP, false);
    if (vx_mib_map_touches(&s->contested, entry->file_offset, s->geometry.block_size))
        return guess(whole, VHDX_SALVAGE_CONTESTED, false);
    if (verdict == VX_ENTRY_ODD)
        return guess(whole, VHDX_SALVAGE_ODD_ENTRY, true);
    return (struct finding){ vx_bat_entry_encode(entry->state, entry->file_offset), VHDX_SALVAGE_RECOVERED,
                             VHDX_SALVAGE_SOUND, false };
}

/* No block, or none that holds data: zeros or the parent's bytes. */
static struct finding
empty(const struct vhdx_salvage *s, uint64_t raw)
{
    if (s->has_orphans || (s->geometry.is_fixed && raw == 0))
        return guess(raw, VHDX_SALVAGE_MAYBE_ZERO, true);
    return (struct finding){ raw, VHDX_SALVAGE_RECOVERED, VHDX_SALVAGE_SOUND, false };
}

/* --- what else may know --- */

/* An entry of zeros is as good as any other, unless the table is known to have lost some. */
static bool
take_image(const struct vhdx_salvage *s, uint64_t image, bool is_damaged, const struct bitmap *bitmap,
           struct finding *out)
{
    struct vx_bat_entry   entry;
    enum vx_entry_verdict verdict = vx_salvage_judge(s, image, &entry);

    if (!is_damaged && !s->table_lost_entries)
        return false;
    if (verdict == VX_ENTRY_ZERO && is_damaged) {
        *out = guess(vx_bat_entry_encode(entry.state, 0), VHDX_SALVAGE_LOG_IMAGE, true);
        return true;
    }
    if (verdict != VX_ENTRY_PRESENT || !s->has_image_claims
        || vx_mib_map_touches(&s->claimed, entry.file_offset, s->geometry.block_size))
        return false;
    if (entry.state == VX_BLOCK_PARTIALLY_PRESENT && !bitmap->is_good)
        *out = guess(vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT, entry.file_offset), VHDX_SALVAGE_NO_BITMAP, false);
    else
        *out = guess(image, VHDX_SALVAGE_LOG_IMAGE,
                     !vx_mib_map_touches(&s->image_contested, entry.file_offset, s->geometry.block_size));
    return true;
}

static bool
take_run(const struct vhdx_salvage *s, uint64_t block_index, struct finding *out)
{
    size_t low = 0, high = s->run_count;

    while (low < high) { /* the first run that ends behind the block */
        size_t middle = low + (high - low) / 2;

        if (s->runs[middle].first_block + s->runs[middle].block_count <= block_index)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == s->run_count || s->runs[low].first_block > block_index)
        return false;
    *out = guess(vx_bat_entry_encode(VX_BLOCK_FULLY_PRESENT,
                                     s->runs[low].file_offset
                                         + (block_index - s->runs[low].first_block) * s->geometry.block_size),
                 s->runs[low].reason, s->runs[low].is_strong);
    return true;
}

static struct finding
find(const struct vhdx_salvage *s, uint64_t block_index, uint64_t raw, uint64_t image, const struct bitmap *bitmap)
{
    struct vx_bat_entry   entry;
    enum vx_entry_verdict verdict = vx_salvage_judge(s, raw, &entry);
    struct finding        finding;

    if (verdict == VX_ENTRY_PRESENT || verdict == VX_ENTRY_ODD)
        return present(s, &entry, verdict, bitmap);
    if (verdict == VX_ENTRY_ZERO)
        return empty(s, vx_bat_entry_encode(entry.state, 0));
    if (verdict == VX_ENTRY_PAST_END)
        return lost(VHDX_SALVAGE_PAST_END);
    if (take_image(s, image, verdict == VX_ENTRY_BAD, bitmap, &finding) || take_run(s, block_index, &finding))
        return finding;
    if (verdict == VX_ENTRY_NOTHING)
        return empty(s, 0);
    if (!s->has_bat || vx_geometry_payload_bat_index(&s->geometry, block_index) >= s->bat_entries)
        return lost(VHDX_SALVAGE_TABLE_GONE);
    return lost(raw == VX_SALVAGE_UNREADABLE ? VHDX_SALVAGE_UNREADABLE : VHDX_SALVAGE_BAD_ENTRY);
}

/* --- with all doubts --- */

/* G1: what hangs on something doubtful is a guess, and no stronger than that. */
static void
apply_doubt(struct finding *finding, enum vhdx_salvage_reason reason, bool is_strong)
{
    if (finding->kind == VHDX_SALVAGE_LOST || reason == VHDX_SALVAGE_SOUND)
        return;
    if (finding->kind == VHDX_SALVAGE_RECOVERED || (finding->is_strong && !is_strong))
        finding->reason = reason;
    finding->is_strong = is_strong && (finding->is_strong || finding->kind == VHDX_SALVAGE_RECOVERED);
    finding->kind = VHDX_SALVAGE_GUESSED;
}

static struct vx_salvage_decision
settle(const struct vhdx_salvage *s, const struct finding *finding)
{
    struct vx_salvage_decision decision = { finding->raw, finding->kind, finding->reason, false };
    bool is_shown = s->options.guess == VHDX_SALVAGE_GUESS_ALL
                    || (s->options.guess == VHDX_SALVAGE_GUESS_STRONG && finding->is_strong);

    if (finding->kind == VHDX_SALVAGE_GUESSED && !is_shown) {
        decision.kind = VHDX_SALVAGE_LOST;
        decision.has_guess = true;
        decision.raw = vx_bat_entry_encode(VX_BLOCK_ZERO, 0);
    }
    return decision;
}

/* Bitmap blocks: as the table has them, for the blocks that need them; nothing else looks at them. */
static int
decide_bitmap(struct vhdx_salvage *s, struct bitmap *bitmap, uint64_t chunk, uint64_t raw,
              struct vx_salvage_decision *out, struct vhdx_error *err)
{
    int rc = s->geometry.is_differencing ? look_at_bitmap(s, bitmap, chunk, err) : VHDX_OK;

    *out = (struct vx_salvage_decision){ .raw = s->geometry.is_differencing && bitmap->is_good ? raw : 0 };
    return rc;
}

int
vx_salvage_decide(struct vhdx_salvage *s, uint64_t bat_index, size_t count, struct vx_salvage_decision *out,
                  struct vhdx_error *err)
{
    uint64_t      raw[VX_BAT_PAGE_ENTRIES], images[VX_BAT_PAGE_ENTRIES];
    struct bitmap bitmap = { 0 };
    bool          is_doubtful = s->has_bat && vx_salvage_page_is_doubtful(s, s->bat_offset + 8 * bat_index);
    int           rc = vx_salvage_read_entries(s, bat_index, count, raw, images, err);

    for (size_t i = 0; i < count && rc == VHDX_OK; i++) {
        struct finding finding;
        uint64_t       index;

        if (!vx_geometry_is_payload_entry(&s->geometry, bat_index + i, &index)) {
            rc = decide_bitmap(s, &bitmap, index, raw[i], &out[i], err);
            continue;
        }
        if (index >= s->geometry.payload_block_count) {
            out[i] = (struct vx_salvage_decision){ .raw = 0 };
            continue;
        }
        if (s->geometry.is_differencing
            && ((raw[i] & 7) == VX_BLOCK_PARTIALLY_PRESENT || (images[i] & 7) == VX_BLOCK_PARTIALLY_PRESENT))
            rc = look_at_bitmap(s, &bitmap, vx_geometry_chunk_of(&s->geometry, index), err);
        finding = find(s, index, raw[i], images[i], &bitmap);
        apply_doubt(&finding, s->doubt.reason, s->doubt.is_strong);
        if (is_doubtful)
            apply_doubt(&finding, VHDX_SALVAGE_LOG_UNCONFIRMED, true);
        out[i] = settle(s, &finding);
    }
    return rc;
}
