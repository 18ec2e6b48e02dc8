/* Opening an image, and what is in it (tree.h). */
#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <vhdx/fs.h>

#include "chain.h"
#include "message.h"

/* --- nodes --- */

static struct node *
add_node(struct tree *tree, size_t parent, enum node_kind kind)
{
    size_t count = tree->node_count + 1;

    tree->nodes = need_memory(realloc(tree->nodes, count * sizeof *tree->nodes));
    tree->nodes[count - 1] = (struct node){ .parent = parent, .kind = kind };
    tree->node_count = count;
    return &tree->nodes[count - 1];
}

static void
add_named(struct tree *tree, size_t parent, enum node_kind kind, const char *name)
{
    struct node *node = add_node(tree, parent, kind);

    snprintf(node->name, sizeof node->name, "%s", name);
}

/* A range of a disk as the file PREFIX[NUMBER].raw. */
static void
add_range(struct tree *tree, size_t parent, const char *prefix, unsigned number, struct vhdx_disk *disk,
          uint64_t guest_offset, uint64_t length)
{
    struct node *node = add_node(tree, parent, NODE_RANGE);

    if (number == 0)
        snprintf(node->name, sizeof node->name, "%s.raw", prefix);
    else
        snprintf(node->name, sizeof node->name, "%s%u.raw", prefix, number);
    node->is_writable = tree->request->is_writable && disk == tree->disk;
    node->disk = disk;
    node->guest_offset = guest_offset;
    node->length = length;
}

struct node *
tree_find(struct tree *tree, size_t parent, const char *name)
{
    for (size_t i = TREE_ROOT + 1; i < tree->node_count; i++) {
        if (tree->nodes[i].parent == parent && strcmp(tree->nodes[i].name, name) == 0)
            return &tree->nodes[i];
    }
    return NULL;
}

/* --- what is in the disk --- */

/* Table of a hostile disk: a name is given once. */
static void
add_partition(struct tree *tree, const struct vhdx_volume *volume)
{
    char name[sizeof tree->nodes->name];

    snprintf(name, sizeof name, "p%u.raw", volume->number);
    if (volume->number != 0 && tree_find(tree, TREE_ROOT, name) == NULL)
        add_range(tree, TREE_ROOT, "p", volume->number, tree->disk, volume->guest_offset, volume->length);
}

/* A disk that cannot be read where its table is has no partitions here, and is still a disk. */
static void
add_partitions(struct tree *tree)
{
    const struct vhdx_layout_options options = { .flags = VHDX_LAYOUT_NO_FREE };
    struct vhdx_layout *layout;
    struct vhdx_error err;

    if (vhdx_layout_open(&layout, tree->disk, &options, &err) < 0) {
        message_print("%s: its partitions are not shown: %s", tree->request->file, err.message);
        return;
    }
    for (size_t i = 0; i < vhdx_layout_volume_count(layout); i++)
        add_partition(tree, vhdx_layout_volume(layout, i));
    vhdx_layout_close(layout);
}

static int
add_layers(struct tree *tree, struct vhdx_error *err)
{
    unsigned count = vhdx_disk_layer_count(tree->disk);
    size_t folder = tree->node_count;

    if (count == 1)
        return VHDX_OK;
    add_named(tree, TREE_ROOT, NODE_FOLDER, "layers");
    tree->layers = need_memory(calloc(count, sizeof(struct vhdx_disk *)));
    for (unsigned depth = 1; depth < count; depth++) {
        struct vhdx_disk **layer = &tree->layers[depth - 1];
        int rc = vhdx_disk_open_layer(layer, tree->disk, depth, err);

        if (rc < 0)
            return rc;
        add_range(tree, folder, "", depth, *layer, 0, vhdx_disk_size(*layer));
    }
    return VHDX_OK;
}

static int
add_nodes(struct tree *tree, struct vhdx_error *err)
{
    add_named(tree, TREE_ROOT, NODE_FOLDER, "");
    add_range(tree, TREE_ROOT, "disk", 0, tree->disk, 0, vhdx_disk_size(tree->disk));
    add_named(tree, TREE_ROOT, NODE_DOCUMENT, "info.json");
    add_partitions(tree);
    return add_layers(tree, err);
}

/* --- the image --- */

static int
open_disk(struct tree *tree, struct vhdx_error *err)
{
    const struct mount_request *request = tree->request;
    const struct shared_options shared = { .orphan_children = request->orphans_children };
    struct vhdx_open_options options = {
        .format = VHDX_FORMAT_AUTO,
        .flags = (request->is_writable ? VHDX_OPEN_WRITE : 0) | (request->ignores_log ? VHDX_OPEN_IGNORE_LOG : 0),
    };
    int rc = request->is_writable ? chain_begin_writing(request->file, &shared, err) : VHDX_OK;

    chain_add_resolver(&options);
    return rc < 0 ? rc : vhdx_disk_open_path(&tree->disk, request->file, &options, err);
}

/* What of info.json does not change, and needs paths that will be out of reach. */
static int
learn_facts(struct tree *tree, struct vhdx_error *err)
{
    const char *file = tree->request->file;
    /* Without locks: it is open already, perhaps for writing. */
    unsigned flags = VHDX_OPEN_FORCE_SHARE | (tree->request->ignores_log ? VHDX_OPEN_IGNORE_LOG : 0);
    struct info_facts *facts = tree->facts;
    struct stat status;
    int rc = vhdx_disk_get_info(tree->disk, 0, &facts->info, err);

    if (rc < 0)
        return rc;
    tree->gives_space_back = facts->info.type != VHDX_TYPE_FIXED;
    tree->shows_parent = facts->info.type == VHDX_TYPE_DIFFERENCING;
    if (tree->shows_parent && vhdx_find_parent(file, flags, chain_policy(), &facts->parent, &facts->parent_error) == 0)
        facts->parent_error.code = 0;
    tree->file_descriptor = open(file, O_PATH | O_CLOEXEC);
    if (tree->file_descriptor >= 0 && fstat(tree->file_descriptor, &status) == 0)
        atomic_store(&tree->changed_at, status.st_mtime);
    return VHDX_OK;
}

int
tree_open(struct tree *tree, const struct mount_request *request, struct vhdx_error *err)
{
    int rc;

    *tree = (struct tree){ .request = request, .file_descriptor = -1, .count_lock = PTHREAD_MUTEX_INITIALIZER };
    tree->facts = need_memory(calloc(1, sizeof *tree->facts));
    rc = open_disk(tree, err);
    if (rc == VHDX_OK)
        rc = learn_facts(tree, err);
    if (rc == VHDX_OK)
        rc = add_nodes(tree, err);
    return rc;
}

int
tree_close(struct tree *tree, struct vhdx_error *err)
{
    for (struct vhdx_disk **layer = tree->layers; layer != NULL && *layer != NULL; layer++)
        vhdx_disk_close(*layer, NULL);
    free(tree->layers);
    free(tree->nodes);
    free(tree->facts);
    if (tree->file_descriptor >= 0)
        close(tree->file_descriptor);
    return vhdx_disk_close(tree->disk, err);
}

void
tree_note_change(struct tree *tree)
{
    atomic_fetch_add(&tree->changes, 1);
    atomic_store(&tree->changed_at, (int64_t)time(NULL));
}

char *
tree_document(struct tree *tree, size_t *length)
{
    struct info_facts *facts = malloc(sizeof *facts);
    struct json_object *document;
    struct stat status;
    char *text;
    int printed;

    if (facts == NULL)
        return NULL;
    *facts = *tree->facts;
    if (vhdx_disk_get_info(tree->disk, 0, &facts->info, NULL) < 0)
        facts->info = tree->facts->info;
    if (fstat(tree->file_descriptor, &status) == 0)
        facts->allocated_size = (uint64_t)status.st_blocks * 512;
    document = info_document(tree->request->file, facts);
    printed = asprintf(&text, "%s\n", json_object_to_json_string_ext(document, JSON_C_TO_STRING_SPACED
                                                                               | JSON_C_TO_STRING_PRETTY));
    json_object_put(document);
    free(facts);
    if (printed < 0)
        return NULL;
    *length = (size_t)printed;
    return text;
}
