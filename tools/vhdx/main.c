/* vhdx: one command over libvhdx, with a verb for each thing to do. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/disk.h>

#include "message.h"
#include "sandbox/sandbox.h"
#include "suggest.h"
#include "verbs.h"

static const struct verb *const verbs[] = {
    &create_verb,
    &info_verb,
    &map_verb,
    &check_verb,
    &convert_verb,
    &compare_verb,
    &measure_verb,
    &compact_verb,
    &trim_verb,
    &merge_verb,
    &rebase_verb,
    &flatten_verb,
    &tree_verb,
    &diff_verb,
    &resize_verb,
    &replay_verb,
    &salvage_verb,
    &dump_verb,
    &meta_verb,
    &serve_verb,
    &mount_verb,
    &unmount_verb,
    &bench_verb,
};
#define VERB_COUNT (sizeof(verbs) / sizeof(verbs[0]))

static int
print_help(void)
{
    printf("Usage: vhdx VERB [OPTIONS] ...\n"
           "Make, read, check, copy, mount and serve Hyper-V VHDX disks.\n\n");
    for (size_t i = 0; i < VERB_COUNT; i++)
        printf("  %-9s %s\n", verbs[i]->name, verbs[i]->summary);
    printf("\n'vhdx VERB --help' tells a verb's options; 'man vhdx' tells everything.\n"
           "SIZE is a number of bytes, or one with K, M, G or T (binary units).\n\n"
           "Example:\n"
           "  vhdx create disk.vhdx 20G && vhdx info disk.vhdx\n");
    return STATUS_GOOD;
}

static int
print_version(void)
{
    const struct sandbox_report available = sandbox_available();
    char text[SANDBOX_TEXT_SIZE];

    printf("vhdx %s (libvhdx %s)\n", VHDX_VERSION, vhdx_version());
    printf("sandbox here: %s\n", sandbox_text(text, &available));
    return STATUS_GOOD;
}

static const char *
nearest_verb(const char *word)
{
    struct suggestion suggestion;

    suggest_begin(&suggestion, word);
    for (size_t i = 0; i < VERB_COUNT; i++)
        suggest_offer(&suggestion, verbs[i]->name);
    return suggestion.best;
}

static int
refuse(const char *text)
{
    if (text == NULL)
        message_print("say what to do: a verb is missing");
    else if (text[0] == '-' || nearest_verb(text) == NULL)
        message_print("there is no verb '%s'", text);
    else
        message_print("there is no verb '%s': did you mean '%s'?", text, nearest_verb(text));
    fprintf(stderr, "Try 'vhdx --help' for more information.\n");
    return STATUS_USAGE;
}

static int
run(int argc, char **argv)
{
    const char *word = argc > 1 ? argv[1] : NULL;

    if (word == NULL)
        return refuse(NULL);
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0)
        return print_help();
    if (strcmp(word, "--version") == 0 || strcmp(word, "-V") == 0)
        return print_version();
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (strcmp(word, verbs[i]->name) == 0)
            return verbs[i]->run(verbs[i], argc - 1, argv + 1);
    }
    return refuse(word);
}

int
main(int argc, char **argv)
{
    int status = run(argc, argv);

    /* A result that did not reach its reader is no result. */
    if ((fflush(stdout) != 0 || ferror(stdout)) && status == STATUS_GOOD) {
        message_print("standard output cannot be written");
        status = STATUS_FAILED;
    }
    return status;
}
