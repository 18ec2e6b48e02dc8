/*
 * Rows of a report that may be long: each is printed when it is complete, as text or as an element of the one JSON document, and
 * then forgotten.  The two show the same, since they are made by the same calls.
 *
 *   text   a heading for each section; of a row its title, and below it its details
 *   JSON   {"schema", "filename", what rows_member adds, then for each section an array of objects with "kind"}
 */
#ifndef VHDX_TOOL_ROWS_H
#define VHDX_TOOL_ROWS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "json.h"

struct rows {
    bool                is_json;
    bool                has_section;
    struct json_list    list;
    struct json_object *object;   /* of the row, in JSON */
    bool                has_details; /* of the row: fields that follow are lines of text */
};

void rows_begin(struct rows *rows, bool is_json, const char *path);
/* In front of the first section, and behind the last one; the value is released. */
void rows_member(struct rows *rows, const char *key, struct json_object *value);
void rows_section(struct rows *rows, const char *key, const char *heading);
void rows_end_section(struct rows *rows);
void rows_end(struct rows *rows);

/* A row: its kind for JSON, its title for people.  Fields are JSON's, the title says them, until row_details: those after it are
 * lines below the title. */
void row_begin(struct rows *rows, const char *kind, const char *title, ...) __attribute__((format(printf, 3, 4)));
void row_details(struct rows *rows);
void row_number(struct rows *rows, const char *key, uint64_t value);
void row_place(struct rows *rows, const char *key, uint64_t value); /* as text in hexadecimal */
void row_bool(struct rows *rows, const char *key, bool value);
void row_text(struct rows *rows, const char *key, const char *value); /* NULL: left out */
void row_guid(struct rows *rows, const char *key, const struct vhdx_guid *guid);
void row_bytes(struct rows *rows, const char *key, const uint8_t *bytes, size_t count);
void row_error(struct rows *rows, const char *key, const struct vhdx_error *err); /* code 0: left out */
void row_end(struct rows *rows);

/* A row that is an error: something is wrong, or cannot be shown. */
void row_of_error(struct rows *rows, const char *kind, const char *word, const struct vhdx_error *err);

#endif
