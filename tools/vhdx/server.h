/*
 * A program that serves a disk over NBD, started for us by socket activation: it finds a listening socket as its descriptor
 * 3 and is told so by LISTEN_PID and LISTEN_FDS.  qemu-nbd, nbdkit, nbd-server and our own serve know how.
 */
#ifndef VHDX_TOOL_SERVER_H
#define VHDX_TOOL_SERVER_H

#include <vhdx/error.h>

struct server;

/*
 * Start it.
 *
 *   arguments  the program, found as a shell would find it, and its arguments, up to a NULL; no shell reads them
 *   out        for server_stop
 *   errors     it cannot be started.  That it ends at once is seen only when nobody answers at the socket
 */
int server_start(struct server **out, char *const *arguments, struct vhdx_error *err);

/* Where it listens; only this user can connect. */
const char *server_socket(const struct server *server);

/* After the last connect: the socket's name goes, and what the server says from now on is for the user. */
void server_is_connected(struct server *server);

/* When nobody answered: add to the error how the server ended and what it said. */
void server_explain(struct server *server, struct vhdx_error *err);

/* End it and free it. */
void server_stop(struct server *server);

#endif
