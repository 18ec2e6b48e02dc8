/*
 * The fault disk as a storage: every call counts, may be told to fail, may be the one where everything stops, and leaves
 * its changes in the list from which fault_cut.c chooses what survives.
 */
#include "storage/fault.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/checked.h"
#include "base/error.h"
#include "storage/fault_disk.h"

struct fault_storage {
    struct vhdx_storage storage; /* first: methods cast back */
    struct vx_fault    *fault;
};

/* One call, from begin_call to end_call. */
struct call {
    struct vx_fault   *fault;
    enum vx_fault_call kind;
    uint64_t           number;  /* modifying calls: their count */
    uint64_t           file_offset, length;
    uint64_t           covered; /* flush: the newest change when it was called */
    int                fails;   /* errno it shall fail with, or 0 */
    uint64_t           seed;    /* of a failing call: how much of it is done */
};

static struct vx_fault *
fault_of(struct vhdx_storage *storage)
{
    return ((struct fault_storage *)storage)->fault;
}

/* --- calls --- */

static bool
is_modifying(enum vx_fault_call kind)
{
    return kind == VX_CALL_WRITE || kind == VX_CALL_FLUSH || kind == VX_CALL_SET_SIZE || kind == VX_CALL_ZERO ||
           kind == VX_CALL_ALLOCATE;
}

static void
call_hook(const struct call *call, bool is_done)
{
    vx_fault_hook hook;
    void *context;

    vx_mutex_lock(&call->fault->lock);
    hook = call->fault->hook;
    context = call->fault->hook_context;
    vx_mutex_unlock(&call->fault->lock);
    if (hook != NULL)
        hook(context, call->fault,
             &(struct vx_fault_event){ .kind = call->kind, .call_number = call->number,
                                       .file_offset = call->file_offset, .length = call->length,
                                       .is_done = is_done });
}

static int
fail_call(const struct call *call, struct vhdx_error *err)
{
    static const char *const names[] = { "read", "write", "flush", "set size", "zero", "allocate", "get size",
                                         "next data" };

    return vx_fail_errno(err, call->fails, VHDX_PART_FILE, call->file_offset, "fault disk: %s", names[call->kind]);
}

/* Count down to the stop.  True when the disk takes no more calls. */
static bool
has_stopped(struct vx_fault *fault)
{
    if (fault->stop_in > 0 && --fault->stop_in == 0)
        fault->is_stopped = true;
    return fault->is_stopped;
}

static void
count_down_failure(struct vx_fault *fault, struct call *call)
{
    if (fault->fail_in == 0 || (fault->fail_mask >> call->kind & 1) == 0 || --fault->fail_in > 0)
        return;
    call->fails = fault->fail_errno;
    call->seed = fault->fail_seed;
    fault->has_failed = true;
    fault->failed_call = call->kind;
}

/* A code when the disk has stopped: then end_call must not follow. */
static int
begin_call(struct call *call, struct vx_fault *fault, enum vx_fault_call kind, uint64_t file_offset,
           uint64_t length, struct vhdx_error *err)
{
    bool stopped;

    *call = (struct call){ .fault = fault, .kind = kind, .file_offset = file_offset, .length = length };
    vx_mutex_lock(&fault->lock);
    stopped = has_stopped(fault);
    if (!stopped) {
        if (is_modifying(kind))
            call->number = ++fault->call_count;
        call->covered = fault->last_change;
        count_down_failure(fault, call);
    }
    vx_mutex_unlock(&fault->lock);

    if (stopped) {
        call->fails = EIO;
        return fail_call(call, err);
    }
    if (is_modifying(kind))
        call_hook(call, false);
    return VHDX_OK;
}

static int
end_call(const struct call *call, int rc)
{
    if (is_modifying(call->kind))
        call_hook(call, true);
    return rc;
}

/* --- changes, under the lock --- */

static bool
add_change(struct vx_fault *fault, struct vx_change *change, uint64_t call_number)
{
    struct vx_change **grown;
    size_t room;

    if (fault->change_count == fault->change_room) {
        room = fault->change_room == 0 ? 16 : fault->change_room * 2;
        grown = realloc(fault->changes, room * sizeof *grown);
        if (grown == NULL)
            return false;
        fault->changes = grown;
        fault->change_room = room;
    }
    change->call_number = call_number;
    change->number = ++fault->last_change;
    fault->changes[fault->change_count++] = change;
    return true;
}

static bool
resize(struct vx_fault *fault, uint64_t size, uint64_t call_number)
{
    struct vx_change *change;

    if (size == fault->size)
        return true;
    change = vx_change_new(VX_CHANGE_SIZE, 0, 0, 0);
    if (change == NULL || !add_change(fault, change, call_number)) {
        vx_change_release(change);
        return false;
    }
    change->size = size;
    fault->size = size;
    return true;
}

/* Where the next bytes of a vector are; a NULL vector gives zeros. */
struct source {
    const struct iovec *vector;
    size_t              used; /* of vector[0] */
};

static void
take_bytes(struct source *source, uint8_t *out, size_t length)
{
    while (length > 0 && source->vector != NULL) {
        size_t piece = source->vector->iov_len - source->used;

        if (piece > length)
            piece = length;
        memcpy(out, (const uint8_t *)source->vector->iov_base + source->used, piece);
        out += piece;
        length -= piece;
        source->used += piece;
        if (source->used == source->vector->iov_len)
            *source = (struct source){ source->vector + 1, 0 };
    }
    if (length > 0)
        memset(out, 0, length);
}

/* The page after bytes [start, end) of it were taken from the source; one reference, the caller's. */
static struct vx_tree_page *
make_page(const struct vx_fault *fault, uint64_t page_index, uint32_t start, uint32_t end, struct source *source)
{
    const struct vx_tree_page *old = vx_tree_get(&fault->readable, page_index);
    bool was_zero = old == NULL || vx_tree_page_is_zero(old) || (start == 0 && end == VX_TREE_PAGE);
    uint8_t bytes[VX_TREE_PAGE];

    if (was_zero)
        memset(bytes, 0, sizeof bytes);
    else
        memcpy(bytes, vx_tree_page_bytes(old), VX_TREE_PAGE);
    take_bytes(source, bytes + start, end - start);
    if (was_zero && vx_is_zero(bytes, VX_TREE_PAGE))
        return vx_tree_page_zero();
    return vx_tree_page_new(bytes);
}

/* Bytes of [file_offset, + length) that fit into the host's room: up to the first page that does not. */
static uint64_t
fitting_length(const struct vx_fault *fault, uint64_t file_offset, uint64_t length)
{
    uint64_t room, index, end = vx_ceil_div(file_offset + length, VX_TREE_PAGE);

    if (fault->options.capacity == 0)
        return length;
    room = fault->options.capacity / VX_TREE_PAGE;
    room = room > fault->readable.page_count ? room - fault->readable.page_count : 0;
    for (index = file_offset / VX_TREE_PAGE; index < end; index++) {
        if (vx_tree_get(&fault->readable, index) != NULL)
            continue;
        if (room-- == 0)
            return vx_max_u64(index * VX_TREE_PAGE, file_offset) - file_offset;
    }
    return length;
}

/* Write bytes and remember the change.  False when out of memory: a prefix may have been written. */
static bool
write_bytes(struct vx_fault *fault, uint64_t file_offset, uint64_t length, struct source source,
            uint64_t call_number)
{
    uint64_t end = file_offset + length, first = file_offset / VX_TREE_PAGE;
    uint64_t from = vx_round_down(file_offset, fault->options.tear_unit);
    size_t page_count = (size_t)(vx_ceil_div(end, VX_TREE_PAGE) - first), i;
    struct vx_change *change;

    if (length == 0)
        return true;
    change = vx_change_new(VX_CHANGE_DATA, from, vx_round_up(end, fault->options.tear_unit) - from, page_count);
    if (change == NULL)
        return false;
    for (i = 0; i < page_count; i++) {
        uint64_t start = (first + i) * VX_TREE_PAGE;
        uint32_t begin = (uint32_t)(vx_max_u64(start, file_offset) - start);

        change->pages[i] = make_page(fault, first + i, begin, (uint32_t)(vx_min_u64(end, start + VX_TREE_PAGE) - start),
                                     &source);
        if (change->pages[i] == NULL)
            goto out_of_memory;
    }
    for (i = 0; i < page_count; i++)
        if (!vx_tree_put(&fault->readable, first + i, change->pages[i]))
            goto out_of_memory;
    if (!add_change(fault, change, call_number))
        goto out_of_memory;
    return end <= fault->size || resize(fault, end, call_number);

out_of_memory:
    vx_change_release(change);
    return false;
}

/* Make [file_offset, end) a hole: whole pages are punched, the rest is written. */
static bool
punch_bytes(struct vx_fault *fault, uint64_t file_offset, uint64_t end, uint64_t call_number)
{
    static const struct source zeros = { NULL, 0 };
    uint64_t first = vx_round_up(file_offset, VX_TREE_PAGE), last = vx_round_down(end, VX_TREE_PAGE);
    struct vx_change *change;

    if (first >= last)
        return write_bytes(fault, file_offset, end - file_offset, zeros, call_number);
    if (!write_bytes(fault, file_offset, first - file_offset, zeros, call_number) ||
        !write_bytes(fault, last, end - last, zeros, call_number))
        return false;
    if (vx_tree_next(&fault->readable, first / VX_TREE_PAGE) >= last / VX_TREE_PAGE &&
        vx_tree_next(&fault->durable, first / VX_TREE_PAGE) >= last / VX_TREE_PAGE && fault->change_count == 0)
        return true; /* a hole already, everywhere */
    change = vx_change_new(VX_CHANGE_HOLE, first, last - first, 0);
    if (change == NULL || !vx_tree_punch(&fault->readable, first / VX_TREE_PAGE, last / VX_TREE_PAGE) ||
        !add_change(fault, change, call_number)) {
        vx_change_release(change);
        return false;
    }
    return true;
}

static bool
change_size(struct vx_fault *fault, uint64_t size, uint64_t call_number)
{
    /* The cut writes zeros up to the old end, in whole pages: nothing lies behind it. */
    return (size >= fault->size ||
            punch_bytes(fault, size, vx_round_up(fault->size, VX_TREE_PAGE), call_number)) &&
           resize(fault, size, call_number);
}

/* --- methods --- */

static size_t
vector_length(const struct iovec *vector, int vector_count)
{
    size_t length = 0;
    int i;

    for (i = 0; i < vector_count; i++)
        length += vector[i].iov_len;
    return length;
}

static void
read_bytes(const struct vx_fault *fault, uint8_t *out, size_t length, uint64_t file_offset)
{
    while (length > 0) {
        const struct vx_tree_page *page = vx_tree_get(&fault->readable, file_offset / VX_TREE_PAGE);
        size_t start = (size_t)(file_offset % VX_TREE_PAGE), piece = VX_TREE_PAGE - start;

        if (piece > length)
            piece = length;
        if (page == NULL)
            memset(out, 0, piece);
        else
            memcpy(out, vx_tree_page_bytes(page) + start, piece);
        out += piece;
        length -= piece;
        file_offset += piece;
    }
}

static int
fault_readv(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
            struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    size_t length = vector_length(vector, vector_count);
    uint64_t at = file_offset, end, size;
    struct call call;
    int rc, i;

    rc = begin_call(&call, fault, VX_CALL_READ, file_offset, length, err);
    if (rc < 0)
        return rc;
    if (call.fails != 0)
        return fail_call(&call, err);
    vx_mutex_lock(&fault->lock);
    size = fault->size;
    if (vx_add_u64(file_offset, length, &end) && end <= size) {
        for (i = 0; i < vector_count; at += vector[i].iov_len, i++)
            read_bytes(fault, vector[i].iov_base, vector[i].iov_len, at);
        vx_mutex_unlock(&fault->lock);
        return VHDX_OK;
    }
    vx_mutex_unlock(&fault->lock);
    return vx_fail(err, VHDX_E_TRUNCATED, VHDX_PART_FILE, file_offset, "read of %zu bytes past the end of the file",
                   length);
}

/* How much of a failing call is done: any number of its units. */
static uint64_t
part_of(const struct call *call, uint64_t length)
{
    uint64_t state = call->seed, unit = call->fault->options.tear_unit;

    return vx_min_u64(length, vx_fault_next(&state) % (length / unit + 2) * unit);
}

static int
fault_writev(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    uint64_t length = vector_length(vector, vector_count), fitting;
    struct call call;
    bool is_done;
    int rc;

    if (storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_FILE, file_offset, "fault disk: opened read-only");
    rc = begin_call(&call, fault, VX_CALL_WRITE, file_offset, length, err);
    if (rc < 0)
        return rc;

    vx_mutex_lock(&fault->lock);
    fitting = fitting_length(fault, file_offset, length);
    if (fitting < length && call.fails == 0)
        call.fails = ENOSPC;
    else if (call.fails != 0)
        fitting = vx_min_u64(fitting, part_of(&call, length));
    is_done = write_bytes(fault, file_offset, fitting, (struct source){ vector, 0 }, call.number);
    vx_mutex_unlock(&fault->lock);

    if (!is_done)
        return end_call(&call, vx_fail_memory(err, "a page of the fault disk"));
    if (call.fails != 0)
        return end_call(&call, fail_call(&call, err));
    return end_call(&call, VHDX_OK);
}

static int
fault_flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    struct call call;
    bool is_done;
    int rc;

    if (storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_FILE, VHDX_NO_OFFSET, "fault disk: opened read-only");
    rc = begin_call(&call, fault, VX_CALL_FLUSH, VHDX_NO_OFFSET, 0, err);
    if (rc < 0)
        return rc;

    vx_mutex_lock(&fault->lock);
    is_done = call.fails == 0 ? vx_fault_settle(fault, call.covered)
                              : vx_fault_give_up(fault, call.covered, call.seed);
    vx_mutex_unlock(&fault->lock);

    if (!is_done)
        return end_call(&call, vx_fail_memory(err, "a page of the fault disk"));
    if (call.fails != 0)
        return end_call(&call, fail_call(&call, err));
    return end_call(&call, VHDX_OK);
}

static int
fault_get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    struct call call;
    int rc;

    rc = begin_call(&call, fault, VX_CALL_GET_SIZE, VHDX_NO_OFFSET, 0, err);
    if (rc < 0)
        return rc;
    if (call.fails != 0)
        return fail_call(&call, err);
    vx_mutex_lock(&fault->lock);
    *out = fault->size;
    vx_mutex_unlock(&fault->lock);
    return VHDX_OK;
}

static int
fault_set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    struct call call;
    bool is_done;
    int rc;

    if (storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_FILE, size, "fault disk: opened read-only");
    rc = begin_call(&call, fault, VX_CALL_SET_SIZE, size, 0, err);
    if (rc < 0)
        return rc;

    vx_mutex_lock(&fault->lock);
    is_done = (call.fails != 0 && (call.seed & 1) != 0) || change_size(fault, size, call.number);
    vx_mutex_unlock(&fault->lock);

    if (!is_done)
        return end_call(&call, vx_fail_memory(err, "a page of the fault disk"));
    if (call.fails != 0)
        return end_call(&call, fail_call(&call, err));
    return end_call(&call, VHDX_OK);
}

/* Zero by a hole, or by writing; a failing call does part of it. */
static bool
zero_bytes(struct vx_fault *fault, struct call *call, uint64_t file_offset, uint64_t length,
           enum vhdx_zero_mode mode)
{
    static const struct source zeros = { NULL, 0 };
    bool punches = fault->options.can_punch && mode != VHDX_ZERO_KEEP_ALLOCATED;
    uint64_t done = call->fails != 0 ? part_of(call, length) : length, fitting;

    if (punches)
        return punch_bytes(fault, file_offset, file_offset + done, call->number);
    fitting = fitting_length(fault, file_offset, done);
    if (fitting < done && call->fails == 0)
        call->fails = ENOSPC;
    return write_bytes(fault, file_offset, fitting, zeros, call->number);
}

static int
check_inside(struct vx_fault *fault, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    uint64_t end, size;

    vx_mutex_lock(&fault->lock);
    size = fault->size;
    vx_mutex_unlock(&fault->lock);
    if (vx_add_u64(file_offset, length, &end) && end <= size)
        return VHDX_OK;
    return vx_fail(err, VHDX_E_RANGE, VHDX_PART_FILE, file_offset, "fault disk: range outside the file");
}

static int
fault_zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode,
           struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    struct call call;
    bool is_done;
    int rc;

    if (storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_FILE, file_offset, "fault disk: opened read-only");
    if (mode == VHDX_ZERO_ONLY_FAST && !storage->traits.can_punch)
        return vx_fail(err, VHDX_E_UNSUPPORTED, VHDX_PART_FILE, file_offset, "fault disk: cannot punch holes");
    rc = check_inside(fault, file_offset, length, err);
    if (rc == VHDX_OK)
        rc = begin_call(&call, fault, VX_CALL_ZERO, file_offset, length, err);
    if (rc < 0)
        return rc;

    vx_mutex_lock(&fault->lock);
    is_done = zero_bytes(fault, &call, file_offset, length, mode);
    vx_mutex_unlock(&fault->lock);

    if (!is_done)
        return end_call(&call, vx_fail_memory(err, "a page of the fault disk"));
    if (call.fails != 0)
        return end_call(&call, fail_call(&call, err));
    return end_call(&call, VHDX_OK);
}

/* The pages of a range take room.  No byte changes, but the room is as unflushed as everything else. */
static bool
take_room(struct vx_fault *fault, uint64_t file_offset, uint64_t length, uint64_t call_number)
{
    static const struct vx_tear whole = { VX_TEAR_NOT, 0 };
    uint64_t start = vx_round_down(file_offset, VX_TREE_PAGE);
    struct vx_change *change;

    change = vx_change_new(VX_CHANGE_ROOM, start, vx_round_up(file_offset + length, VX_TREE_PAGE) - start, 0);
    if (change == NULL || !vx_fault_apply(&fault->readable, change, fault->options.tear_unit, whole) ||
        !add_change(fault, change, call_number)) {
        vx_change_release(change);
        return false;
    }
    return true;
}

static int
fault_allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    uint64_t fitting;
    struct call call;
    bool is_done;
    int rc;

    if (storage->traits.is_read_only)
        return vx_fail(err, VHDX_E_READ_ONLY, VHDX_PART_FILE, file_offset, "fault disk: opened read-only");
    rc = check_inside(fault, file_offset, length, err);
    if (rc == VHDX_OK)
        rc = begin_call(&call, fault, VX_CALL_ALLOCATE, file_offset, length, err);
    if (rc < 0)
        return rc;

    vx_mutex_lock(&fault->lock);
    fitting = fitting_length(fault, file_offset, length);
    if (fitting < length && call.fails == 0)
        call.fails = ENOSPC;
    is_done = call.fails != 0 || take_room(fault, file_offset, length, call.number);
    vx_mutex_unlock(&fault->lock);

    if (!is_done)
        return end_call(&call, vx_fail_memory(err, "a page of the fault disk"));
    if (call.fails != 0)
        return end_call(&call, fail_call(&call, err));
    return end_call(&call, VHDX_OK);
}

static int
fault_next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end,
                struct vhdx_error *err)
{
    struct vx_fault *fault = fault_of(storage);
    uint64_t index, last;
    struct call call;
    int rc;

    rc = begin_call(&call, fault, VX_CALL_NEXT_DATA, file_offset, 0, err);
    if (rc < 0)
        return rc;
    if (call.fails != 0)
        return fail_call(&call, err);
    vx_mutex_lock(&fault->lock);
    index = vx_tree_next(&fault->readable, file_offset / VX_TREE_PAGE);
    *start = *end = fault->size;
    if (index < vx_ceil_div(fault->size, VX_TREE_PAGE)) {
        for (last = index + 1; vx_tree_get(&fault->readable, last) != NULL;)
            last++;
        *start = vx_max_u64(index * VX_TREE_PAGE, file_offset);
        *end = vx_min_u64(last * VX_TREE_PAGE, fault->size);
    }
    vx_mutex_unlock(&fault->lock);
    return VHDX_OK;
}

static void
fault_close(struct vhdx_storage *storage)
{
    free(storage);
}

static const struct vhdx_storage_methods fault_methods = {
    .readv = fault_readv,
    .writev = fault_writev,
    .flush = fault_flush,
    .get_size = fault_get_size,
    .set_size = fault_set_size,
    .zero = fault_zero,
    .allocate = fault_allocate,
    .next_data = fault_next_data,
    .close = fault_close,
};

int
vx_fault_open(struct vhdx_storage **out, struct vx_fault *fault, bool is_read_only, struct vhdx_error *err)
{
    struct fault_storage *storage = calloc(1, sizeof *storage);

    if (storage == NULL)
        return vx_fail_memory(err, "a storage");
    storage->fault = fault;
    storage->storage = (struct vhdx_storage){
        .methods = &fault_methods,
        .traits = {
            .is_read_only = is_read_only,
            .can_punch = fault->options.can_punch,
            .extension_survives_as_zeros = fault->options.extension_survives_as_zeros,
            .atomic_unit = fault->options.tear_unit,
        },
        .name = "fault disk",
    };
    *out = &storage->storage;
    return VHDX_OK;
}
