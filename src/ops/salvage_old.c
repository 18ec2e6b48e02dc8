/*
 * Earlier states of a file, for examiners.  An entry of the log holds pages as they were when it was written; laid over
 * the file, together with those that the same session wrote before it, they show the block table of that moment, as far as
 * the log still has it.  Payload is not logged: what the blocks held then may have been written over since.
 */
#include "ops/salvage.h"

#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "storage/overlay.h"
#include "storage/storage.h"

/* --- one state --- */

/* The file with the pages of all entries of a session up to a sequence number. */
static int
lay_over(struct vhdx_storage **out, struct vhdx_salvage *s, const struct vx_salvage_group *group, uint64_t last_sequence,
         struct vhdx_error *err)
{
    struct vx_overlay_builder *builder;
    uint32_t                  *order = vx_salvage_entries_in_order(group);
    int                        rc = vx_overlay_builder_new(&builder, err);

    if (rc == VHDX_OK && order == NULL)
        rc = vx_fail_memory(err, "the pages of the log");
    for (size_t i = 0; i < group->scan.place_count && rc == VHDX_OK; i++) {
        const struct vx_log_place *place = &group->scan.places[order[i]];

        if (place->sequence_number <= last_sequence)
            rc = vx_log_each_descriptor(s->patient, &group->scan, place, vx_log_add_to_overlay, builder, err);
    }
    if (rc == VHDX_OK)
        rc = vx_overlay_new(out, s->patient, builder, s->file_length, err);
    vx_free(order);
    vx_overlay_builder_free(builder);
    return rc;
}

/* --- how it differs --- */

struct difference {
    struct vhdx_storage *a, *b;
    uint64_t             page_count;
    unsigned             budget; /* pages that are compared at most */
};

static int
count_if_changed(void *context, const struct vx_log_descriptor *descriptor, uint64_t data_offset, struct vhdx_error *err)
{
    struct difference *difference = context;
    uint64_t           length = descriptor->is_zero ? descriptor->zero_length : VX_PAGE;

    (void)data_offset;
    (void)err;
    for (uint64_t at = 0; at < length && difference->budget > 0; at += VX_PAGE, difference->budget--)
        difference->page_count += !vx_salvage_page_is_same(difference->a, difference->b, descriptor->file_offset + at);
    return VHDX_OK;
}

#define COMPARE_BUDGET 4096u

static int
count_pages(uint64_t *out, struct vhdx_salvage *s, struct vhdx_storage *old, const struct vx_salvage_group *group,
            uint64_t last_sequence, struct vhdx_error *err)
{
    struct difference difference = { .a = s->base, .b = old, .budget = COMPARE_BUDGET };
    int               rc = VHDX_OK;

    for (size_t i = 0; i < group->scan.place_count && rc == VHDX_OK; i++)
        if (group->scan.places[i].sequence_number <= last_sequence)
            rc = vx_log_each_descriptor(s->patient, &group->scan, &group->scan.places[i], count_if_changed, &difference, err);
    *out = difference.page_count;
    return rc;
}

/* --- the list --- */

/* Is this session's log the one that the older of two good headers names, and not the current one? */
static bool
is_of_older_header(const struct vhdx_salvage *s, const struct vhdx_guid *guid)
{
    if (!s->copy_is_good[0] || !s->copy_is_good[1] || vhdx_guid_equal(&s->header.log_guid, guid))
        return false;
    return vhdx_guid_equal(&s->copies[0].log_guid, guid) || vhdx_guid_equal(&s->copies[1].log_guid, guid);
}

static void
append(struct vhdx_salvage *s, const struct vhdx_salvage_generation *generation)
{
    struct vhdx_salvage_generation *entry = &s->generations[s->generation_count];

    *entry = *generation;
    entry->number = (unsigned)++s->generation_count;
}

/* The file as it lies, when a log waits to be replayed. */
static int
list_unreplayed(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vhdx_salvage_generation generation = { .file_offset = VHDX_NO_OFFSET };
    int                            rc = VHDX_OK;

    if (s->replayed == NULL)
        return VHDX_OK;
    for (size_t i = 0; i < s->log.group_count && rc == VHDX_OK && generation.page_count == 0; i++)
        if (i == 0 || (s->has_header && vhdx_guid_equal(&s->log.groups[i].guid, &s->header.log_guid)))
            rc = count_pages(&generation.page_count, s, s->patient, &s->log.groups[i], UINT64_MAX, err);
    if (rc == VHDX_OK && generation.page_count > 0)
        append(s, &generation);
    return rc;
}

/* A session's states, the latest first. */
static int
list_group(struct vhdx_salvage *s, const struct vx_salvage_group *group, struct vhdx_error *err)
{
    uint32_t *order = vx_salvage_entries_in_order(group);
    int       rc = order == NULL ? vx_fail_memory(err, "the entries of the log") : VHDX_OK;

    for (size_t i = group->scan.place_count; i-- > 0 && rc == VHDX_OK && s->generation_count < VX_SALVAGE_GENERATIONS;) {
        const struct vx_log_place     *place = &group->scan.places[order[i]];
        struct vhdx_salvage_generation generation = {
            .log_guid = group->guid, .sequence_number = place->sequence_number,
            .file_offset = s->log.offset + place->position, .is_of_older_header = is_of_older_header(s, &group->guid),
        };
        struct vhdx_storage *old = NULL;

        if (place->descriptor_count == 0)
            continue;
        rc = lay_over(&old, s, group, place->sequence_number, err);
        if (rc == VHDX_OK)
            rc = count_pages(&generation.page_count, s, old, group, place->sequence_number, err);
        vhdx_storage_close(old);
        if (rc == VHDX_OK && generation.page_count > 0)
            append(s, &generation);
    }
    vx_free(order);
    return rc;
}

int
vx_salvage_list_generations(struct vhdx_salvage *s, struct vhdx_error *err)
{
    int rc;

    if (!vx_salvage_log_is_small(&s->log))
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, s->log.offset,
                       "the log holds more than %u pages: its earlier states are not listed", VX_SALVAGE_IMAGES);
    s->generations = vx_alloc_zeroed(VX_SALVAGE_GENERATIONS, sizeof *s->generations);
    if (s->generations == NULL)
        return vx_fail_memory(err, "the list of earlier states");
    rc = list_unreplayed(s, err);
    for (size_t i = 0; i < s->log.group_count && rc == VHDX_OK; i++)
        rc = list_group(s, &s->log.groups[i], err);
    return rc;
}

int
vx_salvage_lay_generation(struct vhdx_salvage *s, struct vhdx_error *err)
{
    const struct vhdx_salvage_generation *wanted;
    int                                   rc = VHDX_OK;

    if (s->options.generation > s->generation_count)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_LOG, VHDX_NO_OFFSET,
                       "there is no earlier state %u, the log holds %zu", s->options.generation, s->generation_count);
    wanted = &s->generations[s->options.generation - 1];
    if (vhdx_guid_is_zero(&wanted->log_guid)) {
        s->base = s->patient;
    } else {
        for (size_t i = 0; i < s->log.group_count && rc == VHDX_OK; i++)
            if (vhdx_guid_equal(&s->log.groups[i].guid, &wanted->log_guid))
                rc = lay_over(&s->old, s, &s->log.groups[i], wanted->sequence_number, err);
        s->base = s->old;
    }
    if (rc == VHDX_OK)
        vx_salvage_doubt(s, VHDX_SALVAGE_OLD_GENERATION, true);
    return rc;
}

bool
vhdx_salvage_get_generation(const struct vhdx_salvage *s, size_t index, struct vhdx_salvage_generation *out)
{
    if (index >= s->generation_count)
        return false;
    *out = s->generations[index];
    return true;
}
