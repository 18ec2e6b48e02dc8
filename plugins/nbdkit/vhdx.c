/*
 * The nbdkit plugin: one VHDX image with its chain of parents, served over NBD.  Thin over <vhdx/disk.h>.
 *
 * An image can be opened for writing once, and NBD clients open several connections: all of them share one disk.
 *
 *   P1  Before nbdkit forks, the image is opened read-only and closed again: a bad or busy image stops the server from
 *       starting, with the reason, rather than every client later.  Afterwards it is opened to stay, which keeps other
 *       programs from writing it.  Not before: a parent process that waits for nbdkit would hold the locks as well.
 *   P2  The first connection that wants to write reopens it for writing, provided no connection uses it yet.  Only
 *       then is it known whether nbdkit was started with -r, and nothing is replayed for a client that never came.
 *   P3  From then on the disk stays open until the server ends.  Connections count as users from open to close.
 *       Its parents stay open with it, locked against writers.
 *   P4  Since all connections share the disk, a flush on one covers what the others wrote: multi-conn is safe.
 *   P5  Parents come from the folder of the image unless `parents` says otherwise: a server may be handed images of
 *       strangers.  Folders are made absolute when the parameters are complete; later nbdkit leaves its directory.
 *   P6  An image on which others depend is not opened for writing, since they would then show a mixture of old and
 *       new.  As with P2 this can be judged only when a connection wants to write.
 *   P7  With sandbox=yes nothing can be opened once the server serves (confinement.h), so the disk is opened as it will
 *       be used before that: for writing unless `readonly` is given.  P2 and P6 are then a matter of starting.
 */
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <vhdx/chain.h>

#include "confinement.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

/* One answer about extents: enough for 256 MiB of scattered blocks.  Clients ask again where the answer ends. */
#define EXTENTS_PER_ANSWER 256

#define PREFERRED_BLOCK_SIZE 4096u
#define MAXIMUM_BLOCK_SIZE   (32u << 20)

/* Set by configuration, before there are threads. */
static struct {
    char *path; /* absolute: nbdkit leaves the directory it was started in */
    bool  is_read_only;
    bool  ignores_log; /* then is_read_only too */
    bool  orphans_children;

    char                *parents_text; /* of parents=, NULL without */
    char               **maps;         /* of each map= */
    size_t               map_count;
    struct vhdx_parents *parents; /* both, as a policy */
    struct vhdx_parents_options parents_options;
} config;

/* The one disk, and who uses it. */
static struct {
    pthread_mutex_t   lock; /* guards the members below; requests read `disk` without it, see P3 */
    struct vhdx_disk *disk;
    bool              is_writable;
    unsigned          user_count;
    char              description[64];
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* What helps, in words of this plugin; the library's messages cannot know them. */
static const char *
remedy_of(int code)
{
    switch (code) {
    case VHDX_E_NO_PARENT:
        return ". What this image does not hold itself lies in its parent; parents=DIR,DIR or parents=any looks"
               " elsewhere, map=C:=DIR tells where a drive of Windows is";
    case VHDX_E_HAS_CHILDREN:
        return ". Written to, it would no longer be what they need; serve the last child, or serve it read-only, or"
               " give orphan-children=true to write all the same";
    default:
        return "";
    }
}

/* Log an error, and give the client its errno.  Returns -1, as every callback does on failure. */
static int
refuse(const struct vhdx_error *err)
{
    nbdkit_error("%s: %s%s", config.path, err->message, remedy_of(err->code));
    nbdkit_set_error(vhdx_code_errno(err->code));
    return -1;
}

static int
parse_flag(bool *out, const char *value)
{
    int is_set = nbdkit_parse_bool(value);

    if (is_set < 0)
        return -1;
    *out = is_set != 0;
    return 0;
}

static int
out_of_memory(void)
{
    nbdkit_error("out of memory");
    return -1;
}

static int
set_parents(const char *value)
{
    free(config.parents_text);
    config.parents_text = strdup(value);
    return config.parents_text == NULL ? out_of_memory() : 0;
}

static int
add_map(const char *value)
{
    char **maps = realloc(config.maps, (config.map_count + 1) * sizeof *maps);

    if (maps == NULL)
        return out_of_memory();
    config.maps = maps;
    maps[config.map_count] = strdup(value);
    if (maps[config.map_count] == NULL)
        return out_of_memory();
    config.map_count++;
    return 0;
}

static int
plugin_config(const char *key, const char *value)
{
    if (strcmp(key, "file") == 0) {
        free(config.path);
        config.path = nbdkit_absolute_path(value);
        return config.path == NULL ? -1 : 0;
    }
    if (strcmp(key, "readonly") == 0)
        return parse_flag(&config.is_read_only, value);
    if (strcmp(key, "ignore-log") == 0)
        return parse_flag(&config.ignores_log, value);
    if (strcmp(key, "parents") == 0)
        return set_parents(value);
    if (strcmp(key, "map") == 0)
        return add_map(value);
    if (strcmp(key, "orphan-children") == 0)
        return parse_flag(&config.orphans_children, value);
    if (strcmp(key, "sandbox") == 0)
        return confinement_take(value);
    if (strcmp(key, "sandbox-read") == 0)
        return confinement_keep_readable(value);
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

/* P5 */
static int
make_policy(void)
{
    const char                 *which = config.parents_text != NULL ? config.parents_text : "same-dir";
    struct vhdx_parents_options *options = &config.parents_options;
    struct vhdx_error           err;
    int rc = vhdx_parents_options_parse(options, which, (const char *const *)config.maps, config.map_count, &err);

    if (rc == VHDX_OK)
        rc = vhdx_parents_new(&config.parents, options, &err);
    if (rc < 0)
        nbdkit_error("parents=%s: %s", which, err.message);
    return rc < 0 ? -1 : 0;
}

static int
plugin_config_complete(void)
{
    if (config.path == NULL) {
        nbdkit_error("which image? give file=<IMAGE>");
        return -1;
    }
    if (config.ignores_log)
        config.is_read_only = true;
    return make_policy();
}

#define plugin_config_help \
    "file=<IMAGE>          (required) The VHDX image to serve.\n" \
    "readonly=true         Serve it read-only; not one byte of the file changes.\n" \
    "ignore-log=true       Serve the file as it lies, without the writes in its log; read-only.\n" \
    "parents=<WHICH>       Where parents may be: none, same-dir (default), any, or folders: DIR,DIR..\n" \
    "map=<C:=DIR>          Where a drive or a share of Windows is here; may be given several times.\n" \
    "orphan-children=true  Write even when other images depend on this one.\n" \
    "sandbox=true          Leave the server the image's files and its sockets only, as far as the kernel can.\n" \
    "sandbox-read=<PATH>   Leave it this, too, for reading; may be given several times."

static void
plugin_dump(void)
{
    const struct sandbox_report available = sandbox_available();
    char                        text[SANDBOX_TEXT_SIZE];

    printf("vhdx_library_version=%s\n", vhdx_version());
    printf("vhdx_sandbox=%s\n", sandbox_text(text, &available));
}

/* A word for the export's description: type and size of blocks as the image says, and how many parents it has. */
static int
describe_locked(struct vhdx_error *err)
{
    static const char *const type_names[] = {
        [VHDX_TYPE_DYNAMIC] = "dynamic", [VHDX_TYPE_FIXED] = "fixed", [VHDX_TYPE_DIFFERENCING] = "differencing",
    };
    unsigned parent_count = vhdx_disk_layer_count(shared.disk) - 1;
    struct vhdx_info *info;
    int rc;

    info = malloc(sizeof *info); /* some KiB: not for a connection's stack */
    if (info == NULL) {
        *err = (struct vhdx_error){ .code = VHDX_E_NO_MEMORY, .message = "out of memory" };
        return err->code;
    }
    rc = vhdx_disk_get_info(shared.disk, 0, info, err);
    if (rc == VHDX_OK)
        snprintf(shared.description, sizeof shared.description, "%s VHDX, %" PRIu32 " MiB blocks",
                 type_names[info->type], info->block_size >> 20);
    if (rc == VHDX_OK && parent_count > 0) {
        size_t used = strlen(shared.description);

        snprintf(shared.description + used, sizeof shared.description - used, ", %u parent%s", parent_count,
                 parent_count == 1 ? "" : "s");
    }
    free(info);
    return rc;
}

static int
close_disk_locked(struct vhdx_error *err)
{
    struct vhdx_disk *disk = shared.disk;

    shared.disk = NULL;
    shared.is_writable = false;
    return disk == NULL ? VHDX_OK : vhdx_disk_close(disk, err);
}

/* P6 */
static int
refuse_children(struct vhdx_error *err)
{
    bool is_complete = true;
    int rc = config.orphans_children ? VHDX_OK : vhdx_refuse_children(config.path, &is_complete, err);

    if (rc == VHDX_OK && !is_complete)
        nbdkit_error("warning: %s: not every file beside it could be looked at: images that depend on it may be"
                     " among them", config.path);
    return rc;
}

static int
open_disk_locked(bool for_writing, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .format = VHDX_FORMAT_VHDX, .resolve_parent = vhdx_parents_resolve,
                                         .resolve_context = config.parents };
    int rc = for_writing ? refuse_children(err) : VHDX_OK;

    if (rc < 0)
        return rc;
    if (for_writing)
        options.flags |= VHDX_OPEN_WRITE;
    if (config.ignores_log)
        options.flags |= VHDX_OPEN_IGNORE_LOG;
    rc = vhdx_disk_open_path(&shared.disk, config.path, &options, err);
    if (rc < 0) {
        shared.disk = NULL;
        return rc;
    }
    shared.is_writable = for_writing;
    rc = describe_locked(err);
    if (rc < 0)
        close_disk_locked(NULL);
    return rc;
}

/* Close the disk, when all connections are gone and the process may still say something. */
static void
plugin_cleanup(void)
{
    struct vhdx_error err;

    pthread_mutex_lock(&shared.lock);
    if (close_disk_locked(&err) < 0)
        refuse(&err);
    pthread_mutex_unlock(&shared.lock);
}

static int
open_disk(bool for_writing, struct vhdx_error *err)
{
    int rc;

    pthread_mutex_lock(&shared.lock);
    rc = open_disk_locked(for_writing, err);
    pthread_mutex_unlock(&shared.lock);
    return rc;
}

/* P7: whether opening for writing would succeed, as far as that shows without doing it. */
static int
judge_writing(struct vhdx_error *err)
{
    if (access(config.path, R_OK | W_OK) < 0) {
        *err = (struct vhdx_error){ .code = VHDX_E_IO, .system_errno = errno, .file_offset = VHDX_NO_OFFSET };
        snprintf(err->message, sizeof err->message, "cannot be written: %s; readonly=true serves it for reading",
                 strerror(errno));
        return err->code;
    }
    return refuse_children(err);
}

/* P1. */
static int
take_look(void *context, struct vhdx_error *err)
{
    int rc = open_disk(false, err);

    (void)context;
    if (rc < 0)
        return rc;
    plugin_cleanup();
    return confinement_is_wanted() && !config.is_read_only ? judge_writing(err) : VHDX_OK;
}

static int
plugin_get_ready(void)
{
    struct vhdx_error err;

    if (confinement_is_wanted())
        confinement_plan(config.path, !config.is_read_only, !config.is_read_only && !config.orphans_children,
                         &config.parents_options);
    return confinement_look(take_look, NULL, &err) < 0 ? refuse(&err) : 0;
}

/* P1, or P7. */
static int
plugin_after_fork(void)
{
    struct vhdx_error err;
    int               rc;

    if (!confinement_is_wanted())
        return open_disk(false, &err) < 0 ? refuse(&err) : 0;
    rc = confinement_begin(&err);
    if (rc == VHDX_OK)
        rc = open_disk(!config.is_read_only, &err);
    if (rc == VHDX_OK)
        rc = confinement_complete(&err);
    return rc < 0 ? refuse(&err) : 0;
}

/* P2: what the next connection needs is open when this returns 0. */
static int
prepare_disk_locked(bool for_writing, struct vhdx_error *err)
{
    int rc;

    if (shared.disk != NULL && (shared.user_count > 0 || shared.is_writable || !for_writing))
        return VHDX_OK;
    rc = close_disk_locked(err);
    if (rc < 0)
        return rc;
    return open_disk_locked(for_writing, err);
}

static void *
plugin_open(int readonly)
{
    struct vhdx_error err;
    int rc;

    pthread_mutex_lock(&shared.lock);
    rc = prepare_disk_locked(!readonly && !config.is_read_only, &err);
    if (rc == VHDX_OK)
        shared.user_count++;
    pthread_mutex_unlock(&shared.lock);

    if (rc < 0) {
        refuse(&err);
        return NULL;
    }
    return shared.disk; /* P3: nobody replaces it while this connection is a user */
}

static void
plugin_close(void *handle)
{
    (void)handle;
    pthread_mutex_lock(&shared.lock);
    shared.user_count--;
    pthread_mutex_unlock(&shared.lock);
}

/* Also reached when the server never served: a bad parameter, --dump-plugin. */
static void
plugin_unload(void)
{
    plugin_cleanup();
    confinement_free();
    vhdx_parents_free(config.parents);
    vhdx_parents_options_free(&config.parents_options);
    for (size_t i = 0; i < config.map_count; i++)
        free(config.maps[i]);
    free(config.maps);
    free(config.parents_text);
    free(config.path);
}

static int64_t
plugin_get_size(void *handle)
{
    return (int64_t)vhdx_disk_size(handle); /* at most 64 TiB, or what an off_t holds for a raw file */
}

static const char *
plugin_export_description(void *handle)
{
    (void)handle;
    return shared.description;
}

static int
plugin_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
    (void)handle;
    *minimum = 1;
    *preferred = PREFERRED_BLOCK_SIZE;
    *maximum = MAXIMUM_BLOCK_SIZE;
    return 0;
}

static int
plugin_can_write(void *handle)
{
    (void)handle;
    return shared.is_writable;
}

static int
answer_yes(void *handle)
{
    (void)handle;
    return 1;
}

/* A cache request is a read into the page cache: nbdkit does it. */
static int
plugin_can_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_EMULATE;
}

static int
plugin_can_fua(void *handle)
{
    (void)handle;
    return NBDKIT_FUA_NATIVE;
}

static int
plugin_pread(void *handle, void *buffer, uint32_t length, uint64_t guest_offset, uint32_t flags)
{
    struct vhdx_error err;

    (void)flags;
    return vhdx_disk_read(handle, buffer, length, guest_offset, &err) < 0 ? refuse(&err) : 0;
}

static int
plugin_flush(void *handle, uint32_t flags)
{
    struct vhdx_error err;

    (void)flags;
    return vhdx_disk_flush(handle, &err) < 0 ? refuse(&err) : 0;
}

/* What a write with FUA still owes: to be durable before it is answered. */
static int
finish_write(void *handle, uint32_t flags)
{
    return (flags & NBDKIT_FLAG_FUA) != 0 ? plugin_flush(handle, 0) : 0;
}

static int
plugin_pwrite(void *handle, const void *buffer, uint32_t length, uint64_t guest_offset, uint32_t flags)
{
    struct vhdx_error err;

    if (vhdx_disk_write(handle, buffer, length, guest_offset, &err) < 0)
        return refuse(&err);
    return finish_write(handle, flags);
}

static int
plugin_trim(void *handle, uint32_t length, uint64_t guest_offset, uint32_t flags)
{
    struct vhdx_error err;

    if (vhdx_disk_trim(handle, guest_offset, length, &err) < 0)
        return refuse(&err);
    return finish_write(handle, flags);
}

/*
 * Write zeros.  Without MAY_TRIM the client wants the space kept, so that later writes cannot fail for want of it;
 * a block in state ZERO gives it back.  EOPNOTSUPP lets nbdkit write the zeros as data, or, when they were to be
 * fast, is the answer.
 */
static int
plugin_zero(void *handle, uint32_t length, uint64_t guest_offset, uint32_t flags)
{
    unsigned zero_flags = (flags & NBDKIT_FLAG_FAST_ZERO) != 0 ? VHDX_ZERO_FAST : 0;
    struct vhdx_error err;
    int rc;

    if ((flags & NBDKIT_FLAG_MAY_TRIM) == 0) {
        nbdkit_set_error(EOPNOTSUPP);
        return -1;
    }
    rc = vhdx_disk_zero(handle, guest_offset, length, zero_flags, &err);
    if (rc == VHDX_E_UNSUPPORTED) {
        nbdkit_set_error(EOPNOTSUPP); /* nothing to report: the client asked whether it is fast */
        return -1;
    }
    if (rc < 0)
        return refuse(&err);
    return finish_write(handle, flags);
}

static uint32_t
nbd_extent_type(const struct vhdx_extent *extent)
{
    uint32_t type = 0;

    if ((extent->flags & VHDX_EXTENT_DATA) == 0)
        type |= NBDKIT_EXTENT_HOLE;
    if ((extent->flags & VHDX_EXTENT_ZERO) != 0)
        type |= NBDKIT_EXTENT_ZERO;
    return type;
}

/* The answer may end before the range does; nbdkit joins neighbours of one type. */
static int
plugin_extents(void *handle, uint32_t length, uint64_t guest_offset, uint32_t flags,
                    struct nbdkit_extents *answer)
{
    struct vhdx_extent extents[EXTENTS_PER_ANSWER];
    struct vhdx_error err;
    size_t count;
    size_t i;

    (void)flags;
    if (vhdx_disk_resolve_sparse(handle, guest_offset, length, extents, EXTENTS_PER_ANSWER, &count, &err) < 0)
        return refuse(&err);
    for (i = 0; i < count; i++)
        if (nbdkit_add_extent(answer, extents[i].guest_offset, extents[i].length, nbd_extent_type(&extents[i])) < 0)
            return -1;
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name               = "vhdx",
    .longname           = "Hyper-V VHDX disks",
    .version            = VHDX_VERSION,
    .description        = "Serves a Hyper-V VHDX image, crash-safe and from many threads, with libvhdx.",
    .config             = plugin_config,
    .config_complete    = plugin_config_complete,
    .config_help        = plugin_config_help,
    .magic_config_key   = "file",
    .dump_plugin        = plugin_dump,
    .get_ready          = plugin_get_ready,
    .after_fork         = plugin_after_fork,
    .cleanup            = plugin_cleanup,
    .unload             = plugin_unload,
    .open               = plugin_open,
    .close              = plugin_close,
    .get_size           = plugin_get_size,
    .export_description = plugin_export_description,
    .block_size         = plugin_block_size,
    .can_write          = plugin_can_write,
    .can_multi_conn     = answer_yes, /* P4 */
    .can_fast_zero      = answer_yes,
    .can_fua            = plugin_can_fua,
    .can_cache          = plugin_can_cache,
    .pread              = plugin_pread,
    .pwrite             = plugin_pwrite,
    .flush              = plugin_flush,
    .trim               = plugin_trim,
    .zero               = plugin_zero,
    .extents            = plugin_extents,
};

struct nbdkit_plugin *plugin_init(void); /* the macro declares no prototype */
NBDKIT_REGISTER_PLUGIN(plugin)
