/* A small log: entries are written, damaged, sealed again or not, and scanned for the active sequence. */
#include "fuzz.h"

#include "format/log_entry.h"
#include "format/log_sequence.h"

#define SECTORS    32u
#define LOG_LENGTH (SECTORS * VX_LOG_SECTOR)
#define LOG_OFFSET VX_MIB

static const struct vhdx_guid guid = { { 7, 7 } };
static uint8_t ring[LOG_LENGTH];
static uint8_t entry[LOG_LENGTH];
static struct vx_log_place places[SECTORS];

/* Up to seven sectors; descriptors are of data and of zeros in turn. */
static uint32_t
make_entry(struct fuzz_input *input, uint64_t sequence, uint32_t tail)
{
    uint32_t data_count = (uint32_t)fuzz_take(input, 1) % 5, zero_count = (uint32_t)fuzz_take(input, 1) % 3, i;
    struct vx_log_entry_header header = {
        .tail = tail, .sequence_number = sequence, .descriptor_count = data_count + zero_count, .log_guid = guid,
        .flushed_file_offset = 4 * VX_MIB, .last_file_offset = 8 * VX_MIB,
    };
    static uint8_t page[VX_PAGE];

    header.entry_length =
        (uint32_t)vx_log_descriptor_area_size(header.descriptor_count) + data_count * VX_LOG_SECTOR;
    memset(entry, 0, header.entry_length);
    vx_log_entry_header_encode(entry, &header);
    for (i = 0; i < data_count; i++)
        vx_log_page_encode(entry, header.descriptor_count, i, i, page, 4 * VX_MIB + 4096 * (uint64_t)i, sequence);
    for (; i < header.descriptor_count; i++) {
        struct vx_log_descriptor zero = {
            .is_zero = true, .file_offset = 5 * VX_MIB, .zero_length = 8192, .sequence_number = sequence,
        };

        vx_log_descriptor_encode(entry, i, &zero);
    }
    if ((fuzz_take(input, 1) & 3) == 0)
        fuzz_edit(input, entry, header.entry_length, 64 + 32 * (size_t)header.descriptor_count);
    if (fuzz_take(input, 1) & 7)
        vx_log_entry_seal(entry, header.entry_length);
    return header.entry_length / VX_LOG_SECTOR;
}

static void
fill_ring(struct fuzz_input *input)
{
    uint32_t position = (uint32_t)fuzz_take(input, 1) % SECTORS, tail = position, length, i;
    uint64_t sequence = 1 + fuzz_take(input, 1);
    uint64_t count = fuzz_take(input, 1) % 9;

    memset(ring, 0, sizeof ring);
    for (; count > 0; count--, sequence++) {
        uint64_t how = fuzz_take(input, 1);

        if (how & 1)
            tail = position;
        if ((how & 0x70) == 0)
            sequence += how >> 7;
        length = make_entry(input, sequence, tail * VX_LOG_SECTOR);
        for (i = 0; i < length; i++)
            memcpy(ring + (position + i) % SECTORS * VX_LOG_SECTOR, entry + i * VX_LOG_SECTOR, VX_LOG_SECTOR);
        position = (position + length) % SECTORS;
    }
}

static bool
check_at(struct vx_log_entry_check *check, uint32_t position)
{
    enum vx_log_verdict verdict;
    uint32_t i;

    verdict = vx_log_entry_check_begin(check, ring + position * VX_LOG_SECTOR, &guid, LOG_OFFSET, LOG_LENGTH);
    for (i = 1; verdict == VX_LOG_MORE; i++) {
        MUST(i < SECTORS);
        verdict = vx_log_entry_check_feed(check, ring + (position + i) % SECTORS * VX_LOG_SECTOR);
    }
    return verdict == VX_LOG_VALID;
}

static size_t
scan(void)
{
    struct vx_log_entry_check check;
    uint32_t position, used = 0;
    size_t count = 0;

    for (position = 0; position < SECTORS; position++) {
        if (!check_at(&check, position))
            continue;
        places[count++] = (struct vx_log_place){
            .position            = position * VX_LOG_SECTOR,
            .entry_length        = check.header.entry_length,
            .tail                = check.header.tail,
            .sequence_number     = check.header.sequence_number,
            .flushed_file_offset = check.header.flushed_file_offset,
            .last_file_offset    = check.header.last_file_offset,
            .highest_target_end  = check.highest_target_end,
            .has_stray_bits      = check.has_stray_bits,
        };
        used += check.header.entry_length / VX_LOG_SECTOR;
    }
    MUST(used <= SECTORS); /* valid entries never overlap */
    return count;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input input = { data, size };
    struct vx_findings findings;
    uint32_t tail, head, i;
    size_t count;

    fill_ring(&input);
    count = scan();
    if (!vx_log_find_active(places, count, LOG_LENGTH, &tail, &head))
        return 0;

    MUST(tail < count && head < count && places[tail].position == places[head].tail);
    MUST(places[head].next == UINT32_MAX);
    for (i = tail; i != head; i = places[i].next)
        MUST(places[places[i].next].sequence_number == places[i].sequence_number + 1);
    vx_log_sequence_judge(places, tail, head, LOG_OFFSET, LOG_LENGTH, fuzz_number(&input),
                          fuzz_findings(&findings));
    return 0;
}
