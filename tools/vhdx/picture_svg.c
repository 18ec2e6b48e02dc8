/*
 * The picture as SVG: self-contained, readable by any browser, a title on every piece that a pointer can rest on.
 *
 * Cells of one kind that follow each other in a row become one rectangle; a mixed cell is divided by shares.  Blocks in the
 * file are coloured by where they belong on the disk: a file in order is a smooth passage, a fragmented one is noise.
 */
#include "picture.h"

#include <inttypes.h>
#include <string.h>

#include "sizes.h"
#include "text.h"

#define COLUMNS    128u
#define CELL_WIDTH 8u
#define ROW_HEIGHT 14u
#define BAR_HEIGHT 10u /* of the cells in a row; below them is the strip of the partitions */
#define LEFT       120u /* before the cells: the row's offset */
#define WIDTH      (LEFT + COLUMNS * CELL_WIDTH + 16)
#define NAME_CELLS 16u /* what the name of a partition takes */
#define STEPS      48u /* of colour from the beginning to the end of the disk */

/* Colours that people who see colours differently tell apart, too (after Okabe and Ito). */
static const char *const layer_colours[] = { "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800",
                                             "#7f7f7f" };
static const char *const guest_colours[] = { "#f3f4f6", "#cfd6dd", "#ffffff" };
static const char *const file_colours[] = { "#f3f4f6", "#222222", "#d55e00", "#009e73", "#cc79a7" };
static const char *const strip_colours[] = { "#444444", "#999999" };

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))

struct view {
    FILE                 *stream;
    const struct picture *picture;
    const struct grid    *grid;
    bool                  is_guest;
    unsigned              top; /* of its first row */
};

static void
print_colour(const struct view *view, unsigned kind, unsigned step)
{
    if (view->is_guest && kind >= GUEST_DATA)
        fputs(layer_colours[(kind - GUEST_DATA) % COUNT_OF(layer_colours)], view->stream);
    else if (view->is_guest)
        fputs(guest_colours[kind], view->stream);
    else if (kind == FILE_PAYLOAD)
        fprintf(view->stream, "hsl(%u,65%%,%u%%)", 190 + step * 120 / STEPS, 62 - step * 20 / STEPS);
    else
        fputs(file_colours[kind], view->stream);
}

/* Which colour of blocks of the disk a cell of the file has. */
static unsigned
step_of(const struct view *view, size_t cell)
{
    uint64_t guest_offset = view->grid->elsewhere[cell], size = view->picture->guest.length;

    if (view->is_guest || guest_offset == GRID_NOWHERE || size == 0)
        return 0;
    return (unsigned)((double)guest_offset / (double)size * (STEPS - 1));
}

/* --- what a pointer is told --- */

static uint64_t
sum_of(const struct grid *grid, size_t first, size_t count, unsigned kind)
{
    uint64_t sum = 0;

    for (size_t cell = first; cell < first + count; cell++)
        sum += grid->bytes[cell * grid->kind_count + kind];
    return sum;
}

static void
print_kind_name(const struct view *view, unsigned kind)
{
    char name[4200];

    markup_print(view->stream, view->is_guest ? guest_kind_name(view->picture, kind, name, sizeof(name))
                                              : file_kind_name(kind));
}

static void
print_kinds(const struct view *view, size_t first, size_t count)
{
    uint64_t all = 0;
    const char *between = "";

    for (unsigned kind = 0; kind < view->grid->kind_count; kind++)
        all += sum_of(view->grid, first, count, kind);
    for (unsigned kind = 0; kind < view->grid->kind_count; kind++) {
        uint64_t bytes = sum_of(view->grid, first, count, kind);
        char size[SIZE_TEXT_SIZE];

        if (bytes == 0)
            continue;
        fputs(between, view->stream);
        if (bytes < all)
            fprintf(view->stream, "%s ", size_short(size, bytes));
        print_kind_name(view, kind);
        between = ", ";
    }
}

static void
print_title(const struct view *view, size_t first, size_t count)
{
    const struct grid *grid = view->grid;
    uint64_t start = first * grid->cell_bytes, end = (first + count) * grid->cell_bytes, holes = 0;
    char size[SIZE_TEXT_SIZE];

    end = end > grid->length ? grid->length : end;
    fprintf(view->stream, "<title>%s 0x%" PRIx64 " to 0x%" PRIx64 " (%s): ", view->is_guest ? "disk" : "file", start, end,
            size_short(size, end - start));
    print_kinds(view, first, count);
    if (grid->elsewhere[first] != GRID_NOWHERE)
        fprintf(view->stream, "; %s 0x%" PRIx64, view->is_guest ? "in the file at" : "on the disk at", grid->elsewhere[first]);
    for (size_t cell = first; grid->holes != NULL && cell < first + count; cell++)
        holes += grid->holes[cell];
    if (holes > 0)
        fprintf(view->stream, "; %s without space of the host", size_short(size, holes));
    fputs("</title>", view->stream);
}

/* --- cells --- */

/* A cell whose space the host does not keep is pale. */
static bool
is_pale(const struct view *view, size_t cell)
{
    return view->grid->holes != NULL && view->grid->holes[cell] * 2 > view->grid->cell_bytes;
}

static bool
looks_alike(const struct view *view, size_t a, size_t b)
{
    bool is_pure_a, is_pure_b;
    unsigned kind_a = grid_main_kind(view->grid, a, &is_pure_a), kind_b = grid_main_kind(view->grid, b, &is_pure_b);

    return is_pure_a && is_pure_b && kind_a == kind_b && step_of(view, a) == step_of(view, b)
           && is_pale(view, a) == is_pale(view, b);
}

static void
draw_rectangle(const struct view *view, size_t cell, double x, double width, unsigned kind)
{
    fprintf(view->stream, "<rect x=\"%.2f\" y=\"%zu\" width=\"%.2f\" height=\"%u\" fill=\"", x,
            view->top + cell / COLUMNS * ROW_HEIGHT, width, BAR_HEIGHT);
    print_colour(view, kind, step_of(view, cell));
    fputs("\"/>", view->stream);
}

static void
draw_mixed(const struct view *view, size_t cell, double x)
{
    const uint64_t *bytes = view->grid->bytes + cell * view->grid->kind_count;
    uint64_t sum = 0;

    for (unsigned kind = 0; kind < view->grid->kind_count; kind++)
        sum += bytes[kind];
    for (unsigned kind = 0; kind < view->grid->kind_count; kind++) {
        double width = sum == 0 ? 0 : CELL_WIDTH * (double)bytes[kind] / (double)sum;

        if (bytes[kind] > 0)
            draw_rectangle(view, cell, x, width, kind);
        x += width;
    }
}

static void
draw_run(const struct view *view, size_t first, size_t count)
{
    double x = LEFT + (double)(first % COLUMNS * CELL_WIDTH);
    bool is_pure;
    unsigned kind = grid_main_kind(view->grid, first, &is_pure);

    fprintf(view->stream, "<g class=\"c\"%s>", is_pale(view, first) ? " opacity=\"0.45\"" : "");
    print_title(view, first, count);
    if (is_pure)
        draw_rectangle(view, first, x, (double)(count * CELL_WIDTH), kind);
    else
        draw_mixed(view, first, x);
    fputs("</g>\n", view->stream);
}

static void
draw_cells(const struct view *view)
{
    size_t cell = 0;

    while (cell < view->grid->cell_count) {
        size_t count = 1;

        while (cell + count < view->grid->cell_count && (cell + count) % COLUMNS != 0 && looks_alike(view, cell, cell + count))
            count++;
        draw_run(view, cell, count);
        cell += count;
    }
}

static unsigned
row_count(const struct grid *grid)
{
    return (unsigned)((grid->cell_count + COLUMNS - 1) / COLUMNS);
}

static void
draw_offsets(const struct view *view)
{
    for (unsigned row = 0; row < row_count(view->grid); row++)
        fprintf(view->stream, "<text x=\"%u\" y=\"%u\" text-anchor=\"end\" class=\"o\">0x%" PRIx64 "</text>\n", LEFT - 6,
                view->top + row * ROW_HEIGHT + BAR_HEIGHT - 1, (uint64_t)row * COLUMNS * view->grid->cell_bytes);
}

/* --- partitions --- */

static void
print_volume_name(const struct view *view, const struct vhdx_volume *volume)
{
    if (volume->number > 0)
        fprintf(view->stream, "%u: ", volume->number);
    markup_print(view->stream, volume->kind);
    if (volume->label[0] != '\0') {
        fputs(" \xe2\x80\x9c", view->stream);
        markup_print(view->stream, volume->label);
        fputs("\xe2\x80\x9d", view->stream);
    }
}

/* A strip below the cells of the volume, row by row. */
static void
draw_strip(const struct view *view, const struct vhdx_volume *volume, const char *colour)
{
    uint64_t row_bytes = view->grid->cell_bytes * COLUMNS, at = volume->guest_offset, end = at + volume->length;
    char size[SIZE_TEXT_SIZE];

    fprintf(view->stream, "<g class=\"c\" fill=\"%s\"><title>partition ", colour);
    print_volume_name(view, volume);
    fprintf(view->stream, ": disk 0x%" PRIx64 " to 0x%" PRIx64 " (%s)</title>", at, end, size_short(size, volume->length));
    while (at < end) {
        uint64_t row = at / row_bytes, row_end = (row + 1) * row_bytes, to = row_end < end ? row_end : end;
        double scale = COLUMNS * CELL_WIDTH / (double)row_bytes;

        fprintf(view->stream, "<rect x=\"%.2f\" y=\"%" PRIu64 "\" width=\"%.2f\" height=\"2\"/>",
                LEFT + (double)(at - row * row_bytes) * scale, view->top + row * ROW_HEIGHT + BAR_HEIGHT + 1,
                (double)(to - at) * scale);
        at = to;
    }
    fputs("</g>\n", view->stream);
}

/* The name over the first cells, unless the one before reaches so far. */
static void
draw_strip_name(const struct view *view, const struct vhdx_volume *volume, uint64_t *free_from)
{
    uint64_t cell = volume->guest_offset / view->grid->cell_bytes, column = cell % COLUMNS;
    bool is_at_end = column + NAME_CELLS > COLUMNS;

    if (cell < *free_from)
        return;
    fprintf(view->stream, "<text x=\"%" PRIu64 "\" y=\"%" PRIu64 "\" class=\"p\"%s>",
            LEFT + (is_at_end ? COLUMNS : column) * CELL_WIDTH + (is_at_end ? 0 : 2),
            view->top + cell / COLUMNS * ROW_HEIGHT + BAR_HEIGHT - 1, is_at_end ? " text-anchor=\"end\"" : "");
    print_volume_name(view, volume);
    fputs("</text>\n", view->stream);
    *free_from = cell + NAME_CELLS;
}

static void
draw_volumes(const struct view *view)
{
    uint64_t free_from = 0;

    for (size_t i = 0; i < view->picture->volume_count; i++) {
        const struct vhdx_volume *volume = &view->picture->volumes[i];

        if (volume->number == 0)
            continue; /* no partition: the whole disk, which the heading tells */
        draw_strip(view, volume, strip_colours[i % COUNT_OF(strip_colours)]);
        draw_strip_name(view, volume, &free_from);
    }
}

/* --- headings and legends --- */

static void
print_guest_heading(const struct view *view)
{
    char size[SIZE_TEXT_SIZE];

    fprintf(view->stream, "The disk, %s", size_short(size, view->grid->length));
    if (view->picture->volume_count == 1 && view->picture->volumes[0].number == 0
        && strcmp(view->picture->volumes[0].kind, "unknown") != 0) {
        fputs(", ", view->stream);
        print_volume_name(view, &view->picture->volumes[0]);
    }
}

static void
print_file_heading(const struct view *view)
{
    char size[SIZE_TEXT_SIZE];

    fputs("The file ", view->stream);
    markup_print(view->stream, view->picture->path);
    fprintf(view->stream, ", %s, its blocks in %" PRIu64 " run%s (paler: the host keeps no space)",
            size_short(size, view->grid->length), view->picture->run_count, view->picture->run_count == 1 ? "" : "s");
}

static void
draw_heading(const struct view *view)
{
    char size[SIZE_TEXT_SIZE];

    fprintf(view->stream, "<text x=\"%u\" y=\"%u\" class=\"h\">", 12u, view->top - 12);
    (view->is_guest ? print_guest_heading : print_file_heading)(view);
    fprintf(view->stream, "; a cell is %s</text>\n", size_short(size, view->grid->cell_bytes));
}

/* A line for each kind that occurs.  Returns the height. */
static unsigned
draw_legend(const struct view *view, unsigned y)
{
    unsigned from = y;

    for (unsigned kind = 0; kind < view->grid->kind_count; kind++) {
        uint64_t bytes = sum_of(view->grid, 0, view->grid->cell_count, kind);
        char size[SIZE_TEXT_SIZE];

        if (bytes == 0)
            continue;
        fprintf(view->stream, "<rect x=\"%u\" y=\"%u\" width=\"12\" height=\"12\" stroke=\"#888\" stroke-width=\"0.5\" fill=\"",
                LEFT, y);
        print_colour(view, kind, STEPS / 2);
        fprintf(view->stream, "\"/><text x=\"%u\" y=\"%u\" class=\"l\">", LEFT + 20, y + 10);
        print_kind_name(view, kind);
        fprintf(view->stream, ": %s</text>\n", size_short(size, bytes));
        y += 18;
    }
    return y - from;
}

static unsigned
draw_view(const struct view *view)
{
    unsigned bottom = view->top + row_count(view->grid) * ROW_HEIGHT + 8;

    draw_heading(view);
    draw_offsets(view);
    draw_cells(view);
    if (view->is_guest)
        draw_volumes(view);
    return bottom + draw_legend(view, bottom);
}

/* How many kinds occur: what a legend takes. */
static unsigned
view_height(const struct view *view)
{
    unsigned kinds = 0;

    for (unsigned kind = 0; kind < view->grid->kind_count; kind++)
        kinds += sum_of(view->grid, 0, view->grid->cell_count, kind) > 0;
    return row_count(view->grid) * ROW_HEIGHT + 8 + 18 * kinds;
}

void
picture_draw_svg(FILE *stream, const struct picture *picture)
{
    struct view guest = { stream, picture, &picture->guest, true, 44 }, file = { stream, picture, &picture->file, false, 0 };
    unsigned height = guest.top + view_height(&guest) + 12;

    file.top = height + 36;
    if (picture->is_vhdx)
        height = file.top + view_height(&file) + 12;
    fprintf(stream,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %u %u\" width=\"%u\" height=\"%u\" "
            "font-family=\"sans-serif\" role=\"img\">\n<title>",
            WIDTH, height, WIDTH, height);
    markup_print(stream, picture->path);
    fputs("</title>\n<style>.h{font-size:14px;font-weight:bold}.o{font-size:9px;fill:#555}.l{font-size:12px}"
          ".p{font-size:10px;paint-order:stroke;stroke:#fff;stroke-width:3px;pointer-events:none}"
          ".c:hover rect{stroke:#000;stroke-width:1}</style>\n"
          "<rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n", stream);
    draw_view(&guest);
    if (picture->is_vhdx)
        draw_view(&file);
    fputs("</svg>\n", stream);
}
