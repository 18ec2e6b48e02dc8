/*
 * Opening a disk: the image itself, then parent after parent as far as the caller's resolver brings them.  Parents
 * are read-only; each must be the one its child names (V122, V123).
 */
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "base/utf16.h"
#include "disk/disk.h"
#include "format/identifier.h"
#include "storage/storage.h"

#define DEFAULT_CACHE (UINT64_C(32) * VX_MIB)

static void
free_disk(struct vhdx_disk *disk)
{
    if (disk == NULL)
        return;
    for (unsigned i = 0; i < disk->layer_count; i++)
        vx_free(disk->layers[i].name);
    vx_free(disk->layers);
    vx_free(disk);
}

/* Close images and storages, the top one last: its error is the one that counts. */
static int
close_layers(struct vhdx_disk *disk, unsigned from, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    for (unsigned i = disk->layer_count; i-- > from;) {
        if (disk->layers[i].image != NULL)
            rc = vx_image_close(disk->layers[i].image, i == 0 ? err : NULL);
        vx_vhd_close(disk->layers[i].vhd);
        vhdx_storage_close(disk->layers[i].storage);
    }
    return rc;
}

int
vhdx_disk_close(struct vhdx_disk *disk, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (disk == NULL)
        return VHDX_OK;
    if (disk->borrows_layers) {
        vx_free(disk);
        return VHDX_OK;
    }
    if (disk->is_writable && disk->layers[0].image == NULL)
        rc = vx_storage_flush(disk->layers[0].storage, err);
    if (rc == VHDX_OK)
        rc = close_layers(disk, 0, err);
    else
        close_layers(disk, 0, NULL);
    free_disk(disk);
    return rc;
}

/* AUTO becomes what the file is. */
static int
find_format(struct vhdx_storage *storage, enum vhdx_format *format, struct vhdx_error *err)
{
    uint8_t signature[8];
    size_t  got;
    bool    is_vhd;
    int     rc;

    if (*format != VHDX_FORMAT_AUTO)
        return VHDX_OK;
    *format = VHDX_FORMAT_VHDX;
    rc = vx_storage_read_prefix(storage, signature, sizeof signature, 0, &got, err);
    if (rc < 0 || vx_identifier_has_signature(signature))
        return rc;
    *format = VHDX_FORMAT_VHD;
    rc = vx_vhd_is_there(storage, &is_vhd, err);
    if (rc == VHDX_OK && !is_vhd)
        rc = vx_fail(err, VHDX_E_NOT_VHDX, VHDX_PART_IDENTIFIER, 0, "no VHDX signature at the start of the file");
    return rc;
}

/* What of a layer depends on its format. */
static int
open_contents(struct vx_layer *layer, struct vhdx_storage *storage, enum vhdx_format format,
              const struct vx_image_options *options, struct vhdx_error *err)
{
    int rc;

    if (format == VHDX_FORMAT_VHDX) {
        rc = vx_image_open(&layer->image, storage, options, err);
        if (rc == VHDX_OK)
            layer->size = vx_image_geometry(layer->image)->virtual_size;
        return rc;
    }
    if (options->is_writable && storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET, "the storage is read-only");
    if (format == VHDX_FORMAT_RAW)
        return vx_storage_get_size(storage, &layer->size, err);
    rc = vx_vhd_open(&layer->vhd, storage, options->is_writable, err);
    if (rc == VHDX_OK)
        layer->size = vx_vhd_size(layer->vhd);
    return rc;
}

/* Room for one more layer; its name is set, its storage is not owned yet. */
static int
add_layer(struct vhdx_disk *disk, struct vhdx_storage *storage, struct vx_layer **out, struct vhdx_error *err)
{
    struct vx_layer *layer;

    if (disk->layer_count == disk->layer_capacity) {
        unsigned         wanted = disk->layer_capacity * 2 + 1;
        struct vx_layer *layers = vx_realloc_array(disk->layers, wanted, sizeof *layers);

        if (layers == NULL)
            return vx_fail_memory(err, "a layer of the chain");
        disk->layers = layers;
        disk->layer_capacity = wanted;
    }
    layer = &disk->layers[disk->layer_count];
    *layer = (struct vx_layer){ .name = vx_strdup(vx_storage_name(storage)) };
    if (layer->name == NULL)
        return vx_fail_memory(err, "a layer of the chain");
    *out = layer;
    return VHDX_OK;
}

/* A parent gets a sixteenth: a chain of any length then takes memory in proportion, and 2 MiB still map 512 GiB of a
 * disk with blocks of 2 MiB. */
static uint64_t
cache_share(const struct vhdx_open_options *options, bool is_top)
{
    uint64_t all = options->metadata_cache_bytes != 0 ? options->metadata_cache_bytes : DEFAULT_CACHE;

    return is_top ? all : all / 16;
}

/* Open `storage` as the next layer.  On failure the storage stays the caller's. */
static int
open_layer(struct vhdx_disk *disk, struct vhdx_storage *storage, const struct vhdx_open_options *options,
           struct vhdx_error *err)
{
    bool                    is_top = disk->layer_count == 0;
    struct vx_image_options image_options = {
        .is_writable = is_top && (options->flags & VHDX_OPEN_WRITE) != 0,
        .ignore_log = (options->flags & VHDX_OPEN_IGNORE_LOG) != 0,
        .metadata_cache_bytes = cache_share(options, is_top),
    };
    struct vx_layer *layer = NULL;
    enum vhdx_format format = is_top ? options->format : VHDX_FORMAT_VHDX;
    int              rc = find_format(storage, &format, err);

    if (rc == VHDX_OK)
        rc = add_layer(disk, storage, &layer, err);
    if (rc < 0)
        return rc;
    rc = open_contents(layer, storage, format, &image_options, err);
    if (rc < 0) {
        vx_free(layer->name);
        return rc;
    }
    layer->storage = storage;
    disk->layer_count++;
    return VHDX_OK;
}

/* --- parents --- */

/* A path of the locator in UTF-8, or NULL. */
static char *
path_text(struct vx_image *image, const struct vx_locator_pair *pair)
{
    const uint8_t *item = vx_image_locator_item(image);
    size_t         size = (size_t)pair->value_length / 2 * 3 + 1;
    char          *text;

    if (pair->value_length == 0)
        return NULL;
    text = vx_alloc(size);
    if (text != NULL && !vx_utf16_to_utf8(text, size, item + pair->value_offset, pair->value_length)) {
        vx_free(text);
        text = NULL;
    }
    return text;
}

/* The identities of all layers, in an array of their own. */
static struct vhdx_storage_identity *
list_identities(const struct vhdx_disk *disk)
{
    struct vhdx_storage_identity *list = vx_alloc_zeroed(disk->layer_count, sizeof *list);

    for (unsigned i = 0; list != NULL && i < disk->layer_count; i++)
        list[i] = disk->layers[i].storage->identity;
    return list;
}

static int
ask_resolver(struct vhdx_disk *disk, const struct vhdx_open_options *options, struct vhdx_storage **parent,
             struct vhdx_error *err)
{
    struct vx_layer         *child = &disk->layers[disk->layer_count - 1];
    const struct vx_locator *locator = vx_image_locator(child->image);
    char *relative = path_text(child->image, &locator->relative_path);
    char *volume = path_text(child->image, &locator->volume_path);
    char *absolute = path_text(child->image, &locator->absolute_win32_path);
    struct vhdx_storage_identity *chain = list_identities(disk);
    struct vhdx_parent_query query = {
        .child_name = child->name, .linkage = &locator->linkage, .linkage2 = &locator->linkage2,
        .relative_path = relative, .volume_path = volume, .absolute_win32_path = absolute,
        .depth = disk->layer_count - 1, .flags = options->flags, .chain = chain,
    };
    int rc = chain == NULL ? vx_fail_memory(err, "a layer of the chain")
                           : options->resolve_parent(options->resolve_context, &query, parent, err);

    vx_free(chain);
    vx_free(relative);
    vx_free(volume);
    vx_free(absolute);
    return rc;
}

static int
fail_rule(struct vhdx_error *err, int rule, int code)
{
    if (err != NULL) {
        err->rule = rule;
        err->severity = VHDX_SEVERITY_REFUSE;
    }
    return code;
}

/* V125: is what a resolver brought a file of the chain already? */
static int
check_circle(const struct vhdx_disk *disk, const struct vhdx_storage *parent, struct vhdx_error *err)
{
    const struct vx_layer *child = &disk->layers[disk->layer_count - 1];

    for (unsigned i = 0; i < disk->layer_count; i++)
        if (vx_identity_equal(&disk->layers[i].storage->identity, &parent->identity))
            return fail_rule(err, 125, vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                             "the parent of %s is %s, which is in the chain already: it runs in a circle",
                             child->name, disk->layers[i].name));
    return VHDX_OK;
}

/* V122, V123: is the newest layer the parent that the one above it means? */
static int
check_parent(const struct vhdx_disk *disk, struct vhdx_error *err)
{
    const struct vx_layer   *child = &disk->layers[disk->layer_count - 2], *parent = child + 1;
    const struct vx_locator *locator = vx_image_locator(child->image);
    struct vhdx_guid         guid = vx_image_data_write_guid(parent->image);
    char                     has[VHDX_GUID_TEXT_SIZE], wants[VHDX_GUID_TEXT_SIZE];

    if (!vhdx_guid_equal(&guid, &locator->linkage) &&
        (vhdx_guid_is_zero(&locator->linkage2) || !vhdx_guid_equal(&guid, &locator->linkage2))) {
        vhdx_guid_format(has, &guid);
        vhdx_guid_format(wants, &locator->linkage);
        return fail_rule(err, 122, vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                         "%s has DataWriteGuid %s and its child asks for %s (V122): the parent was changed after "
                         "the child was made, or is another file", parent->name, has, wants));
    }
    if (vx_image_geometry(parent->image)->logical_sector_size !=
        vx_image_geometry(child->image)->logical_sector_size)
        return fail_rule(err, 123, vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                         "%s has another logical sector size than its child (V123)", parent->name));
    return VHDX_OK;
}

static int
open_parents(struct vhdx_disk *disk, const struct vhdx_open_options *options, struct vhdx_error *err)
{
    for (;;) {
        struct vx_layer     *last = &disk->layers[disk->layer_count - 1];
        struct vhdx_storage *parent;
        int                  rc;

        if (last->image == NULL || !vx_image_geometry(last->image)->is_differencing)
            return VHDX_OK;
        if ((options->flags & VHDX_OPEN_NO_PARENTS) != 0) {
            disk->lacks_parent = true;
            return VHDX_OK;
        }
        if (options->resolve_parent == NULL)
            return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                           "%s is a differencing image and nobody was asked to find its parent", last->name);
        if (disk->layer_count == VX_MAX_LAYERS)
            return fail_rule(err, 125, vx_fail(err, VHDX_E_LIMIT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                             "the chain is deeper than the limit of %u parents", VX_MAX_LAYERS - 1));
        rc = ask_resolver(disk, options, &parent, err);
        if (rc < 0)
            return rc;
        rc = check_circle(disk, parent, err);
        if (rc == VHDX_OK)
            rc = open_layer(disk, parent, options, err);
        if (rc < 0) {
            vhdx_storage_close(parent);
            return rc;
        }
        rc = check_parent(disk, err);
        if (rc < 0)
            return rc;
    }
}

static int
read_below(void *context, void *buffer, size_t length, uint64_t guest_offset, struct vhdx_error *err)
{
    return vx_disk_read_from(context, 1, buffer, length, guest_offset, err);
}

int
vhdx_disk_open_storage(struct vhdx_disk **out, struct vhdx_storage *storage,
                       const struct vhdx_open_options *options, struct vhdx_error *err)
{
    static const struct vhdx_open_options defaults;
    struct vhdx_disk *disk = vx_alloc_zeroed(1, sizeof *disk);
    int               rc;

    if (disk == NULL)
        return vx_fail_memory(err, "a disk");
    if (options == NULL)
        options = &defaults;
    rc = open_layer(disk, storage, options, err);
    if (rc == VHDX_OK)
        rc = open_parents(disk, options, err);
    if (rc < 0) {
        close_layers(disk, 1, NULL); /* the top storage stays the caller's */
        if (disk->layer_count > 0 && disk->layers[0].image != NULL)
            vx_image_close(disk->layers[0].image, NULL);
        if (disk->layer_count > 0)
            vx_vhd_close(disk->layers[0].vhd);
        free_disk(disk);
        return rc;
    }
    disk->size = disk->layers[0].size;
    disk->is_writable = (options->flags & VHDX_OPEN_WRITE) != 0;
    if (disk->layers[0].image != NULL)
        vx_image_set_below(disk->layers[0].image, &(struct vx_below){ .read = read_below, .context = disk });
    *out = disk;
    return VHDX_OK;
}

static unsigned
storage_flags(const struct vhdx_open_options *options)
{
    unsigned flags = 0;

    if (options != NULL && (options->flags & VHDX_OPEN_WRITE) != 0)
        flags |= VHDX_STORAGE_WRITE;
    if (options != NULL && (options->flags & VHDX_OPEN_FORCE_SHARE) != 0)
        flags |= VHDX_STORAGE_FORCE_SHARE;
    return flags;
}

int
vhdx_disk_open_path(struct vhdx_disk **out, const char *path, const struct vhdx_open_options *options,
                    struct vhdx_error *err)
{
    struct vhdx_storage *storage;
    int                  rc = vhdx_storage_open_path(&storage, path, storage_flags(options), err);

    if (rc < 0)
        return rc;
    rc = vhdx_disk_open_storage(out, storage, options, err);
    if (rc < 0)
        vhdx_storage_close(storage);
    return rc;
}

int
vhdx_disk_open_descriptor(struct vhdx_disk **out, int descriptor, const char *name,
                          const struct vhdx_open_options *options, struct vhdx_error *err)
{
    struct vhdx_storage *storage;
    int                  rc = vhdx_storage_open_descriptor(&storage, descriptor, name, storage_flags(options), err);

    if (rc < 0) {
        close(descriptor);
        return rc;
    }
    rc = vhdx_disk_open_storage(out, storage, options, err);
    if (rc < 0)
        vhdx_storage_close(storage);
    return rc;
}

int
vhdx_disk_open_layer(struct vhdx_disk **out, const struct vhdx_disk *disk, unsigned depth, struct vhdx_error *err)
{
    struct vhdx_disk *view;

    if (depth == 0 || depth >= disk->layer_count)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "the disk has %u parents, none at depth %u",
                       disk->layer_count - 1, depth);
    view = vx_alloc_zeroed(1, sizeof *view);
    if (view == NULL)
        return vx_fail_memory(err, "a disk");
    view->layers = disk->layers + depth;
    view->layer_count = disk->layer_count - depth;
    view->size = view->layers[0].size;
    view->borrows_layers = true;
    view->lacks_parent = disk->lacks_parent;
    *out = view;
    return VHDX_OK;
}
