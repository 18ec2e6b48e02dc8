/* What verbs share about chains of differencing images: which parents may be opened, and whom a writer would break. */
#ifndef VHDX_TOOL_CHAIN_H
#define VHDX_TOOL_CHAIN_H

#include <stdbool.h>

#include <vhdx/chain.h>

#include "options.h"

/* Where parents come from, as --parents and --map of the command line say; the same for all images of one run. */
void chain_allow_parents(const char *text);
void chain_add_map(const char *text);
int chain_complete(struct vhdx_error *err);

/* The words given: of --parents ("any" without), and of each --map, up to a NULL. */
const char *chain_parents_text(void);
const char *const *chain_maps(void);

/* The same as options for the library. */
const struct vhdx_parents_options *chain_parents_options(void);

/* As a resolver's context; good until the command ends, for any number of threads. */
struct vhdx_parents *chain_policy(void);

/* Let these options open chains. */
void chain_add_resolver(struct vhdx_open_options *options);

/*
 * To be called before the file at `path` is written, or replaced by another.  Refuses when images beside it depend on it
 * (unless --orphan-children), says when not all of them could be looked at, and which files of Hyper-V's change tracking
 * become stale.
 */
int chain_begin_writing(const char *path, const struct shared_options *shared, struct vhdx_error *err);

/* Name of the file in which Hyper-V tracks changes of an image, when it is there; `kind` counts from 0 until false. */
#define CHAIN_TRACKING_KINDS 2
bool chain_tracking_file(char *out, size_t size, const char *path, size_t kind);

/* Without --parents, parents come from the folder of their child alone. */
void chain_prefer_same_dir(void);

#endif
