/* "Did you mean ...?": the known word that is nearest to a mistyped one. */
#ifndef VHDX_TOOL_SUGGEST_H
#define VHDX_TOOL_SUGGEST_H

#include <stddef.h>

struct suggestion {
    const char *word;
    const char *best; /* of those offered, near enough; or NULL */
    size_t      distance;
};

void suggest_begin(struct suggestion *suggestion, const char *word);
void suggest_offer(struct suggestion *suggestion, const char *known);

#endif
