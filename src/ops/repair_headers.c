/*
 * Repair of the headers: V10 to V13, V16 to V22 of an empty log, V24 to V28.
 *
 * Most of it is what a header update does anyway: both copies are written anew from the one that counts.  A log that cannot
 * lie where the header says is none, if it is empty; and an image without a log gets one, where nothing else lies (6.9).
 */
#include <inttypes.h>
#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "ops/repair.h"
#include "storage/storage.h"

static bool
is_log_empty(const struct vx_header *header)
{
    return vhdx_guid_is_zero(&header->log_guid);
}

bool
vx_repair_drops_log(const struct vx_look *look)
{
    static const int rules[] = { 17, 18, 20, 21, 22 };

    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        if (vx_look_has(look, rules[i]))
            return true;
    }
    return false;
}

/* --- a place for a log --- */

/* Does the check know of everything that has a place in the file, and is the second MiB free, where logs usually are? */
static bool
is_usual_place_free(const struct vx_look *look)
{
    static const int tells_all[] = { 55, 57, 58, 60, 61, 62, 63, 64, 67, 68, 75, 76, 91, 92, 93, 95, 97, 99, 130, 131, 132 };
    const struct vx_check *check = look->check;
    uint64_t at, length;

    for (size_t i = 0; i < sizeof tells_all / sizeof tells_all[0]; i++) {
        if (vx_look_has(look, tells_all[i]))
            return false;
    }
    return check->has_geometry && check->has_bat_region && check->file_length >= 2 * VX_MIB &&
           vx_used_next_gap(&check->used, VX_MIB, &at, &length) && at == VX_MIB;
}

/* Does something lie past the end of the file?  Then the file must not grow before that is mended: zeros, or the log, would
 * pass for it. */
static bool
is_something_cut(const struct vx_look *look)
{
    return vx_look_has(look, 64) || vx_look_has(look, 134) || vx_look_has(look, 136) || vx_look_has(look, 144);
}

/* A MiB that is free, or a new one at the end of the file, which is durable before a header names it.  Else none as yet. */
static int
find_log_place(struct vx_repair *repair, const struct vx_look *look, struct vx_header *next, struct vhdx_error *err)
{
    bool     is_free = is_usual_place_free(look);
    uint64_t length;
    int      rc;

    next->log_length = is_free || !is_something_cut(look) ? (uint32_t)VX_MIB : 0;
    next->log_offset = next->log_length > 0 ? VX_MIB : 0;
    if (is_free || next->log_length == 0)
        return VHDX_OK;
    rc = vx_storage_get_size(repair->storage, &length, err);
    next->log_offset = vx_max_u64(vx_round_up(length, VX_MIB), VX_HEADER_SECTION_SIZE);
    if (rc == VHDX_OK)
        rc = vx_storage_set_size(repair->storage, next->log_offset + VX_MIB, err);
    return rc == VHDX_OK ? vx_storage_flush(repair->storage, err) : rc;
}

/* --- both headers are gone (V10) --- */

static int
rebuild(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    const struct vx_step step = { .rule = 10, .is_loss = true, .file_offset = VX_HEADER_OFFSET(0) };
    struct vx_header     next = { .version = 1 };
    int                  rc;

    vx_repair_tell(repair, &step, "both headers are made new and the log is taken for empty: if the image was not closed, "
                   "what its log held is lost");
    rc = find_log_place(repair, look, &next, err);
    if (rc == VHDX_OK)
        rc = vx_guid_random(&next.file_write_guid, err);
    if (rc == VHDX_OK)
        rc = vx_guid_random(&next.data_write_guid, err);
    if (rc == VHDX_OK)
        rc = vx_repair_put_headers(repair, &next, 0, err);
    if (rc == VHDX_OK)
        repair->has_begun = repair->has_new_data_guid = repair->result->changes_contents = true;
    return rc;
}

/* --- both claim to be the newer one (V13) --- */

static bool
tell_of_one_disk(const struct vx_header *a, const struct vx_header *b)
{
    return vhdx_guid_equal(&a->log_guid, &b->log_guid) && a->log_offset == b->log_offset &&
           a->log_length == b->log_length && a->version == b->version && a->log_version == b->log_version;
}

/* Where both name the same log, contents are the same whichever counts.  Only whose parent this is may be in doubt: then
 * it is nobody's (a new DataWriteGuid), since a wrong answer would let a child read through a parent that changed. */
static int
settle_equal_numbers(struct vx_repair *repair, struct vhdx_error *err)
{
    struct vx_step   step = { .rule = 13, .file_offset = VX_HEADER_OFFSET(1) };
    struct vx_header headers[2], next;
    bool             is_one_parent;
    int              rc = VHDX_OK;

    for (int i = 0; i < 2 && rc == VHDX_OK; i++) {
        uint8_t bytes[VX_HEADER_SIZE];

        rc = vx_storage_read(repair->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(i), err);
        if (rc == VHDX_OK)
            rc = vx_header_decode(&headers[i], bytes, VX_HEADER_OFFSET(i), err);
    }
    if (rc < 0)
        return rc;
    if (!tell_of_one_disk(&headers[0], &headers[1])) {
        step.is_left = true;
        vx_repair_tell(repair, &step, "the headers name different logs, and nothing tells which of them is the newer");
        return VHDX_OK;
    }
    next = headers[0];
    is_one_parent = vhdx_guid_equal(&next.data_write_guid, &headers[1].data_write_guid);
    vx_repair_tell(repair, &step, "both headers name the same log: the first is taken%s",
                   is_one_parent ? "" : ", with a new DataWriteGuid, since they disagree about that");
    rc = vx_guid_random(&next.file_write_guid, err);
    if (rc == VHDX_OK && !is_one_parent)
        rc = vx_guid_random(&next.data_write_guid, err);
    if (rc == VHDX_OK)
        rc = vx_repair_put_headers(repair, &next, 0, err);
    if (rc == VHDX_OK) {
        repair->has_begun = true;
        repair->has_new_data_guid |= !is_one_parent;
        repair->result->changes_contents |= !is_one_parent;
    }
    return rc;
}

/* --- what an update mends --- */

static const struct {
    int         rule;
    const char *text;
} updates[] = {
    { 11, "the damaged header is written anew from the sound one" },
    { 12, "the headers get numbers of their own" },
    { 24, "the numbers of the headers begin anew" },
    { 25, "the older header gets the log of the newer one" },
    { 26, "the headers get numbers in a row" },
    { 27, "the headers get the GUID they lack" },
};

static bool
tell_updates(struct vx_repair *repair, const struct vx_look *look)
{
    bool has_some = false;

    for (size_t i = 0; i < sizeof updates / sizeof updates[0]; i++) {
        const struct vx_step step = { .rule = updates[i].rule, .file_offset = VX_HEADER_OFFSET(0) };

        if (!vx_look_has(look, updates[i].rule))
            continue;
        vx_repair_tell(repair, &step, "%s", updates[i].text);
        has_some = true;
    }
    return has_some;
}

/* V28.  The class is called again when the table of blocks is mended. */
static bool
tell_new_log(struct vx_repair *repair, const struct vx_look *look)
{
    const struct vx_step step = { .rule = 28, .file_offset = VX_HEADER_OFFSET(0) };

    if (!vx_look_has(look, step.rule) || (is_something_cut(look) && !is_usual_place_free(look)))
        return false;
    vx_repair_tell(repair, &step, "the image gets a log of 1 MiB");
    return true;
}

/* What an update has to say otherwise.  A log in use is the next class's. */
static bool
tell_changes(struct vx_repair *repair, const struct vx_look *look)
{
    static const int   rules[] = { 17, 18, 20, 21, 22 };
    struct vx_step     step = { .file_offset = VX_HEADER_OFFSET(0) };
    bool               has_some = false;

    if (!is_log_empty(&look->check->header))
        return false;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        step.rule = rules[i];
        if (vx_look_has(look, step.rule)) {
            vx_repair_tell(repair, &step, "the header forgets its log, which is empty, and gets another one");
            has_some = true;
            break;
        }
    }
    step.rule = 16;
    if (vx_look_has(look, step.rule))
        vx_repair_tell(repair, &step, "the version of the empty log becomes 0");
    has_some |= vx_look_has(look, step.rule);
    return tell_new_log(repair, look) || has_some;
}

static int
change(struct vx_repair *repair, const struct vx_look *look, struct vhdx_error *err)
{
    struct vx_header next;
    int              index, rc = vx_repair_read_header(repair, &next, &index, err);

    if (rc < 0)
        return rc;
    if (is_log_empty(&next)) {
        next.log_version = 0;
        if (vx_repair_drops_log(look) || next.log_length == 0)
            rc = find_log_place(repair, look, &next, err);
    }
    if (rc == VHDX_OK && vhdx_guid_is_zero(&next.data_write_guid))
        rc = vx_guid_random(&next.data_write_guid, err);
    return rc == VHDX_OK ? vx_repair_put_headers(repair, &next, index, err) : rc;
}

int
vx_repair_headers(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    bool has_updates, has_changes;
    int  rc;

    if (vx_look_has(look, 10))
        return rebuild(repair, look, err);
    if (vx_look_has(look, 13))
        return settle_equal_numbers(repair, err);
    if (!look->check->has_header)
        return VHDX_OK;
    has_updates = tell_updates(repair, look);
    has_changes = tell_changes(repair, look) || vx_look_has(look, 27);
    if (!has_updates && !has_changes)
        return VHDX_OK;
    rc = vx_repair_begin(repair, false, err);
    return rc == VHDX_OK && has_changes ? change(repair, look, err) : rc;
}
