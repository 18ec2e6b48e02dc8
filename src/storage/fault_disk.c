/*
 * The fault disk itself: made, copied, asked and told.
 */
#include <stdlib.h>
#include <string.h>

#include "base/checked.h"
#include "base/error.h"
#include "storage/fault_disk.h"

int
vx_fault_new(struct vx_fault **out, const struct vx_fault_options *options, struct vhdx_error *err)
{
    struct vx_fault *fault = calloc(1, sizeof *fault);

    if (fault == NULL)
        return vx_fail_memory(err, "a fault disk");
    if (vx_mutex_init(&fault->lock, VX_RANK_STORAGE) != 0) {
        free(fault);
        return vx_fail_memory(err, "a lock");
    }
    fault->options = *options;
    *out = fault;
    return VHDX_OK;
}

void
vx_fault_free(struct vx_fault *fault)
{
    size_t i;

    if (fault == NULL)
        return;
    for (i = 0; i < fault->change_count; i++)
        vx_change_release(fault->changes[i]);
    free(fault->changes);
    vx_tree_clear(&fault->readable);
    vx_tree_clear(&fault->durable);
    vx_tree_clear(&fault->punched);
    vx_mutex_destroy(&fault->lock);
    free(fault);
}

/* Under the lock of `from`. */
static bool
copy_state(struct vx_fault *copy, const struct vx_fault *from)
{
    size_t i;

    copy->options = from->options;
    copy->changes = malloc((from->change_count + 1) * sizeof copy->changes[0]);
    if (copy->changes == NULL)
        return false;
    copy->change_room = from->change_count + 1;
    copy->change_count = from->change_count;
    for (i = 0; i < from->change_count; i++)
        copy->changes[i] = vx_change_hold(from->changes[i]);
    vx_tree_copy(&copy->readable, &from->readable);
    vx_tree_copy(&copy->durable, &from->durable);
    vx_tree_copy(&copy->punched, &from->punched);
    copy->size = from->size;
    copy->durable_size = from->durable_size;
    copy->last_change = from->last_change;
    copy->has_lost = from->has_lost;
    return true;
}

int
vx_fault_clone(struct vx_fault **out, const struct vx_fault *fault, struct vhdx_error *err)
{
    struct vx_fault *from = (struct vx_fault *)(uintptr_t)fault, *copy; /* its lock is taken, nothing else */
    bool is_done;
    int rc;

    rc = vx_fault_new(&copy, &fault->options, err);
    if (rc < 0)
        return rc;
    vx_mutex_lock(&from->lock);
    is_done = copy_state(copy, from);
    vx_mutex_unlock(&from->lock);
    if (!is_done) {
        vx_fault_free(copy);
        return vx_fail_memory(err, "a fault disk");
    }
    *out = copy;
    return VHDX_OK;
}

/* --- what tests ask and set --- */

static struct vx_fault *
lock_fault(const struct vx_fault *fault) VX_NO_THREAD_CHECKS
{
    struct vx_fault *locked = (struct vx_fault *)(uintptr_t)fault;

    vx_mutex_lock(&locked->lock);
    return locked;
}

static uint64_t
unlock_with(struct vx_fault *fault, uint64_t answer) VX_NO_THREAD_CHECKS
{
    vx_mutex_unlock(&fault->lock);
    return answer;
}

uint64_t
vx_fault_call_count(const struct vx_fault *fault)
{
    struct vx_fault *locked = lock_fault(fault);

    return unlock_with(locked, locked->call_count);
}

uint64_t
vx_fault_unflushed_count(const struct vx_fault *fault)
{
    struct vx_fault *locked = lock_fault(fault);

    return unlock_with(locked, locked->change_count);
}

uint64_t
vx_fault_allocated(const struct vx_fault *fault)
{
    struct vx_fault *locked = lock_fault(fault);

    return unlock_with(locked, locked->readable.page_count * VX_TREE_PAGE);
}

uint64_t
vx_fault_hash(const struct vx_fault *fault)
{
    struct vx_fault *locked = lock_fault(fault);
    uint64_t state = locked->size;

    return unlock_with(locked, vx_tree_hash(&locked->readable) + vx_fault_next(&state));
}

bool
vx_fault_has_failed(const struct vx_fault *fault, enum vx_fault_call *what)
{
    struct vx_fault *locked = lock_fault(fault);

    if (locked->has_failed && what != NULL)
        *what = locked->failed_call;
    return unlock_with(locked, locked->has_failed) != 0;
}

void
vx_fault_set_hook(struct vx_fault *fault, vx_fault_hook hook, void *context)
{
    vx_mutex_lock(&fault->lock);
    fault->hook = hook;
    fault->hook_context = context;
    vx_mutex_unlock(&fault->lock);
}

void
vx_fault_stop_at_call(struct vx_fault *fault, uint64_t n)
{
    vx_mutex_lock(&fault->lock);
    fault->stop_in = n;
    fault->is_stopped = false;
    vx_mutex_unlock(&fault->lock);
}

void
vx_fault_kill(struct vx_fault *fault)
{
    vx_fault_stop_at_call(fault, 0);
}

void
vx_fault_fail_nth(struct vx_fault *fault, uint64_t n, uint32_t kind_mask, int system_errno, uint64_t seed)
{
    vx_mutex_lock(&fault->lock);
    fault->fail_in = n;
    fault->fail_mask = kind_mask;
    fault->fail_errno = system_errno;
    fault->fail_seed = seed;
    fault->has_failed = false;
    vx_mutex_unlock(&fault->lock);
}

void
vx_fault_set_capacity(struct vx_fault *fault, uint64_t capacity)
{
    vx_mutex_lock(&fault->lock);
    fault->options.capacity = capacity;
    vx_mutex_unlock(&fault->lock);
}

int
vx_fault_poke(struct vx_fault *fault, uint64_t file_offset, const void *bytes, size_t length)
{
    const uint8_t *from = bytes;
    struct vx_tree *trees[2] = { &fault->readable, &fault->durable };
    bool is_done = true;
    size_t at = 0, i;

    while (is_done && at < length) {
        uint64_t index = (file_offset + at) / VX_TREE_PAGE;
        size_t start = (size_t)((file_offset + at) % VX_TREE_PAGE), piece = VX_TREE_PAGE - start;

        if (piece > length - at)
            piece = length - at;
        for (i = 0; is_done && i < 2; i++) {
            const struct vx_tree_page *old = vx_tree_get(trees[i], index);
            uint8_t page_bytes[VX_TREE_PAGE] = { 0 };
            struct vx_tree_page *page;

            if (old != NULL)
                memcpy(page_bytes, vx_tree_page_bytes(old), VX_TREE_PAGE);
            memcpy(page_bytes + start, from + at, piece);
            page = vx_tree_page_new(page_bytes);
            is_done = page != NULL && vx_tree_put(trees[i], index, page);
            vx_tree_page_release(page);
        }
        at += piece;
    }
    fault->size = vx_max_u64(fault->size, file_offset + length);
    fault->durable_size = vx_max_u64(fault->durable_size, file_offset + length);
    return is_done ? VHDX_OK : VHDX_E_NO_MEMORY;
}
