/*
 * A storage over NBD, by libnbd.
 *
 *   B1  Commands are asynchronous: a call of the storage sends all of its pieces, over the connections in turn, and waits
 *       for their replies.  Callers do not wait for each other.
 *   B2  Each connection has a thread that reads replies.  It alone waits on the socket; who sends wakes it when some of a
 *       command could not be sent yet.
 *   B3  There are several connections only where the server promises that they see each other's writes and that a flush of
 *       one is a flush of all (multi-conn).
 *   B4  A server may want whole units of its own.  What is not whole is read, changed and written while no other write runs.
 *   B5  What the server says of holes is kept only while nobody here writes.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <libnbd.h>

#include <vhdx/nbd.h>

#define CONNECTIONS_DEFAULT 4u
#define CONNECTIONS_MAX     16u
#define PIECE               ((uint64_t)1 << 20) /* of one command that carries data */
#define ZERO_PIECE          ((uint64_t)1 << 30)
#define STATUS_PIECE        ((uint64_t)1 << 31)

struct connection {
    struct nbd_handle *handle;
    int                wake;    /* an eventfd */
    pthread_t          thread;
    bool               has_thread;
    atomic_bool        is_over; /* the thread is to end */
};

/* A range of which the server said whether it reads as zeros. */
struct told {
    uint64_t end;
    bool     is_zero;
};

struct served {
    struct vhdx_storage storage;
    struct connection   connections[CONNECTIONS_MAX];
    unsigned            connection_count;
    atomic_uint         next_connection;
    uint64_t            size;
    uint64_t            unit;  /* B4: a power of two */
    uint64_t            piece; /* whole units */
    bool                can_flush, can_zero, can_zero_fast, tells_allocation;
    char               *name;
    void              (*closed)(void *context);
    void               *closed_context;

    pthread_rwlock_t    edit_lock; /* B4: writers of whole units share it */
    pthread_mutex_t     told_lock; /* guards all below */
    uint64_t            told_start;
    struct told        *told;      /* told_count of them, each from the end of the one before */
    size_t              told_count;
    uint64_t            zeros_start, zeros_end; /* a long run of them that was found */
};

static struct served *
served_of(struct vhdx_storage *storage)
{
    return (struct served *)storage;
}

/* --- errors --- */

static int
fail(struct vhdx_error *err, int code, int system_errno, uint64_t file_offset, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

static int
fail(struct vhdx_error *err, int code, int system_errno, uint64_t file_offset, const char *format, ...)
{
    va_list arguments;

    if (err == NULL)
        return code;
    *err = (struct vhdx_error){ .code = code, .system_errno = system_errno, .file_offset = file_offset };
    va_start(arguments, format);
    vsnprintf(err->message, sizeof err->message, format, arguments);
    va_end(arguments);
    for (char *p = err->message; *p != '\0'; p++) /* some of it may be the server's */
        if ((unsigned char)*p < 0x20 || *p == 0x7f)
            *p = '?';
    return code;
}

/* What libnbd says of a call that failed in this thread. */
static int
fail_libnbd(struct vhdx_error *err, const char *what)
{
    const char *text = nbd_get_error();

    return fail(err, VHDX_E_IO, nbd_get_errno(), VHDX_NO_OFFSET, "%s: %s", what, text != NULL ? text : "failed");
}

static int
code_of_errno(int system_errno)
{
    switch (system_errno) {
    case ENOSPC:
        return VHDX_E_NO_SPACE;
    case EPERM:
    case EROFS:
        return VHDX_E_READ_ONLY;
    case ENOTSUP:
        return VHDX_E_UNSUPPORTED;
    case ENOMEM:
        return VHDX_E_NO_MEMORY;
    default:
        return VHDX_E_IO;
    }
}

/* --- connections --- */

static void *
read_replies(void *context)
{
    struct connection *connection = context;
    uint64_t ignored;

    while (!atomic_load(&connection->is_over)) {
        unsigned direction = nbd_aio_get_direction(connection->handle);
        struct pollfd waits[2] = { { .fd = nbd_aio_get_fd(connection->handle) },
                                   { .fd = connection->wake, .events = POLLIN } };

        if (waits[0].fd < 0 || direction == 0) /* closed or dead: libnbd has failed all commands */
            break;
        waits[0].events = (short)(((direction & LIBNBD_AIO_DIRECTION_READ) != 0 ? POLLIN : 0)
                                  | ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 ? POLLOUT : 0));
        if (poll(waits, 2, -1) < 0 && errno != EINTR)
            break;
        if ((waits[1].revents & POLLIN) != 0 && read(connection->wake, &ignored, sizeof ignored) < 0)
            break;
        direction = nbd_aio_get_direction(connection->handle);
        if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && (waits[0].revents & (POLLIN | POLLHUP | POLLERR)) != 0)
            nbd_aio_notify_read(connection->handle); /* who waits for the reply hears of failures */
        else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && (waits[0].revents & (POLLOUT | POLLHUP | POLLERR)) != 0)
            nbd_aio_notify_write(connection->handle);
    }
    return NULL;
}

static void
wake_up(struct connection *connection)
{
    const uint64_t one = 1;
    ssize_t written = write(connection->wake, &one, sizeof one);

    (void)written; /* it fails only when the thread has plenty of reasons to wake already */
}

static int
start_thread(struct connection *connection, struct vhdx_error *err)
{
    sigset_t all, old;
    int rc;

    connection->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (connection->wake < 0)
        return fail(err, VHDX_E_IO, errno, VHDX_NO_OFFSET, "an eventfd cannot be made: %s", strerror(errno));
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are for the program's own threads */
    rc = pthread_create(&connection->thread, NULL, read_replies, connection);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    connection->has_thread = rc == 0;
    return rc == 0 ? VHDX_OK : fail(err, VHDX_E_IO, rc, VHDX_NO_OFFSET, "a thread cannot be started: %s", strerror(rc));
}

static int
connect_one(struct connection *connection, const struct vhdx_nbd_options *options, struct vhdx_error *err)
{
    int rc;

    connection->wake = -1;
    connection->handle = nbd_create();
    if (connection->handle == NULL || nbd_add_meta_context(connection->handle, LIBNBD_CONTEXT_BASE_ALLOCATION) < 0
        || nbd_set_uri_allow_local_file(connection->handle, true) < 0) /* a URI may name the file of a TLS key */
        return fail_libnbd(err, "libnbd");
    rc = options->uri != NULL ? nbd_connect_uri(connection->handle, options->uri)
                              : nbd_connect_unix(connection->handle, options->socket_path);
    return rc < 0 ? fail_libnbd(err, "cannot connect") : VHDX_OK;
}

static void
disconnect(struct connection *connection)
{
    atomic_store(&connection->is_over, true);
    if (connection->has_thread) {
        wake_up(connection);
        pthread_join(connection->thread, NULL);
        nbd_shutdown(connection->handle, 0); /* a server that hears nothing of it sees an accident */
    }
    if (connection->wake >= 0)
        close(connection->wake);
    nbd_close(connection->handle);
}

/* --- commands --- */

/* B1: what a call waits for. */
struct pending {
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t  all_done;
    unsigned        count;
    int             system_errno; /* the first that failed */
};

static void
begin(struct pending *pending)
{
    *pending = (struct pending){ .count = 0 };
    pthread_mutex_init(&pending->lock, NULL);
    pthread_cond_init(&pending->all_done, NULL);
}

static void
settle(struct pending *pending, int system_errno)
{
    pthread_mutex_lock(&pending->lock);
    if (system_errno != 0 && pending->system_errno == 0)
        pending->system_errno = system_errno;
    if (--pending->count == 0)
        pthread_cond_signal(&pending->all_done);
    pthread_mutex_unlock(&pending->lock);
}

static int
on_reply(void *context, int *error)
{
    settle(context, *error);
    return 1; /* nobody asks for the command again */
}

static int
finish(struct pending *pending)
{
    int system_errno;

    pthread_mutex_lock(&pending->lock);
    while (pending->count > 0)
        pthread_cond_wait(&pending->all_done, &pending->lock);
    system_errno = pending->system_errno;
    pthread_mutex_unlock(&pending->lock);
    pthread_cond_destroy(&pending->all_done);
    pthread_mutex_destroy(&pending->lock);
    return system_errno;
}

struct command {
    enum { READ, WRITE, ZERO, FLUSH, STATUS } kind;
    void    *buffer;
    uint64_t length;
    uint64_t offset;
    uint32_t flags;
    nbd_extent_callback on_status;
};

static int64_t
submit(struct nbd_handle *handle, const struct command *command, nbd_completion_callback done)
{
    switch (command->kind) {
    case READ:
        return nbd_aio_pread(handle, command->buffer, (size_t)command->length, command->offset, done, 0);
    case WRITE:
        return nbd_aio_pwrite(handle, command->buffer, (size_t)command->length, command->offset, done, 0);
    case ZERO:
        return nbd_aio_zero(handle, command->length, command->offset, done, command->flags);
    case FLUSH:
        return nbd_aio_flush(handle, done, 0);
    default:
        return nbd_aio_block_status(handle, command->length, command->offset, command->on_status, done, 0);
    }
}

static void
send_command(struct served *served, struct pending *pending, const struct command *command)
{
    unsigned turn = atomic_fetch_add(&served->next_connection, 1);
    struct connection *connection = &served->connections[turn % served->connection_count];
    nbd_completion_callback done = { .callback = on_reply, .user_data = pending };

    pthread_mutex_lock(&pending->lock);
    pending->count++;
    pthread_mutex_unlock(&pending->lock);
    if (submit(connection->handle, command, done) < 0)
        settle(pending, nbd_get_errno() != 0 ? nbd_get_errno() : EIO);
    else if ((nbd_aio_get_direction(connection->handle) & LIBNBD_AIO_DIRECTION_WRITE) != 0)
        wake_up(connection); /* B2 */
}

static int
run_command(struct served *served, const struct command *command)
{
    struct pending pending;

    begin(&pending);
    send_command(served, &pending, command);
    return finish(&pending);
}

static int
fail_command(struct vhdx_error *err, const char *what, int system_errno, uint64_t file_offset)
{
    return fail(err, code_of_errno(system_errno), system_errno, file_offset, "the NBD server does not %s: %s", what,
                system_errno == ENOTCONN || system_errno == ESHUTDOWN ? "the connection is lost" : strerror(system_errno));
}

/* --- reading and writing --- */

static bool
is_whole(const struct served *served, uint64_t offset, uint64_t length)
{
    return ((offset | length) & (served->unit - 1)) == 0;
}

/* Send a whole range as pieces. */
static void
send_range(struct served *served, struct pending *pending, struct command command)
{
    uint64_t left = command.length;

    while (left > 0) {
        command.length = left < served->piece ? left : served->piece;
        send_command(served, pending, &command);
        command.buffer = (uint8_t *)command.buffer + command.length;
        command.offset += command.length;
        left -= command.length;
    }
}

static int
transfer(struct served *served, struct command command)
{
    struct pending pending;

    begin(&pending);
    send_range(served, &pending, command);
    return finish(&pending);
}

/* B4: the units around a range, read into memory of their own. */
static int
read_around(struct served *served, uint64_t offset, uint64_t length, uint8_t **out, uint64_t *start, uint64_t *whole)
{
    int system_errno;

    *start = offset & ~(served->unit - 1);
    *whole = ((offset + length + served->unit - 1) & ~(served->unit - 1)) - *start;
    *out = malloc((size_t)*whole);
    if (*out == NULL)
        return ENOMEM;
    system_errno = transfer(served, (struct command){ .kind = READ, .buffer = *out, .length = *whole, .offset = *start });
    if (system_errno != 0)
        free(*out);
    return system_errno;
}

static int
read_parts(struct served *served, void *buffer, uint64_t length, uint64_t offset)
{
    uint64_t start, whole;
    uint8_t *around;
    int system_errno = read_around(served, offset, length, &around, &start, &whole);

    if (system_errno != 0)
        return system_errno;
    memcpy(buffer, around + (offset - start), (size_t)length);
    free(around);
    return 0;
}

static int
write_parts(struct served *served, const void *buffer, uint64_t length, uint64_t offset)
{
    uint64_t start, whole;
    uint8_t *around;
    int system_errno;

    pthread_rwlock_wrlock(&served->edit_lock);
    system_errno = read_around(served, offset, length, &around, &start, &whole);
    if (system_errno == 0) {
        memcpy(around + (offset - start), buffer, (size_t)length);
        system_errno = transfer(served, (struct command){ .kind = WRITE, .buffer = around, .length = whole,
                                                          .offset = start });
        free(around);
    }
    pthread_rwlock_unlock(&served->edit_lock);
    return system_errno;
}

static bool
is_inside(const struct served *served, const struct iovec *vector, int vector_count, uint64_t file_offset)
{
    uint64_t left = served->size - file_offset;

    if (file_offset > served->size)
        return false;
    for (int i = 0; i < vector_count; left -= vector[i].iov_len, i++)
        if (vector[i].iov_len > left)
            return false;
    return true;
}

/* All vectors that are whole go out together; the others one by one. */
static int
read_vectors(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
             struct vhdx_error *err)
{
    struct served *served = served_of(storage);
    struct pending pending;
    uint64_t at = file_offset;
    int system_errno = 0, sent_errno;

    if (!is_inside(served, vector, vector_count, file_offset))
        return fail(err, VHDX_E_TRUNCATED, 0, file_offset, "a read past the end of what the NBD server has, %" PRIu64
                    " bytes", served->size);
    begin(&pending);
    for (int i = 0; i < vector_count && system_errno == 0; at += vector[i].iov_len, i++) {
        if (is_whole(served, at, vector[i].iov_len))
            send_range(served, &pending, (struct command){ .kind = READ, .buffer = vector[i].iov_base,
                                                           .length = vector[i].iov_len, .offset = at });
        else
            system_errno = read_parts(served, vector[i].iov_base, vector[i].iov_len, at);
    }
    sent_errno = finish(&pending);
    if (sent_errno != 0)
        system_errno = sent_errno;
    return system_errno == 0 ? VHDX_OK : fail_command(err, "read", system_errno, file_offset);
}

static int
write_whole(struct served *served, const struct iovec *vector, int vector_count, uint64_t at)
{
    struct pending pending;
    int system_errno;

    pthread_rwlock_rdlock(&served->edit_lock);
    begin(&pending);
    for (int i = 0; i < vector_count; at += vector[i].iov_len, i++)
        send_range(served, &pending, (struct command){ .kind = WRITE, .buffer = vector[i].iov_base,
                                                       .length = vector[i].iov_len, .offset = at });
    system_errno = finish(&pending);
    pthread_rwlock_unlock(&served->edit_lock);
    return system_errno;
}

static int
write_vectors(struct vhdx_storage *storage, const struct iovec *vector, int vector_count, uint64_t file_offset,
              struct vhdx_error *err)
{
    struct served *served = served_of(storage);
    uint64_t at = file_offset;
    int system_errno = 0;
    bool all_whole = true;

    if (!is_inside(served, vector, vector_count, file_offset))
        return fail(err, VHDX_E_NO_SPACE, 0, file_offset, "a write past the end of what the NBD server has, %" PRIu64
                    " bytes", served->size);
    for (int i = 0; i < vector_count; at += vector[i].iov_len, i++)
        all_whole = all_whole && is_whole(served, at, vector[i].iov_len);
    at = file_offset;
    if (all_whole)
        system_errno = write_whole(served, vector, vector_count, at);
    for (int i = 0; i < vector_count && system_errno == 0 && !all_whole; at += vector[i].iov_len, i++)
        if (vector[i].iov_len > 0)
            system_errno = write_parts(served, vector[i].iov_base, vector[i].iov_len, at);
    return system_errno == 0 ? VHDX_OK : fail_command(err, "write", system_errno, file_offset);
}

static int
flush(struct vhdx_storage *storage, struct vhdx_error *err)
{
    struct served *served = served_of(storage);
    int system_errno = 0;

    if (served->can_flush)
        system_errno = run_command(served, &(struct command){ .kind = FLUSH });
    return system_errno == 0 ? VHDX_OK : fail_command(err, "flush", system_errno, VHDX_NO_OFFSET);
}

static int
get_size(struct vhdx_storage *storage, uint64_t *out, struct vhdx_error *err)
{
    (void)err;
    *out = served_of(storage)->size;
    return VHDX_OK;
}

/* As of a block device: to shrink in name only would be a lie. */
static int
set_size(struct vhdx_storage *storage, uint64_t size, struct vhdx_error *err)
{
    uint64_t old_size = served_of(storage)->size;

    if (size == old_size)
        return VHDX_OK;
    return fail(err, size > old_size ? VHDX_E_NO_SPACE : VHDX_E_UNSUPPORTED, 0, size,
                "the NBD server has %" PRIu64 " bytes and cannot be given %" PRIu64, old_size, size);
}

static int
allocate(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, struct vhdx_error *err)
{
    (void)storage, (void)file_offset, (void)length, (void)err;
    return VHDX_OK; /* there is no such command */
}

/* --- zeros --- */

static int
write_zeros(struct served *served, uint64_t offset, uint64_t length)
{
    static const uint8_t zeros[64 * 1024];
    uint64_t step;
    int system_errno = 0;

    for (; length > 0 && system_errno == 0; offset += step, length -= step) {
        struct iovec vector = { .iov_base = (void *)(uintptr_t)zeros };

        step = length < sizeof zeros ? length : sizeof zeros;
        vector.iov_len = (size_t)step;
        system_errno = is_whole(served, offset, step) ? write_whole(served, &vector, 1, offset)
                                                      : write_parts(served, zeros, step, offset);
    }
    return system_errno;
}

static int
zero_whole(struct served *served, uint64_t offset, uint64_t length, uint32_t flags)
{
    int system_errno = 0;

    pthread_rwlock_rdlock(&served->edit_lock);
    while (length > 0 && system_errno == 0) {
        struct command command = { .kind = ZERO, .length = length < ZERO_PIECE ? length : ZERO_PIECE, .offset = offset,
                                   .flags = flags };

        system_errno = run_command(served, &command);
        offset += command.length;
        length -= command.length;
    }
    pthread_rwlock_unlock(&served->edit_lock);
    return system_errno;
}

static int
zero(struct vhdx_storage *storage, uint64_t file_offset, uint64_t length, enum vhdx_zero_mode mode, struct vhdx_error *err)
{
    struct served *served = served_of(storage);
    uint64_t head = -file_offset & (served->unit - 1), middle;
    uint32_t flags = mode == VHDX_ZERO_KEEP_ALLOCATED ? LIBNBD_CMD_FLAG_NO_HOLE : 0;
    int system_errno = 0;

    if (mode == VHDX_ZERO_ONLY_FAST) {
        if (!served->can_zero_fast)
            return fail(err, VHDX_E_UNSUPPORTED, 0, file_offset, "the NBD server does not zero quickly");
        flags = LIBNBD_CMD_FLAG_FAST_ZERO;
    }
    if (!served->can_zero)
        head = length; /* all of it */
    head = head < length ? head : length;
    middle = (length - head) & ~(served->unit - 1);
    if (middle > 0) /* what can be refused comes first */
        system_errno = zero_whole(served, file_offset + head, middle, flags);
    if (system_errno == 0)
        system_errno = write_zeros(served, file_offset, head);
    if (system_errno == 0)
        system_errno = write_zeros(served, file_offset + head + middle, length - head - middle);
    return system_errno == 0 ? VHDX_OK : fail_command(err, "zero", system_errno, file_offset);
}

/* --- holes --- */

static int
take_status(void *context, const char *metacontext, uint64_t offset, uint32_t *entries, size_t entry_count, int *error)
{
    struct served *served = context;
    struct told *told;

    (void)error;
    if (strcmp(metacontext, LIBNBD_CONTEXT_BASE_ALLOCATION) != 0)
        return 0;
    told = calloc(entry_count / 2 + 1, sizeof *told);
    if (told == NULL)
        return -1;
    free(served->told);
    served->told = told;
    served->told_count = 0;
    served->told_start = offset;
    for (size_t i = 0; i + 1 < entry_count; i += 2) {
        uint64_t left = served->size - offset;

        offset += entries[i] < left ? entries[i] : left;
        told[served->told_count++] = (struct told){ .end = offset, .is_zero = (entries[i + 1] & LIBNBD_STATE_ZERO) != 0 };
    }
    return 0;
}

/* The index of what was told of a place, or told_count. */
static size_t
find_told(const struct served *served, uint64_t offset)
{
    size_t low = 0, high = served->told_count;

    if (served->told_count == 0 || offset < served->told_start)
        return served->told_count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (served->told[middle].end > offset)
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

/* What lies at a place, which is inside: told_lock is held, so the reply changes nobody's sight. */
static int
ask_locked(struct served *served, uint64_t offset, size_t *index)
{
    uint64_t start = offset & ~(served->unit - 1), left = served->size - start;
    int system_errno;

    *index = find_told(served, offset);
    if (*index < served->told_count)
        return 0;
    served->told_count = 0;
    system_errno = run_command(served, &(struct command){
        .kind = STATUS, .offset = start, .length = left < STATUS_PIECE ? left : STATUS_PIECE,
        .on_status = { .callback = take_status, .user_data = served } });
    *index = find_told(served, offset);
    return system_errno == 0 && *index == served->told_count ? EPROTO : system_errno;
}

static int
find_data_locked(struct served *served, uint64_t file_offset, uint64_t *start, uint64_t *end)
{
    uint64_t at = file_offset;
    size_t index = 0;

    if (at >= served->zeros_start && at < served->zeros_end)
        at = served->zeros_end;
    while (at < served->size) {
        int system_errno = ask_locked(served, at, &index);

        if (system_errno != 0)
            return system_errno;
        if (!served->told[index].is_zero)
            break;
        at = served->told[index].end;
    }
    served->zeros_start = file_offset;
    served->zeros_end = at;
    *start = *end = at;
    for (; at < served->size && index < served->told_count && !served->told[index].is_zero; index++)
        *end = served->told[index].end;
    return 0;
}

static int
next_data(struct vhdx_storage *storage, uint64_t file_offset, uint64_t *start, uint64_t *end, struct vhdx_error *err)
{
    struct served *served = served_of(storage);
    int system_errno;

    *start = file_offset < served->size ? file_offset : served->size;
    *end = served->size;
    if (!served->tells_allocation || *start == *end)
        return VHDX_OK;
    pthread_mutex_lock(&served->told_lock);
    if (!served->storage.traits.is_read_only) { /* B5 */
        served->told_count = 0;
        served->zeros_end = 0;
    }
    system_errno = find_data_locked(served, file_offset, start, end);
    pthread_mutex_unlock(&served->told_lock);
    return system_errno == 0 ? VHDX_OK : fail_command(err, "tell what is allocated", system_errno, file_offset);
}

/* --- opening and closing --- */

static void
close_storage(struct vhdx_storage *storage)
{
    struct served *served = served_of(storage);

    for (unsigned i = 0; i < served->connection_count; i++)
        disconnect(&served->connections[i]);
    if (served->closed != NULL)
        served->closed(served->closed_context);
    pthread_rwlock_destroy(&served->edit_lock);
    pthread_mutex_destroy(&served->told_lock);
    free(served->told);
    free(served->name);
    free(served);
}

static const struct vhdx_storage_methods methods = {
    .readv = read_vectors,
    .writev = write_vectors,
    .flush = flush,
    .get_size = get_size,
    .set_size = set_size,
    .zero = zero,
    .allocate = allocate,
    .next_data = next_data,
    .close = close_storage,
};

/* The numbers of the export, as the first connection tells them. */
static int
learn(struct served *served, const struct vhdx_nbd_options *options, struct vhdx_error *err)
{
    struct nbd_handle *handle = served->connections[0].handle;
    bool is_writable = (options->flags & VHDX_STORAGE_WRITE) != 0;
    int64_t size = nbd_get_size(handle), unit = nbd_get_block_size(handle, LIBNBD_SIZE_MINIMUM);
    int64_t most = nbd_get_block_size(handle, LIBNBD_SIZE_MAXIMUM);

    if (size < 0)
        return fail_libnbd(err, "the size of the export");
    if (is_writable && nbd_is_read_only(handle) != 0)
        return fail(err, VHDX_E_READ_ONLY, 0, VHDX_NO_OFFSET, "the NBD server exports it for reading only");
    served->size = (uint64_t)size;
    served->unit = unit > 0 && unit <= 65536 && (unit & (unit - 1)) == 0 ? (uint64_t)unit : 1;
    served->piece = most >= (int64_t)served->unit && (uint64_t)most < PIECE ? (uint64_t)most & ~(served->unit - 1) : PIECE;
    served->can_flush = nbd_can_flush(handle) == 1;
    served->can_zero = is_writable && nbd_can_zero(handle) == 1;
    served->can_zero_fast = served->can_zero && nbd_can_fast_zero(handle) == 1;
    served->tells_allocation = nbd_can_meta_context(handle, LIBNBD_CONTEXT_BASE_ALLOCATION) == 1;
    served->storage.traits = (struct vhdx_storage_traits){ .is_read_only = !is_writable, .can_punch = served->can_zero,
                                                           .atomic_unit = 512 };
    return VHDX_OK;
}

/* B3.  A connection more that cannot be had is done without. */
static int
connect_all(struct served *served, const struct vhdx_nbd_options *options, struct vhdx_error *err)
{
    unsigned most = options->connection_count != 0 ? options->connection_count : CONNECTIONS_DEFAULT;
    struct connection *connection = &served->connections[0];
    int rc;

    served->connection_count = 1;
    rc = connect_one(connection, options, err);
    if (rc == VHDX_OK)
        rc = learn(served, options, err);
    if (rc == VHDX_OK)
        rc = start_thread(connection, err);
    if (rc < 0 || nbd_can_multi_conn(connection->handle) != 1)
        return rc;
    while (served->connection_count < most && served->connection_count < CONNECTIONS_MAX) {
        connection = &served->connections[served->connection_count];
        if (connect_one(connection, options, NULL) < 0 || start_thread(connection, NULL) < 0) {
            disconnect(connection);
            break;
        }
        served->connection_count++;
    }
    return VHDX_OK;
}

static int
open_storage(struct vhdx_storage **out, const struct vhdx_nbd_options *options, struct vhdx_nbd_facts *facts,
             struct vhdx_error *err)
{
    const char *name = options->name != NULL ? options->name : options->uri != NULL ? options->uri : options->socket_path;
    struct served *served = calloc(1, sizeof *served);
    int rc;

    if (served == NULL || (served->name = strdup(name)) == NULL) {
        free(served);
        return fail(err, VHDX_E_NO_MEMORY, ENOMEM, VHDX_NO_OFFSET, "out of memory for an NBD storage");
    }
    pthread_rwlock_init(&served->edit_lock, NULL);
    pthread_mutex_init(&served->told_lock, NULL);
    served->storage.methods = &methods;
    served->storage.name = served->name;
    rc = connect_all(served, options, err);
    if (rc < 0) {
        close_storage(&served->storage);
        return rc;
    }
    served->closed = options->closed;
    served->closed_context = options->closed_context;
    *facts = (struct vhdx_nbd_facts){
        .connection_count = served->connection_count, .can_flush = served->can_flush, .can_zero = served->can_zero,
        .can_zero_fast = served->can_zero_fast, .tells_allocation = served->tells_allocation,
    };
    *out = &served->storage;
    return VHDX_OK;
}

extern const struct vhdx_nbd_module vhdx_nbd_module_v1;
__attribute__((visibility("default")))
const struct vhdx_nbd_module vhdx_nbd_module_v1 = { .version = VHDX_NBD_MODULE_VERSION, .open = open_storage };
