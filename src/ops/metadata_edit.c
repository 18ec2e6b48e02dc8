/* See metadata_edit.h. */
#include "ops/metadata_edit.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/guid.h"
#include "base/memory.h"
#include "format/sort.h"
#include "ops/edits.h"

#define NO_ENTRY   UINT32_MAX
#define ENTRY_SIZE 32u
#define MOST_LENGTH (128 * (uint64_t)VX_MIB) /* of a region: V89 */
#define WINDOW     ((size_t)256 * 1024)     /* of a region that is written anew */

/* --- the computing --- */

/* Entries that take space, to be sorted by where they lie. */
struct order {
    const struct vx_metadata_table *table;
    uint32_t                        count;
    uint16_t                        indexes[VX_MAX_METADATA_ENTRIES];
};

static bool
lies_before(const void *context, size_t a, size_t b)
{
    const struct order *order = context;

    return order->table->entries[order->indexes[a]].offset < order->table->entries[order->indexes[b]].offset;
}

static void
swap_indexes(void *context, size_t a, size_t b)
{
    struct order *order = context;
    uint16_t      kept = order->indexes[a];

    order->indexes[a] = order->indexes[b];
    order->indexes[b] = kept;
}

uint32_t
vx_metadata_find_gap(const struct vx_metadata_table *table, uint32_t region_length, uint32_t length, uint32_t except)
{
    static const struct vx_sort_order by_offset = { lies_before, swap_indexes };
    struct order order = { .table = table };
    uint64_t     at = VX_METADATA_TABLE_SIZE;

    for (uint32_t i = 0; i < table->entry_count; i++) {
        if (i != except && table->entries[i].length > 0)
            order.indexes[order.count++] = (uint16_t)i;
    }
    vx_sort(&order, order.count, &by_offset);
    for (uint32_t i = 0; i < order.count; i++) {
        const struct vx_metadata_entry *entry = &table->entries[order.indexes[i]];

        if (entry->offset >= at && entry->offset - at >= length)
            return (uint32_t)at;
        at = vx_max_u64(at, (uint64_t)entry->offset + entry->length);
    }
    return at + length <= region_length ? (uint32_t)at : 0;
}

uint32_t
vx_metadata_index_of(const struct vx_metadata_table *table, const struct vhdx_guid *item_id, bool is_user)
{
    for (uint32_t i = 0; i < table->entry_count; i++) {
        if (((table->entries[i].flags & VX_ITEM_IS_USER) != 0) == is_user &&
            vhdx_guid_equal(&table->entries[i].item_id, item_id))
            return i;
    }
    return NO_ENTRY;
}

void
vx_metadata_remove_entry(struct vx_metadata_table *table, uint32_t index)
{
    table->entry_count--;
    memmove(&table->entries[index], &table->entries[index + 1],
            (table->entry_count - index) * sizeof table->entries[0]);
}

/* --- the edit --- */

int
vx_metadata_edit_new(struct vx_metadata_edit **out, struct vx_image *image, struct vhdx_error *err)
{
    struct vx_metadata_edit *edit = vx_alloc_zeroed(1, sizeof *edit);
    int                      rc;

    if (edit == NULL)
        return vx_fail_memory(err, "an edit of the metadata");
    edit->image = image;
    edit->region = vx_image_metadata_region(image);
    edit->new_length = edit->region.length;
    rc = vx_image_read_structure(image, edit->old_table, sizeof edit->old_table, edit->region.file_offset, err);
    if (rc == VHDX_OK)
        rc = vx_metadata_table_decode(&edit->table, edit->old_table, edit->region.file_offset, err);
    if (rc < 0) {
        vx_metadata_edit_free(edit);
        return rc;
    }
    *out = edit;
    return VHDX_OK;
}

void
vx_metadata_edit_free(struct vx_metadata_edit *edit)
{
    if (edit != NULL) {
        vx_free(edit->edits);
        vx_free(edit->pages);
    }
    vx_free(edit);
}

/* Room for `count` more edits. */
static int
reserve(struct vx_metadata_edit *edit, size_t count, struct vhdx_error *err)
{
    size_t          wanted = edit->edit_count + count;
    struct vx_edit *edits;

    if (wanted <= edit->edit_capacity)
        return VHDX_OK;
    wanted += wanted / 2 + 8;
    edits = vx_realloc_array(edit->edits, wanted, sizeof *edits);
    if (edits == NULL)
        return vx_fail_memory(err, "an edit of the metadata");
    edit->edits = edits;
    edit->edit_capacity = wanted;
    return VHDX_OK;
}

void
vx_metadata_edit_allow_move(struct vx_metadata_edit *edit, size_t page_limit)
{
    edit->may_move = true;
    edit->page_limit = page_limit;
}

bool
vx_metadata_edit_moves(const struct vx_metadata_edit *edit)
{
    return edit->may_move && (edit->new_length > edit->region.length || edit->page_count > edit->page_limit);
}

/* Behind everything else, in a region that grows for it. */
static uint32_t
grow_for(struct vx_metadata_edit *edit, uint32_t index, uint32_t length)
{
    uint64_t end = VX_METADATA_TABLE_SIZE, new_length;

    for (uint32_t i = 0; i < edit->table.entry_count; i++) {
        if (i != index && edit->table.entries[i].length > 0)
            end = vx_max_u64(end, (uint64_t)edit->table.entries[i].offset + edit->table.entries[i].length);
    }
    new_length = vx_round_up(end + length, VX_MIB);
    if (new_length > MOST_LENGTH)
        return 0;
    edit->new_length = (uint32_t)vx_max_u64(new_length, edit->new_length);
    return (uint32_t)end;
}

/* Where the item goes: its old place when it fits (E2), else a gap, else a larger region (E3). */
static int
place(struct vx_metadata_edit *edit, uint32_t index, uint32_t length, uint32_t *offset, struct vhdx_error *err)
{
    const struct vx_metadata_entry *old = index != NO_ENTRY ? &edit->table.entries[index] : NULL;

    *offset = 0;
    if (length == 0)
        return VHDX_OK;
    if (old != NULL && length <= old->length) {
        *offset = old->offset;
        return VHDX_OK;
    }
    *offset = vx_metadata_find_gap(&edit->table, edit->new_length, length, index);
    if (*offset == 0 && edit->may_move)
        *offset = grow_for(edit, index, length);
    if (*offset == 0)
        return vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, edit->region.file_offset,
                       "the metadata region of %" PRIu32 " bytes has no gap for an item of %" PRIu32 " bytes%s",
                       edit->region.length, length, edit->may_move ? ", and it would grow beyond 128 MiB (V89)" : "");
    return VHDX_OK;
}

int
vx_metadata_edit_set(struct vx_metadata_edit *edit, const struct vhdx_guid *item_id, uint32_t flags,
                     const uint8_t *bytes, uint32_t length, struct vhdx_error *err)
{
    uint32_t index = vx_metadata_index_of(&edit->table, item_id, (flags & VX_ITEM_IS_USER) != 0);
    uint32_t offset;
    int      rc = place(edit, index, length, &offset, err);

    if (rc == VHDX_OK)
        rc = reserve(edit, 1, err);
    if (rc == VHDX_OK && index == NO_ENTRY && edit->table.entry_count == VX_MAX_METADATA_ENTRIES)
        rc = vx_fail(err, VHDX_E_LIMIT, VHDX_PART_METADATA, edit->region.file_offset,
                     "the metadata table is full: it has %u entries", VX_MAX_METADATA_ENTRIES);
    if (rc < 0)
        return rc;
    if (index == NO_ENTRY)
        index = edit->table.entry_count++;
    edit->table.entries[index] = (struct vx_metadata_entry){ .item_id = *item_id, .offset = offset,
                                                             .length = length, .flags = flags };
    if (length > 0)
        edit->edits[edit->edit_count++] = (struct vx_edit){ .file_offset = edit->region.file_offset + offset,
                                                            .length = length, .bytes = bytes };
    return VHDX_OK;
}

void
vx_metadata_edit_remove(struct vx_metadata_edit *edit, const struct vhdx_guid *item_id, bool is_user)
{
    uint32_t index = vx_metadata_index_of(&edit->table, item_id, is_user);

    if (index != NO_ENTRY)
        vx_metadata_remove_entry(&edit->table, index);
}

/* The table as bytes.  What is no entry before or after stays as it is: Hyper-V leaves stale slots behind, and nobody
 * reads them. */
static void
encode_table(struct vx_metadata_edit *edit)
{
    uint32_t count = vx_le16(edit->old_table + 10);
    size_t   used;

    if (count < edit->table.entry_count)
        count = edit->table.entry_count;
    used = ENTRY_SIZE * ((size_t)count + 1); /* the table's header is as large as an entry */
    vx_metadata_table_encode(edit->new_table, &edit->table);
    memcpy(edit->new_table + 12, edit->old_table + 12, ENTRY_SIZE - 12);
    memcpy(edit->new_table + used, edit->old_table + used, VX_METADATA_TABLE_SIZE - used);
}

/* A page as it is; zeros past the end of the region, where it grows. */
static int
read_page(const struct vx_metadata_edit *edit, uint64_t file_offset, uint8_t bytes[VX_PAGE], struct vhdx_error *err)
{
    if (file_offset < edit->region.file_offset + edit->region.length)
        return vx_image_read_structure(edit->image, bytes, VX_PAGE, file_offset, err);
    memset(bytes, 0, VX_PAGE);
    return VHDX_OK;
}

/* The page as it will be, read from the image when it is first asked for. */
static int
get_page(struct vx_metadata_edit *edit, uint64_t file_offset, struct vx_metadata_page **out, struct vhdx_error *err)
{
    struct vx_metadata_page *pages;

    for (size_t i = 0; i < edit->page_count; i++) {
        *out = &edit->pages[i];
        if ((*out)->file_offset == file_offset)
            return VHDX_OK;
    }
    if (edit->page_count == edit->page_capacity) {
        pages = vx_realloc_array(edit->pages, edit->page_capacity * 2 + 8, sizeof *pages);
        if (pages == NULL)
            return vx_fail_memory(err, "an edit of the metadata");
        edit->pages = pages;
        edit->page_capacity = edit->page_capacity * 2 + 8;
    }
    *out = &edit->pages[edit->page_count++];
    (*out)->file_offset = file_offset;
    return read_page(edit, file_offset, (*out)->bytes, err);
}

static int
lay_over_pages(struct vx_metadata_edit *edit, const struct vx_edit *change, struct vhdx_error *err)
{
    const uint8_t *bytes = change->bytes;
    int            rc = VHDX_OK;

    for (uint64_t done = 0; done < change->length && rc == VHDX_OK;) {
        uint64_t                 at = change->file_offset + done, in_page = at % VX_PAGE;
        size_t                   n = (size_t)vx_min_u64(VX_PAGE - in_page, change->length - done);
        struct vx_metadata_page *page = NULL;

        rc = get_page(edit, at - in_page, &page, err);
        if (rc == VHDX_OK)
            memcpy(page->bytes + in_page, bytes + done, n);
        done += n;
    }
    return rc;
}

/* Only pages that the image holds differently stay. */
static int
drop_unchanged(struct vx_metadata_edit *edit, struct vhdx_error *err)
{
    size_t kept = 0;

    for (size_t i = 0; i < edit->page_count; i++) {
        uint8_t now[VX_PAGE];
        int     rc = read_page(edit, edit->pages[i].file_offset, now, err);

        if (rc < 0)
            return rc;
        if (memcmp(now, edit->pages[i].bytes, sizeof now) == 0)
            continue;
        if (kept != i)
            edit->pages[kept] = edit->pages[i];
        kept++;
    }
    edit->page_count = kept;
    return VHDX_OK;
}

int
vx_metadata_edit_prepare(struct vx_metadata_edit *edit, size_t page_limit, struct vhdx_error *err)
{
    const struct vx_edit table = { .file_offset = edit->region.file_offset, .length = VX_METADATA_TABLE_SIZE,
                                   .bytes = edit->new_table };
    int rc;

    encode_table(edit);
    edit->page_count = 0;
    rc = lay_over_pages(edit, &table, err);
    for (size_t i = 0; i < edit->edit_count && rc == VHDX_OK; i++)
        rc = lay_over_pages(edit, &edit->edits[i], err);
    if (rc == VHDX_OK)
        rc = drop_unchanged(edit, err);
    if (rc == VHDX_OK && edit->page_count > page_limit)
        rc = vx_fail(err, VHDX_E_LIMIT, VHDX_PART_LOG, VHDX_NO_OFFSET,
                     "the log is too small: the metadata changes in %zu pages and an entry holds %zu (L14)",
                     edit->page_count, page_limit);
    return rc;
}

/* --- a new region (E3) --- */

/* [at, at + length) of the region as it will be. */
static int
fill_window(const struct vx_metadata_edit *edit, uint8_t *window, uint64_t at, size_t length, struct vhdx_error *err)
{
    uint64_t begin = edit->region.file_offset + at;
    int      rc = VHDX_OK;

    for (size_t i = 0; i < length && rc == VHDX_OK; i += VX_PAGE)
        rc = read_page(edit, begin + i, window + i, err);
    for (size_t i = 0; i < edit->page_count && rc == VHDX_OK; i++) {
        const struct vx_metadata_page *page = &edit->pages[i];

        if (page->file_offset >= begin && page->file_offset - begin < length)
            memcpy(window + (page->file_offset - begin), page->bytes, VX_PAGE);
    }
    return rc;
}

/* The space reads as zeros: what is zero need not be written. */
static int
write_region(const struct vx_metadata_edit *edit, uint64_t file_offset, struct vhdx_error *err)
{
    uint8_t *window = vx_alloc(WINDOW);
    int      rc = VHDX_OK;

    if (window == NULL)
        return vx_fail_memory(err, "the metadata region");
    for (uint64_t at = 0; at < edit->new_length && rc == VHDX_OK; at += WINDOW) {
        size_t length = (size_t)vx_min_u64(WINDOW, edit->new_length - at);

        rc = fill_window(edit, window, at, length, err);
        if (rc == VHDX_OK && !vx_is_zero(window, length))
            rc = vx_image_write_space(edit->image, window, length, file_offset + at, err);
    }
    vx_free(window);
    return rc;
}

static int
name_region(struct vx_metadata_edit *edit, uint64_t file_offset, struct vhdx_error *err)
{
    struct vx_edits edits = { .count = 0 };
    uint8_t        *tables = vx_alloc(2 * (size_t)VX_REGION_TABLE_SIZE);
    int             rc;

    if (tables == NULL)
        return vx_fail_memory(err, "region tables");
    rc = vx_edits_move_region(&edits, edit->image, &vx_guid_region_metadata, file_offset, edit->new_length, tables, err);
    if (rc == VHDX_OK)
        rc = vx_image_edit(edit->image, edits.items, edits.count, err);
    vx_free(edits.items);
    vx_free(tables);
    return rc;
}

static int
move_region(struct vx_metadata_edit *edit, struct vhdx_error *err)
{
    uint64_t file_offset;
    int      rc = vx_image_take_space(edit->image, edit->new_length, true, &file_offset, err);

    if (rc < 0)
        return rc;
    rc = write_region(edit, file_offset, err);
    if (rc == VHDX_OK)
        rc = name_region(edit, file_offset, err);
    if (rc < 0)
        vx_image_give_back_space(edit->image, file_offset, edit->new_length);
    else
        vx_image_let_go_structure(edit->image, edit->region.file_offset, edit->region.length);
    return rc;
}

int
vx_metadata_edit_commit(struct vx_metadata_edit *edit, struct vhdx_error *err)
{
    struct vx_edit *edits;
    int             rc = vx_metadata_edit_prepare(edit, SIZE_MAX, err); /* the engine knows its limit */

    if (rc < 0)
        return rc;
    if (vx_metadata_edit_moves(edit))
        return move_region(edit, err);
    edits = vx_alloc_zeroed(edit->page_count + 1, sizeof *edits);
    if (edits == NULL)
        return vx_fail_memory(err, "an edit of the metadata");
    for (size_t i = 0; i < edit->page_count; i++)
        edits[i] = (struct vx_edit){ .file_offset = edit->pages[i].file_offset, .length = VX_PAGE,
                                     .bytes = edit->pages[i].bytes };
    rc = vx_image_edit(edit->image, edits, edit->page_count, err);
    vx_free(edits);
    return rc;
}
