/* See suggest.h: letters left out, added, changed, and neighbours that changed places (optimal string alignment). */
#include "suggest.h"

#include <string.h>

#define LONGEST 32 /* words beyond this are nobody's typing error */

static size_t
least(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t
distance_between(const char *a, const char *b)
{
    size_t rows[3][LONGEST + 1], a_length = strlen(a), b_length = strlen(b);
    size_t *before = rows[0], *above = rows[1], *row = rows[2];

    if (a_length > LONGEST || b_length > LONGEST)
        return LONGEST;
    for (size_t j = 0; j <= b_length; j++)
        above[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        size_t *next = before;

        row[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            row[j] = least(least(above[j] + 1, row[j - 1] + 1), above[j - 1] + (a[i - 1] != b[j - 1]));
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                row[j] = least(row[j], before[j - 2] + 1);
        }
        before = above;
        above = row;
        row = next;
    }
    return above[b_length];
}

void
suggest_begin(struct suggestion *suggestion, const char *word)
{
    /* A third of the letters may be wrong: "comapct", not "x". */
    *suggestion = (struct suggestion){ .word = word, .distance = strlen(word) / 3 + 1 };
}

void
suggest_offer(struct suggestion *suggestion, const char *known)
{
    size_t distance = distance_between(suggestion->word, known);

    if (distance < suggestion->distance) {
        suggestion->best = known;
        suggestion->distance = distance;
    }
}
