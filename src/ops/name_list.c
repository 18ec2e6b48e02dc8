/* See name_list.h. */
#include "ops/name_list.h"

#include <stdio.h>
#include <string.h>

void
vx_name_list_add(struct vx_name_list *list, const char *name)
{
    const char *separator = list->used > 0 ? ", " : "";
    size_t      length = strlen(separator) + strlen(name);

    if (list->shown == list->count && length < VX_NAME_LIST_SIZE - list->used) {
        snprintf(list->text + list->used, sizeof list->text - list->used, "%s%s", separator, name);
        list->used += length;
        list->shown++;
    }
    list->count++;
    if (list->shown < list->count) /* once one has no room, none after it is named */
        snprintf(list->text + list->used, sizeof list->text - list->used, "%s%zu more", list->used > 0 ? " and " : "",
                 list->count - list->shown);
}
