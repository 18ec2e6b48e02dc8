/*
 * Repair of the region tables: V56, V57 in place, one copy from the other; V59, V66, V69 through the log, both copies
 * together.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/memory.h"
#include "format/region.h"
#include "image/image.h"
#include "ops/repair.h"
#include "storage/storage.h"

struct tables {
    struct vx_region_table decoded;
    uint8_t                bytes[2][VX_REGION_TABLE_SIZE];
};

static int
read_tables(struct vx_repair *repair, struct tables **out, struct vhdx_error *err)
{
    struct tables *tables = vx_alloc(sizeof *tables);
    int            rc;

    if (tables == NULL)
        return vx_fail_memory(err, "the region tables");
    rc = vx_storage_read(repair->storage, tables->bytes, sizeof tables->bytes, VX_REGION_TABLE_OFFSET(0), err);
    if (rc < 0)
        vx_free(tables);
    else
        *out = tables;
    return rc;
}

/* How bad a copy is by itself; REFUSE when it is no table at all. */
static enum vhdx_severity
judge_copy(struct tables *tables, int copy, const struct vx_look *look)
{
    struct vx_findings findings;
    struct vx_regions  regions;
    uint64_t           at = VX_REGION_TABLE_OFFSET(copy);

    if (vx_region_table_decode(&tables->decoded, tables->bytes[copy], at, NULL) < 0)
        return VHDX_SEVERITY_REFUSE;
    vx_findings_init(&findings, NULL, NULL);
    vx_region_table_judge(&tables->decoded, tables->bytes[copy], at, &look->check->header, look->summary.file_size,
                          &regions, &findings);
    return vx_findings_severity(&findings);
}

/* Torn, the copy is damaged as it was, or differs no more: the other one counts. */
static int
copy_table(struct vx_repair *repair, struct tables *tables, int good, struct vhdx_error *err)
{
    int rc = vx_repair_begin(repair, false, err);

    if (rc == VHDX_OK)
        rc = vx_storage_write(repair->storage, tables->bytes[good], VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(1 - good),
                              err);
    return rc == VHDX_OK ? vx_storage_flush(repair->storage, err) : rc;
}

static int
mend_copies(struct vx_repair *repair, struct vx_look *look, struct tables *tables, struct vhdx_error *err)
{
    enum vhdx_severity first = judge_copy(tables, 0, look), second = judge_copy(tables, 1, look);
    bool           is_one_bad = vx_look_has(look, 56);
    struct vx_step step = { .rule = is_one_bad ? 56 : 57 };
    const char    *why = "";
    int            good = first == VHDX_SEVERITY_REFUSE && second < first;

    if (first == VHDX_SEVERITY_REFUSE && second == VHDX_SEVERITY_REFUSE) {
        step.is_left = true;
        step.file_offset = VX_REGION_TABLE_OFFSET(0);
        vx_repair_tell(repair, &step, "neither region table can be believed");
        return VHDX_OK;
    }
    step.file_offset = VX_REGION_TABLE_OFFSET(1 - good);
    if (!is_one_bad)
        why = good == 0 ? ", which is the one that readers believe" : ", since the first cannot be right";
    vx_repair_tell(repair, &step, "region table %d is written anew from table %d%s", 2 - good, 1 + good, why);
    return copy_table(repair, tables, good, err);
}

int
vx_repair_regions(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    struct tables *tables;
    int            rc;

    if (!vx_look_has(look, 56) && !vx_look_has(look, 57))
        return VHDX_OK;
    if (!look->check->has_header || !vhdx_guid_is_zero(&look->check->header.log_guid))
        return VHDX_OK; /* told by the class before: the log may hold a newer table */
    rc = read_tables(repair, &tables, err);
    if (rc < 0)
        return rc;
    rc = mend_copies(repair, look, tables, err);
    vx_free(tables);
    return rc;
}

/* --- flags --- */

static const struct {
    int         rule;
    const char *text;
} flag_rules[] = {
    { 59, "the reserved field of both region tables becomes 0" },
    { 66, "Required of every region becomes 0 or 1, as its lowest bit says" },
    { 69, "Required of the block allocation table and of the metadata becomes 1" },
};

static void
set_flags(uint8_t *bytes, const struct vx_region_table *table)
{
    vx_put_le32(bytes + 12, 0);
    for (uint32_t i = 0; i < table->region_count; i++) {
        const struct vx_region *region = &table->regions[i];
        bool is_known = vhdx_guid_equal(&region->guid, &vx_guid_region_bat) ||
                        vhdx_guid_equal(&region->guid, &vx_guid_region_metadata);

        vx_put_le32(bytes + 16 + 32 * (size_t)i + 28, is_known ? 1 : region->flags & 1);
    }
    vx_put_le32(bytes + 4, vx_crc32c_hole(bytes, VX_REGION_TABLE_SIZE, 4));
}

static int
edit_flags(struct vx_image *image, struct tables *tables, struct vhdx_error *err)
{
    struct vx_edit edits[2];
    uint64_t       used;
    int            rc = vx_region_table_decode(&tables->decoded, tables->bytes[0], VX_REGION_TABLE_OFFSET(0), err);

    if (rc < 0)
        return rc;
    set_flags(tables->bytes[0], &tables->decoded);
    used = vx_round_up(16 + 32 * (uint64_t)tables->decoded.region_count, 4096);
    for (int copy = 0; copy < 2; copy++)
        edits[copy] = (struct vx_edit){ .file_offset = VX_REGION_TABLE_OFFSET(copy), .length = used,
                                        .bytes = tables->bytes[0] };
    rc = vx_image_edit(image, edits, 2, err);
    return rc == VHDX_OK ? vx_image_flush(image, err) : rc;
}

static int
mend_flags(struct vx_repair *repair, struct vx_image *image, struct vhdx_error *err)
{
    struct tables *tables;
    int            closed, rc = read_tables(repair, &tables, err);

    if (rc == VHDX_OK) {
        rc = edit_flags(image, tables, err);
        vx_free(tables);
    }
    closed = vx_image_close(image, rc < 0 ? NULL : err);
    return rc < 0 ? rc : closed;
}

int
vx_repair_region_flags(struct vx_repair *repair, struct vx_look *look, struct vhdx_error *err)
{
    struct vx_image *image;
    bool             has_some = false;
    int              rc;

    for (size_t i = 0; i < sizeof flag_rules / sizeof flag_rules[0]; i++)
        has_some |= vx_look_has(look, flag_rules[i].rule);
    if (!has_some)
        return VHDX_OK;
    rc = vx_repair_open_image(repair, false, &image, err);
    if (rc < 0)
        return rc;
    for (size_t i = 0; i < sizeof flag_rules / sizeof flag_rules[0]; i++) {
        const struct vx_step step = { .rule = flag_rules[i].rule, .is_left = image == NULL,
                                      .file_offset = VX_REGION_TABLE_OFFSET(0) };

        if (vx_look_has(look, step.rule))
            vx_repair_tell(repair, &step, "%s%s", flag_rules[i].text,
                           image != NULL ? "" : ": not before the rest is mended");
    }
    return image != NULL ? mend_flags(repair, image, err) : VHDX_OK;
}
