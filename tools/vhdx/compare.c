/* vhdx compare: do two disks show a guest the same bytes? */
#include <inttypes.h>
#include <stdio.h>

#include <vhdx/ops.h>

#include "confine.h"
#include "files.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "verbs.h"

#define STATUS_DIFFER 1
#define STATUS_ERROR  2

static const struct option_line lines[] = {
    { "second-format", 'F', "FORMAT", "format of B: vhdx, vhd or raw (-f is about A)" },
    { "strict", 's', NULL, "disks of different sizes differ, even when only zeros follow" },
    { 0 },
};

struct comparison {
    bool     is_equal;
    bool     has_difference; /* of contents: the offset counts */
    uint64_t first_difference;
    uint64_t sizes[2];
};

/* Open both and compare; *culprit is the file an error is about. */
static int
compare(struct comparison *out, char **paths, struct source_format second_format, const struct shared_options *shared,
        const char **culprit, struct vhdx_error *err)
{
    struct vhdx_disk *a = NULL, *b = NULL;
    struct progress progress;
    int rc;

    *culprit = paths[0];
    rc = file_open_disk(&a, paths[0], shared->format, shared, 0, err);
    if (rc < 0)
        return rc;
    *culprit = paths[1];
    rc = file_open_disk(&b, paths[1], second_format, shared, 0, err);
    if (rc < 0)
        goto out;
    rc = confine_narrow(shared, err);
    if (rc < 0)
        goto out;
    *culprit = NULL; /* the library names the disk where it can be told */
    out->sizes[0] = vhdx_disk_size(a);
    out->sizes[1] = vhdx_disk_size(b);

    progress_begin(&progress, shared);
    rc = vhdx_compare(a, b, &progress.hook, &out->is_equal, &out->first_difference, err);
    progress_end(&progress);
    out->has_difference = rc == 0 && !out->is_equal;
out:
    if (b != NULL)
        vhdx_disk_close(b, NULL);
    vhdx_disk_close(a, NULL);
    return rc;
}

static void
print_json(const struct comparison *comparison, char **paths)
{
    static const char *const names[] = { "a", "b" };
    struct json_object *document = json_document();

    json_add_bool(document, "identical", comparison->is_equal);
    if (comparison->has_difference)
        json_add_number(document, "first-difference", comparison->first_difference);
    for (size_t i = 0; i < 2; i++) {
        struct json_object *side = need_memory(json_object_new_object());

        json_add_text(side, "filename", paths[i]);
        json_add_number(side, "virtual-size", comparison->sizes[i]);
        json_object_object_add(document, names[i], side);
    }
    json_print(document);
}

static void
print_human(const struct comparison *comparison)
{
    if (comparison->sizes[0] != comparison->sizes[1])
        printf("Warning: Image size mismatch: %" PRIu64 " and %" PRIu64 " bytes\n", comparison->sizes[0],
               comparison->sizes[1]);
    if (comparison->has_difference)
        printf("Content mismatch at offset %" PRIu64 " (0x%" PRIx64 ")!\n", comparison->first_difference,
               comparison->first_difference);
    else if (comparison->is_equal)
        printf("Images are identical.\n");
}

static int
run_compare(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct comparison comparison = { 0 };
    struct vhdx_error err;
    struct source_format second_format = { .ours = VHDX_FORMAT_AUTO };
    const char *argument, *culprit;
    char **paths;
    bool is_strict = false;
    int letter;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == 'F')
            second_format = option_source_format(&reader, argument);
        else
            is_strict = true;
    }
    options_operands(&reader, 2, 2, &paths);
    for (size_t i = 0; i < 2; i++)
        confine_source(&shared, paths[i]);
    confine_begin(&shared, STATUS_ERROR);

    if (compare(&comparison, paths, second_format, &shared, &culprit, &err) < 0) {
        if (shared.json)
            json_print(json_failure(culprit, &err));
        message_error(culprit, &err);
        return STATUS_ERROR;
    }
    if (is_strict && comparison.sizes[0] != comparison.sizes[1])
        comparison.is_equal = false;
    if (shared.json)
        print_json(&comparison, paths);
    else if (!shared.quiet)
        print_human(&comparison);
    return comparison.is_equal ? STATUS_GOOD : STATUS_DIFFER;
}

const struct verb compare_verb = {
    .name = "compare",
    .synopsis = "[OPTIONS] A B",
    .summary = "Compare the contents of two disks",
    .details = "Exit status: 0 the same, 1 different, 2 or more an error.\n",
    .example = "  vhdx compare -f raw disk.raw disk.vhdx\n",
    .shared = SHARED_JSON | SHARED_FORMAT | SHARED_REMOTE | SHARED_READ | SHARED_CHAIN | SHARED_PROGRESS |
              SHARED_QUIET | SHARED_SANDBOX,
    .options = lines,
    .usage_status = STATUS_ERROR,
    .run = run_compare,
};
