/* The picture of the disk for a terminal: a few lines of cells, coloured where the output is a terminal, else letters. */
#include "picture.h"

#include <inttypes.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "sizes.h"
#include "text.h"

#define ROWS_MOST     16u
#define COLUMNS_MOST  256u
#define COLUMNS_TAKEN 18u /* by the offset before a row */

struct palette {
    char        letter;
    const char *colour; /* of the background, as a terminal is told */
};

static const struct palette guest_palette[] = { { '.', "48;5;254" }, { '0', "48;5;250" }, { '?', "48;5;231" } };
static const struct palette layer_palette[] = { { '#', "48;5;25" },  { '1', "48;5;172" }, { '2', "48;5;36" },
                                                { '3', "48;5;175" }, { '4', "48;5;74" },  { '5', "48;5;166" },
                                                { '6', "48;5;142" }, { '7', "48;5;244" } };

static const struct palette *
palette_of(unsigned kind)
{
    if (kind < GUEST_DATA)
        return &guest_palette[kind];
    return &layer_palette[(kind - GUEST_DATA) % (sizeof(layer_palette) / sizeof(layer_palette[0]))];
}

static unsigned
columns_of(FILE *stream)
{
    struct winsize window;
    unsigned columns = ioctl(fileno(stream), TIOCGWINSZ, &window) == 0 && window.ws_col > 0 ? window.ws_col : 80;

    columns = columns > COLUMNS_TAKEN + 16 ? columns - COLUMNS_TAKEN - 1 : 16;
    return columns < COLUMNS_MOST ? columns : COLUMNS_MOST;
}

/* The kind of which most is in cells [first, first + count).  What is not allocated gives way to a few bytes that are: where
 * something lies is what one looks for. */
static unsigned
main_kind(const struct grid *grid, size_t first, size_t count)
{
    uint64_t most = 0;
    unsigned best = GUEST_UNALLOCATED;

    for (unsigned kind = GUEST_UNALLOCATED + 1; kind < grid->kind_count; kind++) {
        uint64_t sum = 0;

        for (size_t cell = first; cell < first + count && cell < grid->cell_count; cell++)
            sum += grid->bytes[cell * grid->kind_count + kind];
        if (sum > most) {
            most = sum;
            best = kind;
        }
    }
    return best;
}

static void
put_cell(FILE *stream, unsigned kind, bool is_coloured)
{
    const struct palette *palette = palette_of(kind);

    if (is_coloured)
        fprintf(stream, "\033[%sm \033[0m", palette->colour);
    else
        fputc(palette->letter, stream);
}

static void
print_legend(FILE *stream, const struct picture *picture, bool is_coloured)
{
    for (unsigned kind = 0; kind < picture->guest.kind_count; kind++) {
        uint64_t sum = 0;
        char name[4200], size[SIZE_TEXT_SIZE];

        for (size_t cell = 0; cell < picture->guest.cell_count; cell++)
            sum += picture->guest.bytes[cell * picture->guest.kind_count + kind];
        if (sum == 0)
            continue;
        put_cell(stream, kind, is_coloured);
        fputs("  ", stream);
        text_print(stream, guest_kind_name(picture, kind, name, sizeof(name)));
        fprintf(stream, ": %s\n", size_short(size, sum));
    }
}

/* As many cells of the grid in a character as it takes for at most ROWS_MOST rows. */
void
picture_draw_terminal(FILE *stream, const struct picture *picture)
{
    const struct grid *grid = &picture->guest;
    bool is_coloured = isatty(fileno(stream)) == 1;
    size_t columns = columns_of(stream), each = grid->cell_count / (columns * ROWS_MOST) + 1;

    for (size_t cell = 0; cell < grid->cell_count; cell += columns * each) {
        fprintf(stream, "0x%-*" PRIx64, (int)COLUMNS_TAKEN - 2, cell * grid->cell_bytes);
        for (size_t at = cell; at < cell + columns * each && at < grid->cell_count; at += each)
            put_cell(stream, main_kind(grid, at, each), is_coloured);
        fputc('\n', stream);
    }
    print_legend(stream, picture, is_coloured);
}
