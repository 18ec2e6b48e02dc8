/*
 * A storage over NBD.  It is not part of the library but of a module, vhdx-nbd.so, because it needs libnbd: whoever wants
 * it loads the module and asks it for VHDX_NBD_MODULE_SYMBOL, a struct vhdx_nbd_module.
 *
 * Such a storage is a disk with VHDX_FORMAT_RAW, or holds an image.  There are no locks over NBD.
 */
#ifndef VHDX_NBD_H
#define VHDX_NBD_H

#include <vhdx/storage.h>

#ifdef __cplusplus
extern "C" {
#endif

#define VHDX_NBD_MODULE_VERSION 1
#define VHDX_NBD_MODULE_SYMBOL  "vhdx_nbd_module_v1"

struct vhdx_nbd_options {
    const char *uri;              /* as libnbd has them: nbd://, nbds://, nbd+unix:// ..; or NULL and: */
    const char *socket_path;      /* of a server of one export */
    const char *name;             /* for messages; NULL: the URI or path */
    unsigned    flags;            /* VHDX_STORAGE_WRITE */
    unsigned    connection_count; /* at most, where the server promises that several are one; 0: 4 */
    void      (*closed)(void *context); /* called when the storage was closed; may be NULL */
    void       *closed_context;
};

/* What the server offers. */
struct vhdx_nbd_facts {
    unsigned connection_count;
    bool     can_flush;         /* without it nothing can be made durable: no image is to be written there */
    bool     can_zero;
    bool     can_zero_fast;
    bool     tells_allocation;  /* holes are known */
};

struct vhdx_nbd_module {
    int version; /* VHDX_NBD_MODULE_VERSION */

    /*
     * Connect.
     *
     *   out     the storage, whose length cannot change; for vhdx_disk_open_storage or vhdx_storage_close
     *   errors  VHDX_E_IO (no server, or not as asked), _READ_ONLY, _NO_MEMORY; `closed` is not called then
     *   threads any number; the storage takes calls from any number, too
     */
    int (*open)(struct vhdx_storage **out, const struct vhdx_nbd_options *options, struct vhdx_nbd_facts *facts,
                struct vhdx_error *err);
};

#ifdef __cplusplus
}
#endif
#endif
