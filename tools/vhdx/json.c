/*
 * JSON documents.  json-c builds and prints them; strings are printed by us, since it passes on bytes that are no
 * UTF-8 and characters that a terminal obeys.  An invalid byte becomes U+FFFD: every reader takes the document.
 */
#include "json.h"

#include <stdio.h>

#include <json-c/printbuf.h>

#include "message.h"
#include "text.h"

struct json_object *
json_document(void)
{
    struct json_object *document = need_memory(json_object_new_object());

    json_add_number(document, "schema", 1);
    return document;
}

void
json_add_number(struct json_object *object, const char *key, uint64_t value)
{
    json_object_object_add(object, key, need_memory(json_object_new_uint64(value)));
}

void
json_add_real(struct json_object *object, const char *key, double value)
{
    char text[64];

    snprintf(text, sizeof(text), "%.6f", value);
    json_object_object_add(object, key, need_memory(json_object_new_double_s(value, text)));
}

void
json_add_bool(struct json_object *object, const char *key, bool value)
{
    json_object_object_add(object, key, need_memory(json_object_new_boolean(value)));
}

static void
append_character(struct printbuf *buffer, const char *text, size_t length, uint32_t character)
{
    if (character == '"' || character == '\\')
        sprintbuf(buffer, "\\%c", (int)character);
    else if (text_is_plain(character))
        printbuf_memappend(buffer, text, (int)length);
    else if (character == TEXT_INVALID)
        sprintbuf(buffer, "\\ufffd");
    else if (character < 0x10000)
        sprintbuf(buffer, "\\u%04x", (unsigned)character);
    else
        sprintbuf(buffer, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((character - 0x10000) >> 10)),
                  (unsigned)(0xdc00 + ((character - 0x10000) & 0x3ff)));
}

/* Prints a string object in place of json-c's own way. */
static int
serialize_text(struct json_object *object, struct printbuf *buffer, int level, int flags)
{
    const char *text = json_object_get_string(object);

    (void)level;
    (void)flags;
    printbuf_memappend(buffer, "\"", 1);
    while (*text != '\0') {
        uint32_t character;
        size_t length = text_next(text, &character);

        append_character(buffer, text, length, character);
        text += length;
    }
    return printbuf_memappend(buffer, "\"", 1);
}

struct json_object *
json_text(const char *value)
{
    struct json_object *text = need_memory(json_object_new_string(value));

    json_object_set_serializer(text, serialize_text, NULL, NULL);
    return text;
}

void
json_add_text(struct json_object *object, const char *key, const char *value)
{
    json_object_object_add(object, key, json_text(value));
}

void
json_add_guid(struct json_object *object, const char *key, const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    json_add_text(object, key, text);
}

struct json_object *
json_error(const struct vhdx_error *err)
{
    struct json_object *object = need_memory(json_object_new_object());

    json_add_text(object, "code", vhdx_code_name(err->code));
    json_add_text(object, "message", err->message[0] != '\0' ? err->message : vhdx_code_text(err->code));
    if (err->file_offset != VHDX_NO_OFFSET)
        json_add_number(object, "offset", err->file_offset);
    if (err->part != VHDX_PART_NONE)
        json_add_text(object, "part", vhdx_part_name(err->part));
    if (err->rule != 0) {
        char rule[16];

        snprintf(rule, sizeof(rule), "V%d", err->rule);
        json_add_text(object, "rule", rule);
    }
    if (err->severity != VHDX_SEVERITY_NONE)
        json_add_text(object, "severity", vhdx_severity_name(err->severity));
    return object;
}

static void
print_value(struct json_object *value, bool is_compact)
{
    int flags = JSON_C_TO_STRING_SPACED | (is_compact ? 0 : JSON_C_TO_STRING_PRETTY);
    const char *text = json_object_to_json_string_ext(value, flags);

    fputs(text != NULL ? text : "null", stdout);
    json_object_put(value);
}

void
json_print(struct json_object *value)
{
    print_value(value, false);
    fputc('\n', stdout);
}

struct json_object *
json_failure(const char *file, const struct vhdx_error *err)
{
    struct json_object *document = json_document();

    if (file != NULL)
        json_add_text(document, "filename", file);
    json_object_object_add(document, "error", json_error(err));
    return document;
}

void
json_list_begin(struct json_list *list, bool is_array, bool is_compact)
{
    *list = (struct json_list){ .is_array = is_array, .is_compact = is_compact };
    if (is_array)
        fputc('[', stdout);
}

void
json_list_add(struct json_list *list, struct json_object *value)
{
    if (list->is_array)
        fputs(list->count > 0 ? ",\n" : "\n", stdout);
    print_value(value, list->is_compact);
    list->count++;
}

void
json_list_end(struct json_list *list)
{
    fputs(list->is_array ? "\n]\n" : "\n", stdout);
}
