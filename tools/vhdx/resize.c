/*
 * vhdx resize: a larger disk, or a smaller one that loses nothing anybody needs.
 *
 * Everything is judged before the first byte is written.  The second copy of a GPT moves before a disk shrinks, and after it has
 * grown: cut in between, the table is whole, and the same command goes on.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <vhdx/fs.h>
#include <vhdx/space.h>

#include "chain.h"
#include "cut.h"
#include "json.h"
#include "message.h"
#include "progress.h"
#include "sizes.h"
#include "stop.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_SHRINK = 256, OPTION_FORCE, OPTION_FIX_GPT, OPTION_ALSO };

static const struct option_line lines[] = {
    { "shrink", OPTION_SHRINK, NULL, "allow the disk to become smaller" },
    { "force", OPTION_FORCE, NULL, "cut off what is in use, too: partitions, file systems, data outside of them" },
    { "fix-gpt", OPTION_FIX_GPT, NULL, "move the backup GPT to the new end of the disk" },
    { "also", OPTION_ALSO, "DIR", "images that depend on FILE may lie here, too" },
    { "dry-run", 'n', NULL, "only tell what would be done" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_RANGE, "Nothing was changed.  What is cut off is gone, and what it was part of is damaged.",
      "shrink the file system and its partition in the guest first; 'vhdx resize --shrink FILE min' cuts what is known to be"
      " free, --force cuts all the same" },
    { VHDX_E_BAD_VOLUME, "Nothing was changed.  A table that cannot be trusted does not tell what would be cut.",
      "repair the table in the guest, or --force" },
    { VHDX_E_HAS_CHILDREN, "Nothing was changed.  They hold only what differs from their parent, and would no longer fit it.",
      "resize the child instead, or vhdx rebase --flatten CHILD makes a child stand alone" },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it; one that reads meanwhile sees torn data.",
      "close the other program and try again" },
    { VHDX_E_CANCELLED, "The disk has the size it had.", "the same command again goes on" },
};

enum relation { SIZE_SET, SIZE_ADD, SIZE_SUBTRACT, SIZE_MIN };

enum gpt_state { GPT_UNKNOWN, GPT_NONE, GPT_FITS, GPT_MOVED, GPT_DOES_NOT_FIT };
static const char *const gpt_names[] = { "unknown", "none", "fits", "moved", "does-not-fit" };

struct resizing {
    const struct shared_options *shared;
    const char                  *path;
    enum relation                relation;
    uint64_t                     amount;
    bool                         may_shrink, may_cut, fixes_gpt;
    struct vhdx_resize_options   options;
    struct progress              progress;
    struct json_object          *messages; /* with --json */

    uint64_t                     old_size, new_size;
    uint32_t                     sector_size; /* of the GPT */
    enum gpt_state               gpt;
    struct vhdx_resize_result    result;
};

/* --- the size asked for --- */

static bool
is_negative(const char *text)
{
    return text[0] == '-' && text[1] >= '0' && text[1] <= '9';
}

/* "-10G" is a size and no option: it is taken out before options are read.  Returns it, or NULL. */
static const char *
take_negative(int *argc, char **argv)
{
    for (int i = 1; i < *argc && strcmp(argv[i], "--") != 0; i++) {
        const char *taken = argv[i];

        if (!is_negative(taken))
            continue;
        memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i) * sizeof *argv); /* the NULL at the end, too */
        --*argc;
        return taken;
    }
    return NULL;
}

static void
parse_size(struct resizing *r, const struct option_reader *reader, const char *text)
{
    const char *digits = text[0] == '+' || text[0] == '-' ? text + 1 : text;

    r->relation = text[0] == '+' ? SIZE_ADD : text[0] == '-' ? SIZE_SUBTRACT : SIZE_SET;
    if (strcmp(text, "min") == 0)
        r->relation = SIZE_MIN;
    else if (!size_parse(digits, &r->amount))
        usage_error(reader, "'%s' is no size: bytes, or a number with K, M, G or T, after + or - by so much, or min", text);
}

static int
find_new_size(struct resizing *r, const struct vhdx_disk *disk, const struct vhdx_layout *layout,
              struct vhdx_error *err)
{
    switch (r->relation) {
    case SIZE_SET:
        r->new_size = r->amount;
        break;
    case SIZE_ADD:
        if (r->amount > UINT64_MAX - r->old_size)
            return fail(err, VHDX_E_INVALID, "the disk would have more than 64 TiB");
        r->new_size = r->old_size + r->amount;
        break;
    case SIZE_SUBTRACT:
        if (r->amount >= r->old_size)
            return fail(err, VHDX_E_INVALID, "the disk has %llu bytes: nothing would be left of it",
                        (unsigned long long)r->old_size);
        r->new_size = r->old_size - r->amount;
        break;
    case SIZE_MIN:
        if (vhdx_layout_get_info(layout)->verdict == VHDX_VERDICT_REFUSED)
            return fail(err, VHDX_E_BAD_VOLUME, "%s", vhdx_layout_get_info(layout)->reason);
        r->new_size = cut_least_size(disk, layout);
        break;
    }
    return VHDX_OK;
}

/* --- what the disk holds --- */

static int
judge_shrinking(const struct resizing *r, struct vhdx_disk *disk, const struct vhdx_layout *layout,
                struct vhdx_error *err)
{
    char now[SIZE_TEXT_SIZE];
    int rc;

    if (!r->may_shrink)
        return fail(err, VHDX_E_INVALID, "the disk has %s and would become smaller: that takes --shrink",
                    size_long(now, r->old_size));
    if (r->may_cut)
        return VHDX_OK;
    rc = cut_judge(disk, layout, r->new_size, err);
    if (rc == VHDX_OK && r->gpt != GPT_NONE && !r->fixes_gpt)
        return fail(err, VHDX_E_INVALID, "the backup GPT at the end of the disk would be cut off: --fix-gpt moves it, --force"
                    " leaves the disk without it");
    return rc;
}

static int
judge_content(struct resizing *r, struct vhdx_disk *disk, const struct vhdx_layout *layout, struct vhdx_error *err)
{
    const struct vhdx_layout_info *info = layout != NULL ? vhdx_layout_get_info(layout) : NULL;
    int rc;

    if (info != NULL) {
        r->sector_size = info->sector_size;
        r->gpt = info->table != VHDX_TABLE_GPT ? GPT_NONE : info->backup_is_last ? GPT_FITS : GPT_DOES_NOT_FIT;
    }
    rc = find_new_size(r, disk, layout, err);
    if (rc == VHDX_OK && r->new_size < r->old_size)
        rc = judge_shrinking(r, disk, layout, err);
    if (rc == VHDX_OK && info != NULL && info->table == VHDX_TABLE_GPT && r->fixes_gpt &&
        info->verdict == VHDX_VERDICT_REFUSED)
        rc = fail(err, VHDX_E_BAD_VOLUME, "%s", info->reason);
    if (r->gpt == GPT_FITS && r->new_size != r->old_size)
        r->gpt = GPT_DOES_NOT_FIT;
    return rc;
}

/* To grow, or to cut whatever is there, a disk's content need not be known, and so not its parents. */
static bool
needs_content(const struct resizing *r)
{
    bool is_shrinking = r->relation == SIZE_SUBTRACT || (r->relation == SIZE_SET && r->amount < r->old_size);

    return r->relation == SIZE_MIN || r->fixes_gpt || (is_shrinking && !r->may_cut);
}

static int
look_without_parents(struct resizing *r, struct vhdx_error *err)
{
    const struct vhdx_open_options options = { .flags = VHDX_OPEN_NO_PARENTS, .format = VHDX_FORMAT_VHDX };
    struct vhdx_error why = *err;
    struct vhdx_disk *disk;
    int rc = vhdx_disk_open_path(&disk, r->path, &options, err);

    if (rc < 0)
        return rc;
    r->old_size = vhdx_disk_size(disk);
    if (needs_content(r)) {
        *err = why;
        rc = why.code;
    } else {
        rc = judge_content(r, disk, NULL, err);
    }
    vhdx_disk_close(disk, NULL);
    return rc;
}

/* Judge the request by what lies in the disk. */
static int
look(struct resizing *r, struct vhdx_error *err)
{
    const struct vhdx_layout_options layout_options = { .flags = VHDX_LAYOUT_NO_FREE };
    struct vhdx_open_options options = options_for_reading(r->shared);
    struct vhdx_layout *layout = NULL;
    struct vhdx_disk *disk;
    int rc;

    options.format = VHDX_FORMAT_VHDX;
    rc = vhdx_disk_open_path(&disk, r->path, &options, err);
    if (rc == VHDX_E_NO_PARENT || rc == VHDX_E_BAD_PARENT)
        return look_without_parents(r, err);
    if (rc < 0)
        return rc;
    r->old_size = vhdx_disk_size(disk);
    rc = vhdx_layout_open(&layout, disk, &layout_options, err);
    if (rc == VHDX_OK)
        rc = judge_content(r, disk, layout, err);
    vhdx_layout_close(layout);
    vhdx_disk_close(disk, NULL);
    return rc;
}

/* --- doing it --- */

static void
say(void *context, const char *line)
{
    struct resizing *r = context;

    if (r->messages != NULL) {
        json_object_array_add(r->messages, json_text(line));
    } else if (!r->shared->quiet) {
        text_print(stdout, line);
        putchar('\n');
    }
}

static int
fix_gpt(struct resizing *r, struct vhdx_error *err)
{
    struct vhdx_open_options options = options_for_reading(r->shared);
    struct vhdx_error ignored;
    struct vhdx_disk *disk;
    bool is_changed = false;
    int rc, closed;

    if (!r->fixes_gpt || r->gpt == GPT_NONE)
        return VHDX_OK;
    options.format = VHDX_FORMAT_VHDX;
    options.flags = VHDX_OPEN_WRITE;
    rc = vhdx_disk_open_path(&disk, r->path, &options, err);
    if (rc < 0)
        return rc;
    rc = vhdx_gpt_fit(disk, r->sector_size, r->new_size, &is_changed, err);
    closed = vhdx_disk_close(disk, rc < 0 ? &ignored : err);
    if (rc == VHDX_OK && closed == VHDX_OK)
        r->gpt = is_changed ? GPT_MOVED : GPT_FITS;
    return rc < 0 ? rc : closed;
}

static int
carry_out(struct resizing *r, struct vhdx_error *err)
{
    bool is_shrinking = r->new_size < r->old_size, is_dry_run = r->options.dry_run;
    int rc;

    r->options.dry_run = true; /* the image itself, and whom it would break, before anything is written */
    rc = vhdx_resize_path(r->path, r->new_size, &r->options, NULL, NULL, NULL, &r->result, err);
    r->options.dry_run = is_dry_run;
    if (rc < 0 || is_dry_run)
        return rc;
    if (is_shrinking)
        rc = fix_gpt(r, err);
    if (rc == VHDX_OK)
        rc = vhdx_resize_path(r->path, r->new_size, &r->options, say, r, &r->progress.hook, &r->result, err);
    if (rc == VHDX_OK && !is_shrinking)
        rc = fix_gpt(r, err);
    return rc;
}

/* --- what is told --- */

static void
print_json(const struct resizing *r, struct json_object *document, int rc, const struct vhdx_error *err)
{
    json_add_bool(document, "dry-run", r->options.dry_run);
    if (rc < 0) {
        json_object_object_add(document, "error", json_error(err));
    } else {
        json_add_number(document, "old-size", r->old_size);
        json_add_number(document, "new-size", r->new_size);
        json_add_number(document, "file-size-before", r->result.file_size_before);
        json_add_number(document, "file-size-after", r->result.file_size_after);
        json_add_bool(document, "table-moved", r->result.table_moved);
        json_add_text(document, "gpt", gpt_names[r->gpt]);
    }
    json_print(document);
}

static void
print_text(const struct resizing *r)
{
    char before[SIZE_TEXT_SIZE], after[SIZE_TEXT_SIZE];
    bool is_dry_run = r->options.dry_run;

    text_print(stdout, r->path);
    if (r->new_size == r->old_size)
        printf(": the disk has %s already\n", size_long(before, r->old_size));
    else
        printf(": the disk %s from %s to %s\n",
               r->new_size > r->old_size ? is_dry_run ? "would grow" : "grew" : is_dry_run ? "would shrink" : "shrank",
               size_long(before, r->old_size), size_long(after, r->new_size));
    if (r->gpt == GPT_MOVED)
        puts("The backup GPT was moved to the end of the disk.");
    else if (r->gpt == GPT_DOES_NOT_FIT && r->fixes_gpt)
        puts("The backup GPT would be moved to the end of the disk.");
    else if (r->gpt == GPT_DOES_NOT_FIT && r->new_size < r->old_size)
        puts("The backup GPT goes with the end: the table must be repaired in the guest (gdisk: w).");
    else if (r->gpt == GPT_DOES_NOT_FIT) {
        printf("The backup GPT %s at the end of the disk: vhdx resize --fix-gpt ", is_dry_run ? "would not be" : "is not");
        text_print(stdout, r->path);
        puts(" +0 puts it there.");
    }
    if (is_dry_run)
        puts("Nothing was written: this was a dry run.");
}

static int
report(const struct resizing *r, struct json_object *document, int rc, const struct vhdx_error *err)
{
    if (document != NULL)
        print_json(r, document, rc, err);
    else if (rc == VHDX_OK && !r->shared->quiet)
        print_text(r);
    if (rc == VHDX_OK)
        return STATUS_GOOD;
    message_error(r->path, err);
    if (rc == VHDX_E_CANCELLED)
        stop_obey();
    return STATUS_FAILED;
}

/* --- the verb --- */

static void
take_option(struct resizing *r, const char **also, int letter, const char *argument)
{
    if (letter == OPTION_SHRINK)
        r->may_shrink = true;
    else if (letter == OPTION_FORCE)
        r->may_cut = true;
    else if (letter == OPTION_FIX_GPT)
        r->fixes_gpt = true;
    else if (letter == OPTION_ALSO)
        also[r->options.also_count++] = argument;
    else
        r->options.dry_run = true;
}

static int
run_resize(const struct verb *verb, int argc, char **argv)
{
    const char *negative = take_negative(&argc, argv), *argument;
    const char **also = need_memory(calloc((size_t)argc, sizeof(*also)));
    struct json_object *document = NULL;
    struct option_reader reader;
    struct shared_options shared;
    struct resizing r = { .shared = &shared };
    struct vhdx_error err;
    char **operands;
    int letter, rc;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END)
        take_option(&r, also, letter, argument);
    options_operands(&reader, negative != NULL ? 1 : 2, negative != NULL ? 1 : 2, &operands);
    parse_size(&r, &reader, negative != NULL ? negative : operands[1]);

    r.path = operands[0];
    r.options.also = also;
    r.options.parents = chain_parents_options();
    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    if (shared.json) {
        document = json_document();
        json_add_text(document, "filename", r.path);
        r.messages = need_memory(json_object_new_array());
        json_object_object_add(document, "messages", r.messages);
    }
    progress_begin(&r.progress, &shared);
    stop_watch();
    rc = look(&r, &err);
    if (rc == VHDX_OK)
        rc = carry_out(&r, &err);
    progress_end(&r.progress);
    free(also);
    return report(&r, document, rc, &err);
}

const struct verb resize_verb = {
    .name = "resize",
    .synopsis = "[OPTIONS] FILE SIZE|+N|-N|min",
    .summary = "Make the disk in an image larger or smaller",
    .details = "What is new reads as zeros.  Nothing becomes smaller without --shrink, and nothing that is in use is cut:\n"
               "no partition, no file system, no data outside of them.  min is the smallest disk that the partition\n"
               "table, or a file system without one, allows.  Partitions and file systems keep their sizes: the guest\n"
               "changes them, before a disk shrinks, after it has grown.\n",
    .example = "  vhdx resize --fix-gpt disk.vhdx +20G\n"
               "  vhdx resize --dry-run --shrink disk.vhdx min\n"
               "  vhdx resize --shrink --fix-gpt disk.vhdx min\n",
    .shared = SHARED_CHAIN | SHARED_JSON | SHARED_PROGRESS | SHARED_QUIET,
    .options = lines,
    .usage_status = STATUS_USAGE,
    .run = run_resize,
};
