/*
 * Disks and images that a program serves over NBD: operands that are a URI, or `[ COMMAND ARGUMENTS ]`, whose server is
 * started and used; and files in formats that are read by starting qemu-nbd.
 *
 * The module vhdx-nbd.so does the talking; it is loaded when the first such operand is opened.
 */
#ifndef VHDX_TOOL_REMOTE_H
#define VHDX_TOOL_REMOTE_H

#include <stdbool.h>

#include <vhdx/disk.h>
#include <vhdx/nbd.h>

/*
 * Make one operand of each `[ COMMAND ARGUMENTS ]` of a command line, so that getopt does not read the options of the
 * command.
 *
 *   argc, argv  changed in place; the new operand is a text for messages and is known to remote_is
 *   returns     NULL, or what is wrong
 */
const char *remote_join_commands(int *argc, char **argv);

/* Whether an operand is a URI of NBD or came out of remote_join_commands. */
bool remote_is(const char *operand);

/* The words of a command that was joined, up to a NULL; NULL for any other operand. */
char *const *remote_words(const char *operand);

/*
 * Open it as a storage.  For writing, an image needs a server that can flush: `facts` tells.  A command's server runs until
 * the storage is closed.
 *
 *   errors  the module is missing; the server cannot be started or reached, with what it said; VHDX_E_READ_ONLY
 */
int remote_open(struct vhdx_storage **out, const char *operand, bool is_writable, struct vhdx_nbd_facts *facts,
                struct vhdx_error *err);

/* The same of a file in a format that QEMU reads; read-only. */
int remote_open_by_qemu(struct vhdx_storage **out, const char *path, const char *qemu_format, struct vhdx_error *err);

#endif
