/*
 * Modules are loaded by name, never by looking what lies in a directory: a stranger's file there is not run.
 *
 * They are modules because the libraries they need are GPL in parts; the library and the plugin load none.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "readers.h"

/* `kind` is what the library calls their volumes when no reader takes them (fs.h). */
static struct module {
    const char *name, *kind;
    bool        is_loaded;
} modules[] = { { "ext", "ext", false }, { "ntfs", "NTFS", false } };

static const struct vhdx_fs_reader *
load(const char *directory, const char *name)
{
    const struct vhdx_fs_reader *reader;
    char path[4096];
    void *object;

    if ((size_t)snprintf(path, sizeof path, "%s/vhdx-fs-%s.so", directory, name) >= sizeof path)
        return NULL;
    object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        return NULL;
    reader = dlsym(object, "vhdx_fs_reader_v1");
    if (reader == NULL || reader->version != VHDX_FS_READER_VERSION) {
        dlclose(object);
        return NULL;
    }
    return reader;
}

size_t
load_readers(const struct vhdx_fs_reader *readers[MAX_READERS])
{
    const char *directory = secure_getenv("VHDX_MODULE_PATH");
    size_t count = 0;

    if (directory == NULL || directory[0] != '/')
        directory = VHDX_MODULE_DIRECTORY;
    for (size_t i = 0; i < sizeof modules / sizeof modules[0] && count < MAX_READERS; i++) {
        const struct vhdx_fs_reader *reader = load(directory, modules[i].name);

        modules[i].is_loaded = reader != NULL;
        if (reader != NULL)
            readers[count++] = reader;
    }
    return count;
}

bool
readers_lack(const struct vhdx_volume *volume)
{
    for (size_t i = 0; i < sizeof modules / sizeof modules[0]; i++) {
        if (strcmp(volume->kind, modules[i].kind) == 0)
            return volume->verdict == VHDX_VERDICT_LEFT_ALONE && !modules[i].is_loaded;
    }
    return false;
}
