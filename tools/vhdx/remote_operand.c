/* Which operands are served over NBD, and what was between brackets.  See remote.h. */
#include "remote.h"

#include <stdlib.h>
#include <string.h>

#include "message.h"

static const char *const schemes[] = { "nbd://", "nbds://", "nbd+unix://", "nbds+unix://", "nbd+vsock://", "nbds+vsock://" };

/* What came out of joining: a text, by its address, and the words it was made of. */
static struct joined {
    const char *text;
    char      **words; /* up to a NULL */
} joined[8];
static size_t joined_count;

char *const *
remote_words(const char *operand)
{
    for (size_t i = 0; i < joined_count; i++) {
        if (joined[i].text == operand)
            return joined[i].words;
    }
    return NULL;
}

/* The words between the brackets, as one text with them. */
static char *
make_text(char *const *words, int count)
{
    size_t size = 5;
    char *text;

    for (int i = 0; i < count; i++)
        size += strlen(words[i]) + 1;
    text = need_memory(calloc(1, size));
    strcpy(text, "[ ");
    for (int i = 0; i < count; i++) {
        strcat(text, words[i]);
        strcat(text, " ");
    }
    return strcat(text, "]");
}

static char *
join(char *const *words, int count)
{
    struct joined *entry = &joined[joined_count++];

    entry->words = need_memory(calloc((size_t)count + 1, sizeof(*entry->words)));
    memcpy(entry->words, words, (size_t)count * sizeof(*words));
    return (char *)(uintptr_t)(entry->text = make_text(words, count));
}

const char *
remote_join_commands(int *argc, char **argv)
{
    int to = 0;

    for (int from = 0; from < *argc; from++) {
        int end = from + 1;

        if (strcmp(argv[from], "[") != 0) {
            argv[to++] = argv[from];
            continue;
        }
        while (end < *argc && strcmp(argv[end], "]") != 0)
            end++;
        if (end == *argc)
            return "'[' begins a command, and no ']' of its own ends it";
        if (end == from + 1)
            return "there is no command between '[' and ']'";
        if (joined_count == sizeof(joined) / sizeof(joined[0]))
            return "too many commands between '[' and ']'";
        argv[to++] = join(argv + from + 1, end - from - 1);
        from = end;
    }
    *argc = to;
    argv[to] = NULL;
    return NULL;
}

bool
remote_is(const char *operand)
{
    for (size_t i = 0; i < sizeof(schemes) / sizeof(schemes[0]); i++) {
        if (strncmp(operand, schemes[i], strlen(schemes[i])) == 0)
            return true;
    }
    return remote_words(operand) != NULL;
}
