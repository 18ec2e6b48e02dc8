/*
 * Answering the kernel.
 *
 *   M1  disk.raw and the partitions show the same bytes.  Where they can change, the kernel keeps no copy of them
 *       (direct I/O): what is written through one is read through the other at once.  Read-only, and of parents, it does.
 *   M2  They end as block devices do: a write at the end is ENOSPC, one across it is cut; O_TRUNC means nothing.
 *   M3  A hole that is punched reads as zeros, which is what everybody counts on; so a child's is zeroed, not forgotten,
 *       and where no space would come of it (fixed images) punching is refused, as it is on other such media.
 *   M4  What fsync(2) or O_DSYNC answered is durable, through whichever of the files it was written.
 */
#include "requests.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNCHANGING   86400.0      /* seconds that the kernel may keep what does not change */
#define BLOCK_SIZE   (128 * 1024) /* of a read or write that is not small */
#define AT_ONCE      64           /* requests of the kernel's own making, as those of a loop device */

static struct service *
service_of(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct tree *
tree_of(fuse_req_t req)
{
    return service_of(req)->tree;
}

static struct node *
node_of(fuse_req_t req, fuse_ino_t ino)
{
    return &tree_of(req)->nodes[ino - FUSE_ROOT_ID + TREE_ROOT];
}

static fuse_ino_t
number_of(const struct tree *tree, const struct node *node)
{
    return (fuse_ino_t)(node - tree->nodes) - TREE_ROOT + FUSE_ROOT_ID;
}

static void
reply_failure(fuse_req_t req, const struct vhdx_error *err)
{
    service_of(req)->say_failed(service_of(req), err);
    fuse_reply_err(req, vhdx_code_errno(err->code));
}

static void
reply(fuse_req_t req, int rc, const struct vhdx_error *err)
{
    if (rc < 0)
        reply_failure(req, err);
    else
        fuse_reply_err(req, 0);
}

static void
begin(void *userdata, struct fuse_conn_info *connection)
{
    struct service *service = userdata;

    if ((connection->capable & FUSE_CAP_ATOMIC_O_TRUNC) != 0)
        connection->want |= FUSE_CAP_ATOMIC_O_TRUNC; /* else it would come as a change of size, which is refused: M2 */
    connection->max_background = AT_ONCE;
    connection->congestion_threshold = AT_ONCE * 3 / 4;
    service->say_live(service);
}

/* --- names and attributes --- */

static void
describe(struct tree *tree, struct node *node, struct stat *out)
{
    static const mode_t types[] = { [NODE_FOLDER] = S_IFDIR | 0555, [NODE_RANGE] = S_IFREG | 0444,
                                    [NODE_DOCUMENT] = S_IFREG | 0444 };
    const struct mount_request *request = tree->request;
    uint64_t data = node->length;

    if (node->kind == NODE_RANGE)
        data = tree_data_size(tree, node);
    *out = (struct stat){
        .st_ino = number_of(tree, node),
        .st_mode = (types[node->kind] | (node->is_writable ? 0222 : 0)) & ~request->umask,
        .st_nlink = node->kind == NODE_FOLDER ? 2 : 1,
        .st_uid = request->owner,
        .st_gid = request->group,
        .st_size = (off_t)node->length,
        .st_blocks = (blkcnt_t)((data + 511) / 512),
        .st_blksize = BLOCK_SIZE,
        .st_mtime = (time_t)atomic_load(&tree->changed_at),
    };
    out->st_atime = out->st_ctime = out->st_mtime;
    if (node->kind == NODE_DOCUMENT) {
        size_t length = 0;

        free(tree_document(tree, &length));
        out->st_size = (off_t)length;
        out->st_blocks = (blkcnt_t)((length + 511) / 512);
    }
}

static double
attributes_hold(const struct tree *tree, const struct node *node)
{
    return node->is_writable || (node->kind == NODE_DOCUMENT && tree->request->is_writable) ? 0 : UNCHANGING;
}

static void
answer_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
    struct tree *tree = tree_of(req);
    struct node *node = node_of(req, ino);
    struct stat status;

    (void)file;
    describe(tree, node, &status);
    fuse_reply_attr(req, &status, attributes_hold(tree, node));
}

/* Times may be set, and are not kept; nothing else can be (M2). */
static void
answer_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *wanted, int what, struct fuse_file_info *file)
{
    const int times = FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME | FUSE_SET_ATTR_ATIME_NOW | FUSE_SET_ATTR_MTIME_NOW
                      | FUSE_SET_ATTR_CTIME;
    const struct node *node = node_of(req, ino);

    if ((what & FUSE_SET_ATTR_SIZE) != 0 && (uint64_t)wanted->st_size == node->length)
        what &= ~FUSE_SET_ATTR_SIZE;
    if ((what & ~times) != 0)
        fuse_reply_err(req, EPERM);
    else
        answer_getattr(req, ino, file);
}

static void
answer_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct tree *tree = tree_of(req);
    struct node *node = tree_find(tree, (size_t)(parent - FUSE_ROOT_ID + TREE_ROOT), name);
    struct fuse_entry_param entry = { .entry_timeout = UNCHANGING };

    if (node == NULL) {
        fuse_reply_err(req, ENOENT);
        return;
    }
    entry.ino = number_of(tree, node);
    entry.attr_timeout = attributes_hold(tree, node);
    describe(tree, node, &entry.attr);
    fuse_reply_entry(req, &entry);
}

/* Entry 0 is ".", 1 is "..", the others are nodes by their index + 2; returns NULL when there is no such one. */
static const char *
entry_name(const struct tree *tree, size_t folder, size_t entry, struct stat *status)
{
    size_t index = entry < 2 ? folder : entry - 2;

    if (index >= tree->node_count || (entry >= 2 && (index == TREE_ROOT || tree->nodes[index].parent != folder)))
        return NULL;
    if (entry == 1)
        index = tree->nodes[folder].parent;
    status->st_ino = number_of(tree, &tree->nodes[index]);
    status->st_mode = tree->nodes[index].kind == NODE_FOLDER ? S_IFDIR : S_IFREG;
    return entry == 0 ? "." : entry == 1 ? ".." : tree->nodes[index].name;
}

static void
answer_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
    const struct tree *tree = tree_of(req);
    size_t folder = (size_t)(ino - FUSE_ROOT_ID + TREE_ROOT), used = 0;
    char *buffer = malloc(size);

    (void)file;
    if (buffer == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    for (size_t entry = (size_t)offset; entry < tree->node_count + 2; entry++) {
        struct stat status = { 0 };
        const char *name = entry_name(tree, folder, entry, &status);
        size_t length = name == NULL ? 0 : fuse_add_direntry(req, buffer + used, size - used, name, &status,
                                                             (off_t)entry + 1);

        if (length > size - used)
            break; /* it did not fit: the kernel asks again from here */
        used += length;
    }
    fuse_reply_buf(req, buffer, used);
    free(buffer);
}

/* --- open files --- */

struct document {
    size_t length;
    char   text[];
};

static struct document *
make_document(struct tree *tree)
{
    size_t length;
    char *text = tree_document(tree, &length);
    struct document *document = text == NULL ? NULL : malloc(sizeof *document + length);

    if (document != NULL) {
        document->length = length;
        memcpy(document->text, text, length);
    }
    free(text);
    return document;
}

static void
answer_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
    struct node *node = node_of(req, ino);
    struct document *document;

    if ((file->flags & O_ACCMODE) != O_RDONLY && !node->is_writable) {
        fuse_reply_err(req, EROFS); /* those whom rights do not stop */
        return;
    }
    if (node->kind == NODE_DOCUMENT) {
        document = make_document(tree_of(req));
        if (document == NULL) {
            fuse_reply_err(req, ENOMEM);
            return;
        }
        file->fh = (uintptr_t)document;
    }
    file->direct_io = node->is_writable || node->kind == NODE_DOCUMENT; /* M1 */
    file->keep_cache = !file->direct_io;
    file->noflush = 1; /* closing asks for nothing: M4 */
    fuse_reply_open(req, file);
}

static void
answer_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *file)
{
    if (node_of(req, ino)->kind == NODE_DOCUMENT)
        free((void *)(uintptr_t)file->fh);
    fuse_reply_err(req, 0);
}

/* How much of a request lies before the end. */
static uint64_t
clip(uint64_t offset, uint64_t size, uint64_t end)
{
    if (offset >= end)
        return 0;
    return size < end - offset ? size : end - offset;
}

static void
read_range(fuse_req_t req, const struct node *node, size_t size, uint64_t offset)
{
    struct vhdx_error err;
    void *buffer;

    size = (size_t)clip(offset, size, node->length);
    if (size == 0) {
        fuse_reply_buf(req, NULL, 0);
        return;
    }
    buffer = malloc(size);
    if (buffer == NULL)
        fuse_reply_err(req, ENOMEM);
    else if (vhdx_disk_read(node->disk, buffer, size, node->guest_offset + offset, &err) < 0)
        reply_failure(req, &err);
    else
        fuse_reply_buf(req, buffer, size);
    free(buffer);
}

/* Once the kernel has the bytes the file may be closed, and its text freed by another thread: from a copy, then. */
static void
reply_copy(fuse_req_t req, const char *bytes, size_t size)
{
    char *copy = size == 0 ? NULL : malloc(size);

    if (size > 0 && copy == NULL) {
        fuse_reply_err(req, ENOMEM);
        return;
    }
    if (size > 0)
        memcpy(copy, bytes, size);
    fuse_reply_buf(req, copy, size);
    free(copy);
}

static void
answer_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *file)
{
    const struct node *node = node_of(req, ino);

    if (node->kind == NODE_DOCUMENT) {
        const struct document *document = (const void *)(uintptr_t)file->fh;

        size = (size_t)clip((uint64_t)offset, size, document->length);
        reply_copy(req, size == 0 ? NULL : document->text + offset, size);
    } else {
        read_range(req, node, size, (uint64_t)offset);
    }
}

static void
answer_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
             struct fuse_file_info *file)
{
    const struct node *node = node_of(req, ino);
    struct vhdx_error err;
    int rc;

    size = (size_t)clip((uint64_t)offset, size, node->length);
    if (size == 0) {
        fuse_reply_err(req, ENOSPC); /* M2 */
        return;
    }
    rc = vhdx_disk_write(node->disk, bytes, size, node->guest_offset + (uint64_t)offset, &err);
    tree_note_change(tree_of(req));
    if (rc == VHDX_OK && (file->flags & O_DSYNC) != 0)
        rc = vhdx_disk_flush(node->disk, &err); /* M4 */
    if (rc < 0)
        reply_failure(req, &err);
    else
        fuse_reply_write(req, size);
}

static void
answer_fsync(fuse_req_t req, fuse_ino_t ino, int only_data, struct fuse_file_info *file)
{
    const struct node *node = node_of(req, ino);
    struct vhdx_error err;

    (void)only_data;
    (void)file;
    reply(req, node->is_writable ? vhdx_disk_flush(node->disk, &err) : VHDX_OK, &err);
}

/* M3.  0, a code, or 1 when space cannot be given back. */
static int
punch(const struct tree *tree, const struct node *node, uint64_t offset, uint64_t length, struct vhdx_error *err)
{
    if (!tree->gives_space_back)
        return 1;
    if (tree->shows_parent)
        return vhdx_disk_zero(node->disk, node->guest_offset + offset, length, 0, err);
    return vhdx_disk_trim(node->disk, node->guest_offset + offset, length, err);
}

static void
answer_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset, off_t length, struct fuse_file_info *file)
{
    struct tree *tree = tree_of(req);
    const struct node *node = node_of(req, ino);
    uint64_t size = clip((uint64_t)offset, (uint64_t)length, node->length);
    struct vhdx_error err;
    int rc = 1;

    (void)file;
    if (!node->is_writable) {
        fuse_reply_err(req, EROFS);
        return;
    }
    if (size < (uint64_t)length && (mode & FALLOC_FL_KEEP_SIZE) == 0) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    if (size == 0 && (mode & ~FALLOC_FL_KEEP_SIZE) != 0)
        rc = VHDX_OK; /* all of it lies behind the end */
    else if (mode == (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
        rc = punch(tree, node, (uint64_t)offset, size, &err);
    else if ((mode & ~FALLOC_FL_KEEP_SIZE) == FALLOC_FL_ZERO_RANGE)
        rc = vhdx_disk_zero(node->disk, node->guest_offset + (uint64_t)offset, size, 0, &err);
    tree_note_change(tree);
    if (rc > 0)
        fuse_reply_err(req, EOPNOTSUPP);
    else
        reply(req, rc, &err);
}

static void
answer_lseek(fuse_req_t req, fuse_ino_t ino, off_t offset, int whence, struct fuse_file_info *file)
{
    const struct node *node = node_of(req, ino);
    bool wants_hole = whence == SEEK_HOLE;
    struct vhdx_error err;
    uint64_t found;

    (void)file;
    if (node->kind != NODE_RANGE || (whence != SEEK_HOLE && whence != SEEK_DATA))
        fuse_reply_err(req, EINVAL);
    else if ((uint64_t)offset >= node->length)
        fuse_reply_err(req, ENXIO);
    else if (tree_seek(node, (uint64_t)offset, wants_hole, &found, &err) < 0)
        reply_failure(req, &err);
    else if (!wants_hole && found == node->length)
        fuse_reply_err(req, ENXIO);
    else
        fuse_reply_lseek(req, (off_t)found);
}

static void
answer_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned command, void *argument, struct fuse_file_info *file,
             unsigned flags, const void *in, size_t in_size, size_t out_size)
{
    const int32_t *process = &service_of(req)->process;

    (void)argument;
    (void)file;
    (void)flags;
    (void)in;
    (void)in_size;
    if (ino != FUSE_ROOT_ID || command != MOUNT_ASK_PROCESS || out_size < sizeof *process)
        fuse_reply_err(req, ENOTTY);
    else
        fuse_reply_ioctl(req, 0, process, sizeof *process);
}

const struct fuse_lowlevel_ops request_table = {
    .init = begin,
    .lookup = answer_lookup,
    .getattr = answer_getattr,
    .setattr = answer_setattr,
    .readdir = answer_readdir,
    .open = answer_open,
    .release = answer_release,
    .read = answer_read,
    .write = answer_write,
    .fsync = answer_fsync,
    .fallocate = answer_fallocate,
    .lseek = answer_lseek,
    .ioctl = answer_ioctl,
};
