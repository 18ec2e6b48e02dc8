/*
 * The policy for parents as users write it: --parents=none|same-dir|any|DIR,DIR and --map C:=/mnt/c.  What it takes
 * lies in one piece of memory that begins with the list of folders.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "disk/parents.h"

static enum vhdx_parents_mode
mode_of(const char *which)
{
    if (strcmp(which, "none") == 0)
        return VHDX_PARENTS_NONE;
    if (strcmp(which, "same-dir") == 0)
        return VHDX_PARENTS_SAME_DIR;
    return strcmp(which, "any") == 0 ? VHDX_PARENTS_ANY : VHDX_PARENTS_DIRECTORIES;
}

/* How many there are, or 0 when one of them has no name. */
static size_t
count_folders(const char *text)
{
    size_t count = 1;

    for (; *text != '\0' && *text != ','; text += *text == ',') {
        text += strcspn(text, ",");
        if (*text == '\0')
            return count;
        count++;
    }
    return 0;
}

/* Copy `length` bytes of text to `*room`, which moves on. */
static const char *
keep(char **room, const char *text, size_t length)
{
    char *copy = *room;

    memcpy(copy, text, length);
    copy[length] = '\0';
    *room += length + 1;
    return copy;
}

static void
split_folders(const char **folders, const char *text, char **room)
{
    for (size_t length; *text != '\0'; text += length + (text[length] == ',')) {
        length = strcspn(text, ",");
        *folders++ = keep(room, text, length);
    }
}

/* Windows has no '=' in names of drives and shares. */
static int
split_map(struct vhdx_path_map *out, const char *text, char **room, struct vhdx_error *err)
{
    const char *equals = strchr(text, '=');

    if (equals == NULL || equals == text || equals[1] == '\0')
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "\"%s\" is no map: C:=FOLDER and \\\\server\\share=FOLDER are", text);
    out->windows = keep(room, text, (size_t)(equals - text));
    out->folder = keep(room, equals + 1, strlen(equals + 1));
    return VHDX_OK;
}

int
vhdx_parents_options_parse(struct vhdx_parents_options *out, const char *which, const char *const *maps,
                           size_t map_count, struct vhdx_error *err)
{
    enum vhdx_parents_mode mode = mode_of(which);
    size_t                 folder_count = mode == VHDX_PARENTS_DIRECTORIES ? count_folders(which) : 0;
    size_t                 size = folder_count * sizeof(char *) + map_count * sizeof(struct vhdx_path_map);
    const char           **folders;
    struct vhdx_path_map  *split;
    char                  *room;
    int                    rc = VHDX_OK;

    if (mode == VHDX_PARENTS_DIRECTORIES && folder_count == 0)
        return vx_fail(err, VHDX_E_INVALID, VHDX_PART_CHAIN, VHDX_NO_OFFSET,
                       "\"%s\": none, same-dir, any, or folders with commas between them", which);
    size += strlen(which) + 1;
    for (size_t i = 0; i < map_count; i++)
        size += strlen(maps[i]) + 2;
    folders = vx_alloc(size);
    if (folders == NULL)
        return vx_fail_memory(err, "a policy for parents");

    split = (struct vhdx_path_map *)(folders + folder_count);
    room = (char *)(split + map_count);
    if (folder_count > 0)
        split_folders(folders, which, &room);
    for (size_t i = 0; i < map_count && rc == VHDX_OK; i++)
        rc = split_map(&split[i], maps[i], &room, err);
    if (rc < 0) {
        vx_free(folders);
        return rc;
    }
    *out = (struct vhdx_parents_options){ .mode = mode, .directories = folders, .directory_count = folder_count,
                                          .maps = split, .map_count = map_count };
    return VHDX_OK;
}

void
vhdx_parents_options_free(struct vhdx_parents_options *options)
{
    vx_free((void *)(uintptr_t)options->directories);
    *options = (struct vhdx_parents_options){ .mode = VHDX_PARENTS_NONE };
}
