/* See stack.h. */
#include "ops/stack.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "storage/storage.h"

int
vx_stack_named(int rc, const struct vhdx_storage *storage, struct vhdx_error *err)
{
    if (rc < 0 && err != NULL)
        vx_error_prefix(err, vx_storage_name(storage));
    return rc;
}

int
vx_stack_open_image(struct vx_image **out, struct vhdx_storage *storage, const struct vx_image_options *options,
                    struct vhdx_error *err)
{
    return vx_stack_named(vx_image_open(out, storage, options, err), storage, err);
}

enum vx_link
vx_stack_link(struct vx_image *child, const struct vhdx_guid *parent_guid)
{
    const struct vx_locator *locator = vx_image_locator(child);

    if (vhdx_guid_equal(parent_guid, &locator->linkage))
        return VX_LINK_FIRST;
    if (!vhdx_guid_is_zero(&locator->linkage2) && vhdx_guid_equal(parent_guid, &locator->linkage2))
        return VX_LINK_SECOND;
    return VX_LINK_NONE;
}

int
vx_stack_check_link(struct vx_image *child, const char *child_name, struct vx_image *parent, const char *parent_name,
                    struct vhdx_error *err)
{
    struct vhdx_guid guid = vx_image_data_write_guid(parent);
    char             has[VHDX_GUID_TEXT_SIZE], wants[VHDX_GUID_TEXT_SIZE];

    if (!vx_image_geometry(child)->is_differencing)
        return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "%s has no parent", child_name);
    if (vx_stack_link(child, &guid) == VX_LINK_NONE) {
        vhdx_guid_format(has, &guid);
        vhdx_guid_format(wants, &vx_image_locator(child)->linkage);
        return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "%s has DataWriteGuid %s and %s asks for %s (V122)", parent_name, has, child_name, wants);
    }
    if (vx_image_geometry(parent)->logical_sector_size != vx_image_geometry(child)->logical_sector_size)
        return vx_fail(err, VHDX_E_BAD_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "%s has another logical sector size than its child %s (V123)", parent_name, child_name);
    return VHDX_OK;
}

static int
open_layer(struct vx_layer *layer, struct vhdx_storage *storage, const struct vx_image_options *options,
           struct vhdx_error *err)
{
    int rc;

    layer->storage = storage;
    layer->name = vx_strdup(vx_storage_name(storage));
    if (layer->name == NULL)
        return vx_fail_memory(err, "a layer of the chain");
    rc = vx_stack_open_image(&layer->image, storage, options, err);
    if (rc == VHDX_OK)
        layer->size = vx_image_geometry(layer->image)->virtual_size;
    return rc;
}

static int
open_layers(struct vx_stack *stack, struct vhdx_storage *const *storages, unsigned count,
            const struct vx_image_options *top, uint32_t log_length_for_tests, struct vhdx_error *err)
{
    const struct vx_image_options below = { .log_length_for_tests = log_length_for_tests };
    struct vhdx_disk             *disk = &stack->disk;

    disk->layers = vx_alloc_zeroed(count, sizeof *disk->layers);
    if (disk->layers == NULL)
        return vx_fail_memory(err, "the layers of the chain");
    disk->layer_capacity = count;
    for (unsigned i = 0; i < count; i++) {
        struct vx_layer *layer = &disk->layers[i];
        int rc = open_layer(layer, storages[i], i == 0 && top != NULL ? top : &below, err);

        disk->layer_count++;
        if (rc == VHDX_OK && i > 0)
            rc = vx_stack_check_link(layer[-1].image, layer[-1].name, layer->image, layer->name, err);
        if (rc < 0)
            return rc;
    }
    disk->size = disk->layers[0].size;
    disk->lacks_parent = vx_image_geometry(disk->layers[count - 1].image)->is_differencing;
    return VHDX_OK;
}

int
vx_stack_open(struct vx_stack **out, struct vhdx_storage *const *storages, unsigned count,
              const struct vx_image_options *top, uint32_t log_length_for_tests, struct vhdx_error *err)
{
    struct vx_stack *stack = vx_alloc_zeroed(1, sizeof *stack);
    int              rc;

    if (stack == NULL)
        return vx_fail_memory(err, "the layers of the chain");
    rc = open_layers(stack, storages, count, top, log_length_for_tests, err);
    if (rc < 0) {
        vx_stack_close(stack, NULL);
        return rc;
    }
    *out = stack;
    return VHDX_OK;
}

int
vx_stack_close(struct vx_stack *stack, struct vhdx_error *err)
{
    int rc = VHDX_OK;

    if (stack == NULL)
        return VHDX_OK;
    for (unsigned i = stack->disk.layer_count; i-- > 0;) {
        if (stack->disk.layers[i].image != NULL)
            rc = vx_image_close(stack->disk.layers[i].image, i == 0 ? err : NULL);
        if (i == 0)
            vx_stack_named(rc, stack->disk.layers[0].storage, err);
        vx_free(stack->disk.layers[i].name);
    }
    vx_free(stack->disk.layers);
    vx_free(stack);
    return rc;
}
