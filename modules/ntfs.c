/*
 * NTFS, read by libntfs-3g through vhdx_volume_read.  libntfs-3g is GPL-2+, and so is this module when it is distributed.
 *
 *   N1  The boot sector equals its backup in the sector after the volume's last.
 *   N2  A volume marked dirty, with a log that Windows did not close, or with a sleeping Windows in it is refused: what
 *       its $Bitmap calls free may be live.
 *   N3  $Bitmap has no checksum: every run of every record in the MFT is held against it.
 *   N4  Every record that the MFT's bitmap calls used is there, whole, and says so itself.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <ntfs-3g/volume.h>
#include <ntfs-3g/logfile.h>
#include <ntfs-3g/logging.h>
#include <ntfs-3g/runlist.h>

#include <vhdx/fs.h>

#define CHKDSK         "run chkdsk /f on it in Windows and shut Windows down (shutdown /s /f /t 0)"
#define GEOMETRY_SIZE  84u /* of the boot sector: up to the serial number and checksum */
#define RECORDS_A_READ 64
/* Flags of $Volume that say nothing about $Bitmap: resize the log, upgrade, mounted by NT 4, changed by chkdsk. */
#define HARMLESS_FLAGS (0x0002u | 0x0004u | 0x0008u | 0x8000u)

#pragma GCC visibility push(default)
extern const struct vhdx_fs_reader vhdx_fs_reader_v1;
#pragma GCC visibility pop

struct walk {
    const struct vhdx_volume *volume;
    struct vhdx_error        *err;
    int                       read_rc;  /* the first failed read */
    int64_t                   position; /* of read and seek */
    ntfs_volume              *ntfs;
    uint8_t                  *used;     /* owned; $Bitmap */
    uint8_t                  *records_used; /* owned; the MFT's bitmap */
    int64_t                   record_count;
};

static int
bad(struct walk *walk, const char *what, int64_t number)
{
    if (walk->read_rc < 0 && walk->read_rc != VHDX_E_RANGE)
        return walk->read_rc;
    if (walk->err != NULL) {
        *walk->err = (struct vhdx_error){ .code = VHDX_E_BAD_VOLUME, .file_offset = VHDX_NO_OFFSET };
        if (number >= 0)
            snprintf(walk->err->message, sizeof walk->err->message, "%s %" PRId64, what, number);
        else
            snprintf(walk->err->message, sizeof walk->err->message, "%s", what);
    }
    return VHDX_E_BAD_VOLUME;
}

/* --- the boot sector, before libntfs-3g sees it --- */

static uint64_t
load64(const uint8_t *p)
{
    uint64_t value = 0;

    for (int i = 7; i >= 0; i--)
        value = value << 8 | p[i];
    return value;
}

static int
probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    uint8_t b[512], backup[512];
    uint64_t sector_size, sectors;
    int rc;

    if (volume->length < sizeof b)
        return 0;
    rc = vhdx_volume_read(volume, b, sizeof b, 0, err);
    if (rc < 0 || memcmp(b + 3, "NTFS    ", 8) != 0 || b[510] != 0x55 || b[511] != 0xAA)
        return rc;
    snprintf(volume->kind, sizeof volume->kind, "NTFS");
    sector_size = (uint64_t)b[11] | (uint64_t)b[12] << 8;
    sectors = load64(b + 40);
    if (sector_size < 512 || sector_size > 4096 || sectors >= volume->length / sector_size) {
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it ends past the end of its volume", CHKDSK);
        return 1;
    }
    rc = vhdx_volume_read(volume, backup, sizeof backup, sectors * sector_size, err);
    if (rc == 0 && memcmp(b, backup, GEOMETRY_SIZE) != 0) /* N1 */
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "its boot sector differs from the backup", CHKDSK);
    return rc < 0 ? rc : 1;
}

/* --- our device --- */

static int
device_open(struct ntfs_device *device, int flags)
{
    (void)flags;
    NDevSetOpen(device);
    NDevSetReadOnly(device);
    return 0;
}

static int
device_close(struct ntfs_device *device)
{
    device->d_state &= ~(1ul << ND_Open); /* NDevClearOpen, but for the sign of its mask */
    return 0;
}

static s64
device_pread(struct ntfs_device *device, void *buffer, s64 count, s64 offset)
{
    struct walk *walk = device->d_private;
    uint64_t length = walk->volume->length;
    int rc;

    if (count < 0 || offset < 0) {
        errno = EINVAL;
        return -1;
    }
    if ((uint64_t)offset >= length)
        return 0;
    if ((uint64_t)count > length - (uint64_t)offset)
        count = (s64)(length - (uint64_t)offset);
    rc = vhdx_volume_read(walk->volume, buffer, (size_t)count, (uint64_t)offset,
                          walk->read_rc == 0 ? walk->err : NULL);
    if (rc == 0)
        return count;
    if (walk->read_rc == 0)
        walk->read_rc = rc;
    errno = EIO;
    return -1;
}

static s64
device_seek(struct ntfs_device *device, s64 offset, int whence)
{
    struct walk *walk = device->d_private;

    if (whence == SEEK_CUR)
        offset += walk->position;
    else if (whence == SEEK_END)
        offset += (s64)walk->volume->length;
    if (offset < 0) {
        errno = EINVAL;
        return -1;
    }
    walk->position = offset;
    return offset;
}

static s64
device_read(struct ntfs_device *device, void *buffer, s64 count)
{
    struct walk *walk = device->d_private;
    s64 got = device_pread(device, buffer, count, walk->position);

    if (got > 0)
        walk->position += got;
    return got;
}

static s64
device_write(struct ntfs_device *device, const void *buffer, s64 count)
{
    (void)device, (void)buffer, (void)count;
    errno = EROFS;
    return -1;
}

static s64
device_pwrite(struct ntfs_device *device, const void *buffer, s64 count, s64 offset)
{
    (void)offset;
    return device_write(device, buffer, count);
}

static int
device_sync(struct ntfs_device *device)
{
    (void)device;
    return 0;
}

static int
device_stat(struct ntfs_device *device, struct stat *out)
{
    const struct walk *walk = device->d_private;

    memset(out, 0, sizeof *out);
    out->st_mode = S_IFREG;
    out->st_size = (off_t)walk->volume->length;
    return 0;
}

static int
device_ioctl(struct ntfs_device *device, unsigned long request, void *argument)
{
    (void)device, (void)request, (void)argument;
    errno = EOPNOTSUPP;
    return -1;
}

static struct ntfs_device_operations device_operations = {
    .open = device_open, .close = device_close, .seek = device_seek, .read = device_read, .write = device_write,
    .pread = device_pread, .pwrite = device_pwrite, .sync = device_sync, .stat = device_stat, .ioctl = device_ioctl,
};

/* --- N2: states in which $Bitmap may lie --- */

static bool
is_log_clean(ntfs_volume *ntfs)
{
    ntfs_inode *inode = ntfs_inode_open(ntfs, FILE_LogFile);
    ntfs_attr *log = inode != NULL ? ntfs_attr_open(inode, AT_DATA, AT_UNNAMED, 0) : NULL;
    RESTART_PAGE_HEADER *restart = NULL;
    bool is_clean = log != NULL && ntfs_check_logfile(log, &restart) && ntfs_is_logfile_clean(log, restart);

    free(restart);
    if (log != NULL)
        ntfs_attr_close(log);
    if (inode != NULL)
        ntfs_inode_close(inode);
    return is_clean;
}

static int
judge_state(struct walk *walk)
{
    ntfs_volume *ntfs = walk->ntfs;

    if (ntfs->major_ver != 3)
        return bad(walk, "it is NTFS of a version that is not known here,", ntfs->major_ver);
    if ((le16_to_cpu(ntfs->flags) & ~HARMLESS_FLAGS) != 0)
        return bad(walk, "it is marked dirty; " CHKDSK, -1);
    if (!is_log_clean(ntfs))
        return bad(walk, "its log was not closed: Windows crashed, or sleeps; " CHKDSK, -1);
    if (ntfs_volume_check_hiberfile(ntfs, 0) < 0)
        return bad(walk, "Windows is hibernated or used fast startup; shut it down (shutdown /s /f /t 0)", -1);
    return 0;
}

/* --- bitmaps --- */

static bool
bit(const uint8_t *bits, int64_t index)
{
    return (bits[index / 8] >> (index % 8) & 1) != 0;
}

/* The first bit of this value at or after `at`; end when there is none.  Whole bytes of the other are passed over. */
static int64_t
find_bit(const uint8_t *bits, int64_t at, int64_t end, bool value)
{
    while (at < end) {
        if (at % 8 == 0 && end - at >= 8 && bits[at / 8] == (value ? 0x00 : 0xFF))
            at += 8;
        else if (bit(bits, at) == value)
            return at;
        else
            at++;
    }
    return end;
}

static int
read_bits(struct walk *walk, uint8_t **out, ntfs_attr *attribute, int64_t count, const char *what)
{
    int64_t length = (count + 7) / 8;

    if (attribute->data_size < length)
        return bad(walk, what, count);
    *out = malloc((size_t)length + 1);
    if (*out == NULL)
        return VHDX_E_NO_MEMORY;
    return ntfs_attr_pread(attribute, 0, length, *out) == length ? 0 : bad(walk, what, count);
}

static int
read_bitmaps(struct walk *walk)
{
    ntfs_volume *ntfs = walk->ntfs;
    uint64_t clusters_in_volume = walk->volume->length >> ntfs->cluster_size_bits;
    int rc;

    if (ntfs->nr_clusters <= 0 || (uint64_t)ntfs->nr_clusters > clusters_in_volume)
        return bad(walk, "it has more clusters than its volume,", ntfs->nr_clusters);
    walk->record_count = ntfs->mft_na->initialized_size >> ntfs->mft_record_size_bits;
    rc = read_bits(walk, &walk->used, ntfs->lcnbmp_na, ntfs->nr_clusters, "its $Bitmap is too short for clusters");
    if (rc == 0)
        rc = read_bits(walk, &walk->records_used, ntfs->mftbmp_na, walk->record_count,
                       "the MFT's bitmap is too short for records");
    return rc;
}

/* --- N3, N4 --- */

static int
judge_runs(struct walk *walk, const ATTR_RECORD *attribute, int64_t record)
{
    runlist_element *runs = ntfs_mapping_pairs_decompress(walk->ntfs, attribute, NULL);
    int64_t count = walk->ntfs->nr_clusters;
    int rc = 0;

    if (runs == NULL)
        return bad(walk, "the runs cannot be read of MFT record", record);
    for (const runlist_element *run = runs; rc == 0 && run->length > 0; run++) {
        if (run->lcn < 0) /* a hole, or clusters another record tells of */
            continue;
        if (run->lcn >= count || run->length > count - run->lcn)
            rc = bad(walk, "a run ends outside the volume in MFT record", record);
        else if (find_bit(walk->used, run->lcn, run->lcn + run->length, false) != run->lcn + run->length)
            rc = bad(walk, "its $Bitmap calls clusters free that belong to MFT record", record);
    }
    free(runs);
    return rc;
}

static int
judge_record(struct walk *walk, const uint8_t *bytes, int64_t record)
{
    const MFT_RECORD *header = (const void *)bytes;
    uint32_t size = walk->ntfs->mft_record_size, in_use = le32_to_cpu(header->bytes_in_use);
    uint32_t at = le16_to_cpu(header->attrs_offset);

    if (!ntfs_is_file_record(header->magic) || (header->flags & MFT_RECORD_IN_USE) == 0)
        return bad(walk, "it has lost a record of its MFT, number", record); /* N4 */
    if (in_use > size || at % 8 != 0)
        return bad(walk, "it has a record of its MFT that contradicts itself, number", record);
    while (at + 4 <= in_use) {
        const ATTR_RECORD *attribute = (const void *)(bytes + at);
        uint32_t length;
        int rc = 0;

        if (attribute->type == AT_END)
            return 0;
        length = at + 24 <= in_use ? le32_to_cpu(attribute->length) : 0;
        if (length < 24 || length % 8 != 0 || length > in_use - at || (attribute->non_resident != 0 && length < 64))
            break;
        if (attribute->non_resident != 0)
            rc = judge_runs(walk, attribute, record);
        if (rc < 0)
            return rc;
        at += length;
    }
    return bad(walk, "the attributes cannot be read of MFT record", record);
}

static int
judge_records(struct walk *walk)
{
    uint32_t size = walk->ntfs->mft_record_size;
    uint8_t *bytes = malloc((size_t)RECORDS_A_READ * size);
    int rc = bytes != NULL ? 0 : VHDX_E_NO_MEMORY;

    for (int64_t start = 0; rc == 0 && start < walk->record_count; start += RECORDS_A_READ) {
        int64_t left = walk->record_count - start, count = left < RECORDS_A_READ ? left : RECORDS_A_READ;

        if (ntfs_attr_mst_pread(walk->ntfs->mft_na, start * size, count, size, bytes) != count)
            rc = bad(walk, "its MFT cannot be read from record", start);
        for (int64_t i = 0; rc == 0 && i < count; i++)
            if (bit(walk->records_used, start + i))
                rc = judge_record(walk, bytes + i * size, start + i);
            else if (((const MFT_RECORD *)(const void *)(bytes + i * size))->flags & MFT_RECORD_IN_USE)
                rc = bad(walk, "the MFT's bitmap calls a record free that is not, number", start + i);
    }
    free(bytes);
    return rc;
}

static int
report_all(const struct walk *walk, vhdx_free_range each, void *context)
{
    int64_t count = walk->ntfs->nr_clusters, cluster_size = walk->ntfs->cluster_size;

    for (int64_t at = 0; at < count;) {
        int64_t start = find_bit(walk->used, at, count, false);
        int rc;

        at = find_bit(walk->used, start, count, true);
        if (start == at)
            break;
        rc = each(context, walk->volume->guest_offset + (uint64_t)(start * cluster_size),
                  (uint64_t)((at - start) * cluster_size));
        if (rc != 0)
            return rc;
    }
    return 0;
}

static int
mount_volume(struct walk *walk)
{
    struct ntfs_device *device = ntfs_device_alloc("volume", 0, &device_operations, walk);

    if (device == NULL)
        return VHDX_E_NO_MEMORY;
    walk->ntfs = ntfs_device_mount(device, NTFS_MNT_RDONLY | NTFS_MNT_FORENSIC);
    if (walk->ntfs == NULL) {
        ntfs_device_free(device);
        return bad(walk, "libntfs-3g does not open it", -1);
    }
    return 0;
}

static int
walk_free(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    struct walk walk = { .volume = volume, .err = err };
    int rc;

    ntfs_log_set_handler(ntfs_log_handler_null); /* the messages are ours */
    rc = mount_volume(&walk);
    if (rc < 0)
        return rc;
    rc = judge_state(&walk);
    if (rc == 0)
        rc = read_bitmaps(&walk);
    if (rc == 0)
        rc = judge_records(&walk);
    if (rc == 0)
        rc = report_all(&walk, each, context);
    free(walk.used);
    free(walk.records_used);
    ntfs_umount(walk.ntfs, TRUE); /* frees the device as well */
    return rc;
}

const struct vhdx_fs_reader vhdx_fs_reader_v1 = {
    .version = VHDX_FS_READER_VERSION, .name = "ntfs", .kinds = "NTFS", .probe = probe, .walk_free = walk_free,
};
