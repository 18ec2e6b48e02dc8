/* Repair, steering: the classes in order, and what all of them need.  See repair.h. */
#include "ops/repair.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/guid.h"
#include "image/image.h"
#include "ops/compact.h"
#include "ops/job.h"
#include "storage/scratch.h"
#include "storage/storage.h"

/* --- looking --- */

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct vx_look *look = context;

    if (finding->severity > look->worst[finding->rule])
        look->worst[finding->rule] = finding->severity;
}

int
vx_repair_look(struct vx_repair *repair, bool ignore_log, struct vx_look *look, struct vhdx_error *err)
{
    const struct vhdx_check_options options = { .ignore_log = ignore_log };
    int rc;

    memset(look, 0, sizeof *look);
    rc = vx_check_new(&look->check, repair->storage, &options, take_finding, look, &look->summary, err);
    if (rc < 0)
        return rc;
    look->check->progress = repair->progress;
    rc = vx_check_run(look->check, err);
    if (rc < 0)
        vx_repair_look_away(look);
    return rc;
}

void
vx_repair_look_away(struct vx_look *look)
{
    vx_check_free(look->check);
    look->check = NULL;
}

/* --- telling --- */

void
vx_repair_tell(struct vx_repair *repair, const struct vx_step *step, const char *format, ...)
{
    const struct vhdx_rule *rule = vhdx_rule_get(step->rule);
    struct vhdx_repair_step told = { .remedy = step->remedy == VHDX_REMEDY_NONE && rule != NULL ? rule->remedy
                                                                                              : step->remedy,
                                     .rule = step->rule,
                                     .is_left = step->is_left, .is_loss = step->is_loss,
                                     .file_offset = step->file_offset, .guest_offset = step->guest_offset,
                                     .guest_length = step->guest_length };
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(told.message, sizeof told.message, format, arguments);
    va_end(arguments);
    if (step->is_left)
        repair->result->left++;
    else
        repair->result->steps++;
    if (step->is_loss)
        repair->result->lost_bytes += step->guest_length;
    repair->has_losses |= step->is_loss && !step->is_left;
    if (repair->tell != NULL)
        repair->tell(repair->context, &told);
}

/* --- headers --- */

int
vx_repair_read_header(struct vx_repair *repair, struct vx_header *header, int *index, struct vhdx_error *err)
{
    uint8_t copies[2][VX_HEADER_SIZE];
    int     rc = VHDX_OK;

    for (int i = 0; i < 2 && rc == VHDX_OK; i++) {
        size_t got;

        rc = vx_storage_read_prefix(repair->storage, copies[i], VX_HEADER_SIZE, VX_HEADER_OFFSET(i), &got, err);
    }
    if (rc < 0)
        return rc;
    rc = vx_header_choose(header, index, copies[0], copies[1], NULL);
    return rc < 0 ? vx_fail(err, rc, VHDX_PART_HEADER, VX_HEADER_OFFSET(0), "there is no valid header") : rc;
}

#define HEADERS_OF_A_SESSION 64u /* that many numbers are left, or counting begins anew (V24) */

/*
 * The copy that is not current first (H2).  Where the numbers are used up, counting begins at 1: the first write then is not
 * the newer one yet, and the second one takes the place of the only one that counts; torn, it leaves the first.
 */
int
vx_repair_put_headers(struct vx_repair *repair, const struct vx_header *next, int index, struct vhdx_error *err)
{
    struct vx_header header = *next;
    int              rc = VHDX_OK;

    if (header.sequence_number > UINT64_MAX - HEADERS_OF_A_SESSION)
        header.sequence_number = 0;
    for (int i = 0; i < 2 && rc == VHDX_OK; i++) {
        uint8_t bytes[VX_HEADER_SIZE];

        index = 1 - index;
        header.sequence_number++;
        vx_header_encode(bytes, &header);
        rc = vx_storage_write(repair->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(index), err);
        if (rc == VHDX_OK)
            rc = vx_storage_flush(repair->storage, err);
    }
    return rc;
}

/* H6: what the system shows of the current header may never have reached the disk. */
static int
secure_header(struct vx_repair *repair, int index, struct vhdx_error *err)
{
    uint8_t bytes[VX_HEADER_SIZE];
    int     rc = vx_storage_read(repair->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(index), err);

    if (rc == VHDX_OK)
        rc = vx_storage_write(repair->storage, bytes, sizeof bytes, VX_HEADER_OFFSET(index), err);
    return rc == VHDX_OK ? vx_storage_flush(repair->storage, err) : rc;
}

int
vx_repair_begin(struct vx_repair *repair, bool changes_contents, struct vhdx_error *err)
{
    struct vx_header header;
    int              index, rc = VHDX_OK;
    bool             needs_data_guid = changes_contents && !repair->has_new_data_guid;

    if (repair->has_begun && !needs_data_guid)
        return VHDX_OK;
    rc = vx_repair_read_header(repair, &header, &index, err);
    if (rc == VHDX_OK && !repair->has_begun)
        rc = secure_header(repair, index, err);
    if (rc == VHDX_OK && !repair->has_begun)
        rc = vx_guid_random(&header.file_write_guid, err);
    if (rc == VHDX_OK && needs_data_guid)
        rc = vx_guid_random(&header.data_write_guid, err);
    if (rc == VHDX_OK)
        rc = vx_repair_put_headers(repair, &header, index, err);
    if (rc < 0)
        return rc;
    repair->has_begun = true;
    if (needs_data_guid)
        repair->has_new_data_guid = repair->result->changes_contents = true;
    return VHDX_OK;
}

/* --- what classes rest on --- */

/* Rules of which each, broken, takes away what the tables rest on; worse than what in-place writes may go by. */
static const int foundations[] = { 10, 13, 14, 15, 19, 30, 31, 43, 45, 47, 55, 58, 60, 61, 62, 63, 65, 67, 68 };

bool
vx_repair_may_write(const struct vx_look *look)
{
    for (size_t i = 0; i < sizeof foundations / sizeof foundations[0]; i++) {
        if (look->worst[foundations[i]] == VHDX_SEVERITY_REFUSE)
            return false;
    }
    return look->check->has_header && vhdx_guid_is_zero(&look->check->header.log_guid);
}

int
vx_repair_open_image(struct vx_repair *repair, bool changes_contents, struct vx_image **image, struct vhdx_error *err)
{
    const struct vx_image_options options = {
        .is_writable = true,
        .data_guid = changes_contents && !repair->has_new_data_guid ? VX_DATA_GUID_NEW : VX_DATA_GUID_KEEP,
    };
    int rc = vx_image_open(image, repair->storage, &options, err);

    if (rc == VHDX_OK) {
        repair->has_begun = true;
        if (changes_contents)
            repair->has_new_data_guid = repair->result->changes_contents = true;
        return VHDX_OK;
    }
    *image = NULL;
    return rc == VHDX_E_IO || rc == VHDX_E_NO_MEMORY || rc == VHDX_E_NO_SPACE ? rc : VHDX_OK;
}

/* --- lost space --- */

/* V5: zeros to the next MiB. */
static int
round_up_file(struct vx_repair *repair, uint64_t length, struct vhdx_error *err)
{
    const struct vx_step step = { .rule = 5, .file_offset = length };
    int rc;

    vx_repair_tell(repair, &step, "the file grows by zeros to a multiple of 1 MiB");
    rc = vx_repair_begin(repair, false, err);
    if (rc == VHDX_OK)
        rc = vx_storage_set_size(repair->storage, vx_round_up(length, VX_MIB), err);
    return rc == VHDX_OK ? vx_storage_flush(repair->storage, err) : rc;
}

/* V148, V149, as compacting does it: blocks move ahead, what is left becomes holes, the end is cut. */
static int
compact(struct vx_repair *repair, int rule, uint64_t bytes, struct vhdx_error *err)
{
    struct vhdx_compact_result result = { 0 };
    const struct vx_compact job = { .storage = repair->storage, .progress = repair->progress };
    const struct vx_step step = { .rule = rule, .file_offset = VHDX_NO_OFFSET };
    int rc;

    vx_repair_tell(repair, &step, "blocks move to free space further ahead, the rest becomes holes, the end of the file is "
                   "cut: %" PRIu64 " bytes belong to nothing", bytes);
    if (repair->is_plan)
        return VHDX_OK; /* whole blocks would move */
    rc = vx_compact(&job, &result, err);
    repair->has_begun = true;
    return rc;
}

/* Why lost space has to stay, or NULL. */
static const char *
why_space_stays(const struct vx_repair *repair, const struct vx_look *look)
{
    for (int rule = 0; rule < VX_CHECK_RULE_COUNT; rule++) {
        if (look->worst[rule] >= VHDX_SEVERITY_RO)
            return "what is broken worse has to be mended first";
    }
    if (repair->has_losses)
        return "something was given up in this run, and may lie there; the same command again gives the space back";
    if (look->check->geometry.is_fixed && !vx_look_has(look, 149))
        return "a fixed image keeps the places of its blocks";
    return NULL;
}

int
vx_repair_leaks(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    const char    *why = why_space_stays(repair, look);
    struct vx_step left = { .rule = vx_look_has(look, 149) ? 149 : 148, .is_left = true, .file_offset = VHDX_NO_OFFSET };
    int            rc = VHDX_OK;

    /* A region that the end cuts (V64) is not made whole by zeros: they would pass for its entries. */
    if (vx_look_has(look, 5) && !vx_look_has(look, 64) && look->check->has_header &&
        vhdx_guid_is_zero(&look->check->header.log_guid))
        rc = round_up_file(repair, look->summary.file_size, err);
    if (rc < 0 || (!vx_look_has(look, 148) && !vx_look_has(look, 149)))
        return rc;
    if (why == NULL)
        return compact(repair, left.rule, look->summary.leaked_bytes, err);
    vx_repair_tell(repair, &left, "lost space stays: %s", why);
    return VHDX_OK;
}

/* --- all of it --- */

/* In the order that later ones depend on.  Flags wait until the image can be opened: they change in two copies together. */
static const struct {
    enum vhdx_remedy remedy;
    int (*run)(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err);
} classes[] = {
    { VHDX_REMEDY_HEADERS, vx_repair_headers },
    { VHDX_REMEDY_LOG, vx_repair_log },
    { VHDX_REMEDY_REGIONS, vx_repair_regions },
    { VHDX_REMEDY_METADATA, vx_repair_metadata },
    { VHDX_REMEDY_BAT, vx_repair_bat },
    { VHDX_REMEDY_HEADERS, vx_repair_headers }, /* a log that was dropped, or had no room, is missing (V28) */
    { VHDX_REMEDY_REGIONS, vx_repair_region_flags },
    { VHDX_REMEDY_METADATA, vx_repair_metadata_table },
    { VHDX_REMEDY_LEAKS, vx_repair_leaks },
};

static int
run_class(struct vx_repair *repair, size_t i, struct vhdx_error *err)
{
    struct vx_look look;
    int rc = vx_repair_look(repair, false, &look, err);

    if (rc < 0)
        return rc;
    if (vx_look_has(&look, 14))
        rc = vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_HEADER, VHDX_NO_OFFSET,
                     "the header is of another version of the format (V14): nothing is known of what may be mended");
    else
        rc = classes[i].run(repair, &look, err);
    vx_repair_look_away(&look);
    return rc;
}

/* The log is looked at whatever was asked for: what it holds counts (P4). */
static int
run_classes(struct vx_repair *repair, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (size_t i = 0; i < sizeof classes / sizeof classes[0] && rc == VHDX_OK; i++) {
        if (vx_repair_wants(repair, classes[i].remedy) || classes[i].remedy == VHDX_REMEDY_LOG)
            rc = run_class(repair, i, err);
    }
    return rc;
}

int
vhdx_repair_storage(struct vhdx_storage *storage, const struct vhdx_repair_options *options,
                    void (*tell)(void *context, const struct vhdx_repair_step *step), void *context,
                    const struct vhdx_progress *progress, struct vhdx_repair_result *out, struct vhdx_error *err)
{
    struct vhdx_repair_result ours;
    struct vx_repair repair = { .storage = storage, .classes = options->classes, .is_plan = options->dry_run,
                                .tell = tell, .context = context, .progress = progress,
                                .result = out != NULL ? out : &ours };
    int rc = VHDX_OK;

    memset(repair.result, 0, sizeof *repair.result);
    if ((options->classes & ~VHDX_REPAIR_ALL) != 0 || options->classes == 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "no class of repair is like that");
    if (!options->dry_run && storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET, "the storage is read-only");
    if (options->dry_run)
        rc = vx_scratch_new(&repair.storage, storage, err);
    if (rc < 0)
        return rc;
    rc = run_classes(&repair, err);
    if (options->dry_run)
        vhdx_storage_close(repair.storage);
    return rc;
}
