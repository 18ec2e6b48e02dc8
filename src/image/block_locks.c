/* See block_locks.h.  The list is as long as there are operations in flight: a few threads' worth, searched in order. */
#include "image/block_locks.h"

#include "image/image.h"

int
vx_block_locks_init(struct vx_block_locks *locks)
{
    int system_errno = vx_mutex_init(&locks->lock, VX_RANK_BLOCK);

    if (system_errno != 0)
        return system_errno;
    system_errno = vx_condition_init(&locks->changed);
    if (system_errno != 0)
        vx_mutex_destroy(&locks->lock);
    return system_errno;
}

void
vx_block_locks_destroy(struct vx_block_locks *locks)
{
    vx_condition_destroy(&locks->changed);
    vx_mutex_destroy(&locks->lock);
}

static bool
conflicts(const struct vx_held *a, const struct vx_held *b)
{
    return (a->is_exclusive || b->is_exclusive) && a->first_block <= b->last_block && b->first_block <= a->last_block;
}

/* May `held` go on, given all that came before it? */
static bool
may_enter(const struct vx_block_locks *locks, const struct vx_held *held)
{
    bool passes_waiting = locks->pin_count > 0 && !held->is_exclusive;
    bool came_before = true;

    for (const struct vx_held *other = locks->first; other != NULL; other = other->next) {
        if (other == held) {
            came_before = false;
            continue;
        }
        if (conflicts(other, held) && (other->is_granted || (came_before && !passes_waiting)))
            return false;
    }
    return true;
}

void
vx_block_locks_take(struct vx_block_locks *locks, struct vx_held *held)
{
    held->is_granted = false;
    held->next = NULL;
    vx_mutex_lock(&locks->lock);
    held->previous = locks->last;
    if (locks->last != NULL)
        locks->last->next = held;
    else
        locks->first = held;
    locks->last = held;
    if (held->is_pin)
        locks->pin_count++;
    while (!may_enter(locks, held)) {
        locks->waiting_count++;
        vx_condition_wait(&locks->changed, &locks->lock);
        locks->waiting_count--;
    }
    held->is_granted = true;
    vx_mutex_unlock(&locks->lock);
    if (!held->is_pin) /* a pin is the caller's: any thread may give it back */
        vx_rank_enter(VX_RANK_BLOCK);
}

void
vx_block_locks_give_back(struct vx_block_locks *locks, struct vx_held *held)
{
    if (!held->is_pin)
        vx_rank_leave(VX_RANK_BLOCK);
    vx_mutex_lock(&locks->lock);
    if (held->previous != NULL)
        held->previous->next = held->next;
    else
        locks->first = held->next;
    if (held->next != NULL)
        held->next->previous = held->previous;
    else
        locks->last = held->previous;
    if (held->is_pin)
        locks->pin_count--;
    if (locks->waiting_count > 0)
        vx_condition_wake_all(&locks->changed);
    vx_mutex_unlock(&locks->lock);
}
