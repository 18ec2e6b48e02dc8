/* A VHD's footer and header, and where its blocks lie. */
#include "fuzz.h"

#include "base/checked.h"
#include "format/vhd_for_tests.h"

static void
check_blocks(struct fuzz_input *input, const struct vx_vhd_header *header, uint64_t disk_size, uint64_t file_size)
{
    for (unsigned i = 0; i < 4; i++) {
        uint32_t block_index = (uint32_t)(fuzz_number(input) % header->entry_count), entry = (uint32_t)fuzz_number(input);
        uint64_t begin = (uint64_t)block_index * header->block_size, bitmap_offset;

        if (vx_vhd_locate_block(&bitmap_offset, header, disk_size, block_index, entry, file_size, NULL) < 0)
            continue;
        MUST(begin < disk_size);
        MUST(bitmap_offset % VX_VHD_SECTOR == 0);
        MUST(bitmap_offset + header->bitmap_size + vx_min_u64(header->block_size, disk_size - begin) <= file_size);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vx_vhd_footer footer;
    struct vx_vhd_header header;
    struct vhdx_error err;
    struct vx_vhd_geometry geometry;
    uint64_t disk_size = (fuzz_number(&input) & ~(uint64_t)511) + 512, file_size = fuzz_number(&input);
    uint8_t bytes[VX_VHD_HEADER_SIZE];
    uint64_t seals = fuzz_take(&input, 1);

    geometry = vx_vhd_compute_geometry(disk_size);
    MUST((uint64_t)geometry.cylinders * geometry.heads * geometry.sectors * 512 <= disk_size);
    vhd_make_footer(bytes, VX_VHD_DYNAMIC, disk_size);
    fuzz_edit(&input, bytes, VX_VHD_FOOTER_SIZE, 88);
    if ((seals & 7) != 0)
        vhd_seal(bytes, VX_VHD_FOOTER_SIZE);
    if (vx_vhd_footer_decode(&footer, bytes, file_size, &err) < 0) {
        MUST(err.message[0] != '\0');
        return 0;
    }
    MUST(footer.disk_size > 0 && footer.disk_size % VX_VHD_SECTOR == 0);

    vhd_make_header(bytes, fuzz_number(&input), (uint32_t)fuzz_number(&input), (uint32_t)fuzz_number(&input));
    fuzz_edit(&input, bytes, VX_VHD_HEADER_SIZE, 40);
    if ((seals & 0x70) != 0)
        vhd_seal(bytes, VX_VHD_HEADER_SIZE);
    if (vx_vhd_header_decode(&header, bytes, &footer, file_size, &err) < 0) {
        MUST(err.message[0] != '\0');
        return 0;
    }
    MUST(header.entry_count > 0 && header.entry_count <= VX_VHD_MAX_ENTRIES);
    MUST((uint64_t)header.entry_count * header.block_size >= footer.disk_size);
    MUST(header.table_offset + (uint64_t)header.entry_count * 4 <= file_size);
    check_blocks(&input, &header, footer.disk_size, file_size);
    return 0;
}
