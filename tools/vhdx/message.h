/* What the command says when something is wrong: what and where, what it means, which command helps. */
#ifndef VHDX_TOOL_MESSAGE_H
#define VHDX_TOOL_MESSAGE_H

#include <stddef.h>

#include <vhdx/error.h>

/* Fill an error of the command's own and return its code. */
int fail(struct vhdx_error *err, enum vhdx_code code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The same from an errno, whose text follows the message. */
int fail_errno(struct vhdx_error *err, int system_errno, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Print `vhdx: FILE: message` to stderr, then the other two parts where there is something to say.  FILE may be
 * NULL. */
void message_error(const char *file, const struct vhdx_error *err);

/* What an error means for the data and the command that helps (NULL: none), where a verb knows better than message.c
 * does.  The list is kept until the command ends. */
struct message_advice {
    int         code;
    const char *meaning;
    const char *remedy;
};
void message_advise(const struct message_advice *its_advices, size_t count);

/* Print `vhdx: message` to stderr, escaped. */
void message_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* "V134, block allocation table, offset 0x300018", as much of it as is known; empty when nothing is. */
#define MESSAGE_PLACE_SIZE 96
const char *message_place(char text[MESSAGE_PLACE_SIZE], const struct vhdx_error *err);

/* Memory that cannot be had ends the command. */
void *need_memory(void *memory);

#endif
