/* What lies in a disk and what of it is free: the knowledge of file systems that verbs about space share. */
#ifndef VHDX_TOOL_FREE_SPACE_H
#define VHDX_TOOL_FREE_SPACE_H

#include <json-c/json.h>

#include <vhdx/space.h>

/* Load the modules, once and before there are threads. */
void free_space_load(void);

/* One disk: `ranges` is for the library, the rest is what was found on the way, also when that was refused. */
struct free_space {
    struct vhdx_free_ranges   ranges;
    struct vhdx_free_search   search;
    bool                      was_searched;
    enum vhdx_partition_table table;
    struct vhdx_volume       *volumes; /* owned; their `disk` is gone */
    size_t                    volume_count;
};

/* `space` stays where it is until free_space_end. */
void free_space_begin(struct free_space *space);
void free_space_end(struct free_space *space);

/* Lines for people, one a volume; and keys for a document: "partition-table" and "volumes". */
void free_space_print(const struct free_space *space);
void free_space_add_json(const struct free_space *space, struct json_object *document);

#endif
