/* GUIDs as VHDX stores them: Windows binary form, compared as 16 raw bytes (docs/vhdx-format.md, 1.4). */
#ifndef VHDX_GUID_H
#define VHDX_GUID_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct vhdx_guid {
    uint8_t bytes[16];
};

#define VHDX_GUID_TEXT_SIZE 37 /* 36 characters and the NUL */

/* Canonical lower-case text, without braces. */
void vhdx_guid_format(char text[VHDX_GUID_TEXT_SIZE], const struct vhdx_guid *guid);

/* Parse 36 characters, any case, with or without braces.  False when the text is anything else. */
bool vhdx_guid_parse(struct vhdx_guid *out, const char *text);

bool vhdx_guid_is_zero(const struct vhdx_guid *guid);
bool vhdx_guid_equal(const struct vhdx_guid *a, const struct vhdx_guid *b);

#ifdef __cplusplus
}
#endif
#endif
