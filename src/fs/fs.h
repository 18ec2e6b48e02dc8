/* What lies in a disk, from the inside: partition tables, the library's own readers, signatures. */
#ifndef VX_FS_H
#define VX_FS_H

#include <vhdx/fs.h>

/* More partitions than any table in use holds: GPT's usual 128, and what Linux takes of logical ones. */
#define VX_MAX_PARTITIONS 256u

struct vx_partition {
    uint64_t    guest_offset; /* bytes */
    uint64_t    length;       /* bytes; not zero; inside the disk */
    unsigned    number;
    const char *kind;   /* set when the table says already that it is no file system; else NULL */
    const char *reason; /* with kind */
};

struct vx_partitions {
    struct vhdx_layout_info info;
    struct vx_partition     items[VX_MAX_PARTITIONS];
    unsigned                count;
};

/* The table's verdict: REFUSED, with why and what helps.  The first refusal stays. */
void vx_partitions_refuse(struct vx_partitions *partitions, const char *reason, const char *cure);

/* Add one; a range outside the disk, or one too many, refuses the table. */
void vx_partitions_add(struct vx_partitions *partitions, uint64_t disk_size, const struct vx_partition *partition);

/* Sort by place; partitions that share a byte refuse the table. */
void vx_partitions_settle(struct vx_partitions *partitions);

/* CRC-32 as GPT has it (not Castagnoli's).  Continues `crc`, 0 to begin. */
uint32_t vx_crc32(uint32_t crc, const void *buffer, size_t length);

/* UEFI 5.3.  The protective MBR was seen before.  What is wrong is in partitions->info; a code is a failed read only. */
int vx_gpt_read(struct vx_partitions *partitions, struct vhdx_disk *disk, uint32_t sector_size,
                struct vhdx_error *err);

/* Is there a GPT header by its signature in the second sector, of this size? */
int vx_gpt_is_there(struct vhdx_disk *disk, uint32_t sector_size, bool *out, struct vhdx_error *err);

enum vx_mbr_kind {
    VX_MBR_NONE,       /* no signature, or entries that are no partitions: code of a boot sector */
    VX_MBR_EMPTY,      /* signature, and four empty entries */
    VX_MBR_PROTECTIVE, /* an entry of type 0xEE: the table is a GPT */
    VX_MBR_WHOLE_DISK, /* one entry that begins at sector 0: some mkfs put it into their boot sectors */
    VX_MBR_PARTITIONS
};
enum vx_mbr_kind vx_mbr_judge(const uint8_t sector[512], uint64_t disk_size, uint32_t sector_size);
int vx_mbr_read(struct vx_partitions *partitions, struct vhdx_disk *disk, uint32_t sector_size,
                struct vhdx_error *err);

/* Readers of the library's own. */
extern const struct vhdx_fs_reader vx_fat_reader, vx_exfat_reader, vx_swap_reader;

/* Recognised, not read: fills kind, verdict, reason, cure.  *out is how many signatures were found.  Those of the kind
 * `except` begins with are not looked for: "ext" in "ext4". */
int vx_signatures_probe(struct vhdx_volume *volume, const char *except, unsigned *out, struct vhdx_error *err);

/* Ask all readers, then the signatures.  *reader is who reads it, or NULL.  NULL readers in the array are skipped. */
int vx_volume_probe(struct vhdx_volume *volume, const struct vhdx_fs_reader *const *readers, size_t reader_count,
                    const struct vhdx_fs_reader **reader, struct vhdx_error *err);

/* Bytes from the volume's beginning that its file system says are its own; all of the volume when it says nothing. */
int vx_volume_own_length(const struct vhdx_volume *volume, uint64_t *out, struct vhdx_error *err);

/* Walk with the promises of vhdx_layout_walk_free kept whatever the reader does. */
int vx_volume_walk(const struct vhdx_volume *volume, const struct vhdx_fs_reader *reader, vhdx_free_range each,
                   void *context, struct vhdx_error *err);

/* A reader's words when tables lie: VHDX_E_BAD_VOLUME. */
int vx_bad_volume(struct vhdx_error *err, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* One bit each of up to 2^32 clusters. */
struct vx_bits {
    uint8_t *bytes;
    uint64_t count;
};
int  vx_bits_init(struct vx_bits *bits, uint64_t count, struct vhdx_error *err); /* all clear */
void vx_bits_free(struct vx_bits *bits);

static inline bool
vx_bit(const struct vx_bits *bits, uint64_t index)
{
    return (bits->bytes[index / 8] >> (index % 8) & 1) != 0;
}

static inline void
vx_bit_set(struct vx_bits *bits, uint64_t index)
{
    bits->bytes[index / 8] = (uint8_t)(bits->bytes[index / 8] | 1u << (index % 8));
}

/* Report runs of clear bits.  Bit 0 is the cluster at guest_offset. */
int vx_bits_walk_clear(const struct vx_bits *bits, uint64_t guest_offset, uint64_t cluster_size, vhdx_free_range each,
                       void *context);

#endif
