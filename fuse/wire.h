/* What the serving process and the one that watches it say to each other, over a socket that keeps messages apart. */
#ifndef VHDX_FUSE_WIRE_H
#define VHDX_FUSE_WIRE_H

#include <stdbool.h>
#include <stddef.h>

/* The first byte of a message. */
#define WIRE_READY  'R' /* from the server: the image is open */
#define WIRE_DEVICE 'D' /* to the server, with a descriptor: the connection to the kernel */
#define WIRE_LIVE   'L' /* from the server: the kernel is answered */
#define WIRE_LOG    'E' /* from the server, a line follows: for whoever keeps logs */

#define WIRE_TEXT_MAX 1024

/* `text` follows the first byte; NULL: nothing does.  False when the other side is gone. */
bool wire_send(int socket, char kind, const char *text);
bool wire_send_device(int socket, int device);

/* The next message: its first byte, 0 when the other side is gone, and -1 when a signal came instead.  `text` is what
 * followed, NUL-terminated; both it and `device`, -1 without one, may be NULL. */
int wire_receive(int socket, char text[WIRE_TEXT_MAX], int *device);

#endif
