/*
 * Looking for images in folders, and among them for the children of one.
 *
 *   S1  Nothing is locked and nothing written: the images may belong to machines that run.
 *   S2  The work is bounded, however large the folder is, and the caller is told when the bound was met.
 *   S3  Only regular files are opened, and no symbolic link is followed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include <vhdx/chain.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/identifier.h"

#define MAX_FILES_DEFAULT 1000u
#define MAX_ENTRIES       1000000u /* names in one folder that are looked at all */

struct names {
    char  **list;
    size_t  count, capacity;
};

struct scan {
    const char   *folder;
    int           descriptor;
    unsigned      max_files;
    struct names  images, others; /* by their names; the others are looked into */
    bool          was_cut;
    vhdx_found    each;
    void         *context;
};

/* --- names --- */

static void
names_free(struct names *names)
{
    for (size_t i = 0; i < names->count; i++)
        vx_free(names->list[i]);
    vx_free(names->list);
}

static int
add_name(struct names *names, const char *name, struct vhdx_error *err)
{
    if (names->count == names->capacity) {
        size_t capacity = names->capacity * 2 + 16;
        char **list = vx_realloc_array(names->list, capacity, sizeof *list);

        if (list == NULL)
            return vx_fail_memory(err, "names of files");
        names->list = list;
        names->capacity = capacity;
    }
    names->list[names->count] = vx_strdup(name);
    if (names->list[names->count] == NULL)
        return vx_fail_memory(err, "names of files");
    names->count++;
    return VHDX_OK;
}

static int
compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool
has_extension(const char *name)
{
    static const char *const extensions[] = { ".vhdx", ".avhdx", ".vhds" };
    const char              *dot = strrchr(name, '.');

    for (size_t i = 0; dot != NULL && i < sizeof extensions / sizeof extensions[0]; i++)
        if (strcasecmp(dot, extensions[i]) == 0)
            return true;
    return false;
}

/* S3 */
static bool
is_regular(int folder, const struct dirent *entry)
{
    struct stat status;

#if defined(DT_REG) && defined(DT_UNKNOWN)
    if (entry->d_type != DT_UNKNOWN)
        return entry->d_type == DT_REG;
#endif
    return fstatat(folder, entry->d_name, &status, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(status.st_mode);
}

/* S2.  Which names are kept of too many is up to the system; all that are kept are sorted. */
static int
list_names(struct scan *scan, struct vhdx_error *err)
{
    int            descriptor = openat(scan->descriptor, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = VHDX_OK;
    DIR           *folder = descriptor >= 0 ? fdopendir(descriptor) : NULL;
    unsigned       entry_count = 0;
    struct dirent *entry;

    if (folder == NULL) {
        rc = vx_fail_errno(err, errno, VHDX_PART_NONE, VHDX_NO_OFFSET, "reading folder %s", scan->folder);
        if (descriptor >= 0)
            close(descriptor);
        return rc;
    }
    while (rc == VHDX_OK && (entry = readdir(folder)) != NULL) {
        struct names *names = has_extension(entry->d_name) ? &scan->images : &scan->others;

        if (entry_count++ == MAX_ENTRIES) {
            scan->was_cut = true;
            break;
        }
        if (!is_regular(scan->descriptor, entry))
            continue;
        if (names->count == scan->max_files)
            scan->was_cut = true;
        else
            rc = add_name(names, entry->d_name, err);
    }
    closedir(folder);
    return rc;
}

static int
open_file(const struct scan *scan, const char *name)
{
    struct stat status;
    int         descriptor = openat(scan->descriptor, name,
                                    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);

    if (descriptor >= 0 && (fstat(descriptor, &status) < 0 || !S_ISREG(status.st_mode))) {
        close(descriptor);
        errno = ENOENT; /* another took its place */
        return -1;
    }
    return descriptor;
}

static bool
has_signature(const struct scan *scan, const char *name)
{
    int     descriptor = open_file(scan, name);
    uint8_t signature[8];
    bool    result;

    if (descriptor < 0)
        return false;
    result = pread(descriptor, signature, sizeof signature, 0) == (ssize_t)sizeof signature &&
             vx_identifier_has_signature(signature);
    close(descriptor);
    return result;
}

/* Move those of the others that are images over, as far as there is room for images. */
static int
look_into_others(struct scan *scan, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (size_t i = 0; i < scan->others.count && rc == VHDX_OK; i++) {
        if (!has_signature(scan, scan->others.list[i]))
            continue;
        if (scan->images.count == scan->max_files)
            scan->was_cut = true;
        else
            rc = add_name(&scan->images, scan->others.list[i], err);
    }
    qsort(scan->images.list, scan->images.count, sizeof *scan->images.list, compare_names);
    return rc;
}

/* --- images --- */

static int
read_info(const struct scan *scan, const char *name, const char *path, unsigned flags, struct vhdx_info *info,
          struct vhdx_error *err)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS | VHDX_OPEN_FORCE_SHARE | flags,
                                               .format = VHDX_FORMAT_VHDX };
    int               descriptor = open_file(scan, name), rc;
    struct vhdx_disk *disk;

    if (descriptor < 0)
        return vx_fail_errno(err, errno, VHDX_PART_FILE, VHDX_NO_OFFSET, "cannot open");
    rc = vhdx_disk_open_descriptor(&disk, descriptor, path, &options, err);
    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, info, err);
    vhdx_disk_close(disk, NULL);
    return rc;
}

static char *
join(const char *folder, const char *name)
{
    size_t length = strlen(folder);
    char  *path = vx_alloc(length + strlen(name) + 2);

    if (path == NULL)
        return NULL;
    memcpy(path, folder, length);
    if (length > 0 && folder[length - 1] != '/')
        path[length++] = '/';
    memcpy(path + length, name, strlen(name) + 1);
    return path;
}

static int
report_one(const struct scan *scan, const char *name, struct vhdx_info *info, struct vhdx_error *err)
{
    struct vhdx_error error = { .code = VHDX_OK, .message = "" }, ignored;
    char             *path = join(scan->folder, name);
    int               rc;

    if (path == NULL)
        return vx_fail_memory(err, "a path");
    rc = read_info(scan, name, path, 0, info, &error);
    if (rc < 0) /* the log of a machine that runs may be half written */
        rc = read_info(scan, name, path, VHDX_OPEN_IGNORE_LOG, info, &ignored);
    rc = scan->each(scan->context, &(struct vhdx_found_image){ .path = path, .info = rc == VHDX_OK ? info : NULL,
                                                               .error = &error });
    vx_free(path);
    return rc;
}

static int
report_all(const struct scan *scan, struct vhdx_error *err)
{
    struct vhdx_info *info = vx_alloc(sizeof *info);
    int               rc = VHDX_OK;

    if (info == NULL)
        return vx_fail_memory(err, "facts about an image");
    for (size_t i = 0; i < scan->images.count && rc == VHDX_OK; i++)
        rc = report_one(scan, scan->images.list[i], info, err);
    vx_free(info);
    return rc;
}

int
vhdx_scan_folder(const char *folder, unsigned max_files, vhdx_found each, void *context, bool *was_cut,
                 struct vhdx_error *err)
{
    struct scan scan = { .folder = folder, .max_files = max_files != 0 ? max_files : MAX_FILES_DEFAULT,
                         .each = each, .context = context };
    int         rc;

    scan.descriptor = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (scan.descriptor < 0)
        return vx_fail_errno(err, errno, VHDX_PART_NONE, VHDX_NO_OFFSET, "opening folder %s", folder);
    rc = list_names(&scan, err);
    if (rc == VHDX_OK)
        rc = look_into_others(&scan, err);
    if (rc == VHDX_OK)
        rc = report_all(&scan, err);
    if (was_cut != NULL)
        *was_cut = scan.was_cut;
    names_free(&scan.images);
    names_free(&scan.others);
    close(scan.descriptor);
    return rc;
}

/* --- children --- */

struct child_search {
    struct vhdx_guid guid; /* of the parent */
    vhdx_found       each;
    void            *context;
};

static int
pass_on_child(void *context, const struct vhdx_found_image *image)
{
    const struct child_search *search = context;
    const struct vhdx_info    *info = image->info;

    if (info == NULL || info->type != VHDX_TYPE_DIFFERENCING)
        return 0;
    if (!vhdx_guid_equal(&info->parent_linkage, &search->guid) &&
        (vhdx_guid_is_zero(&info->parent_linkage2) || !vhdx_guid_equal(&info->parent_linkage2, &search->guid)))
        return 0;
    return search->each(search->context, image);
}

static int
read_guid(const char *path, struct vhdx_guid *out, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS | VHDX_OPEN_FORCE_SHARE,
                                         .format = VHDX_FORMAT_VHDX };
    struct vhdx_info        *info = vx_alloc_zeroed(1, sizeof *info);
    struct vhdx_error        ignored;
    struct vhdx_disk        *disk;
    int                      rc;

    if (info == NULL)
        return vx_fail_memory(err, "facts about an image");
    rc = vhdx_disk_open_path(&disk, path, &options, err);
    if (rc < 0 && rc != VHDX_E_NOT_FOUND && rc != VHDX_E_NOT_VHDX) { /* headers are never in the log */
        options.flags |= VHDX_OPEN_IGNORE_LOG;
        rc = vhdx_disk_open_path(&disk, path, &options, &ignored) == VHDX_OK ? VHDX_OK : rc;
    }
    if (rc == VHDX_OK) {
        rc = vhdx_disk_get_info(disk, 0, info, err);
        vhdx_disk_close(disk, NULL);
    }
    *out = info->data_write_guid;
    vx_free(info);
    return rc;
}

static char *
folder_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    char       *folder = vx_strdup(slash == NULL ? "." : path);

    if (folder != NULL && slash != NULL)
        folder[slash == path ? 1 : slash - path] = '\0';
    return folder;
}

static bool
is_same_folder(const char *a, const char *b)
{
    struct stat x, y;

    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

/* Was also[index] looked at before? */
static bool
is_repeated(const char *own, const char *const *also, size_t index)
{
    for (size_t i = 0; i < index; i++)
        if (is_same_folder(also[i], also[index]))
            return true;
    return is_same_folder(own, also[index]);
}

int
vhdx_find_children(const char *path, const char *const *also, size_t also_count, vhdx_found each, void *context,
                   bool *was_cut, struct vhdx_error *err)
{
    struct child_search search = { .each = each, .context = context };
    char               *own = folder_of(path);
    bool                was_any_cut = false, was_this_cut = false;
    int                 rc;

    if (own == NULL)
        return vx_fail_memory(err, "a path");
    rc = read_guid(path, &search.guid, err);
    if (rc == VHDX_OK)
        rc = vhdx_scan_folder(own, 0, pass_on_child, &search, &was_any_cut, err);
    for (size_t i = 0; i < also_count && rc == VHDX_OK; i++) {
        if (is_repeated(own, also, i))
            continue;
        rc = vhdx_scan_folder(also[i], 0, pass_on_child, &search, &was_this_cut, err);
        was_any_cut = was_any_cut || was_this_cut;
    }
    if (was_cut != NULL)
        *was_cut = was_any_cut;
    vx_free(own);
    return rc;
}
