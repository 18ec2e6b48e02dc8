#include "images.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "format/locator.h"
#include "storage/storage.h"

void
must(int rc, const char *what, const struct vhdx_error *err)
{
    if (rc >= 0)
        return;
    printf("# %s: %s: %s\n", what, vhdx_code_name(rc), err->message);
    printf("Bail out!\n");
    fflush(stdout);
    abort();
}

struct vhdx_storage *
image_make(const struct vhdx_create_options *options)
{
    struct vhdx_error    err = { .message = "" };
    struct vhdx_storage *storage;

    must(vhdx_storage_new_memory(&storage, 0, &err), "a file in memory", &err);
    must(vhdx_create_on_storage(storage, options, NULL, &err), "create", &err);
    return storage;
}

static void
write_layout(struct vhdx_storage *storage, const struct vx_new_layout *layout)
{
    static uint8_t    bytes[VX_METADATA_TABLE_SIZE + 4096];
    struct vhdx_error err = { .message = "" };
    uint8_t           header[VX_HEADER_SIZE];

    must(vx_storage_set_size(storage, layout->file_length, &err), "set_size", &err);
    for (int copy = 0; copy < 2; copy++) {
        vx_new_layout_header(layout, copy, header);
        must(vx_storage_write(storage, header, sizeof header, VX_HEADER_OFFSET(copy), &err), "header", &err);
        must(vx_new_layout_region_table(layout, bytes, &err), "region table", &err);
        must(vx_storage_write(storage, bytes, VX_REGION_TABLE_SIZE, VX_REGION_TABLE_OFFSET(copy), &err),
             "region table", &err);
    }
    vx_new_layout_metadata(layout, bytes);
    must(vx_storage_write(storage, bytes, vx_new_layout_metadata_length(layout), layout->metadata_offset, &err),
         "metadata", &err);
    vx_new_layout_identifier(layout, bytes);
    must(vx_storage_write(storage, bytes, VX_IDENTIFIER_SIZE, 0, &err), "identifier", &err);
}

void
image_child_layout(struct vx_new_layout *layout, const struct vhdx_create_options *options,
                   const struct vhdx_guid *linkage, uint8_t item[IMAGE_LOCATOR_SIZE])
{
    char linkage_text[VHDX_GUID_TEXT_SIZE], braced[VHDX_GUID_TEXT_SIZE + 2];
    const struct vx_locator_text pairs[] = {
        { "parent_linkage", braced },
        { "relative_path", ".\\parent.vhdx" },
    };
    struct vhdx_create_options child = *options;
    struct vhdx_error          err = { .message = "" };
    struct vx_new_locator      locator = { .item = item };

    vhdx_guid_format(linkage_text, linkage);
    snprintf(braced, sizeof braced, "{%s}", linkage_text);
    if (!vx_locator_encode(item, IMAGE_LOCATOR_SIZE, &locator.length, pairs, sizeof pairs / sizeof pairs[0]))
        abort();
    child.type = VHDX_TYPE_DIFFERENCING;
    must(vx_new_layout_init(layout, &child, &locator, &err), "layout", &err);
}

struct vhdx_storage *
image_make_child(const struct vhdx_create_options *options, const struct vhdx_guid *linkage,
                 const struct vhdx_guid *data_write_guid)
{
    struct vhdx_error    err = { .message = "" };
    struct vx_new_layout layout;
    struct vhdx_storage *storage;
    uint8_t              item[IMAGE_LOCATOR_SIZE];

    image_child_layout(&layout, options, linkage, item);
    if (data_write_guid != NULL)
        layout.header.data_write_guid = *data_write_guid;
    must(vhdx_storage_new_memory(&storage, 0, &err), "a file in memory", &err);
    write_layout(storage, &layout);
    return storage;
}

struct listener {
    enum image_gaps gaps;
    bool            is_clean;
};

static bool
is_expected(const struct listener *listener, const struct vhdx_error *finding)
{
    if (finding->severity != VHDX_SEVERITY_WARN)
        return false;
    if (finding->rule == 148 || finding->rule == 149)
        return listener->gaps >= (finding->rule == 148 ? IMAGE_GAPS_INSIDE : IMAGE_GAPS);
    return finding->rule == 107 || finding->rule == 146 || (finding->rule >= 156 && finding->rule <= 158);
}

static void
take_finding(void *context, const struct vhdx_error *finding)
{
    struct listener *listener = context;

    if (is_expected(listener, finding))
        return;
    listener->is_clean = false;
    printf("# V%d (%s) at %" PRIu64 ": %s\n", finding->rule, vhdx_severity_name(finding->severity),
           finding->file_offset, finding->message);
}

bool
image_is_clean(struct vhdx_storage *storage, enum image_gaps gaps, struct vhdx_check_summary *summary)
{
    struct listener           listener = { .gaps = gaps, .is_clean = true };
    struct vhdx_check_summary ours;
    struct vhdx_error         err = { .message = "" };
    int                       rc;

    if (summary == NULL)
        summary = &ours;
    rc = vhdx_check_storage(storage, NULL, take_finding, &listener, NULL, summary, &err);
    if (rc < 0) {
        printf("# the check failed: %s\n", err.message);
        return false;
    }
    if (summary->is_dirty || !summary->is_complete)
        printf("# dirty %d, complete %d\n", summary->is_dirty, summary->is_complete);
    return listener.is_clean && !summary->is_dirty && summary->is_complete &&
           (gaps != IMAGE_NO_GAPS || summary->leaked_bytes == 0);
}
