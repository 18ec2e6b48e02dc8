/*
 * vhdx tree: which image of some folders is whose parent, what is wrong among them, and which verb cures it.
 *
 * Exit status: 0 every image opens, as far as can be told from what was found; 3 some do not; 1 a folder could not
 * be read, or holds more than is looked at; 2 bad usage.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <vhdx/chain.h>

#include "chain.h"
#include "files.h"
#include "json.h"
#include "message.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

#define STATUS_TROUBLE 3

/* Deeper levels are not indented further; a number tells them. */
#define INDENT_LEVELS 12
#define NAME_COLUMNS  60

enum { OPTION_DOT = 256 };

static const struct option_line lines[] = {
    { "dot", OPTION_DOT, NULL, "print a graph for Graphviz: vhdx tree --dot DIR | dot -Tsvg" },
    { 0 },
};

/*
 * What can be wrong with an image, the worst first.  In what is said, FILE stands for the image, PARENT for the
 * image it is shown below, TWIN for the one with the same GUID.
 */
static const struct trouble {
    unsigned    bit;
    const char *kind; /* in JSON */
    const char *tag;  /* beside the image; capitals when something is broken */
    const char *what, *meaning, *help;
} troubles[] = {
    { VHDX_TREE_UNREADABLE, "unreadable", "UNREADABLE",
      NULL, /* the error tells */
      "Whether it belongs to a chain is not known.",
      "vhdx check FILE" },
    { VHDX_TREE_LOOP, "loop", "LOOP",
      "FILE is among its own ancestors",
      "No image of the loop can be opened, nor any below.  This does not happen by itself: a locator was damaged or"
      " forged.",
      "vhdx rebase --relink RIGHT-PARENT FILE, where a backup or the machine's settings tell which that is" },
    { VHDX_TREE_ORPHAN, "orphan", "ORPHAN",
      "FILE has lost its parent: none here has the GUID it asks for, and none lies where it says",
      "It cannot be opened, nor what is below it: what it does not hold itself lies in the parent.",
      "vhdx info FILE tells where it looks; give more folders to search, or --map C:=DIR for a drive of Windows;"
      " once found: vhdx rebase --relink ITS-PARENT FILE" },
    { VHDX_TREE_CHANGED, "parent-changed", "PARENT CHANGED",
      "FILE asks for another GUID than its parent PARENT has: that was written to after its child was made, or is"
      " another file",
      "Read together they would show a mixture that no guest ever wrote, so they are not opened together.",
      "bring back the parent as it was, from a backup; only when its contents are the same:"
      " vhdx rebase --relink PARENT FILE" },
    { VHDX_TREE_MOVED, "parent-moved", "PARENT MOVED",
      "FILE does not say where its parent PARENT is: one of them was moved or renamed",
      "Nothing is lost: the GUIDs fit.  It cannot be opened until it knows the place.",
      "vhdx rebase --relink PARENT FILE; or --map C:=DIR, when the place is a drive of Windows" },
    { VHDX_TREE_DUPLICATE, "copy", "copy",
      "FILE has the same GUID as TWIN: one is a copy of the other",
      "Either can be the parent of what depends on one, as long as neither is written to.",
      "vhdx compare TWIN FILE tells whether they are still equal" },
};
#define TROUBLE_COUNT (sizeof(troubles) / sizeof(troubles[0]))

struct view {
    const struct vhdx_tree *tree;
    const char             *folder; /* the only one that was named, or NULL: names are then printed whole */
};

/* --- facts --- */

static bool
is_checkpoint(const struct vhdx_tree_image *image)
{
    const char *dot = strrchr(image->path, '.');

    return dot != NULL && strcasecmp(dot, ".avhdx") == 0;
}

/* A differencing image that no other needs: what a machine uses, or what was left over. */
static bool
is_leaf(const struct vhdx_tree_image *image)
{
    return image->child_count == 0 && image->info != NULL && image->info->type == VHDX_TYPE_DIFFERENCING;
}

static bool
is_broken(const struct vhdx_tree_image *image)
{
    return (image->troubles & ~VHDX_TREE_DUPLICATE) != 0;
}

static const char *
type_name(const struct vhdx_tree_image *image)
{
    if (image->info == NULL)
        return "unknown";
    if (image->info->type == VHDX_TYPE_DIFFERENCING)
        return "differencing";
    return image->info->type == VHDX_TYPE_FIXED ? "fixed" : "dynamic";
}

/* The name of an image as it is shown: without the folder, when only one was named. */
static const char *
short_name(const struct view *view, const struct vhdx_tree_image *image)
{
    size_t length = view->folder == NULL ? 0 : strlen(view->folder);

    if (length == 0 || image->is_elsewhere || strncmp(image->path, view->folder, length) != 0)
        return image->path;
    return image->path + length + strspn(image->path + length, "/");
}

static const char *
path_of(const struct view *view, size_t index)
{
    return index == VHDX_TREE_NONE ? "?" : vhdx_tree_get(view->tree, index)->path;
}

/* --- words with names in them --- */

/* What a placeholder at the start of `text` stands for; *length is how long it is. */
static const char *
find_placeholder(const struct view *view, const struct vhdx_tree_image *image, const char *text, size_t *length)
{
    const struct {
        const char *word, *path;
    } words[] = {
        { "FILE", image->path },
        { "PARENT", path_of(view, image->parent) },
        { "TWIN", path_of(view, image->twin) },
    };

    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        *length = strlen(words[i].word);
        if (strncmp(text, words[i].word, *length) == 0)
            return words[i].path;
    }
    return NULL;
}

/* The text with names in the places of its placeholders.  The caller frees it; it is not escaped. */
static char *
fill_in(const struct view *view, const struct vhdx_tree_image *image, const char *text)
{
    char *words = NULL, before = ' '; /* a placeholder begins a word: ITS-PARENT is none */
    size_t size, length;
    FILE *stream = need_memory(open_memstream(&words, &size));

    while (*text != '\0') {
        const char *path = before == ' ' ? find_placeholder(view, image, text, &length) : NULL;

        if (path != NULL) {
            fputs(path, stream);
            text += length;
            before = '.';
        } else {
            fputc(*text, stream);
            before = *text++;
        }
    }
    fclose(stream);
    return need_memory(words);
}

/* "a.avhdx has lost its parent ..." */
static char *
say_what(const struct view *view, const struct vhdx_tree_image *image, const struct trouble *trouble)
{
    const struct vhdx_error *error = image->error;
    char *words = NULL;
    size_t size;
    FILE *stream;

    if (trouble->what != NULL)
        return fill_in(view, image, trouble->what);
    stream = need_memory(open_memstream(&words, &size));
    fprintf(stream, "%s: %s", image->path, error->message[0] != '\0' ? error->message : vhdx_code_text(error->code));
    fclose(stream);
    return need_memory(words);
}

/* --- for people --- */

static size_t
count_columns(const char *text)
{
    size_t columns = 0;

    while (*text != '\0') { /* as text_print prints it; wide characters are counted as one */
        uint32_t character;
        size_t length = text_next(text, &character);

        columns += text_is_plain(character) ? 1 : length == 1 ? 4 : 8;
        text += length;
    }
    return columns;
}

static size_t
row_columns(const struct view *view, const struct vhdx_tree_image *image)
{
    size_t levels = image->depth < INDENT_LEVELS ? image->depth : INDENT_LEVELS;

    return 3 * levels + (image->depth > INDENT_LEVELS ? 6 : 0) + count_columns(short_name(view, image));
}

static size_t
widest_row(const struct view *view)
{
    size_t widest = strlen("Image");

    for (size_t i = 0; i < vhdx_tree_count(view->tree); i++) {
        size_t columns = row_columns(view, vhdx_tree_get(view->tree, i));

        if (columns > widest && columns <= NAME_COLUMNS)
            widest = columns;
    }
    return widest;
}

/* "|  |  `- ", in ASCII: it has to be readable on any console. */
static void
print_branches(const struct view *view, const struct vhdx_tree_image *image)
{
    const char *pieces[INDENT_LEVELS] = { NULL };
    const struct vhdx_tree_image *at = image;

    if (image->depth > INDENT_LEVELS)
        printf("(%03u) ", image->depth % 1000);
    for (; at->depth > 0; at = vhdx_tree_get(view->tree, at->parent)) {
        if (at->depth > INDENT_LEVELS)
            continue;
        if (at == image)
            pieces[at->depth - 1] = at->is_last ? "`- " : "|- ";
        else
            pieces[at->depth - 1] = at->is_last ? "   " : "|  ";
    }
    for (unsigned i = 0; i < INDENT_LEVELS && pieces[i] != NULL; i++)
        fputs(pieces[i], stdout);
}

/* "differencing, checkpoint, leaf, ORPHAN". */
static void
print_about(const struct vhdx_tree_image *image)
{
    char tracking[4096];
    bool is_tracked = false;

    fputs(type_name(image), stdout);
    if (is_checkpoint(image))
        fputs(", checkpoint", stdout);
    if (is_leaf(image))
        fputs(", leaf", stdout);
    if (image->is_elsewhere)
        fputs(", elsewhere", stdout);
    for (size_t kind = 0; kind < CHAIN_TRACKING_KINDS; kind++)
        is_tracked = chain_tracking_file(tracking, sizeof(tracking), image->path, kind) || is_tracked;
    if (is_tracked)
        fputs(", tracked", stdout);
    for (size_t i = 0; i < TROUBLE_COUNT; i++) {
        if ((image->troubles & troubles[i].bit) != 0)
            printf(", %s", troubles[i].tag);
    }
}

static void
print_row(const struct view *view, const struct vhdx_tree_image *image, size_t width)
{
    size_t columns = row_columns(view, image);
    char size[SIZE_TEXT_SIZE];

    print_branches(view, image);
    text_print(stdout, short_name(view, image));
    printf("%*s", columns < width ? (int)(width - columns) : 0, "");
    printf("  %10s", image->info != NULL ? size_short(size, image->info->virtual_size) : "-");
    printf("  %10s  ", size_short(size, file_allocated_size(image->path)));
    print_about(image);
    putchar('\n');
}

static void
print_and_free(char *words)
{
    text_print(stdout, words);
    free(words);
}

static void
print_trouble(const struct view *view, const struct vhdx_tree_image *image, const struct trouble *trouble)
{
    putchar('\n');
    print_and_free(say_what(view, image, trouble));
    printf("\n  %s\n  Help: ", trouble->meaning);
    print_and_free(fill_in(view, image, trouble->help));
    putchar('\n');
}

/* Of two copies the first says it for both. */
static bool
was_told(const struct view *view, size_t index, const struct trouble *trouble)
{
    size_t twin = vhdx_tree_get(view->tree, index)->twin;

    return trouble->bit == VHDX_TREE_DUPLICATE && twin < index && vhdx_tree_get(view->tree, twin)->twin == index;
}

static void
print_notes(const struct view *view, size_t index)
{
    const struct vhdx_tree_image *image = vhdx_tree_get(view->tree, index);

    for (size_t i = 0; i < TROUBLE_COUNT; i++) {
        if ((image->troubles & troubles[i].bit) != 0 && !was_told(view, index, &troubles[i]))
            print_trouble(view, image, &troubles[i]);
    }
    if (image->info != NULL && image->error->code != VHDX_OK) {
        putchar('\n');
        text_print(stdout, image->path);
        fputs(": ", stdout);
        text_print(stdout, image->error->message);
        fputs("\n  A machine that runs may just be writing its log; else the log is damaged.\n"
              "  Help: vhdx check ", stdout);
        text_print(stdout, image->path);
        putchar('\n');
    }
}

/* Files of Hyper-V's change tracking. */
static void
print_tracking(const struct view *view)
{
    bool is_any = false;
    char name[4096];

    for (size_t i = 0; i < vhdx_tree_count(view->tree); i++) {
        for (size_t kind = 0; kind < CHAIN_TRACKING_KINDS; kind++) {
            if (!chain_tracking_file(name, sizeof(name), vhdx_tree_get(view->tree, i)->path, kind))
                continue;
            if (!is_any)
                puts("\nHyper-V tracks changes in these files, which are never written here.  They are stale once\n"
                     "anything but Hyper-V writes to the image they are named after:");
            is_any = true;
            fputs("  ", stdout);
            text_print(stdout, name);
            putchar('\n');
        }
    }
}

static void
print_human(const struct view *view)
{
    size_t width = widest_row(view), count = vhdx_tree_count(view->tree), broken_count = 0;

    if (count == 0) {
        puts("No images.");
        return;
    }
    printf("%-*s  %10s  %10s  %s\n", (int)width, "Image", "Virtual", "On disk", "About");
    for (size_t i = 0; i < count; i++)
        print_row(view, vhdx_tree_get(view->tree, i), width);
    for (size_t i = 0; i < count; i++) {
        print_notes(view, i);
        broken_count += is_broken(vhdx_tree_get(view->tree, i));
    }
    print_tracking(view);
    if (broken_count == 0)
        printf("\n%zu image%s, every chain is complete.\n", count, count == 1 ? "" : "s");
    else
        printf("\n%zu image%s, %zu in trouble.\n", count, count == 1 ? "" : "s", broken_count);
}

/* --- JSON --- */

static struct json_object *
add_array(struct json_object *object, const char *key)
{
    struct json_object *array = need_memory(json_object_new_array());

    json_object_object_add(object, key, array);
    return array;
}

static void
add_words(struct json_object *object, const char *key, char *words)
{
    json_add_text(object, key, words);
    free(words);
}

static void
add_troubles(struct json_object *document, const struct view *view, const struct vhdx_tree_image *image)
{
    struct json_object *array = add_array(document, "troubles");

    for (size_t i = 0; i < TROUBLE_COUNT; i++) {
        struct json_object *object;

        if ((image->troubles & troubles[i].bit) == 0)
            continue;
        object = need_memory(json_object_new_object());
        json_add_text(object, "kind", troubles[i].kind);
        add_words(object, "message", say_what(view, image, &troubles[i]));
        json_add_text(object, "meaning", troubles[i].meaning);
        add_words(object, "help", fill_in(view, image, troubles[i].help));
        json_object_array_add(array, object);
    }
}

static void
add_tracking(struct json_object *document, const struct vhdx_tree_image *image)
{
    struct json_object *array = add_array(document, "tracking-files");
    char name[4096];

    for (size_t kind = 0; kind < CHAIN_TRACKING_KINDS; kind++) {
        if (chain_tracking_file(name, sizeof(name), image->path, kind))
            json_object_array_add(array, json_text(name));
    }
}

static void
add_info(struct json_object *document, const struct vhdx_info *info)
{
    json_add_number(document, "virtual-size", info->virtual_size);
    json_add_number(document, "file-size", info->file_size);
    json_add_guid(document, "data-write-guid", &info->data_write_guid);
    if (info->type == VHDX_TYPE_DIFFERENCING)
        json_add_guid(document, "parent-linkage", &info->parent_linkage);
}

static struct json_object *
make_image(const struct view *view, const struct vhdx_tree_image *image)
{
    struct json_object *document = need_memory(json_object_new_object());

    json_add_text(document, "filename", image->path);
    json_add_text(document, "type", type_name(image));
    json_add_number(document, "actual-size", file_allocated_size(image->path));
    if (image->info != NULL)
        add_info(document, image->info);
    if (image->parent != VHDX_TREE_NONE)
        json_add_text(document, "parent", path_of(view, image->parent));
    if (image->twin != VHDX_TREE_NONE)
        json_add_text(document, "twin", path_of(view, image->twin));
    json_add_number(document, "depth", image->depth);
    json_add_number(document, "child-count", image->child_count);
    json_add_bool(document, "leaf", is_leaf(image));
    json_add_bool(document, "checkpoint", is_checkpoint(image));
    json_add_bool(document, "elsewhere", image->is_elsewhere);
    add_tracking(document, image);
    add_troubles(document, view, image);
    if (image->error->code != VHDX_OK)
        json_object_object_add(document, "error", json_error(image->error));
    return document;
}

static void
print_json(const struct view *view)
{
    struct json_object *document = json_document(), *images;

    json_add_bool(document, "complete", vhdx_tree_is_complete(view->tree));
    images = add_array(document, "images");
    for (size_t i = 0; i < vhdx_tree_count(view->tree); i++)
        json_object_array_add(images, make_image(view, vhdx_tree_get(view->tree, i)));
    json_print(document);
}

/* --- Graphviz --- */

/* Text of a quoted string of DOT. */
static void
print_label(const char *text)
{
    while (*text != '\0') {
        uint32_t character;
        size_t length = text_next(text, &character);

        if (character == '"' || character == '\\')
            printf("\\%c", (int)character);
        else if (text_is_plain(character))
            fwrite(text, 1, length, stdout);
        else
            putchar('?');
        text += length;
    }
}

static void
print_node(const struct view *view, size_t index)
{
    const struct vhdx_tree_image *image = vhdx_tree_get(view->tree, index);
    char size[SIZE_TEXT_SIZE];

    printf("  n%zu [label=\"", index);
    print_label(short_name(view, image));
    if (image->info != NULL)
        printf("\\n%s", size_short(size, image->info->virtual_size));
    printf(", %s on disk\\n", size_short(size, file_allocated_size(image->path)));
    print_about(image);
    printf("\"%s];\n", is_broken(image) ? ", color=red" : "");
    if (image->parent != VHDX_TREE_NONE)
        printf("  n%zu -> n%zu%s;\n", index, image->parent, is_broken(image) ? " [style=dashed, color=red]" : "");
}

static void
print_dot(const struct view *view)
{
    puts("digraph vhdx {\n  rankdir=BT;\n  node [shape=box];");
    for (size_t i = 0; i < vhdx_tree_count(view->tree); i++)
        print_node(view, i);
    puts("}");
}

/* --- the verb --- */

static int
status_of(const struct vhdx_tree *tree)
{
    for (size_t i = 0; i < vhdx_tree_count(tree); i++) {
        if (is_broken(vhdx_tree_get(tree, i)))
            return STATUS_TROUBLE;
    }
    return vhdx_tree_is_complete(tree) ? STATUS_GOOD : STATUS_FAILED;
}

static int
run_tree(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct view view = { 0 };
    struct vhdx_tree *tree;
    struct vhdx_error err;
    const char *argument;
    char **folders;
    bool is_dot = false;
    int count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while (options_next(&reader, &argument) != OPTION_END)
        is_dot = true;
    count = options_operands(&reader, 1, argc, &folders);
    if (is_dot && shared.json)
        usage_error(&reader, "--dot and --json are two ways to print: give one");

    if (vhdx_tree_read(&tree, (const char *const *)folders, (size_t)count, 0, chain_parents_options(), &err) < 0) {
        if (shared.json)
            json_print(json_failure(NULL, &err));
        message_error(NULL, &err);
        return STATUS_FAILED;
    }
    view.tree = tree;
    view.folder = count == 1 ? folders[0] : NULL;
    (shared.json ? print_json : is_dot ? print_dot : print_human)(&view);
    if (!vhdx_tree_is_complete(tree))
        message_print("a folder holds more than the 1000 files that are looked at: what is said to be missing may be"
                      " there");
    status = status_of(tree);
    vhdx_tree_free(tree);
    return status;
}

const struct verb tree_verb = {
    .name = "tree",
    .synopsis = "[OPTIONS] DIR...",
    .summary = "Show which images of folders belong together",
    .details = "Parents that lie elsewhere are shown, too.  Nothing is locked or written.\n"
               "Exit status: 0 every chain is complete, 3 some are not, 1 a folder could not be read or was too\n"
               "full, 2 bad usage.\n",
    .example = "  vhdx tree /vm/web\n"
               "  vhdx tree --json /vm/* | jq -r '.images[] | select(.leaf) | .filename'\n",
    .shared = SHARED_JSON | SHARED_CHAIN,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_tree,
};
