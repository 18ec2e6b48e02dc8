/* Two region table copies: choice, judgement, and the places they reserve. */
#include "fuzz.h"

#include "base/crc32c.h"
#include "format/bat.h"
#include "format/region.h"

static uint8_t copies[2][VX_REGION_TABLE_SIZE];
static struct vx_region_table table, good;
static struct vx_reserved_range reserved[VX_MAX_REGIONS + 2];

static void
make_good_table(unsigned more)
{
    unsigned i;

    memset(&good, 0, sizeof good);
    good.regions[0] = (struct vx_region){ vx_guid_region_bat, 3 * VX_MIB, 1024 * 1024, 1 };
    good.regions[1] = (struct vx_region){ vx_guid_region_metadata, 2 * VX_MIB, 1024 * 1024, 1 };
    good.region_count = 2 + more;
    for (i = 0; i < more; i++)
        good.regions[2 + i] = (struct vx_region){ { { 1, (uint8_t)i } }, (9 - i) * VX_MIB, 1024 * 1024, 0 };
}

static void
seal(struct fuzz_input *input, uint8_t *copy)
{
    if (fuzz_take(input, 1) & 7)
        vx_put_le32(copy + 4, vx_crc32c_hole(copy, VX_REGION_TABLE_SIZE, 4));
}

/* With nothing worse than a warning, BAT and metadata lie where they can be read. */
static void
check_regions(const struct vx_regions *regions, uint64_t file_length)
{
    MUST(regions->bat.file_offset >= VX_MIB && regions->metadata.file_offset >= VX_MIB);
    MUST(regions->bat.file_offset + regions->bat.length <= file_length);
    MUST(regions->metadata.file_offset + regions->metadata.length <= file_length);
    MUST(!vx_ranges_overlap(regions->bat.file_offset, regions->bat.length, regions->metadata.file_offset,
                            regions->metadata.length));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vx_header header = { .log_offset = VX_MIB, .log_length = 1024 * 1024 };
    struct vx_regions regions;
    struct vx_findings findings;
    uint64_t file_length = 16 * VX_MIB;
    size_t count, i;
    int index, rc;

    make_good_table((unsigned)fuzz_take(&input, 1) & 3);
    vx_region_table_encode(copies[0], &good);
    fuzz_edit(&input, copies[0], sizeof copies[0], 16 + 32 * good.region_count);
    seal(&input, copies[0]);
    memcpy(copies[1], copies[0], sizeof copies[1]);
    if ((fuzz_take(&input, 1) & 3) == 0) {
        fuzz_edit(&input, copies[1], sizeof copies[1], 16 + 32 * good.region_count);
        seal(&input, copies[1]);
    }
    if ((fuzz_take(&input, 1) & 3) == 0) {
        file_length = fuzz_number(&input);
        header.log_offset = fuzz_number(&input);
        header.log_length = (uint32_t)fuzz_number(&input);
    }

    rc = vx_region_table_choose(&table, &index, copies[0], copies[1], fuzz_findings(&findings));
    MUST((rc < 0) == (vx_findings_severity(&findings) == VHDX_SEVERITY_REFUSE));
    if (rc < 0)
        return 0;
    vx_region_table_judge(&table, copies[index], VX_REGION_TABLE_OFFSET(index), &header, file_length, &regions,
                          &findings);
    if (vx_findings_severity(&findings) < VHDX_SEVERITY_REFUSE)
        check_regions(&regions, file_length);
    count = vx_reserved_ranges(reserved, &header, &table);
    MUST(count >= 1 && count <= (size_t)table.region_count + 2 && reserved[0].file_offset == 0);
    for (i = 1; i < count; i++)
        MUST(reserved[i].file_offset > reserved[i - 1].file_offset + reserved[i - 1].length);
    return 0;
}
