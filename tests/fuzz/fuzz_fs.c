/*
 * What lies in a disk: any bytes, and bytes near to good file systems.  Free ranges stay inside their volume and in order,
 * a second walk says what the first one said, and nothing is refused without a word.
 */
#include "fuzz.h"

#include <vhdx/fs.h>

#include "base/checked.h"
#include "base/memory.h"
#include "fs/fs.h"
#include "storage/storage.h"

#define DISK_SIZE (2 * VX_MIB)
#define HEAD      16384u /* of the disk, where all tables of these small file systems begin */

static uint8_t head[HEAD];

/* Numbers that agree: the edits break them. */
static void
make_fat(void)
{
    static const uint8_t boot[] = { 0xEB, 0x3C, 0x90, 'm', 'k', 'f', 's', '.', 'f', 'a', 't', 0, 2, 1, 1, 0, 2, 0, 2, 0,
                                    16, 0xF8, 16, 0 };

    memcpy(head, boot, sizeof boot); /* 4096 sectors, two tables of 16: FAT12 */
    memcpy(head + 54, "FAT12   ", 8);
    memcpy(head + 512, "\xF8\xFF\xFF\x03\x40\x00\xFF\x0F", 8);
    memcpy(head + 512 + 16 * 512, "\xF8\xFF\xFF\x03\x40\x00\xFF\x0F", 8);
}

static void
seal_exfat(void)
{
    uint32_t sum = 0;

    for (size_t i = 0; i < 11 * 512; i++)
        if (i != 106 && i != 107 && i != 112)
            sum = (sum << 31 | sum >> 1) + head[i];
    for (size_t i = 0; i < 512; i += 4)
        vx_put_le32(head + 11 * 512 + i, sum);
}

static void
make_exfat(void)
{
    memcpy(head, "\xEB\x76\x90" "EXFAT   ", 11);
    vx_put_le64(head + 72, DISK_SIZE / 512);
    vx_put_le32(head + 80, 24); /* the FAT, one sector */
    vx_put_le32(head + 84, 1);
    vx_put_le32(head + 88, 25); /* clusters of one sector */
    vx_put_le32(head + 92, 100);
    vx_put_le32(head + 96, 3);
    head[105] = 1, head[108] = 9, head[110] = 1;
    for (unsigned i = 0; i < 8; i++)
        vx_put_le32(head + 24 * 512 + 4 * i, UINT32_MAX);
    head[25 * 512] = 0x0F;               /* cluster 2: the bitmap */
    head[26 * 512] = 0x81;               /* cluster 3: the root */
    vx_put_le32(head + 26 * 512 + 20, 2);
    vx_put_le64(head + 26 * 512 + 24, 13);
    head[26 * 512 + 32] = 0x82;
    vx_put_le32(head + 26 * 512 + 32 + 20, 4);
    vx_put_le64(head + 26 * 512 + 32 + 24, 100);
}

static void
make_mbr(void)
{
    for (unsigned i = 0; i < 4; i++) {
        head[446 + 16 * i + 4] = i == 3 ? 0x05 : 0x83;
        vx_put_le32(head + 446 + 16 * i + 8, 8 * (i + 1));
        vx_put_le32(head + 446 + 16 * i + 12, 8);
    }
    memcpy(head + 32 * 512 - 2, "\x55\xAA", 2);
}

static void
make_gpt(void)
{
    uint8_t *b = head + 512;

    head[446 + 4] = 0xEE;
    memcpy(b, "EFI PART\0\0\1\0", 12);
    vx_put_le32(b + 12, 92);
    vx_put_le64(b + 24, 1);
    vx_put_le64(b + 32, DISK_SIZE / 512 - 1);
    vx_put_le64(b + 40, 16);
    vx_put_le64(b + 48, DISK_SIZE / 512 - 16);
    vx_put_le64(b + 72, 2);
    vx_put_le32(b + 80, 16);
    vx_put_le32(b + 84, 128);
    for (unsigned i = 0; i < 4; i++) {
        head[1024 + 128 * i] = 1;
        vx_put_le64(head + 1024 + 128 * i + 32, 16 + 8 * i);
        vx_put_le64(head + 1024 + 128 * i + 40, 16 + 8 * i + 7);
    }
}

static void
seal_gpt(void)
{
    uint8_t *b = head + 512;
    uint32_t size = vx_le32(b + 12);

    vx_put_le32(b + 88, vx_crc32(0, head + 1024, 16 * 128));
    vx_put_le32(b + 16, 0);
    vx_put_le32(b + 16, vx_crc32(0, b, size <= 512 ? size : 92));
}

static void
nothing(void)
{
}

static void
make_swap(void)
{
    head[1024] = 1;
    vx_put_le32(head + 1028, 100);
    memcpy(head + 4086, "SWAPSPACE2", 10);
}

static const struct {
    void (*make)(void);
    void (*seal)(void); /* checksums, after the edits */
} seeds[] = { { nothing, nothing }, { make_fat, nothing }, { make_exfat, seal_exfat }, { make_mbr, nothing },
              { make_gpt, seal_gpt }, { make_swap, nothing } };

struct seen {
    const struct vhdx_volume *volume;
    uint64_t                  end, sum;
};

static int
check_range(void *context, uint64_t guest_offset, uint64_t length)
{
    struct seen *seen = context;

    MUST(length > 0 && guest_offset >= seen->end && guest_offset >= seen->volume->guest_offset);
    MUST(guest_offset + length <= seen->volume->guest_offset + seen->volume->length);
    seen->end = guest_offset + length;
    seen->sum += length;
    return 0;
}

static void
check_layout(struct vhdx_layout *layout)
{
    const struct vhdx_layout_info *info = vhdx_layout_get_info(layout);

    MUST((info->verdict == VHDX_VERDICT_REFUSED) == (info->reason[0] != '\0'));
    for (size_t i = 0; i < vhdx_layout_volume_count(layout); i++) {
        const struct vhdx_volume *volume = vhdx_layout_volume(layout, i);
        struct seen seen = { .volume = volume };

        MUST(volume->length > 0 && volume->guest_offset + volume->length <= DISK_SIZE);
        MUST((volume->verdict == VHDX_VERDICT_READABLE) == (volume->reason[0] == '\0'));
        MUST(info->verdict != VHDX_VERDICT_REFUSED || volume->verdict != VHDX_VERDICT_READABLE);
        MUST(vhdx_layout_walk_free(layout, i, check_range, &seen, NULL) == VHDX_OK);
        MUST(seen.sum == volume->free_bytes);
    }
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct vhdx_open_options options = { .format = VHDX_FORMAT_RAW };
    struct fuzz_input input = { data, size };
    size_t seed = (size_t)fuzz_take(&input, 1) % (sizeof seeds / sizeof seeds[0]);
    struct vhdx_storage *storage;
    struct vhdx_layout *layout;
    struct vhdx_disk *disk;

    memset(head, 0, sizeof head);
    seeds[seed].make();
    memcpy(head + 510, "\x55\xAA", 2);
    fuzz_edit(&input, head, sizeof head, seed == 2 ? sizeof head : 2048);
    seeds[seed].seal();
    MUST(vhdx_storage_new_memory(&storage, DISK_SIZE, NULL) == VHDX_OK);
    MUST(vx_storage_write(storage, head, sizeof head, 0, NULL) == VHDX_OK);
    MUST(vhdx_disk_open_storage(&disk, storage, &options, NULL) == VHDX_OK);
    MUST(vhdx_layout_open(&layout, disk, NULL, NULL) == VHDX_OK);
    check_layout(layout);
    vhdx_layout_close(layout);
    MUST(vhdx_disk_close(disk, NULL) == VHDX_OK);
    return 0;
}
