/*
 * Overlay: a read-only view of another storage with pieces replaced, as a dirty log would leave the file.
 * The pieces are places in the base file, not copies: the memory is bounded by their number.
 */
#ifndef VX_OVERLAY_H
#define VX_OVERLAY_H

#include <vhdx/storage.h>

/* A page replaced: 8 bytes, then base bytes [data_offset, data_offset + 4084), then 4 bytes. */
struct vx_overlay_page {
    uint64_t file_offset; /* of the page; a multiple of 4096 */
    uint64_t data_offset; /* in the base file */
    uint8_t  leading[8];
    uint8_t  trailing[4];
};

/* Pieces are collected first, in the order of replay: later ones win. */
struct vx_overlay_builder;
int  vx_overlay_builder_new(struct vx_overlay_builder **out, struct vhdx_error *err);
/* VHDX_E_LIMIT past 2^20 pieces. */
int  vx_overlay_builder_add_page(struct vx_overlay_builder *builder, const struct vx_overlay_page *page,
                                 struct vhdx_error *err);
int  vx_overlay_builder_add_zeros(struct vx_overlay_builder *builder, uint64_t file_offset, uint64_t length,
                                  struct vhdx_error *err);
void vx_overlay_builder_free(struct vx_overlay_builder *builder);

/*
 * Make the view.  Its size is `size`; bytes past the base's end that no piece covers read as zeros.
 * The view does not own the base: it is closed with vhdx_storage_close, the base after it by its owner.
 * The builder stays the caller's.
 */
int vx_overlay_new(struct vhdx_storage **out, struct vhdx_storage *base, struct vx_overlay_builder *builder,
                   uint64_t size, struct vhdx_error *err);

#endif
