/* Chains of differencing images: which parents may be opened, and whom a writer would break. */
#include "chain.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "message.h"

/* What the command line said.  Kept until the command ends, as its words are. */
static struct {
    const char                 *parents;
    bool                        prefers_same_dir;
    const char                **maps;
    size_t                      map_count;
    struct vhdx_parents_options options;
    struct vhdx_parents        *policy;
} chosen;

void
chain_allow_parents(const char *text)
{
    chosen.parents = text;
}

void
chain_prefer_same_dir(void)
{
    chosen.prefers_same_dir = true;
}

void
chain_add_map(const char *text)
{
    size_t size = (chosen.map_count + 2) * sizeof(*chosen.maps);

    chosen.maps = need_memory(realloc(chosen.maps, size));
    chosen.maps[chosen.map_count++] = text;
    chosen.maps[chosen.map_count] = NULL;
}

int
chain_complete(struct vhdx_error *err)
{
    int rc = vhdx_parents_options_parse(&chosen.options, chain_parents_text(), chosen.maps, chosen.map_count, err);

    return rc < 0 ? rc : vhdx_parents_new(&chosen.policy, &chosen.options, err);
}

const char *
chain_parents_text(void)
{
    if (chosen.parents != NULL)
        return chosen.parents;
    return chosen.prefers_same_dir ? "same-dir" : "any";
}

const char *const *
chain_maps(void)
{
    static const char *const none[] = { NULL };

    return chosen.maps == NULL ? none : chosen.maps;
}

const struct vhdx_parents_options *
chain_parents_options(void)
{
    return &chosen.options;
}

struct vhdx_parents *
chain_policy(void)
{
    return chosen.policy;
}

void
chain_add_resolver(struct vhdx_open_options *options)
{
    options->resolve_parent = vhdx_parents_resolve;
    options->resolve_context = chosen.policy;
}

bool
chain_tracking_file(char *out, size_t size, const char *path, size_t kind)
{
    static const char *const endings[CHAIN_TRACKING_KINDS] = { ".rct", ".mrt" };
    struct stat found;
    int length = snprintf(out, size, "%s%s", path, endings[kind]);

    return length > 0 && (size_t)length < size && lstat(out, &found) == 0 && S_ISREG(found.st_mode);
}

int
chain_begin_writing(const char *path, const struct shared_options *shared, struct vhdx_error *err)
{
    char name[4096];
    bool is_complete = true;
    int rc = VHDX_OK;

    if (!shared->orphan_children)
        rc = vhdx_refuse_children(path, &is_complete, err);
    if (rc < 0)
        return rc;
    if (!is_complete)
        message_print("%s: not every file beside it could be looked at: images that depend on it may be among them",
                      path);
    for (size_t kind = 0; kind < CHAIN_TRACKING_KINDS; kind++) {
        if (chain_tracking_file(name, sizeof(name), path, kind))
            message_print("%s becomes stale: Hyper-V's change tracking does not see what is written here", name);
    }
    return VHDX_OK;
}
