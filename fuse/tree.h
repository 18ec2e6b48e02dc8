/*
 * What a mounted image consists of: a few files and folders that are known when it is opened and stay the same.
 *
 *   /disk.raw             the disk
 *   /p1.raw, /p2.raw ..   its partitions, by the numbers of their table
 *   /layers/1.raw ..      the disk as its parents show it, by their depth as `vhdx map` counts it; the last is the base
 *   /info.json            what `vhdx info --json` prints
 */
#ifndef VHDX_FUSE_TREE_H
#define VHDX_FUSE_TREE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "info_document.h"
#include "request.h"

enum node_kind { NODE_FOLDER, NODE_RANGE, NODE_DOCUMENT };

/* How much of a range is data, and of which state of the disk that is true (data_size.c). */
struct data_size {
    bool     is_known;
    uint64_t bytes;
    uint64_t changes;     /* of the tree, when counting began */
    int64_t  good_until;  /* milliseconds; before, it is not counted again */
};

struct node {
    char              name[24];
    size_t            parent; /* index of a folder */
    enum node_kind    kind;
    bool              is_writable;
    struct vhdx_disk *disk; /* of a RANGE: borrowed from the tree */
    uint64_t          guest_offset, length;
    struct data_size  data_size; /* guarded by the tree's count_lock */
};

struct tree {
    /* Set by tree_open, then never changed. */
    const struct mount_request *request;
    struct node       *nodes; /* [TREE_ROOT] is the root */
    size_t             node_count;
    struct vhdx_disk  *disk;
    struct vhdx_disk **layers; /* NULL-terminated; NULL without parents */
    bool               gives_space_back; /* dynamic and differencing images do */
    bool               shows_parent;     /* what is only forgotten may show what a parent holds */
    int                file_descriptor;  /* the image's file, to ask how long it is; no rights to read */
    struct info_facts *facts; /* those that do not change while the image is open are filled */

    atomic_uint_least64_t changes; /* how often the disk was changed since */
    atomic_int_least64_t  changed_at; /* seconds; the file's time at first */
    pthread_mutex_t       count_lock;
};

#define TREE_ROOT 0

/* Open the image and find out what is in it.  What is no reason to refuse it is said to standard error. */
int tree_open(struct tree *tree, const struct mount_request *request, struct vhdx_error *err);

/* Make everything durable and close the image; NULL and half-open trees are fine. */
int tree_close(struct tree *tree, struct vhdx_error *err);

/* The node of that name in a folder, or NULL. */
struct node *tree_find(struct tree *tree, size_t parent, const char *name);

/* To be called after the disk was changed, well or not. */
void tree_note_change(struct tree *tree);

/* The text of info.json as it is now; the caller's.  NULL when memory lacks. */
char *tree_document(struct tree *tree, size_t *length);

/* Bytes of a range that its host really stores. */
uint64_t tree_data_size(struct tree *tree, struct node *node);

/* Where data (or, with wants_hole, a hole) begins at or after an offset of a range; its length when there is none. */
int tree_seek(const struct node *node, uint64_t offset, bool wants_hole, uint64_t *found, struct vhdx_error *err);

#endif
