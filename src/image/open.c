/*
 * Opening an image, in the order the format itself has: identifier, headers, log, region tables, metadata, geometry, BAT
 * (docs/vhdx-format.md 5.3, 5.4).  Everything is judged through the replayed view first; only when a writable open has
 * nothing against the file is the log replayed into it, so that a refused file stays untouched.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include <vhdx/rules.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/utf16.h"
#include "format/identifier.h"
#include "image/internal.h"
#include "image/replay.h"

#define DEFAULT_CACHE (UINT64_C(32) * VX_MIB)
#define MOST_PAGES_IN_ENTRY 1024u /* 4 MiB of metadata at a time is enough for anyone, however long the log */

/* What only the opening needs. */
struct opening {
    struct vx_image               *image;
    const struct vx_image_options *options;
    uint64_t                       file_length;
    struct vx_header               header;      /* the current one */
    int                            header_index;
    uint64_t                       log_length;  /* as far as it is used */
    struct vx_log_scan             scan;        /* of a dirty log */
    uint8_t                       *bytes;       /* 128 KiB of scratch */
    struct vx_region_table        *regions;
    struct vx_metadata_table      *table;
};

/* A step is over: has it found a reason to refuse? */
static int
verdict(const struct vx_image *image, struct vhdx_error *err)
{
    if (vx_findings_severity(&image->findings) < VHDX_SEVERITY_REFUSE)
        return VHDX_OK;
    if (err != NULL)
        *err = image->findings.worst;
    return image->findings.worst.code;
}

static int
read_identifier(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    uint8_t          bytes[8 + VX_CREATOR_BYTES];
    char             creator[VX_CREATOR_BYTES / 2 * 3 + 1];
    size_t           got;
    int              rc = vx_storage_get_size(image->storage, &o->file_length, err);

    if (rc == VHDX_OK)
        rc = vx_storage_read_prefix(image->storage, bytes, sizeof bytes, 0, &got, err);
    if (rc < 0)
        return rc;
    vx_identifier_judge(bytes, sizeof bytes, &image->findings);
    vx_file_length_judge(o->file_length, &image->findings);
    vx_utf16_to_utf8_lenient(creator, sizeof creator, bytes + 8, VX_CREATOR_BYTES);
    vx_escape_text(image->creator, sizeof image->creator, creator);
    return verdict(image, err);
}

static int
read_headers(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    uint8_t         *copy[2] = { o->bytes, o->bytes + VX_HEADER_SIZE };
    size_t           got;
    struct vx_header judged;
    int              rc;

    for (int i = 0; i < 2; i++) {
        rc = vx_storage_read_prefix(image->storage, copy[i], VX_HEADER_SIZE, VX_HEADER_OFFSET(i), &got, err);
        if (rc < 0)
            return rc;
    }
    rc = vx_header_choose(&o->header, &o->header_index, copy[0], copy[1], &image->findings);
    if (rc < 0)
        return verdict(image, err);
    image->is_dirty = !vhdx_guid_is_zero(&o->header.log_guid);
    image->log_was_ignored = image->is_dirty && o->options->ignore_log;
    judged = o->header;
    if (image->log_was_ignored)
        memset(&judged.log_guid, 0, sizeof judged.log_guid); /* what is not replayed need not be replayable */
    vx_header_judge(&judged, VX_HEADER_OFFSET(o->header_index), o->file_length, &image->findings);
    o->log_length = o->header.log_length;
    if (o->options->log_length_for_tests != 0)
        o->log_length = vx_min_u64(o->log_length, o->options->log_length_for_tests);
    return verdict(image, err);
}

/* Sequence numbers rise by 1 from tail to head (6.4). */
static void
note_generation(struct vx_image *image, const struct vx_log_scan *scan)
{
    image->log_first_number = scan->places[scan->tail_index].sequence_number;
    image->log_last_number = scan->places[scan->head_index].sequence_number;
    image->log_entry_count = image->log_last_number - image->log_first_number + 1;
}

static int
lay_log_over(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    int              rc = VHDX_OK;

    if (!image->is_dirty || image->log_was_ignored)
        return VHDX_OK;
    if (image->is_writable && !VX_BROKEN(REPLAY_NO_FIRST_FLUSH)) /* written back first: only that can be forgotten */
        rc = vx_storage_flush(image->storage, err);
    if (rc < 0)
        return rc;
    vx_storage_forget_cached(image->storage);
    rc = vx_log_scan(&o->scan, image->storage, &o->header, o->log_length, o->file_length, &image->findings, err);
    if (rc == VHDX_OK)
        rc = verdict(image, err);
    if (rc == VHDX_OK)
        note_generation(image, &o->scan);
    if (rc == VHDX_OK)
        rc = vx_replay_view(&image->view, image->storage, &o->scan, o->file_length, err);
    return rc;
}

static int
read_regions(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    uint8_t         *copy[2] = { o->bytes, o->bytes + VX_REGION_TABLE_SIZE };
    uint64_t         view_length;
    size_t           got;
    int              used;
    int              rc = vx_storage_get_size(image->view, &view_length, err);

    if (rc < 0)
        return rc;
    for (int i = 0; i < 2; i++) {
        rc = vx_storage_read_prefix(image->view, copy[i], VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(i), &got, err);
        if (rc < 0)
            return rc;
    }
    rc = vx_region_table_choose(o->regions, &used, copy[0], copy[1], &image->findings);
    if (rc < 0)
        return verdict(image, err);
    vx_region_table_judge(o->regions, copy[used], VX_REGION_TABLE_OFFSET(used), &o->header, view_length,
                          &image->regions, &image->findings);
    image->broken_region_copy = -1;
    if (memcmp(copy[0], copy[1], VX_REGION_TABLE_SIZE) != 0)
        image->broken_region_copy = 1 - used; /* V56: V57 keeps the image read-only anyway */
    image->space.file_length = view_length;
    return verdict(image, err);
}

/* One item's bytes; an item that lies outside of its region was refused or is ignored. */
static int
read_item(struct opening *o, const struct vx_metadata_entry *entry, uint8_t *bytes, struct vhdx_error *err)
{
    size_t got;

    if (entry->length == 0)
        return VHDX_OK;
    return vx_storage_read_prefix(o->image->view, bytes, entry->length,
                                  o->image->regions.metadata.file_offset + entry->offset, &got, err);
}

static int
read_locator(struct opening *o, struct vhdx_error *err)
{
    struct vx_image                *image = o->image;
    const struct vx_metadata_entry *entry = vx_metadata_find(o->table, &vx_guid_item_parent_locator);
    int                             rc;

    if (entry == NULL || !image->metadata.has_parent)
        return VHDX_OK;
    image->locator_length = entry->length;
    image->locator_item = vx_alloc(entry->length > 0 ? entry->length : 1);
    if (image->locator_item == NULL)
        return vx_fail_memory(err, "the parent locator");
    rc = read_item(o, entry, image->locator_item, err);
    if (rc == VHDX_OK)
        vx_locator_decode(&image->locator, image->locator_item, entry->length,
                          image->regions.metadata.file_offset + entry->offset, &image->findings);
    return rc;
}

static int
read_metadata(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    uint64_t         at = image->regions.metadata.file_offset;
    size_t           got;
    int              rc;

    rc = vx_storage_read_prefix(image->view, o->bytes, VX_METADATA_TABLE_SIZE, at, &got, err);
    if (rc < 0)
        return rc;
    rc = vx_metadata_table_decode(o->table, o->bytes, at, err);
    if (rc < 0)
        return rc;
    vx_metadata_table_judge(o->table, o->bytes, at, image->regions.metadata.length, &image->findings);
    rc = verdict(image, err);
    for (uint32_t i = 0; i < o->table->entry_count && rc == VHDX_OK; i++) {
        const struct vx_metadata_entry *entry = &o->table->entries[i];

        if ((entry->flags & VX_ITEM_IS_USER) != 0)
            continue;
        if (entry->length <= 64) /* every known item but the locator */
            rc = read_item(o, entry, o->bytes, err);
        if (rc == VHDX_OK)
            vx_metadata_take_item(&image->metadata, entry, o->bytes);
    }
    if (rc < 0)
        return rc;
    vx_metadata_judge(&image->metadata, at, &image->findings);
    vx_metadata_settle(&image->metadata); /* V98, V100: what readers are told where an item is bad */
    rc = verdict(image, err);
    if (rc == VHDX_OK)
        rc = read_locator(o, err);
    return rc == VHDX_OK ? verdict(image, err) : rc;
}

static int
set_geometry(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;

    vx_geometry_init(&image->geometry, image->metadata.virtual_size, image->metadata.block_size,
                     image->metadata.logical_sector_size, image->metadata.has_parent,
                     image->metadata.leave_blocks_allocated && !image->metadata.has_parent);
    if (image->geometry.bat_entry_count * 8 > image->regions.bat.length)
        vx_find(&image->findings, VHDX_SEVERITY_REFUSE, 130, VHDX_E_BAD_BAT, VHDX_PART_BAT,
                image->regions.bat.file_offset,
                "a disk of %" PRIu64 " bytes needs %" PRIu64 " BAT entries and the region of %" PRIu32
                " bytes does not hold them", image->geometry.virtual_size, image->geometry.bat_entry_count,
                image->regions.bat.length);
    image->reserved = vx_alloc_zeroed((size_t)o->regions->region_count + 2, sizeof *image->reserved);
    if (image->reserved == NULL)
        return vx_fail_memory(err, "the list of regions");
    image->reserved_count = vx_reserved_ranges(image->reserved, &o->header, o->regions);
    return verdict(image, err);
}

/* --- the writable side --- */

static int
set_up_writer(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    size_t           limit;

    image->log.length = (uint32_t)(o->header.log_length != 0 ? o->log_length : 0);
    limit = vx_log_page_limit(o->header.log_length != 0 ? o->log_length : VX_MIB);
    image->room.limit = limit < MOST_PAGES_IN_ENTRY ? limit : MOST_PAGES_IN_ENTRY;
    image->commit_pages = vx_alloc_zeroed(image->room.limit + 1, sizeof(struct vx_page *));
    image->commit_copies = vx_alloc_zeroed(image->room.limit + 1, sizeof *image->commit_copies);
    image->commit_bytes = vx_alloc_zeroed(image->room.limit + 1, VX_PAGE);
    if (image->commit_pages == NULL || image->commit_copies == NULL || image->commit_bytes == NULL)
        return vx_fail_memory(err, "the commit");
    return VHDX_OK;
}

/* Which repair takes the reason away. */
static void
name_repair(struct vhdx_error *err)
{
    char text[96] = "the image can only be opened read-only";
    enum vhdx_remedy remedy = vhdx_finding_remedy(err);

    if (remedy >= VHDX_REMEDY_HEADERS && remedy <= VHDX_REMEDY_LEAKS)
        snprintf(text, sizeof text, "the image can only be opened read-only (\"vhdx check -r %s\" mends it)",
                 vhdx_remedy_name(remedy));
    vx_error_prefix(err, text);
}

/* A writable open needs a file that breaks no rule of severity RO or worse. */
static int
may_be_written(const struct vx_image *image, struct vhdx_error *err)
{
    if (vx_findings_severity(&image->findings) < VHDX_SEVERITY_RO)
        return VHDX_OK;
    if (err != NULL) {
        *err = image->findings.worst;
        err->code = VHDX_E_NEEDS_REPAIR;
        name_repair(err);
    }
    return VHDX_E_NEEDS_REPAIR;
}

static int
make_writable(struct opening *o, struct vhdx_error *err)
{
    struct vx_image *image = o->image;
    int              rc = may_be_written(image, err);

    if (rc == VHDX_OK)
        rc = vx_space_build(image, err);
    if (rc == VHDX_OK)
        rc = may_be_written(image, err);
    if (rc == VHDX_OK)
        rc = set_up_writer(o, err);
    if (rc < 0 || image->view == image->storage)
        return rc;

    rc = vx_replay_write(image, &o->scan, o->file_length, err);
    if (rc < 0)
        return rc;
    vhdx_storage_close(image->view);
    image->view = image->storage;
    return vx_storage_get_size(image->storage, &image->space.file_length, err);
}

static int
open_steps(struct opening *o, struct vhdx_error *err)
{
    static int (*const steps[])(struct opening *, struct vhdx_error *) = {
        read_identifier, read_headers, lay_log_over, read_regions, read_metadata, set_geometry,
    };
    int rc = VHDX_OK;

    for (size_t i = 0; i < sizeof steps / sizeof *steps && rc == VHDX_OK; i++)
        rc = steps[i](o, err);
    if (rc < 0)
        return rc;
    vx_mutex_lock(&o->image->session_lock);
    o->image->header = o->header;
    o->image->header_index = o->header_index;
    vx_mutex_unlock(&o->image->session_lock);
    return o->image->is_writable ? make_writable(o, err) : VHDX_OK;
}

/* --- the object --- */

static int
init_locks(struct vx_image *image)
{
    return vx_block_locks_init(&image->block_locks) != 0 || vx_mutex_init(&image->session_lock, VX_RANK_SESSION) != 0 ||
           vx_mutex_init(&image->commit_lock, VX_RANK_COMMIT) != 0 || vx_condition_init(&image->commit_changed) != 0 ||
           vx_rwlock_init(&image->meta_lock, VX_RANK_META) != 0 || vx_mutex_init(&image->room.lock, VX_RANK_ROOM) != 0 ||
           vx_condition_init(&image->room.changed) != 0;
}

static void
free_image(struct vx_image *image)
{
    if (image == NULL)
        return;
    if (image->view != image->storage)
        vhdx_storage_close(image->view);
    vx_pages_destroy(&image->pages);
    vx_space_destroy(&image->space);
    vx_log_destroy(&image->log);
    vx_free(image->locator_item);
    vx_free(image->reserved);
    vx_free(image->commit_pages);
    vx_free(image->commit_copies);
    vx_free(image->commit_bytes);
    vx_condition_destroy(&image->room.changed);
    vx_mutex_destroy(&image->room.lock);
    vx_rwlock_destroy(&image->meta_lock);
    vx_condition_destroy(&image->commit_changed);
    vx_mutex_destroy(&image->commit_lock);
    vx_mutex_destroy(&image->session_lock);
    vx_block_locks_destroy(&image->block_locks);
    vx_free(image);
}

static struct vx_image *
new_image(struct vhdx_storage *storage, const struct vx_image_options *options)
{
    struct vx_image *image = vx_alloc_zeroed(1, sizeof *image);

    if (image == NULL)
        return NULL;
    image->storage = image->view = storage;
    image->is_writable = options->is_writable;
    image->data_guid = options->data_guid;
    image->given_data_guid = options->given_data_guid;
    vx_findings_init(&image->findings, NULL, NULL);
    vx_space_init(&image->space);
    if (init_locks(image) != 0) { /* glibc and musl allocate nothing here: it does not happen */
        vx_free(image);
        return NULL;
    }
    return image;
}

int
vx_image_open(struct vx_image **out, struct vhdx_storage *storage, const struct vx_image_options *options,
              struct vhdx_error *err)
{
    struct opening o = { .options = options };
    uint64_t       cache_bytes = options->metadata_cache_bytes != 0 ? options->metadata_cache_bytes : DEFAULT_CACHE;
    int            rc;

    if (options->is_writable && (options->ignore_log || storage->traits.is_read_only))
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_NONE, VHDX_NO_OFFSET,
                       options->ignore_log ? "an image whose log is ignored can only be read"
                                           : "the storage is read-only");
    o.image = new_image(storage, options);
    o.bytes = vx_alloc(2 * VX_REGION_TABLE_SIZE);
    o.regions = vx_alloc(sizeof *o.regions);
    o.table = vx_alloc(sizeof *o.table);
    if (o.image == NULL || o.bytes == NULL || o.regions == NULL || o.table == NULL)
        rc = vx_fail_memory(err, "opening an image");
    else
        rc = open_steps(&o, err);
    if (rc == VHDX_OK)
        rc = vx_pages_init(&o.image->pages, cache_bytes, o.image->room.limit, err);
    if (rc == VHDX_OK) {
        *out = o.image;
        o.image = NULL;
    }
    vx_log_scan_free(&o.scan);
    vx_free(o.bytes);
    vx_free(o.regions);
    vx_free(o.table);
    free_image(o.image);
    return rc;
}

int
vx_image_close(struct vx_image *image, struct vhdx_error *err)
{
    int rc = image == NULL ? VHDX_OK : vx_session_end(image, err);

    free_image(image);
    return rc;
}

void
vx_image_abandon(struct vx_image *image)
{
    free_image(image);
}
