/* Two header copies: choice and judgement. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "format/header.h"

static uint8_t slots[2][VX_HEADER_SLOT_SIZE];

static void
make_copy(struct fuzz_input *input, int index)
{
    struct vx_header header = {
        .sequence_number = 7 + (uint64_t)index,
        .file_write_guid = { { 1 } },
        .data_write_guid = { { 2 } },
        .version         = 1,
        .log_length      = 1024 * 1024,
        .log_offset      = 1024 * 1024,
    };

    memset(slots[index], 0, sizeof slots[index]);
    vx_header_encode(slots[index], &header);
    fuzz_edit(input, slots[index], sizeof slots[index], 80);
    if (fuzz_take(input, 1) & 7)
        vx_put_le32(slots[index] + 4, vx_crc32c_hole(slots[index], VX_HEADER_SIZE, 4));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    uint8_t again[VX_HEADER_SIZE];
    struct vx_header current, decoded;
    struct vx_findings findings;
    uint64_t file_length = fuzz_number(&input);
    size_t judged_length = VX_HEADER_SIZE;
    int index, rc;

    make_copy(&input, 0);
    make_copy(&input, 1);
    if ((fuzz_take(&input, 1) & 15) == 0) /* slow */
        judged_length = (size_t)fuzz_take(&input, 3) % (sizeof slots[0] + 1);
    vx_header_judge_reserved(slots[0], judged_length, VX_HEADER_OFFSET(0), fuzz_findings(&findings));
    rc = vx_header_choose(&current, &index, slots[0], slots[1], fuzz_findings(&findings));
    MUST((rc < 0) == (vx_findings_severity(&findings) == VHDX_SEVERITY_REFUSE));
    if (rc < 0)
        return 0;

    MUST(index == 0 || index == 1);
    vx_header_judge(&current, VX_HEADER_OFFSET(index), file_length, &findings);
    vx_header_encode(again, &current);
    MUST(vx_header_decode(&decoded, again, 0, NULL) == VHDX_OK);
    MUST(memcmp(again + 8, slots[index] + 8, 72) == 0);
    if (vx_findings_severity(&findings) < VHDX_SEVERITY_RO && current.log_length > 0)
        MUST(current.log_offset + current.log_length <= file_length); /* what replay relies on */
    return 0;
}
