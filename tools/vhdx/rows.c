/* See rows.h. */
#include "rows.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "message.h"
#include "text.h"

#define TITLE_SIZE 1024

static void
print_json(struct json_object *value)
{
    const char *text = json_object_to_json_string_ext(value, JSON_C_TO_STRING_SPACED);

    fputs(text != NULL ? text : "null", stdout);
    json_object_put(value);
}

void
rows_begin(struct rows *rows, bool is_json, const char *path)
{
    *rows = (struct rows){ .is_json = is_json };
    if (!is_json)
        return;
    printf("{\n\"schema\": 1");
    rows_member(rows, "filename", json_text(path));
}

void
rows_member(struct rows *rows, const char *key, struct json_object *value)
{
    if (!rows->is_json) {
        json_object_put(value);
        return;
    }
    printf(",\n\"%s\": ", key);
    print_json(value);
}

void
rows_section(struct rows *rows, const char *key, const char *heading)
{
    if (rows->is_json) {
        printf(",\n\"%s\": ", key);
        json_list_begin(&rows->list, true, true);
    } else {
        printf("%s%s\n", rows->has_section ? "\n" : "", heading);
    }
    rows->has_section = true;
}

void
rows_end_section(struct rows *rows)
{
    if (rows->is_json)
        fputs("\n]", stdout);
}

void
rows_end(struct rows *rows)
{
    if (rows->is_json)
        fputs("\n}\n", stdout);
}

void
row_begin(struct rows *rows, const char *kind, const char *title, ...)
{
    char text[TITLE_SIZE];
    va_list arguments;

    rows->has_details = false;
    if (rows->is_json) {
        rows->object = need_memory(json_object_new_object());
        json_add_text(rows->object, "kind", kind);
        return;
    }
    va_start(arguments, title);
    vsnprintf(text, sizeof(text), title, arguments);
    va_end(arguments);
    fputs("  ", stdout);
    text_print(stdout, text);
    putchar('\n');
}

void
row_details(struct rows *rows)
{
    rows->has_details = true;
}

/* Begin a line of details; false when nothing is to be printed. */
static bool
begin_line(const struct rows *rows, const char *key)
{
    if (!rows->has_details)
        return false;
    printf("    %s: ", key);
    return true;
}

void
row_number(struct rows *rows, const char *key, uint64_t value)
{
    if (rows->is_json)
        json_add_number(rows->object, key, value);
    else if (begin_line(rows, key))
        printf("%" PRIu64 "\n", value);
}

void
row_place(struct rows *rows, const char *key, uint64_t value)
{
    if (rows->is_json)
        json_add_number(rows->object, key, value);
    else if (begin_line(rows, key))
        printf("0x%" PRIx64 "\n", value);
}

void
row_bool(struct rows *rows, const char *key, bool value)
{
    if (rows->is_json)
        json_add_bool(rows->object, key, value);
    else if (begin_line(rows, key))
        puts(value ? "yes" : "no");
}

void
row_text(struct rows *rows, const char *key, const char *value)
{
    if (value == NULL)
        return;
    if (rows->is_json) {
        json_add_text(rows->object, key, value);
    } else if (begin_line(rows, key)) {
        text_print(stdout, value);
        putchar('\n');
    }
}

void
row_guid(struct rows *rows, const char *key, const struct vhdx_guid *guid)
{
    char text[VHDX_GUID_TEXT_SIZE];

    vhdx_guid_format(text, guid);
    row_text(rows, key, text);
}

/* Sixteen bytes a line, and what of them is ASCII. */
static void
print_bytes(const uint8_t *bytes, size_t count)
{
    for (size_t at = 0; at < count; at += 16) {
        size_t length = count - at < 16 ? count - at : 16;

        printf("      %05zx ", at);
        for (size_t i = 0; i < 16; i++) {
            if (i < length)
                printf(" %02x", bytes[at + i]);
            else
                fputs("   ", stdout);
        }
        fputs("  ", stdout);
        for (size_t i = 0; i < length; i++)
            putchar(bytes[at + i] >= 0x20 && bytes[at + i] < 0x7f ? bytes[at + i] : '.');
        putchar('\n');
    }
}

void
row_bytes(struct rows *rows, const char *key, const uint8_t *bytes, size_t count)
{
    static const char digits[] = "0123456789abcdef";
    char *text;

    if (!rows->is_json) {
        if (rows->has_details)
            print_bytes(bytes, count);
        return;
    }
    text = need_memory(malloc(2 * count + 1));
    for (size_t i = 0; i < count; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * count] = '\0';
    json_object_object_add(rows->object, key, need_memory(json_object_new_string(text)));
    free(text);
}

void
row_error(struct rows *rows, const char *key, const struct vhdx_error *err)
{
    if (err->code == VHDX_OK)
        return;
    if (rows->is_json)
        json_object_object_add(rows->object, key, json_error(err));
    else
        row_text(rows, key, err->message);
}

void
row_end(struct rows *rows)
{
    if (rows->is_json)
        json_list_add(&rows->list, rows->object);
    rows->object = NULL;
}

void
row_of_error(struct rows *rows, const char *kind, const char *word, const struct vhdx_error *err)
{
    char place[MESSAGE_PLACE_SIZE];

    if (rows->is_json) {
        struct json_object *object = json_error(err);

        json_add_text(object, "kind", kind);
        json_list_add(&rows->list, object);
        return;
    }
    printf("  %s: ", word);
    text_print(stdout, err->message);
    if (message_place(place, err)[0] != '\0')
        printf(" (%s)", place);
    putchar('\n');
}
