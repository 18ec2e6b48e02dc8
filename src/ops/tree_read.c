/*
 * The images of a tree, from folders and from where their locators lead.  As in folder.c nothing is locked: the images
 * may belong to machines that run.
 */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "ops/chain_path.h"
#include "ops/tree.h"
#include "storage/storage.h"

#define MAX_FILES_DEFAULT 1000u

struct reading {
    struct vhdx_tree         *tree;
    struct vhdx_parents      *parents; /* NULL: only GUIDs count */
    struct vhdx_parent_place *place;
    unsigned                  max_files, elsewhere_count;
    bool                      is_elsewhere; /* what is added now */
    struct vhdx_error        *err;
};

static void
free_node(struct vx_tree_node *node)
{
    vx_free(node->path);
    vx_free(node->info);
    vx_free(node->error);
}

void
vhdx_tree_free(struct vhdx_tree *tree)
{
    if (tree == NULL)
        return;
    for (size_t i = 0; i < tree->count; i++)
        free_node(&tree->nodes[i]);
    vx_free(tree->nodes);
    vx_free(tree);
}

static void *
copy_of(const void *memory, size_t size)
{
    void *copy = vx_alloc(size);

    return copy == NULL ? NULL : memcpy(copy, memory, size);
}

static bool
fill_node(struct vx_tree_node *node, const struct vhdx_found_image *found)
{
    *node = (struct vx_tree_node){ .led_to = VHDX_TREE_NONE, .lies_there = VHDX_TREE_NONE };
    node->path = vx_strdup(found->path);
    node->error = copy_of(found->error, sizeof *found->error);
    if (found->info != NULL)
        node->info = copy_of(found->info, sizeof *found->info);
    node->image = (struct vhdx_tree_image){ .path = node->path, .info = node->info, .error = node->error };
    return node->path != NULL && node->error != NULL && (found->info == NULL || node->info != NULL);
}

static size_t
find_file(const struct vhdx_tree *tree, const struct vhdx_storage_identity *identity)
{
    for (size_t i = 0; i < tree->count; i++)
        if (vx_identity_equal(&tree->nodes[i].identity, identity))
            return i;
    return VHDX_TREE_NONE;
}

/* A vhdx_found. */
static int
add_image(void *context, const struct vhdx_found_image *found)
{
    struct reading              *reading = context;
    struct vhdx_tree            *tree = reading->tree;
    struct vhdx_storage_identity identity = vx_chain_identify(found->path);

    if (find_file(tree, &identity) != VHDX_TREE_NONE)
        return VHDX_OK; /* another name of it, or a folder named twice */
    if (tree->count == tree->capacity) {
        size_t               capacity = tree->capacity * 2 + 16;
        struct vx_tree_node *nodes = vx_realloc_array(tree->nodes, capacity, sizeof *nodes);

        if (nodes == NULL)
            return vx_fail_memory(reading->err, "the images of a tree");
        tree->nodes = nodes;
        tree->capacity = capacity;
    }
    if (!fill_node(&tree->nodes[tree->count], found)) {
        free_node(&tree->nodes[tree->count]);
        return vx_fail_memory(reading->err, "the images of a tree");
    }
    tree->nodes[tree->count].identity = identity;
    tree->nodes[tree->count++].image.is_elsewhere = reading->is_elsewhere;
    return VHDX_OK;
}

/* --- parents --- */

static int
read_image(const char *path, unsigned flags, struct vhdx_info *info, struct vhdx_error *err)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS | VHDX_OPEN_FORCE_SHARE | flags,
                                               .format = VHDX_FORMAT_VHDX };
    struct vhdx_disk *disk;
    int               rc = vhdx_disk_open_path(&disk, path, &options, err);

    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, info, err);
    vhdx_disk_close(disk, NULL);
    return rc;
}

/* Take in a parent that lies in none of the folders. */
static int
add_elsewhere(struct reading *reading, const char *path)
{
    struct vhdx_error error = { .code = VHDX_OK, .message = "" }, ignored;
    struct vhdx_info *info;
    int               rc;

    if (reading->elsewhere_count == reading->max_files) {
        reading->tree->was_cut = true;
        return VHDX_OK;
    }
    reading->elsewhere_count++;
    info = vx_alloc_zeroed(1, sizeof *info);
    if (info == NULL)
        return vx_fail_memory(reading->err, "facts about an image");
    rc = read_image(path, 0, info, &error);
    if (rc < 0) /* the log of a machine that runs may be half written */
        rc = read_image(path, VHDX_OPEN_IGNORE_LOG, info, &ignored);
    rc = add_image(reading, &(struct vhdx_found_image){ .path = path, .info = rc == VHDX_OK ? info : NULL,
                                                        .error = &error });
    vx_free(info);
    return rc;
}

/* The index of the image in a file, which is taken in when it is not there yet. */
static int
index_of(struct reading *reading, const char *path, size_t *out)
{
    struct vhdx_storage_identity identity;
    int                          rc = VHDX_OK;

    *out = VHDX_TREE_NONE;
    if (path[0] == '\0')
        return VHDX_OK;
    identity = vx_chain_identify(path);
    *out = find_file(reading->tree, &identity);
    if (*out == VHDX_TREE_NONE) {
        rc = add_elsewhere(reading, path);
        *out = find_file(reading->tree, &identity);
    }
    return rc;
}

static int
look_for_parent(struct reading *reading, size_t child)
{
    const struct vhdx_tree_image *image = &reading->tree->nodes[child].image;
    unsigned                      flags = VHDX_OPEN_FORCE_SHARE;
    size_t                        led_to, lies_there;
    int                           rc;

    if (image->info == NULL || image->info->type != VHDX_TYPE_DIFFERENCING)
        return VHDX_OK;
    flags |= image->error->code != VHDX_OK ? VHDX_OPEN_IGNORE_LOG : 0;
    vhdx_find_parent(image->path, flags, reading->parents, reading->place, NULL); /* `place` tells all */
    rc = index_of(reading, reading->place->path, &led_to);
    if (rc == VHDX_OK)
        rc = index_of(reading, led_to == VHDX_TREE_NONE ? reading->place->mismatch : "", &lies_there);
    if (rc < 0)
        return rc;
    reading->tree->nodes[child].was_looked_for = reading->place->is_differencing; /* the nodes may have moved */
    reading->tree->nodes[child].led_to = led_to;
    reading->tree->nodes[child].lies_there = lies_there;
    return VHDX_OK;
}

/* --- all of it --- */

static int
read_folders(struct reading *reading, const char *const *folders, size_t folder_count)
{
    bool was_cut = false;
    int  rc = VHDX_OK;

    for (size_t i = 0; i < folder_count && rc == VHDX_OK; i++) {
        rc = vhdx_scan_folder(folders[i], reading->max_files, add_image, reading, &was_cut, reading->err);
        reading->tree->was_cut = reading->tree->was_cut || was_cut;
    }
    reading->is_elsewhere = true;
    for (size_t i = 0; reading->parents != NULL && i < reading->tree->count && rc == VHDX_OK; i++)
        rc = look_for_parent(reading, i); /* also for those that are added meanwhile */
    return rc;
}

int
vhdx_tree_read(struct vhdx_tree **out, const char *const *folders, size_t folder_count, unsigned max_files,
               const struct vhdx_parents_options *parents, struct vhdx_error *err)
{
    struct reading reading = { .tree = vx_alloc_zeroed(1, sizeof *reading.tree),
                               .place = vx_alloc_zeroed(1, sizeof *reading.place),
                               .max_files = max_files != 0 ? max_files : MAX_FILES_DEFAULT, .err = err };
    int            rc = VHDX_OK;

    if (reading.tree == NULL || reading.place == NULL)
        rc = vx_fail_memory(err, "the tree of images");
    if (rc == VHDX_OK && parents != NULL && parents->mode != VHDX_PARENTS_NONE)
        rc = vhdx_parents_new(&reading.parents, parents, err);
    if (rc == VHDX_OK)
        rc = read_folders(&reading, folders, folder_count);
    if (rc == VHDX_OK)
        rc = vx_tree_match(reading.tree, err);
    if (rc == VHDX_OK)
        *out = reading.tree;
    else
        vhdx_tree_free(reading.tree);
    vhdx_parents_free(reading.parents);
    vx_free(reading.place);
    return rc;
}

bool
vhdx_tree_is_complete(const struct vhdx_tree *tree)
{
    return !tree->was_cut;
}

size_t
vhdx_tree_count(const struct vhdx_tree *tree)
{
    return tree->count;
}

const struct vhdx_tree_image *
vhdx_tree_get(const struct vhdx_tree *tree, size_t index)
{
    return index < tree->count ? &tree->nodes[index].image : NULL;
}
