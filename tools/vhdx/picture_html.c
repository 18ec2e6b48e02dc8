/*
 * The picture as a page: the SVG, a line that tells what the pointer rests on (a click holds it, a second one lets go), and
 * tables of the layers and partitions.  One file, nothing is loaded from anywhere.
 */
#include "picture.h"

#include <inttypes.h>

#include "sizes.h"

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
    "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'\">\n"
    "<style>\nbody{font-family:sans-serif;margin:1em;color:#111;background:#fff}\n"
    "#told{position:sticky;top:0;padding:.4em .6em;background:#fff;border-bottom:1px solid #888;min-height:1.3em}\n"
    "#told.held{background:#ffe9a8}\ntable{border-collapse:collapse;margin:1em 0}\n"
    "td,th{text-align:left;padding:.2em .8em;border-bottom:1px solid #ddd}\nsvg{max-width:100%;height:auto}\n"
    ".held-cell rect{stroke:#000;stroke-width:1.5}\n</style>\n<title>";

/* The browser's own tooltip would cover what is told above: a piece's title is taken out of the picture and kept beside. */
static const char script[] =
    "<script>\n'use strict';\nconst told = document.getElementById('told'), idle = told.textContent;\nlet held = null;\n"
    "for (const piece of document.querySelectorAll('.c')) {\n"
    "    const title = piece.querySelector('title');\n    piece.dataset.told = title.textContent;\n    title.remove();\n}\n"
    "const pieceOf = event => event.target.closest('.c');\n"
    "function tell(piece) { told.textContent = piece ? piece.dataset.told : idle; }\n"
    "document.addEventListener('pointerover', event => { if (!held) tell(pieceOf(event)); });\n"
    "document.addEventListener('click', event => {\n    const piece = pieceOf(event);\n"
    "    if (held) held.classList.remove('held-cell');\n    held = piece === held ? null : piece;\n"
    "    if (held) held.classList.add('held-cell');\n    told.classList.toggle('held', held !== null);\n    tell(piece);\n});\n"
    "</script>\n";

static void
print_layers(FILE *stream, const struct picture *picture)
{
    fputs("<table>\n<tr><th>Layer</th><th>File</th></tr>\n", stream);
    for (unsigned depth = 0; depth < vhdx_disk_layer_count(picture->disk); depth++) {
        fprintf(stream, "<tr><td>%u</td><td>", depth);
        markup_print(stream, vhdx_disk_layer_name(picture->disk, depth));
        fputs("</td></tr>\n", stream);
    }
    fputs("</table>\n", stream);
}

static void
print_volumes(FILE *stream, const struct picture *picture)
{
    if (picture->volume_count == 0)
        return;
    fputs("<table>\n<tr><th>Partition</th><th>What</th><th>Label</th><th>From</th><th>Size</th></tr>\n", stream);
    for (size_t i = 0; i < picture->volume_count; i++) {
        const struct vhdx_volume *volume = &picture->volumes[i];
        char size[SIZE_TEXT_SIZE];

        if (volume->number > 0)
            fprintf(stream, "<tr><td>%u</td><td>", volume->number);
        else
            fputs("<tr><td>whole disk</td><td>", stream);
        markup_print(stream, volume->kind);
        fputs("</td><td>", stream);
        markup_print(stream, volume->label);
        fprintf(stream, "</td><td>0x%" PRIx64 "</td><td>%s</td></tr>\n", volume->guest_offset,
                size_short(size, volume->length));
    }
    fputs("</table>\n", stream);
}

void
picture_draw_html(FILE *stream, const struct picture *picture)
{
    fputs(head, stream);
    markup_print(stream, picture->path);
    fputs("</title>\n</head>\n<body>\n<div id=\"told\">Point at a piece to see what it is; click to hold it.</div>\n", stream);
    picture_draw_svg(stream, picture);
    print_layers(stream, picture);
    print_volumes(stream, picture);
    fputs(script, stream);
    fputs("</body>\n</html>\n", stream);
}
