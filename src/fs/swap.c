/*
 * Linux swap areas: a header in the first page, then pages that mean nothing while the guest is off.
 *
 * The signature ends the first page, whose size is the guest's.  Hibernation replaces the signature, so an area that still
 * says SWAPSPACE2 holds no sleeping system.  Bad pages were never seen on a virtual disk: left alone.
 */
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/utf16.h"
#include "fs/fs.h"

static const uint32_t page_sizes[] = { 4096, 8192, 16384, 65536 };
static const char *const asleep[] = { "S1SUSPEND", "S2SUSPEND", "ULSUSPEND", "LINHIB0001" };

/* The page size by the place of a ten byte signature; 0: none. */
static int
find_page_size(const struct vhdx_volume *volume, uint32_t *page_size, bool *is_asleep, struct vhdx_error *err)
{
    *page_size = 0;
    *is_asleep = false;
    for (size_t i = 0; i < sizeof page_sizes / sizeof page_sizes[0]; i++) {
        char signature[10];
        int rc;

        if (page_sizes[i] > volume->length)
            break;
        rc = vhdx_volume_read(volume, signature, sizeof signature, page_sizes[i] - sizeof signature, err);
        if (rc < 0)
            return rc;
        for (size_t j = 0; j < sizeof asleep / sizeof asleep[0]; j++)
            *is_asleep = *is_asleep || memcmp(signature, asleep[j], strlen(asleep[j])) == 0;
        if (*is_asleep || memcmp(signature, "SWAPSPACE2", sizeof signature) == 0) {
            *page_size = page_sizes[i];
            return VHDX_OK;
        }
    }
    return VHDX_OK;
}

struct header {
    uint32_t page_size;
    uint32_t version, last_page, bad_page_count;
    char     label[17];
    bool     is_asleep;
};

static int
read_header(struct header *header, const struct vhdx_volume *volume, struct vhdx_error *err)
{
    uint8_t b[64];
    int rc = find_page_size(volume, &header->page_size, &header->is_asleep, err);

    if (rc < 0 || header->page_size == 0)
        return rc;
    rc = vhdx_volume_read(volume, b, sizeof b, 1024, err);
    header->version = vx_le32(b);
    header->last_page = vx_le32(b + 4);
    header->bad_page_count = vx_le32(b + 8);
    memcpy(header->label, b + 28, 16);
    header->label[16] = '\0';
    return rc;
}

static int
probe(struct vhdx_volume *volume, struct vhdx_error *err)
{
    struct header header = { 0 };
    int rc = read_header(&header, volume, err);

    if (rc < 0 || header.page_size == 0)
        return rc;
    snprintf(volume->kind, sizeof volume->kind, "swap");
    vx_escape_text(volume->label, sizeof volume->label, header.label);
    if (header.is_asleep)
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "a hibernated system sleeps in it",
                          "start the guest and shut it down");
    else if (header.version != 1 || header.bad_page_count != 0)
        vhdx_volume_judge(volume, VHDX_VERDICT_LEFT_ALONE, "its header has a version or a list that is not read",
                          "make it anew in the guest with mkswap");
    else if (((uint64_t)header.last_page + 1) * header.page_size > volume->length)
        vhdx_volume_judge(volume, VHDX_VERDICT_REFUSED, "it ends past the end of its partition",
                          "make it anew in the guest with mkswap");
    return 1;
}

static int
walk_free(const struct vhdx_volume *volume, vhdx_free_range each, void *context, struct vhdx_error *err)
{
    struct header header = { 0 };
    int rc = read_header(&header, volume, err);

    if (rc < 0 || header.page_size == 0)
        return rc;
    return each(context, volume->guest_offset + header.page_size, (uint64_t)header.last_page * header.page_size);
}

const struct vhdx_fs_reader vx_swap_reader = {
    .version = VHDX_FS_READER_VERSION, .name = "swap", .kinds = "Linux swap", .probe = probe, .walk_free = walk_free,
};
