/*
 * A picture of a disk and of its file: two grids of cells, each of which sums up what lies in its range, so that 64 TiB
 * fit a page as well as 64 MiB.  map.c hands over the extents, picture.c sums, picture_svg.c, picture_html.c and picture_term.c draw.
 */
#ifndef VHDX_TOOL_PICTURE_H
#define VHDX_TOOL_PICTURE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <vhdx/disk.h>
#include <vhdx/fs.h>

/* What a byte of the disk is; DATA of layer N is GUEST_DATA + N. */
enum { GUEST_UNALLOCATED, GUEST_ZERO, GUEST_PARENT, GUEST_DATA };

/* What a byte of the file is.  OTHER: sector bitmaps, sectors of a block that it does not show, space that nothing refers to. */
enum { FILE_OTHER, FILE_HEADER, FILE_LOG, FILE_METADATA, FILE_TABLE, FILE_PAYLOAD, FILE_KINDS };

#define GRID_NOWHERE UINT64_MAX

struct grid {
    uint64_t  length;     /* bytes */
    uint64_t  cell_bytes; /* a power of two */
    size_t    cell_count;
    unsigned  kind_count;
    uint64_t *bytes;      /* of each kind, cell after cell */
    uint64_t *elsewhere;  /* per cell: where its first data lies on the other side (file for guest, guest for file) */
    uint64_t *holes;      /* per cell: bytes for which the host keeps no space; NULL: not known */
};

struct picture {
    const char        *path;
    struct vhdx_disk  *disk;    /* borrowed */
    bool               is_vhdx; /* else the grid of the file is empty */
    struct vhdx_info   info;    /* of the top layer */
    struct grid        guest, file;
    uint64_t           run_count;   /* pieces of payload in the file that do not continue each other in the order of the disk */
    uint64_t           last_end;    /* of the last piece */
    struct vhdx_volume *volumes;    /* owned; what lies in the disk, as far as it is known */
    size_t             volume_count;
};

/* Give the picture its grids, the regions of the file, its holes and the partitions. */
int  picture_begin(struct picture *picture, struct vhdx_disk *disk, const char *path, struct vhdx_error *err);
void picture_take(struct picture *picture, const struct vhdx_extent *extent);
void picture_finish(struct picture *picture); /* every extent was taken */
void picture_end(struct picture *picture);

/* The kind of which most of a cell is, and whether the cell is of that kind alone. */
unsigned grid_main_kind(const struct grid *grid, size_t cell, bool *is_pure);

/* "data", "data of the parent base.vhdx": escaping is the caller's. */
const char *guest_kind_name(const struct picture *picture, unsigned kind, char *room, size_t size);
const char *file_kind_name(unsigned kind);

/* Text into XML and HTML: what is not plain as in text_print, and the characters of markup as entities. */
void markup_print(FILE *stream, const char *text);

/* The drawings; errors are in the stream. */
void picture_draw_svg(FILE *stream, const struct picture *picture);
void picture_draw_html(FILE *stream, const struct picture *picture);
void picture_draw_terminal(FILE *stream, const struct picture *picture);

#endif
