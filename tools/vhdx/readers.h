/* The readers of file systems that are modules: shared objects beside the library. */
#ifndef READERS_H
#define READERS_H

#include <vhdx/fs.h>

#define MAX_READERS 8u

/*
 * Load a module by its file's name, from one directory only (below), and give what it offers by this name, or NULL.
 */
const void *load_module(const char *file_name, const char *symbol);

/*
 * Load the modules that are there, from one directory only: VHDX_MODULE_PATH when it is set (a build tree), else where they
 * were installed.  A module that is missing is no error: its file systems are recognised and left alone.
 *
 *   readers  filled with what was loaded; valid until the process ends
 *   returns  how many
 */
size_t load_readers(const struct vhdx_fs_reader *readers[MAX_READERS]);

/* After it: was this volume left alone only because its module is missing? */
bool readers_lack(const struct vhdx_volume *volume);

#endif
