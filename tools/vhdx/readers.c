/*
 * Modules are loaded by name, never by looking what lies in a directory: a stranger's file there is not run.  They are from
 * one directory: VHDX_MODULE_PATH when it is set (a build tree), else where they were installed.
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

#ifdef VHDX_NO_MODULES
const void *
load_module(const char *file_name, const char *symbol)
{
    (void)file_name, (void)symbol;
    return NULL;
}
#else
const void *
load_module(const char *file_name, const char *symbol)
{
    const char *directory = secure_getenv("VHDX_MODULE_PATH");
    const void *found;
    char path[4096];
    void *object;

    if (directory == NULL || directory[0] != '/')
        directory = VHDX_MODULE_DIRECTORY;
    if ((size_t)snprintf(path, sizeof path, "%s/%s", directory, file_name) >= sizeof path)
        return NULL;
    object = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (object == NULL)
        return NULL;
    found = dlsym(object, symbol);
    if (found == NULL)
        dlclose(object);
    return found;
}
#endif

static const struct vhdx_fs_reader *
load(const char *name)
{
    const struct vhdx_fs_reader *reader;
    char file_name[64];

    snprintf(file_name, sizeof file_name, "vhdx-fs-%s.so", name);
    reader = load_module(file_name, "vhdx_fs_reader_v1");
    return reader != NULL && reader->version == VHDX_FS_READER_VERSION ? reader : NULL;
}

size_t
load_readers(const struct vhdx_fs_reader *readers[MAX_READERS])
{
    size_t count = 0;

    for (size_t i = 0; i < sizeof modules / sizeof modules[0] && count < MAX_READERS; i++) {
        const struct vhdx_fs_reader *reader = load(modules[i].name);

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
