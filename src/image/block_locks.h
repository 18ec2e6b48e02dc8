/*
 * Ranges of guest blocks held by operations in flight (B8).  Shared: the block's state stays; exclusive: it may change.
 *
 * Requests are granted in order of arrival, so that none starves; but while a range is pinned by a caller of the library,
 * shared requests pass waiting exclusive ones: the pinning thread must be able to read what it pinned.
 */
#ifndef VX_BLOCK_LOCKS_H
#define VX_BLOCK_LOCKS_H

#include <stddef.h>

#include "base/lock.h"

struct vx_held;

struct vx_block_locks {
    struct vx_mutex     lock;
    struct vx_condition changed;
    struct vx_held     *first, *last; /* in order of arrival, granted or waiting */
    size_t              waiting_count;
    size_t              pin_count;
};

int  vx_block_locks_init(struct vx_block_locks *locks);
void vx_block_locks_destroy(struct vx_block_locks *locks);
void vx_block_locks_take(struct vx_block_locks *locks, struct vx_held *held);
void vx_block_locks_give_back(struct vx_block_locks *locks, struct vx_held *held);

#endif
