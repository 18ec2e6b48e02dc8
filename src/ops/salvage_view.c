/*
 * The view: a sound image made of what was found, as a storage.  The engine opens it like any other image, so reading,
 * sector bitmaps and chains of parents need nothing here.
 *
 *      0            identifier, headers without a log, region tables: made
 *      1 MiB        the file as it is, or as its log leaves it: blocks and sector bitmaps stay where they are
 *      its end      zeros, as far as a block that was cut off reaches
 *      ...          metadata: made
 *      ...          the block table: every page of it is decided when it is read (salvage_decide.c)
 */
#include "ops/salvage.h"

#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/identifier.h"
#include "format/locator.h"
#include "image/image.h"
#include "storage/storage.h"

#define HEAD_LENGTH (VX_REGION_TABLE_OFFSET(1) + VX_REGION_TABLE_SIZE)

struct view {
    struct vhdx_storage  storage;
    struct vhdx_salvage *salvage;
};

/* --- reading --- */

static int
read_table(struct vhdx_salvage *s, uint8_t *buffer, size_t length, uint64_t table_offset, struct vhdx_error *err)
{
    struct vx_salvage_decision decisions[VX_BAT_PAGE_ENTRIES];

    while (length > 0) {
        uint64_t first = table_offset / VX_PAGE * VX_BAT_PAGE_ENTRIES;
        size_t   inside = (size_t)(table_offset % VX_PAGE), part = (size_t)vx_min_u64(length, VX_PAGE - inside);
        size_t   count = first < s->geometry.bat_entry_count
                             ? (size_t)vx_min_u64(VX_BAT_PAGE_ENTRIES, s->geometry.bat_entry_count - first) : 0;
        uint8_t  page[VX_PAGE] = { 0 };
        int      rc = count > 0 ? vx_salvage_decide(s, first, count, decisions, err) : VHDX_OK;

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++)
            vx_put_le64(page + 8 * i, decisions[i].raw);
        memcpy(buffer, page + inside, part);
        buffer += part;
        length -= part;
        table_offset += part;
    }
    return VHDX_OK;
}

static void
read_bytes(uint8_t *buffer, size_t length, uint64_t offset, const uint8_t *bytes, uint64_t bytes_length)
{
    size_t there = offset < bytes_length ? (size_t)vx_min_u64(length, bytes_length - offset) : 0;

    if (there > 0)
        memcpy(buffer, bytes + offset, there);
    memset(buffer + there, 0, length - there);
}

/* What begins at an offset of the view: how far it goes is *length. */
static int
read_part(struct vhdx_salvage *s, uint8_t *buffer, size_t *length, uint64_t offset, struct vhdx_error *err)
{
    size_t got;

    if (offset < VX_MIB) {
        *length = (size_t)vx_min_u64(*length, VX_MIB - offset);
        read_bytes(buffer, *length, offset, s->view_head, HEAD_LENGTH);
        return VHDX_OK;
    }
    if (offset < s->view_metadata_offset) {
        *length = (size_t)vx_min_u64(*length, s->view_metadata_offset - offset);
        return vx_storage_read_prefix(s->base, buffer, *length, offset, &got, err);
    }
    if (offset < s->view_bat_offset) {
        *length = (size_t)vx_min_u64(*length, s->view_bat_offset - offset);
        read_bytes(buffer, *length, offset - s->view_metadata_offset, s->view_metadata, s->view_metadata_bytes);
        return VHDX_OK;
    }
    return read_table(s, buffer, *length, offset - s->view_bat_offset, err);
}

static int
read_vector(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct vhdx_salvage *s = ((struct view *)storage)->salvage;

    for (int i = 0; i < vector_count; i++) {
        uint8_t *buffer = vector[i].iov_base;
        size_t   left = vector[i].iov_len;

        while (left > 0) {
            size_t part = left;
            int    rc = read_part(s, buffer, &part, file_offset, err);

            if (rc < 0)
                return rc;
            buffer += part;
            left -= part;
            file_offset += part;
        }
    }
    return VHDX_OK;
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)err;
    *out = ((struct view *)storage)->salvage->view_length;
    return VHDX_OK;
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end, struct vhdx_error *err)
{
    struct vhdx_salvage *s = ((struct view *)storage)->salvage;
    int                  rc;

    *start = vx_min_u64(file_offset, s->view_length);
    *end = file_offset < VX_MIB ? VX_MIB : s->view_length;
    if (file_offset < VX_MIB || file_offset >= s->view_metadata_offset)
        return VHDX_OK;
    rc = vx_storage_next_data(s->base, file_offset, start, end, err);
    if (rc == VHDX_OK && (*start == *end || *start >= s->view_metadata_offset)) {
        *start = s->view_metadata_offset;
        *end = s->view_length;
    }
    return rc;
}

static void
close_view(struct vhdx_storage *storage)
{
    vx_free(storage);
}

/* The rest is never called: the trait says read-only. */
static const struct vhdx_storage_methods view_methods = {
    .readv = read_vector,
    .get_size = get_size,
    .next_data = next_data,
    .close = close_view,
};

/* --- making it --- */

static void
lay_out(struct vhdx_salvage *s)
{
    s->view_metadata_offset = s->file_length + VX_MAX_BLOCK_SIZE;
    s->view_metadata_length = 2 * VX_MIB;
    s->view_bat_offset = s->view_metadata_offset + s->view_metadata_length;
    s->view_bat_length = vx_geometry_bat_region_length(&s->geometry);
    s->view_length = s->view_bat_offset + s->view_bat_length;
}

static int
make_head(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vx_header        header = { .version = 1 };
    struct vx_region_table *table = vx_alloc_zeroed(1, sizeof *table);
    int                     rc = vx_guid_random(&header.data_write_guid, err);

    s->view_head = vx_alloc_zeroed(1, HEAD_LENGTH);
    if (rc == VHDX_OK && (table == NULL || s->view_head == NULL))
        rc = vx_fail_memory(err, "the view of the file");
    if (rc == VHDX_OK) {
        table->region_count = 2;
        table->regions[0] = (struct vx_region){ vx_guid_region_bat, s->view_bat_offset, (uint32_t)s->view_bat_length, 1 };
        table->regions[1] = (struct vx_region){ vx_guid_region_metadata, s->view_metadata_offset,
                                                (uint32_t)s->view_metadata_length, 1 };
        header.file_write_guid = header.data_write_guid;
        vx_identifier_encode(s->view_head, "libvhdx salvage");
        for (unsigned i = 0; i < 2; i++) {
            header.sequence_number = i + 1;
            vx_header_encode(s->view_head + VX_HEADER_OFFSET(i), &header);
            vx_region_table_encode(s->view_head + VX_REGION_TABLE_OFFSET(i), table);
        }
    }
    vx_free(table);
    return rc;
}

int
vx_salvage_make_view(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct view *view;
    int          rc;

    lay_out(s);
    rc = make_head(s, err);
    if (rc < 0)
        return rc;
    s->view_metadata_bytes = VX_METADATA_TABLE_SIZE + VX_PAGE + s->locator_length;
    s->view_metadata = vx_alloc_zeroed(1, s->view_metadata_bytes);
    view = vx_alloc_zeroed(1, sizeof *view);
    if (s->view_metadata == NULL || view == NULL) {
        vx_free(view);
        return vx_fail_memory(err, "the view of the file");
    }
    view->storage.methods = &view_methods;
    view->storage.traits = (struct vhdx_storage_traits){ .is_read_only = true, .atomic_unit = 512 };
    view->storage.name = s->source->name;
    view->storage.identity = s->source->identity;
    view->salvage = s;
    s->view = &view->storage;
    return VHDX_OK;
}

/* --- parents --- */

struct chain {
    struct vhdx_salvage *s;
    struct vhdx_storage *first; /* the parent to hand out, or NULL: ask the caller's resolver */
};

static int
resolve(void *context, const struct vhdx_parent_query *query, struct vhdx_storage **out, struct vhdx_error *err)
{
    struct chain *chain = context;

    if (query->depth == 0 && chain->first != NULL) {
        *out = chain->first;
        chain->first = NULL;
        return VHDX_OK;
    }
    if (chain->s->options.resolve_parent == NULL)
        return vx_fail(err, VHDX_E_NO_PARENT, VHDX_PART_CHAIN, VHDX_NO_OFFSET, "no parent of %s was opened",
                       query->child_name);
    return chain->s->options.resolve_parent(chain->s->options.resolve_context, query, out, err);
}

static void
set_metadata(struct vhdx_salvage *s, const uint8_t *locator, uint32_t length)
{
    struct vx_metadata metadata = s->metadata;
    size_t             used;

    metadata.has_parent = s->geometry.is_differencing;
    metadata.leave_blocks_allocated = s->geometry.is_fixed;
    memset(s->view_metadata, 0, s->view_metadata_bytes);
    vx_metadata_encode_new(s->view_metadata, &used, &metadata, metadata.has_parent ? locator : NULL, length);
}

static int
open_view(struct vhdx_salvage *s, struct vhdx_storage *first, struct vhdx_error *err)
{
    struct chain                   chain = { s, first };
    const struct vhdx_open_options options = { .format = VHDX_FORMAT_VHDX, .metadata_cache_bytes = 4 * VX_MIB,
                                               .resolve_parent = resolve, .resolve_context = &chain };
    int                            rc = vhdx_disk_open_storage(&s->disk, s->view, &options, err);

    vhdx_storage_close(chain.first); /* not asked for */
    return rc;
}

/* The DataWriteGuid by which a parent is known to its children. */
static int
identify(struct vhdx_storage *parent, struct vhdx_guid *out, struct vhdx_error *err)
{
    const struct vx_image_options options = { .metadata_cache_bytes = VX_MIB };
    struct vx_image              *image;
    int                           rc = vx_image_open(&image, parent, &options, err);

    if (rc < 0)
        return rc;
    *out = vx_image_data_write_guid(image);
    return vx_image_close(image, err);
}

/* Does the locator that was found ask for this parent? */
static bool
is_proven(struct vhdx_salvage *s, const struct vhdx_guid *guid)
{
    struct vx_locator locator;

    if (s->locator == NULL || !s->has_metadata)
        return false;
    vx_locator_decode(&locator, s->locator, s->locator_length, VHDX_NO_OFFSET, NULL);
    return (locator.has_linkage && vhdx_guid_equal(&locator.linkage, guid))
           || (locator.has_linkage2 && !vhdx_guid_is_zero(guid) && vhdx_guid_equal(&locator.linkage2, guid));
}

/* Open over this parent, whatever the image says of another; it is the library's from here on. */
static int
open_over(struct vhdx_salvage *s, struct vhdx_storage *parent, struct vhdx_error *err)
{
    char                         linkage[VHDX_GUID_TEXT_SIZE + 2] = "{";
    const struct vx_locator_text pairs[] = { { "parent_linkage", linkage }, { "relative_path", ".\\parent.vhdx" } };
    struct vhdx_guid             guid;
    uint8_t                      item[512];
    uint32_t                     length;
    int                          rc = identify(parent, &guid, err);

    if (rc == VHDX_OK) {
        s->parent_is_unproven = !is_proven(s, &guid);
        vhdx_guid_format(linkage + 1, &guid);
        strcat(linkage, "}");
        if (!vx_locator_encode(item, sizeof item, &length, pairs, sizeof pairs / sizeof pairs[0]))
            rc = vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOCATOR, VHDX_NO_OFFSET, "a locator cannot be made");
    }
    if (rc < 0) {
        vhdx_storage_close(parent);
        return rc;
    }
    set_metadata(s, item, length);
    return open_view(s, parent, err);
}

/* Over a disk of zeros, of which nothing is shown as data: what lies there is lost. */
static int
open_over_nothing(struct vhdx_salvage *s, struct vhdx_error *err)
{
    const struct vhdx_create_options options = {
        .type = VHDX_TYPE_DYNAMIC, .virtual_size = s->geometry.virtual_size, .block_size = VX_MAX_BLOCK_SIZE,
        .logical_sector_size = s->geometry.logical_sector_size, .physical_sector_size = 4096,
    };
    struct vhdx_storage *nothing;
    int                  rc = vhdx_storage_new_memory(&nothing, 0, err);

    if (rc < 0)
        return rc;
    rc = vhdx_create_on_storage(nothing, &options, NULL, err);
    if (rc < 0) {
        vhdx_storage_close(nothing);
        return rc;
    }
    s->parent_is_missing = true;
    return open_over(s, nothing, err);
}

static int
open_over_given(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vhdx_storage *parent;
    int                  rc = vhdx_storage_open_path(&parent, s->options.parent_path, 0, err);

    if (rc == VHDX_OK)
        rc = open_over(s, parent, err);
    if (rc < 0) {
        vx_error_prefix(err, s->options.parent_path);
        return rc;
    }
    vx_salvage_note(s, VHDX_PART_CHAIN, s->parent_is_unproven ? VHDX_SALVAGE_IS_INFERRED : VHDX_SALVAGE_IS_SOUND,
                    VHDX_NO_OFFSET, "the parent is the one you named%s",
                    s->parent_is_unproven ? "; that it is the right one cannot be proven" : "");
    return VHDX_OK;
}

int
vx_salvage_open_disk(struct vhdx_salvage *s, struct vhdx_error *err)
{
    struct vhdx_error failure;
    int               rc;

    if (!s->geometry.is_differencing) {
        set_metadata(s, NULL, 0);
        return open_view(s, NULL, err);
    }
    if (s->options.parent_path != NULL)
        return open_over_given(s, err);
    failure.message[0] = '\0';
    if (s->options.resolve_parent != NULL && s->locator != NULL) {
        set_metadata(s, s->locator, s->locator_length);
        rc = open_view(s, NULL, &failure);
        if (rc == VHDX_OK || rc == VHDX_E_NO_MEMORY || rc == VHDX_E_CANCELLED) {
            if (rc < 0 && err != NULL)
                *err = failure;
            return rc;
        }
    }
    vx_salvage_note(s, VHDX_PART_CHAIN, VHDX_SALVAGE_IS_MISSING, VHDX_NO_OFFSET, "no parent%s%s",
                    failure.message[0] != '\0' ? ": " : s->locator == NULL ? ": nothing names it" : "", failure.message);
    return open_over_nothing(s, err);
}
