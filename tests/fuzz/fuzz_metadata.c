/* A metadata region: table, items, values, and the geometry that follows. */
#include "fuzz.h"

#include "format/geometry.h"
#include "format/metadata.h"

static uint8_t region[VX_MIB];
static struct vx_metadata_table table;

static void
make_region(struct fuzz_input *input)
{
    struct vx_metadata metadata = {
        .block_size           = UINT32_C(1) << (20 + fuzz_take(input, 1) % 9),
        .virtual_size         = fuzz_number(input) << 9,
        .logical_sector_size  = 512,
        .physical_sector_size = 4096,
        .disk_id              = { { 1 } },
    };
    size_t length;

    memset(region, 0, VX_METADATA_TABLE_SIZE + 4096); /* nothing is written past these */
    vx_metadata_encode_new(region, &length, &metadata, NULL, 0);
    fuzz_edit(input, region, VX_METADATA_TABLE_SIZE, 32 + 32 * 6);
    fuzz_edit(input, region + VX_METADATA_TABLE_SIZE, 64, 40);
}

/* As open does: only items that lie inside the region are taken. */
static void
take_items(struct vx_metadata *metadata)
{
    uint32_t i;

    for (i = 0; i < table.entry_count; i++) {
        const struct vx_metadata_entry *entry = &table.entries[i];

        if ((uint64_t)entry->offset + entry->length <= sizeof region)
            vx_metadata_take_item(metadata, entry, region + entry->offset);
    }
}

/* What was judged good makes a geometry within the limits of section 7. */
static void
check_geometry(const struct vx_metadata *metadata)
{
    struct vx_geometry g;
    uint64_t last, index;

    vx_geometry_init(&g, metadata->virtual_size, metadata->block_size, metadata->logical_sector_size,
                     metadata->has_parent, metadata->leave_blocks_allocated);
    MUST(g.chunk_ratio >= 16 && g.chunk_ratio <= 32768);
    MUST(g.payload_block_count >= 1 && g.payload_block_count <= 67108864);
    MUST(g.bat_entry_count >= 1 && g.bat_entry_count <= 67125248);
    last = g.payload_block_count - 1;
    MUST(vx_geometry_block_of(&g, g.virtual_size - 1) == last);
    MUST(vx_geometry_block_length(&g, last) >= 1 && vx_geometry_block_length(&g, last) <= g.block_size);
    MUST(vx_geometry_payload_bat_index(&g, last) < g.bat_entry_count);
    MUST(vx_geometry_is_payload_entry(&g, vx_geometry_payload_bat_index(&g, last), &index) && index == last);
    MUST(vx_geometry_bat_region_length(&g) >= 8 * g.bat_entry_count);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vx_metadata metadata;
    struct vx_findings findings;
    struct vhdx_error err;

    make_region(&input);
    if (vx_metadata_table_decode(&table, region, 2 * VX_MIB, &err) < 0) {
        MUST(err.rule == 75 || err.rule == 76);
        return 0;
    }
    vx_metadata_table_judge(&table, region, 2 * VX_MIB, sizeof region, fuzz_findings(&findings));
    memset(&metadata, 0, sizeof metadata);
    take_items(&metadata);
    vx_metadata_judge(&metadata, 2 * VX_MIB, &findings);
    vx_metadata_settle(&metadata);
    if (vx_findings_severity(&findings) < VHDX_SEVERITY_REFUSE)
        check_geometry(&metadata);
    return 0;
}
