/* See wire.h. */
#include "wire.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

union control {
    struct cmsghdr header; /* for its alignment */
    char           bytes[CMSG_SPACE(sizeof(int))];
};

static bool
send_message(int socket, const struct msghdr *message)
{
    ssize_t sent;

    do
        sent = sendmsg(socket, message, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent > 0;
}

bool
wire_send(int socket, char kind, const char *text)
{
    char bytes[WIRE_TEXT_MAX];
    size_t length = text == NULL ? 0 : strnlen(text, sizeof bytes - 1);
    struct iovec piece = { .iov_base = bytes, .iov_len = length + 1 };

    bytes[0] = kind;
    if (text != NULL)
        memcpy(bytes + 1, text, length);
    return send_message(socket, &(struct msghdr){ .msg_iov = &piece, .msg_iovlen = 1 });
}

bool
wire_send_device(int socket, int device)
{
    char kind = WIRE_DEVICE;
    struct iovec piece = { .iov_base = &kind, .iov_len = 1 };
    union control control = { .bytes = { 0 } };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = control.bytes,
                              .msg_controllen = sizeof control.bytes };

    control.header.cmsg_level = SOL_SOCKET;
    control.header.cmsg_type = SCM_RIGHTS;
    control.header.cmsg_len = CMSG_LEN(sizeof device);
    memcpy(CMSG_DATA(&control.header), &device, sizeof device);
    return send_message(socket, &message);
}

int
wire_receive(int socket, char text[WIRE_TEXT_MAX], int *device)
{
    char bytes[WIRE_TEXT_MAX];
    struct iovec piece = { .iov_base = bytes, .iov_len = sizeof bytes };
    union control control = { .bytes = { 0 } };
    struct msghdr message = { .msg_iov = &piece, .msg_iovlen = 1, .msg_control = device == NULL ? NULL : control.bytes,
                              .msg_controllen = device == NULL ? 0 : sizeof control.bytes };
    ssize_t length = recvmsg(socket, &message, MSG_CMSG_CLOEXEC);

    if (length < 0 && errno == EINTR)
        return -1;
    if (length <= 0)
        return 0;
    if (text != NULL) {
        memcpy(text, bytes + 1, (size_t)length - 1);
        text[length - 1] = '\0';
    }
    if (device != NULL) {
        const struct cmsghdr *header = CMSG_FIRSTHDR(&message);

        *device = -1;
        if (header != NULL && header->cmsg_type == SCM_RIGHTS)
            memcpy(device, CMSG_DATA(header), sizeof *device);
    }
    return bytes[0];
}
