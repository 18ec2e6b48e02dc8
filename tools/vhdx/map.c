/* vhdx map: where the bytes of the disk lie, through the chain; with --parents=none in its own file alone.  As a table, as
 * JSON, or as pictures. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include <vhdx/disk.h>

#include "confine.h"
#include "files.h"
#include "json.h"
#include "message.h"
#include "picture.h"
#include "text.h"
#include "verbs.h"

#define EXTENTS_AT_ONCE 512

enum { OPTION_SVG = 256, OPTION_HTML, OPTION_TERM, OPTION_FORCE };

static const struct option_line lines[] = {
    { "svg", OPTION_SVG, "FILE", "draw the disk and its file as an SVG picture" },
    { "html", OPTION_HTML, "FILE", "the same as a page that tells what the pointer is on" },
    { "term", OPTION_TERM, NULL, "draw the disk on the terminal" },
    { "force", OPTION_FORCE, NULL, "write over an existing FILE" },
    { 0 },
};

struct mapping {
    const struct shared_options *shared;
    const char                  *path;
    struct vhdx_disk            *disk;
    bool                         shows_holes;
    const char                  *svg_path, *html_path; /* or NULL */
    bool                         wants_terminal, may_replace;
    const char                  *failed_path; /* whose error it is: FILE, or a picture's */
};

/* --- extents --- */

/* Gets extents, in order; pieces that the library had to cut because its array was full are joined again. */
typedef void (*take_extent)(void *context, const struct vhdx_extent *extent);

static bool
continues(const struct vhdx_extent *first, const struct vhdx_extent *second)
{
    if (first->depth != second->depth || first->flags != second->flags)
        return false;
    return (first->flags & VHDX_EXTENT_DATA) == 0 || first->file_offset + first->length == second->file_offset;
}

static void
join_or_take(struct vhdx_extent *pending, const struct vhdx_extent *extent, take_extent take, void *context)
{
    if (pending->length > 0 && continues(pending, extent)) {
        pending->length += extent->length;
        return;
    }
    if (pending->length > 0)
        take(context, pending);
    *pending = *extent;
}

/* A VHDX shows how its blocks lie; a raw file and a fixed VHD have no blocks, so there the host's holes are shown. */
static int
walk(const struct mapping *mapping, take_extent take, void *context, struct vhdx_error *err)
{
    struct vhdx_extent extents[EXTENTS_AT_ONCE], pending = { .length = 0 };
    uint64_t size = vhdx_disk_size(mapping->disk), guest_offset = 0;
    int (*resolve)(struct vhdx_disk *, uint64_t, uint64_t, struct vhdx_extent *, size_t, size_t *,
                   struct vhdx_error *) = mapping->shows_holes ? vhdx_disk_resolve_sparse : vhdx_disk_resolve;

    while (guest_offset < size) {
        size_t count;
        int rc = resolve(mapping->disk, guest_offset, size - guest_offset, extents, EXTENTS_AT_ONCE, &count, err);

        if (rc < 0)
            return rc;
        for (size_t i = 0; i < count; i++)
            join_or_take(&pending, &extents[i], take, context);
        guest_offset = extents[count - 1].guest_offset + extents[count - 1].length;
    }
    if (pending.length > 0)
        take(context, &pending);
    return VHDX_OK;
}

/* --- as rows --- */

static struct json_object *
make_element(const struct vhdx_extent *extent)
{
    struct json_object *element = need_memory(json_object_new_object());
    bool is_data = (extent->flags & VHDX_EXTENT_DATA) != 0;

    json_add_number(element, "start", extent->guest_offset);
    json_add_number(element, "length", extent->length);
    json_add_number(element, "depth", extent->depth);
    json_add_bool(element, "present", (extent->flags & VHDX_EXTENT_PRESENT) != 0);
    json_add_bool(element, "zero", (extent->flags & VHDX_EXTENT_ZERO) != 0);
    json_add_bool(element, "data", is_data);
    if (is_data)
        json_add_number(element, "offset", extent->file_offset);
    return element;
}

struct printer {
    struct vhdx_disk *disk;
    bool              is_json;
    struct json_list  list;
};

static const char *
kind_name(const struct vhdx_extent *extent)
{
    if ((extent->flags & VHDX_EXTENT_DATA) != 0)
        return "data";
    if ((extent->flags & VHDX_EXTENT_PRESENT) != 0)
        return "zero";
    return (extent->flags & VHDX_EXTENT_ZERO) != 0 ? "unallocated" : "parent";
}

static void
print_row(const struct printer *printer, const struct vhdx_extent *extent)
{
    printf("0x%-15" PRIx64 " 0x%-15" PRIx64 " %-12s", extent->guest_offset, extent->length, kind_name(extent));
    if ((extent->flags & VHDX_EXTENT_DATA) != 0) {
        printf(" 0x%-15" PRIx64 " ", extent->file_offset);
        text_print(stdout, vhdx_disk_layer_name(printer->disk, extent->depth));
    }
    putchar('\n');
}

static void
print_extent(void *context, const struct vhdx_extent *extent)
{
    struct printer *printer = context;

    if (printer->is_json)
        json_list_add(&printer->list, make_element(extent));
    else
        print_row(printer, extent);
}

static int
print_map(const struct mapping *mapping, struct vhdx_error *err)
{
    struct printer printer = { .disk = mapping->disk, .is_json = mapping->shared->json };
    int rc;

    if (printer.is_json)
        json_list_begin(&printer.list, true, true);
    else
        printf("%-17s %-17s %-12s %-17s %s\n", "Offset", "Length", "Kind", "Mapped to", "File");
    rc = walk(mapping, print_extent, &printer, err);
    if (!printer.is_json)
        return rc;
    if (rc < 0) /* what was printed cannot be taken back: the error is the array's last element */
        json_list_add(&printer.list, json_failure(mapping->path, err));
    json_list_end(&printer.list);
    return rc;
}

/* --- as pictures --- */

typedef void (*draw_picture)(FILE *stream, const struct picture *picture);

static int
write_file(const char *path, const struct picture *picture, draw_picture draw, struct vhdx_error *err)
{
    int descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    FILE *stream = descriptor < 0 ? NULL : fdopen(descriptor, "w");
    bool is_good;

    if (stream == NULL) {
        int system_errno = errno;

        if (descriptor >= 0)
            close(descriptor);
        return fail_errno(err, system_errno, "making %s", path);
    }
    draw(stream, picture);
    is_good = fflush(stream) == 0 && fsync(descriptor) == 0;
    if (fclose(stream) == 0 && is_good)
        return VHDX_OK;
    return fail_errno(err, errno, "writing %s", path);
}

static int
make_file(struct mapping *mapping, const char *path, const struct picture *picture, draw_picture draw,
          struct vhdx_error *err)
{
    struct target target;
    int rc;

    mapping->failed_path = path;
    rc = target_begin(&target, path, mapping->disk, mapping->may_replace, mapping->shared, err);

    if (rc < 0)
        return rc;
    if (target.is_device)
        return fail(err, VHDX_E_INVALID, "%s is a block device, no place for a picture", path);
    rc = write_file(target.working_path, picture, draw, err);
    if (rc == 0)
        rc = target_commit(&target, err);
    if (rc < 0)
        target_abandon(&target);
    return rc;
}

static void
take_for_picture(void *context, const struct vhdx_extent *extent)
{
    picture_take(context, extent);
}

static int
draw_all(struct mapping *mapping, struct picture *picture, struct vhdx_error *err)
{
    int rc = walk(mapping, take_for_picture, picture, err);

    picture_finish(picture);
    if (rc == 0 && mapping->svg_path != NULL)
        rc = make_file(mapping, mapping->svg_path, picture, picture_draw_svg, err);
    if (rc == 0 && mapping->html_path != NULL)
        rc = make_file(mapping, mapping->html_path, picture, picture_draw_html, err);
    if (rc == 0 && mapping->wants_terminal)
        picture_draw_terminal(stdout, picture);
    return rc;
}

static int
draw_pictures(struct mapping *mapping, struct vhdx_error *err)
{
    struct picture picture;
    int rc = picture_begin(&picture, mapping->disk, mapping->path, err);

    if (rc < 0)
        return rc;
    rc = draw_all(mapping, &picture, err);
    picture_end(&picture);
    return rc;
}

/* --- the verb --- */

static bool
wants_pictures(const struct mapping *mapping)
{
    return mapping->svg_path != NULL || mapping->html_path != NULL || mapping->wants_terminal;
}

static void
read_options(struct option_reader *reader, struct mapping *mapping)
{
    const char *argument;
    int letter;

    while ((letter = options_next(reader, &argument)) != OPTION_END) {
        if (letter == OPTION_SVG)
            mapping->svg_path = argument;
        else if (letter == OPTION_HTML)
            mapping->html_path = argument;
        else if (letter == OPTION_TERM)
            mapping->wants_terminal = true;
        else
            mapping->may_replace = true;
    }
    if (mapping->shared->json && wants_pictures(mapping))
        usage_error(reader, "--json and pictures do not go together");
}

static bool
has_no_blocks(struct vhdx_disk *disk)
{
    struct vhdx_info info;

    return vhdx_disk_get_info(disk, 0, &info, NULL) == 0 && info.format != VHDX_FORMAT_VHDX
           && info.type == VHDX_TYPE_FIXED;
}

/* Open the disk; nothing else has to be opened then but pictures. */
static int
open_disk(struct mapping *mapping, const struct vhdx_open_options *options, struct vhdx_error *err)
{
    int rc;

    confine_source(mapping->shared, mapping->path);
    if (wants_pictures(mapping))
        confine_again(mapping->shared, mapping->path); /* for the holes of the host */
    confine_target(mapping->shared, mapping->svg_path);
    confine_target(mapping->shared, mapping->html_path);
    confine_begin(mapping->shared, STATUS_FAILED);
    if (mapping->shared->format.qemu != NULL)
        rc = file_open_disk(&mapping->disk, mapping->path, mapping->shared->format, mapping->shared, options->flags, err);
    else
        rc = file_open_image(&mapping->disk, mapping->path, options, err);
    if (rc < 0)
        return rc;
    rc = confine_narrow(mapping->shared, err);
    if (rc < 0)
        vhdx_disk_close(mapping->disk, NULL);
    return rc;
}

static int
run_map(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct vhdx_open_options open_options;
    struct mapping mapping = { .shared = &shared };
    struct vhdx_error err;
    char **operands;
    int rc;

    options_begin(&reader, verb, argc, argv, &shared);
    read_options(&reader, &mapping);
    options_operands(&reader, 1, 1, &operands);
    open_options = options_for_reading(&shared);
    open_options.flags |= shared.no_parents ? VHDX_OPEN_NO_PARENTS : 0;

    mapping.path = mapping.failed_path = operands[0];
    rc = open_disk(&mapping, &open_options, &err);
    if (rc == 0) {
        mapping.shows_holes = has_no_blocks(mapping.disk);
        rc = wants_pictures(&mapping) ? draw_pictures(&mapping, &err) : print_map(&mapping, &err);
        vhdx_disk_close(mapping.disk, NULL);
    } else if (shared.json) {
        json_print(json_failure(mapping.path, &err));
    }
    if (rc == 0)
        return STATUS_GOOD;
    message_error(mapping.failed_path, &err);
    return STATUS_FAILED;
}

const struct verb map_verb = {
    .name = "map",
    .synopsis = "[OPTIONS] FILE",
    .summary = "Show where the bytes of a disk lie",
    .example = "  vhdx map disk.vhdx\n"
               "  vhdx map --html disk.html --term disk.vhdx\n"
               "  vhdx map --json disk.vhdx | jq '[.[] | select(.data) | .length] | add'\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_FORMAT | SHARED_REMOTE | SHARED_READ | SHARED_CHAIN | SHARED_SANDBOX,
    .usage_status = STATUS_USAGE,
    .run = run_map,
};
