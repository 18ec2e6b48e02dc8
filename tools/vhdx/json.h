/* JSON documents: kebab-case keys, bytes as numbers, GUIDs in canonical lower case, strings without a raw control
 * byte. */
#ifndef VHDX_TOOL_JSON_H
#define VHDX_TOOL_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

#include <vhdx/error.h>
#include <vhdx/guid.h>

/* A new object with "schema": 1.  Keys are only ever added within a schema. */
struct json_object *json_document(void);

/* A string as an element of an array. */
struct json_object *json_text(const char *value);

void json_add_number(struct json_object *object, const char *key, uint64_t value);
void json_add_real(struct json_object *object, const char *key, double value);
void json_add_bool(struct json_object *object, const char *key, bool value);
void json_add_text(struct json_object *object, const char *key, const char *value);
void json_add_guid(struct json_object *object, const char *key, const struct vhdx_guid *guid);

/* A new object {"code", "message"} and, where known, "offset", "part", "rule", "severity". */
struct json_object *json_error(const struct vhdx_error *err);

/* Print a value and a newline to stdout, and release it. */
void json_print(struct json_object *value);

/* A new document that stands for a failure, with the file's name where there is one. */
struct json_object *json_failure(const char *file, const struct vhdx_error *err);

/*
 * Several documents, one array; one alone stands without brackets.  json_list_add prints the value, on one line
 * when the list is compact, and releases it.
 */
struct json_list {
    bool     is_array;
    bool     is_compact;
    uint64_t count;
};
void json_list_begin(struct json_list *list, bool is_array, bool is_compact);
void json_list_add(struct json_list *list, struct json_object *value);
void json_list_end(struct json_list *list);

#endif
