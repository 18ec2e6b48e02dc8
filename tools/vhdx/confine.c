/* See confine.h. */
#include "confine.h"

#include <stdlib.h>
#include <string.h>

#include "chain.h"
#include "files.h"
#include "json.h"
#include "message.h"
#include "sandbox/sandbox.h"

/* Kept until the command ends. */
static struct sandbox_list opening, staying;

static bool
has_name(const char *path)
{
    return path != NULL && strcmp(path, "-") != 0;
}

void
confine_source(const struct shared_options *shared, const char *path)
{
    if (shared->sandbox && has_name(path))
        sandbox_allow_image(&opening, path, SANDBOX_READ, chain_parents_options());
}

void
confine_again(const struct shared_options *shared, const char *path)
{
    if (shared->sandbox)
        sandbox_allow(&staying, path, SANDBOX_READ);
}

void
confine_target(const struct shared_options *shared, const char *path)
{
    struct sandbox_list *const lists[] = { &opening, &staying };

    if (!shared->sandbox || !has_name(path))
        return;
    for (size_t i = 0; i < 2; i++) {
        if (file_is_device(path))
            sandbox_allow_image(lists[i], path, SANDBOX_WRITE, NULL);
        else
            sandbox_allow_beside(lists[i], path, SANDBOX_CHANGE_FOLDER);
    }
}

void
confine_in_place(const struct shared_options *shared, const char *path)
{
    if (!shared->sandbox)
        return;
    sandbox_allow_image(&opening, path, SANDBOX_WRITE, chain_parents_options());
    sandbox_allow_beside(&opening, path, SANDBOX_READ);
}

void
confine_begin(const struct shared_options *shared, int status)
{
    struct vhdx_error err;

    if (!shared->sandbox || sandbox_enter(&opening, NULL, &err) == VHDX_OK)
        return;
    message_error(NULL, &err);
    if (shared->json)
        json_print(json_failure(NULL, &err));
    exit(status);
}

int
confine_narrow(const struct shared_options *shared, struct vhdx_error *err)
{
    static bool is_done;

    if (!shared->sandbox || is_done)
        return VHDX_OK;
    is_done = true;
    return sandbox_enter(&staying, NULL, err);
}
