/* vhdx meta: items that users keep in an image, the identity of its disk, and the physical sector size it reports. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <vhdx/metadata.h>

#include "json.h"
#include "message.h"
#include "sizes.h"
#include "text.h"
#include "verbs.h"

enum { OPTION_FILE = 256, OPTION_VIRTUAL_DISK, OPTION_THIS_FILE, OPTION_ALSO };

#define MOST ((size_t)VHDX_METADATA_ITEM_MOST)

static const struct option_line lines[] = {
    { "file", OPTION_FILE, "PATH", "of set: take the value from a file; - is standard input" },
    { "virtual-disk", OPTION_VIRTUAL_DISK, NULL, "of set: the item is the disk's, children and merges carry it on" },
    { "this-file", OPTION_THIS_FILE, NULL, "of set: the item is this file's (default of a new one)" },
    { "also", OPTION_ALSO, "DIR", "look for images that depend on it in DIR, too" },
    { "dry-run", 'n', NULL, "tell only whether it could be done" },
    { 0 },
};

static const struct message_advice advices[] = {
    { VHDX_E_LIMIT, "Nothing was changed.", "vhdx meta list FILE shows what is there" },
    { VHDX_E_IN_USE, "Two programs that write one image destroy it.", "close the other program, or shut down the guest, first" },
};
/* Of an item that is not there; a file that is not there says everything itself. */
static const struct message_advice no_item[] = {
    { VHDX_E_NOT_FOUND, "Nothing was changed.", "vhdx meta list FILE shows which there are; the format's own items are shown"
      " by vhdx dump --metadata FILE" },
};

enum kind { USER_ITEM, DISK_ID, PHYSICAL_SECTOR };

struct meta {
    const struct option_reader  *reader;
    const struct shared_options *shared;
    const char                  *path;
    enum kind                    kind;
    struct vhdx_guid             id;       /* of a user item; zero: a new one */
    const char                  *value;    /* an argument; NULL: none */
    const char                  *value_path; /* --file */
    struct vhdx_metadata_change  change;
    struct vhdx_metadata_options options;
    struct json_object          *messages;
};

/* --- reading --- */

static int
read_info(const struct meta *meta, struct vhdx_info *info, struct vhdx_error *err)
{
    struct vhdx_open_options options = options_for_reading(meta->shared);
    struct vhdx_disk *disk;
    int rc;

    options.flags |= VHDX_OPEN_NO_PARENTS;
    options.format = VHDX_FORMAT_VHDX;
    rc = vhdx_disk_open_path(&disk, meta->path, &options, err);
    if (rc < 0)
        return rc;
    rc = vhdx_disk_get_info(disk, 0, info, err);
    vhdx_disk_close(disk, NULL);
    return rc;
}

static const char *
owner_of(const struct vhdx_metadata_item *item)
{
    return item->is_virtual_disk ? "the disk's" : "this file's";
}

/* Into an array, or onto standard output. */
static int
take_item(void *context, const struct vhdx_metadata_item *item)
{
    struct json_object *items = context, *object;
    char text[VHDX_GUID_TEXT_SIZE];

    if (items == NULL) {
        vhdx_guid_format(text, &item->id);
        printf("%s: %" PRIu32 " bytes, %s\n", text, item->length, owner_of(item));
        return 0;
    }
    object = need_memory(json_object_new_object());
    json_add_guid(object, "id", &item->id);
    json_add_number(object, "length", item->length);
    json_add_bool(object, "is-virtual-disk", item->is_virtual_disk);
    json_object_array_add(items, object);
    return 0;
}

static int
list(struct meta *meta, struct vhdx_error *err)
{
    unsigned flags = options_for_reading(meta->shared).flags;
    struct vhdx_info *info = need_memory(malloc(sizeof(*info)));
    struct json_object *items = NULL, *document;
    char text[VHDX_GUID_TEXT_SIZE];
    int rc = read_info(meta, info, err);

    if (rc == VHDX_OK && meta->shared->json) {
        items = need_memory(json_object_new_array());
        rc = vhdx_metadata_list_path(meta->path, flags, take_item, items, err);
        document = json_document();
        json_add_text(document, "filename", meta->path);
        json_add_guid(document, "disk-id", &info->disk_id);
        json_add_number(document, "physical-sector", info->physical_sector_size);
        json_object_object_add(document, "items", items);
        if (rc == VHDX_OK)
            json_print(document);
        else
            json_object_put(document);
    } else if (rc == VHDX_OK) {
        vhdx_guid_format(text, &info->disk_id);
        printf("disk-id: %s\nphysical-sector: %" PRIu32 "\n", text, info->physical_sector_size);
        rc = vhdx_metadata_list_path(meta->path, flags, take_item, NULL, err);
    }
    free(info);
    return rc;
}

/* What a terminal would obey is not for a terminal. */
static bool
is_text(const uint8_t *bytes, size_t length)
{
    char *text = need_memory(malloc(length + 1));
    bool is_plain = memchr(bytes, 0, length) == NULL;

    memcpy(text, bytes, length);
    text[length] = '\0';
    for (const char *at = text; is_plain && *at != '\0';) {
        uint32_t character;
        size_t used = text_next(at, &character);

        is_plain = text_is_plain(character) || character == '\n' || character == '\t';
        at += used;
    }
    free(text);
    return is_plain;
}

static void
print_item(const struct meta *meta, const struct vhdx_metadata_item *item, const uint8_t *bytes)
{
    struct json_object *document = json_document();
    char *hex = need_memory(malloc(2 * (size_t)item->length + 1));

    hex[0] = '\0';
    for (uint32_t i = 0; i < item->length; i++)
        snprintf(hex + 2 * (size_t)i, 3, "%02x", bytes[i]);
    json_add_text(document, "filename", meta->path);
    json_add_guid(document, "id", &item->id);
    json_add_number(document, "length", item->length);
    json_add_bool(document, "is-virtual-disk", item->is_virtual_disk);
    json_object_object_add(document, "bytes", need_memory(json_object_new_string(hex)));
    json_print(document);
    free(hex);
}

static int
get_item(struct meta *meta, struct vhdx_error *err)
{
    uint8_t *bytes = need_memory(malloc(MOST));
    struct vhdx_metadata_item item;
    int rc = vhdx_metadata_get_path(meta->path, options_for_reading(meta->shared).flags, &meta->id, bytes, MOST, &item, err);

    if (rc == VHDX_OK && meta->shared->json)
        print_item(meta, &item, bytes);
    else if (rc == VHDX_OK && isatty(STDOUT_FILENO) && !is_text(bytes, item.length))
        rc = fail(err, VHDX_E_UNSUPPORTED, "the item holds bytes that are no text: send them to a file or a pipe, or use --json");
    else if (rc == VHDX_OK)
        fwrite(bytes, 1, item.length, stdout);
    free(bytes);
    return rc;
}

static int
get(struct meta *meta, struct vhdx_error *err)
{
    struct vhdx_info *info;
    struct json_object *document;
    char text[VHDX_GUID_TEXT_SIZE];
    int rc;

    if (meta->kind == USER_ITEM)
        return get_item(meta, err);
    info = need_memory(malloc(sizeof(*info)));
    rc = read_info(meta, info, err);
    if (rc == VHDX_OK && meta->shared->json) {
        document = json_document();
        json_add_text(document, "filename", meta->path);
        if (meta->kind == DISK_ID)
            json_add_guid(document, "disk-id", &info->disk_id);
        else
            json_add_number(document, "physical-sector", info->physical_sector_size);
        json_print(document);
    } else if (rc == VHDX_OK && meta->kind == DISK_ID) {
        vhdx_guid_format(text, &info->disk_id);
        puts(text);
    } else if (rc == VHDX_OK) {
        printf("%" PRIu32 "\n", info->physical_sector_size);
    }
    free(info);
    return rc;
}

/* --- changing --- */

/* The library's lines for people: with the document, or before the result. */
static void
take_line(void *context, const char *line)
{
    struct meta *meta = context;

    if (meta->shared->json)
        json_object_array_add(meta->messages, json_text(line));
    else
        message_print("%s", line);
}

static void
report(const struct meta *meta, const struct vhdx_metadata_result *result)
{
    static const char *const names[] = { [DISK_ID] = "disk-id", [PHYSICAL_SECTOR] = "physical-sector" };
    struct json_object *document;
    char text[VHDX_GUID_TEXT_SIZE] = "";

    if (meta->kind != PHYSICAL_SECTOR)
        vhdx_guid_format(text, &result->id);
    if (meta->shared->json) {
        document = json_document();
        json_add_text(document, "filename", meta->path);
        if (meta->kind != PHYSICAL_SECTOR)
            json_add_guid(document, meta->kind == DISK_ID ? "disk-id" : "id", &result->id);
        else
            json_add_number(document, "physical-sector", meta->change.sector_size);
        json_add_bool(document, "changed", result->is_changed);
        json_add_bool(document, "region-moved", result->region_moved);
        json_add_bool(document, "was-dirty", result->is_dirty);
        json_add_bool(document, "dry-run", meta->options.dry_run);
        json_object_object_add(document, "messages", meta->messages);
        json_print(document);
        return;
    }
    if (meta->shared->quiet)
        return;
    text_print(stdout, meta->path);
    if (meta->kind == USER_ITEM)
        printf(": item %s", text);
    else if (meta->kind == DISK_ID)
        printf(": %s %s", names[meta->kind], text);
    else
        printf(": %s %" PRIu32, names[meta->kind], meta->change.sector_size);
    if (!result->is_changed)
        puts(" is so already");
    else
        printf("%s %s\n", meta->options.dry_run ? " would be" : "",
               meta->change.what == VHDX_METADATA_REMOVE ? "removed" : "set");
}

/* The bytes of a file, at most one more than an item holds: the library says that this is too much. */
static int
read_value(const char *path, uint8_t *bytes, size_t *length, struct vhdx_error *err)
{
    bool is_input = strcmp(path, "-") == 0;
    int descriptor = is_input ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = 1;

    *length = 0;
    while (descriptor >= 0 && got > 0 && *length < MOST + 1) {
        got = read(descriptor, bytes + *length, MOST + 1 - *length);
        if (got < 0 && errno == EINTR)
            got = 1;
        else if (got > 0)
            *length += (size_t)got;
    }
    if (descriptor < 0 || got < 0)
        fail_errno(err, errno, "the value, %s", is_input ? "standard input" : path);
    if (descriptor >= 0 && !is_input)
        close(descriptor);
    return descriptor < 0 || got < 0 ? err->code : VHDX_OK;
}

static int
carry_out(struct meta *meta, struct vhdx_error *err)
{
    struct vhdx_metadata_result result;
    int rc;

    if (meta->shared->force_share || meta->shared->ignore_log)
        usage_error(meta->reader, "what is changed is locked, and its log replayed: no --force-share or --ignore-log");
    meta->messages = meta->shared->json ? need_memory(json_object_new_array()) : NULL;
    rc = vhdx_metadata_change_path(meta->path, &meta->change, &meta->options, take_line, meta, &result, err);
    if (rc == VHDX_OK)
        report(meta, &result);
    else
        json_object_put(meta->messages);
    return rc;
}

static int
set_item(struct meta *meta, struct vhdx_error *err)
{
    uint8_t *bytes = need_memory(malloc(MOST + 1));
    int rc = VHDX_OK;

    if (meta->value_path != NULL) {
        rc = read_value(meta->value_path, bytes, &meta->change.length, err);
        meta->change.bytes = bytes;
    } else {
        meta->change.bytes = meta->value;
        meta->change.length = strlen(meta->value);
    }
    meta->change.what = VHDX_METADATA_SET;
    meta->change.id = meta->id;
    if (rc == VHDX_OK)
        rc = carry_out(meta, err);
    free(bytes);
    return rc;
}

static int
set(struct meta *meta, struct vhdx_error *err)
{
    struct vhdx_metadata_change *change = &meta->change;

    if (meta->value != NULL && meta->value_path != NULL)
        usage_error(meta->reader, "the value is an argument or --file, not both");
    if (meta->value == NULL && (meta->value_path == NULL || meta->kind != USER_ITEM))
        usage_error(meta->reader, "set needs a value%s", meta->kind == USER_ITEM ? ", or --file=PATH" : "");
    if (meta->kind == USER_ITEM)
        return set_item(meta, err);
    change->what = meta->kind == DISK_ID ? VHDX_METADATA_DISK_ID : VHDX_METADATA_PHYSICAL_SECTOR;
    if (meta->kind == PHYSICAL_SECTOR)
        change->sector_size = (uint32_t)option_number(meta->reader, "physical-sector", meta->value, 512, 4096);
    else if (strcmp(meta->value, "new") != 0
             && (!vhdx_guid_parse(&change->id, meta->value) || vhdx_guid_is_zero(&change->id)))
        usage_error(meta->reader, "disk-id takes a GUID that is not zero, or new, not '%s'", meta->value);
    return carry_out(meta, err);
}

static int
remove_item(struct meta *meta, struct vhdx_error *err)
{
    if (meta->kind != USER_ITEM)
        usage_error(meta->reader, "a disk always has its disk-id and physical-sector: they can be set, not removed");
    meta->change.what = VHDX_METADATA_REMOVE;
    meta->change.id = meta->id;
    return carry_out(meta, err);
}

/* --- the command line --- */

static const struct action {
    const char *name;
    int         least, most; /* operands, itself included */
    bool        makes_items;
    int (*run)(struct meta *meta, struct vhdx_error *err);
} actions[] = {
    { "list", 2, 2, false, list },
    { "get", 3, 3, false, get },
    { "set", 3, 4, true, set },
    { "rm", 3, 3, false, remove_item },
};

static const struct action *
find_action(const struct option_reader *reader, const char *name)
{
    for (size_t i = 0; i < sizeof(actions) / sizeof(actions[0]); i++) {
        if (strcmp(name, actions[i].name) == 0)
            return &actions[i];
    }
    usage_error(reader, "there is no '%s': list, get, set and rm are", name);
}

static void
read_item_name(struct meta *meta, const struct action *action, const char *text)
{
    if (strcmp(text, "disk-id") == 0)
        meta->kind = DISK_ID;
    else if (strcmp(text, "physical-sector") == 0)
        meta->kind = PHYSICAL_SECTOR;
    else if (!(action->makes_items && strcmp(text, "new") == 0)
             && (!vhdx_guid_parse(&meta->id, text) || vhdx_guid_is_zero(&meta->id)))
        usage_error(meta->reader, "'%s' is no item: a GUID that is not zero%s, disk-id or physical-sector", text,
                    action->makes_items ? ", new" : "");
}

static int
run_action(struct meta *meta, const struct action *action)
{
    struct vhdx_error err;
    int rc;

    message_advise(advices, sizeof(advices) / sizeof(advices[0]));
    rc = action->run(meta, &err);
    if (rc == VHDX_OK)
        return STATUS_GOOD;
    if (meta->shared->json)
        json_print(json_failure(meta->path, &err));
    if (err.part == VHDX_PART_METADATA && err.code == VHDX_E_NOT_FOUND)
        message_advise(no_item, sizeof(no_item) / sizeof(no_item[0]));
    message_error(meta->path, &err);
    return STATUS_FAILED;
}

static int
run_meta(const struct verb *verb, int argc, char **argv)
{
    struct option_reader reader;
    struct shared_options shared;
    struct meta meta = { .reader = &reader, .shared = &shared, .change = { .keeps_kind = true } };
    const char **also = need_memory(calloc((size_t)argc, sizeof(*also)));
    const struct action *action;
    const char *argument;
    char **operands;
    int letter, count, status;

    options_begin(&reader, verb, argc, argv, &shared);
    while ((letter = options_next(&reader, &argument)) != OPTION_END) {
        if (letter == OPTION_FILE)
            meta.value_path = argument;
        else if (letter == OPTION_ALSO)
            also[meta.options.also_count++] = argument;
        else if (letter == 'n')
            meta.options.dry_run = true;
        else
            meta.change.keeps_kind = false, meta.change.is_virtual_disk = letter == OPTION_VIRTUAL_DISK;
    }
    count = options_operands(&reader, 2, 4, &operands);
    action = find_action(&reader, operands[0]);
    if (count < action->least)
        usage_error(&reader, "%s needs an item: a GUID, disk-id or physical-sector", action->name);
    if (count > action->most)
        usage_error(&reader, "'%s' is one argument too many", operands[action->most]);
    meta.path = operands[1];
    meta.options.also = also;
    meta.options.orphan_children = shared.orphan_children;
    if (count > 2)
        read_item_name(&meta, action, operands[2]);
    meta.value = count > 3 ? operands[3] : NULL;
    status = run_action(&meta, action);
    free(also);
    return status;
}

const struct verb meta_verb = {
    .name = "meta",
    .synopsis = "list|get|set|rm [OPTIONS] FILE [ITEM [VALUE]]",
    .summary = "Keep data of your own in an image; change the identity of its disk",
    .details = "ITEM is the GUID of an item of yours, or disk-id or physical-sector, which can be got and set.  set takes\n"
               "'new' for a GUID that nobody has.  A copy of an image becomes a disk of its own by a new disk-id.\n"
               "get writes the item's bytes as they are.\n",
    .example = "  vhdx meta set copy.vhdx disk-id new\n"
               "  vhdx meta set disk.vhdx 6f1d6c26-2e75-4ad0-8d3e-0a0d4fbd7d5e 'backed up on Monday'\n"
               "  vhdx meta get disk.vhdx 6f1d6c26-2e75-4ad0-8d3e-0a0d4fbd7d5e\n"
               "  vhdx meta list --json disk.vhdx\n",
    .options = lines,
    .shared = SHARED_JSON | SHARED_QUIET | SHARED_READ | SHARED_WRITE,
    .usage_status = STATUS_USAGE,
    .run = run_meta,
};
