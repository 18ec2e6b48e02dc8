/*
 * Creating a differencing image (docs/vhdx-format.md 9.3).
 *
 *   C1  The parent is open, with a reader's locks, until the child is there: nobody changes its DataWriteGuid
 *       meanwhile.
 *   C2  Every item that belongs to the virtual disk goes along, also those nobody here knows (2.8); items of the
 *       file and the user's own stay behind.
 *   C3  The child is never written over its own parent, nor over what that one stands on.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <vhdx/chain.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/disk.h"
#include "format/locator.h"
#include "ops/create.h"
#include "ops/parent_keys.h"
#include "storage/storage.h"

#define DEFAULT_BLOCK_SIZE ((uint32_t)(2 * VX_MIB))
#define MOST_ITEMS_LENGTH  ((size_t)(16 * VX_MIB)) /* of items nobody here knows; a stranger's file decides */
#define LOCATOR_SIZE       ((size_t)(96 * VX_KIB)) /* three paths of 4095 bytes, as UTF-16, and two GUIDs */

struct fork {
    struct vhdx_parents      *parents; /* NULL: no policy was given */
    struct vhdx_disk         *parent;
    struct vx_image          *image; /* the parent's own */
    struct vx_parent_keys     keys;
    uint8_t                  *locator;
    struct vx_metadata_table *table;
    uint8_t                  *bytes; /* of the items */
    struct vx_new_item       *items;
    size_t                    item_count;
};

/* The parent alone, or with its own chain where the caller says how to find it: nobody forks a broken chain. */
static int
open_parent(struct fork *fork, const char *path, const struct vhdx_parents_options *parents, struct vhdx_error *err)
{
    struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    int                      rc;

    if (parents != NULL) {
        rc = vhdx_parents_new(&fork->parents, parents, err);
        if (rc < 0)
            return rc;
        if (parents->mode != VHDX_PARENTS_NONE) {
            options.flags = 0;
            options.resolve_parent = vhdx_parents_resolve;
            options.resolve_context = fork->parents;
        }
    }
    rc = vhdx_disk_open_path(&fork->parent, path, &options, err);
    if (rc < 0)
        vx_error_prefix(err, path);
    else
        fork->image = fork->parent->layers[0].image;
    return rc;
}

/* C3 */
static int
refuse_own_parents(const struct fork *fork, const char *path, struct vhdx_error *err)
{
    struct vhdx_storage_identity target = { .is_known = true };
    struct stat                  status;

    if (stat(path, &status) < 0)
        return VHDX_OK; /* nothing is there */
    target.device = (uint64_t)status.st_dev;
    target.file_number = (uint64_t)status.st_ino;
    for (unsigned i = 0; i < fork->parent->layer_count; i++)
        if (vx_identity_equal(&fork->parent->layers[i].storage->identity, &target))
            return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                           "%s is the parent itself, or one of its own parents", path);
    return VHDX_OK;
}

static int
choose_options(struct vhdx_create_options *out, const struct vhdx_create_options *given, const struct fork *fork,
               struct vhdx_error *err)
{
    const struct vx_metadata *parent = vx_image_metadata(fork->image);

    *out = given != NULL ? *given : (struct vhdx_create_options){ 0 };
    out->type = VHDX_TYPE_DIFFERENCING;
    if (out->virtual_size == 0)
        out->virtual_size = parent->virtual_size;
    if (out->virtual_size < parent->virtual_size)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the disk size, %" PRIu64 " bytes, is below the parent's, %" PRIu64, out->virtual_size,
                       parent->virtual_size);
    if (out->logical_sector_size != 0 && out->logical_sector_size != parent->logical_sector_size)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       "the logical sector size is the parent's, %" PRIu32 " bytes", parent->logical_sector_size);
    if (!vhdx_guid_is_zero(&out->disk_id) && !vhdx_guid_equal(&out->disk_id, &parent->disk_id))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_NONE, VHDX_NO_OFFSET, "the disk id is the parent's");
    out->logical_sector_size = parent->logical_sector_size;
    if (out->physical_sector_size == 0) /* odd files report less than the logical size (2.9) */
        out->physical_sector_size = (uint32_t)vx_max_u64(parent->physical_sector_size, parent->logical_sector_size);
    if (out->block_size == 0)
        out->block_size = DEFAULT_BLOCK_SIZE;
    out->disk_id = parent->disk_id;
    return VHDX_OK;
}

/* --- the locator --- */

static void
format_braced(char out[VHDX_GUID_TEXT_SIZE + 2], const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    snprintf(out, VHDX_GUID_TEXT_SIZE + 2, "{%s}", text);
}

/* Keys in Hyper-V's order. */
static int
make_locator(struct fork *fork, struct vx_new_locator *out, const char *path, const char *parent_path,
             struct vhdx_error *err)
{
    static const struct vhdx_guid zero;
    const struct vhdx_guid        guid = vx_image_data_write_guid(fork->image);
    char                          linkage[VHDX_GUID_TEXT_SIZE + 2], linkage2[VHDX_GUID_TEXT_SIZE + 2];
    struct vx_locator_text        pairs[5];
    size_t                        count = 0;
    int                           rc = vx_parent_keys_make(&fork->keys, path, parent_path, fork->parents, err);

    if (rc < 0)
        return rc;
    format_braced(linkage, &guid);
    format_braced(linkage2, &zero);
    pairs[count++] = (struct vx_locator_text){ "parent_linkage", linkage };
    if (fork->keys.absolute_win32_path[0] != '\0')
        pairs[count++] = (struct vx_locator_text){ "absolute_win32_path", fork->keys.absolute_win32_path };
    pairs[count++] = (struct vx_locator_text){ "relative_path", fork->keys.relative_path };
    if (fork->keys.volume_path[0] != '\0')
        pairs[count++] = (struct vx_locator_text){ "volume_path", fork->keys.volume_path };
    pairs[count++] = (struct vx_locator_text){ "parent_linkage2", linkage2 };

    fork->locator = vx_alloc(LOCATOR_SIZE);
    if (fork->locator == NULL)
        return vx_fail_memory(err, "a parent locator");
    if (!vx_locator_encode(fork->locator, LOCATOR_SIZE, &out->length, pairs, count))
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_LOCATOR, VHDX_NO_OFFSET,
                       "the path of the parent, %s, is not UTF-8", parent_path);
    out->item = fork->locator;
    return VHDX_OK;
}

/* --- items --- */

/* C2; the five that every image has are made anew, with the values of the parent. */
static bool
goes_along(const struct vx_metadata_entry *entry)
{
    const struct vhdx_guid *own[] = {
        &vx_guid_item_file_parameters, &vx_guid_item_virtual_disk_size, &vx_guid_item_virtual_disk_id,
        &vx_guid_item_logical_sector_size, &vx_guid_item_physical_sector_size, &vx_guid_item_parent_locator,
    };

    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if ((entry->flags & VX_ITEM_IS_USER) == 0 && vhdx_guid_equal(&entry->item_id, own[i]))
            return false;
    return (entry->flags & VX_ITEM_IS_VIRTUAL_DISK) != 0;
}

static int
read_table(struct fork *fork, struct vhdx_error *err)
{
    uint64_t at = vx_image_metadata_region(fork->image).file_offset;
    uint8_t *bytes = vx_alloc(VX_METADATA_TABLE_SIZE);
    int      rc;

    fork->table = vx_alloc(sizeof *fork->table);
    if (bytes == NULL || fork->table == NULL)
        rc = vx_fail_memory(err, "the metadata table of the parent");
    else
        rc = vx_image_read_structure(fork->image, bytes, VX_METADATA_TABLE_SIZE, at, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_table_decode(fork->table, bytes, at, err);
    vx_free(bytes);
    return rc;
}

/* How many items go along and how long they are together.  Entries nobody here knows may point anywhere (V82). */
static int
measure_items(struct fork *fork, size_t *length, struct vhdx_error *err)
{
    const struct vx_region region = vx_image_metadata_region(fork->image);
    uint64_t               sum = 0;

    for (uint32_t i = 0; i < fork->table->entry_count; i++) {
        const struct vx_metadata_entry *entry = &fork->table->entries[i];

        if (!goes_along(entry))
            continue;
        if ((uint64_t)entry->offset + entry->length > region.length)
            return vx_fail(err, VHDX_E_BAD_METADATA, VHDX_PART_METADATA, region.file_offset,
                           "an item of the parent lies outside of the metadata region (V82)");
        sum += entry->length;
        fork->item_count++;
    }
    *length = (size_t)vx_min_u64(sum, MOST_ITEMS_LENGTH + 1);
    if (sum > MOST_ITEMS_LENGTH)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, region.file_offset,
                       "the parent has %" PRIu64 " bytes of metadata to copy; a child takes 16 MiB", sum);
    return VHDX_OK;
}

static int
copy_items(struct fork *fork, struct vhdx_error *err)
{
    uint64_t at = vx_image_metadata_region(fork->image).file_offset;
    size_t   length = 0, used = 0;
    int      rc = read_table(fork, err);

    if (rc == VHDX_OK)
        rc = measure_items(fork, &length, err);
    if (rc < 0)
        return rc;
    fork->bytes = vx_alloc(length);
    fork->items = vx_alloc_zeroed(fork->item_count, sizeof *fork->items);
    if (fork->bytes == NULL || fork->items == NULL)
        return vx_fail_memory(err, "the metadata of the parent");

    fork->item_count = 0;
    for (uint32_t i = 0; i < fork->table->entry_count && rc == VHDX_OK; i++) {
        const struct vx_metadata_entry *entry = &fork->table->entries[i];

        if (!goes_along(entry))
            continue;
        if (entry->length > 0)
            rc = vx_image_read_structure(fork->image, fork->bytes + used, entry->length, at + entry->offset, err);
        fork->items[fork->item_count++] = (struct vx_new_item){
            .item_id = entry->item_id, .flags = entry->flags, .length = entry->length, .bytes = fork->bytes + used,
        };
        used += entry->length;
    }
    return rc;
}

static void
fork_free(struct fork *fork)
{
    vhdx_disk_close(fork->parent, NULL);
    vhdx_parents_free(fork->parents);
    vx_free(fork->locator);
    vx_free(fork->table);
    vx_free(fork->bytes);
    vx_free(fork->items);
    vx_free(fork);
}

int
vhdx_create_child_path(const char *path, bool overwrite, const char *parent_path,
                       const struct vhdx_create_options *options, const struct vhdx_parents_options *parents,
                       struct vhdx_error *err)
{
    struct fork               *fork = vx_alloc_zeroed(1, sizeof *fork);
    struct vhdx_create_options chosen;
    struct vx_new_locator      locator = { .length = 0 };
    struct vx_new_layout       layout;
    int                        rc;

    if (fork == NULL)
        return vx_fail_memory(err, "a new child");
    rc = open_parent(fork, parent_path, parents, err);
    if (rc == VHDX_OK)
        rc = refuse_own_parents(fork, path, err);
    if (rc == VHDX_OK)
        rc = choose_options(&chosen, options, fork, err);
    if (rc == VHDX_OK)
        rc = make_locator(fork, &locator, path, parent_path, err);
    if (rc == VHDX_OK)
        rc = vx_new_layout_init(&layout, &chosen, &locator, err);
    if (rc == VHDX_OK)
        rc = copy_items(fork, err);
    if (rc == VHDX_OK) {
        vx_new_layout_add_items(&layout, fork->items, fork->item_count);
        rc = vx_create_path(path, overwrite, &layout, NULL, err);
    }
    fork_free(fork);
    return rc;
}
