/* What is known of one image, as a document. */
#ifndef VHDX_TOOL_INFO_DOCUMENT_H
#define VHDX_TOOL_INFO_DOCUMENT_H

#include <json-c/json.h>

#include <vhdx/chain.h>

struct info_facts {
    struct vhdx_info         info;
    uint64_t                 allocated_size; /* bytes the host has given to the file */
    bool                     is_served;      /* over NBD: nobody tells what the host has given */
    struct vhdx_parent_place parent;
    struct vhdx_error        parent_error;   /* code 0: its parent was found, or it needs none */
};

/* "vhdx", "vhd" or "raw". */
const char *format_name(enum vhdx_format format);

/* "dynamic", "fixed", "differencing". */
const char *info_type_name(enum vhdx_image_type type);

/* The caller's to release. */
struct json_object *info_document(const char *path, const struct info_facts *facts);

#endif
