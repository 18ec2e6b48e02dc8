/* The check of the header section: V1 to V28.  It is never replayed into: the file as it lies is looked at. */
#include "base/error.h"
#include "base/memory.h"
#include "format/identifier.h"
#include "ops/check.h"
#include "storage/storage.h"

/* V7, V23 of the copies that are headers at all (V10, V11 speak of the others). */
static void
judge_slots(struct vx_check *check, const uint8_t *section)
{
    for (int copy = 0; copy < 2; copy++) {
        const uint8_t *slot = section + VX_HEADER_OFFSET(copy);
        struct vx_header header;

        if (vx_header_decode(&header, slot, VX_HEADER_OFFSET(copy), NULL) == VHDX_OK)
            vx_header_judge_reserved(slot, VX_HEADER_SLOT_SIZE, VX_HEADER_OFFSET(copy), &check->findings);
    }
}

/* A file without a current header is looked at as if its log were empty: would new headers save it? */
static bool
judge_headers(struct vx_check *check, const uint8_t *section)
{
    int current_index;
    int rc = vx_header_choose(&check->header, &current_index, section + VX_HEADER_OFFSET(0),
                              section + VX_HEADER_OFFSET(1), &check->findings);

    judge_slots(check, section);
    if (rc < 0) {
        check->header = (struct vx_header){ .version = 1 };
        check->summary->is_complete = false;
        return true;
    }
    vx_header_judge(&check->header, VX_HEADER_OFFSET(current_index), check->file_length, &check->findings);
    check->has_header = check->header.version == 1;
    if (!check->has_header)
        check->summary->is_complete = false; /* another version's structures may mean anything */
    return check->has_header;
}

int
vx_check_head(struct vx_check *check, bool *go_on, struct vhdx_error *err)
{
    uint8_t *section = vx_alloc(VX_HEADER_SECTION_SIZE);
    size_t got;
    int rc;

    *go_on = false;
    if (section == NULL)
        return vx_fail_memory(err, "the header section");
    rc = vx_storage_read_prefix(check->storage, section, VX_HEADER_SECTION_SIZE, 0, &got, err);
    if (rc == VHDX_OK) {
        vx_file_length_judge(check->file_length, &check->findings);
        vx_identifier_judge(section, VX_IDENTIFIER_SIZE, &check->findings);
        vx_header_section_judge_reserved(section, VX_HEADER_SECTION_SIZE, 0, &check->findings);
        if (got == VX_HEADER_SECTION_SIZE)
            *go_on = judge_headers(check, section);
        else
            check->summary->is_complete = false; /* V1 said it: the file ends before anything else */
    }
    vx_free(section);
    return rc;
}
