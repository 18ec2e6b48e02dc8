/*
 * ext2, ext3 and ext4, read by libext2fs through vhdx_volume_read.
 *
 *   X1  Feature bits are allow-listed: a bit nobody here knows may give bitmaps another meaning.
 *   X2  A journal that wants recovery is refused: the bitmaps on disk are older than what it holds, and blocks they call
 *       free are live.  So is a file system that was not unmounted, or says that it has errors.
 *   X3  Every group's descriptor and bitmap have right checksums where the file system has checksums, the bitmap has as
 *       many free clusters as the descriptor says, and the group's own tables lie in blocks marked used.
 *   X4  Without checksums, the superblock's geometry is that of its first backup.
 */
#include <ext2fs/ext2fs.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <vhdx/fs.h>

#define FSCK    "run e2fsck -f on it in the guest, or mount and unmount it there"
#define UPDATE  "a newer libvhdx may know them"
#define SUPERBLOCK_AT 1024u

/* X1.  Also RECOVER: it is known, and refused with words of its own. */
#define KNOWN_COMPAT \
    (EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT3_FEATURE_COMPAT_HAS_JOURNAL | EXT2_FEATURE_COMPAT_EXT_ATTR \
     | EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT2_FEATURE_COMPAT_DIR_INDEX | EXT4_FEATURE_COMPAT_SPARSE_SUPER2 \
     | 0x0400u /* fast_commit */ | 0x0800u /* stable_inodes */ | 0x1000u /* orphan_file */)
#define KNOWN_INCOMPAT \
    (EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER | EXT2_FEATURE_INCOMPAT_META_BG \
     | EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG \
     | EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_LARGEDIR \
     | EXT4_FEATURE_INCOMPAT_INLINE_DATA | EXT4_FEATURE_INCOMPAT_ENCRYPT | 0x20000u /* casefold */)
#define KNOWN_RO_COMPAT \
    (EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT4_FEATURE_RO_COMPAT_HUGE_FILE \
     | EXT4_FEATURE_RO_COMPAT_GDT_CSUM | EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE \
     | EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_BIGALLOC | EXT4_FEATURE_RO_COMPAT_METADATA_CSUM \
     | EXT4_FEATURE_RO_COMPAT_READONLY | EXT4_FEATURE_RO_COMPAT_PROJECT | 0x8000u /* verity */ \
     | 0x10000u /* orphan_present */)
#define RO_COMPAT_ORPHAN_PRESENT 0x10000u
#define EXT3_RO_COMPAT           7u

#pragma GCC visibility push(default)
extern const struct vhdx_fs_reader vhdx_fs_reader_v1;
#pragma GCC visibility pop

static uint32_t
le16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t
le32(const uint8_t *p)
{
    return le16(p) | le16(p + 2) << 16;
}

static int
bad(struct vhdx_error *err, const char *what, uint64_t number)
{
    if (err != NULL) {
        *err = (struct vhdx_error){ .code = VHDX_E_BAD_VOLUME, .file_offset = VHDX_NO_OFFSET };
        snprintf(err->message, sizeof err->message, "%s %" PRIu64, what, number);
    }
    return VHDX_E_BAD_VOLUME;
}

/* --- the superblock, judged before libext2fs sees it --- */

struct superblock {
    uint8_t  bytes[1024]; /* as on disk */
    uint32_t compat, incompat, ro_compat, state, log_block_size;
    uint64_t block_count;
};

static int
read_superblock(struct superblock *super, const struct vhdx_volume *volume, bool *is_there, struct vhdx_error *err)
{
    const uint8_t *b = super->bytes;
    int rc;

    *is_there = false;
    if (volume->length < SUPERBLOCK_AT + sizeof super->bytes)
        return 0;
    rc = vhdx_volume_read(volume, super->bytes, sizeof super->bytes, SUPERBLOCK_AT, err);
    if (rc < 0 || le16(b + 56) != EXT2_SUPER_MAGIC)
        return rc;
    *is_there = true;
    super->compat = le32(b + 92);
    super->incompat = le32(b + 96);
    super->ro_compat = le32(b + 100);
    super->state = le16(b + 58);
    super->log_block_size = le32(b + 24);
    super->block_count = le32(b + 4);
    if ((super->incompat & EXT4_FEATURE_INCOMPAT_64BIT) != 0)
        super->block_count |= (uint64_t)le32(b + 336) << 32;
    return 0;
}

static const char *
name_kind(const struct superblock *super)
{
    uint32_t ext4_incompat = EXT3_FEATURE_INCOMPAT_EXTENTS | EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG;

    if ((super->ro_compat & ~EXT3_RO_COMPAT) != 0 || (super->incompat & ext4_incompat) != 0)
        return "ext4";
    return (super->compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) != 0 ? "ext3" : "ext2";
}

static void
judge(struct vhdx_volume *volume, const struct superblock *super)
{
    const uint8_t *b = super->bytes;

    if ((super->incompat & EXT3_FEATURE_INCOMPAT_JOURNAL_DEV) != 0)
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "it holds the journal of another file system", NULL);
    else if ((super->incompat & EXT4_FEATURE_INCOMPAT_MMP) != 0)
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "other hosts may have it mounted (mmp)", NULL);
    else if ((super->compat & ~(uint32_t)KNOWN_COMPAT) != 0 || (super->incompat & ~(uint32_t)KNOWN_INCOMPAT) != 0
             || (super->ro_compat & ~(uint32_t)KNOWN_RO_COMPAT) != 0 || le32(b + 76) > 1) /* X1 */
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it has features that are not known here", UPDATE);
    else if ((super->incompat & EXT3_FEATURE_INCOMPAT_RECOVER) != 0) /* X2 */
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED,
                          "its journal needs recovery: blocks that its bitmaps call free may be live", FSCK);
    else if ((super->state & EXT2_ERROR_FS) != 0)
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it is marked as having errors", FSCK);
    else if (super->state != EXT2_VALID_FS || (super->ro_compat & RO_COMPAT_ORPHAN_PRESENT) != 0)
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it was not unmounted", FSCK);
    else if (super->log_block_size > 6 || super->block_count > volume->length >> (10 + super->log_block_size))
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it ends past the end of its volume", FSCK);
    else if (le32(b + 32) < 256) /* blocks a group: so few are no mkfs's, and would mean groups without number */
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "its superblock contradicts itself", FSCK);
}

/* A label of a stranger's: printable ASCII and UTF-8 stay, control characters go. */
static void
take_label(struct vhdx_volume *volume, const uint8_t name[16])
{
    size_t length = 0;

    for (size_t i = 0; i < 16 && name[i] != 0; i++)
        volume->label[length++] = name[i] < 0x20 || name[i] >= 0x7F ? '?' : (char)name[i];
    volume->label[length] = '\0';
}

static int
probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    struct superblock super;
    bool is_there;
    int rc = read_superblock(&super, volume, &is_there, err);

    if (rc < 0 || !is_there)
        return rc;
    snprintf(volume->kind, sizeof volume->kind, "%s", name_kind(&super));
    take_label(volume, super.bytes + 120);
    judge(volume, &super);
    return 1;
}

/* --- our io_manager: libext2fs hands a name to open, so the volume goes through it --- */

/* What a walk needs, and the first failed read: libext2fs's own code says less. */
struct walk {
    const struct vhdx_volume *volume;
    ext2_filsys               fs;
    vhdx_free_range           each;
    void                     *context;
    struct vhdx_error        *err;
    int                       read_rc;
};

static errcode_t volume_open(const char *name, int flags, io_channel *channel);

static errcode_t
volume_close(io_channel channel)
{
    if (--channel->refcount == 0) {
        ext2fs_free_mem(&channel->name);
        ext2fs_free_mem(&channel);
    }
    return 0;
}

static errcode_t
volume_set_block_size(io_channel channel, int block_size)
{
    channel->block_size = block_size;
    return 0;
}

static errcode_t
volume_read64(io_channel channel, unsigned long long block, int count, void *data)
{
    struct walk *walk = channel->private_data;
    uint64_t block_size = (uint64_t)channel->block_size;
    size_t length = count < 0 ? (size_t)-(int64_t)count : (size_t)count * (size_t)block_size;
    int rc;

    if (block > UINT64_MAX / block_size)
        return EXT2_ET_BAD_BLOCK_NUM;
    rc = vhdx_volume_read(walk->volume, data, length, block * block_size, walk->read_rc == 0 ? walk->err : NULL);
    if (rc < 0 && walk->read_rc == 0)
        walk->read_rc = rc;
    return rc == 0 ? 0 : EXT2_ET_SHORT_READ;
}

static errcode_t
volume_read(io_channel channel, unsigned long block, int count, void *data)
{
    return volume_read64(channel, block, count, data);
}

static errcode_t
volume_write64(io_channel channel, unsigned long long block, int count, const void *data)
{
    (void)channel, (void)block, (void)count, (void)data;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t
volume_write(io_channel channel, unsigned long block, int count, const void *data)
{
    return volume_write64(channel, block, count, data);
}

static errcode_t
volume_flush(io_channel channel)
{
    (void)channel;
    return 0;
}

static struct struct_io_manager volume_manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "volume of a disk",
    .open = volume_open,
    .close = volume_close,
    .set_blksize = volume_set_block_size,
    .read_blk = volume_read,
    .write_blk = volume_write,
    .flush = volume_flush,
    .read_blk64 = volume_read64,
    .write_blk64 = volume_write64,
};

static errcode_t
volume_open(const char *name, int flags, io_channel *out)
{
    io_channel channel;
    void *walk;
    errcode_t rc;

    (void)flags;
    if (sscanf(name, "%p", &walk) != 1)
        return EXT2_ET_BAD_DEVICE_NAME;
    rc = ext2fs_get_memzero(sizeof *channel, &channel);
    if (rc != 0)
        return rc;
    rc = ext2fs_get_memzero(strlen(name) + 1, &channel->name);
    if (rc != 0) {
        ext2fs_free_mem(&channel);
        return rc;
    }
    memcpy(channel->name, name, strlen(name));
    channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    channel->manager = &volume_manager;
    channel->block_size = 1024;
    channel->refcount = 1;
    channel->private_data = walk;
    *out = channel;
    return 0;
}

/* --- judging --- */

static int
failed(const struct walk *walk, const char *what, errcode_t code)
{
    if (code == EXT2_ET_NO_MEMORY)
        return VHDX_E_NO_MEMORY;
    if (walk->read_rc < 0 && walk->read_rc != VHDX_E_RANGE)
        return walk->read_rc;
    bad(walk->err, what, 0);
    if (walk->err != NULL)
        snprintf(walk->err->message, sizeof walk->err->message, "%s: %s", what, error_message(code));
    return VHDX_E_BAD_VOLUME;
}

/* X4.  Backups lie in group 1, unless sparse_super2 or meta_bg put them elsewhere. */
static int
compare_backup(struct walk *walk)
{
    struct ext2_super_block *super = walk->fs->super;
    uint64_t block = (uint64_t)super->s_first_data_block + super->s_blocks_per_group;
    uint8_t first[104], backup[104];
    int rc;

    if (ext2fs_has_feature_metadata_csum(super) || ext2fs_has_feature_sparse_super2(super)
        || walk->fs->group_desc_count < 2)
        return 0;
    rc = vhdx_volume_read(walk->volume, first, sizeof first, SUPERBLOCK_AT, walk->err);
    if (rc == 0)
        rc = vhdx_volume_read(walk->volume, backup, sizeof backup, block * walk->fs->blocksize, walk->err);
    if (rc < 0)
        return rc;
    /* Counts of inodes and blocks; first data block to inodes a group; magic; revision to inode size; incompatible features. */
    if (memcmp(first, backup, 8) != 0 || memcmp(first + 20, backup + 20, 24) != 0
        || memcmp(first + 56, backup + 56, 2) != 0 || memcmp(first + 76, backup + 76, 14) != 0
        || memcmp(first + 96, backup + 96, 4) != 0)
        return bad(walk->err, "its superblock differs from the backup in block", block);
    return 0;
}

/* Is every block of a range marked used? */
static bool
is_used(ext2_filsys fs, blk64_t first, blk64_t count)
{
    blk64_t last = ext2fs_blocks_count(fs->super) - 1, found;

    if (first < fs->super->s_first_data_block || count == 0 || first > last || count - 1 > last - first)
        return false;
    return ext2fs_find_first_zero_block_bitmap2(fs->block_map, first, first + count - 1, &found) != 0;
}

/* X3: clusters the bitmap calls free in a group. */
static uint64_t
count_free(ext2_filsys fs, dgrp_t group)
{
    blk64_t at = ext2fs_group_first_block2(fs, group), last = ext2fs_group_last_block2(fs, group);
    uint64_t clusters = 0;

    while (at <= last) {
        blk64_t start, end;

        if (ext2fs_find_first_zero_block_bitmap2(fs->block_map, at, last, &start) != 0)
            break;
        if (ext2fs_find_first_set_block_bitmap2(fs->block_map, start, last, &end) != 0)
            end = last + 1;
        clusters += (end - start + (1u << fs->cluster_ratio_bits) - 1) >> fs->cluster_ratio_bits;
        at = end;
    }
    return clusters;
}

/* X3 */
static int
judge_group(struct walk *walk, dgrp_t group)
{
    ext2_filsys fs = walk->fs;

    if (!ext2fs_group_desc_csum_verify(fs, group))
        return bad(walk->err, "a wrong checksum has the descriptor of its block group", group);
    if (count_free(fs, group) != ext2fs_bg_free_blocks_count(fs, group))
        return bad(walk->err, "bitmap and descriptor disagree about what is free in its block group", group);
    if (!is_used(fs, ext2fs_block_bitmap_loc(fs, group), 1) || !is_used(fs, ext2fs_inode_bitmap_loc(fs, group), 1)
        || !is_used(fs, ext2fs_inode_table_loc(fs, group), fs->inode_blocks_per_group))
        return bad(walk->err, "the bitmap calls tables free of its block group", group);
    return 0;
}

static int
judge_all(struct walk *walk)
{
    int rc = compare_backup(walk);

    for (dgrp_t group = 0; rc == 0 && group < walk->fs->group_desc_count; group++)
        rc = judge_group(walk, group);
    return rc;
}

static int
report_all(struct walk *walk)
{
    ext2_filsys fs = walk->fs;
    blk64_t at = fs->super->s_first_data_block, last = ext2fs_blocks_count(fs->super) - 1;

    while (at <= last) {
        blk64_t start, end;
        int rc;

        if (ext2fs_find_first_zero_block_bitmap2(fs->block_map, at, last, &start) != 0)
            break;
        if (ext2fs_find_first_set_block_bitmap2(fs->block_map, start, last, &end) != 0)
            end = last + 1;
        rc = walk->each(walk->context, walk->volume->guest_offset + start * fs->blocksize,
                        (end - start) * fs->blocksize);
        if (rc != 0)
            return rc;
        at = end;
    }
    return 0;
}

static int
walk_free(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    struct walk walk = { .volume = volume, .each = each, .context = context, .err = err };
    char name[40];
    errcode_t code;
    int rc;

    snprintf(name, sizeof name, "%p", (void *)&walk);
    code = ext2fs_open(name, EXT2_FLAG_64BITS, 0, 0, &volume_manager, &walk.fs);
    if (code != 0)
        return failed(&walk, "libext2fs does not open it", code);
    code = ext2fs_read_block_bitmap(walk.fs);
    if (code != 0)
        rc = failed(&walk, "libext2fs cannot read its bitmaps", code);
    else
        rc = judge_all(&walk);
    if (rc == 0)
        rc = report_all(&walk);
    ext2fs_free(walk.fs);
    return rc;
}

const struct vhdx_fs_reader vhdx_fs_reader_v1 = {
    .version = VHDX_FS_READER_VERSION, .name = "ext", .kinds = "ext2, ext3, ext4", .probe = probe,
    .walk_free = walk_free,
};
