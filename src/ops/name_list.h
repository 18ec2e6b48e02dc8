/* The names of files in one line of an error: as many as fit, and how many there are. */
#ifndef VX_NAME_LIST_H
#define VX_NAME_LIST_H

#include <stddef.h>

#define VX_NAME_LIST_SIZE 220u /* fits into a message with the rest of the sentence */

struct vx_name_list {
    char   text[VX_NAME_LIST_SIZE + 32]; /* "a.avhdx, b.avhdx and 3 more" */
    size_t used, count, shown;
};

/* Begins with a list of zeros. */
void vx_name_list_add(struct vx_name_list *list, const char *name);

#endif
